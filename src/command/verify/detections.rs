//! `jetbench verify` of a detector: rows of logits and boxes as sets, and the detections that come of them, frame by frame.

use std::path::Path;

use jetbench_runners::detections::{self, DetectionReport};
use jetbench_runners::golden::{Verdict, shown};
use jetbench_runners::types::OpenRequest;
use serde_json::{Value, json};

use super::{heading, most, verdict};
use crate::cli::VerifyArgs;
use crate::exit::{Error, NOT_VALID, OK, Outcome};
use crate::report::screen::{Mark, stdout_colours};

pub(super) fn against_reference(args: &VerifyArgs, request: &OpenRequest) -> Result<Outcome, Error> {
    let report = detections::verify_first(request, most(args))?;
    Ok(outcome(args, &report, &json!({"reference": "golden outputs of the pack"})))
}

/// What is printed of a comparison; `there`: the other side.
pub(super) fn outcome(args: &VerifyArgs, report: &DetectionReport, there: &Value) -> Outcome {
    let code = if report.passes() { OK } else { NOT_VALID };
    if !args.json {
        return Outcome { stdout: text(report, &args.pack, there), code };
    }
    let line = json!({"schema": 1, "pass": report.verdict == Verdict::Pass, "verdict": report.verdict, "worst": report.worst(),
        "frames": report.frames, "compared": report.compared, "missing": report.missing,
        "a": {"pack": report.pack, "dtype": report.precision, "device": report.device, "onnxruntime": report.runtime},
        "b": there, "tolerance": report.tolerance, "failures": report.failures});
    Outcome { stdout: format!("{line}\n"), code }
}

fn text(report: &DetectionReport, pack: &Path, there: &Value) -> String {
    let colours = stdout_colours();
    let mut text = heading(&report.pack, pack, report.precision, &report.device, &report.runtime);
    if there.get("reference").is_none() {
        text.push_str(&format!("against: {there}\n"));
    }
    for frame in &report.frames {
        let [ours, theirs] = frame.detections;
        text.push_str(&format!(
            "{}  {}  logits {}  boxes {}  median row {}  detections {ours} of {theirs}, edges {} px, scores {}\n",
            Mark::of(frame.pass).word(colours),
            frame.file,
            shown(frame.logits),
            shown(frame.boxes),
            shown(frame.typical),
            shown(frame.edge_pixels),
            shown(frame.scores)
        ));
    }
    if let Some(worst) = report.worst() {
        text.push_str(&format!(
            "largest difference: row {} of {}, logits {}, boxes {} of the image\n",
            worst.row,
            worst.file,
            shown(worst.logits),
            shown(worst.boxes)
        ));
    }
    text.push_str(&format!("compared: {}\n", report.compared.words()));
    text.push_str(&format!("allowed: {}\n", report.tolerance.words()));
    text + &verdict(report.verdict, &report.failures, &report.missing)
}
