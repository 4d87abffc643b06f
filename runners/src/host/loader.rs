//! How is a pack opened? Its graphs are checked against the manifest and loaded, and what that shows is kept for the record.

use std::path::Path;

use super::runtime::{self, Runtime};
use super::session::GraphSession;
use super::settings::{Arena, SessionSettings};
use super::{plugin, pool};
use crate::onnx::Edge;
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::types::{Device, OpenReport};

/// Loads the graphs of a pack and keeps what that shows for the record.
pub struct PackLoader<'a> {
    pack: &'a Pack,
    /// Where the graphs are loaded.
    pub runtime: &'static Runtime,
    report: OpenReport,
}

impl<'a> PackLoader<'a> {
    /// Loads ONNX Runtime and begins the report.
    ///
    /// # Errors
    /// As [`runtime::load`].
    pub fn begin(pack: &'a Pack, settings: &SessionSettings, ort_lib: Option<&Path>) -> Result<Self, RunnerError> {
        let mut notes = settings.notes();
        notes.push("ONNX Runtime's telemetry: off".to_string());
        if settings.device == Device::Cpu {
            pool::use_one_malloc_arena();
            notes.push(match settings.cpu_arena {
                Arena::Shared => pool::configure_huge_pages(settings.huge_pages),
                _ => "huge pages: not requested, only the arena shared by all graphs can request them".to_string(),
            });
        }
        let rest = settings.split().map(|[_, rest]| rest);
        let most = rest.as_ref().unwrap_or(settings);
        if let Some(text) = settings.ep_library.is_none().then(|| plugin::needs_library(settings.device)).flatten() {
            return Err(RunnerError::Usage(text));
        }
        // A plugin brings its provider along: of the runtime nothing is asked beyond that.
        let asked = if settings.ep_library.is_some() { Device::Cpu } else { settings.device };
        let runtime = runtime::load_with(ort_lib, asked, most.one_pool.then_some(&most.thread_pool))?;
        let plugin = settings.plugin(runtime)?.map(|plugin| plugin.report());
        if settings.device == Device::Cpu {
            let whose = if most.shares(runtime) { "one for all graphs" } else { "one for each graph" };
            let but = if rest.is_some() && most.shares(runtime) { " but the image encoder" } else { "" };
            notes.push(format!("thread pool: {whose}{but}"));
        }
        runtime.take_messages(); // those of another opening
        let report = OpenReport {
            runtime_version: runtime.version.clone(),
            runtime_path: runtime.path.clone(),
            plugin,
            notes,
            ..OpenReport::default()
        };
        Ok(PackLoader { pack, runtime, report })
    }

    /// Checks graphs of the pack against its manifest, loads them, and enters what that showed in the report. On the CPU the first
    /// one, which should be the largest, is loaded beside the others, unless the option `load` says otherwise.
    ///
    /// # Errors
    /// [`RunnerError::Pack`] when the pack has no such graph or its file is another; else as [`GraphSession::open`].
    pub fn graphs<const N: usize>(
        &mut self,
        requests: [GraphRequest<'_>; N],
    ) -> Result<[GraphSession; N], RunnerError> {
        let (pack, runtime) = (self.pack, self.runtime);
        let mut loaded = [const { None }; N];
        let beside = requests.first().filter(|first| first.settings.load_parallel && N > 1);
        std::thread::scope(|scope| {
            let mut rest = loaded.iter_mut().zip(requests);
            if beside.is_some() {
                let first = rest.next();
                scope.spawn(|| {
                    first.into_iter().for_each(|(place, request)| *place = Some(request.load(pack, runtime)))
                });
            }
            for (place, request) in rest {
                if place.insert(request.load(pack, runtime)).is_err() {
                    break;
                }
            }
        });
        let report = &mut self.report;
        if let Some(first) = beside {
            report.notes.push(format!("`{}` was loaded beside the other graphs; their load times overlap", first.name));
        }
        let graphs: Vec<GraphSession> = loaded.into_iter().flatten().collect::<Result<_, _>>()?;
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
pub struct GraphRequest<'a> {
    /// Its name in the pack.
    pub name: &'a str,
    /// How it is to run.
    pub settings: &'a SessionSettings,
    /// As for [`GraphSession::open`].
    pub on_device: bool,
    /// As for [`GraphSession::open`].
    pub edge: Option<&'a Edge>,
}

impl GraphRequest<'_> {
    fn load(&self, pack: &Pack, runtime: &Runtime) -> Result<GraphSession, RunnerError> {
        let GraphRequest { name, settings, on_device, edge } = *self;
        let spec = pack
            .manifest
            .graph(name)
            .ok_or_else(|| RunnerError::Pack(format!("{}: no graph `{name}`", pack.dir.display())))?;
        let form = if settings.cpu_forms { pack.check_cpu_form(spec)? } else { None };
        let cpu_form = form.is_some();
        let file = form.map_or_else(|| pack.check_graph(spec, settings.precision), Ok)?;
        let mut graph = GraphSession::open(name, file, settings, runtime, on_device, edge)?;
        graph.cpu_form = cpu_form;
        if spec.cpu.is_some() {
            let form = if cpu_form { "for the CPU provider" } else { "for all providers" };
            graph.precision.evidence.push(format!("form: the one {form}"));
            graph.notes.push(format!("form of `{name}`: the one {form}"));
        }
        Ok(graph)
    }
}

#[cfg(test)]
mod tests {
    use ort::memory::Allocator;

    use super::*;
    use crate::host::tensor;
    use crate::pack::tests::{SIDE, WEIGHTS, write_pack_with_weights_apart};
    use crate::types::{Dtype, Options};

    #[test]
    fn weights_beside_a_graph_are_the_weights_that_run() {
        if let Err(e) = runtime::load(None) {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "skipped the test of weights beside a graph: {e}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        write_pack_with_weights_apart(dir.path(), |text| text);
        let pack = Pack::read(dir.path()).unwrap();
        for precision in [Dtype::Fp32, Dtype::Bf16] {
            let settings = SessionSettings::new(Device::Cpu, precision, &Options::default()).unwrap();
            let mut loader = PackLoader::begin(&pack, &settings, None).unwrap();
            let request = GraphRequest { name: "g", settings: &settings, on_device: false, edge: None };
            let [mut graph] = loader.graphs([request]).unwrap();
            let notes = loader.end().notes;
            assert!(notes.contains(&"weights of `g`: mapped from a file beside it".to_string()), "{notes:?}");
            let (host, shape) = (Allocator::default(), [SIDE as i64; 2]);
            let mut unit = tensor::tensor(&host, &shape).unwrap();
            let identity = |i: usize| f32::from(u8::from(i.is_multiple_of(SIDE + 1)));
            unit.extract_tensor_mut().1.iter_mut().enumerate().for_each(|(i, v)| *v = identity(i));
            let mut result = tensor::tensor(&host, &shape).unwrap();
            let mut binding = graph.binding().unwrap();
            tensor::input(&mut binding, "x", &unit).unwrap();
            tensor::output(&mut binding, "y", &mut result).unwrap();
            graph.run(&binding).unwrap();
            assert_eq!(result.extract_tensor().1, WEIGHTS, "{precision}");
        }
    }
}
