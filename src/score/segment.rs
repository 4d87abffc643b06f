//! What shows on one frame, as spans of pixels: areas and overlaps are read off without a picture being unpacked.

use jetbench_runners::types::Mask;

use crate::dataset::{TakeRuns, read_coco_runs};

/// Spans of pixels, numbered column by column where they come from COCO's run lengths and row by row where they come from a mask: areas
/// and overlaps are the same in any order that two segments share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Height, width.
    pub size: [u32; 2],
    /// Where each run ends. Background is first, so a span of pixels lies between the end of an even run and that of the odd one behind it.
    ends: Vec<u32>,
    area: u64,
}

impl Segment {
    /// Of a mask.
    pub fn of(mask: &Mask) -> Segment {
        let mut segment = Segment::default();
        let filled = segment.set_runs([mask.height(), mask.width()], &mask.to_runs());
        filled.unwrap_or_else(|e| unreachable!("a mask's own runs: {e}"));
        segment
    }

    /// Takes run lengths, background first, in place of what it held, in its memory.
    ///
    /// # Errors
    /// They do not fill `size`, or it has more than 2^32 - 1 pixels: says so, without a file name.
    pub fn set_runs(&mut self, size: [u32; 2], runs: &[u32]) -> Result<(), String> {
        let mut taken = Taken::new(&mut self.ends, runs.len());
        runs.iter().for_each(|run| taken.take([*run]));
        let pixels = taken.pixels;
        self.sized(size, pixels)
    }

    /// As [`Segment::set_runs`], from COCO's text form of them, with `doubled` as JSON has it, two backslashes for each; `none`: what to
    /// say of a text that is none.
    ///
    /// # Errors
    /// As [`Segment::set_runs`]; the text is none.
    pub fn set_text(&mut self, size: [u32; 2], text: &[u8], doubled: bool, none: &str) -> Result<(), String> {
        let mut taken = Taken::new(&mut self.ends, text.len());
        read_coco_runs(text, doubled, &mut taken).ok_or(none)?;
        let pixels = taken.pixels;
        self.sized(size, pixels)
    }

    /// Gives back the memory that it does not need.
    pub fn shrink(&mut self) {
        self.ends.shrink_to_fit();
    }

    /// Says of which size it is: its runs have so many pixels.
    fn sized(&mut self, size: [u32; 2], pixels: u64) -> Result<(), String> {
        let [height, width] = size;
        let total = u64::from(height) * u64::from(width);
        if total > u64::from(u32::MAX) {
            return Err(format!("{width}x{height} pixels are more than a mask can have"));
        }
        if pixels != total {
            return Err(format!("its run lengths do not fill {width}x{height} pixels"));
        }
        self.size = size;
        self.area = self.spans().iter().map(|[first, end]| u64::from(end - first)).sum();
        Ok(())
    }

    /// Pixels.
    pub fn area(&self) -> u64 {
        self.area
    }

    /// Spans of pixels, each the first one and the one after the last; ascending and apart, some of them empty.
    pub fn spans(&self) -> &[[u32; 2]] {
        self.ends.as_chunks().0
    }

    /// Spans that may have a pixel of `other`: those from where it begins on, none when it ends before they begin.
    fn spans_along(&self, other: &Segment) -> &[[u32; 2]] {
        let (own, others) = (self.spans(), other.spans());
        match (own.first(), others.first(), others.last()) {
            (Some([start, _]), Some([begin, _]), Some([_, end])) if start < end => {
                &own[own.partition_point(|[_, end]| end <= begin)..]
            }
            _ => &[],
        }
    }

    /// Pixels in both; the sizes are the same.
    pub fn overlap(&self, other: &Segment) -> u64 {
        let (mut own, mut others) = (self.spans_along(other), other.spans_along(self));
        let mut both = 0;
        while let ([x, after_x @ ..], [y, after_y @ ..]) = (own, others) {
            both += u64::from(x[1].min(y[1]).saturating_sub(x[0].max(y[0])));
            if x[1] < y[1] { own = after_x } else { others = after_y }
        }
        both
    }

    /// Pixels in both over pixels in either; 0 where neither has one.
    pub fn iou(&self, other: &Segment) -> f64 {
        let both = self.overlap(other);
        match self.area + other.area - both {
            0 => 0.0,
            either => both as f64 / either as f64,
        }
    }
}

/// Run lengths that become ends.
struct Taken<'a> {
    ends: &'a mut Vec<u32>,
    pixels: u64,
}

impl<'a> Taken<'a> {
    /// For so many runs at most, in place of what was there.
    fn new(ends: &'a mut Vec<u32>, most: usize) -> Self {
        ends.clear();
        ends.reserve(most);
        Taken { ends, pixels: 0 }
    }
}

impl TakeRuns for Taken<'_> {
    fn take<const N: usize>(&mut self, runs: [u32; N]) {
        let ends = runs.map(|run| {
            self.pixels += u64::from(run);
            self.pixels as u32 // beyond 32 bits it fits no size, and is refused
        });
        self.ends.extend_from_slice(&ends);
    }
}

/// So few segments are compared two by two.
const FEW: usize = 16;

/// The segments of one frame that claim its pixels, to see where two of them claim the same one.
#[derive(Debug, Default)]
pub struct Claims {
    /// A bit per pixel.
    taken: Vec<u64>,
}

impl Claims {
    /// Index of the first segment that has a pixel of one before it; all have one size.
    pub fn clash(&mut self, segments: &[&Segment]) -> Option<usize> {
        if segments.len() <= FEW {
            return (1..segments.len()).find(|i| segments[..*i].iter().any(|before| before.overlap(segments[*i]) > 0));
        }
        let clash = segments.iter().position(|segment| segment.spans().iter().any(|span| !self.claim(*span)));
        for [first, end] in segments.iter().flat_map(|segment| segment.spans()) {
            let end = (*end as usize).div_ceil(64).min(self.taken.len());
            self.taken[(*first as usize / 64).min(end)..end].fill(0);
        }
        clash
    }

    /// False where a pixel of the span has been claimed.
    fn claim(&mut self, [first, end]: [u32; 2]) -> bool {
        let words = (end as usize).div_ceil(64);
        if self.taken.len() < words {
            self.taken.resize(words, 0);
        }
        (first as usize / 64..words).all(|word| {
            let (from, to) = (word as u64 * 64, word as u64 * 64 + 64);
            let (low, high) = (u64::from(first).max(from) - from, u64::from(end).min(to) - from);
            let bits = (u64::MAX << low) & (u64::MAX >> (64 - high));
            let free = self.taken[word] & bits == 0;
            self.taken[word] |= bits;
            free
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drawn(width: u32, height: u32, seed: u64) -> Mask {
        Mask::from_fn(width, height, |x, y| (seed ^ (u64::from(x / 3) * 31) ^ (u64::from(y / 2) * 7)).is_multiple_of(3))
    }

    #[test]
    fn runs_that_do_not_fill_a_frame_are_refused() {
        let mut segment = Segment::default();
        assert_eq!(segment.set_runs([2, 3], &[1, 4]).unwrap_err(), "its run lengths do not fill 3x2 pixels");
        let wide = segment.set_runs([70_000, 70_000], &[]).unwrap_err();
        assert_eq!(wide, "70000x70000 pixels are more than a mask can have");
        let wrapped = segment.set_runs([2, 3], &[u32::MAX, 7]).unwrap_err();
        assert_eq!(wrapped, "its run lengths do not fill 3x2 pixels", "the sum is 6 in 32 bits");
        assert_eq!(segment.set_text([2, 3], b"o", false, "no text").unwrap_err(), "no text");
        segment.set_runs([2, 3], &[1, 2, 0, 3]).unwrap();
        assert_eq!((segment.area(), segment.overlap(&segment)), (5, 5), "spans may touch");
        segment.set_text([2, 3], b"15", false, "no text").unwrap();
        assert_eq!((segment.area(), segment.spans()), (5, &[[1, 6]][..]), "nothing of before is left");
    }

    proptest! {
        #[test]
        fn areas_overlaps_and_iou_are_those_of_the_masks(w in 1u32..150, h in 1u32..40, a in any::<u64>(), b in any::<u64>()) {
            let masks = [drawn(w, h, a), drawn(w, h, b)];
            let [one, two] = [Segment::of(&masks[0]), Segment::of(&masks[1])];
            prop_assert_eq!(one.area(), masks[0].area());
            prop_assert_eq!(one.overlap(&two), masks[0].overlap(&masks[1]));
            prop_assert_eq!(two.overlap(&one), masks[0].overlap(&masks[1]));
            prop_assert_eq!(one.iou(&two).to_bits(), masks[0].iou(&masks[1]).unwrap_or(0.0).to_bits());
        }

        #[test]
        fn a_clash_is_an_overlap(w in 1u32..150, h in 1u32..40, seeds in proptest::collection::vec(any::<u64>(), 1..5), many in any::<bool>()) {
            let mut masks: Vec<Mask> = seeds.iter().map(|seed| drawn(w, h, *seed)).collect();
            if many {
                masks.resize(masks.len() + FEW, Mask::empty(w, h));
                masks.rotate_left(2);
            }
            let segments: Vec<Segment> = masks.iter().map(Segment::of).collect();
            let expected = (0..masks.len()).find(|i| masks[..*i].iter().any(|before| before.overlap(&masks[*i]) > 0));
            let segments: Vec<&Segment> = segments.iter().collect();
            let mut claims = Claims::default();
            prop_assert_eq!(claims.clash(&segments), expected);
            prop_assert_eq!(claims.clash(&segments), expected, "nothing is left of the frame before");
        }
    }
}
