//! What a pack holds and costs, read from its files alone: graphs, shapes, parameters, arithmetic, bytes per frame,
//! precision by operator, memory needed, and what its manifest fails to say. Nothing is run and no runtime is loaded.

use std::path::Path;

use serde::Serialize;

use crate::files;
use crate::host::settings::{MemoryPolicy, NextFrame, SessionSettings};
use crate::label;
use crate::manifest::{COND_OBJECTS, Follows, GraphSpec, OBJECTS, TensorSpec};
use crate::onnx::{Attention, Dimension, Model, PAD_FUSION, shape_text};
use crate::pack::Pack;
use crate::packs;
use crate::runner::RunnerError;
use crate::sam::contract::{IMAGE_ENCODER, MASK_PROMPT};
use crate::study::cost::{self, Cost};
use crate::study::whole;
use crate::types::{Device, Dtype, OpenRequest, PromptKind};

pub use crate::manifest::{Activation, DetectorSpec, LabelsSpec, Pooling, SegmenterSpec};

/// Schema number of the JSON form.
pub const SCHEMA: u32 = 2;

/// Everything that the files of a pack show. As JSON this is what `jetbench packs inspect --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Pack id.
    pub pack: String,
    /// Family in the registry.
    pub family: String,
    /// SPDX expression.
    pub licence: String,
    /// Whose masks the graphs give where implementations differ; `None`: the manifest does not say.
    pub follows: Option<Follows>,
    /// What it finds on a frame; `None` (JSON null): it is no detector.
    pub detector: Option<DetectorSpec>,
    /// What it finds and tracks; `None` (JSON null): it is no video segmenter.
    pub segmenter: Option<SegmenterSpec>,
    /// The names that it gives; `None` (JSON null): it is no label pack.
    pub labels: Option<LabelsSpec>,
    /// Precision whose graphs were read.
    pub precision: Dtype,
    /// Number of objects that the figures hold for.
    pub objects: usize,
    /// The graphs, in the manifest's order.
    pub graphs: Vec<GraphCost>,
    /// One tracked frame: the image encoder once and the object graphs once for all objects. `None` when not all operators of
    /// these graphs could be counted: a sum without them would say nothing.
    pub frame: Option<FrameCost>,
    /// Memory that a run needs, computed from the files.
    pub memory: MemoryNeed,
    /// What the manifest lacks or what is wrong with the files, in words.
    pub missing: Vec<String>,
    /// What leads out of the pack's directory, in words; `packs copy` makes a pack in which nothing does.
    pub outside: Vec<String>,
}

/// One graph.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GraphCost {
    /// Graph name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Version of ONNX's operator set.
    pub opset: i64,
    /// Version of the file format.
    pub ir_version: i64,
    /// Names and shapes of inputs: `bank f32 [objects, 7, 512, 64]`.
    pub inputs: Vec<String>,
    /// Names and shapes of outputs.
    pub outputs: Vec<String>,
    /// Other forms that it can run in.
    pub forms: Forms,
    /// Does it run on every tracked frame?
    pub every_frame: bool,
    /// Runs per frame: one, or one per object where the graph takes one object at a time.
    pub runs: u64,
    /// What one run costs.
    pub cost: Cost,
}

/// Forms of a graph beside that of its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Forms {
    /// The file of the form for the CPU provider, fp32 only.
    pub cpu: Option<String>,
    /// How many attentions `attention=fused` computes by ONNX Runtime's operator.
    pub attention_fused: usize,
    /// How many attentions `attention=onnx` computes by ONNX's operator.
    pub attention_onnx: usize,
}

/// One tracked frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FrameCost {
    /// Operations in sums of products.
    pub flops: u64,
    /// Element-wise and reducing operations.
    pub elementwise: u64,
    /// Bytes that must move at the least.
    pub minimal_bytes: u64,
}

impl FrameCost {
    /// The same with one graph more.
    fn with(self, graph: &GraphCost) -> FrameCost {
        let add = |sum: u64, cost: u64| sum.saturating_add(cost.saturating_mul(graph.runs));
        FrameCost {
            flops: add(self.flops, graph.cost.total_flops()),
            elementwise: add(self.elementwise, graph.cost.elementwise),
            minimal_bytes: add(self.minimal_bytes, graph.cost.minimal_bytes()),
        }
    }
}

/// Memory that a run needs: computed from the graphs, not measured. A runtime adds its own code, buffers and copies.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryNeed {
    /// Constants of all graphs.
    pub weights_bytes: u64,
    /// Two sets of state per object.
    pub state_bytes: u64,
    /// Inputs and outputs of the graphs that run on every frame, state not counted.
    pub bound_bytes: u64,
    /// Largest live inner values of every graph, added up: what is needed where each graph has memory of its own, as on a GPU.
    /// `None` when not all operators could be counted.
    pub activations_bytes: Option<u64>,
    /// Those of the graph that has the most of them: graphs that run in turn in one pool, as on a CPU, use the same memory.
    pub shared_activations_bytes: Option<u64>,
}

impl MemoryNeed {
    /// All together, where each graph has memory of its own; `None`: not all operators could be counted.
    pub fn apart(&self) -> Option<u64> {
        self.activations_bytes.map(|activations| self.held().saturating_add(activations))
    }

    /// The same where the graphs share a pool.
    pub fn shared(&self) -> Option<u64> {
        self.shared_activations_bytes.map(|activations| self.held().saturating_add(activations))
    }

    /// What is there between two runs of a graph.
    fn held(&self) -> u64 {
        self.weights_bytes.saturating_add(self.state_bytes).saturating_add(self.bound_bytes)
    }
}

/// What a worker holds on a CPU beside its graphs, bytes: the program and ONNX Runtime, measured with 1.31 on x86-64.
pub const CPU_RUNTIME_BYTES: u64 = 50 << 20;

/// Memory in bytes that so many objects need with these options, an estimate from the graphs as the device gets them. On a CPU with
/// [`CPU_RUNTIME_BYTES`]; elsewhere nobody knows beforehand what driver and runtime take, and it comes on top.
///
/// In fp32 with the default arena on a CPU, the worker's peak (resident set) of both miniature packs and of EdgeTAM at 1024 px, with 1, 2 and 8
/// objects, in a batch and one after the other, is between 0.87 and 1.12 of it. Half precisions are emulated there, and the arenas `own` and
/// `off` leave memory unused: these need up to 1.4 times as much. SAM 2.1 tiny at 1024 px needs up to 1.7 times as much.
///
/// # Errors
/// The graphs cannot be read, or not all of their operators counted; an option has no such value.
pub fn memory_needed(request: &OpenRequest, objects: usize) -> Result<u64, RunnerError> {
    let settings = SessionSettings::of(request)?;
    let batch = objects.min(settings.together()).max(1);
    let on_cpu = request.device == Device::Cpu && (request.dtype.is_half() || settings.cpu_forms());
    let form = Form { on_cpu, attention: settings.attention() };
    let found = counted(&request.pack, Some(request.dtype), batch, form)?;
    if let Some(graph) = found.graphs.iter().find(|graph| graph.cost.uncounted() > 0) {
        return Err(RunnerError::Pack(format!(
            "{}: the shapes of {} operators are not known (`jetbench packs inspect` names them)",
            request.pack.join(&graph.file).display(),
            graph.cost.uncounted()
        )));
    }
    let (encoder, others): (Vec<_>, Vec<_>) = found.graphs.iter().partition(|graph| graph.name == IMAGE_ENCODER);
    let most = |graphs: &[&GraphCost]| graphs.iter().map(|graph| graph.cost.peak_activation_bytes).max().unwrap_or(0);
    let ahead = settings.split().is_some();
    let live = match settings.graphs_share_memory() {
        false => found.memory.activations_bytes.unwrap_or(u64::MAX),
        true if ahead => most(&encoder).saturating_add(most(&others)),
        true => found.memory.shared_activations_bytes.unwrap_or(u64::MAX),
    };
    // Image and features of the frame that is begun beside this one.
    let beside = |graph: &&GraphCost| match settings.next_frame() {
        Some(NextFrame::Encoded) => graph.cost.input_bytes.saturating_add(graph.cost.output_bytes),
        Some(NextFrame::Copied) => graph.cost.input_bytes,
        Some(NextFrame::Resized) | None => 0,
    };
    let beside: u64 = encoder.iter().map(beside).sum();
    // Every object has its state, also where they run one after the other.
    let waiting = found.memory.state_bytes / batch as u64 * (objects.max(1) - batch) as u64;
    // The state with the last frame is a third set beside two.
    let third = settings.memory() == MemoryPolicy::GatedLast;
    let third = if third { (found.memory.state_bytes + waiting) / 2 } else { 0 };
    let own = if request.device == Device::Cpu { CPU_RUNTIME_BYTES } else { 0 };
    let all = [found.memory.held(), live, beside, waiting, third, own];
    Ok(all.into_iter().fold(0, u64::saturating_add))
}

/// Memory in bytes that the label pack of a request takes beside a runner: its graph, as [`memory_needed`], the crops of so many tracks, and
/// two rows of the largest square that is cut out of a frame whose longer side has `longest` pixels. An upper bound: crops are held until the last frame,
/// at most [`label::MOST_CROPS`] of a track and [`label::MOST_OBJECTS`] tracks, and most videos have fewer.
///
/// # Errors
/// As [`memory_needed`].
pub fn memory_for_labels(request: &OpenRequest, tracks: usize, longest: u32) -> Result<u64, RunnerError> {
    let own = if request.device == Device::Cpu { CPU_RUNTIME_BYTES } else { 0 };
    let graph = memory_needed(request, 1)?.saturating_sub(own);
    let pixels = |rows: u64, side: u64| 3u64.saturating_mul(rows).saturating_mul(side);
    let crops = (tracks.min(label::MOST_OBJECTS) * label::MOST_CROPS) as u64;
    let side = u64::from(Pack::read(&request.pack)?.manifest.input.size);
    let held = crops.saturating_mul(pixels(side, side));
    Ok(graph.saturating_add(held).saturating_add(pixels(2, (u64::from(longest) * 6).div_ceil(5))))
}

/// Reads the pack in `dir` and counts what its graphs of `precision` (`None`: the first that every graph has) cost for so
/// many objects; `on_cpu`: as the CPU provider gets them, in fp32 in the form for it where they have one, all memories there,
/// in 16 bits with the casts that stand in for half kernels and on weights that these turn into fp32.
///
/// # Errors
/// [`RunnerError::Pack`] when the manifest or a graph file cannot be read at all; wrong digests and missing facts are in
/// the report instead. [`RunnerError::Usage`] when no graph has the precision.
pub fn inspect(dir: &Path, precision: Option<Dtype>, objects: usize, on_cpu: bool) -> Result<Inspection, RunnerError> {
    counted(dir, precision, objects, Form { on_cpu, attention: Attention::Whole })
}

/// In which form graphs are counted.
#[derive(Clone, Copy)]
struct Form {
    on_cpu: bool,
    attention: Attention,
}

/// As [`inspect`], with attention computed in one of its ways.
fn counted(dir: &Path, precision: Option<Dtype>, objects: usize, form: Form) -> Result<Inspection, RunnerError> {
    let pack = Pack::read(dir)?;
    let manifest = &pack.manifest;
    let held = manifest.dtypes();
    let precision = match precision {
        None => *held
            .first()
            .ok_or_else(|| RunnerError::Pack(format!("{}: no precision has a file for every graph", dir.display())))?,
        Some(precision) if held.contains(&precision) => precision,
        Some(precision) => {
            let names: Vec<&str> = held.iter().map(|p| p.as_str()).collect();
            let known = names.join(", ");
            return Err(RunnerError::Usage(format!(
                "pack {} has no {precision} graphs; it has: {known}",
                dir.display()
            )));
        }
    };
    let mut missing = Vec::new();
    let mut graphs = Vec::new();
    for graph in &manifest.graphs {
        graphs.push(read(&pack, graph, precision, objects, form, &mut missing)?);
    }
    let batched = graphs.iter().any(|g| g.inputs.iter().any(|i| i.contains(&format!("[{OBJECTS}"))));
    // Without an object axis the object graphs run once per object.
    let runs = |graph: &GraphCost| {
        let per_object = manifest
            .graph(&graph.name)
            .is_some_and(|g| g.inputs.iter().any(|t| !["image", "pixel_values"].contains(&t.name.as_str())))
            && manifest.detector.is_none()
            && manifest.segmenter.is_none();
        if per_object && !batched { objects as u64 } else { 1 }
    };
    for graph in &mut graphs {
        graph.runs = runs(graph);
    }
    let mut frame = Some(FrameCost::default());
    for graph in graphs.iter().filter(|g| g.every_frame) {
        frame = frame.filter(|_| graph.cost.uncounted() == 0).map(|frame| frame.with(graph));
    }
    let memory = memory(&pack, &graphs, objects);
    lacking(&pack, &mut missing);
    Ok(Inspection {
        schema: SCHEMA,
        pack: manifest.id.clone(),
        family: manifest.family.clone(),
        licence: manifest.licence.clone(),
        follows: manifest.provenance.follows,
        detector: manifest.detector.clone(),
        segmenter: manifest.segmenter.clone(),
        labels: manifest.labels.clone(),
        precision,
        objects,
        graphs,
        frame,
        memory,
        missing,
        outside: whole::outside(dir)?,
    })
}

fn read(
    pack: &Pack,
    graph: &GraphSpec,
    precision: Dtype,
    objects: usize,
    form: Form,
    missing: &mut Vec<String>,
) -> Result<GraphCost, RunnerError> {
    let Form { on_cpu, attention } = form;
    let form = graph.cpu.as_ref().filter(|_| on_cpu && precision == Dtype::Fp32);
    let checked = if form.is_some() {
        pack.check_cpu_form(graph).map(drop)
    } else {
        pack.check_graph(graph, precision).map(drop)
    };
    if let Err(e) = checked {
        missing.push(e.to_string());
    }
    let file = form.map(|form| &form.file).or(graph.files.get(&precision)).cloned().unwrap_or_default();
    let path = pack.dir.join(&file);
    let wrong = |e: &dyn std::fmt::Display| RunnerError::Pack(format!("{}: {e}", path.display()));
    let bytes = files::read(&path, files::LARGE).map_err(|e| wrong(&e))?;
    let changed = |how: Attention| how.of(&bytes).map(|attended| attended.map_or(0, |attended| attended.changed));
    let forms = Forms {
        cpu: graph.cpu.as_ref().filter(|_| precision == Dtype::Fp32).map(|form| form.file.clone()),
        attention_fused: changed(Attention::Fused).map_err(|e| wrong(&e))?,
        attention_onnx: changed(Attention::Standard { spread: false }).map_err(|e| wrong(&e))?,
    };
    let attended = attention.of(&bytes).map_err(|e| wrong(&e))?;
    let bytes = attended.map_or(bytes, |attended| attended.bytes);
    let model = Model::parse(&bytes).map_err(|e| wrong(&e))?;
    let emulated = (on_cpu && precision.is_half()).then(|| model.emulate_half());
    let emulated = emulated.transpose().map_err(|e| wrong(&e))?;
    let rewritten =
        emulated.as_ref().map(|emulated| Model::parse(&emulated.bytes)).transpose().map_err(|e| wrong(&e))?;
    let run = rewritten.as_ref().unwrap_or(&model);
    let count = objects as i64;
    // Axes of other names count batches, points or boxes of one prompt: 1, and the report says so.
    let ours = |name: &str| [OBJECTS, COND_OBJECTS].contains(&name);
    // The form for the CPU cuts the state down to the frames that passed: as many as there is room for.
    let full = run.inputs.iter().find(|input| input.name == "age").map(|input| (input.name, i64::from(u16::MAX)));
    let mut cost = cost::count(run, &|name| Some(if ours(name) { count } else { 1 }), full.as_slice());
    if rewritten.is_some() {
        cost.weight_bytes = cost.weight_bytes.max(cost.parameters.saturating_mul(4));
    }
    missing.extend(doubts(&model, &cost, ours).into_iter().map(|doubt| format!("{}: {doubt}", path.display())));
    let tensors = |list: &[TensorSpec]| -> Vec<String> {
        list.iter()
            .map(|t| format!("{} {} {}", t.name, format!("{:?}", t.dtype).to_lowercase(), shape_text(&t.shape)))
            .collect()
    };
    Ok(GraphCost {
        name: graph.name.clone(),
        file,
        file_bytes: bytes.len() as u64,
        opset: model.opset(),
        ir_version: model.ir_version,
        inputs: tensors(&graph.inputs),
        outputs: tensors(&graph.outputs),
        forms,
        every_frame: graph.name != MASK_PROMPT,
        runs: 1,
        cost,
    })
}

/// What the figures of a graph leave out or take for granted, and what other programs would compute wrongly.
/// `ours`: is that the axis of the objects?
fn doubts(model: &Model, cost: &Cost, ours: impl Fn(&str) -> bool) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut others: Vec<&str> = Vec::new();
    for axis in model.inputs.iter().flat_map(|input| input.shape.iter().flatten()) {
        if let Dimension::Dynamic(name) = axis
            && !ours(name)
            && !others.contains(&name.as_str())
        {
            others.push(name);
        }
    }
    if !others.is_empty() {
        doubts.push(format!("sizes of axes counted as 1: {}", others.join(", ")));
    }
    if let pads @ 1.. = model.pads_for_max_pools().len() {
        doubts.push(format!(
            "zeros padded for a max pool alone ({pads}): ONNX Runtime's {PAD_FUSION} and onnxsim compute that wrongly where values are \
             negative; jetbench turns {PAD_FUSION} off, other programs may not",
        ));
    }
    if cost.uncounted() > 0 {
        let list: Vec<String> = cost.unknown.iter().map(|(op, n)| format!("{op} {n}")).collect();
        doubts.push(format!(
            "shapes of {} operators cannot be inferred ({}); the figures leave out their cost and that of what follows",
            cost.uncounted(),
            list.join(", ")
        ));
    }
    doubts
}

fn memory(pack: &Pack, graphs: &[GraphCost], objects: usize) -> MemoryNeed {
    let manifest = &pack.manifest;
    let is_state = |name: &str| manifest.states.iter().any(|s| s.input == name || s.output == name);
    let bytes = |tensor: &TensorSpec| {
        tensor.shape.iter().fold(4u64, |n, axis| {
            n.saturating_mul(match axis {
                Dimension::Size(size) => u64::try_from(*size).unwrap_or(0),
                Dimension::Dynamic(_) => objects as u64,
            })
        })
    };
    let whole = graphs.iter().all(|graph| graph.cost.uncounted() == 0);
    let live = || graphs.iter().map(|graph| graph.cost.peak_activation_bytes);
    let mut need = MemoryNeed {
        activations_bytes: whole.then(|| live().fold(0, u64::saturating_add)),
        shared_activations_bytes: whole.then(|| live().max().unwrap_or(0)),
        ..MemoryNeed::default()
    };
    let mut states: Vec<&str> = Vec::new();
    let mut bound: Vec<&str> = Vec::new();
    for (graph, cost) in manifest.graphs.iter().zip(graphs) {
        need.weights_bytes = need.weights_bytes.saturating_add(cost.cost.weight_bytes);
        for tensor in graph.inputs.iter().chain(&graph.outputs) {
            let fixed = !tensor.shape.iter().any(|axis| matches!(axis, Dimension::Dynamic(_)));
            if is_state(&tensor.name) {
                // Inputs and outputs of the state are the two sets.
                if !states.contains(&tensor.name.as_str()) {
                    states.push(&tensor.name);
                    // A video segmenter has one state for all objects.
                    let copies = if fixed && manifest.segmenter.is_none() { objects as u64 } else { 1 };
                    need.state_bytes = need.state_bytes.saturating_add(bytes(tensor).saturating_mul(copies));
                }
            } else if cost.every_frame && !bound.contains(&tensor.name.as_str()) {
                bound.push(&tensor.name);
                need.bound_bytes = need.bound_bytes.saturating_add(bytes(tensor));
            }
        }
    }
    need
}

/// What a reader of the manifest would want to know and is not told.
fn lacking(pack: &Pack, missing: &mut Vec<String>) {
    let manifest = &pack.manifest;
    let mut say = |lacks: bool, text: &str| {
        if lacks {
            missing.push(text.to_string());
        }
    };
    let digest = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let provenance = &manifest.provenance;
    say(manifest.licence.trim().is_empty(), "licence: no SPDX expression");
    let file = ["LICENSE", "LICENCE", "LICENSE.txt", "LICENSE.md"].iter().any(|name| pack.dir.join(name).is_file());
    say(!file, "no LICENSE file beside pack.toml");
    say(manifest.description.trim().is_empty(), "description: empty");
    say(
        !digest(&provenance.checkpoint_sha256),
        "provenance.checkpoint_sha256: not a SHA-256, so nobody can tell which weights these are",
    );
    say(provenance.exporter.trim().is_empty(), "provenance.exporter: empty");
    say(provenance.command.trim().is_empty(), "provenance.command: empty, so the pack cannot be made again");
    say(
        provenance.follows.is_none() && manifest.memory.is_some(),
        "provenance.follows: transformers or official, whose masks these are where the two differ",
    );
    say(provenance.libraries.is_empty(), "provenance.libraries: no versions of the libraries that took part");
    match &manifest.golden {
        None => say(true, "[golden]: no reference outputs, so `jetbench verify` has nothing to compare with"),
        Some(golden) => say(!pack.dir.join(&golden.index).is_file(), "[golden]: the index file does not exist"),
    }
    let held = manifest.dtypes();
    for precision in Dtype::ALL {
        // Most packs are not quantised, and lack nothing.
        let wanted =
            precision != Dtype::Int8 || manifest.graphs.iter().any(|graph| graph.files.contains_key(&precision));
        say(wanted && !held.contains(&precision), &format!("{precision}: not every graph has a file"));
    }
    let prompted = manifest.detector.is_none() && manifest.segmenter.is_none() && manifest.labels.is_none();
    for kind in PromptKind::ALL.into_iter().filter(|_| prompted) {
        say(!manifest.prompts.kinds.contains(&kind), &format!("prompts.kinds: no {kind}"));
    }
    // Every file of every precision is covered by a digest and present, also those that were not read above.
    for graph in &manifest.graphs {
        let all = graph
            .forms()
            .flat_map(|form| std::iter::once(form.file).chain(form.weights.iter().map(|w| w.file.as_str())));
        for file in all.filter(|file| !pack.dir.join(file).is_file()) {
            say(true, &format!("graph `{}`: {file} does not exist", graph.name));
        }
    }
    // What describing a label pack does not read: its vectors.
    if let (Some(_), Ok(signature)) = (&manifest.labels, label::contract::signature(pack))
        && let Err(e) = label::Vectors::read(pack, signature.width)
    {
        say(true, &e.to_string());
    }
    if let Err(e) = packs::describe(&pack.dir, Device::Cpu) {
        say(true, &format!("cannot be run: {e}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_segmenter_is_counted_once_for_all_its_queries() {
        let dir = tempfile::tempdir().unwrap();
        crate::segment::tests::write(dir.path(), |text| text);
        let found = inspect(dir.path(), None, 8, false).unwrap();
        let segmenter = found.segmenter.unwrap();
        assert_eq!((found.graphs[0].runs, segmenter.queries, segmenter.classes.len()), (1, 2, 2));
        // Two sets of queries [1, 2, 3], whatever the number of objects.
        assert_eq!(found.memory.state_bytes, 2 * 4 * 6);
    }

    #[test]
    fn a_detector_is_counted_once_and_what_the_optimiser_breaks_is_named() {
        use crate::detect::tests::{NAMES, write};
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), NAMES[0], |text| text);
        let found = inspect(dir.path(), None, 8, false).unwrap();
        assert_eq!((found.graphs[0].runs, found.detector.unwrap().classes.len()), (1, 2));
        assert!(found.frame.is_some() && found.memory.apart().is_some(), "{:?}", found.missing);
        assert!(
            !found.missing.iter().any(|text| text.contains("prompts") || text.contains("max pool")),
            "{:?}",
            found.missing
        );
        let padded = crate::onnx::padding::tests::padded(0.0, None, &["MaxPool"]);
        std::fs::write(dir.path().join("d.onnx"), padded).unwrap();
        let missing = inspect(dir.path(), None, 1, false).unwrap().missing;
        assert!(
            missing.iter().any(|text| text.contains("d.onnx: zeros padded for a max pool alone (1)")),
            "{missing:?}"
        );
    }
}
