//! Two label maps of one frame, compared without a mask of any object: how many pixels there are of each pair of ids says all that an IoU
//! needs.

use std::collections::BTreeMap;
use std::path::Path;

use super::labels::Met;
use crate::dataset::{LabelRows, read_mask_file};
use crate::score::label_pair::VOID;

/// More bytes than the decoders of two files hold.
const DECODERS: usize = 4 << 20;

/// Pixels of one frame by their id in the truth and in the tracks. Its memory is used again for every frame.
pub(super) struct Crossing {
    /// Bytes of both files.
    files: [Vec<u8>; 2],
    /// By the id in the truth times 256 and the id in the tracks.
    pixels: Vec<u32>,
    /// Places in `pixels` that are not 0.
    pairs: Vec<u16>,
}

impl Crossing {
    pub(super) fn new() -> Crossing {
        // A C library that gives freed memory back to the kernel at once, as glibc does until it has seen a larger block go, would have
        // every frame fault the decoders' buffers in again. Nothing touches this block.
        drop(std::hint::black_box(Vec::<u8>::with_capacity(DECODERS)));
        Crossing { files: Default::default(), pixels: vec![0; 1 << 16], pairs: Vec::new() }
    }

    /// Compares two PNG files, and says whether the truth has void pixels, which are taken out of the tracks with `remove_void`. `None`
    /// where ids need more than a byte, rows are interlaced, or anything is wrong.
    pub(super) fn compare(&mut self, truth: &Path, tracks: &Path, remove_void: bool) -> Option<(Met, bool)> {
        let counted = self.count(truth, tracks);
        let met = counted.map(|()| self.met(remove_void));
        self.pairs.drain(..).for_each(|pair| self.pixels[usize::from(pair)] = 0);
        met
    }

    fn count(&mut self, truth: &Path, tracks: &Path) -> Option<()> {
        let [mut truth_file, mut tracks_file] = std::mem::take(&mut self.files);
        read_mask_file(truth, &mut truth_file).ok()?;
        read_mask_file(tracks, &mut tracks_file).ok()?;
        let (mut truth, mut tracks) = (LabelRows::open(&truth_file).ok()??, LabelRows::open(&tracks_file).ok()??);
        if truth.size() != tracks.size() {
            return None;
        }
        for _ in 0..truth.size().1 {
            self.row(truth.next().ok()?, tracks.next().ok()?);
        }
        truth.finish().ok()?;
        tracks.finish().ok()?;
        self.files = [truth_file, tracks_file];
        Some(())
    }

    /// Counts a row, a stretch of one pair of ids at a time.
    fn row(&mut self, mut truth: &[u8], mut tracks: &[u8]) {
        while let ([t, ..], [p, ..]) = (truth, tracks) {
            let pair = u16::from(*t) << 8 | u16::from(*p);
            let pixels = stretch(truth, tracks, *t, *p);
            let count = &mut self.pixels[usize::from(pair)];
            if *count == 0 {
                self.pairs.push(pair);
            }
            *count += pixels as u32;
            (truth, tracks) = (&truth[pixels..], &tracks[pixels..]);
        }
    }

    fn met(&self, remove_void: bool) -> (Met, bool) {
        let (mut truth, mut tracks) = (BTreeMap::<u32, u64>::new(), BTreeMap::<u32, u64>::new());
        let mut void = false;
        for pair in &self.pairs {
            let ([t, p], pixels) = (pair.to_be_bytes(), u64::from(self.pixels[usize::from(*pair)]));
            let of_void = u16::from(t) == VOID;
            void |= of_void;
            if t != 0 && !of_void {
                *truth.entry(t.into()).or_default() += pixels;
            }
            if p != 0 && !(of_void && remove_void) {
                *tracks.entry(p.into()).or_default() += pixels;
            }
        }
        let iou = |t: (&u32, &u64), p: (&u32, &u64)| {
            let both = u64::from(self.pixels[(t.0 << 8 | p.0) as usize]);
            both as f64 / (t.1 + p.1 - both) as f64
        };
        let each = truth.iter().flat_map(|t| tracks.iter().map(move |p| iou(t, p))).collect();
        (Met { truth: truth.keys().copied().collect(), tracks: tracks.keys().copied().collect(), iou: each }, void)
    }
}

/// Pixels from the first on that have the ids `t` and `p`.
fn stretch(truth: &[u8], tracks: &[u8], t: u8, p: u8) -> usize {
    let (truth_chunks, _) = truth.as_chunks::<64>();
    let (tracks_chunks, _) = tracks.as_chunks::<64>();
    let other = |(a, b): (&[u8; 64], &[u8; 64])| a.iter().zip(b).fold(0, |odd, (a, b)| odd | (a ^ t) | (b ^ p)) != 0;
    let whole = truth_chunks.iter().zip(tracks_chunks).position(other).unwrap_or(truth_chunks.len()) * 64;
    let rest = truth[whole..].iter().zip(&tracks[whole..]);
    whole + rest.take_while(|(a, b)| **a == t && **b == p).count()
}

#[cfg(test)]
mod tests {
    use png::{BitDepth, ColorType};
    use proptest::prelude::*;

    use super::*;
    use crate::score::predicted::Predicted;
    use crate::score::tracking::labels::masks;

    fn save(path: &Path, width: u32, height: u32, depth: BitDepth, data: &[u8]) {
        let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), width, height);
        encoder.set_depth(depth);
        encoder.set_color(ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
    }

    /// Stretches of ids, as bytes.
    fn drawn(pixels: usize, ids: &[u8], mut state: u64) -> Vec<u8> {
        let mut id = 0;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if state >> 59 == 0 {
                id = ids[(state >> 33) as usize % ids.len()];
            }
            id
        };
        (0..pixels).map(|_| next()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn counts_of_pairs_say_what_masks_say(
            width in 1u32..300, height in 1u32..5, seeds in any::<[u64; 4]>(), ids in any::<[u8; 3]>()
        ) {
            let dir = tempfile::tempdir().unwrap();
            let pixels = (width * height) as usize;
            let mut crossing = Crossing::new();
            for (i, pair) in seeds.chunks(2).enumerate() {
                let [truth, tracks] = ["truth", "tracks"].map(|side| dir.path().join(side));
                for (side, seed) in [&truth, &tracks].into_iter().zip(pair) {
                    std::fs::create_dir_all(side).unwrap();
                    let ids = [0, 1, 255, ids[0], ids[1], ids[2]];
                    save(&side.join("0.png"), width, height, BitDepth::Eight, &drawn(pixels, &ids, *seed));
                }
                for remove_void in [false, true] {
                    let ours = crossing.compare(&truth.join("0.png"), &tracks.join("0.png"), remove_void);
                    let wanted = masks(&truth, &Predicted::Folder(tracks.clone()), "0.png", remove_void).unwrap();
                    prop_assert_eq!(ours, Some(wanted), "pair {}", i);
                }
            }
        }
    }

    #[test]
    fn what_masks_have_to_say_is_left_to_them_and_packed_rows_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let [byte, bit, wide, other, cut] = ["byte", "bit", "wide", "other", "cut"].map(|name| dir.path().join(name));
        save(&byte, 9, 2, BitDepth::Eight, &[0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 255]);
        save(&bit, 9, 2, BitDepth::One, &[0b0001_1000, 0, 0b0001_1000, 0]);
        save(&wide, 9, 2, BitDepth::Sixteen, &[0; 36]);
        save(&other, 2, 9, BitDepth::Eight, &[0; 18]);
        std::fs::write(&cut, &std::fs::read(&byte).unwrap()[..60]).unwrap();
        let mut crossing = Crossing::new();
        let met = Met { truth: vec![1], tracks: vec![1], iou: vec![0.5] };
        assert_eq!(crossing.compare(&byte, &bit, false), Some((met, true)));
        for odd in [&wide, &other, &cut, &dir.path().join("nowhere")] {
            assert_eq!(crossing.compare(&byte, odd, false), None, "{odd:?}");
            assert_eq!(crossing.compare(odd, &byte, false), None, "{odd:?}");
        }
        assert!(crossing.compare(&byte, &bit, false).is_some(), "nothing is left of what was given up");
    }
}
