//! How good are found instances with scores? Average precision and recall of tubes (an instance's masks over a video), as
//! YouTube-VIS's YTVOSeval computes them, and OVIS's by occlusion, to the last bit.

mod average;
mod files;
mod masks;

use std::path::PathBuf;

use serde::Serialize;

pub use self::average::{Averages, CategoryAverage, Group, Part, class_agnostic, class_aware};
pub use self::files::Instances;
pub use self::masks::VideoTubes;

use self::average::{Pairing, averages};
use self::files::mean_area;
use crate::dataset::DataError;
use crate::score::segment::Segment;

/// Which of the two evaluators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TubeProtocol {
    /// YouTube-VIS 2019, 2021, 2022.
    YtVis,
    /// OVIS: the same, and by occlusion.
    Ovis,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TubeOptions {
    /// JSON file with videos, categories and annotations.
    pub truth: PathBuf,
    /// JSON file with a list of results.
    pub pred: PathBuf,
    /// Evaluator.
    pub protocol: TubeProtocol,
}

/// Scores of a result file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TubeReport {
    /// Schema number of the JSON form.
    pub schema: u32,
    /// Evaluator.
    pub protocol: TubeProtocol,
    /// Truth as given.
    pub truth: String,
    /// Results as given.
    pub pred: String,
    /// Videos, instances of the truth, results.
    pub videos: usize,
    /// Instances of the truth.
    pub instances: usize,
    /// Results of known categories.
    pub results: usize,
    /// A result must name the right category.
    pub per_class: Averages,
    /// Categories are left aside.
    pub class_agnostic: Averages,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// Scores results against truth.
///
/// # Errors
/// A file that is none of its kind: names it and the entry that is wrong.
pub fn score(options: &TubeOptions) -> Result<TubeReport, DataError> {
    let occlusion = options.protocol == TubeProtocol::Ovis;
    let (instances, notes) = Instances::read(&options.truth, &options.pred, occlusion)?;
    Ok(TubeReport {
        schema: 1,
        protocol: options.protocol,
        truth: options.truth.display().to_string(),
        pred: options.pred.display().to_string(),
        videos: instances.videos.len(),
        instances: instances.videos.iter().map(|video| video.truth.len()).sum(),
        results: instances.videos.iter().map(|video| video.results.len()).sum(),
        per_class: averages(&Pairing::new(&instances, true), occlusion),
        class_agnostic: averages(&Pairing::new(&instances, false), occlusion),
        notes,
    })
}

/// An instance of the only video and category.
#[derive(Clone, Debug, PartialEq)]
pub struct Tube {
    /// Per frame; `None` where it does not show.
    frames: Vec<Option<Segment>>,
    pub(super) part: Part,
}

impl Tube {
    /// An instance, or a result with its score.
    pub fn alone(frames: Vec<Option<Segment>>, score: f64) -> Tube {
        let area = mean_area(frames.iter().flatten().map(|s| s.area() as f64));
        Tube { frames, part: Part { score, area, ..Part::default() } }
    }

    /// IoU over all frames that both have: pixels in both, over pixels in either.
    pub fn iou(&self, other: &Tube) -> f64 {
        let mut shared = Shared::default();
        self.frames.iter().zip(&other.frames).for_each(|(own, other)| shared.add(own.as_ref(), other.as_ref()));
        shared.iou()
    }
}

/// Pixels that two tubes have on the frames so far.
#[derive(Clone, Copy, Debug, Default)]
struct Shared {
    both: u64,
    either: u64,
}

impl Shared {
    fn add(&mut self, one: Option<&Segment>, other: Option<&Segment>) {
        match (one, other) {
            (Some(a), Some(b)) if a.size == b.size => {
                let both = a.overlap(b);
                self.both += both;
                self.either += a.area() + b.area() - both;
            }
            // The reference merges masks of two sizes into nothing.
            (Some(_), Some(_)) | (None, None) => {}
            (Some(alone), None) | (None, Some(alone)) => self.either += alone.area(),
        }
    }

    fn iou(&self) -> f64 {
        if self.either == 0 { 0.0 } else { self.both as f64 / self.either as f64 }
    }
}
