//! Scripted runner: a pack whose `pack.toml` says `family = "mock"` and holds latencies, scores and faults instead of
//! graphs. It lets every path of the harness (dropped options, empty masks, crashes, hangs, leaks of state between
//! sequences) be tested in milliseconds through the normal pack path, without ONNX Runtime.
//!
//! ```toml
//! schema = 1
//! id = "mock_empty"
//! family = "mock"
//! [mock]
//! frame_ms = [2.0, 3.0]          # per frame, used in turn
//! jitter = [0.03, 0.005]         # relative noise from frame to frame, and from process to process
//! motion = [1.5, 0.0]            # pixels per frame that the prompted shape moves
//! [[mock.fault]]
//! frame = 3                      # third frame after the first of a sequence; or step = 0: first frame after opening
//! kind = "empty"
//! [[mock.track]]                 # what a detector founds; frames of a sequence, from 0
//! birth = 2
//! end = 9                        # left out: to the end of the sequence
//! box = [4, 4, 20, 16]           # first and last column and row on the frame of birth; it moves as `motion` says
//! ```
//! Such a pack becomes a composed runner beside a detector's pack: `family = "mock_detector"` with
//! `[detector]`, `classes = ["object"]`. Nothing is detected: the tracks come as they are written. With `prompts = ["detector"]`
//! under `[mock]` a pack does so by itself, as a video segmenter; with other kinds beside `detector` prompted objects can take its tracks.

mod script;

use std::path::Path;
use std::time::{Duration, Instant};

use self::script::{Behaviour, FaultKind, ScriptedFault, ScriptedTrack, read};
use crate::host::options;
use crate::host::settings::SessionSettings;
use crate::manifest;
use crate::prompted::{self, Finds};
use crate::runner::{Entry, Runner, RunnerError};
use crate::types::{
    Capabilities, Device, Dtype, Effective, FoundTrack, FoundTracks, Frame, FrameMasks, Mask, ObjectMask, OpenReport,
    OpenRequest, Prompt, PromptKind, PromptShape, Stage, StagePrecision, StageTimes,
};

/// Registry entry of the mock runner.
pub const ENTRY: Entry = Entry {
    family: "mock",
    aliases: &[],
    summary: "scripted runner for tests",
    hidden: true,
    detects: false,
    describe,
    check,
    open,
    compose: Some(open),
};

/// Registry entry of a detector that can be composed with a mock pack: a manifest with classes, and nothing else.
pub const DETECTOR: Entry = Entry {
    family: "mock_detector",
    aliases: &[],
    summary: "scripted detector for tests",
    hidden: true,
    detects: true,
    describe: |pack, device| Ok(Capabilities { prompts: Vec::new(), ..describe(pack, device)? }),
    check,
    open: |request| {
        Err(RunnerError::Usage(format!("{}: a detector finds objects, it tracks none", request.pack.display())))
    },
    compose: None,
};

fn describe(pack: &Path, _device: Device) -> Result<Capabilities, RunnerError> {
    Ok(capabilities(&read(pack)?.mock))
}

fn check(pack: &Path, precision: Dtype) -> Result<(), RunnerError> {
    if describe(pack, Device::Cpu)?.dtypes.contains(&precision) {
        Ok(())
    } else {
        Err(RunnerError::Pack(format!("{}: no {precision}", pack.join(manifest::FILE_NAME).display())))
    }
}

fn open(request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    // A script may name options that nothing else knows.
    let mut known = request.clone();
    known.options.extra.retain(|name, _| options::find(name).is_some());
    match read(&request.pack)?.mock.prompts.contains(&PromptKind::Detector) {
        true => prompted::open(&known, opened),
        false => Ok(Box::new(opened(&known)?)),
    }
}

fn opened(request: &OpenRequest) -> Result<Mock, RunnerError> {
    let script = read(&request.pack)?;
    check(&request.pack, request.dtype)?;
    if request.device != Device::Cpu {
        return Err(RunnerError::Environment(format!("the mock runner has no device `{}`; use cpu", request.device)));
    }
    std::thread::sleep(Duration::from_secs_f64(script.mock.load_ms / 1e3));
    for fault in script.mock.fault.iter().filter(|f| f.step.is_none() && f.frame.is_none()) {
        fault.kind.happen("opening").map_err(RunnerError::Environment)?;
    }
    let settings = SessionSettings::of(request)?;
    let mut mock = Mock::new(script.mock, request.dtype, settings.stage_times());
    mock.detect_every = settings.association().detect_every.into();
    mock.composed |= request.detector.is_some();
    Ok(mock)
}

/// The runner with no latency at all, whose masks stay where the prompt was: what is left is the harness.
pub fn null() -> Box<dyn Runner> {
    Box::new(Mock::new(Behaviour::default(), Dtype::Fp32, true))
}

fn capabilities(behaviour: &Behaviour) -> Capabilities {
    Capabilities {
        prompts: behaviour.prompts.clone(),
        dtypes: behaviour.precisions.clone(),
        options: behaviour.options.clone(),
        max_objects: behaviour.max_objects,
        max_points: behaviour.max_points,
        works_ahead: false,
        refused: Default::default(),
    }
}

/// Normal noise around 1, another one in every process.
struct Noise {
    state: u64,
    frame: f64,
    process: f64,
}

impl Noise {
    fn new([frame, process]: [f64; 2]) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let state = (now.as_nanos() as u64) ^ (u64::from(std::process::id()) << 32);
        let mut noise = Noise { state, frame, process: 1.0 };
        noise.process = 1.0 + process * noise.normal();
        noise
    }

    /// Standard normal, by Box and Muller, from SplitMix64.
    fn normal(&mut self) -> f64 {
        let mut uniform = || {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        };
        let (a, b) = (1.0 - uniform(), uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// The factor of the next frame; never below a tenth.
    fn next(&mut self) -> f64 {
        (self.process * (1.0 + self.frame * self.normal())).max(0.1)
    }
}

struct Mock {
    capabilities: Capabilities,
    precision: Dtype,
    report: OpenReport,
    behaviour: Behaviour,
    noise: Noise,
    steps: u64,
    frames: u64,
    /// Prompt, frame it came on, and the mask where nothing moves.
    objects: Vec<(Prompt, u64, Option<Mask>)>,
    /// Are stage times taken?
    stage_times: bool,
    times: StageTimes,
    leaked: Vec<Vec<u8>>,
    /// Does a detector found the tracks?
    composed: bool,
    /// It looks at every such frame, and takes its time for it; the tracks are as they are written.
    detect_every: u64,
}

impl Mock {
    fn new(behaviour: Behaviour, precision: Dtype, stage_times: bool) -> Self {
        Mock {
            capabilities: capabilities(&behaviour),
            precision,
            report: OpenReport {
                graph_load_ms: vec![("mock".to_string(), behaviour.load_ms)],
                notes: vec!["mock runner: nothing is computed".to_string()],
                fallbacks: behaviour.fallback.clone().into_iter().collect(),
                ..OpenReport::default()
            },
            noise: Noise::new(behaviour.jitter),
            composed: behaviour.prompts.contains(&PromptKind::Detector),
            detect_every: 5,
            behaviour,
            steps: 0,
            frames: 0,
            objects: Vec::new(),
            stage_times,
            times: StageTimes::default(),
            leaked: Vec::new(),
        }
    }

    /// The scripted tracks that are alive on this frame, as prompted objects.
    fn found(&self) -> Vec<(Prompt, u64, Option<Mask>)> {
        let now = self.frames;
        let live = self.behaviour.track.iter().zip(1..).filter(|(track, _)| {
            let over = track.end.map_or(u64::MAX, |end| u64::from(end) + u64::from(track.beyond));
            (u64::from(track.birth)..over).contains(&now)
        });
        live.map(|(track, object)| (Prompt { object, shape: PromptShape::Bbox(track.r#box) }, track.birth.into(), None))
            .collect()
    }

    fn motion(&self, object: u32) -> [f32; 2] {
        let own = self.behaviour.track.get((object as usize).wrapping_sub(1)).filter(|_| self.composed);
        own.and_then(|track| track.motion).unwrap_or(self.behaviour.motion)
    }

    fn faults(&self) -> impl Iterator<Item = &ScriptedFault> {
        let (step, frame) = (self.steps, self.frames);
        self.behaviour.fault.iter().filter(move |f| f.step == Some(step) || f.frame == Some(frame))
    }
}

impl Runner for Mock {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn precision(&self) -> Vec<StagePrecision> {
        let requested = self.precision;
        let effective = self.behaviour.effective.clone().unwrap_or_else(|| requested.to_string());
        vec![StagePrecision {
            graph: "mock".to_string(),
            requested,
            // A script claims words; they are taken for what a runner would mean by them.
            kind: Effective::from_words(requested, &effective),
            effective,
            evidence: vec!["mock runner: nothing is computed".to_string()],
        }]
    }

    fn open_report(&self) -> &OpenReport {
        &self.report
    }

    fn reset(&mut self) {
        self.objects.clear();
        self.frames = 0;
    }

    fn step(&mut self, frame: Frame<'_>, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError> {
        crate::runner::check_frame(frame)?;
        let live: Vec<u32> = self.objects.iter().map(|(prompt, ..)| prompt.object).collect();
        if self.composed && !prompts.is_empty() {
            return Err(RunnerError::Usage("a detector founds the tracks; no prompt is taken".to_string()));
        }
        crate::runner::check_prompts(&self.capabilities, frame, prompts, &live)?;
        for prompt in prompts {
            // What stands still is drawn once: drawing is no part of the harness that this runner is there to show.
            let still = self.behaviour.motion == [0.0, 0.0];
            let mask = still.then(|| shape(&prompt.shape, [0.0; 2], frame.width, frame.height));
            self.objects.push((prompt.clone(), self.frames, mask));
        }
        for fault in self.faults() {
            fault.kind.happen(&format!("frame {}", self.frames)).map_err(RunnerError::Inference)?;
        }
        let turn = |n: usize| (self.frames % n as u64) as usize;
        let started = self.stage_times.then(Instant::now);
        let ms = self.behaviour.frame_ms[turn(self.behaviour.frame_ms.len())];
        if ms > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(ms * self.noise.next() / 1e3));
        }
        let encoded = self.stage_times.then(Instant::now);
        let looks = self.composed && self.frames.is_multiple_of(self.detect_every);
        if looks && self.behaviour.detector_ms > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(self.behaviour.detector_ms / 1e3));
        }
        let detected = self.stage_times.then(Instant::now);
        let score = self.behaviour.object_scores[turn(self.behaviour.object_scores.len())];
        let mut masks = FrameMasks::default();
        if self.composed {
            self.objects = self.found();
        }
        for (prompt, since, still) in &self.objects {
            let age = (self.frames - since) as f32;
            let shift = self.motion(prompt.object).map(|v| (v * age).round());
            let mut result = ObjectMask {
                object: prompt.object,
                mask: still.clone().unwrap_or_else(|| shape(&prompt.shape, shift, frame.width, frame.height)),
                claimed: true,
                object_score: score,
                predicted_iou: 1.0,
                finite: true,
            };
            for fault in self.faults().filter(|f| f.object.is_none_or(|o| o == prompt.object)) {
                match fault.kind {
                    FaultKind::Empty => result.mask = Mask::empty(frame.width, frame.height),
                    FaultKind::Full => result.mask = Mask::from_fn(frame.width, frame.height, |_, _| true),
                    FaultKind::NonFinite => {
                        result.finite = false;
                        result.object_score = f32::NAN;
                    }
                    _ => {}
                }
            }
            result.claimed = !result.mask.is_empty();
            masks.objects.push(result);
        }
        self.leaked.extend((self.behaviour.leak_bytes > 0).then(|| vec![1; self.behaviour.leak_bytes]));
        self.times = match started.zip(encoded).zip(detected) {
            Some(((started, encoded), detected)) => {
                let prompted = [(Stage::ImageEncoder, encoded - started), (Stage::Postprocess, detected.elapsed())];
                let least = Duration::from_micros(1);
                let detector = [(Stage::Detector, least.max(detected - encoded)), (Stage::Association, least)];
                prompted.into_iter().chain(detector.into_iter().filter(|_| looks)).collect()
            }
            None => StageTimes::default(),
        };
        self.steps += 1;
        self.frames += 1;
        Ok(masks)
    }

    fn take_stage_times(&mut self) -> StageTimes {
        std::mem::take(&mut self.times)
    }

    fn take_tracks(&mut self) -> Option<FoundTracks> {
        let frames = self.frames as u32;
        let told = |(track, id): (&ScriptedTrack, u32)| {
            let end = track.end.unwrap_or(u32::MAX).min(frames);
            FoundTrack {
                id,
                birth: track.birth,
                end: if track.confirmed { end } else { track.birth },
                confirmed: track.confirmed,
                hits: 1,
                score: track.score,
                label: track.label,
            }
        };
        let tracks = self.behaviour.track.iter().zip(1..).filter(|(track, _)| track.birth < frames).map(told);
        self.composed.then(|| FoundTracks { tracks: tracks.collect(), counts: self.behaviour.counts })
    }
}

impl Finds for Mock {
    fn find(&mut self, frame: Frame<'_>, of: Option<&[u32]>) -> Result<FrameMasks, RunnerError> {
        let mut found = self.step(frame, &[])?;
        found.objects.retain(|track| of.is_none_or(|of| of.contains(&track.object)));
        Ok(found)
    }
}

/// The prompted shape moved by `shift` pixels: the box, the mask, or a disc around the first positive click.
fn shape(prompt: &PromptShape, shift: [f32; 2], width: u32, height: u32) -> Mask {
    let at = |x: u32, y: u32| (x as f32 - shift[0], y as f32 - shift[1]);
    match prompt {
        PromptShape::Bbox([x0, y0, x1, y1]) => Mask::from_fn(width, height, |x, y| {
            let (x, y) = at(x, y);
            (*x0..=*x1).contains(&x) && (*y0..=*y1).contains(&y)
        }),
        PromptShape::Points(clicks) => {
            let radius = width.min(height) as f32 / 8.0;
            let centre = clicks.iter().find(|c| c.positive).map(|c| (c.x, c.y));
            Mask::from_fn(width, height, |x, y| {
                let (x, y) = at(x, y);
                centre.is_some_and(|(cx, cy)| (x - cx).hypot(y - cy) <= radius)
            })
        }
        PromptShape::Mask(mask) => Mask::from_fn(width, height, |x, y| {
            let (x, y) = at(x, y);
            x >= 0.0 && y >= 0.0 && x < width as f32 && y < height as f32 && mask.get(x as u32, y as u32)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::options::STAGE_TIMES;
    use crate::types::{Click, Options};

    fn open_script(script: &str) -> Result<Box<dyn Runner>, RunnerError> {
        open_with(script, Options::default())
    }

    fn open_with(script: &str, options: Options) -> Result<Box<dyn Runner>, RunnerError> {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("schema = 1\nid = \"m\"\nfamily = \"mock\"\n{script}");
        std::fs::write(dir.path().join("pack.toml"), text).unwrap();
        open(&OpenRequest { options, ..OpenRequest::new(dir.path(), Dtype::Fp32, Device::Cpu) })
    }

    fn click(object: u32) -> Prompt {
        Prompt { object, shape: PromptShape::Points(vec![Click { x: 6.0, y: 5.0, positive: true }]) }
    }

    #[test]
    fn moves_the_shape_and_restarts_after_reset() {
        let mut runner = open_script("[mock]\nmotion = [2.0, 0.0]\n").unwrap();
        let rgb = vec![0; 40 * 30 * 3];
        let frame = Frame { width: 40, height: 30, rgb: &rgb };
        let first = runner.step(frame, &[click(7)]).unwrap();
        let second = runner.step(frame, &[click(8)]).unwrap();
        assert!(first.objects[0].mask.get(6, 5) && second.objects[0].mask.get(8, 5));
        assert_eq!(second.objects.iter().map(|o| o.object).collect::<Vec<_>>(), [7, 8]);
        assert!(runner.step(frame, &[click(8)]).is_err(), "object 8 is already tracked");
        runner.reset();
        assert!(runner.step(frame, &[]).unwrap().objects.is_empty());
        assert_eq!(runner.take_stage_times().iter().count(), 2);
    }

    #[test]
    fn stage_times_can_be_left_out() {
        let options = |value: &str| Options {
            extra: [(STAGE_TIMES.to_string(), value.to_string())].into(),
            ..Options::default()
        };
        let rgb = vec![0; 8 * 8 * 3];
        for (value, stages) in [("on", 2), ("off", 0)] {
            let mut runner = open_with("", options(value)).unwrap();
            assert!(runner.capabilities().options.iter().any(|o| o == STAGE_TIMES));
            runner.step(Frame { width: 8, height: 8, rgb: &rgb }, &[click(1)]).unwrap();
            assert_eq!(runner.take_stage_times().iter().count(), stages, "{value}");
        }
        assert!(matches!(open_with("", options("maybe")), Err(RunnerError::Usage(_))));
    }

    #[test]
    fn faults_come_at_their_frame() {
        let script = "[[mock.fault]]\nstep = 0\nkind = \"error\"\n[[mock.fault]]\nframe = 1\nkind = \"full\"\n\
                      [[mock.fault]]\nframe = 2\nobject = 1\nkind = \"non_finite\"\n";
        let mut runner = open_script(script).unwrap();
        let rgb = vec![0; 8 * 8 * 3];
        let frame = Frame { width: 8, height: 8, rgb: &rgb };
        assert!(matches!(runner.step(frame, &[click(1)]), Err(RunnerError::Inference(_))));
        let mut runner = open_script(&script.replace("step = 0", "step = 9")).unwrap();
        runner.step(frame, &[click(1), click(2)]).unwrap();
        assert!(runner.step(frame, &[]).unwrap().objects[1].mask.is_full());
        let third = runner.step(frame, &[]).unwrap();
        assert!(!third.objects[0].finite && third.objects[1].finite);
    }

    #[test]
    fn beside_a_detector_tracks_come_and_go_as_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let script = "[mock]\nmotion = [1.0, 0.0]\n[[mock.track]]\nbirth = 1\nend = 2\nbeyond = 1\nbox = [0, 0, 3, 3]\n\
                      [[mock.track]]\nbirth = 0\nbox = [9, 0, 9, 0]\nconfirmed = false\nlabel = 1\n\
                      [[mock.track]]\nbirth = 9\nbox = [0, 0, 1, 1]\n";
        std::fs::write(dir.path().join("pack.toml"), format!("schema = 1\nid = \"m\"\nfamily = \"mock\"\n{script}"))
            .unwrap();
        let mut runner = open(&OpenRequest {
            pack: dir.path().to_path_buf(),
            detector: Some("d".into()),
            prompted: false,
            dtype: Dtype::Fp32,
            device: Device::Cpu,
            options: Options::default(),
            ort_lib: None,
            ep_library: None,
        })
        .unwrap();
        let rgb = vec![0; 16 * 8 * 3];
        let frame = Frame { width: 16, height: 8, rgb: &rgb };
        assert!(matches!(runner.step(frame, &[click(1)]), Err(RunnerError::Usage(_))), "nobody prompts it");
        for _ in 0..2 {
            let ids: Vec<Vec<u32>> =
                (0..4).map(|_| runner.step(frame, &[]).unwrap().objects.iter().map(|o| o.object).collect()).collect();
            assert_eq!(ids, [vec![2], vec![1, 2], vec![1, 2], vec![2]]);
            let found = runner.take_tracks().unwrap();
            let told: Vec<_> = found.tracks.iter().map(|t| (t.id, t.birth, t.end, t.confirmed, t.label)).collect();
            assert_eq!(told, [(1, 1, 2, true, 0), (2, 0, 0, false, 1)]);
            runner.reset();
        }
        assert_eq!(open_script("").unwrap().take_tracks(), None, "prompted, it founds none");
    }

    #[test]
    fn broken_scripts_are_refused() {
        assert!(open_script("[mock]\nframe_ms = []\n").is_err());
        assert!(open_script("[mock]\nspeed = 3\n").is_err());
        let fail = open_script("[[mock.fault]]\nkind = \"error\"\n");
        assert!(matches!(fail, Err(RunnerError::Environment(_))));
    }
}
