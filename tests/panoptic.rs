//! `score --protocol vipseg` against what VIPSeg's own evaluators say of the same files (tests/cases/panoptic; its make.py says which):
//! every number bit for bit.

use std::path::{Path, PathBuf};

use assert_cmd::cargo::cargo_bin;
use jetbench::score::panoptic::{PanopticOptions, PanopticReport, PartPq, score};
use serde_json::{Value, json};

fn case(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/panoptic").join(name).with_extension("json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap() as u32
}

fn write_png(path: &Path, size: (u32, u32), colour: png::ColorType, samples: &[u8]) {
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), size.0, size.1);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(samples).unwrap();
}

fn ids(runs: &Value) -> Vec<u32> {
    let runs = runs.as_array().unwrap().chunks(2);
    runs.flat_map(|run| vec![number(&run[0]); number(&run[1]) as usize]).collect()
}

/// Writes the videos of a case that are wanted, as VIPSeg lays them out.
fn write(root: &Path, case: &Value, wanted: impl Fn(&Value) -> bool) {
    let (mut listed, mut sides) = (Vec::new(), [Vec::new(), Vec::new()]);
    for video in case["videos"].as_array().unwrap().iter().filter(|video| wanted(video)) {
        let name = video["name"].as_str().unwrap();
        let size = (number(&video["size"][0]), number(&video["size"][1]));
        let frames = video["frames"].as_array().unwrap();
        let files: Vec<String> = (0..frames.len()).map(|t| format!("{t:05}.png")).collect();
        listed.push(
            json!({"video_id": name, "images": files.iter().map(|f| json!({"file_name": f})).collect::<Vec<_>>()}),
        );
        for (side, folder) in ["panomasksRGB", "pred/pan_pred"].into_iter().enumerate() {
            let dir = root.join(folder).join(name);
            std::fs::create_dir_all(&dir).unwrap();
            let entry = |(file, frame): (&String, &Value)| {
                let ids = ids(&frame[side]["runs"]);
                let samples: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()[..3].to_vec()).collect();
                write_png(&dir.join(file), size, png::ColorType::Rgb, &samples);
                let segment = |s: &Value| {
                    let area = ids.iter().filter(|id| **id == number(&s[0])).count();
                    json!({"id": s[0], "category_id": s[1], "iscrowd": s.get(2).unwrap_or(&json!(0)), "area": area})
                };
                let segments: Vec<Value> = frame[side]["segments"].as_array().unwrap().iter().map(segment).collect();
                json!({"file_name": file, "segments_info": segments})
            };
            let entries: Vec<Value> = files.iter().zip(frames).map(entry).collect();
            sides[side].push(json!({"video_id": name, "annotations": entries}));
        }
    }
    let [truth, pred] = sides;
    let truth = json!({"videos": listed, "categories": case["categories"], "annotations": truth});
    save(&root.join("panoptic_gt_VIPSeg_val.json"), &truth);
    save(&root.join("pred/pred.json"), &json!({"annotations": pred}));
}

fn save(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

fn load(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn scored(root: &Path) -> Result<PanopticReport, String> {
    score(&PanopticOptions { truth: root.to_path_buf(), pred: root.join("pred") }).map_err(|e| e.0)
}

#[track_caller]
fn same(ours: Option<f64>, theirs: &Value, what: &str) {
    let theirs = theirs.as_f64();
    assert_eq!(ours.map(f64::to_bits), theirs.map(f64::to_bits), "{what}: {ours:?}, the tool {theirs:?}");
}

fn same_as_tool(name: &str) -> PanopticReport {
    let case = case(name);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &case, |_| true);
    let report = scored(dir.path()).unwrap();
    let wanted = &case["expected"];
    for (ours, theirs) in report.windows.iter().zip(wanted["vpq"].as_array().unwrap()) {
        assert_eq!(ours.frames as u64, theirs["frames"]);
        let what = format!("{name}, {} frames", ours.frames);
        for (part, found) in [("all", &ours.all), ("things", &ours.things), ("stuff", &ours.stuff)] {
            let value = |get: fn(&PartPq) -> f64| found.as_ref().map(get);
            same(value(|p| p.pq), &theirs[part]["pq"], &format!("{what}, {part}: PQ"));
            same(value(|p| p.sq), &theirs[part]["sq"], &format!("{what}, {part}: SQ"));
            same(value(|p| p.rq), &theirs[part]["rq"], &format!("{what}, {part}: RQ"));
            assert_eq!(found.map(|p| p.classes as u64), theirs[part]["n"].as_u64(), "{what}, {part}: categories");
        }
        for class in ours.classes.iter().filter(|_| ours.all.is_some()) {
            let theirs = &theirs["classes"][class.id.to_string()];
            // The tool gives a category that does not occur zeros, and leaves it out of the mean.
            let occurs = [class.tp, class.fp, class.fn_] != [0, 0, 0];
            assert_eq!(
                [class.pq, class.sq, class.rq].map(|v| v.is_some()),
                [occurs; 3],
                "{what}, category {}",
                class.id
            );
            let value = |v: Option<f64>| v.or(Some(0.0));
            for (i, ours) in
                [value(class.pq), value(class.sq), value(class.rq), Some(class.iou)].into_iter().enumerate()
            {
                same(ours, &theirs[i], &format!("{what}, category {}: value {i}", class.id));
            }
            assert_eq!(json!([class.tp, class.fp, class.fn_]), json!(theirs.as_array().unwrap()[4..]), "{what}");
        }
    }
    assert_eq!(report.windows.len(), 5);
    let text = wanted["vpq-final.txt"].as_str().unwrap();
    let parts = [("all", report.vpq_final.all), ("thing", report.vpq_final.things), ("stuff", report.vpq_final.stuff)];
    match parts.map(|(part, v)| Some(format!("vpq_{part}:{:.4}\n", v? * 100.0))) {
        [Some(all), Some(things), Some(stuff)] => assert_eq!([all, things, stuff].concat(), text, "{name}"),
        _ => assert_eq!(text, "ZeroDivisionError: division by zero", "{name}"),
    }
    let stq = &wanted["stq"];
    same(report.stq.sq, &stq["IoU"], "SQ");
    // Without a tube the tool has an AQ of 0.
    same(report.stq.aq.or(Some(0.0)), &stq["AQ"], "AQ");
    same(report.stq.stq.or(report.stq.sq.map(|_| 0.0)), &stq["STQ"], "STQ");
    assert_eq!(report.stq.videos.len(), stq["AQ_per_seq"].as_array().unwrap().len());
    for (i, video) in report.stq.videos.iter().enumerate() {
        let what = format!("{name}, {}", video.video);
        same(video.sq, &stq["IoU_per_seq"][i], &what);
        same(video.aq.or(Some(0.0)), &stq["AQ_per_seq"][i], &what);
        same(video.stq.or(video.sq.map(|_| 0.0)), &stq["STQ_per_seq"][i], &what);
        assert_eq!(video.frames as u64, stq["Length_per_seq"][i]);
    }
    report
}

#[test]
fn drawn_videos_score_as_in_the_evaluators() {
    for name in ["drawn", "crowded", "perfect"] {
        let report = same_as_tool(name);
        assert!(report.stq.aq.is_some() && report.vpq.things.is_some(), "{name}");
    }
}

#[test]
fn odd_videos_score_as_in_the_evaluators() {
    let report = same_as_tool("odd");
    let notes = report.notes.join("\n");
    assert!(notes.contains("no frame in no_frame, left out"), "{notes}");
    assert!(
        notes.contains("the first segment of the truth is a thing in first, crowds, blank, half; STQ takes"),
        "{notes}"
    );
}

#[test]
fn what_the_evaluators_divide_by_zero_has_no_value_and_a_note() {
    let notes = |name: &str| same_as_tool(name).notes.join("\n");
    assert!(notes("short").contains("no video has 6 frames, so that windows of 6 have no score"));
    let stuff = notes("only_stuff");
    assert!(
        stuff.contains("things or stuff are on no frame") && stuff.contains("no thing of the truth counts"),
        "{stuff}"
    );
    assert!(notes("unlabelled").contains("no thing of the truth counts"));
}

/// Does to the files what `spoil` of make.py does.
fn spoil(root: &Path, fault: &str) {
    let (kind, what) = fault.split_once('_').unwrap();
    let file = root.join(if kind == "pred" { "pred/pred.json" } else { "panoptic_gt_VIPSeg_val.json" });
    let mut data = load(&file);
    let video = data["annotations"][0]["video_id"].as_str().unwrap().to_string();
    let folder = root.join(if kind == "pred" { "pred/pan_pred" } else { "panomasksRGB" }).join(video);
    let png = folder.join("00000.png");
    let frames = data["annotations"][0]["annotations"].as_array_mut().unwrap();
    let other = frames[0]["segments_info"][1]["category_id"].clone();
    let segments = frames[0]["segments_info"].as_array_mut().unwrap();
    let mut copy = |field: &str, value: Value| {
        let mut segment = segments[0].clone();
        segment[field] = value;
        segments.push(segment);
    };
    match what {
        "png_missing" => std::fs::remove_file(&png).unwrap(),
        "id_unlisted" => drop(segments.pop()),
        "id_without_pixel" => copy("id", json!(5_000_000)),
        "category_unknown" => segments[0]["category_id"] = json!(99),
        "video_missing" => drop(data["annotations"].as_array_mut().unwrap().remove(0)),
        "frame_unlisted" => drop(frames.pop()),
        "frames_swapped" => frames.swap(0, 1),
        "other_size" => write_png(&png, (25, 18), png::ColorType::Rgb, &[0; 25 * 18 * 3]),
        "grey" => write_png(&png, (24, 18), png::ColorType::Grayscale, &[0; 24 * 18]),
        "segment_twice" => copy("category_id", other),
        "area_wrong" => segments[0]["area"] = json!(segments[0]["area"].as_u64().unwrap() + 1),
        "void_listed" => copy("id", json!(0)),
        other => panic!("{other}"),
    }
    save(&file, &data);
}

/// The longer videos of a case, written.
fn longer() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &case("drawn"), |video| video["frames"].as_array().unwrap().len() > 8);
    dir
}

#[test]
fn faults_on_which_the_evaluators_crash_or_say_nothing_are_named() {
    let wanted = |fault: &str| match fault {
        "pred_png_missing" => "pan_pred/v0/00000.png: No such file",
        "truth_png_missing" => "panomasksRGB/v0/00000.png: No such file",
        "pred_id_unlisted" => "pan_pred/v0/00000.png: 120 pixels have the id 210008, which is not among the segments",
        "pred_id_without_pixel" => "pan_pred/v0/00000.png: segment 5000000 is listed, but no pixel has its id",
        "pred_category_unknown" => "pan_pred/v0/00000.png: segment 70006: no category 99 in the truth",
        "pred_video_missing" => "pred.json: no entry of video v0",
        "pred_frame_unlisted" => "pred.json: video v0: 8 frames listed with segments, but the truth lists 9 images",
        "pred_frames_swapped" => {
            "pred.json: video v0: entry 1 is of 00001.png, but the truth's image there is 00000.png"
        }
        "pred_other_size" => "pan_pred/v0/00000.png: 25x18 pixels, but ",
        "pred_grey" => "pan_pred/v0/00000.png: a panoptic mask has three channels of 8 bits",
        "pred_segment_twice" => "pan_pred/v0/00000.png: segment 70006 is listed twice",
        "truth_id_unlisted" => {
            "panomasksRGB/v0/00000.png: 19 pixels have the id 770011, which is not among the segments"
        }
        "truth_area_wrong" => "panomasksRGB/v0/00000.png: segment 70001 has an area of ",
        "truth_category_unknown" => "panomasksRGB/v0/00000.png: segment 70001: no category 99 in the truth",
        "truth_void_listed" => "panomasksRGB/v0/00000.png: segment 0: in the truth this id is that of pixels without",
        other => panic!("{other}"),
    };
    let said = case("faults");
    let whole = scored(longer().path()).unwrap();
    let figures = [whole.windows[0].all.unwrap().pq, whole.stq.stq.unwrap()].map(|v| json!(format!("{v:.6}")));
    assert_eq!(said["none"], json!(figures), "without a fault");
    let faults = said.as_object().unwrap().keys().filter(|fault| *fault != "none");
    let mut count = 0;
    for fault in faults {
        let dir = longer();
        spoil(dir.path(), fault);
        let found = scored(dir.path()).map(|r| r.vpq).unwrap_err();
        assert!(found.contains(wanted(fault)), "{fault}: {found}");
        count += 1;
    }
    assert_eq!(count, 15);
}

#[test]
fn names_lead_nowhere_but_one_level_down_and_frames_have_one_size() {
    let dir = longer();
    let file = dir.path().join("panoptic_gt_VIPSeg_val.json");
    let truth = load(&file);
    for (place, value) in [("/videos/0/video_id", "../v0"), ("/videos/0/images/0/file_name", "/etc/00000.png")] {
        let mut changed = truth.clone();
        *changed.pointer_mut(place).unwrap() = json!(value);
        save(&file, &changed);
        let fault = scored(dir.path()).unwrap_err();
        assert!(fault.contains("is not one name"), "{fault}");
    }
    let mut changed = truth.clone();
    for (file, side) in
        [(&file, &mut changed), (&dir.path().join("pred/pred.json"), &mut load(&dir.path().join("pred/pred.json")))]
    {
        side["annotations"][0]["annotations"][2]["segments_info"] = json!([]);
        save(file, side);
    }
    for folder in ["panomasksRGB", "pred/pan_pred"] {
        write_png(&dir.path().join(folder).join("v0/00002.png"), (9, 5), png::ColorType::Rgba, &[0; 9 * 5 * 4]);
    }
    let fault = scored(dir.path()).unwrap_err();
    assert_eq!(fault, "video v0: frame 2 has 24x18 and frame 3 9x5; all frames of a video have one size");
}

#[test]
fn the_program_scores_prints_and_exports() {
    let dir = longer();
    let run = |extra: &[&str]| {
        let pred: PathBuf = dir.path().join("pred");
        let mut command = std::process::Command::new(cargo_bin!("jetbench"));
        command
            .args(["score", dir.path().to_str().unwrap(), pred.to_str().unwrap(), "--protocol", "vipseg"])
            .args(extra);
        command.output().unwrap()
    };
    let output = run(&["--threads", "2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("vipseg protocol, 21 frames in 2 videos (of 100)\nVPQ "), "{text}");
    let report = scored(dir.path()).unwrap();
    assert!(text.contains(&format!("STQ {:.2}  AQ ", report.stq.stq.unwrap() * 100.0)), "{text}");
    let csv = String::from_utf8(run(&["--export-csv", "-"]).stdout).unwrap();
    let first = report.windows[0].all.unwrap();
    assert_eq!(csv.lines().nth(1).unwrap(), format!("1,all,,,,{:?},{:?},{:?},,,", first.pq, first.sq, first.rq));
    assert_eq!(csv.lines().count(), 1 + 5 * (3 + report.windows[0].classes.len()));
    let class = report.windows[4].classes.last().unwrap();
    let tail = format!(",{},{},{}", class.tp, class.fp, class.fn_);
    let last = csv.lines().last().unwrap();
    assert!(last.starts_with("8,class,123,c123,true,") && last.ends_with(&tail), "{last}");
    let json: Value = serde_json::from_slice(&run(&["--json"]).stdout).unwrap();
    assert_eq!(json["vpq"]["all"].as_f64(), report.vpq.all);
    assert_eq!(json["windows"][1]["classes"][0]["fn"].as_u64(), Some(report.windows[1].classes[0].fn_));
    for flag in [&["--list", "x"][..], &["--lenient"], &["--export-markdown", "-"], &["--remove-void"]] {
        let output = run(flag);
        let fault = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && fault.contains(flag[0]), "{fault}");
    }
}
