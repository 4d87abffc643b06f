//! `jetbench packs inspect`: what a pack holds and costs, as text and as JSON. Counting is the runners'; here the figures
//! are laid out, and set against a device's peak when one is named. `jetbench packs copy`: a pack with all that it leads to. The
//! other sub-commands have files of their own.

mod get;
mod new;
mod travel;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jetbench_runners::inspect::{
    self, Activation, DetectorSpec, GraphCost, Inspection, LabelsSpec, Pooling, SegmenterSpec,
};
use jetbench_runners::roofline::{self, Limit, Peak};
use jetbench_runners::types::Dtype;
use jetbench_runners::whole;
use serde_json::json;

use crate::cli::{CopyPackArgs, GraphForm, InspectArgs, PacksArgs, PacksCommand};
use crate::exit::{Error, Outcome};
use crate::plan::shipped;
use crate::text::{clean, plural};

/// Runs a sub-command of `packs`.
///
/// # Errors
/// The pack cannot be read (exit 2), or the CPU cannot be measured for want of ONNX Runtime (exit 3).
pub fn packs(args: &PacksArgs) -> Result<Outcome, Error> {
    match &args.command {
        PacksCommand::Get(args) => get::get(args),
        PacksCommand::Inspect(args) => inspect(args),
        PacksCommand::Copy(args) => copy(args),
        PacksCommand::Pack(args) => travel::pack(args),
        PacksCommand::Add(args) => travel::add(args),
        PacksCommand::New(args) => new::new(args),
        PacksCommand::Hash(args) => travel::hash(args),
    }
}

fn copy(args: &CopyPackArgs) -> Result<Outcome, Error> {
    let brought = whole::copy(&shipped::named(&args.pack), &args.dir)?;
    let mut text = format!("{}: a whole copy of {}\n", args.dir.display(), args.pack.display());
    brought.iter().for_each(|item| text.push_str(&format!("  now in it: {}\n", clean(item))));
    Ok(Outcome::ok(text))
}

fn inspect(args: &InspectArgs) -> Result<Outcome, Error> {
    let precision = args.dtype;
    let cpu_forms = args.form == Some(GraphForm::Cpu);
    if cpu_forms && precision.is_some_and(|precision| precision != Dtype::Fp32) {
        return Err(Error::Usage("--form cpu: only fp32 graphs have a form for the CPU".to_string()));
    }
    let found = inspect::inspect(&shipped::named(&args.pack), precision, args.objects.get(), cpu_forms)?;
    let peak = match args.roofline.as_deref() {
        None => None,
        Some("cpu") => Some(roofline::measure_cpu(args.ort_lib.as_deref(), args.threads.map(Into::into))?),
        Some(name) => Some(roofline::module_peak(name)?),
    };
    let limits = peak.as_ref().map(|peak| limits(&found, peak));
    Ok(Outcome::ok(if args.json {
        let mut value = serde_json::to_value(&found)
            .map_err(|e| Error::Failed(format!("the inspection cannot be written: {e}")))?;
        if let (Some(peak), Some(limits)) = (&peak, &limits) {
            value["roofline"] = json!({"peak": peak, "limits": limits});
        }
        format!("{value}\n")
    } else {
        text(&found, peak.as_ref().zip(limits.as_ref()))
    }))
}

/// Limit per graph; none for a graph of which not all is counted.
fn limits(found: &Inspection, peak: &Peak) -> BTreeMap<String, Limit> {
    let limit = |g: &inspect::GraphCost| peak.limit(g.cost.total_flops(), g.cost.minimal_bytes(), found.precision);
    let counted = found.graphs.iter().filter(|graph| graph.cost.uncounted() == 0);
    counted.map(|graph| (graph.name.clone(), limit(graph))).collect()
}

/// The least time per graph on a device.
fn roofline_text(found: &Inspection, peak: &Peak, limits: &BTreeMap<String, Limit>) -> String {
    let mut text = String::new();
    let half = peak.half_gflops.map_or("emulated in fp32".to_string(), |g| format!("{g:.0} GFLOP/s"));
    let int8 = match (found.precision, peak.int8_gops()) {
        (Dtype::Int8, Some(gops)) => format!("int8 {gops:.0} GOP/s, "),
        (Dtype::Int8, None) => "int8 not known, so left out, ".to_string(),
        _ => String::new(),
    };
    let _ = writeln!(
        text,
        "\nroofline: {} (fp32 {:.0} GFLOP/s, fp16 and bf16 {half}, {int8}memory {:.1} GB/s; {})",
        peak.name, peak.fp32_gflops, peak.bandwidth_gb_s, peak.source
    );
    let _ = writeln!(text, "{:17} {:>12} {:>9} {:>12}", "graph", "at least ms", "bound by", "FLOP/byte");
    for graph in &found.graphs {
        let _ = match limits.get(&graph.name) {
            Some(limit) => {
                writeln!(text, "{:17} {:>12.3} {:>9} {:>12.1}", graph.name, limit.ms, limit.bound(), limit.intensity)
            }
            None => writeln!(text, "{:17} not known: {} not counted", graph.name, uncounted(graph)),
        };
    }
    text
}

/// Operators that are missing from a graph's figures, in words.
fn uncounted(graph: &GraphCost) -> String {
    let of = graph.cost.nodes;
    format!("{} of {of} operators", graph.cost.uncounted())
}

/// Cost of each graph, and of a tracked frame where all of it is known.
fn costs(found: &Inspection) -> String {
    let mut text = format!(
        "\n{:17} {:>10} {:>10} {:>12} {:>11} {:>12} {:>12}\n",
        "graph", "parameters", "GFLOP", "elementwise", "MiB moved", "MiB weights", "MiB live"
    );
    for graph in &found.graphs {
        let cost = &graph.cost;
        // What is missing can only add to these.
        let partly = |figure: String| if cost.uncounted() > 0 { format!(">{figure}") } else { figure };
        let _ = writeln!(
            text,
            "{:17} {:>10} {:>10} {:>12} {:>11} {:>12} {:>12}{}",
            graph.name,
            cost.parameters,
            partly(giga(cost.total_flops())),
            partly(giga(cost.elementwise)),
            partly(mib(cost.minimal_bytes())),
            mib(cost.weight_bytes),
            partly(mib(cost.peak_activation_bytes)),
            if graph.every_frame { "" } else { "  (prompts only)" }
        );
    }
    let of_frame = match (found.detector.is_some() || found.segmenter.is_some(), &found.labels) {
        (_, Some(_)) => "crop",
        (true, None) => "frame",
        (false, None) => "tracked frame",
    };
    let _ = match &found.frame {
        Some(frame) => writeln!(
            text,
            "{:17} {:>10} {:>10} {:>12} {:>11}",
            of_frame,
            "",
            giga(frame.flops),
            giga(frame.elementwise),
            mib(frame.minimal_bytes)
        ),
        None => {
            let lacking: Vec<String> = (found.graphs.iter().filter(|graph| graph.cost.uncounted() > 0))
                .map(|graph| format!("{} of {}", uncounted(graph), graph.name))
                .collect();
            writeln!(
                text,
                "{of_frame}: not known: not counted are {}; > marks figures without them",
                lacking.join(", ")
            )
        }
    };
    text
}

/// What a run needs beside the runtime's own.
fn memory(found: &Inspection) -> String {
    let need = &found.memory;
    let held = format!(
        "weights {}, state {}, bound tensors {}",
        mib(need.weights_bytes),
        mib(need.state_bytes),
        mib(need.bound_bytes)
    );
    let live = |bytes: Option<u64>| mib(bytes.unwrap_or_default());
    match (need.shared(), need.apart()) {
        (Some(shared), Some(apart)) => format!(
            "memory needed, an estimate from the graphs: {} MiB where they share it, as on a CPU, {} MiB where each has its own, \
             as on a GPU\n({held}, live values of the largest graph {}, of all {}); a runtime adds its own",
            mib(shared),
            mib(apart),
            live(need.shared_activations_bytes),
            live(need.activations_bytes)
        ),
        _ => format!("memory needed: not known, because not all operators are counted; beside live values {held} MiB"),
    }
}

fn giga(n: u64) -> String {
    format!("{:.3}", n as f64 / 1e9)
}

fn mib(n: u64) -> String {
    format!("{:.1}", n as f64 / f64::from(1 << 20))
}

/// What a detector finds.
fn finds(detector: &DetectorSpec) -> String {
    let boxes = plural(detector.queries as usize, "box", "boxes");
    format!("{boxes} per frame, {}\n", classes(&detector.classes))
}

/// What a video segmenter finds and tracks.
fn tracks(segmenter: &SegmenterSpec) -> String {
    let queries = plural(segmenter.queries as usize, "query", "queries");
    match segmenter.tracks {
        None => format!("{queries}, each of which may follow an object, {}\n", classes(&segmenter.classes)),
        Some(tracks) => {
            format!("{queries}, at most {} tracks at a time, {}\n", tracks.slots, classes(&segmenter.classes))
        }
    }
}

/// What a label pack says.
fn says(labels: &LabelsSpec) -> String {
    let activation = match labels.activation {
        Activation::Softmax => "softmax",
        Activation::Sigmoid => "sigmoid",
    };
    let made = match labels.pooling {
        Pooling::Eot => "vectors from the end-of-text token",
        Pooling::Mean => "vectors from the mean of the text",
        Pooling::Last => "vectors from the last token",
        Pooling::None => "vectors without a text",
    };
    format!("{}, {activation}, {made}\n", classes(&labels.classes))
}

fn classes(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let first: Vec<String> = names.iter().take(SHOWN).map(|name| clean(name)).collect();
    let rest = if names.len() > SHOWN { ", …" } else { "" };
    format!("{} ({}{rest})", plural(names.len(), "class", "classes"), first.join(", "))
}

fn text(found: &Inspection, roofline: Option<(&Peak, &BTreeMap<String, Limit>)>) -> String {
    let mut text = format!("{} ({}), {} graphs, ", found.pack, found.family, found.precision);
    match (&found.detector, &found.segmenter, &found.labels) {
        (_, _, Some(labels)) => text.push_str(&says(labels)),
        (_, Some(segmenter), None) => text.push_str(&tracks(segmenter)),
        (Some(detector), None, None) => text.push_str(&finds(detector)),
        (None, None, None) => text.push_str(&format!("{}\n", plural(found.objects, "object", "objects"))),
    }
    if let Some(follows) = found.follows.filter(|_| found.detector.is_none() && found.segmenter.is_none()) {
        let _ = writeln!(text, "gives the masks of {} where implementations differ", follows.describe());
    }
    text.push_str(&costs(found));
    text.push_str(
        "\nGFLOP: 10^9 operations in sums of products, an addition and a multiplication counting as two; elementwise: other \
         arithmetic,\n10^9 elements. Moved: weights, inputs and outputs once. Live: inner values at once, computed from the \
         graph, not measured.\n",
    );
    for graph in &found.graphs {
        let _ = writeln!(
            text,
            "\n{} ({}, {} bytes, opset {}, IR {}, {} operators)",
            graph.name, graph.file, graph.file_bytes, graph.opset, graph.ir_version, graph.cost.nodes
        );
        for (word, list) in [("in ", &graph.inputs), ("out", &graph.outputs)] {
            let _ = writeln!(text, "  {word}  {}", list.join("; "));
        }
        let flops: Vec<String> = graph.cost.flops.iter().map(|(op, n)| format!("{op} {}", giga(*n))).collect();
        let _ = writeln!(text, "  GFLOP  {}", if flops.is_empty() { "none".to_string() } else { flops.join(", ") });
        let types =
            graph.cost.precision.iter().flat_map(|(op, types)| types.iter().map(move |(t, n)| format!("{op} {n} {t}")));
        let _ = writeln!(text, "  operands  {}", types.collect::<Vec<_>>().join(", "));
        let cpu = graph.forms.cpu.as_ref().map(|file| format!("form=cpu {file}"));
        let attentions = [("fused", graph.forms.attention_fused), ("onnx", graph.forms.attention_onnx)];
        let attentions = attentions.into_iter().filter(|(_, n)| *n > 0);
        let forms = cpu.into_iter().chain(attentions.map(|(how, n)| format!("attention={how} changes {n}")));
        let forms: Vec<String> = forms.collect();
        if !forms.is_empty() {
            let _ = writeln!(text, "  forms  as in the file; {}", forms.join("; "));
        }
    }
    let _ = writeln!(text, "\n{}", memory(found));
    if let Some((peak, limits)) = roofline {
        text.push_str(&roofline_text(found, peak, limits));
    }
    text.push_str(if found.missing.is_empty() { "\nnothing is missing\n" } else { "\nmissing:\n" });
    for item in &found.missing {
        let _ = writeln!(text, "  {item}");
    }
    if !found.outside.is_empty() {
        text.push_str(
            "outside of the pack's directory (`jetbench packs copy PACK DIR` makes a pack that holds them):\n",
        );
    }
    for item in &found.outside {
        let _ = writeln!(text, "  {}", clean(item));
    }
    text
}
