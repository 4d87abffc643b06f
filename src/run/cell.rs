//! One cell on its way: a worker is fed its job and listened to, what it finished is scored after it has gone, and the
//! cell is judged.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jetbench_runners::files;
use jetbench_runners::packs;
use jetbench_runners::types::{OpenReport, StagePrecision};

use crate::child::hand_over_stdin;
use crate::dataset::live::{self, LiveKind};
use crate::dataset::{Clock, content, track_files};
use crate::judge::complete::Planned;
use crate::judge::verdict::{self, Conditions, Rules};
use crate::judge::{course, disturbed, roofline, summary};
use crate::plan::content::CHANGED;
use crate::plan::mask_files::MaskFiles;
use crate::plan::overlays::Overlays;
use crate::plan::resolve::Cell;
use crate::plan::{Plan, budget, options};
use crate::report::{csv, thumb};
use crate::results::disturbance;
use crate::results::note::{Note, NoteKind};
use crate::results::record::{
    CellRecord, DetectorRecord, LabelPackRecord, MemoryPoint, MemoryRecord, RuntimeRecord, Verdict,
};
use crate::results::store::{self, RunDir};
use crate::run::event::{Event, FaultClass, Job, PROTOCOL, Phase};
use crate::run::memory::MemoryWatch;
use crate::run::progress::Progress;
use crate::run::prompt::GivenPrompt;
use crate::run::supervise::{Ended, Worker};
use crate::run::{energy, outputs, pictures, resume};
use crate::score::grade::{self, Extras, Finished, Graded};
use crate::telemetry::allowance::Allowance;
use crate::telemetry::key::MemoryPhase;
use crate::telemetry::rivals::{Rival, Watch};
use crate::telemetry::{self, Sampler, Telemetry, device};
use crate::text::plural;

/// One cell on its way.
pub(super) struct CellRun<'a> {
    pub(super) plan: &'a Plan,
    pub(super) cell: &'a Cell,
    /// Its place among all processes of the run, repeats included.
    pub(super) index: usize,
    /// Which repeat, from 0.
    pub(super) repeat: usize,
    pub(super) dir: &'a RunDir,
    pub(super) root: &'a Path,
    pub(super) interrupt: &'a AtomicBool,
    pub(super) progress: &'a Progress,
}

/// What the worker said, put together.
#[derive(Default)]
struct Observed {
    phase: Option<Phase>,
    /// The sequence under way, and the prompts that are given in it.
    started: Option<(usize, Vec<GivenPrompt>)>,
    /// Sequences that this worker finished, and when: video, begin and end.
    spans: Vec<(String, telemetry::Span)>,
    finished: Vec<Finished>,
    swap_mib: Option<f64>,
    memory: MemoryWatch,
    /// The busiest other programs over the worker's life.
    rivals: Vec<Rival>,
    /// Phases, and when they began.
    begun: Vec<(Phase, u64)>,
}

impl CellRun<'_> {
    /// Runs the worker on what is left to do, grades what it finished, judges.
    pub(super) fn run(&self, part: Option<resume::CellProgress>) -> (CellRecord, Option<FaultClass>) {
        let mut record = self.blank();
        let mut observed = Observed::default();
        let earlier = part.map(|part| self.restore(part, &mut record, &mut observed));
        if self.interrupt.load(Ordering::SeqCst) {
            // What an earlier worker finished is scored all the same: the spool does not outlive this run.
            let graded = self.grade(&mut record, &observed);
            record.summary = summary::summarise(&record);
            record.interrupted = true;
            return (record, graded.err().map(|_| FaultClass::Input));
        }
        let mode = telemetry::power_mode(self.root);
        record.idle_power_w = energy::idle_power(self.root, self.plan.settings.sample_hz);
        let others = Watch::start();
        observed.memory = MemoryWatch::begin(self.root, self.cell.device);
        let (ended, telemetry) = self.work(&mut record, &mut observed);
        let ended = self.with_planned_packs(ended);
        observed.rivals = others.busiest(&[std::process::id()]);
        self.peak(&mut record, &mut observed, &telemetry);
        record.sensors = telemetry.sensors();
        record.sensors.unjudged = verdict::unjudged(&record.sensors, telemetry::is_tegra(self.root));
        if let Err(e) = self.keep(&telemetry, &observed.begun) {
            record.notes.push(Note::new(NoteKind::Output, format!("telemetry.csv could not be written: {e}")));
        }

        let graded = self.grade(&mut record, &observed);
        let non_finite: Vec<String> = record.sequences.iter().flat_map(|s| s.non_finite.clone()).collect();
        energy::integrate(&mut record, &observed.spans, &telemetry);
        if let Some(earlier) = earlier {
            earlier.join(&mut record);
        }
        record.track_wall_s =
            (!record.sequences.is_empty()).then(|| record.sequences.iter().map(|s| s.wall_ms).sum::<f64>() / 1000.0);
        record.summary = summary::summarise(&record);
        energy::per_frame(&mut record);
        record.notes.extend(course::remarks(&record));
        let cap = telemetry::gpu::clock_cap_mhz(self.root);
        let limit = roofline::remark(&record, &device::describe(self.root), &self.cell.pack.dir, cap);
        record.notes.extend(limit.map(|text| Note::new(NoteKind::Limit, text)));
        if let (Some(budget), Some(peak)) = (self.plan.settings.memory_budget, record.memory.get(&MemoryPhase::Peak)) {
            let budget = Allowance::read(self.root).within_limit(budget);
            record.notes.extend(budget::remark(budget, peak).map(|text| Note::new(NoteKind::Budget, text)));
        }

        let (verdict, class) = self.verdict(&mut record, &observed, &telemetry, (ended, graded), mode, &non_finite);
        record.verdict = verdict;
        (record, class)
    }

    /// The verdict, and whose fault a failure is.
    fn verdict(
        &self,
        record: &mut CellRecord,
        observed: &Observed,
        telemetry: &Telemetry,
        (ended, graded): (Ended, Result<(), String>),
        mode: Option<String>,
        non_finite: &[String],
    ) -> (Verdict, Option<FaultClass>) {
        let phase = observed.phase.unwrap_or(Phase::Spawn);
        let failed = |phase: Phase, error: String| Verdict::Failed { error, phase: phase.as_str().into() };
        match (ended, graded) {
            (Ended::Failed { phase: named, class, error }, _) => (failed(named.unwrap_or(phase), error), Some(class)),
            (Ended::Interrupted, _) => {
                record.interrupted = true;
                (failed(phase, "interrupted; finished sequences are kept".into()), None)
            }
            (_, Err(error)) => (failed(Phase::Score, error), Some(FaultClass::Input)),
            (Ended::Finished { remark }, Ok(())) => {
                record.notes.extend(remark.map(|text| Note::new(NoteKind::Worker, text)));
                let conditions = self.conditions(mode, observed, telemetry);
                record.notes.extend(verdict::rivals(&conditions));
                let settings = &self.plan.settings;
                let rules = Rules {
                    min_frames: settings.min_frames,
                    min_seconds: settings.min_seconds,
                    precision: settings.precision_policy,
                    rivals: settings.rival_policy,
                };
                let disturbances = disturbed::disturbances(record, &conditions);
                disturbance::join(&mut record.disturbed, &disturbances);
                let judged = verdict::judge(record, &conditions, non_finite, rules);
                (self.planned().judge(judged, &record.sequences), None)
            }
        }
    }

    fn planned(&self) -> Planned {
        Planned::of_dataset(&self.plan.dataset, self.plan.settings.loop_frames)
    }

    /// The record before anything has happened.
    fn blank(&self) -> CellRecord {
        CellRecord {
            model: self.cell.model.clone(),
            pack: self.cell.pack.id.clone(),
            pack_digest: self.cell.pack_digest(),
            detector: self.cell.finder().map(|pack| DetectorRecord {
                pack: pack.id.clone(),
                test_model_of: pack.test_model_of.clone(),
                licence: pack.licence.clone(),
                classes: pack.classes.clone(),
            }),
            labels: self.cell.labels.as_ref().map(|pack| LabelPackRecord {
                pack: pack.id.clone(),
                test_model_of: pack.test_model_of.clone(),
                licence: pack.licence.clone(),
                classes: pack.classes.clone(),
            }),
            test_model_of: self.cell.pack.test_model_of.clone(),
            licence: self.cell.pack.licence.clone(),
            prompt: self.cell.prompt,
            dtype: self.cell.dtype,
            device: self.cell.device.to_string(),
            options: self.cell.admitted.clone(),
            scenario: self.plan.settings.scenario,
            ..CellRecord::default()
        }
    }

    /// Takes over what is left of the cell from before: its scored sequences, and those that only lie in the spool.
    fn restore(&self, part: resume::CellProgress, record: &mut CellRecord, observed: &mut Observed) -> Earlier {
        let resume::CellProgress { record: old, finished } = part;
        let kept = old.sequences.len() + finished.len();
        let names: Vec<&str> =
            old.sequences.iter().map(|s| s.video.as_str()).chain(finished.iter().map(|f| f.video.as_str())).collect();
        record.memory_curve = old.memory_curve.into_iter().filter(|p| names.contains(&p.video.as_str())).collect();
        // What is seen frame by frame is found again in the record of the whole.
        record.disturbed = old.disturbed.into_iter().filter(|d| !d.is_in_the_record()).collect();
        let keeps = |note: &Note| {
            note.kind == NoteKind::Joined || note.kind.disturbance().is_some_and(|d| record.disturbed.contains(&d))
        };
        record.notes = old.notes.into_iter().filter(keeps).collect();
        record.notes.push(Note::new(NoteKind::Joined, format!(
            "resumed: {} finished by an earlier worker; what was sensed during an interrupted attempt (power, swap, \
             throttling) may be missing",
            plural(kept, "sequence was", "sequences were")
        )));
        record.sequences = old.sequences;
        observed.finished = finished;
        Earlier {
            energy_j: old.energy_j,
            energy_above_idle_j: old.energy_above_idle_j,
            peak: old.memory.get(&MemoryPhase::Peak).cloned(),
            runtime: old.runtime,
        }
    }

    fn conditions(&self, mode: Option<String>, observed: &Observed, telemetry: &Telemetry) -> Conditions {
        let spans: Vec<telemetry::Span> = observed.spans.iter().map(|s| s.1).collect();
        let mut conditions = Conditions::seen(telemetry, &spans);
        let swap = conditions.worker_swap_mib.into_iter().chain(observed.swap_mib);
        conditions.worker_swap_mib = swap.max_by(f64::total_cmp);
        conditions.rivals = observed.rivals.clone();
        conditions.power_mode = mode.zip(telemetry::power_mode(self.root));
        conditions
    }

    /// Starts the worker and listens until it ends.
    fn work(&self, record: &mut CellRecord, observed: &mut Observed) -> (Ended, Telemetry) {
        let failed = |class: FaultClass, error: String| Ended::Failed { phase: Some(Phase::Spawn), class, error };
        let spool = self.dir.spool(self.index);
        let sequences = &self.plan.dataset.sequences;
        let scored = |name: &str| record.sequences.iter().any(|s| s.video == name);
        let tracked = |index: usize| observed.finished.iter().any(|f| f.index == index);
        let skip = (0..sequences.len()).filter(|&i| tracked(i) || scored(&sequences[i].name)).collect();
        let mut job = Job::new(self.plan, self.cell, spool.clone(), skip);
        let started = std::fs::create_dir_all(&spool).and_then(|()| {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("worker");
            if job.live.as_ref().is_some_and(|live| live.kind == LiveKind::Pipe) {
                job.pipe = Some(hand_over_stdin(&mut command)?);
            }
            Worker::spawn(command, &serde_json::to_string(&job)?, &self.dir.log())
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
        if job.live.is_some() {
            worker.end_gently(); // what came of a live source does not come again, so it is kept
        }
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
                    if let Err((class, error)) = self.take(event, record, observed) {
                        break Ended::Failed { phase: observed.phase, class, error };
                    }
                }
                Err(ended) => break ended,
            }
        };
        drop(worker);
        (ended, sampler.stop())
    }

    /// Weights are mapped from the files of its packs, so a worker that went through must leave them as planned, too.
    fn with_planned_packs(&self, ended: Ended) -> Ended {
        if !matches!(ended, Ended::Finished { .. }) {
            return ended;
        }
        let other = self.cell.packs().zip(&self.cell.pack_stamps).find(|(pack, stamp)| {
            content::folder_stamp(&pack.dir) != **stamp
                && !(packs::digest_of(&pack.dir).is_ok_and(|digest| digest == pack.digest)
                    && packs::check(&pack.dir, self.cell.dtype).is_ok())
        });
        match other {
            Some((pack, _)) => Ended::Failed {
                phase: Some(Phase::Track),
                class: FaultClass::Input,
                error: format!("{CHANGED}: pack {}; restore it, or start a new run", pack.dir.display()),
            },
            None => ended,
        }
    }

    /// Takes in one event.
    fn take(&self, event: Event, record: &mut CellRecord, observed: &mut Observed) -> Result<(), (FaultClass, String)> {
        match event {
            Event::Hello { .. } | Event::Finished | Event::Failed { .. } | Event::NullRun { .. } => {}
            Event::Phase { phase, memory } => {
                observed.phase = Some(phase);
                observed.begun.push((phase, telemetry::now_ns()));
                observed.swap_mib = observed.swap_mib.into_iter().chain(memory.swap_mib).max_by(f64::total_cmp);
                self.progress.phase(phase);
                if let Some(moment) = phase.memory() {
                    observed.memory.phase(moment, self.root, &memory, &mut record.memory);
                }
            }
            Event::Loaded { load_ms, report, precision } => {
                record.load_ms = Some(load_ms);
                record.precision = precision;
                record.effective_dtype = effective(&record.precision);
                loaded(record, report);
            }
            Event::Warmup { record: warmup } => {
                if !warmup.faults.is_empty() && !self.plan.settings.keep_going {
                    record.notes.push(Note::new(
                        NoteKind::Stopped,
                        "stopped after the warm-up frame because of its masks; --keep-going tracks on nevertheless",
                    ));
                }
                record.warmup = Some(warmup);
            }
            Event::SequenceStarted { index, prompts } => {
                if observed.phase != Some(Phase::Track) {
                    observed.begun.push((Phase::Track, telemetry::now_ns()));
                }
                observed.phase = Some(Phase::Track);
                observed.started = Some((index, prompts));
                self.progress.doing(self.plan.dataset.sequences.get(index).map_or("", |s| s.name.as_str()));
            }
            Event::Tick { frames, rss_mib } => {
                let video = observed
                    .started
                    .as_ref()
                    .and_then(|s| self.plan.dataset.sequences.get(s.0))
                    .map(|s| s.name.clone());
                if let Some((video, rss_mib)) = video.zip(rss_mib) {
                    record.memory_curve.push(MemoryPoint { video, frames: frames as u32, rss_mib });
                }
                self.progress.frames(self.frames_before(observed) + frames as u64);
            }
            event @ Event::SequenceDone { .. } => return self.sequence_done(event, record, observed),
        }
        Ok(())
    }

    /// Takes in that a sequence is done: what it left is in the cell's progress file before anything else happens.
    fn sequence_done(
        &self,
        event: Event,
        record: &mut CellRecord,
        observed: &mut Observed,
    ) -> Result<(), (FaultClass, String)> {
        let environment = |error: String| (FaultClass::Environment, error);
        let Event::SequenceDone {
            index,
            video,
            frames,
            wall_ms,
            span,
            late,
            read,
            stalls,
            live,
            found,
            taken,
            labels,
            ..
        } = event
        else {
            return Ok(());
        };
        let Some((_, prompts)) = observed.started.take().filter(|started| started.0 == index) else {
            return Err(environment(format!("the worker finished sequence {index}, which it had not started")));
        };
        if let Some((frames, worst_ms)) = late.filter(|l| l.0 > 0) {
            record.notes.push(Note::new(
                NoteKind::LateFrames,
                format!(
                    "video {video}: the decoder brought {} late, by up to {worst_ms:.0} ms; a camera would not",
                    plural(frames, "frame", "frames")
                ),
            ));
        }
        self.plan.content.check_truth(&video, &read.truth).map_err(|e| (FaultClass::Input, e.to_string()))?;
        record.notes.extend(live.as_ref().map(|live| Note::new(NoteKind::Setup, live.words())));
        let frames_sha256 = read.frames_sha256;
        let spool = self.dir.spool_file(self.index, index);
        observed.spans.push((video.clone(), span));
        observed.finished.push(Finished {
            index,
            video,
            frames,
            wall_ms,
            span,
            stalls,
            prompts,
            spool,
            frames_sha256,
            live,
            found,
            taken,
            labels,
        });
        self.progress.frames(self.frames_before(observed));
        let state = resume::CellProgress { record: record.clone(), finished: observed.finished.clone() };
        let file = self.dir.progress(self.index);
        store::write_json(&file, &state).map_err(|e| environment(format!("cannot write {}: {e}", file.display())))?;
        Ok(())
    }

    /// Frames of this cell before the sequence under way.
    fn frames_before(&self, observed: &Observed) -> u64 {
        observed.finished.iter().map(|f| f.frames as u64).sum()
    }

    /// What the sampling thread saw: peak memory and the hottest sensor. Nothing where no worker came up.
    fn peak(&self, record: &mut CellRecord, observed: &mut Observed, telemetry: &Telemetry) {
        if observed.phase.is_none() {
            return;
        }
        let spans: Vec<telemetry::Span> = observed.spans.iter().map(|s| s.1).collect();
        let rivals = verdict::rivals(&Conditions::seen(telemetry, &spans));
        record.notes.extend(observed.memory.peak(telemetry, rivals, &mut record.memory));
        let hottest = telemetry.channels.iter().filter(|c| c.is_temperature());
        if let Some(celsius) = hottest.filter_map(|c| telemetry.largest(c)).max_by(f64::total_cmp) {
            record.notes.push(Note::new(NoteKind::Temperature, format!("hottest sensor: {celsius:.1} °C")));
        }
    }

    /// Writes the samples beside those of an earlier attempt.
    fn keep(&self, telemetry: &Telemetry, begun: &[(Phase, u64)]) -> std::io::Result<()> {
        let path = self.dir.telemetry(self.index);
        let mut bytes = files::read(&path, files::LARGE).unwrap_or_default();
        let cell = [self.cell.model.clone(), self.cell.dtype.to_string(), self.cell.device.to_string()];
        bytes.extend(csv::samples(&cell, telemetry, begun, self.repeat + 1));
        store::write_atomic(&path, &bytes)
    }

    /// Does this cell give names that the dataset has as categories? If none of them is one, a score by class would be 0 whatever was found.
    fn scores_classes(&self) -> bool {
        self.cell.has_class_among(self.plan.dataset.categories.names())
    }

    /// Grades every finished sequence; stops at the first that cannot be graded.
    fn grade(&self, record: &mut CellRecord, observed: &Observed) -> Result<(), String> {
        let dataset = &self.plan.dataset;
        let settings = &self.plan.settings;
        let first = self.repeat == 0;
        let mut extras = Extras {
            number: 0,
            masks: if first { settings.save_masks } else { MaskFiles::Off },
            masks_root: outputs::masks(&self.dir.path, self.cell),
            overlays: if first { settings.overlays } else { Overlays::Off },
            overlays_root: outputs::overlays(&self.dir.path, self.cell),
            classes: self.cell.pack.classes.clone(),
            labels: self.cell.labels.as_ref().map(|pack| pack.classes.clone()).unwrap_or_default(),
            panoptic: self.cell.pack.panoptic.clone(),
            categories: None,
            overlaps: options::keeps_overlaps(self.cell),
        };
        let by_class = self.scores_classes();
        self.progress.phase(Phase::Score);
        let what = if extras.overlays != Overlays::Off { "scoring, drawing overlays" } else { "scoring" };
        self.progress.grading(what, self.frames_before(observed));
        for finished in &observed.finished {
            let sequence = dataset.sequences.get(finished.index).filter(|s| s.name == finished.video);
            let sequence = sequence.ok_or_else(|| format!("the worker tracked an unknown video {}", finished.video))?;
            let (mut watched, witness) = sequence.watched();
            if finished.live.is_some() {
                watched.frames = live::frames(finished.frames);
            }
            let place = self.plan.list.iter().position(|name| *name == finished.video);
            extras.number = place.map_or(0, |place| place + 1);
            extras.categories = by_class.then(|| dataset.categories.of(&finished.video));
            let Graded { record: mut graded, missing } =
                grade::grade(&watched, finished, dataset.kind, &extras, &|| self.progress.graded())
                    .map_err(|e| e.to_string())?;
            let length = settings.loop_frames.unwrap_or(sequence.frames.len());
            let content = &self.plan.content;
            content
                .check_truth(&finished.video, &watched.truth_seen(&witness))
                .and_then(|()| content.check_frames(sequence, length, &finished.frames_sha256))
                .map_err(|e| e.to_string())?;
            graded.truth_sha256 = content.truth_sha256(&finished.video);
            graded.fps = Some(settings.fps.unwrap_or(sequence.fps)).filter(|fps| *fps > 0.0);
            if let clock @ Clock::Stamps(times) = sequence.clock(settings.fps) {
                graded.deadlines_ms = (0..times.len()).map(|i| clock.interval_ns(i) as f64 / 1e6).collect();
            }
            record.sequences.push(graded);
            record.notes.extend(missing.into_iter().map(|text| Note::new(NoteKind::Output, text)));
        }
        let panoptic = extras.masks == MaskFiles::Vipseg;
        if (panoptic || extras.masks == MaskFiles::YoutubeVis) && record.sequences.len() == dataset.sequences.len() {
            let videos = dataset.sequences.iter().map(|s| s.name.as_str());
            let joined = track_files::join_results(&extras.masks_root, panoptic, videos);
            record.notes.extend(joined.err().map(|e| Note::new(NoteKind::Output, e.to_string())));
        }
        // Plan order, whatever an interruption has done to it.
        let place = |name: &str| dataset.sequences.iter().position(|s| s.name == name);
        record.sequences.sort_by_cached_key(|s| place(&s.video));
        let place = self.dir.path.join(thumb::DIR).join(self.index.to_string());
        if let Err(e) =
            pictures::leave(&place, (&dataset.sequences, dataset.kind), &record.sequences, &observed.finished)
        {
            record
                .notes
                .push(Note::new(NoteKind::Output, format!("pictures of the worst moments could not be made: {e}")));
        }
        Ok(())
    }
}

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
        if let (Some(old), Some(new)) = (self.peak, record.memory.get_mut(&MemoryPhase::Peak)) {
            new.raise_to(&old);
        }
        // A worker that never came to load anything leaves the old one's runtime standing.
        record.runtime = record.runtime.take().or(self.runtime);
    }
}

/// Takes over what the runner says of itself once it is open.
fn loaded(record: &mut CellRecord, report: OpenReport) {
    record.graph_load_ms = report.graph_load_ms;
    record.graph_build_ms = report.graph_build_ms;
    record.options.passed.retain(|(name, _)| !report.dropped.iter().any(|d| d.name == *name));
    record.options.dropped.extend(report.dropped);
    record.runtime = (!report.runtime_version.is_empty()).then(|| RuntimeRecord {
        version: report.runtime_version,
        path: report.runtime_path.display().to_string(),
        plugin: report.plugin,
    });
    record.notes.extend(report.notes.into_iter().map(|text| Note::new(NoteKind::Setup, text)));
    record.fallbacks = report.fallbacks;
}

/// The precision in effect: one phrase when all graphs agree, else each phrase once.
fn effective(stages: &[StagePrecision]) -> Option<String> {
    let mut phrases: Vec<&str> = Vec::new();
    for stage in stages {
        if !phrases.contains(&stage.effective.as_str()) {
            phrases.push(&stage.effective);
        }
    }
    (!phrases.is_empty()).then(|| phrases.join("; "))
}
