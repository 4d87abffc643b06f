//! Runs on panoptic truth: VPQ and STQ in the record are those of the saved segments.

use std::path::Path;

use jetbench::dataset::{Dataset, Layout, OpenOptions, check};
use jetbench::judge::change::pair;
use jetbench::judge::noise::Floor;
use jetbench::results::record::{CellRecord, RunRecord, Verdict};
use jetbench::score::panoptic::{PanopticOptions, PanopticReport, PanopticScores, score};
use serde_json::{Value, json};

use super::runs::{alone, corners, load};
use crate::workshop::{Workshop, column, text};

const CLASSES: &str =
    "[segmenter]\nclasses = [\"Ground\", \"shape\"]\n[segmenter.panoptic]\nstuff = [0]\nids = [4, 7]\n";

/// Data with panoptic truth, and a pack that finds the shapes of the first video, as boxes, a third shape that is none, and the ground.
fn panoptic_shop(frames: usize) -> Workshop {
    let shop = Workshop::of(Layout::Vipseg, 2, frames);
    let data = Dataset::open(&shop.path("data")).unwrap();
    let sequence = &data.sequences[0];
    let mut mock = "options = [\"threads\"]\n".to_string();
    for object in &sequence.objects {
        let [first, last] =
            [0, frames - 1].map(|frame| corners(&sequence.truth(object, frame).unwrap()).map(|v| v as f32));
        let motion = [0, 1].map(|i| (last[i] + last[i + 2] - first[i] - first[i + 2]) / 2.0 / (frames - 1) as f32);
        mock += &format!("[[mock.track]]\nbirth = 0\nbox = {first:?}\nmotion = {motion:?}\nlabel = 1\n");
    }
    mock += "[[mock.track]]\nbirth = 1\nbox = [0, 0, 5, 5]\nscore = 0.5\nlabel = 1\n\
             [[mock.track]]\nbirth = 0\nbox = [0, 0, 47, 15]\nscore = 0.5\nlabel = 0\n\
             [[mock.track]]\nbirth = 0\nbox = [0, 16, 47, 31]\nscore = 0.5\nlabel = 0\n";
    shop.pack("walk", &mock);
    alone(&shop, CLASSES);
    shop
}

fn description(shop: &Workshop) -> Value {
    let bytes = std::fs::read(shop.path("data/panoptic_gt_VIPSeg_val.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn describe(shop: &Workshop, truth: &Value) {
    std::fs::write(shop.path("data/panoptic_gt_VIPSeg_val.json"), truth.to_string()).unwrap();
}

fn scores(cell: &CellRecord) -> Option<PanopticScores> {
    cell.summary.as_ref().unwrap().found.unwrap().scores.unwrap().panoptic
}

fn saved(shop: &Workshop, run: &Path) -> PanopticReport {
    let pred = run.join("masks/alone-fp32-cpu");
    score(&PanopticOptions { truth: shop.path("data"), pred }).unwrap()
}

#[test]
fn a_run_has_the_scores_of_its_saved_segments() {
    let shop = panoptic_shop(12);
    let run = shop.run(&["--models", "alone", "--save-masks=vipseg"]);
    let (record, cell) = load(&run);
    assert_eq!(record.data.layout, "vipseg");
    // The digest of the truth is over the masks of all frames and their description.
    assert!(Dataset::open(&shop.path("data")).unwrap().sequences.iter().all(|s| s.truth_files().len() == 13));
    // The only category of things is that of every object, whatever the ids of the segments.
    let found = cell.sequences[0].found.as_ref().unwrap().scores.as_ref().unwrap();
    assert_eq!(found.by_class.as_ref().unwrap()["shape"].truth, found.tubes.truth);
    assert_eq!(found.tubes.truth.len(), 2);
    let (ours, theirs) = (scores(&cell).unwrap(), saved(&shop, &run));
    let percent = |share: Option<f64>| share.map(|share| share * 100.0);
    assert_eq!(ours.vpq, percent(theirs.vpq.all));
    assert_eq!(ours.vpq_things, percent(theirs.vpq.things));
    assert_eq!(ours.vpq_stuff, percent(theirs.vpq.stuff));
    assert_eq!([ours.stq, ours.aq, ours.sq], [theirs.stq.stq, theirs.stq.aq, theirs.stq.sq].map(percent));
    assert_eq!((ours.categories, ours.left_out), (2, 0));
    assert!(ours.vpq_things > Some(0.0) && ours.sq > Some(0.0) && ours.stq.is_some(), "{ours:?}");
    for (name, value) in [
        ("vpq", ours.vpq),
        ("vpq_things", ours.vpq_things),
        ("vpq_stuff", ours.vpq_stuff),
        ("stq", ours.stq),
        ("aq", ours.aq),
        ("sq", ours.sq),
    ] {
        assert_eq!(column(&run.join("summary.csv"), name), [value.unwrap().to_string()], "{name}");
    }
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("panoptic segments") && page.contains("2 categories"), "{page}");
    // The layout's own protocol needs no word.
    let masks = run.join("masks/alone-fp32-cpu");
    let said = shop.expect(0, &["score", "data", masks.to_str().unwrap()]);
    assert!(said.starts_with("vipseg protocol, 24 frames in 2 videos"), "{said}");
    // Categories are the truth's, whatever ids the pack has.
    let list: Value =
        serde_json::from_slice(&std::fs::read(run.join("masks/alone-fp32-cpu/pred.json")).unwrap()).unwrap();
    let of = |frame: &Value| frame["segments_info"].as_array().unwrap().clone();
    let frames = list["annotations"][0]["annotations"].as_array().unwrap();
    let ground = |frame: &Value| of(frame).iter().filter(|segment| segment["category_id"] == 0).count();
    assert!(frames.iter().all(|frame| ground(frame) == 1), "two tracks of stuff are one segment: {frames:?}");
    let segments = frames.iter().flat_map(of);
    let mut categories: Vec<u64> = segments.map(|segment| segment["category_id"].as_u64().unwrap()).collect();
    categories.sort_unstable();
    categories.dedup();
    assert_eq!(categories, [0, 1]);
    // The same from what was recorded.
    let again = shop.expect(0, &["report", run.to_str().unwrap(), "--export-markdown", "-"]);
    assert!(again.contains("VPQ") && again.contains("STQ"), "{again}");
}

#[test]
fn two_runs_show_the_scores_of_segments_beside_each_other() {
    let shop = panoptic_shop(12);
    let mut base = load(&shop.run(&["--models", "alone"])).0;
    base.cells[0].verdict = Verdict::Valid;
    let found = |a: &RunRecord, b: &RunRecord| {
        let floor = Floor { share: 0.02, from: "by default".into() };
        pair(a, b, &|_| floor.clone()).0.remove(0).found
    };
    let with = |vpq: Option<f64>| {
        let mut run = base.clone();
        let scores = run.cells[0].summary.as_mut().unwrap().found.as_mut().unwrap().scores.as_mut().unwrap();
        (scores.ap, scores.hota) = (None, Some(50.0));
        let segments = scores.panoptic.as_mut().unwrap();
        (segments.vpq, segments.stq) = (vpq, Some(vpq.unwrap_or(0.0) / 2.0));
        run
    };
    let (low, mut high, none) = (with(Some(40.0)), with(Some(42.5)), with(None));
    assert_eq!(found(&low, &high), [("HOTA", 50.0, 50.0), ("VPQ", 40.0, 42.5), ("STQ", 20.0, 21.25)]);
    // One side without a score shows nothing of it, and other data nothing at all.
    assert_eq!(found(&low, &none), [("HOTA", 50.0, 50.0), ("STQ", 20.0, 0.0)]);
    high.data.list_sha256 = "another".into();
    assert!(found(&low, &high).is_empty());
    std::fs::create_dir(shop.path("valid")).unwrap();
    std::fs::write(shop.path("valid/run.json"), serde_json::to_vec(&base).unwrap()).unwrap();
    let valid = shop.path("valid").display().to_string();
    let said = shop.expect(0, &["compare", &valid, &valid, "--html", "page.html"]);
    let vpq = format!("{:.2}", scores(&base.cells[0]).unwrap().vpq.unwrap());
    assert!(said.contains(&format!("  VPQ      not judged      {vpq} → {vpq}  (+0.00)\n")), "{said}");
    let page = std::fs::read_to_string(shop.path("page.html")).unwrap();
    assert!(page.contains(&format!("VPQ {vpq} → {vpq} (+0.00); STQ")), "{page}");
}

/// What is stuff covers no object, and is no mistake of the scores of objects.
#[test]
fn stuff_is_left_out_of_the_scores_of_objects() {
    let shop = panoptic_shop(12);
    let with = load(&shop.run(&["--models", "alone", "--out", "with"])).1;
    // The same tracks, none of which is stuff.
    alone(&shop, &CLASSES.replace("[\"Ground\", \"shape\"]", "[\"other\", \"shape\"]"));
    let without = load(&shop.run(&["--models", "alone", "--out", "without"])).1;
    let found = |cell: &CellRecord| cell.summary.as_ref().unwrap().found.unwrap();
    assert_eq!(found(&with).confirmed, found(&without).confirmed);
    assert!(found(&with).unmatched < found(&without).unmatched, "{:?} {:?}", found(&with), found(&without));
    assert!(found(&with).scores.unwrap().hota > found(&without).scores.unwrap().hota);
    // A class that the data set does not have is no segment, which is said.
    let left_out = scores(&without).unwrap().left_out;
    assert!(left_out > 0 && scores(&with).unwrap().left_out == 0);
    let page =
        std::fs::read_to_string(shop.path("without").join(run_of(&shop, "without")).join("report.html")).unwrap();
    assert!(page.contains(&format!("{left_out} tracks left out: class not in the dataset")), "{page}");
    // None of the classes: nothing to compare.
    alone(&shop, &CLASSES.replace("[\"Ground\", \"shape\"]", "[\"other\", \"another\"]"));
    let run = shop.run(&["--models", "alone", "--out", "none"]);
    assert_eq!(scores(&load(&run).1), None);
    let plan = shop.output(&["--models", "alone", "--data", "data", "--dtype", "fp32", "--dry-run"]);
    let said = text(&plan.stdout) + &text(&plan.stderr);
    assert!(said.contains("alone: no class is a category of the data set, so there is no VPQ and STQ"), "{said}");
    assert_eq!(column(&run.join("summary.csv"), "vpq"), [""]);
}

fn run_of(shop: &Workshop, out: &str) -> String {
    let device = std::fs::read_dir(shop.path(out)).unwrap().map(|e| e.unwrap().path()).find(|p| p.is_dir()).unwrap();
    let run = std::fs::read_dir(&device).unwrap().map(|e| e.unwrap().path()).find(|p| p.is_dir()).unwrap();
    run.strip_prefix(shop.path(out)).unwrap().display().to_string()
}

#[test]
fn a_video_of_stuff_alone_is_scored_and_a_prompted_model_leaves_it_out() {
    let shop = panoptic_shop(8);
    let mut truth = description(&shop);
    let named = |id: u32, thing: u8| json!({"id": id, "name": format!("c{id}"), "isthing": thing});
    // The shapes of the first video become stuff.
    truth["categories"] = json!([
        {"id": 0, "name": "ground", "isthing": 0}, {"id": 1, "name": "shape", "isthing": 1}, named(2, 0), named(3, 0)
    ]);
    for frame in truth["annotations"][0]["annotations"].as_array_mut().unwrap() {
        for segment in frame["segments_info"].as_array_mut().unwrap() {
            let id = segment["id"].as_u64().unwrap();
            segment["category_id"] = json!(if id == 1 { 0 } else { id });
        }
    }
    describe(&shop, &truth);
    let data = Dataset::open(&shop.path("data")).unwrap();
    assert_eq!(data.sequences.iter().map(|s| s.objects.len()).collect::<Vec<_>>(), [0, 2]);
    let run = shop.run(&["--models", "alone", "--save-masks=vipseg", "--out", "found"]);
    let cell = load(&run).1;
    assert_eq!(cell.sequences.len(), 2);
    let percent = |share: Option<f64>| share.map(|share| share * 100.0);
    let (ours, theirs) = (scores(&cell).unwrap(), saved(&shop, &run));
    assert_eq!((ours.vpq, ours.stq), (percent(theirs.vpq.all), percent(theirs.stq.stq)));
    // Tracks of things count against average precision there.
    let tubes = &cell.sequences[0].found.as_ref().unwrap().scores.as_ref().unwrap().tubes;
    assert!(!tubes.results.is_empty() && tubes.truth.is_empty(), "{tubes:?}");
    let output = shop.output(&["--models", "walk_mask", "--data", "data", "--dtype", "fp32", "--out", "prompted"]);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(said.contains("1 video without a thing is left out"), "{said}");
    let prompted = load(&shop.path("prompted").join(run_of(&shop, "prompted"))).1;
    assert_eq!(prompted.sequences.iter().map(|s| s.video.as_str()).collect::<Vec<_>>(), ["synth_001"]);
}

#[test]
fn truth_that_cannot_be_scored_is_refused_before_the_run() {
    let shop = panoptic_shop(3);
    let good = description(&shop);
    let refused = |change: &dyn Fn(&mut Value), said: &str| {
        let mut truth = good.clone();
        change(&mut truth);
        describe(&shop, &truth);
        let output = shop.output(&["--models", "alone", "--data", "data", "--dtype", "fp32", "--out", "never"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(said) && !shop.path("never").exists(), "{stderr}");
        let checked = check(&shop.path("data"), &Default::default(), &|_, _| ());
        let found = match checked {
            Ok(report) => {
                assert!(!report.passed(), "{report:?}");
                format!("{:?}", report.findings)
            }
            Err(fault) => fault.0,
        };
        assert!(found.contains(said), "{found}");
    };
    fn first(truth: &mut Value) -> &mut Value {
        &mut truth["annotations"][0]["annotations"][0]
    }
    refused(&|t| first(t)["segments_info"][0]["area"] = json!(7), "segment 1 has an area of 7");
    refused(
        &|t| _ = first(t)["segments_info"].as_array_mut().unwrap().remove(0),
        "pixels have the id 1, which is not among",
    );
    refused(&|t| first(t)["segments_info"][0]["category_id"] = json!(9), "segment 1: no category 9 in the truth");
    refused(
        &|t| {
            first(t)["file_name"] = json!("99999.png");
            t["videos"][0]["images"][0]["file_name"] = json!("99999.png");
        },
        "has no frame 99999",
    );
    refused(&|t| t["videos"][0]["images"] = json!([]), "3 frames listed with segments, but the truth lists 0 images");
    refused(&|t| t["videos"] = json!([]), "no video in it");
    refused(
        &|t| t["categories"].as_array_mut().unwrap().push(json!({"id": 9, "name": "SHAPE ", "isthing": 0})),
        "are both `SHAPE `; a run tells them apart by name alone",
    );
    refused(
        &|t| {
            t["videos"][0]["images"][1]["file_name"] = json!("00000.png");
            t["annotations"][0]["annotations"][1]["file_name"] = json!("00000.png");
        },
        "video synth_000 lists 00000.png twice",
    );
    describe(&shop, &good);
    std::fs::write(shop.path("data/panomasksRGB/synth_000/00001.png"), b"").unwrap();
    let output = shop.output(&["--models", "alone", "--data", "data", "--dtype", "fp32", "--out", "never"]);
    assert!(text(&output.stderr).contains("00001.png"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_folder_with_several_descriptions_wants_one_named() {
    let shop = panoptic_shop(3);
    let truth = description(&shop);
    let usual = shop.path("data/panoptic_gt_VIPSeg_val.json");
    for split in ["train", "test"] {
        std::fs::write(shop.path(&format!("data/panoptic_gt_VIPSeg_{split}.json")), truth.to_string()).unwrap();
    }
    assert!(Dataset::open(&shop.path("data")).is_ok(), "that of the validation set is the usual one");
    std::fs::remove_file(usual).unwrap();
    let said = Dataset::open(&shop.path("data")).unwrap_err().0;
    assert!(said.contains("2 annotation files") && said.contains("name one of them"), "{said}");
    let named = Dataset::open(&shop.path("data/panoptic_gt_VIPSeg_test.json")).unwrap();
    assert_eq!((named.layout, named.sequences.len()), ("vipseg", 2));
    for split in ["train", "test"] {
        std::fs::remove_file(shop.path(&format!("data/panoptic_gt_VIPSeg_{split}.json"))).unwrap();
    }
    assert!(Dataset::open(&shop.path("data")).unwrap_err().0.contains("without its annotation file"));
}

#[test]
fn a_description_of_any_name_is_taken_where_the_layout_is_said() {
    let shop = panoptic_shop(3);
    let (usual, other) = (shop.path("data/panoptic_gt_VIPSeg_val.json"), shop.path("data/half.json"));
    std::fs::rename(usual, &other).unwrap();
    assert!(Dataset::open(&other).is_err());
    let options = OpenOptions { layout: Some(Layout::Vipseg), ..OpenOptions::default() };
    assert_eq!(Dataset::open_with(&other, &options).unwrap().sequences.len(), 2);
}

#[test]
fn a_segment_that_changes_its_category_fails_the_check() {
    let shop = panoptic_shop(3);
    let mut truth = description(&shop);
    truth["annotations"][1]["annotations"][2]["segments_info"][1]["category_id"] = json!(0);
    describe(&shop, &truth);
    let report = check(&shop.path("data"), &OpenOptions::default(), &|_, _| ()).unwrap();
    let said: Vec<&str> = report.findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(said, ["video synth_001: segment 2 has category 1 in 00000.png and 0 in 00002.png"]);
    assert!(!report.passed());
}

/// What a run's reader is told of scores that stay blank, or that VIPSeg's evaluator computes in an odd way.
#[test]
fn blank_scores_of_segments_are_explained_before_the_run() {
    let said = |shop: &Workshop, more: &[&str]| {
        let mut words = vec!["--models", "alone", "--data", "data", "--dtype", "fp32", "--dry-run"];
        words.extend(more);
        let output = shop.output(&words);
        text(&output.stdout) + &text(&output.stderr)
    };
    let (short, odd) = ("no video has 6 frames, so VPQ stays blank", "first segment of the truth is a thing");
    let shop = panoptic_shop(6);
    let usual = said(&shop, &[]);
    assert!(!usual.contains(short) && !usual.contains(odd), "{usual}");
    for limit in ["--limit-frames=5", "--loop-frames=5"] {
        let said = said(&shop, &[limit]);
        assert!(said.contains(short), "{limit}: {said}");
    }
    let mut truth = description(&shop);
    truth["annotations"][1]["annotations"][0]["segments_info"].as_array_mut().unwrap().reverse();
    describe(&shop, &truth);
    let said = said(&shop, &[]);
    assert!(said.contains("video synth_001: the first segment of the truth is a thing"), "{said}");
}

#[test]
fn what_cannot_be_scored_again_is_told_from_what_is_missing() {
    let shop = panoptic_shop(3);
    let score = |gt: &str, pred: &str| {
        let output = shop.output(&["score", gt, pred]);
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr)
    };
    std::fs::create_dir(shop.path("maps")).unwrap();
    let said = score("data", "maps");
    assert!(
        said.contains("maps/pred.json: no such file; panoptic segments are what --save-masks=vipseg saves"),
        "{said}"
    );
    std::fs::remove_file(shop.path("data/panoptic_gt_VIPSeg_val.json")).unwrap();
    let said = score("data", "maps");
    assert!(said.contains("panomasksRGB without its annotation file"), "{said}");
}

/// Segment ids need up to 24 bits, which label maps have not.
#[test]
fn prompted_things_are_saved_whatever_their_ids() {
    let shop = panoptic_shop(4);
    let run = |out: &str| {
        let output =
            shop.output(&["--models", "walk_mask", "--data", "data", "--dtype", "fp32", "--save-masks", "--out", out]);
        assert!(output.status.code() < Some(2), "{}", text(&output.stderr));
        shop.path(out).join(run_of(&shop, out)).join("masks/walk_mask-fp32-cpu/synth_000")
    };
    assert!(run("narrow").join("00000.png").is_file());
    let wide = 3 + (7 << 16);
    let mut truth = description(&shop);
    for video in truth["annotations"].as_array_mut().unwrap() {
        for frame in video["annotations"].as_array_mut().unwrap() {
            for segment in frame["segments_info"].as_array_mut().unwrap().iter_mut().filter(|s| s["id"] == 3) {
                segment["id"] = json!(wide);
            }
        }
    }
    describe(&shop, &truth);
    for video in ["synth_000", "synth_001"] {
        for frame in 0..4 {
            recolour(&shop.path(&format!("data/panomasksRGB/{video}/{frame:05}.png")), [3, 0, 0], [3, 0, 7]);
        }
    }
    let folder = run("wide");
    assert!(folder.join(format!("{wide}/00000.png")).is_file() && folder.join("2/00000.png").is_file());
}

fn recolour(path: &Path, from: [u8; 3], to: [u8; 3]) {
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let (width, height) = (reader.info().width, reader.info().height);
    pixels.chunks_exact_mut(3).filter(|pixel| *pixel == from).for_each(|pixel| pixel.copy_from_slice(&to));
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

#[test]
fn forged_counts_of_segments_are_named() {
    let shop = panoptic_shop(12);
    let run = shop.run(&["--models", "alone"]);
    let (dir, file) = (run.to_str().unwrap(), run.join("run.json"));
    let whole: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let counts = "/cells/0/sequences/0/found/scores/panoptic";
    let summary = "/cells/0/summary/found/scores/panoptic";
    for (place, value, words) in [
        (format!("{counts}/classes"), json!(1u64 << 60), "segments: 1152921504606846976 categories"),
        (format!("{counts}/unpredicted"), json!(u64::MAX), "18446744073709551615 pixels without one"),
        (format!("{counts}/tubes"), json!(u64::MAX), "18446744073709551615 tubes"),
        (format!("{counts}/aq"), json!(-0.5), "segments: aq is -0.5"),
        (format!("{counts}/categories/1/id"), json!(4000), "segments: category 1: its id 4000 is not below 124"),
        (format!("{counts}/categories/1/pixels"), json!([9, 5, 7]), "9 pixels of both sides, 5 and 7 of each"),
        (format!("{counts}/categories/1/windows/0/tp"), json!(u64::MAX), "18446744073709551615 pairs"),
        (format!("{counts}/categories/1/windows/0/iou"), json!(1e9), "an IoU of 1000000000 over"),
        (format!("{counts}/left_out"), json!(u64::MAX), "18446744073709551615 of 5 tracks are left out"),
        (format!("{summary}/vpq"), json!(99.0), "vpq is Some(99.0), its sequences give"),
        (format!("{summary}/stq"), json!(101.0), "stq is 101"),
        (format!("{summary}/left_out"), json!(3), "summary: found is"),
    ] {
        let mut record = whole.clone();
        *record.pointer_mut(&place).unwrap_or_else(|| panic!("{place}")) = value;
        std::fs::write(&file, record.to_string()).unwrap();
        let output = shop.output(&["report", dir]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{place}: {said}");
        assert!(said.contains("run.json") && said.contains(words), "{place}: {said}");
    }
    std::fs::write(&file, whole.to_string()).unwrap();
    shop.expect(0, &["report", dir, "--quiet"]);
}

/// Things that a crowd stands for are no objects, and cost nobody anything.
#[test]
fn a_crowd_is_no_object_and_what_lies_on_it_no_mistake() {
    let shop = panoptic_shop(8);
    let mut truth = description(&shop);
    for video in truth["annotations"].as_array_mut().unwrap() {
        for frame in video["annotations"].as_array_mut().unwrap() {
            for segment in frame["segments_info"].as_array_mut().unwrap().iter_mut().filter(|s| s["id"] == 3) {
                segment["iscrowd"] = json!(1);
            }
        }
    }
    let before = load(&shop.run(&["--models", "alone", "--out", "before"])).1;
    describe(&shop, &truth);
    let data = Dataset::open(&shop.path("data")).unwrap();
    assert!(data.sequences.iter().all(|s| s.objects.iter().map(|o| o.name.as_str()).eq(["2"])));
    let run = shop.run(&["--models", "alone", "--save-masks=vipseg", "--out", "after"]);
    let after = load(&run).1;
    let percent = |share: Option<f64>| share.map(|share| share * 100.0);
    assert_eq!(scores(&after).unwrap().vpq, percent(saved(&shop, &run).vpq.all));
    // The track that follows the crowd is no false one.
    let things = |cell: &CellRecord| {
        let counts = cell.sequences[0].found.as_ref().unwrap().scores.as_ref().unwrap().panoptic.clone().unwrap();
        counts.categories[&1].windows[0]
    };
    let (before, after) = (things(&before), things(&after));
    assert!(after.tp + after.fn_ < before.tp + before.fn_ && after.fp <= before.fp, "{before:?} {after:?}");
}
