//! How frames are offered to a model, in MLPerf's terms: one at a time, as fast as they go, or on a camera's clock. The
//! decision which frame a camera pipeline takes next is a pure function of arrival times, so that its arithmetic can be
//! checked without a clock.

use std::collections::VecDeque;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dataset::Clock;

/// How frames are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// The next frame is offered when the last one is done; latency is what counts.
    #[default]
    SingleStream,
    /// Frames are decoded far ahead and masks written on another thread; throughput is what counts.
    Offline,
    /// Frames arrive on the clock; those that come while another is being worked on are dropped, as a camera would.
    Realtime,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Scenario; 3] = [Scenario::SingleStream, Scenario::Offline, Scenario::Realtime];

    /// Name on the command line and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scenario::SingleStream => "single-stream",
            Scenario::Offline => "offline",
            Scenario::Realtime => "realtime",
        }
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let known = || Scenario::ALL.map(Scenario::as_str).join(", ");
        Scenario::ALL
            .into_iter()
            .find(|s| s.as_str() == word.trim())
            .ok_or_else(|| format!("unknown scenario `{word}`; known: {}", known()))
    }
}

/// Which frame is worked on next, and when that can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Its index. Every index between the last one and this one is dropped.
    pub index: usize,
    /// Nanoseconds after the first frame's arrival at which it is there: not after `free_ns` if it waits already.
    pub arrives_ns: u64,
}

/// The frame that a pipeline with a buffer of one takes when it becomes free `free_ns` after the clip's first arrival: the
/// newest one that is there, else the next one to come. A frame with a prompt waits in the buffer and is never dropped:
/// whoever clicked on it wants that frame. `last` is the frame worked on before, `None` at the beginning; `frames` the
/// length of the clip; `None` at its end.
pub fn next_frame(
    free_ns: u64,
    last: Option<usize>,
    frames: usize,
    clock: Clock<'_>,
    prompted: impl Fn(usize) -> bool,
) -> Option<Next> {
    let first = last.map_or(0, |l| l + 1);
    if first >= frames {
        return None;
    }
    // The newest arrival: the first frame is always there.
    let (mut newest, mut beyond) = (0, frames);
    while newest + 1 < beyond {
        let middle = newest.midpoint(beyond);
        if clock.arrival_ns(middle) <= free_ns {
            newest = middle;
        } else {
            beyond = middle;
        }
    }
    let index = match (first..=newest).find(|&i| prompted(i)) {
        Some(waiting) => waiting,
        None => newest.max(first),
    };
    Some(Next { index, arrives_ns: clock.arrival_ns(index) })
}

/// The same rule for frames that come by themselves: those that wait until the pipeline is free.
#[derive(Debug)]
pub struct Waiting<T> {
    /// Index, whether it has a prompt, and the frame.
    kept: VecDeque<(usize, bool, T)>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Waiting { kept: VecDeque::new() }
    }
}

impl<T> Waiting<T> {
    /// Takes in the frame that has just come; the one that is dropped for it.
    pub fn arrive(&mut self, index: usize, prompted: bool, frame: T) -> Option<T> {
        let dropped = match self.kept.back() {
            Some((_, false, _)) => self.kept.pop_back(),
            _ => None,
        };
        self.kept.push_back((index, prompted, frame));
        dropped.map(|(.., frame)| frame)
    }

    /// The frame that is worked on next, if one is there.
    pub fn take(&mut self) -> Option<(usize, T)> {
        self.kept.pop_front().map(|(index, _, frame)| (index, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs the rule on a virtual clock: frames worked on, with a latency per frame in nanoseconds.
    fn simulate(frames: usize, fps: f64, latency_ns: impl Fn(usize) -> u64, prompted: &[usize]) -> Vec<usize> {
        let (mut now, mut last, mut done) = (0, None, Vec::new());
        while let Some(next) = next_frame(now, last, frames, Clock::Even(fps), |i| prompted.contains(&i)) {
            now = now.max(next.arrives_ns) + latency_ns(done.len());
            last = Some(next.index);
            done.push(next.index);
        }
        done
    }

    const MS: u64 = 1_000_000;

    #[test]
    fn known_latencies_drop_known_frames() {
        // 25 fps: a frame every 40 ms.
        let run = |ms: u64| simulate(10, 25.0, |_| ms * MS, &[]);
        assert_eq!(run(39), (0..10).collect::<Vec<_>>(), "fast enough: nothing is dropped");
        assert_eq!(run(40), (0..10).collect::<Vec<_>>(), "just fast enough");
        // 41 ms: free at 41 (frame 1 waits since 40), 82 (frame 2 since 80), … 40 frames later one is lost.
        assert_eq!(simulate(45, 25.0, |_| 41 * MS, &[]).len(), 44);
        // 100 ms: free at 100 → 2 (80), at 200 → 5 (200), 300 → 7 (280), 400 → 9 is the last.
        assert_eq!(run(100), [0, 2, 5, 7, 9]);
        // 1 s for the first frame only: then the newest, then in step again.
        assert_eq!(simulate(30, 25.0, |n| if n == 0 { 1000 * MS } else { MS }, &[])[..4], [0, 25, 26, 27]);
    }

    #[test]
    fn prompted_frames_wait_and_are_never_dropped() {
        assert_eq!(simulate(10, 25.0, |_| 100 * MS, &[0, 1, 4]), [0, 1, 4, 7, 9]);
        assert_eq!(simulate(10, 25.0, |_| 100 * MS, &[0, 1, 2, 3]), [0, 1, 2, 3, 9]);
        // Frame 0 has no prompt and is late: it is taken all the same, because it is the newest when the clock starts.
        assert_eq!(simulate(3, 25.0, |_| 10 * MS, &[2]), [0, 1, 2]);
    }

    #[test]
    fn time_stamps_drive_the_clock_and_the_deadlines() {
        let clock = Clock::Stamps(&[0, 10, 20, 120, 220]);
        let next = |free| next_frame(free, Some(1), 5, clock, |_| false).map(|n| (n.index, n.arrives_ns));
        assert_eq!(next(15), Some((2, 20)), "waits for the next");
        assert_eq!(next(119), Some((2, 20)));
        assert_eq!(next(1000), Some((4, 220)), "the newest");
        assert_eq!((0..5).map(|i| clock.interval_ns(i)).collect::<Vec<_>>(), [10, 10, 100, 100, 100]);
        assert_eq!((clock.arrival_ns(5), clock.arrival_ns(11)), (320, 2 * 320 + 10), "looped");
        assert_eq!(Clock::Stamps(&[0]).arrival_ns(3), 0, "a single picture");
        assert_eq!(Clock::Even(60.0).interval_ns(0), 16_666_667);
    }

    #[test]
    fn names_are_read_and_unknown_ones_refused() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.as_str().parse(), Ok(scenario));
        }
        assert_eq!(
            "rt".parse::<Scenario>().unwrap_err(),
            "unknown scenario `rt`; known: single-stream, offline, realtime"
        );
    }

    proptest! {
        /// Against the slow way to say it: walk through all arrivals.
        #[test]
        fn the_newest_arrival_is_taken(free in 0u64..3_000_000_000, fps in 1.0f64..120.0, last in proptest::option::of(0usize..50)) {
            let (frames, clock) = (60, Clock::Even(fps));
            let first = last.map_or(0, |l| l + 1);
            let arrived: Vec<usize> = (first..frames).filter(|&i| clock.arrival_ns(i) <= free).collect();
            let expected = arrived.last().copied().unwrap_or(first);
            let next = next_frame(free, last, frames, clock, |_| false).unwrap();
            prop_assert_eq!(next.index, expected);
            prop_assert_eq!(next.arrives_ns, clock.arrival_ns(expected));
        }

        /// Frames that come by themselves are chosen as those of a clip are.
        #[test]
        fn a_live_buffer_keeps_to_the_same_rule(ms in 0u64..400, fps in 5.0f64..60.0, prompts in proptest::collection::vec(0usize..40, 0..6)) {
            let (frames, clock) = (40, Clock::Even(fps));
            let (mut waiting, mut now, mut come, mut done) = (Waiting::default(), 0, 0, Vec::new());
            while done.last() != Some(&(frames - 1)) {
                while come < frames && clock.arrival_ns(come) <= now {
                    waiting.arrive(come, prompts.contains(&come), ());
                    come += 1;
                }
                match waiting.take() {
                    Some((index, ())) => {
                        done.push(index);
                        now += ms * MS;
                    }
                    None => now = clock.arrival_ns(come),
                }
            }
            prop_assert_eq!(done, simulate(frames, fps, |_| ms * MS, &prompts));
        }

        #[test]
        fn frames_go_forward_and_every_prompt_is_met(ms in 0u64..400, fps in 5.0f64..60.0, prompts in proptest::collection::vec(0usize..40, 0..6)) {
            let done = simulate(40, fps, |_| ms * MS, &prompts);
            prop_assert!(done.windows(2).all(|w| w[0] < w[1]));
            for prompt in prompts {
                prop_assert!(done.contains(&prompt), "frame {} was dropped", prompt);
            }
            // Whatever comes last in the clip is the newest when the pipeline is next free, so it is never dropped.
            prop_assert_eq!(done.last(), Some(&39));
        }
    }
}
