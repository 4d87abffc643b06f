//! What the interval of the detector costs and gains: milliseconds per frame against the interval, and accuracy against speed with a
//! point per interval, a line per cell. A cell that is not valid is hollow.

use super::{Axes, Figure, INK, MARGIN, Measure, PALETTE, PAPER, Page, Plot, SOFT, Scale, WIDE, legend, text_style};
use crate::judge::interval::{IntervalPoint, by_cell};

type Cells<'a> = [Vec<&'a IntervalPoint>];

/// The figure; `banner` says what it does not describe.
pub fn figure(points: &[IntervalPoint], banner: Option<&str>) -> Figure {
    let most = points.iter().map(|p| p.detect_every).max().unwrap_or(0);
    let caption =
        format!("Cost of detection and accuracy against speed, by the detector's interval up to {most} frames");
    let cells = by_cell(points);
    let entries: Vec<(f64, &str)> = cells.iter().map(|of| (14.0, of[0].cell.as_str())).collect();
    let rows = super::legend_places(&entries, MARGIN).last().map_or(0, |place| place.1) as f64;
    let notes = [
        "Solid: the whole frame. Dashes: detector and association alone, spread over all frames. Hollow: not valid."
            .to_string(),
        "HOTA and not J&F unsup, which superfluous tracks cost nothing.".to_string(),
    ];
    let notes: Vec<String> = notes.into_iter().chain(banner.map(|banner| format!("{banner}."))).collect();
    let down = 24.0 * rows;
    let height = 556.0 + down + 18.0 * notes.len() as f64;
    Figure::draw("interval", caption, height, |page| {
        page.text((MARGIN, 42.0), "What the detector's interval costs", &text_style(22.0, INK).bold());
        let under = "The detector looks at every n-th frame; between, tracks are carried on without it.";
        page.text((MARGIN, 68.0), under, &text_style(15.0, SOFT));
        legend(page, &entries, (MARGIN, 102.0), |i, (x, y)| page.disc((x + 7.0, y - 5.0), 5.0, colour(i)));
        let (top, bottom) = (146.0 + down, 466.0 + down);
        cost(page, (MARGIN + 66.0, top, 572.0, bottom), &cells);
        accuracy(page, (700.0, top, WIDE - MARGIN, bottom), &cells);
        let small = text_style(13.0, SOFT);
        for (i, note) in notes.iter().enumerate() {
            page.text((MARGIN, height - 16.0 - 18.0 * (notes.len() - 1 - i) as f64), note, &small);
        }
    })
}

fn colour(cell: usize) -> plotters::style::RGBAColor {
    PALETTE[cell % PALETTE.len()]
}

/// Left, top, right, bottom.
type Area = (f64, f64, f64, f64);

fn unmeasured(page: &Page, (left, top, _, bottom): Area, what: &str) {
    page.text((left, (top + bottom) / 2.0), what, &text_style(14.0, SOFT));
}

/// Milliseconds per frame against the interval.
fn cost(page: &Page, area: Area, cells: &Cells) {
    let (left, top, right, bottom) = area;
    let all = || cells.iter().flatten();
    let high = all().flat_map(|p| [p.mean_ms, p.detection_ms]).flatten().fold(0.0, f64::max);
    if high <= 0.0 {
        return unmeasured(page, area, "time per frame: not measured");
    }
    let mut intervals: Vec<f64> = all().map(|p| f64::from(p.detect_every)).collect();
    intervals.sort_by(f64::total_cmp);
    intervals.dedup();
    let (often, seldom) = (intervals[0], intervals[intervals.len() - 1]);
    let x =
        if seldom / often > 4.0 { Scale::log(often, seldom) } else { Scale::linear(often - 0.2, seldom + 0.2, 4.0) };
    let plot = Plot { x: x.marked(&intervals), y: Scale::linear(0.0, high * 1.12, 6.0), left, top, right, bottom };
    let x = if plot.x.log { "detector's interval, frames, log scale" } else { "detector's interval, frames" };
    plot.axes(page, &Axes { tick: 14.0, title: 15.0, x, y: "mean milliseconds per frame", columns: true });
    for (i, cell) in cells.iter().enumerate() {
        for part in [true, false] {
            let place = |p: &&IntervalPoint| {
                let ms = if part { p.detection_ms } else { p.mean_ms };
                ms.map(|ms| (plot.x(f64::from(p.detect_every)), plot.y(ms)))
            };
            let places: Vec<Option<(f64, f64)>> = cell.iter().map(place).collect();
            for whole in places.split(|place| place.is_none()).filter(|whole| whole.len() > 1) {
                let line: Vec<_> = whole.iter().copied().flatten().collect();
                match part {
                    true => page.dashes(&line, colour(i), 2.0, (7.0, 4.0)),
                    false => page.line(&line, colour(i), 2.0),
                }
            }
            markers(page, i, cell, &places);
        }
    }
}

/// HOTA against frames per second: a point per interval.
fn accuracy(page: &Page, area: Area, cells: &Cells) {
    let (left, top, right, bottom) = area;
    let known: Vec<(f64, f64)> = cells.iter().flatten().filter_map(|p| p.fps_model.zip(p.hota)).collect();
    if known.is_empty() {
        return unmeasured(page, area, "accuracy against speed: there is no ground truth");
    }
    let fast = known.iter().map(|k| k.0).fold(0.0, f64::max);
    let (poor, good) = known.iter().fold((f64::MAX, f64::MIN), |(low, high), k| (low.min(k.1), high.max(k.1)));
    let air = (0.15 * (good - poor)).max(3.0);
    let y = Scale::linear((poor - air).max(0.0), (good + air).min(100.0), 6.0);
    let plot = Plot { x: Scale::linear(0.0, fast * 1.15, 6.0), y, left, top, right, bottom };
    let axes =
        Axes { tick: 14.0, title: 15.0, x: "frames per second, without decoding", y: "HOTA (0 to 100)", columns: true };
    plot.axes(page, &axes);
    let at = |p: &&IntervalPoint| p.fps_model.zip(p.hota).map(|(fps, hota)| (plot.x(fps), plot.y(hota)));
    let places: Vec<Vec<Option<(f64, f64)>>> = cells.iter().map(|cell| cell.iter().map(at).collect()).collect();
    let mut taken: Vec<Area> =
        places.iter().flatten().flatten().map(|(x, y)| (x - 6.0, y - 6.0, x + 6.0, y + 6.0)).collect();
    for (i, of) in places.iter().enumerate() {
        for whole in of.split(|place| place.is_none()).filter(|whole| whole.len() > 1) {
            page.line(&whole.iter().copied().flatten().collect::<Vec<_>>(), colour(i), 1.4);
        }
    }
    let style = text_style(13.0, INK);
    for (i, (cell, of)) in cells.iter().zip(&places).enumerate() {
        markers(page, i, cell, of);
        for (point, place) in cell.iter().zip(of) {
            let Some(place) = *place else { continue };
            let text = point.detect_every.to_string();
            let area = beside(place, (style.width(&text), 11.0), &taken, (left, top, right, bottom));
            page.text((area.0, area.3), &text, &style);
            taken.push(area);
        }
    }
}

/// Where a text stands beside a point: the first of eight places that touches nothing; above where each touches something.
fn beside((x, y): (f64, f64), (wide, high): (f64, f64), taken: &[Area], within: Area) -> Area {
    let (across, along) = (wide + 7.0, high / 2.0 + 12.0);
    let shifts = [(0.0, -1.0), (0.0, 1.0), (1.0, 0.0), (-1.0, 0.0), (1.0, -1.0), (-1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)];
    let places = shifts.map(|(right, down)| {
        let (cx, cy) = (x + right * across, y + down * along);
        (cx - wide / 2.0, cy - high / 2.0, cx + wide / 2.0, cy + high / 2.0)
    });
    let clear = |a: &Area| {
        let inside = a.0 >= within.0 && a.1 >= within.1 && a.2 <= within.2 && a.3 <= within.3;
        inside && !taken.iter().any(|b| a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3)
    };
    places.iter().copied().find(clear).unwrap_or(places[0])
}

fn markers(page: &Page, i: usize, cell: &[&IntervalPoint], places: &[Option<(f64, f64)>]) {
    for (at, point) in places.iter().zip(cell).filter_map(|(place, point)| Some(((*place)?, point))) {
        page.disc(at, 5.0, if point.verdict == "valid" { colour(i) } else { PAPER });
        page.ring(at, 5.0, colour(i), 1.8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stands_where_nothing_else_does() {
        let within = (0.0, 0.0, 100.0, 100.0);
        let above = beside((50.0, 50.0), (10.0, 11.0), &[], within);
        assert!(above.3 <= 44.0 && above.0 == 45.0, "{above:?}");
        let below = beside((50.0, 50.0), (10.0, 11.0), &[above], within);
        assert!(below.1 >= 56.0, "{below:?}");
        let right = beside((50.0, 50.0), (10.0, 11.0), &[above, below], within);
        assert!(right.0 > 56.0, "{right:?}");
        assert!(beside((50.0, 2.0), (10.0, 11.0), &[], within).1 > 2.0, "above, it would leave the plot");
    }
}
