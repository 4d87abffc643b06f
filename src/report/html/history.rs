//! The page of `history`: every job with its trend and its runs.

use std::path::Path;

use maud::{PreEscaped, html};

use super::shell::{page, table};
use crate::judge::noise::Series;
use crate::report::closing::banner_of_history;
use crate::report::plot::{self, paper};
use crate::results::rows::Row;
use crate::text::{clean, plural, show};

/// The runs below a results directory, by job.
pub fn history(series: &[Series], out: &Path, version: &str) -> String {
    let runs: usize = series.iter().map(|s| s.rows.len()).sum();
    let body = html! {
        p.under { (clean(&out.display().to_string())) " · " (plural(series.len(), "job", "jobs")) " · " (plural(runs, "run", "runs")) }
        @if let Some(banner) = banner_of_history(series) { p.verdict.invalid { strong { (banner) "." } } }
        @for one in series {
            h2 { (clean(&one.name)) }
            p {
                (plural(one.rows.len(), "run", "runs")) ", noise of latency " (format!("{:.1} %", one.floor.share * 100.0))
                " (" (clean(&one.floor.from)) ")."
            }
            figure { (PreEscaped(paper::themed(plot::history::figure(std::slice::from_ref(one)).svg()))) }
            (table("Newest first", &TITLES, (2, 5), one.rows.iter().rev().map(|row| cells(row))))
        }
        p.under {
            "A job is one device, cell, pack, list of videos, protocol and settings; runs of another job are never in its trend. "
            "Figures of runs that are not valid stand in parentheses."
        }
    };
    page("jetbench: runs over time", version, &body)
}

const TITLES: [&str; 8] =
    ["run (UTC)", "verdict", "J&F", "FPS wall", "p50, ms", "p95, ms", "peak system, MiB", "energy, J/frame"];

fn cells(row: &Row) -> Vec<String> {
    let valid = row.verdict == "valid";
    let verdict = match row.disturbed.as_slice() {
        [] => row.verdict.clone(),
        by if valid => format!("valid, disturbed by {}", by.iter().map(|d| d.words()).collect::<Vec<_>>().join(", ")),
        _ => row.verdict.clone(),
    };
    let figures = [row.jf, row.fps_wall, row.p50_ms, row.p95_ms, row.peak_system_mib, row.energy_per_frame_j];
    let shown = figures.map(|v| match v {
        Some(_) if !valid => format!("({})", show(v)),
        _ => show(v),
    });
    [row.run_id.clone(), verdict].into_iter().chain(shown).collect()
}
