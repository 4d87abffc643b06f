//! From where on does a rule speak? Every limit by which a measurement is judged, with its reason.

use std::time::Duration;

/// A worker that could not run at all for this long stood still; busy schedulers let a thread wait for less.
pub const STALL: Duration = Duration::from_millis(100);
/// Other processes that use fewer cores on average are the machine's housekeeping.
pub const RIVAL_CORES: f64 = 0.25;
/// Share of frames that may be outliers: a percentile of 95 still lies among the others, and a scheduler's tick is no reason to doubt a run.
pub const OUTLIER_SHARE: f64 = 0.03;
/// Share of the time in frames that outliers may take beyond their like: what moves no mean by more is no reason to doubt it.
pub const OUTLIER_TIME: f64 = 0.03;
/// Change of the median latency from the first to the last quarter of a run, as a share: below, runs of one device differ as much.
pub const DRIFT: f64 = 0.05;
/// Share of the time in frames that a slow start may add: what moves no quoted figure by more than one percent is a note only.
pub const SLOW_START_SHARE: f64 = 0.01;
/// Change of level, as a factor, that is worth a word: clocks step by about as much.
pub const SHIFT: f64 = 1.10;
/// Change of level, as a factor, with which a mean or a percentile describes no state of the device.
pub const UNSTEADY: f64 = 1.25;
/// Share of frames at such levels from which on a run is not steady.
pub const UNSTEADY_SHARE: f64 = 0.10;
/// Share of frames that may lie further than [`UNSTEADY`] from the median of their like.
pub const SCATTER_SHARE: f64 = 1.0 / 3.0;
/// Fewer frames are not judged on their scatter.
pub const SCATTER_FRAMES: usize = 40;
/// Frames quicker than this are not judged on levels and scatter: what the machine does between two of them weighs as much.
pub const QUICK_MS: f64 = 1.0;
/// Growth of the worker's memory over the second half of a run that may be a leak, MiB: allocators' own pieces are smaller.
pub const LEAK_MIB: f64 = 4.0;
