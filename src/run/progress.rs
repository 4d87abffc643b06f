//! What a user sees while a run goes on: on stderr, where that is a terminal, a bar of frames with the time left, and one below
//! it while a cell is scored. Notes are printed above them, also without a terminal, unless everything is to be quiet.
//!
//! A thread of its own draws. A terminal may take nothing for a while (Ctrl-S, a stuck connection), and whoever reads memory and
//! times of a measurement must not wait for it: it hands over what happened and goes on.

mod pace;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::pace::Pace;
use crate::run::event::Phase;
use crate::text::{clean, say};

/// How often the bars are drawn: enough to watch, and it leaves the measured machine alone.
const EVERY: Duration = Duration::from_millis(500);

/// What the bars are of.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The cells' names, in order.
    pub cells: Vec<String>,
    /// How often each is measured; the cells take turns.
    pub repeats: usize,
    /// Frames of each of these measurements; 0 where they come from a live source, and nobody knows.
    pub frames: u64,
}

impl Scope {
    /// How measurement `index` is announced: `[4/6] sam2_points fp32 cpu, repeat 2 of 3`.
    fn title(&self, index: usize) -> String {
        let (cells, repeat) = (self.cells.len().max(1), index / self.cells.len().max(1) + 1);
        let label = self.cells.get(index % cells).map(|label| clean(label)).unwrap_or_default();
        let repeat = if self.repeats > 1 { format!(", repeat {repeat} of {}", self.repeats) } else { String::new() };
        format!("[{}/{}] {label}{repeat}", index + 1, cells * self.repeats)
    }
}

enum Said {
    Note(String),
    Cell(usize),
    Doing(String),
    /// Frames of the cell that are tracked.
    Frames(u64),
    /// A bar for these frames.
    Grading(&'static str, u64),
    Graded,
    Done,
}

/// The bars.
pub struct Progress {
    said: Option<Sender<Said>>,
    drawn: Option<JoinHandle<()>>,
}

impl Progress {
    /// Bars of a run; nothing at all where it is to be quiet.
    pub fn new(quiet: bool, scope: Scope) -> Self {
        if quiet {
            return Progress { said: None, drawn: None };
        }
        let (said, heard) = channel();
        Progress { said: Some(said), drawn: Some(std::thread::spawn(move || Drawing::new(scope).follow(&heard))) }
    }

    fn say(&self, what: Said) {
        if let Some(said) = &self.said {
            let _ = said.send(what); // who draws has gone: there is nobody to tell
        }
    }

    /// A line that stays.
    pub fn note(&self, text: &str) {
        self.say(Said::Note(format!("note: {}", clean(text))));
    }

    /// Measurement `index` starts, counted over all cells and repeats.
    pub fn cell(&self, index: usize) {
        self.say(Said::Cell(index));
    }

    /// The worker enters a phase.
    pub fn phase(&self, phase: Phase) {
        let text = match phase {
            Phase::Spawn | Phase::Idle | Phase::Load => "loading",
            Phase::Loaded | Phase::Warmup | Phase::Warmed => "warming up",
            Phase::Track => "tracking",
            Phase::Last | Phase::Score => "scoring",
        };
        self.doing(text);
    }

    /// What is done now.
    pub fn doing(&self, what: &str) {
        self.say(Said::Doing(clean(what)));
    }

    /// Frames of the cell that are tracked.
    pub fn frames(&self, done: u64) {
        self.say(Said::Frames(done));
    }

    /// A bar of its own for `frames` frames; it goes when the last has been [`Progress::graded`] or the next cell begins.
    pub fn grading(&self, what: &'static str, frames: u64) {
        self.say(Said::Grading(what, frames));
    }

    /// One frame more; from any thread.
    pub fn graded(&self) {
        self.say(Said::Graded);
    }
}

impl Drop for Progress {
    /// Takes the bars away.
    fn drop(&mut self) {
        self.say(Said::Done);
        if let Some(drawn) = self.drawn.take() {
            let _ = drawn.join();
        }
    }
}

/// The thread that draws.
struct Drawing {
    scope: Scope,
    pace: Pace,
    bars: MultiProgress,
    tracked: ProgressBar,
    graded: Option<ProgressBar>,
    doing: String,
}

impl Drawing {
    fn new(scope: Scope) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(2));
        let (cells, repeats) = (scope.cells.len(), scope.repeats);
        let all = scope.frames * (cells * repeats) as u64;
        let shape = if all == 0 { "{prefix} {pos} frames{msg}" } else { "{prefix} {wide_bar} {pos}/{len} frames{msg}" };
        let tracked = bars.add(styled(all, shape));
        let pace = Pace::new(cells, repeats, scope.frames, Instant::now());
        Drawing { scope, pace, bars, tracked, graded: None, doing: String::new() }
    }

    fn follow(mut self, heard: &Receiver<Said>) {
        let mut shown = Instant::now();
        loop {
            match heard.recv_timeout(EVERY) {
                Ok(Said::Done) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(said) => self.take(said),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if shown.elapsed() >= EVERY {
                self.show();
                shown = Instant::now();
            }
        }
        self.drop_graded();
        self.tracked.finish_and_clear();
    }

    fn take(&mut self, said: Said) {
        let now = Instant::now();
        match said {
            Said::Note(text) if self.bars.is_hidden() => say(&text),
            Said::Note(text) => drop(self.bars.println(text)),
            Said::Cell(index) => {
                self.drop_graded();
                self.pace.cell(index, now);
                self.tracked.set_prefix(self.scope.title(index));
                self.doing.clear();
                self.show();
            }
            Said::Doing(what) => self.doing = what,
            Said::Frames(done) => {
                self.pace.tracked(done, now);
                self.tracked.set_position(self.pace.position());
            }
            Said::Grading(what, frames) => {
                self.drop_graded();
                self.pace.tracking_ended(now);
                let bar = self.bars.add(styled(frames, &format!("  {what} {{wide_bar}} {{pos}}/{{len}} frames")));
                self.graded = Some(bar);
            }
            Said::Graded => {
                self.graded.iter().for_each(|bar| bar.inc(1));
                if self.graded.as_ref().is_some_and(|bar| Some(bar.position()) == bar.length()) {
                    self.drop_graded();
                }
            }
            Said::Done => {}
        }
    }

    fn show(&mut self) {
        let left = self.pace.left(Instant::now()).map(|left| format!(", {:#} left", HumanDuration(left)));
        let doing = if self.doing.is_empty() { String::new() } else { format!("  {}", self.doing) };
        self.tracked.set_message(left.unwrap_or_default() + &doing);
        self.tracked.tick();
    }

    fn drop_graded(&mut self) {
        if let Some(bar) = self.graded.take() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }
}

fn styled(length: u64, template: &str) -> ProgressBar {
    // The target is that of the bars it is added to.
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A bar for one pass over many things; taken away when dropped.
pub struct Counter(ProgressBar);

/// `verb` (bar) 3/10 `things`, hidden when `quiet` or where stderr is no terminal.
pub fn counter(quiet: bool, verb: &str, things: &str) -> Counter {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(5) };
    let bar = styled(0, &format!("{verb} {{wide_bar}} {{pos}}/{{len}} {things}, {{eta}} left"));
    bar.set_draw_target(target);
    Counter(bar)
}

impl Counter {
    /// Takes (done, in all), from any thread.
    pub fn tell(&self) -> impl Fn(usize, usize) + Sync + '_ {
        |done, all| {
            self.0.set_length(all as u64);
            self.0.set_position(done as u64);
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_announced_with_its_repeat() {
        let scope = |repeats| Scope { cells: vec!["a fp32 cpu".into(), "b fp32 cpu".into()], repeats, frames: 10 };
        assert_eq!(scope(1).title(1), "[2/2] b fp32 cpu");
        assert_eq!(scope(3).title(2), "[3/6] a fp32 cpu, repeat 2 of 3");
        assert_eq!(scope(3).title(5), "[6/6] b fp32 cpu, repeat 3 of 3");
    }
}
