//! The files of found tracks that other evaluators read: what they hold is what the label maps hold.

use std::path::Path;

use jetbench::dataset::{Dataset, LabelMasks, Layout};
use jetbench::score::panoptic::{PanopticOptions, score as score_segments};
use jetbench::score::tracking::{Hota, TrackingOptions, track};
use jetbench::score::tubes::{TubeOptions, TubeProtocol, score as score_tubes};
use jetbench_runners::types::Mask;
use serde_json::{Value, json};

use super::runs::{alone, as_youtube_vis, corners, load, refusal, rle, shop, tubes};
use crate::workshop::{column, tree};

#[test]
fn tracks_for_other_evaluators_score_alike() {
    let shop = shop(Layout::Davis2017, 2, 21);
    let found = |run: &Path| load(run).1.summary.unwrap().found.unwrap().scores.unwrap();
    let run = shop.run(&["--models", "walk_look", "--save-masks=mots"]);
    let ours = found(&run);
    let masks = run.join("masks/walk_look-fp32-cpu");
    assert_eq!(tree(&masks).len(), 2, "{:?}", tree(&masks));
    // The truth in the same form, class 2, from label maps.
    std::fs::create_dir(shop.path("mots")).unwrap();
    for video in load(&run).1.sequences {
        let mut lines = String::new();
        for (id, frames) in tubes(&shop.path("data/Annotations/480p").join(&video.video)) {
            for (mask, frame) in frames.iter().zip(1..) {
                let Some(mask) = mask else { continue };
                lines += &format!("{frame} {id} 2 {} {} {}\n", mask.height(), mask.width(), coco_text(mask));
            }
        }
        std::fs::write(shop.path("mots").join(format!("{}.txt", video.video)), lines).unwrap();
    }
    let options = TrackingOptions { truth: shop.path("mots"), pred: masks, list: None, remove_void: false };
    let tracked = track(&options).unwrap().combined;
    assert_eq!(ours.hota, Some(Hota::mean(&tracked.hota.hota) * 100.0));
    assert_eq!(ours.idf1, Some(tracked.identity.idf1 * 100.0));

    let run = shop.run(&["--models", "walk_look", "--save-masks=ytvis"]);
    let masks = run.join("masks/walk_look-fp32-cpu");
    assert_eq!(tree(&masks), ["results.json"]);
    let pred = masks.join("results.json");
    let results: Value = serde_json::from_slice(&std::fs::read(&pred).unwrap()).unwrap();
    assert_eq!(results[0]["segmentations"].as_array().unwrap().len(), 21);
    let categories: Vec<&Value> = results.as_array().unwrap().iter().map(|r| &r["category_id"]).collect();
    assert_eq!(categories[..2], [1, 2], "classes count from 1");
    let (_, cell) = load(&run);
    // Label maps hold the same masks: their truth file is this one's.
    let saved = shop.run(&["--models", "walk_look", "--save-masks"]);
    let truth = as_youtube_vis(&shop, &cell, &saved.join("masks/walk_look-fp32-cpu")).truth;
    let text = std::fs::read_to_string(&truth).unwrap();
    std::fs::write(
        &truth,
        text.replace(r#"[{"id":1,"name":"object"}]"#, r#"[{"id":1,"name":"dot"},{"id":2,"name":"ring"}]"#),
    )
    .unwrap();
    let average = score_tubes(&TubeOptions { truth, pred, protocol: TubeProtocol::YtVis }).unwrap().class_agnostic;
    assert_eq!((ours.ap, ours.ar10), (average.ap.map(|v| v * 100.0), average.ar10.map(|v| v * 100.0)));
    let said = refusal(&shop, &["--models", "walk_look,walk_mask", "--save-masks=mots"]);
    assert!(said.contains("--save-masks=mots and model `walk_mask`: these files hold found tracks"), "{said}");
}

/// Pixels of a file whose colours are ids.
fn ids(file: &Path) -> Vec<u32> {
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(file).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut samples = vec![0; reader.output_buffer_size().unwrap()];
    assert_eq!(reader.next_frame(&mut samples).unwrap().color_type, png::ColorType::Rgb);
    samples.chunks_exact(3).map(|p| u32::from_le_bytes([p[0], p[1], p[2], 0])).collect()
}

/// Tracks 1 and 3 are of class 0, which is stuff.
#[test]
fn tracks_become_panoptic_segments_and_stuff_is_one_of_them() {
    let shop = shop(Layout::Davis2017, 2, 12);
    alone(&shop, "[segmenter]\nclasses = [\"dot\", \"ring\"]\n[segmenter.panoptic]\nstuff = [0]\nids = [4, 7]\n");
    let maps = shop.run(&["--models", "alone", "--save-masks"]).join("masks/alone-fp32-cpu");
    let pred = shop.run(&["--models", "alone", "--save-masks=vipseg"]).join("masks/alone-fp32-cpu");
    let list: Value = serde_json::from_slice(&std::fs::read(pred.join("pred.json")).unwrap()).unwrap();
    let videos = list["annotations"].as_array().unwrap();
    assert_eq!(videos.len(), 2);
    assert_eq!(tree(&pred).len(), 25, "a list and a file per frame: {:?}", tree(&pred));
    let mut shown = [0; 2];
    for video in videos {
        let name = video["video_id"].as_str().unwrap();
        let frames = video["annotations"].as_array().unwrap();
        assert_eq!(frames.len(), 12);
        for frame in frames {
            let file = Path::new(name).join(frame["file_name"].as_str().unwrap());
            let found = ids(&pred.join("pan_pred").join(&file));
            let mut wanted = vec![0; found.len()];
            for (number, mask) in LabelMasks::read(&maps.join(&file)).unwrap().masks {
                let id = if number == 2 { 2 } else { 1 };
                (0..mask.height()).for_each(|y| {
                    let columns = (0..mask.width()).filter(|x| mask.get(*x, y));
                    columns.for_each(|x| wanted[(y * mask.width() + x) as usize] = id);
                });
            }
            assert_eq!(found, wanted, "{}", file.display());
            let mut segment = |id: u32, category: u32| {
                let area = found.iter().filter(|found| **found == id).count();
                shown[id as usize - 1] += usize::from(area > 0);
                (area > 0).then(|| json!({"id": id, "category_id": category, "iscrowd": 0, "area": area}))
            };
            let segments: Vec<Value> = [(1, 4), (2, 7)].into_iter().filter_map(|(id, of)| segment(id, of)).collect();
            assert_eq!(frame["segments_info"], json!(segments));
        }
    }
    assert_eq!(shown, [24, 24]);
    // What was written scores as itself.
    std::os::unix::fs::symlink(pred.join("pan_pred"), shop.path("panomasksRGB")).unwrap();
    let images = |video: &Value| -> Value {
        let names =
            video["annotations"].as_array().unwrap().iter().map(|frame| json!({"file_name": frame["file_name"]}));
        json!({"video_id": video["video_id"], "images": names.collect::<Vec<_>>()})
    };
    let scored = |stuff: u32| {
        let categories = json!([{"id": stuff, "name": "dot", "isthing": 0}, {"id": 7, "name": "ring", "isthing": 1},
            {"id": 9, "name": "disc", "isthing": 0}]);
        let named = list["annotations"].to_string().replace("\"category_id\":4", &format!("\"category_id\":{stuff}"));
        let annotations: Value = serde_json::from_str(&named).unwrap();
        let videos: Vec<Value> = videos.iter().map(images).collect();
        let truth = json!({"videos": videos, "categories": categories, "annotations": annotations});
        std::fs::write(shop.path("panoptic_gt.json"), truth.to_string()).unwrap();
        score_segments(&PanopticOptions { truth: shop.path("panoptic_gt.json"), pred: pred.clone() })
    };
    let report = scored(4).unwrap();
    assert!(report.windows.iter().all(|window| window.all.unwrap().pq == 1.0), "{report:?}");
    assert_eq!([report.stq.stq, report.stq.aq, report.stq.sq], [Some(1.0); 3]);
    assert!(scored(5).unwrap_err().0.contains("segment 1: no category 4 in the truth"));
    // Things of one category are segments of their own.
    let pack = shop.path("packs/alone/pack.toml");
    let text = std::fs::read_to_string(&pack).unwrap();
    std::fs::write(&pack, text.replace("stuff = [0]", "stuff = []")).unwrap();
    let things = shop.run(&["--models", "alone", "--save-masks=vipseg"]).join("masks/alone-fp32-cpu/pan_pred");
    let mut found: Vec<u32> = tree(&things).iter().flat_map(|file| ids(&things.join(file))).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [0, 1, 2, 3]);
    let said = refusal(&shop, &["--models", "walk_mask", "--save-masks=vipseg"]);
    assert!(said.contains("--save-masks=vipseg and model `walk_mask`: these files hold found tracks"), "{said}");
}

/// Average precision and the files of YouTube-VIS know no label maps: where tracks may keep pixels that others claim, they are of whole masks.
#[test]
fn with_overlaps_kept_average_precision_is_of_whole_masks() {
    let shop = shop(Layout::Davis2017, 1, 9);
    let data = Dataset::open(&shop.path("data")).unwrap();
    let sequence = &data.sequences[0];
    let [first, later] = [0, 8].map(|frame| corners(&sequence.truth(&sequence.objects[1], frame).unwrap()));
    let motion = [0, 1].map(|i| (later[i] as f32 - first[i] as f32) / 8.0);
    let all = [0, 0, sequence.width - 1, sequence.height - 1];
    let track = |corners: [u32; 4], motion: [f32; 2], score: f32| {
        format!("[[mock.track]]\nbirth = 0\nbox = {corners:?}\nmotion = {motion:?}\nscore = {score}\n")
    };
    // The first track has all pixels where one must have each.
    let options = "options = [\"threads\", \"stage_times\", \"overlaps\"]\n";
    shop.pack("over", &format!("{options}{}{}", track(all, [0.0; 2], 0.5), track(first, motion, 0.9)));
    let saved = |more: &[&str]| {
        let run = shop.run(&[&["--models", "over_look", "--save-masks=ytvis"], more].concat());
        let scores = load(&run).1.summary.unwrap().found.unwrap().scores.unwrap();
        let results = std::fs::read(run.join("masks/over_look-fp32-cpu/results.json")).unwrap();
        (scores, serde_json::from_slice::<Value>(&results).unwrap(), run)
    };
    let (one, results, _) = saved(&["--out", "one"]);
    assert_eq!(results.as_array().unwrap().len(), 1);
    let (kept, results, run) = saved(&["--out", "kept", "--option", "overlaps=keep"]);
    assert_eq!(results.as_array().unwrap().len(), 2);
    assert!(kept.ap50.unwrap() > one.ap50.unwrap() + 20.0, "{kept:?} {one:?}");
    // Wherever AP stands it is said of which masks it is.
    assert_eq!((kept.whole_masks, one.whole_masks), (Some(true), Some(false)));
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("classes left aside, whole masks"), "{page}");
    assert_eq!(column(&run.join("summary.csv"), "ap_masks"), ["whole"]);
    let shown = shop.expect(1, &["report", run.to_str().unwrap(), "--export-markdown", "-"]);
    assert!(shown.contains("AP whole"), "{shown}");
    // Label maps are what the others are of.
    assert_eq!((kept.jf, kept.hota, kept.idf1), (one.jf, one.hota, one.idf1));
    let saved = shop.run(&["--models", "over_look", "--save-masks", "--out", "maps"]);
    let truth = as_youtube_vis(&shop, &load(&run).1, &saved.join("masks/over_look-fp32-cpu")).truth;
    let pred = run.join("masks/over_look-fp32-cpu/results.json");
    let average = score_tubes(&TubeOptions { truth, pred, protocol: TubeProtocol::YtVis }).unwrap().class_agnostic;
    assert_eq!((kept.ap, kept.ap50), (average.ap.map(|v| v * 100.0), average.ap50.map(|v| v * 100.0)));
}

/// Run lengths down the columns as COCO's text.
fn coco_text(mask: &Mask) -> String {
    let runs: Vec<i64> = rle(mask)["counts"].as_array().unwrap().iter().map(|run| run.as_i64().unwrap()).collect();
    let mut text = String::new();
    for (i, run) in runs.iter().enumerate() {
        let mut value = run - if i > 2 { runs[i - 2] } else { 0 };
        loop {
            let group = value & 31;
            value >>= 5;
            let more = if group & 16 != 0 { value != -1 } else { value != 0 };
            text.push(char::from(48 + group as u8 + if more { 32 } else { 0 }));
            if !more {
                break;
            }
        }
    }
    text
}
