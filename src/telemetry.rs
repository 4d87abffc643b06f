//! What the machine says about itself while a worker runs: memory by named source, power rails, over-current counters.
//! Every reader takes the root of the file tree, so that captured trees of any board test it anywhere. A source that is
//! not there gives `None`, never 0; figures of different sources are never added up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::event::ProcessMemory;

/// Time between two samples of system memory and rails: 10 Hz is ample for rails whose converters average for
/// milliseconds, and costs the measured machine less than a thousandth of a core.
const INTERVAL: Duration = Duration::from_millis(100);
/// Samples kept of one worker; a longer run is sampled more coarsely, evenly over its whole length.
const MOST_SAMPLES: usize = 1 << 16;
/// The proportional set size walks every page table of the worker, so it is read more rarely.
const PSS_EVERY: u32 = 10;

/// One line of a `key: value kB` file, in MiB.
fn field_mib(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find(|l| l.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))?;
    let kib: f64 = line[key.len() + 1..].split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// System memory, MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SystemMemory {
    /// `MemAvailable`.
    pub available_mib: Option<f64>,
    /// `SwapFree`.
    pub swap_free_mib: Option<f64>,
    /// `NvMapMemUsed`: all buffers of Tegra's memory manager, where the kernel reports it.
    pub nvmap_mib: Option<f64>,
}

/// Reads `/proc/meminfo`.
pub fn system_memory(root: &Path) -> SystemMemory {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    SystemMemory {
        available_mib: field_mib(&text, "MemAvailable"),
        swap_free_mib: field_mib(&text, "SwapFree"),
        nvmap_mib: field_mib(&text, "NvMapMemUsed"),
    }
}

/// Reads `status` and, with `pss`, `smaps_rollup` of one process; `process` is its number or `self`.
pub fn process_memory(root: &Path, process: &str, pss: bool) -> ProcessMemory {
    let dir = root.join("proc").join(process);
    let status = std::fs::read_to_string(dir.join("status")).unwrap_or_default();
    let rollup =
        if pss { std::fs::read_to_string(dir.join("smaps_rollup")).unwrap_or_default() } else { String::new() };
    ProcessMemory {
        pss_mib: field_mib(&rollup, "Pss"),
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

/// One supply rail of an INA3221 power monitor, under the name the board gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rail {
    /// Label, e.g. `VDD_IN`.
    pub name: String,
    millivolt: PathBuf,
    milliampere: PathBuf,
}

impl Rail {
    /// Power now, in watts.
    pub fn watts(&self) -> Option<f64> {
        Some(number(&self.millivolt)? * number(&self.milliampere)? / 1e6)
    }
}

fn number(path: &Path) -> Option<f64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn text(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().trim_end_matches('\0').to_string())
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths
}

/// All rails of all INA3221 monitors. Channels without a load (`NC`) and the sum of shunt voltages (7) are no rails.
pub fn rails(root: &Path) -> Vec<Rail> {
    let mut rails = Vec::new();
    for device in entries(&root.join("sys/bus/i2c/devices")) {
        if !text(&device.join("name")).is_some_and(|name| name.contains("ina3221")) {
            continue;
        }
        for monitor in entries(&device.join("hwmon")) {
            for channel in 1..=6 {
                let file = |name: String| monitor.join(name);
                let label = text(&file(format!("in{channel}_label")));
                let millivolt = file(format!("in{channel}_input"));
                let milliampere = file(format!("curr{channel}_input"));
                if let Some(name) = label.filter(|name| name != "NC" && !name.is_empty())
                    && millivolt.exists()
                    && milliampere.exists()
                {
                    rails.push(Rail { name, millivolt, milliampere });
                }
            }
        }
    }
    rails
}

/// Over-current event counters of the SoC (`oc1`: under-voltage, `oc2`: average, `oc3`: instantaneous), cumulative.
pub fn over_current(root: &Path) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for monitor in entries(&root.join("sys/class/hwmon")) {
        if text(&monitor.join("name")).as_deref() == Some("soctherm_oc") {
            for n in 1..=3 {
                if let Some(count) = number(&monitor.join(format!("oc{n}_event_cnt"))) {
                    counts.insert(format!("oc{n}"), count as u64);
                }
            }
        }
    }
    counts
}

/// The hottest thermal zone: name and degrees Celsius. Zones that are gated read as errors or far below zero.
pub fn hottest(root: &Path) -> Option<(String, f64)> {
    entries(&root.join("sys/class/thermal"))
        .into_iter()
        .filter_map(|zone| Some((text(&zone.join("type"))?, number(&zone.join("temp"))? / 1000.0)))
        .filter(|(_, celsius)| (-40.0..200.0).contains(celsius))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The Jetson power mode, e.g. `MODE_30W (2)`; `None` elsewhere. Read from files: asking `nvpmodel` needs root.
pub fn power_mode(root: &Path) -> Option<String> {
    let status = text(&root.join("var/lib/nvpmodel/status"))?;
    let digits: String = status.rsplit(':').next()?.trim().to_string();
    let id: u32 = digits.parse().ok()?;
    let names = std::fs::read_to_string(root.join("etc/nvpmodel.conf")).unwrap_or_default();
    let name = names.lines().find_map(|line| {
        let inner = line.trim().strip_prefix("< POWER_MODEL")?.trim_end_matches('>');
        let value = |key: &str| inner.split_whitespace().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
        (value("ID")?.parse() == Ok(id)).then(|| value("NAME").map(String::from))?
    });
    Some(name.map_or_else(|| id.to_string(), |name| format!("{name} ({id})")))
}

/// One sample of the sampling thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// System memory.
    pub system: SystemMemory,
    /// The worker's memory; Pss in some samples only.
    pub process: ProcessMemory,
    /// Power per rail in watts, in the order of [`rails`].
    pub watts: Vec<Option<f64>>,
    /// Hottest zone, degrees Celsius.
    pub celsius: Option<f64>,
}

/// What was sampled over a worker's life.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Rail names.
    pub rails: Vec<String>,
    /// Samples in time order.
    pub samples: Vec<Sample>,
}

impl Telemetry {
    /// Joules per rail over the given spans: trapezoids between samples, interpolated at both ends of each span. `None`
    /// for a rail that could not be read throughout.
    pub fn energy(&self, spans: &[(Instant, Instant)]) -> BTreeMap<String, f64> {
        let mut joules = BTreeMap::new();
        for (rail, name) in self.rails.iter().enumerate() {
            let points: Option<Vec<(Instant, f64)>> =
                self.samples.iter().map(|s| Some((s.at, s.watts.get(rail).copied().flatten()?))).collect();
            let total =
                points.and_then(|p| spans.iter().map(|&(from, to)| integrate(&p, from, to)).sum::<Option<f64>>());
            if let Some(total) = total.filter(|_| !spans.is_empty()) {
                joules.insert(name.clone(), total);
            }
        }
        joules
    }
}

/// Header of `telemetry.csv`: one quantity of one source at one time per row.
pub const CSV_HEADER: &str = "model,dtype,device,t_s,quantity,value\n";

impl Telemetry {
    /// Rows of `telemetry.csv` for a cell whose key is `model,dtype,device`; times count from the first sample. What could
    /// not be read has no row.
    pub fn csv(&self, key: &str) -> String {
        let mut text = String::new();
        let Some(start) = self.samples.first().map(|s| s.at) else { return text };
        for sample in &self.samples {
            let (system, process) = (&sample.system, &sample.process);
            let fixed = [
                ("mem_available_mib", system.available_mib),
                ("swap_free_mib", system.swap_free_mib),
                ("nvmap_mib", system.nvmap_mib),
                ("worker_rss_mib", process.rss_mib),
                ("worker_pss_mib", process.pss_mib),
                ("worker_swap_mib", process.swap_mib),
                ("hottest_celsius", sample.celsius),
            ];
            let rails = self.rails.iter().zip(&sample.watts).map(|(name, watts)| (format!("{name}_w"), *watts));
            let all = fixed.into_iter().map(|(name, value)| (name.to_string(), value)).chain(rails);
            let seconds = (sample.at - start).as_secs_f64();
            for (quantity, value) in all {
                if let Some(value) = value {
                    text.push_str(&format!("{key},{seconds:.3},{quantity},{value}\n"));
                }
            }
        }
        text
    }
}

/// Integral of the piecewise linear curve through `points` from `from` to `to`; `None` where it does not reach.
fn integrate(points: &[(Instant, f64)], from: Instant, to: Instant) -> Option<f64> {
    let value = |at: Instant| {
        let after = points.iter().position(|p| p.0 >= at)?;
        if points[after].0 == at {
            return Some(points[after].1);
        }
        let (a, b) = (points.get(after.checked_sub(1)?)?, &points[after]);
        let share = (at - a.0).as_secs_f64() / (b.0 - a.0).as_secs_f64();
        Some(a.1 + (b.1 - a.1) * share)
    };
    let mut curve = vec![(from, value(from)?)];
    curve.extend(points.iter().filter(|p| p.0 > from && p.0 < to));
    curve.push((to, value(to)?));
    Some(curve.windows(2).map(|w| (w[1].0 - w[0].0).as_secs_f64() * (w[0].1 + w[1].1) / 2.0).sum())
}

/// The sampling thread.
pub struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Telemetry>,
}

impl Sampler {
    /// Samples process `pid` and the system under `root` until [`Sampler::stop`].
    pub fn start(root: PathBuf, pid: u32) -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let rails = rails(&root);
            let mut samples = Vec::new();
            let sample = |pss: bool| Sample {
                at: Instant::now(),
                system: system_memory(&root),
                process: process_memory(&root, &pid.to_string(), pss),
                watts: rails.iter().map(Rail::watts).collect(),
                celsius: hottest(&root).map(|(_, celsius)| celsius),
            };
            let mut interval = INTERVAL;
            for n in 0u32.. {
                samples.push(sample(n.is_multiple_of(PSS_EVERY)));
                if samples.len() >= MOST_SAMPLES {
                    let mut n = 0;
                    samples.retain(|_| {
                        n += 1;
                        n % 2 == 1
                    });
                    interval *= 2;
                }
                if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            // One sample after the end, so that the last span is covered.
            samples.push(sample(false));
            Telemetry { rails: rails.into_iter().map(|r| r.name).collect(), samples }
        });
        Sampler { stop, thread }
    }

    /// Ends the thread and hands over what it saw.
    pub fn stop(self) -> Telemetry {
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}

/// Fixture for sensors that take a root path: a directory tree with these files.
#[cfg(test)]
pub(crate) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rails of an Orin Nano, written from the documented layout.
    fn orin_nano() -> tempfile::TempDir {
        let monitor = "sys/bus/i2c/devices/1-0040/hwmon/hwmon3";
        let mut files = vec![("sys/bus/i2c/devices/1-0040/name".to_string(), "ina3221\n")];
        for (n, label) in [(1, "VDD_IN\n"), (2, "VDD_CPU_GPU_CV\n"), (3, "NC\n")] {
            files.push((format!("{monitor}/in{n}_label"), label));
            files.push((format!("{monitor}/in{n}_input"), "5000\n"));
            files.push((format!("{monitor}/curr{n}_input"), "600\n"));
        }
        files.push((format!("{monitor}/in7_label"), "sum of shunt voltages\n"));
        files.push(("var/lib/nvpmodel/status".into(), "pmode:0002\n"));
        files.push((
            "etc/nvpmodel.conf".into(),
            "# modes\n< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n",
        ));
        files.push(("sys/class/hwmon/hwmon1/name".into(), "soctherm_oc\n"));
        files.push(("sys/class/hwmon/hwmon1/oc1_event_cnt".into(), "4\n"));
        files.push(("sys/class/thermal/thermal_zone0/type".into(), "cv0-thermal\n"));
        files.push(("sys/class/thermal/thermal_zone0/temp".into(), "-256000\n"));
        files.push(("sys/class/thermal/thermal_zone1/type".into(), "tj-thermal\n"));
        files.push(("sys/class/thermal/thermal_zone1/temp".into(), "61250\n"));
        files.push((
            "proc/meminfo".into(),
            "MemTotal: 8000000 kB\nMemAvailable:    2048 kB\nSwapFree: 1024 kB\nNvMapMemUsed: 512 kB\n",
        ));
        tree(&files.iter().map(|(p, c)| (p.as_str(), *c)).collect::<Vec<_>>())
    }

    #[test]
    fn an_orin_nano_is_read() {
        let board = orin_nano();
        let root = board.path();
        let names: Vec<_> = rails(root).iter().map(|r| (r.name.clone(), r.watts())).collect();
        assert_eq!(names, [("VDD_IN".to_string(), Some(3.0)), ("VDD_CPU_GPU_CV".to_string(), Some(3.0))]);
        assert_eq!(power_mode(root).unwrap(), "MODE_30W (2)");
        assert_eq!(over_current(root), BTreeMap::from([("oc1".to_string(), 4)]));
        assert_eq!(hottest(root), Some(("tj-thermal".to_string(), 61.25)));
        let memory = system_memory(root);
        assert_eq!((memory.available_mib, memory.swap_free_mib, memory.nvmap_mib), (Some(2.0), Some(1.0), Some(0.5)));
    }

    #[test]
    fn what_is_not_there_is_none_and_not_zero() {
        let empty = tree(&[]);
        let root = empty.path();
        assert_eq!(system_memory(root), SystemMemory::default());
        assert_eq!(process_memory(root, "1", true), ProcessMemory::default());
        assert!(rails(root).is_empty() && over_current(root).is_empty());
        assert_eq!((hottest(root), power_mode(root)), (None, None));
    }

    #[test]
    fn a_process_is_read() {
        let tree = tree(&[
            ("proc/7/status", "Name:\tx\nVmHWM:\t    3072 kB\nVmRSS:\t    2048 kB\nVmSwap:\t       0 kB\n"),
            ("proc/7/smaps_rollup", "00-ff ---p 0 00:00 0 [rollup]\nRss: 2048 kB\nPss: 1024 kB\nPss_Dirty: 9 kB\n"),
        ]);
        let memory = process_memory(tree.path(), "7", true);
        assert_eq!(
            (memory.pss_mib, memory.rss_mib, memory.hwm_mib, memory.swap_mib),
            (Some(1.0), Some(2.0), Some(3.0), Some(0.0))
        );
        assert_eq!(process_memory(tree.path(), "7", false).pss_mib, None);
    }

    #[test]
    fn energy_is_the_integral_of_power() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let sample = |ms: u64, watts: Option<f64>| Sample {
            at: at(ms),
            system: SystemMemory::default(),
            process: ProcessMemory::default(),
            watts: vec![Some(2.0 + ms as f64 / 1000.0), watts],
            celsius: None,
        };
        let telemetry = Telemetry {
            rails: vec!["VDD_IN".into(), "VDD_SOC".into()],
            samples: vec![sample(0, Some(1.0)), sample(1000, None), sample(2000, Some(1.0))],
        };
        // 2 W + t: from 0.5 s to 1.5 s that is 3 J; the other rail had a gap, so there is no figure for it.
        let joules = telemetry.energy(&[(at(500), at(1500))]);
        assert!((joules["VDD_IN"] - 3.0).abs() < 1e-9, "{joules:?}");
        assert!(!joules.contains_key("VDD_SOC"));
        assert!(telemetry.energy(&[(at(500), at(2500))]).is_empty(), "a span beyond the samples has no energy");
        assert!(telemetry.energy(&[]).is_empty());
    }

    #[test]
    fn the_sampler_sees_this_process() {
        let sampler = Sampler::start("/".into(), std::process::id());
        std::thread::sleep(Duration::from_millis(30));
        let telemetry = sampler.stop();
        assert!(telemetry.samples[0].process.rss_mib.unwrap() > 0.5);
    }
}
