//! Which frames of a track are looked at? At most [`MOST`], the ones with the largest mask, spread over its life: the life so far is cut into
//! spans of one length, each span keeps its largest mask, and when there are too many, two neighbours become one. So a crop is
//! kept in bounded memory while nobody knows how long the track will live.

/// Crops kept of a track.
pub const MOST: usize = 8;

/// The crops of one track.
pub struct Slots {
    /// Its first step with a mask.
    first: u32,
    /// Steps of a span: a power of 2.
    span: u32,
    kept: Vec<Kept>,
}

/// A crop that is kept.
pub struct Kept {
    /// Step since the last reset.
    pub step: u32,
    /// Pixels of the mask.
    pub area: u64,
    /// Resized, 8-bit RGB.
    pub pixels: Vec<u8>,
}

impl Slots {
    /// Of a track that is first seen in `step`.
    pub fn new(first: u32) -> Slots {
        Slots { first, span: 1, kept: Vec::new() }
    }

    /// Would a mask of this area be kept? Steps ascend.
    pub fn wants(&self, step: u32, area: u64) -> bool {
        let place = self.place(step);
        area > 0 && self.kept.last().is_none_or(|last| self.place(last.step) != place || last.area < area)
    }

    /// Keeps a crop that is wanted.
    pub fn keep(&mut self, crop: Kept) {
        let place = self.place(crop.step);
        self.kept.pop_if(|last| (last.step - self.first) / self.span == place);
        self.kept.push(crop);
        while self.kept.len() > MOST {
            self.span *= 2;
            let (first, span) = (self.first, self.span);
            // Of two that are now in one span, the larger; the earlier where they are equal.
            self.kept.dedup_by(|later, earlier| {
                let one = (later.step - first) / span == (earlier.step - first) / span;
                if one && later.area > earlier.area {
                    std::mem::swap(later, earlier);
                }
                one
            });
        }
    }

    /// The crops of the steps in a range, by step.
    pub fn within(&self, steps: std::ops::Range<u32>) -> impl Iterator<Item = &Kept> {
        self.kept.iter().filter(move |kept| steps.contains(&kept.step))
    }

    fn place(&self, step: u32) -> u32 {
        (step - self.first) / self.span
    }
}
