//! Which TensorRT builds the engines, and does it compute a graph in the types in which the graph is written? In a strongly typed network
//! every layer has the types of the file; in a weakly typed one the compiler chooses for each layer the fastest type that it is allowed, by
//! timing. TensorRT 8 knows weak typing only, 9 and 10 know both, from 11 on (and in TensorRT for RTX) there is strong typing only. Where
//! TensorRT is newer than 8, ONNX Runtime makes a network strongly typed unless a precision flag is set
//! (github.com/microsoft/onnxruntime/pull/18707; every version from 1.18 on has it), so none is set there unless the user asks.

use std::ffi::c_int;
use std::path::{Path, PathBuf};

use super::runtime::{self, Runtime};
use super::settings::SessionSettings;
use crate::files;
use crate::onnx::Attention;
use crate::runner::RunnerError;
use crate::types::{Dtype, Effective};

/// The option that asks for weak typing where TensorRT knows both.
pub const WEAK: &str = "trt_weak";

/// The first versions of ONNX Runtime and of TensorRT's parser that know ONNX's own Attention (operator set 23), as their release notes say.
const RUNTIME_WITH_ATTENTION: (u32, u32) = (1, 23);
const PARSER_WITH_ATTENTION: (u32, u32) = (10, 14);

/// How an engine's types come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typing {
    /// Every layer has the types of the file.
    Strong,
    /// The compiler may choose the precision asked for, or fp32, for each layer.
    Weak,
    /// TensorRT's version could not be read. No flag is set, so from 9 on it is strong.
    Unknown,
}

impl Typing {
    /// What a version of TensorRT does with a graph in a precision; `weak`: was [`WEAK`] asked for?
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for [`WEAK`] where there is no choice; [`RunnerError::Environment`] for a precision that this version does not
    /// have (bf16 came with TensorRT 9, and 8 takes quantised graphs only beside a flag that allows int8 in every layer).
    pub fn of(version: Option<&str>, precision: Dtype, weak: bool) -> Result<Typing, RunnerError> {
        let major: Option<u32> = version.and_then(|version| version.split('.').next()?.parse().ok());
        let said = version.unwrap_or("unknown");
        match (major, weak) {
            (Some(..=8), _) if precision == Dtype::Bf16 => Err(RunnerError::Environment(format!(
                "TensorRT {said} has no bf16; use --dtype fp16 or fp32, or TensorRT 10 or newer (JetPack 6 and newer bring it)"
            ))),
            (Some(..=8), _) if precision == Dtype::Int8 => Err(RunnerError::Environment(format!(
                "TensorRT {said} takes quantised graphs only with weak typing, where nobody can say what is computed in int8; use --dtype \
                 fp16 or fp32, or TensorRT 10 or newer (JetPack 6 and newer bring it)"
            ))),
            (Some(9 | 10), true) => Ok(Typing::Weak),
            (Some(..=8), true) => Err(RunnerError::Usage(format!(
                "option {WEAK}=on: TensorRT {said} knows weak typing only, there is nothing to choose; leave the option out"
            ))),
            (Some(_), true) => Err(RunnerError::Usage(format!(
                "option {WEAK}=on: TensorRT {said} knows strong typing only; leave the option out"
            ))),
            (None, true) => Err(RunnerError::Usage(format!(
                "option {WEAK}=on: TensorRT's version cannot be read (no libnvinfer.so on the loader's path), so nobody can say whether it \
                 knows weak typing; put its folder into LD_LIBRARY_PATH, or leave the option out"
            ))),
            (Some(..=8), false) => Ok(Typing::Weak),
            (Some(_), false) => Ok(Typing::Strong),
            (None, false) => Ok(Typing::Unknown),
        }
    }

    /// The provider's flag without which a weakly typed network is computed in fp32. Beside it TensorRT 9 and 10 drop the types of the file.
    pub fn flag(self, precision: Dtype) -> Option<&'static str> {
        match (self, precision) {
            (Typing::Weak, Dtype::Fp16) => Some("trt_fp16_enable"),
            (Typing::Weak, Dtype::Bf16) => Some("trt_bf16_enable"),
            _ => None,
        }
    }

    /// The precision in effect of a graph whose operands all have the type asked for.
    pub fn effective(self, precision: Dtype) -> (String, Effective) {
        match (self, precision) {
            // No lower precision is allowed, whatever the version.
            (_, Dtype::Fp32) => ("fp32".to_string(), Effective::Native),
            // A product between DequantizeLinear and QuantizeLinear has the types of the file as int8 and as fp32. What the compiler made of it
            // stands in the engine only, which is not read; TensorRT for RTX shows products with fp32 results.
            (Typing::Strong, Dtype::Int8) => (
                "int8, or fp32 on int8 operands (the compiler chooses, and its engine is not read)".to_string(),
                Effective::Doubtful,
            ),
            (Typing::Strong, _) => (precision.to_string(), Effective::Native),
            (Typing::Weak, _) => (
                format!("{precision} or fp32 (weakly typed: the compiler may compute layers in another precision)"),
                Effective::Doubtful,
            ),
            (Typing::Unknown, _) => {
                (format!("{precision} if TensorRT is 9 or newer (its version could not be read)"), Effective::Doubtful)
            }
        }
    }

    /// The typing in words, for the evidence.
    fn words(self, precision: Dtype) -> &'static str {
        match (self, precision) {
            (Typing::Strong, _) => "strongly typed: every layer has the types of the file",
            (Typing::Weak, Dtype::Fp32) => "weakly typed, and no lower precision is allowed",
            (Typing::Weak, _) => "weakly typed: the compiler chooses each layer's type by timing",
            (Typing::Unknown, _) => "typing not known: strong from 9 on, since no precision flag is set",
        }
    }
}

/// What engines depend on beside their graph, and where they are kept.
pub struct Compiler {
    /// TensorRT's version.
    version: Option<String>,
    /// Name, compute capability and driver of the GPU.
    gpu: Option<String>,
    /// How it types this graph.
    pub typing: Typing,
    /// Root of the caches.
    pub cache: PathBuf,
}

impl Compiler {
    /// Looks at the machine, once per graph.
    ///
    /// # Errors
    /// As [`Typing::of`]; [`RunnerError::Environment`] when there is no place for engines.
    pub fn find(gpu: u32, settings: &SessionSettings, runtime: &Runtime) -> Result<Self, RunnerError> {
        let cache = runtime::cache_dir().ok_or_else(|| {
            RunnerError::Environment("no engine cache: neither XDG_CACHE_HOME nor HOME is set".to_string())
        })?;
        let version = version(&runtime.path);
        let typing = Typing::of(version.as_deref(), settings.precision, settings.weak_typing)?;
        Ok(Compiler { version, gpu: runtime::gpu_identity(gpu), typing, cache })
    }

    /// A compiler of a known version, for tests on a machine without one.
    #[cfg(test)]
    pub fn known(version: Option<&str>, precision: Dtype, weak: bool) -> Result<Self, RunnerError> {
        let typing = Typing::of(version, precision, weak)?;
        Ok(Compiler { version: version.map(String::from), gpu: None, typing, cache: PathBuf::new() })
    }

    /// TensorRT's version, or `unknown`.
    pub fn version(&self) -> &str {
        self.version.as_deref().unwrap_or("unknown")
    }

    /// The GPU, or `unknown`.
    pub fn gpu(&self) -> &str {
        self.gpu.as_deref().unwrap_or("unknown")
    }

    /// TensorRT and its typing, for the evidence of a graph's precision.
    pub fn evidence(&self, precision: Dtype) -> String {
        format!("TensorRT {}, {}", self.version(), self.typing.words(precision))
    }
}

/// Can large attentions be computed in this way by this version of ONNX Runtime? `compiler`: on a TensorRT device.
///
/// # Errors
/// [`RunnerError::Environment`] where ONNX's own operator was asked for, and ONNX Runtime or TensorRT is too old for it.
pub fn takes_attention(how: Attention, onnx_runtime: &str, compiler: Option<&Compiler>) -> Result<(), RunnerError> {
    if !matches!(how, Attention::Standard { .. }) {
        return Ok(());
    }
    let too_old = |what: &str, version: &str, (major, minor): (u32, u32)| {
        (runtime::release(version) < (major, minor))
            .then(|| format!("needs {what} {major}.{minor} or newer, this is {version}"))
    };
    let old = too_old("ONNX Runtime", onnx_runtime, RUNTIME_WITH_ATTENTION)
        .or_else(|| too_old("TensorRT", compiler?.version(), PARSER_WITH_ATTENTION));
    old.map_or(Ok(()), |old| {
        Err(RunnerError::Environment(format!("option attention=onnx: {old}; use attention=whole")))
    })
}

/// Version of the TensorRT that ONNX Runtime's provider loads, e.g. `10.16.2`; `None` when the dynamic loader finds none.
fn version(runtime: &Path) -> Option<String> {
    let provider = runtime::provider_file(runtime, "tensorrt");
    let number =
        candidates(&files::read(&provider, files::LARGE).unwrap_or_default()).into_iter().find_map(|name| {
            // SAFETY: the library is NVIDIA's, found where ONNX Runtime's provider finds it; loading runs its initialisers.
            let library = unsafe { libloading::Library::new(name) }.ok()?;
            // SAFETY: `getInferLibVersion` has had this signature since TensorRT 5.
            let version = unsafe { library.get::<unsafe extern "C" fn() -> c_int>(b"getInferLibVersion") }.ok()?;
            // SAFETY: takes nothing, returns a number.
            let number = unsafe { version() };
            std::mem::forget(library); // the provider is about to use it
            Some(number)
        })?;
    Some(version_text(number))
}

/// Names by which TensorRT may be loaded: the one that the provider's own file asks the loader for, where it says so, because a machine may
/// have several; else every known one, the newest first.
fn candidates(provider: &[u8]) -> Vec<String> {
    const STEM: &[u8] = b"\0libnvinfer.so.";
    let wanted = provider.windows(STEM.len()).position(|window| window == STEM).and_then(|at| {
        let name = provider.get(at + 1..)?.split(|byte| *byte == 0).next()?;
        let major = name.get(STEM.len() - 1..)?;
        (!major.is_empty() && major.iter().all(u8::is_ascii_digit)).then(|| String::from_utf8_lossy(name).into_owned())
    });
    match wanted {
        Some(name) => vec![name],
        None => ["libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.9", "libnvinfer.so.8", "libnvinfer.so"]
            .map(String::from)
            .to_vec(),
    }
}

/// From TensorRT 10 on a version is `10000 major + 100 minor + patch`, before it `1000 major + 100 minor + patch` (NvInferRuntimeBase.h,
/// NvInferVersion.h).
fn version_text(number: c_int) -> String {
    let major_unit = if number >= 100_000 { 10_000 } else { 1_000 };
    format!("{}.{}.{}", number / major_unit, number % major_unit / 100, number % 100)
}

/// Size of the engines in a cache directory, bytes, and how many they are.
pub fn engines(dir: &Path) -> (u64, usize) {
    let Ok(entries) = std::fs::read_dir(dir) else { return (0, 0) };
    let engines = entries.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "engine"));
    engines.fold((0, 0), |(bytes, count), e| (bytes + e.metadata().map_or(0, |m| m.len()), count + 1))
}

/// What the engines' sizes say: an engine of half-typed weights that is as large as that of the fp32 graph holds fp32. `fp32`: the engines of
/// the same graph in fp32, for a graph in another precision.
pub fn size_evidence(own: (u64, usize), fp32: Option<(u64, usize)>) -> String {
    let megabytes = |(bytes, count): (u64, usize)| {
        let files = if count == 1 { String::new() } else { format!(" in {count} files") };
        format!("{:.2} MB{files}", bytes as f64 / 1e6)
    };
    let comparison = match fp32 {
        None => String::new(),
        Some((_, 0)) => "; the fp32 graph has none in the cache to compare with".to_string(),
        Some(fp32) => format!("; that of the fp32 graph: {}", megabytes(fp32)),
    };
    match own {
        (_, 0) => "engine: not kept, so its size is not known".to_string(),
        own => format!("engine: {}{comparison}", megabytes(own)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn onnx_s_own_attention_needs_versions_that_know_it() {
        let onnx = Attention::Standard { spread: false };
        let taken = |how, onnx_runtime: &str, tensorrt: Option<Option<&str>>| {
            let compiler = tensorrt.map(|version| Compiler::known(version, Dtype::Fp16, false).unwrap());
            takes_attention(how, onnx_runtime, compiler.as_ref()).map_err(|e| e.to_string())
        };
        for (onnx_runtime, tensorrt) in
            [("1.23.0", Some(Some("10.14.1"))), ("1.31.1", Some(Some("11.0.0"))), ("1.23.0", None)]
        {
            assert_eq!(taken(onnx, onnx_runtime, tensorrt), Ok(()), "{onnx_runtime} {tensorrt:?}");
        }
        for (onnx_runtime, tensorrt, said) in [
            ("1.22.0", Some(Some("10.14.1")), "ONNX Runtime 1.23 or newer, this is 1.22.0"),
            ("1.9.9", None, "ONNX Runtime 1.23 or newer, this is 1.9.9"),
            ("1.31.1", Some(Some("10.3.0")), "TensorRT 10.14 or newer, this is 10.3.0"),
            ("1.31.1", Some(None), "TensorRT 10.14 or newer, this is unknown"),
        ] {
            let refused = taken(onnx, onnx_runtime, tensorrt).unwrap_err();
            assert_eq!(refused, format!("option attention=onnx: needs {said}; use attention=whole"));
            assert_eq!(taken(Attention::Whole, onnx_runtime, tensorrt), Ok(()));
        }
    }

    #[test]
    fn typing_follows_version_precision_and_what_was_asked_for() {
        use Dtype::{Bf16, Fp16, Fp32, Int8};
        use Effective::{Doubtful, Native};
        // version, precision, trt_weak; typing, the flag that is set, the precision in effect; or words of the refusal
        type Expected = Result<(Typing, Option<&'static str>, Effective), &'static str>;
        let half = [(Fp16, Some("trt_fp16_enable")), (Bf16, Some("trt_bf16_enable"))];
        let mut cases: Vec<(Option<&str>, Dtype, bool, Expected)> = vec![
            (Some("8.6.2"), Fp32, false, Ok((Typing::Weak, None, Native))),
            (Some("8.6.2"), Fp16, false, Ok((Typing::Weak, Some("trt_fp16_enable"), Doubtful))),
            (Some("8.6.2"), Bf16, false, Err("TensorRT 8.6.2 has no bf16")),
            (Some("8.6.2"), Int8, false, Err("TensorRT 8.6.2 takes quantised graphs only with weak typing")),
            (None, Int8, false, Ok((Typing::Unknown, None, Doubtful))),
            (Some("8.6.2"), Fp16, true, Err("TensorRT 8.6.2 knows weak typing only")),
            (None, Fp32, false, Ok((Typing::Unknown, None, Native))),
            (None, Fp16, false, Ok((Typing::Unknown, None, Doubtful))),
            (None, Bf16, false, Ok((Typing::Unknown, None, Doubtful))),
            (None, Fp16, true, Err("version cannot be read")),
            (Some("nonsense"), Bf16, false, Ok((Typing::Unknown, None, Doubtful))),
        ];
        for version in ["9.2.0", "10.3.0", "10.16.2", "11.0.0", "11.4.1"].map(Some) {
            let both = !version.unwrap().starts_with("11");
            for precision in Dtype::ALL {
                // Of a quantised graph the types of the file do not say what computes it.
                let kind = if precision == Int8 { Doubtful } else { Native };
                cases.push((version, precision, false, Ok((Typing::Strong, None, kind))));
            }
            for (precision, flag) in half {
                let weak = if both { Ok((Typing::Weak, flag, Doubtful)) } else { Err("knows strong typing only") };
                cases.push((version, precision, true, weak));
            }
        }
        for (version, precision, weak, expected) in cases {
            let case = format!("TensorRT {version:?}, {precision}, {WEAK}={weak}");
            match (Typing::of(version, precision, weak), expected) {
                (Ok(typing), Ok((expected, flag, kind))) => {
                    assert_eq!((typing, typing.flag(precision)), (expected, flag), "{case}");
                    let (words, effective) = typing.effective(precision);
                    assert_eq!(effective, kind, "{case}");
                    assert_eq!(words == precision.as_str(), kind == Native, "{case}: {words}");
                }
                (Err(e), Err(words)) => assert!(e.to_string().contains(words), "{case}: {e}"),
                (got, expected) => panic!("{case}: {got:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn the_evidence_names_version_and_typing() {
        let said =
            |version: Option<&str>, precision| Compiler::known(version, precision, false).unwrap().evidence(precision);
        for (version, precision, expected) in [
            (Some("11.4.1"), Dtype::Bf16, "TensorRT 11.4.1, strongly typed: every layer has the types of the file"),
            (Some("8.6.2"), Dtype::Fp32, "TensorRT 8.6.2, weakly typed, and no lower precision is allowed"),
            (
                Some("8.6.2"),
                Dtype::Fp16,
                "TensorRT 8.6.2, weakly typed: the compiler chooses each layer's type by timing",
            ),
            (None, Dtype::Fp16, "TensorRT unknown, typing not known: strong from 9 on, since no precision flag is set"),
        ] {
            assert_eq!(said(version, precision), expected);
        }
    }

    #[test]
    fn versions_are_read_in_both_codings() {
        for (number, text) in [
            (8_602, "8.6.2"),
            (9_200, "9.2.0"),
            (100_300, "10.3.0"),
            (101_602, "10.16.2"),
            (110_000, "11.0.0"),
            (110_401, "11.4.1"),
        ] {
            assert_eq!(version_text(number), text);
        }
        // Without the library there is no answer, and no panic.
        let _ = version(Path::new("/nowhere/libonnxruntime.so"));
    }

    #[test]
    fn the_provider_says_which_tensorrt_it_loads() {
        let file = b"\x7fELF\0libstdc++.so.6\0libnvinfer_plugin.so.10\0libnvinfer.so.10\0libcudart.so.12\0";
        assert_eq!(candidates(file), ["libnvinfer.so.10"], "also where the machine has an 11 as well");
        for silent in [&b""[..], b"\0libnvinfer.so.\0", b"\0libnvinfer.so.x\0", b"\0libnvinfer.so"] {
            assert_eq!(candidates(silent)[..2], ["libnvinfer.so.11", "libnvinfer.so.10"]);
        }
    }

    #[test]
    fn sizes_of_engines_are_evidence() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("a.engine", 1_500_000), ("b.engine", 500_000), ("a.profile", 9)] {
            std::fs::write(dir.path().join(name), vec![0; bytes]).unwrap();
        }
        let own = engines(dir.path());
        assert_eq!((own, engines(&dir.path().join("none"))), ((2_000_000, 2), (0, 0)));
        for (own, fp32, expected) in [
            (own, None, "engine: 2.00 MB in 2 files"),
            (own, Some((3_900_000, 1)), "engine: 2.00 MB in 2 files; that of the fp32 graph: 3.90 MB"),
            ((7_000, 1), Some((0, 0)), "engine: 0.01 MB; the fp32 graph has none in the cache to compare with"),
            ((0, 0), Some((1, 1)), "engine: not kept, so its size is not known"),
        ] {
            assert_eq!(size_evidence(own, fp32), expected);
        }
    }
}
