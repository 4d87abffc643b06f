//! Which figures of a cell are handed on, under which names and in which units? One table for all formats of figures.

use crate::results::record::{CellRecord, Interval, SummaryRecord, Verdict};
use crate::telemetry::key::MemoryPhase;

/// A figure of a cell.
pub(super) struct Figure {
    /// Name with its unit, in kebab case.
    pub(super) slug: &'static str,
    /// Name of the Prometheus metric, with its base unit.
    pub(super) metric: &'static str,
    /// What it is, for people.
    pub(super) help: &'static str,
    /// How many of our own units are one base unit of Prometheus.
    pub(super) per_base: f64,
    get: fn(&CellRecord, &SummaryRecord) -> Option<f64>,
    interval: fn(&SummaryRecord) -> Option<Interval>,
}

const NONE: fn(&SummaryRecord) -> Option<Interval> = |_| None;

/// Every figure that is handed on.
pub(super) const FIGURES: [Figure; 11] = [
    Figure {
        slug: "jf",
        metric: "jetbench_jf",
        help: "J&F, 0 to 100.",
        per_base: 1.0,
        get: |_, s| s.jf,
        interval: |s| s.jf_interval,
    },
    Figure {
        slug: "jf-unsup",
        metric: "jetbench_jf_unsupervised",
        help: "J&F of objects that a detector found, 0 to 100: another task than J&F.",
        per_base: 1.0,
        get: |_, s| s.found.as_ref()?.scores.as_ref()?.jf,
        interval: NONE,
    },
    Figure {
        slug: "hota",
        metric: "jetbench_hota",
        help: "HOTA of tracks that a detector founded, 0 to 100.",
        per_base: 1.0,
        get: |_, s| s.found.as_ref()?.scores.as_ref()?.hota,
        interval: NONE,
    },
    Figure {
        slug: "ap",
        metric: "jetbench_ap",
        help: "Class-agnostic AP of tracks that a detector founded, 0 to 100; of whole masks where overlaps=keep.",
        per_base: 1.0,
        get: |_, s| s.found.as_ref()?.scores.as_ref()?.ap,
        interval: NONE,
    },
    Figure {
        slug: "vpq",
        metric: "jetbench_vpq",
        help: "VPQ of panoptic segments, 0 to 100.",
        per_base: 1.0,
        get: |_, s| s.panoptic()?.vpq,
        interval: NONE,
    },
    Figure {
        slug: "stq",
        metric: "jetbench_stq",
        help: "STQ of panoptic segments, 0 to 100.",
        per_base: 1.0,
        get: |_, s| s.panoptic()?.stq,
        interval: NONE,
    },
    Figure {
        slug: "fps-wall",
        metric: "jetbench_frames_per_second",
        help: "Frames over wall time, decoding included.",
        per_base: 1.0,
        get: |_, s| s.fps_wall,
        // A median over repeats has the interval of that median.
        interval: |s| match s.repeats {
            Some(repeats) => repeats.fps_wall?.interval,
            None => s.fps_wall_interval,
        },
    },
    Figure {
        slug: "latency-p50-ms",
        metric: "jetbench_latency_p50_seconds",
        help: "Median latency of a frame, all objects.",
        per_base: 1e3,
        get: |_, s| s.latency.map(|l| l.p50_ms),
        interval: |s| s.repeats?.latency_p50_ms?.interval,
    },
    Figure {
        slug: "latency-p95-ms",
        metric: "jetbench_latency_p95_seconds",
        help: "95th percentile of the latency of a frame; absent below 200 frames.",
        per_base: 1e3,
        get: |_, s| s.latency.and_then(|l| l.p95()),
        interval: |s| s.repeats?.latency_p95_ms?.interval,
    },
    Figure {
        slug: "energy-per-frame-j",
        metric: "jetbench_energy_per_frame_joules",
        help: "Energy of the whole module per frame; absent without a rail that measures it.",
        per_base: 1.0,
        get: |_, s| s.energy_per_frame_j,
        interval: NONE,
    },
    Figure {
        slug: "peak-system-mib",
        metric: "jetbench_peak_memory_bytes",
        help: "Largest fall of the system's available memory.",
        per_base: 1.0 / (1024.0 * 1024.0),
        get: |c, _| c.memory.get(&MemoryPhase::Peak)?.system_mib,
        interval: NONE,
    },
];

impl Figure {
    /// Its value and 95 % interval in our own unit; `None` where it was not measured, or may not be quoted.
    pub(super) fn of(&self, cell: &CellRecord) -> Option<(f64, Option<Interval>)> {
        let summary = cell.summary.as_ref().filter(|_| cell.verdict == Verdict::Valid)?;
        let value = (self.get)(cell, summary).filter(|v| v.is_finite())?;
        Some((value, (self.interval)(summary)))
    }
}
