//! Annotated videos on disk: layouts in, sequences out, frames and masks on demand, masks back out in the dataset's own
//! layout. Nothing is copied or converted; frames and masks are decoded when they are asked for.

mod categories;
mod check;
mod clock;
mod coco_rle;
pub mod content;
mod finding;
mod footage;
mod frame;
mod id_png;
mod label_png;
mod layout;
mod list;
pub mod live;
pub(crate) mod mask_lines;
mod masklets;
mod objects;
mod order;
pub(crate) mod panoptic_files;
pub mod panoptic_truth;
mod ppm;
mod prompts;
mod structure;
mod survey;
mod synth;
pub(crate) mod track_files;
mod values;
mod video;
pub(crate) mod vipseg;
pub(crate) mod whole;
mod write;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jetbench_runners::types::{Mask, PromptShape};

use crate::score::Protocol;
use crate::text::plural;

pub use categories::{Categories, same_class};
pub use check::{CheckReport, check};
pub use clock::Clock;
pub(crate) use coco_rle::{TakeRuns, bound_size as bound_mask_size, read_runs as read_coco_runs};
pub use finding::{Finding, FindingSeverity};
pub use footage::{Still, still};
pub use frame::{DecodedFrame, FramePicker, FrameReader, decode_frame, frame_size, read_frame};
pub(crate) use id_png::IdPng;
pub use label_png::{Format, LabelImage, LabelMasks, MAX_PIXELS, MAX_SIDE};
pub(crate) use label_png::{LabelRows, read_file_into as read_mask_file};
pub use layout::{Layout, OpenOptions, UnknownLayout};
pub(crate) use layout::{described, directories, entries, has_masks, plain_name};
pub use list::{parse_list, read_list};
pub use live::{LIVE, Live};
pub use masklets::Masklets;
pub(crate) use order::sort as sort_frames;
pub use panoptic_truth::{PanopticCategory, SegmentIds, SequenceSegments};
pub use prompts::{FrameName, UserPrompt, UserPrompts};
pub(crate) use structure::{Structure, structure};
pub use synth::{SynthOptions, synthesise};
pub use write::{MaskWriter, label_colour};
pub(crate) use write::{one_level, paint};

/// Layout name of footage with prompts of the user's own.
pub const FOOTAGE: &str = "footage";

/// The program that decodes video files and encodes overlays, looked up on the PATH.
pub(crate) const FFMPEG: &str = "ffmpeg";

/// A dataset read in place.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Root as given.
    pub root: PathBuf,
    /// Layout name: `sa-v`, `davis2017`, …; [`FOOTAGE`] where prompts are the user's own.
    pub layout: &'static str,
    /// Layout.
    pub kind: Layout,
    /// Videos in name order.
    pub sequences: Vec<Sequence>,
    /// What its objects are, where it says that.
    pub categories: Categories,
    /// What is left out beside them; what is odd about a video is in [`Sequence::findings`].
    pub findings: Vec<Finding>,
}

/// One video with its objects.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Video name.
    pub name: String,
    /// Frames in order.
    pub frames: Vec<FrameFile>,
    /// Objects in name order; those of a panoptic truth in the order in which they show.
    pub objects: Vec<Object>,
    /// Frames per second: the video file's own, else those of the dataset's description.
    pub fps: f64,
    /// When each frame of a video file is shown, nanoseconds after the first; `None` where they come evenly.
    pub times: Option<Arc<[u64]>>,
    /// Width of the frames in pixels, from the first one's header.
    pub width: u32,
    /// Height of the frames in pixels, from the first one's header.
    pub height: u32,
    /// What says where the objects are.
    pub guide: Guide,
    /// The video file that the frames are in; `None`: each frame is a file.
    pub video: Option<PathBuf>,
    /// Who takes note of what is read: see [`Sequence::watched`].
    pub(crate) witness: Option<Arc<content::Witness>>,
    /// What is odd about it, though it can be used.
    pub findings: Vec<Finding>,
}

/// What says where the objects of a sequence are.
#[derive(Clone, Debug, PartialEq)]
pub enum Guide {
    /// The dataset's masks: prompts are made from them, and results are scored against them.
    Truth(MaskSource),
    /// The user: one prompt per object, by the object's id. There is no truth, so nothing is scored. Without an object: nobody says
    /// anything, and what is in the video has to be found.
    Prompts(Arc<[PromptShape]>),
    /// A detector: the objects are the tracks that it founded, a pixel belongs to one at most, and their names are ids.
    Found,
}

/// Where a sequence's ground truth lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaskSource {
    /// `DIR/<object>/<frame>.png`: one folder per object, foreground above 0; objects may overlap.
    ObjectFolders(PathBuf),
    /// `DIR/<frame>.png`: pixel value = object id.
    LabelMaps(PathBuf),
    /// `DIR/<frame>.png`: one object, every pixel above 0 (DAVIS 2016).
    Foreground(PathBuf),
    /// Run lengths of a JSON file (SA-V train); objects may overlap.
    Masklets(Arc<Masklets>),
    /// Segment ids as colours, a file per frame (VIPSeg); its things are the objects.
    Segments(Arc<SequenceSegments>),
}

/// One frame file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameFile {
    /// File stem, e.g. `00012`.
    pub name: String,
    /// File.
    pub path: PathBuf,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Number within the sequence, from 0: the runner's object id.
    pub id: u32,
    /// Name in the dataset (folder name or palette index).
    pub name: String,
    /// Indices into `Sequence::frames` that have an annotation of this object; none where there is no truth.
    pub annotated: Vec<usize>,
    /// Where its prompt is given: the first annotated frame on which the object is not empty, or what the user says.
    pub prompt_frame: usize,
}

impl Object {
    /// Its segment's id, where the truth is panoptic.
    fn segment_id(&self) -> Option<u32> {
        self.name.parse().ok()
    }
}

/// Objects of a panoptic truth by the ids of their segments.
pub(crate) fn by_segment_id(objects: &[Object]) -> HashMap<u32, &Object> {
    objects.iter().filter_map(|object| Some((object.segment_id()?, object))).collect()
}

/// What is wrong with a dataset: file, cause, remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DataError(pub String);

/// A decoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbFrame {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Interleaved RGB.
    pub rgb: Vec<u8>,
}

impl Dataset {
    /// Opens `root`, detecting its layout.
    ///
    /// # Errors
    /// Names the place and what was expected there.
    pub fn open(root: &Path) -> Result<Dataset, DataError> {
        Dataset::open_with(root, &OpenOptions::default())
    }

    /// Opens `root` with a stated layout, list of videos or limit.
    ///
    /// # Errors
    /// Names the place and what was expected there.
    pub fn open_with(root: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
        match &options.prompts {
            Some(prompts) => footage::open(root, prompts, options.videos),
            None => layout::open(root, options),
        }
    }

    /// The protocol by which it is scored; `None`: it has no truth.
    pub fn protocol(&self) -> Option<Protocol> {
        self.sequences.iter().any(|s| s.truth_source().is_some()).then(|| self.kind.protocol())
    }

    /// Keeps the first `videos` videos, in each the first `objects` objects, and of each the first `frames` frames
    /// (`None`: all). Objects whose prompt frame is cut off go, and so do videos without objects.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn limit(
        &mut self,
        videos: Option<usize>,
        objects: Option<usize>,
        frames: Option<usize>,
    ) -> Result<(), DataError> {
        self.sequences.truncate(videos.unwrap_or(usize::MAX));
        for sequence in &mut self.sequences {
            if let Some(limit) = frames {
                sequence.frames.truncate(limit);
                sequence.objects.retain(|o| o.prompt_frame < limit);
                for object in &mut sequence.objects {
                    object.annotated.retain(|&f| f < limit);
                }
            }
            sequence.objects.truncate(objects.unwrap_or(usize::MAX));
        }
        // Footage of which nobody says anything has no objects: they are still to be found.
        let untold = |s: &Sequence| matches!(&s.guide, Guide::Prompts(given) if given.is_empty());
        // With panoptic truth, a video without objects still has stuff to score.
        self.sequences.retain(|s| !s.objects.is_empty() || untold(s) || s.segments().is_some());
        if self.sequences.is_empty() {
            return Err(DataError(format!(
                "{}: the limits (videos {}, objects {}, frames {}) leave no object to track; raise them",
                self.root.display(),
                shown(videos),
                shown(objects),
                shown(frames)
            )));
        }
        Ok(())
    }

    /// Leaves out videos that show stuff alone, and says so in the findings.
    ///
    /// # Errors
    /// When nothing is left.
    pub(crate) fn leave_out_stuff(&mut self) -> Result<(), DataError> {
        let all = self.sequences.len();
        self.sequences.retain(|s| !s.objects.is_empty() || s.segments().is_none());
        let gone = all - self.sequences.len();
        if self.sequences.is_empty() {
            return Err(DataError(format!("{}: no video has a thing, which could be prompted", self.root.display())));
        }
        if gone > 0 {
            let (videos, are) = (plural(gone, "video", "videos"), if gone == 1 { "is" } else { "are" });
            let what = format!("{videos} without a thing {are} left out: a prompted model has nothing to track there");
            self.findings.push(Finding::warning(&self.root, what));
        }
        Ok(())
    }

    /// Objects in all sequences.
    pub fn object_count(&self) -> usize {
        self.sequences.iter().map(|s| s.objects.len()).sum()
    }

    /// Does a pixel belong to one object at most? So it is where the truth is kept in label maps.
    pub fn exclusive(&self) -> bool {
        self.sequences.iter().all(Sequence::exclusive)
    }

    /// Frames in all sequences.
    pub fn frame_count(&self) -> usize {
        self.sequences.iter().map(|s| s.frames.len()).sum()
    }
}

fn shown(limit: Option<usize>) -> String {
    limit.map_or("none".to_string(), |n| n.to_string())
}

impl Sequence {
    /// Ground-truth mask of `object` on frame `frame` (an element of `object.annotated`).
    ///
    /// # Errors
    /// Names the file when it is missing, unreadable or of another size.
    pub fn truth(&self, object: &Object, frame: usize) -> Result<Mask, DataError> {
        let masks = self.truths(std::slice::from_ref(object), frame)?;
        masks.into_iter().next().ok_or_else(|| DataError(format!("{}: no mask of {}", self.name, object.name)))
    }

    /// Ground-truth masks of several objects on frame `frame`, in the order of `objects`; each file is decoded once.
    ///
    /// # Errors
    /// As [`Sequence::truth`].
    pub fn truths(&self, objects: &[Object], frame: usize) -> Result<Vec<Mask>, DataError> {
        let file = self.frames.get(frame).ok_or_else(|| DataError(format!("{}: no frame {frame}", self.name)))?;
        let Some(source) = self.truth_source() else {
            return Err(DataError(format!("{}: there is no ground truth", self.name)));
        };
        match source {
            MaskSource::ObjectFolders(dir) => objects
                .iter()
                .map(|object| {
                    let path = dir.join(&object.name).join(format!("{}.png", file.name));
                    Ok(self.read_labels(&path)?.into_foreground().0)
                })
                .collect(),
            MaskSource::LabelMaps(dir) => {
                let mut found = self.read_labels(&dir.join(format!("{}.png", file.name)))?.masks;
                let mut take = |object: &Object| {
                    let at = found.iter().position(|(id, _)| id.to_string() == object.name);
                    at.map_or_else(|| Mask::empty(self.width, self.height), |i| found.swap_remove(i).1)
                };
                Ok(objects.iter().map(&mut take).collect())
            }
            MaskSource::Foreground(dir) => {
                let (mask, _) = self.read_labels(&dir.join(format!("{}.png", file.name)))?.into_foreground();
                Ok(objects.iter().map(|_| mask.clone()).collect())
            }
            MaskSource::Masklets(masklets) => objects.iter().map(|o| masklets.mask(&o.name, frame)).collect(),
            MaskSource::Segments(_) => {
                let wanted = by_segment_id(objects);
                let mut masks = self.segment_ids(frame)?.masks(|id| wanted.contains_key(&id));
                let mut take = |object: &Object| {
                    let found = object.segment_id().and_then(|id| masks.remove(&id));
                    found.unwrap_or_else(|| Mask::empty(self.width, self.height))
                };
                Ok(objects.iter().map(&mut take).collect())
            }
        }
    }

    /// Segment ids of frame `frame`, where the truth is panoptic.
    ///
    /// # Errors
    /// The truth has another form; names the file when it is missing, unreadable or of another size.
    pub(crate) fn segment_ids(&self, frame: usize) -> Result<SegmentIds, DataError> {
        let file = self.segments().and_then(|segments| segments.frames.get(frame));
        let (path, _) = file.ok_or_else(|| DataError(format!("{}: no segments of frame {frame}", self.name)))?;
        let mut png = IdPng::default();
        png.read(path)?;
        if let Some(witness) = &self.witness {
            witness.saw(path, png.bytes());
        }
        self.fits(path, png.size())?;
        Ok(SegmentIds { width: self.width, height: self.height, ids: png.ids().collect() })
    }

    /// Do the segments of a frame have the pixels that the description says? The truth must be panoptic.
    ///
    /// # Errors
    /// As [`Sequence::segment_ids`]; names the mask and the segment that differs.
    pub(crate) fn check_segments(&self, frame: usize) -> Result<(), DataError> {
        let areas = self.segment_ids(frame)?.areas();
        let Some((path, listed)) = self.segments().and_then(|segments| segments.frames.get(frame)) else {
            return Ok(());
        };
        panoptic_truth::agree(&areas, listed).map_err(|fault| DataError(format!("{}: {fault}", path.display())))
    }

    /// Has a mask this video's size?
    fn fits(&self, path: &Path, (width, height): (u32, u32)) -> Result<(), DataError> {
        if (width, height) == (self.width, self.height) {
            return Ok(());
        }
        Err(DataError(format!(
            "{}: annotation is {width}x{height}, the frames of video {} are {}x{}; masks must have the size of their frames",
            path.display(),
            self.name,
            self.width,
            self.height
        )))
    }

    pub(crate) fn read_labels(&self, path: &Path) -> Result<LabelMasks, DataError> {
        let bytes = label_png::read_file(path)?;
        if let Some(witness) = &self.witness {
            witness.saw(path, &bytes);
        }
        let image = LabelMasks::decode(&bytes).map_err(|fault| DataError(format!("{}: {fault}", path.display())))?;
        self.fits(path, (image.width, image.height))?;
        Ok(image)
    }

    /// When its frames arrive; `fps` overrides what the clip says.
    pub fn clock(&self, fps: Option<f64>) -> Clock<'_> {
        match (fps, &self.times) {
            (None, Some(times)) => Clock::Stamps(times),
            _ => Clock::Even(fps.unwrap_or(self.fps)),
        }
    }

    /// The same video with what a detector found in it in the place of its objects.
    pub(crate) fn with_found(&self, objects: Vec<Object>) -> Sequence {
        Sequence { objects, guide: Guide::Found, ..self.clone() }
    }

    /// Names of the folders that its masks are written to, one per object; none where they are label maps.
    pub fn mask_folders(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().filter(|_| !self.label_maps()).map(|object| object.name.as_str())
    }

    /// Are its masks written as label maps? So they are where a pixel belongs to one object, but for segment ids that need more than 16 bits.
    pub(super) fn label_maps(&self) -> bool {
        let wide = |object: &Object| object.name.parse::<u16>().is_err();
        self.exclusive() && !(self.segments().is_some() && self.objects.iter().any(wide))
    }

    /// Do its label maps hold ids that take more than 8 bits?
    pub fn wide_ids(&self) -> bool {
        self.label_maps() && self.objects.iter().any(|o| o.name.parse::<u16>().is_ok_and(|id| id > 255))
    }

    /// Does a pixel belong to one object at most?
    pub fn exclusive(&self) -> bool {
        let of_one = |source: &MaskSource| {
            matches!(source, MaskSource::LabelMaps(_) | MaskSource::Foreground(_) | MaskSource::Segments(_))
        };
        matches!(self.guide, Guide::Found) || self.truth_source().is_some_and(of_one)
    }

    /// Its panoptic truth.
    pub(crate) fn segments(&self) -> Option<&SequenceSegments> {
        match self.truth_source() {
            Some(MaskSource::Segments(segments)) => Some(segments),
            _ => None,
        }
    }

    /// Where its ground truth lies, if there is any.
    pub fn truth_source(&self) -> Option<&MaskSource> {
        match &self.guide {
            Guide::Truth(source) => Some(source),
            Guide::Prompts(_) | Guide::Found => None,
        }
    }

    /// The prompt that the user gave for an object.
    pub fn given(&self, object: &Object) -> Option<&PromptShape> {
        match &self.guide {
            Guide::Truth(_) | Guide::Found => None,
            Guide::Prompts(shapes) => shapes.get(object.id as usize),
        }
    }

    /// A grey frame of its size.
    pub fn blank(&self) -> RgbFrame {
        let (width, height) = (self.width, self.height);
        RgbFrame { width, height, rgb: vec![128; width as usize * height as usize * 3] }
    }

    /// Access to single frames, in ascending order, on the calling thread.
    pub fn picker(&self) -> FramePicker<'_> {
        FramePicker::new(&self.frames, self.video.as_deref())
    }

    /// Starts decoding this sequence's frames in order, at most `ahead` frames before the one asked for.
    pub fn reader(&self, ahead: usize) -> FrameReader {
        self.looped_reader(self.frames.len(), ahead)
    }

    /// As [`Sequence::reader`], for `total` frames: after the last one it starts again with the first.
    pub fn looped_reader(&self, total: usize, ahead: usize) -> FrameReader {
        match &self.video {
            Some(video) => FrameReader::of_video(video, self.frames.len(), total, ahead),
            None => FrameReader::of_files(&self.frames, total, ahead, self.witness.clone()),
        }
    }
}
