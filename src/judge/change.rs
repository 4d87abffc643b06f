//! Did it get better, worse, or is that noise? Cells of two runs are joined by video, object and frame, so that only like is
//! compared with like; a change counts when its interval leaves out zero and it is larger than the noise.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::judge::noise::Floor;
use crate::judge::stats;
use crate::results::record::{CellRecord, Interval, RunRecord, Verdict};
use crate::text::clean;

/// J&F points (0 to 100) below which a change is noise: kernels that sum in another order move scores that much.
pub const SCORE_FLOOR: f64 = 0.1;

/// Frames per unit when there are fewer videos than an interval needs.
const BLOCK: usize = 10;

/// What became of a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeWord {
    /// Better, by more than noise.
    Improved,
    /// Worse, by more than noise.
    Regressed,
    /// No change that could be told from noise.
    WithinNoise,
    /// Fields differ that must not, or there is too little to tell.
    NotComparable,
}

impl ChangeWord {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeWord::Improved => "improved",
            ChangeWord::Regressed => "regressed",
            ChangeWord::WithinNoise => "within noise",
            ChangeWord::NotComparable => "not comparable",
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
    /// J&F: points; latency: share of the base (0.05 is 5 % slower). Paired, so not simply the difference of the values.
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
    /// Fields that differ and are no obstacle: what the change may come from.
    pub changed: Vec<String>,
    /// J&F.
    pub jf: Change,
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

    /// Could nothing of it be compared?
    pub fn blind(&self) -> bool {
        [&self.jf, &self.latency].iter().any(|c| c.word == ChangeWord::NotComparable)
    }
}

/// Pairs the cells of two runs.
pub fn pair(
    base: &RunRecord,
    other: &RunRecord,
    floor: &dyn Fn(&CellRecord) -> Floor,
) -> (Vec<CellChange>, Vec<String>) {
    let same = |a: &CellRecord, b: &CellRecord| (&a.model, a.dtype, &a.device) == (&b.model, b.dtype, &b.device);
    let name = |c: &CellRecord| format!("{} {} {}", c.model, c.dtype, c.device);
    let mut cells = Vec::new();
    let mut unmatched = Vec::new();
    for a in &base.cells {
        match other.cells.iter().find(|b| same(a, b)) {
            Some(b) => cells.push(cell_change(base, other, a, b, &floor(a))),
            None => unmatched.push(format!("{} is only in the base", name(a))),
        }
    }
    let new = other.cells.iter().filter(|b| !base.cells.iter().any(|a| same(a, b)));
    unmatched.extend(new.map(|b| format!("{} is not in the base", name(b))));
    (cells, unmatched)
}

/// Fields that differ: name, base, other.
fn differing(fields: &[(&str, String, String)]) -> Vec<String> {
    let show = |text: &str| {
        if text.is_empty() { "none".to_string() } else { clean(&text.chars().take(24).collect::<String>()) }
    };
    fields.iter().filter(|f| f.1 != f.2).map(|f| format!("{} ({} → {})", f.0, show(&f.1), show(&f.2))).collect()
}

fn cell_change(base: &RunRecord, other: &RunRecord, a: &CellRecord, b: &CellRecord, floor: &Floor) -> CellChange {
    let text = |value: Option<&serde_json::Value>| value.map(ToString::to_string).unwrap_or_default();
    let setting = |run: &RunRecord, name: &str| text(run.settings.get(name));
    let version = |c: &CellRecord| c.runtime.as_ref().map(|r| r.version.clone()).unwrap_or_default();
    // Runs of before content was recorded do not say it; clips looped to other lengths have read other frames.
    let [ours, theirs] = [base, other].map(|run| run.data.content_sha256.clone());
    let told = !ours.is_empty() && !theirs.is_empty() && setting(base, "loop_frames") == setting(other, "loop_frames");
    let content =
        ("content of frames and annotations", ours, if told { theirs } else { base.data.content_sha256.clone() });
    let data = [
        ("list of videos", base.data.list_sha256.clone(), other.data.list_sha256.clone()),
        ("protocol", base.data.protocol.clone(), other.data.protocol.clone()),
        content.clone(),
    ];
    let machine = [
        ("device digest", base.device.digest.clone(), other.device.digest.clone()),
        ("list of videos", base.data.list_sha256.clone(), other.data.list_sha256.clone()),
        ("scenario", setting(base, "scenario"), setting(other, "scenario")),
        content,
    ];
    let options =
        |c: &CellRecord| c.options.passed.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
    let changed = differing(&[
        ("jetbench", base.version.clone(), other.version.clone()),
        ("program", base.origin.program_sha256.clone(), other.origin.program_sha256.clone()),
        ("pack", a.pack.clone(), b.pack.clone()),
        ("pack digest", a.pack_digest.clone(), b.pack_digest.clone()),
        (
            "precision in effect",
            a.effective_dtype.clone().unwrap_or_default(),
            b.effective_dtype.clone().unwrap_or_default(),
        ),
        ("ONNX Runtime", version(a), version(b)),
        ("options", options(a), options(b)),
        ("clicks", setting(base, "clicks"), setting(other, "clicks")),
        ("device digest", base.device.digest.clone(), other.device.digest.clone()),
    ]);
    // Figures of a cell that is not valid must not be quoted, so they are not compared either.
    let unfit = [("base", a), ("other run", b)]
        .iter()
        .find(|(_, c)| c.verdict != Verdict::Valid)
        .map(|(which, c)| format!("the {which} is {}: {}", c.verdict.as_str(), clean(&c.verdict.reasons())));
    let (data, machine) = (differing(&data), differing(&machine));
    let pairs = Pairs::of(a, b);
    let mut jf = pairs.scores();
    let mut latency = pairs.latencies(floor);
    let refuse = |change: &mut Change, why: String| {
        *change =
            Change { word: ChangeWord::NotComparable, change: None, interval: None, remark: why, ..change.clone() };
    };
    if !data.is_empty() {
        refuse(&mut jf, format!("different {}", data.join(", ")));
    }
    if !machine.is_empty() {
        refuse(&mut latency, format!("different {}", machine.join(", ")));
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
        changed,
        jf,
        latency,
        p99_ms: a
            .summary
            .as_ref()
            .and_then(|s| s.latency)
            .zip(b.summary.as_ref().and_then(|s| s.latency))
            .map(|(a, b)| (a.p99_ms, b.p99_ms)),
        verdict,
        verdict_regressed: worse,
        moved: pairs.moved(),
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
    /// Latency of each frame in base and other, in run order.
    frames: Vec<(f64, f64)>,
}

struct Pairs<'a> {
    videos: Vec<Pair<'a>>,
}

impl<'a> Pairs<'a> {
    fn of(a: &'a CellRecord, b: &CellRecord) -> Self {
        let videos = a.sequences.iter().filter_map(|sa| {
            let sb = b.sequences.iter().find(|s| s.video == sa.video)?;
            let scores: BTreeMap<&str, f64> =
                sb.objects.iter().filter_map(|o| Some((o.object.as_str(), o.jf?))).collect();
            let times: BTreeMap<u32, f64> = sb.frames.iter().map(|f| (f.frame, f.latency_ms)).collect();
            Some(Pair {
                video: &sa.video,
                jf: sa.objects.iter().filter_map(|o| Some((o.jf?, *scores.get(o.object.as_str())?))).collect(),
                frames: sa.frames.iter().filter_map(|f| Some((f.latency_ms, *times.get(&f.frame)?))).collect(),
            })
        });
        Pairs { videos: videos.collect() }
    }

    /// J&F over the objects of all videos.
    fn scores(&self) -> Change {
        let units: Vec<&[(f64, f64)]> = self.videos.iter().map(|v| v.jf.as_slice()).filter(|o| !o.is_empty()).collect();
        let all: Vec<(f64, f64)> = units.concat();
        let mean = |pick: fn(&(f64, f64)) -> f64| crate::score::mean(&all.iter().map(pick).collect::<Vec<_>>());
        let difference = |units: &[&&[(f64, f64)]]| {
            crate::score::mean(&units.iter().flat_map(|u| u.iter().map(|(a, b)| b - a)).collect::<Vec<_>>())
        };
        let floor = Floor { share: SCORE_FLOOR, from: "by default".into() };
        let mut change = Change {
            word: ChangeWord::NotComparable,
            base: mean(|p| p.0),
            other: mean(|p| p.1),
            change: difference(&units.iter().collect::<Vec<_>>()),
            interval: stats::bootstrap(&units, difference),
            floor: floor.share,
            floor_from: floor.from,
            remark: String::new(),
        };
        if !all.is_empty() && all.iter().all(|(a, b)| a == b) {
            // Nothing moved: that needs no interval.
            (change.word, change.interval) = (ChangeWord::WithinNoise, Some(Interval { low: 0.0, high: 0.0 }));
        } else if let Some(interval) = change.interval {
            change.word = judge(change.change, interval, SCORE_FLOOR, true);
        } else {
            change.remark = too_few(units.len(), "videos with scores in both");
        }
        change
    }

    /// Latency: the median of the ratios of like frames, which a few frames that stumble in one run do not move. What they
    /// do to the tail is shown beside it.
    fn latencies(&self, floor: &Floor) -> Change {
        let logs = |frames: &[(f64, f64)]| -> Vec<f64> {
            frames.iter().filter(|(a, b)| *a > 0.0 && *b > 0.0).map(|(a, b)| (b / a).ln()).collect()
        };
        let videos: Vec<Vec<f64>> = self.videos.iter().map(|v| logs(&v.frames)).filter(|l| !l.is_empty()).collect();
        let enough = videos.len() >= stats::MIN_UNITS;
        let units: Vec<Vec<f64>> = match enough {
            true => videos,
            false => videos.iter().flat_map(|v| v.chunks(BLOCK).map(<[f64]>::to_vec)).collect(),
        };
        let ratio = |units: &[&Vec<f64>]| {
            stats::median(&units.iter().flat_map(|u| u.iter().copied()).collect::<Vec<_>>()).map(|m| m.exp() - 1.0)
        };
        let all: Vec<(f64, f64)> = self.videos.iter().flat_map(|v| v.frames.iter().copied()).collect();
        let median = |pick: fn(&(f64, f64)) -> f64| stats::median(&all.iter().map(pick).collect::<Vec<_>>());
        let mut change = Change {
            word: ChangeWord::NotComparable,
            base: median(|p| p.0),
            other: median(|p| p.1),
            change: ratio(&units.iter().collect::<Vec<_>>()),
            interval: stats::bootstrap(&units, ratio),
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

/// A change counts when its interval leaves out zero (it is no accident of these frames) and it is larger than the floor
/// (it is no accident of these two runs).
fn judge(change: Option<f64>, interval: Interval, floor: f64, more_is_better: bool) -> ChangeWord {
    let change = change.unwrap_or(0.0);
    let (up, down) = (interval.low > 0.0 && change > floor, interval.high < 0.0 && change < -floor);
    match (up, down) {
        (false, false) => ChangeWord::WithinNoise,
        (up, _) if up == more_is_better => ChangeWord::Improved,
        _ => ChangeWord::Regressed,
    }
}
