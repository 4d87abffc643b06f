//! The worker's own memory and processor time from `/proc/<pid>`. The proportional set size walks every page table, so
//! it is read once a second; the rest is cheap.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::key::{Channel, WorkerMemory};
use super::sensor::{Found, Text, field_mib, text};
use jetbench_runners::files;

/// Memory of one process, in MiB, as the process itself or its parent reads it from procfs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessMemory {
    /// Proportional set size (`smaps_rollup`).
    pub pss_mib: Option<f64>,
    /// The part of it that no file backs (`Pss_Anon`).
    pub pss_anon_mib: Option<f64>,
    /// What lies in huge pages (`AnonHugePages`).
    pub huge_mib: Option<f64>,
    /// Resident set size (`VmRSS`).
    pub rss_mib: Option<f64>,
    /// Its largest value so far (`VmHWM`).
    pub hwm_mib: Option<f64>,
    /// Swapped out (`VmSwap`).
    pub swap_mib: Option<f64>,
}

/// Reads `status` and, with `pss`, `smaps_rollup` of one process; `process` is its number or `self`.
pub fn process_memory(root: &Path, process: &str, pss: bool) -> ProcessMemory {
    let dir = root.join("proc").join(process);
    let status = files::read_text(&dir.join("status"), files::SMALL).unwrap_or_default();
    let rollup =
        if pss { files::read_text(&dir.join("smaps_rollup"), files::SMALL).unwrap_or_default() } else { String::new() };
    ProcessMemory {
        pss_mib: field_mib(&rollup, "Pss"),
        pss_anon_mib: field_mib(&rollup, "Pss_Anon"),
        huge_mib: field_mib(&rollup, "AnonHugePages"),
        rss_mib: field_mib(&status, "VmRSS"),
        hwm_mib: field_mib(&status, "VmHWM"),
        swap_mib: field_mib(&status, "VmSwap"),
    }
}

/// Resident set size of this process now, MiB; cheap enough to be read between frames.
pub fn resident_mib() -> Option<f64> {
    field_mib(&text(Path::new("/proc/self/status")).ok()?, "VmRSS")
}

/// Clock ticks per second of the kernel's processor times.
pub(super) fn ticks_per_second() -> f64 {
    // SAFETY: no arguments beyond a constant, no memory involved.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

/// User and system time of all threads of a process, seconds, from the text of its `stat`.
pub(super) fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name stands in parentheses and may hold anything; the fields after it count from 3.
    let rest = &stat[stat.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / ticks_per_second())
}

/// Memory and processor time of process `pid`, and processor time of this one.
pub(super) fn find(root: &Path, pid: u32, found: &mut Found) {
    let dir = root.join("proc").join(pid.to_string());
    match text(&dir.join("status")) {
        Ok(_) => find_memory(&dir, found),
        Err(reason) => found.miss("worker memory", reason),
    }
    let stat = dir.join("stat");
    match text(&stat) {
        Ok(_) => {
            for (channel, path) in [(Channel::WorkerCpu, stat), (Channel::ParentCpu, root.join("proc/self/stat"))] {
                found.add(Text::new(path, false).with(channel, "processor times", cpu_seconds));
            }
        }
        Err(reason) => found.miss("worker cpu", reason),
    }
}

fn find_memory(dir: &Path, found: &mut Found) {
    let worker = Channel::Worker;
    let status = Text::new(dir.join("status"), false)
        .with_field(worker(WorkerMemory::Resident), "VmRSS")
        .with_field(worker(WorkerMemory::HighWater), "VmHWM")
        .with_field(worker(WorkerMemory::Swap), "VmSwap");
    found.add(status);
    let path = dir.join("smaps_rollup");
    let content = match text(&path) {
        Ok(content) => content,
        Err(reason) => return found.miss(worker(WorkerMemory::Proportional), reason),
    };
    let mut rollup = Text::new(path, true);
    for (figure, key) in [
        (WorkerMemory::Proportional, "Pss"),
        (WorkerMemory::Anonymous, "Pss_Anon"),
        (WorkerMemory::Huge, "AnonHugePages"),
    ] {
        // Kernels before 5.13 do not split the figure.
        if field_mib(&content, key).is_some() {
            rollup = rollup.with_field(worker(figure), key);
        }
    }
    rollup.settle(found);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::tree;

    #[test]
    fn a_process_is_read() {
        let tree = tree(&[
            ("proc/7/status", "Name:\tx\nVmHWM:\t    3072 kB\nVmRSS:\t    2048 kB\nVmSwap:\t       0 kB\n"),
            (
                "proc/7/smaps_rollup",
                "00-ff ---p 0 00:00 0 [rollup]\nRss: 2048 kB\nPss: 1024 kB\nPss_Anon: 512 kB\nAnonHugePages: 256 kB\n",
            ),
        ]);
        let memory = process_memory(tree.path(), "7", true);
        assert_eq!(
            (memory.pss_mib, memory.pss_anon_mib, memory.rss_mib, memory.hwm_mib, memory.swap_mib),
            (Some(1.0), Some(0.5), Some(2.0), Some(3.0), Some(0.0))
        );
        assert_eq!(memory.huge_mib, Some(0.25));
        assert_eq!(process_memory(tree.path(), "7", false).pss_mib, None);
        assert_eq!(process_memory(tree.path(), "8", true), ProcessMemory::default());
    }

    #[test]
    fn processor_time_survives_odd_names() {
        let stat = "7 (a) b ) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 5 6 20 0 3 0 100 1 2";
        assert_eq!(cpu_seconds(stat), Some(200.0 / ticks_per_second()));
        assert_eq!(cpu_seconds("7 (x"), None);
        assert_eq!(cpu_seconds("7 (x) S 1"), None);
    }
}
