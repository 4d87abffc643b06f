//! Footage without ground truth: prompts come from the user, everything but accuracy is measured, and accuracy is absent, never 0.

mod live;

use std::path::{Path, PathBuf};

use jetbench::results::note::NoteKind;
use jetbench::results::record::{AgreementRecord, PromptRecord, RunRecord, Verdict};
use jetbench::results::store;
use serde_json::Value;

use crate::workshop::{Workshop, rows, text, tree};

/// The frames of drawn clips, without their masks: `clip/` holds the frames of one, `clips/` a folder of each.
fn shop(videos: usize) -> Workshop {
    let shop = Workshop::new(videos, 24);
    let frames = shop.path("data/JPEGImages_24fps");
    std::fs::rename(&frames, shop.path("clips")).unwrap();
    std::fs::remove_dir_all(shop.path("data")).unwrap();
    let clip = shop.path("clip");
    std::fs::create_dir(&clip).unwrap();
    for file in tree(&shop.path("clips/synth_000")) {
        std::fs::copy(shop.path("clips/synth_000").join(&file), clip.join(&file)).unwrap();
    }
    shop.pack("calm", "motion = [1.0, 0.0]\nobject_scores = [4.0, -2.0]");
    shop
}

/// Runs over own footage; returns its directory.
fn run(shop: &Workshop, args: &[&str]) -> PathBuf {
    let mut all = vec!["--dtype", "fp32", "--quiet", "--json"];
    all.extend(args);
    let output = shop.output(&all);
    let out = text(&output.stdout);
    let line: Value = serde_json::from_str(out.lines().last().unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e}: {out}\n{}", text(&output.stderr)));
    shop.path(line["run"].as_str().unwrap())
}

fn record(run: &Path) -> RunRecord {
    store::load(run).unwrap()
}

/// Every mask that a run wrote, by name, with its bytes.
fn masks(run: &Path) -> Vec<(String, Vec<u8>)> {
    let root = run.join("masks");
    tree(&root).into_iter().map(|file| (file.clone(), std::fs::read(root.join(&file)).unwrap())).collect()
}

const TWO: [&str; 6] = ["--models", "calm_points", "--clicks", "1 20,16", "--clicks", "obj=late frame=3 30,10 2,2,-"];

#[test]
fn own_clicks_give_everything_but_accuracy() {
    let shop = shop(1);
    let output =
        shop.output(&[&TWO[..], &["--data", "clip", "--dtype", "fp32", "--save-masks", "--overlays=png"]].concat());
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}\n{}", text(&output.stderr));
    assert!(
        table.contains("own prompts, not scored") && table.contains("no J, F or J&F: the prompts are your own"),
        "{table}"
    );
    let row = table.lines().find(|l| l.starts_with("calm_points")).unwrap();
    assert!(row.contains("valid") && !row.contains(" 0.0 "), "{row}");
    let title = table.lines().find(|l| l.starts_with("model ")).unwrap();
    assert!(title.contains("FPS") && !title.contains("J&F"), "{title}");

    let dir = shop.runs("results").remove(0);
    let found = record(&dir);
    let cell = &found.cells[0];
    let summary = cell.summary.as_ref().unwrap();
    assert_eq!(cell.verdict, Verdict::Valid);
    assert_eq!((summary.j, summary.f, summary.jf, summary.frames, summary.objects), (None, None, None, 24, 0));
    assert!(summary.fps_wall.is_some() && summary.latency.is_some());
    assert_eq!((found.data.layout.as_str(), found.data.protocol.as_str(), found.data.objects), ("footage", "", 2));
    assert!(!found.data.has_truth() && !found.data.content_sha256.is_empty());
    let objects = &cell.sequences[0].objects;
    let named: Vec<_> =
        objects.iter().map(|o| (o.object.as_str(), o.prompt_frame, o.track.len(), o.per_frame.len())).collect();
    assert_eq!(named, [("1", 0, 24, 0), ("late", 3, 21, 0)]);
    assert_eq!(objects[0].track[1].object_score, Some(-2.0));
    assert!(objects.iter().all(|o| o.j.is_none() && o.track.iter().all(|t| t.area > 0)));
    let Some(PromptRecord::Points { clicks }) = &objects[1].prompt else { panic!("{:?}", objects[1].prompt) };
    assert_eq!(
        clicks.iter().map(|c| (c.x, c.y, c.positive)).collect::<Vec<_>>(),
        [(30.0, 10.0, true), (2.0, 2.0, false)]
    );

    for (file, columns) in [("summary.csv", ["j", "f", "jf", "protocol"]), ("objects.csv", ["j", "f", "jf", "jf"])] {
        let table = rows(&dir.join(file));
        for name in columns {
            let at = table[0].iter().position(|c| c == name).unwrap();
            assert!(table[1..].iter().all(|row| row[at].is_empty()), "{file} {name}");
        }
    }
    assert_eq!(rows(&dir.join("frame_scores.csv")).len(), 1, "only the header");
    let tracks = rows(&dir.join("tracks.csv"));
    assert_eq!(tracks.len(), 1 + 24 + 21);
    assert_eq!(tracks[2][3..7], ["clip", "1", "1", "-2"].map(String::from));
    let files = tree(&dir);
    assert!(!files.iter().any(|f| f.contains("accuracy") || f.contains("j_per_frame")), "{files:?}");
    assert_eq!(files.iter().filter(|f| f.starts_with("masks/")).count(), 48);
    assert_eq!(files.iter().filter(|f| f.starts_with("overlays/")).count(), 24);
    let page = std::fs::read_to_string(dir.join("report.html")).unwrap();
    assert!(page.contains("no ground truth to score against") && !page.contains("Worst moments"));
    for args in [["report", "latest"], ["history", "--json"]] {
        let said = shop.expect(0, &args);
        assert!(!said.contains("NaN"), "{said}");
    }
}

#[test]
fn footage_is_a_folder_a_video_file_or_a_dataset() {
    let shop = shop(2);
    let job = |data: &str, clicks: &str| {
        run(&shop, &["--models", "calm_points", "--data", data, "--clicks", clicks, "--save-masks"])
    };
    let folder = masks(&job("clip", "1 20,16"));
    let one_of_two = job("clips", "video=synth_000 obj=1 20,16");
    let pixels = |masks: &[(String, Vec<u8>)]| masks.iter().map(|m| m.1.clone()).collect::<Vec<_>>();
    assert_eq!(pixels(&masks(&one_of_two)), pixels(&folder));
    assert_eq!(record(&one_of_two).data.list, ["synth_000"]);
    // A dataset: its masks are not looked at.
    let with_truth = Workshop::new(1, 24);
    with_truth.pack("calm", "motion = [1.0, 0.0]");
    let dir = run(&with_truth, &["--models", "calm_points", "--data", "data", "--clicks", "1 20,16", "--save-masks"]);
    assert_eq!(pixels(&masks(&dir)), pixels(&folder));
    assert_eq!(record(&dir).cells[0].summary.as_ref().unwrap().jf, None);
    let made = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-framerate", "24", "-i"])
        .arg(shop.path("clip/%05d.png"))
        .args(["-c:v", "ffv1"])
        .arg(shop.path("film.mkv"))
        .status();
    if made.is_err() {
        eprintln!("skipped the video file: no ffmpeg on the PATH (apt install ffmpeg)");
        return;
    }
    let video = job("film.mkv", "1 20,16");
    assert_eq!(pixels(&masks(&video)), pixels(&folder));
    assert_eq!(record(&video).data.list, ["film"]);
}

const FILE: &str = r#"{"schema": 1, "prompts": [
    {"object": 1, "clicks": [{"x": 20, "y": 16}]},
    {"object": "late", "frame": 3, "clicks": [{"x": 30, "y": 10}, {"x": 2, "y": 2, "positive": false}]}]}"#;

#[test]
fn the_prompts_are_part_of_what_a_run_is_of() {
    let shop = shop(1);
    std::fs::write(shop.path("p.json"), FILE).unwrap();
    std::fs::write(shop.path("config.toml"), "clicks = [\"1 20,16\", \"obj=late frame=3 30,10 2,2,-\"]\n").unwrap();
    let data = ["--data", "clip", "--save-masks"];
    let flags = run(&shop, &[&TWO[..], &data].concat());
    let file = run(&shop, &[&["--models", "calm_points", "--prompts", "p.json"][..], &data].concat());
    let config = run(&shop, &[&["--models", "calm_points", "--config", "config.toml"][..], &data].concat());
    let other = run(
        &shop,
        &[&["--models", "calm_points", "--clicks", "1 20,16", "--clicks", "late 30,10"][..], &data].concat(),
    );
    let moved = run(
        &shop,
        &[&["--models", "calm_points", "--clicks", "1 20,17", "--clicks", "obj=late frame=3 30,10 2,2,-"][..], &data]
            .concat(),
    );
    let digests = |dir: &Path| {
        let r = record(dir);
        (r.data.prompts_sha256, r.data.list_sha256, r.data.content_sha256, r.origin.job_sha256)
    };
    assert_eq!(digests(&flags), digests(&file));
    assert_eq!(digests(&flags), digests(&config));
    assert_eq!(masks(&flags), masks(&file));
    for dir in [&other, &moved] {
        let (a, b) = (digests(&flags), digests(dir));
        assert!(a.0 != b.0 && a.1 != b.1 && a.2 != b.2 && a.3 != b.3);
    }
    let compared = |other: &Path| -> Value {
        let words = ["compare", "--json", flags.to_str().unwrap(), other.to_str().unwrap()];
        serde_json::from_str(&shop.expect(0, &words)).unwrap()
    };
    let cell = |value: Value| value["comparisons"][0]["cells"][0].clone();
    let same = cell(compared(&file));
    assert_eq!((&same["jf"]["word"], &same["jf"]["base"]), (&Value::from("not_scored"), &Value::Null));
    assert!(!same["latency"]["remark"].as_str().unwrap().contains("prompts"), "{same}");
    let apart = cell(compared(&moved));
    assert_eq!(apart["latency"]["word"], "not_comparable");
    assert!(apart["latency"]["remark"].as_str().unwrap().contains("other prompts"), "{apart}");
    let again =
        [&["--models", "calm_points", "--prompts", "p.json", "--if-changed", "--dtype", "fp32", "--json"][..], &data]
            .concat();
    let said = shop.expect(0, &again);
    assert_eq!(shop.runs("results").len(), 5, "nothing has changed: {said}");
}

#[test]
fn shards_are_joined_and_interrupted_runs_go_on() {
    let shop = shop(2);
    let clicks = ["--clicks", "video=synth_000 obj=1 20,16", "--clicks", "video=synth_001 obj=1 24,12"];
    let job = [&["--models", "calm_points", "--data", "clips"][..], &clicks].concat();
    let whole = record(&run(&shop, &job));
    let part = |shard: &str| run(&shop, &[&job[..], &["--shard", shard, "--out", "parts"]].concat());
    let (a, b) = (part("1/2"), part("2/2"));
    shop.expect(0, &["merge", a.to_str().unwrap(), b.to_str().unwrap(), "--out", "joined"]);
    let joined = record(&shop.runs("joined")[0]);
    let told = |r: &RunRecord| {
        let s = &r.cells[0].sequences;
        let objects: Vec<_> = s.iter().map(|s| (s.video.clone(), s.objects.clone())).collect();
        (objects, r.cells[0].verdict.clone(), r.cells[0].summary.as_ref().unwrap().jf, r.data.prompts_sha256.clone())
    };
    assert_eq!(told(&joined), told(&whole));

    shop.pack("frail", "motion = [1.0, 0.0]\nobject_scores = [4.0, -2.0]\n[[mock.fault]]\nstep = 40\nkind = \"abort\"");
    let job: Vec<&str> = job.iter().map(|w| if *w == "calm_points" { "frail_points" } else { w }).collect();
    let dir = run(&shop, &[&job[..], &["--out", "frail"]].concat());
    assert_eq!(record(&dir).cells[0].verdict.as_str(), "failed");
    // The prompts are in the record: no flag and no file is needed.
    shop.expect(0, &["--resume", dir.to_str().unwrap(), "--quiet"]);
    let resumed = record(&dir);
    assert_eq!((told(&resumed).0, resumed.cells[0].verdict.clone()), (told(&whole).0, Verdict::Valid));
}

/// Two packs, one of which moves twice as fast, in two precisions.
#[test]
fn cells_are_compared_without_truth_and_that_is_called_agreement() {
    let shop = shop(1);
    shop.pack("fast", "motion = [2.0, 0.0]");
    let models = ["--models", "calm_bbox,fast_bbox", "--dtype", "fp32,bf16", "--data", "clip", "--limit-frames", "20"];
    let dir = run(&shop, &[&models[..], &["--box", "obj=cup 2,8,13,19"]].concat());
    let found = record(&dir);
    assert_eq!(found.agreement.len(), 6, "every two of four cells");
    let of =
        |a: &str, b: &str| found.agreement.iter().find(|x| (x.first.as_str(), x.second.as_str()) == (a, b)).unwrap();
    let same = of("calm_bbox fp32 cpu", "calm_bbox bf16 cpu");
    assert_eq!((same.object.as_str(), same.frames, same.mean_iou, same.below_half), ("cup", 20, 1.0, 0.0));
    // Boxes of 12 columns, shifted by t of them on frame t.
    let iou = |t: usize| (12 - t.min(12)) as f64 / (12 + t.min(12)) as f64;
    let apart = of("calm_bbox fp32 cpu", "fast_bbox fp32 cpu");
    // Up to frame 17 the faster one is whole; after that the frame cuts it, and the two are apart anyway.
    let mean = (0..20).map(iou).sum::<f64>() / 20.0;
    assert!((apart.mean_iou - mean).abs() < 1e-12, "{apart:?} {mean}");
    assert_eq!(apart.below_half, (0..20).filter(|t| iou(*t) < 0.5).count() as f64 / 20.0);
    let table = rows(&dir.join("agreement.csv"));
    assert_eq!((table.len(), table[1][3].as_str()), (7, "cup"));
    let page = std::fs::read_to_string(dir.join("report.html")).unwrap();
    assert!(page.contains("Agreement between cells") && page.contains("This is no accuracy"), "the page says it");
}

/// Masks of 12 columns that move by 1 (or 0) a frame, in both directions of time: on frame `t` of 12 the way back, which begins on frame 11,
/// is `2 * (11 - t)` columns further on.
#[test]
fn a_track_is_compared_with_itself_backward_in_time() {
    let shop = shop(1);
    shop.pack("still", "motion = [0.0, 0.0]");
    let some = ["--models", "calm_bbox,still_bbox", "--limit-frames", "12", "--box", "obj=cup 2,8,13,19", "--backward"];
    let dir = run(&shop, &[&some[..], &["--data", "clip", "--min-frames", "1"]].concat());
    let found = record(&dir);
    let named = |second: &str| found.agreement.iter().find(|a| a.second == second).unwrap();
    let (calm, still) = (named("calm_bbox fp32 cpu, backward in time"), named("still_bbox fp32 cpu, backward in time"));
    assert_eq!((calm.first.as_str(), calm.object.as_str(), calm.frames), ("calm_bbox fp32 cpu", "cup", 11));
    let iou = |t: usize| {
        let apart = (2 * (11 - t)).min(12);
        (12 - apart) as f64 / (12 + apart) as f64
    };
    let ious: Vec<f64> = (0..11).map(iou).collect();
    assert!((calm.mean_iou - ious.iter().sum::<f64>() / 11.0).abs() < 1e-12, "{calm:?} {ious:?}");
    assert_eq!(calm.below_half, ious.iter().filter(|iou| **iou < 0.5).count() as f64 / 11.0);
    assert_eq!((still.frames, still.mean_iou), (11, 1.0));
    assert_eq!(found.agreement.len(), 3, "and the two cells with each other");
    assert!(found.cells.iter().all(|cell| cell.summary.as_ref().unwrap().jf.is_none()), "agreement is no accuracy");
    assert_eq!(rows(&dir.join("agreement.csv")).len(), 4);
    let page = std::fs::read_to_string(dir.join("report.html")).unwrap();
    assert!(page.contains("calm_bbox fp32 cpu, backward in time") && page.contains("This is no accuracy"));
    assert!(!dir.join("spool").exists() && found.cells.iter().all(|c| c.sequences[0].frames.len() == 12));

    // The same frames out of folders, two objects that start apart, one of them for good on its prompt's frame.
    let clicks = ["--clicks", "video=synth_001 obj=2 24,12", "--clicks", "video=synth_001 frame=5 obj=1 20,16"];
    let more = Workshop::new(2, 12);
    more.pack("still", "motion = [0.0, 0.0]");
    let two = ["--models", "still_points", "--data", "data/JPEGImages_24fps", "--min-frames", "1", "--backward"];
    let found = record(&run(&more, &[&two[..], &clicks].concat()));
    let of: Vec<_> = found.agreement.iter().map(|a| (a.object.as_str(), a.frames, a.mean_iou)).collect();
    assert_eq!(of, [("1", 6, 1.0), ("2", 11, 1.0)], "{:?}", found.cells[0].notes);

    // With truth, too; and what cannot go backward is refused.
    let data = ["--models", "still_points", "--data", "data", "--min-frames", "1", "--backward"];
    let judged = record(&run(&more, &data[..4]));
    assert!(judged.agreement.is_empty(), "only where it is asked for");
    let judged = record(&run(&more, &data));
    assert!(judged.agreement.iter().all(|a| a.mean_iou == 1.0) && !judged.agreement.is_empty());
    let live = ["--models", "still_points", "--data", "-", "--dtype", "fp32", "--clicks", "1 20,16", "--backward"];
    let refused = more.output(&live);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said.contains("cannot be tracked backward; leave out --backward"), "{said}");
}

#[test]
fn a_way_back_that_is_not_known_is_named_and_what_was_told_stays() {
    let shop = shop(2);
    shop.pack("frail", "motion = [1.0, 0.0]\n[[mock.fault]]\nstep = 40\nkind = \"abort\"");
    shop.pack("clicked", "prompts = [\"points\"]");
    let clicks = ["--clicks", "video=synth_000 obj=1 20,16", "--clicks", "video=synth_001 obj=1 24,12"];
    let models = ["--models", "calm_points,frail_points,clicked_points", "--data", "clips", "--backward"];
    let dir = run(&shop, &[&models[..], &clicks].concat());
    let back = |r: &RunRecord| -> Vec<AgreementRecord> {
        r.agreement.iter().filter(|a| a.second.ends_with("backward in time")).cloned().collect()
    };
    let why = |r: &RunRecord, cell: usize| -> Vec<String> {
        let texts = r.cells[cell].notes.iter().map(|n| n.text.clone());
        texts.filter(|text| text.contains("backward in time")).collect()
    };
    let first = record(&dir);
    assert_eq!((back(&first).len(), why(&first, 0).len()), (2, 0), "both videos of the first cell");
    assert!(why(&first, 2)[0].contains("takes no masks as prompts"), "{:?}", first.cells[2].notes);
    assert_eq!(first.cells[2].verdict, Verdict::Valid);
    shop.expect(0, &["--resume", dir.to_str().unwrap()]);
    let resumed = record(&dir);
    let kept = back(&resumed);
    assert_eq!(kept[..2], back(&first)[..]);
    let new: Vec<_> = kept[2..].iter().map(|a| (a.first.as_str(), a.video.as_str(), a.frames)).collect();
    assert_eq!(new, [("frail_points fp32 cpu", "synth_001", 23)]);
    let said = "not known: 1 video (synth_000: its masks are gone, since it was finished before an interruption)";
    assert_eq!(why(&resumed, 1), [format!("agreement backward in time is {said}")]);
}

#[test]
fn agreement_that_cannot_be_told_is_named_and_what_was_told_stays() {
    let shop = shop(2);
    shop.pack("fast", "motion = [2.0, 0.0]");
    shop.pack("frail", "motion = [1.0, 0.0]\nobject_scores = [4.0, -2.0]\n[[mock.fault]]\nstep = 40\nkind = \"abort\"");
    let clicks = ["--clicks", "video=synth_000 obj=1 20,16", "--clicks", "video=synth_001 obj=1 24,12"];
    let models = ["--models", "calm_points,fast_points,frail_points", "--data", "clips"];
    let dir = run(&shop, &[&models[..], &clicks].concat());
    let first = record(&dir);
    assert_eq!(first.agreement.len(), 2, "the third cell has failed: {:?}", first.agreement);
    let gaps = |r: &RunRecord, cell: usize| -> Vec<String> {
        let notes = r.cells[cell].notes.iter().filter(|n| n.kind == NoteKind::Agreement);
        notes.map(|n| n.text.clone()).collect()
    };
    assert!((0..3).all(|cell| gaps(&first, cell).is_empty()));
    let said = shop.expect(0, &["--resume", dir.to_str().unwrap()]);
    let resumed = record(&dir);
    assert_eq!(resumed.cells[2].verdict, Verdict::Valid);
    assert_eq!(resumed.agreement, first.agreement);
    let why = "(synth_000: its masks are gone, since it was finished before an interruption)";
    assert_eq!(gaps(&resumed, 0), [format!("agreement with frail_points fp32 cpu is not known on 2 videos {why}")]);
    assert_eq!(gaps(&resumed, 2).len(), 2, "{:?}", gaps(&resumed, 2));
    assert!(said.contains("masks that could not be compared for agreement in 3 of 3 cells"), "{said}");
}

#[test]
fn masks_become_what_the_model_tag_says() {
    let shop = shop(1);
    let mask = r#"{"schema": 1, "prompts": [{"object": "1", "mask": {"size": [32, 48], "counts": [330, 10, 22, 10, 22, 10, 1132]}}]}"#;
    std::fs::write(shop.path("mask.json"), mask).unwrap();
    let models =
        ["--models", "calm_points,calm_bbox,calm_mask", "--data", "clip", "--overlays", "--prompts", "mask.json"];
    let found = record(&run(&shop, &models));
    let prompts: Vec<_> = found.cells.iter().map(|c| c.sequences[0].objects[0].prompt.clone().unwrap()).collect();
    let PromptRecord::Points { clicks } = &prompts[0] else { panic!("{prompts:?}") };
    assert_eq!((clicks[0].x, clicks[0].y), (11.0, 11.0));
    assert_eq!(prompts[1], PromptRecord::Bbox { corners: [10.0, 10.0, 12.0, 19.0] });
    assert!(matches!(&prompts[2], PromptRecord::Mask { area: 30, .. }), "{prompts:?}");
    assert!(found.cells.iter().all(|c| c.verdict == Verdict::Valid), "{:?}", found.cells[2].notes);
}

/// The same object on the first of 24 frames of 48x32, in every form that is read.
#[test]
fn the_same_prompt_through_every_format_gives_equal_masks() {
    let shop = shop(1);
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(shop.path(name).parent().unwrap()).unwrap();
        std::fs::write(shop.path(name), text).unwrap();
    };
    let image = |name: &str, value: u8| {
        let inside = |i: u32| (10..22).contains(&(i % 48)) && (8..20).contains(&(i / 48));
        let pixels: Vec<u8> = (0..48 * 32).map(|i| if inside(i) { value } else { 0 }).collect();
        std::fs::create_dir_all(shop.path(name).parent().unwrap()).unwrap();
        let file = std::fs::File::create(shop.path(name)).unwrap();
        let mut encoder = png::Encoder::new(file, 48, 32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    };
    let coco = |annotation: &str| {
        format!(
            r#"{{"images": [{{"id": 5, "file_name": "00000.png", "width": 48, "height": 32}}],
            "annotations": [{{"id": 1, "image_id": 5, {annotation}}}]}}"#
        )
    };
    let labelme = |kind: &str, points: &str| {
        format!(
            r#"{{"imagePath": "00000.png", "imageWidth": 48, "imageHeight": 32, "imageData": null,
            "shapes": [{{"label": "1", "points": {points}, "group_id": null, "shape_type": "{kind}"}}]}}"#
        )
    };
    // Columns 10 to 21, rows 8 to 19; runs in column order.
    let runs: Vec<String> = std::iter::once("328, 12".to_string()).chain((1..12).map(|_| "20, 12".into())).collect();
    let rle = format!(r#"{{"size": [32, 48], "counts": [{}, 844]}}"#, runs.join(", "));
    let polygon = "[[10, 8], [22, 8], [22, 20], [10, 20]]";
    write("own_mask.json", &format!(r#"{{"schema": 1, "prompts": [{{"object": 1, "mask": {rle}}}]}}"#));
    write("own_box.json", r#"{"schema": 1, "prompts": [{"object": 1, "frame": "00000", "box": [10, 8, 21, 19]}]}"#);
    write("coco_rle.json", &coco(&format!(r#""segmentation": {rle}"#)));
    write("coco_polygon.json", &coco(r#""segmentation": [[10, 8, 22, 8, 22, 20, 10, 20]]"#));
    write("coco_box.json", &coco(r#""bbox": [10, 8, 12, 12]"#));
    write("labelme_polygon.json", &labelme("polygon", polygon));
    write("labelme_box.json", &labelme("rectangle", "[[10, 8], [21, 19]]"));
    write("sam_box.json", r#"{"box": [10, 8, 21, 19]}"#);
    write("box/00000.txt", "0 0.333333 0.4375 0.25 0.375\n");
    write("polygon/00000.txt", "0 0.208333 0.25 0.458333 0.25 0.458333 0.625 0.208333 0.625\n");
    image("map/00000.png", 1);
    image("foreground.png", 255);
    image("objects/1.png", 255);
    let job = |model: &str, prompts: &[&str]| {
        let model = ["--models", model, "--data", "clip", "--save-masks", "--limit-frames", "20"];
        masks(&run(&shop, &[&model[..], prompts].concat()))
    };
    let pixels = [
        "own_mask.json",
        "coco_rle.json",
        "coco_polygon.json",
        "labelme_polygon.json",
        "polygon/00000.txt",
        "map/00000.png",
        "foreground.png",
        "objects",
    ];
    let boxes = ["own_box.json", "coco_box.json", "labelme_box.json", "sam_box.json", "box/00000.txt"];
    let typed = job("calm_bbox", &["--box", "1 10,8,21,19"]);
    assert_eq!(typed.len(), 20);
    for file in boxes.iter().chain(&pixels) {
        assert!(job("calm_bbox", &["--prompts", file]) == typed, "{file}");
    }
    let as_mask = job("calm_mask", &["--prompts", "own_mask.json"]);
    for file in &pixels[1..] {
        assert!(job("calm_mask", &["--prompts", file]) == as_mask, "{file}");
    }
    write("sam_points.json", r#"{"obj_id": 1, "points": [[20, 16]], "labels": [1]}"#);
    write("own_points.json", r#"{"schema": 1, "prompts": [{"object": 1, "clicks": [{"x": 20, "y": 16}]}]}"#);
    write("labelme_points.json", &labelme("point", "[[20, 16]]"));
    let typed = job("calm_points", &["--clicks", "1 20,16"]);
    for file in ["sam_points.json", "own_points.json", "labelme_points.json"] {
        assert!(job("calm_points", &["--prompts", file]) == typed, "{file}");
    }
}

#[test]
fn prompts_that_cannot_be_given_are_refused_with_the_reason() {
    let shop = shop(2);
    shop.pack("narrow", "prompts = [\"points\"]\nmax_points = 2");
    std::fs::write(shop.path("p.json"), "{\"schema\": 2, \"prompts\": []}").unwrap();
    for (args, part) in [
        (&["--clicks", "1 48,16"][..], "click 48,16 is outside: the frames have 48x32 pixels"),
        (&["--clicks", "obj=1 frame=24 1,1"], "the video has 24 frames"),
        // Not a run without objects, whose frames would cost next to nothing.
        (&["--clicks", "obj=1 frame=20 1,1", "--limit-frames", "10"], "leave no object to track"),
        (&["--clicks", "1 1,1,-"], "negative clicks only"),
        (
            &["--clicks", "1 1,1", "--clicks", "obj=1 frame=20 5,5"],
            "prompt on frame 0 already. A correction of a running track",
        ),
        (&["--clicks", "1 1,1", "--box", "1 1,1,5,5"], "has a prompt of kind points already"),
        (&["--box", "1 1,1,5,5"], "asks for points prompts, and those given are of kind bbox; say calm_bbox"),
        (&["--box", "1 5,1,1,5"], "is no box"),
        (&["--box", "1 1,1,50,5"], "reaches outside"),
        (&["--clicks", "video=other obj=1 1,1"], "names video `other`, which is not there; there: clip"),
        (
            &["--clicks", "1 1,1", "--data", "clips"],
            "names no video, and there are 2; say video=NAME: synth_000, synth_001",
        ),
        (&["--clicks", "1 1,1 2,2 3,3 4,4 5,5"], "5 clicks; pack calm takes at most 4"),
        (&["--clicks", "1 1,1 2,2 3,3", "--models", "narrow_points"], "3 clicks; pack narrow takes at most 2"),
        (
            &["--clicks", "1 1,1", "--box", "2 1,1,5,5", "--models", "narrow_points"],
            "pack narrow takes no bbox prompts",
        ),
        (&["--clicks", "1 1,1", "--data", "p.json"], "a file, but no video"),
        (&["--clicks", "1 1,1", "--data", "nowhere"], "no such file or folder"),
        (&["--clicks", "1 1,1", "--data", "packs"], "no video and no JPEG or PNG frames"),
        (&["--prompts", "p.json"], "p.json: as a prompt file: schema 2; this version reads schema 1"),
        (&["--clicks", "0"], "a number of clicks from 1 on"),
        (&["--clicks", "../x 1,1"], "is no name of object"),
    ] {
        let mut all = vec!["--dtype", "fp32"];
        if !args.contains(&"--models") {
            all.extend(["--models", "calm_points"]);
        }
        if !args.contains(&"--data") {
            all.extend(["--data", "clip"]);
        }
        all.extend(args);
        let output = shop.output(&all);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
    assert!(shop.runs("results").is_empty(), "nothing was run");
}
