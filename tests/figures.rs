//! Charts: texts that stay apart and on the page, colours for the dark, and figures that are of all repeats.

use jetbench::judge::summary;
use jetbench::report::table::Style;
use jetbench::report::{self, csv, plot, table};
use jetbench::results::record::RunRecord;
use resvg::usvg;

use crate::synthetic;

const BANNER: &str = "sam2_mini and edgetam_mini are test models; these figures do not describe SAM 2 or EdgeTAM";

/// Runs that are hard to draw: small, crowded, wide in speed, one cell, long names.
fn runs_to_draw() -> Vec<(&'static str, RunRecord)> {
    let mut wide = synthetic::run();
    for frame in wide.cells[0].sequences.iter_mut().flat_map(|s| &mut s.frames) {
        frame.latency_ms *= 20.0;
    }
    wide.cells[0].sequences.iter_mut().for_each(|s| s.wall_ms *= 20.0);
    wide.cells[0].summary = summary::summarise(&wide.cells[0]);
    wide.cells[1].device = "cuda:0".into();
    let mut one = synthetic::run();
    one.cells.truncate(1);
    one.cells[0].sequences.truncate(2);
    one.cells[0].summary = summary::summarise(&one.cells[0]);
    let mut long = synthetic::run();
    long.data.root =
        "/mnt/a_very/deep/directory/with_a_name_that_goes_on_and_on_and_on_and_on_until_nobody_reads_it".into();
    long.device.name = "a-board-whose-vendor-likes-long-names-developer-kit-super-edition".into();
    for cell in &mut long.cells {
        cell.model = format!("some_pack_with_quite_a_long_name_{}", cell.model);
    }
    for sequence in long.cells.iter_mut().flat_map(|c| &mut c.sequences) {
        sequence.video = format!("{}_of_a_series_with_a_really_rather_long_name", sequence.video);
    }
    vec![
        ("small", synthetic::run()),
        ("crowded", synthetic::crowded_run()),
        ("wide", wide),
        ("one", one),
        ("long", long),
    ]
}

/// Where every text of a picture stands, as resvg sets it: left, top of a capital, right, foot of a descender.
fn text_areas(group: &usvg::Group, areas: &mut Vec<(String, [f32; 4])>) {
    for node in group.children() {
        match node {
            usvg::Node::Group(group) => text_areas(group, areas),
            usvg::Node::Text(text) => {
                let [chunk] = text.chunks() else { panic!("{:?} is no single line", text.chunks()) };
                let (size, wide) = (chunk.spans()[0].font_size().get(), text.bounding_box());
                let baseline = chunk.y().unwrap() + text.dy()[0];
                let mut corners = [(wide.left(), baseline - 0.73 * size), (wide.right(), baseline + 0.24 * size)]
                    .map(|(x, y)| resvg::tiny_skia::Point::from_xy(x, y));
                text.abs_transform().map_points(&mut corners);
                let [a, b] = corners;
                let area = [a.x.min(b.x), a.y.min(b.y), a.x.max(b.x), a.y.max(b.y)];
                areas.push((chunk.text().trim().to_string(), area));
            }
            _ => {}
        }
    }
}

/// Rows of `telemetry.csv` of the first cell: two curves, and phases that follow each other closely.
fn sensed(run: &RunRecord) -> String {
    let cell = &run.cells[0];
    let mut out = "model,dtype,device,t_s,quantity,value,repeat\n".to_string();
    let mut row = |at: f64, quantity: &str, value: f64| {
        out.push_str(&format!("{},{},{},{at},{quantity},{value},1\n", cell.model, cell.dtype, cell.device));
    };
    for i in 0..200 {
        row(f64::from(i) / 10.0, "mem_available_mib", 5000.0 - f64::from(i % 50));
        row(f64::from(i) / 10.0, "worker_rss_mib", 100.0 + f64::from(i));
    }
    let phases = ["spawn", "idle", "load", "loaded", "warmup", "warmed"].iter().enumerate();
    for (at, phase) in
        phases.map(|(i, p)| (0.1 * i as f64, *p)).chain([(0.7, "track"), (19.5, "last"), (19.6, "score")])
    {
        row(at, &format!("phase_{phase}"), 1.0);
    }
    out
}

#[test]
fn no_text_of_a_figure_covers_another_or_leaves_the_page() {
    for (name, run) in runs_to_draw() {
        let figures = plot::figures_with(&run, sensed(&run).as_bytes());
        assert!(figures.len() >= 4 && figures.iter().any(|f| f.name.starts_with("sensed")), "{name}");
        for figure in figures {
            let tree = plot::paper::tree(figure.svg()).unwrap();
            let mut areas = Vec::new();
            text_areas(tree.root(), &mut areas);
            assert!(areas.len() > 10, "{name} {}", figure.name);
            for (i, (text, a)) in areas.iter().enumerate() {
                let (width, height) = (tree.size().width(), tree.size().height());
                let inside = a[0] >= 0.0 && a[1] >= 0.0 && a[2] <= width && a[3] <= height;
                assert!(inside, "{name} {}: {text:?} at {a:?} leaves the page", figure.name);
                for (other, b) in &areas[..i] {
                    let apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
                    assert!(apart, "{name} {}: {text:?} {a:?} covers {other:?} {b:?}", figure.name);
                }
            }
        }
    }
}

#[test]
fn figures_say_what_they_leave_out() {
    let run = synthetic::run();
    let names: Vec<String> = plot::figures(&run).into_iter().map(|f| f.name).collect();
    assert_eq!(names, ["accuracy_speed", "latency", "stages", "j_per_frame_01", "j_per_frame_02"]);
    for figure in plot::figures(&run) {
        let svg = figure.svg();
        assert!(svg.contains("edgetam_mini_points fp32 (failed)"), "{}", figure.name);
        assert!(svg.contains("sam2_mini_points fp32 (not valid)"), "{}", figure.name);
        assert!(svg.contains(BANNER), "{}", figure.name);
        assert!(svg.contains("sa-v demo") && svg.contains("synthetic-board (cpu)"), "{}", figure.name);
    }
    let crowded: Vec<String> = plot::figures(&synthetic::crowded_run()).into_iter().map(|f| f.name).collect();
    assert!(crowded.contains(&"j_per_frame_bf16_02".to_string()), "{crowded:?}");
}

/// The values of an attribute's numbers in every element of a kind that has `with` in it.
fn shapes(svg: &str, kind: &str, with: &str, attribute: &str) -> Vec<Vec<f64>> {
    let start = format!("<{kind} ");
    let elements = svg.split(&start).skip(1).map(|e| format!(" {}", e.split('>').next().unwrap()));
    let numbers = |e: String| -> Vec<f64> {
        let value = e.split(&format!(" {attribute}=\"")).nth(1).unwrap().split('"').next().unwrap();
        value.split([' ', ',']).filter_map(|n| n.parse().ok()).collect()
    };
    elements.filter(|e| e.contains(with)).map(numbers).collect()
}

#[test]
fn figures_of_a_cell_are_of_all_repeats_and_nothing_stands_right_of_max() {
    let (run, stall) = synthetic::repeated();
    assert_eq!(run.cells[0].summary.as_ref().unwrap().latency.unwrap().max_ms, stall);
    let figure = |name: &str| plot::figures(&run).into_iter().find(|f| f.name == name).unwrap();
    let latency = figure("latency");
    let svg = latency.svg();
    assert!(svg.contains("\n987\n") && svg.contains("all frames of all repeats"), "the largest of all repeats");
    let max = *shapes(svg, "circle", "", "cx").concat().last().unwrap();
    let bars = shapes(svg, "polygon", "opacity=\"0.55\" fill=\"#0072B2\"", "points");
    let ends: Vec<f64> = bars.concat().chunks(2).map(|p| p[0]).collect();
    let rightmost = ends.iter().copied().fold(f64::MIN, f64::max);
    // Drawn in tenths of a pixel.
    assert!(rightmost <= max + 10.0 && rightmost > max - 40.0, "bars end at {rightmost}, max is at {max}");
    // The bar of a lone frame stands at the end, and the slower repeat makes the histogram wider than the first repeat alone.
    let mut alone = run.clone();
    alone.cells[0].repeats.clear();
    alone.cells[0].summary = summary::summarise(&alone.cells[0]);
    let stages = |run: &RunRecord| plot::stages::means(&run.cells[0]).unwrap().iter().map(|s| s.1).sum::<f64>();
    let mean = run.cells[0].frames().map(|f| f.latency_ms).sum::<f64>() / run.cells[0].frames().count() as f64;
    assert_eq!(run.cells[0].frames().count(), 3 * 576);
    assert!((stages(&run) - mean).abs() < 1e-9 && stages(&run) > 1.15 * stages(&alone), "{mean}");
    // A timeline cannot be of several processes: it says of which it is.
    let drawn = plot::figures_with(&run, sensed(&run).as_bytes());
    let sensed = drawn.iter().find(|f| f.name.starts_with("sensed")).unwrap();
    assert!(sensed.svg().contains("repeat 1 of 3"), "{}", sensed.caption);
}

#[test]
fn odd_runs_are_drawn_or_left_out_but_never_panic() {
    let mut nothing = synthetic::run();
    nothing.cells.clear();
    assert!(plot::figures(&nothing).is_empty());
    let mut failed = synthetic::run();
    failed.cells.drain(..5);
    assert!(plot::figures(&failed).is_empty());
    let mut odd = synthetic::run();
    for cell in &mut odd.cells {
        cell.sequences.truncate(1);
        for s in &mut cell.sequences {
            s.frames.truncate(1);
            s.wall_ms = 0.0;
            s.frames[0].latency_ms = 0.0;
            s.objects[0].per_frame.truncate(1);
            s.objects[0].per_frame[0].j = f64::NAN;
            s.objects[0].j = Some(f64::NAN);
        }
        cell.summary = summary::summarise(cell);
    }
    for figure in plot::figures(&odd) {
        assert!(!figure.svg().contains("NaN,"), "{}", figure.name);
        figure.png().unwrap();
    }
    table::text(&odd, Style::default());
    csv::summary(&odd);
}

/// Writes every figure of the synthetic runs (or of the `run.json` in `RUN`) to the directory in `FIGURES`, for eyes:
/// `FIGURES=/tmp/figures cargo test --test it figures:: -- --ignored --nocapture`.
#[test]
#[ignore = "for eyes: set FIGURES to a directory"]
fn draw_figures_for_eyes() {
    let dir = std::path::PathBuf::from(std::env::var("FIGURES").expect("FIGURES names a directory"));
    std::fs::create_dir_all(&dir).unwrap();
    let mut runs: Vec<(String, RunRecord)> = runs_to_draw().into_iter().map(|(n, r)| (n.to_string(), r)).collect();
    if let Ok(path) = std::env::var("RUN") {
        runs = vec![("real".to_string(), serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())];
    }
    for (name, run) in runs {
        eprintln!("{}", table::text(&run, Style::default()));
        for figure in plot::figures(&run) {
            std::fs::write(dir.join(format!("{name}_{}.svg", figure.name)), figure.svg()).unwrap();
            std::fs::write(dir.join(format!("{name}_{}.png", figure.name)), figure.png().unwrap()).unwrap();
        }
        std::fs::write(dir.join(format!("{name}.html")), report::html::report(&run, &plot::figures(&run), &[]))
            .unwrap();
    }
}

#[test]
fn every_colour_of_a_chart_is_another_in_the_dark() {
    let css = plot::paper::style("figure");
    let blocks: Vec<&str> = css.split("figure svg{").skip(1).map(|block| block.split('}').next().unwrap()).collect();
    assert_eq!(blocks.len(), 2, "light and dark: {css}");
    let mut seen = 0;
    for (name, run) in runs_to_draw() {
        let page = report::html::report(&run, &plot::figures(&run), &[]);
        for svg in page.split("<svg").skip(1).map(|svg| svg.split("</svg>").next().unwrap()) {
            for paint in ["fill", "stroke", "stop-color", "color", "style"] {
                for value in svg.split(&format!(" {paint}=\"")).skip(1).map(|v| v.split('"').next().unwrap()) {
                    let variable = value.strip_prefix("var(").and_then(|v| v.strip_suffix(')'));
                    assert!(
                        value == "none" || variable.is_some(),
                        "{name}: {paint}=\"{value}\" is the same in the dark"
                    );
                    for block in blocks.iter().filter(|_| variable.is_some()) {
                        assert!(
                            block.contains(&format!("{}:#", variable.unwrap())),
                            "{value} is not defined in {block}"
                        );
                        seen += 1;
                    }
                }
            }
        }
    }
    assert!(seen > 1000, "{seen}");
    // Files beside the page stand alone: they hold colours.
    let run = synthetic::run();
    assert!(plot::figures(&run).iter().all(|f| !f.svg().contains("var(") && f.svg().contains("fill=\"#FFFFFF\"")));
}
