//! The headline table: for a terminal of any width, and as Markdown for an issue or a wiki. A cell that failed shows its
//! reason, never a number; figures of an invalid cell stand in parentheses, with the reason below.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use jetbench_runners::types::Effective;

use crate::plan::scenario::Scenario;
use crate::results::record::{CellRecord, MemoryRecord, RunRecord, SummaryRecord, Verdict};
use crate::telemetry::key::MemoryPhase;
use crate::text::{clean, figure, plural};

/// How the terminal wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; `None`: as wide as needed.
    pub width: Option<usize>,
    /// Colour the verdicts. Off where `NO_COLOR` is set or the output is no terminal; the caller knows.
    pub color: bool,
}

/// The headline table with what must be read beside it: data, device, reasons, remarks.
pub fn text(run: &RunRecord, style: Style) -> String {
    let sheet = Sheet::new(run);
    let mut out = format!("{}\n\n", heading(run));
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
    for line in footnotes(run, &sheet) {
        out.push('\n');
        out.push_str(&wrap(&line, style.width.unwrap_or(120)));
    }
    out.push('\n');
    paint(&out, style.color)
}

/// The same table as GitHub-flavoured Markdown, all columns.
pub fn markdown(run: &RunRecord) -> String {
    let sheet = Sheet::new(run);
    let columns = sheet.columns_without(0);
    let escape = |s: &str| strip_marks(s).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;");
    let mut out = format!("{}\n\n", escape(&heading(run)));
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    out.push_str(&line(columns.iter().map(|c| escape(&c.title.replace('\n', " "))).collect()));
    out.push_str(&line(columns.iter().map(|c| if c.number { "---:" } else { "---" }.to_string()).collect()));
    for row in 0..sheet.rows {
        out.push_str(&line(columns.iter().map(|c| escape(&c.values[row])).collect()));
    }
    for note in footnotes(run, &sheet) {
        let _ = write!(out, "\n{}\n", escape(&note));
    }
    out
}

/// Data, scoring and device in one line.
pub fn heading(run: &RunRecord) -> String {
    clean(&format!(
        "{} · {} · {} · scored as {} · device {}",
        dataset_name(run),
        plural(run.data.videos, "video", "videos"),
        plural(run.data.objects, "object", "objects"),
        run.data.protocol,
        run.device.name
    ))
}

/// Layout and the last part of the root, short enough for a title: `sa-v demo`.
pub fn dataset_name(run: &RunRecord) -> String {
    let root = run.data.root.trim_end_matches(['/', '\\']);
    let last = root.rsplit(['/', '\\']).next().unwrap_or(root);
    clean(format!("{} {last}", run.data.layout).trim())
}

/// What tells this cell from the others of its run: model and dtype, and the device where the run used several.
pub fn cell_name(run: &RunRecord, cell: &CellRecord) -> String {
    let several = run.cells.iter().any(|c| c.device != cell.device);
    let device = if several { format!(" {}", cell.device) } else { String::new() };
    clean(&format!("{} {}{device}", cell.model, cell.dtype))
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

pub(super) struct Column {
    pub(super) title: String,
    pub(super) number: bool,
    /// 0 stays longest.
    rank: usize,
    pub(super) values: Vec<String>,
}

impl Sheet {
    /// Columns that stay on the narrowest table: model, dtype, verdict, J&F, FPS.
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
        add("model", false, 0, &|c| clean(&c.model));
        add("dtype", false, 1, &dtype_short);
        add("device", false, if one_device { 20 } else { 5 }, &|c| clean(&c.device));
        add("verdict", false, 2, &|c| verdict(run, c));
        add("J&F", true, 3, &figures(|s| s.jf, score));
        add("J", true, 15, &figures(|s| s.j, score));
        add("F", true, 16, &figures(|s| s.f, score));
        add("FPS\nwall", true, 4, &figures(|s| s.fps_wall, figure));
        add("FPS\nmodel", true, 14, &figures(|s| s.fps_model, figure));
        add("p50\nms", true, 8, &figures(|s| s.latency.map(|l| l.p50_ms), figure));
        add("p95\nms", true, 6, &figures(|s| s.latency.map(|l| l.p95_ms), figure));
        add("p99\nms", true, 13, &figures(|s| s.latency.map(|l| l.p99_ms), figure));
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
            add("response\np95 ms", true, 11, &figures(|s| s.response.map(|r| r.p95_ms), figure));
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
        (Verdict::Failed { .. }, _) | (_, None) => "–".to_string(),
        (Verdict::Invalid { .. }, Some(v)) => format!("({})", show(v)),
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
            let bad = run.cells.iter().filter(|c| c.verdict != Verdict::Valid);
            let index = bad.take_while(|c| !std::ptr::eq(*c, cell)).count() + 1;
            let mark = if matches!(cell.verdict, Verdict::Failed { .. }) { BAD } else { WARN };
            format!("{mark}{word} [{index}]{PLAIN}")
        }
    }
}

/// What must be read beside the table.
pub(super) fn footnotes(run: &RunRecord, sheet: &Sheet) -> Vec<String> {
    let mut notes = Vec::new();
    for (i, cell) in run.cells.iter().filter(|c| c.verdict != Verdict::Valid).enumerate() {
        let verdict = cell.verdict.as_str();
        notes.push(clean(&format!("[{}] {} {verdict}: {}", i + 1, cell_name(run, cell), cell.verdict.reasons())));
    }
    if run.cells.iter().any(|c| matches!(c.verdict, Verdict::Invalid { .. }) && c.summary.is_some()) {
        notes.push("Figures in parentheses come from cells that are not valid: do not quote them.".to_string());
    }
    let meanings = run.cells.iter().filter_map(|c| {
        let short = dtype_short(c);
        let long = c.effective_dtype.as_deref().filter(|_| short != c.dtype.as_str())?;
        Some(format!("{short} means: {long}"))
    });
    let packs = run.cells.iter().filter_map(|c| {
        let asked = c.model.strip_suffix(&format!("_{}", c.prompt)).unwrap_or(&c.model);
        (asked != c.pack).then(|| format!("{asked} stands for pack {}", c.pack))
    });
    for lines in [meanings.collect::<BTreeSet<_>>(), packs.collect()] {
        if !lines.is_empty() {
            notes.push(clean(&(lines.into_iter().collect::<Vec<_>>().join("; ") + ".")));
        }
    }
    notes.extend(remarks(run));
    if sheet.columns.iter().any(|c| c.title.starts_with("FPS")) && run.cells.iter().any(|c| c.summary.is_some()) {
        notes.push(
            "FPS wall includes decoding; FPS model and the percentiles are per frame, all objects, without it."
                .to_string(),
        );
    }
    for (scenario, meaning) in [
        (
            Scenario::Offline,
            "Offline: frames are decoded far ahead and masks written beside; throughput counts, not latency.",
        ),
        (
            Scenario::Realtime,
            "Real time: frames come on the clock; one that comes while another is worked on is dropped and keeps the masks \
             before it, and J&F is scored with them. Frames with a prompt are never dropped.",
        ),
    ] {
        if run.cells.iter().any(|c| c.scenario == scenario) {
            notes.push(meaning.to_string());
        }
    }
    if let Some(n) = run.cells.iter().filter_map(|c| Some(c.summary.as_ref()?.repeats?.count)).max() {
        notes.push(format!("Speed figures are medians over {n} repeats in fresh processes; repeats.csv has each."));
    }
    if let Some(null) = &run.null_run {
        notes.push(format!(
            "The harness itself cost {:.0} µs per frame in this run (median of {} frames without a model, {}x{}, {}).",
            null.median_us,
            null.frames,
            null.width,
            null.height,
            plural(null.objects, "object", "objects")
        ));
    }
    if let Some(stopped) = &run.stopped {
        notes.push(clean(&format!("The run stopped early: {stopped}. Figures cover the finished videos only.")));
    }
    notes
}

/// The remarks on cells; one that several cells share is said once.
fn remarks(run: &RunRecord) -> Vec<String> {
    let said = run.cells.iter().flat_map(|c| c.notes.iter().map(|note| (note.to_string(), cell_name(run, c))));
    let by_cells = grouped(said).into_iter().map(|(remark, cells)| {
        (if cells.len() == run.cells.len() { "all cells".to_string() } else { cells.join(", ") }, remark)
    });
    grouped(by_cells).into_iter().map(|(who, said)| clean(&format!("{who}: {}", said.join("; ")))).collect()
}

/// Values by key, keys in the order in which they first come.
fn grouped(pairs: impl Iterator<Item = (String, String)>) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (key, value) in pairs {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

/// The columns as a grid without trailing spaces.
fn grid(sheet: &Sheet, columns: &[&Column]) -> String {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|c| c.title.as_str()));
    for row in 0..sheet.rows {
        table.add_row(columns.iter().map(|c| c.values[row].as_str()));
    }
    for (i, column) in columns.iter().enumerate() {
        let Some(laid) = table.column_mut(i) else { continue };
        laid.set_padding((0, 1));
        if column.number {
            laid.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|l| l.trim_end().to_string()).collect::<Vec<_>>().join("\n")
}

/// One block per cell, for terminals too narrow for any table.
fn blocks(sheet: &Sheet) -> String {
    let titles: Vec<String> = sheet.columns.iter().map(|c| c.title.replace('\n', " ")).collect();
    let wide = titles.iter().map(|t| t.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for row in 0..sheet.rows {
        if row > 0 {
            out.push('\n');
        }
        for (title, column) in titles.iter().zip(&sheet.columns) {
            let _ = writeln!(out, "{title:wide$}  {}", column.values[row]);
        }
    }
    out
}

/// Breaks a line at spaces; a word longer than the line stays whole (paths must stay usable).
fn wrap(line: &str, width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in line.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width.max(20) {
            out.push_str("\n    ");
            used = 4;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

// Colours travel through the layout as invisible characters of width 0 and become escape codes at the end, so that the
// grid is aligned as if they were not there. `clean` keeps them out of names.
const GOOD: char = '\u{2061}';
const WARN: char = '\u{2062}';
const BAD: char = '\u{2063}';
const PLAIN: char = '\u{2064}';

/// Turns colour marks into escape codes, or drops them.
fn paint(text: &str, color: bool) -> String {
    if !color {
        return strip_marks(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            GOOD => out.push_str("\x1b[32m"),
            WARN => out.push_str("\x1b[33m"),
            BAD => out.push_str("\x1b[31m"),
            PLAIN => out.push_str("\x1b[0m"),
            c => out.push(c),
        }
    }
    out
}

pub(super) fn strip_marks(text: &str) -> String {
    text.replace([GOOD, WARN, BAD, PLAIN], "")
}

/// Terminal columns of a line: borders and our own text are one column per character, marks none.
fn display_width(line: &str) -> usize {
    line.chars().filter(|c| ![GOOD, WARN, BAD, PLAIN].contains(c)).count()
}
