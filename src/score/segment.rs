//! What shows on one frame, as spans of pixels: areas and overlaps are read off without a picture being unpacked.

use jetbench_runners::types::Mask;

/// Spans of pixels, numbered column by column where they come from COCO's run lengths and row by row where they come from a mask: areas
/// and overlaps are the same in any order that two segments share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Height, width.
    pub size: [u32; 2],
    /// First pixel, and the one after the last; ascending and apart.
    spans: Vec<[u32; 2]>,
    area: u64,
}

impl Segment {
    /// Of a mask.
    pub fn of(mask: &Mask) -> Segment {
        Segment::spanned([mask.height(), mask.width()], &mask.to_runs())
    }

    /// Of run lengths, background first.
    ///
    /// # Errors
    /// They do not fill `size`, or it has more than 2^32 - 1 pixels: says so, without a file name.
    pub fn of_runs(size: [u32; 2], runs: &[u32]) -> Result<Segment, String> {
        let [height, width] = size;
        let total = u64::from(height) * u64::from(width);
        if total > u64::from(u32::MAX) {
            return Err(format!("{width}x{height} pixels are more than a mask can have"));
        }
        match runs.iter().map(|r| u64::from(*r)).sum::<u64>() == total {
            true => Ok(Segment::spanned(size, runs)),
            false => Err(format!("its run lengths do not fill {width}x{height} pixels")),
        }
    }

    fn spanned(size: [u32; 2], runs: &[u32]) -> Segment {
        let mut spans: Vec<[u32; 2]> = Vec::with_capacity(runs.len() / 2);
        let mut at = 0;
        for (i, run) in runs.iter().enumerate().filter(|(_, run)| **run > 0) {
            if i % 2 == 1 {
                spans.push([at, at + run]);
            }
            at += run;
        }
        spans.shrink_to_fit();
        let area = spans.iter().map(|[first, end]| u64::from(end - first)).sum();
        Segment { size, spans, area }
    }

    /// Pixels.
    pub fn area(&self) -> u64 {
        self.area
    }

    /// Spans of pixels, each the first one and the one after the last.
    pub fn spans(&self) -> &[[u32; 2]] {
        &self.spans
    }

    /// Pixels in both; the sizes are the same.
    pub fn overlap(&self, other: &Segment) -> u64 {
        let Some([first, _]) = self.spans.first() else { return 0 };
        let (a, mut b) = (&self.spans, other.spans.iter().skip(other.spans.partition_point(|[_, end]| end <= first)));
        let (mut i, mut at, mut both) = (0, b.next(), 0);
        while let (Some(x), Some(y)) = (a.get(i), at) {
            both += u64::from(x[1].min(y[1]).saturating_sub(x[0].max(y[0])));
            if x[1] < y[1] { i += 1 } else { at = b.next() }
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

/// The segments of one frame that claim its pixels, to see where two of them claim the same one.
#[derive(Debug, Default)]
pub struct Claims {
    /// A bit per pixel.
    taken: Vec<u64>,
}

impl Claims {
    /// Index of the first segment that has a pixel of one before it; all have one size.
    pub fn clash<'a>(&mut self, segments: impl Iterator<Item = &'a Segment> + Clone) -> Option<usize> {
        let clash = segments.clone().position(|segment| segment.spans.iter().any(|span| !self.claim(*span)));
        for [first, end] in segments.flat_map(|segment| &segment.spans) {
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
        assert_eq!(Segment::of_runs([2, 3], &[1, 4]).unwrap_err(), "its run lengths do not fill 3x2 pixels");
        let wide = Segment::of_runs([70_000, 70_000], &[]).unwrap_err();
        assert_eq!(wide, "70000x70000 pixels are more than a mask can have");
        let split = Segment::of_runs([2, 3], &[1, 2, 0, 3]).unwrap();
        assert_eq!((split.area(), split.overlap(&split)), (5, 5), "spans may touch");
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
        fn a_clash_is_an_overlap(w in 1u32..150, h in 1u32..40, seeds in proptest::collection::vec(any::<u64>(), 1..5)) {
            let masks: Vec<Mask> = seeds.iter().map(|seed| drawn(w, h, *seed)).collect();
            let segments: Vec<Segment> = masks.iter().map(Segment::of).collect();
            let expected = (0..masks.len()).find(|i| masks[..*i].iter().any(|before| before.overlap(&masks[*i]) > 0));
            let mut claims = Claims::default();
            prop_assert_eq!(claims.clash(segments.iter()), expected);
            prop_assert_eq!(claims.clash(segments.iter()), expected, "nothing is left of the frame before");
        }
    }
}
