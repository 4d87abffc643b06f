//! `report.html`: one self-contained file with the headline table, the figures, every warning, and how to do it again.
//! No script, no fetched part; readable in light and dark and on paper. Everything that came from outside is escaped.

use std::fmt::Write as _;

use crate::report::plot::{self, Figure, stages};
use crate::report::table::{self, Sheet, cell_name, strip_marks};
use crate::report::thumb::Thumb;
use crate::results::record::{CellRecord, RunRecord, Verdict};
use crate::telemetry::key::MemoryPhase;
use crate::text::{clean, escape, figure, plural, shell_word};

/// Figures that stand in the report itself; a full data set has dozens more, which lie beside it under `plots/`.
const INLINE: usize = 12;

/// The report, with figures drawn by [`crate::report::plot::figures_with`], and pictures.
pub fn report(run: &RunRecord, figures: &[Figure], thumbs: &[Thumb]) -> String {
    let mut out = String::new();
    let title = format!("jetbench on {}", clean(&run.device.name));
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"jetbench {}\">\n<title>{}</title>\n<style>{STYLE}{}</style>\n</head>\n<body>\n<main>\n",
        escape(&run.version),
        escape(&title),
        plot::paper::dark_style("figure")
    );
    let _ = writeln!(out, "<h1>{}</h1>", escape(&title));
    let _ = writeln!(out, "<p class=\"under\">{}</p>", escape(&table::heading(run)));
    verdict(&mut out, run);
    headline(&mut out, run);
    out.push_str("<h2>Figures</h2>\n");
    for figure in figures.iter().take(INLINE) {
        let _ = writeln!(out, "<figure>{}</figure>", figure.svg());
    }
    if figures.is_empty() {
        out.push_str("<p>Nothing was measured that could be drawn.</p>\n");
    }
    if figures.len() > INLINE {
        let more = plural(figures.len() - INLINE, "more figure lies", "more figures lie");
        let _ = writeln!(out, "<p>{more} beside this file, under <code>plots/</code>.</p>");
    }
    moments(&mut out, run, thumbs);
    precisions(&mut out, run);
    device(&mut out, run);
    cells(&mut out, run);
    reproduce(&mut out, run);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// How many cells may be quoted, before any figure.
fn verdict(out: &mut String, run: &RunRecord) {
    let count = |want: fn(&Verdict) -> bool| run.cells.iter().filter(|c| want(&c.verdict)).count();
    let valid = count(|v| matches!(v, Verdict::Valid));
    let invalid = count(|v| matches!(v, Verdict::Invalid { .. }));
    let failed = count(|v| matches!(v, Verdict::Failed { .. }));
    let class = match (invalid, failed) {
        (0, 0) => "valid",
        (_, 0) => "invalid",
        _ => "failed",
    };
    let _ = writeln!(
        out,
        "<p class=\"verdict {class}\"><strong>{valid} of {} cells valid</strong>{}{}{}</p>",
        run.cells.len(),
        if invalid > 0 { format!(", {invalid} not valid") } else { String::new() },
        if failed > 0 { format!(", {failed} failed") } else { String::new() },
        match &run.stopped {
            Some(why) => format!(". The run stopped early: {}.", escape(&clean(why))),
            None => ".".to_string(),
        }
    );
}

/// The headline table and its notes.
fn headline(out: &mut String, run: &RunRecord) {
    let sheet = Sheet::new(run);
    out.push_str(
        "<div class=\"wide\"><table>\n<caption>One row per cell: model, precision and device</caption>\n<thead><tr>",
    );
    for column in &sheet.columns {
        let class = if column.number { " class=\"number\"" } else { "" };
        let _ = write!(out, "<th scope=\"col\"{class}>{}</th>", escape(&column.title).replace('\n', "<br>"));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in 0..sheet.rows {
        let _ = write!(out, "<tr class=\"{}\">", run.cells[row].verdict.as_str());
        for column in &sheet.columns {
            let class = match (column.number, column.title.as_str()) {
                (true, _) => " class=\"number\"",
                (_, "verdict") => " class=\"word\"",
                _ => "",
            };
            let value = escape(&strip_marks(&column.values[row]));
            let _ = match column.title.as_str() {
                "model" => write!(out, "<th scope=\"row\">{value}</th>"),
                _ => write!(out, "<td{class}>{value}</td>"),
            };
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    let notes = table::footnotes(run, &sheet);
    if !notes.is_empty() {
        out.push_str("<h2>Warnings, remedies, notes</h2>\n<ul class=\"notes\">\n");
        for note in notes {
            let class = if note.starts_with('[') { " class=\"warning\"" } else { "" };
            let _ = writeln!(out, "<li{class}>{}</li>", escape(&note));
        }
        out.push_str("</ul>\n");
    }
}

/// What lies behind every cell: intervals, stages, memory, precision, options.
fn cells(out: &mut String, run: &RunRecord) {
    out.push_str("<h2>Behind the figures</h2>\n");
    // Folded text is not printed; a few cells are shown at once.
    let open = if run.cells.len() <= 6 { " open" } else { "" };
    for cell in &run.cells {
        let _ = writeln!(
            out,
            "<details{open}><summary>{} <span class=\"word {}\">{}</span></summary>",
            escape(&cell_name(run, cell)),
            cell.verdict.as_str(),
            cell.verdict.as_str()
        );
        let mut facts: Vec<(String, String)> = Vec::new();
        let mut fact = |name: &str, value: String| facts.push((name.to_string(), value));
        fact("verdict", clean(&format!("{} {}", cell.verdict.as_str(), cell.verdict.reasons())));
        fact("pack", format!("{}, manifest digest {}", cell.pack, cell.pack_digest));
        fact(
            "precision",
            format!("asked {}, in effect {}", cell.dtype, cell.effective_dtype.as_deref().unwrap_or("unknown")),
        );
        if let Some(runtime) = &cell.runtime {
            fact("ONNX Runtime", format!("{} ({})", runtime.version, runtime.path));
        }
        if let Some(ms) = cell.load_ms {
            fact("load", format!("{} ms", figure(ms)));
        }
        if let Some(warmup) = &cell.warmup {
            let time = warmup.warmup_ms.map_or_else(String::new, |ms| format!(", {} ms", figure(ms)));
            let frame = match (&warmup.frame_error, warmup.frame_ok) {
                (Some(error), _) => format!("failed: {error}"),
                (None, true) => "passed".to_string(),
                (None, false) => "failed".to_string(),
            };
            let faults =
                if warmup.faults.is_empty() { String::new() } else { format!("; {}", warmup.faults.join(", ")) };
            fact("warm-up frame", format!("{frame}{time}{faults}"));
            if let Some(ok) = warmup.load_only_ok {
                let error = warmup.load_only_error.as_deref().map_or_else(String::new, |e| format!(": {e}"));
                fact("load alone", format!("{}{error}", if ok { "worked" } else { "failed" }));
            }
        }
        // A failed cell shows its reason, never a figure.
        let figures = !matches!(cell.verdict, Verdict::Failed { .. });
        if let Some(s) = cell.summary.as_ref().filter(|_| figures) {
            if let (Some(jf), Some(i)) = (s.jf, s.jf_interval) {
                fact("J&F", format!("{jf:.2}, 95 % interval {:.2} to {:.2} over videos", i.low, i.high));
            }
            if let (Some(fps), Some(i)) = (s.fps_wall, s.fps_wall_interval) {
                let [fps, low, high] = [fps, i.low, i.high].map(figure);
                fact("frames per second", format!("{fps}, 95 % interval {low} to {high} over videos"));
            }
            if let Some(share) = s.overhead_share {
                fact("outside the sessions", format!("{:.1} % of the latency", share * 100.0));
            }
        }
        for (rail, joules) in &cell.energy_j {
            let above = cell.energy_above_idle_j.get(rail).zip(cell.idle_power_w.get(rail));
            let above = above.map_or_else(String::new, |(j, w)| {
                format!("; {} J above an idle power of {} W", figure(*j), figure(*w))
            });
            fact("energy", format!("{} J on rail {rail}, over the tracked videos{above}", figure(*joules)));
        }
        timing(&mut fact, cell, figures);
        if !cell.sensors.unjudged.is_empty() {
            fact("could not be judged here", clean(&cell.sensors.unjudged.join("; ")));
        }
        for dropped in &cell.options.dropped {
            fact("option not passed on", format!("{} = {}: {}", dropped.name, dropped.value, dropped.reason));
        }
        if !cell.options.passed.is_empty() {
            let passed: Vec<String> = cell.options.passed.iter().map(|(k, v)| format!("{k} = {v}")).collect();
            fact("options passed on", passed.join(", "));
        }
        pairs(out, facts.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        if figures {
            stages(out, cell);
            repeats(out, cell);
        }
        memory(out, cell);
        sensors(out, cell);
        out.push_str("</details>\n");
    }
}

/// Times that the headline table has no room for.
fn timing(fact: &mut impl FnMut(&str, String), cell: &CellRecord, figures: bool) {
    fact("scenario", cell.scenario.to_string());
    if let Some(ms) = cell.warmup.as_ref().and_then(|w| w.first_mask_ms) {
        fact("time to first mask", format!("{} ms from the start of loading", figure(ms)));
    }
    if let Some(ms) = super::csv::engine_build_ms(cell) {
        fact("engine build", format!("{} ms", figure(ms)));
    }
    let Some(s) = cell.summary.as_ref().filter(|_| figures) else { return };
    if let Some(ms) = s.jitter_ms {
        fact("jitter", format!("{} ms between neighbouring frames, on average", figure(ms)));
    }
    if let Some(missed) = s.deadline_misses {
        fact(
            "deadlines missed",
            format!("{missed} of {} frames took longer than the time to the clip's next", s.frames),
        );
    }
    if let Some(dropped) = s.dropped {
        let response = s.response.map_or_else(String::new, |r| {
            format!("; from arrival to masks p50 {} ms, p95 {} ms", figure(r.p50_ms), figure(r.p95_ms))
        });
        fact("real time", format!("{dropped} frames dropped, {} worked on{response}", s.frames));
    }
    match &s.steady {
        Some(steady) => fact(
            "steady state",
            format!(
                "begins after {} frames; p50 {} ms and p95 {} ms in it, {} ms and {} ms over all",
                steady.begins_after,
                figure(steady.latency.p50_ms),
                figure(steady.latency.p95_ms),
                figure(s.latency.map_or(f64::NAN, |l| l.p50_ms)),
                figure(s.latency.map_or(f64::NAN, |l| l.p95_ms))
            ),
        ),
        None => fact(
            "steady state",
            "not found: too few frames to tell, too restless, or it never came (then the verdict says so)".into(),
        ),
    }
    if let (Some(jf), Some(i)) = (s.jf, s.jf_objects_interval) {
        fact("J&F over objects", format!("{jf:.2}, 95 % interval {:.2} to {:.2}", i.low, i.high));
    }
}

/// Every repeat, and the intervals over them.
fn repeats(out: &mut String, cell: &CellRecord) {
    if cell.repeats.is_empty() {
        return;
    }
    out.push_str(
        "<h3>Repeats in fresh processes</h3>\n<table><thead><tr><th scope=\"col\">repeat</th><th scope=\"col\">verdict</th><th scope=\"col\" class=\"number\">FPS wall</th>\
         <th scope=\"col\" class=\"number\">p50, ms</th><th scope=\"col\" class=\"number\">p95, ms</th><th scope=\"col\" class=\"number\">load, ms</th></tr></thead><tbody>\n",
    );
    let show = |value: Option<f64>| value.map_or_else(|| "–".to_string(), figure);
    for r in &cell.repeats {
        let s = r.summary.as_ref();
        let latency = s.and_then(|s| s.latency);
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td></tr>",
            r.repeat,
            escape(&clean(&format!("{} {}", r.verdict.as_str(), r.verdict.reasons()))),
            show(s.and_then(|s| s.fps_wall)),
            show(latency.map(|l| l.p50_ms)),
            show(latency.map(|l| l.p95_ms)),
            show(r.load_ms)
        );
    }
    out.push_str("</tbody></table>\n");
    let spread = cell.summary.as_ref().and_then(|s| s.repeats?.latency_p50_ms);
    if let Some(spread) = spread {
        let range = |i: Option<crate::results::record::Interval>| {
            i.map_or_else(|| "too few repeats".to_string(), |i| format!("{} to {} ms", figure(i.low), figure(i.high)))
        };
        let _ = writeln!(
            out,
            "<p>Median latency: {} ms; 95 % interval of that median {}; one more run is expected within {}.</p>",
            figure(spread.median),
            range(spread.interval),
            range(spread.next_run)
        );
    }
}

/// Sensors that gave nothing, with the reason.
fn sensors(out: &mut String, cell: &CellRecord) {
    if cell.sensors.missing.is_empty() {
        return;
    }
    let read = cell.sensors.read.len();
    let _ = writeln!(out, "<h3>Sensors not read</h3>\n<p>{read} quantities were read. These were not:</p>");
    pairs(out, cell.sensors.missing.iter().map(|m| (m.sensor.as_str(), m.reason.as_str())));
}

/// Mean time per stage.
fn stages(out: &mut String, cell: &CellRecord) {
    let Some(means) = stages::means(cell) else { return };
    let total: f64 = means.iter().map(|m| m.1).sum();
    out.push_str(
        "<h3>Time per frame, by stage</h3>\n<table><thead><tr><th scope=\"col\">stage</th><th scope=\"col\" \
         class=\"number\">mean, ms</th><th scope=\"col\" class=\"number\">share</th></tr></thead><tbody>\n",
    );
    for (stage, ms) in means {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"number\">{ms:.2}</td><td class=\"number\">{:.1} %</td></tr>",
            escape(&clean(&stage)),
            100.0 * ms / total
        );
    }
    out.push_str("</tbody></table>\n");
}

/// Memory by phase; sources stand beside each other and are never added.
fn memory(out: &mut String, cell: &CellRecord) {
    if cell.memory.is_empty() {
        return;
    }
    out.push_str(
        "<h3>Memory, MiB</h3>\n<table><thead><tr><th scope=\"col\">phase</th><th scope=\"col\" class=\"number\">system, fall of \
         MemAvailable</th><th scope=\"col\" class=\"number\">Pss of the worker</th><th scope=\"col\" class=\"number\">resident \
         set</th><th scope=\"col\" class=\"number\">of it in huge pages</th></tr></thead><tbody>\n",
    );
    for (phase, m) in MemoryPhase::IN_LIFE_ORDER.iter().filter_map(|phase| Some((phase, cell.memory.get(phase)?))) {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", phase.as_str());
        for value in [m.system_mib, m.pss_mib, m.rss_mib, m.huge_mib] {
            let text = value.map_or_else(|| "–".to_string(), |v| format!("{v:.1}"));
            let _ = write!(out, "<td class=\"number\">{text}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
}

/// Precision of every cell: asked, in effect, and what supports it. Graphs that agree share a row.
fn precisions(out: &mut String, run: &RunRecord) {
    if run.cells.iter().all(|c| c.precision.is_empty()) {
        return;
    }
    out.push_str("<h2>Precision</h2>\n<div class=\"wide\"><table>\n<caption>What was asked for, what was in effect, and how we know</caption>\n<thead><tr>");
    for title in ["cell", "graphs", "asked", "in effect", "evidence"] {
        let _ = write!(out, "<th scope=\"col\">{title}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for cell in &run.cells {
        let mut rows: Vec<(Vec<&str>, &jetbench_runners::types::StagePrecision)> = Vec::new();
        for p in &cell.precision {
            let alike = |o: &&mut (Vec<&str>, &jetbench_runners::types::StagePrecision)| {
                (o.1.requested, &o.1.effective, o.1.kind, &o.1.evidence)
                    == (p.requested, &p.effective, p.kind, &p.evidence)
            };
            match rows.iter_mut().find(alike) {
                Some((graphs, _)) => graphs.push(&p.graph),
                None => rows.push((vec![&p.graph], p)),
            }
        }
        for (graphs, p) in rows {
            let _ = writeln!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td class=\"prose\">{}</td></tr>",
                escape(&cell_name(run, cell)),
                escape(&clean(&graphs.join(", ").replace('_', " "))),
                p.requested,
                escape(&clean(&p.effective)),
                escape(&clean(&p.evidence.join("; ")))
            );
        }
    }
    out.push_str("</tbody></table></div>\n");
    if run.cells.iter().any(CellRecord::emulated) {
        out.push_str(
            "<p>Emulated means: this device has no kernels of that precision; operands are rounded to it and the sums are \
             kept in fp32. Its scores are those of the precision, its speed is not.</p>\n",
        );
    }
}

/// The board, in its own words.
fn device(out: &mut String, run: &RunRecord) {
    let _ = writeln!(out, "<section class=\"card\">\n<h2>Device: {}</h2>", escape(&clean(&run.device.name)));
    let digest = if run.device.digest.is_empty() { "none: several devices" } else { &run.device.digest };
    let facts = run.device.facts.iter().map(|(k, v)| (k.replace('_', " "), v.clone()));
    let facts: Vec<(String, String)> = facts.chain([("digest".to_string(), digest.to_string())]).collect();
    pairs(out, facts.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    out.push_str("</section>\n");
}

/// Pictures of the frames on which objects were lost.
fn moments(out: &mut String, run: &RunRecord, thumbs: &[Thumb]) {
    if thumbs.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Worst moments</h2>\n<p>Filled: what the model predicted. Light contour: what was true. The frames with the lowest J \
         that count, at most one per object.</p>\n<div class=\"moments\">\n",
    );
    for thumb in thumbs {
        let Some(cell) = run.cells.get(thumb.cell) else { continue };
        let m = &thumb.moment;
        let text =
            format!("{}: {}, object {}, frame {}, J {:.1}", cell_name(run, cell), m.video, m.object, m.frame, m.j);
        let text = escape(&clean(&text));
        let _ = writeln!(
            out,
            "<figure class=\"moment\"><img alt=\"{text}: predicted mask and true contour\" \
             src=\"data:image/png;base64,{}\"><figcaption>{text}</figcaption></figure>",
            base64(&thumb.png)
        );
    }
    out.push_str("</div>\n");
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - part.len()));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= part.len() { digit } else { '=' });
        }
    }
    out
}

/// Command, device, data, settings.
fn reproduce(out: &mut String, run: &RunRecord) {
    let command: Vec<String> = run.argv.iter().map(|a| shell_word(a)).collect();
    let _ = writeln!(out, "<h2>How to do it again</h2>\n<pre><code>{}</code></pre>", escape(&command.join(" ")));
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
    pairs(out, facts.iter().map(|(k, v)| (*k, v.as_str())));
    if !run.settings.is_empty() {
        out.push_str("<details><summary>Every setting in effect</summary>\n");
        let settings: Vec<(&str, String)> = run.settings.iter().map(|(k, v)| (k.as_str(), v.to_string())).collect();
        pairs(out, settings.iter().map(|(k, v)| (*k, v.as_str())));
        out.push_str("</details>\n");
    }
}

/// A list of names and values.
fn pairs<'a>(out: &mut String, facts: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push_str("<dl>\n");
    for (name, value) in facts {
        let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(&clean(name)), escape(&clean(value)));
    }
    out.push_str("</dl>\n");
}

/// Colours are variables, so that a test can compute their contrast in both schemes. What figures
/// look like in the dark, their own module says.
const STYLE: &str = "
:root{color-scheme:light dark;--ink:#212529;--soft:#5c636a;--paper:#ffffff;--card:#f8f9fa;--rule:#dee2e6;--good:#00704f;--warn:#8a5a00;--bad:#b00020}
@media (prefers-color-scheme:dark){:root{--ink:#e9ecef;--soft:#adb5bd;--paper:#16191c;--card:#1e2226;--rule:#3a4147;--good:#4cc38a;--warn:#e6b34d;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1240px;margin:0 auto;padding:24px 20px 64px}
h1{font-size:1.7rem;line-height:1.2;margin:0;overflow-wrap:anywhere}h2{font-size:1.25rem;margin:2.2em 0 .6em}h3{font-size:1rem;margin:1.2em 0 .4em}
.under{color:var(--soft);margin:.4em 0 1em;overflow-wrap:anywhere}
.verdict{border-left:4px solid var(--good);padding:.3em .8em}.verdict.invalid{border-color:var(--warn)}.verdict.failed{border-color:var(--bad)}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.94rem}
caption{text-align:left;color:var(--soft);padding-bottom:.4em}
th,td{padding:.35em .8em;text-align:left;border-bottom:1px solid var(--rule);vertical-align:bottom}
tbody th,tbody td{vertical-align:top}
thead th{color:var(--soft);font-weight:600}tbody th{font-weight:600}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.prose{min-width:22em}
tr.valid .word,.word.valid{color:var(--good)}tr.invalid .word,.word.invalid{color:var(--warn)}tr.failed .word,.word.failed{color:var(--bad)}
tr.invalid .number{color:var(--soft)}
.notes{color:var(--soft);padding-left:1.2em;font-size:.94rem;overflow-wrap:anywhere}.notes .warning{color:var(--ink)}
figure{margin:1.6em 0;background:var(--card);border:1px solid var(--rule);border-radius:6px;overflow-x:auto}
figure svg{display:block;width:100%;min-width:760px;height:auto}
.moments{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:14px}
.moment{margin:0}.moment img{display:block;width:100%;height:auto}.moment figcaption{padding:.5em .7em;font-size:.86rem;overflow-wrap:anywhere}
.card{background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:0 1.1em;margin-top:2.2em}.card h2{margin-top:.8em}
details{border-bottom:1px solid var(--rule);padding:.5em 0}summary{cursor:pointer;font-weight:600}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15em 1.2em;margin:.8em 0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
pre{overflow-x:auto;border:1px solid var(--rule);border-radius:6px;padding:.8em 1em;white-space:pre-wrap;overflow-wrap:anywhere}
@media (max-width:620px){main{padding:16px 12px 48px}dl{grid-template-columns:1fr;gap:0}dd{margin:0 0 .5em}th,td{padding:.3em .5em}}
@media print{:root{color-scheme:light;--ink:#000000;--soft:#333333;--paper:#ffffff;--card:#ffffff}main{max-width:none;padding:0}figure,tr,.card{break-inside:avoid}h2,h3{break-after:avoid}.wide,figure{overflow:visible}figure svg{min-width:0}table{font-size:.72rem}}
";
