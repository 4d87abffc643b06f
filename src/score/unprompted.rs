//! What are tracks worth that nobody prompted? From the comparison of each annotated frame to the scores of a video, and from those to
//! the scores of all, by the code of `jetbench score --protocol davis2017-unsup`, `hota --remove-void` and `ytvis`: what is scored
//! here gets the same numbers there.

use std::collections::BTreeMap;

use jetbench_runners::types::Mask;
use serde::{Deserialize, Serialize};

use super::directory::unsupervised::{Frame, Grid, MOST_PROPOSALS, highest, pairs};
use super::panoptic::{PanopticFrame, PanopticScores, VideoCounts};
use super::segment::Segment;
use super::tracking::labels::{Met, ids, mask_iou, numbered};
use super::tracking::{Hota, Switch, TrackingScore, switches};
use super::tubes::{Group, Tube, class_agnostic, class_aware};
use super::{BOUNDARY_THRESHOLD, FrameScore, FrameScorer, mean};
use crate::dataset::PanopticCategory;

/// Masks of one annotated frame by id, ascending, those without a pixel left out.
pub(super) struct Scene {
    /// Index of the frame in the video.
    pub(super) frame: u32,
    pub(super) size: (u32, u32),
    pub(super) truth: Vec<(u16, Mask)>,
    /// Tracks by number, from 1; a pixel belongs to one at most.
    pub(super) tracks: Vec<(u16, Mask)>,
    /// The same before pixels were given to one track, where two claim the same: average precision knows no label maps.
    pub(super) whole: Option<Vec<(u16, Mask)>>,
    /// Pixels that count for nobody.
    pub(super) void: Option<Mask>,
}

/// What the two sides of one frame are to each other.
pub(super) struct Compared {
    /// Index of the frame in the video.
    index: u32,
    /// As [`Grid::frames`]: a row per track, then one per object, empty.
    grid: Vec<FrameScore>,
    /// Largest number of a track on it.
    highest: usize,
    met: Met,
    truth: Vec<(u16, Segment)>,
    /// Numbers of the tracks that have a pixel of their own.
    shown: Vec<u16>,
    /// Whole tracks, which may have pixels in common.
    tracks: Vec<(u16, Segment)>,
    /// Where the truth is panoptic: its segments beside those of the tracks.
    pub(super) segments: Option<PanopticFrame>,
}

impl Compared {
    /// Compares a frame; `tracks`: how many there are in the video; `objects`: how many its first annotation shows.
    pub(super) fn of(scene: Scene, tracks: usize, objects: usize, scorer: &mut Option<FrameScorer>) -> Compared {
        let segments = |masks: &[(u16, Mask)]| masks.iter().map(|(id, m)| (*id, Segment::of(m))).collect();
        let whole = scene.whole.as_ref().unwrap_or(&scene.tracks);
        let (segments, highest) = ([segments(&scene.truth), segments(whole)], highest(&scene.tracks));
        let shown = scene.tracks.iter().map(|(number, _)| *number).collect();
        let index = scene.frame;
        let mut frame = Frame { size: scene.size, truth: scene.truth, pred: scene.tracks };
        if let Some(void) = &scene.void {
            frame.pred.iter_mut().for_each(|(_, mask)| mask.subtract(void));
        }
        let grid = pairs(&frame, tracks + objects, objects, BOUNDARY_THRESHOLD, scorer);
        let wide = |masks: Vec<(u16, Mask)>| -> Vec<(u32, Mask)> {
            masks.into_iter().filter(|(_, mask)| !mask.is_empty()).map(|(id, mask)| (u32::from(id), mask)).collect()
        };
        let met = Met::of(&wide(frame.truth), &wide(frame.pred), mask_iou);
        let [truth, tracks] = segments;
        Compared { index, grid, highest, met, truth, shown, tracks, segments: None }
    }
}

/// Scores of one video. Shares are 0..1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnpromptedScores {
    /// DAVIS 2017 unsupervised: each object of the first annotation with its track, in the reference's order.
    pub proposals: Vec<Proposal>,
    /// Tracks that were no proposals, because DAVIS takes 20: those with the fewest frames.
    #[serde(default)]
    pub left_out: usize,
    /// HOTA, CLEAR MOT and identity, void pixels taken out of both sides.
    pub tracking: TrackingScore,
    /// Tubes of the tracks and of the truth, of which average precision is made.
    pub tubes: Group,
    /// The same by category, of tracks whose class it is and of objects that are such; `None`: the dataset names no category that the model
    /// has as a class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_class: Option<BTreeMap<String, Group>>,
    /// By number: the largest IoU of a track with any object on any frame.
    pub best_iou: Vec<f64>,
    /// Every time an object's track changed; empty in records from before it was kept, where `tracking` still has their number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub switches: Vec<IdSwitch>,
    /// Are the tubes of tracks whole masks (`overlaps=keep`)? Else each pixel belongs to one track. `None` in records from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_masks: Option<bool>,
    /// Counts of panoptic segments; `None`: the truth has none, or none of its categories is a class of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panoptic: Option<VideoCounts>,
}

/// An object's track is another one than its last (CLEAR MOT, IoU of 0.5 or more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdSwitch {
    /// Id of the object in the truth.
    pub object: u32,
    /// Number of its last track.
    pub from: u32,
    /// Number of its track from this frame on.
    pub to: u32,
    /// The last frame on which it had its last track, an index into the video.
    pub before: u32,
    /// The frame on which it has the other one.
    pub frame: u32,
}

/// What tracks and objects are.
#[derive(Clone, Debug, Default)]
pub(super) struct Told<'a> {
    /// Score and class of each track, by number; classes are only compared.
    pub(super) tracks: Vec<(f64, u32)>,
    /// Where classes are scored.
    pub(super) classes: Option<ToldClasses<'a>>,
    /// Do pixels stay with every track that claims them?
    pub(super) whole_masks: bool,
    /// Where segments are scored: the categories, and how many tracks are left out because they have none.
    pub(super) segments: Option<(&'a [PanopticCategory], usize)>,
}

/// Classes as [`same_class`] writes them.
#[derive(Clone, Debug)]
pub(super) struct ToldClasses<'a> {
    /// By the object's id.
    pub(super) objects: &'a BTreeMap<u16, String>,
    /// By the track's number; `None` for one that has no class.
    pub(super) tracks: Vec<Option<String>>,
}

/// An object of the first annotation, and the track that it was matched with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Id of the object in the truth.
    pub object: u32,
    /// Number of the track; `None`: there are fewer tracks than objects.
    pub track: Option<u32>,
    /// Mean J over all annotated frames.
    pub j: f64,
    /// Mean F.
    pub f: f64,
}

impl UnpromptedScores {
    /// Of the annotated frames of a video, in order.
    ///
    /// # Errors
    /// The truth has more segments than STQ's labels can tell apart.
    pub(super) fn of(
        video: &str,
        mut frames: Vec<Compared>,
        objects: usize,
        said: &Told<'_>,
    ) -> Result<UnpromptedScores, String> {
        let told = &said.tracks;
        let segments: Vec<PanopticFrame> = frames.iter_mut().filter_map(|f| f.segments.take()).collect();
        let count = |(categories, left_out): (&[PanopticCategory], usize)| {
            VideoCounts::of(&segments, categories).map(|counts| VideoCounts { left_out, ..counts })
        };
        let panoptic = said.segments.map(count).transpose()?;
        let indices: Vec<u32> = frames.iter().map(|f| f.index).collect();
        let (grids, rest): (Vec<_>, Vec<_>) =
            frames.into_iter().map(|f| (f.grid, (f.highest, f.shown, f.met, f.truth, f.tracks))).unzip();
        let highest = rest.iter().map(|(highest, ..)| *highest).max().unwrap_or(0);
        let seen = |number: usize| {
            rest.iter().filter(|(_, shown, ..)| shown.iter().any(|n| usize::from(*n) == number)).count()
        };
        let chosen = proposals(highest, seen);
        let left_out = highest - chosen.len();
        let rows: Vec<usize> = chosen.iter().copied().chain(highest..).take(chosen.len().max(objects)).collect();
        let grid = Grid { frames: &grids, objects };
        let proposal = |(p, k): (usize, usize)| {
            let series = grid.series(rows[p], k);
            let over =
                |value: fn(&FrameScore) -> f64| mean(&series.iter().map(value).collect::<Vec<_>>()).unwrap_or_default();
            let track = Some(rows[p]).filter(|row| *row < highest).map(|row| row as u32 + 1);
            Proposal { object: k as u32 + 1, track, j: over(|s| s.j), f: over(|s| s.f) }
        };
        let pairs = if objects == 0 { Vec::new() } else { grid.assigned(&rows) };
        let pairs = pairs.into_iter().map(proposal).collect();
        let mut best_iou = vec![0.0f64; told.len()];
        for (_, _, met, ..) in &rest {
            for (i, iou) in met.iou.iter().enumerate() {
                let best = &mut best_iou[met.tracks[i % met.tracks.len()] as usize - 1];
                *best = best.max(*iou);
            }
        }
        let truth: Vec<&Vec<(u16, Segment)>> = rest.iter().map(|(.., truth, _)| truth).collect();
        let tracks: Vec<&Vec<(u16, Segment)>> = rest.iter().map(|(.., tracks)| tracks).collect();
        let truth = tubes(&truth);
        let of = |id: u16| told.get(usize::from(id) - 1).copied().unwrap_or_default();
        let mut tracks = tubes(&tracks);
        // Pooled, results stand class by class in the reference.
        tracks.sort_by_key(|(id, _)| of(*id).1);
        let truth: Vec<(u16, Tube)> = truth.into_iter().map(|(id, frames)| (id, Tube::alone(frames, 0.0))).collect();
        let found: Vec<(u16, Tube)> =
            tracks.into_iter().map(|(id, frames)| (id, Tube::alone(frames, of(id).0))).collect();
        fn all(tubes: &[(u16, Tube)]) -> Vec<&Tube> {
            tubes.iter().map(|(_, tube)| tube).collect()
        }
        let tubes = Group::of(all(&found), &all(&truth));
        let by_class = said.classes.as_ref().map(|classes| {
            let class_of_track = |id: u16| classes.tracks.get(usize::from(id) - 1)?.as_ref();
            by_class(&found, &truth, class_of_track, |id| classes.objects.get(&id))
        });
        let met: Vec<Met> = rest.into_iter().map(|(_, _, met, ..)| met).collect();
        let (objects, numbers) = ids(&met);
        let tracked = numbered(video, met);
        let switch = |s: Switch| IdSwitch {
            object: objects[s.object],
            from: numbers[s.from.0],
            to: numbers[s.to.0],
            before: indices[s.from.1],
            frame: indices[s.to.1],
        };
        Ok(UnpromptedScores {
            proposals: pairs,
            left_out,
            tracking: TrackingScore::of(&tracked),
            tubes,
            by_class,
            best_iou,
            switches: switches(&tracked).into_iter().map(switch).collect(),
            whole_masks: Some(said.whole_masks),
            panoptic,
        })
    }
}

/// Tracks and objects of each category that either side has; those that have none are left out.
fn by_class<'a>(
    found: &[(u16, Tube)],
    truth: &[(u16, Tube)],
    of_track: impl Fn(u16) -> Option<&'a String>,
    of_object: impl Fn(u16) -> Option<&'a String>,
) -> BTreeMap<String, Group> {
    let mut sides: BTreeMap<&String, [Vec<&Tube>; 2]> = BTreeMap::new();
    let classes = found.iter().map(|(id, tube)| (of_track(*id), tube, 0));
    for (class, tube, side) in classes.chain(truth.iter().map(|(id, tube)| (of_object(*id), tube, 1))) {
        if let Some(class) = class {
            sides.entry(class).or_default()[side].push(tube);
        }
    }
    sides.into_iter().map(|(class, [found, truth])| (class.clone(), Group::of(found, &truth))).collect()
}

/// Which tracks are proposals, as indices: the 20 with the most frames of more than that, the lower number of two alike.
fn proposals(tracks: usize, seen: impl Fn(usize) -> usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = (0..tracks).collect();
    if tracks > MOST_PROPOSALS as usize {
        chosen.sort_by_key(|row| std::cmp::Reverse(seen(row + 1)));
        chosen.truncate(MOST_PROPOSALS as usize);
        chosen.sort_unstable();
    }
    chosen
}

/// The masks of each id over all frames, ids ascending.
fn tubes(frames: &[&Vec<(u16, Segment)>]) -> Vec<(u16, Vec<Option<Segment>>)> {
    let mut ids: Vec<u16> = frames.iter().flat_map(|masks| masks.iter().map(|(id, _)| *id)).collect();
    ids.sort_unstable();
    ids.dedup();
    let of = |id: u16| {
        let each = frames.iter().map(|masks| masks.iter().find(|(i, _)| *i == id).map(|(_, segment)| segment.clone()));
        (id, each.collect())
    };
    ids.into_iter().map(of).collect()
}

/// A track covers an object from this IoU on.
pub const COVERED_FROM: f64 = 0.5;

/// Scores over all videos, 0 to 100; `None` where there is nothing to take a mean of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unprompted {
    /// Objects that J and F are means over: those of the first annotations.
    pub objects: usize,
    /// Mean J of DAVIS 2017 unsupervised.
    pub j: Option<f64>,
    /// Mean F.
    pub f: Option<f64>,
    /// (J + F) / 2.
    pub jf: Option<f64>,
    /// Class-agnostic average precision of tubes, over IoU 0.50 to 0.95.
    pub ap: Option<f64>,
    /// The same at IoU 0.50.
    pub ap50: Option<f64>,
    /// Average recall with ten tracks per video.
    pub ar10: Option<f64>,
    /// Average precision in which a track counts for its own class only, mean over the categories; `None`: the dataset names no category
    /// that the model has as a class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_ap: Option<f64>,
    /// The same at IoU 0.50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_ap50: Option<f64>,
    /// Categories that it is a mean over: those of the objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categories: Option<usize>,
    /// HOTA, mean over its thresholds.
    pub hota: Option<f64>,
    /// Detection accuracy, likewise.
    pub det_a: Option<f64>,
    /// Association accuracy, likewise.
    pub ass_a: Option<f64>,
    /// F1 of identities.
    pub idf1: Option<f64>,
    /// Times an object's track changed.
    pub id_switches: Option<usize>,
    /// As [`UnpromptedScores::whole_masks`]: what average precision and recall are of. `None` where videos differ, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_masks: Option<bool>,
    /// VPQ and STQ; `None`: the truth has no segments, or none of its categories is a class of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panoptic: Option<PanopticScores>,
}

impl Unprompted {
    /// What average precision is of, in a word: `whole` masks, or masks in which each pixel belongs to `one` track.
    pub fn ap_masks(&self) -> Option<&'static str> {
        self.whole_masks.map(|whole| if whole { "whole" } else { "one" })
    }

    /// Of all videos; `None` of none.
    pub fn over(videos: &[&UnpromptedScores]) -> Option<Unprompted> {
        if videos.is_empty() {
            return None;
        }
        let percent = |share: Option<f64>| share.map(|share| share * 100.0);
        let rows = |value: fn(&Proposal) -> f64| {
            mean(&videos.iter().flat_map(|v| &v.proposals).map(value).collect::<Vec<_>>())
        };
        let (j, f) = (rows(|p| p.j), rows(|p| p.f));
        let precision = class_agnostic(videos.iter().map(|v| v.tubes.clone()).collect());
        let segments: Option<Vec<&VideoCounts>> = videos.iter().map(|v| v.panoptic.as_ref()).collect();
        let by_class: Option<Vec<_>> = videos.iter().map(|v| v.by_class.as_ref()).collect();
        let classes = by_class.map(|videos| class_aware(&videos));
        let tracking = TrackingScore::over(&videos.iter().map(|v| &v.tracking).collect::<Vec<_>>());
        // Without an object on either side there is nothing to find, and no share of it.
        let some = tracking.count.truth_masks > 0;
        let tracked = |share: f64| percent(Some(share).filter(|_| some));
        Some(Unprompted {
            objects: videos.iter().map(|v| v.proposals.len()).sum(),
            j: percent(j),
            f: percent(f),
            jf: percent(j.zip(f).map(|(j, f)| (j + f) / 2.0)),
            ap: percent(precision.ap),
            ap50: percent(precision.ap50),
            ar10: percent(precision.ar10),
            class_ap: percent(classes.as_ref().and_then(|c| c.ap)),
            class_ap50: percent(classes.as_ref().and_then(|c| c.ap50)),
            categories: classes.as_ref().map(|c| c.categories.len()),
            hota: tracked(Hota::mean(&tracking.hota.hota)),
            det_a: tracked(Hota::mean(&tracking.hota.det_a)),
            ass_a: tracked(Hota::mean(&tracking.hota.ass_a)),
            idf1: tracked(tracking.identity.idf1),
            id_switches: some.then_some(tracking.clear.id_switches as usize),
            panoptic: segments.map(|videos| PanopticScores::over(&videos)),
            whole_masks: videos[0].whole_masks.filter(|whole| videos.iter().all(|v| v.whole_masks == Some(*whole))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::same_class;

    /// By category as YTVOSeval scores the same files (tests/cases/vis), through what a run keeps of each video.
    #[test]
    fn averages_over_categories_are_youtube_vis_own() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/vis/ytvis");
        let read = |file: &str| -> serde_json::Value {
            serde_json::from_str(&std::fs::read_to_string(root.join(file)).unwrap()).unwrap()
        };
        let tube = |entry: &serde_json::Value| {
            let segment = |mask: &serde_json::Value| {
                let size = [0, 1].map(|i| mask["size"].get(i).map_or(0, |side| side.as_u64().unwrap() as u32));
                let mut segment = Segment::default();
                match &mask["counts"] {
                    serde_json::Value::String(text) => segment.set_text(size, text.as_bytes(), false, "none").unwrap(),
                    runs => segment.set_runs(size, &serde_json::from_value::<Vec<u32>>(runs.clone()).ok()?).unwrap(),
                }
                Some(segment)
            };
            let frames = entry["segmentations"].as_array().unwrap().iter().map(segment).collect();
            let mut tube = Tube::alone(frames, entry["score"].as_f64().unwrap_or(0.0));
            tube.part.crowd = entry["iscrowd"] == 1;
            tube
        };
        let truth = read("gt.json");
        let categories: BTreeMap<u64, String> = truth["categories"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| (c["id"].as_u64().unwrap(), same_class(c["name"].as_str().unwrap())))
            .collect();
        for variant in ["tracker", "noisy", "duplicates", "over_100"] {
            let results = read(&format!("results/{variant}.json"));
            let videos: Vec<BTreeMap<String, Group>> = truth["videos"]
                .as_array()
                .unwrap()
                .iter()
                .map(|video| {
                    let own = |all: &serde_json::Value| -> (Vec<(u16, Tube)>, Vec<String>) {
                        let own = all.as_array().unwrap().iter().filter(|entry| entry["video_id"] == video["id"]);
                        let known = own.filter_map(|e| Some((e, categories.get(&e["category_id"].as_u64()?)?.clone())));
                        (1..).zip(known).map(|(number, (entry, name))| ((number, tube(entry)), name)).unzip()
                    };
                    let ((found, of_track), (truth, of_object)) = (own(&results), own(&truth["annotations"]));
                    by_class(
                        &found,
                        &truth,
                        |id| of_track.get(usize::from(id) - 1),
                        |id| of_object.get(usize::from(id) - 1),
                    )
                })
                .collect();
            let ours = class_aware(&videos.iter().collect::<Vec<_>>());
            let wanted = read(&format!("expected/{variant}.json"));
            for (name, ours) in [("AP", ours.ap), ("AP50", ours.ap50), ("AR10", ours.ar10)] {
                let theirs = wanted["per_class"][name].as_f64().unwrap();
                // Categories are in another order here, and so are sums.
                assert!((ours.unwrap() - theirs).abs() < 1e-12, "{variant} {name}: {ours:?}, the tool {theirs}");
            }
            assert_ne!(wanted["per_class"]["AP"], wanted["class_agnostic"]["AP"], "{variant}: classes matter");
        }
    }

    #[test]
    fn of_more_than_twenty_tracks_those_with_the_most_frames_are_proposals() {
        assert_eq!(proposals(3, |_| 0), [0, 1, 2]);
        let seen = |number: usize| if number == 2 || number == 22 { 1 } else { 5 };
        let chosen = proposals(22, seen);
        assert_eq!((chosen.len(), chosen.contains(&1), chosen.contains(&21)), (20, false, false));
        // Of two alike the lower number stays.
        assert_eq!(proposals(21, |_| 7), (0..20).collect::<Vec<_>>());
    }
}
