//! Processor clocks, use of all cores, and the counters that x86 kernels keep of heat-induced clock cuts.

use std::path::{Path, PathBuf};

use super::process::ticks_per_second;
use super::{Channel, Files, Found, Reading, Sensor, entries, text, why_not};

/// Directories `cpu0`, `cpu1`, … in numerical order.
pub(crate) fn cores(root: &Path) -> Vec<(u32, PathBuf)> {
    let mut cores: Vec<(u32, PathBuf)> = entries(&root.join("sys/devices/system/cpu"))
        .into_iter()
        .filter_map(|p| Some((p.file_name()?.to_str()?.strip_prefix("cpu")?.parse().ok()?, p)))
        .collect();
    cores.sort();
    cores
}

/// Busy time of all cores together, seconds: `/proc/stat`, everything but idle and waiting.
struct Busy(PathBuf);

impl Sensor for Busy {
    fn channels(&self) -> Vec<Channel> {
        vec![Channel { source: "cpu use", name: "cpu_busy_s".into() }]
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        let seconds = text(&self.0)
            .and_then(|t| busy_seconds(&t).ok_or_else(|| format!("{} is not as expected", self.0.display())));
        out.push(seconds);
    }
}

fn busy_seconds(stat: &str) -> Option<f64> {
    let line = stat.lines().find(|l| l.starts_with("cpu "))?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).map(|w| w.parse().unwrap_or(0.0)).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user already, stolen time is not ours.
    let busy = [0, 1, 2, 5, 6].iter().map(|&i| ticks.get(i)).sum::<Option<f64>>()?;
    Some(busy / ticks_per_second())
}

/// Use, clocks and throttle counters of the cores.
pub(super) fn find(root: &Path, found: &mut Found) {
    let stat = root.join("proc/stat");
    match text(&stat) {
        Ok(_) => found.add(Busy(stat)),
        Err(reason) => found.miss("cpu use", reason),
    }
    let cores = cores(root);
    let mut clocks = Files::new();
    let mut caps = Files::new();
    caps.slow = true;
    let mut throttled = Files::new();
    throttled.slow = true;
    for (n, core) in &cores {
        let clock = core.join("cpufreq/scaling_cur_freq");
        if clock.exists() {
            clocks.push("cpu clocks", format!("cpu{n}_mhz"), clock, 1e-3);
            caps.push("cpu clocks", format!("cpu{n}_max_mhz"), core.join("cpufreq/scaling_max_freq"), 1e-3);
        }
        let counter = core.join("thermal_throttle/core_throttle_count");
        if counter.exists() {
            throttled.push("cpu throttle counters", format!("cpu{n}_throttle_events"), counter, 1.0);
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
