//! What does it cost in energy? Rails integrated over the tracked sequences, with and without what the idle machine draws.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::results::note::{Note, NoteKind};
use crate::results::record::CellRecord;
use crate::telemetry::{self, Sampler, Span, Telemetry};

/// The rail that measures the whole module, on boards that have it. Other rails measure parts, and parts are not added.
const WHOLE_MODULE_RAIL: &str = "VDD_IN";

/// How long idle power is measured before a worker is started.
const IDLE: Duration = Duration::from_millis(1500);

/// Mean power by rail while nothing of ours runs. Costs [`IDLE`] where there is a rail, and nothing where there is none.
pub(super) fn idle_power(root: &Path, sample_hz: f64) -> BTreeMap<String, f64> {
    let found = telemetry::find(root, None);
    if !found.channels().iter().any(|c| c.rail().is_some()) {
        return BTreeMap::new();
    }
    drop(found);
    let sampler = Sampler::start(root.to_path_buf(), None, sample_hz);
    std::thread::sleep(IDLE);
    let telemetry = sampler.stop();
    match (telemetry.samples.first(), telemetry.samples.last()) {
        (Some(first), Some(last)) => telemetry.mean_power((first.at_ns, last.at_ns)),
        _ => BTreeMap::new(),
    }
}

/// Energy over the tracked sequences only, and the same without what the machine draws when idle.
pub(super) fn integrate(record: &mut CellRecord, tracked: &[(String, Span)], telemetry: &Telemetry) {
    let idle = record.idle_power_w.clone();
    let above = |joules: &BTreeMap<String, f64>, spans: &[Span]| -> BTreeMap<String, f64> {
        let seconds: f64 = spans.iter().map(|s| (s.1 - s.0) as f64 / 1e9).sum();
        joules.iter().filter_map(|(rail, j)| Some((rail.clone(), j - idle.get(rail)? * seconds))).collect()
    };
    // Those of an earlier worker lie outside this telemetry.
    let spans: Vec<Span> = tracked.iter().map(|s| s.1).collect();
    record.energy_j = telemetry.energy(&spans);
    record.energy_above_idle_j = above(&record.energy_j, &spans);
    for sequence in &mut record.sequences {
        let Some((_, span)) = tracked.iter().find(|(video, _)| *video == sequence.video) else { continue };
        sequence.energy_j = telemetry.energy(&[*span]);
        sequence.energy_above_idle_j = above(&sequence.energy_j, &[*span]);
    }
    if !record.energy_j.is_empty() && !record.energy_j.contains_key(WHOLE_MODULE_RAIL) {
        record.notes.push(Note::new(NoteKind::EnergyUnknown, format!(
            "no {WHOLE_MODULE_RAIL} rail on this board: energy is given per rail, and energy_per_frame_j is left out"
        )));
    }
}

/// Joules of the whole module per frame of a cell whose summary is made.
pub(crate) fn per_frame(record: &mut CellRecord) {
    let Some(figures) = &mut record.summary else { return };
    let per_frame = |joules: &BTreeMap<String, f64>| {
        joules.get(WHOLE_MODULE_RAIL).filter(|_| figures.frames > 0).map(|j| j / figures.frames as f64)
    };
    figures.energy_per_frame_j = per_frame(&record.energy_j);
    figures.energy_above_idle_per_frame_j = per_frame(&record.energy_above_idle_j);
}
