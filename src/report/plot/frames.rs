//! J over the frames of every object: one panel per object, one line per cell, the prompt frame marked, spans in which
//! the object is out of sight shaded (there J is 100 for an empty mask and 0 for any other).

use std::collections::BTreeMap;

use jetbench_runners::types::Precision;

use super::{Axis, Figure, GRID, INK, Look, MARGIN, RULE, SOFT, compares_dtypes, drawable, notes, page};
use crate::report::scene::{Ink, Line, Scene, Type};
use crate::report::table::clean;
use crate::results::record::{CellRecord, FrameScoreRecord, ObjectRecord, RunRecord};

/// Panels per figure.
const PANELS: usize = 12;
const SHADE: Ink = Ink(0xdd, 0xe1, 0xe5, 1.0);

/// What one panel shows: an object, and its record in every cell that scored it.
struct Panel<'a> {
    video: &'a str,
    object: &'a str,
    frames: u32,
    lines: Vec<(usize, &'a ObjectRecord)>,
}

/// Most lines in a panel before each dtype gets figures of its own.
const LINES: usize = 6;

/// The figures, twelve objects each, in plan order; none when nothing was scored. A run with many cells gets figures of
/// their own for every dtype.
pub fn figures(run: &RunRecord) -> Vec<Figure> {
    let several = compares_dtypes(run) && run.cells.iter().filter(|c| drawable(c)).count() > LINES;
    if !several {
        return part(run, None);
    }
    Precision::ALL.into_iter().flat_map(|dtype| part(run, Some(dtype))).collect()
}

/// The figures of all cells, or of those of one dtype.
fn part(run: &RunRecord, dtype: Option<Precision>) -> Vec<Figure> {
    let looks = Look::all(run);
    let panels = panels(run, dtype);
    let pages: Vec<&[Panel]> = panels.chunks(PANELS).collect();
    let mut figures = Vec::new();
    for (number, panels) in pages.iter().enumerate() {
        let mut name = "j_per_frame".to_string();
        let mut title = "J per frame".to_string();
        if let Some(dtype) = dtype {
            name.push_str(&format!("_{dtype}"));
            title.push_str(&format!(", {dtype}"));
        }
        if pages.len() > 1 {
            name.push_str(&format!("_{:02}", number + 1));
            title.push_str(&format!(" ({} of {})", number + 1, pages.len()));
        }
        let scene = draw(run, &looks, panels, &title, dtype.is_none() && compares_dtypes(run));
        let first = panels.first().map_or("", |p| p.video);
        let last = panels.last().map_or("", |p| p.video);
        let caption = clean(&format!("{title} of {} objects, videos {first} to {last}", panels.len()));
        figures.push(Figure { name, caption, scene });
    }
    figures
}

/// Objects in the order in which the first cell that has them tracked them.
fn panels(run: &RunRecord, dtype: Option<Precision>) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel> = Vec::new();
    let mut index: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let wanted = |cell: &CellRecord| drawable(cell) && dtype.is_none_or(|d| d == cell.dtype);
    for (i, cell) in run.cells.iter().enumerate().filter(|(_, c)| wanted(c)) {
        for sequence in &cell.sequences {
            for object in sequence.objects.iter().filter(|o| !o.per_frame.is_empty()) {
                let key = (sequence.video.as_str(), object.object.as_str());
                let at = *index.entry(key).or_insert_with(|| {
                    panels.push(Panel { video: key.0, object: key.1, frames: 0, lines: vec![] });
                    panels.len() - 1
                });
                let last = object.per_frame.iter().map(|s| s.frame + 1).max().unwrap_or(0);
                panels[at].frames = panels[at].frames.max(last).max(sequence.frames.len() as u32);
                panels[at].lines.push((i, object));
            }
        }
    }
    panels
}

fn draw(run: &RunRecord, looks: &[Look], panels: &[Panel], title: &str, compares: bool) -> Scene {
    let columns = match panels.len() {
        1 => 1,
        2..=4 => 2,
        _ => 3,
    };
    let rows = panels.len().div_ceil(columns);
    let shown: Vec<&Look> = looks
        .iter()
        .enumerate()
        .filter(|(i, _)| panels.iter().any(|p| p.lines.iter().any(|l| l.0 == *i)))
        .map(|l| l.1)
        .collect();
    let legend = legend_places(&shown).last().map_or(0, |p| p.1 + 1);
    let mut notes = notes(run);
    notes.push("Small rings: annotated frames that the protocol does not count (prompt, first, last).".to_string());
    let gap = (52.0, 66.0);
    let panel_height: f64 = match rows {
        1 => 420.0,
        2 => 220.0,
        3 => 150.0,
        _ => 128.0,
    };
    let height = 84.0 + 24.0 * legend as f64 + 44.0 + rows as f64 * (panel_height + gap.1) + 18.0 * notes.len() as f64;
    let (mut scene, top, _) = page(run, title, (1200.0, height), &notes);
    write_legend(&mut scene, &shown, compares, top + 18.0);
    let width = (1200.0 - 2.0 * MARGIN - 44.0 - gap.0 * (columns - 1) as f64) / columns as f64;
    for (i, panel) in panels.iter().enumerate() {
        let left = MARGIN + 44.0 + (i % columns) as f64 * (width + gap.0);
        let up = top + 24.0 * legend as f64 + 40.0 + (i / columns) as f64 * (panel_height + gap.1);
        let x = Axis::linear(0.0, f64::from(panel.frames.max(2) - 1), left, left + width);
        let y = Axis::linear(0.0, 100.0, up + panel_height, up);
        let bottom = i + columns >= panels.len();
        draw_panel(&mut scene, panel, looks, compares, &x, &y, i % columns == 0, bottom);
    }
    scene
}

#[allow(clippy::too_many_arguments, reason = "one call, all of it geometry")]
fn draw_panel(
    scene: &mut Scene,
    panel: &Panel,
    looks: &[Look],
    compares: bool,
    x: &Axis,
    y: &Axis,
    first_column: bool,
    bottom: bool,
) {
    let title = Type::new(13.5, INK).bold();
    let tick = Type::new(12.0, SOFT);
    let name = clean(&format!("{} · object {}", panel.video, panel.object));
    scene.text((x.from, y.to - 9.0), title.fit(&name, x.to - x.from), title);
    let truth = panel.lines.first().map(|(_, o)| *o);
    if let Some(object) = truth {
        for (from, to) in absent_spans(&object.per_frame) {
            let (from, to) = (x.at(from).max(x.from), x.at(to).min(x.to));
            scene.rect((from, y.to), (to - from, y.from - y.to), Some(SHADE), None);
        }
    }
    for (value, text) in [(0.0, "0"), (50.0, "50"), (100.0, "100")] {
        scene.line((x.from, y.at(value)), (x.to, y.at(value)), Line::new(GRID, 1.0));
        scene.text((x.from - 7.0, y.at(value) + tick.half_cap()), text, tick.end());
    }
    for (value, text) in x.ticks((x.to - x.from) / 62.0) {
        scene.line((x.at(value), y.from), (x.at(value), y.from + 4.0), Line::new(RULE, 1.0));
        scene.text((x.at(value), y.from + 18.0), text, tick.middle());
    }
    scene.polyline(vec![(x.from, y.to), (x.from, y.from), (x.to, y.from)], Line::new(RULE, 1.2));
    if first_column {
        let style = Type::new(13.0, INK).middle().upright();
        scene.text((x.from - 38.0, (y.from + y.to) / 2.0), "J (0 to 100)", style);
    }
    if bottom {
        scene.text(((x.from + x.to) / 2.0, y.from + 37.0), "frame", Type::new(13.0, INK).middle());
    }
    if let Some(object) = truth {
        let at = x.at(f64::from(object.prompt_frame));
        scene.line((at, y.from), (at, y.to), Line::new(INK, 1.4).dashed(3.0, 3.0));
        prompt_mark(scene, (at, y.from));
    }
    let dense = panel.frames as f64 / truth.map_or(1, |o| o.per_frame.len().max(1)) as f64 * (x.to - x.from)
        / f64::from(panel.frames.max(1))
        < 7.0;
    for &(cell, object) in &panel.lines {
        let look = &looks[cell];
        let points: Vec<(f64, f64)> =
            object.per_frame.iter().filter(|s| s.counted).map(|s| (x.at(f64::from(s.frame)), y.at(s.j))).collect();
        if points.len() == 1 || !dense {
            for &at in &points {
                scene.circle(at, 2.1, Some(look.stroke(false).ink), None);
            }
        }
        scene.polyline(points, look.stroke(compares));
        for s in object.per_frame.iter().filter(|s| !s.counted) {
            let at = (x.at(f64::from(s.frame)), y.at(s.j));
            scene.circle(at, 2.6, None, Some(Line::new(look.ink.faded(0.7), 1.0)));
        }
    }
}

/// A small wedge on the frame axis.
fn prompt_mark(scene: &mut Scene, (x, y): (f64, f64)) {
    scene.polygon(vec![(x - 5.5, y + 1.0), (x + 5.5, y + 1.0), (x, y - 9.0)], Some(INK), None);
}

/// Spans of frames in which the object is out of sight, half-way to the annotated frames on which it is seen again.
fn absent_spans(scores: &[FrameScoreRecord]) -> Vec<(f64, f64)> {
    let mut spans: Vec<(f64, f64)> = Vec::new();
    let middle = |a: u32, b: u32| (f64::from(a) + f64::from(b)) / 2.0;
    for (i, score) in scores.iter().enumerate().filter(|(_, s)| !s.visible) {
        let here = score.frame;
        let from = i.checked_sub(1).map_or(f64::from(here), |p| middle(scores[p].frame, here));
        let to = scores.get(i + 1).map_or(f64::from(here), |n| middle(here, n.frame));
        match spans.last_mut() {
            Some(span) if span.1 >= from => span.1 = to,
            _ => spans.push((from, to)),
        }
    }
    spans
}

const KEYS: [&str; 2] = ["prompt", "object out of sight"];

/// Places of the legend's entries: x and row.
fn legend_places(shown: &[&Look]) -> Vec<(f64, usize)> {
    let style = Type::new(14.0, INK);
    let widths = shown.iter().map(|l| style.width(&l.name) + 66.0).chain(KEYS.iter().map(|k| style.width(k) + 50.0));
    let (mut x, mut row) = (MARGIN, 0);
    let mut places = Vec::new();
    for width in widths {
        if x > MARGIN && x + width > 1200.0 - MARGIN {
            (x, row) = (MARGIN, row + 1);
        }
        places.push((x, row));
        x += width;
    }
    places
}

fn write_legend(scene: &mut Scene, shown: &[&Look], compares: bool, y: f64) {
    let style = Type::new(14.0, INK);
    let places = legend_places(shown);
    let at = |i: usize| (places[i].0, y + 24.0 * places[i].1 as f64);
    for (i, look) in shown.iter().enumerate() {
        let (x, y) = at(i);
        scene.line((x, y - 5.0), (x + 34.0, y - 5.0), look.stroke(compares));
        scene.text((x + 42.0, y), &look.name, style);
    }
    let (x, y_prompt) = at(shown.len());
    scene.line((x + 7.0, y_prompt + 2.0), (x + 7.0, y_prompt - 14.0), Line::new(INK, 1.4).dashed(3.0, 3.0));
    prompt_mark(scene, (x + 7.0, y_prompt + 1.0));
    scene.text((x + 22.0, y_prompt), KEYS[0], style);
    let (x, y_absent) = at(shown.len() + 1);
    scene.rect((x, y_absent - 12.0), (20.0, 14.0), Some(SHADE), None);
    scene.text((x + 28.0, y_absent), KEYS[1], style);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(frame: u32, visible: bool) -> FrameScoreRecord {
        FrameScoreRecord { frame, j: 50.0, f: 50.0, counted: true, visible, object_score: Some(0.0) }
    }

    #[test]
    fn absent_spans_reach_half_way_to_their_neighbours() {
        let scores = [(0, true), (4, false), (8, false), (12, true), (16, true), (20, false)];
        let scores: Vec<_> = scores.iter().map(|&(f, v)| score(f, v)).collect();
        assert_eq!(absent_spans(&scores), [(2.0, 10.0), (18.0, 20.0)]);
        assert_eq!(absent_spans(&scores[1..2]), [(4.0, 4.0)]);
        assert_eq!(absent_spans(&[]), []);
    }
}
