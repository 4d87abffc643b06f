//! Did the worker's process stand still while frames were timed? A thread that wakes every 10 ms and does nothing else notes when it could
//! not: the process was stopped, or waited for a processor, or the whole machine stood still. A slow frame, a busy GPU or a driver that blocks the tracking
//! thread do not delay it, so its gaps tell a stall from a slow frame, which a processor clock cannot: that of a worker which waits
//! for a GPU stands still as well.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jetbench_runners::files;

use crate::judge::limits::STALL;
use crate::results::record::StallRecord;

/// Time between two beats.
const BEAT: Duration = Duration::from_millis(10);

/// The beating thread.
pub struct Beat {
    stop: Sender<()>,
    thread: JoinHandle<Vec<StallRecord>>,
}

impl Beat {
    /// Begins to beat.
    pub fn start() -> Beat {
        let (stop, stopped) = channel();
        // From here on, not from when the thread first runs: on a busy machine frames may be done and the process stopped by then.
        let start = Instant::now();
        let thread = std::thread::spawn(move || {
            // Opened by this thread, it goes on telling of it.
            let scheduler = files::plain(Path::new("/proc/thread-self/schedstat")).ok();
            let waited = || scheduler.as_ref().map_or(Duration::ZERO, waited);
            let mut stalls = Stalls::new(Duration::ZERO);
            stalls.beat(start.elapsed(), waited());
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                stalls.beat(start.elapsed(), waited());
            }
            stalls.beat(start.elapsed(), waited());
            stalls.found
        });
        Beat { stop, thread }
    }

    /// Ends the thread and gives its gaps.
    pub fn stop(self) -> Vec<StallRecord> {
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}

/// How long the thread has waited for a processor so far, by the kernel's scheduler; zero where it does not tell.
fn waited(scheduler: &File) -> Duration {
    let mut bytes = [0; 128];
    let read = scheduler.read_at(&mut bytes, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..read]);
    let ns = text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Duration::from_nanos(ns)
}

/// Gaps between beats.
struct Stalls {
    last: (Duration, Duration),
    found: Vec<StallRecord>,
}

impl Stalls {
    fn new(waited: Duration) -> Stalls {
        Stalls { last: (Duration::ZERO, waited), found: Vec::new() }
    }

    /// A beat at `at`, when the thread had waited for a processor for `waited` in all.
    fn beat(&mut self, at: Duration, waited: Duration) {
        let gap = at.saturating_sub(self.last.0).saturating_sub(BEAT);
        if gap >= STALL {
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let waited_ms = ms(waited.saturating_sub(self.last.1).min(gap));
            self.found.push(StallRecord { at_ms: ms(self.last.0), ms: ms(gap), waited_ms });
        }
        self.last = (at, waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_stall_and_says_whether_a_processor_was_waited_for() {
        let ms = Duration::from_millis;
        let mut stalls = Stalls::new(ms(5));
        // Beats of a busy machine, then a stop of 2 s, then 150 ms without a processor.
        let beats = [(10, 5), (25, 6), (120, 90), (130, 90), (2140, 91), (2150, 91), (2310, 240)];
        for (at, waited) in beats {
            stalls.beat(ms(at), ms(waited));
        }
        let of = |at_ms, ms, waited_ms| StallRecord { at_ms, ms, waited_ms };
        assert_eq!(stalls.found, [of(130.0, 2000.0, 1.0), of(2150.0, 150.0, 149.0)]);
    }
}
