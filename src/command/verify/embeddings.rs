//! `jetbench verify` of a label pack: the embedding of each picture of its reference, and the class that comes of it.

use std::path::Path;

use jetbench_runners::embeddings::{self, EmbeddingReport};
use jetbench_runners::golden::shown;
use jetbench_runners::types::{ClassProbability, OpenRequest};
use serde_json::json;

use super::{heading, most, verdict};
use crate::cli::VerifyArgs;
use crate::exit::{Error, NOT_VALID, OK, Outcome};
use crate::report::screen::{Mark, stdout_colours};
use crate::text::clean;

pub(super) fn against_reference(args: &VerifyArgs, request: &OpenRequest) -> Result<Outcome, Error> {
    let report = embeddings::verify_first(request, most(args))?;
    let code = if report.passes() { OK } else { NOT_VALID };
    if !args.json {
        return Ok(Outcome { stdout: text(&report, &args.pack), code });
    }
    let line = json!({"schema": 1, "pass": report.passes(), "verdict": report.verdict, "pictures": report.pictures,
        "classes": report.classes, "nearest": report.nearest, "missing": report.missing,
        "a": {"pack": report.pack, "dtype": report.precision, "device": report.device, "onnxruntime": report.runtime},
        "b": {"reference": "golden outputs of the pack"}, "tolerance": report.tolerance, "failures": report.failures});
    Ok(Outcome { stdout: format!("{line}\n"), code })
}

fn text(report: &EmbeddingReport, pack: &Path) -> String {
    let colours = stdout_colours();
    let mut text = heading(&report.pack, pack, report.precision, &report.device, &report.runtime);
    let name = |class: usize| report.classes.get(class).map_or(String::new(), |name| clean(name));
    let named = |best: &Option<ClassProbability>| match best {
        Some(best) => format!("{} {:.4}", name(best.label as usize), best.probability),
        None => "no class".to_string(),
    };
    for picture in &report.pictures {
        let [ours, theirs] = &picture.best;
        text.push_str(&format!(
            "{}  {}  embedding {}  {} (PyTorch: {})\n",
            Mark::of(picture.pass).word(colours),
            picture.file,
            shown(picture.difference),
            named(ours),
            named(theirs)
        ));
    }
    if let Some((cosine, one, other)) = report.nearest {
        text.push_str(&format!("classes most alike: {} and {}, cosine {cosine:.4}\n", name(one), name(other)));
    }
    text.push_str(&format!(
        "allowed: {:.1e} for any value of an embedding of length 1, of {} pictures\n",
        report.tolerance,
        report.pictures.len()
    ));
    text + &verdict(report.verdict, &report.failures, &report.missing)
}
