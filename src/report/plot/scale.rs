//! What one more object costs: frames per second and peak memory against the number of objects, a line per cell. A cell that
//! is not valid is hollow.

use super::{Axes, Figure, INK, MARGIN, Measure, PALETTE, PAPER, Page, Plot, SOFT, Scale, WIDE, legend, text_style};
use crate::judge::scale::{ScalePoint, by_cell};

/// A cell's figure at some number of objects.
type Pick = fn(&ScalePoint) -> Option<f64>;

/// The figure; `banner` says what it does not describe.
pub fn figure(points: &[ScalePoint], banner: Option<&str>) -> Figure {
    let most = points.iter().map(|p| p.objects).max().unwrap_or(0);
    let caption = format!("Speed and memory against the number of objects, up to {most}");
    Figure::draw("scale", caption, 560.0, |page| {
        page.text((MARGIN, 42.0), "What one more object costs", &text_style(22.0, INK).bold());
        let under = "Frames on which all objects are tracked. Hollow: not valid.";
        page.text((MARGIN, 68.0), under, &text_style(15.0, SOFT));
        let cells = by_cell(points);
        let entries: Vec<(f64, &str)> = cells.iter().map(|of| (14.0, of[0].cell.as_str())).collect();
        legend(page, &entries, (MARGIN, 102.0), |i, (x, y)| page.disc((x + 7.0, y - 5.0), 5.0, colour(i)));
        panel(page, (MARGIN + 60.0, 580.0), &cells, "frames per second, without decoding", |p| p.fps_model);
        panel(page, (700.0, WIDE - MARGIN), &cells, "peak resident memory of the worker, MiB", |p| p.peak_rss_mib);
        if let Some(banner) = banner {
            page.text((MARGIN, 544.0), &format!("{banner}."), &text_style(13.0, SOFT));
        }
    })
}

fn colour(cell: usize) -> plotters::style::RGBAColor {
    PALETTE[cell % PALETTE.len()]
}

fn panel(page: &Page, (left, right): (f64, f64), cells: &[Vec<&ScalePoint>], title: &str, pick: Pick) {
    let (top, bottom) = (150.0, 450.0);
    let known: Vec<f64> = cells.iter().flatten().filter_map(|p| pick(p)).collect();
    if known.is_empty() {
        page.text((left, (top + bottom) / 2.0), &format!("{title}: not measured"), &text_style(14.0, SOFT));
        return;
    }
    let mut counts: Vec<f64> = cells.iter().flatten().map(|p| p.objects as f64).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    let (few, many) = (counts[0], counts[counts.len() - 1]);
    let x = if many / few > 4.0 { Scale::log(few, many) } else { Scale::linear(few - 0.2, many + 0.2, 4.0) };
    let high = known.iter().copied().fold(0.0, f64::max);
    let plot = Plot { x: x.marked(&counts), y: Scale::linear(0.0, high * 1.12, 6.0), left, top, right, bottom };
    let unit = if plot.x.log { "objects, log scale" } else { "objects" };
    plot.axes(page, &Axes { tick: 14.0, title: 15.0, x: unit, y: title, columns: true });
    for (i, cell) in cells.iter().enumerate() {
        let places: Vec<Option<(f64, f64)>> =
            cell.iter().map(|p| pick(p).map(|value| (plot.x(p.objects as f64), plot.y(value)))).collect();
        // A point without the figure breaks the line.
        for part in places.split(|place| place.is_none()).filter(|part| part.len() > 1) {
            page.line(&part.iter().copied().flatten().collect::<Vec<_>>(), colour(i), 2.0);
        }
        for (at, point) in places.iter().zip(cell).filter_map(|(place, point)| Some(((*place)?, point))) {
            page.disc(at, 5.0, if point.verdict == "valid" { colour(i) } else { PAPER });
            page.ring(at, 5.0, colour(i), 1.8);
        }
    }
}
