//! When do the frames of a clip arrive, and how long is each the newest?

/// When the frames of a clip arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clock<'a> {
    /// Evenly, so many a second.
    Even(f64),
    /// At the times of a video file, nanoseconds after the first; again from the start when the clip is looped.
    Stamps(&'a [u64]),
}

impl Clock<'_> {
    /// When frame `index` arrives, nanoseconds after the first frame.
    pub fn arrival_ns(self, index: usize) -> u64 {
        match self {
            Clock::Even(fps) => (index as f64 * 1e9 / fps).round() as u64,
            Clock::Stamps(times) => {
                let (round, at) = (index / times.len(), index % times.len());
                // The last frame is shown as long as the one before it.
                let last = times[times.len() - 1];
                let length = last + (last - times[times.len().saturating_sub(2)]);
                round as u64 * length + times[at]
            }
        }
    }

    /// Time from frame `index` to the next one, nanoseconds: its deadline.
    pub fn interval_ns(self, index: usize) -> u64 {
        self.arrival_ns(index + 1).saturating_sub(self.arrival_ns(index))
    }
}
