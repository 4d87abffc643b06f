//! How good is a video's panoptic segmentation, every pixel of which belongs to a thing or to stuff? VPQ (Kim et al., CVPR 2020) and STQ
//! (Weber et al., "STEP", 2021) as VIPSeg's own evaluators compute them, sums in their order so that the last bit agrees. What these do
//! beyond the papers, and where they say nothing, stands in [`vpq`], [`stq`] and [`files`].

mod counts;
mod files;
mod frame;
mod stq;
mod vpq;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use self::counts::{CategoryCounts, VideoCounts};
pub use self::stq::{Stq, VideoStq};
pub use self::vpq::{ClassPq, PartPq, Tally, WindowPq};

pub(crate) use self::frame::PanopticFrame;

use self::frame::PairReader;
use crate::dataset::DataError;
use crate::dataset::panoptic_truth::PanopticCategory;
use crate::text::plural;

/// Frames per window, as the evaluator has them.
pub const WINDOWS: [usize; 5] = [1, 2, 4, 6, 8];
/// The first so many of [`WINDOWS`] make the VPQ of papers.
const OF_PAPERS: usize = 4;
/// Frames that a video needs for a VPQ of papers.
pub(crate) const LONGEST_OF_PAPERS: usize = WINDOWS[OF_PAPERS - 1];

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanopticOptions {
    /// `panoptic_gt_….json` with `panomasksRGB/` beside it, or the folder of both.
    pub truth: PathBuf,
    /// Folder with `pred.json` and `pan_pred/`.
    pub pred: PathBuf,
}

/// Scores of a dataset; shares are 0..1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PanopticReport {
    /// Schema number of the JSON form.
    pub schema: u32,
    /// Always `vipseg`.
    pub protocol: &'static str,
    /// Truth as given.
    pub truth: String,
    /// Predictions as given.
    pub pred: String,
    /// Videos with frames.
    pub videos: usize,
    /// Frames.
    pub frames: usize,
    /// Mean PQ of windows of 1, 2, 4 and 6 frames, which papers call VPQ.
    pub vpq: Parts,
    /// Mean PQ of all windows, that of 8 frames too: what the evaluator writes to `vpq-final.txt`.
    pub vpq_final: Parts,
    /// By length.
    pub windows: Vec<WindowPq>,
    /// Segmentation and tracking quality.
    pub stq: Stq,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// A mean over all categories, things, and stuff; `None` where one of its windows has none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Parts {
    /// Of all categories.
    pub all: Option<f64>,
    /// Of things.
    pub things: Option<f64>,
    /// Of stuff.
    pub stuff: Option<f64>,
}

impl Parts {
    fn mean(windows: &[WindowPq]) -> Parts {
        let mean = |part: fn(&WindowPq) -> Option<PartPq>| {
            let sum = windows.iter().try_fold(0.0, |sum, w| Some(sum + part(w)?.pq))?;
            Some(sum / windows.len() as f64)
        };
        Parts { all: mean(|w| w.all), things: mean(|w| w.things), stuff: mean(|w| w.stuff) }
    }
}

/// Scores predictions against truth.
///
/// # Errors
/// What is missing or does not fit: names the file, and the video, frame and segment.
pub fn score(options: &PanopticOptions) -> Result<PanopticReport, DataError> {
    let files = files::read(&options.truth, &options.pred)?;
    let jobs: Vec<(usize, usize)> =
        files.videos.iter().enumerate().flat_map(|(v, video)| (0..video.frames.len()).map(move |t| (v, t))).collect();
    let read: Vec<Result<PanopticFrame, DataError>> = jobs
        .par_iter()
        .map_init(PairReader::default, |reader, &(v, t)| files.videos[v].frames[t].read(reader, &files.categories))
        .collect();
    let mut videos: Vec<Vec<PanopticFrame>> = vec![Vec::new(); files.videos.len()];
    for ((v, _), frame) in jobs.into_iter().zip(read) {
        videos[v].push(frame?);
    }
    for (video, frames) in files.videos.iter().zip(&videos) {
        one_size(&video.name, frames)?;
    }
    let counted = files.videos.par_iter().zip(&videos).map(|(video, frames)| {
        let counts = VideoCounts::of(frames, &files.categories);
        counts.map(|c| (video.name.as_str(), c)).map_err(|e| DataError(format!("video {}: {e}", video.name)))
    });
    let counted: Vec<(&str, VideoCounts)> = counted.collect::<Result<_, _>>()?;
    let mut scored = of_videos(&files.categories, &counted);
    scored.truth = options.truth.display().to_string();
    scored.pred = options.pred.display().to_string();
    scored.notes.splice(0..0, files.notes);
    Ok(scored)
}

/// The evaluator stacks the frames of a window.
fn one_size(video: &str, frames: &[PanopticFrame]) -> Result<(), DataError> {
    let sizes = |f: &PanopticFrame| format!("{}x{}", f.size.0, f.size.1);
    match frames.windows(2).position(|w| w[0].size != w[1].size) {
        Some(t) => Err(DataError(format!(
            "video {video}: frame {} has {} and frame {} {}; all frames of a video have one size",
            t + 1,
            sizes(&frames[t]),
            t + 2,
            sizes(&frames[t + 1])
        ))),
        None => Ok(()),
    }
}

/// Scores of videos whose pixels are counted, in their order.
fn of_videos(categories: &[PanopticCategory], videos: &[(&str, VideoCounts)]) -> PanopticReport {
    let places: Vec<(usize, PanopticCategory)> = categories.iter().cloned().enumerate().collect();
    let counts: Vec<&VideoCounts> = videos.iter().map(|(_, counts)| counts).collect();
    let windows: Vec<WindowPq> = (0..WINDOWS.len()).map(|n| vpq::window(&places, &counts, n)).collect();
    let seen: Vec<(&str, &VideoCounts)> =
        videos.iter().filter(|(_, counts)| counts.frames > 0).map(|(name, counts)| (*name, counts)).collect();
    let stq = stq::quality(&seen);
    let mut notes = Vec::new();
    if seen.len() < videos.len() {
        let empty: Vec<&str> = videos.iter().filter(|(_, counts)| counts.frames == 0).map(|(name, _)| *name).collect();
        notes.push(format!("no frame in {}, left out as in the reference", empty.join(", ")));
    }
    let longest = counts.iter().map(|c| c.frames).max().unwrap_or(0);
    if let Some(n) = WINDOWS.into_iter().find(|n| *n > longest) {
        notes.push(format!(
            "no video has {}, so that windows of {n} have no score, nor has a mean over them; the evaluator divides by zero",
            plural(n, "frame", "frames")
        ));
    } else if windows[0].things.is_none() || windows[0].stuff.is_none() {
        notes.push("things or stuff are on no frame, and have no score; the evaluator divides by zero".to_string());
    }
    if stq.aq.is_none() {
        notes
            .push("no thing of the truth counts for AQ, so that AQ and STQ have no value; the evaluator says 0".into());
    }
    if !stq.first_is_thing.is_empty() {
        notes.push(format!(
            "the first segment of the truth is a thing in {}; STQ takes it for a crowd, as the evaluator does",
            stq.first_is_thing.join(", ")
        ));
    }
    PanopticReport {
        schema: 1,
        protocol: "vipseg",
        truth: String::new(),
        pred: String::new(),
        videos: seen.len(),
        frames: counts.iter().map(|c| c.frames).sum(),
        vpq: Parts::mean(&windows[..OF_PAPERS]),
        vpq_final: Parts::mean(&windows),
        windows,
        stq,
        notes,
    }
}

/// Scores of the videos of a run, 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PanopticScores {
    /// VPQ as in papers, over windows of 1, 2, 4 and 6 frames; `None`: no video is as long as one of them.
    pub vpq: Option<f64>,
    /// The same over things; `None` also where none occurs.
    pub vpq_things: Option<f64>,
    /// The same over stuff.
    pub vpq_stuff: Option<f64>,
    /// Segmentation and tracking quality.
    pub stq: Option<f64>,
    /// Its association quality.
    pub aq: Option<f64>,
    /// Its segmentation quality.
    pub sq: Option<f64>,
    /// Categories that occur in truth or prediction.
    pub categories: usize,
    /// Tracks that are no segment, because the data set has no category of the name of their class.
    pub left_out: usize,
}

impl PanopticScores {
    /// Of videos in their order.
    pub(super) fn over(videos: &[&VideoCounts]) -> PanopticScores {
        let mut occurring: BTreeMap<usize, PanopticCategory> = BTreeMap::new();
        for (place, counts) in videos.iter().flat_map(|video| &video.categories) {
            let CategoryCounts { id, thing, .. } = *counts;
            occurring.entry(*place).or_insert(PanopticCategory { id, name: String::new(), thing });
        }
        let places: Vec<(usize, PanopticCategory)> = occurring.into_iter().collect();
        let windows: Vec<WindowPq> = (0..OF_PAPERS).map(|n| vpq::window(&places, videos, n)).collect();
        let named: Vec<(&str, &VideoCounts)> = videos.iter().map(|video| ("", *video)).collect();
        let (vpq, stq) = (Parts::mean(&windows), stq::quality(&named));
        let percent = |share: Option<f64>| share.map(|share| share * 100.0);
        PanopticScores {
            vpq: percent(vpq.all),
            vpq_things: percent(vpq.things),
            vpq_stuff: percent(vpq.stuff),
            stq: percent(stq.stq),
            aq: percent(stq.aq),
            sq: percent(stq.sq),
            categories: places.len(),
            left_out: videos.iter().map(|video| video.left_out).sum(),
        }
    }
}
