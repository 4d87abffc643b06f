//! `jetbench audit`: which provider runs which nodes of each graph, and what is copied between host and device per frame.
//! The profile is ONNX Runtime's own; the copies that this program makes are counted where it makes them. Weights that go
//! up while a session loads are not listed: no interface tells them.

use std::collections::BTreeMap;

use jetbench_runners::RunnerError;
use jetbench_runners::audit::{self, Audit};
use jetbench_runners::contract;
use jetbench_runners::types::{Dtype, Prompt};
use serde_json::json;

use crate::cli::{AuditArgs, RunArgs};
use crate::dataset::live;
use crate::exit::{Error, NOT_VALID, OK, Outcome};
use crate::judge::transfers::{TO_HOST, Transfer, TransferSeverity, judge};
use crate::plan::resolve::Cell;
use crate::plan::{self, Plan};
use crate::run::event::Job;
use crate::run::prompt;

/// Audits every cell of the plan that the flags describe.
///
/// # Errors
/// As a run's plan; a pack without graphs; a profile that cannot be read.
pub fn audit(args: &AuditArgs) -> Result<Outcome, Error> {
    args.data.as_deref().map_or(Ok(()), live::refuse)?;
    let run = RunArgs {
        models: args.models.clone(),
        dtype: args.dtype.clone(),
        device: args.device.clone(),
        data: args.data.clone(),
        packs: args.packs.clone(),
        alias: args.alias.clone(),
        ort_lib: args.ort_lib.clone(),
        ep_library: args.ep_library.clone(),
        threads: args.threads,
        option: args.option.clone(),
        limit_videos: std::num::NonZeroUsize::new(1),
        limit_frames: Some(args.frames),
        ..RunArgs::default()
    };
    let plan = Plan::new(&run)?;
    let mut graphs = Vec::new();
    let mut items = Vec::new();
    for cell in &plan.cells {
        let audit = one(&plan, cell)?;
        for p in &audit.placements {
            graphs.push(json!({"model": cell.model, "dtype": cell.dtype, "device": cell.device, "graph": p.graph,
                "provider": p.provider, "nodes": p.nodes, "time_share": p.time_share}));
        }
        items.extend(judge(&cell.model, cell.dtype, cell.device, &audit));
    }
    items.sort_by_key(|i| i.severity);
    let count = |severity| items.iter().filter(|i| i.severity == severity).count();
    let worst = items.iter().map(|i| i.severity).min();
    let failed = args
        .fail_on
        .is_some_and(|limit| worst.is_some_and(|worst| worst <= limit && worst != TransferSeverity::Expected));
    let stdout = if args.json {
        let report = json!({"schema": 1, "graphs": graphs,
            "transfers": {"critical": count(TransferSeverity::Critical), "medium": count(TransferSeverity::Medium), "minor": count(TransferSeverity::Minor)},
            "items": items});
        format!("{report}\n")
    } else {
        text(&graphs, &items)
    };
    Ok(Outcome { stdout, code: if failed { NOT_VALID } else { OK } })
}

/// Runs one cell with profiling on the first video of the plan.
fn one(plan: &Plan, cell: &Cell) -> Result<Audit, Error> {
    if let Some(labels) = &cell.labels {
        return Err(Error::Usage(format!(
            "`audit` looks at the graphs of a tracker, so it says nothing about label pack {}; leave --labels out",
            labels.id
        )));
    }
    let sequence = &plan.dataset.sequences[0];
    let (begin, planned) = match &cell.detector {
        Some(_) => (0, Vec::new()),
        None => {
            let begin = sequence.objects.iter().map(|o| o.prompt_frame).min().unwrap_or(0);
            let clicks = plan::options::clicks(&cell.pack, &plan.settings);
            (begin, prompt::plan(sequence, cell.prompt, clicks)?)
        }
    };
    let prompts: Vec<Prompt> = planned.into_iter().filter(|p| p.frame == begin).map(|p| p.prompt).collect();
    let job = Job::new(plan, cell, std::path::PathBuf::new(), Vec::new());
    let request = job.request();
    let mut frames = sequence.reader(2).skip(begin).map(|frame| {
        let frame = frame.map_err(|e| RunnerError::Usage(e.to_string()))?.frame;
        Ok((frame.width, frame.height, frame.rgb))
    });
    let place = tempfile::tempdir().map_err(|e| Error::Environment(format!("no place for profiles: {e}")))?;
    Ok(audit::audit(&request, &mut frames, &prompts, place.path())?)
}

/// Bytes per frame to the device and to the host, of each model and precision.
fn traffic(items: &[Transfer]) -> BTreeMap<(&str, Dtype), [f64; 2]> {
    let mut traffic: BTreeMap<(&str, Dtype), [f64; 2]> = BTreeMap::new();
    for item in items {
        // The bytes of what is copied once per prompt are those of one copy.
        let per_frame = if item.severity == TransferSeverity::Medium { item.count_per_frame } else { 1.0 };
        let sums = traffic.entry((&item.model, item.dtype)).or_default();
        sums[usize::from(item.direction == TO_HOST)] += item.bytes as f64 * per_frame;
    }
    traffic
}

fn text(graphs: &[serde_json::Value], items: &[Transfer]) -> String {
    let mut text = String::new();
    let word = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_string();
    for g in graphs {
        text.push_str(&format!(
            "{:14} {:5} {:16} {:26} {:5} nodes  {:5.1} % of its time\n",
            word(&g["model"]),
            word(&g["dtype"]),
            word(&g["graph"]),
            word(&g["provider"]),
            g["nodes"],
            g["time_share"].as_f64().unwrap_or(0.0) * 100.0
        ));
    }
    text.push('\n');
    for item in items {
        let severity = serde_json::to_value(item.severity).map(|v| word(&v)).unwrap_or_default();
        text.push_str(&format!(
            "{severity:9} {:8} {:14} {:5} {:17} {:26} {:9} {:10} bytes  {:.2} per frame  {}\n",
            item.category,
            item.model,
            item.dtype,
            item.component,
            item.tensor,
            item.direction,
            item.bytes,
            item.count_per_frame,
            item.place
        ));
        if !item.remedy.is_empty() {
            text.push_str(&format!("{:10}→ {}\n", "", item.remedy));
        }
    }
    let bad = items.iter().filter(|i| i.severity != TransferSeverity::Expected).count();
    let found = match items.iter().any(|i| i.component == contract::DETECTOR) {
        true => ", a detector's boxes and scores",
        false => "",
    };
    let count = if bad == 0 { "no".to_string() } else { format!("{bad} kinds of") };
    text.push_str(&format!("{count} copies besides the image in, the mask and its report out{found}\n"));
    for ((model, dtype), [up, down]) in traffic(items) {
        text.push_str(&format!("{model} {dtype}: {up:.0} bytes up and {down:.0} bytes down per frame\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use jetbench_runners::types::Device;

    use super::*;
    use jetbench_runners::audit::{Copied, Memcpy};

    fn copied(graph: &'static str, tensor: &'static str, to_host: bool, prompted: bool) -> Copied {
        Copied { graph, tensor, to_host, bytes: 400, prompted }
    }

    #[test]
    fn copies_are_judged_by_how_often_they_happen() {
        let mut audit = Audit { frames: 4, ..Audit::default() };
        for frame in 0..4 {
            audit.copies.push(copied("image_encoder", "image", false, false));
            audit.copies.push(copied("mask_decoder", "low_res_mask", true, frame == 0));
            audit.copies.push(copied("memory_encoder", "obj_ptr", false, false));
        }
        audit.copies.push(copied("mask_prompt", "mask", false, true));
        audit.memcpy.push(Memcpy { graph: "memory_attention".into(), to_host: true, count: 8, bytes: 800 });
        let items = judge("m", Dtype::Fp16, Device::Cuda(0), &audit);
        let said: Vec<String> = items
            .iter()
            .map(|i| {
                format!(
                    "{:?} {} {} {} {} {}",
                    i.severity, i.category, i.component, i.direction, i.bytes, i.count_per_frame
                )
            })
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        Expected ours image_encoder to device 400 1
        Expected ours mask_decoder to host 400 1
        Critical ours memory_encoder to device 400 1
        Medium ours mask_prompt to device 400 0.25
        Critical runtime memory_attention to host 200 2
        ");
        // Of 80 classes of every query one would do; of one class nothing is too much.
        for (classes, severity) in [(80, TransferSeverity::Minor), (1, TransferSeverity::Expected)] {
            let mut audit = Audit { frames: 10, ..Audit::default() };
            for (tensor, to_host, values) in
                [("image", false, 1000), ("logits", true, 30 * classes), ("pred_boxes", true, 30 * 4)]
            {
                audit.copies.push(Copied { graph: "detector", tensor, to_host, bytes: 4 * values, prompted: false });
            }
            let items = judge("m", Dtype::Fp16, Device::WebGpu(0), &audit);
            let of = |tensor: &str| items.iter().find(|i| i.tensor == tensor).unwrap();
            assert_eq!((of("logits").severity, of("logits").bytes), (severity, 12 * classes));
            assert_eq!(of("logits").place, "detector to association");
            assert!(["image", "pred_boxes"].iter().all(|tensor| of(tensor).severity == TransferSeverity::Expected));
        }
        // Picked on the device, they come down with every frame on which it looks, all of them on one.
        let mut audit = Audit { frames: 10, ..Audit::default() };
        for (tensor, values, times) in [("kept_detections", 50, 5), ("logits", 3000, 1), ("pred_boxes", 120, 1)] {
            let copy = Copied { graph: "detector", tensor, to_host: true, bytes: 4 * values, prompted: false };
            audit.copies.extend([copy].repeat(times));
        }
        let picked = judge("m", Dtype::Fp16, Device::Cuda(0), &audit);
        let of = |tensor: &str| picked.iter().find(|i| i.tensor == tensor).unwrap();
        let kept = of("kept_detections");
        assert_eq!((kept.severity, kept.bytes, kept.count_per_frame), (TransferSeverity::Expected, 100, 0.5));
        assert_eq!(kept.place, "detector to association");
        assert_eq!((of("logits").severity, of("logits").bytes), (TransferSeverity::Minor, 1200));
        assert!(of("logits").remedy.contains("max_tracks") && of("pred_boxes").remedy.is_empty());
        assert!(items.iter().all(|i| (i.severity == TransferSeverity::Expected) == i.remedy.is_empty()));
        assert!(items[2].remedy.contains("keep obj_ptr on cuda:0"));
        assert!(text(&[], &items).ends_with(
            "3 kinds of copies besides the image in, the mask and its report out\nm fp16: 900 bytes up and 600 bytes down per frame\n"
        ));
    }
}
