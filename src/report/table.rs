//! The headline table for a terminal of any width. A cell that failed shows its
//! reason, never a number; figures of an invalid cell stand in parentheses, with the reason below.

mod layout;

use std::fmt::Write as _;

use jetbench_runners::types::Effective;

pub(super) use self::layout::strip_marks;
pub(crate) use self::layout::wrap_with;
use self::layout::{BAD, GOOD, PLAIN, WARN, blocks, display_width, first_lines, grid, paint, wrap};

use crate::plan::scenario::Scenario;
use crate::report::closing::{Closing, reason_number};
use crate::results::record::{CellRecord, LatencyRecord, MemoryRecord, RunRecord, SummaryRecord, Verdict};
use crate::score::panoptic::PanopticScores;
use crate::telemetry::key::MemoryPhase;
use crate::text::{clean, figure, plural};

/// Reasons that are told in full below the table; more of them get a line each.
const FULL_REASONS: usize = 3;
/// Kinds of warning that have a line below the table; further ones are counted in one line.
const WARNINGS: usize = 5;
/// The same where there are many reasons.
const CROWDED_WARNINGS: usize = 3;

/// How the terminal wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; `None`: as wide as needed.
    pub width: Option<usize>,
    /// Colour the verdicts. Off where `NO_COLOR` is set or the output is no terminal; the caller knows.
    pub color: bool,
    /// Say what stands behind the closing lines too: every note of every cell, and how to read the table.
    pub verbose: bool,
}

/// The headline table with what must be read beside it: data, device, reasons, warnings.
pub fn text(run: &RunRecord, style: Style) -> String {
    let sheet = Sheet::new(run);
    let closing = Closing::of(run);
    let width = style.width.unwrap_or(120);
    let mut out = format!("{}\n\n", heading(run));
    if let Some(banner) = &closing.banner {
        let _ = writeln!(out, "{WARN}{}{PLAIN}", wrap(banner, width));
    }
    // Columns leave in order of importance until the table fits; then each cell becomes a block of its own.
    let mut hidden = 0;
    let table = loop {
        let columns = sheet.columns_without(hidden);
        let table = grid(&sheet, &columns);
        let wide = table.lines().map(display_width).max().unwrap_or(0);
        if style.width.is_none_or(|w| wide <= w) {
            break Some(table);
        }
        if columns.len() <= Sheet::ESSENTIAL {
            break None;
        }
        hidden += 1;
    };
    match table {
        Some(table) => {
            out.push_str(&table);
            out.push('\n');
            if hidden > 0 {
                let _ =
                    writeln!(out, "{}", plural(hidden, "column does", "columns do") + " not fit here; see summary.csv");
            }
        }
        None => out.push_str(&blocks(&sheet)),
    }
    // Many reasons get a line each, and leave less room for warnings; the report has both whole.
    let crowded = closing.reasons.len() > FULL_REASONS && !style.verbose;
    let (lines, warnings) = if crowded { (1, CROWDED_WARNINGS) } else { (usize::MAX, WARNINGS) };
    let reasons = closing.reasons.iter().map(|reason| first_lines(&wrap(reason, width), lines, width));
    let details = if style.verbose { closing.details() } else { Vec::new() };
    let below = closing
        .warned(warnings)
        .into_iter()
        .chain(closing.answer.clone())
        .chain(details)
        .map(|line| wrap(&line, width));
    let headline = std::iter::once(&closing.headline).chain(&closing.unscored).map(|line| wrap(line, width));
    for line in headline.chain(reasons).chain(below) {
        out.push('\n');
        out.push_str(&line);
    }
    out.push('\n');
    paint(&out, style.color)
}

/// Data, scoring and device in one line.
pub fn heading(run: &RunRecord) -> String {
    clean(&format!(
        "{} · {} · {} · {} · device {}",
        dataset_name(run),
        plural(run.data.videos, "video", "videos"),
        plural(run.data.objects, "object", "objects"),
        run.scoring(),
        run.device.name
    ))
}

/// Layout and the last part of the root, short enough for a title: `sa-v demo`.
pub fn dataset_name(run: &RunRecord) -> String {
    let root = run.data.root.trim_end_matches(['/', '\\']);
    let last = root.rsplit(['/', '\\']).next().unwrap_or(root);
    clean(format!("{} {last}", run.data.layout).trim())
}

/// The model that ran, by its packs: `sam2_mini_points`, also where `sam2_points` was asked for; `sam2_mini_dfine_mini`; one that finds
/// and tracks by its own name.
pub fn model_name(cell: &CellRecord) -> String {
    let name = match &cell.detector {
        _ if cell.pack.is_empty() => cell.model.clone(),
        Some(detector) if detector.pack == cell.pack => cell.pack.clone(),
        Some(detector) => format!("{}_{}", cell.pack, detector.pack),
        None => format!("{}_{}", cell.pack, cell.prompt),
    };
    clean(&name)
}

/// What tells this cell from the others of its run: model and dtype, and the device where the run used several.
pub fn cell_name(run: &RunRecord, cell: &CellRecord) -> String {
    let several = run.cells.iter().any(|c| c.device != cell.device);
    let device = if several { format!(" {}", cell.device) } else { String::new() };
    clean(&format!("{} {}{device}", model_name(cell), cell.dtype))
}

/// Asked-for and effective precision in short: `fp32`; `bf16 (emulated)`; `bf16 → fp32`.
pub fn dtype_short(cell: &CellRecord) -> String {
    let asked = cell.dtype.as_str();
    // The graph that is furthest from what was asked for; the first of several.
    let furthest = cell.precision.iter().rev().max_by_key(|stage| stage.kind);
    match furthest.map(|stage| (stage.kind, stage.effective.split([',', ';', '(']).next().unwrap_or_default())) {
        None | Some((Effective::Native, _)) => asked.to_string(),
        Some((Effective::Emulated, _)) => format!("{asked} (emulated)"),
        Some((Effective::Other | Effective::Doubtful, words)) => clean(&format!("{asked} → {}", words.trim())),
    }
}

/// The table before it is laid out: all columns, all cells as text.
pub(super) struct Sheet {
    pub(super) columns: Vec<Column>,
    pub(super) rows: usize,
}

/// Has a cell the frames that this percentile needs?
pub(super) fn tells(run: &RunRecord, percentile: fn(&LatencyRecord) -> Option<f64>) -> bool {
    run.cells.iter().any(|c| c.summary.as_ref().and_then(|s| percentile(s.latency.as_ref()?)).is_some())
}

pub(super) struct Column {
    pub(super) title: String,
    pub(super) number: bool,
    /// 0 stays longest.
    pub(super) rank: usize,
    pub(super) values: Vec<String>,
}

impl Column {
    /// Does it stay where there is little room? Model, dtype, verdict, J&F, FPS and p95 do.
    pub(super) fn stays(&self) -> bool {
        self.rank <= 6 && self.title != "device"
    }
}

impl Sheet {
    /// Columns that stay on the narrowest table: model, dtype, verdict, J&F or tracks where there are such, FPS.
    const ESSENTIAL: usize = 5;

    pub(super) fn new(run: &RunRecord) -> Sheet {
        let one_device = run.cells.windows(2).all(|w| w[0].device == w[1].device);
        let mut sheet = Sheet { columns: Vec::new(), rows: run.cells.len() };
        let mut add = |title: &str, number: bool, rank: usize, value: &dyn Fn(&CellRecord) -> String| {
            let values = run.cells.iter().map(value).collect();
            sheet.columns.push(Column { title: title.to_string(), number, rank, values });
        };
        let figures = |pick: fn(&SummaryRecord) -> Option<f64>, show: fn(f64) -> String| {
            move |cell: &CellRecord| number(cell, cell.summary.as_ref().and_then(pick), show)
        };
        let score = |v: f64| format!("{v:.1}");
        add("model", false, 0, &model_name);
        add("dtype", false, 1, &dtype_short);
        add("device", false, if one_device { 20 } else { 5 }, &|c| clean(&c.device));
        add("verdict", false, 2, &|c| verdict(run, c));
        let prompted = run.cells.iter().any(|c| c.detector.is_none());
        let (scored, finds) = (run.data.has_truth(), run.cells.iter().any(|c| c.detector.is_some()));
        // Without ground truth no cell has a score, so the columns say nothing; how many tracks were found still does.
        if !scored && finds {
            add("tracks", true, 3, &figures(|s| s.found.map(|found| found.confirmed as f64), |v| format!("{v:.0}")));
        }
        if scored && (prompted || run.cells.is_empty()) {
            add("J&F", true, 3, &figures(|s| s.jf, score));
            add("J", true, 15, &figures(|s| s.j, score));
            add("F", true, 16, &figures(|s| s.f, score));
        }
        // Objects that were found are another task than objects that were shown: never in one column.
        if scored && finds {
            add("J&F\nunsup", true, 3, &figures(|s| s.found?.scores?.jf, score));
            add("HOTA", true, if prompted { 10 } else { 5 }, &figures(|s| s.found?.scores?.hota, score));
            let whole = |c: &CellRecord| c.summary.as_ref().and_then(|s| s.found?.scores).and_then(|s| s.whole_masks);
            let kinds: Vec<bool> = run.cells.iter().filter_map(whole).collect();
            let (rank, ap) = (if prompted { 12 } else { 7 }, figures(|s| s.found?.scores?.ap, score));
            let (some, all) = (kinds.contains(&true), !kinds.contains(&false));
            // Where cells differ in that, those of whole masks say so.
            add(if some && all { "AP whole\nmasks" } else { "AP" }, true, rank, &|c| match whole(c) {
                Some(true) if !all => format!("{} whole", ap(c)),
                _ => ap(c),
            });
        }
        let segments = |pick: fn(&PanopticScores) -> Option<f64>| {
            move |c: &CellRecord| number(c, c.summary.as_ref().and_then(|s| pick(s.panoptic()?)), score)
        };
        if scored && run.cells.iter().any(|c| c.summary.as_ref().is_some_and(|s| s.panoptic().is_some())) {
            add("VPQ", true, 3, &segments(|s| s.vpq));
            add("STQ", true, 4, &segments(|s| s.stq));
        }
        add("FPS\nwall", true, 4, &figures(|s| s.fps_wall, figure));
        add("FPS\nmodel", true, 14, &figures(|s| s.fps_model, figure));
        add("p50\nms", true, 8, &figures(|s| s.latency.map(|l| l.p50_ms), figure));
        // A percentile that no cell has enough frames for has no column; the largest latency bounds it.
        if tells(run, LatencyRecord::p95) {
            add("p95\nms", true, 6, &figures(|s| s.latency.and_then(|l| l.p95()), figure));
        } else {
            add("max\nms", true, 6, &figures(|s| s.latency.map(|l| l.max_ms), figure));
        }
        if tells(run, LatencyRecord::p99) {
            add("p99\nms", true, 13, &figures(|s| s.latency.and_then(|l| l.p99()), figure));
        }
        for (name, rank, pick) in memory_sources(run) {
            add(&format!("peak {name}\nMiB"), true, rank, &|c| {
                number(c, c.memory.get(&MemoryPhase::Peak).and_then(pick), |v| format!("{v:.0}"))
            });
        }
        if run.cells.iter().any(|c| c.summary.as_ref().is_some_and(|s| s.energy_per_frame_j.is_some())) {
            add("energy\nJ/frame", true, 9, &figures(|s| s.energy_per_frame_j, figure));
            if let Some((price, currency)) = energy_price(run) {
                add(&format!("energy\n{currency}/1000 frames"), true, 11, &|c| {
                    let joules = c.summary.as_ref().and_then(|s| s.energy_per_frame_j);
                    number(c, joules.map(|j| cost_per_1000_frames(j, price)), |v| format!("{v:.5}"))
                });
            }
        }
        if run.cells.iter().any(|c| c.summary.as_ref().is_some_and(|s| s.energy_above_idle_per_frame_j.is_some())) {
            add("above idle\nJ/frame", true, 18, &figures(|s| s.energy_above_idle_per_frame_j, figure));
        }
        if run.cells.iter().any(|c| c.scenario == Scenario::Realtime) {
            add("dropped\nframes", true, 4, &figures(|s| s.dropped.map(|n| n as f64), |v| format!("{v:.0}")));
            add("response\np95 ms", true, 11, &figures(|s| s.response.and_then(|r| r.p95()), figure));
        }
        if run.cells.iter().any(|c| c.summary.as_ref().is_some_and(|s| s.repeats.is_some())) {
            add("p50 ms\n95 %", true, 12, &|c| {
                let spread = c.summary.as_ref().and_then(|s| s.repeats?.latency_p50_ms?.interval);
                let range = spread.map(|i| format!("{}–{}", figure(i.low), figure(i.high)));
                match &c.verdict {
                    Verdict::Failed { .. } => "–".to_string(),
                    _ => range.unwrap_or_else(|| "–".to_string()),
                }
            });
        }
        sheet
    }

    /// All columns but the `hidden` least important ones, in order.
    fn columns_without(&self, hidden: usize) -> Vec<&Column> {
        let mut ranks: Vec<usize> = self.columns.iter().map(|c| c.rank).collect();
        ranks.sort_unstable();
        ranks.truncate(ranks.len().saturating_sub(hidden));
        self.columns.iter().filter(|c| ranks.contains(&c.rank)).collect()
    }
}

/// The price of a kilowatt hour that the user gave, and its currency.
fn energy_price(run: &RunRecord) -> Option<(f64, String)> {
    let price = run.settings.get("energy_price")?.as_f64()?;
    Some((price, clean(run.settings.get("currency")?.as_str()?)))
}

/// What the energy of 1,000 frames costs: a kilowatt hour has 3.6 million joules.
fn cost_per_1000_frames(joules_per_frame: f64, price: f64) -> f64 {
    joules_per_frame * 1000.0 / 3.6e6 * price
}

/// How a memory figure is read: its name, how soon its column leaves, where it stands in the record.
type MemorySource = (&'static str, usize, fn(&MemoryRecord) -> Option<f64>);

/// The memory figures shown, each under its own name: what the system lost (which other processes also move) beside what
/// the worker held; the resident set only where neither was measured.
fn memory_sources(run: &RunRecord) -> Vec<MemorySource> {
    let measured =
        |source: &MemorySource| run.cells.iter().any(|c| c.memory.get(&MemoryPhase::Peak).and_then(source.2).is_some());
    let sources: [MemorySource; 2] = [("system", 7, |m| m.system_mib), ("Pss", 10, |m| m.pss_mib)];
    let mut shown: Vec<MemorySource> = sources.into_iter().filter(measured).collect();
    let resident: MemorySource = ("RSS", 10, |m| m.rss_mib);
    if shown.is_empty() && measured(&resident) {
        shown.push(resident);
    }
    // A GPU's own memory comes first: where there is one, it is what a model must fit into.
    let gpu: MemorySource = ("GPU", 7, |m| m.gpu_mib);
    Some(gpu).filter(measured).into_iter().chain(shown).collect()
}

/// A figure as this cell's verdict allows: plain, in parentheses, or a dash.
fn number(cell: &CellRecord, value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    match (&cell.verdict, value) {
        (_, None) => "–".to_string(),
        (Verdict::Failed { .. }, _) if !cell.interrupted => "–".to_string(),
        (Verdict::Invalid { .. } | Verdict::Failed { .. }, Some(v)) => format!("({})", show(v)),
        (Verdict::Valid, Some(v)) => show(v),
    }
}

/// Verdict with the number of its footnote, marked for colour.
fn verdict(run: &RunRecord, cell: &CellRecord) -> String {
    let word = cell.verdict_words();
    match &cell.verdict {
        Verdict::Valid if !cell.disturbed.is_empty() => format!("{WARN}{word}{PLAIN}"),
        Verdict::Valid => format!("{GOOD}{word}{PLAIN}"),
        _ => {
            let number = reason_number(run, cell).map_or_else(String::new, |n| format!(" [{n}]"));
            let mark = if cell.verdict.as_str() == "failed" && !cell.interrupted { BAD } else { WARN };
            format!("{mark}{word}{number}{PLAIN}")
        }
    }
}
