//! What does a reader see first? `report.html`: one self-contained file with the headline table, the figures, every
//! warning, and how to do it again. No script, no fetched part; readable in light and dark and on paper. What is put
//! into the page is escaped by its type.

mod cell;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jetbench_runners::types::StagePrecision;
use maud::{Markup, PreEscaped, html};

use crate::report::closing::Closing;
use crate::report::plot::{Figure, paper};
use crate::report::table::{self, Column, Sheet, cell_name, strip_marks};
use crate::report::thumb::Thumb;
use crate::results::record::{CellRecord, RunRecord, Verdict};
use crate::text::{clean, plural, shell_word};

/// Figures that stand in the report itself; a full data set has dozens more, which lie beside it under `plots/`.
const INLINE: usize = 12;

/// Colours are variables, so that a test can compute their contrast in both schemes. What figures look like in the dark,
/// their own module says.
const STYLE: &str = include_str!("html/style.css");

/// The report, with figures drawn by [`crate::report::plot::figures_with`], and pictures.
pub fn report(run: &RunRecord, figures: &[Figure], thumbs: &[Thumb]) -> String {
    let title = format!("jetbench on {}", clean(&run.device.name));
    let closing = Closing::of(run);
    let page = html! {
        (PreEscaped("<!doctype html>\n"))
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content={ "jetbench " (clean(&run.version)) };
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(paper::style("figure"))) }
            }
            body {
                main {
                    h1 { (title) }
                    p.under { (table::heading(run)) }
                    @if let Some(banner) = &closing.banner { p.verdict.invalid { strong { (banner) "." } } }
                    (verdict(run, &closing))
                    (headline(run, &closing))
                    (drawings(figures))
                    @if !thumbs.is_empty() { (moments(run, thumbs)) }
                    @if run.cells.iter().any(|c| !c.precision.is_empty()) { (precisions(run)) }
                    (device(run))
                    (cells(run))
                    @if !closing.settings.is_empty() {
                        (folded("How the runners were set up, and other remarks", &closing.settings))
                    }
                    (reproduce(run))
                }
            }
        }
    };
    page.into_string() + "\n"
}

/// How many cells may be quoted, before any figure.
fn verdict(run: &RunRecord, closing: &Closing) -> Markup {
    let any = |want: fn(&Verdict) -> bool| run.cells.iter().any(|c| want(&c.verdict));
    let class = match (any(|v| matches!(v, Verdict::Invalid { .. })), any(|v| matches!(v, Verdict::Failed { .. }))) {
        (false, false) => "valid",
        (true, false) => "invalid",
        _ => "failed",
    };
    html! { p.verdict.(class) { strong { (closing.headline) "." } } }
}

/// Classes of a column's cells: numbers stand right, and a phone shows the columns that stay longest.
fn class(column: &Column) -> Option<&'static str> {
    match (column.number, column.stays()) {
        (true, true) => Some("number"),
        (true, false) => Some("number roomy"),
        (false, true) => None,
        (false, false) => Some("roomy"),
    }
}

/// The headline table and what must be read beside it.
fn headline(run: &RunRecord, closing: &Closing) -> Markup {
    let sheet = Sheet::new(run);
    html! {
        .wide {
            table {
                caption { "One row per cell: model, precision and device" }
                thead {
                    tr {
                        @for column in &sheet.columns {
                            th scope="col" class=[class(column)] {
                                @for (i, line) in column.title.split('\n').enumerate() { @if i > 0 { br; } (line) }
                            }
                        }
                    }
                }
                tbody {
                    @for (row, cell) in run.cells.iter().enumerate() {
                        tr.(cell.verdict.as_str()) {
                            @for column in &sheet.columns {
                                @let value = strip_marks(&column.values[row]);
                                @match column.title.as_str() {
                                    "model" => th scope="row" { @for part in value.split_inclusive('_') { (part) wbr; } },
                                    "verdict" => td.word.disturbed[!cell.disturbed.is_empty()] { (value) },
                                    _ => td class=[class(column)] { (value) },
                                }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(answer) = &closing.answer { p { strong { (answer) } } }
        @if !closing.reasons.is_empty() || !closing.warnings.is_empty() {
            h2 { "Warnings" }
            ul.notes { @for reason in &closing.reasons { li.warning { (reason) } } }
            @for warning in &closing.warnings { (folded(&warning.line, &warning.seen)) }
        }
        @if !closing.legend.is_empty() {
            h2 { "How to read it" }
            ul.notes { @for line in &closing.legend { li { (line) } } }
        }
    }
}

/// A line with what stands behind it.
fn folded(line: &str, behind: &[String]) -> Markup {
    html! { details { summary { (line) } ul.notes { @for text in behind { li { (text) } } } } }
}

/// The first figures, drawn.
fn drawings(figures: &[Figure]) -> Markup {
    html! {
        h2 { "Figures" }
        @for figure in figures.iter().take(INLINE) { figure { (PreEscaped(paper::themed(figure.svg()))) } }
        @if figures.is_empty() { p { "Nothing was measured that could be drawn." } }
        @if figures.len() > INLINE {
            p {
                (plural(figures.len() - INLINE, "more figure lies", "more figures lie")) " beside this file, under "
                code { "plots/" } "."
            }
        }
    }
}

/// Pictures of the frames on which objects were lost.
fn moments(run: &RunRecord, thumbs: &[Thumb]) -> Markup {
    let pictures = thumbs.iter().filter_map(|thumb| Some((run.cells.get(thumb.cell)?, &thumb.moment, &thumb.png)));
    html! {
        h2 { "Worst moments" }
        p {
            "Filled: what the model predicted. Light contour: what was true. The frames with the lowest J that count, "
            "at most one per object."
        }
        .moments {
            @for (cell, m, png) in pictures {
                @let name = cell_name(run, cell);
                @let text =
                    clean(&format!("{name}: {}, object {}, frame {}, J {:.1}", m.video, m.object, m.frame, m.j));
                figure.moment {
                    img alt={ (text) ": predicted mask and true contour" }
                        src={ "data:image/png;base64," (BASE64_STANDARD.encode(png)) };
                    figcaption { (text) }
                }
            }
        }
    }
}

/// Precision of every cell: asked, in effect, and what supports it. Graphs that agree share a row.
fn precisions(run: &RunRecord) -> Markup {
    html! {
        h2 { "Precision" }
        .wide {
            table {
                caption { "What was asked for, what was in effect, and how we know" }
                (head(&["cell", "graphs", "asked", "in effect", "evidence"], 5))
                tbody {
                    @for cell in &run.cells {
                        @for (graphs, p) in alike(cell) {
                            tr {
                                th scope="row" { (cell_name(run, cell)) }
                                td { (clean(&graphs.join(", ").replace('_', " "))) }
                                td { (p.requested) }
                                td { (clean(&p.effective)) }
                                td.prose { (clean(&p.evidence.join("; "))) }
                            }
                        }
                    }
                }
            }
        }
        @if run.cells.iter().any(CellRecord::emulated) {
            p {
                "Emulated means: this device has no kernels of that precision; operands are rounded to it and the sums "
                "are kept in fp32. Its scores are those of the precision, its speed is not."
            }
        }
    }
}

/// Graphs of a cell by what is known of their precision.
fn alike(cell: &CellRecord) -> Vec<(Vec<&str>, &StagePrecision)> {
    let mut rows: Vec<(Vec<&str>, &StagePrecision)> = Vec::new();
    for p in &cell.precision {
        let known = (p.requested, &p.effective, p.kind, &p.evidence);
        match rows.iter_mut().find(|(_, o)| (o.requested, &o.effective, o.kind, &o.evidence) == known) {
            Some((graphs, _)) => graphs.push(&p.graph),
            None => rows.push((vec![&p.graph], p)),
        }
    }
    rows
}

/// The board, in its own words.
fn device(run: &RunRecord) -> Markup {
    let digest = if run.device.digest.is_empty() { "none: several devices" } else { &run.device.digest };
    let facts = run.device.facts.iter().map(|(k, v)| (k.replace('_', " "), v.clone()));
    html! {
        section.card {
            h2 { "Device: " (clean(&run.device.name)) }
            (pairs(facts.chain([("digest".to_string(), digest.to_string())])))
        }
    }
}

/// What lies behind every cell. Folded text is not printed; a few cells are shown at once.
fn cells(run: &RunRecord) -> Markup {
    html! {
        h2 { "Behind the figures" }
        @for cell in &run.cells {
            @let verdict = cell.verdict.as_str();
            @let words = cell.verdict_words();
            details open[run.cells.len() <= 6] {
                summary { (cell_name(run, cell)) " " span.word.(verdict) { (words) } }
                (cell::behind(cell))
            }
        }
    }
}

/// Command, device, data, settings.
fn reproduce(run: &RunRecord) -> Markup {
    let command: Vec<String> = run.argv.iter().map(|a| shell_word(a)).collect();
    let origin = &run.origin;
    let mut facts = vec![
        ("run", run.run_id.clone()),
        ("started", run.started.clone()),
        ("finished", run.finished.clone().unwrap_or_else(|| "not finished".to_string())),
        ("jetbench", run.version.clone()),
        ("data", format!("{} ({}), scored as {}", run.data.root, run.data.layout, run.data.protocol)),
    ];
    let mut digest = |name, value: &str| facts.extend((!value.is_empty()).then(|| (name, value.to_string())));
    digest("started in", &origin.directory);
    digest("program, SHA-256", &origin.program_sha256);
    digest("job, SHA-256", &origin.job_sha256);
    digest("list of videos, SHA-256", &run.data.list_sha256);
    digest("frames and annotations, SHA-256", &run.data.content_sha256);
    let mut packs: Vec<String> = run.cells.iter().map(|c| format!("{} {}", c.pack, c.pack_digest)).collect();
    packs.dedup();
    facts.push(("packs, SHA-256", packs.join(", ")));
    if let Some(shard) = origin.shard {
        facts.push(("part of the videos", shard.to_string()));
    }
    for resumed in &origin.resumed {
        facts.push(("resumed", format!("{}, {} kept", resumed.at, plural(resumed.kept, "sequence", "sequences"))));
    }
    for part in &origin.parts {
        let shard = part.shard.map_or_else(|| "all".to_string(), |s| format!("part {s}"));
        facts.push(("joined from", format!("{} ({shard}, {} {})", part.run_id, part.device, part.device_digest)));
    }
    html! {
        h2 { "How to do it again" }
        pre { code { (clean(&command.join(" "))) } }
        (pairs(facts))
        @if !run.settings.is_empty() {
            details {
                summary { "Every setting in effect" }
                (pairs(run.settings.iter().map(|(name, value)| (name.as_str(), value.to_string()))))
            }
        }
    }
}

/// A list of names and values.
fn pairs<K: AsRef<str>>(facts: impl IntoIterator<Item = (K, String)>) -> Markup {
    html! {
        dl { @for (name, value) in facts { dt { (clean(name.as_ref())) } dd { (clean(&value)) } } }
    }
}

/// A table's head; titles from `numbers` on stand over numbers.
fn head(titles: &[&str], numbers: usize) -> Markup {
    html! {
        thead {
            tr {
                @for (i, title) in titles.iter().enumerate() {
                    th scope="col" class=[(i >= numbers).then_some("number")] { (title) }
                }
            }
        }
    }
}
