//! Average precision and recall over IoU thresholds, areas and numbers of results per video, in YTVOSeval's order of sums.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Tube;
use super::files::Instances;
use super::masks::VideoTubes;
use crate::score::mean;

/// IoU thresholds: 0.50 to 0.95.
const THRESHOLDS: usize = 10;
/// Points of recall at which precision is read.
const POINTS: usize = 101;
/// Results of a video that are looked at.
const MOST: [usize; 3] = [1, 10, 100];

/// Averages; `None` where the truth has no such instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Averages {
    /// Over IoU 0.50 to 0.95.
    #[serde(rename = "AP")]
    pub ap: Option<f64>,
    /// At IoU 0.50.
    #[serde(rename = "AP50")]
    pub ap50: Option<f64>,
    /// At IoU 0.75.
    #[serde(rename = "AP75")]
    pub ap75: Option<f64>,
    /// Instances below 128² pixels.
    #[serde(rename = "APs")]
    pub ap_small: Option<f64>,
    /// Instances between.
    #[serde(rename = "APm")]
    pub ap_medium: Option<f64>,
    /// Instances above 256² pixels.
    #[serde(rename = "APl")]
    pub ap_large: Option<f64>,
    /// Recall with one result per video.
    #[serde(rename = "AR1")]
    pub ar1: Option<f64>,
    /// With ten.
    #[serde(rename = "AR10")]
    pub ar10: Option<f64>,
    /// With a hundred.
    #[serde(rename = "AR100")]
    pub ar100: Option<f64>,
    /// Of small instances.
    #[serde(rename = "ARs")]
    pub ar_small: Option<f64>,
    /// Of medium ones.
    #[serde(rename = "ARm")]
    pub ar_medium: Option<f64>,
    /// Of large ones.
    #[serde(rename = "ARl")]
    pub ar_large: Option<f64>,
    /// OVIS: AP and AR of lightly, moderately and heavily occluded instances.
    #[serde(flatten)]
    pub occluded: Option<Occluded>,
    /// Per category, where there are instances of it.
    pub categories: Vec<CategoryAverage>,
}

/// OVIS's averages by occlusion.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(non_snake_case, reason = "the reference's names")]
pub struct Occluded {
    /// AP, occlusion score 0 to 0.25.
    pub AP_light: Option<f64>,
    /// 0.25 to 0.5.
    pub AP_medium: Option<f64>,
    /// 0.5 to 1.
    pub AP_heavy: Option<f64>,
    /// AR, 0 to 0.25.
    pub AR_light: Option<f64>,
    /// 0.25 to 0.5.
    pub AR_medium: Option<f64>,
    /// 0.5 to 1.
    pub AR_heavy: Option<f64>,
}

/// One category.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CategoryAverage {
    /// Its id; -1 for all together.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// AP over the thresholds.
    #[serde(rename = "AP")]
    pub ap: Option<f64>,
    /// Recall at each threshold, of 100 results per video.
    #[serde(rename = "AR100")]
    pub ar100: Vec<f64>,
}

/// Value `i` of `count` from `from` to `to`, as numpy's linspace gives it.
fn linspace(from: f64, to: f64, count: usize, i: usize) -> f64 {
    if i + 1 == count { to } else { i as f64 * ((to - from) / (count - 1) as f64) + from }
}

/// Which instances count.
#[derive(Clone, Copy)]
struct Range {
    area: (f64, f64),
    occlusion: Option<(f64, f64)>,
}

impl Range {
    fn excludes_area(self, tube: &Part) -> bool {
        tube.area < self.area.0 || tube.area > self.area.1
    }

    fn ignores(self, truth: &Part) -> bool {
        let hidden = self.occlusion.zip(truth.occlusion).is_some_and(|(r, o)| o < r.0 || o > r.1);
        truth.crowd || self.excludes_area(truth) || hidden
    }
}

const EVERY: (f64, f64) = (0.0, 1e10);
const RANGES: [Range; 7] = {
    const fn area(from: f64, to: f64) -> Range {
        Range { area: (from, to), occlusion: None }
    }
    const fn occluded(from: f64, to: f64) -> Range {
        Range { area: EVERY, occlusion: Some((from, to)) }
    }
    [
        area(EVERY.0, EVERY.1),
        area(0.0, 16384.0),
        area(16384.0, 65536.0),
        area(65536.0, 1e10),
        occluded(0.0, 0.25),
        occluded(0.25, 0.5),
        occluded(0.5, 1.0),
    ]
};

/// What decides whether and when a tube counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Score of a result; 0 for the truth.
    pub score: f64,
    /// Mean area of the frames where it has one, pixels.
    pub area: f64,
    /// A crowd: it may be matched any number of times and counts for nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crowd: bool,
    /// OVIS's occlusion score of a truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occlusion: Option<f64>,
}

/// Results and instances of one video and category, with their IoU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Best score first, a hundred at most.
    pub results: Vec<Part>,
    /// Instances of the truth.
    pub truth: Vec<Part>,
    /// IoU of the tubes, a row per result.
    pub iou: Vec<f64>,
}

impl Group {
    /// Compares all results with all instances.
    pub fn of(mut results: Vec<&Tube>, truth: &[&Tube]) -> Group {
        results.sort_by(|a, b| b.part.score.total_cmp(&a.part.score));
        results.truncate(MOST[2]);
        let iou = results.iter().flat_map(|r| truth.iter().map(move |t| r.iou(t))).collect();
        let parts = |tubes: &[&Tube]| tubes.iter().map(|tube| tube.part).collect();
        Group { results: parts(&results), truth: parts(truth), iou }
    }
}

/// Averages over videos, categories left aside.
pub fn class_agnostic(videos: Vec<Group>) -> Averages {
    averages(&Pairing { groups: vec![videos], ids: vec![(-1, "all".to_string())] }, false)
}

/// Averages over categories, a result counting for its own one only; each video's groups by category. A category of which no video has an
/// instance counts for nothing, as in the reference.
pub fn class_aware(videos: &[&BTreeMap<String, Group>]) -> Averages {
    let names: BTreeSet<&String> = videos.iter().flat_map(|groups| groups.keys()).collect();
    let of = |name: &String| videos.iter().map(|groups| groups.get(name).cloned().unwrap_or_default()).collect();
    let groups = names.iter().map(|name| of(name)).collect();
    let ids = (1i64..).zip(&names).map(|(id, name)| (id, name.to_string())).collect();
    averages(&Pairing { groups, ids }, false)
}

/// Groups by category, in each by video.
pub(super) struct Pairing {
    groups: Vec<Vec<Group>>,
    ids: Vec<(i64, String)>,
}

impl Pairing {
    /// Pairs results with instances of their category; or all with all.
    pub(super) fn new(instances: &Instances, by_category: bool) -> Self {
        let sets: Vec<Option<usize>> = match by_category {
            true => (0..instances.categories.len()).map(Some).collect(),
            false => vec![None],
        };
        let ids = if by_category { instances.categories.clone() } else { vec![(-1, "all".to_string())] };
        let groups = sets.iter().map(|set| instances.videos.iter().map(|video| Group::in_video(video, *set)).collect());
        Pairing { groups: groups.collect(), ids }
    }
}

/// Places of the tubes of one category, or of all, which then stand category by category.
fn of_category(tubes: &[(usize, Part)], category: Option<usize>) -> Vec<usize> {
    let mut places: Vec<usize> = (0..tubes.len()).filter(|i| category.is_none_or(|c| c == tubes[*i].0)).collect();
    places.sort_by_key(|i| tubes[*i].0);
    places
}

/// Places of the results that are looked at, of one category or of all: best score first, a hundred at most.
pub(super) fn best(results: &[(usize, Part)], category: Option<usize>) -> Vec<usize> {
    let mut best = of_category(results, category);
    best.sort_by(|a, b| results[*b].1.score.total_cmp(&results[*a].1.score));
    best.truncate(MOST[2]);
    best
}

/// What became of the results of one group at every threshold.
struct Matched {
    /// Per threshold, per result: it has a partner; it counts for nobody.
    results: Vec<Vec<(bool, bool)>>,
    scores: Vec<f64>,
    /// Instances that count.
    instances: usize,
}

impl Group {
    /// Results and instances of a video, of one category or of all.
    fn in_video(video: &VideoTubes, category: Option<usize>) -> Group {
        let (results, truth) = (best(&video.results, category), of_category(&video.truth, category));
        let parts = |all: &[(usize, Part)], places: &[usize]| places.iter().map(|i| all[*i].1).collect();
        let iou = |r: &usize| truth.iter().map(|t| video.iou[r * video.truth.len() + t]).collect::<Vec<f64>>();
        Group {
            iou: results.iter().flat_map(iou).collect(),
            results: parts(&video.results, &results),
            truth: parts(&video.truth, &truth),
        }
    }

    fn matched(&self, range: Range) -> Option<Matched> {
        if self.results.is_empty() && self.truth.is_empty() {
            return None;
        }
        let mut order: Vec<usize> = (0..self.truth.len()).collect();
        order.sort_by_key(|t| range.ignores(&self.truth[*t]));
        let ignored: Vec<bool> = order.iter().map(|t| range.ignores(&self.truth[*t])).collect();
        let at = |t: usize| -> Vec<(bool, bool)> {
            let mut taken = vec![false; order.len()];
            let each = |d: usize| {
                let mut best = linspace(0.5, 0.95, THRESHOLDS, t).min(1.0 - 1e-10);
                let mut partner: Option<usize> = None;
                for (place, truth) in order.iter().enumerate() {
                    if taken[place] && !self.truth[*truth].crowd {
                        continue;
                    }
                    if partner.is_some_and(|p| !ignored[p]) && ignored[place] {
                        break;
                    }
                    let iou = self.iou[d * self.truth.len() + truth];
                    if iou >= best {
                        (best, partner) = (iou, Some(place));
                    }
                }
                match partner {
                    Some(place) => {
                        taken[place] = true;
                        (true, ignored[place])
                    }
                    None => (false, range.excludes_area(&self.results[d])),
                }
            };
            (0..self.results.len()).map(each).collect()
        };
        Some(Matched {
            results: (0..THRESHOLDS).map(at).collect(),
            scores: self.results.iter().map(|r| r.score).collect(),
            instances: ignored.iter().filter(|i| !**i).count(),
        })
    }
}

/// Precision at every recall point, and the last recall, of one category at each threshold.
struct Curve {
    precision: Vec<Vec<f64>>,
    recall: Vec<f64>,
}

/// `None` when no instance counts.
fn curve(groups: &[Matched], most: usize) -> Option<Curve> {
    let instances: usize = groups.iter().map(|g| g.instances).sum();
    if instances == 0 {
        return None;
    }
    let firsts = || groups.iter().flat_map(|g| (0..g.scores.len().min(most)).map(move |d| (g, d)));
    let mut order: Vec<(&Matched, usize)> = firsts().collect();
    order.sort_by(|a, b| b.0.scores[b.1].total_cmp(&a.0.scores[a.1]));
    let (mut precision, mut recall) = (Vec::new(), Vec::new());
    for t in 0..THRESHOLDS {
        let (mut tp, mut fp) = (0.0, 0.0);
        let (mut recalls, mut precisions) = (Vec::new(), Vec::new());
        for (group, d) in &order {
            let (matched, ignored) = group.results[t][*d];
            tp += f64::from(u8::from(matched && !ignored));
            fp += f64::from(u8::from(!matched && !ignored));
            recalls.push(tp / instances as f64);
            precisions.push(tp / (fp + tp + f64::EPSILON));
        }
        for i in (1..precisions.len()).rev() {
            precisions[i - 1] = f64::max(precisions[i - 1], precisions[i]);
        }
        let read = |i: usize| {
            let from = linspace(0.0, 1.0, POINTS, i);
            precisions.get(recalls.partition_point(|r| *r < from)).copied().unwrap_or(0.0)
        };
        precision.push((0..POINTS).map(read).collect());
        recall.push(recalls.last().copied().unwrap_or(0.0));
    }
    Some(Curve { precision, recall })
}

/// The twelve numbers, and OVIS's six.
pub(super) fn averages(pairing: &Pairing, occlusion: bool) -> Averages {
    // By category, what became of the results of every video.
    let matched = |range: Range| -> Vec<Vec<Matched>> {
        pairing.groups.iter().map(|groups| groups.iter().filter_map(|g| g.matched(range)).collect()).collect()
    };
    let curves = |matched: &[Vec<Matched>], most: usize| -> Vec<Option<Curve>> {
        matched.iter().map(|groups| curve(groups, most)).collect()
    };
    // Thresholds outermost, then points, then categories: the order of the reference's array.
    let ap = |curves: &[Option<Curve>], thresholds: std::ops::Range<usize>| {
        let point = |t: usize, r: usize| curves.iter().flatten().map(move |c| c.precision[t][r]);
        let all: Vec<f64> =
            thresholds.flat_map(|t| (0..POINTS).flat_map(move |r| point(t, r).collect::<Vec<_>>())).collect();
        mean(&all)
    };
    let ar = |curves: &[Option<Curve>]| {
        let all: Vec<f64> = (0..THRESHOLDS).flat_map(|t| curves.iter().flatten().map(move |c| c.recall[t])).collect();
        mean(&all)
    };
    let all = matched(RANGES[0]);
    let every = curves(&all, MOST[2]);
    let of_most = |ranges: &[Range]| -> Vec<Vec<Option<Curve>>> {
        ranges.iter().map(|range| curves(&matched(*range), MOST[2])).collect()
    };
    let sized = of_most(&RANGES[1..4]);
    let occluded = occlusion.then(|| {
        let by = of_most(&RANGES[4..]);
        Occluded {
            AP_light: ap(&by[0], 0..THRESHOLDS),
            AP_medium: ap(&by[1], 0..THRESHOLDS),
            AP_heavy: ap(&by[2], 0..THRESHOLDS),
            AR_light: ar(&by[0]),
            AR_medium: ar(&by[1]),
            AR_heavy: ar(&by[2]),
        }
    });
    let category = |(curve, (id, name)): (&Option<Curve>, &(i64, String))| {
        let curve = curve.as_ref()?;
        let all: Vec<f64> = curve.precision.concat();
        Some(CategoryAverage { id: *id, name: name.clone(), ap: mean(&all), ar100: curve.recall.clone() })
    };
    Averages {
        ap: ap(&every, 0..THRESHOLDS),
        ap50: ap(&every, 0..1),
        ap75: ap(&every, 5..6),
        ap_small: ap(&sized[0], 0..THRESHOLDS),
        ap_medium: ap(&sized[1], 0..THRESHOLDS),
        ap_large: ap(&sized[2], 0..THRESHOLDS),
        ar1: ar(&curves(&all, MOST[0])),
        ar10: ar(&curves(&all, MOST[1])),
        ar100: ar(&every),
        ar_small: ar(&sized[0]),
        ar_medium: ar(&sized[1]),
        ar_large: ar(&sized[2]),
        occluded,
        categories: every.iter().zip(&pairing.ids).filter_map(category).collect(),
    }
}
