//! `jetbench verify` of a video segmenter whose tracks come and go: tracks, logits and masks, frame by frame.

use std::path::Path;

use jetbench_runners::chains::{self, ChainReport};
use jetbench_runners::golden::shown;
use jetbench_runners::types::OpenRequest;
use serde_json::json;

use super::{heading, most, verdict};
use crate::cli::VerifyArgs;
use crate::exit::{Error, NOT_VALID, OK, Outcome};
use crate::report::screen::{Mark, stdout_colours};

pub(super) fn against_reference(args: &VerifyArgs, request: &OpenRequest) -> Result<Outcome, Error> {
    let report = chains::verify_first(request, most(args))?;
    let code = if report.passes() { OK } else { NOT_VALID };
    if !args.json {
        return Ok(Outcome { stdout: text(&report, &args.pack), code });
    }
    let line = json!({"schema": 1, "pass": report.passes(), "verdict": report.verdict, "frames": report.frames,
        "entries": report.entries, "events": report.events, "kept": report.kept, "missing": report.missing,
        "a": {"pack": report.pack, "dtype": report.precision, "device": report.device, "onnxruntime": report.runtime},
        "b": {"reference": "golden outputs of the pack"}, "tolerance": report.tolerance, "failures": report.failures});
    Ok(Outcome { stdout: format!("{line}\n"), code })
}

fn text(report: &ChainReport, pack: &Path) -> String {
    let colours = stdout_colours();
    let mut text = heading(&report.pack, pack, report.precision, &report.device, &report.runtime);
    let list = |tracks: &[u32]| match tracks {
        [] => "none".to_string(),
        tracks => tracks.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    };
    for frame in &report.frames {
        let [ours, theirs] = &frame.tracks;
        // Rows of other tracks say nothing of each other.
        let value = |value| if ours == theirs { shown(value) } else { "not compared".to_string() };
        text.push_str(&format!(
            "{}  {}  logits {}  masks {}  tracks {} of {}, {} flags differ, IoU {}, {} pixels differ\n",
            Mark::of(frame.pass).word(colours),
            frame.file,
            value(frame.logits[0]),
            value(frame.masks[0]),
            list(ours),
            list(theirs),
            frame.flags,
            frame.iou.map_or("-".to_string(), |iou| format!("{iou:.5}")),
            frame.pixels
        ));
    }
    let ([entries, apart], [births, deaths], [kept, wrong]) = (report.entries, report.events, report.kept);
    text.push_str(&format!(
        "compared: {} frames, {entries} entries of tracks ({apart} apart), {births} births after the first frame, {deaths} deaths, {kept} \
         tracks kept at the end ({wrong} apart)\n",
        report.frames.len()
    ));
    text.push_str(&format!("allowed: {}\n", report.tolerance.words()));
    text + &verdict(report.verdict, &report.failures, &report.missing)
}
