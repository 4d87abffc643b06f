//! What a user sees while a run goes on: one bar with frames done and time left, on stderr, and only where stderr is a
//! terminal. Notes are printed above it, also without a terminal, unless everything is to be quiet.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::run::event::Phase;
use crate::text::{clean, say};

/// The bar.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// A bar of `frames` frames over all cells.
    pub fn new(quiet: bool, frames: u64) -> Self {
        // Twice a second is enough to watch, and leaves the measured machine alone.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(2) };
        let bar = ProgressBar::with_draw_target(Some(frames), target);
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} frames, {eta} left  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if std::io::stderr().is_terminal() && !quiet {
            bar.enable_steady_tick(Duration::from_millis(500));
        }
        Progress { bar, quiet }
    }

    /// A line that stays.
    pub fn note(&self, text: &str) {
        if self.quiet {
            return;
        }
        let text = clean(text);
        if self.bar.is_hidden() {
            say(&format!("note: {text}"));
        } else {
            self.bar.println(format!("note: {text}"));
        }
    }

    /// Cell `index` of `cells` starts.
    pub fn cell(&self, index: usize, cells: usize, label: &str) {
        self.bar.set_prefix(format!("[{}/{cells}] {}", index + 1, clean(label)));
        self.bar.set_message("");
    }

    /// The worker enters a phase.
    pub fn phase(&self, phase: Phase) {
        let text = match phase {
            Phase::Spawn | Phase::Idle | Phase::Load => "loading",
            Phase::Loaded | Phase::Warmup | Phase::Warmed => "warming up",
            Phase::Track => "tracking",
            Phase::Last | Phase::Score => "scoring",
        };
        self.bar.set_message(text);
    }

    /// A sequence starts.
    pub fn sequence(&self, video: &str) {
        self.bar.set_message(clean(video));
    }

    /// Frames done, over all cells.
    pub fn frames(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Takes the bar away.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }
}

/// A bar for one pass over many things; taken away when dropped.
pub struct Counter(ProgressBar);

/// `verb` (bar) 3/10 `things`, hidden when `quiet` or where stderr is no terminal.
pub fn counter(quiet: bool, verb: &str, things: &str) -> Counter {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(5) };
    let bar = ProgressBar::with_draw_target(None, target);
    let style = ProgressStyle::with_template(&format!("{verb} {{wide_bar}} {{pos}}/{{len}} {things}, {{eta}} left"));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
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
