//! Segmenters drawn by hand, whose answers are known beforehand. The tests that run them need ONNX Runtime.

use std::path::Path;

use super::Follower;
use super::contract::{STATES, Sizes, sizes};
use super::life::{Entry, Lives, Told};
use crate::digest::sha256_hex;
use crate::manifest::FILE_NAME;
use crate::manifest::panoptic::PanopticSpec;
use crate::manifest::tracks::{Fit, TracksSpec};
use crate::onnx::{ElementType, build};
use crate::pack::Pack;
use crate::runner::{Runner, RunnerError};
use crate::segment::panoptic::Panoptic;
use crate::study::chains::{compare_with, observe};
use crate::study::frames::FrameAnswer;
use crate::types::{Device, Dtype, Frame, Mask, OpenRequest, Options, Prompt, PromptKind, PromptShape};

const RULES: TracksSpec = TracksSpec {
    slots: 3,
    background: 1,
    slot_branch: true,
    select_score: 0.1,
    first_score: 0.01,
    keep_score: 0.01,
    kick_out_frames: 8,
    noise_frames: 2,
    most: 2,
};

fn drawn_sizes() -> Sizes {
    Sizes {
        input: [32, 32],
        coarse: [8, 8],
        fit: Fit { width: 32, height: 18 },
        queries: 4,
        channels: 2,
        classes: 2,
        rules: RULES,
    }
}

fn told<'a>(logits: &'a [f32], source: &'a [f32], seen: &'a [f32], total: f32) -> Told<'a> {
    Told { logits, source, seen, total }
}

#[test]
fn tracks_keep_their_numbers_as_they_move_between_slots() {
    let mut lives = Lives::new(drawn_sizes());
    let (sure, unsure) = ([4.0, 0.0, 0.0], [0.0, 0.0, 4.0]);
    let logits = [sure, unsure, [0.0, 2.0, 0.0]].concat();
    assert!(lives.frame(&told(&logits, &[3.0, 5.0, 1e6], &[1.0, 1.0, 0.0], 2.0)));
    assert!(lives.frame(&told(&logits, &[0.0, 1.0, 4.0], &[0.0, 1.0, 1.0], 5.0)), "two births have no slot");
    assert_eq!(lives.live().iter().map(|e| (e.id, e.seen)).collect::<Vec<_>>(), [(1, false), (2, true), (3, true)]);
    // The first is dead; the others move up.
    assert!(lives.frame(&told(&logits, &[1.0, 2.0, 1e6], &[1.0, 0.0, 0.0], 2.0)));
    assert_eq!(lives.live(), [Entry { id: 2, seen: true }, Entry { id: 3, seen: false }]);
    let found = lives.tracks(None);
    assert_eq!((found.counts.detector_frames, found.counts.dropped, found.counts.detections), (3, 2, 5));
    let list: Vec<_> = found.tracks.iter().map(|t| (t.id, t.birth, t.end, t.hits, t.label)).collect();
    assert_eq!(list, [(1, 0, 2, 1, 0), (2, 0, 3, 3, 0), (3, 1, 3, 1, 1)]);
    // Means: of the second (0, 0, 4), (0, 0, 4), (4, 0, 0); of the third (0, 2, 0), (0, 0, 4).
    let share = |logits: [f64; 3], at: usize| logits[at].exp() / logits.iter().map(|l| l.exp()).sum::<f64>();
    let scores = [share([4.0, 0.0, 0.0], 0), share([4.0 / 3.0, 0.0, 8.0 / 3.0], 0), share([0.0, 1.0, 2.0], 1)];
    for (track, score) in found.tracks.iter().zip(scores) {
        assert!((track.score - score).abs() < 1e-9, "{track:?}, not {score}");
    }
    // Two pairs are in the result: the first track's and the third's.
    assert_eq!(found.tracks.iter().map(|t| t.confirmed).collect::<Vec<_>>(), [true, false, true]);
    lives.reset();
    assert!(lives.live().is_empty() && lives.tracks(None).tracks.is_empty());
}

#[test]
fn short_tracks_are_noise_unless_they_live_to_the_end() {
    let mut lives = Lives::new(Sizes { rules: TracksSpec { most: 100, ..RULES }, ..drawn_sizes() });
    let logits = [0.0; 9];
    assert!(lives.frame(&told(&logits, &[3.0, 4.0, 1e6], &[1.0; 3], 2.0)));
    assert!(lives.frame(&told(&logits, &[1.0, 3.0, 1e6], &[1.0; 3], 2.0)));
    assert_eq!(lives.tracks(None).tracks.iter().map(|t| t.confirmed).collect::<Vec<_>>(), [false, true, true]);
    assert!(lives.frame(&told(&logits, &[0.0, 1e6, 1e6], &[1.0; 3], 1.0)));
    assert_eq!(lives.tracks(None).tracks.iter().map(|t| t.confirmed).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn of_panoptic_segments_the_sure_tracks_that_last_are_the_result() {
    let mut lives = Lives::new(drawn_sizes());
    let panoptic = Panoptic::new(PanopticSpec { score: 0.9, ..PanopticSpec::default() });
    let share = |lives: &Lives, id: u32| lives.share_of(id, &panoptic);
    let (sure, unsure) = ([4.0, 0.0, 0.0], [1.0, 0.0, 4.0]);
    assert!(lives.frame(&told(&[sure, sure, sure].concat(), &[3.0, 4.0, 5.0], &[1.0; 3], 3.0)));
    let wanted = 4f64.exp() / (4f64.exp() + 2.0);
    assert!((share(&lives, 2).unwrap() - wanted).abs() < 1e-12);
    // The second is no object any more by its mean, the third is gone.
    assert!(lives.frame(&told(&[sure, unsure, unsure].concat(), &[0.0, 1.0, 1e6], &[1.0; 3], 2.0)));
    assert!(share(&lives, 1).is_some() && share(&lives, 2).is_none());
    let hits = |lives: &Lives| lives.tracks(Some(&panoptic)).tracks.iter().map(|t| t.hits).collect::<Vec<_>>();
    assert_eq!(
        (hits(&lives), lives.tracks(Some(&panoptic)).counts.detections),
        (vec![0; 3], 0),
        "nobody had a segment"
    );
    assert!(lives.tracks(Some(&panoptic)).tracks.iter().all(|track| !track.confirmed));
    [1, 1, 3].into_iter().for_each(|id| lives.has_segment(id));
    assert_eq!((hits(&lives), lives.tracks(Some(&panoptic)).counts.detections), (vec![2, 0, 1], 3));
    let confirmed = |panoptic| lives.tracks(panoptic).tracks.iter().map(|t| t.confirmed).collect::<Vec<_>>();
    assert_eq!(confirmed(Some(&panoptic)), [true, false, false], "sure; unsure; too short");
    assert_eq!(confirmed(None), [true, true, false]);
}

#[test]
fn what_cannot_be_is_refused() {
    let logits = [0.0; 9];
    for (source, total) in [(1.0, 1.0), (7.0, 1.0), (-1.0, 1.0), (f32::NAN, 1.0), (3.0, f32::NAN), (3.0, 8.0)] {
        let mut lives = Lives::new(drawn_sizes());
        assert!(!lives.frame(&told(&logits, &[source, 3.0, 3.0], &[1.0; 3], total)), "{source}, {total}");
    }
    for (source, seen, total) in [
        ([3.0, 3.0, 1e6], 1.0, 2.0),
        ([4.0, 3.0, 1e6], 1.0, 2.0),
        ([3.5, 4.0, 1e6], 1.0, 2.0),
        ([3.0, 4.0, 1e6], 1.0, 1.5),
        ([3.0, 4.0, 1e6], f32::NAN, 2.0),
    ] {
        let mut lives = Lives::new(drawn_sizes());
        assert!(!lives.frame(&told(&logits, &source, &[seen; 3], total)), "{source:?}, {seen}, {total}");
    }
    let mut lives = Lives::new(drawn_sizes());
    assert!(!lives.frame(&told(&[f32::NAN; 9], &[3.0, 3.0, 3.0], &[1.0; 3], 1.0)));
    assert!(lives.frame(&told(&[f32::NAN; 9], &[3.0, 3.0, 3.0], &[1.0; 3], 0.0)), "what is in empty slots is nobody's");
}

#[test]
fn slots_ask_for_the_queries_that_they_are_assigned() {
    let mut lives = Lives::new(drawn_sizes());
    let logits = [0.0; 9];
    let mut matched = [9; 4];
    // Two tracks and a background prefer query 0; the sum is least where the second has 1 and the background 3.
    let similarity = [0.9, 0.1, 0.0, 0.0, 0.8, 0.7, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.9, 0.2, 0.2, 0.8];
    lives.choose(&similarity, &mut matched);
    assert_eq!(matched, [0; 4], "the first frame has no tracks");
    assert!(lives.frame(&told(&logits, &[3.0, 4.0, 1e6], &[1.0; 3], 2.0)));
    lives.choose(&similarity, &mut matched);
    assert_eq!(matched, [0, 1, 0, 3]);
    // More rows than queries: who is not assigned has its nearest.
    let few = Sizes { queries: 2, ..drawn_sizes() };
    let mut lives = Lives::new(few);
    assert!(lives.frame(&told(&logits, &[3.0, 4.0, 1e6], &[1.0; 3], 2.0)));
    lives.choose(&[0.9, 0.1, 0.8, 0.7, 0.0, 0.0, 0.2, 0.6], &mut matched);
    assert_eq!(matched, [0, 1, 0, 1], "the background has no query of its own");
    lives.choose(&[f32::NAN; 8], &mut matched);
    assert!(matched.iter().all(|query| (0..2).contains(query)), "{matched:?}");
}

fn raw(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn integers(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Features are where red and where green is above one half; the rest is constant.
fn segmenter(offsets: [f32; 2]) -> Vec<u8> {
    let floats = ElementType::F32;
    let mut convolution = build::node("Conv", &["image", "colours", "offsets"], &["maps"], &[]);
    build::put_integers(&mut convolution, "strides", &[4, 4]);
    let colours: Vec<f32> = (0..2 * 3 * 16).map(|i| if i / 48 == i % 48 / 16 { 20.0 / 16.0 } else { 0.0 }).collect();
    let same = |from, to| (1, build::node("Identity", &[from], &[to], &[]));
    build::model(
        8,
        17,
        &[
            (1, convolution),
            (1, build::node("Reshape", &["maps", "shape"], &["features"], &[])),
            same("rows", "frame_embeds"),
            same("rows", "frame_positions"),
            same("scores", "frame_scores"),
            (5, build::initializer("colours", floats, &[2, 3, 4, 4], &raw(&colours))),
            (5, build::initializer("offsets", floats, &[2], &raw(&offsets))),
            (5, build::initializer("shape", ElementType::I64, &[3], &integers(&[2, 8, 8]))),
            (5, build::initializer("rows", floats, &[4, 2], &raw(&[0.0; 8]))),
            (5, build::initializer("scores", floats, &[4], &raw(&[0.5; 4]))),
            (11, build::value_info("image", floats, &[1, 3, 32, 32])),
            (12, build::value_info("frame_embeds", floats, &[4, 2])),
            (12, build::value_info("frame_positions", floats, &[4, 2])),
            (12, build::value_info("frame_scores", floats, &[4])),
            (12, build::value_info("features", floats, &[2, 8, 8])),
        ],
    )
}

/// Two tracks on the first frame, of which the first dies on the next; the third frame's comes from nowhere. Masks are the features, and
/// the class logits those of the matched query.
fn step() -> Vec<u8> {
    let floats = ElementType::F32;
    let same = |from, to| (1, build::node("Identity", &[from], &[to], &[]));
    let info = |field, name: &str, shape: &[i64]| (field, build::value_info(name, floats, shape));
    let s = drawn_sizes();
    let mut graph = vec![
        (1, build::node("Slice", &["match", "from", "to"], &["of_slots"], &[])),
        (1, build::node("Gather", &["table", "of_slots"], &["logits"], &[("axis", 0)])),
        (1, build::node("Gather", &["features", "order"], &["masks"], &[("axis", 0)])),
        (1, build::node("Add", &["base", "missed"], &["source"], &[])),
        (1, build::node("Add", &["first", "one"], &["total"], &[])),
        same("ones", "seen"),
        same("queries", "queries_out"),
        same("positions", "positions_out"),
        same("ring", "ring_out"),
        same("count", "count_out"),
        same("back", "missed_out"),
        (1, build::node("Add", &["first", "one"], &["tracks_out"], &[])),
        same("alike", "similarity"),
        (5, build::initializer("from", ElementType::I64, &[1], &integers(&[0]))),
        (5, build::initializer("to", ElementType::I64, &[1], &integers(&[3]))),
        (5, build::initializer("order", ElementType::I64, &[3], &integers(&[0, 1, 0]))),
        (
            5,
            build::initializer(
                "table",
                floats,
                &[4, 3],
                &raw(&[3.0, 0.0, 0.0, 0.0, 5.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 9.0]),
            ),
        ),
        (5, build::initializer("base", floats, &[3], &raw(&[3.0, 4.0, 5.0]))),
        (5, build::initializer("back", floats, &[3], &raw(&[-2.0, 0.0, 0.0]))),
        (5, build::initializer("one", floats, &[1], &raw(&[1.0]))),
        (5, build::initializer("ones", floats, &[3], &raw(&[1.0; 3]))),
        // Slot 0 is nearest to query 1, background to 3.
        (
            5,
            build::initializer(
                "alike",
                floats,
                &[4, 4],
                &raw(&[0.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9]),
            ),
        ),
        info(11, "frame_embeds", &[4, 2]),
        info(11, "frame_positions", &[4, 2]),
        info(11, "frame_scores", &[4]),
        info(11, "features", &[2, 8, 8]),
        info(11, "first", &[1]),
        info(11, "rules", &[4]),
        (11, build::value_info("match", ElementType::I32, &[4])),
        info(12, "logits", &[3, 3]),
        info(12, "masks", &[3, 8, 8]),
        info(12, "source", &[3]),
        info(12, "seen", &[3]),
        info(12, "total", &[1]),
        info(12, "similarity", &[4, 4]),
    ];
    for ((name, out), shape) in STATES.iter().zip(s.states()) {
        graph.extend([info(11, name, &shape), info(12, out, &shape)]);
    }
    build::model(8, 17, &graph)
}

/// Writes a pack with those graphs, after `edit` of its manifest.
fn write(dir: &Path, edit: impl Fn(String) -> String) {
    write_with(dir, [-10.0, -10.0], edit);
}

fn write_with(dir: &Path, offsets: [f32; 2], edit: impl Fn(String) -> String) {
    let graphs = [("segmenter", segmenter(offsets)), ("tracker_step", step())];
    let wanted = super::contract::requirements(&drawn_sizes());
    let mut text = "schema = 1\nid = \"drawn\"\nfamily = \"dvis_daq\"\ndescription = \"\"\nlicence = \"\"\n[provenance]\ncheckpoint_sha256 = \"\"\n\
         exporter = \"\"\ncommand = \"\"\n[input]\nsize = 32\nfit = { width = 32, height = 18 }\nresize = \"bilinear_antialias_u8\"\n\
         colour = \"rgb\"\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n[segmenter]\nqueries = 4\nclasses = [\"cat\", \"dog\"]\n\
         [segmenter.tracks]\nslots = 3\nbackground = 1\nslot_branch = true\nselect_score = 0.1\nfirst_score = 0.01\nkeep_score = 0.01\n\
         kick_out_frames = 8\nnoise_frames = 2\nmost = 2\n"
        .to_string();
    for ((name, onnx), wanted) in graphs.iter().zip(&wanted) {
        let list = |tensors: &[crate::requirements::TensorRequirement]| {
            let one = |t: &crate::requirements::TensorRequirement| {
                let crate::requirements::ShapeRequirement::Exactly(axes) = &t.shape else { panic!("exact shapes") };
                let axes: Vec<String> = axes.iter().map(ToString::to_string).collect();
                let kind = if t.name == "match" { "i32" } else { "f32" };
                format!("{{ name = \"{}\", dtype = \"{kind}\", shape = [{}] }}", t.name, axes.join(", "))
            };
            tensors.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        text.push_str(&format!(
            "[[graph]]\nname = \"{name}\"\nfiles = {{ fp32 = \"{name}.onnx\" }}\nsha256 = {{ fp32 = \"{}\" }}\ninputs = [{}]\noutputs = [{}]\n",
            sha256_hex(onnx),
            list(&wanted.inputs),
            list(&wanted.outputs)
        ));
        std::fs::write(dir.join(format!("{name}.onnx")), onnx).unwrap();
    }
    for (input, output) in STATES {
        text.push_str(&format!("[[state]]\ninput = \"{input}\"\noutput = \"{output}\"\n"));
    }
    std::fs::write(dir.join(FILE_NAME), edit(text)).unwrap();
}

fn opened(dir: &Path, options: &[(&str, &str)]) -> Option<Follower> {
    let mut all = Options::default();
    for (name, value) in options {
        all.set(name, value).unwrap();
    }
    let request = OpenRequest { options: all, ..OpenRequest::new(dir, Dtype::Fp32, Device::Cpu) };
    match Follower::open(&request, None) {
        Ok(follower) => Some(follower),
        Err(RunnerError::Environment(text)) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "skipped a test of segmenters: {text}");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_frame_goes_through_both_graphs_and_the_state_is_carried() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), |text| text);
    let Some(mut runner) = opened(dir.path(), &[("overlaps", "exclusive")]) else { return };
    // Red in the left half, green in the middle; 64 x 36 takes 32 x 18 of the input.
    let (width, height) = (64, 36);
    let rgb: Vec<u8> = (0..width * height)
        .flat_map(|i| {
            let x = i % width;
            [if x < 32 { 255 } else { 0 }, if (16..48).contains(&x) { 255 } else { 0 }, 0]
        })
        .collect();
    let frame = Frame { width, height, rgb: &rgb };
    let columns = |mask: &Mask| {
        let row: Vec<u32> = (0..width).filter(|x| mask.get(*x, 17)).collect();
        (row.first().copied(), row.last().copied())
    };
    for pass in 0..2 {
        let first = runner.step(frame, &[]).unwrap().objects;
        assert_eq!(first.iter().map(|o| o.object).collect::<Vec<_>>(), [1, 2], "pass {pass}");
        assert_eq!(columns(&first[0].mask), (Some(0), Some(31)));
        assert_eq!(columns(&first[1].mask), (Some(32), Some(47)), "the elder keeps what both claim");
        // All slots ask for query 0 on the first frame: 3, 0, 0.
        let score = 3f64.exp() / (3f64.exp() + 2.0);
        assert!((f64::from(first[0].object_score) - (score / (1.0 - score)).ln()).abs() < 1e-4);
        let second = runner.step(frame, &[]).unwrap().objects;
        // The second track is in the first slot now, which asks for query 1: class 1.
        assert_eq!(second.iter().map(|o| o.object).collect::<Vec<_>>(), [2]);
        assert_eq!(columns(&second[0].mask), (Some(0), Some(31)));
        let score = 5f64.exp() / (5f64.exp() + 2.0);
        assert!((f64::from(second[0].object_score) - (score / (1.0 - score)).ln()).abs() < 1e-4);
        let found = runner.take_tracks().unwrap();
        let tracks: Vec<_> = found.tracks.iter().map(|t| (t.id, t.birth, t.end, t.label, t.confirmed)).collect();
        assert_eq!(tracks, [(1, 0, 1, 0, false), (2, 0, 2, 1, true)], "one frame is noise");
    }
    runner.step(frame, &[]).unwrap();
    runner.step(frame, &[]).unwrap();
    let text = runner.step(frame, &[]).unwrap_err().to_string();
    assert!(text.contains("tracks that come from nowhere"), "{text}");
    let prompt = Prompt { object: 1, shape: PromptShape::Bbox([0.0, 0.0, 3.0, 3.0]) };
    let text = runner.step(frame, &[prompt]).unwrap_err().to_string();
    assert!(text.contains("nobody prompts"), "{text}");
    runner.reset();
    let text = runner.step(Frame { width: 3, ..frame }, &[]).unwrap_err().to_string();
    assert!(text.contains("bytes of RGB expected"), "{text}");
    assert_eq!(runner.step(frame, &[]).unwrap().objects.len(), 2, "a frame that was refused leaves no trace");
}

/// A mask that is no number is said of its track; frames of one pixel, row or column have masks of their size.
#[test]
fn odd_masks_are_named_and_odd_frames_have_masks_of_their_size() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        write_with(dir.path(), [wrong, -10.0], |text| text);
        let Some(mut runner) = opened(dir.path(), &[]) else { return };
        let rgb = [0, 255, 0].repeat(64 * 36);
        let objects = runner.step(Frame { width: 64, height: 36, rgb: &rgb }, &[]).unwrap().objects;
        let told: Vec<_> = objects.iter().map(|o| (o.object, o.finite)).collect();
        assert_eq!(told, [(1, false), (2, true)], "{wrong}");
        assert!(objects[1].mask.get(20, 10), "{wrong}");
    }
    write(dir.path(), |text| text);
    let Some(mut runner) = opened(dir.path(), &[]) else { return };
    for (width, height) in [(1, 1), (5_000, 1), (1, 5_000), (3, 2)] {
        let rgb: Vec<u8> = [255, 0, 0].repeat(width * height);
        let frame = Frame { width: width as u32, height: height as u32, rgb: &rgb };
        for live in [2, 1] {
            let objects = runner.step(frame, &[]).unwrap().objects;
            assert_eq!(objects.len(), live);
            let mask = &objects[0].mask;
            assert_eq!((mask.width(), mask.height()), (frame.width, frame.height));
        }
        runner.reset();
    }
}

#[test]
fn what_does_not_fit_the_family_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), |text| text);
    let info = crate::packs::describe(dir.path(), Device::Cpu).unwrap();
    assert!(info.finds_and_tracks() && !info.detects);
    let prompts = [vec![PromptKind::Detector], PromptKind::ALL.to_vec()].concat();
    assert_eq!((info.capabilities.prompts, info.capabilities.max_objects), (prompts, Some(3)));
    assert_eq!(info.classes, ["cat", "dog"]);
    for (from, to, part) in [
        ("[segmenter.tracks]", "[segmenter.track]", "unknown field `track`"),
        ("fit = { width = 32, height = 18 }\n", "", "input.fit: the part of the input that a frame takes is missing"),
        ("width = 32, height = 18", "width = 33, height = 18", "input.fit.width = 33: 16 to 32 expected"),
        ("width = 32, height = 18", "width = 32, height = 33", "input.fit.height = 33: the input has 32 rows"),
        ("slots = 3", "slots = 0", "segmenter.tracks.slots = 0: 1 to 4096 expected"),
        ("slots = 3", "slots = 4", "F32 [4, 2] expected"),
        ("select_score = 0.1", "select_score = nan", "segmenter.tracks.select_score = NaN"),
        ("slot_branch = true", "slot_branch = false", "match"),
        ("queries = 4", "queries = 5", "[5, 2] expected"),
        ("output = \"ring_out\"", "output = \"ring\"", "state: "),
        ("name = \"tracker_step\"", "name = \"step\"", "graph `tracker_step` is missing"),
        ("family = \"dvis_daq\"", "family = \"videomt\"", "[segmenter.tracks] has no place in family `videomt`"),
    ] {
        write(dir.path(), |text| {
            assert!(text.contains(from), "the edit {from:?} must hit");
            text.replacen(from, to, 1)
        });
        let read = Pack::read(dir.path());
        let text = match to.contains("videomt") {
            true => read.and_then(|pack| crate::segment::contract::sizes(&pack).map(|_| ())).unwrap_err().to_string(),
            false => read.and_then(|pack| sizes(&pack).map(|_| ())).unwrap_err().to_string(),
        };
        assert!(text.contains(part), "{from} -> {to}: {text:?} does not say {part:?}");
    }
}

/// Values as a reference stores them: planes of bytes, deflated.
fn stored(dir: &Path, file: &str, values: &[f32], shape: &[usize]) -> serde_json::Value {
    let planes = (0..4).flat_map(|plane| values.iter().map(move |value| value.to_le_bytes()[plane]));
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &planes.collect::<Vec<u8>>()).unwrap();
    std::fs::write(dir.join(file), encoder.finish().unwrap()).unwrap();
    serde_json::json!({"file": file, "shape": shape})
}

fn picture(path: &Path, [width, height]: [u32; 2], colour: png::ColorType, samples: &[u8]) {
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), width, height);
    encoder.set_color(colour);
    encoder.write_header().unwrap().write_image_data(samples).unwrap();
}

/// Writes a reference of two frames into `dir`: what the drawn pack itself gives.
fn reference(dir: &Path, follower: &mut Follower) -> serde_json::Value {
    let rgb: Vec<u8> =
        (0..64 * 36).flat_map(|i| [if i % 64 < 32 { 255 } else { 0 }, if i % 64 > 15 { 255 } else { 0 }, 0]).collect();
    let frame = Frame { width: 64, height: 36, rgb: &rgb };
    picture(&dir.join("frame.png"), [64, 36], png::ColorType::Rgb, &rgb);
    follower.keep_overlaps();
    let mut frames = Vec::new();
    for number in 0..2 {
        follower.look(frame).unwrap();
        let live: Vec<Entry> = follower.live().to_vec();
        let (ids, seen): (Vec<u32>, Vec<bool>) = live.iter().map(|entry| (entry.id - 1, entry.seen)).unzip();
        let name = |part: &str| format!("{number}_{part}.z");
        let logits = stored(dir, &name("logits"), follower.logits(), &[ids.len(), 3]);
        let masks = stored(dir, &name("masks"), follower.masks(), &[ids.len(), 8, 8]);
        let objects = follower.objects(frame, None).objects;
        let pixels = objects.iter().flat_map(|o| (0..64 * 36).map(|i| u8::from(o.mask.get(i % 64, i / 64)) * 255));
        let outlines = format!("{number}_outlines.png");
        picture(
            &dir.join(&outlines),
            [64, 36 * ids.len() as u32],
            png::ColorType::Grayscale,
            &pixels.collect::<Vec<u8>>(),
        );
        frames.push(serde_json::json!({"image": "frame.png", "width": 64, "height": 36, "tracks": ids, "seen": seen,
            "resized_sha256": sha256_hex(&follower.resized(frame).unwrap()), "logits": logits, "masks": masks, "outlines": outlines}));
    }
    let kept: Vec<_> = follower.tracks().tracks.iter().filter(|t| t.confirmed).map(|t| {
        serde_json::json!({"track": t.id - 1, "birth": t.birth, "entries": t.end - t.birth, "label": t.label, "score": t.score})
    }).collect();
    serde_json::json!({"schema": 1, "tolerance": 1e-4, "mask_step": 1, "frames": frames, "kept": kept})
}

/// The pack beside itself: what it shows is what it is compared with, and what differs is said.
fn run_otherwise(dir: &Path) {
    let request = OpenRequest::new(dir, Dtype::Fp32, Device::Cpu);
    let mut answers = Vec::new();
    observe(&request, usize::MAX, &mut |answer| {
        answers.push(answer);
        Ok(())
    })
    .unwrap();
    let compared = |edit: &dyn Fn(&mut [FrameAnswer])| {
        let mut there = answers.clone();
        edit(&mut there);
        let mut there = there.into_iter();
        compare_with(&request, (Dtype::Fp32, Device::Cpu), usize::MAX, &mut || Ok(there.next().unwrap()))
    };
    let healthy = compared(&|_| ()).unwrap();
    assert_eq!((healthy.failures.as_slice(), healthy.entries, healthy.kept), (&[][..], [3, 0], [1, 0]));
    assert!(healthy.frames.iter().all(|f| f.pixels == 0 && f.logits == [Some(0.0); 2] && f.masks == [Some(0.0); 2]));
    assert_eq!(healthy.missing, ["no track is born after the first frame on the other side"]);
    type Edit<'a> = &'a dyn Fn(&mut [FrameAnswer]);
    let edits: [(Edit<'_>, &str); 6] = [
        (&|a| a[0].tracks[1].seen ^= true, "seen on one side only"),
        (&|a| a[0].tracks[0].runs = Mask::empty(64, 36).to_runs(), "has an IoU of"),
        (&|a| a[1].tensors[0][0] += 1.0, "logits of classes differ"),
        (&|a| a[0].tensors[1][9] = f32::NAN, "logits of masks are no numbers"),
        (&|a| a[1].tracks[0].track = 0, "on the other side"),
        (&|a| a[1].kept[0].score -= 0.1, "at the end track 1"),
    ];
    for (edit, word) in edits {
        let report = compared(edit).unwrap();
        assert!(report.failures.iter().any(|failure| failure.contains(word)), "{word}: {:?}", report.failures);
    }
    let edits: [Edit<'_>; 3] =
        [&|a| a[0].file = "other".into(), &|a| drop(a[0].tensors.pop()), &|a| a[0].tracks[0].runs = vec![7]];
    for edit in edits {
        let text = compared(edit).unwrap_err().to_string();
        assert!(text.contains("out of step at frame.png"), "{text}");
    }
}

#[test]
fn a_reference_is_compared_to_its_end_and_what_would_compare_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), |text| text + "[golden]\nindex = \"index.json\"\ntolerance = 1e-4\n");
    let Some(mut follower) = opened(dir.path(), &[]) else { return };
    let whole = reference(dir.path(), &mut follower);
    let verified = |index: &serde_json::Value, options: Options| {
        std::fs::write(dir.path().join("index.json"), index.to_string()).unwrap();
        let pack = dir.path().to_path_buf();
        let request = OpenRequest { options, ..OpenRequest::new(pack, Dtype::Fp32, Device::Cpu) };
        crate::study::chains::verify_first(&request, usize::MAX)
    };
    let healthy = verified(&whole, Options::default()).unwrap();
    assert_eq!((healthy.failures.as_slice(), healthy.entries, healthy.kept), (&[][..], [3, 0], [1, 0]));
    assert!(
        !healthy.passes() && healthy.missing == ["no track is born after the first frame in the reference"],
        "{healthy:?}"
    );
    run_otherwise(dir.path());
    // What differs is said.
    let damaged = |path: &str, value: serde_json::Value| {
        let mut index = whole.clone();
        *index.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        index
    };
    let outlines = vec![0; 64 * 36 * 2];
    picture(&dir.path().join("empty.png"), [64, 72], png::ColorType::Grayscale, &outlines);
    stored(dir.path(), "other.z", &[0.5; 6], &[2, 3]);
    for (path, value, word) in [
        (
            "/frames/0/seen/1",
            serde_json::json!(!whole["frames"][0]["seen"][1].as_bool().unwrap()),
            "seen on one side only",
        ),
        ("/frames/0/outlines", serde_json::json!("empty.png"), "has an IoU of"),
        ("/frames/0/logits/file", serde_json::json!("other.z"), "logits of classes differ"),
        ("/frames/1/tracks/0", serde_json::json!(0), "in the reference"),
        ("/kept/0/label", serde_json::json!(0), "at the end track 1"),
        ("/frames/0/resized_sha256", serde_json::json!(""), "after resizing"),
    ] {
        let report = verified(&damaged(path, value), Options::default()).unwrap();
        assert!(report.failures.iter().any(|failure| failure.contains(word)), "{path}: {:?}", report.failures);
    }
    for (path, value, word) in [
        ("/frames/0/outlines", serde_json::Value::Null, "nothing would be compared"),
        ("/mask_step", serde_json::json!(9), "leaves no logit"),
        ("/kept/0/track", serde_json::json!(u32::MAX), "cannot be"),
        ("/frames/0/height", serde_json::json!(u32::MAX), "too high"),
    ] {
        let text = verified(&damaged(path, value), Options::default()).unwrap_err().to_string();
        assert!(text.contains(word), "{path}: {text}");
    }
    let mut exclusive = Options::default();
    exclusive.set("overlaps", "exclusive").unwrap();
    let text = verified(&whole, exclusive).unwrap_err().to_string();
    assert!(text.contains("overlaps=exclusive"), "{text}");
}
