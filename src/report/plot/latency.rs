//! Latency distribution: for every cell a histogram over all of its frames (none is left out) and the quantiles that are
//! quoted, on one common axis.

use super::{Axis, Figure, GRID, INK, Look, MARGIN, PAPER, RULE, SOFT, drawable, notes, page};
use crate::report::scene::{Ink, Line, Scene, Type};
use crate::report::table::figure as short;
use crate::results::record::{LatencyRecord, RunRecord};

/// Width of a histogram bin in scene units.
const BIN: f64 = 4.0;

/// The figure; `None` when no frame was timed.
pub fn figure(run: &RunRecord) -> Option<Figure> {
    let mut rows: Vec<(Look, Vec<f64>, LatencyRecord)> = Vec::new();
    for (look, cell) in Look::all(run).into_iter().zip(&run.cells).filter(|(_, c)| drawable(c)) {
        let samples = cell.sequences.iter().flat_map(|s| &s.frames).map(|f| f.latency_ms).collect();
        if let Some(latency) = cell.summary.as_ref().and_then(|s| s.latency) {
            rows.push((look, samples, latency));
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
    let row_height = (560.0 / rows.len() as f64).clamp(52.0, 120.0);
    let height = 236.0 + rows.len() as f64 * row_height + 18.0 * notes.len() as f64;
    let (mut scene, top, floor) = page(run, "Latency per frame", (1200.0, height), &notes);

    let name_style = Type::new(15.0, INK);
    let widest = rows.iter().map(|r| name_style.width(&r.0.name)).fold(0.0, f64::max).min(270.0);
    let left = MARGIN + widest + 18.0;
    let columns = ["p50", "p95", "p99", "max"];
    let column_width = 64.0;
    let right = 1200.0 - MARGIN - columns.len() as f64 * column_width - 14.0;
    let x = if largest / smallest > 12.0 {
        Axis::log(smallest, largest, left, right)
    } else {
        Axis::linear(0.0, largest * 1.04, left, right)
    };
    let (ceiling, base) = (top + 62.0, floor - 58.0);
    legend(&mut scene, (left, top + 24.0));
    let tick = Type::new(14.0, SOFT);
    for (value, text) in x.ticks((right - left) / 70.0) {
        scene.line((x.at(value), ceiling), (x.at(value), base), Line::new(GRID, 1.0));
        scene.text((x.at(value), base + 22.0), text, tick.middle());
    }
    let scale = if x.log { ", log scale" } else { "" };
    let title = Type::new(15.0, INK).middle();
    scene.text(((left + right) / 2.0, base + 48.0), format!("Latency (milliseconds per frame{scale})"), title);
    for (i, column) in columns.iter().enumerate() {
        let at = right + 14.0 + (i + 1) as f64 * column_width;
        scene.text((at, ceiling - 8.0), *column, tick.end());
    }
    scene.text((1200.0 - MARGIN, ceiling - 28.0), "milliseconds", tick.end());
    for (i, (look, samples, latency)) in rows.iter().enumerate() {
        let foot = ceiling + (i + 1) as f64 * row_height - 16.0;
        scene.line((MARGIN, foot + 16.0), (1200.0 - MARGIN, foot + 16.0), Line::new(GRID, 1.0));
        histogram(&mut scene, &x, samples, look, foot, row_height - 26.0);
        marks(&mut scene, &x, latency, look, foot, row_height - 26.0);
        let middle = foot - (row_height - 26.0) / 2.0 + 4.0;
        let name = name_style.fit(&look.name, 270.0);
        scene.text((MARGIN, middle + name_style.half_cap()), name, name_style);
        let figures = [latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms];
        for (k, value) in figures.into_iter().enumerate() {
            let style = if k == 0 { Type::new(15.0, INK).bold() } else { Type::new(15.0, INK) };
            let at = right + 14.0 + (k + 1) as f64 * column_width;
            let text = if look.valid { short(value) } else { format!("({})", short(value)) };
            scene.text((at, middle + style.half_cap()), text, style.end());
        }
    }
    scene.line((left, base), (right, base), Line::new(RULE, 1.2));
    let said: Vec<String> = rows
        .iter()
        .map(|(look, _, l)| format!("{} p50 {} p99 {}", look.name, short(l.p50_ms), short(l.p99_ms)))
        .collect();
    let caption = format!("Latency per frame in milliseconds: {}", said.join("; "));
    Some(Figure { name: "latency".to_string(), caption, scene })
}

/// All samples in bins of equal width on the axis, drawn as one stepped area.
fn histogram(scene: &mut Scene, x: &Axis, samples: &[f64], look: &Look, foot: f64, height: f64) {
    let bins = ((x.to - x.from) / BIN).ceil() as usize;
    let mut counts = vec![0u32; bins];
    for &sample in samples {
        let bin = ((x.at(sample) - x.from) / BIN).max(0.0) as usize;
        counts[bin.min(bins - 1)] += 1;
    }
    let most = f64::from(counts.iter().copied().max().unwrap_or(1).max(1));
    let mut start = None;
    let mut outline: Vec<(f64, f64)> = Vec::new();
    for i in 0..=bins {
        let count = counts.get(i).copied().unwrap_or(0);
        let at = x.from + i as f64 * BIN;
        if count == 0 {
            if start.take().is_some() {
                outline.push((at, foot));
                area(scene, std::mem::take(&mut outline), look);
            }
            continue;
        }
        if start.is_none() {
            start = Some(i);
            outline.push((at, foot));
        }
        // A lone frame stays visible beside a bin of thousands.
        let tall = (f64::from(count) / most * height).max(2.0);
        outline.extend([(at, foot - tall), (at + BIN, foot - tall)]);
    }
}

fn area(scene: &mut Scene, outline: Vec<(f64, f64)>, look: &Look) {
    if look.valid {
        scene.polygon(outline, Some(look.ink.tinted(0.45)), None);
    } else {
        scene.polygon(outline, Some(PAPER), Some(Line::new(look.ink.tinted(0.25), 1.2)));
    }
}

/// The quantiles: a bar from p50 to p99 along the foot, a mark for each.
fn marks(scene: &mut Scene, x: &Axis, l: &LatencyRecord, look: &Look, foot: f64, height: f64) {
    let ink = if look.valid { look.ink } else { look.ink.tinted(0.25) };
    let y = foot + 6.0;
    scene.line((x.at(l.p50_ms), y), (x.at(l.max_ms), y), Line::new(ink.faded(0.5), 1.2));
    scene.line((x.at(l.p50_ms), y), (x.at(l.p99_ms), y), Line::new(ink, 3.0));
    scene.line((x.at(l.p50_ms), foot - height), (x.at(l.p50_ms), y + 4.0), Line::new(ink, 2.0));
    mark(scene, Mark::P95, (x.at(l.p95_ms), y), ink);
    mark(scene, Mark::P99, (x.at(l.p99_ms), y), ink);
    mark(scene, Mark::Max, (x.at(l.max_ms), y), ink);
}

enum Mark {
    P95,
    P99,
    Max,
}

fn mark(scene: &mut Scene, mark: Mark, (x, y): (f64, f64), ink: Ink) {
    let edge = Some(Line::new(PAPER, 1.0));
    match mark {
        Mark::P95 => {
            let points = vec![(x - 5.0, y), (x, y - 6.0), (x + 5.0, y), (x, y + 6.0)];
            scene.polygon(points, Some(ink), edge);
        }
        Mark::P99 => scene.rect((x - 2.0, y - 6.0), (4.0, 12.0), Some(ink), edge),
        Mark::Max => scene.circle((x, y), 3.5, Some(PAPER), Some(Line::new(ink, 1.5))),
    }
}

fn legend(scene: &mut Scene, (mut x, y): (f64, f64)) {
    let style = Type::new(14.0, SOFT);
    let middle = y - 5.0;
    for text in ["all frames", "p50 (median)", "p95", "p99", "max"] {
        match text {
            "all frames" => {
                let steps = [
                    (0.0, 0.0),
                    (0.0, 4.0),
                    (5.0, 4.0),
                    (5.0, 11.0),
                    (10.0, 11.0),
                    (10.0, 6.0),
                    (15.0, 6.0),
                    (15.0, 2.0),
                    (20.0, 2.0),
                    (20.0, 0.0),
                ];
                let points = steps.iter().map(|(dx, dy)| (x + dx, y - dy)).collect();
                scene.polygon(points, Some(SOFT.tinted(0.45)), None);
                x += 28.0;
            }
            "p95" | "p99" | "max" => {
                let kind = match text {
                    "p95" => Mark::P95,
                    "p99" => Mark::P99,
                    _ => Mark::Max,
                };
                mark(scene, kind, (x + 6.0, middle), SOFT);
                x += 18.0;
            }
            _ => {
                scene.line((x + 2.0, middle - 9.0), (x + 2.0, middle + 7.0), Line::new(SOFT, 2.0));
                x += 12.0;
            }
        }
        scene.text((x, y), text, style);
        x += style.width(text) + 30.0;
    }
}
