//! Trends: for every cell and board the median latency and J&F of its runs, oldest left, with the band within which
//! latencies are noise. A run that is not valid is hollow.

use super::{Axis, Figure, GRID, INK, MARGIN, PALETTE, PAPER, RULE, SOFT};
use crate::judge::noise::Series;
use crate::judge::stats;
use crate::report::scene::{Ink, Line, Scene, Type};
use crate::results::rows::Row;
use crate::report::table::figure as short;

const PANEL: f64 = 190.0;

/// The figure.
pub fn figure(series: &[Series]) -> Figure {
    let height = 96.0 + PANEL * series.len() as f64 + 30.0;
    let mut scene = Scene::new(1200.0, height);
    scene.text((MARGIN, 42.0), "Runs over time", Type::new(22.0, INK).bold());
    let under = Type::new(15.0, SOFT);
    scene.text((MARGIN, 68.0), "Left: median latency, milliseconds, with the band of noise. Right: J&F.", under);
    for (i, one) in series.iter().enumerate() {
        let top = 96.0 + PANEL * i as f64;
        let name = Type::new(15.0, INK).bold();
        scene.text((MARGIN, top + 14.0), name.fit(&one.name, 1200.0 - 2.0 * MARGIN), name);
        let band = stats::median(
            &one.rows.iter().filter(|r| r.verdict == "valid").filter_map(|r| r.p50_ms).collect::<Vec<_>>(),
        )
        .map(|m| (m * (1.0 - one.floor.share), m * (1.0 + one.floor.share)));
        panel(&mut scene, (MARGIN + 50.0, 590.0), top, one, |r| r.p50_ms, band, PALETTE[0]);
        panel(&mut scene, (700.0, 1200.0 - MARGIN), top, one, |r| r.jf, None, PALETTE[2]);
    }
    let caption = format!("Median latency and J&F over time of {} cells", series.len());
    Figure { name: "history".into(), caption, scene }
}

fn panel(
    scene: &mut Scene,
    (left, right): (f64, f64),
    top: f64,
    series: &Series,
    pick: fn(&Row) -> Option<f64>,
    band: Option<(f64, f64)>,
    ink: Ink,
) {
    let values: Vec<Option<f64>> = series.rows.iter().map(|r| pick(r)).collect();
    let known: Vec<f64> = values.iter().copied().flatten().chain(band.map(|b| b.0)).chain(band.map(|b| b.1)).collect();
    let (foot, head) = (top + PANEL - 46.0, top + 30.0);
    let tick = Type::new(13.0, SOFT);
    if known.is_empty() {
        scene.text((left, (foot + head) / 2.0), "nothing measured", tick);
        return;
    }
    let low = known.iter().copied().fold(f64::MAX, f64::min);
    let high = known.iter().copied().fold(f64::MIN, f64::max);
    let air = ((high - low) * 0.12).max(high.abs() * 0.01).max(1e-6);
    let y = Axis::linear(low - air, high + air, foot, head);
    let last = (values.len().max(2) - 1) as f64;
    let x = Axis::linear(-0.02 * last, 1.02 * last, left, right);
    if let Some((a, b)) = band {
        scene.rect((left, y.at(b)), (right - left, y.at(a) - y.at(b)), Some(Ink(0xe9, 0xf2, 0xf8, 1.0)), None);
    }
    for (value, text) in y.ticks(3.0) {
        scene.line((left, y.at(value)), (right, y.at(value)), Line::new(GRID, 1.0));
        scene.text((left - 8.0, y.at(value) + tick.half_cap()), text, tick.end());
    }
    scene.polyline(vec![(left, head), (left, foot), (right, foot)], Line::new(RULE, 1.2));
    for pair in values.iter().enumerate().collect::<Vec<_>>().windows(2) {
        if let [(i, Some(a)), (j, Some(b))] = pair {
            scene.line((x.at(*i as f64), y.at(*a)), (x.at(*j as f64), y.at(*b)), Line::new(ink, 1.6));
        }
    }
    for ((i, value), row) in values.iter().enumerate().zip(&series.rows) {
        if let Some(value) = value {
            let fill = if row.verdict == "valid" { ink } else { PAPER };
            scene.circle((x.at(i as f64), y.at(*value)), 4.0, Some(fill), Some(Line::new(ink, 1.6)));
        }
    }
    if let (Some(first), Some(newest)) = (series.rows.first(), series.rows.last()) {
        scene.text((left, foot + 20.0), first.when(), tick);
        if series.rows.len() > 1 {
            let shown = values.last().copied().flatten().map_or_else(String::new, |v| format!(": {}", short(v)));
            scene.text((right, foot + 20.0), format!("{}{shown}", newest.when()), tick.end());
        }
    }
}
