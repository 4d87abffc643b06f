//! What the sensors saw while a cell ran: memory, power and temperature over time, with the phases marked. Drawn from the
//! rows of `telemetry.csv`, because samples are too many for the record; each pixel column shows the range of its samples,
//! so no peak is lost.

use std::collections::BTreeMap;

use super::{Axis, Figure, GRID, INK, MARGIN, PALETTE, RULE, SOFT};
use crate::report::scene::{Ink, Line, Scene, Type};
use crate::report::table::{cell_name, clean};
use crate::results::record::RunRecord;
use crate::telemetry::PHASE;
use crate::telemetry::key::{Channel, WorkerMemory};

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
        let field = |i: usize| row.get(i).unwrap_or_default();
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
        figures.extend(draw(&cell_name(run, cell), i, sensed));
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

fn draw(name: &str, index: usize, sensed: &Sensed) -> Option<Figure> {
    let panels = panels(sensed);
    let end = panels.iter().flat_map(|p| &p.1).flat_map(|c| c.1.iter().map(|p| p.0)).fold(0.0, f64::max);
    if panels.is_empty() || end <= 0.0 {
        return None;
    }
    const TALL: f64 = 150.0;
    let height = 120.0 + panels.len() as f64 * (TALL + 62.0) + 20.0;
    let mut scene = Scene::new(1200.0, height);
    let heading = Type::new(22.0, INK).bold();
    scene.text((MARGIN, 42.0), heading.fit(&format!("Over time: {name}"), 1200.0 - 2.0 * MARGIN), heading);
    let under = Type::new(15.0, SOFT);
    scene.text(
        (MARGIN, 68.0),
        "Seconds since the first sample. Dashed lines: a phase begins. No sample is left out.",
        under,
    );
    let (left, right) = (MARGIN + 60.0, 1200.0 - MARGIN - 170.0);
    let x = Axis::linear(0.0, end, left, right);
    for (i, (title, curves)) in panels.iter().enumerate() {
        let head = 124.0 + i as f64 * (TALL + 62.0);
        panel(&mut scene, title, curves, sensed, x, (head, head + TALL), i == 0);
    }
    let shown: Vec<&str> = panels.iter().map(|p| p.0).collect();
    Some(Figure {
        name: format!("sensed_{:02}", index + 1),
        caption: format!("{name} over {end:.1} seconds: {}", shown.join("; ")),
        scene,
    })
}

fn panel(
    scene: &mut Scene,
    title: &str,
    curves: &[Curve<'_>],
    sensed: &Sensed,
    x: Axis,
    (head, foot): (f64, f64),
    named: bool,
) {
    let values = || curves.iter().flat_map(|c| c.1.iter().map(|p| p.1));
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    let air = ((high - low) * 0.08).max(high.abs() * 0.01).max(1e-9);
    let y = Axis::linear(if low >= 0.0 { (low - air).max(0.0) } else { low - air }, high + air, foot, head);
    let (tick, label) = (Type::new(13.0, SOFT), Type::new(14.0, INK).bold());
    scene.text((x.from, head - 12.0), title, label);
    for (value, text) in y.ticks(3.0) {
        scene.line((x.from, y.at(value)), (x.to, y.at(value)), Line::new(GRID, 1.0));
        scene.text((x.from - 8.0, y.at(value) + tick.half_cap()), text, tick.end());
    }
    for (value, text) in x.ticks(9.0) {
        scene.text((x.at(value), foot + 18.0), text, tick.middle());
    }
    // Phases that follow each other closely have their names on lines of their own, as many as there are.
    let mut free = [x.from; 6];
    for (at, phase) in &sensed.phases {
        let place = x.at(*at);
        scene.line((place, head), (place, foot), Line::new(SOFT, 1.0).dashed(4.0, 3.0));
        if let Some((left, row)) = place_name(&mut free, place, tick.width(phase), x.to).filter(|_| named) {
            scene.text((left, head + 12.0 + 15.0 * row as f64), clean(phase), tick);
        }
    }
    scene.polyline(vec![(x.from, head), (x.from, foot), (x.to, foot)], Line::new(RULE, 1.2));
    for (k, (name, curve)) in curves.iter().enumerate() {
        let ink = PALETTE[k % PALETTE.len()];
        trace(scene, curve, x, y, ink);
        let row = head + 12.0 + 20.0 * k as f64;
        if row < foot + 14.0 {
            scene.rect((x.to + 14.0, row - 9.0), (12.0, 12.0), Some(ink), None);
            scene.text((x.to + 32.0, row + 1.0), tick.fit(name, 140.0), tick);
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
fn trace(scene: &mut Scene, curve: &[(f64, f64)], x: Axis, y: Axis, ink: Ink) {
    let mut points = Vec::new();
    for part in curve.chunks(curve.len().div_ceil(COLUMNS).max(1)) {
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends = [part.iter().min_by(by), part.iter().max_by(by)];
        let mut ends: Vec<(f64, f64)> = ends.into_iter().flatten().copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        points.extend(ends.into_iter().map(|(t, v)| (x.at(t), y.at(v))));
    }
    scene.polyline(points, Line::new(ink, 1.6));
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
