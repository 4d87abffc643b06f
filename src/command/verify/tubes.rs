//! `jetbench verify` of a video segmenter: logits, state, and the objects with their masks, frame by frame.

use std::path::Path;

use jetbench_runners::golden::shown;
use jetbench_runners::tubes::{self, TubeReport};
use jetbench_runners::types::OpenRequest;
use serde_json::{Value, json};

use super::{heading, most, verdict};
use crate::cli::VerifyArgs;
use crate::exit::{Error, NOT_VALID, OK, Outcome};
use crate::report::screen::{Mark, stdout_colours};

pub(super) fn against_reference(args: &VerifyArgs, request: &OpenRequest) -> Result<Outcome, Error> {
    let report = tubes::verify_first(request, most(args))?;
    Ok(outcome(args, &report, &json!({"reference": "golden outputs of the pack"})))
}

/// What is printed of a comparison; `there`: the other side.
pub(super) fn outcome(args: &VerifyArgs, report: &TubeReport, there: &Value) -> Outcome {
    let code = if report.passes() { OK } else { NOT_VALID };
    if !args.json {
        return Outcome { stdout: text(report, &args.pack, there), code };
    }
    let line = json!({"schema": 1, "pass": report.passes(), "verdict": report.verdict, "frames": report.frames,
        "objects": report.objects, "missing": report.missing,
        "a": {"pack": report.pack, "dtype": report.precision, "device": report.device, "onnxruntime": report.runtime},
        "b": there, "tolerance": report.tolerance, "failures": report.failures});
    Outcome { stdout: format!("{line}\n"), code }
}

fn text(report: &TubeReport, pack: &Path, there: &Value) -> String {
    let colours = stdout_colours();
    let mut text = heading(&report.pack, pack, report.precision, &report.device, &report.runtime);
    if there.get("reference").is_none() {
        text.push_str(&format!("against: {there}\n"));
    }
    let list = |objects: &[u32]| match objects {
        [] => "none".to_string(),
        objects => objects.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    };
    for frame in &report.frames {
        let [ours, theirs] = &frame.objects;
        let state = frame.queries.map_or("not compared".to_string(), |value| shown(Some(value)));
        text.push_str(&format!(
            "{}  {}  logits {}  masks {}  state {state}  objects {} of {}, IoU {}, {} pixels differ\n",
            Mark::of(frame.pass).word(colours),
            frame.file,
            shown(frame.logits),
            shown(frame.masks),
            list(ours),
            list(theirs),
            frame.iou.map_or("-".to_string(), |iou| format!("{iou:.5}")),
            frame.pixels
        ));
    }
    let [objects, apart] = report.objects;
    text.push_str(&format!("compared: {} frames, {objects} objects ({apart} apart)\n", report.frames.len()));
    text.push_str(&format!("allowed: {}\n", report.tolerance.words()));
    text + &verdict(report.verdict, &report.failures, &report.missing)
}
