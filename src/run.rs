//! `jetbench run`, the parent's side: one fresh worker process per cell, its events, the machine's telemetry, grading
//! after the worker has gone, the verdict, and the record. A cell that fails is a verdict; the other cells go on.

pub mod event;
pub mod lock;
pub mod progress;
pub mod prompt;
pub mod resume;
pub mod spool;
pub mod supervise;
pub mod worker;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jetbench_runners::runtime;
use jetbench_runners::types::Device;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cli::RunArgs;
use crate::command::schedule;
use crate::device;
use crate::exit::{self, Outcome, Stop};
use crate::judge::limits;
use crate::judge::repeat;
use crate::judge::summary;
use crate::judge::verdict::{self, Conditions, Rules};
use crate::plan::budget;
use crate::plan::config;
use crate::plan::{self, Cell, Plan};
use crate::report::plot::sensed::PHASE;
use crate::report::{self, table, thumb};
use crate::results::record::{
    CellRecord, DataRecord, MemoryPoint, MemoryRecord, NullRunRecord, Origin, RunRecord, RuntimeRecord, SCHEMA, Verdict,
};
use crate::results::store::{self, RunDir};
use crate::run::event::{Event, FaultClass, Job, PROTOCOL, Phase};
use crate::run::progress::Progress;
use crate::run::resume::{Before, Resumed};
use crate::run::supervise::{Ended, Worker};
use crate::score::grade::{self, Extras, Finished};
use crate::telemetry::{self, Sampler, SystemMemory, Telemetry};
use crate::text::plural;

/// The rail that measures the whole module, on boards that have it. Other rails measure parts, and parts are not added.
pub(crate) const WHOLE_MODULE_RAIL: &str = "VDD_IN";

/// How long idle power is measured before a worker is started.
const IDLE: Duration = Duration::from_millis(1500);

/// Runs the plan that `args` describe, or the rest of an unfinished run; `argv` is the command line for the record.
///
/// # Errors
/// What is wrong before anything is measured. What goes wrong afterwards is in the record and in the exit code.
pub fn run(args: RunArgs, argv: Vec<String>) -> Result<Outcome, Stop> {
    let (args, status) = match &args.resume {
        Some(_) => (args.clone(), args.status.clone()),
        None => {
            let args = config::with_file(args)?;
            let status = args.status.clone();
            (args, status)
        }
    };
    let Some(status) = status.filter(|_| !args.dry_run.unwrap_or(false)) else {
        return Ok(measure(args, argv)?.0);
    };
    let mut said = Status { started: now(), ..Status::default() };
    said.write(&status)?;
    let result = measure(args, argv);
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

/// What `--status FILE` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC; `None` while it runs, and after it was killed.
    pub finished: Option<String>,
    /// Exit code.
    pub code: Option<u8>,
    /// Directory of the run; `None` when nothing was run.
    pub run: Option<String>,
    /// Why nothing was run.
    pub error: Option<String>,
}

impl Status {
    fn write(&self, path: &Path) -> Result<(), Stop> {
        store::write_json(path, self)
            .map_err(|e| Stop::Environment(format!("--status: cannot write {}: {e}", path.display())))
    }
}

/// The run itself, and its directory.
fn measure(args: RunArgs, argv: Vec<String>) -> Result<(Outcome, Option<PathBuf>), Stop> {
    let root = Path::new("/");
    let (quiet, as_json) = (args.quiet.unwrap_or(false), args.json.unwrap_or(false));
    let interrupt = Arc::new(AtomicBool::new(false));
    let tell = |text: &str| {
        if !quiet {
            eprintln!("note: {text}");
        }
    };
    let claim = |plan: &Plan| {
        listen(&interrupt)?;
        let settings = &plan.settings;
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let names = lock::names(&settings.device, telemetry::is_tegra(root), visible.as_deref());
        let patience = Duration::from_secs_f64(settings.waiting.max_wait_s);
        let held = lock::acquire(&lock::directory(), &names, patience, &interrupt, &tell)?;
        lock::until_fit(root, &settings.out, &settings.waiting, &interrupt, &tell)?;
        Ok::<_, Stop>(held)
    };
    let (resumed, _held) = match args.resume.clone() {
        Some(path) => {
            let device = device::describe(root);
            let Some(resumed) = resume::take_up(&args, &path, &device.digest)? else {
                return Ok((complete(&args, &path)?, Some(path)));
            };
            let held = claim(&resumed.plan)?;
            (resumed, held)
        }
        None => {
            let plan = Plan::new(&args)?;
            if args.dry_run.unwrap_or(false) {
                return Ok((dry_run(&plan, as_json), None));
            }
            if args.if_changed.unwrap_or(false)
                && let Some(run) = schedule::unchanged(
                    &plan.settings.out,
                    &device::describe(root),
                    &job_sha256(&plan, &program_sha256()),
                )
            {
                let text = format!("nothing has changed since {}; nothing was run\n", run.display());
                return Ok((Outcome::ok(if quiet { String::new() } else { text }), None));
            }
            let held = claim(&plan)?;
            (begin(plan, root, argv)?, held)
        }
    };
    let Resumed { dir, plan, mut record, before } = resumed;
    store::write_json(&dir.head(), &record).map_err(|e| disk(&dir.path, &e))?;
    if let Some(keep) = plan.settings.keep {
        schedule::mark(&dir.path, keep).map_err(|e| disk(&dir.path, &e))?;
    }

    let progress = Progress::new(quiet, (plan.units() * plan.frames()) as u64);
    for note in &plan.notes {
        progress.note(note);
    }
    if args.verbose.unwrap_or(false) {
        plan.describe().lines().for_each(|line| progress.note(line));
        progress.note(&format!("writing to {}, workers speak to {}", dir.path.display(), dir.log().display()));
    }
    if let Some(resumed) = record.origin.resumed.last() {
        let kept = plural(resumed.kept, "sequence", "sequences");
        progress.note(&format!("{}: {kept} kept", dir.path.display()));
    }
    let mut classes = Vec::new();
    if record.null_run.is_none() {
        match null_run(&plan, &dir, &interrupt) {
            Ok(null) => record.null_run = Some(null),
            Err(why) => progress.note(&format!("the harness's own cost could not be measured: {why}")),
        }
        store::write_json(&dir.head(), &record).map_err(|e| disk(&dir.path, &e))?;
    }
    // Repeats take turns, so that a slow hour of the machine does not fall on one cell.
    let mut runs: Vec<Vec<CellRecord>> = plan.cells.iter().map(|_| Vec::new()).collect();
    let mut first = true;
    let units = (0..plan.settings.repeat).flat_map(|repeat| plan.cells.iter().enumerate().map(move |c| (repeat, c)));
    for ((index, (repeat, (n, cell))), before) in units.enumerate().zip(before) {
        progress.cell(index, plan.units(), &cell.label());
        let part = match before {
            Before::Whole(cell) => {
                runs[n].push(*cell);
                continue;
            }
            Before::Part(part) => Some(*part),
            Before::Nothing => None,
        };
        if !std::mem::take(&mut first) && record.stopped.is_none() {
            let fit =
                lock::until_fit(root, &plan.settings.out, &plan.settings.waiting, &interrupt, &|t| progress.note(t));
            record.stopped = fit.err().filter(|_| !interrupt.load(Ordering::SeqCst)).map(|e| e.to_string());
        }
        // A machine that is not fit gets no more cells; what they have from before is kept.
        let halted = AtomicBool::new(true);
        let stop: &AtomicBool = if record.stopped.is_some() { &halted } else { &interrupt };
        let run = CellRun { plan: &plan, cell, index, repeat, dir: &dir, root, interrupt: stop, progress: &progress };
        let (cell_record, class) = run.run(part);
        classes.extend(class);
        store::write_json(&dir.partial(index), &cell_record)
            .and_then(|()| store::remove(&dir.progress(index)))
            .map_err(|e| disk(&dir.path, &e))?;
        runs[n].push(cell_record);
    }
    record.cells = runs.into_iter().filter_map(repeat::join).collect();
    if interrupt.load(Ordering::SeqCst) {
        record.stopped = Some(INTERRUPTED.into());
    }
    progress.done();
    record.finished = Some(now());
    write_all(&dir, &record).map_err(|e| disk(&dir.path, &e))?;
    if let Some(keep) = plan.settings.keep {
        for gone in schedule::retain(&plan.settings.out, &dir.path, keep) {
            tell(&format!("--keep {keep}: removed {}", gone.display()));
        }
    }

    let code = exit_code(&record, &classes);
    let path = dir.path.clone();
    let mut stdout = match &args.export_markdown {
        Some(file) => crate::command::report::markdown(&record, file)?,
        None => String::new(),
    };
    stdout.push_str(&screen(&record, &path, quiet, as_json));
    Ok((Outcome { stdout, code }, Some(path)))
}

/// Why a run stopped when the user or a signal ended it.
const INTERRUPTED: &str = "interrupted";

/// A new run: its directory and its record without cells.
fn begin(plan: Plan, root: &Path, argv: Vec<String>) -> Result<Resumed, Stop> {
    let probe = plan.ort_lib.as_deref().map(|lib| runtime::probe(Some(lib))).unwrap_or_default();
    let device = device::with_runtime(device::describe(root), probe.version.as_deref(), &probe.providers);
    let dir = RunDir::create(&plan.settings.out, &device.name)?;
    let program_sha256 = program_sha256();
    let record = RunRecord {
        schema: SCHEMA,
        run_id: dir.id.clone(),
        started: now(),
        finished: None,
        version: env!("CARGO_PKG_VERSION").to_string(),
        argv,
        settings: settings(&plan),
        data: DataRecord {
            root: plan.settings.data.display().to_string(),
            layout: plan.dataset.layout.to_string(),
            protocol: plan.dataset.kind.protocol().to_string(),
            videos: plan.dataset.sequences.len(),
            objects: plan.objects(),
            frames: plan.dataset.frame_count(),
            list_sha256: plan.list_sha256.clone(),
            list: plan.list.clone(),
        },
        device,
        cells: Vec::new(),
        stopped: None,
        null_run: None,
        origin: Origin {
            directory: std::env::current_dir().unwrap_or_default().display().to_string(),
            job_sha256: job_sha256(&plan, &program_sha256),
            program_sha256,
            shard: plan.settings.limits.shard,
            ..Origin::default()
        },
    };
    let before = (0..plan.units()).map(|_| Before::Nothing).collect();
    Ok(Resumed { dir, plan, record, before })
}

/// What `--resume` says of a run that is complete.
fn complete(args: &RunArgs, path: &Path) -> Result<Outcome, Stop> {
    let record = store::load(path)?;
    let quiet = args.quiet.unwrap_or(false);
    if !quiet {
        eprintln!("note: {} is complete; there is nothing to continue", path.display());
    }
    let code = exit_code(&record, &[]);
    Ok(Outcome { stdout: screen(&record, path, quiet, args.json.unwrap_or(false)), code })
}

/// SHA-256 of the program file; empty when it cannot be read (it was replaced while it ran).
pub(crate) fn program_sha256() -> String {
    std::env::current_exe().ok().and_then(|path| file_sha256(&path)).unwrap_or_default()
}

fn file_sha256(path: &Path) -> Option<String> {
    let mut digest = Sha256::new();
    let mut file = std::fs::File::open(path).ok()?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hex(&digest.finalize())),
            n => digest.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The settings that decide figures: those that only say where things lie, how patient to be, or which part to do are
/// left out. What the cells tell of themselves (models, precisions, devices) is left to them.
pub(crate) fn deciding(settings: &BTreeMap<String, serde_json::Value>) -> BTreeMap<String, serde_json::Value> {
    const LEFT_OUT: [&str; 15] = [
        "models",
        "dtype",
        "device",
        "alias",
        "data",
        "out",
        "packs",
        "ort_lib",
        "event_timeout_s",
        "load_timeout_s",
        "save_masks",
        "overlays",
        "waiting",
        "memory_budget",
        "keep",
    ];
    let mut settings = settings.clone();
    settings.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
    if let Some(limits) = settings.get_mut("limits").and_then(|l| l.as_object_mut()) {
        limits.remove("shard");
    }
    settings
}

/// Digest of everything that decides the figures but the machine: see [`Origin::job_sha256`]. Settings as in [`deciding`].
pub(crate) fn job_sha256(plan: &Plan, program_sha256: &str) -> String {
    let settings = deciding(&settings(plan));
    let cells: Vec<_> = plan
        .cells
        .iter()
        .map(|c| json!([c.model, c.pack.id, c.pack.digest, c.prompt, c.dtype, c.device, c.admitted.passed]))
        .collect();
    let runtime = plan.ort_lib.as_deref().and_then(file_sha256);
    let job =
        json!([program_sha256, runtime, plan.list_sha256, plan.dataset.kind.protocol().to_string(), settings, cells]);
    hex(&Sha256::digest(job.to_string().as_bytes()))
}

fn disk(path: &Path, error: &std::io::Error) -> Stop {
    Stop::Environment(format!("cannot write results to {}: {error}", path.display()))
}

pub(crate) fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn settings(plan: &Plan) -> BTreeMap<String, serde_json::Value> {
    match serde_json::to_value(&plan.settings) {
        Ok(serde_json::Value::Object(map)) => map.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

/// Ctrl-C and termination signals: the first asks for an orderly end, the second ends at once.
fn listen(interrupt: &Arc<AtomicBool>) -> Result<(), Stop> {
    let flag = Arc::clone(interrupt);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            // Workers die with their parent.
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
    })
    .map_err(|e| Stop::Environment(format!("cannot listen for Ctrl-C: {e}")))
}

fn dry_run(plan: &Plan, as_json: bool) -> Outcome {
    let mut text = plan.describe();
    for note in &plan.notes {
        text.push_str(&format!("note: {note}\n"));
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
        let line = json!({"schema": SCHEMA, "dry_run": true, "settings": plan.settings, "cells": cells,
            "videos": plan.dataset.sequences.len(), "objects": plan.objects(), "frames": plan.frames()});
        text.push_str(&format!("{line}\n"));
    }
    Outcome::ok(text)
}

/// Exit code of a whole run. A device or environment that is not there weighs most: nothing about it can be repaired on
/// the command line.
pub(crate) fn exit_code(record: &RunRecord, classes: &[FaultClass]) -> u8 {
    if record.stopped.as_deref() == Some(INTERRUPTED) {
        exit::INTERRUPTED
    } else if record.stopped.is_some() || classes.contains(&FaultClass::Environment) {
        exit::ENVIRONMENT
    } else if classes.contains(&FaultClass::Input) {
        exit::USAGE
    } else if record.cells.iter().any(|c| c.verdict != Verdict::Valid) {
        exit::NOT_VALID
    } else {
        exit::OK
    }
}

/// Every file of the results, `run.json` last.
fn write_all(dir: &RunDir, record: &RunRecord) -> std::io::Result<()> {
    let units = record.cells.iter().map(|c| c.repeats.len().max(1)).sum();
    dir.join_telemetry(units, telemetry::CSV_HEADER)?;
    let sensed = std::fs::read(dir.path.join("telemetry.csv"))?;
    let thumbs = thumb::read(&dir.path, record.cells.len());
    for (name, bytes) in report::files_with(record, &sensed, &thumbs).map_err(std::io::Error::other)? {
        store::write_atomic(&dir.path.join(name), &bytes)?;
    }
    dir.finish(record)
}

/// The last line of `run --json`.
#[derive(Serialize)]
struct LastLine<'a> {
    schema: u32,
    run: String,
    cells: Vec<LastCell<'a>>,
}

/// One cell in it.
#[derive(Serialize)]
struct LastCell<'a> {
    model: &'a str,
    dtype: &'a str,
    device: &'a str,
    verdict: &'a str,
    reasons: Vec<String>,
}

/// What the user sees on stdout at the end.
pub(crate) fn screen(record: &RunRecord, dir: &Path, quiet: bool, as_json: bool) -> String {
    let mut text = String::new();
    if !quiet {
        text.push_str(&table::text(record, crate::run::progress::table_style()));
        text.push_str(&format!("results: {}\n", dir.display()));
        text.push_str(&format!("report:  {}\n", dir.join("report.html").display()));
    }
    if as_json {
        let line = LastLine {
            schema: SCHEMA,
            run: dir.display().to_string(),
            cells: record
                .cells
                .iter()
                .map(|c| LastCell {
                    model: &c.model,
                    dtype: c.dtype.as_str(),
                    device: &c.device,
                    verdict: c.verdict.as_str(),
                    reasons: match &c.verdict {
                        Verdict::Valid => Vec::new(),
                        Verdict::Invalid { reasons } => reasons.clone(),
                        Verdict::Failed { .. } => vec![c.verdict.reasons()],
                    },
                })
                .collect(),
        };
        let line = serde_json::to_string(&line).unwrap_or_default();
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// Has a worker measure the harness itself, on the first video of the plan.
fn null_run(plan: &Plan, dir: &RunDir, interrupt: &AtomicBool) -> Result<NullRunRecord, String> {
    let cell = plan.cells.first().ok_or("there is no cell")?;
    let spool = dir.path.join("spool").join("null");
    let job = Job { null_run: true, ..plan.job(cell, spool.clone(), Vec::new()) };
    std::fs::create_dir_all(&spool).map_err(|e| e.to_string())?;
    let job = serde_json::to_string(&job).map_err(|e| e.to_string())?;
    let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
    command.arg("worker");
    let mut worker = Worker::spawn(command, &job, &dir.log()).map_err(|e| e.to_string())?;
    let timeout = Duration::from_secs_f64(plan.settings.event_timeout_s);
    let mut measured = None;
    loop {
        match worker.next(timeout, interrupt) {
            Ok(Event::NullRun { record }) => measured = Some(record),
            Ok(_) => {}
            Err(Ended::Finished { .. }) => {
                return measured.ok_or_else(|| "the worker said nothing about it".to_string());
            }
            Err(Ended::Failed { error, .. }) => return Err(error),
            Err(Ended::Interrupted) => return Err("interrupted".to_string()),
        }
    }
}

/// One cell on its way.
struct CellRun<'a> {
    plan: &'a Plan,
    cell: &'a Cell,
    /// Its place among all processes of the run, repeats included.
    index: usize,
    /// Which repeat, from 0.
    repeat: usize,
    dir: &'a RunDir,
    root: &'a Path,
    interrupt: &'a AtomicBool,
    progress: &'a Progress,
}

/// What the worker said, put together.
#[derive(Default)]
struct Observed {
    phase: Option<Phase>,
    started: Option<usize>,
    /// Sequences that this worker finished, and when: video, begin and end.
    spans: Vec<(String, telemetry::Span)>,
    finished: Vec<Finished>,
    swap_mib: Option<f64>,
    lowest_available_mib: Option<f64>,
    /// Phases, and when they began.
    begun: Vec<(Phase, u64)>,
    /// Phases whose fall of system memory is smaller than what the worker alone took: something else was freed.
    freed: Vec<String>,
    /// Phases whose fall is larger than the worker and we ourselves can account for: other programs took memory.
    taken: Vec<String>,
}

impl CellRun<'_> {
    /// Runs the worker on what is left to do, grades what it finished, judges.
    fn run(&self, part: Option<resume::Progress>) -> (CellRecord, Option<FaultClass>) {
        let mut record = self.blank();
        let mut observed = Observed::default();
        let earlier = part.map(|part| self.restore(part, &mut record, &mut observed));
        if self.interrupt.load(Ordering::SeqCst) {
            // What an earlier worker finished is scored all the same: the spool does not outlive this run.
            let graded = self.grade(&mut record, &observed);
            record.summary = summary::summarise(&record);
            return (record, graded.err().map(|_| FaultClass::Input));
        }
        let mode = telemetry::power_mode(self.root);
        record.idle_power_w = self.idle_power();
        let baseline = telemetry::system_memory(self.root);
        let (ended, telemetry) = self.work(&mut record, &mut observed, baseline);
        self.peak(&mut record, &mut observed, &telemetry, baseline);
        record.sensors = telemetry.sensors();
        record.sensors.unjudged = verdict::unjudged(&record.sensors, telemetry::is_tegra(self.root));
        if let Err(e) = self.keep(&telemetry, &observed.begun) {
            record.notes.push(format!("telemetry.csv could not be written: {e}"));
        }

        let graded = self.grade(&mut record, &observed);
        let non_finite: Vec<String> = record.sequences.iter().flat_map(|s| s.non_finite.clone()).collect();
        self.energy(&mut record, &observed, &telemetry);
        if let Some(earlier) = earlier {
            earlier.join(&mut record);
        }
        record.track_wall_s =
            (!record.sequences.is_empty()).then(|| record.sequences.iter().map(|s| s.wall_ms).sum::<f64>() / 1000.0);
        record.summary = summary::summarise(&record);
        if let Some(figures) = &mut record.summary {
            let per_frame = |joules: &BTreeMap<String, f64>| {
                joules.get(WHOLE_MODULE_RAIL).filter(|_| figures.frames > 0).map(|j| j / figures.frames as f64)
            };
            figures.energy_per_frame_j = per_frame(&record.energy_j);
            figures.energy_above_idle_per_frame_j = per_frame(&record.energy_above_idle_j);
        }
        record.notes.extend(summary::remarks(&record));
        let cap = telemetry::gpu::nodes(self.root).first().and_then(|node| {
            Some(std::fs::read_to_string(node.join("max_freq")).ok()?.trim().parse::<f64>().ok()? / 1e6)
        });
        record.notes.extend(limits::remark(&record, &device::describe(self.root), &self.cell.pack.dir, cap));
        if let (Some(budget), Some(peak)) = (self.plan.settings.memory_budget, record.memory.get("peak")) {
            record.notes.extend(budget::remark(budget, peak));
        }

        let phase = observed.phase.unwrap_or(Phase::Spawn);
        let failed = |phase: Phase, error: String| Verdict::Failed { error, phase: phase.as_str().into() };
        let (verdict, class) = match (ended, graded) {
            (Ended::Failed { phase: named, class, error }, _) => (failed(named.unwrap_or(phase), error), Some(class)),
            (Ended::Interrupted, _) => (failed(phase, "interrupted; finished sequences are kept".into()), None),
            (_, Err(error)) => (failed(Phase::Score, error), Some(FaultClass::Input)),
            (Ended::Finished { remark }, Ok(())) => {
                record.notes.extend(remark);
                let conditions = self.conditions(mode, &observed, &telemetry);
                record.notes.extend(verdict::rivals(&conditions));
                let settings = &self.plan.settings;
                let rules = Rules {
                    min_frames: settings.min_frames,
                    min_seconds: settings.min_seconds,
                    precision: settings.precision_policy,
                    rivals: settings.rival_policy,
                };
                (verdict::judge(&record, &conditions, &non_finite, rules), None)
            }
        };
        record.verdict = verdict;
        (record, class)
    }

    /// The record before anything has happened.
    fn blank(&self) -> CellRecord {
        CellRecord {
            model: self.cell.model.clone(),
            pack: self.cell.pack.id.clone(),
            pack_digest: self.cell.pack.digest.clone(),
            prompt: self.cell.prompt,
            dtype: self.cell.dtype,
            device: self.cell.device.to_string(),
            options: self.cell.admitted.clone(),
            scenario: self.plan.settings.scenario,
            ..CellRecord::default()
        }
    }

    /// Takes over what is left of the cell from before: its scored sequences, and those that only lie in the spool.
    fn restore(&self, part: resume::Progress, record: &mut CellRecord, observed: &mut Observed) -> Earlier {
        let resume::Progress { record: old, finished } = part;
        let kept = old.sequences.len() + finished.len();
        let names: Vec<&str> =
            old.sequences.iter().map(|s| s.video.as_str()).chain(finished.iter().map(|f| f.video.as_str())).collect();
        record.memory_curve = old.memory_curve.into_iter().filter(|p| names.contains(&p.video.as_str())).collect();
        record.notes = old.notes.into_iter().filter(|n| n.starts_with(RESUMED)).collect();
        record.notes.push(format!(
            "{RESUMED}: {} finished by an earlier worker; what was sensed during an interrupted attempt (power, swap, \
             throttling) may be missing",
            plural(kept, "sequence was", "sequences were")
        ));
        record.sequences = old.sequences;
        observed.finished = finished;
        Earlier {
            energy_j: old.energy_j,
            energy_above_idle_j: old.energy_above_idle_j,
            peak: old.memory.get("peak").cloned(),
            runtime: old.runtime,
        }
    }

    /// Mean power by rail while nothing of ours runs. Costs [`IDLE`] where there is a rail, and nothing where there is none.
    fn idle_power(&self) -> BTreeMap<String, f64> {
        let found = telemetry::find(self.root, None);
        if !found.channels().iter().any(|c| c.name.ends_with("_w")) {
            return BTreeMap::new();
        }
        drop(found);
        let sampler = Sampler::start(self.root.to_path_buf(), None, self.plan.settings.sample_hz);
        std::thread::sleep(IDLE);
        let telemetry = sampler.stop();
        match (telemetry.samples.first(), telemetry.samples.last()) {
            (Some(first), Some(last)) => telemetry.mean_power((first.at_ns, last.at_ns)),
            _ => BTreeMap::new(),
        }
    }

    fn conditions(&self, mode: Option<String>, observed: &Observed, telemetry: &Telemetry) -> Conditions {
        let spans: Vec<telemetry::Span> = observed.spans.iter().map(|s| s.1).collect();
        let mut conditions = Conditions::seen(telemetry, &spans);
        let swap = conditions.worker_swap_mib.into_iter().chain(observed.swap_mib);
        conditions.worker_swap_mib = swap.max_by(f64::total_cmp);
        conditions.power_mode = mode.zip(telemetry::power_mode(self.root));
        conditions
    }

    /// Starts the worker and listens until it ends.
    fn work(&self, record: &mut CellRecord, observed: &mut Observed, baseline: SystemMemory) -> (Ended, Telemetry) {
        let failed = |class: FaultClass, error: String| Ended::Failed { phase: Some(Phase::Spawn), class, error };
        let spool = self.dir.spool(self.index);
        let sequences = &self.plan.dataset.sequences;
        let scored = |name: &str| record.sequences.iter().any(|s| s.video == name);
        let tracked = |index: usize| observed.finished.iter().any(|f| f.index == index);
        let skip = (0..sequences.len()).filter(|&i| tracked(i) || scored(&sequences[i].name)).collect();
        let job = self.plan.job(self.cell, spool.clone(), skip);
        let started = std::fs::create_dir_all(&spool)
            .and_then(|()| serde_json::to_string(&job).map_err(std::io::Error::from))
            .and_then(|job| {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("worker");
                Worker::spawn(command, &job, &self.dir.log())
            });
        let mut worker = match started {
            Ok(worker) => worker,
            Err(e) => {
                let ended = failed(FaultClass::Environment, format!("cannot start a worker: {e}"));
                return (ended, Telemetry::default());
            }
        };
        let settings = &self.plan.settings;
        let sampler = Sampler::start(self.root.to_path_buf(), Some(worker.pid()), settings.sample_hz);
        let ended = loop {
            let seconds = match observed.phase {
                Some(Phase::Track) => settings.event_timeout_s,
                _ => settings.load_timeout_s,
            };
            match worker.next(Duration::from_secs_f64(seconds), self.interrupt) {
                Ok(Event::Hello { protocol }) if protocol != PROTOCOL => {
                    break failed(FaultClass::Inference, format!("the worker speaks protocol {protocol}"));
                }
                Ok(event) => {
                    if let Err(error) = self.take(event, record, observed, baseline) {
                        break failed(FaultClass::Environment, error);
                    }
                }
                Err(ended) => break ended,
            }
        };
        drop(worker);
        (ended, sampler.stop())
    }

    /// Takes in one event.
    fn take(
        &self,
        event: Event,
        record: &mut CellRecord,
        observed: &mut Observed,
        baseline: SystemMemory,
    ) -> Result<(), String> {
        match event {
            Event::Hello { .. } | Event::Finished | Event::Failed { .. } | Event::NullRun { .. } => {}
            Event::Phase { phase, memory } => {
                observed.phase = Some(phase);
                observed.begun.push((phase, telemetry::now_ns()));
                observed.swap_mib = observed.swap_mib.into_iter().chain(memory.swap_mib).max_by(f64::total_cmp);
                self.progress.phase(phase);
                if matches!(phase, Phase::Idle | Phase::Loaded | Phase::Warmed | Phase::Last) {
                    let system = telemetry::system_memory(self.root);
                    record.memory.insert(
                        phase.as_str().into(),
                        MemoryRecord {
                            system_mib: observed.fall(
                                phase.as_str(),
                                baseline,
                                system,
                                memory.pss_anon_mib,
                                self.most(memory.rss_mib),
                            ),
                            pss_mib: memory.pss_mib,
                            pss_anon_mib: memory.pss_anon_mib,
                            huge_mib: memory.huge_mib,
                            rss_mib: memory.rss_mib,
                            nvmap_mib: system.nvmap_mib,
                            nvmap_worker_mib: None,
                        },
                    );
                    // The kernel keeps the high-water mark; the last one that was heard holds.
                    let peak = record.memory.entry("peak".into()).or_default();
                    peak.raise_to(&MemoryRecord {
                        pss_mib: memory.pss_mib,
                        pss_anon_mib: memory.pss_anon_mib,
                        huge_mib: memory.huge_mib,
                        rss_mib: memory.hwm_mib,
                        ..MemoryRecord::default()
                    });
                }
            }
            Event::Loaded { load_ms, report, precision } => {
                record.load_ms = Some(load_ms);
                record.graph_load_ms = report.graph_load_ms;
                record.graph_build_ms = report.graph_build_ms;
                record.options.passed.retain(|(name, _)| !report.dropped.iter().any(|d| d.name == *name));
                record.options.dropped.extend(report.dropped);
                record.runtime = (!report.runtime_version.is_empty()).then(|| RuntimeRecord {
                    version: report.runtime_version,
                    path: report.runtime_path.display().to_string(),
                });
                record.notes.extend(report.notes);
                record.fallbacks = report.fallbacks;
                record.effective_dtype = effective(&precision);
                record.precision = precision;
            }
            Event::Warmup { record: warmup } => {
                if !warmup.faults.is_empty() && !self.plan.settings.keep_going {
                    record.notes.push(
                        "stopped after the warm-up frame because of its masks; --keep-going tracks on nevertheless"
                            .into(),
                    );
                }
                record.warmup = Some(warmup);
            }
            Event::SequenceStarted { index } => {
                if observed.phase != Some(Phase::Track) {
                    observed.begun.push((Phase::Track, telemetry::now_ns()));
                }
                observed.phase = Some(Phase::Track);
                observed.started = Some(index);
                self.progress.sequence(self.plan.dataset.sequences.get(index).map_or("", |s| s.name.as_str()));
            }
            Event::Tick { frames, rss_mib } => {
                let video = observed.started.and_then(|i| self.plan.dataset.sequences.get(i)).map(|s| s.name.clone());
                if let Some((video, rss_mib)) = video.zip(rss_mib) {
                    record.memory_curve.push(MemoryPoint { video, frames: frames as u32, rss_mib });
                }
                let done: usize = observed.finished.iter().map(|f| f.frames).sum();
                self.progress.frames((self.index * self.plan.frames() + done + frames) as u64);
            }
            Event::SequenceDone { index, video, width: _, height: _, frames, wall_ms, span, late } => {
                if observed.started.take() != Some(index) {
                    return Err(format!("the worker finished sequence {index}, which it had not started"));
                }
                if let Some((frames, worst_ms)) = late.filter(|l| l.0 > 0) {
                    record.notes.push(format!(
                        "video {video}: the decoder brought {} late, by up to {worst_ms:.0} ms; a camera would not",
                        plural(frames, "frame", "frames")
                    ));
                }
                let spool = resume::spool_file(self.dir, self.index, index);
                observed.spans.push((video.clone(), span));
                observed.finished.push(Finished { index, video, frames, wall_ms, span, spool });
                let done: usize = observed.finished.iter().map(|f| f.frames).sum();
                self.progress.frames((self.index * self.plan.frames() + done) as u64);
                let state = resume::Progress { record: record.clone(), finished: observed.finished.clone() };
                let file = self.dir.progress(self.index);
                store::write_json(&file, &state).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
            }
        }
        Ok(())
    }

    /// Adds what the sampling thread saw to the peak figures.
    fn peak(&self, record: &mut CellRecord, observed: &mut Observed, telemetry: &Telemetry, baseline: SystemMemory) {
        if observed.phase.is_none() {
            return;
        }
        let peak = record.memory.entry("peak".into()).or_default();
        peak.raise_to(&MemoryRecord {
            system_mib: None,
            pss_mib: telemetry.largest("worker_pss_mib"),
            pss_anon_mib: telemetry.largest("worker_pss_anon_mib"),
            huge_mib: telemetry.largest("worker_huge_mib"),
            rss_mib: telemetry.largest("worker_hwm_mib"),
            nvmap_mib: telemetry.largest("nvmap_mib"),
            nvmap_worker_mib: telemetry.largest("worker_nvmap_mib"),
        });
        let lowest = observed.lowest_available_mib.into_iter().chain(telemetry.smallest("mem_available_mib"));
        let lowest = SystemMemory { available_mib: lowest.min_by(f64::total_cmp), ..SystemMemory::default() };
        peak.system_mib = observed.fall("peak", baseline, lowest, peak.pss_anon_mib, self.most(peak.rss_mib));
        for (phases, why) in [
            (&observed.freed, "less than the worker's own anonymous memory, so other memory was freed meanwhile"),
            (&observed.taken, "more than the worker's resident memory, so other programs took some meanwhile"),
        ] {
            if !phases.is_empty() {
                record
                    .notes
                    .push(format!("system memory is left empty for {}: MemAvailable fell by {why}", phases.join(", ")));
            }
        }
        // On a GPU the worker's memory is not all in its resident set, so there is no such bound; busy neighbours are
        // reason enough to name nobody.
        let spans: Vec<telemetry::Span> = observed.spans.iter().map(|s| s.1).collect();
        let rivals = verdict::rivals(&Conditions::seen(telemetry, &spans));
        if let Some(remark) = rivals.filter(|_| self.cell.device != Device::Cpu) {
            record.memory.values_mut().for_each(|m| m.system_mib = None);
            record
                .notes
                .push(format!("system memory is left empty: {remark}, and what MemAvailable fell by may be theirs"));
        }
        let swap = telemetry.smallest("swap_free_mib");
        if let Some((before, lowest)) = baseline.swap_free_mib.zip(swap).filter(|(before, low)| before - low > 1.0) {
            record.notes.push(format!(
                "free swap fell by {:.0} MiB while the worker ran: something on this machine was swapped out",
                before - lowest
            ));
        }
        let hottest = telemetry.channels.iter().filter(|c| c.name.ends_with("celsius"));
        if let Some(celsius) = hottest.filter_map(|c| telemetry.largest(&c.name)).max_by(f64::total_cmp) {
            record.notes.push(format!("hottest sensor: {celsius:.1} °C"));
        }
    }

    /// The most by which the worker can have made MemAvailable fall: its resident set on a CPU. Elsewhere the driver holds
    /// memory in its name that is not in there.
    fn most(&self, resident_mib: Option<f64>) -> Option<f64> {
        resident_mib.filter(|_| self.cell.device == Device::Cpu)
    }

    /// Writes the samples beside those of an earlier attempt.
    fn keep(&self, telemetry: &Telemetry, begun: &[(Phase, u64)]) -> std::io::Result<()> {
        let path = self.dir.telemetry(self.index);
        let mut bytes = std::fs::read(&path).unwrap_or_default();
        let key = format!("{},{},{}", self.cell.model, self.cell.dtype, self.cell.device);
        bytes.extend_from_slice(telemetry.csv(&key, self.repeat + 1).as_bytes());
        if let Some(start) = telemetry.samples.first().map(|s| s.at_ns) {
            for (phase, at) in begun {
                let seconds = at.saturating_sub(start) as f64 / 1e9;
                bytes.extend_from_slice(
                    format!("{key},{seconds:.3},{PHASE}{},1,{}\n", phase.as_str(), self.repeat + 1).as_bytes(),
                );
            }
        }
        store::write_atomic(&path, &bytes)
    }

    /// Energy over the tracked sequences only, and the same without what the machine draws when idle.
    fn energy(&self, record: &mut CellRecord, observed: &Observed, telemetry: &Telemetry) {
        let idle = record.idle_power_w.clone();
        let above = |joules: &BTreeMap<String, f64>, spans: &[telemetry::Span]| -> BTreeMap<String, f64> {
            let seconds: f64 = spans.iter().map(|s| (s.1 - s.0) as f64 / 1e9).sum();
            joules.iter().filter_map(|(rail, j)| Some((rail.clone(), j - idle.get(rail)? * seconds))).collect()
        };
        // Those of an earlier worker lie outside this telemetry.
        let spans: Vec<telemetry::Span> = observed.spans.iter().map(|s| s.1).collect();
        record.energy_j = telemetry.energy(&spans);
        record.energy_above_idle_j = above(&record.energy_j, &spans);
        for sequence in &mut record.sequences {
            let Some((_, span)) = observed.spans.iter().find(|(video, _)| *video == sequence.video) else { continue };
            sequence.energy_j = telemetry.energy(&[*span]);
            sequence.energy_above_idle_j = above(&sequence.energy_j, &[*span]);
        }
        if !record.energy_j.is_empty() && !record.energy_j.contains_key(WHOLE_MODULE_RAIL) {
            record.notes.push(format!(
                "no {WHOLE_MODULE_RAIL} rail on this board: energy is given per rail, and energy_per_frame_j is left out"
            ));
        }
    }

    /// Grades every finished sequence; stops at the first that cannot be graded.
    fn grade(&self, record: &mut CellRecord, observed: &Observed) -> Result<(), String> {
        let dataset = &self.plan.dataset;
        let settings = &self.plan.settings;
        let place = |wanted: bool, name: &str| {
            (wanted && self.repeat == 0).then(|| self.dir.path.join(name).join(self.cell.slug()))
        };
        let extras = Extras {
            masks: place(settings.save_masks, "masks"),
            overlays: place(settings.overlays, "overlays"),
            prompt: self.cell.prompt,
            clicks: plan::clicks(&self.cell.pack, settings),
        };
        self.progress.phase(Phase::Score);
        for finished in &observed.finished {
            let sequence = dataset.sequences.get(finished.index).filter(|s| s.name == finished.video);
            let sequence = sequence.ok_or_else(|| format!("the worker tracked an unknown video {}", finished.video))?;
            let mut graded = grade::grade(sequence, finished, dataset.kind, &extras).map_err(|e| e.to_string())?;
            graded.fps = Some(settings.fps.unwrap_or(sequence.fps)).filter(|fps| *fps > 0.0);
            record.sequences.push(graded);
        }
        // Plan order, whatever an interruption has done to it.
        let place = |name: &str| dataset.sequences.iter().position(|s| s.name == name);
        record.sequences.sort_by_cached_key(|s| place(&s.video));
        if let Err(e) = self.picture(record, observed) {
            record.notes.push(format!("pictures of the worst moments could not be made: {e}"));
        }
        Ok(())
    }

    /// Leaves pictures of the worst moments for the report. A sequence that was scored before an interruption has no masks
    /// any more; its pictures from then are kept.
    fn picture(&self, record: &CellRecord, observed: &Observed) -> Result<(), String> {
        let dir = self.dir.path.join(thumb::DIR).join(self.index.to_string());
        let old: Vec<thumb::Moment> = std::fs::read(dir.join("moments.json"))
            .ok()
            .and_then(|b| serde_json::from_slice(&b).ok())
            .unwrap_or_default();
        let mut kept = Vec::new();
        for mut moment in thumb::worst(&record.sequences) {
            let finished = observed.finished.iter().find(|f| f.video == moment.video);
            let sequence = finished.and_then(|f| Some((f, self.plan.dataset.sequences.get(f.index)?)));
            let before =
                old.iter().find(|m| (&m.video, &m.object, m.frame) == (&moment.video, &moment.object, moment.frame));
            if let Some((finished, sequence)) = sequence {
                let image =
                    grade::picture(sequence, &finished.spool, moment.frame as usize).map_err(|e| e.to_string())?;
                let png = report::png::encode(&image).map_err(|e| e.to_string())?;
                moment.file = format!("{}-{}.png", finished.index, moment.frame);
                store::write_atomic(&dir.join(&moment.file), &png).map_err(|e| e.to_string())?;
            } else if let Some(before) = before {
                moment.file = before.file.clone();
            } else {
                continue;
            }
            kept.push(moment);
        }
        if !kept.is_empty() {
            store::write_json(&dir.join("moments.json"), &kept).map_err(|e| e.to_string())?;
        }
        // What a killed part of this run left: half a picture, or moments that are no longer among the worst.
        let Ok(entries) = std::fs::read_dir(&dir) else { return Ok(()) };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let stale = name.ends_with(".png") && !kept.iter().any(|moment| moment.file == name);
            if stale || name.starts_with(store::WRITING) {
                std::fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// How the remark of a resumed cell begins.
const RESUMED: &str = "resumed";

/// Figures of the worker before an interruption, which cover the sequences that are kept.
struct Earlier {
    energy_j: BTreeMap<String, f64>,
    energy_above_idle_j: BTreeMap<String, f64>,
    peak: Option<MemoryRecord>,
    runtime: Option<RuntimeRecord>,
}

impl Earlier {
    /// Joins them with those of the worker that did the rest. Energy that is not known for both halves is left out.
    fn join(self, record: &mut CellRecord) {
        let join = |new: &mut BTreeMap<String, f64>, old: &BTreeMap<String, f64>| {
            *new = std::mem::take(new).into_iter().filter_map(|(r, j)| Some((r.clone(), j + old.get(&r)?))).collect();
        };
        join(&mut record.energy_j, &self.energy_j);
        join(&mut record.energy_above_idle_j, &self.energy_above_idle_j);
        if let (Some(old), Some(new)) = (self.peak, record.memory.get_mut("peak")) {
            new.raise_to(&old);
        }
        // A worker that never came to load anything leaves the old one's runtime standing.
        record.runtime = record.runtime.take().or(self.runtime);
    }
}

impl Observed {
    /// How far MemAvailable has fallen since before the worker was spawned; nothing where that is less than the worker's
    /// own anonymous memory, because then something else was freed and the figure would flatter, nor where it is more than
    /// the worker can hold (`most_mib`), because then it is other programs' memory too.
    fn fall(
        &mut self,
        phase: &str,
        baseline: SystemMemory,
        now: SystemMemory,
        anonymous_mib: Option<f64>,
        most_mib: Option<f64>,
    ) -> Option<f64> {
        let available = now.available_mib?;
        self.lowest_available_mib = self.lowest_available_mib.into_iter().chain([available]).min_by(f64::total_cmp);
        let fall = baseline.available_mib? - available;
        if !fall_is_sound(fall, anonymous_mib) {
            self.freed.push(phase.to_string());
            return None;
        }
        if most_mib.is_some_and(|most| fall > most + SLACK_MIB.max(0.05 * most)) {
            self.taken.push(phase.to_string());
            return None;
        }
        Some(fall)
    }
}

/// The kernel keeps MemAvailable to within a few megabytes (per-core counters), and it is read a moment before or after
/// the worker's own figure.
const SLACK_MIB: f64 = 8.0;

/// Can a worker with so much anonymous memory have made MemAvailable fall by so much and no more?
fn fall_is_sound(fall_mib: f64, anonymous_mib: Option<f64>) -> bool {
    fall_mib > 0.0 && anonymous_mib.is_none_or(|own| fall_mib + SLACK_MIB.max(0.05 * own) >= own)
}

/// The precision in effect: one phrase when all graphs agree, else each phrase once.
fn effective(stages: &[jetbench_runners::types::StagePrecision]) -> Option<String> {
    let mut phrases: Vec<&str> = Vec::new();
    for stage in stages {
        if !phrases.contains(&stage.effective.as_str()) {
            phrases.push(&stage.effective);
        }
    }
    (!phrases.is_empty()).then(|| phrases.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_that_cannot_be_is_left_empty() {
        assert!(fall_is_sound(100.0, Some(95.0)) && fall_is_sound(100.0, None));
        assert!(fall_is_sound(100.0, Some(104.0)), "within the kernel's own slack");
        assert!(!fall_is_sound(60.0, Some(100.0)), "40 MiB of something else were freed");
        assert!(!fall_is_sound(0.0, None) && !fall_is_sound(-3.0, Some(1.0)));
        let memory = |mib: f64| SystemMemory { available_mib: Some(mib), ..SystemMemory::default() };
        let mut observed = Observed::default();
        assert_eq!(observed.fall("loaded", memory(1000.0), memory(900.0), Some(90.0), Some(95.0)), Some(100.0));
        assert_eq!(observed.fall("warmed", memory(1000.0), memory(990.0), Some(90.0), Some(95.0)), None);
        assert_eq!(observed.fall("peak", memory(1000.0), memory(880.0), Some(90.0), Some(95.0)), None);
        assert_eq!(observed.fall("last", memory(1000.0), memory(880.0), Some(90.0), None), Some(120.0), "no bound");
        assert_eq!(
            (observed.freed.as_slice(), observed.taken.as_slice()),
            (&["warmed".into()][..], &["peak".into()][..])
        );
        assert_eq!(observed.lowest_available_mib, Some(880.0));
    }
}
