//! Which rows and columns has the file of labels: what is each object called?

use super::run::CsvEntry;
use super::{CsvTable, columns, maybe, value};
use crate::results::record::{ObjectLabelRecord, RunRecord};

/// Columns of `labels.csv`.
pub fn labels_table<'a>() -> CsvTable<CsvEntry<'a, &'a ObjectLabelRecord>> {
    const UNSEEN: &str = "no crop showed it, or its features were no numbers";
    const ALONE: &str = "the pack has one class, or there is no label";
    let columns = columns! {
        CsvEntry<'a, &'a ObjectLabelRecord>;
        cell;
        "video", "", "name of the video" => |r| value(r.video);
        "object", "", "name of the object, or `number` of a found track (`found.csv`)" => |r| value(&r.of.object);
        "crops", "", "crops that its features are the mean of, at most 8" => |r| value(r.of.crops);
        "label", "", "the most probable class; below a probability of 0.5, tables and pictures call it unlabelled", UNSEEN
            => |r| maybe(r.of.label.as_ref());
        "probability", "0 to 1", "its probability: of all classes together (softmax), or of this one alone (sigmoid)", UNSEEN
            => |r| maybe(r.of.probability);
        "second", "", "the second class", ALONE => |r| maybe(r.of.second.as_ref());
        "second_probability", "0 to 1", "its probability", ALONE => |r| maybe(r.of.second_probability);
    };
    CsvTable { file: "labels.csv", row: "With `--labels`: one row per cell and object, of the first repeat.", columns }
}

/// `labels.csv`.
pub fn labels(run: &RunRecord) -> Vec<u8> {
    let all = run.cells.iter().flat_map(|cell| cell.sequences.iter().map(move |sequence| (cell, sequence)));
    labels_table().file(all.flat_map(|(cell, s)| {
        let objects = s.labels.iter().flat_map(|labels| &labels.objects);
        objects.map(move |of| CsvEntry { cell, repeat: 1, video: &s.video, of })
    }))
}
