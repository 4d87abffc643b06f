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

/// A table; titles from `numbers` on stand over numbers, and the first of each row names it.
pub(super) fn grid(
    caption: &str,
    titles: &[&str],
    numbers: usize,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Markup {
    let number = |i: usize| (i >= numbers).then_some("number");
    html! {
        .wide {
            table {
                @if !caption.is_empty() { caption { (caption) } }
                thead { tr { @for (i, title) in titles.iter().enumerate() { th scope="col" class=[number(i)] { (title) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (i, value) in row.iter().enumerate() {
                                @if i == 0 { th scope="row" { (breakable(&clean(value))) } }
                                @else { td class=[number(i)] { (clean(value)) } }
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
