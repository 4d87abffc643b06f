//! How much memory did a cell take? Figures by phase, each under its own name, none added to another. What MemAvailable fell
//! by counts only where it can have been this worker's doing.

use std::collections::BTreeMap;
use std::path::Path;

use jetbench_runners::types::Device;

use crate::results::note::{Note, NoteKind};
use crate::results::record::MemoryRecord;
use crate::telemetry::key::{Channel, MemoryPhase, WorkerMemory};
use crate::telemetry::process::ProcessMemory;
use crate::telemetry::{self, SystemMemory, Telemetry};

/// Memory of a worker and of the machine around it, watched from before the worker is spawned.
#[derive(Debug, Default)]
pub(super) struct MemoryWatch {
    /// The machine's before the worker was spawned.
    baseline: SystemMemory,
    /// The model runs on a CPU: all its memory is in the resident set.
    on_cpu: bool,
    lowest_available_mib: Option<f64>,
    /// Phases whose fall of system memory is smaller than what the worker alone took: something else was freed.
    freed: Vec<MemoryPhase>,
    /// Phases whose fall is larger than the worker and we ourselves can account for: other programs took memory.
    taken: Vec<MemoryPhase>,
}

impl MemoryWatch {
    /// Begins to watch: reads what is available now.
    pub(super) fn begin(root: &Path, device: Device) -> MemoryWatch {
        let baseline = telemetry::system_memory(root);
        MemoryWatch { baseline, on_cpu: device == Device::Cpu, ..MemoryWatch::default() }
    }

    /// The worker entered a phase in which memory is a figure, and says what it holds.
    pub(super) fn phase(
        &mut self,
        phase: MemoryPhase,
        root: &Path,
        worker: &ProcessMemory,
        memory: &mut BTreeMap<MemoryPhase, MemoryRecord>,
    ) {
        let system = telemetry::system_memory(root);
        let figures = MemoryRecord {
            system_mib: self.fall(phase, system, worker.pss_anon_mib, worker.rss_mib),
            pss_mib: worker.pss_mib,
            pss_anon_mib: worker.pss_anon_mib,
            huge_mib: worker.huge_mib,
            rss_mib: worker.rss_mib,
            nvmap_mib: system.nvmap_mib,
            ..MemoryRecord::default()
        };
        memory.insert(phase, figures);
        // The kernel keeps the high-water mark; the last one that was heard holds.
        memory.entry(MemoryPhase::Peak).or_default().raise_to(&MemoryRecord {
            pss_mib: worker.pss_mib,
            pss_anon_mib: worker.pss_anon_mib,
            huge_mib: worker.huge_mib,
            rss_mib: worker.hwm_mib,
            ..MemoryRecord::default()
        });
    }

    /// Adds what the sampling thread saw to the peak figures; returns remarks on figures that had to be left empty.
    pub(super) fn peak(
        &mut self,
        telemetry: &Telemetry,
        rivals: Option<Note>,
        memory: &mut BTreeMap<MemoryPhase, MemoryRecord>,
    ) -> Vec<Note> {
        let mut notes = Vec::new();
        let worker = |figure| telemetry.largest(&Channel::Worker(figure));
        let peak = memory.entry(MemoryPhase::Peak).or_default();
        peak.raise_to(&MemoryRecord {
            system_mib: None,
            pss_mib: worker(WorkerMemory::Proportional),
            pss_anon_mib: worker(WorkerMemory::Anonymous),
            huge_mib: worker(WorkerMemory::Huge),
            rss_mib: worker(WorkerMemory::HighWater),
            nvmap_mib: telemetry.largest(&Channel::Nvmap),
            nvmap_worker_mib: worker(WorkerMemory::Nvmap),
            // 0: it never touched one.
            gpu_mib: worker(WorkerMemory::Gpu).filter(|mib| *mib > 0.0),
        });
        let lowest = self.lowest_available_mib.into_iter().chain(telemetry.smallest(&Channel::MemAvailable));
        let lowest = SystemMemory { available_mib: lowest.min_by(f64::total_cmp), ..SystemMemory::default() };
        peak.system_mib = self.fall(MemoryPhase::Peak, lowest, peak.pss_anon_mib, peak.rss_mib);
        for (phases, why) in [
            (&self.freed, "less than the worker's own anonymous memory, so other memory was freed meanwhile"),
            (&self.taken, "more than the worker's resident memory, so other programs took some meanwhile"),
        ] {
            if !phases.is_empty() {
                let phases: Vec<&str> = phases.iter().map(|p| p.as_str()).collect();
                notes.push(Note::new(
                    NoteKind::MemoryUnknown,
                    format!("system memory is left empty for {}: MemAvailable fell by {why}", phases.join(", ")),
                ));
            }
        }
        // On a GPU the worker's memory is not all in its resident set, so there is no such bound; busy neighbours are
        // reason enough to name nobody.
        if let Some(remark) = rivals.filter(|_| !self.on_cpu) {
            memory.values_mut().for_each(|m| m.system_mib = None);
            let remark = remark.text;
            notes.push(Note::new(
                NoteKind::MemoryUnknown,
                format!("system memory is left empty: {remark}, and what MemAvailable fell by may be theirs"),
            ));
        }
        let swap = telemetry.smallest(&Channel::SwapFree);
        if let Some((before, lowest)) = self.baseline.swap_free_mib.zip(swap).filter(|(before, low)| before - low > 1.0)
        {
            notes.push(Note::new(
                NoteKind::Swap,
                format!(
                    "free swap fell by {:.0} MiB while the worker ran: something on this machine was swapped out",
                    before - lowest
                ),
            ));
        }
        notes
    }

    /// How far MemAvailable has fallen since before the worker was spawned; nothing where that is less than the worker's
    /// own anonymous memory, because then something else was freed and the figure would flatter, nor, on a CPU, where it is
    /// more than the worker's resident set, because then it is other programs' memory too. Elsewhere the driver holds
    /// memory in the worker's name that is not in there.
    fn fall(
        &mut self,
        phase: MemoryPhase,
        now: SystemMemory,
        anonymous_mib: Option<f64>,
        resident_mib: Option<f64>,
    ) -> Option<f64> {
        let available = now.available_mib?;
        self.lowest_available_mib = self.lowest_available_mib.into_iter().chain([available]).min_by(f64::total_cmp);
        let fall = self.baseline.available_mib? - available;
        if !fall_is_sound(fall, anonymous_mib) {
            self.freed.push(phase);
            return None;
        }
        if resident_mib.is_some_and(|most| self.on_cpu && fall > most + SLACK_MIB.max(0.05 * most)) {
            self.taken.push(phase);
            return None;
        }
        Some(fall)
    }
}

/// The kernel keeps MemAvailable to within a few megabytes (per-core counters), and it is read a moment before or after
/// the worker's own figure.
const SLACK_MIB: f64 = 8.0;

/// Can a worker with so much anonymous memory have made MemAvailable fall by so much and no more?
fn fall_is_sound(fall_mib: f64, anonymous_mib: Option<f64>) -> bool {
    fall_mib > 0.0 && anonymous_mib.is_none_or(|own| fall_mib + SLACK_MIB.max(0.05 * own) >= own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_that_cannot_be_is_left_empty() {
        assert!(fall_is_sound(100.0, Some(95.0)) && fall_is_sound(100.0, None));
        assert!(fall_is_sound(100.0, Some(104.0)), "within the kernel's own slack");
        assert!(!fall_is_sound(60.0, Some(100.0)), "40 MiB of something else were freed");
        assert!(!fall_is_sound(0.0, None) && !fall_is_sound(-3.0, Some(1.0)));
        let memory = |mib: f64| SystemMemory { available_mib: Some(mib), ..SystemMemory::default() };
        let mut watch = MemoryWatch { baseline: memory(1000.0), on_cpu: true, ..MemoryWatch::default() };
        assert_eq!(watch.fall(MemoryPhase::Loaded, memory(900.0), Some(90.0), Some(95.0)), Some(100.0));
        assert_eq!(watch.fall(MemoryPhase::Warmed, memory(990.0), Some(90.0), Some(95.0)), None);
        assert_eq!(watch.fall(MemoryPhase::Peak, memory(880.0), Some(90.0), Some(95.0)), None);
        watch.on_cpu = false;
        assert_eq!(
            watch.fall(MemoryPhase::Last, memory(880.0), Some(90.0), Some(95.0)),
            Some(120.0),
            "no bound on a GPU"
        );
        assert_eq!(
            (watch.freed.as_slice(), watch.taken.as_slice()),
            (&[MemoryPhase::Warmed][..], &[MemoryPhase::Peak][..])
        );
        assert_eq!(watch.lowest_available_mib, Some(880.0));
    }
}
