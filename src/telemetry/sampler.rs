//! Reads the sensors again and again: one sample at a time, or by a thread until it is stopped.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::find::find;
use super::sensor::{Found, Reading};
use super::series::{Sample, Telemetry};
use crate::exit::Error;
use crate::results::record::MissingRecord;

/// Samples per second when nothing else is asked for: ample for rails whose converters average for milliseconds, and a
/// load of less than a hundredth of a core.
pub const DEFAULT_HZ: f64 = 10.0;
/// Samples kept of one worker; a longer run is sampled more coarsely, evenly over its whole length.
const MOST_SAMPLES: usize = 1 << 16;
/// Time between two readings of a slow sensor.
const SLOW: Duration = Duration::from_secs(1);

/// A sampling rate that a sensor thread can keep, samples per second; [`DEFAULT_HZ`] when none is asked for.
///
/// # Errors
/// Not between 0.1 and 1000 per second.
pub fn rate(hz: Option<f64>) -> Result<f64, Error> {
    match hz.unwrap_or(DEFAULT_HZ) {
        hz if (0.1..=1000.0).contains(&hz) => Ok(hz),
        hz => Err(Error::Usage(format!("--sample-hz {hz}: 0.1 to 1000 samples per second are possible"))),
    }
}

/// Nanoseconds of the system's monotonic clock: the same in every process of this machine.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills in the structure it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Reads the sensors again and again, and notes which fail.
pub struct Recorder {
    found: Found,
    /// Channels per sensor.
    counts: Vec<usize>,
    slow_due: Option<Instant>,
    readings: Vec<Reading>,
    /// Per channel: readings given, readings failed, how many of these since the last good one, the first reason.
    tally: Vec<(u64, u64, u64, Option<String>)>,
    samples: Vec<Sample>,
}

impl Recorder {
    /// A recorder of these sensors.
    pub fn new(found: Found) -> Self {
        let counts: Vec<usize> = found.sensors.iter().map(|s| s.channels().len()).collect();
        let channels = counts.iter().sum();
        Recorder {
            found,
            counts,
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
        for (sensor, count) in self.found.sensors.iter_mut().zip(&self.counts) {
            if sensor.slow() && !slow {
                values.resize(values.len() + count, f64::NAN);
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
            let ended = channel.ends_with_worker() && good > 0 && since == bad;
            if let Some(reason) = reason.filter(|_| !ended) {
                let reason = format!("{bad} of {} readings failed: {reason}", good + bad);
                missing.push(MissingRecord { sensor: channel.to_string(), reason });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::key::{Channel, WorkerMemory};
    use crate::telemetry::sensor::tree;

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
        assert_eq!(telemetry.series(&Channel::Temperature("cpu-thermal".into())).len(), 1);
        let fault = telemetry.missing.iter().find(|m| m.sensor == "temp_cpu-thermal_celsius").unwrap();
        assert!(fault.reason.starts_with("1 of 2 readings failed: ") && fault.reason.ends_with("is not there"));
    }

    #[test]
    fn the_sampler_sees_this_process() {
        let sampler = Sampler::start("/".into(), Some(std::process::id()), 50.0);
        std::thread::sleep(Duration::from_millis(60));
        let telemetry = sampler.stop();
        assert!(telemetry.largest(&Channel::Worker(WorkerMemory::Resident)).unwrap() > 0.5);
        assert!(telemetry.samples.len() >= 2);
        assert!(telemetry.samples.windows(2).all(|w| w[0].at_ns <= w[1].at_ns));
    }
}
