//! Figures over many frames, videos or repeats.

use serde::{Deserialize, Serialize};

use super::found::FoundSummary;
use super::taken::TakenSummary;
use crate::score::panoptic::PanopticScores;

/// Aggregates of a cell. Milliseconds, frames per second, 0..100 scores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SummaryRecord {
    /// Finished videos.
    pub videos: usize,
    /// Scored objects.
    pub objects: usize,
    /// Tracked frames.
    pub frames: usize,
    /// Mean J over objects.
    pub j: Option<f64>,
    /// Mean F over objects.
    pub f: Option<f64>,
    /// (J + F) / 2.
    pub jf: Option<f64>,
    /// MOSEv2's J&Ḟ over objects: F with a tolerance that follows the object's size. `None` in records from before it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jf_dot: Option<f64>,
    /// J&Ḟ over the stretches on which an object is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jf_disappear: Option<f64>,
    /// J&Ḟ over the stretches after an object (re)appears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jf_reappear: Option<f64>,
    /// Objects that are ever gone, and that ever (re)appear: what the two above are means of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_disappear: Option<usize>,
    /// See `objects_disappear`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_reappear: Option<usize>,
    /// 95 % interval of `jf` by resampling whole videos; `None` below five videos.
    #[serde(default)]
    pub jf_interval: Option<Interval>,
    /// Frames over wall time, decode included.
    pub fps_wall: Option<f64>,
    /// 95 % interval of `fps_wall` by resampling whole videos; `None` below five videos.
    #[serde(default)]
    pub fps_wall_interval: Option<Interval>,
    /// Frames over summed latency.
    pub fps_model: Option<f64>,
    /// Latency statistics over all tracked frames; no sample dropped.
    pub latency: Option<LatencyRecord>,
    /// Share of latency outside the sessions (preprocess + postprocess), 0..1.
    pub overhead_share: Option<f64>,
    /// Energy per frame in joules over the inference span, where rails can be read.
    pub energy_per_frame_j: Option<f64>,
    /// The same less idle power.
    #[serde(default)]
    pub energy_above_idle_per_frame_j: Option<f64>,
    /// 95 % interval of `jf` by resampling objects; `None` below five objects. Objects of one video are not quite
    /// independent, so it is somewhat narrower than `jf_interval`.
    #[serde(default)]
    pub jf_objects_interval: Option<Interval>,
    /// Mean absolute difference between the latencies of consecutive frames of a video, milliseconds.
    #[serde(default)]
    pub jitter_ms: Option<f64>,
    /// Tracked frames whose latency is longer than the time to the clip's next frame.
    #[serde(default)]
    pub deadline_misses: Option<usize>,
    /// In real time: frames dropped.
    #[serde(default)]
    pub dropped: Option<usize>,
    /// In real time: from arrival to masks.
    #[serde(default)]
    pub response: Option<LatencyRecord>,
    /// From where on the run was steady, with its figures; `None` when too short to tell, or when it never was.
    #[serde(default)]
    pub steady: Option<SteadyRecord>,
    /// What a detector founded, and what it is worth: `j`, `f` and `jf` are of prompted objects, and `None` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundSummary>,
    /// What became of prompted objects, where the model finds its tracks itself; `None` elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<TakenSummary>,
    /// Over repeats, when there were several; then figures of speed and energy are medians over them too, and the largest
    /// latency is that of all; `steady` is of the first.
    #[serde(default)]
    pub repeats: Option<RepeatsRecord>,
}

impl SummaryRecord {
    /// J&F of the cell's own task: of prompted objects, or of found ones. The two do not compare.
    pub fn own_jf(&self) -> Option<f64> {
        self.found.map_or(self.jf, |found| found.scores?.jf)
    }

    /// Scores of panoptic segments.
    pub fn panoptic(&self) -> Option<&PanopticScores> {
        self.found.as_ref()?.scores.as_ref()?.panoptic.as_ref()
    }
}

/// An interval, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Latency distribution, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyRecord {
    /// Arithmetic mean.
    pub mean_ms: f64,
    /// Percentiles by linear interpolation between order statistics (numpy's default).
    pub p50_ms: f64,
    /// 90th.
    pub p90_ms: f64,
    /// 95th.
    pub p95_ms: f64,
    /// 99th.
    pub p99_ms: f64,
    /// Largest.
    pub max_ms: f64,
    /// Frames that it is of; over repeats the fewest of any. 0 in records that did not say.
    #[serde(default)]
    pub samples: usize,
}

impl LatencyRecord {
    /// 90th percentile, where at least 100 frames tell it.
    pub fn p90(&self) -> Option<f64> {
        self.told(0.90).then_some(self.p90_ms)
    }

    /// 95th, from 200 frames on.
    pub fn p95(&self) -> Option<f64> {
        self.told(0.95).then_some(self.p95_ms)
    }

    /// 99th, from 1,000 frames on.
    pub fn p99(&self) -> Option<f64> {
        self.told(0.99).then_some(self.p99_ms)
    }

    /// A quantile of n samples is told where ten of them or more are expected beyond it: n >= 10 / (1 - q). Below, it is one of the few
    /// largest samples, whatever the distribution.
    fn told(&self, q: f64) -> bool {
        self.samples == 0 || self.samples as f64 * (1.0 - q) >= 10.0 - 1e-9
    }
}

/// The part of a run after its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SteadyRecord {
    /// Frames before it, in run order.
    pub begins_after: usize,
    /// Frames in it.
    pub frames: usize,
    /// Latency in it.
    pub latency: LatencyRecord,
    /// Frames over summed latency in it.
    pub fps_model: Option<f64>,
}

/// Median over repeats, and how sure it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpreadRecord {
    /// Median over the repeats.
    pub median: f64,
    /// 95 % bootstrap interval of that median; `None` below five repeats.
    pub interval: Option<Interval>,
    /// 95 % interval for one further run (Student's t on the logarithms, neighbouring runs taken to be somewhat alike);
    /// `None` below three repeats.
    pub next_run: Option<Interval>,
}

/// Figures over repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepeatsRecord {
    /// Repeats with figures.
    pub count: usize,
    /// Frames per second of wall time.
    pub fps_wall: Option<SpreadRecord>,
    /// Frames per second of summed latency.
    pub fps_model: Option<SpreadRecord>,
    /// Median latency, milliseconds.
    pub latency_p50_ms: Option<SpreadRecord>,
    /// 95th percentile of latency, milliseconds.
    pub latency_p95_ms: Option<SpreadRecord>,
}
