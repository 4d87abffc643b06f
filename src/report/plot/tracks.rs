//! Births and deaths: when each track that a detector founded begins and ends, a row per track, a panel per video and cell. Thin where
//! its mask is empty; a diamond where it takes over an object that another track had.

use plotters::prelude::RGBAColor;

use super::{
    Axes, Figure, INK, Look, MARGIN, Measure, PAPER, Page, Plot, SOFT, Scale, WIDE, drawable, heading, legend,
    legend_places, notes, text_style,
};
use crate::results::record::{CellRecord, FoundTrackRecord, RunRecord, SequenceRecord};
use crate::score::unprompted::IdSwitch;
use crate::text::{clean, plural};

/// Most rows of tracks in a panel; the longest are shown.
const MOST: usize = 20;
/// Rows of a figure, over all its panels.
const ROWS: usize = 44;
const ROW: f64 = 24.0;
/// A panel beside its rows: its title above, its ticks below.
const AROUND: f64 = 78.0;
const LABELS: f64 = 170.0;

/// A video of a cell.
struct Panel<'a> {
    look: &'a Look,
    video: &'a str,
    /// Frames of the video.
    frames: u32,
    /// Confirmed tracks that are shown, by birth.
    tracks: Vec<&'a FoundTrackRecord>,
    /// How many confirmed ones there are.
    confirmed: usize,
    /// Births of those that were taken back.
    taken_back: Vec<u32>,
    switches: &'a [IdSwitch],
}

impl<'a> Panel<'a> {
    /// `None`: no track was founded.
    fn of(look: &'a Look, sequence: &'a SequenceRecord) -> Option<Panel<'a>> {
        let found = sequence.found.as_ref().filter(|found| !found.tracks.is_empty())?;
        let frames = sequence.frames.iter().map(|frame| frame.frame + 1).chain(sequence.dropped.iter().map(|d| d + 1));
        let mut tracks: Vec<&FoundTrackRecord> = found.tracks.iter().filter(|t| t.number.is_some()).collect();
        let confirmed = tracks.len();
        tracks.sort_by_key(|t| std::cmp::Reverse(t.end.saturating_sub(t.birth)));
        tracks.truncate(MOST);
        tracks.sort_by_key(|t| (t.birth, t.number));
        Some(Panel {
            look,
            video: &sequence.video,
            frames: frames.max()?,
            tracks,
            confirmed,
            taken_back: found.tracks.iter().filter(|t| t.number.is_none()).map(|t| t.birth).collect(),
            switches: found.scores.as_ref().map_or(&[], |scores| &scores.switches),
        })
    }

    fn rows(&self) -> usize {
        self.tracks.len() + usize::from(!self.taken_back.is_empty())
    }

    fn title(&self) -> String {
        let shown = match self.confirmed > self.tracks.len() {
            true => format!(", the {} longest are shown", self.tracks.len()),
            false => String::new(),
        };
        let tracks = plural(self.confirmed, "track", "tracks");
        format!("{} · {} · {tracks}{shown}", clean(&self.look.name), clean(self.video))
    }
}

/// The figures; none where no detector founded a track.
pub fn figures(run: &RunRecord) -> Vec<Figure> {
    let looks = Look::all(run);
    let cells = looks.iter().zip(&run.cells).filter(|(_, cell)| drawable(cell));
    let of_cell = |(look, cell): (&'_ Look, &'_ CellRecord)| -> Vec<(usize, usize)> {
        let at = looks.iter().position(|l| std::ptr::eq(l, look)).unwrap_or_default();
        (0..cell.sequences.len()).map(|sequence| (at, sequence)).collect()
    };
    let panels = cells.flat_map(of_cell).filter_map(|(i, s)| Panel::of(&looks[i], &run.cells[i].sequences[s]));
    let mut pages: Vec<Vec<Panel>> = Vec::new();
    for panel in panels {
        match pages.last_mut() {
            Some(page) if page.iter().map(Panel::rows).sum::<usize>() + panel.rows() <= ROWS => page.push(panel),
            _ => pages.push(vec![panel]),
        }
    }
    let count = pages.len();
    let draw = |(i, page): (usize, &Vec<Panel>)| match count {
        1 => draw(run, page, ("tracks".to_string(), "Births and ends of tracks".to_string())),
        _ => draw(
            run,
            page,
            (format!("tracks_{:02}", i + 1), format!("Births and ends of tracks ({} of {count})", i + 1)),
        ),
    };
    pages.iter().enumerate().map(draw).collect()
}

fn draw(run: &RunRecord, panels: &[Panel], (name, title): (String, String)) -> Figure {
    let said: Vec<String> =
        panels.iter().map(|p| format!("{}, {} taken back", p.title(), p.taken_back.len())).collect();
    let caption = format!("{title}. {}", said.join("; "));
    let notes = notes(run);
    let hidden = panels.iter().flat_map(|p| &p.tracks).any(|t| t.frames.iter().any(|frame| frame.area == 0));
    let switched = panels.iter().any(|p| !p.switches.is_empty());
    let taken_back = panels.iter().any(|p| !p.taken_back.is_empty());
    let keys = [
        (true, Key::Birth, "birth"),
        (true, Key::End, "end before the video's"),
        (hidden, Key::Hidden, "its mask is empty"),
        (switched, Key::Switch, "takes over an object of another track"),
        (taken_back, Key::TakenBack, "birth of a track that was taken back"),
    ];
    let keys: Vec<(Key, &str)> = keys.into_iter().filter(|k| k.0).map(|(_, key, text)| (key, text)).collect();
    let entries: Vec<(f64, &str)> = keys.iter().map(|(key, text)| (key.width(), *text)).collect();
    let legend_rows = legend_places(&entries, MARGIN).last().map_or(0, |place| place.1 + 1) as f64;
    let rows: f64 = panels.iter().map(|p| p.rows() as f64 * ROW + AROUND).sum();
    let height = 118.0 + 24.0 * legend_rows + rows + 18.0 * notes.len() as f64;
    Figure::draw(name, caption, height, |page| {
        let (top, _) = heading(page, run, &title, &notes);
        legend(page, &entries, (MARGIN, top + 18.0), |i, (x, y)| keys[i].0.sample(page, (x, y - 5.0)));
        let mut up = top + 24.0 * legend_rows + 34.0;
        for (i, panel) in panels.iter().enumerate() {
            draw_panel(page, panel, up, i + 1 == panels.len());
            up += panel.rows() as f64 * ROW + AROUND;
        }
    })
}

fn draw_panel(page: &Page, panel: &Panel, up: f64, is_last: bool) {
    let (left, right) = (MARGIN + LABELS, WIDE - MARGIN);
    let bottom = up + panel.rows() as f64 * ROW + 6.0;
    let title = text_style(15.0, INK).bold();
    page.text((MARGIN, up - 10.0), &title.fit(&panel.title(), right - MARGIN), &title);
    let x = Scale::linear(0.0, f64::from(panel.frames.max(2) - 1), 10.0);
    let plot = Plot { x, y: Scale::linear(0.0, 1.0, 0.0), left, top: up, right, bottom };
    let axis = if is_last { "frame" } else { "" };
    plot.axes(page, &Axes { tick: 14.0, title: 15.0, x: axis, y: "", columns: true });
    let label = text_style(14.0, SOFT);
    let (color, middle) = (panel.look.pale(0.45), |row: usize| up + 6.0 + (row as f64 + 0.5) * ROW);
    for (row, track) in panel.tracks.iter().enumerate() {
        let y = middle(row);
        let name = format!("{} {}", track.number.unwrap_or_default(), clean(&track.label));
        page.text((left - 12.0, y + label.half_cap()), &label.fit(&name, LABELS - 12.0), &label.end());
        draw_track(page, &plot, track, (y, color), panel.frames);
        for switch in panel.switches.iter().filter(|s| Some(s.to) == track.number) {
            diamond(page, (plot.x(f64::from(switch.frame)), y));
        }
    }
    if !panel.taken_back.is_empty() {
        let y = middle(panel.tracks.len());
        let name = format!("{} taken back", panel.taken_back.len());
        page.text((left - 12.0, y + label.half_cap()), &name, &label.end());
        panel.taken_back.iter().for_each(|birth| hollow(page, (plot.x(f64::from(*birth)), y), SOFT));
    }
}

/// The life of a track: from its birth to its last own frame.
fn draw_track(page: &Page, plot: &Plot, track: &FoundTrackRecord, (y, color): (f64, RGBAColor), frames: u32) {
    let at = |frame: u32| plot.x(f64::from(frame));
    let last = track.end.saturating_sub(1).max(track.birth);
    // A pale colour lets through what lies below it, so nothing is drawn twice.
    let mut drawn = at(track.birth);
    for (from, to) in seen(track) {
        page.rect((drawn, y - 1.5), ((at(from) - drawn).max(0.0), 3.0), color);
        page.rect((at(from), y - 6.0), ((at(to) - at(from)).max(2.0), 12.0), color);
        drawn = at(to).max(at(from) + 2.0);
    }
    page.rect((drawn, y - 1.5), ((at(last) - drawn).max(0.0), 3.0), color);
    page.disc((at(track.birth), y), 6.5, PAPER);
    page.disc((at(track.birth), y), 6.5, color);
    page.ring((at(track.birth), y), 6.5, PAPER, 1.6);
    if track.end < frames {
        cap(page, (at(last), y), color);
    }
}

/// Spans of frames, first and last, on which its mask is not empty; all of its life where nothing was said of its frames.
fn seen(track: &FoundTrackRecord) -> Vec<(u32, u32)> {
    if track.frames.is_empty() {
        return vec![(track.birth, track.end.saturating_sub(1).max(track.birth))];
    }
    let mut spans: Vec<(u32, u32)> = Vec::new();
    let mut goes_on = false;
    for frame in &track.frames {
        match spans.last_mut() {
            Some(span) if goes_on && frame.area > 0 => span.1 = frame.frame,
            _ if frame.area > 0 => spans.push((frame.frame, frame.frame)),
            _ => {}
        }
        goes_on = frame.area > 0;
    }
    spans
}

fn cap(page: &Page, (x, y): (f64, f64), color: RGBAColor) {
    page.rect((x - 1.5, y - 10.0), (3.0, 20.0), color);
}

fn hollow(page: &Page, at: (f64, f64), color: RGBAColor) {
    page.disc(at, 5.0, PAPER);
    page.ring(at, 5.0, color, 1.8);
}

fn diamond(page: &Page, (x, y): (f64, f64)) {
    let corners = [(x, y - 8.0), (x + 7.0, y), (x, y + 8.0), (x - 7.0, y)];
    page.area(&corners, INK);
    page.outline(&corners, PAPER, 1.4);
}

/// What the legend explains.
#[derive(Clone, Copy, PartialEq)]
enum Key {
    Birth,
    End,
    Hidden,
    Switch,
    TakenBack,
}

impl Key {
    fn width(self) -> f64 {
        match self {
            Key::Hidden => 40.0,
            Key::Birth | Key::End => 26.0,
            Key::Switch | Key::TakenBack => 14.0,
        }
    }

    fn sample(self, page: &Page, (x, y): (f64, f64)) {
        match self {
            Key::Birth => {
                page.rect((x + 7.0, y - 6.0), (19.0, 12.0), SOFT);
                page.disc((x + 7.0, y), 6.5, SOFT);
                page.ring((x + 7.0, y), 6.5, PAPER, 1.6);
            }
            Key::End => {
                page.rect((x, y - 6.0), (20.0, 12.0), SOFT);
                cap(page, (x + 21.0, y), SOFT);
            }
            Key::Hidden => {
                page.rect((x, y - 1.5), (40.0, 3.0), SOFT);
                page.rect((x, y - 6.0), (10.0, 12.0), SOFT);
                page.rect((x + 30.0, y - 6.0), (10.0, 12.0), SOFT);
            }
            Key::Switch => diamond(page, (x + 7.0, y)),
            Key::TakenBack => hollow(page, (x + 7.0, y), SOFT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::record::TrackRecord;

    #[test]
    fn a_track_is_seen_where_its_mask_is_not_empty() {
        let track = |areas: &[(u32, u64)]| FoundTrackRecord {
            birth: 3,
            end: 9,
            frames: areas.iter().map(|&(frame, area)| TrackRecord { frame, object_score: None, area }).collect(),
            ..FoundTrackRecord::default()
        };
        assert_eq!(seen(&track(&[(3, 5), (4, 5), (5, 0), (6, 0), (7, 2), (8, 1)])), [(3, 4), (7, 8)]);
        assert_eq!(seen(&track(&[(3, 0), (4, 9)])), [(4, 4)]);
        assert_eq!(seen(&track(&[(3, 0)])), []);
        assert_eq!(seen(&track(&[])), [(3, 8)], "a record without frames");
    }
}
