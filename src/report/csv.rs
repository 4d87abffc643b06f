//! The CSV files that others script against. Column names are a contract: they never change and new ones are only
//! added at the end. Units are in the names, floats are written with the fewest digits that read back to the same bits,
//! and a quantity that was not measured is an empty field, never 0.

use std::fmt::Display;

use crate::results::record::{CellRecord, RunRecord, SequenceRecord, Verdict};
use crate::telemetry::key::MemoryPhase;

/// Columns of `summary.csv`: one row per cell.
pub const SUMMARY: &[&str] = &[
    "model",
    "pack",
    "prompt",
    "dtype",
    "effective_dtype",
    "device",
    "verdict",
    "reasons",
    "videos",
    "objects",
    "frames",
    "j",
    "f",
    "jf",
    "fps_wall",
    "fps_model",
    "latency_mean_ms",
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "latency_max_ms",
    "load_ms",
    "warmup_ms",
    "peak_system_mib",
    "peak_pss_mib",
    "peak_rss_mib",
    "energy_per_frame_j",
    "overhead_share",
    "jf_low95",
    "jf_high95",
    "fps_wall_low95",
    "fps_wall_high95",
    "pack_digest",
    "onnxruntime",
    "dataset",
    "protocol",
    "device_name",
    "device_digest",
    "run_id",
    "scenario",
    "jitter_ms",
    "deadline_misses",
    "first_mask_ms",
    "engine_build_ms",
    "steady_begins_after_frames",
    "steady_frames",
    "steady_latency_p50_ms",
    "steady_latency_p95_ms",
    "steady_fps_model",
    "dropped_frames",
    "response_p50_ms",
    "response_p95_ms",
    "energy_above_idle_per_frame_j",
    "jf_objects_low95",
    "jf_objects_high95",
    "repeats",
    "fps_wall_repeats_low95",
    "fps_wall_repeats_high95",
    "latency_p50_repeats_low95_ms",
    "latency_p50_repeats_high95_ms",
    "latency_p50_next_run_low95_ms",
    "latency_p50_next_run_high95_ms",
    "harness_median_us",
];

/// Columns of `videos.csv`: one row per cell, repeat and video. Energy per video is in `rails.csv`.
pub const VIDEOS: &[&str] =
    &["model", "dtype", "device", "repeat", "video", "frames", "dropped_frames", "wall_ms", "fps_wall", "fps"];

/// Columns of `rails.csv`: one row per cell, repeat, video and rail; `video` is empty for all of them together.
pub const RAILS: &[&str] = &[
    "model",
    "dtype",
    "device",
    "video",
    "rail",
    "energy_j",
    "energy_above_idle_j",
    "idle_power_w",
    "frames",
    "repeat",
];

/// Columns of `repeats.csv`: one row per cell and repeat.
pub const REPEATS: &[&str] = &[
    "model",
    "dtype",
    "device",
    "repeat",
    "verdict",
    "reasons",
    "jf",
    "fps_wall",
    "fps_model",
    "latency_mean_ms",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "latency_max_ms",
    "load_ms",
    "first_mask_ms",
    "energy_per_frame_j",
];

/// Columns of `objects.csv`: one row per cell and object.
pub const OBJECTS: &[&str] =
    &["model", "dtype", "device", "video", "object", "prompt_frame", "frames_scored", "j", "f", "jf"];

/// Columns of `frames.csv`: one row per cell and tracked frame.
pub const FRAMES: &[&str] = &[
    "model",
    "dtype",
    "device",
    "video",
    "frame",
    "decode_ms",
    "preprocess_ms",
    "image_encoder_ms",
    "memory_attention_ms",
    "mask_decoder_ms",
    "memory_encoder_ms",
    "postprocess_ms",
    "latency_ms",
    "objects",
    "repeat",
    "response_ms",
];

/// Columns of `frame_scores.csv`: one row per cell, object and annotated frame.
pub const FRAME_SCORES: &[&str] =
    &["model", "dtype", "device", "video", "object", "frame", "j", "f", "object_score", "counted", "visible"];

/// `summary.csv`.
pub fn summary(run: &RunRecord) -> Vec<u8> {
    let mut file = File::new(SUMMARY);
    for cell in &run.cells {
        let finished = cell.summary.as_ref();
        // A cell that failed has finished some videos at most: counts, no figures.
        let s = finished.filter(|_| !matches!(cell.verdict, Verdict::Failed { .. }));
        let latency = s.and_then(|s| s.latency);
        let peak = cell.memory.get(&MemoryPhase::Peak);
        let repeats = s.and_then(|s| s.repeats);
        file.row([
            text(&cell.model),
            text(&cell.pack),
            text(cell.prompt),
            text(cell.dtype),
            maybe(cell.effective_dtype.as_ref()),
            text(&cell.device),
            text(cell.verdict.as_str()),
            cell.verdict.reasons(),
            maybe(finished.map(|s| s.videos)),
            maybe(finished.map(|s| s.objects)),
            maybe(finished.map(|s| s.frames)),
            maybe(s.and_then(|s| s.j)),
            maybe(s.and_then(|s| s.f)),
            maybe(s.and_then(|s| s.jf)),
            maybe(s.and_then(|s| s.fps_wall)),
            maybe(s.and_then(|s| s.fps_model)),
            maybe(latency.map(|l| l.mean_ms)),
            maybe(latency.map(|l| l.p50_ms)),
            maybe(latency.map(|l| l.p90_ms)),
            maybe(latency.map(|l| l.p95_ms)),
            maybe(latency.map(|l| l.p99_ms)),
            maybe(latency.map(|l| l.max_ms)),
            maybe(cell.load_ms),
            maybe(cell.warmup.as_ref().and_then(|w| w.warmup_ms)),
            maybe(peak.and_then(|m| m.system_mib)),
            maybe(peak.and_then(|m| m.pss_mib)),
            maybe(peak.and_then(|m| m.rss_mib)),
            maybe(s.and_then(|s| s.energy_per_frame_j)),
            maybe(s.and_then(|s| s.overhead_share)),
            maybe(s.and_then(|s| s.jf_interval).map(|i| i.low)),
            maybe(s.and_then(|s| s.jf_interval).map(|i| i.high)),
            maybe(s.and_then(|s| s.fps_wall_interval).map(|i| i.low)),
            maybe(s.and_then(|s| s.fps_wall_interval).map(|i| i.high)),
            text(&cell.pack_digest),
            maybe(cell.runtime.as_ref().map(|r| &r.version)),
            text(&run.data.root),
            text(&run.data.protocol),
            text(&run.device.name),
            text(&run.device.digest),
            text(&run.run_id),
            text(cell.scenario),
            maybe(s.and_then(|s| s.jitter_ms)),
            maybe(s.and_then(|s| s.deadline_misses)),
            maybe(cell.warmup.as_ref().and_then(|w| w.first_mask_ms)),
            maybe(engine_build_ms(cell)),
            maybe(s.and_then(|s| s.steady).map(|s| s.begins_after)),
            maybe(s.and_then(|s| s.steady).map(|s| s.frames)),
            maybe(s.and_then(|s| s.steady).map(|s| s.latency.p50_ms)),
            maybe(s.and_then(|s| s.steady).map(|s| s.latency.p95_ms)),
            maybe(s.and_then(|s| s.steady).and_then(|s| s.fps_model)),
            maybe(s.and_then(|s| s.dropped)),
            maybe(s.and_then(|s| s.response).map(|r| r.p50_ms)),
            maybe(s.and_then(|s| s.response).map(|r| r.p95_ms)),
            maybe(s.and_then(|s| s.energy_above_idle_per_frame_j)),
            maybe(s.and_then(|s| s.jf_objects_interval).map(|i| i.low)),
            maybe(s.and_then(|s| s.jf_objects_interval).map(|i| i.high)),
            maybe(repeats.map(|r| r.count)),
            maybe(repeats.and_then(|r| r.fps_wall?.interval).map(|i| i.low)),
            maybe(repeats.and_then(|r| r.fps_wall?.interval).map(|i| i.high)),
            maybe(repeats.and_then(|r| r.latency_p50_ms?.interval).map(|i| i.low)),
            maybe(repeats.and_then(|r| r.latency_p50_ms?.interval).map(|i| i.high)),
            maybe(repeats.and_then(|r| r.latency_p50_ms?.next_run).map(|i| i.low)),
            maybe(repeats.and_then(|r| r.latency_p50_ms?.next_run).map(|i| i.high)),
            maybe(run.null_run.as_ref().map(|n| n.median_us)),
        ]);
    }
    file.bytes()
}

/// Time spent building engines, all graphs; `None` where none were built.
pub(super) fn engine_build_ms(cell: &CellRecord) -> Option<f64> {
    cell.graph_build_ms.as_ref().map(|graphs| graphs.iter().map(|(_, ms)| ms).sum())
}

/// Every finished sequence of every repeat with its cell: cell, repeat from 1, sequence.
fn repeated(run: &RunRecord) -> impl Iterator<Item = (&CellRecord, u32, &SequenceRecord)> {
    run.cells.iter().flat_map(|cell| {
        let first = cell.sequences.iter().map(move |s| (cell, 1, s));
        let others = cell.repeats.iter().flat_map(move |r| r.sequences.iter().map(move |s| (cell, r.repeat, s)));
        first.chain(others)
    })
}

/// `videos.csv`.
pub fn videos(run: &RunRecord) -> Vec<u8> {
    let mut file = File::new(VIDEOS);
    for (cell, repeat, sequence) in repeated(run) {
        let [model, dtype, device] = key(cell);
        let seconds = sequence.wall_ms / 1000.0;
        file.row([
            model,
            dtype,
            device,
            text(repeat),
            text(&sequence.video),
            text(sequence.frames.len()),
            text(sequence.dropped.len()),
            text(sequence.wall_ms),
            maybe((seconds > 0.0).then(|| sequence.frames.len() as f64 / seconds)),
            maybe(sequence.fps),
        ]);
    }
    file.bytes()
}

/// `rails.csv`.
pub fn rails(run: &RunRecord) -> Vec<u8> {
    let mut file = File::new(RAILS);
    for cell in &run.cells {
        let first = (1, &cell.energy_j, &cell.energy_above_idle_j, &cell.idle_power_w, &cell.sequences);
        let others = cell.repeats.iter().filter(|r| r.repeat > 1);
        let others = others.map(|r| (r.repeat, &r.energy_j, &r.energy_above_idle_j, &r.idle_power_w, &r.sequences));
        for (repeat, energy, above, idle, sequences) in std::iter::once(first).chain(others) {
            let whole = ("", energy, above, sequences.iter().map(|s| s.frames.len()).sum());
            let videos =
                sequences.iter().map(|s| (s.video.as_str(), &s.energy_j, &s.energy_above_idle_j, s.frames.len()));
            for (video, energy, above, frames) in std::iter::once(whole).chain(videos) {
                for (rail, joules) in energy {
                    let [model, dtype, device] = key(cell);
                    file.row([
                        model,
                        dtype,
                        device,
                        text(video),
                        text(rail),
                        text(joules),
                        maybe(above.get(rail)),
                        maybe(idle.get(rail)),
                        text(frames),
                        text(repeat),
                    ]);
                }
            }
        }
    }
    file.bytes()
}

/// `repeats.csv`.
pub fn repeats(run: &RunRecord) -> Vec<u8> {
    let mut file = File::new(REPEATS);
    for cell in &run.cells {
        for repeat in &cell.repeats {
            let [model, dtype, device] = key(cell);
            let s = repeat.summary.as_ref().filter(|_| !matches!(repeat.verdict, Verdict::Failed { .. }));
            let latency = s.and_then(|s| s.latency);
            file.row([
                model,
                dtype,
                device,
                text(repeat.repeat),
                text(repeat.verdict.as_str()),
                text(repeat.verdict.reasons()),
                maybe(s.and_then(|s| s.jf)),
                maybe(s.and_then(|s| s.fps_wall)),
                maybe(s.and_then(|s| s.fps_model)),
                maybe(latency.map(|l| l.mean_ms)),
                maybe(latency.map(|l| l.p50_ms)),
                maybe(latency.map(|l| l.p95_ms)),
                maybe(latency.map(|l| l.p99_ms)),
                maybe(latency.map(|l| l.max_ms)),
                maybe(repeat.load_ms),
                maybe(repeat.first_mask_ms),
                maybe(s.and_then(|s| s.energy_per_frame_j)),
            ]);
        }
    }
    file.bytes()
}

/// Every finished sequence with its cell, in plan order.
fn sequences(run: &RunRecord) -> impl Iterator<Item = (&CellRecord, &SequenceRecord)> {
    run.cells.iter().flat_map(|cell| cell.sequences.iter().map(move |sequence| (cell, sequence)))
}

/// `objects.csv`.
pub fn objects(run: &RunRecord) -> Vec<u8> {
    let mut file = File::new(OBJECTS);
    for (cell, sequence) in sequences(run) {
        for object in &sequence.objects {
            let [model, dtype, device] = key(cell);
            file.row([
                model,
                dtype,
                device,
                text(&sequence.video),
                text(&object.object),
                text(object.prompt_frame),
                text(object.frames_scored),
                maybe(object.j),
                maybe(object.f),
                maybe(object.jf),
            ]);
        }
    }
    file.bytes()
}

/// `frames.csv`.
pub fn frames(run: &RunRecord) -> Vec<u8> {
    let mut file = File::new(FRAMES);
    for (cell, repeat, sequence) in repeated(run) {
        for frame in &sequence.frames {
            let [model, dtype, device] = key(cell);
            let stage = |name: &str| maybe(frame.stages_ms.get(name));
            file.row([
                model,
                dtype,
                device,
                text(&sequence.video),
                text(frame.frame),
                text(frame.decode_ms),
                stage("preprocess"),
                stage("image_encoder"),
                stage("memory_attention"),
                stage("mask_decoder"),
                stage("memory_encoder"),
                stage("postprocess"),
                text(frame.latency_ms),
                text(frame.objects),
                text(repeat),
                maybe(frame.response_ms),
            ]);
        }
    }
    file.bytes()
}

/// `frame_scores.csv`.
pub fn frame_scores(run: &RunRecord) -> Vec<u8> {
    let mut file = File::new(FRAME_SCORES);
    for (cell, sequence) in sequences(run) {
        for object in &sequence.objects {
            for score in &object.per_frame {
                let [model, dtype, device] = key(cell);
                file.row([
                    model,
                    dtype,
                    device,
                    text(&sequence.video),
                    text(&object.object),
                    text(score.frame),
                    text(score.j),
                    text(score.f),
                    maybe(score.object_score),
                    text(score.counted),
                    text(score.visible),
                ]);
            }
        }
    }
    file.bytes()
}

/// Columns of `memory.csv`: the worker's resident set size after so many frames of a video.
pub const MEMORY: &[&str] = &["model", "dtype", "device", "video", "frames", "rss_mib"];

/// `memory.csv`.
pub fn memory(run: &RunRecord) -> Vec<u8> {
    let mut file = File::new(MEMORY);
    for cell in &run.cells {
        for point in &cell.memory_curve {
            let [model, dtype, device] = key(cell);
            file.row([model, dtype, device, text(&point.video), text(point.frames), text(point.rss_mib)]);
        }
    }
    file.bytes()
}

/// What names a cell in every file.
fn key(cell: &CellRecord) -> [String; 3] {
    [text(&cell.model), text(cell.dtype), text(&cell.device)]
}

/// A value as text; Rust writes floats with the fewest digits that read back to the same bits, without an exponent.
fn text(value: impl Display) -> String {
    value.to_string()
}

/// An empty field for what was not measured.
fn maybe(value: Option<impl Display>) -> String {
    value.map_or_else(String::new, text)
}

/// A CSV file in memory; a row that is not as wide as the header is a bug that the schema test catches.
struct File(::csv::Writer<Vec<u8>>);

impl File {
    fn new(header: &[&str]) -> Self {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record(header).expect("writing to memory");
        File(writer)
    }

    fn row<const N: usize>(&mut self, fields: [String; N]) {
        self.0.write_record(fields).expect("writing to memory, as many fields as the header has");
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("writing to memory")
    }
}
