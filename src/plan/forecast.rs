//! What will a job take? Time, disk and memory of every cell, from earlier runs of the same cell on this device: the same pack,
//! prompt, precision, options and scenario, on frames of the same size with as many objects. Every figure is an estimate and says
//! so, with its range and source; what no earlier run tells is not guessed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::dataset::{mask_lines, track_files};
use crate::judge::stats::median;
use crate::plan::resolve::{Cell, slug};
use crate::plan::{Plan, budget, options, unprompted};
use crate::report::movie;
use crate::results::record::{
    CellForecast, CellRecord, DeviceRecord, Estimate, Forecast, MemoryRecord, RunRecord, Verdict, mib,
};
use crate::results::{retention, store};
use crate::telemetry::key::MemoryPhase;
use crate::text::plural;

/// Earlier runs that are looked at, the newest.
const RUNS: usize = 10;
const MIB: f64 = 1_048_576.0;

/// Frame width and height, objects: what decides how long a frame takes.
type Kind = (u32, u32, usize);

/// An earlier cell that is the same as a planned one.
struct Earlier {
    run: String,
    cell: CellRecord,
    /// What the whole run took beside loading, tracking, masks and overlays. `None`: it wrote other files.
    rest: Option<Rest>,
    /// MiB of masks and overlays per frame, by what a frame shows.
    files: Vec<(Kind, f64)>,
}

/// What a whole run took beside loading, tracking, masks and overlays.
#[derive(Clone, Copy)]
struct Rest {
    seconds: f64,
    mib: f64,
    /// Frames that it tracked.
    frames: usize,
}

/// The forecast for `plan` on `device`; `free_mib`: of the disk of the results, `available_mib`: memory.
pub fn of(plan: &Plan, device: &DeviceRecord, free_mib: Option<u64>, available_mib: Option<f64>) -> Forecast {
    let runs = earlier_runs(&plan.settings.out, device);
    let cells: Vec<CellForecast> = plan.cells.iter().map(|cell| of_cell(plan, cell, &runs)).collect();
    let sum = |figure: fn(&CellForecast) -> Option<Estimate>| {
        cells.iter().map(figure).try_fold(Estimate::default(), |sum, one| Some(sum.and(one?)))
    };
    let (seconds, disk_mib) = (sum(|cell| cell.seconds), sum(|cell| cell.disk_mib));
    let misfits = misfits(plan, &cells, disk_mib, free_mib, available_mib);
    Forecast { cells, seconds, disk_mib, misfits }
}

/// The newest whole runs on this device, newest first.
fn earlier_runs(out: &Path, device: &DeviceRecord) -> Vec<(PathBuf, RunRecord)> {
    let mut found = Vec::new();
    let _ = store::find_runs(&out.join(&device.name), &mut found);
    let whole = |run: PathBuf| {
        let record = store::load(&run).ok()?;
        let whole = record.device.digest == device.digest && record.stopped.is_none() && record.finished.is_some();
        whole.then_some((run, record))
    };
    found.into_iter().rev().take(RUNS).filter_map(whole).collect()
}

fn is_same(plan: &Plan, cell: &Cell, record: &CellRecord) -> bool {
    record.pack_digest == cell.pack_digest()
        && record.prompt == cell.prompt
        && record.dtype == cell.dtype
        && record.device == cell.device.to_string()
        && record.options.passed == cell.admitted.passed
        && record.scenario == plan.settings.scenario
        && !matches!(record.verdict, Verdict::Failed { .. })
}

impl Earlier {
    fn new(plan: &Plan, cell: &CellRecord, (dir, run): &(PathBuf, RunRecord)) -> Earlier {
        let said = |name: &str| run.settings.get(name).cloned().unwrap_or_default();
        let now = crate::plan::identity::settings(plan);
        let same_files = ["save_masks", "overlays"].iter().all(|name| now.get(*name) == Some(&said(name)));
        let slug = slug(&cell.label());
        let files = cell.sequences.iter().filter(|_| same_files).map(|sequence| {
            let names = |root: &str, file: String| {
                let root = dir.join(root).join(&slug);
                retention::size(&root.join(&sequence.video)) + retention::size(&root.join(file))
            };
            let tracks = |mots| {
                retention::size(&dir.join("masks").join(&slug).join(&track_files::file_names(&sequence.video, mots)[0]))
            };
            let results = retention::size(&dir.join("masks").join(&slug).join(track_files::RESULTS));
            let bytes = names("masks", mask_lines::file_names(&sequence.video)[0].clone())
                + tracks(true)
                + results / cell.sequences.len() as u64
                + names("overlays", movie::file_name(&sequence.video));
            let kind = (sequence.width, sequence.height, sequence.objects.len());
            (kind, bytes as f64 / MIB / sequence.frames.len().max(1) as f64)
        });
        let rest = rest(dir, run).filter(|_| same_files);
        Earlier { run: run.run_id.clone(), cell: cell.clone(), rest, files: files.collect() }
    }
}

/// [`Rest`] of a run. `None`: it was taken up again, so its time is not known.
fn rest(dir: &Path, run: &RunRecord) -> Option<Rest> {
    let time = |text: &str| chrono::DateTime::parse_from_rfc3339(text).ok();
    // The clock of the record has whole seconds only.
    let exact = run.forecast.as_ref().and_then(|forecast| forecast.taken.as_ref()?.seconds);
    let wall = time(run.finished.as_deref()?)? - time(&run.started)?;
    let wall = exact.unwrap_or(wall.num_milliseconds() as f64 / 1e3);
    let (mut busy, mut frames) = (0.0, 0);
    for cell in &run.cells {
        let units = cell.repeats.len().max(1);
        let tracked: f64 = cell.sequences.iter().map(|s| s.wall_ms).sum();
        busy += (tracked + cell.load_ms?) / 1e3 * units as f64;
        frames += cell.sequences.iter().map(|s| s.frames.len()).sum::<usize>() * units;
    }
    let outputs = retention::size(&dir.join("masks")) + retention::size(&dir.join("overlays"));
    let mib = retention::size(dir).saturating_sub(outputs) as f64 / MIB;
    let seconds = (wall - busy).max(0.0);
    (frames > 0 && run.origin.resumed.is_empty()).then_some(Rest { seconds, mib, frames })
}

/// Frames of one cell by what they show.
fn frames_of(plan: &Plan) -> BTreeMap<Kind, usize> {
    let mut frames = BTreeMap::new();
    for sequence in &plan.dataset.sequences {
        let length = plan.settings.loop_frames.unwrap_or(sequence.frames.len());
        *frames.entry((sequence.width, sequence.height, sequence.objects.len())).or_default() += length;
    }
    frames
}

/// So many videos from the first on show every kind of frame that the plan has.
pub fn videos_of_every_kind(plan: &Plan) -> usize {
    let mut seen = BTreeMap::new();
    for (index, sequence) in plan.dataset.sequences.iter().enumerate() {
        seen.entry((sequence.width, sequence.height, sequence.objects.len())).or_insert(index);
    }
    seen.into_values().max().map_or(0, |last| last + 1)
}

/// Sum over all kinds of frames; the kinds of which `samples` (per frame) tells nothing.
fn over(frames: &BTreeMap<Kind, usize>, samples: &[(Kind, f64)]) -> Result<Estimate, Vec<Kind>> {
    let (mut sum, mut lacking) = (Estimate::default(), Vec::new());
    for (&kind, &count) in frames {
        let own: Vec<f64> = samples.iter().filter(|(k, _)| *k == kind).map(|(_, v)| *v).collect();
        match estimate(&own) {
            Some(estimate) => sum = sum.and(estimate.times(count as f64)),
            None => lacking.push(kind),
        }
    }
    if lacking.is_empty() { Ok(sum) } else { Err(lacking) }
}

fn of_cell(plan: &Plan, cell: &Cell, runs: &[(PathBuf, RunRecord)]) -> CellForecast {
    let same = |run: &(PathBuf, RunRecord)| {
        let found = run.1.cells.iter().find(|record| is_same(plan, cell, record))?;
        Some(Earlier::new(plan, found, run))
    };
    let earlier: Vec<Earlier> = runs.iter().filter_map(same).collect();
    let mut forecast = CellForecast { cell: cell.label(), ..CellForecast::default() };
    if plan.settings.live.is_some() {
        forecast.unknown.push("nobody knows how many frames a live source brings".into());
        return forecast;
    }
    memory(plan, cell, &earlier, &mut forecast);
    if earlier.is_empty() {
        forecast
            .unknown
            .push("no earlier run on this device with this pack, prompt, precision, options and scenario".into());
        return forecast;
    }
    let (frames, repeats) = (frames_of(plan), plan.settings.repeat as f64);
    let tracked = earlier.iter().flat_map(|e| &e.cell.sequences).map(|s| {
        let count = s.frames.len() + s.dropped.len();
        ((s.width, s.height, s.objects.len()), s.wall_ms / 1e3 / count.max(1) as f64)
    });
    let tracked = over(&frames, &tracked.collect::<Vec<_>>());
    let all = frames.values().sum::<usize>() as f64;
    let loads: Vec<f64> = earlier.iter().filter_map(|e| e.cell.load_ms).map(|ms| ms / 1e3).collect();
    // Part of it grows with the frames and part does not (reports, say): it lies between the two.
    let rest = |part: fn(&Rest) -> f64| {
        let both = |rest: Rest| [part(&rest), part(&rest) * all * repeats / rest.frames as f64];
        estimate(&earlier.iter().filter_map(|e| e.rest).flat_map(both).collect::<Vec<_>>())
    };
    match (tracked, estimate(&loads), rest(|r| r.seconds)) {
        (Ok(track), Some(load), Some(rest)) => {
            forecast.seconds = Some(track.and(load).times(repeats).and(rest));
        }
        (Err(lacking), ..) => forecast.unknown.push(format!("time: {}", unseen(&lacking))),
        _ => forecast.unknown.push("time: no uninterrupted earlier run wrote the same masks and overlays".into()),
    }
    let files: Vec<(Kind, f64)> = earlier.iter().flat_map(|e| e.files.iter().copied()).collect();
    match (over(&frames, &files), rest(|r| r.mib)) {
        // Masks and overlays are those of the first repeat.
        (Ok(files), Some(rest)) => forecast.disk_mib = Some(files.and(rest)),
        (Err(lacking), Some(_)) => forecast.unknown.push(format!("disk: {}", unseen(&lacking))),
        _ => forecast.unknown.push("disk: no uninterrupted earlier run wrote the same masks and overlays".into()),
    }
    forecast.runs = earlier.into_iter().map(|e| e.run).collect();
    forecast
}

fn unseen(lacking: &[Kind]) -> String {
    let kind = |(w, h, n): &Kind| format!("{w}x{h} with {}", plural(*n, "object", "objects"));
    let list: Vec<String> = lacking.iter().take(3).map(kind).collect();
    let more = if lacking.len() > list.len() {
        format!(" and {} more kinds", lacking.len() - list.len())
    } else {
        String::new()
    };
    format!("no earlier run has frames of {}{more}", list.join(", "))
}

/// Peak memory, from runs with the same largest frame and number of objects, else from the graphs.
fn memory(plan: &Plan, cell: &Cell, earlier: &[Earlier], forecast: &mut CellForecast) {
    let on_cpu = cell.device == jetbench_runners::types::Device::Cpu;
    let largest = |kinds: &mut dyn Iterator<Item = Kind>| {
        kinds.fold((0, 0), |(area, most), (w, h, n)| (area.max(u64::from(w) * u64::from(h)), most.max(n)))
    };
    let planned = largest(&mut frames_of(plan).into_keys());
    let peaks = earlier.iter().filter_map(|e| {
        let mut kinds = e.cell.sequences.iter().map(|s| (s.width, s.height, s.objects.len()));
        let peak = e.cell.memory.get(&MemoryPhase::Peak).filter(|_| largest(&mut kinds) == planned)?;
        memory_mib(peak, &e.cell.device)
    });
    forecast.memory_mib = estimate(&peaks.collect::<Vec<_>>());
    if forecast.memory_mib.is_none() && on_cpu {
        let longest = frames_of(plan).into_keys().map(|(width, height, _)| width.max(height)).max().unwrap_or(0);
        let load = budget::Load {
            pack: &cell.pack.dir,
            detector: cell.detector.as_ref().map(|pack| pack.dir.as_path()),
            labels: unprompted::labelled(cell, planned.1, longest),
            dtype: cell.dtype,
            device: cell.device,
            objects: unprompted::objects(&plan.settings, cell).unwrap_or(planned.1),
            finds: cell.finds() || cell.segments(),
            options: options::given(&plan.settings, cell),
        };
        forecast.memory_from_graphs_mib = load.estimate().ok().map(|bytes| bytes as f64 / MIB);
    }
    if forecast.memory_mib.is_none() && forecast.memory_from_graphs_mib.is_none() && !earlier.is_empty() {
        forecast.unknown.push("memory: no earlier run with frames as large and as many objects".into());
    }
}

/// The figure of a peak that is estimated: the worker's resident set on a CPU, where all its memory is in it, and the system's elsewhere.
pub(crate) fn memory_mib(peak: &MemoryRecord, device: &str) -> Option<f64> {
    if device == "cpu" { peak.rss_mib } else { peak.system_mib }
}

fn misfits(
    plan: &Plan,
    cells: &[CellForecast],
    disk_mib: Option<Estimate>,
    free_mib: Option<u64>,
    available_mib: Option<f64>,
) -> Vec<String> {
    let mut misfits = Vec::new();
    let kept = plan.settings.waiting.min_free_mib as f64;
    if let Some((disk, free)) = disk_mib.zip(free_mib).filter(|(disk, free)| disk.high + kept > *free as f64) {
        misfits.push(format!(
            "disk: {} are estimated, {free} MiB are free at {}, of which {kept} MiB must stay free (--min-free-mib); what helps: \
             --save-masks=rle, --out on another disk, `jetbench prune`",
            disk.words(mib),
            plan.settings.out.display()
        ));
    }
    for cell in cells {
        let most = cell.memory_mib.map(|e| e.high).or(cell.memory_from_graphs_mib);
        if let Some((need, available)) = most.zip(available_mib).filter(|(need, available)| need > available) {
            misfits.push(format!(
                "memory: {}: {} are estimated, {} are available; close other programs, or see what would fit with --memory-budget {:.0}MiB",
                cell.cell,
                mib(need),
                mib(available),
                available.floor()
            ));
        }
    }
    misfits
}

/// Least, middle and most of what earlier runs took; `None` of nothing.
fn estimate(values: &[f64]) -> Option<Estimate> {
    let low = values.iter().copied().min_by(f64::total_cmp)?;
    let high = values.iter().copied().max_by(f64::total_cmp)?;
    Some(Estimate { low, middle: median(values)?, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: f64) -> String {
        format!("{s:.1} s")
    }

    #[test]
    fn figures_are_added_up_by_kind_of_frame_and_what_is_not_known_is_named() {
        let (small, large) = ((48, 32, 2), (96, 64, 1));
        let frames = BTreeMap::from([(small, 10), (large, 4)]);
        let samples = [(small, 0.1), (small, 0.3), (small, 0.2), (large, 1.0)];
        let sum = over(&frames, &samples).unwrap();
        assert!((sum.low - 5.0).abs() < 1e-9 && (sum.middle - 6.0).abs() < 1e-9 && (sum.high - 7.0).abs() < 1e-9);
        assert_eq!(over(&frames, &samples[..3]), Err(vec![large]));
        assert_eq!(unseen(&[large]), "no earlier run has frames of 96x64 with 1 object");
        assert_eq!(sum.words(seconds), "6.0 s (5.0 s to 7.0 s)");
        assert_eq!(estimate(&[300.0]).unwrap().words(seconds), "300.0 s");
        assert_eq!(estimate(&[]), None);
    }
}
