//! `jetbench data check` and `jetbench data synth`: flags in, text out. What they do is in [`crate::dataset`]; here are
//! the flags as typed options, progress, and the lines for a reader.

use std::path::Path;

use crate::cli::{DataArgs, DataCheckArgs, DataCommand, DataSynthArgs};
use crate::dataset::{self, CheckReport, FindingSeverity, Layout, OpenOptions, SynthOptions};
use crate::exit::{Error, NOT_VALID, Outcome};
use crate::report::screen::{Mark, stdout_colours, stdout_columns};
use crate::report::table::wrap_with;
use crate::run::progress;

/// Runs one of the two.
///
/// # Errors
/// Flags out of range, no dataset, a folder that cannot be written: exit 2.
pub fn data(args: &DataArgs) -> Result<Outcome, Error> {
    match &args.command {
        DataCommand::Check(args) => check(args),
        DataCommand::Synth(args) => synth(args),
    }
}

fn check(args: &DataCheckArgs) -> Result<Outcome, Error> {
    let options = OpenOptions {
        layout: args.layout,
        list: args.list.clone(),
        prompts: None,
        videos: args.limit_videos.map(Into::into),
    };
    let bar = progress::counter(args.quiet, "checking", "videos");
    let report = dataset::check(&args.dir, &options, &bar.tell())?;
    drop(bar);
    let code = if report.passed() { 0 } else { NOT_VALID };
    let stdout = if args.json { json(&args.dir, &report) } else { text(&args.dir, &report) };
    Ok(Outcome { stdout, code })
}

fn json(dir: &Path, report: &CheckReport) -> String {
    let value = serde_json::json!({
        "schema": 1,
        "dataset": dir.display().to_string(),
        "ok": report.passed(),
        "layout": report.layout,
        "videos": report.videos,
        "frames": report.frames,
        "masks": report.masks,
        "findings": report.findings,
    });
    format!("{value:#}\n")
}

fn text(dir: &Path, report: &CheckReport) -> String {
    let colours = stdout_colours();
    let columns = stdout_columns().unwrap_or(usize::MAX);
    let mut text = format!(
        "{}: {} layout, {}, {} and {} checked\n",
        dir.display(),
        report.layout,
        count(report.videos, "video"),
        count(report.frames, "frame"),
        count(report.masks, "mask"),
    );
    for finding in &report.findings {
        let word = match finding.severity {
            FindingSeverity::Error => Mark::Fail.on("error", colours),
            FindingSeverity::Warning => Mark::Warn.on("warning", colours),
        };
        // The place may be any file name: no control character of it reaches the terminal.
        let place = crate::text::clean(&finding.place);
        // The coloured word stands before it: a colour takes no column.
        let line = format!("{place}: {}", crate::text::clean(&finding.what));
        text.push_str(&format!("{word}: {}\n", wrap_with(&line, columns.saturating_sub("warning: ".len()), "    ")));
    }
    let errors = report.findings.iter().filter(|f| f.severity == FindingSeverity::Error).count();
    let warnings = report.findings.len() - errors;
    text.push_str(&match (errors, warnings) {
        (0, 0) => format!("{}: no problems found\n", Mark::Ok.on("ok", colours).trim_end()),
        (0, _) => format!("{}, with {}\n", Mark::Warn.on("usable", colours), count(warnings, "warning")),
        _ => format!(
            "{}, {}: a run would fail or be scored wrongly\n",
            Mark::Fail.on(&count(errors, "error"), colours),
            count(warnings, "warning")
        ),
    });
    text
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn synth(args: &DataSynthArgs) -> Result<Outcome, Error> {
    let side = |text: &str| text.parse::<u32>().ok();
    let size = args.size.split_once(['x', 'X']).and_then(|(w, h)| Some((side(w)?, side(h)?)));
    let (width, height) =
        size.ok_or_else(|| Error::Usage(format!("--size {}: give WIDTHxHEIGHT in pixels, e.g. 854x480", args.size)))?;
    let options = SynthOptions {
        out: args.out.clone(),
        layout: args.layout,
        videos: args.videos,
        objects: args.objects,
        frames: args.frames,
        width,
        height,
        seed: args.seed,
        predictions: args.predictions.clone(),
        with_frames: !args.no_frames,
    };
    let bar = progress::counter(args.quiet, "drawing", "frames");
    dataset::synthesise(&options, &bar.tell())?;
    drop(bar);
    let mut stdout = format!(
        "{}: {} layout, {} of {} with {}, seed {}\n",
        options.out.display(),
        options.layout,
        count(options.videos, "video"),
        count(options.frames, "frame"),
        count(if options.layout == Layout::Davis2016 { 1 } else { options.objects }, "object"),
        options.seed
    );
    if let Some(dir) = &options.predictions {
        stdout.push_str(&format!("{}: predictions to score against it\n", dir.display()));
    }
    Ok(Outcome::ok(stdout))
}
