//! What does a reader see first? `report.html`: one self-contained file with the headline table, the figures, every
//! warning, and how to reproduce it. Readable in light and dark, on a phone, on a wide screen and on paper.

mod agreement;
mod cell;
pub mod changes;
mod found;
mod headline;
pub mod history;
mod labels;
mod moments;
mod objects;
mod shell;
mod understanding;

use maud::{Markup, PreEscaped, html};

use self::shell::{folded, notes, page, pairs};
use crate::report::closing::Closing;
use crate::report::plot::{Figure, paper};
use crate::report::table::{self, cell_name};
use crate::report::thumb::Thumb;
use crate::results::record::{CellRecord, RunRecord, Verdict};
use crate::text::{clean, plural, shell_word};

/// Figures that stand in the report itself; a full data set has dozens more, which lie beside it under `plots/`.
const INLINE: usize = 12;

/// The report, with figures drawn by [`crate::report::plot::figures_with`], and pictures.
pub fn report(run: &RunRecord, figures: &[Figure], thumbs: &[Thumb]) -> String {
    let title = format!("jetbench on {}", clean(&run.device.name));
    let closing = Closing::of(run);
    let body = html! {
        p.under { (table::heading(run)) }
        @if let Some(banner) = &closing.banner { p.verdict.invalid { strong { (banner) "." } } }
        (verdict(run, &closing))
        (headline::table(run))
        (beside(&closing))
        (drawings(figures))
        (agreement::section(run))
        (moments::lost(run, thumbs))
        (moments::switched(run, thumbs))
        (forecast(run))
        (device(run))
        (cells(run))
        (reproduce(run))
        (understanding::section())
    };
    page(&title, &run.version, &body)
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

/// What must be read beside the headline table.
fn beside(closing: &Closing) -> Markup {
    html! {
        @if let Some(unscored) = &closing.unscored { p { (unscored) "." } }
        @if let Some(answer) = &closing.answer { p { strong { (answer) } } }
        @if !closing.reasons.is_empty() || !closing.warnings.is_empty() {
            h2 { "Warnings" }
            ul.notes { @for reason in &closing.reasons { li.warning { (reason) } } }
            @for warning in &closing.warnings { (folded(&warning.line, &notes(&warning.seen))) }
        }
        @if !closing.legend.is_empty() {
            h2 { "How to read it" }
            ul.notes { @for line in &closing.legend { li { (line) } } }
        }
    }
}

/// How wrong the forecast was, where one was made.
fn forecast(run: &RunRecord) -> Markup {
    let errors = run.forecast.as_ref().map(|forecast| forecast.errors()).unwrap_or_default();
    html! {
        @if !errors.is_empty() {
            h2 { "Forecast" }
            p { "What was estimated from earlier runs before this one began, and what was then measured." }
            ul.notes { @for line in &errors { li { (clean(line)) } } }
        }
    }
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

/// What lies behind every cell: a line for its precision and settings, and one for everything else.
fn cells(run: &RunRecord) -> Markup {
    html! {
        @if run.cells.iter().any(|c| !c.precision.is_empty()) {
            h2 { "Precision and settings" }
            @for cell in &run.cells { (cell::precision(run, cell)) }
        }
        h2 { "Behind the figures" }
        @for cell in &run.cells {
            @let verdict = cell.verdict.as_str();
            details.printed {
                summary { (cell_name(run, cell)) " " span.word.(verdict) { (cell.verdict_words()) } }
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
        ("data", format!("{} ({}), {}", run.data.root, run.data.layout, run.scoring())),
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
    let of_cell = |c: &CellRecord| {
        let detector = c.detector.as_ref().map(|d| (d.pack.clone(), d.licence.clone()));
        let labels = c.labels.as_ref().map(|l| (l.pack.clone(), l.licence.clone()));
        let all = std::iter::once((c.pack.clone(), c.licence.clone())).chain(detector).chain(labels);
        all.filter(|(_, licence)| !licence.is_empty())
    };
    let mut licences: Vec<String> =
        run.cells.iter().flat_map(of_cell).map(|(pack, licence)| format!("{pack} {licence}")).collect();
    licences.sort();
    licences.dedup();
    facts.extend((!licences.is_empty()).then(|| ("licences of packs", licences.join(", "))));
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
        h2 { "Reproduce" }
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
