//! A run that never happened: made-up, deterministic figures in the shape of real ones, for the tests of what is drawn
//! and written. It exists only under `tests/`.

use std::collections::BTreeMap;

use jetbench::judge::summary::summarise;
use jetbench::results::note::{Note, NoteKind, Reason, ReasonKind};
use jetbench::results::record::*;
use jetbench::score::{MoseFrame, MoseScore};
use jetbench::telemetry::key::MemoryPhase;
use jetbench_runners::types::{Admitted, Dtype, Effective, PromptKind, StagePrecision};

/// Deterministic numbers in 0..1.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How a synthetic cell behaves.
pub struct Behaviour {
    pub model: &'static str,
    pub pack: &'static str,
    pub prompt: PromptKind,
    pub dtype: Dtype,
    pub effective: &'static str,
    /// Mean J that it tends to.
    pub j: f64,
    /// Milliseconds per frame and object.
    pub ms: f64,
}

const EMULATED: &str = "bf16 operands, fp32 accumulation, emulated";

/// Six cells of two models: four valid, one invalid, one failed.
pub fn run() -> RunRecord {
    use Dtype::{Bf16, Fp32};
    use PromptKind::{Bbox, Points};
    let cell = |model, pack, prompt, dtype, effective, j, ms| {
        synthetic_cell(&Behaviour { model, pack, prompt, dtype, effective, j, ms }, 6)
    };
    let mut cells = vec![
        cell("sam2_points", "sam2_mini", Points, Bf16, EMULATED, 78.0, 31.0),
        cell("sam2_bbox", "sam2_mini", Bbox, Bf16, EMULATED, 82.5, 31.5),
        cell("edgetam_points", "edgetam_mini", Points, Bf16, EMULATED, 74.0, 17.0),
        cell("edgetam_bbox", "edgetam_mini", Bbox, Bf16, EMULATED, 76.5, 17.4),
        cell("sam2_points", "sam2_mini", Points, Fp32, "fp32", 78.4, 24.0),
        cell("edgetam_points", "edgetam_mini", Points, Fp32, "fp32", 74.2, 13.0),
    ];
    cells[4].verdict = Verdict::Invalid {
        reasons: vec![Reason::new(
            ReasonKind::PowerMode,
            "the power mode changed during the run (15W to 7W); fix it with `sudo nvpmodel -m 0`",
        )],
    };
    cells[0].notes = jetbench::judge::course::remarks(&cells[0]);
    let miniature = "the pack is a miniature for smoke tests: its scores say nothing about the full model";
    let miniature = || Note::new(NoteKind::Setup, miniature);
    cells[0].notes.push(miniature());
    cells[1].notes.push(miniature());
    cells[5].verdict = Verdict::Failed {
        error: "the worker was killed by signal 9 (out of memory?); see log.txt".into(),
        phase: "warmup".into(),
    };
    cells[5].sequences.clear();
    cells[5].summary = None;
    cells[5].memory.clear();
    cells[5].load_ms = None;
    record(cells)
}

/// Every combination of two packs, three prompts and three precisions: 18 cells.
pub fn crowded_run() -> RunRecord {
    let mut cells = Vec::new();
    for (pack, model, j, ms) in [("sam2_mini", "sam2", 76.0, 30.0), ("edgetam_mini", "edgetam", 72.0, 17.0)] {
        for (prompt, gain) in [(PromptKind::Points, 0.0), (PromptKind::Bbox, 4.0), (PromptKind::Mask, 6.0)] {
            for (dtype, cost) in [(Dtype::Fp32, 1.0), (Dtype::Fp16, 1.25), (Dtype::Bf16, 1.27)] {
                let tag: &'static str = Box::leak(format!("{model}_{prompt}").into_boxed_str());
                let effective = if dtype == Dtype::Bf16 { EMULATED } else { dtype.as_str() };
                let behaviour = Behaviour { model: tag, pack, prompt, dtype, effective, j: j + gain, ms: ms * cost };
                cells.push(synthetic_cell(&behaviour, 6));
            }
        }
    }
    record(cells)
}

/// A run around some cells.
pub fn record(cells: Vec<CellRecord>) -> RunRecord {
    RunRecord {
        schema: SCHEMA,
        run_id: "20261121T093000Z-ab12cd".into(),
        started: "2026-11-21T09:30:00Z".into(),
        finished: Some("2026-11-21T09:36:12Z".into()),
        version: "0.1.0".into(),
        argv: ["jetbench", "--models", "sam2_points,edgetam_points", "--data", "assets/demo"]
            .map(String::from)
            .to_vec(),
        settings: BTreeMap::new(),
        data: DataRecord {
            root: "assets/demo".into(),
            layout: "sa-v".into(),
            protocol: "sav".into(),
            videos: 6,
            objects: 14,
            frames: 576,
            ..Default::default()
        },
        device: DeviceRecord {
            name: "synthetic-board".into(),
            digest: "0badcafe".into(),
            facts: [("cpu", "made up"), ("cores", "6"), ("memory_mib", "7620"), ("onnxruntime", "1.31.1")]
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .into(),
        },
        cells,
        stopped: None,
        agreement: Vec::new(),
        null_run: None,
        forecast: None,
        origin: Origin::default(),
    }
}

/// One cell over `videos` videos of 96 frames with 1 to 4 objects.
pub fn synthetic_cell(b: &Behaviour, videos: usize) -> CellRecord {
    let mut n = Numbers::new(b.model.len() as u64 * 131 + b.dtype as u64 * 17 + b.ms as u64);
    let mut sequences = Vec::new();
    for video in 0..videos {
        let objects = [1, 2, 4, 2, 3, 2][video % 6];
        let frames: Vec<FrameRecord> = (0..96).map(|frame| frame_record(frame, objects, b.ms, &mut n)).collect();
        let wall_ms = frames.iter().map(|f| f.latency_ms + 0.3 * f.decode_ms).sum::<f64>();
        let objects = (0..objects).map(|o| object_record(o, video as u32, b.j, &mut n)).collect();
        sequences.push(SequenceRecord {
            video: format!("demo_{:02}", video + 1),
            width: 320,
            height: 240,
            wall_ms,
            frames,
            objects,
            ..Default::default()
        });
    }
    let memory = |mib: f64| MemoryRecord {
        system_mib: Some(mib),
        pss_mib: Some(mib * 0.93),
        rss_mib: Some(mib * 1.02),
        nvmap_mib: None,
        ..Default::default()
    };
    let mut cell = CellRecord {
        model: b.model.into(),
        pack: b.pack.into(),
        pack_digest: "5f0c".into(),
        test_model_of: Some(if b.pack == "sam2_mini" { "SAM 2".into() } else { "EdgeTAM".into() }),
        prompt: b.prompt,
        dtype: b.dtype,
        effective_dtype: Some(b.effective.into()),
        device: "cpu".into(),
        verdict: Verdict::Valid,
        precision: vec![StagePrecision {
            graph: "image_encoder".into(),
            requested: b.dtype,
            effective: b.effective.into(),
            kind: if b.effective == EMULATED { Effective::Emulated } else { Effective::Native },
            evidence: vec!["made up".into()],
        }],
        options: Admitted::default(),
        runtime: Some(RuntimeRecord {
            version: "1.31.1".into(),
            path: "/opt/ort/libonnxruntime.so".into(),
            plugin: None,
        }),
        graph_load_ms: vec![("image_encoder".into(), 120.5)],
        graph_build_ms: None,
        load_ms: Some(412.25),
        warmup: Some(WarmupRecord { frame_ok: true, warmup_ms: Some(95.5), ..Default::default() }),
        memory: [(MemoryPhase::Loaded, memory(200.0 + b.ms)), (MemoryPhase::Peak, memory(260.0 + 2.0 * b.ms))].into(),
        track_wall_s: Some(sequences.iter().map(|s| s.wall_ms).sum::<f64>() / 1000.0),
        sequences,
        summary: None,
        notes: vec![],
        ..CellRecord::default()
    };
    cell.summary = summarise(&cell);
    cell
}

fn frame_record(frame: u32, objects: u32, ms: f64, n: &mut Numbers) -> FrameRecord {
    let encoder = ms * 0.6 * (1.0 + 0.05 * n.next());
    let per_object = |share: f64, n: &mut Numbers| ms * share * f64::from(objects) * (1.0 + 0.1 * n.next());
    let mut stages = vec![
        ("preprocess", 0.9 + 0.1 * n.next()),
        ("image_encoder", encoder),
        ("mask_decoder", per_object(0.12, n)),
        ("memory_encoder", per_object(0.08, n)),
        ("postprocess", 0.4 * f64::from(objects)),
    ];
    if frame > 0 {
        stages.push(("memory_attention", per_object(0.2, n)));
    }
    if n.next() > 0.985 {
        stages[0].1 += ms * 2.0 * n.next();
    }
    let latency_ms = stages.iter().map(|(_, v)| v).sum::<f64>() + 0.05;
    let stages_ms = stages.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    FrameRecord { frame, objects, decode_ms: 2.0 + n.next(), stages_ms, latency_ms, response_ms: None }
}

/// Annotated at every fourth frame; the second object of every video is away from frame 40 to 56; the third appears at
/// frame 24.
fn object_record(object: u32, video: u32, level: f64, n: &mut Numbers) -> ObjectRecord {
    let prompt_frame = if object == 2 { 24 } else { 0 };
    let mut quality = level + 14.0 * (n.next() - 0.5) - 3.0 * f64::from(object);
    let mut per_frame = Vec::new();
    for frame in (prompt_frame..96).step_by(4) {
        let visible = !(object == 1 && (40..=56).contains(&frame));
        quality += 9.0 * (n.next() - 0.52);
        quality = quality.clamp(20.0, 97.0);
        let (j, f) = match visible {
            true => (quality, (quality + 4.0 * n.next()).min(100.0)),
            false if (video + frame / 4).is_multiple_of(5) => (0.0, 0.0),
            false => (100.0, 100.0),
        };
        let counted = frame > prompt_frame && frame < 92;
        let object_score = if visible { 6.5 } else { -4.25 };
        per_frame.push(FrameScoreRecord { frame, j, f, counted, visible, object_score: Some(object_score) });
    }
    let counted: Vec<&FrameScoreRecord> = per_frame.iter().filter(|s| s.counted).collect();
    let evaluated: Vec<MoseFrame> = counted
        .iter()
        .map(|s| MoseFrame { j: s.j / 100.0, f: s.f / 100.0, f_dot: s.f / 100.0, gone: !s.visible })
        .collect();
    let mean = |pick: fn(&FrameScoreRecord) -> f64| counted.iter().map(|s| pick(s)).sum::<f64>() / counted.len() as f64;
    let (j, f) = (mean(|s| s.j), mean(|s| s.f));
    ObjectRecord {
        object: format!("{object:03}"),
        prompt_frame,
        prompt: None,
        frames_scored: counted.len() as u32,
        j: Some(j),
        f: Some(f),
        jf: Some((j + f) / 2.0),
        mosev2: MoseScore::of(&evaluated),
        per_frame,
        track: Vec::new(),
        taken: None,
    }
}

/// Four cells over `videos` videos.
pub fn large_run(videos: usize) -> RunRecord {
    use Dtype::{Bf16, Fp32};
    let mut cells = Vec::new();
    for (model, pack, j, ms) in
        [("sam2_points", "sam2_mini", 78.0, 31.0), ("edgetam_points", "edgetam_mini", 74.0, 17.0)]
    {
        for (dtype, effective) in [(Fp32, "fp32"), (Bf16, EMULATED)] {
            let behaviour = Behaviour { model, pack, prompt: PromptKind::Points, dtype, effective, j, ms };
            let mut cell = synthetic_cell(&behaviour, videos);
            for (i, sequence) in cell.sequences.iter_mut().enumerate() {
                sequence.video = format!("sav_{i:06}");
            }
            cells.push(cell);
        }
    }
    record(cells)
}

/// A cell of three repeats; in the second, one frame took far longer than all others.
pub fn repeated() -> (RunRecord, f64) {
    let mut run = run();
    let first = run.cells.swap_remove(2);
    let factor = |by: f64| {
        let mut cell = first.clone();
        for frame in cell.sequences.iter_mut().flat_map(|s| &mut s.frames) {
            frame.latency_ms *= by;
            frame.stages_ms.values_mut().for_each(|ms| *ms *= by);
        }
        cell
    };
    let mut runs = vec![factor(1.0), factor(1.5), factor(1.1)];
    let stall = 987.0;
    runs[1].sequences[3].frames[50].latency_ms = stall;
    runs.iter_mut().for_each(|cell| cell.summary = summarise(cell));
    run.cells = vec![jetbench::judge::repeat::join(runs).unwrap()];
    (run, stall)
}
