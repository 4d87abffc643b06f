//! What changed between two runs: for every cell the change of J&F and of latency with its interval, and the band within which
//! it is noise.

use plotters::prelude::{Color, RGBAColor};

use super::{Axes, Figure, INK, MARGIN, Measure, PALETTE, PAPER, Page, Plot, SHADE, SOFT, Scale, WIDE, text_style};
use crate::judge::change::{Change, ChangeWord, Comparison};
use crate::text::clean;

const ROW: f64 = 44.0;
/// Room for the names of cells.
const NAMES: f64 = 300.0;

/// The figure; `None` where nothing could be compared.
pub fn figure(comparison: &Comparison) -> Option<Figure> {
    let changes = |pick: fn(&crate::judge::change::CellChange) -> &Change, scale: f64| -> Vec<Row> {
        let row = |c| {
            let change: &Change = pick(c);
            let interval = change.interval.map(|i| (i.low * scale, i.high * scale));
            change.change.map(|v| Row { word: change.word, change: v * scale, interval, floor: change.floor * scale })
        };
        comparison.cells.iter().map(|c| row(c).unwrap_or(Row { word: pick(c).word, ..Row::default() })).collect()
    };
    let jf = changes(|c| &c.jf, 1.0);
    let latency = changes(|c| &c.latency, 100.0);
    if jf.iter().chain(&latency).all(|row| row.change.is_nan()) {
        return None;
    }
    let names: Vec<String> =
        comparison.cells.iter().map(|c| clean(&format!("{} {} {}", c.model, c.dtype, c.device))).collect();
    let height = 150.0 + ROW * names.len() as f64 + 60.0;
    let caption = format!("Change of J&F and of latency of {} cells, with 95 % intervals", names.len());
    Some(Figure::draw("changes", caption, height, |page| {
        page.text((MARGIN, 42.0), "What changed", &text_style(22.0, INK).bold());
        let under = "Dot: the change. Line: its 95 % interval. Band: noise. Full: improved or regressed; hollow: neither is shown.";
        page.text((MARGIN, 68.0), under, &text_style(15.0, SOFT));
        let style = text_style(15.0, INK);
        for (i, name) in names.iter().enumerate() {
            let y = 118.0 + ROW * (i as f64 + 0.5) + style.half_cap();
            page.text((MARGIN, y), &style.fit(name, NAMES - 20.0), &style);
        }
        let left = MARGIN + NAMES;
        let middle = (left + WIDE - MARGIN) / 2.0;
        panel(page, "J&F, points (right is better)", &jf, (left, middle - 20.0), PALETTE[2]);
        panel(page, "latency, % (right is slower)", &latency, (middle + 20.0, WIDE - MARGIN), PALETTE[0]);
    }))
}

/// One change; no number where nothing was compared.
struct Row {
    word: ChangeWord,
    change: f64,
    interval: Option<(f64, f64)>,
    floor: f64,
}

impl Default for Row {
    fn default() -> Self {
        Row { word: ChangeWord::NotComparable, change: f64::NAN, interval: None, floor: 0.0 }
    }
}

fn panel(page: &Page, title: &str, rows: &[Row], (left, right): (f64, f64), color: RGBAColor) {
    let ends = |r: &Row| {
        let (low, high) = r.interval.unwrap_or((r.change, r.change));
        [low, high, -r.floor, r.floor]
    };
    let known = rows.iter().flat_map(ends).filter(|v| v.is_finite());
    let far = known.map(f64::abs).fold(0.0, f64::max).max(1e-6) * 1.1;
    let (top, bottom) = (118.0, 118.0 + ROW * rows.len() as f64);
    let (x, y) = (Scale::linear(-far, far, 5.0), Scale::linear(0.0, 1.0, 0.0));
    let plot = Plot { x, y, left, top, right, bottom };
    let tick = text_style(13.0, SOFT);
    page.text((left, top - 14.0), title, &text_style(14.0, INK).bold());
    for (i, row) in rows.iter().enumerate().filter(|(_, r)| r.floor > 0.0) {
        let at = top + ROW * i as f64 + 8.0;
        page.rect((plot.x(-row.floor), at), (plot.x(row.floor) - plot.x(-row.floor), ROW - 16.0), SHADE);
    }
    plot.axes(page, &Axes { tick: 13.0, title: 13.0, x: "", y: "", columns: true });
    page.line(&[(plot.x(0.0), top), (plot.x(0.0), bottom)], SOFT, 1.2);
    for (i, row) in rows.iter().enumerate() {
        let y = top + ROW * (i as f64 + 0.5);
        if row.change.is_nan() {
            page.text((left + 6.0, y + tick.half_cap()), row.word.as_str(), &tick);
            continue;
        }
        if let Some((low, high)) = row.interval {
            page.line(&[(plot.x(low), y), (plot.x(high), y)], color.mix(0.7), 2.0);
        }
        let told = matches!(row.word, ChangeWord::Improved | ChangeWord::Regressed);
        page.disc((plot.x(row.change), y), 5.5, if told { color } else { PAPER });
        page.ring((plot.x(row.change), y), 5.5, color, 2.0);
    }
}
