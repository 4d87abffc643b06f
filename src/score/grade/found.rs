//! What is graded where a detector founded the tracks: the confirmed ones, on their own frames, numbered from 1.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jetbench_runners::panoptic::PanopticSpec;
use jetbench_runners::types::{FoundTrack, FoundTracks, Mask, TrackLabels};

use super::{Extras, Predictions, names_of};
use crate::dataset::panoptic_files::{PanopticTrack, segments_of};
use crate::dataset::panoptic_truth::{Segment, VOID as VOID_ID};
use crate::dataset::track_files::Instance;
use crate::dataset::{
    DataError, Layout, MaskSource, Object, PanopticCategory, SegmentIds, Sequence, SequenceSegments, by_segment_id,
    paint, same_class,
};
use crate::results::record::{FoundRecord, FoundTrackRecord, TrackRecord};
use crate::score::FrameScorer;
use crate::score::directory::unsupervised::{MOST_OBJECTS, highest};
use crate::score::label_pair::VOID;
use crate::score::panoptic::PanopticFrame;
use crate::score::unprompted::{Compared, Scene, Told, ToldClasses, UnpromptedScores};

/// Most tracks of a video that are graded: numbers of 16 bits.
const MOST_TRACKS: usize = u16::MAX as usize - 1;

/// The tracks of a sequence.
pub(super) struct Tracks<'a> {
    found: &'a FoundTracks,
    classes: &'a [String],
    /// With a label pack: its classes, and the best of each labelled track, by the runner's id.
    labels: Option<(&'a [String], BTreeMap<u32, u32>)>,
    /// Categories of the truth's objects by id, as they are compared; `None`: nothing is scored by class.
    categories: Option<BTreeMap<u16, String>>,
    /// The sequence with the confirmed tracks as its objects: their ids are the runner's, their names their numbers.
    pub(super) shown: Sequence,
    /// What stands beside each in a picture.
    pub(super) titles: Vec<String>,
    /// Objects that J and F are of, those that the first annotation shows, none where there are more than DAVIS has; `None`: there is no truth.
    objects: Option<usize>,
    layout: Layout,
    /// As [`Extras::overlaps`].
    whole_masks: bool,
    /// Where the truth is panoptic, and the model has a class of its.
    segments: Option<Segments<'a>>,
}

/// What the tracks are among the segments of a panoptic truth.
struct Segments<'a> {
    categories: &'a [PanopticCategory],
    /// Of each confirmed track the id, and the place of its category; `None`: the truth has no category of that name.
    tracks: Vec<Option<(u32, usize)>>,
    /// The same as files have it.
    written: Vec<Option<PanopticTrack>>,
}

impl Segments<'_> {
    /// Is the track of this number stuff, which is no object?
    fn is_stuff(&self, number: u32) -> bool {
        let segment = self.tracks.get(number as usize - 1).copied().flatten();
        segment.is_some_and(|(_, category)| !self.categories[category].thing)
    }
}

impl<'a> Tracks<'a> {
    /// Reads the first annotation, which says how many objects there are.
    ///
    /// # Errors
    /// It cannot be read: names the file. There are more tracks than numbers of 16 bits.
    pub(super) fn new(
        sequence: &'a Sequence,
        found: &'a FoundTracks,
        said: Option<&TrackLabels>,
        extras: &'a Extras,
        layout: Layout,
    ) -> Result<Self, DataError> {
        let classes = &extras.classes;
        let names = names_of(said, extras);
        let labels = said.map(|said| {
            let best = said.objects.iter().filter_map(|of| Some((of.object, of.best?.label)));
            (extras.labels.as_slice(), best.collect())
        });
        let named = |all: &BTreeMap<String, String>| {
            let of = |object: &Object| Some((truth_id(sequence, object), same_class(all.get(&object.name)?)));
            sequence.objects.iter().filter_map(of).collect()
        };
        let categories = extras.categories.as_ref().map(named);
        let confirmed = || found.tracks.iter().filter(|track| track.confirmed).zip(1..);
        let count = confirmed().count();
        if count > MOST_TRACKS {
            return Err(DataError(format!(
                "video {}: {count} tracks were found, of which {MOST_TRACKS} can be told apart in label maps of 16 bits; ask the model for fewer",
                sequence.name
            )));
        }
        let object = |(track, number): (&FoundTrack, u32)| Object {
            id: track.id,
            name: number.to_string(),
            annotated: Vec::new(),
            prompt_frame: track.birth as usize,
        };
        let shown = sequence.with_found(confirmed().map(object).collect());
        let titles = confirmed().map(|(track, number)| match names.get(&track.id) {
            Some(name) => format!("{number} {name}"),
            None => format!("{number} {} {:.2}", label(classes, track.label), track.score),
        });
        let titles = titles.collect();
        let mut tracks = Tracks {
            found,
            classes,
            labels,
            categories,
            shown,
            titles,
            objects: None,
            layout,
            whole_masks: extras.overlaps,
            segments: None,
        };
        tracks.segments = tracks.among(sequence.segments());
        if sequence.truth_source().is_some() {
            let first = sequence.objects.iter().filter_map(|object| object.annotated.first()).min();
            let first = first.map(|frame| tracks.truth(sequence, *frame)).transpose()?;
            // As by the reference every number up to the highest is an object, which for ids of 16 bits would be thousands that are none.
            let objects = first.flatten().map_or(0, |(masks, _)| highest(&masks));
            tracks.objects = Some(if objects > MOST_OBJECTS { 0 } else { objects });
        }
        Ok(tracks)
    }

    /// The confirmed tracks as YouTube-VIS has them.
    pub(super) fn instances(&self) -> Vec<Instance> {
        let confirmed = self.found.tracks.iter().filter(|track| track.confirmed);
        let category = |track: &FoundTrack| self.class_of(track).map_or(0, |class| class + 1);
        confirmed.map(|track| Instance { category: category(track), score: track.score }).collect()
    }

    /// The confirmed tracks as panoptic files have them: with the categories of a panoptic truth that have the names of the model's classes, else
    /// with the pack's own. `None`: a track of another class, or one that its label pack has no class for. A label pack's classes are all things,
    /// and have their numbers as ids.
    pub(super) fn segments(&self, spec: &PanopticSpec) -> Vec<Option<PanopticTrack>> {
        if let Some(segments) = &self.segments {
            return segments.written.clone();
        }
        let confirmed = self.found.tracks.iter().filter(|track| track.confirmed);
        let of = |track: &FoundTrack| {
            self.class_of(track).map(|class| match self.labels {
                None => PanopticTrack { category: spec.id_of(class), stuff: spec.is_stuff(class) },
                Some(_) => PanopticTrack { category: class, stuff: false },
            })
        };
        confirmed.map(of).collect()
    }

    /// The confirmed tracks among the segments of the truth, by the names of their classes; `None`: there are none to compare, or no class of
    /// the model is a category.
    fn among(&self, truth: Option<&'a SequenceSegments>) -> Option<Segments<'a>> {
        let categories = &truth?.categories;
        let names = self.labels.as_ref().map_or(self.classes, |(classes, _)| classes);
        let place_of = |class: u32| {
            let name = same_class(&label(names, class));
            categories.iter().position(|category| same_class(&category.name) == name)
        };
        (0..names.len() as u32).find_map(place_of)?;
        let confirmed = || self.found.tracks.iter().filter(|track| track.confirmed);
        let places: Vec<Option<usize>> = confirmed().map(|track| place_of(self.class_of(track)?)).collect();
        let of = |place: &Option<usize>| {
            let category = &categories[(*place)?];
            Some(PanopticTrack { category: category.id, stuff: !category.thing })
        };
        let written: Vec<Option<PanopticTrack>> = places.iter().map(of).collect();
        let numbers: Vec<u32> = (1..).take(written.len()).collect();
        let ids = segments_of(&numbers, &written).into_iter();
        let tracks = ids.zip(places).map(|(segment, place)| Some((segment?.0, place?))).collect();
        Some(Segments { categories, tracks, written })
    }

    /// Number of a track's class: that of the label pack where there is one, which may have seen no crop of it, else the detector's.
    fn class_of(&self, track: &FoundTrack) -> Option<u32> {
        match &self.labels {
            Some((_, best)) => best.get(&track.id).copied(),
            None => Some(track.label),
        }
    }

    /// What the tracks are, for their scores.
    fn told(&self) -> Told<'_> {
        let confirmed = || self.found.tracks.iter().filter(|track| track.confirmed);
        let names = self.labels.as_ref().map_or(self.classes, |(classes, _)| classes);
        let class = |track: &FoundTrack| Some(same_class(&label(names, self.class_of(track)?)));
        Told {
            // One without a class stands behind all others.
            tracks: confirmed().map(|t| (t.score, self.class_of(t).unwrap_or(u32::MAX))).collect(),
            classes: self
                .categories
                .as_ref()
                .map(|objects| ToldClasses { objects, tracks: confirmed().map(class).collect() }),
            whole_masks: self.whole_masks,
            segments: self.segments.as_ref().map(|segments| {
                let left_out = segments.tracks.iter().filter(|track| track.is_none()).count();
                (segments.categories, left_out)
            }),
        }
    }

    /// Is this frame one of a confirmed track's own?
    pub(super) fn holds(&self, id: u32, frame: usize) -> bool {
        let track = self.found.tracks.iter().find(|track| track.id == id);
        track.is_some_and(|t| t.confirmed && (t.birth as usize..t.end as usize).contains(&frame))
    }

    /// The annotation of a frame, by id, and its void pixels; `None`: it has none. Objects in folders of their own are numbered.
    pub(super) fn truth(&self, sequence: &Sequence, frame: usize) -> Result<Option<(Masks, Option<Mask>)>, DataError> {
        if let Some(truth) = sequence.segments() {
            return sequence.segment_ids(frame).map(|ids| Some(things(sequence, &truth.frames[frame].1, &ids)));
        }
        let annotated = sequence.objects.iter().filter(|o| o.annotated.binary_search(&frame).is_ok());
        let mut wanted: Vec<Object> = annotated.cloned().collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let labels = has_labels(sequence);
        let with_void = labels && self.layout == Layout::Davis2017;
        wanted.extend(with_void.then(|| Object { name: VOID.to_string(), ..wanted[0].clone() }));
        let mut masks = sequence.truths(&wanted, frame)?;
        let void = if with_void { masks.pop().filter(|void| !void.is_empty()) } else { None };
        let masks =
            wanted.iter().map(|object| truth_id(sequence, object)).zip(masks).filter(|(_, mask)| !mask.is_empty());
        Ok(Some((masks.collect(), void)))
    }

    /// Compares an annotated frame with what was found on it; `None`: it has no annotation. `whole`: the masks before a pixel was given to one
    /// track, where two claim the same.
    pub(super) fn compare(
        &self,
        sequence: &Sequence,
        frame: usize,
        predicted: &Predictions,
        whole: Option<&Predictions>,
        scorer: FrameScorer,
    ) -> Result<Option<Compared>, DataError> {
        let panoptic = sequence.segments().map(|truth| sequence.segment_ids(frame).map(|ids| (truth, ids)));
        let panoptic = panoptic.transpose()?;
        let truth = match &panoptic {
            Some((truth, ids)) => Some(things(sequence, &truth.frames[frame].1, ids)),
            None => self.truth(sequence, frame)?,
        };
        let (Some(objects), Some((truth, void))) = (self.objects, truth) else {
            return Ok(None);
        };
        let stuff = |number: u16| self.segments.as_ref().is_some_and(|s| s.is_stuff(u32::from(number)));
        let numbered = |masks: &Predictions| {
            let mask = |object: &Object| masks.get(&object.id).map(|(mask, _)| mask).filter(|mask| !mask.is_empty());
            let objects = self.shown.objects.iter().zip(1u16..).filter(|(_, number)| !stuff(*number));
            objects.filter_map(|(object, number)| Some((number, mask(object)?.clone()))).collect()
        };
        let scene = Scene {
            frame: frame as u32,
            size: (sequence.width, sequence.height),
            truth,
            tracks: numbered(predicted),
            whole: whole.map(numbered),
            void,
        };
        let mut compared = Compared::of(scene, self.shown.objects.len(), objects, &mut Some(scorer));
        if let (Some(segments), Some((truth, ids))) = (&self.segments, panoptic) {
            compared.segments = Some(self.counted(segments, &truth.frames[frame], &ids, predicted)?);
        }
        Ok(Some(compared))
    }

    /// A frame's segments on both sides, counted.
    fn counted(
        &self,
        segments: &Segments<'_>,
        (path, listed): &(PathBuf, Vec<Segment>),
        ids: &SegmentIds,
        predicted: &Predictions,
    ) -> Result<PanopticFrame, DataError> {
        let mut painted = vec![VOID_ID; ids.ids.len()];
        let mut found: BTreeMap<u32, usize> = BTreeMap::new();
        for (object, track) in self.shown.objects.iter().zip(&segments.tracks) {
            let mask = predicted.get(&object.id).map(|(mask, _)| mask).filter(|mask| !mask.is_empty());
            if let (Some((id, category)), Some(mask)) = (track, mask) {
                paint(&mut painted, mask, *id);
                found.insert(*id, *category);
            }
        }
        // Areas are counted.
        let of = |(id, category): (u32, usize)| Segment { id, category, crowd: false, area: 0 };
        let pairs = ids.ids.iter().copied().zip(painted);
        PanopticFrame::new((ids.width, ids.height), pairs, listed.clone(), found.into_iter().map(of).collect())
            .map_err(|(_, fault)| DataError(format!("{}: {fault}", path.display())))
    }

    /// The record of a sequence, from its compared frames and what was said of each track on each frame.
    pub(super) fn record(
        &self,
        video: &str,
        compared: Vec<Compared>,
        mut said: BTreeMap<u32, Vec<TrackRecord>>,
    ) -> Result<FoundRecord, DataError> {
        let numbers: Vec<u32> = self.shown.objects.iter().map(|object| object.id).collect();
        let scores = self.objects.map(|objects| UnpromptedScores::of(video, compared, objects, &self.told()));
        let scores = scores.transpose().map_err(|fault| DataError(format!("video {video}: {fault}")))?;
        let stuff = |number: usize| self.segments.as_ref().is_some_and(|s| s.is_stuff(number as u32 + 1));
        let track = |track: &FoundTrack| {
            let number = numbers.iter().position(|id| *id == track.id);
            FoundTrackRecord {
                id: track.id,
                number: number.map(|n| n as u32 + 1),
                birth: track.birth,
                // One that is no part of the result has no frames, whatever ended it.
                end: if track.confirmed { track.end } else { track.birth },
                hits: track.hits,
                score: track.score,
                label: label(self.classes, track.label),
                // Stuff covers no object, and need not.
                best_iou: number.filter(|n| !stuff(*n)).and_then(|n| scores.as_ref()?.best_iou.get(n).copied()),
                frames: said.remove(&track.id).unwrap_or_default(),
            }
        };
        let tracks = self.found.tracks.iter().map(track).collect();
        Ok(FoundRecord { counts: self.found.counts, tracks, scores })
    }
}

/// The things of a frame by the number of their object, and the pixels that nobody labelled or that show several things as one.
fn things(sequence: &Sequence, listed: &[Segment], ids: &SegmentIds) -> (Masks, Option<Mask>) {
    let crowd = |id: u32| id == VOID_ID || listed.iter().any(|segment| segment.id == id && segment.crowd);
    let objects = by_segment_id(&sequence.objects);
    let mut void = Mask::empty(ids.width, ids.height);
    let mut masks: Masks = Vec::new();
    for (id, mask) in ids.masks(|id| crowd(id) || objects.contains_key(&id)) {
        match objects.get(&id) {
            Some(object) if !crowd(id) => masks.push((truth_id(sequence, object), mask)),
            _ => void.unite(&mask),
        }
    }
    masks.sort_by_key(|(number, _)| *number);
    (masks, Some(void).filter(|void| !void.is_empty()))
}

type Masks = Vec<(u16, Mask)>;

fn has_labels(sequence: &Sequence) -> bool {
    matches!(sequence.truth_source(), Some(MaskSource::LabelMaps(_)))
}

/// Id of an object in the truth that found tracks are held against: its number in label maps, else its place.
pub(super) fn truth_id(sequence: &Sequence, object: &Object) -> u16 {
    match has_labels(sequence) {
        true => object.name.parse().unwrap_or(0),
        false => object.id as u16 + 1,
    }
}

/// Name of a class; its number where the pack names none.
fn label(classes: &[String], number: u32) -> String {
    classes.get(number as usize).cloned().unwrap_or_else(|| format!("class {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Dataset, SynthOptions, synthesise};

    /// A drawn video of two frames, and the folder that it is in.
    fn drawn(layout: Layout) -> (tempfile::TempDir, Sequence) {
        let dir = tempfile::tempdir().unwrap();
        let options = SynthOptions { out: dir.path().to_path_buf(), layout, frames: 2, ..SynthOptions::default() };
        synthesise(&options, &|_, _| {}).unwrap();
        let sequence = Dataset::open(dir.path()).unwrap().sequences.remove(0);
        (dir, sequence)
    }

    #[test]
    fn pixels_of_a_crowd_or_without_a_label_are_void() {
        let (_dir, sequence) = &drawn(Layout::Vipseg);
        assert!(sequence.objects.iter().map(|o| o.name.as_str()).eq(["2", "3", "4"]));
        let ids = SegmentIds { width: 5, height: 1, ids: vec![1, 2, 3, 0, 2] };
        let segment = |id: u32, crowd: bool| Segment { id, category: 1, crowd, area: 1 };
        let of = |crowd: bool| things(sequence, &[segment(2, false), segment(3, crowd)], &ids);
        let row = |columns: &[u32]| Mask::from_fn(5, 1, |x, _| columns.contains(&x));
        assert_eq!(of(false), (vec![(1, row(&[1, 4])), (2, row(&[2]))], Some(row(&[3]))));
        assert_eq!(of(true), (vec![(1, row(&[1, 4]))], Some(row(&[2, 3]))));
    }

    #[test]
    fn more_tracks_than_numbers_are_refused() {
        let (_dir, sequence) = &drawn(Layout::Davis2017);
        let track = |id: u32| FoundTrack { id, birth: 0, end: 2, confirmed: true, hits: 1, score: 1.0, label: 0 };
        let extras = Extras::default();
        for (count, fits) in [(MOST_TRACKS, true), (MOST_TRACKS + 1, false)] {
            let found = FoundTracks { tracks: (1..=count as u32).map(track).collect(), ..FoundTracks::default() };
            let (width, height) = (sequence.width, sequence.height);
            // The last one shows on the frame.
            let predicted = [(count as u32, (Mask::from_fn(width, height, |x, _| x < 3), 1.0))].into();
            let compared = Tracks::new(sequence, &found, None, &extras, Layout::Davis2017).and_then(|tracks| {
                tracks.compare(
                    sequence,
                    0,
                    &predicted,
                    None,
                    FrameScorer::new(width, height, crate::score::BOUNDARY_THRESHOLD),
                )
            });
            match compared {
                Ok(compared) => assert!(fits && compared.is_some()),
                Err(e) => assert!(!fits && e.0.contains("65535 tracks were found"), "{e}"),
            }
        }
    }
}
