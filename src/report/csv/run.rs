//! Which rows and columns do the files of a run have?

use super::{CsvTable, columns, maybe, value};
use crate::results::disturbance;
use crate::results::record::{
    AgreementRecord, CellRecord, FrameRecord, FrameScoreRecord, Interval, LatencyRecord, MemoryPoint, MemoryRecord,
    ObjectRecord, RepeatRecord, RunRecord, SequenceRecord, SteadyRecord, SummaryRecord, Verdict, WarmupRecord,
};
use crate::run::event::Phase;
use crate::score::panoptic::PanopticScores;
use crate::score::{MoseScore, Protocol};
use crate::telemetry::key::MemoryPhase;
use crate::telemetry::{PHASE, Telemetry};

/// A row: the cell that it belongs to, and what it is about.
pub struct CsvEntry<'a, T> {
    pub(super) cell: &'a CellRecord,
    /// From 1.
    pub(super) repeat: u32,
    /// Empty where the row is about all videos.
    pub(super) video: &'a str,
    pub(super) of: T,
}

const FAILED: &str = "the cell failed";
const FEW_FRAMES_90: &str = "fewer than 100 frames, or the cell failed";
const FEW_FRAMES_95: &str = "fewer than 200 frames, or the cell failed";
const FEW_FRAMES_99: &str = "fewer than 1,000 frames, or the cell failed";
const FEW_STEADY: &str = "no steady state was found, it has fewer than 200 frames, or the cell failed";
const FEW_REALTIME: &str = "the scenario is not `realtime`, fewer than 200 frames, or the cell failed";
const UNSCORED: &str = "no frame counts, there is no ground truth, or the cell failed";
const NEVER_GONE: &str = "no object is gone and counts, there is no ground truth, or the cell failed";
const NEVER_BACK: &str = "no object (re)appears, there is no ground truth, or the cell failed";
const FEW_VIDEOS: &str = "fewer than five videos, or the cell failed";
const FEW_OBJECTS: &str = "fewer than five objects, or the cell failed";
const NO_RAIL: &str = "no rail measures the whole module, or the cell failed";
const OVERLAP: &str = "frames overlap (`pipeline=on`), or the cell failed";
const UNLOADED: &str = "the model was never loaded";
const UNMEASURED: &str = "it could not be read";
const UNSTEADY: &str = "no steady state was found, or the cell failed";
const NOT_REALTIME: &str = "the scenario is not `realtime`, or the cell failed";
const FEW_REPEATS: &str = "fewer than five repeats, or the cell failed";
const TWO_REPEATS: &str = "fewer than three repeats, or the cell failed";
const NOT_DISTURBED: &str = "nothing disturbed it, or it failed";
const PROMPTED: &str = "objects are prompted";
const NOT_FOUND: &str = "objects are prompted, or the cell failed";
const NOT_SCORED: &str = "objects are prompted, there is no ground truth, or the cell failed";
const NOT_TAKEN: &str = "prompts reach the model, nobody prompts, or the cell failed";
const UNTOLD_MASKS: &str = "there is no `ap`, or the record is from before this was kept";
const NO_SEGMENTS: &str = "there is no panoptic ground truth, objects are prompted, the cell failed, no class of the model is a category, or there is nothing to average: no such category, or videos that are too short";
const NO_CLASS: &str = "the dataset names no category that is a class of the model, or there is no `ap`";
const NO_STAGE: &str = "the stage did not run on this frame";

/// A row with the aggregates of a cell or of a repeat.
trait Aggregates {
    /// None where it failed.
    fn figures(&self) -> Option<&SummaryRecord>;
    fn figure(&self, get: fn(&SummaryRecord) -> Option<f64>) -> String {
        maybe(self.figures().and_then(get))
    }
    fn latency(&self, get: fn(LatencyRecord) -> Option<f64>) -> String {
        maybe(self.figures().and_then(|s| s.latency).and_then(get))
    }
}

/// A row about a cell as a whole.
pub(super) type CellEntry<'a> = CsvEntry<'a, &'a RunRecord>;

/// A cell that failed has finished some videos at most: counts, no figures.
impl Aggregates for CellEntry<'_> {
    fn figures(&self) -> Option<&SummaryRecord> {
        self.cell.summary.as_ref().filter(|_| !matches!(self.cell.verdict, Verdict::Failed { .. }))
    }
}

impl CellEntry<'_> {
    fn finished(&self, count: fn(&SummaryRecord) -> usize) -> String {
        maybe(self.cell.summary.as_ref().map(count))
    }
    fn count(&self, get: fn(&SummaryRecord) -> Option<usize>) -> String {
        maybe(self.figures().and_then(get))
    }
    fn segments(&self, get: fn(&PanopticScores) -> Option<f64>) -> String {
        maybe(self.figures().and_then(|s| get(s.panoptic()?)))
    }
    fn low(&self, get: fn(&SummaryRecord) -> Option<Interval>) -> String {
        maybe(self.figures().and_then(get).map(|i| i.low))
    }
    fn high(&self, get: fn(&SummaryRecord) -> Option<Interval>) -> String {
        maybe(self.figures().and_then(get).map(|i| i.high))
    }
    fn steady(&self, get: fn(SteadyRecord) -> Option<f64>) -> String {
        maybe(self.figures().and_then(|s| s.steady).and_then(get))
    }
    fn warmup(&self, get: fn(&WarmupRecord) -> Option<f64>) -> String {
        maybe(self.cell.warmup.as_ref().and_then(get))
    }
    fn peak(&self, get: fn(&MemoryRecord) -> Option<f64>) -> String {
        maybe(self.cell.memory.get(&MemoryPhase::Peak).and_then(get))
    }
}

/// Columns of `summary.csv`; as long as the file is wide.
pub fn summary_table<'a>() -> CsvTable<CellEntry<'a>> {
    let columns = columns! {
        CellEntry<'a>;
        "model", "", "requested model tag: `<pack>_<prompt>`, or `<pack>_<detector>`" => |r| value(&r.cell.model);
        "pack", "", "pack that the tag stands for" => |r| value(&r.cell.pack);
        "prompt", "", "`points`, `bbox` or `mask`; `detector` where a detector founds the tracks" => |r| value(r.cell.prompt);
        "dtype", "", "requested precision" => |r| value(r.cell.dtype);
        "effective_dtype", "", "precision in effect, in words", UNLOADED
            => |r| maybe(r.cell.effective_dtype.as_ref());
        "device", "", "requested device, which is the one used: there is no fallback" => |r| value(&r.cell.device);
        "verdict", "", "`valid`, `invalid` or `failed`" => |r| value(r.cell.verdict.as_str());
        "reasons", "", "why it is invalid, or what failed", "the cell is valid" => |r| r.cell.verdict.reasons();
        "videos", "", "finished videos", "none was finished" => |r| r.finished(|s| s.videos);
        "objects", "", "scored objects in them", "none was finished" => |r| r.finished(|s| s.objects);
        "frames", "", "tracked frames in them", "none was finished" => |r| r.finished(|s| s.frames);
        "j", "0 to 100", "mean J over objects", UNSCORED => |r| r.figure(|s| s.j);
        "f", "0 to 100", "mean F over objects", UNSCORED => |r| r.figure(|s| s.f);
        "jf", "0 to 100", "J&F: the mean of `j` and `f`", UNSCORED => |r| r.figure(|s| s.jf);
        "fps_wall", "frames/s", "frames over wall time, decoding included", FAILED => |r| r.figure(|s| s.fps_wall);
        "fps_model", "frames/s", "frames over summed latency, without decoding", OVERLAP
            => |r| r.figure(|s| s.fps_model);
        "latency_mean_ms", "ms", "mean latency over all tracked frames", FAILED => |r| r.latency(|l| Some(l.mean_ms));
        "latency_p50_ms", "ms", "its median", FAILED => |r| r.latency(|l| Some(l.p50_ms));
        "latency_p90_ms", "ms", "its 90th percentile", FEW_FRAMES_90 => |r| r.latency(|l| l.p90());
        "latency_p95_ms", "ms", "its 95th percentile", FEW_FRAMES_95 => |r| r.latency(|l| l.p95());
        "latency_p99_ms", "ms", "its 99th percentile", FEW_FRAMES_99 => |r| r.latency(|l| l.p99());
        "latency_max_ms", "ms", "its maximum", FAILED => |r| r.latency(|l| Some(l.max_ms));
        "load_ms", "ms", "time to load the model, engine builds included", UNLOADED => |r| maybe(r.cell.load_ms);
        "warmup_ms", "ms", "time of the warm-up frames", "no warm-up frame was finished"
            => |r| r.warmup(|w| w.warmup_ms);
        "peak_system_mib", "MiB", "largest fall of the system's available memory",
            "it could not be read, or others freed memory meanwhile" => |r| r.peak(|m| m.system_mib);
        "peak_pss_mib", "MiB", "largest proportional set size of the worker", UNMEASURED => |r| r.peak(|m| m.pss_mib);
        "peak_rss_mib", "MiB", "largest resident set size of the worker", UNMEASURED => |r| r.peak(|m| m.rss_mib);
        "energy_per_frame_j", "J", "energy of the whole module per tracked frame", NO_RAIL
            => |r| r.figure(|s| s.energy_per_frame_j);
        "overhead_share", "0 to 1", "share of the latency in pre- and postprocessing",
            "no stage was timed, or the cell failed" => |r| r.figure(|s| s.overhead_share);
        "jf_low95", "0 to 100", "lower end of the 95 % interval of `jf`, whole videos resampled", FEW_VIDEOS
            => |r| r.low(|s| s.jf_interval);
        "jf_high95", "0 to 100", "its upper end", FEW_VIDEOS => |r| r.high(|s| s.jf_interval);
        "fps_wall_low95", "frames/s", "lower end of the 95 % interval of `fps_wall`, whole videos resampled", FEW_VIDEOS
            => |r| r.low(|s| s.fps_wall_interval);
        "fps_wall_high95", "frames/s", "its upper end", FEW_VIDEOS => |r| r.high(|s| s.fps_wall_interval);
        "pack_digest", "", "SHA-256 of the pack's manifest; with a detector or a label pack, the digests of all joined by `+`" => |r| value(&r.cell.pack_digest);
        "onnxruntime", "", "version of ONNX Runtime", UNLOADED
            => |r| maybe(r.cell.runtime.as_ref().map(|o| &o.version));
        "dataset", "", "root directory of the videos, as given" => |r| value(&r.of.data.root);
        "protocol", "", "scoring protocol of `j`, `f` and `jf`; `davis2017-unsup` where objects were found", "there is no ground truth" => |r| match &r.cell.detector {
            Some(_) if r.of.data.has_truth() => value(Protocol::Davis2017Unsup),
            _ => value(&r.of.data.protocol),
        };
        "device_name", "", "board or machine" => |r| value(&r.of.device.name);
        "device_digest", "", "digest of all that makes latencies comparable on it" => |r| value(&r.of.device.digest);
        "run_id", "", "run, named after its start in UTC" => |r| value(&r.of.run_id);
        "scenario", "", "`single-stream`, `offline` or `realtime`" => |r| value(r.cell.scenario);
        "jitter_ms", "ms", "mean difference between the latencies of neighbouring frames",
            "no video has two frames, or the cell failed" => |r| r.figure(|s| s.jitter_ms);
        "deadline_misses", "", "frames that took longer than the time to the clip's next frame",
            "no clip tells its frame rate, or the cell failed" => |r| r.count(|s| s.deadline_misses);
        "first_mask_ms", "ms", "from the start of loading to the first masks", "there were none"
            => |r| r.warmup(|w| w.first_mask_ms);
        "engine_build_ms", "ms", "time to build the engines of all graphs", "none was built"
            => |r| maybe(engine_build_ms(r.cell));
        "steady_begins_after_frames", "", "frames before the steady state, in the first repeat", UNSTEADY
            => |r| r.count(|s| s.steady.map(|s| s.begins_after));
        "steady_frames", "", "frames in it", UNSTEADY => |r| r.count(|s| s.steady.map(|s| s.frames));
        "steady_latency_p50_ms", "ms", "median latency in it", UNSTEADY => |r| r.steady(|s| Some(s.latency.p50_ms));
        "steady_latency_p95_ms", "ms", "95th percentile of latency in it", FEW_STEADY
            => |r| r.steady(|s| s.latency.p95());
        "steady_fps_model", "frames/s", "frames over summed latency in it", UNSTEADY => |r| r.steady(|s| s.fps_model);
        "dropped_frames", "", "frames that came while another was worked on", NOT_REALTIME
            => |r| r.count(|s| s.dropped);
        "response_p50_ms", "ms", "median time from a frame's arrival (of a live source its capture) to its masks", NOT_REALTIME
            => |r| r.figure(|s| s.response.map(|l| l.p50_ms));
        "response_p95_ms", "ms", "its 95th percentile", FEW_REALTIME => |r| r.figure(|s| s.response.and_then(|l| l.p95()));
        "energy_above_idle_per_frame_j", "J", "`energy_per_frame_j` without the idle power", NO_RAIL
            => |r| r.figure(|s| s.energy_above_idle_per_frame_j);
        "jf_objects_low95", "0 to 100", "lower end of the 95 % interval of `jf`, objects resampled", FEW_OBJECTS
            => |r| r.low(|s| s.jf_objects_interval);
        "jf_objects_high95", "0 to 100", "its upper end", FEW_OBJECTS => |r| r.high(|s| s.jf_objects_interval);
        "repeats", "", "repeats with figures; speed, jitter and energy are medians over them, maxima and peaks those of all",
            "the cell ran once, or failed" => |r| r.count(|s| s.repeats.map(|r| r.count));
        "fps_wall_repeats_low95", "frames/s", "lower end of the 95 % interval of the median `fps_wall`",
            FEW_REPEATS => |r| r.low(|s| s.repeats?.fps_wall?.interval);
        "fps_wall_repeats_high95", "frames/s", "its upper end", FEW_REPEATS
            => |r| r.high(|s| s.repeats?.fps_wall?.interval);
        "latency_p50_repeats_low95_ms", "ms", "lower end of the 95 % interval of the median `latency_p50_ms`",
            FEW_REPEATS => |r| r.low(|s| s.repeats?.latency_p50_ms?.interval);
        "latency_p50_repeats_high95_ms", "ms", "its upper end", FEW_REPEATS
            => |r| r.high(|s| s.repeats?.latency_p50_ms?.interval);
        "latency_p50_next_run_low95_ms", "ms", "lower end of the 95 % interval for one more run's `latency_p50_ms`",
            TWO_REPEATS => |r| r.low(|s| s.repeats?.latency_p50_ms?.next_run);
        "latency_p50_next_run_high95_ms", "ms", "its upper end", TWO_REPEATS
            => |r| r.high(|s| s.repeats?.latency_p50_ms?.next_run);
        "harness_median_us", "µs", "median time per frame of the harness itself, without a model",
            "it was not measured" => |r| maybe(r.of.null_run.as_ref().map(|n| n.median_us));
        "peak_gpu_mib", "MiB", "largest memory of the worker on GPUs that have memory of their own, by NVML",
            "no such GPU was used, or NVML does not tell" => |r| r.peak(|m| m.gpu_mib);
        "disturbed", "", "what disturbed the measurement, names with semicolons between", NOT_DISTURBED => |r| disturbance::list(&r.cell.disturbed);
        "jf_dot", "0 to 100", "MOSEv2's J&Ḟ: F with a tolerance that follows the object's size", UNSCORED => |r| r.figure(|s| s.jf_dot);
        "jf_disappear", "0 to 100", "J&Ḟ while an object is gone", NEVER_GONE => |r| r.figure(|s| s.jf_disappear);
        "jf_reappear", "0 to 100", "J&Ḟ after an object (re)appears", NEVER_BACK => |r| r.figure(|s| s.jf_reappear);
        "objects_disappear", "", "objects that `jf_disappear` is a mean of", UNSCORED => |r| r.count(|s| s.objects_disappear);
        "objects_reappear", "", "objects that `jf_reappear` is a mean of", UNSCORED => |r| r.count(|s| s.objects_reappear);
        "detector", "", "pack of the detector that founds the tracks", PROMPTED => |r| maybe(r.cell.detector.as_ref().map(|d| &d.pack));
        "tracks_founded", "", "tracks that the detector founded", NOT_FOUND => |r| r.count(|s| s.found.map(|f| f.founded));
        "tracks_confirmed", "", "those of them that are the result", NOT_FOUND => |r| r.count(|s| s.found.map(|f| f.confirmed));
        "tracks_taken_back", "", "those that too few detections supported", NOT_FOUND => |r| r.count(|s| s.found.map(|f| f.taken_back));
        "tracks_unmatched", "", "confirmed ones whose IoU with every object is below 0.5 on every frame", NOT_SCORED
            => |r| r.count(|s| s.found?.unmatched);
        "j_unsup", "0 to 100", "mean J of DAVIS 2017 unsupervised: each object of a video's first annotation with the track that is matched with it. No `j` of prompted objects compares with it", NOT_SCORED
            => |r| r.figure(|s| s.found?.scores?.j);
        "f_unsup", "0 to 100", "its mean F", NOT_SCORED => |r| r.figure(|s| s.found?.scores?.f);
        "jf_unsup", "0 to 100", "the mean of `j_unsup` and `f_unsup`", NOT_SCORED => |r| r.figure(|s| s.found?.scores?.jf);
        "objects_unsup", "", "objects that these are means over", NOT_SCORED => |r| r.count(|s| Some(s.found?.scores?.objects));
        "ap", "0 to 100", "class-agnostic average precision of tubes over IoU 0.50 to 0.95, as YouTube-VIS computes it; `ap_masks` says of which masks", NOT_SCORED
            => |r| r.figure(|s| s.found?.scores?.ap);
        "ap50", "0 to 100", "the same at IoU 0.50", NOT_SCORED => |r| r.figure(|s| s.found?.scores?.ap50);
        "ar10", "0 to 100", "average recall with ten tracks per video", NOT_SCORED => |r| r.figure(|s| s.found?.scores?.ar10);
        "hota", "0 to 100", "HOTA, mean over 19 thresholds", NOT_SCORED => |r| r.figure(|s| s.found?.scores?.hota);
        "det_a", "0 to 100", "its detection accuracy", NOT_SCORED => |r| r.figure(|s| s.found?.scores?.det_a);
        "ass_a", "0 to 100", "its association accuracy", NOT_SCORED => |r| r.figure(|s| s.found?.scores?.ass_a);
        "idf1", "0 to 100", "F1 of identities at IoU 0.5", NOT_SCORED => |r| r.figure(|s| s.found?.scores?.idf1);
        "id_switches", "", "times an object's track changed, at IoU 0.5", NOT_SCORED => |r| r.count(|s| s.found?.scores?.id_switches);
        "ap_class", "0 to 100", "average precision in which a track counts for its own class only, mean over the categories of the objects", NO_CLASS
            => |r| r.figure(|s| s.found?.scores?.class_ap);
        "ap50_class", "0 to 100", "the same at IoU 0.50", NO_CLASS => |r| r.figure(|s| s.found?.scores?.class_ap50);
        "categories", "", "categories that these are means over", NO_CLASS => |r| r.count(|s| s.found?.scores?.categories);
        "ap_masks", "", "what average precision is of: `whole` masks (`overlaps=keep`), or masks in which each pixel belongs to `one` track", UNTOLD_MASKS
            => |r| maybe(r.cell.summary.as_ref().and_then(|s| s.found?.scores?.ap_masks()));
        "objects_without_track", "", "prompted objects that took none of the tracks that the model found itself", NOT_TAKEN => |r| r.count(|s| s.taken.map(|t| t.without));
        "objects_track_ended", "", "those whose track ended before the video", NOT_TAKEN => |r| r.count(|s| s.taken.map(|t| t.ended));
        "vpq", "0 to 100", "video panoptic quality: mean over windows of 1, 2, 4 and 6 frames, as papers have it", NO_SEGMENTS => |r| r.segments(|s| s.vpq);
        "vpq_things", "0 to 100", "`vpq` over things", NO_SEGMENTS => |r| r.segments(|s| s.vpq_things);
        "vpq_stuff", "0 to 100", "`vpq` over stuff", NO_SEGMENTS => |r| r.segments(|s| s.vpq_stuff);
        "stq", "0 to 100", "segmentation and tracking quality: geometric mean of `aq` and `sq`", NO_SEGMENTS => |r| r.segments(|s| s.stq);
        "aq", "0 to 100", "association quality of STQ, things only", NO_SEGMENTS => |r| r.segments(|s| s.aq);
        "sq", "0 to 100", "segmentation quality of STQ: mean IoU over categories", NO_SEGMENTS => |r| r.segments(|s| s.sq);
    };
    CsvTable { file: "summary.csv", row: "One row per cell. A cell that failed has counts, but no figures.", columns }
}

/// `summary.csv`.
pub fn summary(run: &RunRecord) -> Vec<u8> {
    summary_table().file(run.cells.iter().map(|cell| CsvEntry { cell, repeat: 1, video: "", of: run }))
}

/// Time spent building engines, all graphs; `None` where none were built.
pub(in crate::report) fn engine_build_ms(cell: &CellRecord) -> Option<f64> {
    cell.graph_build_ms.as_ref().map(|graphs| graphs.iter().map(|(_, ms)| ms).sum())
}

/// Every finished sequence of every repeat.
fn repeated(run: &RunRecord) -> impl Iterator<Item = CsvEntry<'_, &SequenceRecord>> {
    run.cells.iter().flat_map(|cell| {
        let sequences = cell.runs().flat_map(|(repeat, sequences)| sequences.iter().map(move |s| (repeat, s)));
        sequences.map(move |(repeat, of)| CsvEntry { cell, repeat, video: &of.video, of })
    })
}

/// Columns of `videos.csv`. Energy per video is in `rails.csv`.
pub fn videos_table<'a>() -> CsvTable<CsvEntry<'a, &'a SequenceRecord>> {
    let columns = columns! {
        CsvEntry<'a, &'a SequenceRecord>;
        cell;
        "repeat", "", "number of the repeat, from 1" => |r| value(r.repeat);
        "video", "", "name of the video" => |r| value(r.video);
        "frames", "", "tracked frames" => |r| value(r.of.frames.len());
        "dropped_frames", "", "frames that came while another was worked on (`realtime`)"
            => |r| value(r.of.dropped.len());
        "wall_ms", "ms", "wall time, decoding included" => |r| value(r.of.wall_ms);
        "fps_wall", "frames/s", "frames over wall time", "no time has passed" => |r| {
            let seconds = r.of.wall_ms / 1000.0;
            maybe((seconds > 0.0).then(|| r.of.frames.len() as f64 / seconds))
        };
        "fps", "frames/s", "frame rate of the clip: its deadline, and the clock in `realtime`", "the clip tells none"
            => |r| maybe(r.of.fps);
        "labels_ms", "ms", "image tower of the label pack over the crops of all objects, after the last frame and no part of `wall_ms`",
            "there is no label pack" => |r| maybe(r.of.labels.as_ref().map(|labels| labels.time_ms));
    };
    CsvTable { file: "videos.csv", row: "One row per cell, repeat and finished video.", columns }
}

/// `videos.csv`.
pub fn videos(run: &RunRecord) -> Vec<u8> {
    videos_table().file(repeated(run))
}

/// What one rail drew, over one video or all of them.
pub struct RailEntry<'a> {
    name: &'a str,
    joules: f64,
    above_idle: Option<f64>,
    idle_watts: Option<f64>,
    frames: usize,
}

/// Columns of `rails.csv`.
pub fn rails_table<'a>() -> CsvTable<CsvEntry<'a, RailEntry<'a>>> {
    let columns = columns! {
        CsvEntry<'a, RailEntry<'a>>;
        cell;
        "video", "", "name of the video", "the row is about all videos" => |r| value(r.video);
        "rail", "", "the board's own name of the rail; rails overlap, so never add them" => |r| value(r.of.name);
        "energy_j", "J", "energy while the videos were tracked" => |r| value(r.of.joules);
        "energy_above_idle_j", "J", "the same without the idle power", "idle power was not measured"
            => |r| maybe(r.of.above_idle);
        "idle_power_w", "W", "mean power before the worker was started", "it was not measured"
            => |r| maybe(r.of.idle_watts);
        "frames", "", "tracked frames" => |r| value(r.of.frames);
        "repeat", "", "number of the repeat, from 1" => |r| value(r.repeat);
    };
    let row = "One row per cell, repeat, video and rail, and one per rail for all videos together.";
    CsvTable { file: "rails.csv", row, columns }
}

/// `rails.csv`.
pub fn rails(run: &RunRecord) -> Vec<u8> {
    let mut rows = Vec::new();
    for cell in &run.cells {
        let first = (1, &cell.energy_j, &cell.energy_above_idle_j, &cell.idle_power_w, &cell.sequences);
        let others = cell.repeats.iter().filter(|r| r.repeat > 1);
        let others = others.map(|r| (r.repeat, &r.energy_j, &r.energy_above_idle_j, &r.idle_power_w, &r.sequences));
        for (repeat, energy, above, idle, sequences) in std::iter::once(first).chain(others) {
            let whole = ("", energy, above, sequences.iter().map(|s| s.frames.len()).sum());
            let videos =
                sequences.iter().map(|s| (s.video.as_str(), &s.energy_j, &s.energy_above_idle_j, s.frames.len()));
            for (video, energy, above, frames) in std::iter::once(whole).chain(videos) {
                rows.extend(energy.iter().map(|(name, joules)| {
                    let (above_idle, idle_watts) = (above.get(name).copied(), idle.get(name).copied());
                    CsvEntry {
                        cell,
                        repeat,
                        video,
                        of: RailEntry { name, joules: *joules, above_idle, idle_watts, frames },
                    }
                }));
            }
        }
    }
    rails_table().file(rows)
}

impl Aggregates for CsvEntry<'_, &RepeatRecord> {
    fn figures(&self) -> Option<&SummaryRecord> {
        self.of.summary.as_ref().filter(|_| !matches!(self.of.verdict, Verdict::Failed { .. }))
    }
}

/// Columns of `repeats.csv`.
pub fn repeats_table<'a>() -> CsvTable<CsvEntry<'a, &'a RepeatRecord>> {
    let columns = columns! {
        CsvEntry<'a, &'a RepeatRecord>;
        cell;
        "repeat", "", "number of the repeat, from 1" => |r| value(r.repeat);
        "verdict", "", "`valid`, `invalid` or `failed`" => |r| value(r.of.verdict.as_str());
        "reasons", "", "why it is invalid, or what failed", "the repeat is valid" => |r| r.of.verdict.reasons();
        "jf", "0 to 100", "J&F", UNSCORED => |r| r.figure(|s| s.jf);
        "fps_wall", "frames/s", "frames over wall time, decoding included", FAILED => |r| r.figure(|s| s.fps_wall);
        "fps_model", "frames/s", "frames over summed latency, without decoding", OVERLAP
            => |r| r.figure(|s| s.fps_model);
        "latency_mean_ms", "ms", "mean latency over all tracked frames", FAILED => |r| r.latency(|l| Some(l.mean_ms));
        "latency_p50_ms", "ms", "its median", FAILED => |r| r.latency(|l| Some(l.p50_ms));
        "latency_p95_ms", "ms", "its 95th percentile", FEW_FRAMES_95 => |r| r.latency(|l| l.p95());
        "latency_p99_ms", "ms", "its 99th percentile", FEW_FRAMES_99 => |r| r.latency(|l| l.p99());
        "latency_max_ms", "ms", "its maximum", FAILED => |r| r.latency(|l| Some(l.max_ms));
        "load_ms", "ms", "time to load the model, engine builds included", UNLOADED => |r| maybe(r.of.load_ms);
        "first_mask_ms", "ms", "from the start of loading to the first masks", "there were none"
            => |r| maybe(r.of.first_mask_ms);
        "energy_per_frame_j", "J", "energy of the whole module per tracked frame", NO_RAIL
            => |r| r.figure(|s| s.energy_per_frame_j);
        "disturbed", "", "what disturbed the measurement, names with semicolons between", NOT_DISTURBED => |r| disturbance::list(&r.of.disturbed);
    };
    CsvTable { file: "repeats.csv", row: "With `--repeat`: one row per cell and repeat.", columns }
}

/// `repeats.csv`.
pub fn repeats(run: &RunRecord) -> Vec<u8> {
    let rows = run
        .cells
        .iter()
        .flat_map(|cell| cell.repeats.iter().map(move |of| CsvEntry { cell, repeat: of.repeat, video: "", of }));
    repeats_table().file(rows)
}

/// Every object of every finished sequence of the first repeat, in plan order.
fn each_object(run: &RunRecord) -> impl Iterator<Item = CsvEntry<'_, &ObjectRecord>> {
    run.cells.iter().flat_map(|cell| {
        cell.sequences
            .iter()
            .flat_map(move |s| s.objects.iter().map(move |of| CsvEntry { cell, repeat: 1, video: &s.video, of }))
    })
}

/// What is known of every object frame by frame.
pub(super) fn each_object_frame<'a, T>(
    run: &'a RunRecord,
    of: fn(&'a ObjectRecord) -> &'a Vec<T>,
) -> impl Iterator<Item = CsvEntry<'a, (&'a ObjectRecord, &'a T)>> {
    each_object(run).flat_map(move |CsvEntry { cell, repeat, video, of: object }| {
        of(object).iter().map(move |frame| CsvEntry { cell, repeat, video, of: (object, frame) })
    })
}

/// Columns of `objects.csv`.
pub fn objects_table<'a>() -> CsvTable<CsvEntry<'a, &'a ObjectRecord>> {
    let columns = columns! {
        CsvEntry<'a, &'a ObjectRecord>;
        cell;
        "video", "", "name of the video" => |r| value(r.video);
        "object", "", "name of the object in the dataset: its folder or its id" => |r| value(&r.of.object);
        "prompt_frame", "", "frame of its prompt, counted from 0" => |r| value(r.of.prompt_frame);
        "frames_scored", "", "frames that count under the protocol; 0 without ground truth" => |r| value(r.of.frames_scored);
        "j", "0 to 100", "mean J over these frames", "no frame counts, or there is no ground truth" => |r| maybe(r.of.j);
        "f", "0 to 100", "mean F over these frames", "no frame counts, or there is no ground truth" => |r| maybe(r.of.f);
        "jf", "0 to 100", "J&F: the mean of `j` and `f`", "no frame counts, or there is no ground truth" => |r| maybe(r.of.jf);
        "jf_dot", "0 to 100", "MOSEv2's J&Ḟ", "no frame counts, or there is no ground truth" => |r| maybe(mosev2(r.of, |m| Some(m.jf_dot())));
        "jf_disappear", "0 to 100", "J&Ḟ while it is gone", "it never is, or there is no ground truth" => |r| maybe(mosev2(r.of, MoseScore::jf_disappear));
        "jf_reappear", "0 to 100", "J&Ḟ after it (re)appears", "it never does, or there is no ground truth" => |r| maybe(mosev2(r.of, MoseScore::jf_reappear));
        "track", "", "track that it took on the frame of its prompt", "none suited the prompt, or prompts reach the model" => |r| maybe(r.of.taken.and_then(|t| t.track));
        "track_iou", "0 to 1", "IoU of that track and the prompt on that frame: of masks, or of boxes", "it took no track, or was prompted with clicks" => |r| maybe(r.of.taken.and_then(|t| t.iou));
        "track_end", "", "first frame on which the track was no more", "it lived to the end, or there is none" => |r| maybe(r.of.taken.and_then(|t| t.end));
    };
    CsvTable { file: "objects.csv", row: "One row per cell and object of a finished video.", columns }
}

/// One of MOSEv2's scores of an object, 0..100.
fn mosev2(object: &ObjectRecord, get: fn(&MoseScore) -> Option<f64>) -> Option<f64> {
    object.mosev2.as_ref().and_then(get).map(|share| share * 100.0)
}

/// `objects.csv`.
pub fn objects(run: &RunRecord) -> Vec<u8> {
    objects_table().file(each_object(run))
}

/// Columns of `frames.csv`.
pub fn frames_table<'a>() -> CsvTable<CsvEntry<'a, &'a FrameRecord>> {
    let columns = columns! {
        CsvEntry<'a, &'a FrameRecord>;
        cell;
        "video", "", "name of the video" => |r| value(r.video);
        "frame", "", "index of the frame, from 0" => |r| value(r.of.frame);
        "decode_ms", "ms", "decoding, beside the model and not part of the latency" => |r| value(r.of.decode_ms);
        "preprocess_ms", "ms", "from RGB bytes to the image encoder's input", NO_STAGE
            => |r| maybe(r.of.stages_ms.get("preprocess"));
        "image_encoder_ms", "ms", "image encoder", NO_STAGE => |r| maybe(r.of.stages_ms.get("image_encoder"));
        "memory_attention_ms", "ms", "memory attention, all objects; prompted frames have none", NO_STAGE
            => |r| maybe(r.of.stages_ms.get("memory_attention"));
        "mask_decoder_ms", "ms", "mask decoder, all objects", NO_STAGE
            => |r| maybe(r.of.stages_ms.get("mask_decoder"));
        "memory_encoder_ms", "ms", "memory encoder, all objects", NO_STAGE
            => |r| maybe(r.of.stages_ms.get("memory_encoder"));
        "postprocess_ms", "ms", "from logits to binary masks at source resolution", NO_STAGE
            => |r| maybe(r.of.stages_ms.get("postprocess"));
        "latency_ms", "ms", "from RGB bytes in host memory to the masks of all objects in host memory"
            => |r| value(r.of.latency_ms);
        "objects", "", "objects tracked on the frame" => |r| value(r.of.objects);
        "repeat", "", "number of the repeat, from 1" => |r| value(r.repeat);
        "response_ms", "ms", "from the frame's arrival to its masks, waiting included; of a live source from its capture", "the scenario is not `realtime`, or a live source did not say when the frame was captured"
            => |r| maybe(r.of.response_ms);
        "detector_ms", "ms", "detector, from the frame to its boxes", NO_STAGE => |r| maybe(r.of.stages_ms.get("detector"));
        "association_ms", "ms", "which detection is which track, which founds one, which track ends; of prompted objects of a video segmenter, which track is whose", NO_STAGE
            => |r| maybe(r.of.stages_ms.get("association"));
        "labels_ms", "ms", "crops of tracks, for their names", NO_STAGE => |r| maybe(r.of.stages_ms.get("labels"));
    };
    CsvTable { file: "frames.csv", row: "One row per cell, repeat and tracked frame; no sample is dropped.", columns }
}

/// `frames.csv`.
pub fn frames(run: &RunRecord) -> Vec<u8> {
    let rows = repeated(run).flat_map(|CsvEntry { cell, repeat, video, of }| {
        of.frames.iter().map(move |of| CsvEntry { cell, repeat, video, of })
    });
    frames_table().file(rows)
}

/// Columns of `frame_scores.csv`.
pub fn frame_scores_table<'a>() -> CsvTable<CsvEntry<'a, (&'a ObjectRecord, &'a FrameScoreRecord)>> {
    let columns = columns! {
        CsvEntry<'a, (&'a ObjectRecord, &'a FrameScoreRecord)>;
        cell;
        "video", "", "name of the video" => |r| value(r.video);
        "object", "", "name of the object in the dataset: its folder or its id" => |r| value(&r.of.0.object);
        "frame", "", "index of the frame, from 0" => |r| value(r.of.1.frame);
        "j", "0 to 100", "J: region similarity" => |r| value(r.of.1.j);
        "f", "0 to 100", "F: contour accuracy" => |r| value(r.of.1.f);
        "object_score", "logit", "the model's object score: positive where it sees the object",
            "before the prompt, or where the model gives no finite one" => |r| maybe(r.of.1.object_score);
        "counted", "", "`true` where the protocol counts the frame" => |r| value(r.of.1.counted);
        "visible", "", "`true` where the truth shows the object" => |r| value(r.of.1.visible);
    };
    CsvTable { file: "frame_scores.csv", row: "One row per cell, object and annotated frame.", columns }
}

/// `frame_scores.csv`.
pub fn frame_scores(run: &RunRecord) -> Vec<u8> {
    frame_scores_table().file(each_object_frame(run, |object| &object.per_frame))
}

/// Columns of `agreement.csv`.
pub fn agreement_table<'a>() -> CsvTable<&'a AgreementRecord> {
    let columns = columns! {
        &'a AgreementRecord;
        "cell", "", "one cell: model tag, precision, device" => |r| value(&r.first);
        "other_cell", "", "the other; with `--backward` also `…, backward in time`: the same cell from the last frame to the first" => |r| value(&r.second);
        "video", "", "name of the video" => |r| value(&r.video);
        "object", "", "name of the object" => |r| value(&r.object);
        "frames", "", "frames on which both tracked it" => |r| value(r.frames);
        "mean_iou", "0 to 1", "mean intersection over union of the two masks; two empty masks count as 1" => |r| value(r.mean_iou);
        "share_below_half", "0 to 1", "share of these frames on which it is below 0.5" => |r| value(r.below_half);
    };
    let row = "With prompts of your own: one row per pair of valid cells, video and object; with `--backward` also one row per valid cell, video and object. It is agreement, not accuracy: both can be wrong.";
    CsvTable { file: "agreement.csv", row, columns }
}

/// `agreement.csv`.
pub fn agreement(run: &RunRecord) -> Vec<u8> {
    agreement_table().file(&run.agreement)
}

/// Columns of `memory.csv`.
pub fn memory_table<'a>() -> CsvTable<CsvEntry<'a, &'a MemoryPoint>> {
    let columns = columns! {
        CsvEntry<'a, &'a MemoryPoint>;
        cell;
        "video", "", "name of the video" => |r| value(r.video);
        "frames", "", "frames of it tracked so far" => |r| value(r.of.frames);
        "rss_mib", "MiB", "resident set size of the worker" => |r| value(r.of.rss_mib);
    };
    CsvTable { file: "memory.csv", row: "One row per cell, video and point of time while tracking.", columns }
}

/// `memory.csv`.
pub fn memory(run: &RunRecord) -> Vec<u8> {
    let rows = run
        .cells
        .iter()
        .flat_map(|cell| cell.memory_curve.iter().map(move |of| CsvEntry { cell, repeat: 1, video: &of.video, of }));
    memory_table().file(rows)
}

/// A reading of a sensor, or the beginning of a phase.
pub struct SampleEntry<'a> {
    cell: &'a [String; 3],
    seconds: f64,
    quantity: String,
    value: f64,
    repeat: usize,
}

/// Columns of `telemetry.csv`.
pub fn samples_table<'a>() -> CsvTable<SampleEntry<'a>> {
    let columns = columns! {
        SampleEntry<'a>;
        "model", "", "model tag" => |r| value(&r.cell[0]);
        "dtype", "", "requested precision" => |r| value(&r.cell[1]);
        "device", "", "requested device, which is the one used" => |r| value(&r.cell[2]);
        "t_s", "s", "time since the first sample of the repeat" => |r| format!("{:.3}", r.seconds);
        "quantity", "", "what was read, its unit last; `phase_…` where a phase of the worker begins"
            => |r| value(&r.quantity);
        "value", "", "the reading; 1 for a phase" => |r| value(r.value);
        "repeat", "", "number of the repeat, from 1" => |r| value(r.repeat);
    };
    let row = "One row per sample and quantity (`--sample-hz`); what could not be read has no row.";
    CsvTable { file: "telemetry.csv", row, columns }
}

/// Rows of `telemetry.csv` for one repeat of a cell: model, precision and device; what was sensed; when phases began.
pub fn samples(cell: &[String; 3], telemetry: &Telemetry, begun: &[(Phase, u64)], repeat: usize) -> Vec<u8> {
    let Some(start) = telemetry.samples.first().map(|s| s.at_ns) else { return Vec::new() };
    let entry = move |at_ns: u64, quantity: String, value: f64| {
        let seconds = at_ns.saturating_sub(start) as f64 / 1e9;
        SampleEntry { cell, seconds, quantity, value, repeat }
    };
    let read = telemetry.samples.iter().flat_map(|sample| {
        let known = telemetry.channels.iter().zip(&sample.values).filter(|(_, value)| !value.is_nan());
        known.map(move |(channel, value)| entry(sample.at_ns, channel.to_string(), *value))
    });
    let phases = begun.iter().map(move |(phase, at)| entry(*at, format!("{PHASE}{}", phase.as_str()), 1.0));
    samples_table().rows(read.chain(phases))
}
