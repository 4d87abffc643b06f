//! Can tracks that the model found itself, whether objects took them or not, and the names of a label pack, be what a record says of them?

use super::{ROUNDING, score, time};
use crate::results::record::{CellRecord, FoundRecord, FoundSummary, FoundTrackRecord, LabelsRecord, SequenceRecord};
use crate::score::panoptic::{CategoryCounts, VideoCounts};
use crate::score::tracking::{ALPHAS, TrackingScore};
use crate::score::tubes::Group;
use crate::score::unprompted::{Unprompted, UnpromptedScores};

/// Ids of categories are below it.
const MOST_CATEGORIES: usize = 255;
/// Far above the pixels or tubes of any video.
const MOST_COUNTED: u64 = 1 << 40;

/// Does every video of a cell have what the cell's kind has? Means over those that do would pass for means over all.
pub(super) fn of_kind(cell: &CellRecord, sequences: &[SequenceRecord]) -> Option<String> {
    let (finds, names) = (cell.detector.is_some(), cell.labels.is_some());
    sequences.iter().find_map(|s| {
        let what = match (s.found.is_some(), s.labels.is_some()) {
            (false, _) if finds => "no tracks, and its objects are found",
            (true, _) if !finds => "found tracks, and its objects are prompted",
            (_, false) if names => "no labels, and there is a label pack",
            (_, true) if !names => "labels, and there is no label pack",
            _ => return None,
        };
        Some(format!("video {:?}: {what}", s.video))
    })
}

/// What is wrong with the tracks and labels of a video.
pub(super) fn of_sequence(sequence: &SequenceRecord) -> Option<String> {
    let found = sequence.found.as_ref().and_then(of_tracks).or_else(|| of_taken(sequence));
    found.or_else(|| sequence.labels.as_ref().and_then(of_labels))
}

/// What is wrong with the tracks that its prompted objects took.
fn of_taken(sequence: &SequenceRecord) -> Option<String> {
    let finds = sequence.dropped_births.is_some();
    sequence.objects.iter().enumerate().find_map(|(at, object)| {
        let taken = object.taken?;
        let mut before = sequence.objects[..at].iter().filter_map(|other| other.taken?.track);
        let fault = match taken.track {
            _ if !finds => "it took a track, and the model is said to find none".to_string(),
            None if taken.iou.is_some() || taken.end.is_some() => "an IoU or an end, and no track".to_string(),
            Some(track) if before.any(|other| other == track) => format!("track {track} is another object's"),
            _ => share("iou", taken.iou?)?,
        };
        Some(format!("object {:?}: {fault}", object.object))
    })
}

fn of_tracks(found: &FoundRecord) -> Option<String> {
    let mut numbers = found.tracks.iter().filter_map(|t| t.number).zip(1..);
    if let Some((number, wanted)) = numbers.find(|(number, wanted)| number != wanted) {
        return Some(format!("track number {number} stands where {wanted} is expected"));
    }
    let confirmed = found.tracks.iter().filter(|t| t.number.is_some()).count();
    found.tracks.iter().find_map(of_track).or_else(|| of_scores(found.scores.as_ref()?, confirmed))
}

fn of_track(track: &FoundTrackRecord) -> Option<String> {
    let FoundTrackRecord { birth, end, .. } = *track;
    let fault = if birth > end {
        Some(format!("its end {end} is before its birth {birth}"))
    } else if let Some(other) = track.frames.iter().find(|f| !(birth..end).contains(&f.frame)) {
        Some(format!("frame {} is none of its own ({birth} to {end})", other.frame))
    } else {
        share("score", track.score).or_else(|| share("best_iou", track.best_iou?))
    };
    Some(format!("track {}: {}", track.id, fault?))
}

/// `confirmed`: tracks that are scored.
fn of_scores(scores: &UnpromptedScores, confirmed: usize) -> Option<String> {
    if scores.best_iou.len() != confirmed {
        return Some(format!("best_iou has {} values for {confirmed} tracks", scores.best_iou.len()));
    }
    let groups = std::iter::once(&scores.tubes).chain(scores.by_class.iter().flat_map(|classes| classes.values()));
    let segments = || of_segments(scores.panoptic.as_ref()?, confirmed);
    groups.into_iter().find_map(of_group).or_else(|| of_tracking(&scores.tracking)).or_else(segments).or_else(|| {
        let proposals = || scores.proposals.iter().find_map(|p| share("j", p.j).or_else(|| share("f", p.f)));
        let overlaps = || scores.best_iou.iter().find_map(|iou| share("best_iou", *iou));
        let switches = scores.switches.len() as f64;
        // Older records have their number only.
        let counted = scores.tracking.clear.id_switches;
        let differ = switches > 0.0 && switches != counted;
        proposals()
            .or_else(overlaps)
            .or_else(|| differ.then(|| format!("{counted} id switches, of which {switches} are listed")))
    })
}

fn of_segments(counts: &VideoCounts, confirmed: usize) -> Option<String> {
    let of = |(place, category): (&usize, &CategoryCounts)| {
        let [both, truth, pred] = category.pixels;
        let fault = if category.id as usize >= counts.classes {
            Some(format!("its id {} is not below {}", category.id, counts.classes))
        } else if both > truth.min(pred) || truth.max(pred) > MOST_COUNTED {
            Some(format!("{both} pixels of both sides, {truth} and {pred} of each"))
        } else if let Some(t) = category.windows.iter().find(|t| t.tp.max(t.fp).max(t.fn_) > MOST_COUNTED) {
            Some(format!("{} pairs, {} and {} tubes without a partner", t.tp, t.fp, t.fn_))
        } else {
            let wrong = category.windows.iter().find(|t| !(0.0..=t.tp as f64 + ROUNDING).contains(&t.iou));
            wrong.map(|t| format!("an IoU of {} over {} pairs", t.iou, t.tp))
        };
        Some(format!("segments: category {place}: {}", fault?))
    };
    let many = (counts.classes > MOST_CATEGORIES || counts.unpredicted.max(counts.tubes) > MOST_COUNTED).then(|| {
        let VideoCounts { classes, unpredicted, tubes, .. } = counts;
        format!("segments: {classes} categories, {unpredicted} pixels without one, {tubes} tubes")
    });
    let aq = (!(0.0..=counts.tubes as f64 + ROUNDING).contains(&counts.aq))
        .then(|| format!("segments: aq is {} over {} tubes", counts.aq, counts.tubes));
    let tracks = (counts.left_out > confirmed)
        .then(|| format!("segments: {} of {confirmed} tracks are left out", counts.left_out));
    many.or_else(|| counts.categories.iter().find_map(of)).or(aq).or(tracks)
}

fn of_group(group: &Group) -> Option<String> {
    let (results, truth) = (group.results.len(), group.truth.len());
    if group.iou.len() != results * truth {
        return Some(format!("tubes: {} overlaps of {results} results and {truth} objects", group.iou.len()));
    }
    let overlap = group.iou.iter().find_map(|iou| share("tubes: iou", *iou));
    overlap.or_else(|| group.results.iter().find_map(|part| share("tubes: score", part.score)))
}

fn of_tracking(tracking: &TrackingScore) -> Option<String> {
    let h = &tracking.hota;
    let shares = [
        ("hota", &h.hota),
        ("det_a", &h.det_a),
        ("ass_a", &h.ass_a),
        ("det_re", &h.det_re),
        ("det_pr", &h.det_pr),
        ("ass_re", &h.ass_re),
        ("ass_pr", &h.ass_pr),
        ("loc_a", &h.loc_a),
        ("owta", &h.owta),
    ];
    let counts = [("tp", &h.tp), ("fn", &h.fn_), ("fp", &h.fp)];
    let short = shares.iter().chain(&counts).find(|(_, values)| values.len() != ALPHAS);
    if let Some((name, values)) = short {
        return Some(format!("{name} has {} values, {ALPHAS} expected", values.len()));
    }
    let identity = &tracking.identity;
    let of_identity = [("idf1", identity.idf1), ("idr", identity.idr), ("idp", identity.idp)];
    let out = shares.iter().find_map(|(name, values)| values.iter().find_map(|value| share(name, *value)));
    let negative = || {
        let (name, value) =
            counts.iter().find_map(|(n, v)| Some((n, v.iter().find(|v| !(0.0..1e15).contains(*v))?)))?;
        Some(format!("{name} is {value}, which is no number of masks"))
    };
    out.or_else(|| of_identity.into_iter().find_map(|(name, value)| share(name, value))).or_else(negative)
}

fn of_labels(labels: &LabelsRecord) -> Option<String> {
    let of = labels.objects.iter().find_map(|object| {
        let (best, second) = (object.probability, object.second_probability);
        let fault = best
            .and_then(|p| share("probability", p))
            .or_else(|| share("second_probability", second?))
            .or_else(|| (second > best).then(|| "its second class is likelier than its first".to_string()))
            .or_else(|| (best.is_some() != object.label.is_some()).then(|| "a class without a probability".to_string()))
            .or_else(|| (best.is_some() && object.crops == 0).then(|| "a class that no crop shows".to_string()))?;
        Some(format!("label of {:?}: {fault}", object.object))
    });
    of.or_else(|| time("labels: time_ms", labels.time_ms))
}

/// What is wrong with the summary of what was found.
pub(super) fn of_summary(found: &FoundSummary) -> Option<String> {
    if found.confirmed + found.taken_back != found.founded || found.unmatched > Some(found.confirmed) {
        let FoundSummary { founded, confirmed, taken_back, unmatched, .. } = found;
        return Some(format!(
            "{founded} tracks founded, {confirmed} confirmed, {taken_back} taken back, {unmatched:?} unmatched"
        ));
    }
    let scores = found.scores.as_ref()?;
    figures(scores).into_iter().find_map(|(name, value)| score(name, value))
}

/// The summary against the videos that it is of.
pub(super) fn against(said: Option<&FoundSummary>, sequences: &[SequenceRecord]) -> Option<String> {
    let is = FoundSummary::of(sequences);
    let differs = |name: &str, said: &dyn std::fmt::Debug, is: &dyn std::fmt::Debug| {
        Some(format!("summary: {name} is {said:?}, its sequences give {is:?}"))
    };
    let (Some(said), Some(is)) = (said, &is) else {
        return if said.is_none() && is.is_none() { None } else { differs("found", &said.is_some(), &is.is_some()) };
    };
    let counts = |of: &FoundSummary| {
        let segments = |s: Unprompted| s.panoptic.map(|p| (p.categories, p.left_out));
        let scores = of.scores.map(|s| (s.objects, s.categories, s.id_switches, s.whole_masks, segments(s)));
        (of.founded, of.confirmed, of.taken_back, of.unmatched, scores)
    };
    if counts(said) != counts(is) {
        return differs("found", &counts(said), &counts(is));
    }
    let (said, is) = (said.scores.as_ref()?, is.scores.as_ref()?);
    let (name, a, b) = figures(said).into_iter().zip(figures(is)).map(|((name, a), (_, b))| (name, a, b)).find(
        |(_, a, b)| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() > ROUNDING,
            (a, b) => a.is_some() != b.is_some(),
        },
    )?;
    differs(name, &a, &b)
}

fn figures(scores: &Unprompted) -> [(&'static str, Option<f64>); 18] {
    let segments = scores.panoptic.unwrap_or_default();
    [
        ("found j", scores.j),
        ("found f", scores.f),
        ("found jf", scores.jf),
        ("ap", scores.ap),
        ("ap50", scores.ap50),
        ("ar10", scores.ar10),
        ("class_ap", scores.class_ap),
        ("class_ap50", scores.class_ap50),
        ("hota", scores.hota),
        ("det_a", scores.det_a),
        ("ass_a", scores.ass_a),
        ("idf1", scores.idf1),
        ("vpq", segments.vpq),
        ("vpq_things", segments.vpq_things),
        ("vpq_stuff", segments.vpq_stuff),
        ("stq", segments.stq),
        ("aq", segments.aq),
        ("sq", segments.sq),
    ]
}

/// A share that is none.
fn share(name: &str, value: f64) -> Option<String> {
    (!(0.0..=1.0 + ROUNDING).contains(&value)).then(|| format!("{name} is {value}, a share of 0 to 1 expected"))
}
