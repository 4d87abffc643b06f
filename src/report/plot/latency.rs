//! Latency distribution: for every cell a histogram over all of its frames (none is left out) and the quantiles that are
//! quoted, on one common axis.

use plotters::prelude::{Color, RGBAColor};

use super::{
    Axes, Figure, GRID, INK, Look, MARGIN, Measure, PAPER, Page, Plot, SOFT, Scale, WIDE, drawable, heading, legend,
    notes, text_style,
};
use crate::results::record::{LatencyRecord, RunRecord};
use crate::text::figure as short;

/// Width of a histogram bin in scene units.
const BIN: f64 = 4.0;

/// A cell, all its samples, and what is quoted of them.
type LatencyRow = (Look, Vec<f64>, LatencyRecord);

/// The quoted quantiles, one column each, and their width.
const COLUMNS: [&str; 4] = ["p50", "p95", "p99", "max"];
const COLUMN: f64 = 64.0;

/// The figure; `None` when no frame was timed.
pub fn figure(run: &RunRecord) -> Option<Figure> {
    let mut rows: Vec<LatencyRow> = Vec::new();
    for (look, cell) in Look::all(run).into_iter().zip(&run.cells).filter(|(_, c)| drawable(c)) {
        let samples: Vec<f64> = cell.frames().map(|f| f.latency_ms).collect();
        if let Some(latency) = cell.summary.as_ref().and_then(|s| s.latency) {
            // Records of earlier versions hold the median over the repeats' largest.
            let max_ms = samples.iter().copied().fold(latency.max_ms, f64::max);
            rows.push((look, samples, LatencyRecord { max_ms, ..latency }));
        }
    }
    let positive = |v: &f64| v.is_finite() && *v > 0.0;
    let smallest = rows.iter().flat_map(|r| &r.1).copied().filter(positive).fold(f64::MAX, f64::min);
    let largest = rows.iter().map(|r| r.2.max_ms).filter(positive).fold(0.0, f64::max);
    if rows.is_empty() || largest <= 0.0 {
        return None;
    }
    let mut notes = notes(run);
    notes.insert(
        0,
        "One frame: RGB in host memory to binary masks of all objects in host memory; decoding excluded. \
                     Every frame counts; the height of each histogram is its own."
            .to_string(),
    );
    if run.cells.iter().any(|c| drawable(c) && !c.repeats.is_empty()) {
        let text =
            "Histogram and max: all frames of all repeats. p50, p95, p99: medians over the repeats, as in the table.";
        notes.insert(1, text.to_string());
    }
    let said: Vec<String> = rows
        .iter()
        .map(|(look, _, l)| {
            let p99 = l.p99().map_or_else(String::new, |ms| format!(" p99 {}", short(ms)));
            format!("{} p50 {}{p99}", look.name, short(l.p50_ms))
        })
        .collect();
    let caption = format!("Latency per frame in milliseconds: {}", said.join("; "));
    let row_height = (560.0 / rows.len() as f64).clamp(52.0, 120.0);
    let height = 236.0 + rows.len() as f64 * row_height + 18.0 * notes.len() as f64;
    Some(Figure::draw("latency", caption, height, |page| {
        draw(page, run, &rows, (smallest, largest), row_height, &notes);
    }))
}

fn draw(page: &Page, run: &RunRecord, rows: &[LatencyRow], ends: (f64, f64), row_height: f64, notes: &[String]) {
    let (top, floor) = heading(page, run, "Latency per frame", notes);
    let name_style = text_style(15.0, INK);
    let widest = rows.iter().map(|r| name_style.width(&r.0.name)).fold(0.0, f64::max).min(270.0);
    let left = MARGIN + widest + 18.0;
    let right = WIDE - MARGIN - COLUMNS.len() as f64 * COLUMN - 14.0;
    let (smallest, largest) = ends;
    let x = if largest / smallest > 12.0 {
        Scale::log(smallest, largest)
    } else {
        Scale::linear(0.0, largest * 1.04, (right - left) / 70.0)
    };
    let plot = Plot { x, y: Scale::linear(0.0, 1.0, 0.0), left, top: top + 62.0, right, bottom: floor - 58.0 };
    keys(page, (left, top + 24.0));
    let scale = if plot.x.log { ", log scale" } else { "" };
    let title = format!("Latency (milliseconds per frame{scale})");
    plot.axes(page, &Axes { tick: 14.0, title: 15.0, x: &title, y: "", columns: true });
    let tick = text_style(14.0, SOFT).end();
    let column = |i: usize| right + 14.0 + (i + 1) as f64 * COLUMN;
    for (i, name) in COLUMNS.iter().enumerate() {
        page.text((column(i), plot.top - 8.0), name, &tick);
    }
    page.text((WIDE - MARGIN, plot.top - 28.0), "milliseconds", &tick);
    for (i, (look, samples, latency)) in rows.iter().enumerate() {
        let foot = plot.top + (i + 1) as f64 * row_height - 16.0;
        if i + 1 < rows.len() {
            page.line(&[(MARGIN, foot + 16.0), (WIDE - MARGIN, foot + 16.0)], GRID, 1.0);
        }
        histogram(page, &plot, (samples, latency.max_ms), look, foot, row_height - 26.0);
        marks(page, &plot, latency, look, foot, row_height - 26.0);
        let middle = foot - (row_height - 26.0) / 2.0 + 4.0 + name_style.half_cap();
        page.text((MARGIN, middle), &name_style.fit(&look.name, 270.0), &name_style);
        let figures = [Some(latency.p50_ms), latency.p95(), latency.p99(), Some(latency.max_ms)];
        for (k, value) in figures.into_iter().enumerate() {
            let style = if k == 0 { name_style.bold() } else { name_style.clone() };
            let text = match value {
                None => "–".to_string(),
                Some(value) if look.valid => short(value),
                Some(value) => format!("({})", short(value)),
            };
            page.text((column(k), middle), &text, &style.end());
        }
    }
}

/// All samples in bins of equal width on the axis, drawn as one stepped area, which ends at the largest.
fn histogram(page: &Page, plot: &Plot, (samples, max_ms): (&[f64], f64), look: &Look, foot: f64, height: f64) {
    let bins = ((plot.right - plot.left) / BIN).ceil() as usize;
    let mut counts = vec![0u32; bins];
    for sample in samples {
        let bin = ((plot.x(*sample) - plot.left) / BIN).max(0.0) as usize;
        counts[bin.min(bins - 1)] += 1;
    }
    let most = f64::from(counts.iter().copied().max().unwrap_or(1).max(1));
    let (mut outline, mut end) = (Vec::new(), 0.0);
    for i in 0..=bins {
        let count = counts.get(i).copied().unwrap_or(0);
        let at = plot.left + i as f64 * BIN;
        if count > 0 {
            if outline.is_empty() {
                outline.push((at, foot));
            }
            // A lone frame stays visible beside a bin of thousands.
            let tall = (f64::from(count) / most * height).max(2.0);
            end = (at + BIN).min(plot.x(max_ms)).max(at + 1.0);
            outline.extend([(at, foot - tall), (end, foot - tall)]);
        } else if !outline.is_empty() {
            outline.push((end, foot));
            area(page, &std::mem::take(&mut outline), look);
        }
    }
}

fn area(page: &Page, outline: &[(f64, f64)], look: &Look) {
    if look.valid {
        page.area(outline, look.color.mix(0.55));
    } else {
        page.outline(outline, look.pale(0.25), 1.2);
    }
}

/// The quantiles: a bar from p50 to the highest percentile that is told along the foot, a mark for each.
fn marks(page: &Page, plot: &Plot, l: &LatencyRecord, look: &Look, foot: f64, height: f64) {
    let color = look.pale(0.25);
    let (y, p50) = (foot + 6.0, plot.x(l.p50_ms));
    page.line(&[(p50, y), (plot.x(l.max_ms), y)], color.mix(0.5), 1.2);
    if let Some(most) = l.p99().or(l.p95()) {
        page.line(&[(p50, y), (plot.x(most), y)], color, 3.0);
    }
    page.line(&[(p50, foot - height), (p50, y + 4.0)], color, 2.0);
    for (name, value) in [("p95", l.p95()), ("p99", l.p99()), ("max", Some(l.max_ms))] {
        if let Some(value) = value {
            mark(page, name, (plot.x(value), y), color);
        }
    }
}

fn mark(page: &Page, name: &str, (x, y): (f64, f64), color: RGBAColor) {
    let bar = [(x - 2.0, y - 6.0), (x + 2.0, y - 6.0), (x + 2.0, y + 6.0), (x - 2.0, y + 6.0)];
    let diamond = [(x - 5.0, y), (x, y - 6.0), (x + 5.0, y), (x, y + 6.0)];
    match name {
        "max" => {
            page.disc((x, y), 3.5, PAPER);
            page.ring((x, y), 3.5, color, 1.5);
        }
        _ => {
            let corners = if name == "p95" { diamond } else { bar };
            page.area(&corners, color);
            page.outline(&corners, PAPER, 1.0);
        }
    }
}

fn keys(page: &Page, at: (f64, f64)) {
    let entries = [(20.0, "all frames"), (4.0, "p50 (median)"), (12.0, "p95"), (12.0, "p99"), (12.0, "max")];
    legend(page, &entries, at, |i, (x, y)| match i {
        0 => {
            let heights = [4.0, 11.0, 6.0, 2.0];
            let steps = heights.iter().zip(0..).flat_map(|(h, i)| [(5 * i, *h), (5 * (i + 1), *h)]);
            let steps: Vec<(i32, f64)> = [(0, 0.0)].into_iter().chain(steps).chain([(20, 0.0)]).collect();
            let points: Vec<_> = steps.iter().map(|(dx, dy)| (x + f64::from(*dx), y - dy)).collect();
            page.area(&points, SOFT.mix(0.55));
        }
        1 => page.line(&[(x + 2.0, y - 14.0), (x + 2.0, y + 2.0)], SOFT, 2.0),
        _ => mark(page, entries[i].1, (x + 6.0, y - 5.0), SOFT),
    });
}
