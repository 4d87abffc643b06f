//! What does a run say to people who compare boards? One row per cell that may be quoted, for `results/community`.

use super::run::CellEntry;
use super::{CsvTable, columns, maybe, value};
use crate::report::csv::CsvEntry;
use crate::report::table::{dataset_name, model_name};
use crate::results::disturbance;
use crate::results::record::{MemoryRecord, RunRecord, RuntimeRecord, SummaryRecord, Verdict};
use crate::telemetry::key::MemoryPhase;

/// A row, and what vouches for it.
pub struct CommunityEntry<'a> {
    of: CellEntry<'a>,
    /// SHA-256 of the file that holds the record.
    record_sha256: &'a str,
}

impl CommunityEntry<'_> {
    fn fact(&self, name: &str) -> String {
        maybe(self.of.of.device.facts.get(name))
    }

    fn figure(&self, get: fn(&SummaryRecord) -> Option<f64>) -> String {
        maybe(self.of.cell.summary.as_ref().and_then(get))
    }

    fn count(&self, get: fn(&SummaryRecord) -> usize) -> String {
        maybe(self.of.cell.summary.as_ref().map(get))
    }

    fn peak(&self, get: fn(&MemoryRecord) -> Option<f64>) -> String {
        maybe(self.of.cell.memory.get(&MemoryPhase::Peak).and_then(get))
    }

    /// Options as given to the runner, `name=value` with semicolons between; a path says more of its machine than others should read.
    fn options(&self) -> String {
        let shown = |value: &String| if value.contains('/') { "(a path)".to_string() } else { value.clone() };
        let each = self.of.cell.options.passed.iter().map(|(name, value)| format!("{name}={}", shown(value)));
        each.collect::<Vec<_>>().join("; ")
    }
}

const NO_FACT: &str = "the machine does not tell";
const NO_TRUTH: &str = "there is no ground truth, or objects are found without a prompt";
const NOT_FOUND: &str = "objects are prompted, or there is no ground truth";
const FEW_FRAMES: &str = "fewer than 200 frames";
const UNMEASURED: &str = "it could not be read";

/// Columns of `report --export-row`.
pub fn community_table<'a>() -> CsvTable<CommunityEntry<'a>> {
    let columns = columns! {
        CommunityEntry<'a>;
        "run_id", "", "run, named after its start in UTC" => |r| value(&r.of.of.run_id);
        "version", "", "version of jetbench" => |r| value(&r.of.of.version);
        "program_sha256", "", "SHA-256 of the program" => |r| value(&r.of.of.origin.program_sha256);
        "record_sha256", "", "SHA-256 of the run's `run.json`" => |r| value(r.record_sha256);
        "device_name", "", "board or machine" => |r| value(&r.of.of.device.name);
        "device_digest", "", "digest of all that makes latencies comparable on it" => |r| value(&r.of.of.device.digest);
        "model", "", "model of the board, from its device tree", NO_FACT => |r| r.fact("model");
        "cpu", "", "processor", NO_FACT => |r| r.fact("cpu");
        "gpu", "", "GPU", NO_FACT => |r| r.fact("gpu");
        "memory_mib", "MiB", "memory of the machine", NO_FACT => |r| r.fact("memory_mib");
        "power_mode", "", "power mode of a Jetson", "it is no Jetson" => |r| r.fact("power_mode");
        "tracker", "", "model that ran: `<pack>_<prompt>`, `<pack>_<detector>`, or `<pack>`" => |r| value(model_name(r.of.cell));
        "pack_digest", "", "as in `summary.csv`" => |r| value(&r.of.cell.pack_digest);
        "test_model_of", "", "model whose figures these are not, since a miniature or random weights stand in for it", "it is the model itself"
            => |r| maybe(r.of.cell.test_model_of.as_ref());
        "dtype", "", "requested precision" => |r| value(r.of.cell.dtype);
        "effective_dtype", "", "precision in effect, in words", "the model does not tell" => |r| maybe(r.of.cell.effective_dtype.as_ref());
        "device", "", "requested device, which is the one used" => |r| value(&r.of.cell.device);
        "onnxruntime", "", "version of ONNX Runtime, and the plugin library that ran the graphs, where one did", "the model uses none"
            => |r| maybe(r.of.cell.runtime.as_ref().map(RuntimeRecord::words));
        "options", "", "options of the runner, `name=value` with semicolons between", "all are as by default" => |r| r.options();
        "scenario", "", "`single-stream`, `offline` or `realtime`" => |r| value(r.of.cell.scenario);
        "dataset", "", "layout and name of the videos' directory" => |r| value(dataset_name(r.of.of));
        "content_sha256", "", "digest of the videos and annotations that were read" => |r| value(&r.of.of.data.content_sha256);
        "videos", "", "videos" => |r| r.count(|s| s.videos);
        "objects", "", "objects" => |r| r.count(|s| s.objects);
        "frames", "", "tracked frames" => |r| r.count(|s| s.frames);
        "verdict", "", "`valid`: no other cell has a row" => |r| value(r.of.cell.verdict.as_str());
        "disturbed", "", "what disturbed the measurement, names with semicolons between", "nothing did" => |r| disturbance::list(&r.of.cell.disturbed);
        "jf", "0 to 100", "J&F of prompted objects", NO_TRUTH => |r| r.figure(|s| s.jf);
        "jf_unsup", "0 to 100", "J&F of DAVIS 2017 unsupervised", NOT_FOUND => |r| r.figure(|s| s.found?.scores?.jf);
        "hota", "0 to 100", "HOTA", NOT_FOUND => |r| r.figure(|s| s.found?.scores?.hota);
        "fps_wall", "frames/s", "frames over wall time, decoding included" => |r| r.figure(|s| s.fps_wall);
        "latency_p50_ms", "ms", "median latency", "no frame was timed" => |r| r.figure(|s| s.latency.map(|l| l.p50_ms));
        "latency_p95_ms", "ms", "its 95th percentile", FEW_FRAMES => |r| r.figure(|s| s.latency.and_then(|l| l.p95()));
        "peak_system_mib", "MiB", "largest fall of the system's available memory", UNMEASURED => |r| r.peak(|m| m.system_mib);
        "peak_rss_mib", "MiB", "largest resident set of the worker", UNMEASURED => |r| r.peak(|m| m.rss_mib);
        "peak_gpu_mib", "MiB", "largest memory of the worker on GPUs that have memory of their own", "no such GPU was used" => |r| r.peak(|m| m.gpu_mib);
        "energy_per_frame_j", "J", "energy of the whole module per tracked frame", "no rail measures the whole module"
            => |r| r.figure(|s| s.energy_per_frame_j);
    };
    CsvTable { file: "jetbench report --export-row", row: "One row per valid cell, for `results/community`.", columns }
}

/// The rows of the valid cells of a run; `record_sha256`: of the file that holds its record.
pub fn community(run: &RunRecord, record_sha256: &str) -> Vec<u8> {
    let valid = run.cells.iter().filter(|cell| cell.verdict == Verdict::Valid);
    let entry = |cell| CommunityEntry { of: CsvEntry { cell, repeat: 1, video: "", of: run }, record_sha256 };
    community_table().file(valid.map(entry))
}
