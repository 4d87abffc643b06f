//! What do all pages share? Head and style, lists and tables of facts, what is folded. No page has a script or fetches anything;
//! what is put into one is escaped by its type.

use maud::{Markup, PreEscaped, html};

use crate::report::plot::paper;
use crate::text::clean;

/// Colours are variables, so that a test can compute their contrast in both schemes. What figures look like in the dark,
/// their own module says.
const STYLE: &str = include_str!("style.css");

/// A whole page.
pub(super) fn page(title: &str, version: &str, body: &Markup) -> String {
    let page = html! {
        (PreEscaped("<!doctype html>\n"))
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content={ "jetbench " (clean(version)) };
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(paper::style("figure"))) }
            }
            body { main { h1 { (title) } (body) } }
        }
    };
    page.into_string() + "\n"
}

/// A line with what stands behind it.
pub(super) fn folded(line: &str, behind: &Markup) -> Markup {
    html! { details { summary { (line) } (behind) } }
}

/// Sentences below each other.
pub(super) fn notes(lines: &[String]) -> Markup {
    html! { ul.notes { @for line in lines { li { (line) } } } }
}

/// A list of names and values.
pub(super) fn pairs<K: AsRef<str>>(facts: impl IntoIterator<Item = (K, String)>) -> Markup {
    html! {
        dl { @for (name, value) in facts { dt { (clean(name.as_ref())) } dd { (clean(&value)) } } }
    }
}

/// A table; titles from `numbers` on stand over numbers, and the first of each row names it. Columns in which no row has anything
/// are left out.
pub(super) fn grid(
    caption: &str,
    titles: &[&str],
    numbers: usize,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Markup {
    table(caption, titles, (numbers, usize::MAX), rows)
}

/// The same; a phone does not show columns from `roomy` on.
pub(super) fn table(
    caption: &str,
    titles: &[&str],
    (numbers, roomy): (usize, usize),
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Markup {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let shown: Vec<usize> =
        (0..titles.len()).filter(|&i| i == 0 || rows.is_empty() || rows.iter().any(|row| row[i] != "–")).collect();
    let class = |i: usize| match (i >= numbers, i >= roomy) {
        (true, true) => Some("number from-620"),
        (true, false) => Some("number"),
        (false, true) => Some("from-620"),
        (false, false) => None,
    };
    html! {
        .wide {
            table {
                @if !caption.is_empty() { caption { (caption) } }
                thead { tr { @for &i in &shown { th scope="col" class=[class(i)] { (titles[i]) } } } }
                tbody {
                    @for row in &rows {
                        tr {
                            @for &i in &shown {
                                @if i == 0 { th scope="row" { (breakable(&clean(&row[0]))) } }
                                @else { td class=[class(i)] { (clean(&row[i])) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A name that may go on in a new line after each underscore.
pub(super) fn breakable(name: &str) -> Markup {
    html! { @for part in name.split_inclusive('_') { (part) wbr; } }
}
