//! How good are found instances with scores? Average precision and recall of tubes (an instance's masks over a video), as
//! YouTube-VIS's YTVOSeval computes them, and OVIS's by occlusion, to the last bit.

mod average;
mod files;

use std::path::PathBuf;

use serde::Serialize;

pub use self::average::{Averages, CategoryAverage, Group, Part, class_agnostic, class_aware};
pub use self::files::{Instances, Tube};

use self::average::{Pairing, averages};
use crate::dataset::DataError;

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
        instances: instances.truth.len(),
        results: instances.results.len(),
        per_class: averages(&Pairing::new(&instances, true), occlusion),
        class_agnostic: averages(&Pairing::new(&instances, false), occlusion),
        notes,
    })
}

impl Tube {
    /// IoU over all frames that both have: pixels in both, over pixels in either.
    pub fn iou(&self, other: &Tube) -> f64 {
        let (mut inter, mut union) = (0u64, 0u64);
        for pair in self.frames.iter().zip(&other.frames) {
            match pair {
                (Some(a), Some(b)) if a.size == b.size => {
                    let both = a.overlap(b);
                    inter += both;
                    union += a.area() + b.area() - both;
                }
                // The reference merges masks of two sizes into nothing.
                (Some(_), Some(_)) | (None, None) => {}
                (Some(one), None) | (None, Some(one)) => union += one.area(),
            }
        }
        if union == 0 { 0.0 } else { inter as f64 / union as f64 }
    }
}
