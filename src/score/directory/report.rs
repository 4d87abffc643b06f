//! From scored frames to the scores of objects, videos and the whole, summed in the references' order.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::beside::{DavisScore, LateScore, MoseColumns, Pairing};
use super::find::{Faults, Unit, Video, shorten};
use super::options::ScoreOptions;
use crate::dataset::{DataError, LabelMasks, Layout};
use crate::score::FrameScore;
use crate::score::failure::{Failure, failures};
use crate::score::label_pair::VOID;
use crate::score::mosev2::{MoseFrame, MoseScore};
use crate::score::protocol::{Protocol, davis_statistics, mean};
use crate::score::set_order::SetOrder;

/// Scores of a dataset, on the scale of the protocol's reference ([`Protocol::scale`]).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreReport {
    /// Schema number of the JSON form.
    pub schema: u32,
    /// Rules.
    pub protocol: Protocol,
    /// A perfect score: 100, or 1 for DAVIS.
    pub scale: f64,
    /// Layout, where the truth's folders show it.
    pub layout: Option<Layout>,
    /// Truth as given.
    pub truth: String,
    /// Predictions as given.
    pub pred: String,
    /// Were first and last frames scored too?
    pub keep_first_last: bool,
    /// Boundary tolerance as given.
    pub boundary_threshold: f64,
    /// All objects of all videos, each with the same weight.
    pub global: GroupScore,
    /// Objects outside the list of unseen ones, where there is a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<GroupScore>,
    /// Objects on the list of unseen ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<GroupScore>,
    /// Mean of seen and unseen J and F: the overall score of YouTube-VOS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_unseen_mean: Option<f64>,
    /// Names of the videos that were evaluated, those without a scored object too.
    #[serde(skip)]
    pub evaluated: Vec<String>,
    /// Per video, in order.
    pub videos: Vec<VideoScore>,
    /// Per object, in the reference's order.
    pub objects: Vec<ObjectScore>,
    /// What the reader should know: videos left out, predictions ignored.
    pub notes: Vec<String>,
}

/// Mean over objects.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupScore {
    /// Mean J.
    pub j: f64,
    /// Mean F.
    pub f: f64,
    /// (J + F) / 2.
    pub jf: f64,
    /// Objects.
    pub objects: usize,
    /// Mean boundary IoU, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boundary_iou: Option<f64>,
    /// DAVIS recall and decay.
    #[serde(flatten)]
    pub davis: Option<DavisScore>,
    /// VOST's J over the last quarter.
    #[serde(flatten)]
    pub late: Option<LateScore>,
    /// MOSEv2's further scores.
    #[serde(flatten)]
    pub mosev2: Option<MoseColumns>,
}

/// Mean over the objects of one video.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VideoScore {
    /// Video.
    pub video: String,
    /// Its objects' means.
    #[serde(flatten)]
    pub score: GroupScore,
}

/// Score of one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectScore {
    /// Video.
    pub video: String,
    /// Folder name, or id.
    pub object: String,
    /// Is `object` a folder name?
    #[serde(skip)]
    pub folder: bool,
    /// Mean J.
    pub j: f64,
    /// Mean F.
    pub f: f64,
    /// (J + F) / 2.
    pub jf: f64,
    /// Frames that counted.
    pub frames: usize,
    /// Mean boundary IoU over the same frames, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boundary_iou: Option<f64>,
    /// DAVIS recall and decay.
    #[serde(flatten)]
    pub davis: Option<DavisScore>,
    /// VOST's J over the last quarter.
    #[serde(flatten)]
    pub late: Option<LateScore>,
    /// MOSEv2's further scores.
    #[serde(flatten)]
    pub mosev2: Option<MoseColumns>,
    /// The same with their parts, 0..1: means over objects are made from these.
    #[serde(skip)]
    pub mosev2_parts: Option<MoseScore>,
    /// Which proposal was matched with which object, where nobody prompted.
    #[serde(flatten)]
    pub pairing: Option<Pairing>,
    /// Where the object was lost, taken for another, and found again.
    pub failures: Vec<Failure>,
    /// Every evaluated frame, when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_frame: Vec<FrameRow>,
}

/// One object on one evaluated frame, on the protocol's scale.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrameRow {
    /// Frame: file stem.
    pub frame: String,
    /// J.
    pub j: f64,
    /// F.
    pub f: f64,
    /// Boundary IoU, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boundary_iou: Option<f64>,
    /// Ḟ, under MOSEv2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f_dot: Option<f64>,
    /// Does the frame count?
    pub counted: bool,
    /// Is the object visible in the truth?
    pub visible: bool,
    /// Is the predicted mask non-empty?
    pub predicted: bool,
}

/// One object on one frame. `key` is the unit (object folders) or the id (label maps).
#[derive(Clone, Copy)]
pub(super) struct Scored {
    pub(super) key: u32,
    pub(super) score: FrameScore,
    /// Under [`Protocol::MoseV2`].
    pub(super) mosev2: Option<MoseFrame>,
    pub(super) boundary_iou: Option<f64>,
    pub(super) taken_for: Option<u32>,
}

impl Scored {
    fn both_empty(key: u32) -> Scored {
        let score = FrameScore { j: 1.0, f: 1.0, pred_empty: true, truth_empty: true };
        Scored { key, score, mosev2: Some(MoseFrame::BOTH_EMPTY), boundary_iou: Some(1.0), taken_for: None }
    }
}

/// Turns one unit's frames into object scores.
#[allow(clippy::too_many_arguments)]
pub(super) fn assemble(
    video: &Video,
    unit: &Unit,
    frames: &[(usize, Scored)],
    protocol: Protocol,
    options: &ScoreOptions,
    objects: &mut Vec<ObjectScore>,
    faults: &mut Faults,
    notes: &mut Vec<String>,
) {
    let mut series: BTreeMap<u32, Vec<Option<Scored>>> = BTreeMap::new();
    for &(at, scored) in frames {
        let row = series.entry(scored.key).or_insert_with(|| vec![None; unit.evaluated.len()]);
        row[at - unit.evaluated.start] = Some(scored);
    }
    let order: Vec<u32> = match (&unit.object, protocol) {
        (Some(_), _) => series.keys().copied().collect(),
        (None, Protocol::Davis2016) => vec![1],
        (None, Protocol::Sav | Protocol::Vos) => {
            let mut set = SetOrder::default();
            for i in 0..unit.evaluated.len() {
                let visible = |row: &[Option<Scored>]| row[i].is_some_and(|s| !s.score.truth_empty);
                let ids: Vec<u64> =
                    series.iter().filter(|(_, row)| visible(row)).map(|(id, _)| u64::from(*id)).collect();
                set.update(&ids);
            }
            set.iter().map(|id| id as u32).collect()
        }
        (None, Protocol::MoseV2) => match mose_objects(unit, &series, notes) {
            Ok(ids) => ids,
            Err(fault) => {
                faults.0.push(fault.0);
                return;
            }
        },
        (None, Protocol::Davis2017Unsup) => unreachable!("scored in a module of its own"),
        (None, Protocol::Davis2017Semi | Protocol::Vost) => {
            match davis_objects(video, unit, &series, protocol, faults, notes) {
                Some(n) => (1..=n).collect(),
                None => return,
            }
        }
    };
    for key in order {
        let row: Vec<Scored> = match series.get(&key) {
            Some(row) => row.iter().map(|s| s.unwrap_or(Scored::both_empty(key))).collect(),
            None => vec![Scored::both_empty(key); unit.evaluated.len()],
        };
        let scores: Vec<FrameScore> = row.iter().map(|s| s.score).collect();
        // First and last frame are gone already.
        let counted = protocol.counted(&scores, true);
        let object = unit.object.clone().unwrap_or_else(|| key.to_string());
        let Some(result) = object_score(video, object.clone(), unit, &row, &counted, protocol, options) else {
            let fault = format!(
                "video {}, object {object}: never visible on an evaluated frame of the truth: {protocol} has no score for it",
                video.name
            );
            if options.strict {
                faults.0.push(fault)
            } else {
                notes.push(format!("left out: {fault}"))
            }
            continue;
        };
        objects.push(result);
    }
}

/// Objects of label maps under MOSEv2: every id of the truth, those of the first and last annotation too. The official tool
/// takes the same ids from `meta.json`.
fn mose_objects(
    unit: &Unit,
    series: &BTreeMap<u32, Vec<Option<Scored>>>,
    notes: &mut Vec<String>,
) -> Result<Vec<u32>, DataError> {
    let seen = |what: fn(&FrameScore) -> bool| {
        let shows = move |row: &[Option<Scored>]| row.iter().flatten().any(|s| what(&s.score));
        series.iter().filter(move |(_, row)| shows(row)).map(|(id, _)| *id)
    };
    let mut ids: BTreeSet<u32> = seen(|s| !s.truth_empty).collect();
    let unread = (0..unit.files.len()).filter(|i| !unit.evaluated.contains(i));
    for file in unread.map(|i| unit.truth.join(&unit.files[i])) {
        ids.extend(LabelMasks::read(&file)?.masks.into_iter().map(|(id, _)| u32::from(id)));
    }
    let extra: Vec<String> = seen(|s| !s.pred_empty).filter(|id| !ids.contains(id)).map(|id| id.to_string()).collect();
    if !extra.is_empty() {
        let extra = shorten(&extra.iter().map(String::as_str).collect::<Vec<_>>());
        notes.push(format!("{}: predicted ids that the truth does not have, ignored: {extra}", unit.pred));
    }
    Ok(ids.into_iter().collect())
}

/// Objects of a video that was not predicted: MOSEv2 gives each of them nothing.
pub(super) fn unpredicted(video: &Video) -> Result<Vec<ObjectScore>, DataError> {
    let mut objects = Vec::new();
    for unit in &video.units {
        let names = match &unit.object {
            Some(name) => vec![name.clone()],
            None => {
                let all = Unit { evaluated: 0..0, ..unit.clone() };
                mose_objects(&all, &BTreeMap::new(), &mut Vec::new())?.iter().map(u32::to_string).collect()
            }
        };
        objects.extend(names.into_iter().map(|object| ObjectScore {
            video: video.name.clone(),
            object,
            folder: unit.object.is_some(),
            j: 0.0,
            f: 0.0,
            jf: 0.0,
            frames: 0,
            boundary_iou: None,
            davis: None,
            late: None,
            mosev2: Some(MoseColumns::from(&MoseScore::MISSING)),
            mosev2_parts: Some(MoseScore::MISSING),
            pairing: None,
            failures: Vec::new(),
            per_frame: Vec::new(),
        }));
    }
    Ok(objects)
}

/// Number of objects under DAVIS 2017 and VOST: the largest id of the first annotation; `None` after a fault. Predicted ids beyond are one under
/// DAVIS, and left out under VOST.
fn davis_objects(
    video: &Video,
    unit: &Unit,
    series: &BTreeMap<u32, Vec<Option<Scored>>>,
    protocol: Protocol,
    faults: &mut Faults,
    notes: &mut Vec<String>,
) -> Option<u32> {
    let first = unit.truth.join(&unit.files[0]);
    let ids = match LabelMasks::read(&first) {
        Ok(image) => image.masks.into_iter().map(|(id, _)| id).filter(|id| *id != VOID).collect::<Vec<_>>(),
        Err(fault) => {
            faults.0.push(fault.0);
            return None;
        }
    };
    let Some(n) = ids.iter().max().map(|id| u32::from(*id)) else {
        faults.0.push(format!(
            "{}: the first annotation has no object; {protocol} takes its objects from it",
            first.display()
        ));
        return None;
    };
    let beyond = |what: fn(&FrameScore) -> bool| -> Vec<String> {
        let uses = |row: &[Option<Scored>]| row.iter().flatten().any(|s| !what(&s.score));
        series.iter().filter(|(id, row)| **id > n && uses(row)).map(|(id, _)| id.to_string()).collect()
    };
    let predicted = beyond(|s| s.pred_empty);
    if !predicted.is_empty() && protocol == Protocol::Vost {
        notes.push(format!(
            "video {}: VOST leaves out predicted id {}; the first annotation has objects 1 to {n}",
            video.name,
            predicted.join(", ")
        ));
    } else if !predicted.is_empty() {
        faults.0.push(format!(
            "video {}: the predictions use id {}, but the first annotation has objects 1 to {n}; remove them, or score \
             with --protocol vos",
            video.name,
            predicted.join(", ")
        ));
        return None;
    }
    let late = beyond(|s| s.truth_empty);
    if !late.is_empty() {
        notes.push(format!(
            "video {}: {} ignores id {}, absent from the first annotation",
            video.name,
            if protocol == Protocol::Vost { "VOST" } else { "DAVIS" },
            late.join(", ")
        ));
    }
    Some(n)
}

fn object_score(
    video: &Video,
    object: String,
    unit: &Unit,
    row: &[Scored],
    counted: &[bool],
    protocol: Protocol,
    options: &ScoreOptions,
) -> Option<ObjectScore> {
    let pick = |value: fn(&Scored) -> f64| -> Vec<f64> {
        row.iter().zip(counted).filter(|(_, c)| **c).map(|(s, _)| value(s)).collect()
    };
    let (j, f) = (pick(|s| s.score.j), pick(|s| s.score.f));
    let scale = protocol.scale();
    let boundary_iou =
        if options.boundary_iou { Some(mean(&pick(|s| s.boundary_iou.unwrap_or(f64::NAN)))? * scale) } else { None };
    let names: Vec<&str> =
        unit.files[unit.evaluated.clone()].iter().map(|f| f.strip_suffix(".png").unwrap_or(f)).collect();
    let (mean_j, mean_f, davis) = if protocol.is_davis() {
        let (j, f) = (davis_statistics(&j, protocol)?, davis_statistics(&f, protocol)?);
        let davis = DavisScore { j_recall: j.recall, j_decay: j.decay, f_recall: f.recall, f_decay: f.decay };
        (j.mean, f.mean, Some(davis))
    } else {
        (mean(&j)? * 100.0, mean(&f)? * 100.0, None)
    };
    let mosev2_parts = match protocol {
        Protocol::MoseV2 => MoseScore::of(&row.iter().filter_map(|s| s.mosev2).collect::<Vec<_>>()),
        _ => None,
    };
    let late = if protocol == Protocol::Vost { LateScore::of(&j) } else { None };
    let per_frame = if options.per_frame {
        let rows = row.iter().zip(counted).zip(&names).map(|((s, counted), name)| FrameRow {
            frame: (*name).to_string(),
            j: s.score.j * scale,
            f: s.score.f * scale,
            boundary_iou: s.boundary_iou.filter(|_| options.boundary_iou).map(|b| b * scale),
            f_dot: s.mosev2.filter(|_| protocol == Protocol::MoseV2).map(|m| m.f_dot * scale),
            counted: *counted,
            visible: !s.score.truth_empty,
            predicted: !s.score.pred_empty,
        });
        rows.collect()
    } else {
        Vec::new()
    };
    Some(ObjectScore {
        video: video.name.clone(),
        object,
        folder: unit.object.is_some(),
        j: mean_j,
        f: mean_f,
        jf: mosev2_parts.map_or((mean_j + mean_f) / 2.0, |m| m.jf() * 100.0),
        frames: j.len(),
        boundary_iou,
        davis,
        late,
        mosev2: mosev2_parts.as_ref().map(MoseColumns::from),
        mosev2_parts,
        pairing: None,
        failures: failures(row.iter().map(|s| (s.score, s.taken_for.map(|key| video.object_name(unit, key)))), &names),
        per_frame,
    })
}

/// Score of one object on every frame of a video, `names` being the frames'.
pub(super) fn davis_object(
    video: &str,
    object: String,
    scores: &[FrameScore],
    names: &[&str],
    pairing: Option<Pairing>,
    per_frame: bool,
) -> ObjectScore {
    let statistics = |value: fn(&FrameScore) -> f64| {
        let values: Vec<f64> = scores.iter().map(value).collect();
        davis_statistics(&values, Protocol::Davis2017Unsup).expect("a video has frames")
    };
    let (j, f) = (statistics(|s| s.j), statistics(|s| s.f));
    let row = |(score, name): (&FrameScore, &&str)| FrameRow {
        frame: (*name).to_string(),
        j: score.j,
        f: score.f,
        boundary_iou: None,
        f_dot: None,
        counted: true,
        visible: !score.truth_empty,
        predicted: !score.pred_empty,
    };
    ObjectScore {
        video: video.to_string(),
        object,
        folder: false,
        j: j.mean,
        f: f.mean,
        jf: (j.mean + f.mean) / 2.0,
        frames: scores.len(),
        boundary_iou: None,
        davis: Some(DavisScore { j_recall: j.recall, j_decay: j.decay, f_recall: f.recall, f_decay: f.decay }),
        late: None,
        mosev2: None,
        mosev2_parts: None,
        pairing,
        failures: failures(scores.iter().map(|s| (*s, None)), names),
        per_frame: if per_frame { scores.iter().zip(names).map(row).collect() } else { Vec::new() },
    }
}

fn group(objects: &[&ObjectScore]) -> Option<GroupScore> {
    let over = |value: &dyn Fn(&ObjectScore) -> f64| mean(&objects.iter().map(|o| value(o)).collect::<Vec<_>>());
    let davis = |value: fn(&DavisScore) -> f64| {
        let values: Option<Vec<f64>> = objects.iter().map(|o| o.davis.as_ref().map(value)).collect();
        mean(&values?)
    };
    let mosev2 = MoseScore::over(objects.iter().filter_map(|o| o.mosev2_parts.as_ref()));
    // MOSEv2's tool takes means of shares and makes them percent; the others take means of percent.
    let (j, f, jf) = match &mosev2 {
        Some(m) => (m.j * 100.0, m.f * 100.0, m.jf() * 100.0),
        None => {
            let (j, f) = (over(&|o| o.j)?, over(&|o| o.f)?);
            (j, f, (j + f) / 2.0)
        }
    };
    Some(GroupScore {
        j,
        f,
        jf,
        objects: objects.len(),
        boundary_iou: objects.iter().map(|o| o.boundary_iou).collect::<Option<Vec<f64>>>().and_then(|b| mean(&b)),
        davis: davis(|d| d.j_recall)
            .zip(davis(|d| d.j_decay))
            .zip(davis(|d| d.f_recall).zip(davis(|d| d.f_decay)))
            .map(|((j_recall, j_decay), (f_recall, f_decay))| DavisScore { j_recall, j_decay, f_recall, f_decay }),
        late: LateScore::over(objects.iter().map(|o| o.late)),
        mosev2: mosev2.as_ref().map(MoseColumns::from),
    })
}

pub(super) fn report(
    options: &ScoreOptions,
    protocol: Protocol,
    layout: Option<Layout>,
    videos: &[Video],
    objects: Vec<ObjectScore>,
    unseen: Option<&BTreeSet<(String, Option<String>)>>,
    notes: Vec<String>,
) -> ScoreReport {
    let all: Vec<&ObjectScore> = objects.iter().collect();
    let global = group(&all).expect("there are objects");
    let (mut seen_score, mut unseen_score, mut overall) = (None, None, None);
    if let Some(list) = unseen {
        let listed = |o: &&ObjectScore| {
            list.contains(&(o.video.clone(), None)) || list.contains(&(o.video.clone(), Some(o.object.clone())))
        };
        let (in_list, out): (Vec<&ObjectScore>, Vec<&ObjectScore>) = all.iter().copied().partition(listed);
        (seen_score, unseen_score) = (group(&out), group(&in_list));
        if let (Some(s), Some(u)) = (&seen_score, &unseen_score) {
            overall = Some((s.j + s.f + u.j + u.f) / 4.0);
        }
    }
    let evaluated = videos.iter().map(|v| v.name.clone()).collect();
    let videos = videos
        .iter()
        .filter_map(|v| {
            let own: Vec<&ObjectScore> = objects.iter().filter(|o| o.video == v.name).collect();
            Some(VideoScore { video: v.name.clone(), score: group(&own)? })
        })
        .collect();
    ScoreReport {
        schema: 1,
        protocol,
        scale: protocol.scale(),
        layout,
        truth: options.truth.display().to_string(),
        pred: options.pred.display().to_string(),
        keep_first_last: options.keep_first_last,
        boundary_threshold: options.boundary_threshold,
        global,
        seen: seen_score,
        unseen: unseen_score,
        seen_unseen_mean: overall,
        evaluated,
        videos,
        objects,
        notes,
    }
}
