//! Which columns of the headline table have room on which screen? The least important ones leave first, as in a terminal, so
//! that the table is never cut; paper shows all.

use maud::{Markup, html};
use plotters::style::TextStyle;

use super::shell::breakable;
use crate::report::plot::paper::{INK, Measure, text_style};
use crate::report::table::{Column, Sheet, strip_marks};
use crate::results::record::RunRecord;

/// A screen: its width in pixels; the classes of what is hidden below it, and of what is shown only there. style.css has the same.
struct Screen(f64, &'static str, &'static str);

/// Narrow first; the last one is paper, which has every column.
const SCREENS: [Screen; 5] = [
    Screen(620.0, "from-620", "below-620"),
    Screen(900.0, "from-900", "below-900"),
    Screen(1280.0, "from-1280", "below-1280"),
    Screen(1720.0, "from-1720", "below-1720"),
    Screen(f64::INFINITY, "on-paper", "on-screen"),
];
/// What the page and a scroll bar take beside a table.
const BESIDE: f64 = 60.0;
/// How a table is set.
struct Setting {
    /// Size of its text in pixels.
    size: f64,
    /// What stands left and right of a text in a cell, ems.
    padding: f64,
    /// Where a long name is broken wherever it is, ems.
    name: f64,
}
const DESK: Setting = Setting { size: 15.04, padding: 1.6, name: 14.0 };
const PHONE: Setting = Setting { size: 12.16, padding: 0.5, name: 6.0 };
/// Room for a table on a phone.
const ON_PHONE: f64 = 350.0;

/// The headline table.
pub(super) fn table(run: &RunRecord) -> Markup {
    let sheet = Sheet::new(run);
    let from = classes(&sheet.columns);
    let class = |column: usize| match (sheet.columns[column].number, from[column]) {
        (true, Some(from)) => Some(format!("number {from}")),
        (true, None) => Some("number".to_string()),
        (false, from) => from.map(str::to_string),
    };
    html! {
        .wide {
            table.headline {
                caption { "One row per cell: model, precision and device" }
                thead {
                    tr {
                        @for (i, column) in sheet.columns.iter().enumerate() {
                            th scope="col" class=[class(i)] {
                                @for (i, line) in column.title.split('\n').enumerate() { @if i > 0 { br; } (line) }
                            }
                        }
                    }
                }
                tbody {
                    @for (row, cell) in run.cells.iter().enumerate() {
                        tr.(cell.verdict.as_str()) {
                            @for (i, column) in sheet.columns.iter().enumerate() {
                                @let value = strip_marks(&column.values[row]);
                                @match column.title.as_str() {
                                    "model" => th scope="row" { (breakable(&value)) },
                                    "verdict" => td.word.disturbed[!cell.disturbed.is_empty()] { (value) },
                                    _ => td class=[class(i)] { (value) },
                                }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(Screen(.., below)) = SCREENS.iter().rfind(|screen| from.contains(&Some(screen.1))) {
            p.under.(below) { "Columns that have no room here are in " code { "summary.csv" } "." }
        }
    }
}

/// Class of each column that is not always shown: a phone has those that stay in the narrowest terminal too, as far as there is
/// room.
fn classes(columns: &[Column]) -> Vec<Option<&'static str>> {
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|&i| (!columns[i].stays(), columns[i].rank));
    let (mut on_phone, mut used, mut screen) = (0.0, 0.0, 0);
    let mut classes = vec![None; columns.len()];
    for i in order {
        on_phone += width(&columns[i], &PHONE);
        used += width(&columns[i], &DESK);
        if columns[i].stays() && on_phone <= ON_PHONE {
            continue;
        }
        while used > SCREENS[screen].0 - BESIDE {
            screen += 1;
        }
        classes[i] = Some(SCREENS[screen].1);
    }
    classes
}

/// What a column needs, its texts broken where they may be. The embedded font is wider than most.
fn width(column: &Column, set: &Setting) -> f64 {
    let (plain, bold) = (text_style(set.size, INK), text_style(set.size, INK).bold());
    let (style, most) = if column.title == "model" { (&bold, set.name * set.size) } else { (&plain, f64::MAX) };
    let breaks: &[char] = if column.number { &['\n'] } else { &['\n', ' '] };
    let widest = |style: &TextStyle<'static>, text: &str| {
        let parts = text.split(breaks).flat_map(|word| word.split_inclusive('_'));
        parts.map(|part| style.width(part)).fold(0.0, f64::max)
    };
    let values = column.values.iter().map(|value| widest(style, &strip_marks(value)));
    values.fold(widest(&bold, &column.title), f64::max).min(most) + set.padding * set.size
}
