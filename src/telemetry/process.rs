//! The worker's own memory and processor time from `/proc/<pid>`. The proportional set size walks every page table, so
//! it is read once a second; the rest is cheap.

use std::path::{Path, PathBuf};

use super::memory::field_mib;
use super::{Channel, Found, Reading, Sensor, text};
use crate::run::event::ProcessMemory;

/// Reads `status` and, with `pss`, `smaps_rollup` of one process; `process` is its number or `self`.
pub fn process_memory(root: &Path, process: &str, pss: bool) -> ProcessMemory {
    let dir = root.join("proc").join(process);
    let status = std::fs::read_to_string(dir.join("status")).unwrap_or_default();
    let rollup =
        if pss { std::fs::read_to_string(dir.join("smaps_rollup")).unwrap_or_default() } else { String::new() };
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
    let pages: f64 = std::fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: no arguments beyond a constant, no memory involved.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    (page > 0).then_some(pages * page as f64 / (1024.0 * 1024.0))
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

/// A `key: value kB` file of a process.
struct Fields {
    path: PathBuf,
    fields: Vec<(&'static str, &'static str)>,
    slow: bool,
}

impl Sensor for Fields {
    fn channels(&self) -> Vec<Channel> {
        self.fields.iter().map(|(name, _)| Channel { source: "worker memory", name: (*name).to_string() }).collect()
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        let text = text(&self.path);
        out.extend(self.fields.iter().map(|(_, key)| match &text {
            Ok(text) => field_mib(text, key).ok_or_else(|| format!("{} has no {key}", self.path.display())),
            Err(reason) => Err(reason.clone()),
        }));
    }

    fn slow(&self) -> bool {
        self.slow
    }
}

/// Processor time of one process.
struct CpuTime {
    path: PathBuf,
    name: &'static str,
}

impl Sensor for CpuTime {
    fn channels(&self) -> Vec<Channel> {
        vec![Channel { source: "worker cpu", name: self.name.to_string() }]
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        let seconds = text(&self.path)
            .and_then(|t| cpu_seconds(&t).ok_or_else(|| format!("{} is not as expected", self.path.display())));
        out.push(seconds);
    }
}

/// Memory and processor time of process `pid`, and processor time of this one.
pub(super) fn find(root: &Path, pid: u32, found: &mut Found) {
    let dir = root.join("proc").join(pid.to_string());
    let status = dir.join("status");
    match text(&status) {
        Ok(_) => {
            let fields = vec![("worker_rss_mib", "VmRSS"), ("worker_hwm_mib", "VmHWM"), ("worker_swap_mib", "VmSwap")];
            found.add(Fields { path: status, fields, slow: false });
            let path = dir.join("smaps_rollup");
            match text(&path) {
                Ok(content) => {
                    let all = [
                        ("worker_pss_mib", "Pss"),
                        ("worker_pss_anon_mib", "Pss_Anon"),
                        ("worker_huge_mib", "AnonHugePages"),
                    ];
                    // Kernels before 5.13 do not split the figure.
                    let fields = all.into_iter().filter(|(_, key)| field_mib(&content, key).is_some()).collect();
                    found.add(Fields { path, fields, slow: true });
                }
                Err(reason) => found.miss("worker_pss_mib", reason),
            }
        }
        Err(reason) => found.miss("worker memory", reason),
    }
    let stat = dir.join("stat");
    match text(&stat) {
        Ok(_) => {
            found.add(CpuTime { path: stat, name: "worker_cpu_s" });
            found.add(CpuTime { path: root.join("proc/self/stat"), name: "parent_cpu_s" });
        }
        Err(reason) => found.miss("worker cpu", reason),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

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
