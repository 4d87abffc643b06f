//! Prompted objects whose model finds its tracks itself, through the scripted runner: an object takes the track that suits its prompt.

use std::path::{Path, PathBuf};

use jetbench::dataset::{Dataset, Layout};
use jetbench::results::record::{CellRecord, ObjectRecord, Verdict};
use jetbench_runners::types::PromptKind;
use serde_json::{Value, json};

use super::runs::{corners, load};
use crate::workshop::{Workshop, column, rows, text};

const KINDS: &str = "prompts = [\"detector\", \"points\", \"bbox\", \"mask\"]\noptions = [\"threads\", \"stage_times\", \"overlaps\"]\n";

/// A model that finds and tracks by itself.
fn finder(shop: &Workshop, id: &str, tracks: &str) {
    shop.pack(id, &format!("{KINDS}{tracks}\n[detector]\nclasses = [\"dot\"]\n"));
}

/// Two objects in each video. In the first one the model finds both: the second object as track 1, the first as track 2, which ends before
/// frame 11; track 3 is on nothing. The tracks of the second video are the same.
fn shop(videos: usize) -> Workshop {
    let shop = Workshop::of(Layout::Davis2017, videos, 24);
    let data = Dataset::open(&shop.path("data")).unwrap();
    let sequence = &data.sequences[0];
    let tracks = [(1, ""), (0, "end = 11\n")].map(|(object, more)| {
        let [first, later] =
            [0, 8].map(|frame| corners(&sequence.truth(&sequence.objects[object], frame).unwrap()).map(|at| at as f32));
        let motion = [0, 1].map(|i| (later[i] + later[i + 2] - first[i] - first[i + 2]) / 16.0);
        format!("[[mock.track]]\nbirth = 0\nbox = {first:?}\nmotion = {motion:?}\n{more}")
    });
    finder(&shop, "alone", &format!("{}[[mock.track]]\nbirth = 0\nbox = [0, 0, 0, 0]\n", tracks.concat()));
    shop
}

fn tracks(cell: &CellRecord, video: usize) -> Vec<Option<u32>> {
    cell.sequences[video].objects.iter().map(|object| object.taken.unwrap().track).collect()
}

/// J on the frames from `from` on.
fn j(object: &ObjectRecord, from: u32) -> f64 {
    let frames: Vec<f64> = object.per_frame.iter().filter(|f| f.frame >= from).map(|f| f.j).collect();
    frames.iter().sum::<f64>() / frames.len() as f64
}

#[test]
fn objects_take_the_tracks_that_suit_their_prompts() {
    let shop = shop(1);
    shop.pack("told", "");
    let models = "alone,alone_mask,alone_bbox,alone_points,told_mask";
    let run = shop.run(&["--models", models, "--save-masks", "--min-frames", "1"]);
    let (record, found) = load(&run);
    assert_eq!(
        (found.prompt, found.summary.as_ref().unwrap().taken),
        (PromptKind::Detector, None),
        "nobody prompts it"
    );
    for (cell, kind) in record.cells[1..4].iter().zip([PromptKind::Mask, PromptKind::Bbox, PromptKind::Points]) {
        assert_eq!((cell.prompt, cell.verdict.clone()), (kind, Verdict::Valid), "{}", cell.verdict.reasons());
        assert!(cell.detector.is_none() && cell.sequences[0].found.is_none(), "{kind}");
        assert_eq!(tracks(cell, 0), [Some(2), Some(1)], "{kind}");
        let objects = &cell.sequences[0].objects;
        assert_eq!(objects[0].taken.unwrap().end, Some(11));
        let before = objects[0].per_frame.iter().filter(|f| f.frame < 11).map(|f| f.j).sum::<f64>() / 10.0;
        assert!(before > 30.0 && j(&objects[0], 11) == 0.0, "{before}: its track is over, and its masks are empty");
        assert!(j(&objects[1], 0) > 30.0 && objects[1].taken.unwrap().end.is_none());
        let overlaps: Vec<bool> = objects.iter().map(|o| o.taken.unwrap().iou.is_some_and(|iou| iou > 0.5)).collect();
        assert_eq!(overlaps, [kind != PromptKind::Points; 2], "clicks have no overlap");
        let summary = cell.summary.as_ref().unwrap();
        assert!(summary.found.is_none() && summary.jf.unwrap() > 20.0);
        let taken = summary.taken.unwrap();
        assert_eq!((taken.objects, taken.without, taken.ended), (2, 0, 1));
        let said = cell.notes.iter().any(|note| note.text.contains("no prompt reaches the model"));
        assert!(said, "{:?}", cell.notes);
        // What was scored is what was saved.
        let saved = run.join("masks").join(format!("{}-fp32-cpu", cell.model));
        let score = shop.expect(0, &["score", "data", saved.to_str().unwrap(), "--json"]);
        let score: Value = serde_json::from_str(&score).unwrap();
        let jf = score["global"]["jf"].as_f64().unwrap_or_else(|| panic!("{score}"));
        assert!((jf * 100.0 - summary.jf.unwrap()).abs() < 1e-9, "{jf} {:?}", summary.jf);
    }
    let told = &record.cells[4];
    assert!(told.sequences[0].objects[0].taken.is_none() && told.summary.as_ref().unwrap().taken.is_none());
    let objects = rows(&run.join("objects.csv"));
    let columns = |row: &[String]| row[row.len() - 3..].to_vec();
    assert_eq!(columns(&objects[0]), ["track", "track_iou", "track_end"]);
    let of = |model: &str| objects.iter().find(|row| row[0] == model).map(|row| columns(row)).unwrap();
    assert_eq!((of("alone_points").join(","), of("told_mask").join(",")), ("2,,11".into(), ",,".into()));
    let summary = |name: &str| column(&run.join("summary.csv"), name);
    assert_eq!(summary("objects_without_track"), ["", "0", "0", "0", ""]);
    assert_eq!(summary("objects_track_ended"), ["", "1", "1", "1", ""]);
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    for words in ["of 2 prompted objects, the track of 1 ended before the video", ", to frame 10", "2, IoU "] {
        assert!(page.contains(words), "{words}");
    }
    let table = shop.expect(0, &["report", run.to_str().unwrap(), "--export-markdown", "-"]);
    assert!(table.contains("alone_mask") && table.contains("J&F"), "{table}");
}

/// Footage without truth, and a click; where the run lies.
fn clicked(shop: &Workshop, id: &str, more: &[&str]) -> PathBuf {
    let (frames, model) = (shop.path("data/JPEGImages/480p/synth_000"), format!("{id}_points"));
    let args = [
        "--data",
        frames.to_str().unwrap(),
        "--models",
        &model,
        "--dtype",
        "fp32",
        "--clicks",
        "1 5,5",
        "--min-frames",
        "1",
        "--out",
        id,
    ];
    let output = shop.output(&[&args, more].concat());
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    shop.runs(id).remove(0)
}

/// Too few tracks, none at all, and one that ends among dropped frames.
#[test]
fn an_object_without_a_track_has_empty_masks_and_is_counted() {
    let shop = shop(1);
    finder(&shop, "one", "[[mock.track]]\nbirth = 0\nbox = [0, 0, 47, 31]\nmotion = [0.0, 0.0]\n");
    let run = shop.run(&["--models", "one_mask", "--min-frames", "1"]);
    let (_, cell) = load(&run);
    assert_eq!(cell.verdict, Verdict::Valid, "{}", cell.verdict.reasons());
    assert!(cell.warmup.as_ref().unwrap().faults.is_empty(), "an object without a track is no fault");
    let taken = tracks(&cell, 0);
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [&1], "one track for two");
    let without = &cell.sequences[0].objects[taken.iter().position(Option::is_none).unwrap()];
    assert_eq!((without.j, cell.summary.as_ref().unwrap().taken.unwrap().without), (Some(0.0), 1));
    let shown = shop.expect(0, &["report", run.to_str().unwrap()]);
    assert!(shown.contains("of 2 prompted objects, 1 took none of the tracks"), "{shown}");

    finder(&shop, "none", "[[mock.track]]\nbirth = 3\nbox = [0, 0, 47, 31]\n");
    let output = shop.output(&["--data", "data", "--dtype", "fp32", "--models", "none_mask", "--out", "none"]);
    assert_eq!(output.status.code(), Some(1));
    let (_, cell) = load(&shop.runs("none")[0]);
    let reasons = cell.verdict.reasons();
    assert!(reasons.contains("no track: of 2 objects, none got one that suits its prompt"), "{reasons}");

    // Real time tells the end of a track in frames of the video.
    finder(
        &shop,
        "slow",
        "frame_ms = [100.0]\n[[mock.track]]\nbirth = 0\nend = 3\nbox = [0, 0, 20, 20]\nmotion = [0.0, 0.0]\n",
    );
    let run = clicked(&shop, "slow", &["--scenario", "realtime", "--fps", "24"]);
    let (_, cell) = load(&run);
    let sequence = &cell.sequences[0];
    let tracked: Vec<u32> = sequence.frames.iter().map(|frame| frame.frame).collect();
    assert!(sequence.dropped.len() > 4, "{tracked:?}");
    assert_eq!(sequence.objects[0].taken.unwrap().end, Some(tracked[3]), "of the frames {tracked:?}");
}

/// Whatever a run does beside: in parts, backward in time, with files that hold found tracks, and with a record that was forged.
#[test]
fn what_goes_with_prompted_trackers_goes_with_them() {
    let shop = shop(2);
    let whole = load(&shop.run(&["--models", "alone_mask", "--min-frames", "1", "--out", "whole"])).1;
    let part =
        |shard: &str| shop.run(&["--models", "alone_mask", "--min-frames", "1", "--out", "parts", "--shard", shard]);
    let (one, two) = (part("1/2"), part("2/2"));
    shop.expect(0, &["merge", one.to_str().unwrap(), two.to_str().unwrap(), "--out", "joined"]);
    let joined = load(&shop.runs("joined")[0]).1;
    let objects =
        |cell: &CellRecord| cell.sequences.iter().map(|s| (s.video.clone(), s.objects.clone())).collect::<Vec<_>>();
    assert_eq!(objects(&joined), objects(&whole));
    assert_eq!(joined.summary.unwrap().taken, whole.summary.as_ref().unwrap().taken);

    let refused = |args: &[&str], words: &str| {
        let output = shop.output(&[&["--data", "data", "--dtype", "fp32", "--out", "never"], args].concat());
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(words), "{words}: {said}");
    };
    refused(
        &["--models", "alone_mask", "--save-masks=mots"],
        "these files hold found tracks, and its objects are prompted",
    );
    refused(&["--models", "alone_nonesuch"], "unknown model");
    refused(&["--models", "alone_mask", "--limit-objects", "1", "--memory-budget", "1MiB"], "cannot be estimated");
    let few =
        load(&shop.run(&["--models", "alone_mask", "--limit-objects", "1", "--min-frames", "1", "--out", "few"])).1;
    assert_eq!(tracks(&few, 0).len(), 1);
    finder(&shop, "still", "[[mock.track]]\nbirth = 0\nbox = [0, 0, 20, 20]\n");
    let run = clicked(&shop, "still", &["--backward"]);
    let agreement = rows(&run.join("agreement.csv"));
    assert!(agreement.len() == 2 && agreement[1].contains(&"1".to_string()), "the way back is the same: {agreement:?}");
    let listed = shop.expect(0, &["models", "--json"]);
    assert!(!listed.contains("alone"), "test packs are not listed");
    forged(&shop, &shop.runs("whole")[0]);
}

fn forged(shop: &Workshop, run: &Path) {
    let file = run.join("run.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let object = "/cells/0/sequences/0/objects/1/taken";
    for (place, value, words) in [
        (format!("{object}/iou"), json!(1.5), "object \"2\": iou is 1.5"),
        (format!("{object}/track"), json!(2), "track 2 is another object's"),
        (format!("{object}/track"), Value::Null, "an IoU or an end, and no track"),
        ("/cells/0/sequences/0/dropped_births".to_string(), Value::Null, "the model is said to find none"),
        ("/cells/0/summary/taken/without".to_string(), json!(4), "summary: taken is"),
    ] {
        let mut record = whole.clone();
        *record.pointer_mut(&place).unwrap_or_else(|| panic!("{place}")) = value;
        std::fs::write(&file, record.to_string()).unwrap();
        let output = shop.output(&["report", run.to_str().unwrap()]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(words), "{words}: {said}");
    }
}
