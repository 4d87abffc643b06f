//! The same for packs that find their objects themselves: what they give on the frames of their reference, here and on the other side.

use jetbench_runners::frames::FrameAnswer;
use jetbench_runners::types::OpenRequest;
use jetbench_runners::{RunnerError, chains, detections, tubes};
use serde_json::{Value, json};

use super::{Side, other_side};
use crate::cli::VerifyArgs;
use crate::command::verify::{chains as chains_text, detections as detections_text, most, tubes as tubes_text};
use crate::exit::{Error, Outcome};

/// A video segmenter.
pub fn segmenter(args: &VerifyArgs, request: &OpenRequest, words: &str) -> Result<Outcome, Error> {
    let (report, there) = beside(args, request, words, |other, next| {
        tubes::compare_with(request, (other.dtype, other.device), most(args), next)
    })?;
    Ok(tubes_text::outcome(args, &report, &there))
}

/// A video segmenter whose tracks come and go.
pub fn follower(args: &VerifyArgs, request: &OpenRequest, words: &str) -> Result<Outcome, Error> {
    let (report, there) = beside(args, request, words, |other, next| {
        chains::compare_with(request, (other.dtype, other.device), most(args), next)
    })?;
    Ok(chains_text::outcome(args, &report, &there))
}

/// A detector.
pub fn detector(args: &VerifyArgs, request: &OpenRequest, words: &str) -> Result<Outcome, Error> {
    let (report, there) = beside(args, request, words, |other, next| {
        detections::compare_with(request, (other.dtype, other.device), most(args), next)
    })?;
    Ok(detections_text::outcome(args, &report, &there))
}

type Next<'a> = &'a mut dyn FnMut() -> Result<FrameAnswer, RunnerError>;

/// Starts the other side, runs `compare` with its frames, and says what the other side was.
fn beside<R>(
    args: &VerifyArgs,
    request: &OpenRequest,
    words: &str,
    compare: impl FnOnce(&OpenRequest, Next<'_>) -> Result<R, RunnerError>,
) -> Result<(R, Value), Error> {
    let flags = [
        ("--max-abs", args.max_abs.is_some()),
        ("--max-rel-rms", args.max_rel_rms.is_some()),
        ("--max-mask-share", args.max_mask_share.is_some()),
    ];
    if let Some((flag, _)) = flags.into_iter().find(|(_, given)| *given) {
        return Err(Error::Usage(format!(
            "{flag}: a limit for trackers; detectors and video segmenters are held to the limits of `verify` for the coarser precision"
        )));
    }
    let other = other_side(request, words)?;
    let mut side = Side::start(&other, most(args))?;
    let compared = compare(&other, &mut || side.next_frame().map_err(RunnerError::Inference));
    let report = match compared {
        Ok(report) => report,
        // What the other side says is the cause, where it has said something.
        Err(error) => return Err(side.failure().unwrap_or_else(|| error.into())),
    };
    let runtime = side.finish()?;
    let there = json!({"dtype": other.dtype, "device": other.device, "threads": other.options.threads,
        "options": other.options.extra, "onnxruntime": runtime});
    Ok((report, there))
}
