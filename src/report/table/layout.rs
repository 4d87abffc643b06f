//! How do columns, lines and colours become text of a given width? Nothing here knows what a cell is.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use super::{Column, Sheet};

/// The columns as a grid without trailing spaces.
pub(super) fn grid(sheet: &Sheet, columns: &[&Column]) -> String {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|c| c.title.as_str()));
    for row in 0..sheet.rows {
        table.add_row(columns.iter().map(|c| c.values[row].as_str()));
    }
    for (i, column) in columns.iter().enumerate() {
        let Some(laid) = table.column_mut(i) else { continue };
        laid.set_padding((0, 1));
        if column.number {
            laid.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|l| l.trim_end().to_string()).collect::<Vec<_>>().join("\n")
}

/// One block per cell, for terminals too narrow for any table.
pub(super) fn blocks(sheet: &Sheet) -> String {
    let titles: Vec<String> = sheet.columns.iter().map(|c| c.title.replace('\n', " ")).collect();
    let wide = titles.iter().map(|t| t.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for row in 0..sheet.rows {
        if row > 0 {
            out.push('\n');
        }
        for (title, column) in titles.iter().zip(&sheet.columns) {
            let _ = writeln!(out, "{title:wide$}  {}", column.values[row]);
        }
    }
    out
}

/// Breaks a line at spaces, but not between a number and its `%`; a word longer than the line stays whole (paths must stay
/// usable).
pub(super) fn wrap(line: &str, width: usize) -> String {
    wrap_with(line, width, "    ")
}

/// As [`wrap`]; `indent` stands before every line but the first.
pub(crate) fn wrap_with(line: &str, width: usize, indent: &str) -> String {
    let mut out = String::new();
    let mut used = 0;
    let glued = line.replace(" %", "\u{a0}%");
    for word in glued.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width.max(20) {
            out.push('\n');
            out.push_str(indent);
            used = indent.len();
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(&word.replace('\u{a0}', " "));
        used += length;
    }
    out
}

/// So many lines of a wrapped text; what is cut off leaves its mark.
pub(super) fn first_lines(wrapped: &str, most: usize, width: usize) -> String {
    if wrapped.lines().count() <= most {
        return wrapped.to_string();
    }
    let kept = wrapped.lines().take(most).collect::<Vec<_>>().join("\n");
    let last = kept.lines().last().map_or(0, |l| l.chars().count());
    // A word that would leave no room for the mark goes whole.
    let kept = if last + 2 > width { kept.rsplit_once(' ').map_or(kept.as_str(), |(before, _)| before) } else { &kept };
    format!("{} …", kept.trim_end())
}

// Colours travel through the layout as invisible characters of width 0 and become escape codes at the end, so that the
// grid is aligned as if they were not there. `clean` keeps them out of names.
pub(super) const GOOD: char = '\u{2061}';
pub(super) const WARN: char = '\u{2062}';
pub(super) const BAD: char = '\u{2063}';
pub(super) const PLAIN: char = '\u{2064}';

/// Turns colour marks into escape codes, or drops them.
pub(super) fn paint(text: &str, color: bool) -> String {
    if !color {
        return strip_marks(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            GOOD => out.push_str("\x1b[32m"),
            WARN => out.push_str("\x1b[33m"),
            BAD => out.push_str("\x1b[31m"),
            PLAIN => out.push_str("\x1b[0m"),
            c => out.push(c),
        }
    }
    out
}

pub(in crate::report) fn strip_marks(text: &str) -> String {
    text.replace([GOOD, WARN, BAD, PLAIN], "")
}

/// Terminal columns of a line: borders and our own text are one column per character, marks none.
pub(super) fn display_width(line: &str) -> usize {
    line.chars().filter(|c| ![GOOD, WARN, BAD, PLAIN].contains(c)).count()
}
