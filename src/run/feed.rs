//! How do live frames wait for the model? A thread takes them from their source as they come and keeps only what the rule of
//! [`Waiting`] keeps, so that memory stays flat. Every frame that is offered is either tracked or counted as dropped.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::dataset::RgbFrame;
use crate::dataset::live::LiveFrame;
use crate::plan::scenario::Waiting;

/// A source that says nothing for this long at its end may simply be slow.
const QUIET: Duration = Duration::from_secs(1);

/// What a feed is to do.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    /// The source waits while the model loads (a pipe), and its first frame is offered; else what comes meanwhile is let go.
    pub(super) held: bool,
    /// Frames with a prompt, by index among the offered ones.
    pub(super) prompted: Vec<usize>,
    /// Frames are offered for so long; `None`: until the source ends.
    pub(super) length: Option<Duration>,
    /// Longest time without a frame.
    pub(super) patience: Duration,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// A frame and its index.
    Frame(usize, LiveFrame),
    /// Nothing yet.
    Nothing,
    /// The feed is over; why before its time, if so.
    Ended(Option<String>),
}

/// How frames came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Came {
    /// Offered.
    pub(super) offered: usize,
    /// Before that.
    pub(super) before: u64,
    /// Longest time between two of those offered.
    pub(super) longest_gap: Option<Duration>,
}

/// Live frames on their way.
pub(super) struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    Open,
    Shut,
}

struct State {
    order: Order,
    stage: Stage,
    first: Option<LiveFrame>,
    waiting: Waiting<LiveFrame>,
    came: Came,
    /// When frames began to be offered.
    began: Instant,
    /// When the newest one came.
    last: Instant,
    /// The source has ended, and what it said; `None` within: as a pipe ends.
    ended: Option<Option<String>>,
    /// Memory of frames that have gone.
    spare: Vec<Vec<u8>>,
}

impl Feed {
    /// Starts to take frames from `source`, which is given memory for each and waits until one comes.
    pub(super) fn start(
        mut source: impl FnMut(Vec<u8>) -> Result<Option<LiveFrame>, String> + Send + 'static,
        order: Order,
    ) -> Feed {
        let now = Instant::now();
        let state = State {
            order,
            stage: Stage::Before,
            first: None,
            waiting: Waiting::default(),
            came: Came::default(),
            began: now,
            last: now,
            ended: None,
            spare: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            loop {
                let memory = theirs.state().spare.pop().unwrap_or_default();
                let ended = match source(memory) {
                    Ok(Some(frame)) => match theirs.take_in(frame) {
                        true => continue,
                        false => break,
                    },
                    Ok(None) => None,
                    Err(what) => Some(what),
                };
                theirs.state().ended.get_or_insert(ended);
                theirs.changed.notify_all();
                break;
            }
        });
        Feed { shared }
    }

    /// The first frame that came, when it has come.
    ///
    /// # Errors
    /// None comes within `patience`, or the source ends before.
    pub(super) fn first_image(&self, patience: Duration) -> Result<RgbFrame, String> {
        let waits = |state: &mut State| state.first.is_none() && state.ended.is_none();
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, patience, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (&state.first, &state.ended) {
            (Some(frame), _) => Ok(frame.image.clone()),
            (None, Some(Some(what))) => Err(what.clone()),
            (None, Some(None)) => Err("it ended before its first frame".to_string()),
            (None, None) => {
                Err(format!("no frame within {} s; is it on, and is the address right?", patience.as_secs_f64()))
            }
        }
    }

    /// From now on frames are offered. The first frame of a source that was held back counts as captured now.
    pub(super) fn begin(&self) {
        let mut state = self.shared.state();
        let now = Instant::now();
        (state.stage, state.began, state.last) = (Stage::Open, now, now);
        match state.first.take() {
            Some(first) if state.order.held => {
                state.offer(LiveFrame { arrived: now, captured: Some(now), ..first });
            }
            first => state.came.before += u64::from(first.is_some()),
        }
        self.shared.changed.notify_all();
    }

    /// What comes next, waited for as long as `wait`.
    pub(super) fn next(&self, wait: Duration) -> Next {
        let until = Instant::now() + wait;
        let mut state = self.shared.state();
        loop {
            if let Some((index, frame)) = state.waiting.take() {
                return Next::Frame(index, frame);
            }
            let now = Instant::now();
            if let Some(cut) = state.over(now) {
                state.stage = Stage::Shut;
                return Next::Ended(cut);
            }
            if now >= until {
                return Next::Nothing;
            }
            let end = state.end().map_or(until, |end| until.min(end));
            let waited = self.shared.changed.wait_timeout(state, end.saturating_duration_since(now));
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What ends the feed from any thread, when it is called.
    pub(super) fn stopper(&self) -> impl Fn() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || {
            let mut state = shared.state();
            state.stage = Stage::Shut;
            state.ended = Some(Some("interrupted".to_string()));
            shared.changed.notify_all();
        }
    }

    /// Takes back the memory of a frame.
    pub(super) fn give_back(&self, frame: LiveFrame) {
        self.shared.state().spare.push(frame.image.rgb);
    }

    /// How frames came.
    pub(super) fn came(&self) -> Came {
        self.shared.state().came
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a frame; are more wanted?
    fn take_in(&self, frame: LiveFrame) -> bool {
        let mut state = self.state();
        match state.stage {
            Stage::Before if state.first.is_none() => state.first = Some(frame),
            Stage::Before => {
                state.came.before += 1;
                state.spare.push(frame.image.rgb);
            }
            Stage::Open if state.end().is_some_and(|end| frame.arrived >= end) => return false,
            Stage::Open => state.offer(frame),
            Stage::Shut => return false,
        }
        self.changed.notify_all();
        let holds = |state: &mut State| state.order.held && state.stage == Stage::Before;
        let state = self.changed.wait_while(state, holds).unwrap_or_else(PoisonError::into_inner);
        state.stage != Stage::Shut
    }
}

impl State {
    fn offer(&mut self, frame: LiveFrame) {
        let index = self.came.offered;
        if index > 0 {
            let gap = frame.arrived.saturating_duration_since(self.last);
            self.came.longest_gap = Some(self.came.longest_gap.unwrap_or_default().max(gap));
        }
        self.last = frame.arrived;
        self.came.offered += 1;
        let prompted = self.order.prompted.contains(&index);
        let dropped = self.waiting.arrive(index, prompted, frame);
        self.spare.extend(dropped.map(|frame| frame.image.rgb));
    }

    /// When frames are no longer offered.
    fn end(&self) -> Option<Instant> {
        self.order.length.map(|length| self.began + length)
    }

    /// Is the feed over at this moment, with no frame left? If so, why before its time.
    fn over(&self, now: Instant) -> Option<Option<String>> {
        let ran = now.saturating_duration_since(self.began);
        let silence = now.saturating_duration_since(self.last);
        let of = self.order.length.map_or_else(String::new, |length| format!(" of {}", length.as_secs_f64()));
        if self.end().is_some_and(|end| now >= end) {
            let quiet = silence > quiet(self.came.longest_gap);
            return Some(quiet.then(|| format!("no frame came in the last {:.1}{of} s", silence.as_secs_f64())));
        }
        match &self.ended {
            Some(None) if self.order.length.is_none() => Some(None),
            Some(what) => {
                let what = what.as_deref().unwrap_or("the pipe ended");
                Some(Some(format!("the source was cut off after {:.1}{of} s: {what}", ran.as_secs_f64())))
            }
            None if silence >= self.order.patience => Some(Some(format!(
                "the source stalled after {:.1}{of} s: no frame for {} s",
                ran.as_secs_f64(),
                self.order.patience.as_secs_f64()
            ))),
            None => None,
        }
    }
}

/// How long a source may say nothing at its end without having stalled, by its longest gap before.
fn quiet(longest_gap: Option<Duration>) -> Duration {
    longest_gap.map_or(QUIET, |gap| QUIET.max(gap * 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    fn frame(value: u8) -> LiveFrame {
        let image = RgbFrame { width: 1, height: 1, rgb: vec![value; 3] };
        let now = Instant::now();
        LiveFrame { image, arrived: now, captured: Some(now), reading: Duration::ZERO }
    }

    const LONG: Duration = Duration::from_secs(600);

    /// A feed whose frames a test sends.
    fn feed(order: Order) -> (Feed, Sender<Result<Option<LiveFrame>, String>>) {
        let (send, come) = channel::<Result<Option<LiveFrame>, String>>();
        let order = Order { patience: LONG, ..order };
        (Feed::start(move |_| come.recv().unwrap_or(Ok(None)), order), send)
    }

    /// Waits until so many were offered.
    fn until_offered(feed: &Feed, count: usize) {
        while feed.came().offered < count {
            std::thread::yield_now();
        }
    }

    fn taken(feed: &Feed) -> Result<(usize, u8), Option<String>> {
        match feed.next(LONG) {
            Next::Frame(index, frame) => {
                let value = frame.image.rgb[0];
                feed.give_back(frame);
                Ok((index, value))
            }
            Next::Nothing => panic!("nothing within {LONG:?}"),
            Next::Ended(cut) => Err(cut),
        }
    }

    #[test]
    fn a_held_source_loses_nothing_while_the_model_loads_and_only_the_newest_waits_after() {
        let (feed, send) = feed(Order { held: true, prompted: vec![0, 2], ..Order::default() });
        (0..6).for_each(|i| send.send(Ok(Some(frame(i)))).unwrap());
        assert_eq!(feed.first_image(LONG).unwrap().rgb[0], 0);
        assert_eq!(feed.came(), Came::default(), "held back");
        feed.begin();
        until_offered(&feed, 6);
        assert_eq!([taken(&feed), taken(&feed), taken(&feed)], [Ok((0, 0)), Ok((2, 2)), Ok((5, 5))]);
        send.send(Ok(None)).unwrap();
        assert_eq!(taken(&feed), Err(None), "a pipe's end is an end");
        assert_eq!((feed.came().offered, feed.came().before), (6, 0));
        // Memory: what was dropped or given back is used again.
        assert!(feed.shared.state().spare.len() <= 6);
    }

    #[test]
    fn what_a_stream_sends_before_tracking_begins_is_counted_apart() {
        let (feed, send) = feed(Order::default());
        (0..4).for_each(|i| send.send(Ok(Some(frame(i)))).unwrap());
        while feed.came().before < 3 {
            std::thread::yield_now();
        }
        assert_eq!(feed.first_image(LONG).unwrap().rgb[0], 0);
        feed.begin();
        send.send(Ok(Some(frame(9)))).unwrap();
        assert_eq!(taken(&feed), Ok((0, 9)));
        assert_eq!((feed.came().offered, feed.came().before), (1, 4));
        send.send(Err("ffmpeg ended (exit status: 1)".into())).unwrap();
        let cut = taken(&feed).unwrap_err().unwrap();
        assert!(cut.starts_with("the source was cut off after") && cut.ends_with("(exit status: 1)"), "{cut}");
    }

    #[test]
    fn a_feed_that_is_stopped_takes_no_more_frames_and_says_so() {
        let (feed, send) = feed(Order { held: true, ..Order::default() });
        (0..2).for_each(|i| send.send(Ok(Some(frame(i)))).unwrap());
        feed.first_image(LONG).unwrap();
        feed.begin();
        until_offered(&feed, 2);
        feed.stopper()();
        // Until the source is let go of.
        while send.send(Ok(Some(frame(2)))).is_ok() && feed.came().offered == 2 {
            std::thread::yield_now();
        }
        assert_eq!(taken(&feed), Ok((1, 1)));
        let cut = taken(&feed).unwrap_err().unwrap();
        assert!(cut.ends_with("s: interrupted") && feed.came().offered == 2, "{cut}");
    }

    #[test]
    fn a_source_that_never_starts_says_so() {
        let (silent, _send) = feed(Order::default());
        assert!(silent.first_image(Duration::ZERO).unwrap_err().starts_with("no frame within 0 s"));
        let (ended, send) = feed(Order::default());
        send.send(Ok(None)).unwrap();
        assert_eq!(ended.first_image(LONG).unwrap_err(), "it ended before its first frame");
        let (broken, send) = feed(Order::default());
        send.send(Err("no route to host".into())).unwrap();
        assert_eq!(broken.first_image(LONG).unwrap_err(), "no route to host");
    }

    #[test]
    fn an_end_before_its_time_is_told_from_one_in_time() {
        let seconds = |s: f64| Duration::from_secs_f64(s);
        let over = |length: Option<f64>, ended: Option<Option<&str>>, now: f64, last: f64, gap: f64| {
            let (feed, _send) = feed(Order { length: length.map(seconds), ..Order::default() });
            let mut state = feed.shared.state();
            state.order.patience = seconds(10.0);
            state.ended = ended.map(|what| what.map(String::from));
            state.came.longest_gap = Some(seconds(gap));
            state.last = state.began + seconds(last);
            state.over(state.began + seconds(now))
        };
        let cut = |text: &str| Some(Some(text.to_string()));
        assert_eq!(over(Some(20.0), None, 20.0, 19.98, 0.04), Some(None), "time is up");
        assert_eq!(over(Some(20.0), None, 20.0, 12.0, 0.04), cut("no frame came in the last 8.0 of 20 s"));
        assert_eq!(over(Some(20.0), None, 20.0, 15.0, 4.0), Some(None), "one frame every four seconds");
        assert_eq!(over(Some(20.0), None, 19.0, 18.9, 0.04), None);
        assert_eq!(
            over(Some(20.0), Some(None), 19.0, 18.9, 0.04),
            cut("the source was cut off after 19.0 of 20 s: the pipe ended")
        );
        assert_eq!(over(None, Some(None), 19.0, 18.9, 0.04), Some(None));
        assert_eq!(over(None, Some(Some("gone")), 3.0, 2.0, 0.04), cut("the source was cut off after 3.0 s: gone"));
        assert_eq!(over(None, None, 11.9, 2.0, 0.04), None);
        assert_eq!(over(None, None, 12.0, 2.0, 0.04), cut("the source stalled after 12.0 s: no frame for 10 s"));
    }
}
