//! Runs in which a detector founds the tracks, through the scripted runner: what is scored is what the saved masks are worth.

use std::path::Path;

use jetbench::dataset::{Dataset, LabelMasks, Layout};
use jetbench::results::record::{CellRecord, RunRecord, Verdict};
use jetbench::results::store;
use jetbench::score::tracking::{Hota, TrackingOptions, track};
use jetbench::score::tubes::{TubeOptions, TubeProtocol, score as score_tubes};
use jetbench_runners::types::{Mask, PromptKind};
use serde_json::{Value, json};

use crate::workshop::{Workshop, rows, text, tree};

/// First and last column and row of a mask.
pub(super) fn corners(mask: &Mask) -> [u32; 4] {
    let columns: Vec<u32> = (0..mask.width()).filter(|x| (0..mask.height()).any(|y| mask.get(*x, y))).collect();
    let lines: Vec<u32> = (0..mask.height()).filter(|y| (0..mask.width()).any(|x| mask.get(x, *y))).collect();
    [columns[0], lines[0], columns[columns.len() - 1], lines[lines.len() - 1]]
}

/// With a tracker and a detector; the tracks follow the objects of the first video, as boxes.
pub(crate) fn shop(layout: Layout, videos: usize, frames: usize) -> Workshop {
    let shop = Workshop::of(layout, videos, frames);
    let data = Dataset::open(&shop.path("data")).unwrap();
    let sequence = &data.sequences[0];
    let mut mock = "options = [\"threads\", \"stage_times\", \"overlaps\"]\n".to_string();
    for (object, more) in sequence.objects.iter().zip([
        // Its masks go on after its end, and are no part of the result.
        "end = 11\nbeyond = 3\nscore = 0.75\n",
        "label = 1\n",
    ]) {
        let [first, later] = [0, 8].map(|frame| corners(&sequence.truth(object, frame).unwrap()));
        let motion =
            [0, 1].map(|i| (later[i] as f32 + later[i + 2] as f32 - first[i] as f32 - first[i + 2] as f32) / 16.0);
        mock += &format!("[[mock.track]]\nbirth = 0\nbox = {first:?}\nmotion = {motion:?}\n{more}");
    }
    // One that nothing confirms, and one that is on no object.
    mock += "[[mock.track]]\nbirth = 2\nend = 7\nbox = [0, 0, 47, 31]\nconfirmed = false\n\
             [[mock.track]]\nbirth = 3\nbox = [0, 0, 1, 1]\nscore = 0.5\n\
             [mock.counts]\ndetector_frames = 3\ndetections = 9\n";
    shop.pack("walk", &mock);
    detector(&shop, "look");
    shop
}

fn detector(shop: &Workshop, id: &str) {
    let dir = shop.path("packs").join(id);
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "schema = 1\nid = \"{id}\"\nfamily = \"mock_detector\"\nlicence = \"MIT\"\n[detector]\nclasses = [\"dot\", \"ring\"]\n"
    );
    std::fs::write(dir.join("pack.toml"), text).unwrap();
}

/// The tracker of [`shop`] once more, as a pack that finds and tracks by itself; `more`: what its manifest says of classes.
pub(super) fn alone(shop: &Workshop, more: &str) {
    let text = std::fs::read_to_string(shop.path("packs/walk/pack.toml")).unwrap();
    let text = text.replace("\"walk\"", "\"alone\"").replacen("[mock]\n", "[mock]\nprompts = [\"detector\"]\n", 1);
    std::fs::create_dir_all(shop.path("packs/alone")).unwrap();
    std::fs::write(shop.path("packs/alone/pack.toml"), text + more).unwrap();
}

pub(super) fn refusal(shop: &Workshop, args: &[&str]) -> String {
    let output = shop.output(&[&["--data", "data", "--dtype", "fp32", "--out", "never"], args].concat());
    assert_eq!(output.status.code(), Some(2), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!shop.path("never").exists());
    text(&output.stderr)
}

pub(super) fn load(run: &Path) -> (RunRecord, CellRecord) {
    let record = store::load(run).unwrap();
    let cell = record.cells[0].clone();
    (record, cell)
}

/// Rectangles of runs as COCO's JSON has them: down the columns, background first.
pub(super) fn rle(mask: &Mask) -> Value {
    let (mut runs, mut last) = (vec![0u32], false);
    for x in 0..mask.width() {
        for y in 0..mask.height() {
            if mask.get(x, y) != last {
                last = !last;
                runs.push(0);
            }
            *runs.last_mut().unwrap() += 1;
        }
    }
    json!({"size": [mask.height(), mask.width()], "counts": runs})
}

/// Every id of a folder of label maps with its masks, a frame each.
pub(super) fn tubes(dir: &Path) -> Vec<(u16, Vec<Option<Mask>>)> {
    let files = tree(dir);
    let frames: Vec<Vec<(u16, Mask)>> =
        files.iter().map(|file| LabelMasks::read(&dir.join(file)).unwrap().masks).collect();
    let mut ids: Vec<u16> = frames.iter().flatten().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    let of = |id: u16| frames.iter().map(|f| f.iter().find(|(i, _)| *i == id).map(|(_, m)| m.clone())).collect();
    ids.into_iter().map(|id| (id, of(id))).collect()
}

/// Truth and saved masks as files of YouTube-VIS.
pub(super) fn as_youtube_vis(shop: &Workshop, cell: &CellRecord, masks: &Path) -> TubeOptions {
    let (mut videos, mut annotations, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for (sequence, video) in cell.sequences.iter().zip(1..) {
        videos.push(json!({"id": video}));
        for (_, frames) in tubes(&shop.path("data/Annotations/480p").join(&sequence.video)) {
            let areas: Vec<Option<u64>> = frames.iter().map(|m| m.as_ref().map(Mask::area)).collect();
            let segments: Vec<Option<Value>> = frames.iter().map(|m| m.as_ref().map(rle)).collect();
            annotations.push(json!({"id": annotations.len() + 1, "video_id": video, "category_id": 1,
                "segmentations": segments, "areas": areas}));
        }
        let tracks = &sequence.found.as_ref().unwrap().tracks;
        for (id, frames) in tubes(&masks.join(&sequence.video)) {
            let score = tracks.iter().find(|t| t.number == Some(id.into())).unwrap().score;
            let segments: Vec<Option<Value>> = frames.iter().map(|m| m.as_ref().map(rle)).collect();
            results.push(json!({"video_id": video, "category_id": 1, "score": score, "segmentations": segments}));
        }
    }
    let (truth, pred) = (shop.path("truth.json"), shop.path("results.json"));
    let categories = json!([{"id": 1, "name": "object"}]);
    let file = json!({"videos": videos, "categories": categories, "annotations": annotations});
    std::fs::write(&truth, file.to_string()).unwrap();
    std::fs::write(&pred, json!(results).to_string()).unwrap();
    TubeOptions { truth, pred, protocol: TubeProtocol::YtVis }
}

#[test]
fn a_run_without_prompts_scores_as_its_saved_masks_do() {
    let shop = shop(Layout::Davis2017, 2, 24);
    let run = shop.run(&["--models", "walk_look", "--save-masks"]);
    let (record, cell) = load(&run);
    assert_eq!((cell.licence.as_str(), cell.detector.as_ref().unwrap().licence.as_str()), ("", "MIT"));
    assert_eq!(cell.verdict, Verdict::Valid, "{}", cell.verdict.reasons());
    let found = cell.summary.as_ref().unwrap().found.unwrap();
    assert_eq!((found.founded, found.confirmed, found.taken_back), (8, 6, 2));
    let best = cell.sequences.iter().flat_map(|s| &s.found.as_ref().unwrap().tracks).filter_map(|t| t.best_iou);
    assert_eq!(found.unmatched, Some(best.filter(|iou| *iou < 0.5).count()));
    assert!((2..6).contains(&found.unmatched.unwrap()), "the track in the corner of each video, and not all");
    let ours = found.scores.unwrap();
    // Nothing of it may be taken for the J&F of prompted objects.
    let summary = cell.summary.as_ref().unwrap();
    assert_eq!((summary.j, summary.f, summary.jf, summary.objects), (None, None, None, 0));

    let masks = run.join("masks/walk_look-fp32-cpu");
    let truth = shop.path("data/Annotations/480p");
    let davis = super::unsupervised(&truth, &masks).unwrap();
    assert_eq!(ours.objects, davis.global.objects);
    for (ours, theirs) in [(ours.j, davis.global.j), (ours.f, davis.global.f), (ours.jf, davis.global.jf)] {
        assert_eq!(ours, Some(theirs * 100.0));
    }
    let options = TrackingOptions { truth, pred: masks.clone(), list: None, remove_void: true };
    let tracked = track(&options).unwrap();
    for (sequence, video) in cell.sequences.iter().zip(&tracked.videos) {
        assert_eq!(sequence.found.as_ref().unwrap().scores.as_ref().unwrap().tracking, video.score, "{}", video.video);
    }
    let all = &tracked.combined;
    for (ours, theirs) in [
        (ours.hota, Hota::mean(&all.hota.hota)),
        (ours.det_a, Hota::mean(&all.hota.det_a)),
        (ours.ass_a, Hota::mean(&all.hota.ass_a)),
        (ours.idf1, all.identity.idf1),
    ] {
        assert_eq!(ours, Some(theirs * 100.0));
    }
    assert_eq!(ours.id_switches, Some(all.clear.id_switches as usize));
    let average = score_tubes(&as_youtube_vis(&shop, &cell, &masks)).unwrap().class_agnostic;
    for (ours, theirs) in [(ours.ap, average.ap), (ours.ap50, average.ap50), (ours.ar10, average.ar10)] {
        assert_eq!(ours, theirs.map(|share| share * 100.0));
    }
    assert!(ours.jf.unwrap() > 10.0 && ours.hota.unwrap() > 10.0 && ours.ap50.unwrap() > 0.0, "{ours:?}");

    // Tracks are numbered without gaps in the masks, and the record says which is which.
    let tracks = &cell.sequences[0].found.as_ref().unwrap().tracks;
    let told: Vec<_> = tracks.iter().map(|t| (t.id, t.number, t.birth, t.end, t.label.as_str())).collect();
    let wanted =
        [(1, Some(1), 0, 11, "dot"), (2, Some(2), 0, 24, "ring"), (3, None, 2, 2, "dot"), (4, Some(3), 3, 24, "dot")];
    assert_eq!(told, wanted);
    let video = masks.join(&cell.sequences[0].video);
    let ids: Vec<Vec<u16>> = tree(&video)
        .iter()
        .map(|file| LabelMasks::read(&video.join(file)).unwrap().masks.iter().map(|(id, _)| *id).collect())
        .collect();
    assert!(!ids[2].contains(&3) && ids[3].contains(&3), "{ids:?}");
    assert!(ids[10].contains(&1) && !ids[11].contains(&1), "its end is the first frame that is no longer its own");
    // The pack of the detector is part of what was measured.
    assert_eq!(cell.pack_digest.len(), 2 * 64 + 1);
    assert_eq!(cell.detector.as_ref().unwrap().pack, "look");
    assert_eq!(record.data.objects, 4);
    let frames = rows(&run.join("frames.csv"));
    let column = frames[0].iter().position(|name| name == "detector_ms").expect("detector_ms");
    let timed: Vec<bool> = frames[1..].iter().map(|row| !row[column].is_empty()).collect();
    assert!(timed[0] && !timed[1] && timed[5], "the detector looks at every fifth frame");
}

/// A dataset that names categories is scored by class too, as `score` does with the saved results; one that names none that the detector
/// knows is not.
#[test]
fn where_objects_have_categories_tracks_are_scored_by_class() {
    let shop = shop(Layout::YoutubeVos, 2, 21);
    let data = Dataset::open(&shop.path("data")).unwrap();
    let scores = |[first, second]: [&str; 2]| {
        let objects = json!({"1": {"category": first}, "2": {"category": second}});
        let videos: serde_json::Map<_, _> =
            data.sequences.iter().map(|s| (s.name.clone(), json!({"objects": objects}))).collect();
        std::fs::write(shop.path("data/meta.json"), json!({"videos": videos}).to_string()).unwrap();
        let run = shop.run(&["--models", "walk_look", "--save-masks=ytvis"]);
        let cell = load(&run).1;
        assert_eq!(cell.verdict, Verdict::Valid, "{}", cell.verdict.reasons());
        (cell.summary.unwrap().found.unwrap().scores.unwrap(), run)
    };
    let (ours, run) = scores(["Dot", "ring"]);
    let mut annotations = Vec::new();
    for (sequence, video) in data.sequences.iter().zip(1..) {
        for (id, frames) in tubes(&shop.path("data/Annotations").join(&sequence.name)) {
            let areas: Vec<Option<u64>> = frames.iter().map(|m| m.as_ref().map(Mask::area)).collect();
            let segments: Vec<Option<Value>> = frames.iter().map(|m| m.as_ref().map(rle)).collect();
            annotations.push(json!({"id": annotations.len() + 1, "video_id": video, "category_id": id,
                "segmentations": segments, "areas": areas}));
        }
    }
    let categories = json!([{"id": 1, "name": "dot"}, {"id": 2, "name": "ring"}]);
    let file = json!({"videos": [{"id": 1}, {"id": 2}], "categories": categories, "annotations": annotations});
    std::fs::write(shop.path("truth.json"), file.to_string()).unwrap();
    let pred = run.join("masks/walk_look-fp32-cpu/results.json");
    let options = TubeOptions { truth: shop.path("truth.json"), pred, protocol: TubeProtocol::YtVis };
    let theirs = score_tubes(&options).unwrap();
    let percent = |share: Option<f64>| share.map(|share| share * 100.0);
    assert_eq!((ours.class_ap, ours.class_ap50), (percent(theirs.per_class.ap), percent(theirs.per_class.ap50)));
    assert_eq!((ours.ap, ours.categories), (percent(theirs.class_agnostic.ap), Some(2)));
    assert!(ours.class_ap50 > Some(10.0), "{ours:?}");
    let summary = rows(&run.join("summary.csv"));
    let column = summary[0].iter().position(|name| name == "ap_class").unwrap();
    assert_eq!(summary[1][column].parse::<f64>().ok().map(|v| v.round()), ours.class_ap.map(f64::round));

    let (swapped, _) = scores(["ring", "dot"]);
    assert_eq!(swapped.ap, ours.ap, "classes are left aside");
    assert!(swapped.class_ap < ours.class_ap, "{swapped:?} against {ours:?}");
    let (foreign, _) = scores(["cat", "mouse"]);
    assert_eq!((foreign.class_ap, foreign.categories), (None, None), "the detector has no such class");
}

/// As folders per object, and as one object: what is found is the same, and is written as label maps.
#[test]
fn every_layout_can_be_run_without_prompts() {
    for layout in [Layout::SaV, Layout::Davis2016] {
        let shop = shop(layout, 1, 21);
        let run = shop.run(&["--models", "walk_look", "--save-masks", "--overlays=png"]);
        let (_, cell) = load(&run);
        assert_eq!(cell.verdict, Verdict::Valid, "{layout}: {}", cell.verdict.reasons());
        let scores = cell.summary.unwrap().found.unwrap().scores.unwrap();
        assert!(scores.jf.unwrap() > 10.0, "{layout}: {scores:?}");
        let masks = tree(&run.join("masks/walk_look-fp32-cpu"));
        assert_eq!(masks.len(), 21, "{layout}: {masks:?}");
        assert_eq!(tree(&run.join("overlays")).len(), 21);
    }
}

#[test]
fn footage_of_which_nobody_says_anything_is_run_resumed_and_drawn() {
    let shop = shop(Layout::SaV, 2, 21);
    std::fs::remove_dir_all(shop.path("data/Annotations_6fps")).unwrap();
    let run = shop.run(&["--models", "walk_look", "--save-masks=rle", "--overlays=png", "--repeat", "2"]);
    let (record, cell) = load(&run);
    assert_eq!(cell.verdict, Verdict::Valid, "{}", cell.verdict.reasons());
    assert_eq!((record.data.has_truth(), record.data.objects, record.data.videos), (false, 0, 2));
    let found = cell.summary.unwrap().found.unwrap();
    assert_eq!((found.confirmed, found.unmatched, found.scores), (6, None, None));
    assert_eq!(tree(&run.join("overlays")).len(), 42);
    let track = &cell.sequences[0].found.as_ref().unwrap().tracks[0];
    assert_eq!(track.frames.len(), 11, "a row for each of its own frames");
    assert!(track.frames.iter().all(|frame| frame.area > 0));
    // A prompted model has nothing to go by there.
    let said = refusal(&shop, &["--models", "walk_look,walk_points"]);
    assert!(said.contains("there is nothing to prompt with"), "{said}");
}

#[test]
fn interrupted_in_parts_or_at_once_the_tracks_are_the_same() {
    let shop = shop(Layout::Davis2017, 3, 21);
    let whole = load(&shop.run(&["--models", "walk_look", "--out", "whole"])).1;
    let found = |cell: &CellRecord| cell.sequences.iter().map(|s| s.found.clone().unwrap()).collect::<Vec<_>>();
    for part in ["1/2", "2/2"] {
        shop.run(&["--models", "walk_look", "--shard", part, "--out", "parts"]);
    }
    shop.expect(0, &["merge", "--quiet", "--json", "--out", "joined", "parts"]);
    let joined = load(&shop.runs("joined")[0]).1;
    assert_eq!(found(&joined), found(&whole));
    assert_eq!(joined.summary.unwrap().found, whole.summary.as_ref().unwrap().found);
    // Broken off in the last video, and taken up again.
    let script = std::fs::read_to_string(shop.path("packs/walk/pack.toml")).unwrap();
    let broken = format!("{script}[[mock.fault]]\nstep = 49\nkind = \"abort\"\n").replace("walk", "stumble");
    std::fs::create_dir_all(shop.path("packs/stumble")).unwrap();
    std::fs::write(shop.path("packs/stumble/pack.toml"), broken).unwrap();
    let cut = shop.run(&["--models", "stumble_look", "--out", "cut"]);
    let first = load(&cut).1;
    assert_eq!((first.verdict.as_str(), first.sequences.len()), ("failed", 2));
    shop.expect(0, &["--resume", cut.to_str().unwrap(), "--quiet"]);
    assert_eq!(found(&load(&cut).1), found(&whole));
}

#[test]
fn what_does_not_go_without_prompts_is_refused_with_the_reason() {
    let shop = shop(Layout::SaV, 1, 21);
    let own = refusal(&shop, &["--models", "walk_look", "--clicks", "obj=1 10,10"]);
    assert!(
        own.contains("your own prompts and model `walk_look`: there a detector says where the objects are"),
        "{own}"
    );
    let limit = refusal(&shop, &["--models", "walk_look", "--limit-objects", "1"]);
    assert!(limit.contains("--limit-objects and model `walk_look`"), "{limit}");
    let back = refusal(&shop, &["--models", "walk_look", "--backward"]);
    assert!(back.contains("--backward and model `walk_look`: what a detector finds on the way back"), "{back}");
    let alone = refusal(&shop, &["--models", "look_points"]);
    assert!(alone.contains("it is a detector, which founds the tracks of a tracker; say walk_look"), "{alone}");
    let unknown = refusal(&shop, &["--models", "walk_lok"]);
    assert!(unknown.contains("unknown model `walk_lok`; did you mean `walk_look`?"), "{unknown}");
    let pack = shop.path("packs/torn/pack.toml");
    std::fs::create_dir_all(pack.parent().unwrap()).unwrap();
    std::fs::write(&pack, "schema = 1\nid = \"torn\"\nfamily = \"mock\"\n[mock]\nspeed = 1\n").unwrap();
    for tag in ["torn", "torn_points"] {
        let said = refusal(&shop, &["--models", tag]);
        assert!(said.contains("packs/torn/pack.toml") && said.contains("unknown field `speed`"), "{tag}: {said}");
    }
    let lacking = refusal(&shop, &["--models", "walk"]);
    assert!(lacking.contains("walk_points") && lacking.contains("walk_look"), "{lacking}");
    // Two readings are told, not chosen from.
    shop.pack("walk_look", "");
    detector(&shop, "look_up");
    detector(&shop, "up");
    let both = refusal(&shop, &["--models", "walk_look_up"]);
    for reading in ["tracker `walk` with detector `look_up`", "tracker `walk_look` with detector `up`"] {
        assert!(both.contains(reading), "{both}");
    }
    // A name of its own, and a detector named for all.
    let dry = |args: &[&str]| shop.expect(0, &[&["--data", "data", "--dtype", "fp32", "--dry-run"], args].concat());
    let named = dry(&["--models", "w_d", "--alias", "w=walk", "--alias", "d=look_up"]);
    assert!(named.contains("w_d fp32 cpu  pack packs/walk  detector packs/look_up"), "{named}");
    assert!(dry(&["--models", "walk", "--detector", "look"]).contains("walk_look fp32 cpu"));
}

#[test]
fn prompted_and_found_objects_are_never_compared() {
    let shop = shop(Layout::Davis2017, 1, 21);
    let table = shop.expect(0, &["--data", "data", "--dtype", "fp32", "--models", "walk_look,walk_mask"]);
    let said = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("J&F is of objects that were prompted; J&F unsup is of objects that were found"), "{table}");
    assert!(said.contains("the objects of walk_mask were prompted, those of walk_look found"), "{table}");
    let (_, cell) = load(&shop.runs("results")[0]);
    assert_eq!((cell.model.as_str(), cell.summary.unwrap().jf), ("walk_look", None));
    let row: Vec<&str> = table.lines().find(|l| l.starts_with("walk_look")).unwrap().split_whitespace().collect();
    assert!(row.contains(&"–"), "it has no J&F of prompted objects: {table}");
}

#[test]
fn a_pack_that_finds_and_tracks_by_itself_runs_without_a_detector() {
    let shop = shop(Layout::Davis2017, 1, 24);
    alone(&shop, "[detector]\nclasses = [\"dot\", \"ring\"]\n");
    let run = shop.run(&["--models", "walk_look,alone", "--save-masks=mots"]);
    let (record, composed) = load(&run);
    let alone = &record.cells[1];
    assert_eq!(alone.verdict, Verdict::Valid, "{}", alone.verdict.reasons());
    assert_eq!((alone.model.as_str(), alone.prompt), ("alone", PromptKind::Detector));
    assert_eq!(alone.detector.as_ref().unwrap().pack, "alone", "it is its own detector");
    let table = std::fs::read_to_string(run.join("summary.md")).unwrap();
    assert!(!table.contains("alone_alone"), "{table}");
    let found = |cell: &CellRecord| cell.summary.as_ref().unwrap().found.unwrap();
    assert_eq!(found(alone).confirmed, found(&composed).confirmed);
    assert!(found(alone).scores.is_some());
    assert_eq!(found(alone).scores, found(&composed).scores);
    assert_eq!(tree(&run.join("masks/alone-fp32-cpu")), tree(&run.join("masks/walk_look-fp32-cpu")));

    let said = refusal(&shop, &["--models", "alone_points"]);
    assert!(said.contains("takes no points prompts") && said.contains("it can be run as: alone"), "{said}");
    let said = refusal(&shop, &["--models", "alone", "--limit-objects", "1"]);
    assert!(said.contains("--limit-objects and model `alone`"), "{said}");
    let said = refusal(&shop, &["--models", "alon"]);
    assert!(said.contains("did you mean `alone`?"), "{said}");
    let said = refusal(&shop, &["--models", "alone", "--detector", "look"]);
    assert!(said.contains("packs/alone: this pack takes no boxes"), "{said}");
}

/// The scripted tracks do not depend on the interval; what the detector takes does.
#[test]
fn the_interval_of_the_detector_is_swept() {
    let shop = shop(Layout::Davis2017, 1, 24);
    let script = std::fs::read_to_string(shop.path("packs/walk/pack.toml")).unwrap();
    let script = script.replace("\"overlaps\"]", "\"overlaps\"]\ndetector_ms = 4.0");
    std::fs::write(shop.path("packs/walk/pack.toml"), script).unwrap();
    let scale = |args: &[&str]| {
        let output = shop.output(&[&["scale", "--data", "data", "--dtype", "fp32"], args].concat());
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let files = ["--plot", "interval.svg", "--export-csv", "interval.csv"];
    let (code, out, told) =
        scale(&[&["--models", "walk_look", "--detect-every", "8,1,1,3", "--json"][..], &files].concat());
    assert_eq!(code, 0, "{out}{told}");
    assert!(told.contains("scale: run 1 of 3, the detector looks at every frame"), "{told}");
    assert!(told.contains("scale: run 3 of 3, the detector looks at every 8 frames"), "{told}");
    let points: Value = serde_json::from_str(&out).unwrap();
    let points = points["points"].as_array().unwrap();
    let looked: Vec<_> = points.iter().map(|p| (p["detect_every"].clone(), p["detector_frames"].clone())).collect();
    assert_eq!(looked, [(json!(1), json!(24)), (json!(3), json!(8)), (json!(8), json!(3))]);
    let ms = |i: usize, name: &str| points[i][name].as_f64().unwrap();
    assert!(ms(0, "detection_ms") >= 4.0 && points[0]["other_ms"].is_null(), "{points:?}");
    assert!(ms(2, "detection_ms") < ms(0, "detection_ms") / 2.0, "it is spread over all frames: {points:?}");
    assert!(ms(2, "looked_ms") >= 4.0 && ms(2, "other_ms") < ms(2, "looked_ms"), "{points:?}");
    assert!(points.iter().all(|p| p["verdict"] == "valid" && p["hota"] == points[0]["hota"] && p["tracks"] == 3));
    assert!(ms(0, "hota") > 10.0);
    let csv = rows(&shop.path("interval.csv"));
    assert_eq!((csv.len(), csv[3][1].as_str()), (4, "8"));
    let figure = std::fs::read_to_string(shop.path("interval.svg")).unwrap();
    assert!(figure.contains("interval costs") && figure.contains("HOTA (0 to 100)"));
    assert!(points.iter().all(|p| p["ap_masks"] == "one"), "{points:?}");
    let (_, out, _) = scale(&["--models", "walk_look", "--detect-every", "1,8", "--option", "overlaps=keep"]);
    assert!(out.contains("  AP is of whole masks.\n"), "{out}");
    assert!(
        out.contains("  every 8 instead of every 1: ") && out.contains("x the frames per second, HOTA +0.00"),
        "{out}"
    );

    let refused = |args: &[&str], why: &str| {
        let (code, _, told) = scale(&[&["--out", "never"], args].concat());
        assert!(code == 2 && told.contains(why), "{told}");
    };
    refused(&["--models", "walk_points", "--detect-every", "1"], "model `walk_points` is prompted: it has no detector");
    let twice = ["--models", "walk_look", "--detect-every", "1", "--option", "detect_every=2"];
    refused(&twice, "--option detect_every: --detect-every sets it from run to run");
    refused(&["--models", "walk_look", "--detect-every", "1", "--keep", "2"], "which makes a run per interval");
    refused(&["--models", "walk_look", "--detect-every", "1", "--objects", "1"], "cannot be used with");
    refused(&["--models", "walk_look", "--objects", "1"], "model `walk_look` finds as many objects as there are");
    // A model that finds by itself looks at every frame.
    let alone = "schema = 1\nid = \"alone\"\nfamily = \"mock\"\n[mock]\nprompts = [\"detector\"]\n\
                 [[mock.track]]\nbirth = 0\nbox = [0, 0, 9, 9]\n[detector]\nclasses = [\"dot\"]\n";
    std::fs::create_dir_all(shop.path("packs/alone")).unwrap();
    std::fs::write(shop.path("packs/alone/pack.toml"), alone).unwrap();
    refused(&["--models", "alone", "--detect-every", "1"], "model `alone` has no interval: detect_every: ");
    assert!(!shop.path("never").exists());
}

/// Another track takes over the second object; the report has a picture of both frames, and a time line.
#[test]
fn an_object_that_changes_its_track_is_shown_before_and_after() {
    let shop = shop(Layout::Davis2017, 2, 24);
    let data = Dataset::open(&shop.path("data")).unwrap();
    let sequence = &data.sequences[0];
    let [early, late] = [0, 14].map(|frame| corners(&sequence.truth(&sequence.objects[1], frame).unwrap()));
    let track = |birth: u32, end: u32, corners: [u32; 4]| {
        format!("[[mock.track]]\nbirth = {birth}\nend = {end}\nbox = {corners:?}\nmotion = [0.0, 0.0]\n")
    };
    let pack = |tracks: &str| format!("options = [\"threads\", \"stage_times\", \"overlaps\"]\n{tracks}");
    // On the frames between nobody has it.
    shop.pack("pass", &pack(&(track(0, 2, early) + &track(13, 17, late))));
    let run = shop.run(&["--models", "pass_look", "--limit-videos", "1"]);
    let (_, cell) = load(&run);
    let scores = cell.sequences[0].found.as_ref().unwrap().scores.as_ref().unwrap();
    assert_eq!(scores.tracking.clear.id_switches, 1.0);
    let [switch] = scores.switches[..] else { panic!("{:?}", scores.switches) };
    assert_eq!((switch.from, switch.to), (1, 2));
    assert!(switch.before < 2 && (13..17).contains(&switch.frame), "{switch:?}");
    let list: Value = serde_json::from_slice(&std::fs::read(run.join("moments/0/moments.json")).unwrap()).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list[0]["object"], sequence.objects[1].name.as_str());
    let picture = png::Decoder::new(std::io::BufReader::new(
        std::fs::File::open(run.join("moments/0").join(list[0]["file"].as_str().unwrap())).unwrap(),
    ));
    let mut picture = picture.read_info().unwrap();
    let mut pixels = vec![0; picture.output_buffer_size().unwrap()];
    picture.next_frame(&mut pixels).unwrap();
    let (wide, high) = (picture.info().width as usize, picture.info().height as usize);
    assert!(wide == 604 && high >= 200, "two of 300 and a line: {wide} x {high}");
    let middle = |side: usize| {
        let at = ((high / 2) * wide + side * 304 + 150) * 3;
        pixels[at..at + 3].to_vec()
    };
    assert_ne!(middle(0), middle(1), "each track is filled in its own colour");
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    let said = format!("track 1 on frame {}, track 2 on frame {}", switch.before, switch.frame);
    assert!(page.contains("<h2>Id switches</h2>") && page.contains(&said), "{said}");
    let line = std::fs::read_to_string(run.join("plots/tracks.svg")).unwrap();
    for words in ["Births and ends of tracks", "1 dot", "2 dot", "takes over an object of another track"] {
        assert!(line.contains(words), "{words}");
    }
    // Written once more from the record, it is the same page.
    shop.expect(0, &["report", run.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(run.join("report.html")).unwrap(), page);

    shop.pack("keep", &pack(&track(0, 24, early)));
    let kept = shop.run(&["--models", "keep_look", "--limit-videos", "1", "--out", "kept"]);
    let page = std::fs::read_to_string(kept.join("report.html")).unwrap();
    assert!(page.contains("No object changed its track."), "{kept:?}");
}
