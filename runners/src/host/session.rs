//! One graph in one ONNX Runtime session: the provider that was asked for and no other, and every setting recorded.

mod convolution;
mod prepared;

use std::path::{Path, PathBuf};
use std::time::Instant;

use ort::AsPointer;
use ort::ep;
use ort::ep::ArbitrarilyConfigurableExecutionProvider;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;
use ort::session::{IoBinding, RunOptions, Session, SessionInputValue};
use ort::value::DynValue;

use self::prepared::Read;
use super::evidence::{as_optimised, tf32_doubt};
use super::fence::{self, Fence};
use super::lost;
use super::plugin::PluginHandle;
use super::providers::{self, Engine, EngineKey, Provider, ProviderPairs, Registration};
use super::runtime::Runtime;
use super::settings::{Arena, SessionSettings};
use super::tensorrt::{self, Compiler};
use super::webgpu;
use crate::digest::sha256_hex;
use crate::manifest::{COND_OBJECTS, OBJECTS};
use crate::onnx::{Attention, Dimension, Edge, Model};
use crate::pack::CheckedGraph;
use crate::runner::RunnerError;
use crate::types::{Device, DroppedOption, Dtype, Effective, StagePrecision};

/// A loaded graph.
pub struct GraphSession {
    /// Name, e.g. `image_encoder`.
    pub name: String,
    /// Time to rewrite (where needed), load and optimise it, milliseconds; of a graph whose engine was just built, the
    /// time to load that engine.
    pub load_ms: f64,
    /// Time to build its engine, milliseconds; `None` when none was built.
    pub build_ms: Option<f64>,
    /// Precision with evidence.
    pub precision: StagePrecision,
    /// What the providers were told, in words.
    pub notes: Vec<String>,
    /// Options that ONNX Runtime refused to know.
    pub dropped: Vec<DroppedOption>,
    /// Is it the pack's form for the CPU provider?
    pub cpu_form: bool,
    /// Are its kernels captured and replayed?
    captures: bool,
    /// Where a run returns before the device has done its work: what to wait on.
    fence: Option<Fence>,
    /// The plugin's device that it runs on.
    plugin: Option<PluginHandle>,
    session: Session,
}

impl GraphSession {
    /// Loads a checked graph file on the device of the settings; half-typed graphs are rewritten for the CPU first.
    /// `on_device`: all inputs of the graph will be bound to device memory, once. `edge`: a change made in memory.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] when the provider cannot be had (ONNX Runtime's own text follows verbatim),
    /// [`RunnerError::Pack`] when the graph cannot be rewritten or ONNX Runtime refuses it.
    pub fn open(
        name: &str,
        file: CheckedGraph,
        settings: &SessionSettings,
        runtime: &Runtime,
        on_device: bool,
        edge: Option<&Edge>,
    ) -> Result<Self, RunnerError> {
        let mut started = Instant::now();
        let CheckedGraph { path, bytes, weights, sha256, fp32_sha256 } = file;
        let compiler = match settings.device {
            Device::TensorRt(gpu) => Some(Compiler::find(gpu, settings, runtime)?),
            _ => None,
        };
        tensorrt::takes_attention(settings.attention, &runtime.version, compiler.as_ref())?;
        let changed = |sha256: String| identity(sha256, edge, settings.attention);
        let (sha256, fp32_sha256) = (changed(sha256), fp32_sha256.map(changed));
        let read = Read { name, path: &path, settings, runtime, weights };
        let (mut precision, prepared) = read.prepare(bytes, compiler.as_ref(), edge)?;
        let mut notes = prepared.notes();
        let model = Model::parse(&prepared.bytes).map_err(|e| wrong(&path, &e))?;
        let free = settings.together != 1
            && model.inputs.iter().any(|i| i.shape.iter().flatten().any(|axis| matches!(axis, Dimension::Dynamic(_))));

        let capture = settings.cuda_graph.then(|| providers::capturable(on_device, !free));
        let captures = capture == Some(Ok(()));
        notes.extend(capture.map(|verdict| {
            let outcome = verdict.map_or_else(|reason| format!("not captured: {reason}"), |()| "captured".to_string());
            format!("CUDA graph of `{name}`: {outcome}")
        }));
        let engine = compiler.as_ref().map(|compiler| Engine {
            key: EngineKey {
                graph: &sha256,
                precision: settings.precision,
                typing: compiler.typing,
                runtime: &runtime.version,
                tensorrt: compiler.version(),
                gpu: compiler.gpu(),
                objects: free.then_some([1, settings.engine_objects[1], settings.engine_objects[0]]),
            },
            cache: &compiler.cache,
            inputs: &model.inputs,
        });
        let mut registration = registration(settings, engine.as_ref(), captures);
        engine.iter().try_for_each(|engine| engine.make_directories(&settings.provider_options))?;
        let engines = || {
            engine.as_ref().map_or((0, 0), |engine| tensorrt::engines(&engine.directory(&settings.provider_options)))
        };
        // Before the session that runs, so that the two never stand in memory together; and not part of its time.
        let looking = Instant::now();
        let computed = prepared.computed();
        started += looking.elapsed();
        let mut dropped = Vec::new();
        let commit = || prepared.commit(&mut registration, &mut dropped);
        let (session, load_ms, build_ms) = timed(started, &|| engines().1, commit)?;
        // What ONNX Runtime refuses altogether was said by now, in its own words.
        if let Some(counts) = computed? {
            as_optimised(&mut precision, counts);
        }
        notes.extend(
            registration.iter().map(|(provider, pairs)| format!("{name}: {}", providers::note(*provider, pairs))),
        );
        if let Some(engine) = &engine {
            precision.evidence.push(tensorrt::size_evidence(
                engines(),
                engine
                    .in_fp32(fp32_sha256.as_deref())
                    .map(|fp32| tensorrt::engines(&fp32.directory(&settings.provider_options))),
            ));
        }
        if let Some(doubt) = tf32_doubt(settings, &registration) {
            precision.effective.push_str(doubt);
            precision.kind = Effective::Doubtful;
        }
        Ok(GraphSession {
            name: name.to_string(),
            load_ms,
            build_ms,
            precision,
            notes,
            dropped,
            cpu_form: false,
            captures,
            fence: fence(settings, runtime, name)?,
            plugin: settings.plugin(runtime)?,
            session,
        })
    }

    /// Loads a small f32 graph that this program built itself, on the same device. On a TensorRT device it runs on the
    /// CUDA provider: an engine for it would take longer to build than it ever runs.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] with ONNX Runtime's text.
    pub fn open_built(
        name: &str,
        bytes: &[u8],
        settings: &SessionSettings,
        runtime: &Runtime,
    ) -> Result<Self, RunnerError> {
        let started = Instant::now();
        let mut registration = registration(settings, None, false);
        let mut dropped = Vec::new();
        let session = register(settings, runtime, name, &mut registration, &mut dropped)?
            .commit_from_memory(bytes)
            .map_err(|e| refused(settings, runtime, name, &e))?;
        let precision = StagePrecision {
            graph: name.to_string(),
            requested: Dtype::Fp32,
            effective: "fp32".to_string(),
            kind: Effective::Native,
            evidence: vec!["built in".to_string()],
        };
        Ok(GraphSession {
            name: name.to_string(),
            load_ms: started.elapsed().as_secs_f64() * 1e3,
            build_ms: None,
            precision,
            notes: Vec::new(),
            dropped,
            cpu_form: false,
            captures: false,
            fence: fence(settings, runtime, name)?,
            plugin: settings.plugin(runtime)?,
            session,
        })
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
        memory(&self.session, device, self.plugin)
            .map_err(|e| RunnerError::Environment(format!("no memory on device `{device}`: {e}")))
    }

    /// As [`GraphSession::run`] for one of several bindings with fixed addresses: where the graph's kernels are captured, each
    /// `id` (from 1, never used again for other addresses) has a capture of its own.
    ///
    /// # Errors
    /// As [`GraphSession::run`].
    pub fn run_replayable(&mut self, binding: &IoBinding, id: u32) -> Result<(), RunnerError> {
        if !self.captures {
            return self.run(binding);
        }
        let mut options = RunOptions::new().map_err(|e| failed(&self.name, e))?;
        options.set("gpu_graph_id", id.to_string()).map_err(|e| failed(&self.name, e))?;
        self.session.run_binding_with_options(binding, &options).map(drop).map_err(|e| failed(&self.name, e))
    }

    /// Runs the graph on values and gives back the named outputs, in host memory. For graphs whose output shapes are not
    /// known beforehand; the others are bound.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the graph, with ONNX Runtime's text, or the output that is missing.
    pub fn run_values(
        &mut self,
        inputs: Vec<(&str, SessionInputValue<'_>)>,
        outputs: &[&str],
    ) -> Result<Vec<DynValue>, RunnerError> {
        let mut results = self.session.run(inputs).map_err(|e| failed(&self.name, e))?;
        webgpu::sound().map_err(|e| failed(&self.name, e))?;
        let missing = |name| failed(&self.name, format!("no output `{name}`"));
        outputs.iter().map(|name| results.remove(*name).ok_or_else(|| missing(name))).collect()
    }

    /// Runs the graph on bound tensors and waits for the device.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the graph, with ONNX Runtime's text.
    pub fn run(&mut self, binding: &IoBinding) -> Result<(), RunnerError> {
        #[cfg(test)]
        RUNS.with_borrow_mut(|runs| runs.push(self.name.clone()));
        // Not `run_binding`: it makes a list of handles on the outputs, which are the bound tensors and known already.
        // SAFETY: session and binding live; the exclusive borrow keeps this session from running twice at a time.
        let status = unsafe {
            let run = ort::api().RunWithBinding;
            run(self.session.ptr().cast_mut(), std::ptr::null(), binding.ptr())
        };
        // SAFETY: the status comes from ONNX Runtime and is looked at once.
        let outcome: Result<(), ort::Error> = unsafe { ort::Error::result_from_status(status) };
        let waited = outcome.and_then(|()| self.fence.as_mut().map_or(Ok(()), Fence::wait));
        waited.map_err(|e| failed(&self.name, e))?;
        webgpu::sound().map_err(|e| failed(&self.name, e))
    }

    /// Ends profiling and gives the file that ONNX Runtime wrote.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] with ONNX Runtime's text; also when no profile was asked for.
    pub fn end_profile(&mut self) -> Result<PathBuf, RunnerError> {
        self.session.end_profiling().map(PathBuf::from).map_err(|e| failed(&self.name, format!("no profile: {e}")))
    }
}

#[cfg(test)]
thread_local! {
    /// Names of the graphs that were run by this thread, in order.
    pub(crate) static RUNS: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Memory of a session's device, which may be a plugin's; for [`Device::Cpu`] the host's.
fn memory(session: &Session, device: Device, plugin: Option<PluginHandle>) -> Result<Allocator, String> {
    let (kind, index) = match (device, plugin) {
        (Device::Cpu, _) => (AllocationDevice::CPU, 0),
        (_, Some(plugin)) => return plugin.memory(session),
        (Device::Cuda(i) | Device::TensorRt(i), _) => (AllocationDevice::CUDA, i32::try_from(i).unwrap_or(i32::MAX)),
        (Device::WebGpu(_), _) => (AllocationDevice::WEBGPU_BUFFER, 0),
        (Device::Plugin(..), None) => return Err("its plugin library is not loaded".to_string()),
    };
    MemoryInfo::new(kind, index, AllocatorType::Device, MemoryType::Default)
        .and_then(|info| Allocator::new(session, info))
        .map_err(|e| e.to_string())
}

/// A graph that could not be run: the model's fault, or that of a device that was lost.
pub fn failed(graph: &str, text: impl std::fmt::Display) -> RunnerError {
    let text = format!("graph `{graph}`: {text}");
    if lost::is_lost(&text) { RunnerError::Environment(lost::told(&text)) } else { RunnerError::Inference(text) }
}

/// What names the engine of a graph of this digest: a graph that was changed in memory has another one.
fn identity(sha256: String, edge: Option<&Edge>, attention: Attention) -> String {
    match (edge, attention) {
        (None, Attention::Whole) => sha256,
        (edge, attention) => sha256_hex(format!("{sha256} {edge:?} {attention}").as_bytes()),
    }
}

/// A session, the time since `started` to load it, and where an engine was built meanwhile, the time of that; milliseconds. `engines`: what grows
/// with every engine in the cache.
fn timed<N: PartialOrd>(
    started: Instant,
    engines: &dyn Fn() -> N,
    mut commit: impl FnMut() -> Result<Session, RunnerError>,
) -> Result<(Session, f64, Option<f64>), RunnerError> {
    let before = engines();
    let session = commit()?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    if engines() <= before {
        return Ok((session, load_ms, None));
    }
    // That was a build. Loading is timed by doing it again, with the engine from the cache.
    drop(session);
    let again = Instant::now();
    Ok((commit()?, again.elapsed().as_secs_f64() * 1e3, Some(load_ms)))
}

/// The providers of a device, in order of preference, with their options.
fn registration(settings: &SessionSettings, engine: Option<&Engine<'_>>, captures: bool) -> Registration {
    match (settings.device, engine) {
        (Device::TensorRt(i), Some(engine)) => vec![
            (Provider::TensorRt, providers::tensorrt(i, &settings.provider_options, engine)),
            (Provider::Cuda, providers::cuda(i, &settings.provider_options, false)),
        ],
        // Without an engine to cache, a graph for TensorRT is one that this program built: see `Graph::open_built`.
        (Device::Cuda(i) | Device::TensorRt(i), _) => {
            vec![(Provider::Cuda, providers::cuda(i, &settings.provider_options, captures))]
        }
        (Device::WebGpu(_), _) => vec![(Provider::WebGpu, settings.provider_options.webgpu.clone())],
        (Device::Plugin(..), _) => vec![(Provider::Plugin, ProviderPairs::new())],
        (Device::Cpu, _) => Vec::new(),
    }
}

fn wrong(path: &Path, text: &dyn std::fmt::Display) -> RunnerError {
    RunnerError::Pack(format!("{}: {text}", path.display()))
}

fn refused(settings: &SessionSettings, runtime: &Runtime, name: &str, error: &dyn std::fmt::Display) -> RunnerError {
    RunnerError::Environment(format!(
        "device `{}` cannot be used for graph `{name}`; ONNX Runtime {} ({}) says: {error}",
        settings.device,
        runtime.version,
        runtime.path.display()
    ))
}

/// A session builder with the providers registered. An option that the linked ONNX Runtime does not know is taken out by
/// its own word and recorded; then everything is registered anew.
fn register(
    settings: &SessionSettings,
    runtime: &Runtime,
    name: &str,
    registration: &mut Registration,
    dropped: &mut Vec<DroppedOption>,
) -> Result<SessionBuilder, RunnerError> {
    let plugin = settings.plugin(runtime)?;
    'anew: loop {
        let mut builder = configure(settings, runtime).map_err(|e| refused(settings, runtime, name, &e))?;
        for (provider, pairs) in registration.iter_mut() {
            if let Some(plugin) = plugin {
                plugin.append(&builder, runtime, pairs).map_err(|e| refused(settings, runtime, name, &e))?;
                continue;
            }
            builder = match builder.with_execution_providers([dispatch(*provider, pairs)]) {
                Ok(builder) => builder,
                Err(e) => {
                    let Some(key) = providers::unknown_option(e.message()) else {
                        return Err(refused(settings, runtime, name, &e));
                    };
                    let option = providers::drop_unknown(pairs, key, &settings.provider_options, &runtime.version)
                        .map_err(|text| refused(settings, runtime, name, &text))?;
                    dropped.push(option);
                    continue 'anew;
                }
            };
        }
        if let Some(dir) = &settings.profile {
            builder = builder.with_profiling(dir.join(name)).map_err(|e| refused(settings, runtime, name, &e))?;
        }
        if !registration.is_empty() {
            builder = builder.with_disable_cpu_fallback().map_err(|e| refused(settings, runtime, name, &e))?;
        }
        return Ok(builder);
    }
}

/// What to wait on after a run, on a device whose sessions do not wait themselves.
fn fence(settings: &SessionSettings, runtime: &Runtime, name: &str) -> Result<Option<Fence>, RunnerError> {
    // What a plugin's sessions do is not known: they are waited for.
    if !matches!(settings.device, Device::WebGpu(_) | Device::Plugin(..)) {
        return Ok(None);
    }
    let plugin = settings.plugin(runtime)?;
    let quiet = SessionSettings { profile: None, ..settings.clone() };
    register(&quiet, runtime, name, &mut registration(&quiet, None, false), &mut Vec::new())?
        .commit_from_memory(&fence::graph())
        .map_err(|e| e.to_string())
        .and_then(|session| {
            let [device, host] = [settings.device, Device::Cpu].map(|place| memory(&session, place, plugin));
            Fence::new(session, &device?, &host?).map_err(|e| e.to_string())
        })
        .map_err(|e| refused(settings, runtime, name, &e))
        .and_then(|fence| webgpu::sound().map(|()| Some(fence)).map_err(|e| refused(settings, runtime, name, &e)))
}

fn dispatch(provider: Provider, pairs: &ProviderPairs) -> ep::ExecutionProviderDispatch {
    let dispatch = match provider {
        Provider::Cuda => pairs.iter().fold(ep::CUDA::default(), |ep, (k, v)| ep.with_arbitrary_config(k, v)).build(),
        Provider::TensorRt => {
            pairs.iter().fold(ep::TensorRT::default(), |ep, (k, v)| ep.with_arbitrary_config(k, v)).build()
        }
        // A plugin's is never dispatched: it is appended by its device.
        Provider::WebGpu | Provider::Plugin => {
            pairs.iter().fold(ep::WebGPU::default(), |ep, (k, v)| ep.with_arbitrary_config(k, v)).build()
        }
    };
    dispatch.error_on_failure()
}

fn configure(settings: &SessionSettings, runtime: &Runtime) -> Result<SessionBuilder, ort::Error> {
    let mut builder = Session::builder(&runtime.environment)?
        .with_optimization_level(settings.optimization.level())?
        .with_log_level(LogLevel::Warning)?
        .with_inter_threads(1)?
        .with_inter_op_spinning(false)?
        .with_intra_op_spinning(settings.thread_pool.spinning)?;
    if !settings.shares(runtime) {
        builder = builder.with_independent_thread_pool()?;
    }
    match (settings.device, settings.thread_pool.threads) {
        (Device::Cpu, Some(threads)) => builder = builder.with_intra_threads(threads)?,
        (Device::Cpu, None) => {}
        // The host side of a GPU session only launches kernels.
        _ => builder = builder.with_intra_threads(1)?,
    }
    if let Some(places) = settings.thread_pool.affinities() {
        builder = builder.with_config_entry("session.intra_op_thread_affinities", places)?;
    }
    builder = match (settings.device, settings.cpu_arena) {
        (Device::Cpu, Arena::Shared) => builder.with_env_allocators()?,
        (Device::Cpu, Arena::Off) => builder
            .with_execution_providers([ep::CPU::default().with_arena_allocator(false).build().error_on_failure()])?,
        _ => builder,
    };
    if settings.together == 1 {
        // A fixed axis lets the optimiser do what it does for a graph of one object; graphs without these axes ignore it.
        builder = builder.with_dimension_override(OBJECTS, 1)?.with_dimension_override(COND_OBJECTS, 1)?;
    }
    Ok(builder)
}

#[cfg(test)]
mod tests;
