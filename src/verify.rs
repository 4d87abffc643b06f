//! `jetbench verify PACK`: does a pack give on this machine what PyTorch gave for the same weights? The comparison is the
//! runners' own; here its result becomes text and an exit code.

use std::path::Path;

use jetbench_runners::golden::{self, GoldenReport};
use jetbench_runners::types::{OpenRequest, Options};

use crate::cli::VerifyArgs;
use crate::exit::{NOT_VALID, OK, Outcome, Stop};

/// Runs the golden clips of a pack.
///
/// # Errors
/// The pack is broken or has no reference (exit 2), the runtime or device is missing (exit 3), the model fails (exit 1).
pub fn verify(args: &VerifyArgs) -> Result<Outcome, Stop> {
    let precision = args.dtype.parse().map_err(|e| Stop::Usage(format!("{e}")))?;
    let device = args.device.parse().map_err(|e| Stop::Usage(format!("{e}")))?;
    let request = OpenRequest {
        pack: args.pack.clone(),
        precision,
        device,
        options: Options::default(),
        ort_lib: args.ort_lib.clone(),
    };
    let report = golden::verify(&request, None)?;
    let stdout = if args.json {
        let line = serde_json::to_string(&report);
        format!("{}\n", line.map_err(|e| Stop::Failed(format!("the report cannot be written: {e}")))?)
    } else {
        text(&report, &args.pack)
    };
    Ok(Outcome { stdout, code: if report.pass { OK } else { NOT_VALID } })
}

fn text(report: &GoldenReport, pack: &Path) -> String {
    let mut text = format!(
        "{} ({}), {} on {}, ONNX Runtime {}\n",
        report.pack,
        pack.display(),
        report.precision,
        report.device,
        report.runtime
    );
    for track in &report.tracks {
        let worst: Vec<String> = track
            .differences
            .iter()
            .map(|d| format!("{} {}", d.tensor, d.max_abs.map_or("not finite".to_string(), |v| format!("{v:.1e}"))))
            .collect();
        text.push_str(&format!(
            "{}  {} object {} {:6}  {} frames, {} with the object  {}  mask pixels {} of {}\n",
            if track.pass { "ok  " } else { "FAIL" },
            track.clip,
            track.object,
            track.prompt,
            track.frames,
            track.present,
            worst.join("  "),
            track.mask_pixels,
            track.mask_pixels_of
        ));
    }
    if let Some(worst) = &report.worst {
        text.push_str(&format!(
            "worst: {} of {}, clip {}, object {} ({}), frame {}: {}\n",
            worst.tensor,
            worst.graph,
            worst.clip,
            worst.object,
            worst.prompt,
            worst.frame,
            worst.max_abs.map_or("not finite".to_string(), |v| format!("{v:.3e}"))
        ));
    }
    for failure in &report.failures {
        text.push_str(&format!("failure: {failure}\n"));
    }
    let limits = &report.tolerance;
    text.push_str(&format!(
        "{}: tolerance {:.0e} for logits, {:.0e} for object scores, {:.0e} for pointers, {:.2} % of mask pixels\n",
        if report.pass { "pass" } else { "FAIL" },
        limits.low_res,
        limits.object_score,
        limits.obj_ptr,
        limits.mask_pixels * 100.0
    ));
    text
}
