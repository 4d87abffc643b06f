//! The keys of what is sensed, as types: which quantity ([`Channel`]), and at which moment of a worker's life its memory
//! was read ([`MemoryPhase`]). Their texts are those of `run.json` and `telemetry.csv`. This file imports nothing of
//! ours, so that records and sensors can both name keys.

use std::convert::Infallible;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One quantity of one source. Its text is its name with the unit at the end: `VDD_IN_w`, `gpu_mhz`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Channel {
    /// `MemAvailable` of the system, MiB.
    MemAvailable,
    /// `SwapFree` of the system, MiB.
    SwapFree,
    /// All buffers of Tegra's memory manager, MiB.
    Nvmap,
    /// A memory figure of the worker, MiB.
    Worker(WorkerMemory),
    /// Processor time of the worker so far, seconds.
    WorkerCpu,
    /// Processor time of this process so far, seconds.
    ParentCpu,
    /// Busy time of all cores together since boot, seconds.
    CpuBusy,
    /// Periods in which a cgroup's processor quota stopped the worker.
    QuotaPeriods,
    /// Time for which it did, seconds, summed over processors.
    QuotaTime,
    /// Clock of a core, MHz.
    CpuClock(u32),
    /// Upper bound of a core's clock, MHz.
    CpuClockCap(u32),
    /// How often a core was slowed down because of heat or power, since boot.
    CpuThrottleEvents(u32),
    /// Load of a Tegra GPU, percent.
    GpuLoad(u32),
    /// Clock of a Tegra GPU, MHz.
    GpuClock(u32),
    /// Upper bound of a Tegra GPU's clock, MHz.
    GpuClockCap(u32),
    /// Clock of a Thor GPU's video engines, MHz.
    GpuVideoClock,
    /// Clock of the memory controller, MHz.
    EmcClock,
    /// Use of the memory controller, percent.
    EmcLoad,
    /// Power of a supply rail under the board's own name, watts.
    Rail(String),
    /// Temperature of a zone, degrees Celsius.
    Temperature(String),
    /// State of a throttle alert of the kernel; 0 is calm.
    ThrottleAlert(String),
    /// Events that an over-current counter has seen since boot.
    OverCurrent(u32),
    /// How hard the fan is driven, 0..255.
    FanDrive,
    /// Speed of the fan, turns per minute.
    FanSpeed,
    /// Number of the power mode.
    PowerMode,
    /// A quantity of a GPU, by NVIDIA's management library.
    Nvidia(u32, NvidiaQuantity),
    /// A name that this version does not know, from a record of another one.
    Other(String),
}

/// Memory figures of a worker, MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkerMemory {
    /// Resident set size (`VmRSS`).
    Resident,
    /// Its largest value so far (`VmHWM`).
    HighWater,
    /// Swapped out (`VmSwap`).
    Swap,
    /// Proportional set size (`Pss`).
    Proportional,
    /// The part of it that no file backs (`Pss_Anon`).
    Anonymous,
    /// What lies in huge pages (`AnonHugePages`).
    Huge,
    /// Its buffers in Tegra's memory manager.
    Nvmap,
    /// Its memory on NVIDIA GPUs that have memory of their own.
    Gpu,
}

/// What NVIDIA's management library tells of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NvidiaQuantity {
    /// Load, percent.
    Load,
    /// Memory in use, what the driver reserves included, MiB.
    MemoryUsed,
    /// Memory that processes hold, all together, MiB; of GPUs that share the system's memory and therefore have no figure of their own.
    ProcessMemory,
    /// Power of the whole card, or of the GPU inside a chip, watts.
    Power,
    /// Temperature, degrees Celsius.
    Temperature,
    /// Clock of the cores, MHz.
    Clock,
    /// Clock of the memory, MHz.
    MemoryClock,
    /// Why clocks are held back, as the driver's bits.
    ThrottleReasons,
}

impl NvidiaQuantity {
    /// All of them, in reading order.
    pub const ALL: [NvidiaQuantity; 8] = [
        NvidiaQuantity::Load,
        NvidiaQuantity::MemoryUsed,
        NvidiaQuantity::ProcessMemory,
        NvidiaQuantity::Power,
        NvidiaQuantity::Temperature,
        NvidiaQuantity::Clock,
        NvidiaQuantity::MemoryClock,
        NvidiaQuantity::ThrottleReasons,
    ];

    fn name(self) -> &'static str {
        match self {
            NvidiaQuantity::Load => "load_percent",
            NvidiaQuantity::MemoryUsed => "mem_used_mib",
            NvidiaQuantity::ProcessMemory => "processes_mib",
            NvidiaQuantity::Power => "w",
            NvidiaQuantity::Temperature => "celsius",
            NvidiaQuantity::Clock => "mhz",
            NvidiaQuantity::MemoryClock => "mem_mhz",
            NvidiaQuantity::ThrottleReasons => "throttle_reasons",
        }
    }
}

/// Channels whose text is always the same.
static FIXED: [(Channel, &str); 22] = [
    (Channel::MemAvailable, "mem_available_mib"),
    (Channel::SwapFree, "swap_free_mib"),
    (Channel::Nvmap, "nvmap_mib"),
    (Channel::Worker(WorkerMemory::Resident), "worker_rss_mib"),
    (Channel::Worker(WorkerMemory::HighWater), "worker_hwm_mib"),
    (Channel::Worker(WorkerMemory::Swap), "worker_swap_mib"),
    (Channel::Worker(WorkerMemory::Proportional), "worker_pss_mib"),
    (Channel::Worker(WorkerMemory::Anonymous), "worker_pss_anon_mib"),
    (Channel::Worker(WorkerMemory::Huge), "worker_huge_mib"),
    (Channel::Worker(WorkerMemory::Nvmap), "worker_nvmap_mib"),
    (Channel::Worker(WorkerMemory::Gpu), "worker_gpu_mib"),
    (Channel::WorkerCpu, "worker_cpu_s"),
    (Channel::ParentCpu, "parent_cpu_s"),
    (Channel::CpuBusy, "cpu_busy_s"),
    (Channel::QuotaPeriods, "quota_throttled_periods"),
    (Channel::QuotaTime, "quota_throttled_s"),
    (Channel::GpuVideoClock, "gpu_nvd_mhz"),
    (Channel::EmcClock, "emc_mhz"),
    (Channel::EmcLoad, "emc_percent"),
    (Channel::FanDrive, "fan_pwm"),
    (Channel::FanSpeed, "fan_rpm"),
    (Channel::PowerMode, "power_mode_id"),
];

impl Channel {
    /// Where it comes from, as the doctor names it: `rails`, `thermal`, `nvml`, …
    pub fn source(&self) -> &'static str {
        match self {
            Channel::MemAvailable | Channel::SwapFree | Channel::Nvmap => "memory",
            Channel::Worker(WorkerMemory::Nvmap) => "nvmap",
            Channel::Worker(WorkerMemory::Gpu) => "nvml",
            Channel::Worker(_) => "worker memory",
            Channel::WorkerCpu | Channel::ParentCpu => "worker cpu",
            Channel::CpuBusy => "cpu use",
            Channel::QuotaPeriods | Channel::QuotaTime => "processor quota",
            Channel::CpuClock(_) | Channel::CpuClockCap(_) => "cpu clocks",
            Channel::CpuThrottleEvents(_) => "cpu throttle counters",
            Channel::GpuLoad(_) | Channel::GpuClock(_) | Channel::GpuClockCap(_) | Channel::GpuVideoClock => "gpu",
            Channel::EmcClock | Channel::EmcLoad => "emc",
            Channel::Rail(_) => "rails",
            Channel::Temperature(_) => "thermal",
            Channel::ThrottleAlert(_) => "throttle alerts",
            Channel::OverCurrent(_) => "over-current",
            Channel::FanDrive | Channel::FanSpeed => "fan",
            Channel::PowerMode => "power mode",
            Channel::Nvidia(..) => "nvml",
            Channel::Other(_) => "other",
        }
    }

    /// Does it end with the worker? Then its last readings may fail, and that is no fault of the sensor.
    pub fn ends_with_worker(&self) -> bool {
        matches!(self.source(), "worker memory" | "worker cpu" | "processor quota")
    }

    /// The rail whose power this is: one of the board, or a discrete GPU's card.
    pub fn rail(&self) -> Option<String> {
        match self {
            Channel::Rail(name) => Some(name.clone()),
            Channel::Nvidia(gpu, NvidiaQuantity::Power) => Some(format!("nvidia{gpu}")),
            _ => None,
        }
    }

    /// Is it a temperature?
    pub fn is_temperature(&self) -> bool {
        matches!(self, Channel::Temperature(_) | Channel::Nvidia(_, NvidiaQuantity::Temperature))
    }

    /// Its name in words, without the unit: `VDD IN`, `worker rss`.
    pub fn label(&self) -> String {
        let text = self.to_string();
        text.rsplit_once('_').map_or(text.as_str(), |(name, _)| name).replace('_', " ")
    }

    fn guess(text: &str) -> Option<Channel> {
        if let Some((channel, _)) = FIXED.iter().find(|f| f.1 == text) {
            return Some(channel.clone());
        }
        let number = |prefix: &str, suffix: &str| text.strip_prefix(prefix)?.strip_suffix(suffix)?.parse::<u32>().ok();
        let gpu = |suffix: &str| {
            let index = text.strip_prefix("gpu")?.strip_suffix(suffix)?;
            if index.is_empty() { Some(0) } else { index.parse().ok() }
        };
        let name = |prefix: &str, suffix: &str| Some(text.strip_prefix(prefix)?.strip_suffix(suffix)?.to_string());
        let nvidia = || {
            let (index, quantity) = text.strip_prefix("nvidia")?.split_once('_')?;
            let quantity = NvidiaQuantity::ALL.into_iter().find(|q| q.name() == quantity)?;
            Some(Channel::Nvidia(index.parse().ok()?, quantity))
        };
        nvidia()
            .or_else(|| number("cpu", "_mhz").map(Channel::CpuClock))
            .or_else(|| number("cpu", "_max_mhz").map(Channel::CpuClockCap))
            .or_else(|| number("cpu", "_throttle_events").map(Channel::CpuThrottleEvents))
            .or_else(|| number("oc", "_events").map(Channel::OverCurrent))
            .or_else(|| gpu("_load_percent").map(Channel::GpuLoad))
            .or_else(|| gpu("_mhz").map(Channel::GpuClock))
            .or_else(|| gpu("_max_mhz").map(Channel::GpuClockCap))
            .or_else(|| name("temp_", "_celsius").map(Channel::Temperature))
            .or_else(|| name("alert_", "_state").map(Channel::ThrottleAlert))
            .or_else(|| name("", "_w").map(Channel::Rail))
    }
}

/// The number of a Tegra GPU in names: the first one has none.
struct Index(u32);

impl Display for Index {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, "{}", self.0) }
    }
}

impl Display for Channel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Channel::CpuClock(n) => write!(f, "cpu{n}_mhz"),
            Channel::CpuClockCap(n) => write!(f, "cpu{n}_max_mhz"),
            Channel::CpuThrottleEvents(n) => write!(f, "cpu{n}_throttle_events"),
            Channel::GpuLoad(n) => write!(f, "gpu{}_load_percent", Index(*n)),
            Channel::GpuClock(n) => write!(f, "gpu{}_mhz", Index(*n)),
            Channel::GpuClockCap(n) => write!(f, "gpu{}_max_mhz", Index(*n)),
            Channel::Rail(name) => write!(f, "{name}_w"),
            Channel::Temperature(zone) => write!(f, "temp_{zone}_celsius"),
            Channel::ThrottleAlert(name) => write!(f, "alert_{name}_state"),
            Channel::OverCurrent(n) => write!(f, "oc{n}_events"),
            Channel::Nvidia(gpu, quantity) => write!(f, "nvidia{gpu}_{}", quantity.name()),
            Channel::Other(text) => f.write_str(text),
            fixed => f.write_str(FIXED.iter().find(|(channel, _)| channel == fixed).map_or("", |(_, text)| text)),
        }
    }
}

impl FromStr for Channel {
    type Err = Infallible;

    /// Any text is a channel, at the worst an unknown one, and is written as it was read.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let known = Channel::guess(text).filter(|channel| channel.to_string() == text);
        Ok(known.unwrap_or_else(|| Channel::Other(text.to_string())))
    }
}

impl From<String> for Channel {
    fn from(text: String) -> Self {
        let Ok(channel) = text.parse();
        channel
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> Self {
        channel.to_string()
    }
}

/// A moment at which a worker's memory is read, in the order of `run.json`, which is that of the alphabet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryPhase {
    /// Running, nothing opened.
    Idle,
    /// All sequences done.
    Last,
    /// Runner open, no frame run.
    Loaded,
    /// The largest figures over the worker's life.
    Peak,
    /// Warm-up frame done.
    Warmed,
}

impl MemoryPhase {
    /// In the order of a worker's life, for readers.
    pub const IN_LIFE_ORDER: [MemoryPhase; 5] =
        [MemoryPhase::Idle, MemoryPhase::Loaded, MemoryPhase::Warmed, MemoryPhase::Peak, MemoryPhase::Last];

    /// Name in records and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            MemoryPhase::Idle => "idle",
            MemoryPhase::Last => "last",
            MemoryPhase::Loaded => "loaded",
            MemoryPhase::Peak => "peak",
            MemoryPhase::Warmed => "warmed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every() -> Vec<Channel> {
        let mut all: Vec<Channel> = FIXED.iter().map(|f| f.0.clone()).collect();
        for n in [0, 1, 12] {
            let numbered = [
                Channel::CpuClock,
                Channel::CpuClockCap,
                Channel::CpuThrottleEvents,
                Channel::GpuLoad,
                Channel::GpuClock,
                Channel::GpuClockCap,
                Channel::OverCurrent,
            ];
            all.extend(numbered.map(|of: fn(u32) -> Channel| of(n)));
            all.extend(NvidiaQuantity::ALL.map(|q| Channel::Nvidia(n, q)));
        }
        all.extend(["VDD_IN", "a_w", ""].map(|name| Channel::Rail(name.into())));
        all.extend(["tj-thermal", "x_celsius"].map(|zone| Channel::Temperature(zone.into())));
        all.push(Channel::ThrottleAlert("gpu-throttle-alert".into()));
        all
    }

    #[test]
    fn every_channel_comes_back_from_its_text() {
        let mut texts: Vec<String> = Vec::new();
        for channel in every() {
            let text = channel.to_string();
            assert_eq!(text.parse(), Ok(channel), "{text}");
            assert!(!text.is_empty());
            texts.push(text);
        }
        let count = texts.len();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), count, "two channels have one text");
    }

    #[test]
    fn texts_are_those_of_earlier_records() {
        let text = |channel: Channel| serde_json::to_string(&channel).unwrap();
        assert_eq!(text(Channel::GpuClockCap(0)), "\"gpu_max_mhz\"");
        assert_eq!(text(Channel::GpuLoad(1)), "\"gpu1_load_percent\"");
        assert_eq!(text(Channel::Nvidia(0, NvidiaQuantity::Power)), "\"nvidia0_w\"");
        assert_eq!(text(Channel::Temperature("cpu-thermal".into())), "\"temp_cpu-thermal_celsius\"");
        assert_eq!("gpu0_mhz".parse(), Ok(Channel::Other("gpu0_mhz".into())), "the first GPU has no number");
        assert_eq!(Channel::Rail("VDD_IN".into()).label(), "VDD IN");
    }

    #[test]
    fn memory_phases_keep_their_names_and_their_order_in_the_record() {
        let map: std::collections::BTreeMap<MemoryPhase, u8> = MemoryPhase::IN_LIFE_ORDER.map(|p| (p, 0)).into();
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"idle":0,"last":0,"loaded":0,"peak":0,"warmed":0}"#);
        assert!(MemoryPhase::IN_LIFE_ORDER.iter().all(|p| text.contains(&format!("\"{}\"", p.as_str()))));
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_it_was_read(
            text in "(nvidia|gpu|cpu|oc|temp_|alert_|VDD|)[0-9a-z_]{0,12}(_w|_mhz|_max_mhz|_events|_celsius|_state|)",
        ) {
            let Ok(channel) = text.parse::<Channel>();
            prop_assert_eq!(channel.to_string(), text);
        }
    }
}
