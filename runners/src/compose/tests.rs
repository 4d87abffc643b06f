//! Composed runs: with a scripted tracker and a scripted detector, and those of the shipped packs.

use std::collections::VecDeque;

use super::*;
use crate::detect::KEPT;
use crate::frame::tight;
use crate::host::options::{PIPELINE, RESULTS};
use crate::packs;
use crate::real_packs::{for_each_pack, request, skipped};
use crate::types::{DroppedOption, Dtype, Effective, Mask, ObjectMask, PromptShape};

const SIDE: u32 = 60;

/// A tracker whose masks are the boxes that its tracks were founded by.
#[derive(Default)]
struct Still {
    capabilities: Option<Capabilities>,
    report: OpenReport,
    masks: FrameMasks,
    /// What happened, in order.
    log: Vec<String>,
}

impl Runner for Still {
    fn capabilities(&self) -> &Capabilities {
        self.capabilities.as_ref().unwrap()
    }
    fn precision(&self) -> Vec<StagePrecision> {
        vec![precision("tracker")]
    }
    fn open_report(&self) -> &OpenReport {
        &self.report
    }
    fn reset(&mut self) {
        self.masks.objects.clear();
        self.log.push("reset".to_string());
    }
    fn step(&mut self, _: Frame<'_>, _: &[Prompt]) -> Result<FrameMasks, RunnerError> {
        unreachable!("nobody prompts")
    }
    fn take_stage_times(&mut self) -> StageTimes {
        StageTimes::default()
    }
}

impl Tracks for Still {
    fn carry(&mut self, _: Frame<'_>, _: Option<Frame<'_>>, work: &mut Work<'_>) -> Result<FrameMasks, RunnerError> {
        self.log.push("follow".to_string());
        work(self)?;
        Ok(self.masks.clone())
    }
}

impl Passing for Still {
    fn lap(&mut self, stage: Stage) {
        self.log.push(stage.as_str().to_string());
    }
}

impl Carrier for Still {
    type Error = RunnerError;

    fn mask(&self, id: u32) -> &Mask {
        &self.masks.objects.iter().find(|o| o.object == id).unwrap().mask
    }

    fn bbox(&self, id: u32) -> Option<[f64; 4]> {
        tight(self.mask(id))
    }

    fn found(&mut self, object: u32, [x0, y0, x1, y1]: [f64; 4]) -> Result<(), RunnerError> {
        let within = |from: f64, at: u32, to: f64| (from..to).contains(&f64::from(at));
        let mask = Mask::from_fn(SIDE, SIDE, |x, y| within(x0, x, x1) && within(y0, y, y1));
        let [object_score, predicted_iou] = [1.0; 2];
        self.masks.objects.push(ObjectMask { object, mask, claimed: true, object_score, predicted_iou, finite: true });
        Ok(())
    }

    fn keep(&mut self, id: u32) -> Result<(), RunnerError> {
        self.log.push(format!("founded {id}"));
        Ok(())
    }

    fn refuse(&mut self, _: u32) {
        self.masks.objects.pop();
    }

    fn end(&mut self, id: u32, _: bool) {
        self.log.push(format!("ended {id}"));
        self.masks.objects.retain(|o| o.object != id);
    }
}

/// A detector that gives what a list says, look by look.
struct Listed(VecDeque<Result<Vec<Detection>, RunnerError>>);

impl Detects for Listed {
    fn detect(&mut self, _: Frame<'_>, found: &mut Vec<Detection>) -> Result<(), RunnerError> {
        found.clear();
        found.extend(self.0.pop_front().unwrap_or(Ok(Vec::new()))?);
        Ok(())
    }
}

fn precision(graph: &str) -> StagePrecision {
    StagePrecision {
        graph: graph.to_string(),
        requested: Dtype::Fp32,
        kind: Effective::Native,
        effective: "fp32".to_string(),
        evidence: Vec::new(),
    }
}

fn report(graph: &str, fallback: Option<&str>) -> OpenReport {
    OpenReport {
        graph_load_ms: vec![(graph.to_string(), 1.0)],
        dropped: vec![DroppedOption { name: "x".into(), value: "1".into(), reason: "unknown".into() }],
        notes: vec!["shared".to_string(), format!("note of {graph}")],
        fallbacks: fallback.into_iter().map(String::from).collect(),
        ..OpenReport::default()
    }
}

fn composed(looks: Vec<Result<Vec<Detection>, RunnerError>>, rules: Rules) -> Composed<Still, Listed> {
    let capabilities = Capabilities {
        prompts: vec![PromptKind::Points, PromptKind::Bbox],
        dtypes: vec![Dtype::Fp32],
        options: vec!["overlaps".to_string()],
        max_objects: None,
        max_points: 4,
        works_ahead: false,
        refused: Default::default(),
    };
    let tracker = Still { capabilities: Some(capabilities), report: report("tracker", None), ..Still::default() };
    let of_detector = report("detector", Some("detector on another device"));
    Composed::new(tracker, Listed(looks.into()), precision("detector"), &of_detector, rules)
}

fn seen(x: f64, score: f64) -> Detection {
    Detection { bbox: [x, 10.0, x + 20.0, 40.0], score, label: 2 }
}

const RGB: [u8; (SIDE * SIDE * 3) as usize] = [0; (SIDE * SIDE * 3) as usize];
const FRAME: Frame<'static> = Frame { width: SIDE, height: SIDE, rgb: &RGB };

#[test]
fn the_detector_looks_at_every_nth_frame_and_the_stages_are_told_apart() {
    let rules = Rules { detect_every: 2, ..Rules::default() };
    let looks = vec![Ok(vec![seen(5.0, 0.9)]), Ok(vec![seen(5.0, 0.6), seen(35.0, f64::NAN), seen(35.0, 0.8)])];
    let mut runner = composed(looks, rules);
    let ids: Vec<Vec<u32>> =
        (0..3).map(|_| runner.step(FRAME, &[]).unwrap().objects.iter().map(|o| o.object).collect()).collect();
    assert_eq!(ids, [vec![1], vec![1], vec![1, 2]]);
    let look = |founded: &str| ["follow", "detector", founded, "association"].map(String::from).to_vec();
    let still = ["follow", "association"].map(String::from).to_vec();
    assert_eq!(runner.tracker.log, [look("founded 1"), still, look("founded 2")].concat());

    let found = runner.take_tracks().unwrap();
    let of = |t: &crate::types::FoundTrack| (t.id, t.birth, t.end, t.hits, t.score, t.label);
    assert_eq!(found.tracks.iter().map(of).collect::<Vec<_>>(), [(1, 0, 3, 2, 0.9, 2), (2, 2, 3, 1, 0.8, 2)]);
    assert_eq!((found.counts.detector_frames, found.counts.detections, found.counts.non_finite), (2, 3, 1));
    assert!(runner.step(FRAME, &[]).unwrap().objects.is_empty(), "a sequence that is settled is over");
    runner.reset();
    assert_eq!(runner.take_tracks().unwrap(), FoundTracks::default());
}

#[test]
fn nobody_prompts_and_a_detector_that_fails_ends_the_sequence() {
    let mut runner = composed(vec![Err(RunnerError::Usage("no frame".to_string()))], Rules::default());
    let prompt = Prompt { object: 7, shape: PromptShape::Bbox([0.0, 0.0, 5.0, 5.0]) };
    let refused = runner.step(FRAME, &[prompt]);
    assert!(matches!(refused, Err(RunnerError::Usage(text)) if text.contains("object 7")));
    assert!(runner.tracker.log.is_empty(), "nothing has happened");
    let failed = runner.step(FRAME, &[]);
    assert!(matches!(failed, Err(RunnerError::Inference(text)) if text.contains("no frame")));
}

#[test]
fn a_composed_runner_says_what_both_say() {
    let runner = composed(Vec::new(), Rules::default());
    let graphs: Vec<String> = runner.precision().into_iter().map(|stage| stage.graph).collect();
    assert_eq!(graphs, ["tracker", "detector"]);
    let report = runner.open_report();
    assert_eq!(report.graph_load_ms.len(), 2);
    assert_eq!(report.dropped.len(), 1, "said once");
    assert_eq!(report.notes[..3], ["shared", "note of tracker", "note of detector"]);
    assert!(report.notes[3].starts_with("association: detect_every 5,") && report.notes.len() == 4);
    assert_eq!(report.fallbacks, ["detector on another device"]);
    let capabilities = runner.capabilities();
    assert_eq!(capabilities.prompts, [PromptKind::Detector]);
    assert_eq!(capabilities.options.len(), 11);
}

/// Frames of a clip of `assets/golden`.
fn golden(clip: &str, most: u32) -> Vec<(u32, u32, Vec<u8>)> {
    let read = |t: u32| {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/golden");
        let file = std::fs::File::open(root.join(clip).join(format!("{t:05}.png"))).unwrap();
        let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        (info.width, info.height, rgb)
    };
    (0..most).map(read).collect()
}

#[test]
fn the_shipped_packs_track_without_a_prompt_and_alike_every_time() {
    let name = "the_shipped_packs_track_without_a_prompt_and_alike_every_time";
    let frames = golden("g0", 7);
    for_each_pack(name, |dir| {
        let detector = dir.with_file_name("dfine_mini");
        if !detector.exists() {
            return skipped(&format!("{name}: no {}", detector.display()));
        }
        let run = |threads: usize,
                   pipeline: &str,
                   results: &str,
                   times: usize|
         -> Vec<(Vec<FrameMasks>, FoundTracks)> {
            let mut request = OpenRequest { detector: Some(detector.clone()), ..request(dir, Dtype::Fp32) };
            request.options.threads = Some(threads);
            for (option, value) in [(PIPELINE, pipeline), (RESULTS, results)] {
                request.options.extra.insert(option.to_string(), value.to_string());
            }
            let mut runner = packs::open(&request).unwrap();
            let notes = &runner.open_report().notes;
            let said: Vec<&String> = notes.iter().filter(|note| note.starts_with("detections: ")).collect();
            let expected = match results {
                "device" => {
                    "detections: the best 20 of 32 rows are picked on the device; all are read where as many or more count"
                }
                _ => "detections: all 32 rows are read",
            };
            assert_eq!(said, [expected]);
            let loaded = |(name, ms): &&(String, f64)| [KEPT, "all_detections"].contains(&name.as_str()) && *ms > 0.0;
            let built = runner.open_report().graph_load_ms.iter().filter(loaded).count();
            assert_eq!(
                built,
                if results == "device" { 2 } else { 0 },
                "graphs that the program builds have a time, too"
            );
            let mut track = || {
                runner.reset();
                let frame =
                    |t: usize| frames.get(t).map(|(width, height, rgb)| Frame { width: *width, height: *height, rgb });
                let step = |t| runner.step_ahead(frame(t).unwrap(), &[], frame(t + 1)).unwrap();
                let masks = (0..frames.len()).map(step).collect();
                (masks, runner.take_tracks().unwrap())
            };
            (0..times).map(|_| track()).collect()
        };
        let all = [run(1, "off", "host", 2), run(2, "on", "device", 1)].concat();
        let (masks, found) = &all[0];
        assert!(!found.tracks.is_empty() && found.counts.detector_frames == 2, "{}: {found:?}", dir.display());
        assert!(masks.iter().flat_map(|m| &m.objects).all(|o| found.tracks.iter().any(|t| t.id == o.object)));
        assert!(
            all.iter().all(|one| one == &all[0]),
            "{}: the same twice, and with two threads of which one works ahead and detections picked as on a device",
            dir.display()
        );
    });
}
