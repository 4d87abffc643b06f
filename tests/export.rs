//! What other programs read of a run: their formats to the letter, and never a figure that may not be quoted.

use jetbench::judge::change::pair;
use jetbench::judge::noise::Floor;
use jetbench::report::export::{Compared, Format};
use jetbench::results::disturbance::Disturbance;
use jetbench::results::record::{CellRecord, Interval, RunRecord, Verdict};

use crate::synthetic;
use crate::workshop::{Workshop, text};

const FIGURES: [Format; 2] = [Format::Bmf, Format::Prometheus];

/// Four valid cells, an invalid one and a failed one, with energy.
fn run() -> RunRecord {
    let mut run = synthetic::run();
    run.settings = [("clicks".to_string(), 1.into()), ("out".to_string(), "results".into())].into();
    let summary = run.cells[0].summary.as_mut().unwrap();
    summary.energy_per_frame_j = Some(0.75);
    run.cells[1].disturbed = vec![Disturbance::Rivals];
    run
}

#[test]
fn every_format_is_as_its_readers_want_it() {
    for format in [Format::Bmf, Format::Junit, Format::Prometheus] {
        let mut text = format.text(&run(), None);
        if format == Format::Junit {
            // The table is what tests/terminal.rs tests.
            let table = text.find("<system-out>").unwrap()..text.find("</system-out>").unwrap();
            assert!(text[table.clone()].contains("  (74.8)  "), "{text}");
            text.replace_range(table, "<system-out>…");
        }
        insta::assert_snapshot!(format.flag(), text);
    }
}

#[test]
fn a_figure_that_may_not_be_quoted_is_in_no_format_of_figures() {
    let jf = |run: &RunRecord| format!("{:?}", run.cells[0].summary.as_ref().unwrap().jf.unwrap());
    let valid = run();
    let broken =
        [Verdict::Invalid { reasons: Vec::new() }, Verdict::Failed { error: "hung".into(), phase: "track".into() }];
    for verdict in broken {
        for format in FIGURES {
            assert!(format.text(&valid, None).contains(&jf(&valid)), "{format:?}");
            let mut run = run();
            run.cells[0].verdict = verdict.clone();
            assert!(!format.text(&run, None).contains(&jf(&run)), "{format:?}");
            run.cells.iter_mut().for_each(|c| c.verdict = verdict.clone());
            match format {
                Format::Bmf => assert_eq!(format.text(&run, None), "{}\n"),
                _ => assert!(!format.text(&run, None).contains("jetbench_jf"), "{format:?}"),
            }
        }
    }
    // What was not measured is absent, never 0.
    let mut run = run();
    for cell in &mut run.cells {
        cell.memory.clear();
        let latency = cell.summary.as_mut().and_then(|s| s.latency.as_mut());
        latency.into_iter().for_each(|l| l.samples = 150);
    }
    for format in FIGURES {
        let text = format.text(&run, None);
        assert!(!text.contains("peak") && !text.contains("p95") && text.contains("p50"), "{text}");
        assert_eq!(text.matches("energy").count(), if format == Format::Bmf { 1 } else { 3 }, "{text}");
    }
}

#[test]
fn a_regression_is_a_failed_test_a_metric_and_a_paragraph() {
    let base = run();
    let mut other = run();
    for object in other.cells[1].sequences.iter_mut().flat_map(|s| &mut s.objects) {
        object.jf = object.jf.map(|jf| jf - 20.0);
    }
    let floor = |_: &CellRecord| Floor { share: 0.02, from: "by default".into() };
    let (cells, _) = pair(&base, &other, &floor);
    let told =
        |fail: bool| Compared { baseline: "main", cells: &cells, undecided: false, fail, text: "  J&F  regressed\n" };
    let metrics = Format::Prometheus.text(&other, Some(told(false)));
    let regressed: Vec<&str> = metrics.lines().filter(|l| l.starts_with("jetbench_regressed{")).collect();
    // Cells that are not valid cannot be compared.
    let values: Vec<&str> = regressed.iter().map(|l| l.rsplit(' ').next().unwrap()).collect();
    assert!(values == ["0", "1", "0", "0", "1", "1"] && regressed[0].contains("baseline=\"main\""), "{regressed:#?}");
    let markdown = Format::Markdown.text(&other, Some(told(false)));
    assert!(markdown.ends_with("\nAgainst the baseline main:\n\n      J&F  regressed\n"), "{markdown}");
    // Where it does not fail the run, it fails no test either.
    assert!(Format::Junit.text(&other, Some(told(false))).contains("tests=\"6\" failures=\"1\" errors=\"1\""));
    let junit = Format::Junit.text(&other, Some(told(true)));
    assert!(junit.contains("tests=\"12\" failures=\"4\" errors=\"1\""), "{junit}");
    let test = r#"<testcase classname="jetbench.regression" name="sam2_mini_bbox bf16 (emulated) cpu">"#;
    let failed = junit.split(test).nth(1).unwrap();
    assert!(failed.trim_start().starts_with(r#"<failure type="regressed" message="against main: J&amp;F regressed"#));
    assert_eq!(Format::Bmf.text(&other, Some(told(true))), Format::Bmf.text(&other, None));
}

#[test]
fn bounds_are_those_of_the_value() {
    let mut run = run();
    let summary = run.cells[0].summary.as_mut().unwrap();
    summary.jf_interval = Some(Interval { low: 70.0, high: 75.5 });
    summary.fps_wall_interval = None;
    let bmf = |run: &RunRecord| -> serde_json::Value { serde_json::from_str(&Format::Bmf.text(run, None)).unwrap() };
    let name = "sam2_mini_points bf16 (emulated) cpu on sa-v demo";
    let of = bmf(&run);
    assert_eq!((&of[name]["jf"]["lower_value"], &of[name]["jf"]["upper_value"]), (&70.0.into(), &75.5.into()));
    assert_eq!(of[name]["fps-wall"].as_object().unwrap().len(), 1);
    // Over repeats the value is a median, whose interval is another one than that over videos.
    let repeat = |ms: f64| {
        let mut cell = run.cells[0].clone();
        let summary = cell.summary.as_mut().unwrap();
        summary.fps_wall = Some(1000.0 / ms);
        summary.fps_wall_interval = Some(Interval { low: 0.0, high: 1.0 });
        cell
    };
    let repeats = [50.0, 50.5, 51.0, 51.5, 52.0].map(repeat).to_vec();
    let joined = synthetic::record(vec![jetbench::judge::repeat::join(repeats).unwrap()]);
    let fps = &bmf(&joined)[name]["fps-wall"];
    let [low, value, high] = ["lower_value", "value", "upper_value"].map(|k| fps[k].as_f64().unwrap());
    assert!(low <= value && value <= high && low > 1.0, "{fps}");
}

#[test]
fn names_from_outside_break_no_format() {
    let mut run = run();
    run.data.root = "a\"b}<&".into();
    run.cells[1].device = "cpu\\\n".into();
    run.cells[4].verdict = Verdict::Failed { error: "]]> <x> & \"\u{1b}[31m\nline two".into(), phase: "load".into() };
    let again = CellRecord { model: "sam2_mini_points".into(), ..run.cells[0].clone() };
    run.cells.push(again);
    let bmf: serde_json::Value = serde_json::from_str(&Format::Bmf.text(&run, None)).unwrap();
    assert_eq!(bmf.as_object().unwrap().len(), 5, "cells of one pack under two tags are two: {bmf}");
    let junit = Format::Junit.text(&run, None);
    let options = resvg::usvg::roxmltree::ParsingOptions::default();
    let document = resvg::usvg::roxmltree::Document::parse_with_options(&junit, options).unwrap();
    let count = |name: &str| document.descendants().filter(|n| n.has_tag_name(name)).count();
    assert_eq!((count("testcase"), count("failure"), count("error")), (7, 0, 2));
    let metrics = Format::Prometheus.text(&run, None);
    assert!(metrics.contains(r#"device="cpu\\ ",dataset="sa-v a\"b}<&""#), "{metrics}");
    let mut series: Vec<&str> =
        metrics.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit_once(' ').unwrap().0).collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "a series twice: {metrics}");
}

#[test]
fn a_run_and_its_report_write_the_same_files() {
    let shop = Workshop::new(2, 5);
    shop.pack("calm", "motion = [1.0, 0.0]");
    let ask = |place: &str| {
        let files = [("bmf", "json"), ("junit", "xml"), ("prometheus", "prom"), ("markdown", "md")];
        files.map(|(format, end)| format!("--export-{format}={place}/now.{end}"))
    };
    let (early, late) = (ask("early"), ask("late"));
    let job = ["--models", "calm_mask", "--data", "data", "--dtype", "fp32", "--min-frames", "1"];
    let words = |more: &[String]| more.to_vec();
    let args: Vec<String> = job.iter().map(|w| w.to_string()).chain(words(&early)).collect();
    shop.expect(0, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let args: Vec<String> = ["report", "latest"].iter().map(|w| w.to_string()).chain(words(&late)).collect();
    let said = shop.expect(0, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(said, "", "only the files that were asked for");
    let read = |place: &str, end: &str| std::fs::read_to_string(shop.path(&format!("{place}/now.{end}"))).unwrap();
    for end in ["json", "xml", "prom", "md"] {
        assert!(!read("early", end).is_empty());
        assert_eq!(read("early", end), read("late", end));
    }
    // A run that stands is handed on like one that was made now.
    let again = [&job[..], &["--if-changed", "--export-prometheus", "again.prom"]].concat();
    assert!(shop.expect(0, &again).contains("nothing has changed"));
    assert_eq!(std::fs::read_to_string(shop.path("again.prom")).unwrap(), read("early", "prom"));

    let refused = shop.output(&[&job[..], &["--export-bmf", "-", "--export-junit", "-"]].concat());
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    // A file that cannot be written takes nothing away from the run.
    let twice = shop.output(&[&job[..], &["--export-bmf", "one", "--export-junit", "one"]].concat());
    assert!(
        twice.status.code() == Some(2) && text(&twice.stderr).contains("name the same file"),
        "{}",
        text(&twice.stderr)
    );
    let asks = "export-bmf = \"./job.toml\"\n";
    std::fs::write(shop.path("job.toml"), asks).unwrap();
    let read = shop.output(&[&job[..], &["--config", "job.toml"]].concat());
    assert!(
        read.status.code() == Some(2) && text(&read.stderr).contains("this command reads it"),
        "{}",
        text(&read.stderr)
    );
    assert_eq!(std::fs::read_to_string(shop.path("job.toml")).unwrap(), asks);
    let kept = shop.output(&[&job[..], &["--export-junit", "again.prom/x.xml", "--export-bmf", "kept.json"]].concat());
    assert_eq!(kept.status.code(), Some(3));
    assert!(text(&kept.stderr).contains("--export-junit: cannot write again.prom/x.xml"), "{}", text(&kept.stderr));
    assert!(text(&kept.stdout).contains("1 of 1 valid") && shop.path("kept.json").is_file());
}

/// `scripts/boards.py` checks the row that is committed; this holds it to what the program writes of the record beside it.
#[test]
fn a_row_for_the_table_of_boards_is_that_of_the_example() {
    let shop = Workshop::new(2, 5);
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let record = example.join("example/intel-xeon/20261127T055425Z-689887");
    let said = shop.expect(0, &["report", record.to_str().unwrap(), "--export-row", "-"]);
    assert_eq!(said, std::fs::read_to_string(example.join("community/two-virtual-cores.csv")).unwrap());

    shop.pack("calm", "motion = [1.0, 0.0]").pack("sick", "[[mock.fault]]\nkind = \"error\"");
    let job =
        ["--models", "calm_mask,sick_mask", "--keep-going", "--data", "data", "--dtype", "fp32", "--min-frames", "1"];
    shop.output(&job);
    let partly = shop.output(&["report", "latest", "--export-row", "row.csv"]);
    let said = text(&partly.stderr);
    assert!(said.contains("leaves out 1 cell that is not valid"), "{said}");
    let row = std::fs::read_to_string(shop.path("row.csv")).unwrap();
    assert!(row.lines().count() == 2 && row.contains(",calm_mask,"), "{row}");
    shop.output(&["--models", "sick_mask", "--data", "data", "--dtype", "fp32"]);
    let none = shop.output(&["report", "latest", "--export-row", "none.csv"]);
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stderr));
    assert!(text(&none.stderr).contains("no cell of the run is valid") && !shop.path("none.csv").exists());
}
