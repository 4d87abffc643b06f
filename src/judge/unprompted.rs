//! May a result be used whose objects the model found itself? What a detector must have given, and what prompted objects may take.

use crate::results::note::{Reason, ReasonKind};
use crate::results::record::{CellRecord, FoundRecord, TakenSummary};
use crate::text::plural;

/// Most tracks of a video: ids of a label map of 8 bits, in which 255 is void.
const MOST_TRACKS: usize = 254;

/// Thresholds of the models that find and track by themselves.
const THRESHOLDS: &str = "--option query_score, or of DVIS-DAQ select_score and first_score in pack.toml";

/// The limit where such a model's objects share a frame among them.
const PANOPTIC: &str = "`score` of [segmenter.panoptic] in pack.toml";

/// Rules that the tracks of a cell break.
pub(super) fn reasons(cell: &CellRecord) -> Vec<Reason> {
    let mut reasons = of_taken(cell);
    let found: Vec<(&str, &FoundRecord)> =
        cell.sequences.iter().filter_map(|s| Some((s.video.as_str(), s.found.as_ref()?))).collect();
    let sum = |count: fn(&FoundRecord) -> u32| found.iter().map(|(_, f)| count(f) as usize).sum::<usize>();
    let panoptic = cell.options.value("panoptic") == Some("on");
    let alone = cell.detector.as_ref().is_some_and(|detector| detector.pack == cell.pack);
    if !found.is_empty() && sum(|f| f.counts.detections) == 0 {
        let frames = plural(sum(|f| f.counts.detector_frames), "frame", "frames");
        let threshold = match alone {
            true if panoptic => PANOPTIC,
            true => THRESHOLDS,
            false => "--option detect_score",
        };
        let text = format!(
            "no detection: the detector found nothing on {frames}; lower its threshold ({threshold}), or use one that knows these objects"
        );
        reasons.push(Reason::new(ReasonKind::NoDetection, text));
    }
    let broken = sum(|f| f.counts.non_finite);
    if broken > 0 {
        let text = format!("non-finite output: {} of the detector", plural(broken, "detection", "detections"));
        reasons.push(Reason::new(ReasonKind::NonFinite, text));
    }
    // Beside a tracker a detector's limit is an option; a segmenter that finds and tracks is then no longer the model that it should be.
    let dropped = sum(|f| f.counts.dropped);
    reasons.extend(alone.then(|| without_slot(dropped)).flatten());
    let confirmed = |f: &FoundRecord| f.tracks.iter().filter(|t| t.number.is_some()).count();
    if let Some((video, f)) = found.iter().find(|(_, f)| confirmed(f) > MOST_TRACKS) {
        let remedy = match alone {
            true if panoptic => format!("raise {PANOPTIC}"),
            true => "raise --option query_score, or of DVIS-DAQ lower `most` in pack.toml".to_string(),
            false => "raise --option new_score or probation".to_string(),
        };
        let text = format!(
            "too many tracks: {} in video {video}, and label maps have {MOST_TRACKS} ids; {remedy}",
            confirmed(f)
        );
        reasons.push(Reason::new(ReasonKind::TooManyTracks, text));
    }
    reasons
}

/// Births that a segmenter had no slot for.
fn without_slot(dropped: usize) -> Option<Reason> {
    let text = || {
        format!(
            "too many tracks: {} found no slot, counted on each frame; raise select_score (on the first frame first_score) in pack.toml, or \
             export the pack with more --slots",
            plural(dropped, "birth", "births")
        )
    };
    (dropped > 0).then(|| Reason::new(ReasonKind::TooManyTracks, text()))
}

/// Rules where prompted objects take the tracks that the model finds itself.
fn of_taken(cell: &CellRecord) -> Vec<Reason> {
    let dropped = cell.sequences.iter().filter_map(|s| s.dropped_births).map(|n| n as usize).sum();
    let mut reasons: Vec<Reason> = without_slot(dropped).into_iter().collect();
    if let Some(taken) = TakenSummary::of(&cell.sequences).filter(|t| t.objects > 0 && t.without == t.objects) {
        let text = format!(
            "no track: of {}, none got one that suits its prompt, so that every mask is empty; lower the thresholds of the model ({THRESHOLDS}), \
             or use one that knows these objects",
            plural(taken.objects, "object", "objects")
        );
        reasons.push(Reason::new(ReasonKind::NoDetection, text));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use jetbench_runners::types::Admitted;

    use super::*;
    use crate::results::record::{FoundTrackRecord, ObjectRecord, SequenceRecord, TakenRecord};

    #[test]
    fn prompted_objects_that_take_no_track_and_births_without_a_slot_are_said() {
        let said = |dropped: Option<u32>, tracks: &[Option<u32>]| {
            let object = |track: &Option<u32>| ObjectRecord {
                taken: Some(TakenRecord { track: *track, ..TakenRecord::default() }),
                ..serde_json::from_str(r#"{"object": "1", "prompt_frame": 0, "frames_scored": 0, "per_frame": []}"#)
                    .unwrap()
            };
            let objects = tracks.iter().map(object).collect();
            let sequence = SequenceRecord { dropped_births: dropped, objects, ..SequenceRecord::default() };
            let cell = CellRecord { pack: "p".into(), sequences: vec![sequence], ..CellRecord::default() };
            reasons(&cell).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(said(Some(0), &[Some(1), None]), "", "one of two is a figure");
        assert_eq!(said(Some(0), &[]), "", "the loop ended before the prompts");
        assert!(said(Some(0), &[None, None]).starts_with("no track: of 2 objects, none got one that suits its prompt"));
        assert!(said(Some(4), &[Some(1)]).starts_with("too many tracks: 4 births found no slot"));
    }

    #[test]
    fn a_detector_that_gave_nothing_or_no_numbers_or_too_much_is_said() {
        let said = |found: Option<FoundRecord>| {
            let cell = CellRecord {
                sequences: vec![SequenceRecord { video: "v".into(), found, ..SequenceRecord::default() }],
                ..CellRecord::default()
            };
            reasons(&cell).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        let with = |detections: u32, non_finite: u32, tracks: usize| {
            let mut found = FoundRecord::default();
            (found.counts.detections, found.counts.non_finite, found.counts.detector_frames) =
                (detections, non_finite, 4);
            found.tracks =
                (0..tracks as u32).map(|n| FoundTrackRecord { number: Some(n + 1), ..Default::default() }).collect();
            Some(found)
        };
        assert_eq!(said(None), "", "objects are prompted");
        assert_eq!(said(with(1, 0, 254)), "");
        assert!(said(with(0, 0, 0)).starts_with("no detection: the detector found nothing on 4 frames;"));
        assert_eq!(said(with(1, 2, 0)), "non-finite output: 2 detections of the detector");
        assert!(said(with(1, 0, 255)).starts_with("too many tracks: 255 in video v, and label maps have 254 ids"));
    }

    #[test]
    fn births_without_a_slot_are_said_of_a_segmenter_that_tracks_by_itself() {
        let with = |detector: &str, found: FoundRecord, options: &[(&str, &str)]| {
            let passed = options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            let cell = CellRecord {
                options: Admitted { passed, ..Admitted::default() },
                pack: "p".into(),
                detector: Some(crate::results::record::DetectorRecord { pack: detector.into(), ..Default::default() }),
                sequences: vec![SequenceRecord { video: "v".into(), found: Some(found), ..SequenceRecord::default() }],
                ..CellRecord::default()
            };
            reasons(&cell).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        let said = |detector: &str, found: FoundRecord| with(detector, found, &[]);
        let dropped = |dropped: u32| {
            let mut found = FoundRecord::default();
            (found.counts.detections, found.counts.dropped) = (1, dropped);
            found
        };
        assert_eq!((said("p", dropped(0)).as_str(), said("d", dropped(3)).as_str()), ("", ""));
        assert!(said("p", dropped(3)).starts_with("too many tracks: 3 births found no slot, counted on each frame"));
        // A remedy is one that its kind has.
        let mut many = dropped(0);
        many.tracks = (1..=255).map(|n| FoundTrackRecord { number: Some(n), ..Default::default() }).collect();
        assert!(
            said("p", many.clone()).ends_with("raise --option query_score, or of DVIS-DAQ lower `most` in pack.toml")
        );
        let panoptic = |found: FoundRecord| with("p", found, &[("panoptic", "on")]);
        assert!(panoptic(many.clone()).ends_with("raise `score` of [segmenter.panoptic] in pack.toml"));
        assert!(panoptic(FoundRecord::default()).contains("(`score` of [segmenter.panoptic] in pack.toml)"));
        assert!(said("d", many).ends_with("raise --option new_score or probation"));
        let nothing = said("p", FoundRecord::default());
        assert!(nothing.contains("--option query_score, or of DVIS-DAQ select_score"), "{nothing}");
    }
}
