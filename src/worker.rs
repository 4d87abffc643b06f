//! The child process of one cell: opens the runner, warms it up with one frame, tracks every sequence, and says on
//! stdout what happened. It measures and does nothing else: scoring, judging and writing results are the parent's, after
//! this process has gone. A fresh process per cell keeps one cell's memory, heat-up and crashes out of the next.

use std::fs::File;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use jetbench_runners::types::{Frame, FrameMasks, Mask, OpenRequest, Prompt};
use jetbench_runners::{Runner, RunnerError, packs};

use crate::dataset::{DataError, Dataset, DecodedFrame, FrameReader, RgbFrame, Sequence};
use crate::event::{Event, FaultClass, Job, PROTOCOL, Phase};
use crate::exit;
use crate::plan;
use crate::prompt;
use crate::record::WarmupRecord;
use crate::spool::{self, FrameTimes, ms};
use crate::telemetry;

/// Frames decoded ahead of the one being tracked.
const READ_AHEAD: usize = 2;
/// Time between two signs of life while tracking.
const TICK: Duration = Duration::from_millis(200);

/// Why a worker gives up.
struct Fault {
    class: FaultClass,
    error: String,
}

impl From<RunnerError> for Fault {
    fn from(error: RunnerError) -> Self {
        Fault { class: FaultClass::from(&error), error: error.to_string() }
    }
}

impl From<DataError> for Fault {
    fn from(error: DataError) -> Self {
        Fault { class: FaultClass::Input, error: error.to_string() }
    }
}

/// The worker's voice. Writing fails only when the parent has gone; then there is nobody to work for.
struct Voice {
    out: File,
    phase: Phase,
}

impl Voice {
    fn say(&mut self, event: &Event) {
        let sent = serde_json::to_string(event).map_err(io::Error::from).and_then(|mut line| {
            line.push('\n');
            self.out.write_all(line.as_bytes())
        });
        if let Err(e) = sent {
            eprintln!("worker: the parent cannot be reached: {e}");
            std::process::exit(i32::from(exit::NOT_VALID));
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let memory = telemetry::process_memory("/".as_ref(), "self", true);
        self.say(&Event::Phase { phase, memory });
    }
}

/// Runs the job on stdin; the exit code says whether it went through.
pub fn main() -> u8 {
    let out = match private_stdout() {
        Ok(out) => out,
        Err(e) => {
            eprintln!("worker: no stdout to speak on: {e}");
            return exit::NOT_VALID;
        }
    };
    let mut voice = Voice { out, phase: Phase::Idle };
    voice.say(&Event::Hello { protocol: PROTOCOL });
    let mut text = String::new();
    let job = io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())
        .and_then(|_| serde_json::from_str::<Job>(&text).map_err(|e| e.to_string()))
        .and_then(|job| match job.protocol {
            PROTOCOL => Ok(job),
            other => Err(format!("protocol {other}, this worker speaks {PROTOCOL}")),
        })
        .map_err(|e| Fault { class: FaultClass::Inference, error: format!("the job cannot be read: {e}") });
    let result = job.and_then(|job| {
        // A panic in a runner must reach the record as what it is; the default hook still tells the log where.
        let caught = catch_unwind(AssertUnwindSafe(|| work(&job, &mut voice)));
        caught.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            let error = format!("panic: {}", text.unwrap_or("without a message"));
            Err(Fault { class: FaultClass::Inference, error })
        })
    });
    match result {
        Ok(()) => {
            voice.say(&Event::Finished);
            exit::OK
        }
        Err(Fault { class, error }) => {
            let phase = voice.phase;
            voice.say(&Event::Failed { phase, class, error });
            exit::NOT_VALID
        }
    }
}

/// A handle on the stdout we were given; everything else that prints to stdout (native libraries do) now goes to
/// stderr, which is the log, so that it cannot garble the protocol.
fn private_stdout() -> io::Result<File> {
    use std::os::fd::FromRawFd;
    // SAFETY: plain descriptor calls; the duplicate is owned by the returned file alone.
    unsafe {
        let copy = libc::fcntl(libc::STDOUT_FILENO, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 || libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::from_raw_fd(copy))
    }
}

fn work(job: &Job, voice: &mut Voice) -> Result<(), Fault> {
    voice.enter(Phase::Idle);
    let dataset = plan::open_data(&job.data, job.limits)?;
    let mut runner = open(job, voice)?;
    let go_on = warm_up(job, &dataset, &mut runner, voice)?;
    if go_on {
        let todo = dataset.sequences.iter().enumerate().filter(|(index, _)| !job.skip.contains(index));
        for (index, sequence) in todo {
            track(job, index, sequence, runner.as_mut(), voice)?;
        }
    }
    voice.enter(Phase::Last);
    Ok(())
}

fn open(job: &Job, voice: &mut Voice) -> Result<Box<dyn Runner>, Fault> {
    voice.enter(Phase::Load);
    let started = Instant::now();
    let opened = packs::open(&request(job));
    let load_ms = ms(started.elapsed());
    let runner = opened.inspect_err(|error| {
        let record = WarmupRecord {
            load_only_ok: Some(false),
            load_only_error: Some(error.to_string()),
            frame_error: Some("not reached: the runner could not be opened".into()),
            ..WarmupRecord::default()
        };
        voice.say(&Event::Warmup { record });
    })?;
    voice.say(&Event::Loaded { load_ms, report: runner.open_report().clone(), precision: runner.precision() });
    voice.enter(Phase::Loaded);
    Ok(runner)
}

fn request(job: &Job) -> OpenRequest {
    OpenRequest {
        pack: job.pack.clone(),
        precision: job.dtype,
        device: job.device,
        options: job.options.clone(),
        ort_lib: job.ort_lib.clone(),
    }
}

/// One frame, twice: with its prompts, then once more as a tracked frame, so that every graph has run (and every lazy
/// initialisation happened) before anything is timed. Says whether to go on.
fn warm_up(job: &Job, dataset: &Dataset, runner: &mut Box<dyn Runner>, voice: &mut Voice) -> Result<bool, Fault> {
    voice.enter(Phase::Warmup);
    let sequence = &dataset.sequences[0];
    let at = sequence.objects.iter().map(|o| o.prompt_frame).min().unwrap_or(0);
    let image = sequence.picker().frame(at)?;
    let (prompts, full): (Vec<_>, Vec<_>) =
        prompts(job, sequence)?.into_iter().filter(|p| p.frame == at).map(|p| (p.prompt, p.full)).unzip();
    let mut record = WarmupRecord::default();
    let started = Instant::now();
    let result = step(runner.as_mut(), &image, &prompts).and_then(|first| {
        record.faults.extend(mask_faults(&first, &full, "prompted"));
        let second = step(runner.as_mut(), &image, &[])?;
        record.faults.extend(mask_faults(&second, &full, "tracked"));
        Ok(())
    });
    match result {
        Ok(()) => {
            record.frame_ok = true;
            record.warmup_ms = Some(ms(started.elapsed()));
            runner.reset();
            let _ = runner.take_stage_times();
            let go_on = record.faults.is_empty() || job.keep_going;
            voice.say(&Event::Warmup { record });
            voice.enter(Phase::Warmed);
            Ok(go_on)
        }
        Err(error) => {
            record.frame_error = Some(error.to_string());
            // Does the model load at all, without a frame? A fresh opening tells a broken graph from a broken frame.
            let again = packs::open(&request(job)).map(drop);
            record.load_only_ok = Some(again.is_ok());
            record.load_only_error = again.as_ref().err().map(ToString::to_string);
            voice.say(&Event::Warmup { record });
            let outcome = match again {
                Ok(()) => "opening it without a frame works".to_string(),
                Err(e) => format!("opening it again without a frame fails too: {e}"),
            };
            Err(Fault { class: FaultClass::from(&error), error: format!("{error}; {outcome}") })
        }
    }
}

fn step(runner: &mut dyn Runner, image: &RgbFrame, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError> {
    runner.step(Frame { width: image.width, height: image.height, rgb: &image.rgb }, prompts)
}

/// What is wrong with warm-up masks: nothing there, everything there (although the object does not fill the frame),
/// values that are no numbers, objects without a result.
fn mask_faults(masks: &FrameMasks, full: &[bool], pass: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if masks.objects.len() != full.len() {
        faults.push(format!("{} masks for {} objects ({pass} frame)", masks.objects.len(), full.len()));
    }
    for (object, &full) in masks.objects.iter().zip(full) {
        let fault = match &object.mask {
            _ if !object.finite => "non-finite output",
            // Not the mask itself: another object may have taken all of it.
            _ if !object.claimed => "empty mask",
            mask if mask.is_full() && !full => "full mask",
            _ => continue,
        };
        faults.push(format!("{fault} for object {} ({pass} frame)", object.object));
    }
    faults
}

/// A prompt, the frame it is given on, and whether the object fills that frame.
struct Planned {
    frame: usize,
    prompt: Prompt,
    full: bool,
}

/// All prompts of a sequence, made before its clock starts.
fn prompts(job: &Job, sequence: &Sequence) -> Result<Vec<Planned>, Fault> {
    let mut planned = Vec::new();
    for object in &sequence.objects {
        let frame = object.prompt_frame;
        let truth: Mask = sequence.truth(object, frame)?;
        let shape = prompt::prompt_shape(job.prompt, &truth, job.clicks).ok_or_else(|| Fault {
            class: FaultClass::Input,
            error: format!("video {}, object {}: its prompt frame has an empty mask", sequence.name, object.name),
        })?;
        planned.push(Planned { frame, prompt: Prompt { object: object.id, shape }, full: truth.is_full() });
    }
    Ok(planned)
}

/// Tracks one sequence and leaves its spool file.
fn track(
    job: &Job,
    index: usize,
    sequence: &Sequence,
    runner: &mut dyn Runner,
    voice: &mut Voice,
) -> Result<(), Fault> {
    voice.phase = Phase::Track;
    let planned = prompts(job, sequence)?;
    let tick = if job.loop_frames.is_some() { Duration::ZERO } else { TICK };
    let path = job.spool.join(format!("{index}.spool"));
    runner.reset();
    voice.say(&Event::SequenceStarted { index });
    let started = telemetry::now_ns();
    let frames = sequence.looped_reader(job.loop_frames.unwrap_or(sequence.frames.len()), READ_AHEAD);
    let (writer, done) = track_frames(sequence, &planned, frames, &path, runner, voice, tick)?;
    let span = (started, telemetry::now_ns());
    let wall_ms = (span.1 - span.0) as f64 / 1e6;
    writer.finish().map_err(|e| disk(&path, &e))?;
    let (width, height) = (sequence.width, sequence.height);
    voice.say(&Event::SequenceDone { index, video: sequence.name.clone(), width, height, frames: done, wall_ms, span });
    Ok(())
}

fn disk(path: &Path, error: &io::Error) -> Fault {
    Fault { class: FaultClass::Environment, error: format!("cannot write {}: {error}", path.display()) }
}

/// The timed loop: from a decoded frame to its masks, then (outside the latency) the masks to the spool file.
fn track_frames(
    sequence: &Sequence,
    planned: &[Planned],
    frames: FrameReader,
    path: &Path,
    runner: &mut dyn Runner,
    voice: &mut Voice,
    tick: Duration,
) -> Result<(spool::Writer, usize), Fault> {
    let mut writer = spool::Writer::create(path, sequence.width, sequence.height).map_err(|e| disk(path, &e))?;
    let mut done = 0;
    let mut ticked = Instant::now();
    for image in frames {
        let DecodedFrame { index, frame, decode } = image?;
        let starting: Vec<Prompt> = planned.iter().filter(|p| p.frame == index).map(|p| p.prompt.clone()).collect();
        let started = Instant::now();
        let masks = step(runner, &frame, &starting);
        let latency = started.elapsed();
        let masks = masks.map_err(|e| Fault {
            class: FaultClass::from(&e),
            error: format!("video {}, frame {index}: {e}", sequence.name),
        })?;
        let times = FrameTimes { frame: index as u32, decode, latency, stages: runner.take_stage_times() };
        writer.frame(&times, &masks).map_err(|e| disk(path, &e))?;
        done = index + 1;
        if ticked.elapsed() >= tick {
            ticked = Instant::now();
            voice.say(&Event::Tick { frames: done, rss_mib: telemetry::resident_mib() });
        }
    }
    Ok((writer, done))
}
