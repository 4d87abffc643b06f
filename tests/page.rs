//! What the pages look like in a browser: no table is cut and nothing runs out of the page, on a phone, a tablet, a desk and a wide
//! screen. Needs chromium; without one the test says so and passes.

use std::path::Path;

use jetbench::judge::noise::{self, Floor};
use jetbench::judge::{change, contest, repeat, summary};
use jetbench::plan::scenario::Scenario;
use jetbench::report::{html, plot};
use jetbench::results::disturbance::Disturbance;
use jetbench::results::record::{CellRecord, MemoryRecord, RunRecord};
use jetbench::results::rows::{Key, Row};
use jetbench::telemetry::key::MemoryPhase;

use crate::synthetic;
use crate::workshop::browser;

const WIDTHS: [u32; 4] = [390, 900, 1280, 1920];

/// Measures every frame of the page it stands in.
const SCRIPT: &str = r#"
addEventListener('load', () => {
  const said = [];
  for (const frame of document.querySelectorAll('iframe')) {
    const page = frame.contentDocument, width = frame.width, name = frame.title;
    page.querySelectorAll('details').forEach(d => d.open = true);
    const root = page.documentElement;
    let tables = 0;
    const check = (what, e) => { if (e.scrollWidth > e.clientWidth) said.push(`${name} at ${width}: ${what} is ${e.scrollWidth} wide, ${e.clientWidth} are seen`) };
    check('the page', root);
    page.querySelectorAll('table').forEach(t => {
      tables += 1;
      check('table ' + tables + ' (' + t.innerText.slice(0, 30) + ')', t.parentElement);
      if (t.getBoundingClientRect().right > root.clientWidth) said.push(`${name} at ${width}: table ${tables} ends outside`);
    });
    said.push(`${name} at ${width}: ${tables} tables, ${[...page.querySelectorAll('.headline thead th')].filter(h => h.offsetWidth > 0).length} columns`);
  }
  const out = document.createElement('pre');
  out.id = 'said';
  out.textContent = said.join('\n');
  document.body.replaceChildren(out);
});
"#;

/// Everything that a headline table can have: repeats, dropped frames, energy with a price, all kinds of memory, two devices.
fn every_column() -> RunRecord {
    let mut run = synthetic::run();
    run.settings = [("energy_price", "0.31".parse().unwrap()), ("currency", "EUR".into())]
        .map(|(k, v): (&str, serde_json::Value)| (k.to_string(), v))
        .into();
    for (i, cell) in run.cells.iter_mut().enumerate().filter(|(_, c)| c.summary.is_some()) {
        cell.scenario = Scenario::Realtime;
        cell.device = ["cuda:0", "tensorrt:0"][i % 2].into();
        for frame in cell.sequences.iter_mut().flat_map(|s| &mut s.frames) {
            frame.response_ms = Some(frame.latency_ms + 12.0);
        }
        cell.summary = summary::summarise(cell);
        let s = cell.summary.as_mut().unwrap();
        (s.energy_per_frame_j, s.energy_above_idle_per_frame_j) = (Some(0.4211), Some(0.3107));
        let peak = cell.memory.get_mut(&MemoryPhase::Peak).unwrap();
        *peak = MemoryRecord { gpu_mib: Some(12_345.0), ..peak.clone() };
        let runs = vec![cell.clone(); 5];
        *cell = repeat::join(runs).unwrap();
    }
    run
}

fn long_names() -> RunRecord {
    let mut run = synthetic::run();
    for cell in &mut run.cells {
        cell.pack = format!("somebodys{}finetuned_model_without_end", cell.pack.replace('_', ""));
        for sequence in &mut cell.sequences {
            sequence.video = format!("{}thiscamerawritesthewholedateintoitsnames20261126T231500", sequence.video);
        }
    }
    run
}

/// Two runs with long names: one cell slower, one worse, one in the base only.
fn compared() -> String {
    let (base, mut other) = (long_names(), long_names());
    for frame in other.cells[0].sequences.iter_mut().flat_map(|s| &mut s.frames) {
        frame.latency_ms *= 1.3;
    }
    for object in other.cells[1].sequences.iter_mut().flat_map(|s| &mut s.objects) {
        object.jf = object.jf.map(|jf| jf - 9.0);
    }
    other.cells.remove(3);
    let floor = |_: &CellRecord| Floor { share: 0.02, from: "by default: 0 quiet runs of it so far".into() };
    let (cells, unmatched) = change::pair(&base, &other, &floor);
    let [base, other] =
        ["baseline-main", "20261126T231500Z-123456"].map(|id| format!("results/some-long-board-name/{id}"));
    let page = html::changes::comparisons(&[change::Comparison { base, other, cells, unmatched }], None, "0.1.0");
    assert!(page.contains("2 of 5 cells regressed") && page.contains("is only in the base"), "{page}");
    assert!(page.contains("+30.0 %") && page.contains("-9.00") && page.contains("What changed"), "{page}");
    page
}

fn models() -> String {
    let run = long_names();
    let contests = contest::contests(&run, &contest::pairs(&contest::fit(&run)));
    let page = html::changes::contests(&run, &contests, 2);
    assert_eq!(page.matches("<tr>").count(), 1 + contests.len());
    assert!(page.contains("Holm") && page.contains("2 cells are not valid and left out"));
    page
}

fn history() -> String {
    let run = long_names();
    let row = |i: usize| Row {
        test_model: None,
        key: Key::of(&run, &run.cells[i % 2]),
        run_id: format!("202611{:02}T093000Z-000000", i + 1),
        dir: "results".into(),
        verdict: if i == 7 { "invalid" } else { "valid" }.into(),
        planned: 6,
        disturbed: if i == 4 { vec![Disturbance::Rivals, Disturbance::Drift] } else { Vec::new() },
        jf: Some(78.4),
        fps_wall: Some(20.0),
        p50_ms: Some(44.0 + i as f64),
        p95_ms: None,
        peak_system_mib: Some(95.5),
        energy_per_frame_j: None,
    };
    let rows: Vec<Row> = (0..12).map(row).collect();
    let page = html::history::history(&noise::series(&rows), Path::new("results"), "0.1.0");
    assert_eq!(page.matches("<svg").count(), 2, "one trend per job");
    assert!(page.contains("valid, disturbed by") && page.contains("(51.0)"), "{page}");
    page
}

#[test]
fn no_table_is_cut_on_any_screen() {
    let report = |run: RunRecord| html::report(&run, &plot::figures(&run), &[]);
    let runs = [
        ("small", report(synthetic::run())),
        ("every column", report(every_column())),
        ("long names", report(long_names())),
        ("compared", compared()),
        ("models", models()),
        ("history", history()),
    ];
    let frames: String = runs
        .iter()
        .map(|(name, page)| {
            let page = page.replace('&', "&amp;").replace('"', "&quot;");
            let frame =
                |width| format!("<iframe title=\"{name}\" width={width} height=800 srcdoc=\"{page}\"></iframe>\n");
            WIDTHS.map(frame).concat()
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("frames.html");
    std::fs::write(
        &file,
        format!("<!doctype html><body style=\"width:2000px\">{frames}<script>{SCRIPT}</script></body>"),
    )
    .unwrap();
    let dom = match browser::shown(&file, &[]) {
        Ok(dom) => dom,
        Err(reason) => return eprintln!("skipped no_table_is_cut_on_any_screen: {reason}"),
    };
    let said = dom.split("<pre id=\"said\">").nth(1).and_then(|s| s.split("</pre>").next());
    let said = said.unwrap_or_else(|| panic!("the browser measured nothing: {}", &dom[..dom.len().min(300)]));
    println!("{said}");
    let (seen, cut): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.ends_with(" columns"));
    assert_eq!(seen.len(), runs.len() * WIDTHS.len(), "{said}");
    assert!(cut.is_empty(), "{}", cut.join("\n"));
    // A wider screen shows more, and a phone what counts most.
    let of = |name: &str, width: u32| -> usize {
        let line = seen.iter().find(|l| l.starts_with(&format!("{name} at {width}:"))).unwrap();
        line.split(", ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    };
    let columns = |width| of("every column", width);
    assert!(
        runs[..3].iter().all(|(name, _)| of(name, 390) >= 6)
            && WIDTHS.windows(2).all(|w| columns(w[0]) < columns(w[1])),
        "{said}"
    );
}
