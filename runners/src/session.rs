//! One graph in one ONNX Runtime session: the provider that was asked for and no other, the precision that the file
//! really holds with the facts that show it, and every setting recorded.

use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use ort::AsPointer;
use ort::ep;
use ort::ep::ArbitrarilyConfigurableExecutionProvider;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{IoBinding, RunOptions, Session, SessionInputValue};
use ort::value::DynValue;

use crate::RunnerError;
use crate::contract::{COND_OBJECTS, OBJECTS, PIPELINE};
use crate::manifest::{CheckedGraph, Pack};
use crate::onnx::{Axis, ElementType, Model};
use crate::pool;
use crate::providers::{self, Engine, EngineKey, Given, Pairs, Provider};
use crate::runtime::{self, Crew, Runtime, cache_dir};
use crate::types::{Device, DroppedOption, OpenReport, Options, Precision, StagePrecision};

/// Most objects in one batch of a TensorRT engine, unless asked for otherwise.
const MOST_OBJECTS: usize = 8;

/// Settings common to all graphs of a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it runs.
    pub device: Device,
    /// Precision asked for.
    pub precision: Precision,
    /// CPU: the threads inside one operator.
    crew: Crew,
    /// CPU: does one crew serve all graphs?
    one_crew: bool,
    /// CPU: is the first graph loaded beside the others?
    load_parallel: bool,
    /// `disable`, `basic`, `extended` or `all`.
    optimization: Optimization,
    /// CPU: where inner values live.
    cpu_arena: Arena,
    /// CPU: in huge pages, where they can be had?
    huge_pages: bool,
    /// CUDA: capture and replay the kernels of graphs for which that is legal.
    cuda_graph: bool,
    /// TensorRT: largest and best number of objects of the engines.
    engine_objects: [usize; 2],
    /// Options of the providers.
    given: Given,
    /// Most objects that run together where the graphs have an object axis; `usize::MAX`: all.
    together: usize,
    /// Does a pixel belong to one object at most?
    exclusive: bool,
    /// Take the forms for the CPU provider?
    cpu_forms: bool,
    /// Are stage times taken?
    stage_times: bool,
    /// CPU: may the next frame be encoded beside this one?
    pipeline: bool,
    /// Directory for the profiles of the graphs, for the placement audit.
    pub(crate) profile: Option<PathBuf>,
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
            crew: Crew { threads: options.threads, spinning: options.spinning.unwrap_or(false), ..Crew::default() },
            one_crew: device == Device::Cpu,
            load_parallel: device == Device::Cpu,
            optimization: Optimization::All,
            cpu_arena: Arena::Shared,
            huge_pages: true,
            cuda_graph: false,
            engine_objects: [MOST_OBJECTS, 1],
            given: Given::default(),
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
                ("thread_pool", "shared", Device::Cpu) => settings.one_crew = true,
                ("thread_pool", "own", Device::Cpu) => settings.one_crew = false,
                ("thread_pool", _, Device::Cpu) => return usage(name, value, "shared or own"),
                ("load", "parallel", Device::Cpu) => settings.load_parallel = true,
                ("load", "serial", Device::Cpu) => settings.load_parallel = false,
                ("load", _, Device::Cpu) => return usage(name, value, "parallel or serial"),
                ("pin_threads", "on", Device::Cpu) => settings.crew.pinned = pins(options.threads, &processors())?,
                ("pin_threads", "off", Device::Cpu) => settings.crew.pinned.clear(),
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
                _ => match settings.given.take(device, name, value) {
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

    /// Does a pixel belong to one object at most?
    pub fn exclusive(&self) -> bool {
        self.exclusive
    }

    /// Are stage times taken? They are unless the option `stage_times` says `off`.
    pub fn stage_times(&self) -> bool {
        self.stage_times
    }

    /// Do graphs run in their form for the CPU provider, where they have one?
    pub fn cpu_forms(&self) -> bool {
        self.cpu_forms
    }

    /// Settings of the image encoder and of the other graphs when the next frame is encoded beside this one: the threads are
    /// shared out between the two, so that no more run than were asked for. `None`: one frame after the other.
    pub fn split(&self) -> Option<[Settings; 2]> {
        let all = self.crew.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        if !self.pipeline || all < 2 {
            return None;
        }
        // The calling thread of either side is tied to no processor; the other threads keep theirs.
        let part = |n: usize, pinned: Option<&[usize]>, one_crew: bool| Settings {
            crew: Crew { threads: Some(n), pinned: pinned.unwrap_or_default().to_vec(), ..self.crew },
            one_crew,
            ..self.clone()
        };
        let (ahead, pinned) = (all / 2, &self.crew.pinned);
        // Two graphs run at a time, so the image encoder keeps threads of its own.
        Some([part(ahead, pinned.get(..ahead - 1), false), part(all - ahead, pinned.get(ahead..), self.one_crew)])
    }

    /// Most objects that may run together. A TensorRT engine takes no more than it was built for; another number would
    /// mean another build in the middle of a video.
    pub fn together(&self) -> usize {
        match self.device {
            Device::TensorRt(_) => self.together.min(self.engine_objects[0]),
            _ => self.together,
        }
    }

    /// Does the runtime's crew run the graphs? Only if it is what these settings ask for.
    fn shares(&self, runtime: &Runtime) -> bool {
        self.one_crew && runtime.crew.as_ref() == Some(&self.crew)
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
                notes.push(match self.crew.threads {
                    Some(n) => format!("threads: {n}"),
                    None => "threads: ONNX Runtime's default (all physical cores)".to_string(),
                });
                notes.push(format!("spinning: {}", if self.crew.spinning { "on" } else { "off" }));
                if !self.crew.pinned.is_empty() {
                    let list: Vec<String> = self.crew.pinned.iter().map(usize::to_string).collect();
                    notes.push(format!("threads beside the calling one: tied to processors {}", list.join(", ")));
                }
            }
            Device::Cuda(_) => notes.push("no operator may run on the CPU".to_string()),
            Device::TensorRt(_) => notes
                .push("operators that TensorRT does not take run on the CUDA provider, none on the CPU".to_string()),
        }
        if self.pipeline {
            notes.push(match self.split().map(|parts| parts.map(|part| part.crew.threads.unwrap_or_default())) {
                Some([ahead, rest]) => format!(
                    "pipeline: the next frame is encoded beside this one; threads: {ahead} for the image encoder, {rest} for \
                     the other graphs"
                ),
                None => "pipeline: off, because there is only one thread".to_string(),
            });
        }
        if !self.stage_times {
            notes.push("stage times: off".to_string());
        }
        if self.device == Device::Cpu {
            notes.push(format!("CPU memory arena: {}", self.cpu_arena.text()));
        }
        notes
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

/// Where a CPU session keeps the inner values of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arena {
    /// In one pool of the process. Graphs that run in turn use the same memory.
    Shared,
    /// In a pool of each graph's own, which is ONNX Runtime's default.
    Own,
    /// In memory that is asked for and given back every time.
    Off,
}

impl Arena {
    fn text(self) -> &'static str {
        match self {
            Arena::Shared => "one for all graphs",
            Arena::Own => "one for each graph",
            Arena::Off => "off",
        }
    }
}

/// A loaded graph.
pub struct Graph {
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
    session: Session,
}

/// Where ONNX Runtime looks for the weights of a model that it was given in memory (its session option).
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// The provider options of one graph, in order of preference.
type Registration = Vec<(Provider, Pairs)>;

/// The opening of a pack: its graphs are loaded one by one, and what that shows is kept for the record.
pub struct Opening<'a> {
    pack: &'a Pack,
    /// Where the graphs are loaded.
    pub runtime: &'static Runtime,
    report: OpenReport,
}

impl<'a> Opening<'a> {
    /// Loads ONNX Runtime and begins the report.
    ///
    /// # Errors
    /// As [`runtime::load`].
    pub fn begin(pack: &'a Pack, settings: &Settings, ort_lib: Option<&Path>) -> Result<Self, RunnerError> {
        let mut notes = settings.notes();
        notes.push("ONNX Runtime's telemetry: off".to_string());
        if settings.device == Device::Cpu {
            pool::one_heap();
            notes.push(match settings.cpu_arena {
                Arena::Shared => pool::settle(settings.huge_pages),
                _ => "huge pages: not asked for, only the arena of all graphs can ask".to_string(),
            });
        }
        let rest = settings.split().map(|[_, rest]| rest);
        let most = rest.as_ref().unwrap_or(settings);
        let runtime = runtime::load_with(ort_lib, most.one_crew.then_some(&most.crew))?;
        if settings.device == Device::Cpu {
            let whose = if most.shares(runtime) { "one for all graphs" } else { "one for each graph" };
            let but = if rest.is_some() && most.shares(runtime) { " but the image encoder" } else { "" };
            notes.push(format!("thread pool: {whose}{but}"));
        }
        runtime.take_messages(); // those of another opening
        let report = OpenReport {
            runtime_version: runtime.version.clone(),
            runtime_path: runtime.path.clone(),
            notes,
            ..OpenReport::default()
        };
        Ok(Opening { pack, runtime, report })
    }

    /// Checks graphs of the pack against its manifest, loads them, and enters what that showed in the report. On the CPU the first
    /// one, which should be the largest, is loaded beside the others, unless the option `load` says otherwise.
    ///
    /// # Errors
    /// [`RunnerError::Pack`] when the pack has no such graph or its file is another; else as [`Graph::open`].
    pub fn graphs<const N: usize>(&mut self, orders: [Order<'_>; N]) -> Result<[Graph; N], RunnerError> {
        let (pack, runtime) = (self.pack, self.runtime);
        let mut loaded = [const { None }; N];
        let beside = orders.first().filter(|first| first.settings.load_parallel && N > 1);
        std::thread::scope(|scope| {
            let mut rest = loaded.iter_mut().zip(orders);
            if beside.is_some() {
                let first = rest.next();
                scope.spawn(|| first.into_iter().for_each(|(place, order)| *place = Some(order.load(pack, runtime))));
            }
            for (place, order) in rest {
                if place.insert(order.load(pack, runtime)).is_err() {
                    break;
                }
            }
        });
        let report = &mut self.report;
        if let Some(first) = beside {
            report.notes.push(format!("`{}` was loaded beside the other graphs; their load times overlap", first.name));
        }
        let graphs: Vec<Graph> = loaded.into_iter().flatten().collect::<Result<_, _>>()?;
        for graph in &graphs {
            report.graph_load_ms.push((graph.name.clone(), graph.load_ms));
            if let Some(build_ms) = graph.build_ms {
                report.graph_build_ms.get_or_insert_default().push((graph.name.clone(), build_ms));
            }
            report.notes.extend(graph.notes.iter().cloned());
            for option in &graph.dropped {
                if !report.dropped.contains(option) {
                    report.dropped.push(option.clone());
                }
            }
        }
        graphs.try_into().map_err(|_| RunnerError::Inference("a graph was lost while it was loaded".to_string()))
    }

    /// The report, with what ONNX Runtime had to say meanwhile.
    pub fn end(mut self) -> OpenReport {
        self.report.notes.extend(self.runtime.take_messages().into_iter().map(|m| format!("ONNX Runtime: {m}")));
        self.report
    }
}

/// A graph to load.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// Its name in the pack.
    pub name: &'a str,
    /// How it is to run.
    pub settings: &'a Settings,
    /// As for [`Graph::open`].
    pub on_device: bool,
}

impl Order<'_> {
    fn load(&self, pack: &Pack, runtime: &Runtime) -> Result<Graph, RunnerError> {
        let Order { name, settings, on_device } = *self;
        let spec = pack
            .manifest
            .graph(name)
            .ok_or_else(|| RunnerError::Pack(format!("{}: no graph `{name}`", pack.dir.display())))?;
        let form = if settings.cpu_forms { pack.check_cpu_form(spec)? } else { None };
        let cpu_form = form.is_some();
        let file = form.map_or_else(|| pack.check_graph(spec, settings.precision), Ok)?;
        let mut graph = Graph::open(name, file, settings, runtime, on_device)?;
        graph.cpu_form = cpu_form;
        if spec.cpu.is_some() {
            let form = if cpu_form { "for the CPU provider" } else { "for all providers" };
            graph.precision.evidence.push(format!("form: the one {form}"));
            graph.notes.push(format!("form of `{name}`: the one {form}"));
        }
        Ok(graph)
    }
}

impl Graph {
    /// Loads a checked graph file on the device of the settings; half-typed graphs are rewritten for the CPU first.
    /// `on_device`: all inputs of the graph will be bound to device memory, once.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] when the provider cannot be had (ONNX Runtime's own text follows verbatim),
    /// [`RunnerError::Pack`] when the graph cannot be rewritten or ONNX Runtime refuses it.
    pub fn open(
        name: &str,
        file: CheckedGraph,
        settings: &Settings,
        runtime: &Runtime,
        on_device: bool,
    ) -> Result<Self, RunnerError> {
        let started = Instant::now();
        let CheckedGraph { path, bytes, sha256 } = file;
        let wrong = |text: &dyn std::fmt::Display| RunnerError::Pack(format!("{}: {text}", path.display()));
        let mut notes = Vec::new();
        // What was read from the file is let go before ONNX Runtime takes memory of its own.
        let (mut precision, bytes, folder) = {
            let read = bytes;
            let model = Model::parse(&read).map_err(|e| wrong(&e))?;
            let (precision, rewritten) = evidence(name, &model, settings, runtime).map_err(|e| wrong(&e))?;
            // Where the file really is: ONNX Runtime refuses weights that a link leads to out of the graph's folder.
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            let place = real.file_name().and_then(|file| file.to_str()).zip(real.parent().and_then(Path::to_str));
            let mapped = match place {
                Some((file, folder)) if rewritten.is_none() && !settings.on_gpu() && runtime.maps_weights() => {
                    model.with_references(file).map_err(|e| wrong(&e))?.map(|bytes| (bytes, folder.to_string()))
                }
                _ => None,
            };
            match (mapped, rewritten) {
                (Some((bytes, folder)), _) => (precision, bytes, Some(folder)),
                (None, Some(rewritten)) => (precision, rewritten, None),
                (None, None) => (precision, read, None),
            }
        };
        if folder.is_some() {
            notes.push(format!("weights of `{name}`: mapped from its file"));
        }
        let model = Model::parse(&bytes).map_err(|e| wrong(&e))?;
        let free = settings.together != 1
            && model.inputs.iter().any(|i| i.shape.iter().flatten().any(|axis| matches!(axis, Axis::Dynamic(_))));

        let mut captures = false;
        if settings.cuda_graph {
            let verdict = providers::capturable(on_device, !free);
            captures = verdict.is_ok();
            let outcome = verdict.map_or_else(|reason| format!("not captured: {reason}"), |()| "captured".to_string());
            notes.push(format!("CUDA graph of `{name}`: {outcome}"));
        }
        let engine_facts = match settings.device {
            Device::TensorRt(i) => Some((
                runtime::tensorrt_version().unwrap_or_else(|| "unknown".to_string()),
                runtime::gpu_identity(i).unwrap_or_else(|| "unknown".to_string()),
                cache_dir(&|name| std::env::var_os(name)).ok_or_else(|| {
                    RunnerError::Environment("no engine cache: neither XDG_CACHE_HOME nor HOME is set".to_string())
                })?,
            )),
            _ => None,
        };
        let engine = engine_facts.as_ref().map(|(tensorrt, gpu, cache)| Engine {
            key: EngineKey {
                graph: &sha256,
                precision: settings.precision,
                runtime: &runtime.version,
                tensorrt,
                gpu,
                objects: free.then_some([1, settings.engine_objects[1], settings.engine_objects[0]]),
            },
            cache,
            inputs: &model.inputs,
        });
        let mut registration: Registration = match (settings.device, &engine) {
            (Device::TensorRt(i), Some(engine)) => vec![
                (Provider::TensorRt, providers::tensorrt(i, &settings.given, engine)),
                (Provider::Cuda, providers::cuda(i, &settings.given, false)),
            ],
            (Device::Cuda(i), _) => vec![(Provider::Cuda, providers::cuda(i, &settings.given, captures))],
            _ => Vec::new(),
        };
        for dir in engine.iter().flat_map(|e| [e.directory(&settings.given), e.timing_directory()]) {
            std::fs::create_dir_all(&dir)
                .map_err(|e| RunnerError::Environment(format!("engine cache {}: {e}", dir.display())))?;
        }
        let engines = || engine.as_ref().map_or(0, |engine| engine_files(&engine.directory(&settings.given)));

        let commit = |registration: &mut Registration, dropped: &mut Vec<DroppedOption>| {
            let mut builder = register(settings, runtime, name, registration, dropped)?;
            if let Some(folder) = &folder {
                builder = builder
                    .with_config_entry(WEIGHTS_FOLDER, folder)
                    .map_err(|e| refused(settings, runtime, name, &e))?;
            }
            builder.commit_from_memory(&bytes).map_err(|e| {
                if settings.on_gpu() {
                    refused(settings, runtime, name, &e)
                } else if e.message().contains("under development") && e.message().contains("pset") {
                    RunnerError::Environment(format!(
                        "ONNX Runtime {} ({}) is too old for graph `{name}` of opset {}; install a newer one or run \
                         another precision. It says: {e}",
                        runtime.version,
                        runtime.path.display(),
                        model.opset()
                    ))
                } else {
                    wrong(&format!("ONNX Runtime {} cannot load graph `{name}` on the CPU: {e}", runtime.version))
                }
            })
        };
        let mut dropped = Vec::new();
        let built_before = engines();
        let mut session = commit(&mut registration, &mut dropped)?;
        let mut load_ms = started.elapsed().as_secs_f64() * 1e3;
        let mut build_ms = None;
        if engines() > built_before {
            // That was a build. Loading is timed by doing it again, with the engine from the cache.
            build_ms = Some(load_ms);
            let again = Instant::now();
            drop(session);
            session = commit(&mut registration, &mut dropped)?;
            load_ms = again.elapsed().as_secs_f64() * 1e3;
        }
        notes.extend(
            registration.iter().map(|(provider, pairs)| format!("{name}: {}", providers::note(*provider, pairs))),
        );
        if let Some(doubt) = tf32_doubt(settings, &registration) {
            precision.effective.push_str(doubt);
        }
        Ok(Graph {
            name: name.to_string(),
            load_ms,
            build_ms,
            precision,
            notes,
            dropped,
            cpu_form: false,
            captures,
            session,
        })
    }

    /// Loads a small f32 graph that this program built itself, on the same device. On a TensorRT device it runs on the
    /// CUDA provider: an engine for it would take longer to build than it ever runs.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] with ONNX Runtime's text.
    pub fn open_built(name: &str, bytes: &[u8], settings: &Settings, runtime: &Runtime) -> Result<Self, RunnerError> {
        let started = Instant::now();
        let mut registration: Registration = match settings.device {
            Device::Cpu => Vec::new(),
            Device::Cuda(i) | Device::TensorRt(i) => {
                vec![(Provider::Cuda, providers::cuda(i, &settings.given, false))]
            }
        };
        let mut dropped = Vec::new();
        let session = register(settings, runtime, name, &mut registration, &mut dropped)?
            .commit_from_memory(bytes)
            .map_err(|e| refused(settings, runtime, name, &e))?;
        let precision = StagePrecision {
            graph: name.to_string(),
            requested: Precision::Fp32,
            effective: "fp32".to_string(),
            evidence: vec!["built in".to_string()],
        };
        Ok(Graph {
            name: name.to_string(),
            load_ms: started.elapsed().as_secs_f64() * 1e3,
            build_ms: None,
            precision,
            notes: Vec::new(),
            dropped,
            cpu_form: false,
            captures: false,
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
        let (kind, index) = match device {
            Device::Cpu => (AllocationDevice::CPU, 0),
            Device::Cuda(i) | Device::TensorRt(i) => (AllocationDevice::CUDA, i32::try_from(i).unwrap_or(i32::MAX)),
        };
        MemoryInfo::new(kind, index, AllocatorType::Device, MemoryType::Default)
            .and_then(|info| Allocator::new(&self.session, info))
            .map_err(|e| RunnerError::Environment(format!("no memory on device `{device}`: {e}")))
    }

    /// As [`Graph::run`] for one of several bindings with fixed addresses: where the graph's kernels are captured, each
    /// `id` (from 1, never used again for other addresses) has a capture of its own.
    ///
    /// # Errors
    /// As [`Graph::run`].
    pub fn run_replayable(&mut self, binding: &IoBinding, id: u32) -> Result<(), RunnerError> {
        if !self.captures {
            return self.run(binding);
        }
        let failed = |e: ort::Error| RunnerError::Inference(format!("graph `{}`: {e}", self.name));
        let mut options = RunOptions::new().map_err(failed)?;
        options.set("gpu_graph_id", id.to_string()).map_err(failed)?;
        match self.session.run_binding_with_options(binding, &options) {
            Ok(_outputs) => Ok(()),
            Err(e) => Err(RunnerError::Inference(format!("graph `{}`: {e}", self.name))),
        }
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
        let failed = |text: &dyn std::fmt::Display| RunnerError::Inference(format!("graph `{}`: {text}", self.name));
        let mut results = self.session.run(inputs).map_err(|e| failed(&e))?;
        outputs.iter().map(|name| results.remove(*name).ok_or_else(|| failed(&format!("no output `{name}`")))).collect()
    }

    /// Runs the graph on bound tensors and waits for the device.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the graph, with ONNX Runtime's text.
    pub fn run(&mut self, binding: &IoBinding) -> Result<(), RunnerError> {
        // Not `run_binding`: it makes a list of handles on the outputs, which are the bound tensors and known already.
        // SAFETY: session and binding live; the exclusive borrow keeps this session from running twice at a time.
        let status = unsafe {
            let run = ort::api().RunWithBinding;
            run(self.session.ptr().cast_mut(), std::ptr::null(), binding.ptr())
        };
        // SAFETY: the status comes from ONNX Runtime and is looked at once.
        let outcome: Result<(), ort::Error> = unsafe { ort::Error::result_from_status(status) };
        outcome.map_err(|e| RunnerError::Inference(format!("graph `{}`: {e}", self.name)))
    }
}

impl Graph {
    /// Ends profiling and gives the file that ONNX Runtime wrote.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] with ONNX Runtime's text; also when no profile was asked for.
    pub fn end_profile(&mut self) -> Result<PathBuf, RunnerError> {
        self.session
            .end_profiling()
            .map(PathBuf::from)
            .map_err(|e| RunnerError::Inference(format!("graph `{}`: no profile: {e}", self.name)))
    }
}

fn refused(settings: &Settings, runtime: &Runtime, name: &str, error: &dyn std::fmt::Display) -> RunnerError {
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
    settings: &Settings,
    runtime: &Runtime,
    name: &str,
    registration: &mut Registration,
    dropped: &mut Vec<DroppedOption>,
) -> Result<SessionBuilder, RunnerError> {
    'anew: loop {
        let mut builder = configure(settings, runtime).map_err(|e| refused(settings, runtime, name, &e))?;
        for (provider, pairs) in registration.iter_mut() {
            builder = match builder.with_execution_providers([dispatch(*provider, pairs)]) {
                Ok(builder) => builder,
                Err(e) => {
                    let Some(key) = providers::unknown_option(e.message()) else {
                        return Err(refused(settings, runtime, name, &e));
                    };
                    let option = providers::drop_unknown(pairs, key, &settings.given, &runtime.version)
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

fn dispatch(provider: Provider, pairs: &Pairs) -> ep::ExecutionProviderDispatch {
    let dispatch = match provider {
        Provider::Cuda => pairs.iter().fold(ep::CUDA::default(), |ep, (k, v)| ep.with_arbitrary_config(k, v)).build(),
        Provider::TensorRt => {
            pairs.iter().fold(ep::TensorRT::default(), |ep, (k, v)| ep.with_arbitrary_config(k, v)).build()
        }
    };
    dispatch.error_on_failure()
}

/// Engines in a cache directory.
fn engine_files(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "engine")).count()
}

/// What to add to `fp32` where fp32 products may have been computed in TF32 although nobody asked for it.
fn tf32_doubt(settings: &Settings, registration: &Registration) -> Option<&'static str> {
    if settings.precision != Precision::Fp32 || settings.given.tf32() {
        return None; // said elsewhere
    }
    let told = |(provider, pairs): &(Provider, Pairs)| *provider != Provider::Cuda || pairs.contains_key("use_tf32");
    match settings.device {
        Device::Cpu => None,
        _ if !registration.iter().all(told) => Some(" or tf32 (this ONNX Runtime has no switch for it)"),
        Device::TensorRt(_) if std::env::var_os("NVIDIA_TF32_OVERRIDE").is_none_or(|v| v != "0") => {
            Some(" or tf32 (TensorRT may choose it; NVIDIA_TF32_OVERRIDE=0 in the environment forbids it)")
        }
        _ => None,
    }
}

fn configure(settings: &Settings, runtime: &Runtime) -> Result<SessionBuilder, ort::Error> {
    let mut builder = Session::builder(&runtime.environment)?
        .with_optimization_level(settings.optimization.level())?
        .with_log_level(LogLevel::Warning)?
        .with_inter_threads(1)?
        .with_inter_op_spinning(false)?
        .with_intra_op_spinning(settings.crew.spinning)?;
    if !settings.shares(runtime) {
        builder = builder.with_independent_thread_pool()?;
    }
    match (settings.device, settings.crew.threads) {
        (Device::Cpu, Some(threads)) => builder = builder.with_intra_threads(threads)?,
        (Device::Cpu, None) => {}
        // The host side of a GPU session only launches kernels.
        _ => builder = builder.with_intra_threads(1)?,
    }
    if let Some(places) = settings.crew.places() {
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
        (Precision::Fp32, _) if settings.given.tf32() => "fp32, tf32 products allowed".to_string(),
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
    use std::path::PathBuf;

    use super::*;

    fn options(extra: &[(&str, &str)]) -> Options {
        let extra = extra.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Options { extra, ..Options::default() }
    }

    #[test]
    fn options_are_checked_against_the_device() {
        let new = |device, extra: &[(&str, &str)]| Settings::new(device, Precision::Fp32, &options(extra));
        assert!(new(Device::Cpu, &[("optimization", "basic")]).is_ok());
        assert!(new(Device::Cuda(0), &[("tf32", "true")]).unwrap().given.tf32());
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
        let mut four = Settings::new(Device::Cpu, Precision::Fp32, &Options::default()).unwrap();
        (four.crew.threads, four.crew.pinned, four.pipeline) = (Some(4), vec![1, 2, 3], true);
        let [ahead, rest] = four.split().unwrap();
        let pinned = (ahead.crew.pinned, rest.crew.pinned);
        assert_eq!(pinned, (vec![1], vec![3]), "one thread beside the calling one on either side");
        assert_eq!((ahead.one_crew, rest.one_crew), (false, true), "the sides must not wait for each other's threads");
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
        let mut graph = Graph::open("g", file, &settings, runtime, false).unwrap();
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
    fn weights_mapped_from_the_file_are_the_weights() {
        let runtime = match crate::runtime::load(None) {
            Ok(runtime) => runtime,
            Err(e) => {
                let _ = writeln!(std::io::stderr(), "skipped the test of mapped weights: {e}");
                return;
            }
        };
        let side = 32usize;
        let values: Vec<f32> = (0..side * side).map(|i| i as f32 * 0.25 - 100.0).collect();
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = [side as i64, side as i64];
        let bytes = crate::onnx::build::model(
            9,
            20,
            &[
                (1, crate::onnx::build::node("MatMul", &["x", "w"], &["y"], &[])),
                (5, crate::onnx::build::initializer("w", ElementType::F32, &shape, &raw)),
                (11, crate::onnx::build::value_info("x", ElementType::F32, &shape)),
                (12, crate::onnx::build::value_info("y", ElementType::F32, &shape)),
            ],
        );
        let dir = tempfile::tempdir().unwrap();
        // A link into another folder, as download caches have them.
        let (path, blob) = (dir.path().join("snapshot/g.onnx"), dir.path().join("blob"));
        std::fs::write(&blob, &bytes).unwrap();
        std::fs::create_dir(dir.path().join("snapshot")).unwrap();
        std::os::unix::fs::symlink(&blob, &path).unwrap();
        let file = CheckedGraph { path, sha256: crate::manifest::sha256_hex(&bytes), bytes };
        let settings = Settings::new(Device::Cpu, Precision::Fp32, &options(&[])).unwrap();
        let mut graph = Graph::open("g", file, &settings, runtime, false).unwrap();
        let mapped = graph.notes.iter().any(|note| note == "weights of `g`: mapped from its file");
        assert_eq!(mapped, runtime.maps_weights());
        let host = Allocator::default();
        let mut unit = crate::state::tensor(&host, &shape).unwrap();
        let identity = |i: usize| f32::from(u8::from(i.is_multiple_of(side + 1)));
        unit.extract_tensor_mut().1.iter_mut().enumerate().for_each(|(i, v)| *v = identity(i));
        let mut result = crate::state::tensor(&host, &shape).unwrap();
        let mut binding = graph.binding().unwrap();
        crate::state::input(&mut binding, "x", &unit).unwrap();
        crate::state::output(&mut binding, "y", &mut result).unwrap();
        graph.run(&binding).unwrap();
        assert_eq!(result.extract_tensor().1, values);
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
