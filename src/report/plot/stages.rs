//! Where the time of a frame goes: one bar per cell, one segment per stage, as long as its mean time over all frames. A
//! stage counts as zero on the frames on which it did not run, so that the segments add up to the mean latency.

use std::collections::BTreeMap;

use jetbench_runners::types::Stage;

use super::{Axis, Figure, GRID, INK, Look, MARGIN, PALETTE, PAPER, SOFT, drawable, notes, page};
use crate::report::scene::{Ink, Line, Scene, Type};
use crate::report::table::figure as short;
use crate::results::record::{CellRecord, RunRecord};

/// Mean milliseconds per frame by stage, in the order of a frame, the rest between the stages last; `None` when the
/// runner told nothing.
pub fn means(cell: &CellRecord) -> Option<Vec<(String, f64)>> {
    let frames: Vec<_> = cell.sequences.iter().flat_map(|s| &s.frames).collect();
    let total: f64 = frames.iter().map(|f| f.latency_ms).sum();
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for frame in &frames {
        for (stage, ms) in &frame.stages_ms {
            *sums.entry(stage).or_default() += ms;
        }
    }
    if sums.is_empty() || total <= 0.0 {
        return None;
    }
    let known = Stage::ALL.map(|s| s.as_str());
    let mut order: Vec<&str> = sums.keys().copied().collect();
    order.sort_by_key(|s| known.iter().position(|k| k == s).unwrap_or(known.len()));
    let between = total - sums.values().sum::<f64>();
    let n = frames.len() as f64;
    let mut means: Vec<(String, f64)> = order.into_iter().map(|s| (s.replace('_', " "), sums[s] / n)).collect();
    means.push(("between stages".to_string(), between / n));
    Some(means)
}

/// The figure; `None` when no runner told its stages.
pub fn figure(run: &RunRecord) -> Option<Figure> {
    let rows: Vec<(Look, Vec<(String, f64)>)> = Look::all(run)
        .into_iter()
        .zip(&run.cells)
        .filter(|(_, c)| drawable(c))
        .filter_map(|(look, cell)| Some((look, means(cell)?)))
        .collect();
    let longest = rows.iter().map(|r| r.1.iter().map(|s| s.1.max(0.0)).sum::<f64>()).fold(0.0, f64::max);
    if longest <= 0.0 {
        return None;
    }
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in rows.iter().flat_map(|r| &r.1) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_by_key(|n| *n == "between stages");
    let notes = notes(run);
    let row_height = 46.0;
    let height = 250.0 + rows.len() as f64 * row_height + 18.0 * notes.len() as f64;
    let (mut scene, top, floor) = page(run, "Time per frame, by stage", (1200.0, height), &notes);
    let name_style = Type::new(15.0, INK);
    let widest = rows.iter().map(|r| name_style.width(&r.0.name)).fold(0.0, f64::max).min(270.0);
    let (left, right) = (MARGIN + widest + 18.0, 1200.0 - MARGIN - 80.0);
    let x = Axis::linear(0.0, longest * 1.02, left, right);
    legend(&mut scene, &names, top + 20.0);
    let (ceiling, base) = (top + 72.0, floor - 50.0);
    let tick = Type::new(14.0, SOFT);
    for (value, text) in x.ticks((right - left) / 90.0) {
        scene.line((x.at(value), ceiling), (x.at(value), base), Line::new(GRID, 1.0));
        scene.text((x.at(value), base + 22.0), text, tick.middle());
    }
    scene.text(((left + right) / 2.0, base + 46.0), "Mean milliseconds per frame", Type::new(15.0, INK).middle());
    for (i, (look, stages)) in rows.iter().enumerate() {
        let y = ceiling + i as f64 * row_height + 6.0;
        let mut from = 0.0;
        for (name, ms) in stages.iter().filter(|s| s.1 > 0.0) {
            let ink = colour(&names, name);
            let ink = if look.valid { ink } else { ink.tinted(0.5) };
            scene.rect((x.at(from), y), (x.at(from + ms) - x.at(from), 28.0), Some(ink), Some(Line::new(PAPER, 1.0)));
            from += ms;
        }
        scene.text((MARGIN, y + 14.0 + name_style.half_cap()), name_style.fit(&look.name, 270.0), name_style);
        let total = if look.valid { short(from) } else { format!("({})", short(from)) };
        scene.text((x.at(from) + 10.0, y + 14.0 + name_style.half_cap()), total, name_style.bold());
    }
    let said: Vec<String> = rows
        .iter()
        .map(|(look, stages)| {
            let stages: Vec<String> = stages.iter().map(|(n, ms)| format!("{n} {}", short(*ms))).collect();
            format!("{}: {}", look.name, stages.join(", "))
        })
        .collect();
    Some(Figure {
        name: "stages".into(),
        caption: format!("Mean milliseconds per frame by stage. {}", said.join("; ")),
        scene,
    })
}

fn colour(names: &[&String], name: &String) -> Ink {
    PALETTE[names.iter().position(|n| *n == name).unwrap_or(0) % PALETTE.len()]
}

fn legend(scene: &mut Scene, names: &[&String], y: f64) {
    let style = Type::new(14.0, SOFT);
    let (mut x, mut y) = (MARGIN, y);
    for name in names {
        if x + 24.0 + style.width(name) > 1200.0 - MARGIN {
            (x, y) = (MARGIN, y + 24.0);
        }
        scene.rect((x, y - 11.0), (14.0, 14.0), Some(colour(names, name)), None);
        scene.text((x + 20.0, y), name.as_str(), style);
        x += 20.0 + style.width(name) + 26.0;
    }
}
