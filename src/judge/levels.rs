//! At which levels did latency stand, and when did it change from one to the next? Change points by penalised least squares: the
//! segmentation that PELT finds (Killick, Fearnhead & Eckley 2012), here by its recursion without pruning, since there are never more than 64
//! points: medians of blocks of frames, as logarithms. The penalty counts in variances of such a median in a run without changes; that
//! variance is taken within pairs of blocks, where a change of level hardly shows, and widened for neighbouring frames that are alike, as
//! those of a first-order autoregression with the correlation found. `docs/measuring.md` has the false alarms and the power, made by the
//! ignored test below.

use crate::judge::{limits, stats};

/// Frames of a block at least: one slow frame must not decide.
pub const BLOCK: usize = 10;
/// Blocks at most; longer runs have longer blocks.
const MOST_BLOCKS: usize = 64;
/// Blocks of a level at least.
const SHORTEST: usize = 2;
/// What a further change must explain, in variances of a block's median.
const PENALTY: f64 = 25.0;
/// By how much that variance is widened where neighbours are wholly alike, as a share: a correlation is found from few pairs of blocks, and one
/// that is found too small calls slow waves a change.
const UNSURE: f64 = 0.35;
/// Variance of a median over that of a mean, of normal samples.
const OF_A_MEDIAN: f64 = std::f64::consts::FRAC_PI_2;
/// Least standard deviation of a block's median, as a share: clocks are not finer.
const FINEST: f64 = 0.001;

/// A stretch of a run at one latency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// First frame, in run order.
    pub from: usize,
    /// Frames.
    pub frames: usize,
    /// Median over its blocks, in the unit of the samples.
    pub value: f64,
}

/// Levels in order, without gaps; one where nothing changed. Samples are positive; nothing for less than two pairs of blocks.
pub fn levels(samples: &[f64]) -> Vec<Level> {
    let block = samples.len().div_ceil(MOST_BLOCKS).max(BLOCK);
    if samples.len() < 2 * SHORTEST * block {
        return Vec::new();
    }
    let logs: Vec<f64> = samples.iter().map(|v| v.max(f64::MIN_POSITIVE).ln()).collect();
    let medians: Vec<f64> = logs.chunks_exact(block).filter_map(stats::median).collect();
    let mut from = 0;
    let ends = segments(&medians, PENALTY * variance(&logs, block));
    let mut found = Vec::with_capacity(ends.len());
    for end in ends {
        let value = stats::median(&medians[from..end]).unwrap_or_default().exp();
        // Frames after the last whole block belong to the last level.
        let last = if end == medians.len() { samples.len() } else { end * block };
        found.push(Level { from: from * block, frames: last - from * block, value });
        from = end;
    }
    found
}

/// Variance of the median of a block in a run without changes.
fn variance(logs: &[f64], block: usize) -> f64 {
    let window = SHORTEST * block;
    let spread = |values: &[f64]| stats::median(&values.iter().map(|v| v.abs()).collect::<Vec<_>>());
    let centred = |values: &[f64], centre: f64| values.iter().map(|v| v - centre).collect::<Vec<f64>>();
    let windows: Vec<Vec<f64>> =
        logs.chunks_exact(window).map(|w| centred(w, stats::median(w).unwrap_or_default())).collect();
    // Outliers are no part of a block's median: what lies beyond three deviations counts as three.
    let fence = 3.0 * stats::MAD_TO_SIGMA * spread(&windows.concat()).unwrap_or_default();
    let (mut squares, mut products) = (Vec::new(), Vec::new());
    for window in &windows {
        let kept: Vec<f64> = window.iter().map(|v| v.clamp(-fence, fence)).collect();
        let kept = centred(&kept, kept.iter().sum::<f64>() / kept.len() as f64);
        squares.push(kept.iter().map(|v| v * v).sum::<f64>() / kept.len() as f64);
        products.push(kept.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / (kept.len() - 1) as f64);
    }
    let square = stats::median(&squares).unwrap_or_default();
    let product = stats::median(&products).unwrap_or_default();
    let n = window as f64;
    // Within a window of n the correlation is seen too small by about (1 + 3r) / n (Kendall 1954).
    let alike = ((product / square.max(f64::MIN_POSITIVE) + 1.0 / n) / (1.0 - 3.0 / n)).clamp(0.0, 0.9);
    let longer = (1.0 + alike) / (1.0 - alike);
    let of_a_sample = square / (1.0 - longer / n).max(0.3);
    (of_a_sample * longer * (1.0 + UNSURE * alike) * OF_A_MEDIAN / block as f64).max(FINEST * FINEST)
}

/// Ends of the segments that minimise the squared distances to their means plus `penalty` per segment.
fn segments(values: &[f64], penalty: f64) -> Vec<usize> {
    let sums = |of: fn(f64) -> f64| -> Vec<f64> {
        let running = values.iter().scan(0.0, |sum, v| {
            *sum += of(*v);
            Some(*sum)
        });
        std::iter::once(0.0).chain(running).collect()
    };
    let (plain, squared) = (sums(|v| v), sums(|v| v * v));
    let cost = |from: usize, to: usize| {
        let sum = plain[to] - plain[from];
        squared[to] - squared[from] - sum * sum / (to - from) as f64
    };
    let mut best = vec![f64::INFINITY; values.len() + 1];
    let mut before = vec![0; values.len() + 1];
    best[0] = 0.0;
    for to in SHORTEST..=values.len() {
        for from in 0..=to - SHORTEST {
            let total = best[from] + cost(from, to) + penalty;
            if total < best[to] {
                (best[to], before[to]) = (total, from);
            }
        }
    }
    let mut ends = vec![values.len()];
    while let Some(from) = ends.last().map(|to| before[*to]).filter(|from| *from > 0) {
        ends.push(from);
    }
    ends.reverse();
    ends
}

/// What the levels of a run say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// One level, or several within a tenth.
    Level,
    /// Other levels were there, too near or too short to forbid the figures.
    Shifted,
    /// A tenth of the frames or more stood at a level more than a quarter away.
    Unsteady,
}

/// See [`Stability`]. The main level is that around which most frames stand. A slower beginning of half the run at most is a slow start: it
/// shifts and is not unsteady.
pub fn stability(levels: &[Level]) -> Stability {
    let away = |a: &Level, b: &Level| (a.value / b.value).max(b.value / a.value);
    let near = |main: &Level| -> usize {
        levels.iter().filter(|other| away(main, other) <= limits::SHIFT).map(|other| other.frames).sum()
    };
    let Some(main) = levels.iter().max_by_key(|level| near(level)) else { return Stability::Level };
    let all: usize = levels.iter().map(|level| level.frames).sum();
    let slow_start = levels.iter().take_while(|level| level.value > main.value && away(level, main) > limits::SHIFT);
    let begin: usize = slow_start.map(|level| level.frames).sum();
    let begin = if begin <= all / 2 { begin } else { 0 };
    let off: usize = levels
        .iter()
        .filter(|level| level.from >= begin && away(level, main) > limits::UNSTEADY)
        .map(|level| level.frames)
        .sum();
    if off as f64 >= limits::UNSTEADY_SHARE * all as f64 {
        Stability::Unsteady
    } else if levels.iter().any(|level| away(level, main) > limits::SHIFT) {
        Stability::Shifted
    } else {
        Stability::Level
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::stats::{SplitMix, normal};

    const FRAMES: usize = 240;

    /// Noise around 1, made from standard normal draws; `scale` is its relative spread.
    type Noise = fn(&mut SplitMix, f64) -> Vec<f64>;

    fn draws(random: &mut SplitMix) -> Vec<f64> {
        (0..FRAMES).map(|_| normal(random)).collect()
    }

    fn alike(random: &mut SplitMix, scale: f64, correlation: f64) -> Vec<f64> {
        let mut at = normal(random);
        let step = |z: &f64| {
            at = correlation * at + (1.0 - correlation * correlation).sqrt() * z;
            (scale * at).exp()
        };
        draws(random).iter().map(step).collect()
    }

    const NOISES: [(&str, Noise); 7] = [
        ("normal", |r, s| draws(r).iter().map(|z| (1.0 + s * z).max(0.05)).collect()),
        ("skewed: lognormal above a floor", |r, s| draws(r).iter().map(|z| 1.0 - s + s * z.exp()).collect()),
        ("heavy tails: Student's t, 2 degrees", |r, s| {
            draws(r)
                .iter()
                .map(|z| (0.5 * s * z / (normal(r).powi(2) / 2.0 + normal(r).powi(2) / 2.0).sqrt()).exp())
                .collect()
        }),
        ("normal, 3 % of frames x 4", |r, s| {
            draws(r).iter().map(|z| (s * z).exp() * if r.below(100) < 3 { 4.0 } else { 1.0 }).collect()
        }),
        ("neighbours alike, AR(1) 0.5", |r, s| alike(r, s, 0.5)),
        ("neighbours alike, AR(1) 0.8", |r, s| alike(r, s, 0.8)),
        ("neighbours alike, AR(1) 0.9", |r, s| alike(r, s, 0.9)),
    ];

    const SCALES: [f64; 4] = [0.02, 0.05, 0.1, 0.2];

    /// Name, factor on frame `i`, and what is expected at 3 % noise.
    type Shape = (&'static str, fn(usize) -> f64, Stability);

    const SHAPES: [Shape; 12] = [
        ("step to x2 at frame 150", |i| if i < 150 { 1.0 } else { 2.0 }, Stability::Unsteady),
        ("step to x2 at frame 60", |i| if i < 60 { 1.0 } else { 2.0 }, Stability::Unsteady),
        ("step to x1.3 at frame 150", |i| if i < 150 { 1.0 } else { 1.3 }, Stability::Unsteady),
        ("step to x1.15 at frame 150", |i| if i < 150 { 1.0 } else { 1.15 }, Stability::Shifted),
        ("rise to x3 for the last 30 frames", |i| if i < 210 { 1.0 } else { 3.0 }, Stability::Unsteady),
        ("5 and 12 ms in turn, 20 frames each", |i| if i / 20 % 2 == 0 { 1.0 } else { 2.4 }, Stability::Unsteady),
        ("5 and 12 ms in turn, 50 frames each", |i| if i / 50 % 2 == 0 { 1.0 } else { 2.4 }, Stability::Unsteady),
        (
            "ramp to x2 with a dip at frame 100",
            |i| (1.0 + i as f64 / 240.0) * if i / 20 == 5 { 0.8 } else { 1.0 },
            Stability::Unsteady,
        ),
        ("ramp to x1.3", |i| 1.0 + 0.3 * i as f64 / 240.0, Stability::Shifted),
        ("x3 for 20 frames in the middle", |i| if i / 20 == 6 { 3.0 } else { 1.0 }, Stability::Shifted),
        ("slow start: x2 for 40 frames", |i| if i < 40 { 2.0 } else { 1.0 }, Stability::Shifted),
        ("no change", |_| 1.0, Stability::Level),
    ];

    /// Of how many runs in a hundred anything was said, and of how many that they are unsteady.
    fn rates(trials: usize, mut run: impl FnMut() -> Vec<f64>) -> (f64, f64) {
        let said: Vec<Stability> = (0..trials).map(|_| stability(&levels(&run()))).collect();
        let of =
            |wanted: &[Stability]| 100.0 * said.iter().filter(|s| wanted.contains(s)).count() as f64 / trials as f64;
        (of(&[Stability::Shifted, Stability::Unsteady]), of(&[Stability::Unsteady]))
    }

    fn shaped(random: &mut SplitMix, noise: Noise, scale: f64, shape: fn(usize) -> f64) -> Vec<f64> {
        noise(random, scale).iter().enumerate().map(|(i, v)| v * shape(i)).collect()
    }

    /// A short form of the tables in docs/measuring.md, with fixed seeds.
    #[test]
    fn changes_of_level_are_seen_and_stationary_noise_is_not_accused() {
        let mut random = SplitMix(240);
        for (name, noise) in NOISES {
            for scale in SCALES {
                let (said, _) = rates(100, || noise(&mut random, scale));
                assert!(said <= 1.0, "{name}, {scale}: {said} of 100 stationary runs accused");
            }
        }
        for (name, shape, expected) in SHAPES {
            let (said, unsteady) = rates(40, || shaped(&mut random, NOISES[0].1, 0.03, shape));
            let wanted = match expected {
                Stability::Unsteady => unsteady >= 95.0,
                Stability::Shifted => said >= 95.0 && unsteady <= 5.0,
                Stability::Level => said == 0.0,
            };
            assert!(wanted, "{name}: {said} of 100 shifted, {unsteady} unsteady");
        }
    }

    /// The tables in docs/measuring.md: `cargo test --lib -- --ignored --nocapture print_the_tables_of_levels`.
    #[test]
    #[ignore = "makes the tables in docs/measuring.md; takes minutes"]
    fn print_the_tables_of_levels() {
        let mut random = SplitMix(1);
        let percent = |value: f64| format!("{value:.1}");
        println!("| noise without a change | {} |", SCALES.map(|s| format!("{:.0} %", s * 100.0)).join(" | "));
        println!("|---|---|---|---|---|");
        for (name, noise) in NOISES {
            let row = SCALES.map(|scale| percent(rates(5000, || noise(&mut random, scale)).0));
            println!("| {name} | {} |", row.join(" | "));
        }
        println!("\n| shape | 3 % normal | 10 % normal | 10 % lognormal | 10 % AR(1) 0.8 |\n|---|---|---|---|---|");
        for (name, shape, _) in SHAPES {
            let row = [(0, 0.03), (0, 0.1), (1, 0.1), (5, 0.1)].map(|(noise, scale): (usize, f64)| {
                let (said, unsteady) = rates(500, || shaped(&mut random, NOISES[noise].1, scale, shape));
                format!("{said:.0} / {unsteady:.0}")
            });
            println!("| {name} | {} |", row.join(" | "));
        }
    }

    #[test]
    fn levels_have_their_frames_and_values() {
        let run: Vec<f64> = (0..247).map(|i| if i < 150 { 5.0 } else { 12.0 }).collect();
        let found = levels(&run);
        assert_eq!(found.iter().map(|l| (l.from, l.frames)).collect::<Vec<_>>(), [(0, 150), (150, 97)]);
        assert!((found[0].value - 5.0).abs() < 1e-9 && (found[1].value - 12.0).abs() < 1e-9);
        assert_eq!(levels(&run[..39]), []);
        assert_eq!(levels(&vec![3.0; 20_000]).len(), 1, "long runs have longer blocks");
    }
}
