//! The main job without a prompt: what the shipped detector and video segmenter find and track, and what the label pack calls it.

use std::path::Path;

use serde_json::Value;

use super::{jetbench, real_packs, recorded, repository, stderr};

/// What a run says its objects are called, and how often each frame was timed for it.
fn labels_of(dir: &Path, record: &Value) -> Vec<(String, f64, u64)> {
    let cell = &record["cells"][0];
    assert_eq!(cell["labels"]["classes"], serde_json::json!(["round", "polygon", "star"]));
    let sequences = cell["sequences"].as_array().unwrap();
    let frames = || sequences.iter().flat_map(|s| s["frames"].as_array().unwrap());
    assert!(frames().any(|frame| frame["stages_ms"]["labels"].as_f64().is_some()), "crops are a stage of their own");
    assert!(sequences.iter().all(|s| s["labels"]["time_ms"].as_f64().unwrap() > 0.0));
    let objects: Vec<_> = sequences.iter().flat_map(|s| s["labels"]["objects"].as_array().unwrap()).collect();
    let rows = std::fs::read_to_string(dir.join("labels.csv")).unwrap().lines().count() - 1;
    assert_eq!(rows, objects.len());
    let of = |o: &&Value| {
        let label = o["label"].as_str().unwrap().to_string();
        (label, o["probability"].as_f64().unwrap(), o["crops"].as_u64().unwrap())
    };
    objects.iter().map(of).collect()
}

/// Objects that the prompts follow by script get a name that is better than half sure, and what is no label pack is refused.
#[test]
fn tracks_of_a_prompted_run_get_names() {
    if real_packs("tracks_of_a_prompted_run_get_names", true).is_none() {
        return;
    }
    let (dir, assets) = (tempfile::tempdir().unwrap(), repository().join("assets"));
    std::fs::create_dir(dir.path().join("mock")).unwrap();
    std::fs::write(dir.path().join("mock/pack.toml"), "schema = 1\nid = \"m\"\nfamily = \"mock\"\n").unwrap();
    let packs = assets.join("packs").display().to_string();
    let data = assets.join("demo").display().to_string();
    let args = ["--models", "m_mask", "--packs", "mock", "--packs", &packs, "--dtype", "fp32", "--data", &data];
    let short = ["--limit-videos", "2", "--limit-frames", "9", "--json", "--quiet"];
    let output = jetbench(dir.path(), &[&args[..], &short, &["--labels", "labels"]].concat());
    let (run, record) = recorded(dir.path(), &output);
    let found = labels_of(&run, &record);
    let objects = record["data"]["objects"].as_u64().unwrap();
    assert!(
        found.len() as u64 == objects && found.iter().all(|(_, p, n)| *p >= 0.5 && (1..=8).contains(n)),
        "{found:?}"
    );
    for (wrong, words) in [("dfine_mini", "is of family dfine"), ("nonesuch", "no pack `nonesuch`")] {
        let output = jetbench(dir.path(), &[&args[..], &["--labels", wrong]].concat());
        let said = stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains(words), "{words}: {said}");
    }
    let args = ["--models", "labels_mini_points", "--packs", &packs, "--dtype", "fp32", "--data", &data];
    let said = stderr(&jetbench(dir.path(), &args));
    assert!(said.contains("--labels labels_mini"), "{said}");
}

/// A detector founds what a tracker carries, with the weights that come with the program; what it carries gets names.
#[test]
fn the_miniatures_find_and_track_without_a_prompt() {
    if real_packs("the_miniatures_find_and_track_without_a_prompt", true).is_none() {
        return;
    }
    let (dir, assets) = (tempfile::tempdir().unwrap(), repository().join("assets"));
    let [packs, data] = ["packs", "demo"].map(|name| assets.join(name).display().to_string());
    let models =
        ["--models", "sam2_dfine", "--labels", "labels", "--dtype", "fp32", "--packs", &packs, "--data", &data];
    let output = jetbench(
        dir.path(),
        &[&models[..], &["--limit-videos", "2", "--limit-frames", "16", "--json", "--quiet"]].concat(),
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (run, record) = recorded(dir.path(), &output);
    let summary = &record["cells"][0]["summary"];
    assert!(summary["jf"].is_null(), "J&F is of prompted objects: {summary:#}");
    assert!(summary["found"]["scores"]["jf"].as_f64().unwrap() > 60.0, "{summary:#}");
    let named = labels_of(&run, &record);
    assert_eq!(
        Some(named.len() as u64),
        summary["found"]["confirmed"].as_u64(),
        "tracks that were taken back have none"
    );
}

#[test]
fn a_detectors_copies_are_listed_beside_the_trackers() {
    let Some(packs) = real_packs("a_detectors_copies_are_listed_beside_the_trackers", true) else { return };
    if !packs.iter().any(|pack| pack.id == "sam2_mini") {
        return;
    }
    let args = [
        "audit",
        "--models",
        "sam2_mini_dfine_mini",
        "--dtype",
        "fp32",
        "--frames",
        "6",
        "--fail-on",
        "critical",
        "--json",
    ];
    let output = jetbench(repository(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let items = report["items"].as_array().unwrap();
    let of = |component: &str, tensor: &str| {
        let item = items.iter().find(|i| i["component"] == component && i["tensor"] == tensor).unwrap();
        let number = |key: &str| item[key].as_f64().unwrap();
        (
            item["severity"].as_str().unwrap(),
            item["place"].as_str().unwrap(),
            number("count_per_frame"),
            number("bytes"),
        )
    };
    // It looks at frames 0 and 5 of six: 256 px, 32 queries of one class.
    let [third, frame] = [2.0 / 6.0, 3.0 * 256.0 * 256.0 * 4.0];
    assert_eq!(of("detector", "image"), ("expected", "frame to detector", third, f64::round(frame * third)));
    assert_eq!(of("detector", "logits"), ("expected", "detector to association", third, 43.0));
    assert_eq!(of("detector", "pred_boxes"), ("expected", "detector to association", third, 171.0));
    assert_eq!(of("image_encoder", "image"), ("expected", "frame to image encoder", 1.0, frame));
    let graphs: Vec<&str> = report["graphs"].as_array().unwrap().iter().map(|g| g["graph"].as_str().unwrap()).collect();
    assert!(["detector", "image_encoder", "memory_attention"].iter().all(|name| graphs.contains(name)), "{graphs:?}");
}

/// So are those that find their objects themselves, on the frames of their reference; what a stored reference cannot judge is refused.
#[test]
fn detectors_and_segmenters_are_compared_with_themselves() {
    if real_packs("detectors_and_segmenters_are_compared_with_themselves", true).is_none() {
        return;
    }
    let verify = |pack: &str, more: &[&str]| {
        let pack = format!("assets/packs/{pack}");
        let output = jetbench(repository(), &[&["verify", &pack, "--frames", "9", "--json"], more].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), report["pass"].as_bool(), report, stderr(&output))
    };
    for pack in ["dfine_mini", "videomt_mini"] {
        for (more, passes) in [
            (&[][..], true),
            (&["--dtype", "bf16"], true),
            (&["--threads", "1", "--against", "threads=2"], true),
            (&["--against", "dtype=bf16"], true),
        ] {
            let (code, pass, report, said) = verify(pack, more);
            assert_eq!((code, pass), (Some(0), Some(passes)), "{pack} {more:?}: {said} {}", report["failures"]);
            let against = more.contains(&"--against");
            assert_eq!(report["b"]["reference"].is_null(), against, "{}", report["b"]);
            assert_eq!(report["frames"].as_array().unwrap().len(), 9);
            // Rounding to bf16 shows, and other threads add in another order at the most.
            let largest = report["frames"].as_array().unwrap().iter().filter_map(|f| f["logits"].as_f64());
            let largest = largest.fold(0.0, f64::max);
            assert_eq!(
                largest > 1e-3,
                more.contains(&"bf16") || more.contains(&"dtype=bf16"),
                "{pack} {more:?}: {largest}"
            );
        }
        let (code, .., said) = verify(pack, &["--against", "dtype=bf16", "--max-abs", "1"]);
        assert!(code == Some(2) && said.contains("a limit for trackers"), "{said}");
        let (code, .., said) = verify(pack, &["--option", "memory=gated"]);
        assert!(code == Some(2) && said.contains("of no effect on pack"), "{said}");
    }
    for more in [&[][..], &["--threads", "1", "--against", "threads=2"]] {
        let (code, pass, report, said) = verify("dvis_mini", more);
        assert_eq!((code, pass), (Some(0), Some(true)), "{more:?}: {said} {report:#}");
    }
    // With a lower threshold there are objects on one side only.
    let (code, pass, report, _) = verify("videomt_mini", &["--against", "query_score=0.02"]);
    assert_eq!((code, pass), (Some(1), Some(false)), "{}", report["objects"]);
    assert!(report["objects"][1].as_u64().unwrap() > 0);
    let (code, .., said) = verify("videomt_mini", &["--option", "query_score=0.1"]);
    assert!(code == Some(2) && said.contains("query_score=0.5 and overlaps=exclusive"), "{said}");
}

/// The video segmenters that come with the program find and follow, without a prompt or a detector; their tracks get names, too.
#[test]
fn the_miniature_segmenters_find_and_track_by_themselves() {
    if real_packs("the_miniature_segmenters_find_and_track_by_themselves", true).is_some() {
        ["videomt_mini", "dvis_mini"].into_iter().for_each(finds_and_tracks);
    }
}

fn finds_and_tracks(model: &str) {
    let (dir, assets) = (tempfile::tempdir().unwrap(), repository().join("assets"));
    let [packs, data] = ["packs", "demo"].map(|name| assets.join(name).display().to_string());
    let models = ["--models", model, "--labels", "labels", "--dtype", "fp32", "--packs", &packs, "--data", &data];
    let short = ["--limit-videos", "2", "--limit-frames", "16", "--memory-budget", "4GiB", "--json", "--quiet"];
    let output = jetbench(dir.path(), &[&models[..], &short].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (run, record) = recorded(dir.path(), &output);
    let cell = &record["cells"][0];
    assert_eq!(cell["labels"]["licence"], "Apache-2.0");
    let found = &cell["summary"]["found"];
    assert!(found["scores"]["jf"].as_f64().unwrap() > 40.0, "{model}: {found:#}");
    // Each track that shows on any frame has a name.
    let named = labels_of(&run, &record).len() as u64;
    assert_eq!(Some(named), found["confirmed"].as_u64());
}

/// They share frames among their objects where panoptic segments are asked for, and what is saved are these.
#[test]
fn the_miniature_segmenters_make_panoptic_segments() {
    if real_packs("the_miniature_segmenters_make_panoptic_segments", true).is_none() {
        return;
    }
    let (dir, assets) = (tempfile::tempdir().unwrap(), repository().join("assets"));
    let [packs, data] = ["packs", "demo"].map(|name| assets.join(name).display().to_string());
    let places = ["--dtype", "fp32", "--packs", &packs, "--data", &data, "--memory-budget", "4GiB"];
    let short = ["--limit-videos", "2", "--limit-frames", "8", "--min-frames", "1", "--json", "--quiet"];
    let run = |more: &[&str]| jetbench(dir.path(), &[&places[..], &short, more].concat());
    let both = ["--models", "dvis_mini,videomt_mini", "--option", "panoptic=on"];
    let output = run(&[&both[..], &["--save-masks=vipseg"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (run_dir, record) = recorded(dir.path(), &output);
    for cell in record["cells"].as_array().unwrap() {
        let model = cell["model"].as_str().unwrap();
        assert!(cell["summary"]["found"]["scores"]["jf"].as_f64().unwrap() > 40.0, "{model}: {:#}", cell["summary"]);
        let notes = cell["notes"].to_string();
        assert!(notes.contains("panoptic segments: a pixel is that of the object"), "{model}: {notes}");
        let masks = run_dir.join("masks").join(format!("{model}-fp32-cpu"));
        let list: Value = serde_json::from_slice(&std::fs::read(masks.join("pred.json")).unwrap()).unwrap();
        for video in list["annotations"].as_array().unwrap() {
            let frames = video["annotations"].as_array().unwrap();
            assert_eq!(frames.len(), 8, "{model}");
            let segments = frames.iter().flat_map(|frame| frame["segments_info"].as_array().unwrap());
            assert!(segments.count() >= 8, "{model}");
            let name = Path::new(video["video_id"].as_str().unwrap()).join("00003.png");
            assert!(masks.join("pan_pred").join(&name).is_file(), "{model}: {}", name.display());
        }
    }
    for (more, fault) in [
        (
            &["--models", "videomt_mini", "--option", "panoptic=on", "--option", "overlaps=keep"][..],
            "exclusive beside panoptic=on",
        ),
        (
            &["--models", "videomt_mini", "--option", "panoptic=on", "--option", "query_score=0.4"],
            "option query_score: expected none beside panoptic=on",
        ),
        (
            &["--models", "dvis_mini_mask", "--option", "panoptic=on"],
            "objects that are prompted take tracks with whole masks",
        ),
    ] {
        let output = run(more);
        let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(2) && said.contains(fault), "{said}");
    }
    for pack in ["dvis_mini", "videomt_mini"] {
        let pack = assets.join("packs").join(pack).display().to_string();
        let output =
            jetbench(dir.path(), &["verify", &pack, "--dtype", "fp32", "--frames", "1", "--option", "panoptic=on"]);
        let said = stderr(&output);
        assert!(output.status.code() == Some(2) && said.contains("before objects share a frame among them"), "{said}");
    }
}

/// Their tracks are taken by objects that are prompted, on the frame of each prompt; nothing is found that was not asked for.
#[test]
fn prompted_objects_take_the_tracks_of_the_miniature_segmenters() {
    if real_packs("prompted_objects_take_the_tracks_of_the_miniature_segmenters", true).is_none() {
        return;
    }
    let (dir, assets) = (tempfile::tempdir().unwrap(), repository().join("assets"));
    let [packs, data] = ["packs", "demo"].map(|name| assets.join(name).display().to_string());
    let models = ["--models", "dvis_mini_mask,videomt_mini_bbox,dvis_mini_points", "--dtype", "fp32"];
    let short = ["--limit-videos", "1", "--limit-frames", "10", "--min-frames", "1", "--memory-budget", "4GiB"];
    let places = ["--packs", &packs, "--data", &data, "--json", "--quiet"];
    let output = jetbench(dir.path(), &[&models[..], &short, &places].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (_, record) = recorded(dir.path(), &output);
    for cell in record["cells"].as_array().unwrap() {
        let (model, sequence) = (&cell["model"], &cell["sequences"][0]);
        assert!(sequence["found"].is_null() && cell["detector"].is_null(), "{model}");
        let objects = sequence["objects"].as_array().unwrap();
        for taken in objects.iter().map(|object| &object["taken"]) {
            assert!(taken["track"].as_u64().is_some(), "{model}: {taken}");
            assert_eq!(
                taken["iou"].as_f64().is_some_and(|iou| iou > 0.7),
                cell["prompt"] != "points",
                "{model}: {taken}"
            );
        }
        let all = sequence["frames"].as_array().unwrap().iter().all(|frame| frame["objects"] == objects.len());
        assert!(all, "{model}: a mask per object and frame, and none of other tracks");
        assert!(cell["summary"]["jf"].as_f64().unwrap() > 60.0, "{model}: {:#}", cell["summary"]);
    }
}
