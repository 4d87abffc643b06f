//! Who else uses the processors? The programs that used most processor time between two looks at the list of all
//! processes, by sysinfo. A look costs about a millisecond per hundred processes, so it is taken before and after a cell and
//! never while frames are timed. How much others used while frames were timed is counted from `/proc/stat`; this only
//! says who it was, and misses what has ended between the looks.

use std::collections::BTreeMap;
use std::time::Instant;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// Programs that use less than this many cores are not named.
const LEAST_CORES: f64 = 0.1;
/// So many are named at most.
const MOST_NAMES: usize = 3;

/// A program beside ours, all its processes together.
#[derive(Clone, Debug, PartialEq)]
pub struct Rival {
    /// Its name, as the kernel has it: 15 bytes at most.
    pub name: String,
    /// Cores that it used on average.
    pub cores: f64,
}

/// What one process has used so far.
struct Usage {
    name: String,
    started_s: u64,
    cpu_ms: u64,
}

/// The first of two looks.
pub struct Watch {
    since: Instant,
    before: BTreeMap<u32, Usage>,
}

impl Watch {
    /// Looks for the first time.
    pub fn start() -> Watch {
        Watch { since: Instant::now(), before: look() }
    }

    /// Looks again: the busiest programs since the first look, without the processes `ours`.
    pub fn busiest(&self, ours: &[u32]) -> Vec<Rival> {
        let seconds = self.since.elapsed().as_secs_f64();
        let mut after = look();
        after.retain(|pid, _| !ours.contains(pid));
        busiest(&self.before, &after, seconds)
    }
}

/// All processes; none where they cannot be listed.
fn look() -> BTreeMap<u32, Usage> {
    let Ok(mut system) = System::new() else { return BTreeMap::new() };
    let figures = ProcessRefreshKind::nothing().with_cpu().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, figures);
    let usage = |process: &sysinfo::Process| Usage {
        name: process.name().to_string_lossy().chars().filter(|c| !c.is_control()).collect(),
        started_s: process.start_time(),
        cpu_ms: process.accumulated_cpu_time(),
    };
    system.processes().iter().map(|(pid, process)| (pid.as_u32(), usage(process))).collect()
}

fn busiest(before: &BTreeMap<u32, Usage>, after: &BTreeMap<u32, Usage>, seconds: f64) -> Vec<Rival> {
    let mut programs: BTreeMap<&str, f64> = BTreeMap::new();
    for (pid, now) in after {
        // A number may have gone to another process meanwhile; all that a new one used counts.
        let earlier = before.get(pid).filter(|b| b.started_s == now.started_s).map_or(0, |b| b.cpu_ms);
        *programs.entry(&now.name).or_default() += now.cpu_ms.saturating_sub(earlier) as f64 / 1000.0;
    }
    let mut rivals: Vec<Rival> = programs
        .into_iter()
        .map(|(name, used)| Rival { name: name.to_string(), cores: used / seconds.max(1e-9) })
        .filter(|rival| rival.cores >= LEAST_CORES)
        .collect();
    rivals.sort_by(|a, b| b.cores.total_cmp(&a.cores));
    rivals.truncate(MOST_NAMES);
    rivals
}

/// `cargo 1.9, firefox 0.3`; `None` where nobody is named.
pub fn names(rivals: &[Rival]) -> Option<String> {
    let list: Vec<String> = rivals.iter().map(|r| format!("{} {:.1}", r.name, r.cores)).collect();
    (!list.is_empty()).then(|| list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(processes: &[(u32, &str, u64, u64)]) -> BTreeMap<u32, Usage> {
        let usage = |name: &str, started_s, cpu_ms| Usage { name: name.into(), started_s, cpu_ms };
        processes.iter().map(|(pid, name, started_s, cpu_ms)| (*pid, usage(name, *started_s, *cpu_ms))).collect()
    }

    #[test]
    fn the_busiest_programs_are_named_and_housekeeping_is_not() {
        let before = list(&[(1, "init", 0, 900), (7, "cargo", 5, 4000), (9, "old", 5, 8000)]);
        let after = list(&[(1, "init", 0, 950), (7, "cargo", 5, 9000), (8, "cargo", 90, 4000), (9, "new", 95, 3000)]);
        let found = busiest(&before, &after, 10.0);
        // cargo: 5 s and 4 s; the process number of `old` has gone to `new`, of which all counts.
        assert_eq!(names(&found).unwrap(), "cargo 0.9, new 0.3");
        assert_eq!(names(&busiest(&after, &after, 10.0)), None);
    }

    #[test]
    fn a_busy_process_is_found_on_this_machine_unless_it_is_ours() {
        let me = std::process::id();
        let watch = Watch::start();
        let busy = |list: &BTreeMap<u32, Usage>| list[&me].cpu_ms >= watch.before[&me].cpu_ms + 100;
        let mut after = look();
        // Until the kernel has counted a tenth of a second for us, however busy the machine is.
        while !busy(&after) {
            let started = Instant::now();
            while started.elapsed().as_millis() < 50 {}
            after = look();
        }
        after.retain(|pid, _| *pid == me);
        let found = busiest(&watch.before, &after, 0.1);
        assert!(found.len() == 1 && found[0].cores >= 1.0, "{found:?}");
        let name = &after[&me].name;
        assert!(!watch.busiest(&[me]).iter().any(|r| r.name == *name), "our own process is no rival");
    }
}
