//! `jetbench verify PACK`: does a pack give here what it should? Against its golden reference from PyTorch (a detector's: [`detections`],
//! a video segmenter's: [`tubes`] and [`chains`], a label pack's: [`embeddings`]); or,
//! with `--against`, here and now against itself ([`against`]).

mod against;
mod chains;
mod detections;
mod embeddings;
mod tubes;

use std::path::Path;

use jetbench_runners::contract::DVIS_DAQ;
use jetbench_runners::golden::{self, GoldenReport, Verdict, shown};
use jetbench_runners::options::{MEMORY, TABLE, find};
use jetbench_runners::packs;
use jetbench_runners::types::{Dtype, OpenRequest, Options};
use serde_json::json;

use crate::cli::VerifyArgs;
use crate::exit::{Error, NOT_VALID, OK, Outcome, nearest};
use crate::plan::shipped;
use crate::report::screen::{Mark, stdout_colours};

pub use against::side;

/// Runs the golden clips of a pack.
///
/// # Errors
/// The pack is broken or has no reference (exit 2), the runtime or device is missing (exit 3), the model fails (exit 1).
pub fn verify(args: &VerifyArgs) -> Result<Outcome, Error> {
    let mut options = Options { threads: args.threads.map(Into::into), ..Options::default() };
    for word in &args.option {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        if find(name).is_none() {
            let near = nearest(name, TABLE.iter().map(|option| option.name));
            let hint = near.map_or("see `jetbench models --options`".into(), |near| format!("did you mean `{near}`?"));
            return Err(Error::Usage(format!("--option {word}: no option `{name}`; {hint}")));
        }
        options.set(name, value).map_err(|e| Error::Usage(e.to_string()))?;
    }
    let request = OpenRequest {
        pack: shipped::named(&args.pack),
        detector: None,
        prompted: false,
        dtype: args.dtype,
        device: args.device,
        options,
        ort_lib: args.ort_lib.clone(),
        ep_library: args.ep_library.clone(),
    };
    let pack = packs::describe(&request.pack, request.device)?;
    if let Some(dropped) = pack.capabilities.admit(&request.options).dropped.first() {
        let (name, value) = (&dropped.name, &dropped.value);
        return Err(Error::Usage(format!(
            "--option {name}={value}: of no effect on pack {}: {}",
            pack.id, dropped.reason
        )));
    }
    let (detects, segments) = (pack.detects, pack.finds_and_tracks());
    match &args.against {
        None if pack.labels() => embeddings::against_reference(args, &request),
        None if pack.family == DVIS_DAQ => chains::against_reference(args, &request),
        None if segments => tubes::against_reference(args, &request),
        None if detects => detections::against_reference(args, &request),
        Some(_) if pack.labels() => Err(Error::Usage(
            "--against: a label pack is compared with its reference only, which holds for every device and precision"
                .to_string(),
        )),
        Some(words) if pack.family == DVIS_DAQ => against::follower(args, &request, words),
        Some(words) if segments => against::segmenter(args, &request, words),
        Some(words) if detects => against::detector(args, &request, words),
        None => against_reference(args, &request),
        Some(words) => against::against_itself(args, &request, words),
    }
}

/// Frames of each clip that are run.
fn most(args: &VerifyArgs) -> usize {
    args.frames.map_or(usize::MAX, usize::from)
}

fn against_reference(args: &VerifyArgs, request: &OpenRequest) -> Result<Outcome, Error> {
    if let Some(policy) = request.options.extra.get(MEMORY).filter(|policy| *policy != "all") {
        return Err(Error::Usage(format!(
            "--option {MEMORY}={policy}: a reference remembers every frame, so it cannot judge this; to compare two devices or precisions \
             with {MEMORY}={policy}, use --against"
        )));
    }
    let report = golden::verify_first(request, most(args))?;
    let code = if report.passes() { OK } else { NOT_VALID };
    if !args.json {
        return Ok(Outcome { stdout: text(&report, &args.pack), code });
    }
    let min_iou = report.tracks.iter().map(|t| t.min_iou).fold(1.0, f64::min);
    let differing = report.tracks.iter().map(|t| t.max_differing_fraction).fold(0.0, f64::max);
    let line = json!({"schema": 1, "pass": report.passes(), "verdict": report.verdict, "worst": report.worst,
        "masks": {"min_iou": min_iou, "max_differing_fraction": differing}, "comparisons": report.tracks,
        "systematic": report.systematic, "compared": report.compared, "missing": report.missing,
        "a": {"pack": report.pack, "dtype": report.precision, "device": report.device, "onnxruntime": report.runtime},
        "b": {"reference": "golden outputs of the pack"}, "tolerance": report.tolerance, "failures": report.failures});
    Ok(Outcome { stdout: format!("{line}\n"), code })
}

/// What was verified, on what.
fn heading(id: &str, pack: &Path, dtype: Dtype, device: &str, runtime: &str) -> String {
    format!("{id} ({}), {dtype} on {device}, ONNX Runtime {runtime}\n", pack.display())
}

fn text(report: &GoldenReport, pack: &Path) -> String {
    let colours = stdout_colours();
    let mut text = heading(&report.pack, pack, report.precision, &report.device, &report.runtime);
    for track in &report.tracks {
        let worst: Vec<String> =
            track.differences.iter().map(|d| format!("{} {}", d.tensor, shown(d.max_abs))).collect();
        text.push_str(&format!(
            "{}  {} form, {} object {} {:6}  {} frames, {} with the object  {}  mask pixels {} of {}, IoU {:.5}\n",
            Mark::of(track.pass).word(colours),
            track.form,
            track.clip,
            track.object,
            track.prompt,
            track.frames,
            track.present,
            worst.join("  "),
            track.mask_pixels,
            track.mask_pixels_of,
            track.iou
        ));
    }
    for s in &report.systematic {
        text.push_str(&format!(
            "{}  {} form, {:6} pointers in the middle of {} tracked frames: {} of their length\n",
            Mark::of(s.pass).word(colours),
            s.form,
            s.prompt,
            s.frames,
            shown(s.value)
        ));
    }
    if let Some(worst) = &report.worst {
        text.push_str(&format!(
            "nearest to its limit: {} of {}, clip {}, object {} ({}): {} on frame {}, of its size {} on the median and {} on the \
             prompted frame\n",
            worst.tensor,
            worst.graph,
            worst.clip,
            worst.object,
            worst.prompt,
            shown(worst.max_abs),
            worst.frame,
            shown(worst.typical_rel_rms),
            shown(worst.prompted_rel_rms)
        ));
    }
    text.push_str(&format!("compared: {}\n", report.compared.words()));
    text.push_str(&format!("allowed: {}\n", report.tolerance.words()));
    text + &verdict(report.verdict, &report.failures, &report.missing)
}

/// How it ended, with what is wrong or missing.
fn verdict(verdict: Verdict, failures: &[String], missing: &[String]) -> String {
    let colours = stdout_colours();
    let mut text = String::new();
    failures.iter().for_each(|failure| text.push_str(&format!("failure: {failure}\n")));
    missing.iter().for_each(|missing| text.push_str(&format!("missing: {missing}\n")));
    text.push_str(&match verdict {
        Verdict::Pass => Mark::Ok.on("pass", colours),
        Verdict::Weak => {
            Mark::Warn.on("weak", colours)
                + ": everything is within its limits, but too little was compared to call it a pass"
        }
        Verdict::Fail => Mark::Fail.word(colours),
    });
    text + "\n"
}
