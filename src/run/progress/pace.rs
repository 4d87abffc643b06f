//! How long will a run still take? Each cell has its own pace, as far as it has been seen; a cell that has not been seen gets the
//! mean. Frames and what surrounds them (loading, warm-up, scoring) are told apart, so that a slow start does not look like slow
//! frames, and paces are means over all that was seen, so that the answer settles.

use std::time::{Duration, Instant};

/// Nothing is said before so much tracking has been seen.
const ENOUGH: f64 = 3.0;

/// What was seen of one cell, over its repeats; seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    tracking: f64,
    frames: u64,
    /// Time around the frames, of the measurements that are done.
    around: f64,
    /// How many are done.
    times: u64,
}

/// The state of a run.
#[derive(Debug)]
pub(super) struct Pace {
    cells: Vec<Seen>,
    units: usize,
    /// Frames of each measurement; 0 where that is not known.
    frames: u64,
    unit: usize,
    /// Frames done of the measurement under way.
    done: u64,
    tracking: bool,
    /// Time around its frames; `None`: none is under way.
    around: Option<f64>,
    since: Instant,
}

impl Pace {
    pub(super) fn new(cells: usize, repeats: usize, frames: u64, now: Instant) -> Self {
        let cells = vec![Seen::default(); cells.max(1)];
        Pace {
            units: cells.len() * repeats,
            cells,
            frames,
            unit: 0,
            done: 0,
            tracking: false,
            around: None,
            since: now,
        }
    }

    /// Measurement `unit` begins.
    pub(super) fn cell(&mut self, unit: usize, now: Instant) {
        self.pass(now);
        if let Some(around) = self.around.replace(0.0).filter(|_| self.done > 0) {
            let cell = self.of(self.unit);
            self.cells[cell].around += around;
            self.cells[cell].times += 1;
        }
        (self.unit, self.done, self.tracking) = (unit, 0, false);
    }

    /// So many of its frames are tracked. Those of the first call count for nothing: they took part of the time before it, or an
    /// earlier process did them.
    pub(super) fn tracked(&mut self, done: u64, now: Instant) {
        self.pass(now);
        if self.tracking {
            let cell = self.of(self.unit);
            self.cells[cell].frames += done.saturating_sub(self.done);
        }
        (self.done, self.tracking) = (done, true);
    }

    /// What follows is no tracking.
    pub(super) fn tracking_ended(&mut self, now: Instant) {
        self.pass(now);
        self.tracking = false;
    }

    /// Frames done, over all measurements.
    pub(super) fn position(&self) -> u64 {
        self.unit as u64 * self.frames + self.done
    }

    /// Time left; `None` while too little has been seen, or where nobody knows how many frames come.
    pub(super) fn left(&mut self, now: Instant) -> Option<Duration> {
        self.pass(now);
        let all = self.cells.iter().fold(Seen::default(), |all, seen| Seen {
            tracking: all.tracking + seen.tracking,
            frames: all.frames + seen.frames,
            around: all.around + seen.around,
            times: all.times + seen.times,
        });
        if all.tracking < ENOUGH || all.frames == 0 || self.frames == 0 {
            return None;
        }
        let per_frame = |cell: usize| {
            let seen = if self.cells[cell].frames > 0 { &self.cells[cell] } else { &all };
            seen.tracking / seen.frames as f64
        };
        let around = |cell: usize| match (self.cells[cell], all) {
            (Seen { around, times: times @ 1.., .. }, _) | (_, Seen { around, times: times @ 1.., .. }) => {
                around / times as f64
            }
            _ => self.around.unwrap_or(0.0),
        };
        let this = self.frames.saturating_sub(self.done) as f64 * per_frame(self.of(self.unit));
        let later = (self.unit + 1..self.units).map(|unit| self.of(unit));
        let later: f64 = later.map(|cell| self.frames as f64 * per_frame(cell) + around(cell)).sum();
        Duration::try_from_secs_f64(this + later).ok()
    }

    fn of(&self, unit: usize) -> usize {
        unit % self.cells.len()
    }

    /// Time passes, for the cell under way.
    fn pass(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
        match (self.tracking, &mut self.around) {
            (true, _) => {
                let cell = self.of(self.unit);
                self.cells[cell].tracking += seconds;
            }
            (false, Some(around)) => *around += seconds,
            (false, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two cells of 100 frames, each three times: one takes 0.1 s a frame, the other 1 s; loading takes 20 s, scoring 10 s.
    #[test]
    fn of_a_live_source_nobody_knows_the_time_left() {
        let start = Instant::now();
        let left = |frames: u64| {
            let mut pace = Pace::new(1, 1, frames, start);
            pace.cell(0, start);
            pace.tracked(1, start);
            pace.tracked(100, start + Duration::from_secs(10));
            pace.left(start + Duration::from_secs(10))
        };
        assert_eq!((left(0), left(200).is_some()), (None, true));
    }

    #[test]
    fn the_time_left_settles_and_knows_each_cell() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut pace = Pace::new(2, 3, 100, start);
        let per_frame = [0.1, 1.0];
        let whole: f64 = 3.0 * (per_frame[0] + per_frame[1]) * 100.0 + 6.0 * 30.0;
        let mut now = 0.0;
        let mut said = Vec::new();
        for unit in 0..6 {
            pace.cell(unit, at(now));
            assert_eq!(pace.left(at(now)).is_none(), unit == 0, "nothing has been seen of a frame");
            now += 20.0;
            for frame in 0..=100 {
                now += if frame == 0 { 0.0 } else { per_frame[unit % 2] };
                pace.tracked(frame, at(now));
                said.extend(pace.left(at(now)).map(|left| (unit, frame, left.as_secs_f64(), whole - now)));
            }
            assert_eq!(pace.position(), (unit as u64 + 1) * 100);
            pace.tracking_ended(at(now));
            now += 10.0;
        }
        // From the second round on both cells are known; what is left out is the scoring of the cell under way.
        for (unit, frame, left, right) in said.iter().filter(|(unit, ..)| *unit >= 2) {
            assert!((left - right).abs() <= 10.1, "unit {unit}, frame {frame}: {left} for {right}");
        }
        // Loading is not taken for slow frames: after half of the first cell its own rest is known to the second.
        let (.., left, _) = said.iter().find(|(unit, frame, ..)| (*unit, *frame) == (0, 50)).unwrap();
        assert!((left - (5.0 + 5.0 * (100.0 * 0.1 + 20.0))).abs() < 0.1, "{left}");
    }
}
