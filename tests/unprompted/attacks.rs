//! The attacks and odd inputs of docs/trust.md on runs that nobody prompts, where such runs have something of their own: tracks, classes,
//! label packs. Those with the shipped packs need ONNX Runtime.

use std::io::Write;
use std::path::{Path, PathBuf};

use jetbench::dataset::{LabelMasks, Layout};
use jetbench::results::record::{CellRecord, Verdict};
use jetbench_runners::runtime;
use serde_json::{Value, json};

use super::runs::{load, shop};
use crate::identity::changed_after_planning;
use crate::workshop::{Workshop, rows, text, tree};

/// A pack that finds and tracks by itself, as a video segmenter does.
fn alone(shop: &Workshop, mock: &str, classes: &[&str]) {
    let dir = shop.path("packs/alone");
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "schema = 1\nid = \"alone\"\nfamily = \"mock\"\n[mock]\nprompts = [\"detector\"]\n{mock}\n[detector]\nclasses = {}\n",
        json!(classes)
    );
    std::fs::write(dir.join("pack.toml"), text).unwrap();
}

/// A shipped pack under the packs of a workshop.
fn shipped(shop: &Workshop, pack: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/packs").join(pack);
    let to = shop.path("packs").join(pack);
    for file in tree(&from).iter().filter(|file| !file.starts_with("reference/")) {
        std::fs::create_dir_all(to.join(file).parent().unwrap()).unwrap();
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
    to
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} is not in {}", file.display());
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// `None`: there is no ONNX Runtime, which is said.
fn library(test: &str) -> Option<String> {
    let found = runtime::probe(None).chosen.map(|library| library.display().to_string());
    if found.is_none() {
        let _ = writeln!(std::io::stderr(), "skipped {test}: no ONNX Runtime");
    }
    found
}

#[test]
fn forged_tracks_and_labels_are_named() {
    let shop = shop(Layout::Davis2017, 1, 21);
    let run = shop.run(&["--models", "walk_look"]);
    let (dir, file) = (run.to_str().unwrap(), run.join("run.json"));
    let whole: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let named = |record: &Value, args: &[&str], words: &str| {
        std::fs::write(&file, record.to_string()).unwrap();
        let output = shop.output(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {said}");
        assert!(said.contains("run.json") && said.contains(words), "{words}: {said}");
    };
    let with = |place: &str, value: Value| {
        let mut record = whole.clone();
        *record.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value;
        record
    };
    let (video, summary) = ("/cells/0/sequences/0/found", "/cells/0/summary/found");
    for (place, value, words) in [
        (format!("{summary}/scores/hota"), json!(999.0), "hota is 999"),
        (format!("{summary}/scores/ap"), json!(12.5), "ap is Some(12.5), its sequences give"),
        (format!("{summary}/confirmed"), json!(9), "9 confirmed"),
        (summary.to_string(), Value::Null, "found is false, its sequences give true"),
        (video.to_string(), Value::Null, "no tracks, and its objects are found"),
        (format!("{video}/tracks/0/score"), json!(7.0), "track 1: score is 7"),
        (format!("{video}/tracks/0/end"), json!(3), "is none of its own (0 to 3)"),
        (format!("{video}/tracks/1/number"), json!(1), "track number 1 stands where 2 is expected"),
        (format!("{video}/scores/best_iou/0"), json!(-0.5), "best_iou is -0.5"),
        (format!("{video}/scores/tubes/iou"), json!([]), "0 overlaps of 3 results and 2 objects"),
        (format!("{video}/scores/tracking/hota/ass_a"), json!([0.5]), "ass_a has 1 values"),
        (format!("{video}/scores/tracking/identity/idf1"), json!(1.5), "idf1 is 1.5"),
        (format!("{video}/scores/proposals/0/j"), json!(40.0), "j is 40"),
    ] {
        named(&with(&place, value), &["report", dir], words);
    }
    let of = |objects: Value, pack: bool| {
        let mut record = whole.clone();
        let cell = &mut record["cells"][0];
        cell["sequences"][0]["labels"] = json!({"objects": objects, "time_ms": 1.0, "left_out": 0});
        if pack {
            cell["labels"] = json!({"pack": "p", "classes": ["round"]});
        }
        record
    };
    let label = |probability: f64, second: f64, crops: u32| {
        json!([{"object": "1", "crops": crops, "label": "round", "probability": probability, "second": "star",
            "second_probability": second}])
    };
    named(&of(json!([]), false), &["report", dir], "labels, and there is no label pack");
    named(&of(label(1.5, 0.1, 3), true), &["report", dir], "label of \"1\": probability is 1.5");
    named(&of(label(0.2, 0.7, 3), true), &["report", dir], "its second class is likelier");
    named(&of(label(0.9, 0.1, 0), true), &["report", dir], "a class that no crop shows");
    // Every reader names it.
    let forged = with(&format!("{summary}/scores/hota"), json!(999.0));
    named(&forged, &["merge", dir, "--out", "joined"], "hota is 999");
    named(&forged, &["compare", dir, dir], "hota is 999");
    let output = shop.output(&["history"]);
    assert!(text(&output.stderr).contains("hota is 999"), "{}", text(&output.stderr));
    // Labels that can be are none.
    std::fs::write(&file, of(label(0.9, 0.1, 3), true).to_string()).unwrap();
    shop.expect(0, &["report", dir, "--quiet"]);
}

/// What a terminal, a browser or a spreadsheet would act on.
const HOSTILE: [&str; 3] = [
    "<script>alert(1)</script>",
    "=HYPERLINK(\"x\")\u{1b}]0;owned\u{7}\u{1b}[2J",
    "\"><img src=x onerror=a>,\u{202e}\n#",
];

fn acts(text: &str) -> Option<char> {
    text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202e}' | '\u{200b}'))
}

/// Nothing that a run left or printed acts on what shows it.
fn inert(shop: &Workshop, run: &Path, said: &str) {
    assert_eq!(acts(said), None, "{said:?}");
    for file in tree(run) {
        let path = run.join(&file);
        if !["html", "svg", "csv", "md"].iter().any(|end| file.ends_with(end)) {
            continue;
        }
        let held = std::fs::read_to_string(&path).unwrap();
        for live in ["<script>alert", "<img src=x"] {
            assert!(file.ends_with("csv") || !held.contains(live), "{file}: {live}");
        }
        if file.ends_with("csv") {
            let formula = rows(&path).into_iter().flatten().find(|field| field.starts_with(['=', '+', '@']));
            assert_eq!(formula, None, "{file}");
        }
    }
    let dir = run.to_str().unwrap();
    for args in [&["report", dir][..], &["compare", dir, dir], &["history"], &["packs", "inspect", "packs/alone"]] {
        let output = shop.output(args);
        assert_eq!(acts(&(text(&output.stdout) + &text(&output.stderr))), None, "{args:?}");
    }
}

#[test]
fn classes_with_markup_escapes_and_formulas_stay_text() {
    let shop = shop(Layout::YoutubeVos, 1, 21);
    let script = std::fs::read_to_string(shop.path("packs/walk/pack.toml")).unwrap();
    let mock = script.split_once("[mock]\n").unwrap().1.replace("end = 11\n", "label = 2\nend = 11\n");
    alone(&shop, &mock, &HOSTILE);
    // Categories of the truth, too, which decide what is scored by class.
    let objects = json!({"1": {"category": HOSTILE[2]}, "2": {"category": HOSTILE[1]}});
    std::fs::write(shop.path("data/meta.json"), json!({"videos": {"synth_000": {"objects": objects}}}).to_string())
        .unwrap();
    let output = shop.output(&[
        "--models",
        "alone",
        "--dtype",
        "fp32",
        "--data",
        "data",
        "--overlays=png",
        "--save-masks=ytvis",
        "--verbose",
    ]);
    let run = shop.runs("results").remove(0);
    let (_, cell) = load(&run);
    assert_eq!(cell.verdict, Verdict::Valid, "{}", cell.verdict.reasons());
    assert_eq!(cell.detector.as_ref().unwrap().classes, HOSTILE);
    let scores = cell.summary.as_ref().unwrap().found.unwrap().scores.unwrap();
    assert_eq!(scores.categories, Some(2), "they are compared as what they are");
    let table = rows(&run.join("found.csv"));
    let class = table[0].iter().position(|name| name == "label" || name == "class").unwrap();
    let classes: std::collections::BTreeSet<&str> = table[1..].iter().map(|row| row[class].as_str()).collect();
    assert!(classes.contains(HOSTILE[2]) && classes.contains(&*format!("'{}", HOSTILE[1])), "{classes:?}");
    inert(&shop, &run, &(text(&output.stdout) + &text(&output.stderr)));
}

/// Label maps of 8 bits have 254 ids.
#[test]
fn three_hundred_tracks_are_written_whole_and_are_no_result() {
    let shop = Workshop::of(Layout::Davis2017, 1, 21);
    let track = |n: u32| {
        let (x, y) = (n % 24 * 2, n / 24 * 2);
        format!("[[mock.track]]\nbirth = 0\nbox = [{x}, {y}, {}, {}]\n", x + 1, y + 1)
    };
    alone(&shop, &(0..300).map(track).collect::<String>(), &["dot"]);
    let written = |form: &str| {
        let run = shop.run(&["--models", "alone", &format!("--save-masks={form}"), "--out", form]);
        let (_, cell) = load(&run);
        let said = cell.verdict.reasons();
        assert!(
            said.contains("too many tracks: 300 in video synth_000") && said.contains("query_score"),
            "{form}: {said}"
        );
        assert!(cell.notes.iter().all(|note| !note.text.contains("missing or incomplete")), "{form}: {:?}", cell.notes);
        run.join("masks/alone-fp32-cpu")
    };
    let last = |folder: &Path| folder.join(tree(folder).last().unwrap());
    let ids: Vec<u16> = LabelMasks::read(&last(&written("png"))).unwrap().masks.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, (1..=300).collect::<Vec<_>>());
    let lines = std::fs::read_to_string(last(&written("mots"))).unwrap();
    assert_eq!(lines.lines().filter(|line| line.starts_with("21 ")).count(), 300);
    let results: Value = serde_json::from_slice(&std::fs::read(last(&written("ytvis"))).unwrap()).unwrap();
    assert_eq!(results.as_array().unwrap().len(), 300);
    let rle = std::fs::read_to_string(last(&written("rle"))).unwrap();
    assert!(rle.contains("\"300\""), "{}", &rle[..200]);
}

/// By the rules of DAVIS every number up to the highest id is an object: 40,000 of them took all memory after all tracking.
#[test]
fn wide_ids_of_the_truth_cost_no_run() {
    let shop = Workshop::of(Layout::Mose, 1, 21);
    for file in tree(&shop.path("data/Annotations")) {
        let ids = |x: u32| {
            if x < 12 {
                1_000u16
            } else if x > 30 {
                40_000
            } else {
                0
            }
        };
        let samples: Vec<u8> = (0..48 * 32).flat_map(|i| ids(i % 48).to_be_bytes()).collect();
        let mut encoder =
            png::Encoder::new(std::fs::File::create(shop.path("data/Annotations").join(file)).unwrap(), 48, 32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Sixteen);
        encoder.write_header().unwrap().write_image_data(&samples).unwrap();
    }
    alone(
        &shop,
        "[[mock.track]]\nbirth = 0\nbox = [0, 0, 11, 31]\n[[mock.track]]\nbirth = 0\nbox = [31, 0, 47, 31]\n",
        &["dot"],
    );
    let run = shop.run(&["--models", "alone", "--save-masks"]);
    let (_, cell) = load(&run);
    assert_eq!(cell.verdict, Verdict::Valid, "{}", cell.verdict.reasons());
    let scores = cell.summary.unwrap().found.unwrap().scores.unwrap();
    assert_eq!((scores.jf, scores.objects), (None, 0));
    assert!(scores.hota.unwrap() > 99.9 && scores.ap.unwrap() > 99.9, "{scores:?}");
    let said = shop.expect(0, &["--models", "alone", "--dtype", "fp32", "--data", "data", "--dry-run"]);
    assert!(said.contains("ids above 255") && said.contains("no J&F unsup"), "{said}");
    let output = shop.output(&["score", "data/Annotations", "data/Annotations", "--protocol", "davis2017-unsup"]);
    assert!(output.status.code() == Some(2) && !text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
}

/// What comes in realtime are steps of the model; tracks are told in frames of the video.
#[test]
fn tracks_of_a_clip_with_dropped_frames_are_those_of_its_frames() {
    let shop = Workshop::of(Layout::Davis2017, 1, 24);
    let tracks =
        "[[mock.track]]\nbirth = 0\nend = 2\nbox = [0, 0, 9, 9]\n[[mock.track]]\nbirth = 2\nbox = [20, 0, 29, 9]\n";
    alone(&shop, &format!("frame_ms = [100.0]\n{tracks}"), &["dot"]);
    let run =
        shop.run(&["--models", "alone", "--scenario", "realtime", "--fps", "24", "--min-frames", "1", "--save-masks"]);
    let (_, cell) = load(&run);
    let sequence = &cell.sequences[0];
    assert!(
        sequence.dropped.len() > 4 && sequence.frames.len() + sequence.dropped.len() == 24,
        "{:?}",
        sequence.dropped
    );
    let tracked: Vec<u32> = sequence.frames.iter().map(|frame| frame.frame).collect();
    let told: Vec<_> = sequence.found.as_ref().unwrap().tracks.iter().map(|t| (t.birth, t.end)).collect();
    assert_eq!(told, [(0, tracked[2]), (tracked[2], 24)], "of the frames {tracked:?}");
    for track in &sequence.found.as_ref().unwrap().tracks {
        assert!(track.frames.iter().all(|frame| tracked.contains(&frame.frame)), "{track:?}");
    }
}

/// A video, or a pack, that is another when its turn comes.
#[test]
fn what_changes_after_planning_gives_no_figure_of_found_tracks() {
    let shop = Workshop::of(Layout::Davis2017, 2, 21);
    let mock = "[[mock.track]]\nbirth = 0\nbox = [0, 0, 9, 9]\n";
    alone(&shop, mock, &["dot"]);
    let args = ["--models", "alone", "--dtype", "fp32", "--data", "data"];
    let (code, _, run) = changed_after_planning(&shop, &args, || alone(&shop, mock, &["ring"]));
    let (_, cell) = load(&run);
    assert_eq!((code, cell.verdict.as_str()), (Some(2), "failed"));
    assert!(cell.verdict.reasons().contains("changed since it was planned"), "{}", cell.verdict.reasons());
    let second = shop.path("data/JPEGImages/480p/synth_001");
    let (code, said, run) =
        changed_after_planning(&shop, &args, || std::fs::rename(&second, shop.path("away")).unwrap());
    let (_, cell) = load(&run);
    assert_ne!((code, cell.verdict.as_str()), (Some(0), "valid"), "{said}");
    let reasons = cell.verdict.reasons();
    assert!(cell.sequences.len() < 2 && reasons.contains("synth_001"), "{reasons}");
}

/// The same of shipped packs: a video segmenter's graph, a label pack's vectors, the manifests of both.
#[test]
fn packs_that_are_replaced_after_planning_find_and_name_nothing() {
    let Some(lib) = library("packs_that_are_replaced_after_planning_find_and_name_nothing") else { return };
    let shop = Workshop::of(Layout::Davis2017, 1, 9);
    let segmenter = shipped(&shop, "videomt_mini");
    let labels = shipped(&shop, "labels_mini");
    shop.pack("calm", "motion = [1.0, 0.0]");
    let graph = tree(&segmenter).into_iter().find(|file| file.starts_with("fp32/") && file.ends_with(".onnx")).unwrap();
    let attempt = |models: &str, words: &str, change: &dyn Fn(), undo: &dyn Fn()| {
        let args =
            ["--models", models, "--labels", "labels_mini", "--dtype", "fp32", "--data", "data", "--ort-lib", &lib];
        let (code, said, run) = changed_after_planning(&shop, &args, change);
        let (_, cell) = load(&run);
        assert_eq!((code, cell.verdict.as_str()), (Some(2), "failed"), "{words}: {said}");
        assert!(
            cell.verdict.reasons().contains(words) && cell.sequences.is_empty(),
            "{words}: {}",
            cell.verdict.reasons()
        );
        undo();
    };
    let manifest = |pack: &Path| pack.join("pack.toml");
    for pack in [&segmenter, &labels] {
        let swap = |from, to| edit(&manifest(pack), from, to);
        attempt(
            "videomt_mini",
            "changed since it was planned",
            &|| swap("description = \"", "description = \"A"),
            &|| swap("description = \"A", "description = \""),
        );
    }
    let middle = std::fs::metadata(segmenter.join(&graph)).unwrap().len() as usize / 2;
    let weights = || flip(&segmenter.join(&graph), middle);
    attempt("videomt_mini", "SHA-256 is", &weights, &weights);
    let vectors = || flip(&labels.join("labels.safetensors"), 500);
    attempt("calm_mask", "labels.safetensors: SHA-256 is", &vectors, &vectors);
}

fn frame(path: &Path, (width, height): (u32, u32), n: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Something to find: noise around an even block in the middle, half as wide and high as the frame.
    let inside = |i: u32, size: u32| (size..3 * size).contains(&(4 * i + 2));
    let data: Vec<u8> = (0..width * height)
        .map(
            |i| if inside(i % width, width) && inside(i / width, height) { 220 } else { ((i * 37 + n * 5) % 90) as u8 },
        )
        .collect();
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
}

/// A block in grey frames of one pixel, long, narrow, and a video of one frame, through the shipped video segmenter and label pack, whose classes have
/// hostile names here.
#[test]
fn odd_frames_are_segmented_and_hostile_labels_stay_text() {
    let Some(lib) = library("odd_frames_are_segmented_and_hostile_labels_stay_text") else { return };
    let shop = Workshop::empty();
    let sizes = [("dot", (1, 1), 3), ("long", (400, 2), 3), ("narrow", (2, 400), 3), ("one", (37, 29), 1)];
    for (video, size, frames) in sizes {
        (0..frames).for_each(|n| frame(&shop.path(&format!("data/JPEGImages_24fps/{video}/{n:05}.png")), size, n));
    }
    let pack = shipped(&shop, "videomt_mini");
    edit(&pack.join("pack.toml"), "classes = [\"object\"]", &format!("classes = {}", json!([HOSTILE[0]])));
    let labels = shipped(&shop, "labels_mini");
    edit(
        &labels.join("pack.toml"),
        "classes = [\"round\", \"polygon\", \"star\"]",
        &format!("classes = {}", json!(HOSTILE)),
    );
    let job =
        ["--models", "videomt_mini", "--labels", "labels_mini", "--dtype", "fp32", "--data", "data", "--ort-lib", &lib];
    let more = ["--option", "query_score=0", "--min-frames", "1", "--save-masks=rle", "--overlays=png", "--verbose"];
    let output = shop.output(&[&job[..], &more].concat());
    let said = text(&output.stdout) + &text(&output.stderr);
    let run = shop.runs("results").remove(0);
    let (_, cell) = load(&run);
    assert_eq!(cell.verdict, Verdict::Valid, "{}: {said}", cell.verdict.reasons());
    let told = |cell: &CellRecord| -> Vec<(String, (u32, u32), usize)> {
        cell.sequences.iter().map(|s| (s.video.clone(), (s.width, s.height), s.frames.len())).collect()
    };
    assert_eq!(told(&cell), sizes.map(|(video, size, frames)| (video.to_string(), size, frames as usize)));
    for sequence in &cell.sequences {
        let found = sequence.found.as_ref().unwrap();
        let names = &sequence.labels.as_ref().unwrap().objects;
        assert_eq!(names.len(), found.tracks.len(), "{}", sequence.video);
        assert!(names.iter().all(|name| name.label.as_ref().is_none_or(|label| HOSTILE.contains(&label.as_str()))));
        let (named, tracks) = (names.iter().filter(|name| name.label.is_some()).count(), found.tracks.len());
        // A pixel alone may belong to nothing, and of masks that overlap only one may be left.
        assert!(named > 0 || sequence.video == "dot" && tracks == 0, "{}: {named} of {tracks}", sequence.video);
        assert!(run.join("masks/videomt_mini-fp32-cpu").join(format!("{}.rle.jsonl", sequence.video)).is_file());
    }
    alone(&shop, "", &HOSTILE);
    inert(&shop, &run, &said);
    for pack in [&pack, &labels] {
        let output = shop.output(&["packs", "inspect", pack.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(acts(&text(&output.stdout)), None, "{}", text(&output.stdout));
    }
}
