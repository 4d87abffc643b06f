//! The child process of one cell: opens the runner, warms it up with one frame, tracks every sequence, and says on
//! stdout what happened. It measures and does nothing else: scoring, judging and writing results are the parent's, after
//! this process has gone. A fresh process per cell keeps one cell's memory, heat-up and crashes out of the next.

mod live;
mod warm_up;

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use jetbench_runners::digest::hex;
use jetbench_runners::types::{Device, FoundTracks, Frame, FrameMasks, Prompt, PromptKind, TakenTracks, TrackLabels};
use jetbench_runners::{Runner, RunnerError, packs, pool};

use crate::dataset::content::file_sha;
use crate::dataset::{Clock, DataError, Dataset, RgbFrame, Sequence};
use crate::exit;
use crate::judge::stats;
use crate::plan;
use crate::plan::content::{CHANGED, ReadContent};
use crate::plan::data::Source;
use crate::plan::scenario::{self, Scenario};
use crate::results::record::{NullRunRecord, WarmupRecord};
use crate::results::store;
use crate::run::beat::Beat;
use crate::run::event::{Event, FaultClass, Job, PROTOCOL, Phase};
use crate::run::prompt::{self, GivenPrompt, PlannedPrompt};
use crate::run::spool::{self, FrameTimes, ms};
use crate::telemetry;
use crate::text::say;

/// Frames decoded ahead of the one being tracked.
const READ_AHEAD: usize = 2;
/// The same when throughput counts, or a clock is running: far enough to hide any single slow frame.
const READ_FAR_AHEAD: usize = 32;
/// Frames of the null run.
const NULL_FRAMES: usize = 1000;
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

/// Writes events to the parent. Writing fails only when the parent has gone; then there is nobody to work for.
struct EventWriter {
    out: File,
    phase: Phase,
}

impl EventWriter {
    fn send(&mut self, event: &Event) {
        let sent = serde_json::to_string(event).map_err(io::Error::from).and_then(|mut line| {
            line.push('\n');
            self.out.write_all(line.as_bytes())
        });
        if let Err(e) = sent {
            say(&format!("worker: the parent cannot be reached: {e}"));
            std::process::exit(i32::from(exit::NOT_VALID));
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let memory = telemetry::process_memory("/".as_ref(), "self", true);
        self.send(&Event::Phase { phase, memory });
    }
}

/// Runs the job on stdin; the exit code says whether it went through.
pub fn main() -> u8 {
    let out = match private_stdout() {
        Ok(out) => out,
        Err(e) => {
            say(&format!("worker: no stdout to speak on: {e}"));
            return exit::NOT_VALID;
        }
    };
    let mut events = EventWriter { out, phase: Phase::Idle };
    events.send(&Event::Hello { protocol: PROTOCOL });
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
        let caught = catch_unwind(AssertUnwindSafe(|| work(&job, &mut events)));
        caught.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            let error = format!("panic: {}", text.unwrap_or("without a message"));
            Err(Fault { class: FaultClass::Inference, error })
        })
    });
    match result {
        Ok(()) => {
            events.send(&Event::Finished);
            exit::OK
        }
        Err(Fault { class, error }) => {
            let phase = events.phase;
            events.send(&Event::Failed { phase, class, error });
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

fn work(job: &Job, events: &mut EventWriter) -> Result<(), Fault> {
    events.enter(Phase::Idle);
    if job.device == Device::Cpu {
        pool::use_one_malloc_arena(); // before the first thread: reading the dataset starts some
    }
    let (prompts, live) = (job.prompts.as_ref(), job.live.as_ref());
    let source = Source { root: &job.data, layout: job.layout, prompts, live, fps: job.fps };
    let dataset = plan::data::open_data(&source, job.limits)?;
    if job.null_run {
        return null_run(job, &dataset, events);
    }
    let running = live.map(|live| live::Running::start(job, live, &dataset)).transpose()?;
    let (mut runner, began) = open(job, events)?;
    let first = running.as_ref().map(|running| &running.image);
    let go_on = warm_up::warm_up(job, &dataset, first, &mut runner, events, began)?;
    if let Some(running) = running.filter(|_| go_on) {
        running.track(job, &dataset, runner.as_mut(), events)?;
    } else if go_on {
        let todo = dataset.sequences.iter().enumerate().filter(|(index, _)| !job.skip.contains(index));
        for (index, sequence) in todo {
            track(job, index, sequence, runner.as_mut(), events)?;
        }
    }
    events.enter(Phase::Last);
    Ok(())
}

/// The runner, and when loading it began.
fn open(job: &Job, events: &mut EventWriter) -> Result<(Box<dyn Runner>, Instant), Fault> {
    events.enter(Phase::Load);
    let planned = libraries_are_planned(job).and_then(|()| packs_are_planned(job));
    // Reading a library for its digest is no part of loading it.
    let began = Instant::now();
    let opened = planned.and_then(|()| match &job.labels {
        Some(labels) => packs::open_labelled(&job.request(), labels),
        None => packs::open(&job.request()),
    });
    let load_ms = ms(began.elapsed());
    // Once more: it could have been replaced between the two.
    let opened = opened.and_then(|runner| packs_are_planned(job).map(|()| runner));
    let runner = opened.inspect_err(|error| {
        let record = WarmupRecord {
            load_only_ok: Some(false),
            load_only_error: Some(error.to_string()),
            frame_error: Some("not reached: the runner could not be opened".into()),
            ..WarmupRecord::default()
        };
        events.send(&Event::Warmup { record });
    })?;
    events.send(&Event::Loaded { load_ms, report: runner.open_report().clone(), precision: runner.precision() });
    events.enter(Phase::Loaded);
    Ok((runner, began))
}

/// Are the packs the planned ones?
fn packs_are_planned(job: &Job) -> Result<(), RunnerError> {
    for (pack, planned) in std::iter::once(&job.pack).chain(&job.detector).chain(&job.labels).zip(&job.pack_digests) {
        let found = packs::digest_of(pack)?;
        if found != *planned {
            return Err(RunnerError::Pack(format!(
                "{CHANGED}: pack {} (digest {planned} then, {found} now); figures of it would be of another model: restore it, or start a new run",
                pack.display(),
            )));
        }
    }
    Ok(())
}

/// Are ONNX Runtime and the plugin library the planned ones?
fn libraries_are_planned(job: &Job) -> Result<(), RunnerError> {
    job.libraries.iter().try_for_each(|(library, planned)| {
        let found = file_sha(library).map_or_else(|e| e.to_string(), |sha| format!("SHA-256 {}", hex(&sha)));
        let planned = format!("SHA-256 {planned}");
        match found == planned {
            true => Ok(()),
            false => Err(RunnerError::Environment(format!(
                "{CHANGED}: {} ({planned} then, {found} now); figures of it would be of another runtime: restore it, or start a new run",
                library.display()
            ))),
        }
    })
}

fn view(image: &RgbFrame) -> Frame<'_> {
    Frame { width: image.width, height: image.height, rgb: &image.rgb }
}

/// Tracks one sequence and leaves its spool file.
fn track(
    job: &Job,
    index: usize,
    sequence: &Sequence,
    runner: &mut dyn Runner,
    events: &mut EventWriter,
) -> Result<(), Fault> {
    events.phase = Phase::Track;
    let (watched, witness) = sequence.watched();
    let sequence = &watched;
    let mut planned = prompt::plan(sequence, job.prompt, job.clicks)?;
    let path = job.spool.join(format!("{index}.spool"));
    let mut writer = spool::Writer::create(&path, sequence.width, sequence.height).map_err(|e| disk(&path, &e))?;
    let tick = if job.loop_frames.is_some() { Duration::ZERO } else { TICK };
    let length = job.loop_frames.unwrap_or(sequence.frames.len());
    planned.retain(|p| p.frame < length);
    runner.reset();
    events.send(&Event::SequenceStarted { index, prompts: planned.iter().map(GivenPrompt::from).collect() });
    let beat = Beat::start();
    let started = telemetry::now_ns();
    let read = |ahead: usize| {
        let reader = sequence.looped_reader(length, ahead);
        let home = reader.home();
        reader.map(move |frame| {
            let decoded = frame?;
            let frame = Lent { frame: decoded.frame, home: home.clone() };
            Ok(Arrived { index: decoded.index, frame, decode: decoded.decode })
        })
    };
    let mut heartbeat = Heartbeat { events, tick, ticked: Instant::now() };
    let mut frame_loop = FrameLoop::new(&sequence.name, &planned, runner, &mut heartbeat);
    let mut late = None;
    let (done, wall_end) = match job.scenario {
        Scenario::SingleStream => {
            let done = frame_loop.one_by_one(read(READ_AHEAD), false, &mut |times, masks| {
                writer.frame(&times, &masks).map_err(|e| disk(&path, &e))?;
                Ok(Some(masks))
            })?;
            (done, telemetry::now_ns())
        }
        Scenario::Offline => {
            let done =
                written_beside(&mut writer, &path, |sink| frame_loop.one_by_one(read(READ_FAR_AHEAD), true, sink))?;
            (done, telemetry::now_ns())
        }
        Scenario::Realtime => {
            let clock = sequence.clock(job.fps);
            let (done, behind) = frame_loop.on_the_clock(read(READ_FAR_AHEAD), length, clock, &mut writer, &path)?;
            late = Some(behind);
            (done, telemetry::now_ns())
        }
    };
    let found = frame_loop.found(job, done)?;
    let taken = frame_loop.taken(done);
    let labels = frame_loop.labels(done)?;
    let stalls = beat.stop();
    let span = (started, wall_end);
    let wall_ms = (span.1 - span.0) as f64 / 1e6;
    writer.finish().map_err(|e| disk(&path, &e))?;
    let (width, height) = (sequence.width, sequence.height);
    let video = sequence.name.clone();
    let read = ReadContent::of(sequence, length, &witness)?;
    events.send(&Event::SequenceDone {
        index,
        video,
        width,
        height,
        frames: done,
        wall_ms,
        span,
        late,
        read,
        stalls,
        live: None,
        found,
        taken,
        labels,
    });
    Ok(())
}

/// Runs `frames`, whose masks are turned into run lengths and written by a thread of its own, beside the next frame's work.
fn written_beside(
    writer: &mut spool::Writer,
    path: &Path,
    frames: impl FnOnce(FrameSink<'_>) -> Result<usize, Fault>,
) -> Result<usize, Fault> {
    let (send, receive) = std::sync::mpsc::sync_channel::<(FrameTimes, FrameMasks)>(8);
    let (back, written_masks) = std::sync::mpsc::sync_channel::<FrameMasks>(16);
    std::thread::scope(|scope| {
        let write = |(times, masks): (FrameTimes, FrameMasks)| {
            writer.frame(&times, &masks)?;
            let _ = back.try_send(masks);
            Ok(())
        };
        let written = scope.spawn(|| receive.into_iter().try_for_each(write));
        // A writer that has failed has hung up; its own error says why.
        let done = frames(&mut |times, masks| {
            let _ = send.send((times, masks));
            Ok(written_masks.try_recv().ok())
        });
        drop(send);
        written
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the writing thread died")))
            .map_err(|e| disk(path, &e))?;
        done
    })
}

fn disk(path: &Path, error: &io::Error) -> Fault {
    Fault {
        class: FaultClass::Environment,
        error: format!("cannot write {}: {error}{}", path.display(), store::remedy(error)),
    }
}

/// A decoded frame on its way into the loop.
struct Arrived<F> {
    index: usize,
    frame: F,
    decode: Duration,
}

/// A frame whose memory goes back to the decoder when it is no longer needed.
struct Lent {
    frame: RgbFrame,
    home: SyncSender<Vec<u8>>,
}

impl Borrow<RgbFrame> for Lent {
    fn borrow(&self) -> &RgbFrame {
        &self.frame
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Where there is no room the memory is simply freed.
        let _ = self.home.try_send(std::mem::take(&mut self.frame.rgb));
    }
}

/// Signs of life between frames.
struct Heartbeat<'a> {
    events: &'a mut EventWriter,
    tick: Duration,
    ticked: Instant,
}

impl Heartbeat<'_> {
    fn beat(&mut self, done: usize) {
        if self.ticked.elapsed() >= self.tick {
            self.ticked = Instant::now();
            self.events.send(&Event::Tick { frames: done, rss_mib: telemetry::resident_mib() });
        }
    }
}

/// What takes one frame after the other; gives back masks that it no longer needs, of this frame or an earlier one.
type FrameSink<'a> = &'a mut dyn FnMut(FrameTimes, FrameMasks) -> Result<Option<FrameMasks>, Fault>;

/// The timed loop over one video.
struct FrameLoop<'a, 'b> {
    video: &'a str,
    planned: &'a [PlannedPrompt],
    runner: &'a mut dyn Runner,
    heartbeat: &'a mut Heartbeat<'b>,
    /// The frame of every step of the runner.
    steps: Vec<u32>,
}

impl<'a, 'b> FrameLoop<'a, 'b> {
    fn new(
        video: &'a str,
        planned: &'a [PlannedPrompt],
        runner: &'a mut dyn Runner,
        heartbeat: &'a mut Heartbeat<'b>,
    ) -> Self {
        FrameLoop { video, planned, runner, heartbeat, steps: Vec::new() }
    }

    /// What the objects are called; a long time may pass until it is known.
    fn labels(&mut self, done: usize) -> Result<Option<TrackLabels>, Fault> {
        let heartbeat = &mut *self.heartbeat;
        Ok(self.runner.take_labels(&mut || heartbeat.beat(done))?)
    }

    /// The tracks that a detector founded, on the frames of the video instead of steps; `length`: its frames. A dropped frame is no
    /// step: it belongs to the one before it.
    fn found(&mut self, job: &Job, length: usize) -> Result<Option<FoundTracks>, Fault> {
        let found = self.runner.take_tracks().filter(|_| job.finds());
        if job.finds() != found.is_some() {
            let error = format!("video {}: the runner says nothing of the tracks that it founded", self.video);
            return Err(Fault { class: FaultClass::Inference, error });
        }
        Ok(found.map(|mut found| {
            for track in &mut found.tracks {
                (track.birth, track.end) = (self.frame_of(track.birth, length), self.frame_of(track.end, length));
            }
            found
        }))
    }

    /// The tracks that prompted objects took, likewise.
    fn taken(&mut self, length: usize) -> Option<TakenTracks> {
        let mut taken = self.runner.taken_tracks()?;
        for object in &mut taken.objects {
            object.end = object.end.map(|end| self.frame_of(end, length));
        }
        Some(taken)
    }

    /// The frame of a step.
    fn frame_of(&self, step: u32, length: usize) -> u32 {
        self.steps.get(step as usize).copied().unwrap_or(length as u32)
    }

    /// One frame: from RGB bytes in host memory to masks in host memory. `next` is begun with, where the runner works ahead;
    /// `begun` is when that happened to this frame: its latency counts from then.
    fn one<F: Borrow<RgbFrame>>(
        &mut self,
        arrived: &Arrived<F>,
        next: Option<&Arrived<F>>,
        begun: Option<Instant>,
    ) -> Result<(FrameTimes, FrameMasks), Fault> {
        let index = arrived.index;
        let starting: Vec<Prompt> =
            self.planned.iter().filter(|p| p.frame == index).map(|p| p.prompt.clone()).collect();
        let next = next.map(|next| view(next.frame.borrow()));
        let started = begun.unwrap_or_else(Instant::now);
        let masks = self.runner.step_ahead(view(arrived.frame.borrow()), &starting, next);
        let latency = started.elapsed();
        self.steps.push(index as u32);
        let masks = masks.map_err(|e| Fault {
            class: FaultClass::from(&e),
            error: format!("video {}, frame {index}: {e}", self.video),
        })?;
        let stages = self.runner.take_stage_times();
        Ok((FrameTimes { frame: index as u32, decode: arrived.decode, latency, stages, response: None }, masks))
    }

    /// Every frame, each as soon as the one before is done; with `ahead`, a runner that can do so begins with the next one
    /// before that. What happens to the masks is outside the latency.
    fn one_by_one<F: Borrow<RgbFrame>>(
        &mut self,
        mut frames: impl Iterator<Item = Result<Arrived<F>, DataError>>,
        ahead: bool,
        sink: FrameSink<'_>,
    ) -> Result<usize, Fault> {
        let ahead = ahead && self.runner.works_ahead();
        let mut done = 0;
        let (mut waiting, mut begun) = (frames.next().transpose()?, None);
        while let Some(arrived) = waiting {
            let next = if ahead { frames.next().transpose()? } else { None };
            let handed_over = next.as_ref().map(|_| Instant::now());
            let (times, masks) = self.one(&arrived, next.as_ref(), begun)?;
            if let Some(masks) = sink(times, masks)? {
                self.runner.recycle(masks);
            }
            done = arrived.index + 1;
            self.heartbeat.beat(done);
            drop(arrived);
            (waiting, begun) = if ahead { (next, handed_over) } else { (frames.next().transpose()?, None) };
        }
        Ok(done)
    }

    /// Frames on a camera's clock: see [`scenario::next_frame`]. The clock starts when the first frame is there. Gives the
    /// frames of the clip, and how many frames the decoder brought late and by how much.
    fn on_the_clock(
        &mut self,
        mut frames: impl Iterator<Item = Result<Arrived<Lent>, DataError>>,
        length: usize,
        times: Clock<'_>,
        writer: &mut spool::Writer,
        path: &Path,
    ) -> Result<(usize, (usize, f64)), Fault> {
        let prompted = |index: usize| self.planned.iter().any(|p| p.frame == index);
        let prompted: Vec<bool> = (0..length).map(prompted).collect();
        let Some(mut waiting) = frames.next().transpose()? else { return Ok((0, (0, 0.0))) };
        let clock = Instant::now();
        let since = || clock.elapsed().as_nanos() as u64;
        let (mut last, mut late) = (None, (0, 0.0f64));
        while let Some(next) = scenario::next_frame(since(), last, length, times, |i| prompted[i]) {
            let asked = since();
            while waiting.index < next.index {
                let Some(frame) = frames.next().transpose()? else { break };
                waiting = frame;
            }
            let there = since();
            if let Some(wait) = next.arrives_ns.checked_sub(there) {
                std::thread::sleep(Duration::from_nanos(wait));
            } else if there - asked.max(next.arrives_ns) > times.interval_ns(next.index) / 2 {
                // It should have waited in the camera's buffer; it was the decoder that kept us.
                late = (late.0 + 1, late.1.max((there - asked.max(next.arrives_ns)) as f64 / 1e6));
            }
            for dropped in last.map_or(0, |l: usize| l + 1)..next.index {
                writer.dropped(dropped as u32).map_err(|e| disk(path, &e))?;
            }
            let (mut times, masks) = self.one(&waiting, None, None)?;
            times.response = Some(Duration::from_nanos(since().saturating_sub(next.arrives_ns)));
            writer.frame(&times, &masks).map_err(|e| disk(path, &e))?;
            self.runner.recycle(masks);
            last = Some(next.index);
            self.heartbeat.beat(next.index + 1);
        }
        Ok((length, late))
    }
}

/// Measures the harness itself: the scripted runner without latency, on one frame that is already decoded, through the
/// loop and the spool of every cell.
fn null_run(job: &Job, dataset: &Dataset, events: &mut EventWriter) -> Result<(), Fault> {
    let sequence = &dataset.sequences[0];
    let mut runner = jetbench_runners::null_runner();
    let at = sequence.objects.iter().map(|o| o.prompt_frame).min().unwrap_or(0);
    let image = match job.live {
        // Its frames are for the models.
        Some(_) => sequence.blank(),
        None => sequence.picker().frame(at)?,
    };
    // All objects start on this frame, so that each has a mask to be written from the first frame on.
    let kind = if job.prompt == PromptKind::Detector { PromptKind::Bbox } else { job.prompt };
    let mut planned = prompt::plan(sequence, kind, job.clicks)?;
    planned.iter_mut().for_each(|p| p.frame = 0);
    let path = job.spool.join("null.spool");
    let mut writer = spool::Writer::create(&path, image.width, image.height).map_err(|e| disk(&path, &e))?;
    let mut begins = Vec::with_capacity(NULL_FRAMES + 1);
    let mut heartbeat = Heartbeat { events, tick: TICK, ticked: Instant::now() };
    let mut frame_loop = FrameLoop::new(&sequence.name, &planned, runner.as_mut(), &mut heartbeat);
    let frames = (0..NULL_FRAMES).map(|index| {
        begins.push(Instant::now());
        Ok(Arrived { index, frame: &image, decode: Duration::ZERO })
    });
    frame_loop.one_by_one(frames, false, &mut |times, masks| {
        writer.frame(&times, &masks).map_err(|e| disk(&path, &e))?;
        Ok(Some(masks))
    })?;
    begins.push(Instant::now());
    writer.finish().map_err(|e| disk(&path, &e))?;
    let costs: Vec<f64> = begins.windows(2).map(|w| (w[1] - w[0]).as_secs_f64() * 1e6).collect();
    let sorted = stats::sorted(&costs);
    let record = NullRunRecord {
        frames: costs.len(),
        objects: planned.len(),
        width: image.width,
        height: image.height,
        median_us: stats::percentile(&sorted, 0.5).unwrap_or_default(),
        p95_us: stats::percentile(&sorted, 0.95).unwrap_or_default(),
    };
    events.send(&Event::NullRun { record });
    Ok(())
}
