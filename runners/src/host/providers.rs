//! What is an execution provider told about one graph? Its options, where its engines are cached and under which key. All of it is plain
//! data and pure functions, so that it can be tested on a machine without the device; `session` hands the result to
//! ONNX Runtime.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::tensorrt::Typing;
use crate::digest::sha256_hex;
use crate::onnx::{Dimension, ValueInfo};
use crate::runner::RunnerError;
use crate::types::{Device, DroppedOption, Dtype};

/// Provider options in ONNX Runtime's own names and words.
pub type ProviderPairs = BTreeMap<String, String>;

/// A provider to be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// ONNX Runtime's CUDA provider.
    Cuda,
    /// ONNX Runtime's TensorRT provider.
    TensorRt,
    /// ONNX Runtime's WebGPU provider, or a plugin's.
    WebGpu,
    /// Another provider of a plugin library.
    Plugin,
}

impl Provider {
    /// Name in texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Provider::Cuda => "CUDA",
            Provider::TensorRt => "TensorRT",
            Provider::WebGpu => "WebGPU",
            Provider::Plugin => "plugin's",
        }
    }
}

/// ONNX Runtime's name for the execution provider of a device, where it has one of its own.
const fn provider_name(device: Device) -> &'static str {
    match device {
        Device::Cpu => "CPUExecutionProvider",
        Device::Cuda(_) => "CUDAExecutionProvider",
        Device::TensorRt(_) => "TensorrtExecutionProvider",
        Device::WebGpu(_) => "WebGpuExecutionProvider",
        Device::Plugin(..) => "such provider of its own",
    }
}

/// The execution provider that `device` needs, when it is not among `providers`.
pub fn missing_provider(device: Device, providers: &[String]) -> Option<&'static str> {
    let needed = provider_name(device);
    (!providers.iter().any(|p| p == needed)).then_some(needed)
}

static FETCH: OnceLock<String> = OnceLock::new();

/// Sets the command that fetches ONNX Runtime on this machine, for messages; the first call decides.
pub fn fetched_by(command: String) {
    let _ = FETCH.set(command);
}

/// The command that fetches ONNX Runtime for the CPU: the script of a checkout, unless [`fetched_by`] said another.
pub fn fetch_command() -> &'static str {
    FETCH.get().map_or("scripts/get-runtime.sh", String::as_str)
}

/// How to come by an ONNX Runtime that has the provider of a device.
pub fn where_from(device: Device) -> String {
    let fetch = fetch_command();
    match device {
        Device::Cpu => format!("{fetch} fetches a build that has it"),
        Device::WebGpu(_) => format!(
            "{fetch} --webgpu fetches a build that has it, or name one with --ort-lib FILE (the onnxruntime-webgpu package's)"
        ),
        Device::Plugin(..) => "name the plugin library that offers it with --ep-library FILE".to_string(),
        Device::Cuda(_) | Device::TensorRt(_) => {
            "name a build that has it with --ort-lib FILE (a Jetson's own, or the onnxruntime-gpu package's)"
                .to_string()
        }
    }
}

/// Options given by the user for the providers of a device, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderOptions {
    pub(super) cuda: ProviderPairs,
    pub(super) tensorrt: ProviderPairs,
    pub(super) webgpu: ProviderPairs,
    /// Config names by ONNX Runtime's names, so that a refusal names what the user wrote.
    names: BTreeMap<String, (String, String)>,
}

impl ProviderOptions {
    /// Takes one option in: what ONNX Runtime is told, and how the user wrote it.
    pub(super) fn insert(&mut self, provider: Provider, key: &str, text: String, (name, value): (&str, &str)) {
        let pairs = match provider {
            Provider::Cuda => &mut self.cuda,
            Provider::TensorRt => &mut self.tensorrt,
            Provider::WebGpu | Provider::Plugin => &mut self.webgpu,
        };
        pairs.insert(key.to_string(), text);
        self.names.insert(key.to_string(), (name.to_string(), value.to_string()));
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

/// The provider options of one graph, in order of preference.
pub type Registration = Vec<(Provider, ProviderPairs)>;

/// What engines of a graph depend on. Another value of any field means another engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineKey<'a> {
    /// SHA-256 of the graph file.
    pub graph: &'a str,
    /// Precision asked for.
    pub precision: Dtype,
    /// Whether the engine has the types of the file.
    pub typing: Typing,
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
    pub fn directory(&self, pairs: &ProviderPairs) -> String {
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
        if !shape.iter().any(|axis| matches!(axis, Dimension::Dynamic(_))) {
            continue;
        }
        let sizes: Vec<String> = shape
            .iter()
            .map(|axis| match axis {
                Dimension::Size(n) => n.to_string(),
                Dimension::Dynamic(_) => objects.to_string(),
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
    pub fn directory(&self, options: &ProviderOptions) -> PathBuf {
        self.cache.join("tensorrt").join(self.key.directory(&options.tensorrt))
    }

    /// The engine that the same graph has in fp32, whose digest is given; `None` for the fp32 graph itself.
    pub fn in_fp32<'a>(&'a self, graph: Option<&'a str>) -> Option<Engine<'a>> {
        let graph = graph.filter(|_| self.key.precision != Dtype::Fp32)?;
        let typing = Typing::of(Some(self.key.tensorrt), Dtype::Fp32, false).ok()?;
        let key = EngineKey { graph, precision: Dtype::Fp32, typing, ..self.key.clone() };
        Some(Engine { key, cache: self.cache, inputs: self.inputs })
    }

    /// Makes the directories of the engine and of its timings.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] naming the directory.
    pub fn make_directories(&self, options: &ProviderOptions) -> Result<(), RunnerError> {
        [self.directory(options), self.timing_directory()].iter().try_for_each(|dir| {
            std::fs::create_dir_all(dir)
                .map_err(|e| RunnerError::Environment(format!("engine cache {}: {e}", dir.display())))
        })
    }

    /// Directory of the timing caches.
    pub fn timing_directory(&self) -> PathBuf {
        self.cache.join("tensorrt").join(self.key.timing_directory())
    }
}

/// Options of the TensorRT provider for one graph.
pub fn tensorrt(index: u32, options: &ProviderOptions, engine: &Engine<'_>) -> ProviderPairs {
    let mut pairs = ProviderPairs::new();
    let mut set = |key: &str, value: String| pairs.insert(key.to_string(), value);
    set("device_id", index.to_string());
    set("trt_engine_cache_enable", "1".to_string());
    set("trt_engine_cache_path", engine.directory(options).display().to_string());
    set("trt_timing_cache_enable", "1".to_string());
    set("trt_timing_cache_path", engine.timing_directory().display().to_string());
    if let Some(flag) = engine.key.typing.flag(engine.key.precision) {
        set(flag, "1".to_string());
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
    pairs.extend(options.tensorrt.clone());
    pairs
}

/// Options of the CUDA provider. TF32 is off unless asked for: fp32 means fp32.
pub fn cuda(index: u32, options: &ProviderOptions, capture: bool) -> ProviderPairs {
    let mut pairs =
        ProviderPairs::from([("device_id".to_string(), index.to_string()), ("use_tf32".to_string(), "0".to_string())]);
    if capture {
        pairs.insert("enable_cuda_graph".to_string(), "1".to_string());
    }
    pairs.extend(options.cuda.clone());
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
    pairs: &mut ProviderPairs,
    key: &str,
    options: &ProviderOptions,
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
    let (name, value) = options.written(key, &value);
    Ok(DroppedOption {
        name,
        value,
        reason: format!("ONNX Runtime {runtime_version} does not know the provider option `{key}`"),
    })
}

/// The options in one line, for the record.
pub fn note(provider: Provider, pairs: &ProviderPairs) -> String {
    let list: Vec<String> = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    let list = if list.is_empty() { "its own defaults".to_string() } else { list.join(", ") };
    format!("{} provider: {list}", provider.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::settings::SessionSettings;
    use crate::onnx::ElementType;
    use crate::types::Options;

    const GPU: Device = Device::TensorRt(0);

    fn given(options: &[(&str, &str)]) -> ProviderOptions {
        let mut asked = Options::default();
        options.iter().for_each(|(name, value)| asked.set(name, value).unwrap());
        SessionSettings::new(GPU, Dtype::Fp32, &asked).unwrap().provider_options
    }

    fn inputs() -> Vec<ValueInfo<'static>> {
        let objects = || Dimension::Dynamic("objects".to_string());
        let info = |name, shape| ValueInfo { name, dtype: Some(ElementType::F32), shape: Some(shape) };
        vec![
            info("image_embed", vec![Dimension::Size(1), Dimension::Size(256)]),
            info("bank", vec![objects(), Dimension::Size(7), Dimension::Size(512), Dimension::Size(64)]),
            info("age", vec![objects()]),
        ]
    }

    fn key() -> EngineKey<'static> {
        EngineKey {
            graph: "0123456789abcdef0123456789abcdef",
            precision: Dtype::Fp16,
            typing: Typing::Strong,
            runtime: "1.20.0",
            tensorrt: "10.3.0",
            gpu: "Orin (nvgpu), 8.7, driver 12.6",
            objects: Some([1, 4, 8]),
        }
    }

    #[test]
    fn engines_are_kept_apart_by_everything_they_depend_on() {
        let none = ProviderPairs::new();
        let base = key().directory(&none);
        assert!(base.starts_with("0123456789ab-fp16-ort1.20.0-trt10.3.0-orin-nvgpu-8-7-driver-12-6-"), "{base}");
        let others = [
            EngineKey { graph: "1123456789abcdef", ..key() },
            EngineKey { precision: Dtype::Bf16, ..key() },
            EngineKey { typing: Typing::Weak, ..key() },
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
    fn tensorrt_gets_caches_and_profiles_and_no_precision_flag_unless_it_types_weakly() {
        let inputs = inputs();
        let engine = Engine { key: key(), cache: Path::new("/c"), inputs: &inputs };
        let given = given(&[("trt_timing_cache_enable", "false"), ("trt_workspace_mib", "1")]);
        let pairs = tensorrt(2, &given, &engine);
        assert_eq!(pairs["device_id"], "2");
        let flags =
            |pairs: &ProviderPairs| pairs.keys().filter(|k| k.ends_with("16_enable")).cloned().collect::<Vec<_>>();
        assert_eq!(flags(&pairs), [""; 0]);
        for (typing, precision, expected) in [
            (Typing::Strong, Dtype::Bf16, &[][..]),
            (Typing::Unknown, Dtype::Bf16, &[]),
            (Typing::Weak, Dtype::Fp32, &[]),
            (Typing::Weak, Dtype::Fp16, &["trt_fp16_enable"]),
            (Typing::Weak, Dtype::Bf16, &["trt_bf16_enable"]),
        ] {
            let engine =
                Engine { key: EngineKey { typing, precision, ..key() }, cache: Path::new("/c"), inputs: &inputs };
            let pairs = tensorrt(0, &ProviderOptions::default(), &engine);
            assert_eq!(flags(&pairs), expected, "{typing:?} {precision}");
        }
        assert_eq!(pairs["trt_profile_min_shapes"], "bank:1x7x512x64,age:1");
        assert_eq!(pairs["trt_profile_opt_shapes"], "bank:4x7x512x64,age:4");
        assert_eq!(pairs["trt_profile_max_shapes"], "bank:8x7x512x64,age:8");
        assert_eq!(pairs["trt_timing_cache_enable"], "0", "the user's word holds");
        assert!(pairs["trt_engine_cache_path"].starts_with("/c/tensorrt/0123456789ab-fp16-"));
        let fixed = Engine { key: EngineKey { objects: None, ..key() }, cache: Path::new("/c"), inputs: &inputs[..1] };
        let pairs = tensorrt(0, &ProviderOptions::default(), &fixed);
        assert!(!pairs.keys().any(|k| k.contains("profile")));
        assert_eq!(profile(&inputs[..1], 3), None);
    }

    #[test]
    fn the_engine_in_fp32_is_the_one_that_an_fp32_run_makes() {
        let weak = Engine { key: EngineKey { typing: Typing::Weak, ..key() }, cache: Path::new("/c"), inputs: &[] };
        let none = ProviderOptions::default();
        let fp32 = EngineKey { graph: "fedcba9876543210", precision: Dtype::Fp32, typing: Typing::Strong, ..key() };
        let fp32 = Engine { key: fp32, cache: Path::new("/c"), inputs: &[] };
        let found = weak.in_fp32(Some("fedcba9876543210")).unwrap();
        assert_eq!(found.directory(&none), fp32.directory(&none));
        assert!(weak.in_fp32(None).is_none() && fp32.in_fp32(Some("fedcba9876543210")).is_none());
        let old = EngineKey { typing: Typing::Weak, tensorrt: "8.6.2", ..key() };
        let old = Engine { key: old, cache: Path::new("/c"), inputs: &[] };
        assert_eq!(old.in_fp32(Some("f")).unwrap().key.typing, Typing::Weak);
    }

    #[test]
    fn cuda_computes_fp32_unless_asked() {
        assert_eq!(
            cuda(1, &ProviderOptions::default(), false),
            ProviderPairs::from([
                ("device_id".to_string(), "1".to_string()),
                ("use_tf32".to_string(), "0".to_string()),
            ])
        );
        assert_eq!(cuda(0, &given(&[("tf32", "true")]), true)["use_tf32"], "1");
        assert_eq!(cuda(0, &ProviderOptions::default(), true)["enable_cuda_graph"], "1");
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
            drop_unknown(&mut ProviderPairs::new(), "trt_bf16_enable", &given, "1.18.0")
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
