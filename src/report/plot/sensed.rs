//! What the sensors saw while a cell ran: memory, power and temperature over time, with the phases marked. Drawn from the
//! rows of `telemetry.csv`, because samples are too many for the record; each pixel column shows the range of its samples,
//! so no peak is lost.

use std::collections::BTreeMap;

use plotters::prelude::{Color, RGBAColor};

use super::{Axes, Figure, INK, MARGIN, Measure, PALETTE, PAPER, Page, Plot, SOFT, Scale, WIDE, text_style};
use crate::report::csv::restore;
use crate::report::table::cell_name;
use crate::results::record::RunRecord;
use crate::telemetry::PHASE;
use crate::telemetry::key::{Channel, WorkerMemory};
use crate::text::clean;

/// Points along a curve; more samples are drawn as ranges.
const COLUMNS: usize = 400;

/// Curves of one cell: quantity to (seconds, value), and phases with their begin.
#[derive(Default)]
struct Sensed {
    curves: BTreeMap<String, Vec<(f64, f64)>>,
    phases: Vec<(f64, String)>,
}

/// One figure per cell that was sensed for at least two samples.
pub fn figures(run: &RunRecord, telemetry: &[u8]) -> Vec<Figure> {
    let mut cells: BTreeMap<[String; 3], Sensed> = BTreeMap::new();
    let mut reader = ::csv::ReaderBuilder::new().flexible(true).from_reader(telemetry);
    for row in reader.records().flatten() {
        let field = |i: usize| restore(row.get(i).unwrap_or_default());
        let (Ok(at), Ok(value)) = (field(3).parse::<f64>(), field(5).parse::<f64>()) else { continue };
        // Repeats are fresh processes with times of their own; the first one is drawn.
        if !(at.is_finite() && value.is_finite() && matches!(field(6), "" | "1")) {
            continue;
        }
        let sensed = cells.entry([0, 1, 2].map(|i| field(i).to_string())).or_default();
        match field(4).strip_prefix(PHASE) {
            Some(phase) => sensed.phases.push((at, phase.to_string())),
            None => sensed.curves.entry(field(4).to_string()).or_default().push((at, value)),
        }
    }
    let mut figures = Vec::new();
    for (i, cell) in run.cells.iter().enumerate() {
        let Some(sensed) = cells.get(&[cell.model.clone(), cell.dtype.to_string(), cell.device.clone()]) else {
            continue;
        };
        let of = match cell.repeats.len() {
            0 => String::new(),
            n => format!(", repeat 1 of {n}"),
        };
        figures.extend(draw(&format!("{}{of}", cell_name(run, cell)), i, sensed));
    }
    figures
}

/// A curve with its name: (seconds, value).
type Curve<'a> = (String, &'a [(f64, f64)]);

/// Panels: title with the unit, the curves in it.
fn panels(sensed: &Sensed) -> Vec<(&'static str, Vec<Curve<'_>>)> {
    let curves: Vec<(Channel, &[(f64, f64)])> = sensed
        .curves
        .iter()
        .filter(|(_, curve)| curve.len() > 1)
        .map(|(name, curve)| (name.clone().into(), curve.as_slice()))
        .collect();
    let pick = |wanted: &dyn Fn(&Channel) -> bool| -> Vec<Curve<'_>> {
        curves.iter().filter(|(c, _)| wanted(c)).map(|(c, curve)| (clean(&c.label()), *curve)).collect()
    };
    let system = pick(&|c| matches!(c, Channel::MemAvailable | Channel::Nvmap));
    let worker = pick(&|c| matches!(c, Channel::Worker(figure) if *figure != WorkerMemory::Swap));
    let power = pick(&|c| c.rail().is_some());
    let heat = pick(&Channel::is_temperature);
    [
        ("memory of the system, MiB", system),
        ("memory of the worker, MiB", worker),
        ("power by rail, W", power),
        ("temperature, °C", heat),
    ]
    .into_iter()
    .filter(|p| !p.1.is_empty())
    .collect()
}

/// Height of a panel, and of what lies between two.
const TALL: f64 = 150.0;
const GAP: f64 = 62.0;

fn draw(name: &str, index: usize, sensed: &Sensed) -> Option<Figure> {
    let panels = panels(sensed);
    let end = panels.iter().flat_map(|p| &p.1).flat_map(|c| c.1.iter().map(|p| p.0)).fold(0.0, f64::max);
    if panels.is_empty() || end <= 0.0 {
        return None;
    }
    let shown: Vec<&str> = panels.iter().map(|p| p.0).collect();
    let caption = format!("{name} over {end:.1} seconds: {}", shown.join("; "));
    let height = 104.0 + panels.len() as f64 * (TALL + GAP);
    Some(Figure::draw(format!("sensed_{:02}", index + 1), caption, height, |page| {
        let heading = text_style(22.0, INK).bold();
        page.text((MARGIN, 42.0), &heading.fit(&format!("Over time: {name}"), WIDE - 2.0 * MARGIN), &heading);
        let under = "Seconds since the first sample. Dashed lines: a phase begins. No sample is left out.";
        page.text((MARGIN, 68.0), under, &text_style(15.0, SOFT));
        for (i, (title, curves)) in panels.iter().enumerate() {
            panel(page, title, curves, &sensed.phases, end, 124.0 + i as f64 * (TALL + GAP), i == 0);
        }
    }))
}

fn panel(page: &Page, title: &str, curves: &[Curve<'_>], phases: &[(f64, String)], end: f64, top: f64, named: bool) {
    let values = || curves.iter().flat_map(|c| c.1.iter().map(|p| p.1));
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    let air = ((high - low) * 0.08).max(high.abs() * 0.01).max(1e-9);
    let y = Scale::linear(if low >= 0.0 { (low - air).max(0.0) } else { low - air }, high + air, 5.0);
    let x = Scale::linear(0.0, end, 10.0);
    let plot = Plot { x, y, left: MARGIN + 60.0, top, right: WIDE - MARGIN - 170.0, bottom: top + TALL };
    page.text((plot.left, top - 12.0), title, &text_style(14.0, INK).bold());
    plot.axes(page, &Axes { tick: 13.0, title: 13.0, x: "", y: "", columns: false });
    let tick = text_style(13.0, SOFT);
    for (at, _) in phases {
        page.dashes(&[(plot.x(*at), top), (plot.x(*at), plot.bottom)], SOFT, 1.0, (4.0, 3.0));
    }
    for (k, (name, curve)) in curves.iter().enumerate() {
        let color = PALETTE[k % PALETTE.len()];
        trace(page, curve, &plot, color);
        let row = top + 12.0 + 20.0 * k as f64;
        if row < plot.bottom + 14.0 {
            page.rect((plot.right + 14.0, row - 9.0), (12.0, 12.0), color);
            page.text((plot.right + 32.0, row + 1.0), &tick.fit(name, 140.0), &tick);
        }
    }
    // Phases that follow each other closely have their names on lines of their own, as many as there are.
    let mut free = [plot.left; 6];
    for (at, phase) in phases.iter().filter(|_| named) {
        let width = tick.width(phase);
        if let Some((left, row)) = place_name(&mut free, plot.x(*at), width, plot.right) {
            let y = top + 12.0 + 15.0 * row as f64;
            page.rect((left - 1.0, y - 10.5), (width + 2.0, 13.0), PAPER.mix(0.8));
            page.text((left, y), &clean(phase), &tick);
        }
    }
}

/// Left end and row of a phase's name: right of its line, or left of it where it would run out of the panel, which ends at
/// `end`. `free` holds where each row is free from; `None` when none is.
fn place_name(free: &mut [f64], line: f64, width: f64, end: f64) -> Option<(f64, usize)> {
    let left = if line + 4.0 + width <= end { line + 4.0 } else { line - 4.0 - width };
    let row = free.iter().position(|f| left >= *f)?;
    free[row] = left + width + 10.0;
    Some((left, row))
}

/// A curve; where samples are denser than columns, the smallest and largest of each column in the order in which they came.
fn trace(page: &Page, curve: &[(f64, f64)], plot: &Plot, color: RGBAColor) {
    let mut points = Vec::new();
    for part in curve.chunks(curve.len().div_ceil(COLUMNS).max(1)) {
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends = [part.iter().min_by(by), part.iter().max_by(by)];
        let mut ends: Vec<(f64, f64)> = ends.into_iter().flatten().copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        points.extend(ends.into_iter().map(|(t, v)| (plot.x(t), plot.y(v))));
    }
    page.line(&points, color, 1.6);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_phases_stay_in_the_panel_and_off_each_other() {
        let mut free = [100.0; 3];
        let names = [(100.0, 30.0), (110.0, 40.0), (120.0, 20.0), (300.0, 50.0), (490.0, 30.0), (498.0, 25.0)];
        let placed: Vec<_> = names.iter().map(|(line, width)| place_name(&mut free, *line, *width, 500.0)).collect();
        let expected = [(104.0, 0), (114.0, 1), (124.0, 2), (304.0, 0), (456.0, 0), (469.0, 1)];
        assert_eq!(placed, expected.map(Some));
        for (i, ((_, width), (left, _))) in names.iter().zip(&expected).enumerate() {
            assert!(*left >= 100.0 && left + width <= 500.0, "name {i}");
        }
        assert_eq!(place_name(&mut [400.0], 300.0, 20.0, 500.0), None, "no row is free");
    }
}
