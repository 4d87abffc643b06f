//! `jetbench run`: flags become a plan or an unfinished run, the device is claimed, the cells are run, the result is shown.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::json;

use crate::cli::{PlanArgs, RunArgs};
use crate::command::against::Against;
use crate::command::compare;
use crate::command::export::Exports;
use crate::exit::{self, Error, Outcome};
use crate::judge::complete::Planned;
use crate::judge::outcome::exit_code;
use crate::plan::{Plan, config, content, forecast, identity, settings};
use crate::report::screen::{LINE_SCHEMA, Wanted, last_line, screen, stdout_columns};
use crate::report::table::wrap_with;
use crate::results::record::{CellRecord, Forecast, ForecastRecord, RunRecord, Verdict};
use crate::results::status::Status;
use crate::results::{retention, store};
use crate::run::resume;
use crate::run::{self, Verbosity, lock};
use crate::telemetry::allowance::Allowance;
use crate::telemetry::{self, device};
use crate::text::{clean, now, plural, say};

/// Runs the plan that `args` describe, or the rest of an unfinished run; `argv` is the command line for the record.
///
/// # Errors
/// What is wrong before anything is measured. What goes wrong afterwards is in the record and in the exit code.
pub fn run(args: RunArgs, argv: Vec<String>) -> Result<Outcome, Error> {
    let (args, status) = match &args.resume {
        Some(_) => (args.clone(), args.status.clone()),
        None => {
            let args = config::with_file(args)?;
            let status = args.status.clone();
            (args, status)
        }
    };
    Exports::of_run(&args)?;
    let against = Against::of(&args)?;
    let Some(status) = status.filter(|_| !args.dry_run.unwrap_or(false)) else {
        return Ok(measure(args, against.as_ref(), argv)?.0);
    };
    let mut said = Status { started: now(), ..Status::default() };
    said.write(&status)?;
    let result = measure(args, against.as_ref(), argv);
    said.finished = Some(now());
    let result = match result {
        Ok((outcome, dir)) => {
            (said.code, said.run) = (Some(outcome.code), dir.map(|d| d.display().to_string()));
            Ok(outcome)
        }
        Err(stop) => {
            (said.code, said.error) = (Some(stop.code()), Some(stop.to_string()));
            Err(stop)
        }
    };
    said.write(&status)?;
    result
}

/// `jetbench plan`: what [`run`] says with `--dry-run`.
///
/// # Errors
/// As [`run`]; `--resume`, whose plan is that of the run.
pub fn plan(args: PlanArgs, argv: Vec<String>) -> Result<Outcome, Error> {
    let PlanArgs { calibrate, run: args } = args;
    if args.resume.is_some() {
        return Err(Error::Usage(
            "--resume: `plan` does not estimate the rest of a run; give the flags of the run instead".into(),
        ));
    }
    let args = RunArgs { dry_run: Some(true), ..args };
    let mut said = String::new();
    if calibrate {
        let (short, planned) = calibration(config::with_file(args.clone())?)?;
        if !args.quiet.unwrap_or(false) {
            say(&planned);
        }
        let (outcome, dir) = measure(short, None, argv.clone())?;
        if outcome.code == exit::INTERRUPTED {
            return Ok(outcome);
        }
        let dir = dir.map(|dir| dir.display().to_string()).unwrap_or_default();
        said = match outcome.code {
            exit::OK => format!("calibration: {dir}\n"),
            _ => format!("calibration: {dir}, not all of it is valid: `jetbench report` says why\n"),
        };
    }
    let outcome = run(args, argv)?;
    Ok(Outcome { stdout: said + &outcome.stdout, code: outcome.code })
}

/// Frames per video of a calibration, counted from the last prompt on: the first, which are the slowest, weigh little enough.
const CALIBRATION: NonZeroUsize = NonZeroUsize::new(30).unwrap();

/// The flags of a run that another command makes for itself: nothing is shown but warnings, and what is done with the result is
/// left to that command.
pub(super) fn alone(args: RunArgs) -> RunArgs {
    RunArgs {
        dry_run: None,
        quiet: Some(true),
        json: None,
        if_changed: None,
        keep: None,
        baseline: None,
        fail_on_regression: None,
        on_inconclusive: None,
        export_markdown: None,
        export_bmf: None,
        export_junit: None,
        export_prometheus: None,
        status: None,
        ..args
    }
}

/// The flags of the run that tells what the planned one will take: the same cells, files and frames, but few of these, once;
/// and what that is, in words.
fn calibration(args: RunArgs) -> Result<(RunArgs, String), Error> {
    // Of all parts: the limits are applied before the videos are divided.
    let args = RunArgs { shard: None, ..args };
    let plan = Plan::new(&args)?;
    if plan.settings.live.is_some() {
        return Err(Error::Usage("--calibrate: nobody knows how many frames a live source brings".into()));
    }
    let videos = forecast::videos_of_every_kind(&plan);
    // Objects that come late belong to the kind of their video.
    let prompted = plan.dataset.sequences.iter().take(videos).flat_map(|s| &s.objects).map(|o| o.prompt_frame);
    let length = CALIBRATION.saturating_add(prompted.max().unwrap_or(0));
    let frames = |of: Option<NonZeroUsize>| Some(of.map_or(length, |n| n.min(length)));
    let short = RunArgs {
        limit_videos: NonZeroUsize::new(videos),
        limit_frames: frames(args.limit_frames),
        loop_frames: args.loop_frames.and_then(|n| frames(Some(n))),
        repeat: Some(NonZeroUsize::MIN),
        backward: None,
        ..alone(args)
    };
    let few = Plan::new(&short)?;
    let words = format!(
        "calibration: {} of {} frames, the first of {} of {}",
        few.frames(),
        plan.frames(),
        few.dataset.sequences.len(),
        plural(plan.dataset.sequences.len(), "video", "videos")
    );
    Ok((short, words))
}

/// The run itself, and its directory.
///
/// # Errors
/// As [`run`].
pub(super) fn measure(
    args: RunArgs,
    against: Option<&Against>,
    argv: Vec<String>,
) -> Result<(Outcome, Option<PathBuf>), Error> {
    let root = Path::new("/");
    let as_json = args.json.unwrap_or(false);
    let verbosity = Verbosity { quiet: args.quiet.unwrap_or(false), verbose: args.verbose.unwrap_or(false) };
    let interrupt = Arc::clone(&INTERRUPT);
    let (resumed, _held) = match args.resume.clone() {
        Some(name) => {
            let path = store::which(&name, &settings::default_out(args.out.clone()))?;
            let device = device::describe(root);
            let Some(resumed) = resume::take_up(&args, &path, &device.digest)? else {
                let record = store::load(&path)?;
                if !verbosity.quiet {
                    say(&format!("note: {} is complete; there is nothing to continue", path.display()));
                }
                return Ok((conclude(&args, against, (&record, &path), exit_code(&record, &[]))?, Some(path)));
            };
            let held = claim(&resumed.plan, root, &interrupt, &verbosity)?;
            (resumed, held)
        }
        None => {
            let plan = Plan::new(&args)?;
            if args.dry_run.unwrap_or(false) {
                return Ok((dry_run(&plan, root, as_json), None));
            }
            if args.if_changed.unwrap_or(false)
                && let Some((run, record)) = retention::unchanged(
                    &plan.settings.out,
                    &device::describe(root),
                    &identity::job_sha256(&plan, &identity::program_sha256()),
                    |record| {
                        let planned = Planned::of_record(record);
                        record.cells.iter().all(|cell| planned.judged(cell).is_final()) && content::is_of(&plan, record)
                    },
                )
            {
                let stands = unchanged(&run, &record, verbosity.quiet);
                return Ok((finish(&args, against, (&record, &run), stands)?, None));
            }
            let held = claim(&plan, root, &interrupt, &verbosity)?;
            let forecast = foretell(&plan, root, &verbosity);
            (run::begin(plan, root, argv, forecast)?, held)
        }
    };
    let done = run::measure(resumed, root, &interrupt, &verbosity)?;
    if let Some(keep) = done.settings.keep {
        match retention::retain(&done.settings.out, &done.dir, keep) {
            Ok(gone) => {
                gone.iter().for_each(|run| verbosity.tell(&format!("--keep {keep}: removed {}", run.display())))
            }
            Err(why) => say(&format!("warning: --keep {keep}: no run was removed: {why}")),
        }
    }
    let code = exit_code(&done.record, &done.faults);
    let outcome = conclude(&args, against, (&done.record, &done.dir), code)?;
    Ok((outcome, Some(done.dir)))
}

/// Waits for the device, and until the machine is fit. What is returned holds the device until it is dropped.
fn claim(plan: &Plan, root: &Path, interrupt: &Arc<AtomicBool>, verbosity: &Verbosity) -> Result<lock::Held, Error> {
    listen()?;
    let settings = &plan.settings;
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let names = lock::names(&settings.device, telemetry::is_tegra(root), visible.as_deref());
    let patience = Duration::from_secs_f64(settings.waiting.max_wait_s);
    let tell = |text: &str| verbosity.tell(text);
    let held = lock::acquire(&lock::directory(), &names, patience, interrupt, &tell)?;
    lock::until_fit(root, &settings.out, &settings.waiting, interrupt, &tell)?;
    Ok(held)
}

/// Set by the first Ctrl-C or termination signal; of a process, like the signals themselves.
static INTERRUPT: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Ctrl-C and termination signals: the first asks for an orderly end, the second ends at once.
fn listen() -> Result<(), Error> {
    static LISTENING: AtomicBool = AtomicBool::new(false);
    if LISTENING.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    ctrlc::set_handler(|| {
        if INTERRUPT.swap(true, Ordering::SeqCst) {
            // Workers die with their parent.
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
    })
    .map_err(|e| Error::Environment(format!("cannot listen for Ctrl-C: {e}")))
}

/// A finished run and its directory.
type Finished<'a> = (&'a RunRecord, &'a Path);

/// What a finished run leaves: its screen, and what [`finish`] adds.
fn conclude(args: &RunArgs, against: Option<&Against>, run: Finished, code: u8) -> Result<Outcome, Error> {
    let (quiet, verbose) = (args.quiet.unwrap_or(false), args.verbose.unwrap_or(false));
    let stdout = screen(run.0, run.1, Wanted { quiet, verbose, json: false });
    finish(args, against, run, Outcome { stdout, code })
}

/// Adds the comparison with the baseline, the line of JSON and the files for other programs. One that could not be written takes
/// nothing away from the run: its result is shown.
fn finish(args: &RunArgs, against: Option<&Against>, run: Finished, outcome: Outcome) -> Result<Outcome, Error> {
    let Outcome { mut stdout, mut code } = outcome;
    let mut comparison = None;
    if let Some(against) = against {
        (comparison, code) = against.compare(run.0, run.1, code);
    }
    let said = comparison.as_ref().map(|c| compare::text(c, args.verbose.unwrap_or(false))).unwrap_or_default();
    if comparison.is_some() && !args.quiet.unwrap_or(false) {
        stdout.push_str(&format!("\n{said}"));
    }
    if args.json.unwrap_or(false) {
        stdout.push_str(&last_line(run.0, run.1, comparison.as_ref().map(|c| json!(c))));
    }
    let told = against.zip(comparison.as_ref()).map(|(against, comparison)| against.told(comparison, &said));
    let (text, written) = Exports::of_run(args)?.write(run.0, told);
    if let Err(fault) = written {
        say(&format!("error: {fault}"));
        code = if code == exit::INTERRUPTED { code } else { fault.code() };
    }
    Ok(Outcome { stdout: text + &stdout, code })
}

/// What `--if-changed` says of a run that stands: its verdict is this call's, too.
fn unchanged(run: &Path, record: &RunRecord, quiet: bool) -> Outcome {
    let unfit = |cell: &&CellRecord| cell.verdict != Verdict::Valid;
    let mut text = format!("nothing has changed since {}; nothing was run\n", run.display());
    for cell in record.cells.iter().filter(unfit) {
        let (verdict, reasons) = (cell.verdict.as_str(), clean(&cell.verdict.reasons()));
        text.push_str(&format!("its cell {} {} {} is {verdict}: {reasons}\n", cell.model, cell.dtype, cell.device));
    }
    Outcome { stdout: if quiet { String::new() } else { text }, code: exit_code(record, &[]) }
}

/// What the plan will take on this machine as it is.
fn forecast_of(plan: &Plan, root: &Path) -> Forecast {
    let available = telemetry::system_memory(root).available_mib;
    let allowed = Allowance::read(root).memory_mib;
    let available = available.into_iter().chain(allowed).min_by(f64::total_cmp);
    forecast::of(plan, &device::describe(root), lock::free_mib(&plan.settings.out), available)
}

/// The forecast of a run that begins, told; `None` where no earlier run tells anything.
fn foretell(plan: &Plan, root: &Path, verbosity: &Verbosity) -> Option<ForecastRecord> {
    let estimated = forecast_of(plan, root);
    if estimated.cells.iter().all(|cell| cell.runs.is_empty()) {
        return None;
    }
    estimated.total().iter().for_each(|line| verbosity.tell(line));
    estimated.misfits.iter().for_each(|misfit| verbosity.tell(&format!("does not fit: {misfit}")));
    Some(ForecastRecord { estimated, taken: None })
}

fn dry_run(plan: &Plan, root: &Path, as_json: bool) -> Outcome {
    let forecast = forecast_of(plan, root);
    let columns = stdout_columns().unwrap_or(usize::MAX);
    let fold = |line: &str| {
        let words = line.trim_start();
        let indent = &line[..line.len() - words.len()];
        format!("{indent}{}\n", wrap_with(words, columns.saturating_sub(indent.len()), "      "))
    };
    let folded = |text: &str| text.lines().map(fold).collect::<String>();
    let mut text = plan.describe() + &folded(&forecast.words());
    let frames = plan.settings.live.is_none().then(|| plan.frames());
    for note in &plan.notes {
        text.push_str(&folded(&format!("note: {note}")));
    }
    text.push_str("dry run: nothing was run\n");
    if as_json {
        let cells: Vec<_> = plan
            .cells
            .iter()
            .map(|c| {
                json!({"model": c.model, "pack": c.pack.id, "dtype": c.dtype, "device": c.device, "options": c.admitted})
            })
            .collect();
        let line = json!({"schema": LINE_SCHEMA, "dry_run": true, "settings": plan.settings, "cells": cells,
            "videos": plan.dataset.sequences.len(), "objects": plan.objects(), "frames": frames, "forecast": forecast});
        text.push_str(&format!("{line}\n"));
    }
    Outcome::ok(text)
}
