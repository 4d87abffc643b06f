//! Accuracy against speed: one marker per cell, the Pareto front of the valid ones, 95 % intervals where there are
//! enough videos for them.

use jetbench_runners::types::Dtype;
use plotters::prelude::Color;
use plotters::style::TextStyle;

use super::{
    Axes, Figure, GRID, INK, Look, Measure, PAPER, Page, Plot, RULE, SOFT, Scale, compares_dtypes, drawable, heading,
    legend, notes, text_style,
};
use crate::results::record::{Interval, RunRecord};
use crate::text::figure as short;

/// A cell as it lies in the plot.
struct Dot {
    look: Look,
    fps: f64,
    jf: f64,
    jf_interval: Option<Interval>,
    at: (f64, f64),
    /// Ends of the drawn interval, as positions on the vertical axis.
    whisker: Option<(f64, f64)>,
}

/// The figure; `None` when no cell has both a speed and a score.
pub fn figure(run: &RunRecord) -> Option<Figure> {
    let found = of_found(run);
    let mut dots: Vec<Dot> = Look::all(run)
        .into_iter()
        .zip(&run.cells)
        .filter(|(_, cell)| drawable(cell))
        .filter_map(|(look, cell)| {
            let s = cell.summary.as_ref()?;
            let (fps, jf) = (s.fps_wall?, if found { s.own_jf()? } else { s.jf? });
            Some(Dot { look, fps, jf, jf_interval: s.jf_interval, at: (0.0, 0.0), whisker: None })
        })
        .collect();
    if dots.is_empty() {
        return None;
    }
    let mut notes = notes(run);
    let unscored = run.cells.iter().filter(|c| drawable(c)).count() - dots.len();
    if unscored > 0 {
        notes.push(format!("Not shown, for want of a score: {unscored} of {} cells.", run.cells.len()));
    }
    if dots.iter().any(|d| d.jf_interval.is_some()) {
        notes.push("Thin lines: 95 % interval of J&F from resampling whole videos. Cells share their videos: two intervals that overlap may still differ.".to_string());
    }
    let best = dots.iter().filter(|d| d.look.valid).max_by(|a, b| a.jf.total_cmp(&b.jf));
    let caption = match best {
        Some(b) => {
            let jf = if found { "J&F unsup" } else { "J&F" };
            format!("Accuracy against speed: best {jf} {:.1} at {} frames/s, {}", b.jf, short(b.fps), b.look.name)
        }
        None => "Accuracy against speed".to_string(),
    };
    Some(Figure::draw("accuracy_speed", caption, 800.0, |page| draw(page, run, &mut dots, &notes)))
}

/// Were all objects found by a detector? Beside prompted ones, such cells have no place on the axis.
fn of_found(run: &RunRecord) -> bool {
    run.cells.iter().all(|cell| cell.detector.is_some())
}

fn draw(page: &Page, run: &RunRecord, dots: &mut [Dot], notes: &[String]) {
    let (top, floor) = heading(page, run, "Accuracy against speed", notes);
    let jf_ends = |d: &Dot| d.jf_interval.map_or([d.jf; 2], |i| [i.low, i.high]);
    let (slow, fast) = ends(dots.iter().map(|d| d.fps));
    let (poor, good) = ends(dots.iter().flat_map(jf_ends));
    let x =
        if slow > 0.0 && fast / slow > 12.0 { Scale::log(slow, fast) } else { Scale::linear(0.0, fast * 1.2, 10.0) };
    let air = (0.12 * (good - poor)).max(3.0);
    let y = Scale::linear((poor - air).max(0.0), (good + air).min(100.0), 9.0);
    let plot = Plot { x, y, left: 112.0, top: top + 40.0, right: 1164.0, bottom: floor - 64.0 };
    let unit = if plot.x.log { "frames per second, wall clock, log scale" } else { "frames per second, wall clock" };
    let axes = Axes {
        tick: 14.0,
        title: 15.0,
        x: &format!("Speed ({unit})"),
        y: if of_found(run) { "Accuracy (mean J&F unsup, 0 to 100)" } else { "Accuracy (mean J&F, 0 to 100)" },
        columns: true,
    };
    plot.axes(page, &axes);
    for dot in dots.iter_mut() {
        dot.at = (plot.x(dot.fps), plot.y(dot.jf));
        dot.whisker = dot.jf_interval.map(|i| (plot.y(i.high), plot.y(i.low)));
    }
    pareto(page, dots, &plot);
    keys(page, run, dots, (plot.left, top + 22.0));
    for dot in dots.iter() {
        if let Some((top, bottom)) = dot.whisker {
            page.line(&[(dot.at.0, top), (dot.at.0, bottom)], dot.look.color.mix(0.5), 1.4);
        }
    }
    labels(page, dots, &[plot.left, plot.top, plot.right, plot.bottom]);
    for dot in dots.iter() {
        dot.look.marker(page, dot.at, RADIUS);
    }
}

const RADIUS: f64 = 7.0;

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)))
}

/// Indices of the valid cells that no other valid cell beats in both respects, from slow to fast.
fn front(dots: &[Dot]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..dots.len()).filter(|&i| dots[i].look.valid).collect();
    // Fastest first, the more accurate first among equals.
    order.sort_by(|&a, &b| dots[b].fps.total_cmp(&dots[a].fps).then(dots[b].jf.total_cmp(&dots[a].jf)));
    let mut best = f64::NEG_INFINITY;
    let mut front: Vec<usize> = order
        .into_iter()
        .filter(|&i| {
            let beats = dots[i].jf > best;
            best = best.max(dots[i].jf);
            beats
        })
        .collect();
    front.reverse();
    front
}

/// The edge of what is reached: everything on its lower left is beaten by a cell on it.
fn pareto(page: &Page, dots: &[Dot], plot: &Plot) {
    let edge = edge(dots, plot.left, plot.bottom);
    if !edge.is_empty() {
        page.area(&[&edge[..], &[(plot.left, plot.bottom)]].concat(), GRID.mix(0.5));
        page.dashes(&edge, SOFT, 1.5, (6.0, 4.0));
    }
}

/// The edge as a stair from the left side of the plot to its floor; empty when no cell is valid.
fn edge(dots: &[Dot], left: f64, floor: f64) -> Vec<(f64, f64)> {
    let front = front(dots);
    let Some(&first) = front.first() else { return Vec::new() };
    let mut edge = vec![(left, dots[first].at.1)];
    for (k, &i) in front.iter().enumerate() {
        edge.push(dots[i].at);
        let next = front.get(k + 1).map_or(floor, |&n| dots[n].at.1);
        edge.push((dots[i].at.0, next));
    }
    edge
}

/// What markers and lines mean.
fn keys(page: &Page, run: &RunRecord, dots: &[Dot], at: (f64, f64)) {
    let (mut entries, mut samples) = (Vec::new(), Vec::new());
    if dots.len() > 1 {
        entries.push((30.0, "Pareto front: nothing valid is both faster and more accurate"));
        samples.push(None);
    }
    if compares_dtypes(run) {
        for dtype in Dtype::ALL.into_iter().filter(|dtype| dots.iter().any(|d| d.look.dtype == *dtype)) {
            entries.push((12.0, dtype.as_str()));
            samples.push(Some(Look { name: String::new(), color: SOFT, dtype, valid: true }));
        }
    }
    legend(page, &entries, at, |i, (x, y)| match &samples[i] {
        None => page.dashes(&[(x, y - 5.0), (x + 30.0, y - 5.0)], SOFT, 1.5, (6.0, 4.0)),
        Some(look) => look.marker(page, (x + 6.0, y - 5.0), 6.0),
    });
}

/// A rectangle: left, top, right, bottom.
type Area = [f64; 4];

fn overlap(a: &Area, b: &Area) -> f64 {
    let w = a[2].min(b[2]) - a[0].max(b[0]);
    let h = a[3].min(b[3]) - a[1].max(b[1]);
    w.max(0.0) * h.max(0.0)
}

/// Does the segment touch the rectangle? Sampled: only the looks depend on it.
fn crosses(from: (f64, f64), to: (f64, f64), area: &Area) -> bool {
    (0..=40).any(|i| {
        let t = f64::from(i) / 40.0;
        let (x, y) = (from.0 + t * (to.0 - from.0), from.1 + t * (to.1 - from.1));
        (area[0]..=area[2]).contains(&x) && (area[1]..=area[3]).contains(&y)
    })
}

/// A label beside every marker. Where they cannot all be placed without touching anything, numbers stand at the markers
/// and a key in the plot's emptiest corner says what they mean.
fn labels(page: &Page, dots: &[Dot], plot: &Area) {
    let names: Vec<String> = dots.iter().map(|d| d.look.name.clone()).collect();
    let style = text_style(14.0, INK);
    let (places, clear) = place(dots, &names, &style, plot, &[]);
    if clear {
        write_labels(page, dots, &names, &style, &places);
        return;
    }
    let numbers: Vec<String> = (1..=dots.len()).map(|n| n.to_string()).collect();
    let small = text_style(13.0, INK);
    let line_height = 19.0;
    let rows: Vec<[String; 2]> = dots
        .iter()
        .zip(&numbers)
        .map(|(d, n)| [n.clone(), format!("{} · {:.1} at {}/s", d.look.name, d.jf, short(d.fps))])
        .collect();
    let wide = rows.iter().map(|r| small.width(&r[1])).fold(0.0, f64::max) + 48.0;
    let size = (wide, rows.len() as f64 * line_height + 16.0);
    // The emptiest corner: least marker and whisker area below the key.
    let corners = [
        (plot[0] + 10.0, plot[3] - size.1 - 10.0),
        (plot[2] - size.0 - 4.0, plot[1] + 4.0),
        (plot[2] - size.0 - 4.0, plot[3] - size.1 - 10.0),
        (plot[0] + 10.0, plot[1] + 4.0),
    ];
    let covered = |&(cx, cy): &(f64, f64)| {
        let key = [cx, cy, cx + size.0, cy + size.1];
        dots.iter().map(|d| overlap(&key, &[d.at.0 - 20.0, d.at.1 - 20.0, d.at.0 + 20.0, d.at.1 + 20.0])).sum::<f64>()
    };
    let corner = corners.iter().copied().min_by(|a, b| covered(a).total_cmp(&covered(b))).unwrap_or(corners[0]);
    let key = [corner.0, corner.1, corner.0 + size.0, corner.1 + size.1];
    page.rect(corner, size, PAPER.mix(0.9));
    page.outline(&[corner, (key[2], key[1]), (key[2], key[3]), (key[0], key[3])], RULE, 1.0);
    for (i, [number, row]) in rows.iter().enumerate() {
        let y = corner.1 + 21.0 + i as f64 * line_height;
        page.text((corner.0 + 28.0, y), number, &small.end());
        page.text((corner.0 + 36.0, y), row, &small);
    }
    let (places, _) = place(dots, &numbers, &small, plot, &[key]);
    write_labels(page, dots, &numbers, &small, &places);
}

fn write_labels(page: &Page, dots: &[Dot], names: &[String], style: &TextStyle<'static>, places: &[Area]) {
    for ((dot, name), area) in dots.iter().zip(names).zip(places) {
        let near = (dot.at.0.clamp(area[0], area[2]), dot.at.1.clamp(area[1], area[3]));
        let (dx, dy) = (near.0 - dot.at.0, near.1 - dot.at.1);
        let distance = dx.hypot(dy);
        if distance > RADIUS + 9.0 {
            let start = (dot.at.0 + dx / distance * (RADIUS + 2.0), dot.at.1 + dy / distance * (RADIUS + 2.0));
            page.line(&[start, near], SOFT, 0.9);
        }
        page.rect((area[0], area[1] + 1.0), (area[2] - area[0], area[3] - area[1] - 2.0), PAPER.mix(0.7));
        page.text((area[0] + 2.0, area[3] - 5.0), name, style);
    }
}

/// Finds a place for every text: near its marker, inside the plot, touching no marker, no other text and as few lines as
/// can be. The flag says whether all of them are clear of each other.
fn place(dots: &[Dot], names: &[String], style: &TextStyle<'static>, plot: &Area, taken: &[Area]) -> (Vec<Area>, bool) {
    let markers: Vec<Area> =
        dots.iter().map(|d| [d.at.0 - 10.0, d.at.1 - 11.0, d.at.0 + 10.0, d.at.1 + 10.0]).collect();
    let edge = edge(dots, plot[0], plot[3]);
    let mut places: Vec<Area> = vec![[0.0; 4]; dots.len()];
    let mut hard = vec![f64::MAX; dots.len()];
    // A few rounds: each text is placed again, knowing where the others have gone.
    for _ in 0..4 {
        for i in 0..dots.len() {
            let (w, h) = (style.width(&names[i]) + 4.0, style.size() + 4.0);
            let mut best = (f64::MAX, f64::MAX, [0.0; 4]);
            for (step, distance) in [RADIUS + 5.0, 24.0, 40.0, 60.0, 84.0, 112.0, 144.0].into_iter().enumerate() {
                for angle in 0..16 {
                    let (sin, cos) = (f64::from(angle) * std::f64::consts::TAU / 16.0).sin_cos();
                    // The point of the box nearest to the marker lies at `distance` in this direction.
                    let (px, py) = (dots[i].at.0 + cos * distance, dots[i].at.1 - sin * distance);
                    let left = px - w * (0.5 - 0.5 * cos.signum() * cos.abs().sqrt());
                    let top = py - h * (0.5 + 0.5 * sin);
                    let area = [left, top, left + w, top + h];
                    let outside = w * h - overlap(&area, plot);
                    let mut touched = outside;
                    touched += markers.iter().map(|m| overlap(&area, m)).sum::<f64>();
                    touched += taken.iter().map(|t| overlap(&area, t)).sum::<f64>();
                    for (j, other) in places.iter().enumerate() {
                        if j != i {
                            let wide = [other[0] - 3.0, other[1] - 1.0, other[2] + 3.0, other[3] + 1.0];
                            touched += overlap(&area, &wide);
                        }
                    }
                    // Less than half a pixel is rounding.
                    let touched = if touched < 0.5 { 0.0 } else { touched };
                    // Soft: nearness, the right side first, leaders that run over other things.
                    let mut cost = 9.0 * step as f64 + 1.5 * (1.0 - cos) + 0.8 * sin.abs();
                    for (j, marker) in markers.iter().enumerate() {
                        let near = (dots[i].at.0.clamp(area[0], area[2]), dots[i].at.1.clamp(area[1], area[3]));
                        if j != i {
                            cost += if crosses(dots[i].at, near, marker) { 12.0 } else { 0.0 };
                            cost += if crosses(dots[i].at, near, &places[j]) { 12.0 } else { 0.0 };
                        }
                        // A thin line behind a text is bearable, not good.
                        if let Some((top, bottom)) = dots[j].whisker {
                            let behind = (area[0]..=area[2]).contains(&dots[j].at.0);
                            cost += if behind && top < area[3] && bottom > area[1] { 3.0 } else { 0.0 };
                        }
                    }
                    cost += edge.windows(2).filter(|e| crosses(e[0], e[1], &area)).count() as f64 * 3.0;
                    if (touched, cost) < (best.0, best.1) {
                        best = (touched, cost, area);
                    }
                }
            }
            (hard[i], places[i]) = (best.0, best.2);
        }
    }
    // A name far from its marker is hard to follow.
    let far = |(dot, area): (&Dot, &Area)| {
        let near = (dot.at.0.clamp(area[0], area[2]), dot.at.1.clamp(area[1], area[3]));
        (near.0 - dot.at.0).hypot(near.1 - dot.at.1) > 64.0
    };
    let clear = hard.iter().all(|&touched| touched < 0.5) && !dots.iter().zip(&places).any(far);
    (places, clear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::PALETTE;

    fn dot(fps: f64, jf: f64, valid: bool) -> Dot {
        let look = Look { name: "sam2_points bf16".into(), color: PALETTE[0], dtype: Dtype::Bf16, valid };
        Dot { look, fps, jf, jf_interval: None, at: (200.0 + fps * 20.0, 700.0 - jf * 5.0), whisker: None }
    }

    #[test]
    fn the_front_holds_what_nothing_valid_beats() {
        let dots = [
            dot(10.0, 80.0, true),
            dot(20.0, 75.0, true),
            dot(15.0, 74.0, true),  // beaten by the second
            dot(30.0, 90.0, false), // beats all, but is not valid
            dot(20.0, 70.0, true),  // as fast as the second, worse
            dot(25.0, 60.0, true),
        ];
        assert_eq!(front(&dots), [0, 1, 5]);
        assert_eq!(front(&dots[3..4]), [0usize; 0]);
    }

    #[test]
    fn labels_of_close_markers_do_not_touch() {
        let dots: Vec<Dot> = (0..8).map(|i| dot(15.0 + f64::from(i) * 0.3, 70.0 + f64::from(i % 3), true)).collect();
        let names: Vec<String> = dots.iter().map(|d| d.look.name.clone()).collect();
        let (places, clear) = place(&dots, &names, &text_style(14.0, INK), &[112.0, 100.0, 1164.0, 700.0], &[]);
        assert!(clear);
        for i in 0..8 {
            for j in 0..i {
                assert!(overlap(&places[i], &places[j]) == 0.0, "{i} and {j}");
            }
        }
        // All in one spot: there is no room for forty long names, and the figure must know it.
        let heap: Vec<Dot> = (0..40).map(|_| dot(15.0, 70.0, true)).collect();
        let names = vec!["a rather long model name bf16".to_string(); 40];
        assert!(!place(&heap, &names, &text_style(14.0, INK), &[112.0, 400.0, 700.0, 500.0], &[]).1);
    }
}
