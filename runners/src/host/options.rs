//! Which options are there, what may their values be, and what do they set? The [table](TABLE) says it once, for admission, checks,
//! lists, documentation and completions. What a provider is told is named as ONNX Runtime names it where the name tells the
//! provider (`trt_…`, `cudnn_…`); CUDA options without such a prefix get `cuda_` in front.

mod int8;
mod kind;
mod table;

use std::collections::BTreeMap;

use super::providers::{Provider, ProviderOptions};
use super::runtime::ThreadPool;
use super::settings::{Arena, MemoryPolicy, Optimization, SessionSettings};
use super::tensorrt::WEAK;
use super::webgpu;
use crate::associate::Rules;
use crate::onnx::Attention;
use crate::runner::RunnerError;
use crate::types::{Device, Dtype, OpenRequest, Options};
pub use kind::DeviceKind;
use table::LOAD_LIBRARIES;
pub use table::{REFUSED, TABLE};

/// The option that says how many objects run together.
pub const OBJECTS: &str = "objects";
/// The option that says how many tracks a detector keeps at once.
pub const MAX_TRACKS: &str = "max_tracks";
/// The option that says what becomes of a pixel that several objects claim.
pub const OVERLAPS: &str = "overlaps";
/// The option that says which tracked frames change the memory.
pub const MEMORY: &str = "memory";
/// The option that says what a frame must be worth to change a gated memory.
pub const MEMORY_THRESHOLD: &str = "memory_threshold";
/// The option that says from which score on a query of a video segmenter is an object.
pub const QUERY_SCORE: &str = "query_score";
/// The option that says whether the time of each stage is taken.
pub const STAGE_TIMES: &str = "stage_times";
/// The option that says whether the next frame may be encoded beside this one.
pub const PIPELINE: &str = "pipeline";
/// The option that says where object scores and pointers lie between the graphs.
pub const RESULTS: &str = "results";
/// The option that says which form of a graph the CPU provider gets.
pub const FORM: &str = "form";
/// The options of the association: only runs in which a detector founds the tracks know them.
pub const OF_ASSOCIATION: [&str; 10] = [
    "detect_every",
    "detect_score",
    "new_score",
    "nms_iou",
    "match_iou",
    "dup_iou",
    "probation",
    "keep_alive",
    "max_absent",
    MAX_TRACKS,
];

/// One option of the runners.
pub struct RunnerOption {
    /// Name in configs and records.
    pub name: &'static str,
    value: ValueType,
    /// Devices on which it means something.
    pub devices: &'static [DeviceKind],
    /// Families that take it; empty: every family.
    pub families: &'static [&'static str],
    /// What a pack needs for it.
    pub needs: PackNeed,
    /// What holds when it is not given, in words.
    pub default: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// What else there is to know, in Markdown; may be empty.
    pub doc: &'static str,
}

/// What a pack must have so that an option means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackNeed {
    /// Nothing.
    Nothing,
    /// Graphs with an object axis.
    ObjectAxis,
    /// A graph with a form for the CPU provider.
    CpuForm,
    /// A detector that founds its tracks.
    Detector,
}

impl PackNeed {
    /// In words; empty for nothing.
    pub const fn as_str(self) -> &'static str {
        match self {
            PackNeed::Nothing => "",
            PackNeed::ObjectAxis => "packs whose graphs have an object axis",
            PackNeed::CpuForm => "packs with a form for the CPU provider",
            PackNeed::Detector => "composed runs, in which a detector founds the tracks",
        }
    }
}

/// Words, each with what it sets.
type WordSetters = &'static [(&'static str, fn(&mut SessionSettings))];
/// Sets a number that was found to be in range.
type NumberSetter = fn(&mut SessionSettings, usize);

/// Which values an option has, and what they set.
enum ValueType {
    Words(WordSetters),
    Numbers((i64, i64), NumberSetter),
    WordsOrNumber(WordSetters, (i64, i64), NumberSetter),
    /// A decimal number in this range.
    Decimal((i64, i64), fn(&mut SessionSettings, f64)),
    /// Handed to a provider under ONNX Runtime's name.
    Passed(Provider, &'static str, ProviderValue),
}

/// How the value of a provider's option is written for ONNX Runtime.
#[derive(Clone, Copy)]
enum ProviderValue {
    /// `true` or `false`, passed as 1 or 0.
    Switch,
    /// A whole number in this range.
    Number(i64, i64),
    /// MiB, passed as bytes.
    Mib,
    /// One of these words, passed as the second.
    Word(&'static [(&'static str, &'static str)]),
    /// Any text.
    Text,
}

/// A value that an option cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {value:?} for option {name}: expected {expected}")]
pub struct InvalidOption {
    /// Name of the option.
    pub name: &'static str,
    /// What was given.
    pub value: String,
    /// What can be given.
    pub expected: String,
}

impl RunnerOption {
    /// The words that are values.
    pub fn words(&self) -> Vec<&'static str> {
        match self.value {
            ValueType::Words(words) | ValueType::WordsOrNumber(words, ..) => {
                words.iter().map(|(word, _)| *word).collect()
            }
            ValueType::Passed(_, _, ProviderValue::Switch) => vec!["true", "false"],
            ValueType::Passed(_, _, ProviderValue::Word(words)) => words.iter().map(|(word, _)| *word).collect(),
            ValueType::Numbers(..) | ValueType::Decimal(..) | ValueType::Passed(..) => Vec::new(),
        }
    }

    /// The least and the largest number that are values.
    pub fn range(&self) -> Option<(i64, i64)> {
        match self.value {
            ValueType::Numbers(range, _) | ValueType::WordsOrNumber(_, range, _) | ValueType::Decimal(range, _) => {
                Some(range)
            }
            ValueType::Passed(_, _, ProviderValue::Number(low, high)) => Some((low, high)),
            ValueType::Passed(_, _, ProviderValue::Mib) => Some((1, 1 << 20)),
            ValueType::Words(_) | ValueType::Passed(..) => None,
        }
    }

    /// The values in short: `batch|loop|N`, `1..1024`, `0.0..1.0`, `TEXT`.
    pub fn values(&self) -> String {
        match (self.words(), self.range()) {
            (_, Some((low, high))) if matches!(self.value, ValueType::Decimal(..)) => format!("{low}.0..{high}.0"),
            (words, Some((low, high))) if words.is_empty() => format!("{low}..{high}"),
            (words, None) if words.is_empty() => "TEXT".to_string(),
            (mut words, range) => {
                words.extend(range.map(|_| "N"));
                words.join("|")
            }
        }
    }

    /// ONNX Runtime's name for it, of an option that is handed to a provider.
    pub fn provider_key(&self) -> Option<&'static str> {
        match self.value {
            ValueType::Passed(_, key, _) => Some(key),
            _ => None,
        }
    }

    /// Does a family take it on a device?
    fn belongs_to(&self, family: &str, device: Device) -> bool {
        self.devices.contains(&device.into()) && (self.families.is_empty() || self.families.contains(&family))
    }

    fn invalid(&self, value: &str, expected: String) -> InvalidOption {
        InvalidOption { name: self.name, value: value.to_string(), expected }
    }

    /// Is this one of its values?
    ///
    /// # Errors
    /// It is not: with what is expected.
    pub fn check(&self, value: &str) -> Result<(), InvalidOption> {
        let (words, range) = (self.words(), self.range());
        let number = match self.value {
            ValueType::Decimal(..) => value.parse::<f64>().ok(),
            _ => value.parse::<i64>().ok().map(|n| n as f64),
        };
        let in_range = range.zip(number).is_some_and(|((low, high), n)| (low as f64..=high as f64).contains(&n));
        let any_text = words.is_empty() && range.is_none();
        if words.contains(&value) || in_range || (any_text && !value.is_empty()) {
            return Ok(());
        }
        let mut expected: Vec<String> = words.iter().map(ToString::to_string).collect();
        if let Some((low, high)) = range {
            // Who gave a number knows already that it may be one.
            let bare = !words.is_empty() && number.is_none();
            expected.push(if bare { "a number".into() } else { format!("a number from {low} to {high}") });
        }
        expected.extend(any_text.then(|| "a text".to_string()));
        let last = expected.pop().unwrap_or_default();
        let list = if expected.is_empty() { last } else { format!("{} or {last}", expected.join(", ")) };
        Err(self.invalid(value, list))
    }

    /// Sets what a value sets.
    fn set(&self, settings: &mut SessionSettings, value: &str) -> Result<(), InvalidOption> {
        self.check(value)?;
        match self.value {
            ValueType::Words(words) | ValueType::WordsOrNumber(words, ..) if self.words().contains(&value) => {
                words.iter().filter(|(word, _)| *word == value).for_each(|(_, set)| set(settings));
            }
            ValueType::Words(_) => {}
            ValueType::Decimal(_, set) => value.parse().into_iter().for_each(|x| set(settings, x)),
            ValueType::Numbers(_, set) | ValueType::WordsOrNumber(_, _, set) => {
                value.parse().into_iter().for_each(|n| set(settings, n));
            }
            ValueType::Passed(provider, key, kind) => {
                settings.provider_options.insert(provider, key, kind.translate(value), (self.name, value));
            }
        }
        Ok(())
    }
}

impl ProviderValue {
    /// ONNX Runtime's spelling of a value that was found to be one.
    fn translate(self, value: &str) -> String {
        match self {
            ProviderValue::Switch => u8::from(value == "true").to_string(),
            ProviderValue::Mib => {
                value.parse::<u64>().map_or_else(|_| value.to_string(), |mib| (mib << 20).to_string())
            }
            ProviderValue::Number(..) => value.parse::<i64>().map_or_else(|_| value.to_string(), |n| n.to_string()),
            ProviderValue::Word(words) => {
                words.iter().find(|(word, _)| *word == value).map_or(value, |(_, text)| text).to_string()
            }
            ProviderValue::Text => value.to_string(),
        }
    }
}

/// The option of this name.
pub fn find(name: &str) -> Option<&'static RunnerOption> {
    TABLE.iter().find(|option| option.name == name)
}

/// Names of the options that a family takes on a device; `has`: does the pack have what an option needs?
pub fn names(family: &str, device: Device, has: impl Fn(PackNeed) -> bool) -> Vec<String> {
    let taken = TABLE.iter().filter(|option| option.belongs_to(family, device) && has(option.needs));
    taken.map(|option| option.name.to_string()).collect()
}

/// Options that are dropped with a reason of their own, by name.
pub fn refused() -> BTreeMap<String, String> {
    REFUSED.iter().map(|(name, reason)| (name.to_string(), reason.to_string())).collect()
}

/// Does this option's value name libraries that are loaded?
pub fn loads_libraries(name: &str) -> bool {
    LOAD_LIBRARIES.contains(&name)
}

/// Can these options go together, and with a precision, a device and this machine?
///
/// # Errors
/// As [`SessionSettings::new`].
pub fn check_together(device: Device, precision: Dtype, options: &Options) -> Result<(), RunnerError> {
    SessionSettings::new(device, precision, options).map(drop)
}

impl Options {
    /// Asks for an option. One that is not in the table is kept as it is: whether a runner takes it is decided by its
    /// capabilities.
    ///
    /// # Errors
    /// It cannot have that value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidOption> {
        find(name).map_or(Ok(()), |option| option.check(value))?;
        match name {
            "threads" => self.threads = value.parse().ok(),
            "spinning" => self.spinning = value.parse().ok(),
            _ => drop(self.extra.insert(name.to_string(), value.to_string())),
        }
        Ok(())
    }
}

impl SessionSettings {
    /// Reads a request.
    ///
    /// # Errors
    /// As [`SessionSettings::new`].
    pub fn of(request: &OpenRequest) -> Result<Self, RunnerError> {
        let settings = SessionSettings::new(request.device, request.dtype, &request.options)?;
        Ok(SessionSettings { ep_library: request.ep_library.clone(), ..settings })
    }

    /// What holds where no option is given.
    fn unset(device: Device, precision: Dtype) -> Self {
        SessionSettings {
            device,
            ep_library: None,
            precision,
            thread_pool: ThreadPool::default(),
            one_pool: device == Device::Cpu,
            load_parallel: device == Device::Cpu,
            pin_threads: false,
            optimization: Optimization::All,
            cpu_arena: Arena::Shared,
            huge_pages: true,
            cuda_graph: false,
            weak_typing: false,
            int8_emulated: false,
            engine_objects: [8, 1],
            provider_options: ProviderOptions::default(),
            together: usize::MAX,
            exclusive: false,
            memory: MemoryPolicy::All,
            memory_threshold: 0.01,
            cpu_forms: device == Device::Cpu && precision == Dtype::Fp32,
            attention: match device {
                Device::Cuda(_) => Attention::Fused,
                Device::WebGpu(_) => Attention::Strips(512),
                Device::Cpu | Device::TensorRt(_) | Device::Plugin(..) => Attention::Whole,
            },
            stage_times: true,
            image_as_bytes: matches!(device, Device::Cuda(_) | Device::TensorRt(_)),
            results_on_device: device != Device::Cpu,
            pipeline: false,
            association: Rules::default(),
            query_score: 0.5,
            panoptic: false,
            profile: None,
        }
    }

    /// Reads the options of a request.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for a value that an option cannot have, alone or beside the others, and for an option that does
    /// not belong to the device: options are admitted by the capabilities before a runner is opened.
    pub fn new(device: Device, precision: Dtype, options: &Options) -> Result<Self, RunnerError> {
        let mut settings = SessionSettings::unset(device, precision);
        if let Device::WebGpu(index) = device {
            webgpu::can(index, precision).map_err(RunnerError::Usage)?;
        }
        let wrong = |e: InvalidOption| RunnerError::Usage(e.to_string());
        for (name, value) in options.entries() {
            let option = find(&name).filter(|option| option.devices.contains(&device.into()));
            let missing = || RunnerError::Usage(format!("option {name}={value}: there is no such option on {device}"));
            option.ok_or_else(missing)?.set(&mut settings, &value).map_err(wrong)?;
        }
        let clash =
            |name: &'static str, value: String, expected: String| Err(wrong(InvalidOption { name, value, expected }));
        if settings.cpu_forms && precision != Dtype::Fp32 {
            return clash(
                FORM,
                "cpu".into(),
                format!("plain in {precision}, because only fp32 graphs have a form for the CPU"),
            );
        }
        if let Some(value) = options.extra.get(MEMORY_THRESHOLD).filter(|_| settings.memory == MemoryPolicy::All) {
            return clash(
                MEMORY_THRESHOLD,
                value.clone(),
                "memory=gated or gated_last beside it, because memory=all has no threshold".into(),
            );
        }
        if settings.panoptic && options.extra.get(OVERLAPS).is_some_and(|value| value == "keep") {
            return clash(
                OVERLAPS,
                "keep".into(),
                "exclusive beside panoptic=on, which gives a pixel to one object at most".into(),
            );
        }
        if let Some(value) = options.extra.get(QUERY_SCORE).filter(|_| settings.panoptic) {
            let expected = "none beside panoptic=on, whose limit is `score` of [segmenter.panoptic] in pack.toml";
            return clash(QUERY_SCORE, value.clone(), expected.into());
        }
        int8::check(&settings)?;
        if settings.weak_typing && precision == Dtype::Fp32 {
            return clash(WEAK, "on".into(), "off in fp32, because there is no lower precision to choose".into());
        }
        let takes = |how| match how {
            Attention::Fused => matches!((device, precision), (Device::Cuda(_), _) | (Device::Cpu, Dtype::Fp32)),
            Attention::Standard { .. } => match device {
                Device::Cpu | Device::Plugin(..) => true,
                Device::TensorRt(_) => precision.is_half(), // NVIDIA has no fp32 kernel
                Device::Cuda(_) | Device::WebGpu(_) => false,
            },
            Attention::Whole | Attention::Strips(_) => true,
        };
        if !takes(settings.attention) {
            let others = [("fused", Attention::Fused), ("onnx", Attention::Standard { spread: false })];
            let others = others.iter().filter(|(_, how)| takes(*how)).map(|(name, _)| format!(", {name}"));
            let expected = format!("whole{} or a number in {precision} on {device}", others.collect::<String>());
            let value = options.extra.get("attention").cloned().unwrap_or_default();
            return clash("attention", value, expected);
        }
        if let (Device::Cpu, Attention::Standard { spread }) = (device, &mut settings.attention) {
            *spread = true;
        }
        let [most, best] = settings.engine_objects;
        if best > most {
            return clash("opt_objects", best.to_string(), format!("at most max_objects, which is {most}"));
        }
        if settings.pin_threads {
            match pins(settings.thread_pool.threads, &processors()) {
                Ok(pinned) => settings.thread_pool.pinned = pinned,
                Err(expected) => return clash("pin_threads", "on".into(), expected),
            }
        }
        Ok(settings)
    }
}

/// The processors for all threads but the calling one, which is left alone because the decoder's thread would inherit its place.
fn pins(threads: Option<usize>, processors: &[usize]) -> Result<Vec<usize>, String> {
    match threads {
        None => Err("--threads N beside it, which says how many".to_string()),
        Some(n) if n > processors.len() => Err(format!(
            "at most as many threads as processors to tie them to: {n} threads, {} processors",
            processors.len()
        )),
        Some(n) => Ok(processors[1..n.max(1)].to_vec()),
    }
}

/// Processors that this process may run on, counted from 0.
fn processors() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    // SAFETY: the set is plain bits, of which the kernel fills as many as were said; reading one is a bounds-checked shift.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) == 0 {
            return (0..8 * size_of::<libc::cpu_set_t>()).filter(|&n| libc::CPU_ISSET(n, &set)).collect();
        }
    }
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

#[cfg(test)]
mod tests;
