//! What did PyTorch give? The files of a pack's golden clips: lossless frames, prompts, and the outputs to compare with.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::files;
use crate::manifest::{GoldenSpec, Manifest};
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::study::limits::{CEILINGS, Int8Tolerance, Tolerance};
use crate::types::{Click, Frame, Mask, Prompt, PromptKind, PromptShape};

/// Schema number of the golden index and of the report.
pub const SCHEMA: u32 = 1;
/// More single frames than any reference has.
const MOST_FRAMES: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct ReferenceIndex {
    pub(super) schema: u32,
    pub(super) tolerance: Tolerance,
    /// Limits of the pack's int8 graphs.
    pub(super) int8: Option<Int8Tolerance>,
    pub(super) quantum: f64,
    pub(super) clips: Vec<ReferenceClip>,
}

#[derive(Deserialize)]
pub(super) struct ReferenceClip {
    pub(super) name: String,
    pub(super) frames: String,
    pub(super) count: usize,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) resized_sha256_frame0: String,
    pub(super) tracks: Vec<ReferenceTrack>,
}

#[derive(Deserialize)]
pub(super) struct ReferenceTrack {
    pub(super) object: u32,
    pub(super) prompt: GoldenPrompt,
    pub(super) object_score: Vec<f64>,
    pub(super) low_res: TensorFile,
    pub(super) obj_ptr: TensorFile,
    pub(super) masks: MaskFile,
}

#[derive(Deserialize)]
pub(super) struct TensorFile {
    pub(super) file: String,
    pub(super) shape: Vec<usize>,
}

#[derive(Deserialize)]
pub(super) struct MaskFile {
    pub(super) file: String,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum GoldenPrompt {
    Points { points: Vec<[f32; 3]> },
    Bbox { r#box: [f32; 4] },
    Mask { runs: Vec<u32> },
}

/// Reference outputs of one track. Masks are there for every frame; logits and pointers, which take far more room, for the first `frames`.
pub(super) struct ReferenceOutputs {
    pub(super) frames: usize,
    pub(super) low_res: Vec<f32>,
    pub(super) obj_ptr: Vec<f32>,
    pub(super) masks: Vec<Mask>,
}

/// Largest number of elements of a reference tensor that is read.
const LARGEST: usize = 1 << 28;

/// The index of golden clips, and the directory that its paths start from.
pub(super) fn read_index(pack: &Pack) -> Result<(ReferenceIndex, PathBuf), RunnerError> {
    let (index, golden, path): (ReferenceIndex, _, _) = parsed(pack)?;
    let dir = path.parent().unwrap_or(&pack.dir).to_path_buf();
    let wrong = |text: &str| RunnerError::Pack(format!("{}: {text}", path.display()));
    if index.schema != SCHEMA {
        return Err(wrong(&format!("schema {}, this program reads {SCHEMA}", index.schema)));
    }
    index.tolerance.check().and_then(|()| index.int8.map_or(Ok(()), |int8| int8.check())).map_err(|e| wrong(&e))?;
    if !(0.0..=CEILINGS.low_res).contains(&index.quantum) {
        return Err(wrong(&format!("quantum = {:e}: from 0 to {:e} expected", index.quantum, CEILINGS.low_res)));
    }
    if !(0.0..=CEILINGS.low_res).contains(&golden.tolerance) {
        let most = CEILINGS.low_res;
        return Err(RunnerError::Pack(format!(
            "{}: golden.tolerance = {:e}: from 0 to {most:e} expected; above, a comparison proves nothing",
            pack.dir.join("pack.toml").display(),
            golden.tolerance
        )));
    }
    if index.clips.iter().all(|clip| clip.tracks.is_empty()) {
        return Err(wrong("no tracks, nothing to verify against"));
    }
    Ok((index, dir))
}

/// The index of a pack's reference as it stands, what the manifest says of it, and its path.
fn parsed<I: DeserializeOwned>(pack: &Pack) -> Result<(I, &GoldenSpec, PathBuf), RunnerError> {
    let golden = pack.manifest.golden.as_ref().ok_or_else(|| {
        RunnerError::Pack(format!("{}: no [golden] section, nothing to verify against", pack.dir.display()))
    })?;
    let path = pack.dir.join(&golden.index);
    let wrong = |text: String| RunnerError::Pack(format!("{}: {text}", path.display()));
    let text = files::read_text(&path, files::SMALL).map_err(|e| wrong(e.to_string()))?;
    let index = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    Ok((index, golden, path))
}

/// The index of a reference of single frames.
pub(super) trait FramesIndex: DeserializeOwned {
    /// Largest tolerance that it may state: above, a comparison proves nothing.
    const CEILING: f64;
    /// What it calls its frames.
    const CALLED: &'static str = "frames";

    /// Its schema, its tolerance (largest difference in fp32), and how many frames it has.
    fn header(&self) -> (u32, f64, usize);

    /// Does the rest fit a pack of this manifest? Else the error's words, with the field.
    fn check(&self, _: &Manifest) -> Result<(), String> {
        Ok(())
    }
}

/// A reference of single frames.
pub(super) struct FramesReference<I> {
    pub(super) index: I,
    /// The manifest's tolerance is a promise of the pack, which the reference cannot widen.
    pub(super) tolerance: f64,
    /// The folder that its paths start from.
    pub(super) dir: PathBuf,
}

impl<I: FramesIndex> FramesReference<I> {
    /// # Errors
    /// [`RunnerError::Pack`] naming the file, the field, what was expected and what was found.
    pub(super) fn read(pack: &Pack) -> Result<Self, RunnerError> {
        let (index, golden, path): (I, _, _) = parsed(pack)?;
        let wrong = |text: String| RunnerError::Pack(format!("{}: {text}", path.display()));
        let (schema, tolerance, frames) = index.header();
        if schema != SCHEMA {
            return Err(wrong(format!("schema {schema}, this program reads {SCHEMA}")));
        }
        if !(1..=MOST_FRAMES).contains(&frames) {
            return Err(wrong(format!("{frames} {}: 1 to {MOST_FRAMES} expected", I::CALLED)));
        }
        let ceiling = I::CEILING;
        if !(0.0..=ceiling).contains(&tolerance) {
            return Err(wrong(format!(
                "tolerance = {tolerance:e}: from 0 to {ceiling:e} expected; above, a comparison proves nothing"
            )));
        }
        index.check(&pack.manifest).map_err(wrong)?;
        let dir = path.parent().unwrap_or(&pack.dir).to_path_buf();
        Ok(FramesReference { index, tolerance: tolerance.min(golden.tolerance), dir })
    }
}

/// The values of a stored tensor in the folder of its index, all of them finite; `axes`: what the shape means, for the error.
///
/// # Errors
/// [`RunnerError::Pack`] naming the file, what was expected and what was found.
pub(super) fn floats(dir: &Path, tensor: &TensorFile, shape: &[usize], axes: &str) -> Result<Vec<f32>, RunnerError> {
    let wrong = |text: String| RunnerError::Pack(format!("{}: {text}", dir.join(&tensor.file).display()));
    if tensor.shape != shape {
        return Err(wrong(format!("shape {shape:?} expected{axes}, found {:?}", tensor.shape)));
    }
    let bytes = 4 * shape.iter().product::<usize>();
    let found = inflate(&relative(dir, &tensor.file)?, bytes)?;
    if found.len() != bytes {
        return Err(wrong(format!("{} bytes, {bytes} expected", found.len())));
    }
    let values: Vec<f32> = unshuffle(&found).into_iter().map(f32::from_bits).collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(wrong(format!("value {at} is no number"))),
        None => Ok(values),
    }
}

impl GoldenPrompt {
    pub(super) fn kind(&self) -> PromptKind {
        match self {
            GoldenPrompt::Points { .. } => PromptKind::Points,
            GoldenPrompt::Bbox { .. } => PromptKind::Bbox,
            GoldenPrompt::Mask { .. } => PromptKind::Mask,
        }
    }
}

/// A path in the index: relative; it may lead to frames that several packs share, so `..` is allowed here.
pub(super) fn relative(dir: &Path, file: &str) -> Result<PathBuf, RunnerError> {
    let path = Path::new(file);
    if file.is_empty() || !path.components().all(|c| matches!(c, Component::Normal(_) | Component::ParentDir)) {
        return Err(RunnerError::Pack(format!("golden index in {}: {file:?} is not a relative path", dir.display())));
    }
    Ok(dir.join(path))
}

impl ReferenceClip {
    pub(super) fn frame<'a>(&self, rgb: &'a [u8]) -> Frame<'a> {
        Frame { width: self.width, height: self.height, rgb }
    }

    pub(super) fn read_frames(&self, dir: &Path) -> Result<Vec<Vec<u8>>, RunnerError> {
        if !(1..=100_000).contains(&self.count) {
            return Err(RunnerError::Pack(format!("golden clip {}: {} frames", self.name, self.count)));
        }
        let frames = relative(dir, &self.frames)?;
        (0..self.count).map(|t| read_png(&frames.join(format!("{t:05}.png")), self.width, self.height)).collect()
    }
}

pub(super) fn read_png(path: &Path, width: u32, height: u32) -> Result<Vec<u8>, RunnerError> {
    read_samples(path, width, height, png::ColorType::Rgb)
}

/// A label map of 8 bits.
pub(super) fn read_label_png(path: &Path, width: u32, height: u32) -> Result<Vec<u8>, RunnerError> {
    read_samples(path, width, height, png::ColorType::Grayscale)
}

fn read_samples(path: &Path, width: u32, height: u32, colour: png::ColorType) -> Result<Vec<u8>, RunnerError> {
    let wrong = |text: String| RunnerError::Pack(format!("{}: {text}", path.display()));
    let file = files::plain(path).map_err(|e| wrong(e.to_string()))?;
    let mut decoder = png::Decoder::new(std::io::BufReader::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| wrong(e.to_string()))?;
    let info = reader.info();
    let found = (info.width, info.height);
    if found != (width, height) || reader.output_color_type() != (colour, png::BitDepth::Eight) {
        return Err(wrong(format!(
            "{width}x{height} pixels of 8-bit {colour:?} expected, found {}x{} {:?}",
            found.0,
            found.1,
            reader.output_color_type()
        )));
    }
    let mut samples = vec![0; width as usize * height as usize * colour.samples()];
    reader.next_frame(&mut samples).map_err(|e| wrong(e.to_string()))?;
    Ok(samples)
}

impl ReferenceTrack {
    pub(super) fn prompt(&self, clip: &ReferenceClip) -> Result<Prompt, RunnerError> {
        let shape = match &self.prompt {
            GoldenPrompt::Points { points } => {
                PromptShape::Points(points.iter().map(|&[x, y, label]| Click { x, y, positive: label > 0.5 }).collect())
            }
            GoldenPrompt::Bbox { r#box } => PromptShape::Bbox(*r#box),
            GoldenPrompt::Mask { runs } => {
                PromptShape::Mask(Mask::from_runs(clip.width, clip.height, runs).ok_or_else(|| {
                    RunnerError::Pack(format!("golden clip {}: the mask prompt's runs do not fit", clip.name))
                })?)
            }
        };
        Ok(Prompt { object: self.object, shape })
    }

    pub(super) fn read(
        &self,
        clip: &ReferenceClip,
        dir: &Path,
        index: &ReferenceIndex,
    ) -> Result<ReferenceOutputs, RunnerError> {
        let wrong = |file: &str, text: String| RunnerError::Pack(format!("{}: {text}", dir.join(file).display()));
        if self.object_score.len() != clip.count {
            return Err(RunnerError::Pack(format!(
                "golden clip {}, object {}: {} object scores for {} frames",
                clip.name,
                self.object,
                self.object_score.len(),
                clip.count
            )));
        }
        let frames = self.low_res.shape.first().copied().unwrap_or(0);
        let planes = |tensor: &TensorFile| -> Result<(Vec<u32>, usize), RunnerError> {
            let elements = tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
            let row = tensor.shape.last().copied().unwrap_or(0);
            let fits = (1..=clip.count).contains(&frames) && tensor.shape.first() == Some(&frames);
            if !fits || row == 0 || elements > LARGEST {
                return Err(wrong(&tensor.file, format!("shape {:?} for at most {} frames", tensor.shape, clip.count)));
            }
            let bytes = inflate(&relative(dir, &tensor.file)?, elements * 4)?;
            if bytes.len() != elements * 4 {
                return Err(wrong(&tensor.file, format!("{} bytes, {} expected", bytes.len(), elements * 4)));
            }
            Ok((unshuffle(&bytes), row))
        };
        let (coded, row) = planes(&self.low_res)?;
        if self.low_res.shape.len() != 3 || self.low_res.shape[1] != row {
            return Err(wrong(&self.low_res.file, format!("shape {:?}: square masks expected", self.low_res.shape)));
        }
        let mut low_res = Vec::with_capacity(coded.len());
        for line in coded.chunks_exact(row) {
            let mut value = 0i32;
            for &step in line {
                value = value.wrapping_add(step as i32);
                low_res.push((f64::from(value) * index.quantum) as f32);
            }
        }
        let obj_ptr = planes(&self.obj_ptr)?.0.into_iter().map(f32::from_bits).collect();

        let pixels = clip.width as usize * clip.height as usize;
        let most = clip.count.saturating_mul(pixels + 2).saturating_mul(4);
        let bytes = inflate(&relative(dir, &self.masks.file)?, most)?;
        let mut numbers = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let mut masks = Vec::with_capacity(clip.count);
        for t in 0..clip.count {
            let count = numbers.next().unwrap_or(0) as usize;
            let runs: Vec<u32> = numbers.by_ref().take(count).collect();
            masks.push(Mask::from_runs(clip.width, clip.height, &runs).ok_or_else(|| {
                wrong(&self.masks.file, format!("the runs of frame {t} do not fit {}x{}", clip.width, clip.height))
            })?);
        }
        Ok(ReferenceOutputs { frames, low_res, obj_ptr, masks })
    }
}

/// Inflates a zlib file, refusing more than `most` bytes.
pub(super) fn inflate(path: &Path, most: usize) -> Result<Vec<u8>, RunnerError> {
    let wrong = |text: String| RunnerError::Pack(format!("{}: {text}", path.display()));
    let file = files::plain(path).map_err(|e| wrong(e.to_string()))?;
    let mut bytes = Vec::new();
    let limit = most as u64 + 1;
    flate2::read::ZlibDecoder::new(std::io::BufReader::new(file))
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| wrong(e.to_string()))?;
    if bytes.len() > most { Err(wrong(format!("more than {most} bytes after inflating"))) } else { Ok(bytes) }
}

/// 32-bit values from four planes: all lowest bytes first, all highest last.
pub(super) fn unshuffle(bytes: &[u8]) -> Vec<u32> {
    let n = bytes.len() / 4;
    (0..n).map(|i| u32::from_le_bytes([bytes[i], bytes[n + i], bytes[2 * n + i], bytes[3 * n + i]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_planes_are_put_together() {
        assert_eq!(unshuffle(&[1, 2, 0, 0, 0, 0, 0x80, 0]), [0x8000_0001, 2]);
    }

    #[test]
    fn inflating_stops_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bomb.z");
        let mut encoder =
            flate2::write::ZlibEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &vec![0; 1 << 20]).unwrap();
        encoder.finish().unwrap();
        assert_eq!(inflate(&path, 1 << 20).unwrap().len(), 1 << 20);
        assert!(inflate(&path, 1000).unwrap_err().to_string().contains("more than 1000"));
        assert!(relative(dir.path(), "/etc/passwd").is_err());
        assert!(relative(dir.path(), "../../golden/g0").is_ok());
    }
}
