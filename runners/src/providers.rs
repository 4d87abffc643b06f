//! What each execution provider is told: which options exist, how their values are checked, what is set without being
//! asked for, where engines are cached and under which key, and which options are refused and why. All of it is plain
//! data and pure functions, so that it can be tested on a machine without the device; `session` hands the result to
//! ONNX Runtime.
//!
//! Names are those of ONNX Runtime where they already name their provider (`trt_…`, `cudnn_…`); CUDA options without
//! such a prefix get `cuda_` in front.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::manifest::sha256_hex;
use crate::onnx::{Axis, ValueInfo};
use crate::pool;
use crate::types::{Device, DroppedOption, Precision};

/// Provider options in ONNX Runtime's own names and words.
pub type Pairs = BTreeMap<String, String>;

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
pub struct Given {
    cuda: Pairs,
    tensorrt: Pairs,
    /// Config names by ONNX Runtime's names, so that a refusal names what the user wrote.
    names: BTreeMap<String, (String, String)>,
}

impl Given {
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
    fn written(&self, key: &str, value: &str) -> (String, String) {
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

/// What engines of a graph depend on. Another value of any field means another engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineKey<'a> {
    /// SHA-256 of the graph file.
    pub graph: &'a str,
    /// Precision asked for.
    pub precision: Precision,
    /// ONNX Runtime's version.
    pub runtime: &'a str,
    /// TensorRT's version, `unknown` when its library does not say.
    pub tensorrt: &'a str,
    /// Name, compute capability and driver of the GPU, `unknown` when the driver does not say.
    pub gpu: &'a str,
    /// Smallest, best and largest number of objects; `None` where the shapes are fixed.
    pub objects: Option<[usize; 3]>,
}

impl EngineKey<'_> {
    /// Directory name: readable parts first, then a digest over everything, the provider options that shape an engine
    /// included.
    pub fn directory(&self, pairs: &Pairs) -> String {
        let mut all = format!("{self:?}");
        for (key, value) in pairs.iter().filter(|(key, _)| key.starts_with("trt_") && !key.ends_with("_path")) {
            let _ = write!(all, ";{key}={value}");
        }
        let digest = sha256_hex(all.as_bytes());
        let graph = self.graph.get(..12).unwrap_or(self.graph);
        format!(
            "{graph}-{}-ort{}-trt{}-{}-{}",
            self.precision,
            self.runtime,
            self.tensorrt,
            slug(self.gpu),
            &digest[..12]
        )
    }

    /// Directory name of timing caches: kernels' times depend on the device and on TensorRT, not on the graph.
    pub fn timing_directory(&self) -> String {
        format!("timing-trt{}-{}", self.tensorrt, slug(self.gpu))
    }
}

/// Letters and digits, other characters as single dashes.
fn slug(text: &str) -> String {
    let dashed: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    dashed.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// Shape profile text for the inputs with named axes: `bank:2x7x512x64,age:2`. `cond_objects` counts 1 at the least.
/// `None` when all shapes are fixed.
pub fn profile(inputs: &[ValueInfo<'_>], objects: usize) -> Option<String> {
    let mut parts = Vec::new();
    for input in inputs {
        let shape = input.shape.as_ref()?;
        if !shape.iter().any(|axis| matches!(axis, Axis::Dynamic(_))) {
            continue;
        }
        let sizes: Vec<String> = shape
            .iter()
            .map(|axis| match axis {
                Axis::Size(n) => n.to_string(),
                Axis::Dynamic(_) => objects.to_string(),
            })
            .collect();
        parts.push(format!("{}:{}", input.name, sizes.join("x")));
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

/// What a graph must be for its kernels to be captured once and replayed: CUDA graphs replay on the same addresses and
/// shapes. `Err` says what stands against it.
///
/// # Errors
/// The reason, for the record.
pub fn capturable(inputs_on_device: bool, fixed_shapes: bool) -> Result<(), &'static str> {
    if !inputs_on_device {
        Err("an input comes from the host and gets a new device address on every frame")
    } else if !fixed_shapes {
        Err("the number of objects may change; objects=loop fixes it")
    } else {
        Ok(())
    }
}

/// Everything the TensorRT provider needs to know about one graph.
pub struct Engine<'a> {
    /// Key of its engines.
    pub key: EngineKey<'a>,
    /// Root of the caches.
    pub cache: &'a Path,
    /// Inputs of the graph.
    pub inputs: &'a [ValueInfo<'a>],
}

impl Engine<'_> {
    /// Directory of this graph's engines.
    pub fn directory(&self, given: &Given) -> PathBuf {
        self.cache.join("tensorrt").join(self.key.directory(&given.tensorrt))
    }

    /// Directory of the timing caches.
    pub fn timing_directory(&self) -> PathBuf {
        self.cache.join("tensorrt").join(self.key.timing_directory())
    }
}

/// Options of the TensorRT provider for one graph.
pub fn tensorrt(index: u32, given: &Given, engine: &Engine<'_>) -> Pairs {
    let mut pairs = Pairs::new();
    let mut set = |key: &str, value: String| pairs.insert(key.to_string(), value);
    set("device_id", index.to_string());
    set("trt_engine_cache_enable", "1".to_string());
    set("trt_engine_cache_path", engine.directory(given).display().to_string());
    set("trt_timing_cache_enable", "1".to_string());
    set("trt_timing_cache_path", engine.timing_directory().display().to_string());
    match engine.key.precision {
        Precision::Fp32 => {}
        Precision::Fp16 => drop(set("trt_fp16_enable", "1".to_string())),
        Precision::Bf16 => drop(set("trt_bf16_enable", "1".to_string())),
    }
    if let Some(counts) = engine.key.objects {
        for (key, count) in
            ["trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"].iter().zip(counts)
        {
            if let Some(text) = profile(engine.inputs, count) {
                set(key, text);
            }
        }
    }
    pairs.extend(given.tensorrt.clone());
    pairs
}

/// Options of the CUDA provider. TF32 is off unless asked for: fp32 means fp32.
pub fn cuda(index: u32, given: &Given, capture: bool) -> Pairs {
    let mut pairs =
        Pairs::from([("device_id".to_string(), index.to_string()), ("use_tf32".to_string(), "0".to_string())]);
    if capture {
        pairs.insert("enable_cuda_graph".to_string(), "1".to_string());
    }
    pairs.extend(given.cuda.clone());
    pairs
}

/// Options without which the provider would compute something else than was asked for, or on another device.
const NEEDED: [&str; 6] = [
    "device_id",
    "trt_fp16_enable",
    "trt_bf16_enable",
    "trt_profile_min_shapes",
    "trt_profile_opt_shapes",
    "trt_profile_max_shapes",
];

/// The option that ONNX Runtime refuses to know, from its own words (`Unknown provider option: "name".`).
pub fn unknown_option(message: &str) -> Option<&str> {
    message.split("Unknown provider option: \"").nth(1)?.split('"').next()
}

/// Removes an option that the linked ONNX Runtime does not know, so that the provider can be registered without it.
///
/// # Errors
/// When the option must not be missing: says so.
pub fn drop_unknown(
    pairs: &mut Pairs,
    key: &str,
    given: &Given,
    runtime_version: &str,
) -> Result<DroppedOption, String> {
    if NEEDED.contains(&key) {
        return Err(format!(
            "ONNX Runtime {runtime_version} has no option `{key}`, without which the device cannot be used as asked"
        ));
    }
    let value = pairs
        .remove(key)
        .ok_or_else(|| format!("ONNX Runtime {runtime_version} refuses `{key}`, which was not given"))?;
    let (name, value) = given.written(key, &value);
    Ok(DroppedOption {
        name,
        value,
        reason: format!("ONNX Runtime {runtime_version} does not know the provider option `{key}`"),
    })
}

/// The options in one line, for the record.
pub fn note(provider: Provider, pairs: &Pairs) -> String {
    let list: Vec<String> = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{} provider: {}", provider.as_str(), list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::ElementType;

    const GPU: Device = Device::TensorRt(0);

    fn given(options: &[(&str, &str)]) -> Given {
        let mut given = Given::default();
        for (name, value) in options {
            given.take(GPU, name, value).unwrap_or_else(|| panic!("{name} is unknown")).unwrap();
        }
        given
    }

    fn inputs() -> Vec<ValueInfo<'static>> {
        let objects = || Axis::Dynamic("objects".to_string());
        let info = |name, shape| ValueInfo { name, dtype: Some(ElementType::F32), shape: Some(shape) };
        vec![
            info("image_embed", vec![Axis::Size(1), Axis::Size(256)]),
            info("bank", vec![objects(), Axis::Size(7), Axis::Size(512), Axis::Size(64)]),
            info("age", vec![objects()]),
        ]
    }

    fn key() -> EngineKey<'static> {
        EngineKey {
            graph: "0123456789abcdef0123456789abcdef",
            precision: Precision::Fp16,
            runtime: "1.20.0",
            tensorrt: "10.3.0",
            gpu: "Orin (nvgpu), 8.7, driver 12.6",
            objects: Some([1, 4, 8]),
        }
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
            assert_eq!(Given::default().take(GPU, name, value).unwrap().unwrap_err(), expected);
        }
        assert!(Given::default().take(Device::Cuda(0), "trt_workspace_mib", "1").is_none());
        assert!(Given::default().take(Device::Cpu, "tf32", "true").is_none());
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

    #[test]
    fn engines_are_kept_apart_by_everything_they_depend_on() {
        let none = Pairs::new();
        let base = key().directory(&none);
        assert!(base.starts_with("0123456789ab-fp16-ort1.20.0-trt10.3.0-orin-nvgpu-8-7-driver-12-6-"), "{base}");
        let others = [
            EngineKey { graph: "1123456789abcdef", ..key() },
            EngineKey { precision: Precision::Bf16, ..key() },
            EngineKey { runtime: "1.20.1", ..key() },
            EngineKey { tensorrt: "10.4.0", ..key() },
            EngineKey { gpu: "Orin (nvgpu), 8.7, driver 12.2", ..key() },
            EngineKey { objects: Some([1, 4, 9]), ..key() },
            EngineKey { objects: None, ..key() },
        ];
        for other in &others {
            assert_ne!(other.directory(&none), base, "{other:?}");
        }
        let level = given(&[("trt_builder_optimization_level", "5")]);
        assert_ne!(key().directory(&level.tensorrt), base, "an option that shapes the engine");
        assert_eq!(key().timing_directory(), "timing-trt10.3.0-orin-nvgpu-8-7-driver-12-6");
    }

    #[test]
    fn tensorrt_gets_caches_precision_and_profiles() {
        let inputs = inputs();
        let engine = Engine { key: key(), cache: Path::new("/c"), inputs: &inputs };
        let given = given(&[("trt_timing_cache_enable", "false"), ("trt_workspace_mib", "1")]);
        let pairs = tensorrt(2, &given, &engine);
        assert_eq!(pairs["device_id"], "2");
        assert_eq!(pairs["trt_fp16_enable"], "1");
        assert!(!pairs.contains_key("trt_bf16_enable"));
        assert_eq!(pairs["trt_profile_min_shapes"], "bank:1x7x512x64,age:1");
        assert_eq!(pairs["trt_profile_opt_shapes"], "bank:4x7x512x64,age:4");
        assert_eq!(pairs["trt_profile_max_shapes"], "bank:8x7x512x64,age:8");
        assert_eq!(pairs["trt_timing_cache_enable"], "0", "the user's word holds");
        assert!(pairs["trt_engine_cache_path"].starts_with("/c/tensorrt/0123456789ab-fp16-"));
        let fixed = Engine { key: EngineKey { objects: None, ..key() }, cache: Path::new("/c"), inputs: &inputs[..1] };
        let pairs = tensorrt(0, &Given::default(), &fixed);
        assert!(!pairs.keys().any(|k| k.contains("profile")));
        assert_eq!(profile(&inputs[..1], 3), None);
    }

    #[test]
    fn cuda_computes_fp32_unless_asked() {
        assert_eq!(
            cuda(1, &Given::default(), false),
            Pairs::from([("device_id".to_string(), "1".to_string()), ("use_tf32".to_string(), "0".to_string()),])
        );
        assert_eq!(cuda(0, &given(&[("tf32", "true")]), true)["use_tf32"], "1");
        assert_eq!(cuda(0, &Given::default(), true)["enable_cuda_graph"], "1");
    }

    #[test]
    fn what_the_runtime_does_not_know_is_dropped_by_its_own_word() {
        let message = "provider_options_utils.h:151 Parse Unknown provider option: \"fuse_conv_bias\".";
        assert_eq!(unknown_option(message), Some("fuse_conv_bias"));
        assert_eq!(unknown_option("CUDA failure 100"), None);
        let given = given(&[("cuda_fuse_conv_bias", "true")]);
        let mut pairs = cuda(0, &given, false);
        let dropped = drop_unknown(&mut pairs, "fuse_conv_bias", &given, "1.18.0").unwrap();
        assert_eq!((dropped.name.as_str(), dropped.value.as_str()), ("cuda_fuse_conv_bias", "true"));
        assert!(dropped.reason.contains("1.18.0") && !pairs.contains_key("fuse_conv_bias"));
        assert!(drop_unknown(&mut pairs, "device_id", &given, "1.18.0").is_err());
        assert!(drop_unknown(&mut pairs, "nonesuch", &given, "1.18.0").is_err(), "no endless retries");
        assert!(
            drop_unknown(&mut Pairs::new(), "trt_bf16_enable", &given, "1.18.0")
                .unwrap_err()
                .contains("trt_bf16_enable")
        );
    }

    #[test]
    fn capture_needs_fixed_addresses_and_shapes() {
        assert!(capturable(true, true).is_ok());
        assert!(capturable(false, true).unwrap_err().contains("host"));
        assert!(capturable(true, false).unwrap_err().contains("objects=loop"));
    }
}
