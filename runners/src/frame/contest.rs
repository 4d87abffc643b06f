//! Whose is a pixel, where all objects of a frame share it among them? The panoptic post-processing of Mask2Former and its successors: the
//! object with the largest product of score and mask probability wins a pixel, and keeps it where that probability is one half or more; an
//! object that wins too few of the pixels of its own mask keeps none.

use std::ops::Range;

use super::confidence::sigmoid;
use super::threshold::{Tap, bilinear_tap};
use crate::types::Mask;

/// Pixels that are looked at together: a word of a mask.
const BLOCK: usize = 64;
/// By this share a probability between two others may be outside of them, for rounding.
const SLACK: f32 = 1e-4;

/// From mask logits to a frame: bilinear to `input`, there cut to the `taken` part and turned into probabilities, which are bilinear to
/// `frame`. Widths and heights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Of the logits.
    pub logits: [usize; 2],
    /// Of the input.
    pub input: [u32; 2],
    /// Of the part of it that the frame took.
    pub taken: [u32; 2],
    /// Of the frame.
    pub frame: [u32; 2],
}

/// One who wants pixels.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// 0..1.
    pub score: f32,
    /// Of its mask, row by row.
    pub logits: &'a [f32],
}

/// Columns of the frame that are looked at together, with those of `taken` and of the logits that have a part in them.
struct Block {
    columns: Range<usize>,
    taken: Range<usize>,
    logits: Range<usize>,
}

/// Shares frames out; holds what frames of one size share.
///
/// All probabilities of a block lie between those of the least and of the largest logit around it. Where these tell who wins the block, or
/// whether a mask has it, nothing is computed of its pixels.
#[derive(Default)]
pub struct Contest {
    way: Way,
    /// Of the columns and rows of `taken` among those of the logits.
    inner: [Vec<Tap>; 2],
    /// Of the columns and rows of the frame among those of `taken`.
    outer: [Vec<Tap>; 2],
    blocks: Vec<Block>,
    /// Per candidate and block, the least and the largest probability on the rows that are worked on.
    bounds: Vec<[f32; 2]>,
    /// Two rows of a block, at the columns of `taken`.
    narrow: [Vec<f32>; 2],
}

/// Pixels that a candidate won, and those of its own mask.
#[derive(Clone, Copy, Default)]
struct Count {
    won: u64,
    claimed: u64,
}

impl Contest {
    /// Writes the pixels that each candidate keeps into its mask, which becomes one of the frame's size. Who has less than `overlap` of the
    /// pixels at which its own probability is one half or more keeps none. The first of equals wins.
    pub fn share_out(&mut self, way: Way, overlap: f64, candidates: &[Candidate<'_>], masks: &mut [Mask]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the instructions are there.
            return unsafe { self.share_out_with_avx2(way, overlap, candidates, masks) };
        }
        self.share_out_plain(way, overlap, candidates, masks);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn share_out_with_avx2(&mut self, way: Way, overlap: f64, candidates: &[Candidate<'_>], masks: &mut [Mask]) {
        self.share_out_plain(way, overlap, candidates, masks);
    }

    #[inline(always)]
    fn share_out_plain(&mut self, way: Way, overlap: f64, candidates: &[Candidate<'_>], masks: &mut [Mask]) {
        self.prepare(way);
        masks.iter_mut().for_each(|mask| mask.reset(way.frame[0], way.frame[1]));
        let mut counts = vec![Count::default(); candidates.len()];
        // What each may have won where nobody has one half. There nobody keeps a pixel, so who wins it matters only to those who have won
        // too few of the others.
        let mut more = vec![0; candidates.len()];
        self.each_part(candidates, |contest, rows, block| {
            if contest.claimed(block) {
                return contest.share_part(candidates, rows, block, &mut counts, masks);
            }
            let pixels = (rows.len() * contest.blocks[block].columns.len()) as u64;
            let floor = contest.floor(candidates, block);
            let contenders = (0..candidates.len()).filter(|k| contest.contends(candidates, *k, block, floor));
            contenders.for_each(|k| more[k] += pixels);
        });
        let lacks = |won: u64, of: &Count| of.claimed > 0 && (won as f64 / of.claimed as f64) < overlap;
        let open = |k: &usize| lacks(counts[*k].won, &counts[*k]) && !lacks(counts[*k].won + more[*k], &counts[*k]);
        let open: Vec<usize> = (0..candidates.len()).filter(open).collect();
        if !open.is_empty() {
            self.each_part(candidates, |contest, rows, block| {
                let floor = contest.floor(candidates, block);
                let contends = |k: &usize| contest.contends(candidates, *k, block, floor);
                if !contest.claimed(block) && open.iter().any(contends) {
                    contest.share_part(candidates, rows, block, &mut counts, masks);
                }
            });
        }
        for (mask, _) in masks.iter_mut().zip(&counts).filter(|(_, count)| lacks(count.won, count)) {
            mask.reset(way.frame[0], way.frame[1]);
        }
    }

    fn prepare(&mut self, way: Way) {
        if self.way == way {
            return;
        }
        let taps = |axis: usize| {
            let [taken, frame] = [way.taken[axis], way.frame[axis]];
            let inner: Vec<Tap> = (0..taken).map(|i| bilinear_tap(i, way.input[axis], way.logits[axis])).collect();
            (inner, (0..frame).map(|i| bilinear_tap(i, frame, taken as usize)).collect::<Vec<_>>())
        };
        let [across, down] = [taps(0), taps(1)];
        let width = way.frame[0] as usize;
        let block = |start: usize| {
            let columns = start..(start + BLOCK).min(width);
            let taken = across.1[start].low..across.1[columns.end - 1].high + 1;
            let logits = across.0[taken.start].low..across.0[taken.end - 1].high + 1;
            Block { columns, taken, logits }
        };
        self.blocks = (0..width).step_by(BLOCK).map(block).collect();
        (self.inner, self.outer) = ([across.0, down.0], [across.1, down.1]);
        self.way = way;
    }

    /// Rows of the logits that have a part in row `y` of the frame.
    fn logit_rows(&self, y: usize) -> Range<usize> {
        let tap = self.outer[1][y];
        self.inner[1][tap.low].low..self.inner[1][tap.high].high + 1
    }

    /// Calls `each` with the rows of the frame that have the same rows of the logits, and with every block of them, whose bounds then stand.
    #[inline(always)]
    fn each_part(&mut self, candidates: &[Candidate<'_>], mut each: impl FnMut(&mut Contest, Range<usize>, usize)) {
        let (height, mut start) = (self.way.frame[1] as usize, 0);
        while start < height {
            let around = self.logit_rows(start);
            let end = (start..height).find(|y| self.logit_rows(*y) != around).unwrap_or(height);
            self.bound(candidates, &around);
            (0..self.blocks.len()).for_each(|block| each(self, start..end, block));
            start = end;
        }
    }

    /// Bounds of all candidates in all blocks, where these rows of the logits have a part.
    #[inline(always)]
    fn bound(&mut self, candidates: &[Candidate<'_>], rows: &Range<usize>) {
        let columns = self.way.logits[0];
        self.bounds.clear();
        for candidate in candidates {
            self.bounds.extend(self.blocks.iter().map(|block| {
                let row = |y: usize| &candidate.logits[y * columns..][block.logits.clone()];
                let (mut least, mut largest, mut finite) = (f32::INFINITY, f32::NEG_INFINITY, true);
                for logit in rows.clone().flat_map(row) {
                    (least, largest) = (least.min(*logit), largest.max(*logit));
                    finite &= logit.is_finite();
                }
                match finite {
                    true => [sigmoid(least) * (1.0 - SLACK), sigmoid(largest) * (1.0 + SLACK)],
                    false => [0.0, 2.0],
                }
            }));
        }
    }

    /// The least and the largest probability of a candidate in a block.
    fn bound_of(&self, k: usize, block: usize) -> [f32; 2] {
        self.bounds[k * self.blocks.len() + block]
    }

    /// May a probability in the block be one half?
    fn claimed(&self, block: usize) -> bool {
        (block..self.bounds.len()).step_by(self.blocks.len()).any(|at| self.bounds[at][1] >= 0.5)
    }

    /// Everywhere in the block, somebody's product is this at least.
    fn floor(&self, candidates: &[Candidate<'_>], block: usize) -> f32 {
        candidates.iter().enumerate().map(|(k, c)| c.score * self.bound_of(k, block)[0]).fold(0.0, f32::max)
    }

    /// May a candidate win a pixel of the block?
    fn contends(&self, candidates: &[Candidate<'_>], k: usize, block: usize, floor: f32) -> bool {
        candidates[k].score * self.bound_of(k, block)[1] >= floor
    }

    /// Counts and keeps the pixels of a block on these rows.
    #[inline(always)]
    fn share_part(
        &mut self,
        candidates: &[Candidate<'_>],
        rows: Range<usize>,
        block: usize,
        counts: &mut [Count],
        masks: &mut [Mask],
    ) {
        let pixels = self.blocks[block].columns.len();
        let all = u64::MAX >> (BLOCK - pixels);
        let floor = self.floor(candidates, block);
        let contested = (0..candidates.len()).filter(|k| self.contends(candidates, *k, block, floor)).count() > 1;
        for y in rows {
            let word = y * self.blocks.len() + block;
            let (mut best, mut share, mut winner) = ([-1.0; BLOCK], [0.0; BLOCK], [0u32; BLOCK]);
            for (k, candidate) in candidates.iter().enumerate() {
                let [least, largest] = self.bound_of(k, block);
                let contends = self.contends(candidates, k, block, floor);
                let own = if contends && contested || least < 0.5 && largest >= 0.5 {
                    let values = self.probabilities(candidate.logits, y, block);
                    if contends && contested {
                        for (i, value) in values.iter().enumerate() {
                            let product = candidate.score * value;
                            let more = product > best[i];
                            best[i] = if more { product } else { best[i] };
                            share[i] = if more { *value } else { share[i] };
                            winner[i] = if more { k as u32 } else { winner[i] };
                        }
                    }
                    pack(&values, |value| *value >= 0.5) & all
                } else if least >= 0.5 {
                    all
                } else {
                    0
                };
                counts[k].claimed += u64::from(own.count_ones());
                if contends && !contested {
                    counts[k].won += pixels as u64;
                    masks[k].words_mut()[word] = own;
                }
            }
            if contested {
                winner[..pixels].iter().for_each(|winner| counts[*winner as usize].won += 1);
                let mut rest = pack(&share, |share| *share >= 0.5) & all;
                while rest != 0 {
                    let first = winner[rest.trailing_zeros() as usize];
                    let of_first = pack(&winner, |winner| *winner == first) & rest;
                    masks[first as usize].words_mut()[word] = of_first;
                    rest &= !of_first;
                }
            }
        }
    }

    /// A candidate's probabilities on row `y` of a block; what lies beyond its last column is 0.
    #[inline(always)]
    fn probabilities(&mut self, logits: &[f32], y: usize, block: usize) -> [f32; BLOCK] {
        let Block { columns, taken, .. } = &self.blocks[block];
        let across = &self.inner[0][taken.clone()];
        let down = self.outer[1][y];
        // Where the frame took as many rows as it has, a row is one of them.
        let rows = if down.weight == 0.0 { 1 } else { 2 };
        for (narrow, number) in self.narrow.iter_mut().zip([down.low, down.high]).take(rows) {
            let Tap { low, high, weight } = self.inner[1][number];
            let [upper, lower] = [low, high].map(|row| &logits[row * self.way.logits[0]..][..self.way.logits[0]]);
            let column = |tap: &Tap| {
                let [upper, lower] = [upper, lower].map(|row| between(tap.weight, row[tap.low], row[tap.high]));
                between(weight, upper, lower)
            };
            narrow.clear();
            narrow.extend(across.iter().map(column));
            narrow.iter_mut().for_each(|value| *value = sigmoid(*value));
        }
        let mut values = [0.0; BLOCK];
        for (value, tap) in values.iter_mut().zip(&self.outer[0][columns.clone()]) {
            let [low, high] = [tap.low, tap.high].map(|at| at - taken.start);
            let [upper, lower] =
                [0, rows - 1].map(|at| between(tap.weight, self.narrow[at][low], self.narrow[at][high]));
            *value = between(down.weight, upper, lower);
        }
        values
    }
}

fn between(weight: f32, low: f32, high: f32) -> f32 {
    (1.0 - weight) * low + weight * high
}

/// A bit per value, from the lowest on.
fn pack<T>(values: &[T; BLOCK], is: impl Fn(&T) -> bool) -> u64 {
    values.as_chunks::<8>().0.iter().enumerate().fold(0, |word, (i, eight)| {
        let bytes = u64::from_le_bytes(std::array::from_fn(|at| u8::from(is(&eight[at]))));
        // The lowest bits of eight bytes, side by side in the highest byte.
        word | (bytes.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One of the two interpolations, of a whole image.
    fn grown(image: &[f64], from: [usize; 2], to: [u32; 2]) -> Vec<f64> {
        let pixel = |i: u32| {
            let (x, y) = (bilinear_tap(i % to[0], to[0], from[0]), bilinear_tap(i / to[0], to[1], from[1]));
            let mix = |w: f32, a: f64, b: f64| a * f64::from(1.0 - w) + b * f64::from(w);
            let row = |y: usize| mix(x.weight, image[y * from[0] + x.low], image[y * from[0] + x.high]);
            mix(y.weight, row(y.low), row(y.high))
        };
        (0..to[0] * to[1]).map(pixel).collect()
    }

    /// The published rule as it is written down, image by image; with, per pixel, how near a decision on it was.
    fn plain(way: Way, overlap: f64, candidates: &[Candidate<'_>]) -> (Vec<Vec<bool>>, Vec<f64>) {
        let probability = |candidate: &Candidate<'_>| {
            let logits: Vec<f64> = candidate.logits.iter().map(|v| f64::from(*v)).collect();
            let [across, down] = way.taken.map(|side| side as usize);
            let cut: Vec<f64> = grown(&logits, way.logits, way.input)
                .chunks_exact(way.input[0] as usize)
                .take(down)
                .flat_map(|row| row[..across].iter().map(|v| 1.0 / (1.0 + (-v).exp())))
                .collect();
            grown(&cut, [across, down], way.frame)
        };
        let all: Vec<Vec<f64>> = candidates.iter().map(probability).collect();
        let product = |k: usize, i: usize| f64::from(candidates[k].score) * all[k][i];
        let first_best = |best: usize, i: usize, k: usize| if product(k, i) > product(best, i) { k } else { best };
        let pixels = all.first().map_or(0, Vec::len);
        let winner: Vec<usize> =
            (0..pixels).map(|i| (1..all.len()).fold(0, |best, k| first_best(best, i, k))).collect();
        let near = (0..pixels).map(|i| {
            let others = (0..all.len()).filter(|k| *k != winner[i]).map(|k| product(winner[i], i) - product(k, i));
            others.chain(all.iter().map(|p| (p[i] - 0.5).abs())).fold(1.0, f64::min)
        });
        let kept = |k: usize| {
            let won = winner.iter().filter(|w| **w == k).count();
            let claimed = all[k].iter().filter(|p| **p >= 0.5).count();
            let enough = claimed == 0 || won as f64 / claimed as f64 >= overlap;
            (0..pixels).map(|i| enough && winner[i] == k && all[k][i] >= 0.5).collect()
        };
        ((0..all.len()).map(kept).collect(), near.collect())
    }

    fn bits(mask: &Mask) -> Vec<bool> {
        (0..mask.height()).flat_map(|y| (0..mask.width()).map(move |x| (x, y))).map(|(x, y)| mask.get(x, y)).collect()
    }

    #[test]
    fn the_likelier_object_wins_and_one_that_loses_its_mask_keeps_nothing() {
        let way = Way { logits: [4, 1], input: [4, 1], taken: [4, 1], frame: [4, 1] };
        let (a, b) = ([3.0, 3.0, 3.0, -9.0], [1.0, 1.0, 4.0, 0.0]);
        let mut masks = vec![Mask::default(), Mask::default()];
        let mut contest = Contest::default();
        let mut shared = |overlap, scores: [f32; 2]| {
            let candidates = [Candidate { score: scores[0], logits: &a }, Candidate { score: scores[1], logits: &b }];
            contest.share_out(way, overlap, &candidates, &mut masks);
            [bits(&masks[0]), bits(&masks[1])]
        };
        // b wins two of the four pixels that it has: the third, and the last, where it is one half.
        assert_eq!(shared(0.5, [0.9, 0.9]), [[true, true, false, false], [false, false, true, true]]);
        assert_eq!(shared(0.51, [0.9, 0.9]), [[true, true, false, false], [false; 4]]);
        // With a lower score than b's it keeps nothing.
        assert_eq!(shared(0.5, [0.6, 0.9]), [[false; 4], [true; 4]]);
    }

    #[test]
    fn the_first_of_equals_wins() {
        let way = Way { logits: [3, 1], input: [3, 1], taken: [3, 1], frame: [3, 1] };
        let same = Candidate { score: 0.9, logits: &[2.0, -2.0, 1.0] };
        let mut masks = vec![Mask::default(); 3];
        Contest::default().share_out(way, 0.5, &[same; 3], &mut masks);
        assert_eq!([0, 1, 2].map(|k| bits(&masks[k])), [vec![true, false, true], vec![false; 3], vec![false; 3]]);
    }

    #[test]
    fn a_pixel_below_one_half_is_nobodys_and_counts_for_who_wins_it() {
        let way = Way { logits: [5, 1], input: [5, 1], taken: [5, 1], frame: [5, 1] };
        let (a, b) = ([5.0, -1.0, -1.0, -1.0, -1.0], [4.0, -2.0, -2.0, -2.0, -2.0]);
        let mut masks = vec![Mask::default(), Mask::default()];
        let candidates = [Candidate { score: 1.0, logits: &a }, Candidate { score: 1.0, logits: &b }];
        Contest::default().share_out(way, 0.8, &candidates, &mut masks);
        assert_eq!([bits(&masks[0]), bits(&masks[1])], [[true, false, false, false, false], [false; 5]]);
    }

    /// Blobs of all sizes, so that most blocks are decided by their bounds; the last one is no number anywhere.
    #[test]
    fn what_bounds_decide_is_what_pixels_decide() {
        let (side, frame) = (48, [331, 203]);
        let mut contest = Contest::default();
        let mut kept = 0;
        for seed in 1..12 {
            let bytes = crate::frame::noise(40, seed);
            let blob = |k: usize, i: usize| {
                let at = |i: usize| f32::from(bytes[4 * k + i]) / 256.0;
                let (x, y) = ((i % side) as f32 / side as f32 - at(0), (i / side) as f32 / side as f32 - at(1));
                40.0 * (0.1 + 0.4 * at(2) - x.hypot(y)).clamp(-0.3, 0.3)
            };
            let mut logits: Vec<Vec<f32>> = (0..5).map(|k| (0..side * side).map(|i| blob(k, i)).collect()).collect();
            let score = |k: usize| 0.8 + f32::from(bytes[4 * k + 3]) / 2000.0;
            let way = Way { logits: [side; 2], input: [96, 96], taken: [96, 54 + seed as u32], frame };
            let shared = |logits: &[Vec<f32>], contest: &mut Contest| {
                let candidate = |(k, logits)| Candidate { score: score(k), logits };
                let candidates: Vec<Candidate<'_>> =
                    logits.iter().map(Vec::as_slice).enumerate().map(candidate).collect();
                let mut masks = vec![Mask::default(); logits.len()];
                contest.share_out(way, 0.5, &candidates, &mut masks);
                (masks, plain(way, 0.5, &candidates))
            };
            let (masks, (wanted, near)) = shared(&logits, &mut contest);
            for (k, (mask, wanted)) in masks.iter().zip(&wanted).enumerate() {
                let apart =
                    bits(mask).iter().zip(wanted).zip(&near).filter(|((a, b), near)| a != b && **near > 1e-5).count();
                assert_eq!(apart, 0, "seed {seed}, object {k}");
                kept += mask.area();
            }
            logits.push(vec![f32::NAN; side * side]);
            let (more, _) = shared(&logits, &mut contest);
            assert!(more[..5] == masks[..] && more[5].is_empty(), "what is no number wins nothing");
        }
        assert!(kept > 100_000, "{kept}");
    }

    proptest! {
        #[test]
        fn frames_are_shared_as_the_rule_says(
            seed in any::<u64>(), (w, h) in (1u32..90, 1u32..40), (across, down) in (1u32..33, 1u32..25), count in 1usize..6, overlap in 0.0f64..1.0,
        ) {
            let way = Way { logits: [8, 6], input: [32, 24], taken: [across.min(32), down.min(24)], frame: [w, h] };
            let bytes = crate::frame::noise(48 * count, seed | 1);
            let logits: Vec<f32> = bytes.iter().map(|b| f32::from(*b) / 16.0 - 8.0).collect();
            let score = |k: usize| 0.8 + f32::from(bytes[k]) / 2000.0;
            let candidates: Vec<Candidate<'_>> =
                logits.chunks_exact(48).enumerate().map(|(k, logits)| Candidate { score: score(k), logits }).collect();
            let mut masks = vec![Mask::default(); count];
            let mut contest = Contest::default();
            // What was there before has no part in it.
            contest.share_out(Way { frame: [h, w], ..way }, 0.0, &candidates, &mut masks);
            contest.share_out(way, overlap, &candidates, &mut masks);
            let (wanted, near) = plain(way, overlap, &candidates);
            // A pixel that rounding decides may decide whether its object has enough: such frames tell nothing.
            prop_assume!(near.iter().all(|near| *near > 1e-5));
            for (mask, wanted) in masks.iter().zip(&wanted) {
                prop_assert_eq!(&bits(mask), wanted);
            }
        }
    }
}
