//! Tracking a live source: its frames come by themselves, and those that come while another is being worked on are dropped.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use jetbench_runners::Runner;

use super::{Arrived, EventWriter, Fault, FrameLoop, Heartbeat, TICK, disk};
use crate::dataset::live::{Live, LiveKind, Source, Stop};
use crate::dataset::{DataError, Dataset, FFMPEG, Object, RgbFrame};
use crate::plan::content::ReadContent;
use crate::results::record::LiveRecord;
use crate::run::beat::Beat;
use crate::run::event::{Event, FaultClass, Job, Phase};
use crate::run::feed::{Feed, Next, Order};
use crate::run::prompt::{self, GivenPrompt};
use crate::run::spool;
use crate::telemetry;
use crate::text::plural;

/// A source under way, and the first frame that came from it.
pub(super) struct Running {
    feed: Feed,
    _stop: Stop,
    pub(super) image: RgbFrame,
    live: Live,
}

impl Running {
    /// Starts the source and waits for its first frame.
    pub(super) fn start(job: &Job, live: &Live, dataset: &Dataset) -> Result<Running, Fault> {
        let fail = |what: String| Fault::from(DataError(format!("{}: {what}", dataset.root.display())));
        let planned = (live.width, live.height);
        let mut source = match (live.kind, job.pipe) {
            // SAFETY: the parent gave this process the descriptor for this alone.
            (LiveKind::Pipe, Some(pipe)) => Source::of_pipe(unsafe { File::from_raw_fd(pipe) }, live.format, planned),
            (LiveKind::Pipe, None) => return Err(fail("the pipe was not handed over".to_string())),
            (kind, _) => Source::open(Path::new(FFMPEG), kind, &job.address, job.fps)?,
        };
        let order = Order {
            held: live.kind == LiveKind::Pipe,
            prompted: dataset.sequences[0].objects.iter().map(|o| o.prompt_frame).collect(),
            length: live.seconds.map(Duration::from_secs_f64),
            patience: Duration::from_secs_f64(job.patience_s.1),
        };
        let stop = source.stop();
        let feed = Feed::start(move |memory| source.next_frame(memory), order);
        let image = feed.first_image(Duration::from_secs_f64(job.patience_s.0)).map_err(&fail)?;
        if (image.width, image.height) != planned {
            return Err(fail(format!(
                "its frames are {}x{}, and were {}x{} when this run was planned; start a new run",
                image.width, image.height, live.width, live.height
            )));
        }
        Ok(Running { feed, _stop: stop, image, live: live.clone() })
    }

    /// Tracks what comes, and leaves the spool file of the only sequence.
    pub(super) fn track(
        self,
        job: &Job,
        dataset: &Dataset,
        runner: &mut dyn Runner,
        events: &mut EventWriter,
    ) -> Result<(), Fault> {
        events.phase = Phase::Track;
        let sequence = &dataset.sequences[0];
        let (width, height, video) = (sequence.width, sequence.height, sequence.name.clone());
        let planned = prompt::plan(sequence, job.prompt, job.clicks)?;
        let path = job.spool.join("0.spool");
        let mut writer = spool::Writer::create(&path, width, height).map_err(|e| disk(&path, &e))?;
        runner.reset();
        // The parent asks for an end when the user does; what came until then counts.
        ctrlc::set_handler(self.feed.stopper())
            .map_err(|e| Fault { class: FaultClass::Environment, error: format!("cannot listen for signals: {e}") })?;
        events.send(&Event::SequenceStarted { index: 0, prompts: planned.iter().map(GivenPrompt::from).collect() });
        let beat = Beat::start();
        let started = telemetry::now_ns();
        let mut heartbeat = Heartbeat { events, tick: TICK, ticked: Instant::now() };
        let mut frame_loop = FrameLoop::new(&video, &planned, runner, &mut heartbeat);
        let mut cut = frame_loop.as_they_come(&self.feed, &mut writer, &path)?;
        let span = (started, telemetry::now_ns());
        let found = frame_loop.found(job, self.feed.came().offered)?;
        let taken = frame_loop.taken(self.feed.came().offered);
        let labels = frame_loop.labels(self.feed.came().offered)?;
        let stalls = beat.stop();
        writer.finish().map_err(|e| disk(&path, &e))?;
        let came = self.feed.came();
        let late = sequence.objects.iter().find(|object| object.prompt_frame >= came.offered);
        cut = cut.or_else(|| {
            let Object { name, prompt_frame, .. } = late?;
            let frames = plural(came.offered, "frame", "frames");
            Some(format!("it ended after {frames}, before frame {prompt_frame}, on which object {name} has its prompt"))
        });
        let longest_gap_ms = came.longest_gap.map(spool::ms);
        let live = LiveRecord { clock: self.live.clock(), before: came.before, longest_gap_ms, cut };
        events.send(&Event::SequenceDone {
            index: 0,
            video,
            width,
            height,
            frames: came.offered,
            wall_ms: (span.1 - span.0) as f64 / 1e6,
            span,
            late: None,
            read: ReadContent::default(),
            stalls,
            live: Some(live),
            found,
            taken,
            labels,
        });
        Ok(())
    }
}

impl FrameLoop<'_, '_> {
    /// Frames as they come, until the feed is over: why before its time, if so. Every frame that was offered is written, tracked or dropped.
    fn as_they_come(&mut self, feed: &Feed, writer: &mut spool::Writer, path: &Path) -> Result<Option<String>, Fault> {
        feed.begin();
        let mut next = 0;
        let cut = loop {
            let (index, frame) = match feed.next(TICK) {
                Next::Frame(index, frame) => (index, frame),
                Next::Nothing => {
                    self.heartbeat.beat(next);
                    continue;
                }
                Next::Ended(cut) => break cut,
            };
            for dropped in next..index {
                writer.dropped(dropped as u32).map_err(|e| disk(path, &e))?;
            }
            let arrived = Arrived { index, frame: &frame.image, decode: frame.reading };
            let (mut times, masks) = self.one(&arrived, None, None)?;
            times.response = frame.captured.map(|captured| captured.elapsed());
            writer.frame(&times, &masks).map_err(|e| disk(path, &e))?;
            self.runner.recycle(masks);
            feed.give_back(frame);
            next = index + 1;
            self.heartbeat.beat(next);
        };
        for dropped in next..feed.came().offered {
            writer.dropped(dropped as u32).map_err(|e| disk(path, &e))?;
        }
        Ok(cut)
    }
}
