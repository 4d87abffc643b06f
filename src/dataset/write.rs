//! Masks out, in the dataset's own layout, so that the official evaluators can score them again: one folder per object
//! (SA-V), or one label map per frame with the colours that every VOS tool shows.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use jetbench_runners::files;
use jetbench_runners::types::Mask;
use png::{BitDepth, ColorType};

use super::{DataError, Layout, Object, Sequence};

/// Writes the predicted masks of one sequence, frame by frame.
#[derive(Clone, Debug)]
pub struct MaskWriter {
    dir: PathBuf,
    width: u32,
    height: u32,
    folders: bool,
    binary: bool,
    /// Ids above 255: label maps have 16 bits.
    wide: bool,
    objects: Vec<Object>,
}

impl MaskWriter {
    /// Writer for `sequence`, into `root/<video>/`, which is created.
    ///
    /// # Errors
    /// Names the folder that cannot be made; an object whose name is no id (label maps) or no single name.
    pub fn new(root: &Path, layout: Layout, sequence: &Sequence) -> Result<MaskWriter, DataError> {
        one_level(&sequence.name)?;
        MaskWriter::into(root.join(&sequence.name), layout, sequence)
    }

    /// Writer straight into `dir`, without a folder for the video: the plain layout's truth.
    pub(super) fn flat(dir: &Path, sequence: &Sequence) -> Result<MaskWriter, DataError> {
        MaskWriter::into(dir.to_path_buf(), Layout::Plain, sequence)
    }

    fn into(dir: PathBuf, layout: Layout, sequence: &Sequence) -> Result<MaskWriter, DataError> {
        let folders = !sequence.label_maps();
        for object in &sequence.objects {
            if folders {
                one_level(&object.name)?;
                make_dir(&dir.join(&object.name))?;
            } else if !matches!(object.name.parse::<u16>(), Ok(1..)) {
                return Err(DataError(format!(
                    "{}: object `{}` cannot be written to a label map: ids go from 1 to 65535",
                    sequence.name, object.name
                )));
            }
        }
        make_dir(&dir)?;
        Ok(MaskWriter {
            dir,
            width: sequence.width,
            height: sequence.height,
            folders,
            binary: layout == Layout::Davis2016,
            wide: sequence.wide_ids(),
            objects: sequence.objects.clone(),
        })
    }

    /// Writes frame `name` (its file stem). `masks` has one entry per object of the sequence, in order; `None` means
    /// not tracked (yet) and is written as empty. Where objects of a label map overlap, the lower id wins.
    ///
    /// # Errors
    /// Names the file that cannot be written, or the object whose mask has another size.
    pub fn write(&self, name: &str, masks: &[Option<&Mask>]) -> Result<(), DataError> {
        if masks.len() != self.objects.len() {
            return Err(DataError(format!("{name}: {} masks for {} objects", masks.len(), self.objects.len())));
        }
        for (object, mask) in self.objects.iter().zip(masks) {
            if let Some(m) = mask.filter(|m| (m.width(), m.height()) != (self.width, self.height)) {
                return Err(DataError(format!(
                    "{name}: mask of object {} is {}x{}, the frame is {}x{}",
                    object.name,
                    m.width(),
                    m.height(),
                    self.width,
                    self.height
                )));
            }
        }
        let size = (self.width, self.height);
        if self.folders {
            for (object, mask) in self.objects.iter().zip(masks) {
                let line = (self.width as usize).div_ceil(8);
                let mut bits = vec![0u8; line * self.height as usize];
                if let Some(mask) = mask {
                    for (y, row) in bits.chunks_exact_mut(line).enumerate() {
                        let words = mask.row(y as u32).iter().flat_map(|w| w.to_le_bytes());
                        row.iter_mut().zip(words).for_each(|(out, byte)| *out = byte.reverse_bits());
                    }
                }
                let path = self.dir.join(&object.name).join(format!("{name}.png"));
                encode(&path, size, BitDepth::One, ColorType::Grayscale, &bits)?;
            }
            return Ok(());
        }
        let mut labels = vec![0u16; self.width as usize * self.height as usize];
        let mut order: Vec<(u16, &Mask)> = self
            .objects
            .iter()
            .zip(masks)
            .filter_map(|(object, mask)| Some((object.name.parse().ok()?, (*mask)?)))
            .collect();
        order.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        for (id, mask) in order {
            paint(&mut labels, mask, id);
        }
        let path = self.dir.join(format!("{name}.png"));
        if self.wide {
            let bytes: Vec<u8> = labels.into_iter().flat_map(u16::to_be_bytes).collect();
            return encode(&path, size, BitDepth::Sixteen, ColorType::Grayscale, &bytes);
        }
        let colour = if self.binary { ColorType::Grayscale } else { ColorType::Indexed };
        let bytes: Vec<u8> = labels.into_iter().map(|id| id as u8).collect();
        encode(&path, size, BitDepth::Eight, colour, &bytes)
    }
}

/// Writes a PNG file of this width and height, which is compressed fast; an indexed one has the colours of [`label_colour`].
///
/// # Errors
/// Names the file that cannot be written.
pub(super) fn encode(
    path: &Path,
    size: (u32, u32),
    depth: BitDepth,
    colour: ColorType,
    data: &[u8],
) -> Result<(), DataError> {
    let fail = |e: &dyn std::fmt::Display| DataError(format!("{}: {e}", path.display()));
    let file = files::create(path).map_err(|e| fail(&e))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), size.0, size.1);
    encoder.set_depth(depth);
    encoder.set_color(colour);
    encoder.set_compression(png::Compression::Fast);
    if colour == ColorType::Indexed {
        encoder.set_palette((0..=255).flat_map(label_colour).collect::<Vec<u8>>());
    }
    let mut writer = encoder.write_header().map_err(|e| fail(&e))?;
    writer.write_image_data(data).map_err(|e| fail(&e))?;
    writer.finish().map_err(|e| fail(&e))
}

/// Sets the pixels of `mask` to `id`, a run of bits at a time.
pub(crate) fn paint<T: Copy>(labels: &mut [T], mask: &Mask, id: T) {
    for (y, row) in labels.chunks_exact_mut(mask.width() as usize).enumerate() {
        for (i, &word) in mask.row(y as u32).iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                let from = rest.trailing_zeros();
                let run = (rest >> from).trailing_ones();
                row[i * 64 + from as usize..][..run as usize].fill(id);
                rest &= if run == 64 { 0 } else { !(((1u64 << run) - 1) << from) };
            }
        }
    }
}

/// Names come from the dataset's own folders, so they may hold whatever one name can; they lead nowhere but one level down.
pub(crate) fn one_level(name: &str) -> Result<(), DataError> {
    match name {
        "" | "." | ".." => Err(DataError(format!("`{name}` is not the name of a folder"))),
        name if name.contains(['/', '\0']) => Err(DataError(format!("`{}` is not one name", name.escape_debug()))),
        _ => Ok(()),
    }
}

pub(super) fn make_dir(dir: &Path) -> Result<(), DataError> {
    std::fs::create_dir_all(dir).map_err(|e| DataError(format!("{}: cannot be created ({e})", dir.display())))
}

/// RGB of an object id in the colour map of PASCAL VOC, which DAVIS and its successors use.
pub fn label_colour(id: u8) -> [u8; 3] {
    let mut rgb = [0u8; 3];
    for bit in 0..8 {
        for (channel, value) in rgb.iter_mut().enumerate() {
            let source = if bit * 3 + channel < 8 { id >> (bit * 3 + channel) & 1 } else { 0 };
            *value |= source << (7 - bit);
        }
    }
    rgb
}
