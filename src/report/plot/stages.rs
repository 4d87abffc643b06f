//! Where the time of a frame goes: one bar per cell, one segment per stage, as long as its mean time over all frames of all repeats. A
//! stage counts as zero on the frames on which it did not run, so that the segments add up to the mean latency.

use std::collections::BTreeMap;

use jetbench_runners::types::Stage;

use plotters::prelude::{Color, RGBAColor};

use super::{
    Axes, Figure, INK, Look, MARGIN, Measure, PALETTE, Page, Plot, Scale, WIDE, drawable, heading, legend,
    legend_places, notes, text_style,
};
use crate::results::record::{CellRecord, RunRecord};
use crate::text::figure as short;

/// Mean milliseconds per frame by stage, in the order of a frame, the rest between the stages last; `None` when the
/// runner told nothing.
pub fn means(cell: &CellRecord) -> Option<Vec<(String, f64)>> {
    let frames: Vec<_> = cell.frames().collect();
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

/// A cell and its stages.
type StagesRow = (Look, Vec<(String, f64)>);

const ROW: f64 = 46.0;

/// The figure; `None` when no runner told its stages.
pub fn figure(run: &RunRecord) -> Option<Figure> {
    let rows: Vec<StagesRow> = Look::all(run)
        .into_iter()
        .zip(&run.cells)
        .filter(|(_, c)| drawable(c))
        .filter_map(|(look, cell)| Some((look, means(cell)?)))
        .collect();
    let longest = rows.iter().map(|r| r.1.iter().map(|s| s.1.max(0.0)).sum::<f64>()).fold(0.0, f64::max);
    if longest <= 0.0 {
        return None;
    }
    let said: Vec<String> = rows
        .iter()
        .map(|(look, stages)| {
            let stages: Vec<String> = stages.iter().map(|(n, ms)| format!("{n} {}", short(*ms))).collect();
            format!("{}: {}", look.name, stages.join(", "))
        })
        .collect();
    let caption = format!("Mean milliseconds per frame by stage. {}", said.join("; "));
    let notes = notes(run);
    let height = 226.0 + rows.len() as f64 * ROW + 18.0 * notes.len() as f64;
    Some(Figure::draw("stages", caption, height, |page| draw(page, run, &rows, longest, &notes)))
}

fn draw(page: &Page, run: &RunRecord, rows: &[StagesRow], longest: f64, notes: &[String]) {
    let (top, floor) = heading(page, run, "Time per frame, by stage", notes);
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|r| &r.1) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort_by_key(|n| *n == "between stages");
    let entries: Vec<_> = names.iter().map(|name| (14.0, *name)).collect();
    legend(page, &entries, (MARGIN, top + 20.0), |i, (x, y)| page.rect((x, y - 11.0), (14.0, 14.0), colour(i)));
    let lines = legend_places(&entries, MARGIN).last().map_or(0, |p| p.1) as f64;
    let name_style = text_style(15.0, INK);
    let widest = rows.iter().map(|r| name_style.width(&r.0.name)).fold(0.0, f64::max).min(270.0);
    let (left, right) = (MARGIN + widest + 18.0, WIDE - MARGIN - 80.0);
    let x = Scale::linear(0.0, longest * 1.02, (right - left) / 90.0);
    let plot =
        Plot { x, y: Scale::linear(0.0, 1.0, 0.0), left, top: top + 48.0 + 24.0 * lines, right, bottom: floor - 50.0 };
    plot.axes(page, &Axes { tick: 14.0, title: 15.0, x: "Mean milliseconds per frame", y: "", columns: true });
    for (i, (look, stages)) in rows.iter().enumerate() {
        let y = plot.top + i as f64 * ROW + 6.0;
        let mut from = 0.0;
        for (name, ms) in stages.iter().filter(|s| s.1 > 0.0) {
            let color = colour(names.iter().position(|n| n == name).unwrap_or(0));
            // A hair of paper between the segments.
            let width = plot.x(from + ms) - plot.x(from) - 1.0;
            page.rect((plot.x(from) + 0.5, y), (width.max(0.2), 28.0), if look.valid { color } else { color.mix(0.5) });
            from += ms;
        }
        let middle = y + 14.0 + name_style.half_cap();
        page.text((MARGIN, middle), &name_style.fit(&look.name, 270.0), &name_style);
        let total = if look.valid { short(from) } else { format!("({})", short(from)) };
        page.text((plot.x(from) + 10.0, middle), &total, &name_style.bold());
    }
}

fn colour(stage: usize) -> RGBAColor {
    // Grey is the last one, where there are more than colours.
    PALETTE.get(stage).copied().unwrap_or(RGBAColor(0x99, 0x99, 0x99, 1.0))
}
