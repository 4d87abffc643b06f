//! Which of several did better on the same things? Differences of mean scores, video by video, with their uncertainty.
//!
//! One method for all: models of a run, runs of a model, folders of predictions. A score is a mean over objects, and objects of
//! one video are not independent, so the difference of two means is a ratio estimate over whole videos (Cochran, "Sampling
//! Techniques", 3rd edition 1977, chapter 6): its variance is that of the videos' residuals, and it is judged by Student's t with
//! one degree of freedom less than there are videos. Where several differences are looked at, their p-values are Holm's ("A
//! simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::judge::stats;
use crate::results::record::{CellRecord, Interval, SequenceRecord};

/// A difference counts from here on.
pub const ALPHA: f64 = 0.05;

/// Scores of objects, by video.
pub type Scores = BTreeMap<String, BTreeMap<String, f64>>;

/// J&F of a cell's objects, 0 to 100; where a detector found them, that of the unsupervised task.
pub fn scores(cell: &CellRecord) -> Scores {
    let of_video = |s: &SequenceRecord| match s.found.as_ref().and_then(|found| found.scores.as_ref()) {
        Some(scores) => {
            let all = scores.proposals.iter();
            all.map(|p| (p.object.to_string(), (p.j + p.f) * 50.0)).collect()
        }
        None => s.objects.iter().filter_map(|o| Some((o.object.clone(), o.jf?))).collect(),
    };
    cell.sequences.iter().map(|s| (s.video.clone(), of_video(s))).collect()
}

/// How far the means of two lie apart, over the objects that both have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Videos with objects in both.
    pub videos: usize,
    /// Objects in both.
    pub objects: usize,
    /// Mean of the first over them.
    pub first: f64,
    /// Mean of the second over them.
    pub second: f64,
    /// Second less first.
    pub points: f64,
    /// Its 95 % interval; `None` below [`stats::MIN_UNITS`] videos.
    pub interval: Option<Interval>,
    /// Probability of so large a difference where there is none (two-sided); `None` as above.
    pub p: Option<f64>,
    /// The same after Holm's correction for all differences looked at together; see [`holm`].
    pub adjusted: Option<f64>,
}

impl Difference {
    /// Is there a difference beyond chance?
    pub fn clear(&self) -> bool {
        self.adjusted.or(self.p).is_some_and(|p| p < ALPHA)
    }
}

/// The difference between two; `None` where they share nothing.
pub fn difference(first: &Scores, second: &Scores) -> Option<Difference> {
    let video = |(video, objects): (&String, &BTreeMap<String, f64>)| -> Option<Vec<(f64, f64)>> {
        let other = second.get(video)?;
        let pairs: Vec<(f64, f64)> = objects.iter().filter_map(|(o, score)| Some((*score, *other.get(o)?))).collect();
        (!pairs.is_empty()).then_some(pairs)
    };
    between(&first.iter().filter_map(video).collect::<Vec<_>>())
}

/// The same from the pairs of each video.
pub fn between(videos: &[Vec<(f64, f64)>]) -> Option<Difference> {
    let all = videos.concat();
    let mean = |pick: fn(&(f64, f64)) -> f64| crate::score::mean(&all.iter().map(pick).collect::<Vec<_>>());
    let (first, second) = (mean(|p| p.0)?, mean(|p| p.1)?);
    let points = mean(|p| p.1 - p.0)?;
    let mut found = Difference {
        videos: videos.len(),
        objects: all.len(),
        first,
        second,
        points,
        interval: None,
        p: None,
        adjusted: None,
    };
    if all.iter().all(|(a, b)| a == b) {
        // Nothing differs: that needs no interval.
        (found.interval, found.p) = (Some(Interval { low: 0.0, high: 0.0 }), Some(1.0));
    } else if videos.len() >= stats::MIN_UNITS {
        let n = videos.len() as f64;
        let residual = |v: &Vec<(f64, f64)>| v.iter().map(|(a, b)| b - a - points).sum::<f64>().powi(2);
        let error = (n / (n - 1.0) * videos.iter().map(residual).sum::<f64>()).sqrt() / all.len() as f64;
        let half = stats::student_975(videos.len() - 1) * error;
        found.interval = Some(Interval { low: points - half, high: points + half });
        found.p = Some(two_sided(points / error, videos.len() - 1));
    }
    Some(found)
}

/// Gives several differences that are looked at together their adjusted p-values: the smallest times their number, the next
/// times one less, and so on, none smaller than the one before.
pub fn holm<'a>(differences: impl IntoIterator<Item = &'a mut Difference>) {
    let mut known: Vec<&mut Difference> = differences.into_iter().filter(|d| d.p.is_some()).collect();
    known.sort_by(|a, b| a.p.unwrap_or(1.0).total_cmp(&b.p.unwrap_or(1.0)));
    let (count, mut floor) = (known.len(), 0.0f64);
    for (rank, difference) in known.into_iter().enumerate() {
        floor = floor.max(difference.p.unwrap_or(1.0) * (count - rank) as f64).min(1.0);
        difference.adjusted = Some(floor);
    }
}

/// Probability that |t| is at least this large, Student's distribution with whole degrees of freedom, by the finite series of
/// Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
fn two_sided(t: f64, freedom: usize) -> f64 {
    if !t.is_finite() {
        return 0.0;
    }
    let angle = (t.abs() / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let (mut term, mut sum) = if odd { (cosine, if freedom > 1 { cosine } else { 0.0 }) } else { (1.0, 1.0) };
    let mut k = if odd { 3 } else { 2 };
    while k + 2 <= freedom {
        // From cos^(k-2) to cos^k, with (k-1)/k.
        term *= cosine * cosine * (k - 1) as f64 / k as f64;
        sum += term;
        k += 2;
    }
    let inside = if odd { 2.0 / std::f64::consts::PI * (angle + sine * sum) } else { sine * sum };
    (1.0 - inside).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_distribution_has_the_quantiles_of_its_table() {
        // 97.5 % quantiles, as in every table: the two sides are 5 %.
        for (freedom, t) in
            [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (6, 2.4469), (29, 2.0452), (120, 1.9799)]
        {
            assert!((two_sided(t, freedom) - 0.05).abs() < 2e-5, "{freedom}: {}", two_sided(t, freedom));
        }
        // scipy.stats.t.sf(3.5, 6) * 2, and the middle.
        assert!((two_sided(-3.5, 6) - 0.012_826_32).abs() < 1e-6, "{}", two_sided(-3.5, 6));
        assert_eq!((two_sided(0.0, 4), two_sided(f64::INFINITY, 4)), (1.0, 0.0));
    }

    #[test]
    fn with_one_object_per_video_it_is_the_paired_t_test() {
        // Differences 1, 2, 3, 4, 5: mean 3, standard error sqrt(2.5 / 5), t 4.2426 with 4 degrees of freedom.
        let videos: Vec<Vec<(f64, f64)>> = (1..=5).map(|i| vec![(10.0, 10.0 + f64::from(i))]).collect();
        let found = between(&videos).unwrap();
        let error = 0.5f64.sqrt();
        assert_eq!((found.first, found.second, found.points, found.videos), (10.0, 13.0, 3.0, 5));
        let interval = found.interval.unwrap();
        assert!(
            (interval.low - (3.0 - 2.776 * error)).abs() < 1e-9 && (interval.high - (3.0 + 2.776 * error)).abs() < 1e-9
        );
        assert!((found.p.unwrap() - 0.013_24).abs() < 1e-4, "{:?}", found.p);
        assert!(found.clear());
        // Four videos are too few for an interval, and no difference needs none.
        assert_eq!(between(&videos[..4]).unwrap().interval, None);
        assert!(!between(&videos[..4]).unwrap().clear());
        let same = between(&[vec![(4.0, 4.0)]]).unwrap();
        assert_eq!((same.points, same.p, same.clear()), (0.0, Some(1.0), false));
        assert_eq!(between(&[]), None);
    }

    #[test]
    fn only_what_both_have_is_compared() {
        let scores = |list: &[(&str, &str, f64)]| {
            let mut all = Scores::new();
            for (video, object, score) in list {
                all.entry((*video).into()).or_default().insert((*object).into(), *score);
            }
            all
        };
        let a = scores(&[("v", "1", 50.0), ("v", "2", 10.0), ("w", "1", 80.0)]);
        let b = scores(&[("v", "1", 60.0), ("x", "1", 80.0)]);
        let found = difference(&a, &b).unwrap();
        assert_eq!((found.videos, found.objects, found.first, found.second), (1, 1, 50.0, 60.0));
    }

    #[test]
    fn holm_corrects_for_all_that_was_looked_at() {
        let with = |p: f64| Difference { p: Some(p), ..between(&[vec![(1.0, 1.0)]]).unwrap() };
        let mut three = [with(0.03), with(0.01), with(0.04)];
        holm(&mut three);
        assert_eq!(three.map(|d| d.adjusted.unwrap()), [0.06, 0.03, 0.06]);
        let mut one = [with(0.03)];
        holm(&mut one);
        assert_eq!(one[0].adjusted, Some(0.03));
    }

    /// Two models that are alike, on as few videos as an interval takes: a 95 % interval must hold zero 95 times in 100. (The
    /// percentile bootstrap, which this replaced, holds it 83 times with five videos: of five differences of one sign it never does.)
    #[test]
    fn false_alarms_are_as_rare_as_promised() {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut normal = move || (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        for videos in [5, 7, 20] {
            let mut alarms = 0;
            for _ in 0..2000 {
                let sample: Vec<Vec<(f64, f64)>> = (0..videos)
                    .map(|v| {
                        let shared = 5.0 * normal();
                        (0..1 + v % 3).map(|_| (70.0, 70.0 + shared + 2.0 * normal())).collect()
                    })
                    .collect();
                alarms += usize::from(between(&sample).unwrap().clear());
            }
            let share = alarms as f64 / 2000.0;
            println!("{videos} videos: {:.1} % false alarms", share * 100.0);
            assert!((0.02..0.08).contains(&share), "{videos} videos: {share}");
        }
    }
}
