//! Processor clocks, use of all cores, and the counters that x86 kernels keep of heat-induced clock cuts.

use std::path::{Path, PathBuf};

use super::key::Channel;
use super::process::ticks_per_second;
use super::sensor::{Found, Numbers, Text, entries, text, why_not};

/// Directories `cpu0`, `cpu1`, … in numerical order.
pub(crate) fn cores(root: &Path) -> Vec<(u32, PathBuf)> {
    let mut cores: Vec<(u32, PathBuf)> = entries(&root.join("sys/devices/system/cpu"))
        .into_iter()
        .filter_map(|p| Some((p.file_name()?.to_str()?.strip_prefix("cpu")?.parse().ok()?, p)))
        .collect();
    cores.sort();
    cores
}

/// Time of all cores together since boot, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks {
    /// Spent on work of this machine, interrupts and guests included.
    pub busy: u64,
    /// Idle, or waiting for a disk.
    pub idle: u64,
    /// Taken by a hypervisor for others.
    pub stolen: u64,
}

/// Reads `/proc/stat`.
pub fn ticks(root: &Path) -> Option<Ticks> {
    parse_ticks(&text(&root.join(STAT)).ok()?)
}

const STAT: &str = "proc/stat";

fn parse_ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
    let all: Vec<u64> = line.split_whitespace().map_while(|w| w.parse().ok()).collect();
    // Guest time, behind stolen time, is in user time already; kernels before 2.6.11 count no stolen time.
    let [user, nice, system, idle, waiting, irq, softirq, ref rest @ ..] = all[..] else { return None };
    let stolen = rest.first().copied().unwrap_or(0);
    Some(Ticks { busy: user + nice + system + irq + softirq, idle: idle + waiting, stolen })
}

fn busy_seconds(stat: &str) -> Option<f64> {
    Some(parse_ticks(stat)?.busy as f64 / ticks_per_second())
}

/// Use, clocks and throttle counters of the cores.
pub(super) fn find(root: &Path, found: &mut Found) {
    let stat = root.join(STAT);
    match text(&stat) {
        Ok(_) => found.add(Text::new(stat, false).with(Channel::CpuBusy, "processor times", busy_seconds)),
        Err(reason) => found.miss("cpu use", reason),
    }
    let cores = cores(root);
    let mut clocks = Numbers::new();
    let mut caps = Numbers::new();
    caps.slow = true;
    let mut throttled = Numbers::new();
    throttled.slow = true;
    for (n, core) in &cores {
        let clock = core.join("cpufreq/scaling_cur_freq");
        if clock.exists() {
            clocks.push(Channel::CpuClock(*n), clock, 1e-3);
            caps.push(Channel::CpuClockCap(*n), core.join("cpufreq/scaling_max_freq"), 1e-3);
        }
        let counter = core.join("thermal_throttle/core_throttle_count");
        if counter.exists() {
            throttled.push(Channel::CpuThrottleEvents(*n), counter, 1.0);
        }
    }
    let place = root.join("sys/devices/system/cpu");
    if clocks.files.is_empty() {
        found.miss(
            "cpu clocks",
            if cores.is_empty() { why_not(&place) } else { format!("no cpufreq below {}", place.display()) },
        );
    }
    if throttled.files.is_empty() {
        let reason =
            if cores.is_empty() { why_not(&place) } else { "this kernel counts none for this processor".into() };
        found.miss("cpu throttle counters", reason);
    }
    clocks.settle(found);
    caps.settle(found);
    throttled.settle(found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_leaves_idle_and_stolen_time_out() {
        let stat = "cpu  100 10 50 9999 77 5 5 1000 3 0\ncpu0 1 1 1 1\n";
        assert_eq!(busy_seconds(stat), Some(170.0 / ticks_per_second()));
        assert_eq!(busy_seconds("cpu0 1\n"), None);
        assert_eq!(busy_seconds("cpu  1 2\n"), None);
    }
}
