//! Did it get better, worse, or is that noise? Cells of two runs are joined by video, object and frame, so that only like is
//! compared with like; a change counts when its interval leaves out zero and it is larger than the noise. What differs between
//! the runs beside their figures is in [`differing`].

mod differing;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::judge::noise::Floor;
use crate::judge::paired::Difference;
use crate::judge::{paired, stats};
use crate::results::record::{CellRecord, FrameRecord, Interval, ObjectRecord, RunRecord, Verdict};
use crate::text::clean;

/// J&F points (0 to 100) below which a change is noise: kernels that sum in another order move scores that much.
pub const SCORE_FLOOR: f64 = 0.1;

/// Frames per unit when there are fewer videos than an interval needs.
const BLOCK: usize = 10;

/// So many videos show whether neighbours are alike; fewer are taken to be independent.
const IN_A_ROW: usize = 10;

/// What became of a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeWord {
    /// Better, by more than noise.
    Improved,
    /// Worse, by more than noise.
    Regressed,
    /// No change larger than noise, and none could have hidden.
    WithinNoise,
    /// The interval is wider than the noise, or a disturbance may explain the change: neither a change nor its absence is shown.
    Inconclusive,
    /// Fields differ that must not, or there is too little to tell.
    NotComparable,
    /// Neither run has it: J&F without ground truth.
    NotScored,
}

impl ChangeWord {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeWord::Improved => "improved",
            ChangeWord::Regressed => "regressed",
            ChangeWord::WithinNoise => "within noise",
            ChangeWord::Inconclusive => "inconclusive",
            ChangeWord::NotComparable => "not comparable",
            ChangeWord::NotScored => "not scored",
        }
    }
}

/// One quantity of one cell in two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What became of it.
    pub word: ChangeWord,
    /// Its value in the base.
    pub base: Option<f64>,
    /// Its value in the other run.
    pub other: Option<f64>,
    /// J&F: points; latency: share of the base (0.05 is 5 % slower). Exactly what lies between the two values.
    pub change: Option<f64>,
    /// 95 % interval of `change`.
    pub interval: Option<Interval>,
    /// Changes up to this are noise.
    pub floor: f64,
    /// Where the floor comes from, in words.
    pub floor_from: String,
    /// Why it is not comparable, or on what the interval rests.
    pub remark: String,
}

/// One cell in two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellChange {
    /// Model tag.
    pub model: String,
    /// Precision.
    pub dtype: String,
    /// Device.
    pub device: String,
    /// Videos in both.
    pub videos: usize,
    /// What differs and is no obstacle: what the change may come from.
    pub changed: Vec<String>,
    /// Digests that differ: name, base, other.
    pub digests: Vec<(String, String, String)>,
    /// What disturbed either side: `the base by other programs`.
    pub disturbed: Vec<String>,
    /// J&F.
    pub jf: Change,
    /// J&Ḟ after an object (re)appears, over the objects that do so in both; shown, not judged: they are few, and J&F has their
    /// frames too. `None` where none does, and where J&F is not comparable.
    pub returned: Option<Difference>,
    /// Scores of whole datasets that runs without prompts have, 0 to 100: name, base, other. Shown, not judged: a mean over categories or
    /// thresholds is not one over videos. Empty where J&F is not comparable.
    pub found: Vec<(&'static str, f64, f64)>,
    /// Latency per frame.
    pub latency: Change,
    /// 99th percentile of latency in base and other, milliseconds; shown, not judged: it rests on few frames.
    pub p99_ms: Option<(f64, f64)>,
    /// The verdict, where it is not the same: a cell that was valid and no longer is has regressed.
    pub verdict: Option<String>,
    /// Did the verdict get worse?
    pub verdict_regressed: bool,
    /// Videos whose J&F moved most: name, points.
    pub moved: Vec<(String, f64)>,
}

impl CellChange {
    /// Is anything of it worse?
    pub fn regressed(&self) -> bool {
        self.verdict_regressed || [&self.jf, &self.latency].iter().any(|c| c.word == ChangeWord::Regressed)
    }

    /// Is anything of it inconclusive?
    pub fn inconclusive(&self) -> bool {
        [&self.jf, &self.latency].iter().any(|c| c.word == ChangeWord::Inconclusive)
    }

    /// Is anything of it worse, or could it not be compared? Where `undecided`, also: is anything of it inconclusive?
    pub fn fails(&self, undecided: bool) -> bool {
        self.regressed() || self.blind() || (undecided && self.inconclusive())
    }

    /// Could nothing of it be compared?
    pub fn blind(&self) -> bool {
        [&self.jf, &self.latency].iter().any(|c| c.word == ChangeWord::NotComparable)
    }
}

/// Two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Directory of the base.
    pub base: String,
    /// Directory of the other run.
    pub other: String,
    /// Cells in both.
    pub cells: Vec<CellChange>,
    /// Cells in one of them only.
    pub unmatched: Vec<String>,
}

/// Pairs the cells of two runs.
pub fn pair(
    base: &RunRecord,
    other: &RunRecord,
    floor: &dyn Fn(&CellRecord) -> Floor,
) -> (Vec<CellChange>, Vec<String>) {
    let same = |a: &CellRecord, b: &CellRecord| (&a.model, a.dtype, &a.device) == (&b.model, b.dtype, &b.device);
    let mut cells = Vec::new();
    let mut unmatched = Vec::new();
    for a in &base.cells {
        match other.cells.iter().find(|b| same(a, b)) {
            Some(b) => cells.push(cell_change(base, other, a, b, &floor(a))),
            None => unmatched.push(format!("{} is only in the base", a.label())),
        }
    }
    let new = other.cells.iter().filter(|b| !base.cells.iter().any(|a| same(a, b)));
    unmatched.extend(new.map(|b| format!("{} is not in the base", b.label())));
    (cells, unmatched)
}

fn cell_change(base: &RunRecord, other: &RunRecord, a: &CellRecord, b: &CellRecord, floor: &Floor) -> CellChange {
    // Figures of a cell that is not valid must not be quoted, so they are not compared either.
    let unfit = [("base", a), ("other run", b)]
        .iter()
        .find(|(_, c)| c.verdict != Verdict::Valid)
        .map(|(which, c)| format!("the {which} is {}: {}", c.verdict.as_str(), clean(&c.verdict.reasons())));
    let data = differing::data(base, other);
    let machine: Vec<String> = differing::machine(base, other).into_iter().chain(data.clone()).collect();
    let pairs = Pairs::of(a, b);
    let mut jf = pairs.scores();
    let mut latency = pairs.latencies(floor);
    doubt(&mut latency, a, b);
    let refuse = |change: &mut Change, why: String| {
        // Two numbers side by side are compared by whoever reads them.
        let word = ChangeWord::NotComparable;
        *change = Change { word, base: None, other: None, change: None, interval: None, remark: why, ..change.clone() };
    };
    if !data.is_empty() {
        refuse(&mut jf, data.join(", "));
    } else if !base.data.has_truth() {
        refuse(&mut jf, "there is no ground truth".to_string());
        jf.word = ChangeWord::NotScored;
    }
    if !machine.is_empty() {
        refuse(&mut latency, machine.join(", "));
    }
    if let Some(why) = unfit {
        refuse(&mut jf, why.clone());
        refuse(&mut latency, why);
    }
    let (verdict, worse) = verdict_change(&a.verdict, &b.verdict);
    CellChange {
        model: a.model.clone(),
        dtype: a.dtype.to_string(),
        device: a.device.clone(),
        videos: pairs.videos.len(),
        changed: differing::explaining((base, a), (other, b)),
        digests: differing::digests((base, a), (other, b)),
        disturbed: [("the base", a), ("the other run", b)].iter().filter_map(|(who, c)| disturbed(who, c)).collect(),
        returned: jf.base.and_then(|_| pairs.returned()),
        found: jf.base.map(|_| unprompted(a, b)).unwrap_or_default(),
        jf,
        latency,
        p99_ms: a
            .summary
            .as_ref()
            .and_then(|s| s.latency)
            .zip(b.summary.as_ref().and_then(|s| s.latency))
            .and_then(|(a, b)| a.p99().zip(b.p99())),
        verdict,
        verdict_regressed: worse,
        moved: pairs.moved(),
    }
}

/// HOTA, AP, VPQ and STQ, each where both cells have it.
fn unprompted(base: &CellRecord, other: &CellRecord) -> Vec<(&'static str, f64, f64)> {
    let scores = |cell: &CellRecord| {
        let scores = cell.summary.as_ref()?.found?.scores?;
        let segments = scores.panoptic.unwrap_or_default();
        Some([("HOTA", scores.hota), ("AP", scores.ap), ("VPQ", segments.vpq), ("STQ", segments.stq)])
    };
    let sides = scores(base).zip(scores(other));
    let both = sides.into_iter().flat_map(|(base, other)| base.into_iter().zip(other));
    both.filter_map(|((name, base), (_, other))| Some((name, base?, other?))).collect()
}

/// What disturbed this cell, where something did: `the base by other programs`.
fn disturbed(who: &str, cell: &CellRecord) -> Option<String> {
    let by: Vec<&str> = cell.disturbed.iter().map(|d| d.words()).collect();
    (!by.is_empty()).then(|| format!("{who} by {}", by.join(", ")))
}

/// Other load and changes of level move medians, and only upwards. A disturbed run that comes out slower shows nothing, and
/// neither do two that come out alike: what the one lost may be what the other has become. One that comes out faster although
/// it was disturbed is faster.
fn doubt(latency: &mut Change, base: &CellRecord, other: &CellRecord) {
    let moved = |c: &CellRecord| c.disturbed.iter().any(|d| d.moves_medians());
    let doubtful = match latency.word {
        ChangeWord::Regressed => moved(other),
        ChangeWord::Improved => moved(base),
        ChangeWord::WithinNoise => moved(base) || moved(other),
        ChangeWord::Inconclusive | ChangeWord::NotComparable | ChangeWord::NotScored => false,
    };
    if doubtful {
        latency.word = ChangeWord::Inconclusive;
        let before = if latency.remark.is_empty() { String::new() } else { format!("; {}", latency.remark) };
        latency.remark = format!("a disturbance may explain or hide it: compare runs of a quiet machine{before}");
    }
}

/// What became of the verdict, in words, and whether it got worse.
fn verdict_change(base: &Verdict, other: &Verdict) -> (Option<String>, bool) {
    let rank = |v: &Verdict| match v {
        Verdict::Valid => 0,
        Verdict::Invalid { .. } => 1,
        Verdict::Failed { .. } => 2,
    };
    let (before, after) = (base.as_str(), other.as_str());
    let worse = rank(other) > rank(base);
    let said = (rank(base) != rank(other)).then(|| match worse {
        true => format!("regressed: {before} → {after}: {}", clean(&other.reasons())),
        false => format!("improved: {before} → {after}"),
    });
    (said, worse)
}

/// One video in both runs.
struct Pair<'a> {
    video: &'a str,
    /// J&F of each object in base and other.
    jf: Vec<(f64, f64)>,
    /// J&Ḟ after return of each object that returns.
    returned: Vec<(f64, f64)>,
    /// Latencies of the frames that all repeats of both have, in run order: base and other, each by repeat.
    frames: (Vec<Vec<f64>>, Vec<Vec<f64>>),
}

struct Pairs<'a> {
    videos: Vec<Pair<'a>>,
}

/// The frames of a video in every repeat of a cell.
fn repeats<'c>(cell: &'c CellRecord, video: &str) -> Vec<&'c [FrameRecord]> {
    let others = cell.repeats.iter().map(|r| &r.sequences);
    let all = std::iter::once(&cell.sequences).chain(others);
    all.filter_map(|sequences| Some(sequences.iter().find(|s| s.video == video)?.frames.as_slice())).collect()
}

/// J&F of each object of a video that a detector found in both, of the unsupervised task.
fn found(a: &CellRecord, b: &CellRecord, video: &str) -> Vec<(f64, f64)> {
    let [ours, theirs] = [a, b].map(|cell| paired::scores(cell).remove(video).unwrap_or_default());
    ours.iter().filter_map(|(object, jf)| Some((*jf, *theirs.get(object)?))).collect()
}

impl<'a> Pairs<'a> {
    fn of(a: &'a CellRecord, b: &CellRecord) -> Self {
        let videos = a.sequences.iter().filter_map(|sa| {
            let sb = b.sequences.iter().find(|s| s.video == sa.video)?;
            let by_object = |figure: &dyn Fn(&ObjectRecord) -> Option<f64>| -> Vec<(f64, f64)> {
                let theirs: BTreeMap<&str, f64> =
                    sb.objects.iter().filter_map(|o| Some((o.object.as_str(), figure(o)?))).collect();
                sa.objects.iter().filter_map(|o| Some((figure(o)?, *theirs.get(o.object.as_str())?))).collect()
            };
            let (ra, rb) = (repeats(a, &sa.video), repeats(b, &sa.video));
            let numbers = |frames: &[FrameRecord]| frames.iter().map(|f| f.frame).collect::<BTreeSet<u32>>();
            let shared = ra.iter().chain(&rb).map(|r| numbers(r)).reduce(|x, y| &x & &y).unwrap_or_default();
            let times = |runs: &[&[FrameRecord]]| -> Vec<Vec<f64>> {
                let of = |frames: &&[FrameRecord]| {
                    frames.iter().filter(|f| shared.contains(&f.frame)).map(|f| f.latency_ms).collect()
                };
                runs.iter().map(of).collect()
            };
            Some(Pair {
                video: &sa.video,
                jf: match (&sa.found, &sb.found) {
                    (Some(_), Some(_)) => found(a, b, &sa.video),
                    _ => by_object(&|o| o.jf),
                },
                returned: by_object(&|o| Some(o.mosev2.as_ref()?.jf_reappear()? * 100.0)),
                frames: (times(&ra), times(&rb)),
            })
        });
        Pairs { videos: videos.collect() }
    }

    /// J&F over the objects of all videos, by [`paired`].
    fn scores(&self) -> Change {
        let units: Vec<Vec<(f64, f64)>> = self.videos.iter().map(|v| v.jf.clone()).filter(|o| !o.is_empty()).collect();
        let found = paired::between(&units);
        let mut change = Change {
            word: ChangeWord::NotComparable,
            base: found.as_ref().map(|d| d.first),
            other: found.as_ref().map(|d| d.second),
            change: found.as_ref().map(|d| d.points),
            interval: found.and_then(|d| d.interval),
            floor: SCORE_FLOOR,
            floor_from: "by default".into(),
            remark: String::new(),
        };
        match change.interval {
            Some(interval) => change.word = judge(change.change, interval, SCORE_FLOOR, true),
            None => change.remark = too_few(units.len(), "videos with scores in both"),
        }
        change
    }

    /// J&Ḟ after return, by [`paired`]; `None` where no object returns.
    fn returned(&self) -> Option<Difference> {
        let units: Vec<Vec<(f64, f64)>> =
            self.videos.iter().map(|v| v.returned.clone()).filter(|o| !o.is_empty()).collect();
        paired::between(&units)
    }

    /// Latency: the mean over videos of each video's median (over its frames, then over repeats), which a few frames that stumble
    /// in one run do not move. What they do to the tail is shown beside it. With fewer videos than an interval needs, blocks of
    /// frames take their place.
    fn latencies(&self, floor: &Floor) -> Change {
        let enough = self.videos.iter().filter(|v| !v.frames.0.concat().is_empty()).count() >= stats::MIN_UNITS;
        let units: Vec<(f64, f64)> = self.videos.iter().flat_map(|v| typical(v, enough)).collect();
        let mean = |units: &[&(f64, f64)], pick: fn(&(f64, f64)) -> f64| {
            crate::score::mean(&units.iter().map(|u| pick(u)).collect::<Vec<_>>())
        };
        let ratio = |units: &[&(f64, f64)]| Some(mean(units, |u| u.1)? / mean(units, |u| u.0)? - 1.0);
        // Videos apart in time forget each other; a few of them also could not show that they do not.
        let in_a_row = !enough || units.len() >= IN_A_ROW;
        let all: Vec<&(f64, f64)> = units.iter().collect();
        let mut change = Change {
            word: ChangeWord::NotComparable,
            base: mean(&all, |u| u.0),
            other: mean(&all, |u| u.1),
            change: ratio(&all),
            interval: stats::of_a_ratio(&units, in_a_row),
            floor: floor.share,
            floor_from: floor.from.clone(),
            remark: String::new(),
        };
        match change.interval {
            Some(interval) => {
                change.word = judge(change.change, interval, floor.share, false);
                if !enough {
                    change.remark =
                        format!("interval over blocks of {BLOCK} frames: fewer than {} videos", stats::MIN_UNITS);
                }
            }
            None => change.remark = too_few(units.len(), "videos or blocks of frames in both"),
        }
        change
    }

    /// The three videos whose J&F moved most.
    fn moved(&self) -> Vec<(String, f64)> {
        let mean = |v: &Pair| crate::score::mean(&v.jf.iter().map(|(a, b)| b - a).collect::<Vec<_>>());
        let mut moved: Vec<(String, f64)> =
            self.videos.iter().filter_map(|v| Some((v.video.to_string(), mean(v)?))).filter(|m| m.1 != 0.0).collect();
        moved.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        moved.truncate(3);
        moved
    }
}

fn too_few(found: usize, what: &str) -> String {
    format!("{found} {what}; an interval needs {}", stats::MIN_UNITS)
}

/// Median latency of a video, or of each of its blocks of frames, in base and other; over repeats the median again.
fn typical(video: &Pair, whole: bool) -> Vec<(f64, f64)> {
    let (a, b) = &video.frames;
    let frames = a.iter().chain(b).map(Vec::len).min().unwrap_or(0);
    let step = if whole { frames.max(1) } else { BLOCK };
    let middle = |runs: &[Vec<f64>], from: usize, to: usize| {
        stats::median(&runs.iter().filter_map(|r| stats::median(&r[from..to])).collect::<Vec<_>>())
    };
    (0..frames)
        .step_by(step)
        .filter_map(|from| {
            let to = (from + step).min(frames);
            Some((middle(a, from, to)?, middle(b, from, to)?))
        })
        .filter(|(a, b)| *a > 0.0 && *b > 0.0)
        .collect()
}

/// A change counts when its interval leaves out zero (it is no accident of these frames) and it is larger than the floor
/// (it is no accident of these two runs). Where it does not count, an interval that reaches further than the floor to either
/// side of the change could hide one that does.
fn judge(change: Option<f64>, interval: Interval, floor: f64, more_is_better: bool) -> ChangeWord {
    let change = change.unwrap_or(0.0);
    let (up, down) = (interval.low > 0.0 && change > floor, interval.high < 0.0 && change < -floor);
    match (up, down) {
        (false, false) if (interval.high - interval.low) / 2.0 <= floor && change.abs() <= floor => {
            ChangeWord::WithinNoise
        }
        (false, false) => ChangeWord::Inconclusive,
        (up, _) if up == more_is_better => ChangeWord::Improved,
        _ => ChangeWord::Regressed,
    }
}
