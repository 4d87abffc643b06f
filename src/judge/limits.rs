//! From where on does a rule speak? Every limit by which a measurement is judged, with its reason.

/// Other processes that use fewer cores on average are the machine's housekeeping.
pub const RIVAL_CORES: f64 = 0.25;
/// Share of frames that may be outliers: a percentile of 95 still lies among the others, and a scheduler's tick is no reason to doubt a run.
pub const OUTLIER_SHARE: f64 = 0.03;
/// Change of the median latency from the first to the last quarter of a run, as a share: below, runs of one device differ as much.
pub const DRIFT: f64 = 0.05;
/// Share of the time in frames that a slow start may add: what moves no quoted figure by more than one percent is a note only.
pub const SLOW_START_SHARE: f64 = 0.01;
