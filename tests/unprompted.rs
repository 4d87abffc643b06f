//! Scores of tracks and instances that nobody prompted, against the reference tools' own numbers (tests/cases/vis; its README says
//! which tools): every one bit for bit. `JETBENCH_VIS_CASES=DIR` takes another set of the same shape.

mod attacks;
mod panoptic;
pub(crate) mod runs;
mod saved;
mod taken;

use std::path::{Path, PathBuf};

use jetbench::score::tracking::{Hota, TrackingOptions, TrackingScore, track};
use jetbench::score::tubes::{Averages, TubeOptions, TubeProtocol, score as score_tubes};
use jetbench::score::{Protocol, ScoreOptions, ScoreReport, score};
use serde_json::Value;

fn cases() -> PathBuf {
    std::env::var_os("JETBENCH_VIS_CASES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/vis"), PathBuf::from)
}

/// Names in a folder, without `ending`.
fn names(dir: &str, ending: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(cases().join(dir))
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().into_string().unwrap().strip_suffix(ending).map(str::to_string))
        .collect();
    names.sort_unstable();
    assert!(!names.is_empty(), "{dir} holds no case");
    names
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(cases().join(path)).unwrap()).unwrap()
}

fn unsupervised(truth: &Path, pred: &Path) -> Result<ScoreReport, jetbench::dataset::DataError> {
    let mut options = ScoreOptions::new(truth, pred);
    options.protocol = Some(Protocol::Davis2017Unsup);
    options.per_frame = true;
    score(&options, &|_, _| ())
}

#[track_caller]
fn same(ours: f64, theirs: &Value, what: &str) {
    let theirs = theirs.as_f64().unwrap_or(f64::NAN);
    assert!(
        ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
        "{what}: {ours}, the tool {theirs}"
    );
}

#[test]
fn davis_unsupervised_scores_as_its_own_tool() {
    for variant in names("davis_results", "") {
        let report = unsupervised(&cases().join("davis"), &cases().join("davis_results").join(&variant)).unwrap();
        let wanted = json(&format!("davis_expected/{variant}.json"));
        let davis = report.global.davis.unwrap();
        for (name, ours) in [
            ("J&F-Mean", report.global.jf),
            ("J-Mean", report.global.j),
            ("J-Recall", davis.j_recall),
            ("J-Decay", davis.j_decay),
            ("F-Mean", report.global.f),
            ("F-Recall", davis.f_recall),
            ("F-Decay", davis.f_decay),
        ] {
            same(ours, &wanted["global_"][name], &format!("{variant} {name}"));
        }
        let rows = wanted["objects"].as_array().unwrap();
        assert_eq!(report.objects.len(), rows.len(), "{variant}");
        for (object, row) in report.objects.iter().zip(rows) {
            let name = format!("{}_{}", object.video, object.object);
            assert_eq!(name, row["name"], "{variant}");
            let davis = object.davis.unwrap();
            for (field, ours) in [
                ("J", object.j),
                ("F", object.f),
                ("J_recall", davis.j_recall),
                ("J_decay", davis.j_decay),
                ("F_recall", davis.f_recall),
                ("F_decay", davis.f_decay),
            ] {
                same(ours, &row[field], &format!("{variant} {name} {field}"));
            }
            let sequence = &wanted["sequences"][&object.video];
            let rank = object.object.parse::<usize>().unwrap() - 1;
            let pairing = object.pairing.unwrap();
            assert_eq!(pairing.proposal, sequence["proposal"][rank], "{variant} {name}");
            assert_eq!(pairing.truth_object, sequence["object"][rank], "{variant} {name}");
            for (i, frame) in object.per_frame.iter().enumerate() {
                same(frame.j, &sequence["J"][rank][i], &format!("{variant} {name} J of frame {i}"));
                same(frame.f, &sequence["F"][rank][i], &format!("{variant} {name} F of frame {i}"));
            }
        }
        let (global, sequences) = report.to_davis_results().unwrap();
        for (ours, file) in [(global, "global_results-val"), (sequences, "per-sequence_results-val")] {
            let theirs = std::fs::read_to_string(cases().join(format!("davis_expected/{variant}.{file}.csv"))).unwrap();
            assert_eq!(ours, theirs, "{variant} {file}");
        }
    }
}

/// What the tool scores, ours scores to the same numbers; where it fails or ends without a result, ours says why.
#[test]
fn odd_davis_inputs_score_as_in_the_tool_or_are_refused() {
    let edge = json("davis_expected/edge.json");
    for case in names("davis_edge", "") {
        let root = cases().join("davis_edge").join(&case);
        let ours = unsupervised(&root.join("davis"), &root.join("results"));
        let theirs = edge[&case]["global_results-val.csv"].as_str();
        match (ours, theirs) {
            // It prints what an earlier run left in the folder.
            (Ok(_), _) if case == "precomputed_csv" => {}
            (Ok(report), Some(theirs)) => assert_eq!(report.to_davis_results().unwrap().0, theirs, "{case}"),
            (Ok(report), None) => panic!("{case}: the tool has no result, ours is {:?}", report.global),
            (Err(fault), Some(theirs)) => {
                assert!(theirs.trim_end().ends_with(",,,,,,"), "{case}: {fault}, the tool says {theirs}")
            }
            (Err(fault), None) => assert!(fault.0.contains(root.to_str().unwrap()), "{case}: {fault}"),
        }
    }
}

fn same_tracking(ours: &TrackingScore, theirs: &Value, what: &str) {
    let h = &ours.hota;
    for (name, values) in [
        ("HOTA", &h.hota),
        ("DetA", &h.det_a),
        ("AssA", &h.ass_a),
        ("DetRe", &h.det_re),
        ("DetPr", &h.det_pr),
        ("AssRe", &h.ass_re),
        ("AssPr", &h.ass_pr),
        ("LocA", &h.loc_a),
        ("OWTA", &h.owta),
        ("HOTA_TP", &h.tp),
        ("HOTA_FN", &h.fn_),
        ("HOTA_FP", &h.fp),
    ] {
        for (i, ours) in values.iter().enumerate() {
            let theirs = &theirs["HOTA"][name];
            same(*ours, if theirs.is_array() { &theirs[i] } else { theirs }, &format!("{what} {name}[{i}]"));
        }
    }
    let (c, i) = (&ours.clear, &ours.identity);
    for (group, name, ours) in [
        ("CLEAR", "MOTA", c.mota),
        ("CLEAR", "MOTP", c.motp),
        ("CLEAR", "MODA", c.moda),
        ("CLEAR", "sMOTA", c.smota),
        ("CLEAR", "CLR_Re", c.recall),
        ("CLEAR", "CLR_Pr", c.precision),
        ("CLEAR", "CLR_F1", c.f1),
        ("CLEAR", "CLR_TP", c.tp),
        ("CLEAR", "CLR_FN", c.fn_),
        ("CLEAR", "CLR_FP", c.fp),
        ("CLEAR", "IDSW", c.id_switches),
        ("CLEAR", "MT", c.mostly_tracked),
        ("CLEAR", "PT", c.partly_tracked),
        ("CLEAR", "ML", c.mostly_lost),
        ("CLEAR", "Frag", c.fragments),
        ("Identity", "IDF1", i.idf1),
        ("Identity", "IDR", i.idr),
        ("Identity", "IDP", i.idp),
        ("Identity", "IDTP", i.idtp),
        ("Identity", "IDFN", i.idfn),
        ("Identity", "IDFP", i.idfp),
        ("Count", "Dets", ours.count.track_masks as f64),
        ("Count", "GT_Dets", ours.count.truth_masks as f64),
        ("Count", "IDs", ours.count.tracks as f64),
        ("Count", "GT_IDs", ours.count.objects as f64),
    ] {
        same(ours, &theirs[group][name], &format!("{what} {name}"));
    }
}

#[test]
fn hota_clear_and_identity_are_trackevals() {
    let run = |truth: &str, pred: String, wanted: Value, what: &str| {
        let options =
            TrackingOptions { truth: cases().join(truth), pred: cases().join(pred), list: None, remove_void: false };
        let report = track(&options).unwrap();
        for video in &report.videos {
            same_tracking(&video.score, &wanted[&video.video], &format!("{what} {}", video.video));
        }
        same_tracking(&report.combined, &wanted["COMBINED_SEQ"], what);
        report
    };
    for variant in names("davis_results", "") {
        let wanted = json(&format!("trackeval_expected/davis_{variant}.json"))["results"].take();
        let report = run("davis", format!("davis_results/{variant}"), wanted, &variant);
        assert!(report.notes[0].contains("g_void"), "{:?}", report.notes);
    }
    for variant in names("mots/trackers/MOTS-train", "") {
        let wanted = json(&format!("trackeval_expected/mots_{variant}.json"));
        run("mots/gt/MOTS-train", format!("mots/trackers/MOTS-train/{variant}"), wanted, &format!("MOTS {variant}"));
    }
}

#[test]
fn void_pixels_can_be_taken_out_of_the_tracks() {
    let options = |remove_void| TrackingOptions {
        truth: cases().join("davis"),
        pred: cases().join("davis_results/perfect"),
        list: None,
        remove_void,
    };
    let hota = |remove| Hota::mean(&track(&options(remove)).unwrap().combined.hota.hota);
    assert!(hota(false) < 1.0);
    assert_eq!(hota(true), 1.0);
}

fn tubes(
    pred: &str,
    protocol: TubeProtocol,
) -> Result<jetbench::score::tubes::TubeReport, jetbench::dataset::DataError> {
    // OVIS's truth is YouTube-VIS's with lists of occlusion.
    let mut truth = cases().join("ytvis/gt.json");
    let dir = tempfile::tempdir().unwrap();
    if protocol == TubeProtocol::Ovis {
        let (mut all, degrees) = (json("ytvis/gt.json"), json("ovis/occlusion.json"));
        for annotation in all["annotations"].as_array_mut().unwrap() {
            annotation["occlusion"] = degrees[annotation["id"].to_string()].clone();
        }
        truth = dir.path().join("gt.json");
        std::fs::write(&truth, all.to_string()).unwrap();
    }
    score_tubes(&TubeOptions { truth, pred: cases().join(pred), protocol })
}

fn same_averages(ours: &Averages, theirs: &Value, what: &str) {
    let ours = serde_json::to_value(ours).unwrap();
    let numbers = ours.as_object().unwrap().iter().filter(|(name, _)| *name != "categories");
    let mut compared = 0;
    for (name, ours) in numbers {
        // The tool's -1 is ours nothing.
        same(ours.as_f64().unwrap_or(-1.0), &theirs[name], &format!("{what} {name}"));
        compared += 1;
    }
    assert!(compared >= 12, "{what}: {ours}");
    for category in ours["categories"].as_array().unwrap().iter().filter(|_| theirs["per_category"].is_object()) {
        let theirs = &theirs["per_category"][category["id"].to_string()];
        same(category["AP"].as_f64().unwrap(), &theirs["AP"], &format!("{what} AP of {}", category["id"]));
        for (i, ours) in category["AR100"].as_array().unwrap().iter().enumerate() {
            same(ours.as_f64().unwrap(), &theirs["AR100"][i], &format!("{what} AR100[{i}] of {}", category["id"]));
        }
    }
}

#[test]
fn average_precision_is_youtube_vis_own() {
    for variant in names("ytvis/results", ".json") {
        let report = tubes(&format!("ytvis/results/{variant}.json"), TubeProtocol::YtVis).unwrap();
        let wanted = json(&format!("ytvis/expected/{variant}.json"));
        same_averages(&report.per_class, &wanted["per_class"], &variant);
        same_averages(&report.class_agnostic, &wanted["class_agnostic"], &format!("{variant}, pooled"));
    }
}

#[test]
fn average_precision_by_occlusion_is_ovis_own() {
    for variant in names("ytvis/results", ".json") {
        let report = tubes(&format!("ytvis/results/{variant}.json"), TubeProtocol::Ovis).unwrap();
        same_averages(&report.per_class, &json(&format!("ovis/expected/{variant}.json")), &format!("OVIS {variant}"));
    }
}

#[test]
fn odd_result_files_score_as_in_the_tool_or_are_refused() {
    let edge = json("ytvis/expected/edge.json");
    for case in names("ytvis/edge", ".json") {
        let key = format!("{case}.json");
        let ours = tubes(&format!("ytvis/edge/{key}"), TubeProtocol::YtVis);
        match ours {
            Ok(report) if edge[&key]["ok"] == true => same_averages(&report.per_class, &edge[&key], &case),
            Ok(report) => panic!("{case}: the tool fails, ours says {:?}", report.per_class.ap),
            // A bare NaN is no JSON.
            Err(fault) if case == "nan_score" => assert!(fault.0.contains("line 1"), "{fault}"),
            Err(fault) => {
                assert!(
                    edge[&key]["ok"] == false && fault.0.contains(&case),
                    "{case}: {fault}, the tool {:?}",
                    edge[&key]
                )
            }
        }
    }
}

#[test]
fn a_mots_line_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (truth, pred) = (dir.path().join("gt"), dir.path().join("pred"));
    let write = |side: &Path, text: &str| {
        std::fs::create_dir_all(side).unwrap();
        std::fs::write(side.join("a.txt"), text).unwrap();
    };
    let fault = |line: &str| {
        write(&truth, "1 1 2 2 2 4\n");
        write(&pred, &format!("1 1 2 2 2 13\n{line}\n"));
        let options = TrackingOptions { truth: truth.clone(), pred: pred.clone(), list: None, remove_void: false };
        track(&options).map(|r| r.videos.len()).unwrap_err().0
    };
    for (line, wanted) in [
        ("2 1 2 2 2", "expected `frame id class height width rle`"),
        ("2 x 2 2 2 4", "id \"x\" is no number"),
        ("0 1 2 2 2 4", "frames count from 1"),
        ("4294967295 1 2 2 2 4", "to 1000000 at most"),
        ("2 1 2 2 2 5", "do not fill 2x2 pixels"),
        ("2 1 2 4000000000 4000000000 4", "4000000000"),
        ("1 1 2 2 2 4", "id 1 is on frame 1 already"),
        ("1 2 2 2 2 31", "overlaps another one of its frame"),
        ("1 2 10 2 2 31", "overlaps another one of its frame"),
        ("1 2 2 3 2 6", "another size"),
        ("2 2 2 3 2 6", "another size"),
    ] {
        let fault = fault(line);
        assert!(fault.contains("a.txt:2") && fault.contains(wanted), "{line}: {fault}");
    }
}

#[test]
fn mots_files_that_do_not_go_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (truth, pred) = (dir.path().join("gt"), dir.path().join("pred"));
    let fault = |of_truth: &str, of_pred: &str, length: Option<&str>| {
        for (side, text) in [(&truth, of_truth), (&pred, of_pred)] {
            std::fs::create_dir_all(side).unwrap();
            std::fs::write(side.join("a.txt"), text).unwrap();
        }
        if let Some(length) = length {
            std::fs::create_dir_all(truth.join("b/gt")).unwrap();
            std::fs::rename(truth.join("a.txt"), truth.join("b/gt/gt.txt")).unwrap();
            std::fs::rename(pred.join("a.txt"), pred.join("b.txt")).unwrap();
            std::fs::write(truth.join("b/seqinfo.ini"), format!("[Sequence]\nseqLength={length}\n")).unwrap();
        }
        let options = TrackingOptions { truth: truth.clone(), pred: pred.clone(), list: None, remove_void: false };
        track(&options).map(|r| r.videos.len()).unwrap_err().0
    };
    let sizes = fault("1 1 2 2 2 4\n", "1 1 2 4 1 4\n", None);
    assert!(sizes.contains("masks of 1x4 pixels") && sizes.contains("are 2x2"), "{sizes}");
    let beyond = fault("1 1 2 2 2 4\n3 1 2 2 2 4\n", "1 1 2 2 2 4\n", Some("1"));
    assert!(beyond.contains("gt.txt: frame 3, but the video has 1"), "{beyond}");
    std::fs::write(truth.join("b.txt"), "1 1 2 2 2 4\n").unwrap();
    let both = fault("1 1 2 2 2 4\n", "1 1 2 2 2 4\n", None);
    assert!(both.contains("both b/ and b.txt are there"), "{both}");
}

#[test]
fn a_score_of_nothing_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (truth, pred) = (dir.path().join("gt"), dir.path().join("pred"));
    let notes = |of_truth: &str, of_pred: &str| {
        for (side, text) in [(&truth, of_truth), (&pred, of_pred)] {
            std::fs::create_dir_all(side).unwrap();
            std::fs::write(side.join("a.txt"), text).unwrap();
        }
        let options = TrackingOptions { truth: truth.clone(), pred: pred.clone(), list: None, remove_void: false };
        let report = track(&options).unwrap();
        (Hota::mean(&report.combined.hota.hota), report.notes)
    };
    let line = |class: u32| format!("1 1 {class} 2 2 04\n");
    assert_eq!(notes(&line(2), &line(2)), (1.0, vec![]));
    let (hota, said) = notes(&line(2), &line(1));
    assert_eq!(hota, 0.0);
    let wanted =
        "no track in the predictions of a (lines of class 1; class 2 is scored): every object there counts as missed";
    assert_eq!(said, [wanted]);
    let (_, said) = notes(&line(10), "");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("no object in the truth of a (lines of class 10; class 2 is scored): every track"));
    assert!(said[1].starts_with("no track in the predictions of a: every object"), "{said:?}");
}

#[test]
fn annotations_that_the_reference_reads_oddly_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (truth, pred) = (dir.path().join("gt.json"), dir.path().join("pred.json"));
    let masks = r#"[{"size": [2, 2], "counts": [0, 4]}]"#;
    std::fs::write(&pred, format!(r#"[{{"video_id": 1, "category_id": 1, "score": 0.5, "segmentations": {masks}}}]"#))
        .unwrap();
    let scored = |id: u32, area: i32| {
        let annotation = |id: u32| {
            format!(r#"{{"id": {id}, "video_id": 1, "category_id": 1, "segmentations": {masks}, "areas": [{area}]}}"#)
        };
        let all = format!("{}, {}", annotation(7), annotation(id));
        let text = format!(r#"{{"videos": [{{"id": 1}}], "categories": [{{"id": 1}}], "annotations": [{all}]}}"#);
        std::fs::write(&truth, text).unwrap();
        score_tubes(&TubeOptions { truth: truth.clone(), pred: pred.clone(), protocol: TubeProtocol::YtVis })
    };
    assert_eq!(scored(8, 4).unwrap().notes, Vec::<String>::new());
    let fault = scored(7, 4).unwrap_err().0;
    assert!(fault.contains("gt.json: annotation 7: two annotations have this id"), "{fault}");
    let report = scored(8, -4).unwrap();
    assert_eq!(report.per_class.ap, None);
    assert!(report.notes[0].starts_with("2 annotations: with an area below 0; one whose mean"), "{:?}", report.notes);
}

/// Masks are read video by video; what is said of a file with several faults does not tell.
#[test]
fn of_several_faults_the_first_of_the_files_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (truth, pred) = (dir.path().join("gt.json"), dir.path().join("pred.json"));
    let masks = |counts: &str| format!(r#"[{{"size": [2, 2], "counts": {counts}}}]"#);
    let annotation = |id: u32, video: u32, counts: &str| {
        let masks = masks(counts);
        format!(r#"{{"id": {id}, "video_id": {video}, "category_id": 1, "segmentations": {masks}, "areas": [4]}}"#)
    };
    let result = |video: u32, counts: &str| {
        let masks = masks(counts);
        format!(r#"{{"video_id": {video}, "category_id": 1, "score": 0.5, "segmentations": {masks}}}"#)
    };
    let fault = |annotations: &[String], results: &[String]| {
        let categories = r#"[{"id": 1, "name": "thing"}]"#;
        let annotations = annotations.join(", ");
        let text = format!(
            r#"{{"videos": [{{"id": 1}}, {{"id": 2}}], "categories": {categories}, "annotations": [{annotations}]}}"#
        );
        std::fs::write(&truth, text).unwrap();
        std::fs::write(&pred, format!("[{}]", results.join(", "))).unwrap();
        let options = TubeOptions { truth: truth.clone(), pred: pred.clone(), protocol: TubeProtocol::YtVis };
        score_tubes(&options).map(|_| ()).unwrap_err().0
    };
    let (good, short, none) = ("[0, 4]", "[0, 3]", "\"~\"");
    let (truths, broken) = ([annotation(5, 1, good)], [annotation(5, 2, none), annotation(6, 1, short)]);
    let results = [result(2, short), result(1, none), result(9, good)];
    let of_result = "pred.json: result 0: segmentations[0]: its run lengths do not fill 2x2 pixels";
    for count in [2, 3] {
        let said = fault(&truths, &results[..count]);
        assert!(said.ends_with(of_result), "{said}");
    }
    let of_truth = "gt.json: annotation 5: segmentations[0]: `counts` is not a COCO run-length text";
    for count in [1, 3] {
        let said = fault(&broken, &results[3 - count..]);
        assert!(said.ends_with(of_truth), "{said}");
    }
    let said = fault(&truths, &results[2..]);
    assert!(said.ends_with("pred.json: result 0: no video 9 in the truth"), "{said}");
}
