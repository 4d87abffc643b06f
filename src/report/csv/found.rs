//! Which rows and columns have the files of tracks: those that a detector founded, and what was said of every object frame by frame where
//! there is no truth?

use std::borrow::Cow;

use super::run::{CsvEntry, each_object_frame};
use super::{CsvTable, columns, maybe, value};
use crate::results::record::{FoundTrackRecord, RunRecord, TrackRecord};

/// A track by its name, on one frame.
type TrackFrame<'a> = (Cow<'a, str>, &'a TrackRecord);

/// Columns of `tracks.csv`.
pub fn tracks_table<'a>() -> CsvTable<CsvEntry<'a, TrackFrame<'a>>> {
    let columns = columns! {
        CsvEntry<'a, TrackFrame<'a>>;
        cell;
        "video", "", "name of the video" => |r| value(r.video);
        "object", "", "name that the user gave the object, or `number` of a found track (`found.csv`)" => |r| value(&r.of.0);
        "frame", "", "index of the frame, from 0" => |r| value(r.of.1.frame);
        "object_score", "logit", "the model's object score: positive where it sees the object",
            "the model gives no finite one" => |r| maybe(r.of.1.object_score);
        "area", "pixels", "pixels of the mask" => |r| value(r.of.1.area);
    };
    let row = "Without ground truth: one row per cell, object and tracked frame. Nothing here is accuracy.";
    CsvTable { file: "tracks.csv", row, columns }
}

/// Columns of `found.csv`.
pub fn found_table<'a>() -> CsvTable<CsvEntry<'a, &'a FoundTrackRecord>> {
    const TAKEN_BACK: &str = "it was taken back";
    let columns = columns! {
        CsvEntry<'a, &'a FoundTrackRecord>;
        cell;
        "video", "", "name of the video" => |r| value(r.video);
        "id", "", "number of the track in the runner, from 1" => |r| value(r.of.id);
        "number", "", "its number in saved masks and overlays, from 1 without gaps", TAKEN_BACK => |r| maybe(r.of.number);
        "birth", "", "index of its first frame, from 0" => |r| value(r.of.birth);
        "end", "", "index of the first frame that is no longer its own; `birth` where it was taken back" => |r| value(r.of.end);
        "hits", "", "detections that supported it" => |r| value(r.of.hits);
        "score", "0 to 1", "largest score of these" => |r| value(r.of.score);
        "label", "", "class of the founding detection" => |r| value(&r.of.label);
        "best_iou", "0 to 1", "largest IoU with any object on any frame", "it was taken back, or there is no ground truth"
            => |r| maybe(r.of.best_iou);
        "frames", "", "frames of the first pass on which it was tracked" => |r| value(r.of.frames.len());
    };
    CsvTable {
        file: "found.csv",
        row: "Where a detector founds the tracks: one row per cell and track, those that were taken back too.",
        columns,
    }
}

/// `found.csv`.
pub fn found(run: &RunRecord) -> Vec<u8> {
    found_table().file(each_found(run))
}

fn each_found(run: &RunRecord) -> impl Iterator<Item = CsvEntry<'_, &FoundTrackRecord>> {
    let all = run.cells.iter().flat_map(|cell| cell.sequences.iter().map(move |sequence| (cell, sequence)));
    all.flat_map(|(cell, s)| {
        let tracks = s.found.iter().flat_map(|found| &found.tracks);
        tracks.map(move |of| CsvEntry { cell, repeat: 1, video: &s.video, of })
    })
}

/// `tracks.csv`.
pub fn tracks(run: &RunRecord) -> Vec<u8> {
    let prompted = each_object_frame(run, |object| &object.track).map(|entry| {
        let CsvEntry { cell, repeat, video, of: (object, track) } = entry;
        CsvEntry { cell, repeat, video, of: (Cow::from(&object.object), track) }
    });
    let found = each_found(run).filter_map(|CsvEntry { cell, repeat, video, of }| {
        let name = of.number?.to_string();
        let frame = move |track| CsvEntry { cell, repeat, video, of: (Cow::from(name.clone()), track) };
        Some(of.frames.iter().map(frame))
    });
    tracks_table().file(prompted.chain(found.flatten()))
}
