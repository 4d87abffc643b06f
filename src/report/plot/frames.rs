//! J over the frames of every object: one panel per object, one line per cell, the prompt frame marked, spans in which
//! the object is out of sight shaded (there J is 100 for an empty mask and 0 for any other).

use std::collections::BTreeMap;

use jetbench_runners::types::Dtype;

use plotters::prelude::Color;

use super::{
    Axes, Figure, INK, Look, MARGIN, Measure, Page, Plot, RULE, SHADE, Scale, WIDE, compares_dtypes, drawable, heading,
    legend, legend_places, notes, text_style,
};
use crate::results::record::{CellRecord, FrameScoreRecord, ObjectRecord, RunRecord};
use crate::text::{clean, plural};

/// Panels per figure.
const PANELS: usize = 12;

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
    Dtype::ALL.into_iter().flat_map(|dtype| part(run, Some(dtype))).collect()
}

/// The figures of all cells, or of those of one dtype.
fn part(run: &RunRecord, dtype: Option<Dtype>) -> Vec<Figure> {
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
        let first = panels.first().map_or("", |p| p.video);
        let last = panels.last().map_or("", |p| p.video);
        let caption =
            clean(&format!("{title} of {}, videos {first} to {last}", plural(panels.len(), "object", "objects")));
        let compares = dtype.is_none() && compares_dtypes(run);
        figures.push(draw(run, &looks, panels, (name, title, caption), compares));
    }
    figures
}

/// Objects in the order in which the first cell that has them tracked them.
fn panels(run: &RunRecord, dtype: Option<Dtype>) -> Vec<Panel<'_>> {
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

fn draw(run: &RunRecord, looks: &[Look], panels: &[Panel], words: (String, String, String), compares: bool) -> Figure {
    let (name, title, caption) = words;
    let columns = match panels.len() {
        1 => 1,
        2..=4 => 2,
        _ => 3,
    };
    let rows = panels.len().div_ceil(columns);
    let in_panels = |i: usize| panels.iter().any(|p| p.lines.iter().any(|l| l.0 == i));
    let shown: Vec<&Look> = looks.iter().enumerate().filter(|(i, _)| in_panels(*i)).map(|l| l.1).collect();
    let entries = shown.iter().map(|look| (34.0, look.name.as_str()));
    let entries: Vec<_> = entries.chain([(14.0, "prompt"), (20.0, "object out of sight")]).collect();
    let legend_rows = legend_places(&entries, MARGIN).last().map_or(0, |p| p.1 + 1) as f64;
    let mut notes = notes(run);
    notes.push("Small rings: annotated frames that the protocol does not count (prompt, first, last).".to_string());
    let gap = (52.0, 66.0);
    let panel_height: f64 = match rows {
        1 => 420.0,
        2 => 220.0,
        3 => 150.0,
        _ => 128.0,
    };
    let height = 128.0 + 24.0 * legend_rows + rows as f64 * (panel_height + gap.1) + 18.0 * notes.len() as f64;
    Figure::draw(name, caption, height, |page| {
        let (top, _) = heading(page, run, &title, &notes);
        legend(page, &entries, (MARGIN, top + 18.0), |i, (x, y)| match shown.get(i) {
            Some(look) => look.line(page, &[(x, y - 5.0), (x + 34.0, y - 5.0)], compares),
            None if i == shown.len() => prompt_mark(page, x + 7.0, (y - 14.0, y + 2.0)),
            None => page.rect((x, y - 12.0), (20.0, 14.0), SHADE),
        });
        let width = (WIDE - 2.0 * MARGIN - 44.0 - gap.0 * (columns - 1) as f64) / columns as f64;
        for (i, panel) in panels.iter().enumerate() {
            let left = MARGIN + 44.0 + (i % columns) as f64 * (width + gap.0);
            let up = top + 24.0 * legend_rows + 40.0 + (i / columns) as f64 * (panel_height + gap.1);
            let x = Scale::linear(0.0, f64::from(panel.frames.max(2) - 1), width / 62.0 + 1.0);
            let y = Scale::linear(0.0, 100.0, 0.0).marked(&[0.0, 50.0, 100.0]);
            let plot = Plot { x, y, left, top: up, right: left + width, bottom: up + panel_height };
            let titles = (
                if i + columns >= panels.len() { "frame" } else { "" },
                if i % columns == 0 { "J (0 to 100)" } else { "" },
            );
            draw_panel(page, panel, looks, compares, &plot, titles);
        }
    })
}

fn draw_panel(page: &Page, panel: &Panel, looks: &[Look], compares: bool, plot: &Plot, titles: (&str, &str)) {
    let title = text_style(13.5, INK).bold();
    let name = clean(&format!("{} · object {}", panel.video, panel.object));
    page.text((plot.left, plot.top - 9.0), &title.fit(&name, plot.right - plot.left), &title);
    let truth = panel.lines.first().map(|(_, o)| *o);
    for (from, to) in truth.map(|object| absent_spans(&object.per_frame)).unwrap_or_default() {
        let (from, to) = (plot.x(from).max(plot.left), plot.x(to).min(plot.right));
        page.rect((from, plot.top), (to - from, plot.bottom - plot.top), SHADE);
    }
    plot.axes(page, &Axes { tick: 12.0, title: 13.0, x: titles.0, y: titles.1, columns: false });
    for tick in plot.x.ticks() {
        page.line(&[(plot.x(*tick), plot.bottom), (plot.x(*tick), plot.bottom + 4.0)], RULE, 1.0);
    }
    if let Some(object) = truth {
        prompt_mark(page, plot.x(f64::from(object.prompt_frame)), (plot.top, plot.bottom));
    }
    let pixels_per_frame = (plot.right - plot.left) / f64::from(panel.frames.max(1));
    let frames_per_score = f64::from(panel.frames) / truth.map_or(1, |o| o.per_frame.len().max(1)) as f64;
    let dense = frames_per_score * pixels_per_frame < 7.0;
    let at = |s: &FrameScoreRecord| (plot.x(f64::from(s.frame)), plot.y(s.j));
    for &(cell, object) in &panel.lines {
        let look = &looks[cell];
        let points: Vec<(f64, f64)> = object.per_frame.iter().filter(|s| s.counted).map(at).collect();
        if points.len() == 1 || !dense {
            for &at in &points {
                page.disc(at, 2.1, look.pale(0.45));
            }
        }
        if points.len() > 1 {
            look.line(page, &points, compares);
        }
        for s in object.per_frame.iter().filter(|s| !s.counted) {
            page.ring(at(s), 2.6, look.color.mix(0.7), 1.0);
        }
    }
}

/// The frame with the prompt: a dashed line, and a small wedge on the frame axis.
fn prompt_mark(page: &Page, x: f64, (top, bottom): (f64, f64)) {
    page.dashes(&[(x, bottom), (x, top)], INK, 1.4, (3.0, 3.0));
    page.area(&[(x - 5.5, bottom + 1.0), (x + 5.5, bottom + 1.0), (x, bottom - 9.0)], INK);
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
