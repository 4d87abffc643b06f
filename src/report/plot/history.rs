//! Trends: for every job the median latency and J&F of its runs by date, with the band within which
//! latencies are noise. A run that is not valid is hollow.

use plotters::prelude::RGBAColor;

use super::{Axes, Figure, INK, MARGIN, Measure, PALETTE, PAPER, Page, Plot, SOFT, Scale, WIDE, text_style};
use crate::judge::noise::Series;
use crate::judge::stats;
use crate::results::rows::Row;
use crate::text::{figure as short, plural};

const PANEL: f64 = 190.0;
/// The band of noise.
const BAND: RGBAColor = RGBAColor(0x00, 0x72, 0xb2, 0.09);

/// The figure.
pub fn figure(series: &[Series]) -> Figure {
    let height = 126.0 + PANEL * series.len() as f64;
    let caption = format!("Median latency and J&F over time of {}", plural(series.len(), "cell", "cells"));
    Figure::draw("history", caption, height, |page| {
        page.text((MARGIN, 42.0), "Runs over time", &text_style(22.0, INK).bold());
        let under = "Left: median latency, milliseconds, with the band of noise. Right: J&F. Hollow: not valid.";
        page.text((MARGIN, 68.0), under, &text_style(15.0, SOFT));
        for (i, one) in series.iter().enumerate() {
            let top = 96.0 + PANEL * i as f64;
            let name = text_style(15.0, INK).bold();
            page.text((MARGIN, top + 14.0), &name.fit(&one.name, WIDE - 2.0 * MARGIN), &name);
            let valid = one.rows.iter().filter(|r| r.verdict == "valid").filter_map(|r| r.p50_ms);
            let band = stats::median(&valid.collect::<Vec<_>>())
                .map(|m| (m * (1.0 - one.floor.share), m * (1.0 + one.floor.share)));
            panel(page, (MARGIN + 50.0, 590.0), top, one, |r| r.p50_ms, band, PALETTE[0]);
            panel(page, (700.0, WIDE - MARGIN), top, one, |r| r.jf, None, PALETTE[2]);
        }
    })
}

fn panel(
    page: &Page,
    (left, right): (f64, f64),
    top: f64,
    series: &Series,
    pick: fn(&Row) -> Option<f64>,
    band: Option<(f64, f64)>,
    color: RGBAColor,
) {
    let values: Vec<Option<f64>> = series.rows.iter().map(|r| pick(r)).collect();
    let known: Vec<f64> = values.iter().copied().flatten().chain(band.map(|b| b.0)).chain(band.map(|b| b.1)).collect();
    let (bottom, top) = (top + PANEL - 46.0, top + 30.0);
    let tick = text_style(13.0, SOFT);
    if known.is_empty() {
        page.text((left, (bottom + top) / 2.0), "nothing measured", &tick);
        return;
    }
    let low = known.iter().copied().fold(f64::MAX, f64::min);
    let high = known.iter().copied().fold(f64::MIN, f64::max);
    let air = ((high - low) * 0.12).max(high.abs() * 0.01).max(1e-6);
    let times = times(&series.rows);
    let (first, last) = (times[0], times[times.len() - 1].max(times[0] + 1.0));
    let margin = 0.03 * (last - first);
    let (x, y) = (Scale::linear(first - margin, last + margin, 0.0), Scale::linear(low - air, high + air, 4.0));
    let plot = Plot { x, y, left, top, right, bottom };
    plot.axes(page, &Axes { tick: 13.0, title: 13.0, x: "", y: "", columns: false });
    if let Some((a, b)) = band {
        page.rect((left, plot.y(b)), (right - left, plot.y(a) - plot.y(b)), BAND);
    }
    let points = values.iter().enumerate().map(|(i, v)| v.map(|v| (plot.x(times[i]), plot.y(v))));
    let points: Vec<Option<(f64, f64)>> = points.collect();
    // A run without the figure breaks the line.
    for part in points.split(|p| p.is_none()).filter(|part| part.len() > 1) {
        page.line(&part.iter().copied().flatten().collect::<Vec<_>>(), color, 1.6);
    }
    for (at, row) in points.iter().zip(&series.rows).filter_map(|(p, row)| Some(((*p)?, row))) {
        page.disc(at, 4.0, if row.verdict == "valid" { color } else { PAPER });
        page.ring(at, 4.0, color, 1.6);
    }
    if let (Some(first), Some(newest)) = (series.rows.first(), series.rows.last()) {
        page.text((left, bottom + 20.0), &first.when(), &tick);
        if series.rows.len() > 1 {
            let shown = values.last().copied().flatten().map_or_else(String::new, |v| format!(": {}", short(v)));
            page.text((right, bottom + 20.0), &format!("{}{shown}", newest.when()), &tick.end());
        }
    }
}

/// Where runs stand on the axis: by their dates; one after the other where a run does not tell its own.
fn times(rows: &[&Row]) -> Vec<f64> {
    let dates: Option<Vec<f64>> = rows.iter().map(|r| r.at().map(|s| s as f64)).collect();
    dates.unwrap_or_else(|| (0..rows.len()).map(|i| i as f64).collect())
}
