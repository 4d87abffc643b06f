//! When did it go wrong? Pictures of frames on which an object was lost, and of those between which its track changed.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{Markup, html};

use crate::report::table::cell_name;
use crate::report::thumb::{self, Moment, Thumb};
use crate::results::record::{CellRecord, RunRecord};
use crate::text::{clean, plural};

/// Pictures of the frames on which objects were lost; a word where none was. Nothing where nothing was scored.
pub(super) fn lost(run: &RunRecord, thumbs: &[Thumb]) -> Markup {
    let pictures = pictures(run, thumbs, |m| m.j.is_some_and(thumb::is_bad));
    let scored = run.cells.iter().any(|c| c.summary.as_ref().is_some_and(|s| s.jf.is_some()));
    let bad = run.cells.iter().any(|c| !thumb::worst(&c.sequences).is_empty());
    let said = |m: &Moment| format!("J {:.1}", m.j.unwrap_or_default());
    html! {
        @if !pictures.is_empty() {
            h2 { "Worst moments" }
            p {
                "Filled: what the model predicted. Light contour: what was true. The frames with the lowest J that count, below "
                "50, cut to the object: at most one per object, three per cell."
            }
            .moments {
                @for (cell, m, png) in &pictures {
                    @let of = format!("{}: {}, object {}, frame {}", cell_name(run, cell), m.video, m.object, m.frame);
                    (picture(&format!("{of}, {}", said(m)), "predicted mask and true contour", png))
                }
            }
        } @else if scored && !bad {
            h2 { "Worst moments" }
            p { "No object fell below a J of 50 on a frame that counts." }
        }
    }
}

/// Pictures of id switches; a word where tracks were found and kept to their objects. Nothing where nothing was scored.
pub(super) fn switched(run: &RunRecord, thumbs: &[Thumb]) -> Markup {
    let pictures = pictures(run, thumbs, |m| m.switch.is_some());
    let counts = run.cells.iter().filter_map(|c| c.summary.as_ref()?.found.as_ref()?.scores.as_ref()?.id_switches);
    let counts: Vec<usize> = counts.collect();
    let all: usize = counts.iter().sum();
    html! {
        @if !pictures.is_empty() {
            h2 { "Id switches" }
            p {
                "Left: the last frame on which the object had its last track. Right: the frame on which another track has it. Filled: the "
                "tracks, each in its colour. Light contour: the object. Of " (plural(all, "switch", "switches")) ", at most one per object "
                "is shown, three per cell."
            }
            .moments.pairs {
                @for (cell, m, png) in &pictures {
                    @if let Some(s) = &m.switch {
                        @let of = format!("{}: {}, object {}", cell_name(run, cell), m.video, m.object);
                        @let text = format!("{of}, track {} on frame {}, track {} on frame {}", s.from, s.before, s.to, s.frame);
                        (picture(&text, "both frames with the tracks and the true contour", png))
                    }
                }
            }
        } @else if !counts.is_empty() && all == 0 {
            h2 { "Id switches" }
            p { "No object changed its track." }
        }
    }
}

type Picture<'a> = (&'a CellRecord, &'a Moment, &'a Vec<u8>);

fn pictures<'a>(run: &'a RunRecord, thumbs: &'a [Thumb], wanted: fn(&Moment) -> bool) -> Vec<Picture<'a>> {
    let wanted = thumbs.iter().filter(|thumb| wanted(&thumb.moment));
    wanted.filter_map(|thumb| Some((run.cells.get(thumb.cell)?, &thumb.moment, &thumb.png))).collect()
}

/// A picture with what it shows.
fn picture(text: &str, shows: &str, png: &[u8]) -> Markup {
    let text = clean(text);
    html! {
        figure.moment {
            img alt={ (text) ": " (shows) } src={ "data:image/png;base64," (BASE64_STANDARD.encode(png)) };
            figcaption { (text) }
        }
    }
}
