//! One graph in one ONNX Runtime session: the provider that was asked for and no other, the precision that the file
//! really holds with the facts that show it, and every setting recorded.

use std::path::PathBuf;
use std::time::Instant;

use ort::ep;
use ort::ep::ArbitrarilyConfigurableExecutionProvider;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{IoBinding, Session};

use crate::RunnerError;
use crate::manifest::CheckedGraph;
use crate::onnx::{ElementType, Model};
use crate::runtime::{Runtime, cache_dir};
use crate::types::{Device, Options, Precision, StagePrecision};

/// Settings common to all graphs of a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it runs.
    pub device: Device,
    /// Precision asked for.
    pub precision: Precision,
    /// Threads inside one operator; `None`: ONNX Runtime's default, all physical cores.
    threads: Option<usize>,
    /// May idle threads spin?
    spinning: bool,
    /// `disable`, `basic`, `extended` or `all`.
    optimization: Optimization,
    /// CUDA: may fp32 products be computed in TF32?
    tf32: bool,
    /// TensorRT: workspace limit.
    workspace_mib: Option<u64>,
    /// Most objects that run together where the graphs have an object axis; `usize::MAX`: all.
    pub together: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Optimization {
    Disable,
    Basic,
    Extended,
    All,
}

impl Optimization {
    // Never `Level3`: runtimes before 1.23 refuse it, and `All` includes it on newer ones.
    fn level(self) -> GraphOptimizationLevel {
        match self {
            Optimization::Disable => GraphOptimizationLevel::Disable,
            Optimization::Basic => GraphOptimizationLevel::Level1,
            Optimization::Extended => GraphOptimizationLevel::Level2,
            Optimization::All => GraphOptimizationLevel::All,
        }
    }
}

impl Settings {
    /// Reads the options of a request.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for a value out of range and for an option that does not belong to the device: options
    /// are admitted by the capabilities before a runner is opened.
    pub fn new(device: Device, precision: Precision, options: &Options) -> Result<Self, RunnerError> {
        let mut settings = Settings {
            device,
            precision,
            threads: options.threads,
            spinning: options.spinning.unwrap_or(false),
            optimization: Optimization::All,
            tf32: false,
            workspace_mib: None,
            together: usize::MAX,
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
                ("objects", "batch", _) => settings.together = usize::MAX,
                ("objects", "loop", _) => settings.together = 1,
                ("objects", _, _) => match value.parse::<usize>() {
                    Ok(n) if (1..=65536).contains(&n) => settings.together = n,
                    _ => return usage(name, value, "batch, loop, or the most objects to run together"),
                },
                ("tf32", "true", Device::Cuda(_)) => settings.tf32 = true,
                ("tf32", "false", Device::Cuda(_)) => settings.tf32 = false,
                ("tf32", _, Device::Cuda(_)) => return usage(name, value, "true or false"),
                ("workspace_mib", _, Device::TensorRt(_)) => match value.parse::<u64>() {
                    Ok(mib) if (1..=1 << 20).contains(&mib) => settings.workspace_mib = Some(mib),
                    _ => return usage(name, value, "1 to 1048576"),
                },
                _ => return usage(name, value, "no such option"),
            }
        }
        Ok(settings)
    }

    /// Does the graph run on a GPU?
    pub fn on_gpu(&self) -> bool {
        self.device != Device::Cpu
    }

    /// Every setting in effect, in words, for the record.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!("graph optimisation: {:?}", self.optimization).to_lowercase()];
        match self.device {
            Device::Cpu => {
                notes.push(match self.threads {
                    Some(n) => format!("threads: {n}"),
                    None => "threads: ONNX Runtime's default (all physical cores)".to_string(),
                });
                notes.push(format!("spinning: {}", if self.spinning { "on" } else { "off" }));
            }
            Device::Cuda(_) => {
                notes.push(format!("CUDA provider: use_tf32 = {}; no CPU fallback", u8::from(self.tf32)));
            }
            Device::TensorRt(_) => notes.push(format!(
                "TensorRT provider: {}engine and timing cache on{}; operators it does not take run on the CUDA \
                 provider, none on the CPU",
                match self.precision {
                    Precision::Fp32 => "",
                    Precision::Fp16 => "trt_fp16_enable = 1, ",
                    Precision::Bf16 => "trt_bf16_enable = 1, ",
                },
                self.workspace_mib.map(|m| format!(", workspace {m} MiB")).unwrap_or_default()
            )),
        }
        notes
    }

    fn provider(
        &self,
        graph: &CheckedGraph,
        runtime: &Runtime,
    ) -> Result<Vec<ep::ExecutionProviderDispatch>, RunnerError> {
        let index = |i: u32| i32::try_from(i).unwrap_or(i32::MAX);
        Ok(match self.device {
            Device::Cpu => Vec::new(),
            Device::Cuda(i) => vec![cuda_provider(i, self.tf32)],
            Device::TensorRt(i) => {
                let cache = self.engine_cache(graph, runtime)?;
                let mut trt = ep::TensorRT::default()
                    .with_device_id(index(i))
                    .with_engine_cache(true)
                    .with_engine_cache_path(cache.display())
                    .with_timing_cache(true)
                    .with_timing_cache_path(cache.display());
                match self.precision {
                    Precision::Fp32 => {}
                    Precision::Fp16 => trt = trt.with_fp16(true),
                    Precision::Bf16 => trt = trt.with_bf16(true),
                }
                if let Some(mib) = self.workspace_mib {
                    trt = trt.with_max_workspace_size(usize::try_from(mib << 20).unwrap_or(usize::MAX));
                }
                vec![trt.build().error_on_failure(), cuda_provider(i, false)]
            }
        })
    }

    /// Directory of the engines of one graph: a digest change, another precision or another runtime means other engines.
    fn engine_cache(&self, graph: &CheckedGraph, runtime: &Runtime) -> Result<PathBuf, RunnerError> {
        let root = cache_dir(&|name| std::env::var_os(name)).ok_or_else(|| {
            RunnerError::Environment("no engine cache: neither XDG_CACHE_HOME nor HOME is set".to_string())
        })?;
        let key = format!("{}-{}-ort{}", &graph.sha256[..16], self.precision, runtime.version);
        let dir = root.join("tensorrt").join(key);
        std::fs::create_dir_all(&dir)
            .map_err(|e| RunnerError::Environment(format!("engine cache {}: {e}", dir.display())))?;
        Ok(dir)
    }
}

fn cuda_provider(index: u32, tf32: bool) -> ep::ExecutionProviderDispatch {
    ep::CUDA::default()
        .with_device_id(i32::try_from(index).unwrap_or(i32::MAX))
        .with_arbitrary_config("use_tf32", if tf32 { "1" } else { "0" })
        .build()
        .error_on_failure()
}

/// A loaded graph.
pub struct Graph {
    /// Name, e.g. `image_encoder`.
    pub name: String,
    /// Time to rewrite (where needed), load and optimise it, milliseconds.
    pub load_ms: f64,
    /// Precision with evidence.
    pub precision: StagePrecision,
    session: Session,
}

impl Graph {
    /// Loads a checked graph file on the device of the settings; half-typed graphs are rewritten for the CPU first.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] when the provider cannot be had (ONNX Runtime's own text follows verbatim),
    /// [`RunnerError::Pack`] when the graph cannot be rewritten or ONNX Runtime refuses it.
    pub fn open(name: &str, file: &CheckedGraph, settings: &Settings, runtime: &Runtime) -> Result<Self, RunnerError> {
        let started = Instant::now();
        let wrong = |text: &dyn std::fmt::Display| RunnerError::Pack(format!("{}: {text}", file.path.display()));
        let model = Model::parse(&file.bytes).map_err(|e| wrong(&e))?;
        let (precision, rewritten) = evidence(name, &model, settings, runtime).map_err(|e| wrong(&e))?;
        let bytes = rewritten.as_deref().unwrap_or(&file.bytes);

        let refused = |e: &dyn std::fmt::Display| {
            RunnerError::Environment(format!(
                "device `{}` cannot be used for graph `{name}`; ONNX Runtime {} ({}) says: {e}",
                settings.device,
                runtime.version,
                runtime.path.display()
            ))
        };
        let mut builder = configure(settings, runtime).map_err(|e| refused(&e))?;
        let providers = settings.provider(file, runtime)?;
        if !providers.is_empty() {
            builder = builder
                .with_execution_providers(providers)
                .and_then(SessionBuilder::with_disable_cpu_fallback)
                .map_err(|e| refused(&e))?;
        }
        let session = builder.commit_from_memory(bytes).map_err(|e| {
            if settings.on_gpu() {
                refused(&e)
            } else if e.message().contains("under development") && e.message().contains("pset") {
                RunnerError::Environment(format!(
                    "ONNX Runtime {} ({}) is too old for graph `{name}` of opset {}; install a newer one or run another \
                     precision. It says: {e}",
                    runtime.version,
                    runtime.path.display(),
                    model.opset()
                ))
            } else {
                wrong(&format!("ONNX Runtime {} cannot load graph `{name}` on the CPU: {e}", runtime.version))
            }
        })?;
        let load_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(Graph { name: name.to_string(), load_ms, precision, session })
    }

    /// Loads a small f32 graph that this program built itself, on the same device. On a TensorRT device it runs on the
    /// CUDA provider: an engine for it would take longer to build than it ever runs.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] with ONNX Runtime's text.
    pub fn open_built(name: &str, bytes: &[u8], settings: &Settings, runtime: &Runtime) -> Result<Self, RunnerError> {
        let started = Instant::now();
        let refused = |e: &dyn std::fmt::Display| {
            RunnerError::Environment(format!(
                "device `{}` cannot be used for the built-in graph `{name}`; ONNX Runtime {} ({}) says: {e}",
                settings.device,
                runtime.version,
                runtime.path.display()
            ))
        };
        let mut builder = configure(settings, runtime).map_err(|e| refused(&e))?;
        if let Device::Cuda(i) | Device::TensorRt(i) = settings.device {
            builder = builder
                .with_execution_providers([cuda_provider(i, false)])
                .and_then(SessionBuilder::with_disable_cpu_fallback)
                .map_err(|e| refused(&e))?;
        }
        let session = builder.commit_from_memory(bytes).map_err(|e| refused(&e))?;
        let precision = StagePrecision {
            graph: name.to_string(),
            requested: Precision::Fp32,
            effective: "fp32".to_string(),
            evidence: vec!["built in, moves values only".to_string()],
        };
        Ok(Graph { name: name.to_string(), load_ms: started.elapsed().as_secs_f64() * 1e3, precision, session })
    }

    /// A new set of bound inputs and outputs.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] with ONNX Runtime's text.
    pub fn binding(&self) -> Result<IoBinding, RunnerError> {
        self.session.create_binding().map_err(|e| RunnerError::Environment(format!("graph `{}`: {e}", self.name)))
    }

    /// Memory of the device that the graph runs on.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] with ONNX Runtime's text.
    pub fn device_allocator(&self, device: Device) -> Result<Allocator, RunnerError> {
        let index = match device {
            Device::Cpu => return Ok(Allocator::default()),
            Device::Cuda(i) | Device::TensorRt(i) => i32::try_from(i).unwrap_or(i32::MAX),
        };
        MemoryInfo::new(AllocationDevice::CUDA, index, AllocatorType::Device, MemoryType::Default)
            .and_then(|info| Allocator::new(&self.session, info))
            .map_err(|e| RunnerError::Environment(format!("no memory on device `{device}`: {e}")))
    }

    /// Runs the graph on bound tensors and waits for the device.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the graph, with ONNX Runtime's text.
    pub fn run(&mut self, binding: &IoBinding) -> Result<(), RunnerError> {
        match self.session.run_binding(binding) {
            Ok(_outputs) => Ok(()), // they are the bound tensors; dropping the handles frees nothing
            Err(e) => Err(RunnerError::Inference(format!("graph `{}`: {e}", self.name))),
        }
    }
}

fn configure(settings: &Settings, runtime: &Runtime) -> Result<SessionBuilder, ort::Error> {
    let mut builder = Session::builder(&runtime.environment)?
        .with_optimization_level(settings.optimization.level())?
        .with_log_level(LogLevel::Warning)?
        .with_inter_threads(1)?
        .with_inter_op_spinning(false)?
        .with_intra_op_spinning(settings.spinning)?;
    match (settings.device, settings.threads) {
        (Device::Cpu, Some(threads)) => builder = builder.with_intra_threads(threads)?,
        (Device::Cpu, None) => {}
        // The host side of a GPU session only launches kernels.
        _ => builder = builder.with_intra_threads(1)?,
    }
    Ok(builder)
}

/// Precision of a graph on a device, and its rewritten bytes where the device has no half kernels.
fn evidence(
    name: &str,
    model: &Model<'_>,
    settings: &Settings,
    runtime: &Runtime,
) -> Result<(StagePrecision, Option<Vec<u8>>), crate::onnx::OnnxError> {
    let facts = model.facts();
    let mut evidence = vec![format!("file: {facts}"), format!("ONNX Runtime {}", runtime.version)];
    let (wanted, half) = match settings.precision {
        Precision::Fp32 => (ElementType::F32, false),
        Precision::Fp16 => (ElementType::F16, true),
        Precision::Bf16 => (ElementType::BF16, true),
    };
    let (agreeing, all) = facts.share(wanted);
    let emulate = half && settings.device == Device::Cpu;
    let mut bytes = None;
    if emulate {
        let emulated = model.emulate_half()?;
        let by_op: Vec<String> = emulated.rewritten.iter().map(|(op, n)| format!("{op} {n}")).collect();
        evidence.push(format!(
            "rewritten at load, in memory, because the CPU provider has no half kernels: {} casts to f32 before \
             operands, {} casts back after results, around {}",
            emulated.casts_in,
            emulated.casts_out,
            if by_op.is_empty() { "nothing".to_string() } else { by_op.join(", ") }
        ));
        bytes = Some(emulated.bytes);
    }
    let pure = match (settings.precision, emulate) {
        (Precision::Fp32, _) if settings.tf32 => "fp32, tf32 products allowed".to_string(),
        (Precision::Fp32, _) => "fp32".to_string(),
        (p, true) => format!("{p} operands, fp32 accumulation, emulated"),
        (p, false) => p.to_string(),
    };
    let effective = if agreeing == all && (all > 0 || !half) {
        pure
    } else if agreeing == 0 {
        format!("fp32 ({} asked for; no operand in the file has that type)", settings.precision)
    } else {
        format!("mixed: {agreeing} of {all} MatMul, Gemm and Conv: {pure}")
    };
    let stage = StagePrecision { graph: name.to_string(), requested: settings.precision, effective, evidence };
    Ok((stage, bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn options(extra: &[(&str, &str)]) -> Options {
        let extra = extra.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Options { extra, ..Options::default() }
    }

    #[test]
    fn options_are_checked_against_the_device() {
        let new = |device, extra: &[(&str, &str)]| Settings::new(device, Precision::Fp32, &options(extra));
        assert!(new(Device::Cpu, &[("optimization", "basic")]).is_ok());
        assert!(new(Device::Cuda(0), &[("tf32", "true")]).unwrap().tf32);
        for (device, name, value) in [
            (Device::Cpu, "tf32", "true"),
            (Device::Cpu, "optimization", "most"),
            (Device::Cuda(0), "workspace_mib", "1"),
            (Device::TensorRt(0), "workspace_mib", "0"),
            (Device::Cpu, "speed", "9"),
        ] {
            let text = new(device, &[(name, value)]).unwrap_err().to_string();
            assert!(text.contains(name) && text.contains(&device.to_string()), "{text}");
        }
        let threads = Options { threads: Some(0), ..Options::default() };
        assert!(Settings::new(Device::Cpu, Precision::Fp32, &threads).is_err());
        let threads = Options { threads: Some(2), ..Options::default() };
        assert!(Settings::new(Device::Cuda(0), Precision::Fp32, &threads).is_err());
        assert!(Settings::new(Device::Cpu, Precision::Fp32, &threads).unwrap().notes().contains(&"threads: 2".into()));
    }

    /// Runs `y = x MatMul w` with w = [[1, 1 + 2^-9], [0, 1]] in a precision; `None` without ONNX Runtime.
    fn product(
        precision: Precision,
        dtype: ElementType,
        x: [f32; 4],
        level: &str,
    ) -> Option<([f32; 4], StagePrecision)> {
        let runtime = match crate::runtime::load(None) {
            Ok(runtime) => runtime,
            Err(e) => {
                let _ = writeln!(std::io::stderr(), "skipped the emulation test: {e}");
                return None;
            }
        };
        let bytes = crate::onnx::build::matmul(dtype);
        let file =
            CheckedGraph { path: PathBuf::from("test.onnx"), sha256: crate::manifest::sha256_hex(&bytes), bytes };
        let settings = Settings::new(Device::Cpu, precision, &options(&[("optimization", level)])).unwrap();
        let mut graph = Graph::open("g", &file, &settings, runtime).unwrap();
        let host = Allocator::default();
        let mut input = crate::state::tensor(&host, &[2, 2]).unwrap();
        input.extract_tensor_mut().1.copy_from_slice(&x);
        let mut result = crate::state::tensor(&host, &[2, 2]).unwrap();
        let mut binding = graph.binding().unwrap();
        crate::state::input(&mut binding, "x", &input).unwrap();
        crate::state::output(&mut binding, "y", &mut result).unwrap();
        graph.run(&binding).unwrap();
        let y = result.extract_tensor().1;
        Some(([y[0], y[1], y[2], y[3]], graph.precision.clone()))
    }

    #[test]
    fn emulation_rounds_operands_and_results_and_nothing_else() {
        use half::{bf16, f16};
        let e = 2f32.powi(-9);
        let x = [1.0 + e, 300.25, 1.0 / 3.0, 7.0];
        let exact = |round: fn(f32) -> f32| {
            let (a, b, c, d, w) = (round(x[0]), round(x[1]), round(x[2]), round(x[3]), round(1.0 + e));
            // sums in f32, one rounding at the end
            [round(a), round(a * w + b), round(c), round(c * w + d)]
        };
        let plain = exact(|v| v);
        for level in ["all", "disable"] {
            let Some((y, stage)) = product(Precision::Fp32, ElementType::F32, x, level) else { return };
            assert_eq!((y, stage.effective.as_str()), (plain, "fp32"));
            for (precision, dtype, round) in [
                (Precision::Bf16, ElementType::BF16, (|v| bf16::from_f32(v).to_f32()) as fn(f32) -> f32),
                (Precision::Fp16, ElementType::F16, |v| f16::from_f32(v).to_f32()),
            ] {
                let (y, stage) = product(precision, dtype, x, level).unwrap();
                assert_eq!(y, exact(round), "{precision}, optimisation {level}");
                assert_ne!(y, plain, "the case must tell the precisions apart");
                assert_eq!(stage.effective, format!("{precision} operands, fp32 accumulation, emulated"));
                assert!(stage.evidence[2].contains("2 casts to f32 before operands, 1 casts back"), "{stage:?}");
            }
        }
        // A file that is not what its folder says is reported as what it is.
        let (y, stage) = product(Precision::Bf16, ElementType::F32, x, "all").unwrap();
        assert_eq!(y, plain);
        assert!(stage.effective.starts_with("fp32 (bf16 asked for"), "{}", stage.effective);
    }
}
