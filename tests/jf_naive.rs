//! J and F kernels against the plainest possible form of their definition, and the symmetries they must have.

use jetbench::score::{BOUNDARY_THRESHOLD, FrameCounts, FrameScorer, tolerance_radius};
use jetbench_runners::types::Mask;

/// SplitMix64, so that a failure can be repeated from its number.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u32) -> u32 {
        (self.next() % u64::from(n.max(1))) as u32
    }
}

/// Pixel by pixel: boundary from the three neighbours, partners by looking at every boundary pixel in the window.
fn naive(pred: &Mask, truth: &Mask, radius: u32) -> FrameCounts {
    let (w, h) = (truth.width(), truth.height());
    let boundary = |m: &Mask| {
        Mask::from_fn(w, h, |x, y| {
            let here = m.get(x, y);
            let (right, below) = (x + 1 < w, y + 1 < h);
            match (right, below) {
                (true, true) => here != m.get(x + 1, y) || here != m.get(x, y + 1) || here != m.get(x + 1, y + 1),
                (true, false) => here != m.get(x + 1, y),
                (false, true) => here != m.get(x, y + 1),
                (false, false) => false,
            }
        })
    };
    let (bp, bt) = (boundary(pred), boundary(truth));
    let matches = |a: &Mask, b: &Mask| {
        let r = i64::from(radius);
        let partner = |x: u32, y: u32| {
            (-r..=r).any(|dy| {
                (-r..=r).any(|dx| {
                    let (xx, yy) = (i64::from(x) + dx, i64::from(y) + dy);
                    dx * dx + dy * dy <= r * r
                        && (0..i64::from(w)).contains(&xx)
                        && (0..i64::from(h)).contains(&yy)
                        && b.get(xx as u32, yy as u32)
                })
            })
        };
        let pixels = (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        pixels.filter(|&(x, y)| a.get(x, y) && partner(x, y)).count() as u64
    };
    let count = |inside: &dyn Fn(bool, bool) -> bool| {
        let pixels = (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        pixels.filter(|&(x, y)| inside(pred.get(x, y), truth.get(x, y))).count() as u64
    };
    let (n_fg, n_gt) = (bp.area(), bt.area());
    let both = n_fg > 0 && n_gt > 0;
    FrameCounts {
        inter: count(&|p, t| p && t),
        union: count(&|p, t| p || t),
        pred_area: pred.area(),
        truth_area: truth.area(),
        n_fg,
        n_gt,
        fg_match: if both { matches(&bp, &bt) } else { 0 },
        gt_match: if both { matches(&bt, &bp) } else { 0 },
    }
}

/// Blobs, noise, stripes, nothing or everything.
fn random_mask(random: &mut Random, w: u32, h: u32) -> Mask {
    match random.below(8) {
        0 => Mask::empty(w, h),
        1 => Mask::from_fn(w, h, |_, _| true),
        2 => {
            let share = random.below(64);
            let bits: Vec<bool> = (0..w * h).map(|_| random.below(64) < share).collect();
            Mask::from_fn(w, h, |x, y| bits[(y * w + x) as usize])
        }
        3 => {
            let (step, skew) = (1 + random.below(9), random.below(3));
            Mask::from_fn(w, h, |x, y| ((x + skew * y) / step) % 2 == 0)
        }
        _ => blobs(random, w, h),
    }
}

fn blobs(random: &mut Random, w: u32, h: u32) -> Mask {
    let count = 1 + random.below(4);
    let discs: Vec<(i64, i64, i64, bool)> = (0..count)
        .map(|_| {
            let r = 1 + i64::from(random.below(w.max(h) / 3 + 2));
            (i64::from(random.below(w)), i64::from(random.below(h)), r * r, random.below(5) > 0)
        })
        .collect();
    Mask::from_fn(w, h, |x, y| {
        let inside =
            |&&(cx, cy, rr, _): &&(i64, i64, i64, bool)| (i64::from(x) - cx).pow(2) + (i64::from(y) - cy).pow(2) <= rr;
        discs.iter().rev().find(inside).is_some_and(|d| d.3)
    })
}

/// The mask moved by (dx, dy); what leaves is lost, what comes in is background.
fn moved(mask: &Mask, dx: i64, dy: i64) -> Mask {
    Mask::from_fn(mask.width(), mask.height(), |x, y| {
        let (xx, yy) = (i64::from(x) - dx, i64::from(y) - dy);
        let inside = (0..i64::from(mask.width())).contains(&xx) && (0..i64::from(mask.height())).contains(&yy);
        inside && mask.get(xx as u32, yy as u32)
    })
}

fn compare(random: &mut Random, w: u32, h: u32, radius: u32, what: &str) {
    let truth = random_mask(random, w, h);
    let pred = match random.below(4) {
        0 => random_mask(random, w, h),
        1 => truth.clone(),
        _ => moved(&truth, i64::from(random.below(9)) - 4, i64::from(random.below(9)) - 4),
    };
    let ours = FrameScorer::new(w, h, f64::from(radius)).counts(&pred, &truth);
    assert_eq!(ours, naive(&pred, &truth, radius), "{what}: {w}x{h}, radius {radius}");
}

#[test]
fn ten_thousand_random_masks_up_to_64x64() {
    let mut random = Random(1);
    for k in 0..10_000 {
        let (w, h) = (1 + random.below(64), 1 + random.below(64));
        // Mostly the radii that images have; sometimes one larger than the mask.
        let radius = if k % 100 == 0 { 1 + random.below(80) } else { 1 + random.below(4) };
        compare(&mut random, w, h, radius, &format!("case {k}"));
    }
}

#[test]
fn rows_of_several_words_and_radii_beyond_a_word() {
    let mut random = Random(2);
    for k in 0..60 {
        let (w, h) = (65 + random.below(200), 1 + random.below(90));
        let radius = [1, 5, 18, 36, 63, 64, 65, 130][k % 8];
        compare(&mut random, w, h, radius, &format!("case {k}"));
    }
}

/// 200 pairs at 1080p take minutes in the naive form: `cargo test --release --test it jf_naive:: -- --ignored`.
#[test]
#[ignore = "minutes: the naive form at 1080p"]
fn two_hundred_random_masks_at_1080p() {
    let mut random = Random(3);
    assert_eq!(tolerance_radius(1920, 1080, BOUNDARY_THRESHOLD), 18);
    for k in 0..200 {
        let truth = blobs(&mut random, 1920, 1080);
        let pred = match k % 4 {
            0 => blobs(&mut random, 1920, 1080),
            1 => truth.clone(),
            _ => moved(&truth, i64::from(random.below(61)) - 30, i64::from(random.below(61)) - 30),
        };
        let ours = FrameScorer::new(1920, 1080, BOUNDARY_THRESHOLD).counts(&pred, &truth);
        assert_eq!(ours, naive(&pred, &truth, 18), "case {k}");
    }
}

#[test]
fn exchanging_prediction_and_truth_exchanges_precision_and_recall() {
    let mut random = Random(4);
    for _ in 0..500 {
        let (w, h) = (1 + random.below(90), 1 + random.below(40));
        let (a, b) = (random_mask(&mut random, w, h), random_mask(&mut random, w, h));
        let mut scorer = FrameScorer::new(w, h, BOUNDARY_THRESHOLD);
        let (ab, ba) = (scorer.counts(&a, &b), scorer.counts(&b, &a));
        assert_eq!((ab.inter, ab.union), (ba.inter, ba.union));
        assert_eq!((ab.n_fg, ab.fg_match, ab.n_gt, ab.gt_match), (ba.n_gt, ba.gt_match, ba.n_fg, ba.fg_match));
        assert_eq!(ab.j().to_bits(), ba.j().to_bits());
        assert_eq!(scorer.score(&a, &a).j, 1.0);
        assert_eq!(scorer.score(&a, &a).f, 1.0);
    }
}

#[test]
fn moving_both_masks_away_from_the_border_changes_nothing() {
    let mut random = Random(5);
    for _ in 0..300 {
        let (w, h) = (120 + random.below(80), 80 + random.below(40));
        let centre =
            |m: Mask| Mask::from_fn(w, h, |x, y| (25..w - 25).contains(&x) && (25..h - 25).contains(&y) && m.get(x, y));
        let (a, b) = (centre(blobs(&mut random, w, h)), centre(blobs(&mut random, w, h)));
        let (dx, dy) = (i64::from(random.below(41)) - 20, i64::from(random.below(41)) - 20);
        let mut scorer = FrameScorer::new(w, h, 3.0);
        assert_eq!(scorer.counts(&a, &b), scorer.counts(&moved(&a, dx, dy), &moved(&b, dx, dy)));
    }
}
