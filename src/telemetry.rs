//! What the machine says about itself while a worker runs. One sensor per source, each in its own file, each given the
//! root of the file tree, so that a captured tree of any board tests it anywhere. A source that is not there, or dies on
//! the way, is named with its reason; it never reads as 0 and never as "all is well". Figures of different sources are
//! never added up.

pub mod cpu;
pub mod fan;
pub mod gpu;
pub mod memory;
pub mod mode;
pub mod nvml;
pub mod power;
pub mod process;
pub mod tegrastats;
pub mod thermal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use memory::{SystemMemory, system_memory};
pub use mode::power_mode;
pub use process::{process_memory, resident_mib};

use crate::results::record::{MissingRecord, SensorsRecord};

/// Samples per second when nothing else is asked for: ample for rails whose converters average for milliseconds, and a
/// load of less than a hundredth of a core.
pub const DEFAULT_HZ: f64 = 10.0;
/// Samples kept of one worker; a longer run is sampled more coarsely, evenly over its whole length.
const MOST_SAMPLES: usize = 1 << 16;
/// Time between two readings of a slow sensor.
const SLOW: Duration = Duration::from_secs(1);

/// A reading, or why there is none.
pub type Reading = Result<f64, String>;

/// One quantity of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Where it comes from: `rails`, `thermal`, `nvml`, …
    pub source: &'static str,
    /// Its name with its unit at the end: `VDD_IN_w`, `gpu_mhz`.
    pub name: String,
}

/// Something that can be read again and again.
pub trait Sensor: Send {
    /// What it gives, in the order of [`Sensor::read`].
    fn channels(&self) -> Vec<Channel>;
    /// Appends one reading per channel.
    fn read(&mut self, out: &mut Vec<Reading>);
    /// Is it dear to read? Then it is read once a second.
    fn slow(&self) -> bool {
        false
    }
}

/// The sensors of a machine, and what it does not have.
#[derive(Default)]
pub struct Found {
    /// Sensors that gave a reading, or at least are there.
    pub sensors: Vec<Box<dyn Sensor>>,
    /// Sources that cannot be read, each with the reason.
    pub missing: Vec<MissingRecord>,
}

impl Found {
    fn add(&mut self, sensor: impl Sensor + 'static) {
        self.sensors.push(Box::new(sensor));
    }

    fn miss(&mut self, sensor: &str, reason: impl Into<String>) {
        self.missing.push(MissingRecord { sensor: sensor.to_string(), reason: reason.into() });
    }

    /// All channels, in reading order.
    pub fn channels(&self) -> Vec<Channel> {
        self.sensors.iter().flat_map(|s| s.channels()).collect()
    }
}

/// Finds every sensor below `root`, and those of process `pid` where one is given.
pub fn find(root: &Path, pid: Option<u32>) -> Found {
    let mut found = Found::default();
    memory::find(root, &mut found);
    if let Some(pid) = pid {
        process::find(root, pid, &mut found);
    }
    memory::find_nvmap(root, pid, &mut found);
    cpu::find(root, &mut found);
    gpu::find(root, &mut found);
    gpu::find_emc(root, &mut found);
    power::find(root, &mut found);
    thermal::find(root, &mut found);
    thermal::find_over_current(root, &mut found);
    fan::find(root, &mut found);
    mode::find(root, &mut found);
    nvml::find(root, &mut found);
    found
}

/// Nanoseconds of the system's monotonic clock: the same in every process of this machine.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills in the structure it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Text of a file without its last NULs and line breaks, or why not.
fn text(path: &Path) -> Result<String, String> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_string())
        }
        Err(e) => Err(why(path, &e)),
    }
}

/// An input error in words that say what to do.
fn why(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound if path.to_string_lossy().contains("sys/kernel/debug") => {
            format!("{} is not there; debugfs is for root", path.display())
        }
        std::io::ErrorKind::NotFound => format!("{} is not there", path.display()),
        std::io::ErrorKind::PermissionDenied => format!("{} may only be read by root", path.display()),
        _ => format!("{}: {error}", path.display()),
    }
}

/// A file that holds one number.
fn number(path: &Path) -> Reading {
    let text = text(path)?;
    let word = text.split_whitespace().next().unwrap_or_default();
    match word.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("{}: {:?} is not a number", path.display(), text.chars().take(40).collect::<String>())),
    }
}

/// What lies in a directory, by name; nothing where there is none.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths
}

/// Why a directory that should hold something is of no use.
fn why_not(dir: &Path) -> String {
    match std::fs::read_dir(dir) {
        Ok(_) => format!("{} has none", dir.display()),
        Err(e) => why(dir, &e),
    }
}

/// Is this a board with a Tegra chip?
pub fn is_tegra(root: &Path) -> bool {
    ["proc/device-tree/compatible", "sys/firmware/devicetree/base/compatible"]
        .iter()
        .any(|file| std::fs::read(root.join(file)).is_ok_and(|b| String::from_utf8_lossy(&b).contains("nvidia,tegra")))
}

/// Files with one number each, scaled to the channel's unit.
struct Files {
    files: Vec<(Channel, PathBuf, f64)>,
    /// Readings outside are errors: sensors that are switched off often give absurd values.
    range: std::ops::Range<f64>,
    slow: bool,
}

impl Files {
    fn new() -> Self {
        Files { files: Vec::new(), range: f64::MIN..f64::MAX, slow: false }
    }

    fn push(&mut self, source: &'static str, name: impl Into<String>, path: PathBuf, scale: f64) {
        self.files.push((Channel { source, name: name.into() }, path, scale));
    }

    /// Adds itself to what was found, without the files that cannot be read now; those are missing.
    fn settle(mut self, found: &mut Found) {
        let files = std::mem::take(&mut self.files);
        for (channel, path, scale) in files {
            match self.range_check(number(&path).map(|v| v * scale), &path) {
                Ok(_) => self.files.push((channel, path, scale)),
                Err(reason) => found.miss(&channel.name, reason),
            }
        }
        if !self.files.is_empty() {
            found.add(self);
        }
    }

    fn range_check(&self, reading: Reading, path: &Path) -> Reading {
        match reading? {
            value if self.range.contains(&value) => Ok(value),
            value => {
                Err(format!("{}: {value} is outside what this sensor can measure; it is switched off", path.display()))
            }
        }
    }
}

impl Sensor for Files {
    fn channels(&self) -> Vec<Channel> {
        self.files.iter().map(|f| f.0.clone()).collect()
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        for (_, path, scale) in &self.files {
            out.push(self.range_check(number(path).map(|v| v * scale), path));
        }
    }

    fn slow(&self) -> bool {
        self.slow
    }
}

/// One sample: the time and a value per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it was begun, by [`now_ns`].
    pub at_ns: u64,
    /// Values in channel order; not a number where a channel gave none, or was not due.
    pub values: Vec<f64>,
}

/// What was sampled over a worker's life.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// The channels.
    pub channels: Vec<Channel>,
    /// Samples in time order.
    pub samples: Vec<Sample>,
    /// What cannot be read here, and what stopped giving readings.
    pub missing: Vec<MissingRecord>,
}

/// A span of time, by [`now_ns`].
pub type Span = (u64, u64);

impl Telemetry {
    /// Readings of the channel with this name: time and value.
    pub fn series(&self, name: &str) -> Vec<(u64, f64)> {
        let Some(i) = self.channels.iter().position(|c| c.name == name) else { return Vec::new() };
        self.samples.iter().filter_map(|s| Some((s.at_ns, *s.values.get(i)?))).filter(|p| !p.1.is_nan()).collect()
    }

    /// Largest reading of a channel.
    pub fn largest(&self, name: &str) -> Option<f64> {
        self.series(name).into_iter().map(|p| p.1).max_by(f64::total_cmp)
    }

    /// Smallest reading of a channel.
    pub fn smallest(&self, name: &str) -> Option<f64> {
        self.series(name).into_iter().map(|p| p.1).min_by(f64::total_cmp)
    }

    /// Names of the channels of a source.
    pub fn names(&self, source: &str) -> Vec<&str> {
        self.channels.iter().filter(|c| c.source == source).map(|c| c.name.as_str()).collect()
    }

    /// Rise of a counter from the first to the last reading.
    pub fn rise(&self, name: &str) -> Option<f64> {
        let series = self.series(name);
        Some(series.last()?.1 - series.first()?.1)
    }

    /// Power channels: rails of the board and boards of discrete GPUs, without the unit in the name.
    pub fn rails(&self) -> Vec<&str> {
        self.channels.iter().filter_map(|c| c.name.strip_suffix("_w")).collect()
    }

    /// Joules per rail over the given spans: trapezoids between samples, interpolated at both ends of each span. A rail
    /// that does not cover all spans has no figure.
    pub fn energy(&self, spans: &[Span]) -> BTreeMap<String, f64> {
        let mut joules = BTreeMap::new();
        for rail in self.rails() {
            let points = self.series(&format!("{rail}_w"));
            let gap = self.longest_gap(&points);
            let total: Option<f64> = spans.iter().map(|&(from, to)| integrate(&points, from, to, gap)).sum();
            if let Some(total) = total.filter(|_| !spans.is_empty()) {
                joules.insert(rail.to_string(), total);
            }
        }
        joules
    }

    /// Mean power per rail over a span, watts.
    pub fn mean_power(&self, span: Span) -> BTreeMap<String, f64> {
        let seconds = span.1.saturating_sub(span.0) as f64 / 1e9;
        let energy = if seconds > 0.0 { self.energy(&[span]) } else { BTreeMap::new() };
        energy.into_iter().map(|(rail, joules)| (rail, joules / seconds)).collect()
    }

    /// Longest time between two readings over which a curve is still drawn: four usual steps, at least one second.
    fn longest_gap(&self, points: &[(u64, f64)]) -> u64 {
        let mut steps: Vec<u64> = points.windows(2).map(|w| w[1].0 - w[0].0).collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).map_or(0, |step| 4 * step).max(1_000_000_000)
    }

    /// Which sensors were read, and which were not and why.
    pub fn sensors(&self) -> SensorsRecord {
        let read = self.channels.iter().map(|c| c.name.clone()).collect();
        SensorsRecord { read, missing: self.missing.clone(), unjudged: Vec::new() }
    }

    /// Rows of `telemetry.csv` for a repeat of a cell whose key is `model,dtype,device`; times count from the first sample.
    /// What could not be read has no row.
    pub fn csv(&self, key: &str, repeat: usize) -> String {
        let mut text = String::new();
        let Some(start) = self.samples.first().map(|s| s.at_ns) else { return text };
        for sample in &self.samples {
            let seconds = (sample.at_ns - start) as f64 / 1e9;
            for (channel, value) in self.channels.iter().zip(&sample.values).filter(|(_, v)| !v.is_nan()) {
                text.push_str(&format!("{key},{seconds:.3},{},{value},{repeat}\n", channel.name));
            }
        }
        text
    }
}

/// Header of `telemetry.csv`: one quantity of one source at one time per row.
pub const CSV_HEADER: &str = "model,dtype,device,t_s,quantity,value,repeat\n";

/// Integral of the piecewise linear curve through `points` from `from` to `to`, in value seconds; `None` where the curve
/// does not reach, or has a hole longer than `gap`.
fn integrate(points: &[(u64, f64)], from: u64, to: u64, gap: u64) -> Option<f64> {
    let value = |at: u64| {
        let after = points.partition_point(|p| p.0 < at);
        let b = points.get(after)?;
        if b.0 == at {
            return Some(b.1);
        }
        let a = points.get(after.checked_sub(1)?)?;
        let share = (at - a.0) as f64 / (b.0 - a.0) as f64;
        Some(a.1 + (b.1 - a.1) * share)
    };
    let first = points.partition_point(|p| p.0 <= from).saturating_sub(1);
    let last = points.partition_point(|p| p.0 < to);
    if points.get(first..=last)?.windows(2).any(|w| w[1].0 - w[0].0 > gap) {
        return None;
    }
    let mut curve = vec![(from, value(from)?)];
    curve.extend(points.iter().filter(|p| p.0 > from && p.0 < to));
    curve.push((to, value(to)?));
    Some(curve.windows(2).map(|w| (w[1].0 - w[0].0) as f64 / 1e9 * (w[0].1 + w[1].1) / 2.0).sum())
}

/// Reads the sensors again and again, and notes which fail.
pub struct Recorder {
    found: Found,
    slow_due: Option<Instant>,
    readings: Vec<Reading>,
    /// Per channel: readings given, readings failed, how many of these since the last good one, the first reason.
    tally: Vec<(u64, u64, u64, Option<String>)>,
    samples: Vec<Sample>,
}

impl Recorder {
    /// A recorder of these sensors.
    pub fn new(found: Found) -> Self {
        let channels = found.channels().len();
        Recorder {
            found,
            slow_due: None,
            readings: Vec::with_capacity(channels),
            tally: vec![(0, 0, 0, None); channels],
            samples: Vec::new(),
        }
    }

    /// Takes one sample. Sensors that are dear to read take part once a second; `all` makes them take part now.
    pub fn sample(&mut self, all: bool) -> &Sample {
        let now = Instant::now();
        let slow = all || self.slow_due.is_none_or(|due| now >= due);
        if slow {
            self.slow_due = Some(now + SLOW);
        }
        let at_ns = now_ns();
        let mut values = Vec::with_capacity(self.tally.len());
        for sensor in &mut self.found.sensors {
            if sensor.slow() && !slow {
                values.resize(values.len() + sensor.channels().len(), f64::NAN);
                continue;
            }
            self.readings.clear();
            sensor.read(&mut self.readings);
            for reading in self.readings.drain(..) {
                let tally = &mut self.tally[values.len()];
                match reading {
                    Ok(value) => {
                        tally.0 += 1;
                        tally.2 = 0;
                        values.push(value);
                    }
                    Err(reason) => {
                        tally.1 += 1;
                        tally.2 += 1;
                        tally.3.get_or_insert(reason);
                        values.push(f64::NAN);
                    }
                }
            }
        }
        self.samples.push(Sample { at_ns, values });
        &self.samples[self.samples.len() - 1]
    }

    /// Drops the samples taken so far, for endless recording.
    pub fn forget(&mut self) {
        self.samples.clear();
    }

    /// Hands over what was seen. Channels that failed are named.
    pub fn finish(self) -> Telemetry {
        let channels = self.found.channels();
        let mut missing = self.found.missing;
        for (channel, (good, bad, since, reason)) in channels.iter().zip(self.tally) {
            // A process that has ended can no longer be read; that is no fault of the sensor.
            let ended = channel.source.starts_with("worker") && good > 0 && since == bad;
            if let Some(reason) = reason.filter(|_| !ended) {
                let reason = format!("{bad} of {} readings failed: {reason}", good + bad);
                missing.push(MissingRecord { sensor: channel.name.clone(), reason });
            }
        }
        Telemetry { channels, samples: self.samples, missing }
    }
}

/// The sampling thread.
pub struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Telemetry>,
}

impl Sampler {
    /// Samples process `pid` and the system under `root`, `hz` times a second, until [`Sampler::stop`].
    pub fn start(root: PathBuf, pid: Option<u32>, hz: f64) -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut recorder = Recorder::new(find(&root, pid));
            let mut interval = Duration::from_secs_f64(1.0 / hz);
            let mut due = Instant::now();
            loop {
                recorder.sample(false);
                if recorder.samples.len() >= MOST_SAMPLES {
                    let mut n = 0;
                    recorder.samples.retain(|_| {
                        n += 1;
                        n % 2 == 1
                    });
                    interval *= 2;
                }
                due = (due + interval).max(Instant::now());
                match stopped.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => break,
                }
            }
            // One sample after the end, so that the last span is covered.
            recorder.sample(true);
            recorder.finish()
        });
        Sampler { stop, thread }
    }

    /// Ends the thread and hands over what it saw.
    pub fn stop(self) -> Telemetry {
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_else(|_| Telemetry {
            missing: vec![MissingRecord { sensor: "all".into(), reason: "the sampling thread ended early".into() }],
            ..Telemetry::default()
        })
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

    /// One channel with these readings, a second apart.
    pub(crate) fn recorded(name: &str, values: &[f64]) -> Telemetry {
        let at = |i: usize| i as u64 * 1_000_000_000;
        Telemetry {
            channels: vec![Channel { source: "test", name: name.into() }],
            samples: values.iter().enumerate().map(|(i, v)| Sample { at_ns: at(i), values: vec![*v] }).collect(),
            missing: Vec::new(),
        }
    }

    #[test]
    fn energy_is_the_integral_of_power() {
        let telemetry = recorded("VDD_IN_w", &[2.0, 3.0, 4.0, f64::NAN, 6.0]);
        // 2 W + t: from 0.5 s to 1.5 s that is 3 J.
        let joules = telemetry.energy(&[(500_000_000, 1_500_000_000)]);
        assert!((joules["VDD_IN"] - 3.0).abs() < 1e-9, "{joules:?}");
        // A reading that is missing is bridged, as long as the hole is short.
        let joules = telemetry.energy(&[(2_000_000_000, 4_000_000_000)]);
        assert!((joules["VDD_IN"] - 10.0).abs() < 1e-9, "{joules:?}");
        assert!(telemetry.energy(&[(500_000_000, 4_500_000_000)]).is_empty(), "a span beyond the samples");
        assert!(telemetry.energy(&[]).is_empty());
        let mean = telemetry.mean_power((0, 2_000_000_000));
        assert!((mean["VDD_IN"] - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_long_hole_has_no_energy() {
        let mut values = vec![1.0; 4];
        values.extend([f64::NAN; 6]);
        values.extend([1.0; 4]);
        let telemetry = recorded("VDD_IN_w", &values);
        assert!(telemetry.energy(&[(1_000_000_000, 12_000_000_000)]).is_empty());
        assert!(!telemetry.energy(&[(0, 3_000_000_000)]).is_empty(), "before the hole all is well");
    }

    #[test]
    fn a_sensor_that_dies_is_named() {
        let board = tree(&[
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "40000\n"),
        ]);
        let mut recorder = Recorder::new(find(board.path(), None));
        recorder.sample(true);
        std::fs::remove_file(board.path().join("sys/class/thermal/thermal_zone0/temp")).unwrap();
        recorder.sample(true);
        let telemetry = recorder.finish();
        assert_eq!(telemetry.series("temp_cpu-thermal_celsius").len(), 1);
        let fault = telemetry.missing.iter().find(|m| m.sensor == "temp_cpu-thermal_celsius").unwrap();
        assert!(fault.reason.starts_with("1 of 2 readings failed: ") && fault.reason.ends_with("is not there"));
    }

    #[test]
    fn an_empty_tree_has_no_sensors_and_a_reason_for_each() {
        let empty = tree(&[]);
        let found = find(empty.path(), Some(1));
        assert!(found.channels().is_empty(), "{:?}", found.channels());
        let named: Vec<&str> = found.missing.iter().map(|m| m.sensor.as_str()).collect();
        let expected = [
            "memory",
            "worker memory",
            "worker cpu",
            "nvmap",
            "cpu use",
            "cpu clocks",
            "cpu throttle counters",
            "gpu",
            "emc",
            "rails",
            "thermal",
            "throttle alerts",
            "over-current",
            "fan",
            "power mode",
            "nvml",
        ];
        assert_eq!(named, expected);
        assert!(found.missing.iter().all(|m| !m.reason.is_empty()));
    }

    #[test]
    fn the_sampler_sees_this_process() {
        let sampler = Sampler::start("/".into(), Some(std::process::id()), 50.0);
        std::thread::sleep(Duration::from_millis(60));
        let telemetry = sampler.stop();
        assert!(telemetry.largest("worker_rss_mib").unwrap() > 0.5);
        assert!(telemetry.samples.len() >= 2);
        assert!(telemetry.samples.windows(2).all(|w| w[0].at_ns <= w[1].at_ns));
    }
}
