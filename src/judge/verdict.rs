//! May the figures of a cell be used? The rules, each with a sentence that says what was seen. A cell that breaks one is
//! `Invalid`: its figures stay in the record, marked as unfit. What cannot be sensed here is not judged, and the record
//! says so: a sensor that is missing never counts as "all is well".

use std::collections::BTreeMap;

use jetbench_runners::types::Effective;

use crate::judge::course::{self, Steadiness};
use crate::judge::{leak, limits, unprompted};
use crate::plan::policy::Policy;
use crate::results::note::{Note, NoteKind, Reason, ReasonKind};
use crate::results::record::{CellRecord, SensorsRecord, Verdict};
use crate::telemetry::key::{Channel, NvidiaQuantity, WorkerMemory};
use crate::telemetry::rivals::{self, Rival};
use crate::telemetry::{Span, Telemetry, nvml};

/// What the machine said while the worker ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Largest `VmSwap` of the worker, MiB.
    pub worker_swap_mib: Option<f64>,
    /// Power mode before and after, where there is one.
    pub power_mode: Option<(String, String)>,
    /// Did the mode's number change between two samples?
    pub mode_flickered: bool,
    /// Rise of the over-current counters.
    pub over_current: BTreeMap<String, u64>,
    /// Rise of the processor's own counters of heat-induced clock cuts, all cores.
    pub cpu_throttle_events: u64,
    /// Throttle alerts of the kernel that were raised while frames were timed.
    pub alerts: Vec<String>,
    /// Reasons by which the NVIDIA driver cut clocks while frames were timed, as its own bits, by GPU.
    pub driver_bits: BTreeMap<String, u64>,
    /// Clocks that fell below their bound under full load while frames were timed, in words.
    pub clock_drops: Vec<String>,
    /// Periods in which a cgroup's processor quota stopped the worker while frames were timed, and for how many seconds.
    pub quota: Option<(u64, f64)>,
    /// Processor cores that other processes used on average while frames were timed.
    pub rival_cores: Option<f64>,
    /// The busiest of them over the worker's whole life.
    pub rivals: Vec<Rival>,
}

/// A GPU is fully loaded from here on, percent.
const FULL_LOAD: f64 = 95.0;
/// A clock below this share of its bound under full load is cut.
const CUT: f64 = 0.9;
/// So many samples in a row, because governors need a moment to follow the load.
const IN_A_ROW: usize = 3;

impl Conditions {
    /// Reads them out of the telemetry; `spans` are the times in which frames were timed. An idle clock is no cut clock:
    /// only samples inside the spans and under full load count.
    pub fn seen(telemetry: &Telemetry, spans: &[Span]) -> Conditions {
        let inside = |series: Vec<(u64, f64)>| -> Vec<f64> {
            series.into_iter().filter(|(at, _)| spans.iter().any(|s| (s.0..=s.1).contains(at))).map(|p| p.1).collect()
        };
        let swap = telemetry.largest(&Channel::Worker(WorkerMemory::Swap));
        let mut seen = Conditions { worker_swap_mib: swap, ..Conditions::default() };
        for channel in &telemetry.channels {
            let rise = || telemetry.rise(channel).map_or(0, |n| n.max(0.0) as u64);
            let timed = || inside(telemetry.series(channel));
            match channel {
                Channel::PowerMode => {
                    seen.mode_flickered = telemetry.series(channel).windows(2).any(|w| w[0].1 != w[1].1);
                }
                Channel::OverCurrent(n) => {
                    seen.over_current.insert(format!("oc{n}"), rise());
                }
                Channel::CpuThrottleEvents(_) => seen.cpu_throttle_events += rise(),
                Channel::ThrottleAlert(name) if timed().iter().any(|state| *state > 0.0) => {
                    seen.alerts.push(name.clone());
                }
                Channel::Nvidia(gpu, NvidiaQuantity::ThrottleReasons) => {
                    let bits = timed().iter().fold(0, |all, bits| all | *bits as u64) & nvml::THROTTLE_BITS;
                    if bits != 0 {
                        seen.driver_bits.insert(format!("nvidia{gpu}"), bits);
                    }
                }
                _ => {}
            }
        }
        seen.clock_drops = clock_drops(telemetry, spans);
        seen.rival_cores = rival_cores(telemetry, spans);
        seen.quota = quota(telemetry, spans);
        seen
    }
}

/// GPUs whose clock stayed below its bound for some samples in a row although the GPU was busy.
fn clock_drops(telemetry: &Telemetry, spans: &[Span]) -> Vec<String> {
    let mut drops = Vec::new();
    for load in &telemetry.channels {
        let Channel::GpuLoad(gpu) = *load else { continue };
        let loads = telemetry.series(load);
        let clocks: BTreeMap<u64, f64> = telemetry.series(&Channel::GpuClock(gpu)).into_iter().collect();
        // The bound is read more rarely; the latest one that was known holds.
        let bounds: BTreeMap<u64, f64> = telemetry.series(&Channel::GpuClockCap(gpu)).into_iter().collect();
        let (mut run, mut worst) = (0, None::<(f64, f64)>);
        for (at, load) in loads {
            let cut = spans.iter().any(|s| (s.0..=s.1).contains(&at)) && load >= FULL_LOAD;
            let pair = clocks.get(&at).copied().zip(bounds.range(..=at).next_back().map(|b| *b.1));
            match pair.filter(|(clock, bound)| cut && *clock < CUT * bound) {
                Some((clock, bound)) => {
                    run += 1;
                    if run >= IN_A_ROW && worst.is_none_or(|w| clock < w.0) {
                        worst = Some((clock, bound));
                    }
                }
                None => run = 0,
            }
        }
        if let Some((clock, bound)) = worst {
            let name = if gpu == 0 { "gpu".to_string() } else { format!("gpu{gpu}") };
            drops.push(format!("{name} ran at {clock:.0} MHz of {bound:.0} MHz under full load"));
        }
    }
    drops
}

/// What the counters of the cgroups rose by from the first to the last frame.
fn quota(telemetry: &Telemetry, spans: &[Span]) -> Option<(u64, f64)> {
    let (from, to) = (spans.iter().map(|s| s.0).min()?, spans.iter().map(|s| s.1).max()?);
    let rise = |channel: Channel| {
        let series = telemetry.series(&channel);
        let mut inside = series.iter().filter(|(at, _)| (from..=to).contains(at)).map(|p| p.1);
        let first = inside.next()?;
        Some(inside.next_back()? - first)
    };
    rise(Channel::QuotaPeriods).map(|n| n as u64).zip(rise(Channel::QuotaTime)).filter(|(periods, _)| *periods > 0)
}

/// Cores that others used: all busy time less the worker's and our own.
fn rival_cores(telemetry: &Telemetry, spans: &[Span]) -> Option<f64> {
    let at = |series: &[(u64, f64)], when: u64, after: bool| -> Option<(u64, f64)> {
        let i = series.partition_point(|p| p.0 < when);
        // Only whole steps between samples inside the span: outside it the worker loads and we score.
        if after { series.get(i).copied() } else { series.get(i.checked_sub(1)?).copied() }
    };
    let [busy, worker, parent] =
        [Channel::CpuBusy, Channel::WorkerCpu, Channel::ParentCpu].map(|channel| telemetry.series(&channel));
    let (mut seconds, mut rivals) = (0.0, 0.0);
    for &(from, to) in spans {
        let used = |s: &[(u64, f64)]| {
            let (a, b) = (at(s, from, true)?, at(s, to, false)?);
            (b.0 > a.0).then(|| (b.1 - a.1, (b.0 - a.0) as f64 / 1e9))
        };
        let Some((all, time)) = used(&busy) else { continue };
        rivals += all - used(&worker)?.0 - used(&parent).map_or(0.0, |p| p.0);
        seconds += time;
    }
    // The kernel counts in hundredths of a second: half a second is the least to say anything about.
    (seconds >= 0.5).then(|| (rivals / seconds).max(0.0))
}

/// What could not be judged, because the sensors for it are not there or gave nothing. `tegra`: boards that have a power
/// mode and an over-current unit.
pub fn unjudged(sensors: &SensorsRecord, tegra: bool) -> Vec<String> {
    let read = |wanted: &Channel| sensors.read.contains(wanted);
    let throttling = |channel: &Channel| {
        matches!(
            channel,
            Channel::OverCurrent(1)
                | Channel::ThrottleAlert(_)
                | Channel::CpuThrottleEvents(_)
                | Channel::Nvidia(_, NvidiaQuantity::ThrottleReasons)
        )
    };
    let mut list = Vec::new();
    if !sensors.read.iter().any(throttling) {
        list.push("throttling: no throttle counter, alert or over-current unit can be read".to_string());
    } else if tegra && !read(&Channel::OverCurrent(1)) {
        list.push("under-voltage and over-current: no counters can be read".to_string());
    }
    if tegra && !read(&Channel::PowerMode) {
        list.push("a change of the power mode: it cannot be read".to_string());
    }
    if !read(&Channel::Worker(WorkerMemory::Swap)) {
        list.push("swapping of the worker: its memory cannot be read".to_string());
    }
    if !read(&Channel::CpuBusy) || !read(&Channel::WorkerCpu) {
        list.push("rival processes: processor times cannot be read".to_string());
    }
    list
}

/// What the rules need beside the record.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Fewer timed frames make a cell invalid.
    pub min_frames: usize,
    /// Less time spent in frames makes a cell invalid, seconds.
    pub min_seconds: f64,
    /// What another precision than the requested one does.
    pub precision: Policy,
    /// What other processes that use the processor do.
    pub rivals: Policy,
}

/// Verdict on a cell whose worker went through.
pub fn judge(cell: &CellRecord, conditions: &Conditions, non_finite: &[String], rules: Rules) -> Verdict {
    let mut reasons = Vec::new();
    if let Some(warmup) = &cell.warmup {
        reasons.extend(warmup.faults.iter().map(|fault| Reason::new(ReasonKind::WarmUp, format!("warm-up: {fault}"))));
    }
    if let Some(first) = non_finite.first() {
        let more = non_finite.len() - 1;
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        reasons.push(Reason::new(ReasonKind::NonFinite, format!("non-finite output: {first}{rest}")));
    }
    let fallback = |f| Reason::new(ReasonKind::Fallback, format!("provider fallback: {f}"));
    reasons.extend(cell.fallbacks.iter().map(fallback));
    if rules.precision == Policy::Strict {
        for stage in cell.precision.iter().filter(|s| s.kind != Effective::Native) {
            let text = format!(
                "precision: {} was asked to compute in {} and computed in {}",
                stage.graph, stage.requested, stage.effective
            );
            reasons.push(Reason::new(ReasonKind::Precision, text));
        }
    }
    let frames: usize = cell.sequences.iter().map(|s| s.frames.len()).sum();
    let seconds = cell.sequences.iter().flat_map(|s| &s.frames).map(|f| f.latency_ms).sum::<f64>() / 1000.0;
    let stopped_in_warm_up = frames == 0 && !reasons.is_empty();
    if frames < rules.min_frames && !stopped_in_warm_up {
        reasons.push(too_few_frames(frames, rules.min_frames));
    }
    if seconds < rules.min_seconds && !stopped_in_warm_up {
        let needed = rules.min_seconds;
        let text = format!("too short: {seconds:.1} s were spent in frames, {needed} s are needed (--min-seconds)");
        reasons.push(Reason::new(ReasonKind::TooShort, text));
    }
    if course::steadiness(cell) == Steadiness::Never {
        let levels = course::level_words(&course::levels(cell));
        let text = format!(
            "no steady state: latency changed: {levels}; warm up longer, cool the device, pin its clocks, or stop other load"
        );
        reasons.push(Reason::new(ReasonKind::Unsteady, text));
    }
    if let Some(leak) = leak::leak(&cell.memory_curve) {
        let text = format!(
            "memory leak: the worker's resident set grew by {:.1} KiB per frame over the second half of the run ({:.1} MiB) and did not stop",
            leak.kib_per_frame, leak.grown_mib
        );
        reasons.push(Reason::new(ReasonKind::Leak, text));
    }
    reasons.extend(unprompted::reasons(cell));
    reasons.extend(machine_reasons(conditions, rules));
    if reasons.is_empty() { Verdict::Valid } else { Verdict::Invalid { reasons } }
}

/// What the machine did that makes figures unfit.
fn machine_reasons(conditions: &Conditions, rules: Rules) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut say = |kind, text: String| reasons.push(Reason::new(kind, text));
    if let Some(swapped) = conditions.worker_swap_mib.filter(|mib| *mib > 0.0) {
        say(ReasonKind::Swapped, format!("memory: up to {swapped:.1} MiB of the worker were swapped out"));
    }
    match conditions.power_mode.as_ref().filter(|(before, after)| before != after) {
        Some((before, after)) => {
            say(ReasonKind::PowerMode, format!("power mode changed during the run: {before} before, {after} after"));
        }
        None if conditions.mode_flickered => {
            say(ReasonKind::PowerMode, "power mode changed during the run, and back again".into());
        }
        None => {}
    }
    // The third counter (instantaneous) climbs on healthy boards; the first two mean that clocks were cut.
    for (counter, what) in [("oc1", "under-voltage"), ("oc2", "average over-current")] {
        if let Some(count) = conditions.over_current.get(counter).filter(|n| **n > 0) {
            say(ReasonKind::Throttled, format!("throttled: {count} {what} events ({counter}) during the run"));
        }
    }
    for alert in &conditions.alerts {
        say(ReasonKind::Throttled, format!("throttled: the kernel raised {alert}"));
    }
    if conditions.cpu_throttle_events > 0 {
        let n = conditions.cpu_throttle_events;
        say(
            ReasonKind::Throttled,
            format!("throttled: the processor cut its clocks {n} times because of heat or power"),
        );
    }
    if let Some((periods, seconds)) = conditions.quota {
        let text = format!(
            "processor quota: a cgroup stopped the worker in {periods} periods, for {seconds:.1} s over all processors, while frames were timed; \
             raise the quota (cpu.max, docker --cpus), or use as many threads as it has cores (--threads)"
        );
        say(ReasonKind::Quota, text);
    }
    for (gpu, bits) in &conditions.driver_bits {
        say(
            ReasonKind::Throttled,
            format!("throttled: the NVIDIA driver cut the clocks of {gpu} ({})", bit_words(*bits)),
        );
    }
    for drop in &conditions.clock_drops {
        say(ReasonKind::Throttled, format!("throttled: {drop}"));
    }
    if rules.rivals == Policy::Strict
        && let Some(remark) = rivals(conditions)
    {
        say(ReasonKind::Rivals, format!("rival processes: {}", remark.text));
    }
    reasons
}

/// Other processes that took more than housekeeping, in words.
pub fn rivals(conditions: &Conditions) -> Option<Note> {
    let cores = conditions.rival_cores.filter(|c| *c > limits::RIVAL_CORES)?;
    let names = rivals::names(&conditions.rivals);
    let who = names.map_or(String::new(), |names| format!(" (the busiest over the worker's whole life: {names})"));
    let text = format!("other processes used {cores:.1} cores on average while frames were timed{who}");
    Some(Note::new(NoteKind::Rivals, text).about(cores))
}

/// Names of the driver's reasons.
fn bit_words(bits: u64) -> String {
    let words = [
        (0x4, "power cap"),
        (0x8, "hardware slowdown"),
        (0x20, "heat, software"),
        (0x40, "heat, hardware"),
        (0x80, "power brake"),
    ];
    let named: Vec<&str> = words.iter().filter(|(bit, _)| bits & bit != 0).map(|w| w.1).collect();
    named.join(", ")
}

/// The reason of a run that is too short.
pub fn too_few_frames(frames: usize, needed: usize) -> Reason {
    let text = format!("too few frames: {frames} were timed, {needed} are needed (--min-frames)");
    Reason::new(ReasonKind::TooFewFrames, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetbench_runners::types::{Dtype, PromptKind, StagePrecision};

    use crate::results::record::{FrameRecord, MissingRecord, SequenceRecord, WarmupRecord};
    use crate::telemetry::Sample;

    fn cell(frames: u32) -> CellRecord {
        let frame = |frame| FrameRecord { frame, objects: 1, decode_ms: 1.0, latency_ms: 2.0, ..Default::default() };
        CellRecord {
            model: "a_mask".into(),
            pack: "a".into(),
            prompt: PromptKind::Mask,
            device: "cpu".into(),
            verdict: Verdict::Valid,
            precision: vec![StagePrecision {
                graph: "image_encoder".into(),
                requested: Dtype::Bf16,
                effective: "fp32".into(),
                kind: Effective::Other,
                evidence: Vec::new(),
            }],
            warmup: Some(WarmupRecord { frame_ok: true, ..Default::default() }),
            sequences: vec![SequenceRecord {
                video: "v".into(),
                width: 8,
                height: 8,
                wall_ms: 1.0,
                frames: (0..frames).map(frame).collect(),
                ..Default::default()
            }],
            ..CellRecord::default()
        }
    }

    const RULES: Rules = Rules { min_frames: 20, min_seconds: 0.0, precision: Policy::Report, rivals: Policy::Report };

    fn reasons(cell: &CellRecord, conditions: &Conditions, non_finite: &[String], rules: Rules) -> String {
        judge(cell, conditions, non_finite, rules).reasons()
    }

    #[test]
    fn a_sound_cell_is_valid() {
        let same_mode = Conditions { power_mode: Some(("25W (1)".into(), "25W (1)".into())), ..Default::default() };
        assert_eq!(judge(&cell(20), &same_mode, &[], RULES), Verdict::Valid);
        let no_swap = Conditions { worker_swap_mib: Some(0.0), ..Default::default() };
        assert_eq!(judge(&cell(20), &no_swap, &[], RULES), Verdict::Valid);
        // Instantaneous events climb on healthy boards.
        let oc3 = Conditions { over_current: BTreeMap::from([("oc3".into(), 9)]), ..Default::default() };
        assert_eq!(judge(&cell(20), &oc3, &[], RULES), Verdict::Valid);
        // Rivals are reported by default, and housekeeping never counts.
        let rivals = |cores| Conditions { rival_cores: Some(cores), ..Default::default() };
        assert_eq!(judge(&cell(20), &rivals(3.0), &[], RULES), Verdict::Valid);
        let strict = Rules { rivals: Policy::Strict, ..RULES };
        assert_eq!(judge(&cell(20), &rivals(0.2), &[], strict), Verdict::Valid);
    }

    #[test]
    fn a_strict_precision_policy_goes_by_the_kind_and_not_by_the_words() {
        let strict = Rules { precision: Policy::Strict, ..RULES };
        let mut cell = cell(20);
        for (kind, words, refused) in [
            (Effective::Native, "bf16 in all operators", false),
            (Effective::Emulated, "bf16", true),
            (Effective::Other, "bf16", true),
            (Effective::Doubtful, "bf16", true),
        ] {
            (cell.precision[0].kind, cell.precision[0].effective) = (kind, words.into());
            assert_eq!(!reasons(&cell, &Conditions::default(), &[], strict).is_empty(), refused, "{kind:?}");
            assert_eq!(judge(&cell, &Conditions::default(), &[], RULES), Verdict::Valid);
        }
    }

    #[test]
    fn each_rule_has_its_sentence() {
        let fine = Conditions::default();
        let mut said = vec![reasons(&cell(19), &fine, &[], RULES)];
        said.push(reasons(&cell(20), &fine, &[], Rules { min_seconds: 60.0, ..RULES }));
        let strict = Rules { precision: Policy::Strict, ..RULES };
        said.push(reasons(&cell(20), &fine, &[], strict));
        said.push(reasons(&cell(20), &fine, &["video v, frame 3, object 0".into()], RULES));
        let mut faulty = cell(0);
        faulty.sequences.clear();
        faulty.warmup.as_mut().unwrap().faults = vec!["empty mask for object 0 (prompted frame)".into()];
        said.push(reasons(&faulty, &fine, &[], RULES));
        let mut elsewhere = cell(20);
        elsewhere.fallbacks = vec!["image_encoder ran on CPUExecutionProvider, CUDA was asked for".into()];
        said.push(reasons(&elsewhere, &fine, &[], RULES));
        let mut drifting = cell(200);
        for (i, frame) in drifting.sequences[0].frames.iter_mut().enumerate() {
            frame.latency_ms = 10.0 + i as f64 / 10.0;
        }
        said.push(reasons(&drifting, &fine, &[], RULES));
        let bad = Conditions {
            worker_swap_mib: Some(12.5),
            power_mode: Some(("25W (1)".into(), "15W (0)".into())),
            over_current: BTreeMap::from([("oc1".into(), 2), ("oc2".into(), 0)]),
            ..Default::default()
        };
        said.push(reasons(&cell(20), &bad, &[], RULES));
        let hot = Conditions {
            mode_flickered: true,
            over_current: BTreeMap::from([("oc2".into(), 1)]),
            alerts: vec!["gpu-throttle-alert".into()],
            cpu_throttle_events: 7,
            driver_bits: BTreeMap::from([("nvidia0".into(), 0x44)]),
            clock_drops: vec!["gpu ran at 306 MHz of 1300 MHz under full load".into()],
            rival_cores: Some(1.5),
            ..Default::default()
        };
        said.push(reasons(&cell(20), &hot, &[], Rules { rivals: Policy::Strict, ..RULES }).replace("; ", "\n"));
        insta::assert_snapshot!(said.join("\n"), @r"
        too few frames: 19 were timed, 20 are needed (--min-frames)
        too short: 0.0 s were spent in frames, 60 s are needed (--min-seconds)
        precision: image_encoder was asked to compute in bf16 and computed in fp32
        non-finite output: video v, frame 3, object 0
        warm-up: empty mask for object 0 (prompted frame)
        provider fallback: image_encoder ran on CPUExecutionProvider, CUDA was asked for
        no steady state: latency changed: 0.87 times the median of like frames for 110 frames, then 1.28 times for 90; warm up longer, cool the device, pin its clocks, or stop other load
        memory: up to 12.5 MiB of the worker were swapped out; power mode changed during the run: 25W (1) before, 15W (0) after; throttled: 2 under-voltage events (oc1) during the run
        power mode changed during the run, and back again
        throttled: 1 average over-current events (oc2) during the run
        throttled: the kernel raised gpu-throttle-alert
        throttled: the processor cut its clocks 7 times because of heat or power
        throttled: the NVIDIA driver cut the clocks of nvidia0 (power cap, heat, hardware)
        throttled: gpu ran at 306 MHz of 1300 MHz under full load
        rival processes: other processes used 1.5 cores on average while frames were timed
        ");
    }

    /// Telemetry with these channels, a sample every tenth of a second.
    fn telemetry(channels: &[(&str, &[f64])]) -> Telemetry {
        let length = channels.iter().map(|c| c.1.len()).max().unwrap_or(0);
        let value = |values: &[f64], i: usize| values.get(i).copied().unwrap_or(f64::NAN);
        Telemetry {
            channels: channels.iter().map(|c| c.0.to_string().into()).collect(),
            samples: (0..length)
                .map(|i| Sample {
                    at_ns: i as u64 * 100_000_000,
                    values: channels.iter().map(|c| value(c.1, i)).collect(),
                })
                .collect(),
            missing: Vec::new(),
        }
    }

    const TIMED: Span = (300_000_000, 1_200_000_000);

    #[test]
    fn a_cut_clock_is_throttling_and_an_idle_one_is_not() {
        let bound: &[f64] = &[1300.0];
        let gpu = |load: &[f64], clock: &[f64]| {
            let t = telemetry(&[("gpu_load_percent", load), ("gpu_mhz", clock), ("gpu_max_mhz", bound)]);
            Conditions::seen(&t, &[TIMED]).clock_drops
        };
        let busy = [99.0; 14];
        assert_eq!(gpu(&busy, &[1300.0; 14]), [""; 0]);
        assert_eq!(gpu(&busy, &[306.0; 14]), ["gpu ran at 306 MHz of 1300 MHz under full load"]);
        assert_eq!(gpu(&[5.0; 14], &[306.0; 14]), [""; 0], "idle between frames: the governor saves power");
        let mut loading = [1300.0; 14];
        loading[..3].fill(306.0);
        loading[13] = 306.0;
        assert_eq!(gpu(&busy, &loading), [""; 0], "before and after the timed span nothing counts");
        let mut blinks = [1300.0; 14];
        blinks[5..7].fill(306.0);
        assert_eq!(gpu(&busy, &blinks), [""; 0], "a governor may need a moment");
        blinks[7] = 900.0;
        assert_eq!(gpu(&busy, &blinks).len(), 1);
    }

    #[test]
    fn counters_alerts_and_the_drivers_word_are_read() {
        let t = telemetry(&[
            ("oc1_events", &[4.0, 4.0, 6.0]),
            ("cpu0_throttle_events", &[1.0, 1.0, 1.0]),
            ("cpu1_throttle_events", &[1.0, 3.0, 3.0]),
            ("alert_gpu-throttle-alert_state", &[0.0, 0.0, 0.0, 0.0, 1.0]),
            ("alert_cpu-throttle-alert_state", &[1.0, 0.0, 0.0, 0.0, 0.0]),
            ("nvidia0_throttle_reasons", &[64.0, 1.0, 1.0, 1.0, 5.0]),
            ("power_mode_id", &[2.0, 3.0, 2.0]),
            ("worker_swap_mib", &[0.0, 1.5, 0.0]),
        ]);
        let seen = Conditions::seen(&t, &[TIMED]);
        assert_eq!(seen.over_current, BTreeMap::from([("oc1".to_string(), 2)]));
        assert_eq!((seen.cpu_throttle_events, seen.mode_flickered, seen.worker_swap_mib), (2, true, Some(1.5)));
        assert_eq!(seen.alerts, ["gpu-throttle-alert"], "the other one was over before frames were timed");
        // Bit 0 says idle; bit 6 came before the span.
        assert_eq!(seen.driver_bits, BTreeMap::from([("nvidia0".to_string(), 4)]));
    }

    #[test]
    fn a_quota_that_stopped_the_worker_is_a_reason() {
        let t = telemetry(&[
            ("quota_throttled_periods", &[4.0, 4.0, 9.0, 9.0, 12.0, 12.0]),
            ("quota_throttled_s", &[0.1, 0.1, 0.5, 0.5, 0.75, 0.75]),
        ]);
        let seen = Conditions::seen(&t, &[TIMED]);
        assert_eq!(seen.quota, Some((3, 0.25)), "what came before the first frame is not counted");
        assert!(reasons(&cell(20), &seen, &[], RULES).contains("a cgroup stopped the worker in 3 periods, for 0.2 s"));
        assert_eq!(Conditions::seen(&t, &[(200_000_000, 300_000_000)]).quota, None);
    }

    #[test]
    fn rivals_are_what_neither_the_worker_nor_we_used() {
        let clock = |per_second: f64| -> Vec<f64> { (0..14).map(|i| f64::from(i) / 10.0 * per_second).collect() };
        let seen = |busy: f64| {
            let t = telemetry(&[
                ("cpu_busy_s", &clock(busy)),
                ("worker_cpu_s", &clock(1.0)),
                ("parent_cpu_s", &clock(0.05)),
            ]);
            Conditions::seen(&t, &[TIMED])
        };
        let quiet = seen(1.1);
        assert!((quiet.rival_cores.unwrap() - 0.05).abs() < 1e-9 && rivals(&quiet).is_none());
        assert_eq!(
            rivals(&seen(3.05)).unwrap().text,
            "other processes used 2.0 cores on average while frames were timed"
        );
        let who = vec![Rival { name: "cargo".into(), cores: 1.94 }, Rival { name: "firefox".into(), cores: 0.25 }];
        assert_eq!(
            rivals(&Conditions { rivals: who, ..seen(3.05) }).unwrap().text,
            "other processes used 2.0 cores on average while frames were timed (the busiest over the worker's whole life: \
             cargo 1.9, firefox 0.2)"
        );
        let blind = telemetry(&[("cpu_busy_s", &clock(1.0))]);
        assert_eq!(Conditions::seen(&blind, &[TIMED]).rival_cores, None, "not known is not clean");
    }

    #[test]
    fn what_cannot_be_sensed_is_said() {
        let with = |names: &[&str]| SensorsRecord {
            read: names.iter().map(|n| n.to_string().into()).collect(),
            missing: vec![MissingRecord::default()],
            unjudged: Vec::new(),
        };
        assert_eq!(unjudged(&with(&[]), true).len(), 4);
        let all = ["oc1_events", "power_mode_id", "worker_swap_mib", "cpu_busy_s", "worker_cpu_s"];
        assert!(unjudged(&with(&all), true).is_empty());
        assert_eq!(
            unjudged(&with(&["alert_gpu-throttle-alert_state", "worker_swap_mib", "cpu_busy_s", "worker_cpu_s"]), true),
            [
                "under-voltage and over-current: no counters can be read",
                "a change of the power mode: it cannot be read"
            ]
        );
    }
}
