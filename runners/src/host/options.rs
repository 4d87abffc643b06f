//! Which options are there, what may their values be, and what do they set? What a provider is told is named as ONNX Runtime names it where
//! the name tells the provider (`trt_…`, `cudnn_…`); CUDA options without such a prefix get `cuda_` in front.

use std::collections::BTreeMap;

use super::pool;
use super::runtime::ThreadPool;
use super::settings::{Arena, Optimization, SessionSettings};
use crate::runner::RunnerError;
use crate::types::{Device, Options, Precision};

/// The option that says what becomes of a pixel that several objects claim: `keep` (the default), or `exclusive`, which
/// gives it to the object with the highest logit.
pub const OVERLAPS: &str = "overlaps";
/// The option that says whether the time of each stage is taken: `on` (the default) or `off`.
pub const STAGE_TIMES: &str = "stage_times";
/// The option that says whether the next frame may be encoded beside this one, where throughput counts: `on` or `off`. The default
/// is `off`, save in the offline scenario for packs of small input. On the CPU only.
pub const PIPELINE: &str = "pipeline";
/// The option that says which form of a graph the CPU provider gets where the pack has two: `cpu` (the default in fp32), on
/// ONNX Runtime's own operators, or `plain`, the one for all providers.
pub const FORM: &str = "form";

/// Most objects in one batch of a TensorRT engine, unless asked for otherwise.
const MOST_OBJECTS: usize = 8;

/// Provider options in ONNX Runtime's own names and words.
pub type ProviderPairs = BTreeMap<String, String>;

/// How the value of an option is checked and written for ONNX Runtime.
#[derive(Clone, Copy, Debug)]
enum Kind {
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

/// One option of one provider.
struct Spec {
    /// Name in configs and records.
    name: &'static str,
    /// ONNX Runtime's name.
    key: &'static str,
    kind: Kind,
}

const fn spec(name: &'static str, key: &'static str, kind: Kind) -> Spec {
    Spec { name, key, kind }
}

const SEARCH: Kind = Kind::Word(&[("exhaustive", "EXHAUSTIVE"), ("heuristic", "HEURISTIC"), ("default", "DEFAULT")]);
const ARENA: Kind = Kind::Word(&[("power_of_two", "kNextPowerOfTwo"), ("as_requested", "kSameAsRequested")]);

/// CUDA provider; key names from onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html.
const CUDA: &[Spec] = &[
    spec("tf32", "use_tf32", Kind::Switch),
    spec("cudnn_conv_algo_search", "cudnn_conv_algo_search", SEARCH),
    spec("cudnn_conv_use_max_workspace", "cudnn_conv_use_max_workspace", Kind::Switch),
    spec("cudnn_conv1d_pad_to_nc1d", "cudnn_conv1d_pad_to_nc1d", Kind::Switch),
    spec("cuda_mem_limit_mib", "gpu_mem_limit", Kind::Mib),
    spec("cuda_arena_extend_strategy", "arena_extend_strategy", ARENA),
    spec("cuda_copy_in_default_stream", "do_copy_in_default_stream", Kind::Switch),
    spec("cuda_unified_stream", "use_ep_level_unified_stream", Kind::Switch),
    spec("cuda_prefer_nhwc", "prefer_nhwc", Kind::Switch),
    spec("cuda_fuse_conv_bias", "fuse_conv_bias", Kind::Switch),
    spec("cuda_skip_layer_norm_strict_mode", "enable_skip_layer_norm_strict_mode", Kind::Switch),
    spec("cuda_sdpa_kernel", "sdpa_kernel", Kind::Number(0, 255)),
    spec("cuda_tunable_op", "tunable_op_enable", Kind::Switch),
    spec("cuda_tunable_op_tuning", "tunable_op_tuning_enable", Kind::Switch),
    spec("cuda_tunable_op_max_tuning_ms", "tunable_op_max_tuning_duration_ms", Kind::Number(0, i32::MAX as i64)),
];

/// TensorRT provider; key names from onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html.
const TENSORRT: &[Spec] = &[
    spec("trt_workspace_mib", "trt_max_workspace_size", Kind::Mib),
    spec("trt_builder_optimization_level", "trt_builder_optimization_level", Kind::Number(0, 5)),
    spec("trt_min_subgraph_size", "trt_min_subgraph_size", Kind::Number(1, 1 << 20)),
    spec("trt_max_partition_iterations", "trt_max_partition_iterations", Kind::Number(1, 1 << 20)),
    spec("trt_engine_cache_enable", "trt_engine_cache_enable", Kind::Switch),
    spec("trt_timing_cache_enable", "trt_timing_cache_enable", Kind::Switch),
    spec("trt_force_timing_cache", "trt_force_timing_cache", Kind::Switch),
    spec("trt_force_sequential_engine_build", "trt_force_sequential_engine_build", Kind::Switch),
    spec("trt_context_memory_sharing_enable", "trt_context_memory_sharing_enable", Kind::Switch),
    spec("trt_layer_norm_fp32_fallback", "trt_layer_norm_fp32_fallback", Kind::Switch),
    spec("trt_build_heuristics_enable", "trt_build_heuristics_enable", Kind::Switch),
    spec("trt_sparsity_enable", "trt_sparsity_enable", Kind::Switch),
    spec("trt_auxiliary_streams", "trt_auxiliary_streams", Kind::Number(-1, 64)),
    spec("trt_tactic_sources", "trt_tactic_sources", Kind::Text),
    spec("trt_preview_features", "trt_preview_features", Kind::Text),
    spec("trt_op_types_to_exclude", "trt_op_types_to_exclude", Kind::Text),
    spec("trt_extra_plugin_lib_paths", "trt_extra_plugin_lib_paths", Kind::Text),
    spec("trt_engine_hw_compatible", "trt_engine_hw_compatible", Kind::Switch),
    spec("trt_weight_stripped_engine_enable", "trt_weight_stripped_engine_enable", Kind::Switch),
    spec("trt_detailed_build_log", "trt_detailed_build_log", Kind::Switch),
    spec("trt_dump_subgraphs", "trt_dump_subgraphs", Kind::Switch),
];

/// Options that exist and are never passed on, each with its reason.
const REFUSED: &[(&str, &str)] = &[
    (
        "trt_dla_enable",
        "refused: the DLA computes in fp16 and int8 only and has no MatMul of two activations, no LayerNormalization and \
         no Softmax as these graphs need them; what it cannot take would run on the GPU unseen, and an Orin Nano has none",
    ),
    ("trt_dla_core", "refused: the DLA is not used (see trt_dla_enable)"),
    ("trt_int8_enable", "refused: packs hold no int8 graphs, and a record could not say what was computed in int8"),
    ("trt_int8_calibration_table_name", "refused: int8 is not used (see trt_int8_enable)"),
    ("trt_int8_use_native_calibration_table", "refused: int8 is not used (see trt_int8_enable)"),
    ("trt_fp16_enable", "set by --dtype, so that the record's precision is what was computed"),
    ("trt_bf16_enable", "set by --dtype, so that the record's precision is what was computed"),
    ("trt_engine_cache_path", "set by jetbench: the directory is keyed by graph, versions, device and precision"),
    ("trt_timing_cache_path", "set by jetbench: the directory is keyed by versions and device"),
    ("trt_engine_cache_prefix", "set by jetbench: the directory is the key"),
    ("trt_profile_min_shapes", "set by jetbench from the graph and from max_objects"),
    ("trt_profile_opt_shapes", "set by jetbench from the graph and from opt_objects"),
    ("trt_profile_max_shapes", "set by jetbench from the graph and from max_objects"),
    ("trt_dump_ep_context_model", "not offered: engines are cached by trt_engine_cache_enable"),
    ("trt_ep_context_file_path", "not offered: engines are cached by trt_engine_cache_enable"),
    ("trt_ep_context_embed_mode", "not offered: engines are cached by trt_engine_cache_enable"),
    ("trt_engine_decryption_enable", "not offered: packs are not encrypted"),
    ("trt_engine_decryption_lib_path", "not offered: packs are not encrypted"),
    ("trt_onnx_model_folder_path", "not offered: weights are in the graph files"),
    (
        "trt_cuda_graph_enable",
        "refused: memories alternate between two sets of buffers, and no device was at hand to prove that the provider \
         keeps the captures of both apart; on the cuda device cuda_graph does it with one id per set",
    ),
    ("enable_cuda_graph", "spelled cuda_graph here: it is given only to graphs for which it is legal"),
    ("device_id", "set by --device"),
    ("user_compute_stream", "not offered: streams are ONNX Runtime's own"),
    ("gpu_external_alloc", "not offered: a function's address cannot come from a config"),
    ("gpu_external_free", "not offered: a function's address cannot come from a config"),
];

/// Names of the options that a device knows, beyond those that belong to the pack.
pub fn options(device: Device) -> Vec<String> {
    let own: &[&str] = match device {
        Device::Cpu => &[
            "threads",
            "spinning",
            "pin_threads",
            "thread_pool",
            "load",
            "optimization",
            "cpu_arena",
            pool::HUGE_PAGES,
        ],
        Device::Cuda(_) => &["optimization", "cuda_graph"],
        Device::TensorRt(_) => &["optimization", "max_objects", "opt_objects"],
    };
    let specs: &[&[Spec]] = match device {
        Device::Cpu => &[],
        Device::Cuda(_) => &[CUDA],
        Device::TensorRt(_) => &[TENSORRT, CUDA],
    };
    let named = specs.iter().flat_map(|list| list.iter().map(|spec| spec.name));
    own.iter().copied().chain(named).map(str::to_string).collect()
}

/// Options that are dropped with a reason of their own, by name.
pub fn refused() -> BTreeMap<String, String> {
    REFUSED.iter().map(|(name, reason)| (name.to_string(), reason.to_string())).collect()
}
/// A provider to be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// ONNX Runtime's CUDA provider.
    Cuda,
    /// ONNX Runtime's TensorRT provider.
    TensorRt,
}

impl Provider {
    /// Name in texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Provider::Cuda => "CUDA",
            Provider::TensorRt => "TensorRT",
        }
    }
}

/// Options given by the user for the providers of a device, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderOptions {
    pub(super) cuda: ProviderPairs,
    pub(super) tensorrt: ProviderPairs,
    /// Config names by ONNX Runtime's names, so that a refusal names what the user wrote.
    names: BTreeMap<String, (String, String)>,
}

impl ProviderOptions {
    /// Takes one option in; `None` when no provider of the device has an option of this name.
    ///
    /// # Errors
    /// What value is expected.
    pub fn take(&mut self, device: Device, name: &str, value: &str) -> Option<Result<(), String>> {
        let lists: &[(Provider, &[Spec])] = match device {
            Device::Cpu => &[],
            Device::Cuda(_) => &[(Provider::Cuda, CUDA)],
            Device::TensorRt(_) => &[(Provider::TensorRt, TENSORRT), (Provider::Cuda, CUDA)],
        };
        let (provider, spec) =
            lists.iter().find_map(|(provider, list)| Some((*provider, list.iter().find(|s| s.name == name)?)))?;
        Some(spec.kind.translate(value).map(|text| {
            let pairs = match provider {
                Provider::Cuda => &mut self.cuda,
                Provider::TensorRt => &mut self.tensorrt,
            };
            pairs.insert(spec.key.to_string(), text);
            self.names.insert(spec.key.to_string(), (name.to_string(), value.to_string()));
        }))
    }

    /// May the CUDA provider compute fp32 products in TF32? Only when asked.
    pub fn tf32(&self) -> bool {
        self.cuda.get("use_tf32").is_some_and(|v| v == "1")
    }

    /// The option as the user wrote it, or ONNX Runtime's own name for one that this program set.
    pub(super) fn written(&self, key: &str, value: &str) -> (String, String) {
        self.names.get(key).cloned().unwrap_or_else(|| (key.to_string(), value.to_string()))
    }
}

impl Kind {
    fn translate(self, value: &str) -> Result<String, String> {
        match self {
            Kind::Switch => match value {
                "true" => Ok("1".to_string()),
                "false" => Ok("0".to_string()),
                _ => Err("true or false".to_string()),
            },
            Kind::Number(low, high) => match value.parse::<i64>() {
                Ok(n) if (low..=high).contains(&n) => Ok(n.to_string()),
                _ => Err(format!("{low} to {high}")),
            },
            Kind::Mib => match value.parse::<u64>() {
                Ok(mib) if (1..=1 << 20).contains(&mib) => Ok((mib << 20).to_string()),
                _ => Err("1 to 1048576".to_string()),
            },
            Kind::Word(words) => words
                .iter()
                .find(|(word, _)| *word == value)
                .map(|(_, text)| text.to_string())
                .ok_or(words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")),
            Kind::Text if value.is_empty() => Err("a text".to_string()),
            Kind::Text => Ok(value.to_string()),
        }
    }
}

impl SessionSettings {
    /// Reads the options of a request.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for a value out of range and for an option that does not belong to the device: options
    /// are admitted by the capabilities before a runner is opened.
    pub fn new(device: Device, precision: Precision, options: &Options) -> Result<Self, RunnerError> {
        let mut settings = SessionSettings {
            device,
            precision,
            thread_pool: ThreadPool {
                threads: options.threads,
                spinning: options.spinning.unwrap_or(false),
                ..ThreadPool::default()
            },
            one_pool: device == Device::Cpu,
            load_parallel: device == Device::Cpu,
            optimization: Optimization::All,
            cpu_arena: Arena::Shared,
            huge_pages: true,
            cuda_graph: false,
            engine_objects: [MOST_OBJECTS, 1],
            provider_options: ProviderOptions::default(),
            together: usize::MAX,
            exclusive: false,
            cpu_forms: device == Device::Cpu && precision == Precision::Fp32,
            stage_times: true,
            pipeline: false,
            profile: None,
        };
        let usage = |name: &str, value: &str, expected: &str| {
            Err(RunnerError::Usage(format!("option {name} = {value}: {expected} expected on {device}")))
        };
        if device != Device::Cpu {
            for (name, value) in [
                ("threads", options.threads.map(|n| n.to_string())),
                ("spinning", options.spinning.map(|b| b.to_string())),
            ] {
                if let Some(value) = value {
                    return usage(name, &value, "no such option");
                }
            }
        }
        if let Some(threads) = options.threads.filter(|n| !(1..=1024).contains(n)) {
            return usage("threads", &threads.to_string(), "1 to 1024");
        }
        for (name, value) in &options.extra {
            match (name.as_str(), value.as_str(), device) {
                ("optimization", "disable", _) => settings.optimization = Optimization::Disable,
                ("optimization", "basic", _) => settings.optimization = Optimization::Basic,
                ("optimization", "extended", _) => settings.optimization = Optimization::Extended,
                ("optimization", "all", _) => settings.optimization = Optimization::All,
                ("optimization", _, _) => return usage(name, value, "disable, basic, extended or all"),
                ("overlaps", "exclusive", _) => settings.exclusive = true,
                ("overlaps", "keep", _) => settings.exclusive = false,
                ("overlaps", _, _) => return usage(name, value, "keep or exclusive"),
                ("stage_times", "on", _) => settings.stage_times = true,
                ("stage_times", "off", _) => settings.stage_times = false,
                ("stage_times", _, _) => return usage(name, value, "on or off"),
                ("form", "plain", Device::Cpu) => settings.cpu_forms = false,
                ("form", "cpu", Device::Cpu) if precision == Precision::Fp32 => settings.cpu_forms = true,
                ("form", "cpu", Device::Cpu) => {
                    return usage(name, value, "plain (only fp32 graphs have a form for the CPU)");
                }
                ("form", _, Device::Cpu) => return usage(name, value, "cpu or plain"),
                (PIPELINE, "on", Device::Cpu) => settings.pipeline = true,
                (PIPELINE, "off", Device::Cpu) => settings.pipeline = false,
                (PIPELINE, _, Device::Cpu) => return usage(name, value, "on or off"),
                ("objects", "batch", _) => settings.together = usize::MAX,
                ("objects", "loop", _) => settings.together = 1,
                ("objects", _, _) => match value.parse::<usize>() {
                    Ok(n) if (1..=65536).contains(&n) => settings.together = n,
                    _ => return usage(name, value, "batch, loop, or the most objects to run together"),
                },
                ("cpu_arena", "shared", Device::Cpu) => settings.cpu_arena = Arena::Shared,
                ("cpu_arena", "own", Device::Cpu) => settings.cpu_arena = Arena::Own,
                ("cpu_arena", "off", Device::Cpu) => settings.cpu_arena = Arena::Off,
                ("thread_pool", "shared", Device::Cpu) => settings.one_pool = true,
                ("thread_pool", "own", Device::Cpu) => settings.one_pool = false,
                ("thread_pool", _, Device::Cpu) => return usage(name, value, "shared or own"),
                ("load", "parallel", Device::Cpu) => settings.load_parallel = true,
                ("load", "serial", Device::Cpu) => settings.load_parallel = false,
                ("load", _, Device::Cpu) => return usage(name, value, "parallel or serial"),
                ("pin_threads", "on", Device::Cpu) => {
                    settings.thread_pool.pinned = pins(options.threads, &processors())?
                }
                ("pin_threads", "off", Device::Cpu) => settings.thread_pool.pinned.clear(),
                ("pin_threads", _, Device::Cpu) => return usage(name, value, "on or off"),
                (pool::HUGE_PAGES, "on", Device::Cpu) => settings.huge_pages = true,
                (pool::HUGE_PAGES, "off", Device::Cpu) => settings.huge_pages = false,
                (pool::HUGE_PAGES, _, Device::Cpu) => return usage(name, value, "on or off"),
                ("cuda_graph", "true", Device::Cuda(_)) => settings.cuda_graph = true,
                ("cuda_graph", "false", Device::Cuda(_)) => settings.cuda_graph = false,
                ("cpu_arena", _, Device::Cpu) => return usage(name, value, "shared, own or off"),
                ("cuda_graph", _, Device::Cuda(_)) => return usage(name, value, "true or false"),
                ("max_objects" | "opt_objects", _, Device::TensorRt(_)) => match value.parse::<usize>() {
                    Ok(n) if (1..=1024).contains(&n) => settings.engine_objects[usize::from(name == "opt_objects")] = n,
                    _ => return usage(name, value, "1 to 1024"),
                },
                _ => match settings.provider_options.take(device, name, value) {
                    Some(Ok(())) => {}
                    Some(Err(expected)) => return usage(name, value, &expected),
                    None => return usage(name, value, "no such option"),
                },
            }
        }
        let [most, best] = settings.engine_objects;
        if best > most {
            return usage("opt_objects", &best.to_string(), &format!("at most max_objects, which is {most}"));
        }
        Ok(settings)
    }
}

/// The processors for all threads but the calling one, which is left alone because the decoder's thread would inherit its place.
fn pins(threads: Option<usize>, processors: &[usize]) -> Result<Vec<usize>, RunnerError> {
    let usage = |text: String| Err(RunnerError::Usage(format!("option pin_threads = on: {text}")));
    match threads {
        None => usage("say how many with --threads".into()),
        Some(n) if n > processors.len() => {
            usage(format!("{n} threads, but {} processors to tie them to", processors.len()))
        }
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
mod tests {
    use super::*;

    const GPU: Device = Device::TensorRt(0);

    fn given(options: &[(&str, &str)]) -> ProviderOptions {
        let mut given = ProviderOptions::default();
        for (name, value) in options {
            given.take(GPU, name, value).unwrap_or_else(|| panic!("{name} is unknown")).unwrap();
        }
        given
    }

    #[test]
    fn values_are_checked_and_translated() {
        let given = given(&[
            ("trt_workspace_mib", "512"),
            ("trt_builder_optimization_level", "3"),
            ("tf32", "true"),
            ("cudnn_conv_algo_search", "heuristic"),
            ("cuda_arena_extend_strategy", "as_requested"),
        ]);
        assert_eq!(given.tensorrt["trt_max_workspace_size"], (512u64 << 20).to_string());
        assert_eq!(given.cuda["cudnn_conv_algo_search"], "HEURISTIC");
        assert_eq!(given.cuda["arena_extend_strategy"], "kSameAsRequested");
        assert!(given.tf32());
        for (name, value, expected) in [
            ("trt_workspace_mib", "0", "1 to 1048576"),
            ("trt_builder_optimization_level", "6", "0 to 5"),
            ("tf32", "yes", "true or false"),
            ("cudnn_conv_algo_search", "best", "exhaustive, heuristic, default"),
            ("trt_tactic_sources", "", "a text"),
        ] {
            assert_eq!(ProviderOptions::default().take(GPU, name, value).unwrap().unwrap_err(), expected);
        }
        assert!(ProviderOptions::default().take(Device::Cuda(0), "trt_workspace_mib", "1").is_none());
        assert!(ProviderOptions::default().take(Device::Cpu, "tf32", "true").is_none());
    }

    #[test]
    fn every_option_is_offered_or_refused_and_never_both() {
        let refused = refused();
        for device in [Device::Cpu, Device::Cuda(0), GPU] {
            let names = options(device);
            for (i, name) in names.iter().enumerate() {
                assert!(!refused.contains_key(name), "{name} is offered and refused");
                assert!(!names[..i].contains(name), "{name} is offered twice");
            }
        }
        assert!(refused["trt_dla_enable"].contains("LayerNormalization"));
        assert!(options(GPU).contains(&"trt_workspace_mib".to_string()));
    }

    fn asked(extra: &[(&str, &str)]) -> Options {
        let extra = extra.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Options { extra, ..Options::default() }
    }

    #[test]
    fn options_are_checked_against_the_device() {
        let new = |device, extra: &[(&str, &str)]| SessionSettings::new(device, Precision::Fp32, &asked(extra));
        assert!(new(Device::Cpu, &[("optimization", "basic")]).is_ok());
        assert!(new(Device::Cuda(0), &[("tf32", "true")]).unwrap().provider_options.tf32());
        assert!(new(Device::Cuda(0), &[("cuda_graph", "true"), ("cuda_prefer_nhwc", "false")]).unwrap().cuda_graph);
        let engines = new(Device::TensorRt(0), &[("max_objects", "4"), ("opt_objects", "2")]).unwrap();
        assert_eq!((engines.together(), engines.engine_objects), (4, [4, 2]));
        for (device, name, value) in [
            (Device::Cpu, "tf32", "true"),
            (Device::Cpu, "optimization", "most"),
            (Device::Cuda(0), "trt_workspace_mib", "1"),
            (Device::TensorRt(0), "trt_workspace_mib", "0"),
            (Device::TensorRt(0), "opt_objects", "9"),
            (Device::TensorRt(0), "trt_dla_enable", "true"),
            (Device::Cpu, "cpu_arena", "1"),
            (Device::Cpu, "objects", "0"),
            (Device::Cpu, "speed", "9"),
        ] {
            let text = new(device, &[(name, value)]).unwrap_err().to_string();
            assert!(text.contains(name) && text.contains(&device.to_string()), "{text}");
        }
        assert_eq!(pins(Some(1), &[4, 5]).unwrap(), [0usize; 0]);
        assert_eq!(pins(Some(3), &[4, 5, 7]).unwrap(), [5, 7]);
        assert!(pins(Some(3), &[4, 5]).unwrap_err().to_string().contains("2 processors"));
        assert!(pins(None, &[4, 5]).unwrap_err().to_string().contains("--threads"));
        let mut four = SessionSettings::new(Device::Cpu, Precision::Fp32, &Options::default()).unwrap();
        (four.thread_pool.threads, four.thread_pool.pinned, four.pipeline) = (Some(4), vec![1, 2, 3], true);
        let [ahead, rest] = four.split().unwrap();
        let pinned = (ahead.thread_pool.pinned, rest.thread_pool.pinned);
        assert_eq!(pinned, (vec![1], vec![3]), "one thread beside the calling one on either side");
        assert_eq!((ahead.one_pool, rest.one_pool), (false, true), "the sides must not wait for each other's threads");
        let threads = Options { threads: Some(0), ..Options::default() };
        assert!(SessionSettings::new(Device::Cpu, Precision::Fp32, &threads).is_err());
        let threads = Options { threads: Some(2), ..Options::default() };
        assert!(SessionSettings::new(Device::Cuda(0), Precision::Fp32, &threads).is_err());
        assert!(
            SessionSettings::new(Device::Cpu, Precision::Fp32, &threads)
                .unwrap()
                .notes()
                .contains(&"threads: 2".into())
        );
    }
}
