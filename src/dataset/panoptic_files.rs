//! Found tracks as panoptic segments, in the files that VIPSeg's evaluators read: `pan_pred/VIDEO/FRAME.png`, whose colours are ids, and a list of
//! the segments of every frame, which [`super::track_files::join_results`] makes one `pred.json` of. Frames come in any order and from any
//! thread.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jetbench_runners::types::Mask;
use png::{BitDepth, ColorType};
use serde_json::{Value, json};

use super::track_files::{file_names, put};
use super::write::{encode, make_dir, one_level, paint};
use super::{DataError, Sequence};

/// The folder of the frames.
pub const FRAMES: &str = "pan_pred";

/// What a track is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PanopticTrack {
    /// Id of its category in the files of the data set.
    pub category: u32,
    /// All tracks of such a category are one segment; else each is one of its own.
    pub stuff: bool,
}

/// Id and category of the segment of each track, whose numbers are given: stuff has the number of the first track of its category.
pub(crate) fn segments_of(numbers: &[u32], tracks: &[Option<PanopticTrack>]) -> Vec<Option<(u32, u32)>> {
    let id = |(number, track): (&u32, &Option<PanopticTrack>)| {
        let track = (*track)?;
        let first = tracks.iter().zip(numbers).find(|(other, _)| track.stuff && **other == Some(track));
        Some((first.map_or(*number, |(_, first)| *first), track.category))
    };
    numbers.iter().zip(tracks).map(id).collect()
}

/// Writes the segments of one sequence; its objects' names are their numbers.
#[derive(Debug)]
pub struct PanopticWriter {
    dir: PathBuf,
    list: PathBuf,
    video: String,
    size: (u32, u32),
    /// Id and category of the segment of each track; `None`: it is none.
    segments: Vec<Option<(u32, u32)>>,
    /// Place of each frame, by name.
    places: BTreeMap<String, usize>,
    /// What is listed of each frame.
    frames: Mutex<BTreeMap<usize, Value>>,
}

impl PanopticWriter {
    /// Writer for `sequence`, into the folder `frames` of the directory `root`, which is created; `tracks` in the order of its objects, `None` for
    /// those that are left out.
    ///
    /// # Errors
    /// Names the folder that cannot be made, the video whose name is no single name, or the track whose name is no number.
    pub fn new(
        root: &Path,
        frames: &str,
        sequence: &Sequence,
        tracks: &[Option<PanopticTrack>],
    ) -> Result<PanopticWriter, DataError> {
        one_level(&sequence.name)?;
        let dir = root.join(frames).join(&sequence.name);
        make_dir(&dir)?;
        let number = |name: &String| {
            let fault = || DataError(format!("{}: track `{name}` has no number from 1", sequence.name));
            name.parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(fault)
        };
        let numbers: Vec<u32> = sequence.objects.iter().map(|object| number(&object.name)).collect::<Result<_, _>>()?;
        Ok(PanopticWriter {
            dir,
            list: root.join(file_names(&sequence.name, false)[0].clone()),
            video: sequence.name.clone(),
            size: (sequence.width, sequence.height),
            segments: segments_of(&numbers, tracks),
            places: sequence.frames.iter().enumerate().map(|(at, frame)| (frame.name.clone(), at)).collect(),
            frames: Mutex::default(),
        })
    }

    /// Writes frame `name`; `masks` has one entry per track, no two of which have a pixel in common, and `None` and an empty mask are the same.
    ///
    /// # Errors
    /// There is no such frame; names the file that cannot be written.
    pub fn write(&self, name: &str, masks: &[Option<&Mask>]) -> Result<(), DataError> {
        let fail = || DataError(format!("{}: frame {name}: no such frame", self.dir.display()));
        let place = *self.places.get(name).ok_or_else(fail)?;
        let (width, height) = self.size;
        let mut ids = vec![0u32; width as usize * height as usize];
        let mut segments: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
        for (segment, mask) in self.segments.iter().zip(masks) {
            let (Some((id, category)), Some(mask)) = (segment, mask.filter(|mask| !mask.is_empty())) else { continue };
            paint(&mut ids, mask, *id);
            segments.entry(*id).or_insert((*category, 0)).1 += mask.area();
        }
        let file = format!("{name}.png");
        let samples: Vec<u8> = ids.into_iter().flat_map(colour).collect();
        encode(&self.dir.join(&file), self.size, BitDepth::Eight, ColorType::Rgb, &samples)?;
        let listed: Vec<Value> = segments
            .into_iter()
            .map(|(id, (category, area))| json!({"id": id, "category_id": category, "iscrowd": 0, "area": area}))
            .collect();
        let mut frames = self.frames.lock().unwrap_or_else(|broken| broken.into_inner());
        frames.insert(place, json!({"file_name": file, "segments_info": listed}));
        Ok(())
    }

    /// Writes the list.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn finish(self) -> Result<(), DataError> {
        let frames = self.frames.into_inner().unwrap_or_else(|broken| broken.into_inner());
        let frames: Vec<Value> = frames.into_values().collect();
        put(&self.list, json!([{"video_id": self.video, "annotations": frames}]).to_string().as_bytes())
    }
}

/// Red, green and blue of an id: R + 256 G + 65536 B.
fn colour(id: u32) -> [u8; 3] {
    let [red, green, blue, _] = id.to_le_bytes();
    [red, green, blue]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_is_an_id_with_its_lowest_byte_first() {
        assert_eq!(colour(1 + 2 * 256 + 3 * 65_536), [1, 2, 3]);
    }
}
