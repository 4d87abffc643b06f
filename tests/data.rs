//! `jetbench data` as a user calls it: a dataset drawn, found sound, broken in the ways that waste a night, and named.
//! Video files go through the system's ffmpeg where there is one.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use jetbench::dataset::Dataset;
use jetbench::results::record::{CellRecord, PromptRecord};
use jetbench_runners::digest::sha256_hex;
use jetbench_runners::types::Mask;
use serde_json::Value;

fn jetbench(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(cargo_bin!("jetbench"));
    // The user's own locks, and so a run of theirs, are none of a test's.
    command.current_dir(dir).args(args).env("JETBENCH_HOME", dir).env("JETBENCH_LOCKS", dir.join("locks"));
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn check(dir: &Path, data: &str) -> (Option<i32>, Value) {
    let out = jetbench(dir, &["data", "check", data, "--json"]);
    (out.status.code(), serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out.stderr))))
}

#[test]
fn a_drawn_dataset_of_every_layout_is_sound_and_scores() {
    let dir = tempfile::tempdir().unwrap();
    for layout in ["sa-v", "davis2016", "davis2017", "mose", "youtube-vos", "lvos", "plain"] {
        let pred = format!("{layout}-pred");
        let out = jetbench(
            dir.path(),
            &["data", "synth", layout, "--layout", layout, "--frames", "13", "--size", "64x48", "--predictions", &pred],
        );
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert!(text(&out.stdout).starts_with(&format!("{layout}: {layout} layout, 3 videos of 13 frames")));
        let (code, report) = check(dir.path(), layout);
        assert_eq!((code, &report["ok"]), (Some(0), &Value::Bool(true)), "{layout}: {report:#}");
        assert_eq!((&report["schema"], &report["layout"]), (&1.into(), &layout.into()));
        assert_eq!((&report["videos"], &report["frames"]), (&3.into(), &39.into()));
        let out = jetbench(dir.path(), &["score", layout, &pred, "--quiet"]);
        assert_eq!(out.status.code(), Some(0), "{layout}: {}", text(&out.stderr));
    }
}

#[test]
fn what_is_no_dataset_is_named_without_flags_that_the_command_lacks() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    for args in
        [&["data", "check", "nope"], &["data", "check", "file"], ["prompt", "nope"].as_slice(), &["prompt", "file"]]
    {
        let out = jetbench(dir.path(), args);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(args[args.len() - 1]) && said.contains("; name a"), "{args:?}: {said}");
        assert!(!said.contains("--data"), "{args:?}: {said}");
    }
}

#[test]
fn what_would_waste_a_night_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let args = ["data", "synth", "d", "--layout", "sa-v", "--videos", "4", "--frames", "13", "--size", "64x48"];
    assert_eq!(jetbench(root, &args).status.code(), Some(0));
    let frames = root.join("d/JPEGImages_24fps");
    let masks = root.join("d/Annotations_6fps");
    // A frame lost, a mask of another size, an object with two folders, a mask that is a photograph, a cut-off mask.
    std::fs::remove_file(frames.join("synth_000/00004.png")).unwrap();
    let other = ["data", "synth", "o", "--layout", "sa-v", "--videos", "1", "--frames", "5", "--size", "32x48"];
    assert_eq!(jetbench(root, &other).status.code(), Some(0));
    let small = root.join("o/Annotations_6fps/synth_000/000/00004.png");
    std::fs::copy(small, masks.join("synth_001/000/00004.png")).unwrap();
    std::fs::create_dir(masks.join("synth_001/1")).unwrap();
    let first = masks.join("synth_001/001/00000.png");
    std::fs::copy(&first, masks.join("synth_001/1/00000.png")).unwrap();
    std::fs::copy(frames.join("synth_002/00000.png"), masks.join("synth_002/000/00000.png")).unwrap();
    let cut = masks.join("synth_003/000/00000.png");
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 30]).unwrap();

    let (code, report) = check(root, "d");
    assert_eq!((code, &report["ok"]), (Some(1), &Value::Bool(false)));
    let found: Vec<String> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| format!("{} {} {}", f["severity"].as_str().unwrap(), f["place"].as_str().unwrap(), f["what"]))
        .collect();
    for (severity, place, what) in [
        ("error", "synth_000/000/00004.png", "there is no frame 00004"),
        ("error", "synth_001/000/00004.png", "32x48, its frames are 64x48"),
        ("error", "Annotations_6fps/synth_001", "objects 001 and 1 have the same number"),
        ("error", "synth_002/000/00000.png", "colour"),
        ("error", "synth_003/000/00000.png", "truncated"),
        ("warning", "JPEGImages_24fps/synth_000", "after 00003 comes 5"),
    ] {
        let hit = found.iter().any(|f| f.starts_with(severity) && f.contains(place) && f.contains(what));
        assert!(hit, "no {severity} about {place}: {what} in\n{}", found.join("\n"));
    }
    let out = jetbench(root, &["data", "check", "d"]);
    assert_eq!(out.status.code(), Some(1));
    let shown = text(&out.stdout);
    assert!(shown.starts_with("d: sa-v layout, 4 videos, 51 frames"), "{shown}");
    assert!(shown.ends_with("a run would fail or be scored wrongly\n"), "{shown}");
}

#[test]
fn wrong_usage_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for (args, says) in [
        (&["data", "check", "nowhere"][..], "no such directory"),
        (&["data", "check", ".", "--layout", "davis"], "known: sa-v, davis2016"),
        (&["data", "synth", "o", "--size", "64"], "WIDTHxHEIGHT"),
        (&["data", "synth", "o", "--size", "4x99999"], "each side"),
        (&["data", "synth", "o", "--objects", "0"], "1 to 254 objects"),
    ] {
        let out = jetbench(dir.path(), args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(text(&out.stderr).contains(says), "{args:?}: {}", text(&out.stderr));
    }
    assert_eq!(jetbench(dir.path(), &["data", "synth", "o", "--videos", "1", "--frames", "2"]).status.code(), Some(0));
    let again = jetbench(dir.path(), &["data", "synth", "o"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("not empty"));
}

/// Runs in column order as plain numbers, then in COCO's text form without differences worth packing: each run is
/// written as pycocotools' `rleToString` would.
fn coco(mask: &Mask) -> String {
    let (mut runs, mut value, mut length) = (Vec::new(), false, 0i64);
    for x in 0..mask.width() {
        for y in 0..mask.height() {
            if mask.get(x, y) != value {
                runs.push(std::mem::take(&mut length));
                value = !value;
            }
            length += 1;
        }
    }
    runs.push(length);
    let mut out = String::new();
    for i in 0..runs.len() {
        let mut rest = runs[i] - if i > 2 { runs[i - 2] } else { 0 };
        loop {
            let group = (rest & 31) as u8;
            rest >>= 5;
            let more = if group & 16 != 0 { rest != -1 } else { rest != 0 };
            out.push(char::from(b'0' + (group | u8::from(more) << 5)));
            if !more {
                break;
            }
        }
    }
    out
}

/// SA-V's training split: mp4 and JSON, in a folder of a folder, read through the real ffmpeg.
#[test]
fn sa_v_train_is_read_from_its_video_and_json_files() {
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        eprintln!(
            "skipped sa_v_train_is_read_from_its_video_and_json_files: no ffmpeg on the PATH (apt install ffmpeg)"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let args = ["data", "synth", "val", "--layout", "sa-v", "--videos", "1", "--frames", "13", "--size", "64x48"];
    assert_eq!(jetbench(root, &args).status.code(), Some(0));
    let val = Dataset::open(&root.join("val")).unwrap();
    let sequence = &val.sequences[0];
    let mut json =
        String::from(r#"{"video_id": "sav_000001", "video_frame_count": 13.0, "masklet_id": [0, 1, 2], "masklet": ["#);
    for frame in [0, 4, 8, 12] {
        let masks: Vec<String> = sequence
            .truths(&sequence.objects, frame)
            .unwrap()
            .iter()
            .map(|m| format!(r#"{{"size": [48, 64], "counts": {}}}"#, serde_json::json!(coco(m))))
            .collect();
        write!(json, "{}[{}]", if frame == 0 { "" } else { ", " }, masks.join(", ")).unwrap();
    }
    json.push_str("]}");
    let train = root.join("train/sav_000");
    std::fs::create_dir_all(&train).unwrap();
    std::fs::write(train.join("sav_000001_manual.json"), &json).unwrap();
    let frames = root.join("val/JPEGImages_24fps/synth_000/%05d.png");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-framerate", "24", "-i"])
        .arg(frames)
        .args(["-c:v", "mpeg4", "-q:v", "2"])
        .arg(train.join("sav_000001.mp4"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    // A video without manual annotations is left out, and that is said.
    std::fs::copy(train.join("sav_000001.mp4"), train.join("sav_000002.mp4")).unwrap();

    let (code, report) = check(root, "train");
    assert_eq!((code, &report["layout"], &report["masks"]), (Some(0), &"sa-v".into(), &12.into()), "{report:#}");
    assert!(report["findings"].to_string().contains("no sav_000002_manual.json beside it"), "{report:#}");
    let data = Dataset::open(&root.join("train")).unwrap();
    let (a, b) = (sequence, &data.sequences[0]);
    assert_eq!((b.name.as_str(), b.frames.len(), b.fps), ("sav_000001", 13, 24.0));
    assert_eq!(a.objects, b.objects);
    for frame in [0, 4, 8, 12] {
        assert_eq!(a.truths(&a.objects, frame).unwrap(), b.truths(&b.objects, frame).unwrap());
    }
    let decoded: Vec<_> = b.reader(2).collect::<Result<_, _>>().unwrap();
    assert_eq!(decoded.len(), 13);
    // The codec loses a little: the frames are those of the drawing all the same.
    let drawn: Vec<_> = a.reader(2).collect::<Result<_, _>>().unwrap();
    for (x, y) in decoded.iter().zip(&drawn) {
        let off: u64 = x.frame.rgb.iter().zip(&y.frame.rgb).map(|(p, q)| u64::from(p.abs_diff(*q))).sum();
        assert!(off < 12 * x.frame.rgb.len() as u64, "frame {}: {off}", x.index);
    }

    std::fs::create_dir_all(root.join("packs/still")).unwrap();
    std::fs::write(root.join("packs/still/pack.toml"), "schema = 1\nid = \"still\"\nfamily = \"mock\"\n[mock]\n")
        .unwrap();
    let out = jetbench(
        root,
        &[
            "--models",
            "still_mask",
            "--data",
            "train",
            "--packs",
            "packs",
            "--min-frames",
            "1",
            "--save-masks",
            "--overlays=png",
            "--json",
        ],
    );
    assert_eq!(out.status.code(), Some(0), "{}{}", text(&out.stdout), text(&out.stderr));
    let last: Value = serde_json::from_str(text(&out.stdout).lines().last().unwrap()).unwrap();
    let run = root.join(last["run"].as_str().unwrap());
    let written = walk(&run.join("masks"));
    assert!(written.iter().any(|p| p.ends_with("sav_000001/002/00012.png")), "{written:?}");

    assert_eq!(walk(&run.join("overlays")).len(), 13);

    let out = jetbench(root, &["score", "train", "val"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("keeps its masks in JSON"), "{}", text(&out.stderr));

    std::fs::write(train.join("sav_000001_manual.json"), json.replacen("\"size\": [48, 64]", "\"size\": [64, 48]", 1))
        .unwrap();
    let (code, report) = check(root, "train");
    assert_eq!(code, Some(1), "{report:#}");
}

fn walk(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Masks on disk, scored again, give the scores of the run: in every layout, also where objects overlap. In label maps a
/// pixel has one owner, so the run must score what the map can hold.
#[test]
fn what_a_run_says_is_what_its_masks_score() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir_all(root.join("packs/box")).unwrap();
    let mock = "schema = 1\nid = \"box\"\nfamily = \"mock\"\n[mock]\nmotion = [1.0, 0.5]\n";
    std::fs::write(root.join("packs/box/pack.toml"), mock).unwrap();
    for layout in ["sa-v", "davis2016", "davis2017", "mose", "youtube-vos", "lvos", "plain"] {
        let args =
            ["data", "synth", layout, "--layout", layout, "--objects", "5", "--frames", "13", "--size", "96x64", "-q"];
        assert_eq!(jetbench(root, &args).status.code(), Some(0));
        let run_with = |files: &str| {
            let job =
                ["--models", "box_bbox", "--data", layout, "--packs", "packs", "--min-frames", "1", "--json", files];
            let out = jetbench(root, &job);
            assert_eq!(out.status.code(), Some(0), "{layout}: {}", text(&out.stderr));
            let last: Value = serde_json::from_str(text(&out.stdout).lines().last().unwrap()).unwrap();
            let run = root.join(last["run"].as_str().unwrap());
            let masks = std::fs::read_dir(run.join("masks")).unwrap().next().unwrap().unwrap().path();
            (run, masks.display().to_string())
        };
        let score = |args: &[&str]| -> Value {
            let out = jetbench(root, &[&["score", layout, "--json", "--quiet"][..], args].concat());
            assert_eq!(out.status.code(), Some(0), "{layout} {args:?}: {}", text(&out.stderr));
            serde_json::from_slice(&out.stdout).unwrap()
        };
        let (run, masks) = run_with("--save-masks");
        let again = score(&[&masks]);
        // Run lengths hold the same masks: one file per video, the same scores, also beside each other.
        if ["sa-v", "davis2016", "davis2017"].contains(&layout) {
            let (_, lines) = run_with("--save-masks=rle");
            let files = walk(Path::new(&lines));
            assert!(files.len() == 3 && files.iter().all(|file| file.ends_with(".rle.jsonl")), "{layout}: {files:?}");
            let same = |args: &[&str]| {
                let mut reports = [&masks, &lines].map(|pred| score(&[&[pred.as_str()][..], args].concat()));
                reports.iter_mut().for_each(|report| report["pred"] = Value::Null);
                assert_eq!(reports[0], reports[1], "{layout} {args:?}");
            };
            same(&["--per-frame"]);
            if layout == "davis2017" {
                same(&["--protocol", "hota"]);
                same(&["--protocol", "mosev2"]);
            }
            assert_eq!(score(&[&masks, &lines])["compared"][0]["jf"]["points"], 0.0, "{layout}");
        }
        let scale = 100.0 / again["scale"].as_f64().unwrap();
        let again: Vec<_> = again["objects"].as_array().unwrap().iter().collect();
        let mut rows = csv::Reader::from_path(run.join("objects.csv")).unwrap();
        let names = rows.headers().unwrap().clone();
        let column = |name: &str| names.iter().position(|n| n == name).unwrap();
        let rows: Vec<_> = rows.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), again.len(), "{layout}");
        for row in &rows {
            // DAVIS 2016 has one object, which its protocol gives no name.
            let named = |o: &Value| layout == "davis2016" || o["object"] == row[column("object")];
            let same = |o: &&&Value| o["video"] == row[column("video")] && named(o);
            let other = again.iter().find(same).unwrap_or_else(|| panic!("{layout}: {row:?}"));
            for value in ["j", "f"] {
                let (run, files) = (row[column(value)].parse::<f64>().unwrap(), other[value].as_f64().unwrap() * scale);
                assert!(
                    (run - files).abs() < 1e-9,
                    "{layout} {value}: {run} in the run, {files} from its masks: {row:?}"
                );
            }
        }
    }
}

/// What `evaluation_method.py --task semi-supervised` of davis2017-evaluation (commit ac7c43f) wrote for this drawing, its
/// frames renamed to .jpg, which it counts and does not open.
#[test]
fn the_davis_tools_own_files_are_written_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let size = ["--videos", "2", "--frames", "13", "--size", "96x64", "--predictions", "p", "-q"];
    let args = [&["data", "synth", "d", "--layout", "davis2017"][..], &size].concat();
    assert_eq!(jetbench(root, &args).status.code(), Some(0));
    let out = jetbench(root, &["score", "d", "p", "--compat", "davis2017", "--quiet"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let read = |name: &str| std::fs::read_to_string(root.join("p").join(name)).unwrap();
    assert_eq!(
        read("global_results-val.csv"),
        "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n0.795,0.745,0.864,-0.148,0.844,0.879,-0.125\n"
    );
    assert_eq!(
        read("per-sequence_results-val.csv"),
        "Sequence,J-Mean,F-Mean\nsynth_000_1,0.693,0.801\nsynth_000_2,0.814,0.904\nsynth_000_3,0.667,0.745\n\
         synth_001_1,0.748,0.885\nsynth_001_2,0.866,0.958\nsynth_001_3,0.683,0.773\n"
    );
    let out = jetbench(root, &["score", "d", "p", "--compat", "sav", "--quiet"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("has other result files"), "{}", text(&out.stderr));
}

#[test]
fn drawn_predictions_are_not_mixed_with_their_truth() {
    let dir = tempfile::tempdir().unwrap();
    for same in ["d", "d/"] {
        let out = jetbench(dir.path(), &["data", "synth", "d", "--layout", "vipseg", "--predictions", same, "-q"]);
        assert_eq!(out.status.code(), Some(2));
        assert!(text(&out.stderr).contains("a folder of their own"), "{}", text(&out.stderr));
        assert!(!dir.path().join("d").exists());
    }
}

/// Every prompt stands in the record as it was given, and is that of the annotation; a record of the time before prompts
/// (and kinds of precision) were recorded is still read.
#[test]
fn prompts_in_the_record_are_those_of_the_truth_masks() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir_all(root.join("packs/still")).unwrap();
    let mock = "schema = 1\nid = \"still\"\nfamily = \"mock\"\n[mock]\n\
                effective = \"fp16 operands, fp32 accumulation, emulated\"\n";
    std::fs::write(root.join("packs/still/pack.toml"), mock).unwrap();
    // Of three objects the last one comes late.
    let args = ["data", "synth", "drawn", "--objects", "3", "--frames", "13", "--size", "96x64", "-q"];
    assert_eq!(jetbench(root, &args).status.code(), Some(0));
    let run = |more: &[&str]| {
        let mut args = vec!["--models", "still_points,still_bbox,still_mask", "--data", "drawn", "--packs", "packs"];
        args.extend(["--dtype", "fp16", "--clicks", "2", "--min-frames", "1", "--overlays=png", "--json"]);
        args.extend(more);
        let out = jetbench(root, &args);
        assert_eq!(out.status.code(), Some(0), "{}{}", text(&out.stdout), text(&out.stderr));
        let last: Value = serde_json::from_str(text(&out.stdout).lines().last().unwrap()).unwrap();
        root.join(last["run"].as_str().unwrap())
    };
    let path = run(&[]);
    let record = jetbench::results::store::load(&path).unwrap();
    let data = Dataset::open(&root.join("drawn")).unwrap();
    let (mut seen, mut late) = (0, 0);
    for (cell, sequence) in record.cells.iter().flat_map(|c| c.sequences.iter().map(move |s| (c, s))) {
        let source = data.sequences.iter().find(|s| s.name == sequence.video).unwrap();
        for (object, drawn) in sequence.objects.iter().zip(&source.objects) {
            let truth = source.truth(drawn, object.prompt_frame as usize).unwrap();
            let pixels: Vec<(u32, u32)> = (0..truth.height())
                .flat_map(|y| (0..truth.width()).map(move |x| (x, y)))
                .filter(|&(x, y)| truth.get(x, y))
                .collect();
            let prompt = object.prompt.as_ref().unwrap_or_else(|| panic!("{}: no prompt", object.object));
            assert_eq!((prompt_kind(prompt), object.prompt_frame), (cell.prompt.as_str(), drawn.prompt_frame as u32));
            match prompt {
                PromptRecord::Points { clicks } => {
                    assert_eq!(clicks.len(), 2);
                    assert!(clicks.iter().all(|c| c.positive && truth.get(c.x as u32, c.y as u32)), "{clicks:?}");
                    let (x, y, _) = pixels
                        .iter()
                        .map(|&(x, y)| (x, y, depth(&truth, x, y)))
                        .fold((0, 0, 0), |best, next| if next.2 > best.2 { next } else { best });
                    assert_eq!(
                        (clicks[0].x, clicks[0].y),
                        (x as f32, y as f32),
                        "the first click is the deepest pixel"
                    );
                }
                PromptRecord::Bbox { corners } => {
                    let side = |pick: fn(&(u32, u32)) -> u32| {
                        let all = pixels.iter().map(pick);
                        (all.clone().min().unwrap() as f32, all.max().unwrap() as f32)
                    };
                    let ((x0, x1), (y0, y1)) = (side(|p| p.0), side(|p| p.1));
                    assert_eq!(*corners, [x0, y0, x1, y1]);
                }
                PromptRecord::Mask { sha256, area } => {
                    let mut bytes = vec![0u8; (truth.width() * truth.height()) as usize];
                    pixels.iter().for_each(|&(x, y)| bytes[(y * truth.width() + x) as usize] = 1);
                    assert_eq!((sha256, *area), (&sha256_hex(&bytes), pixels.len() as u64));
                }
            }
            (seen, late) = (seen + 1, late + usize::from(object.prompt_frame > 0));
        }
    }
    assert_eq!(seen, 3 * data.object_count());
    assert!(late > 0, "an object must come late");

    // A loop that ends before an object comes gives it no prompt.
    let short = jetbench::results::store::load(&run(&["--loop-frames", "2"])).unwrap();
    let objects = short.cells[0].sequences.iter().flat_map(|s| &s.objects);
    assert!(objects.clone().any(|o| o.prompt_frame > 0) && objects.clone().any(|o| o.prompt_frame == 0));
    assert!(objects.clone().all(|o| o.prompt.is_some() == (o.prompt_frame < 2)));

    // What the release before wrote: no prompts, and precision in words alone.
    let mut old: Value = serde_json::from_slice(&std::fs::read(path.join("run.json")).unwrap()).unwrap();
    for cell in old["cells"].as_array_mut().unwrap() {
        assert_eq!(cell["precision"][0].as_object_mut().unwrap().remove("kind").unwrap(), "emulated");
        for sequence in cell["sequences"].as_array_mut().unwrap() {
            for object in sequence["objects"].as_array_mut().unwrap() {
                assert!(object.as_object_mut().unwrap().remove("prompt").is_some());
            }
        }
    }
    std::fs::write(path.join("run.json"), old.to_string()).unwrap();
    let read = jetbench::results::store::load(&path).unwrap();
    assert!(read.cells.iter().all(CellRecord::emulated));
    assert!(read.cells[0].sequences[0].objects.iter().all(|o| o.prompt.is_none()));
    let out = jetbench(root, &["report", path.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
}

fn prompt_kind(prompt: &PromptRecord) -> &'static str {
    match prompt {
        PromptRecord::Points { .. } => "points",
        PromptRecord::Bbox { .. } => "bbox",
        PromptRecord::Mask { .. } => "mask",
    }
}

/// Squared distance of a pixel to the nearest one outside the mask; beyond the border all are outside.
fn depth(mask: &Mask, x: u32, y: u32) -> i64 {
    let (w, h) = (i64::from(mask.width()), i64::from(mask.height()));
    let outside = |x: i64, y: i64| x < 0 || y < 0 || x >= w || y >= h || !mask.get(x as u32, y as u32);
    let all = (-1..=h).flat_map(|v| (-1..=w).map(move |u| (u, v)));
    let (x, y) = (i64::from(x), i64::from(y));
    all.filter(|&(u, v)| outside(u, v)).map(|(u, v)| (u - x).pow(2) + (v - y).pow(2)).min().unwrap()
}
