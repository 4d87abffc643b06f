//! What a run leaves for readers and scripts: column names that may not drift, tables as they look, escaped names.

use jetbench::dataset::{Dataset, read_frame};
use jetbench::judge::{course, summary};
use jetbench::report::export::markdown::markdown;
use jetbench::report::overlay::{self, Layer};
use jetbench::report::table::Style;
use jetbench::report::{self, csv, plot, png, table};
use jetbench::results::disturbance::Disturbance;
use jetbench::results::note::{Note, NoteKind};
use jetbench::results::record::{CellRecord, RunRecord, Verdict};
use jetbench_runners::types::{Mask, PromptShape, StagePrecision};

use crate::synthetic;

/// Header and rows of a CSV file, by a reader that refuses rows of another width.
fn parse(bytes: &[u8]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = ::csv::Reader::from_reader(bytes);
    let header = reader.headers().unwrap().iter().map(String::from).collect();
    let rows = reader.records().map(|r| r.unwrap().iter().map(String::from).collect()).collect();
    (header, rows)
}

fn field<'a>(file: &'a (Vec<String>, Vec<Vec<String>>), row: usize, column: &str) -> &'a str {
    &file.1[row][file.0.iter().position(|c| c == column).unwrap()]
}

#[test]
fn precision_in_short_goes_by_the_kind_of_the_graph_that_is_furthest_from_what_was_asked() {
    use jetbench_runners::types::Effective::{Doubtful, Emulated, Native, Other};
    let mut cell = synthetic::run().cells.swap_remove(0);
    let stage = cell.precision[0].clone();
    let mut short = |graphs: &[(_, &str)]| {
        let stage = |&(kind, words): &(_, &str)| StagePrecision { kind, effective: words.into(), ..stage.clone() };
        cell.precision = graphs.iter().map(stage).collect();
        table::dtype_short(&cell)
    };
    let emulated = (Emulated, "bf16 operands, fp32 accumulation, emulated");
    assert_eq!(short(&[]), "bf16", "nothing was ever loaded");
    assert_eq!(short(&[(Native, "bf16"), (Native, "bf16")]), "bf16");
    assert_eq!(short(&[(Native, "bf16"), emulated]), "bf16 (emulated)");
    let part = (Other, "int8 and fp32 (55 of 70 MatMul, Gemm and Conv in int8)");
    assert_eq!(short(&[(Native, "int8"), part]), "bf16 → int8 and fp32");
    let other = (Other, "fp32 (bf16 asked for; no operand in the file has that type)");
    assert_eq!(short(&[emulated, other, (Other, "mixed: 1 of 2")]), "bf16 → fp32");
    assert_eq!(
        short(&[other, (Doubtful, "fp32 or tf32 (this ONNX Runtime has no switch for it)")]),
        "bf16 → fp32 or tf32"
    );
}

#[test]
fn energy_of_every_repeat_is_in_rails_csv() {
    let with = |joules: f64| {
        let mut cell = synthetic::run().cells.remove(0);
        cell.sequences.truncate(1);
        cell.energy_j = [("VDD_IN".to_string(), joules)].into();
        cell.idle_power_w = [("VDD_IN".to_string(), 0.5)].into();
        cell.sequences[0].energy_j = cell.energy_j.clone();
        cell
    };
    let joined = jetbench::judge::repeat::join(vec![with(3.0), with(4.0)]).unwrap();
    let frames = joined.sequences[0].frames.len().to_string();
    let video = joined.sequences[0].video.clone();
    let (header, rows) = parse(&csv::rails(&synthetic::record(vec![joined])));
    assert_eq!(header[3..], ["video", "rail", "energy_j", "energy_above_idle_j", "idle_power_w", "frames", "repeat"]);
    let row = |video: &str, joules: &str, repeat: &str| {
        [video, "VDD_IN", joules, "", "0.5", &frames, repeat].map(String::from).to_vec()
    };
    let expected = [row("", "3", "1"), row(&video, "3", "1"), row("", "4", "2"), row(&video, "4", "2")];
    assert_eq!(rows.iter().map(|r| r[3..].to_vec()).collect::<Vec<_>>(), expected);
}

#[test]
fn csv_columns_are_the_published_ones_and_new_ones_come_last() {
    // The published names, word for word. Never edit these lines: add columns after them.
    let published = [
        (
            csv::summary as fn(&RunRecord) -> Vec<u8>,
            "model, pack, prompt, dtype, effective_dtype, device, verdict, reasons, videos, objects, frames, j, f, jf, \
             fps_wall, fps_model, latency_mean_ms, latency_p50_ms, latency_p90_ms, latency_p95_ms, latency_p99_ms, \
             latency_max_ms, load_ms, warmup_ms, peak_system_mib, peak_pss_mib, peak_rss_mib, energy_per_frame_j",
        ),
        (csv::objects, "model, dtype, device, video, object, prompt_frame, frames_scored, j, f, jf"),
        (
            csv::frames,
            "model, dtype, device, video, frame, decode_ms, preprocess_ms, image_encoder_ms, memory_attention_ms, \
             mask_decoder_ms, memory_encoder_ms, postprocess_ms, latency_ms",
        ),
        (csv::frame_scores, "model, dtype, device, video, object, frame, j, f, object_score"),
    ];
    let run = synthetic::run();
    for (write, names) in published {
        let (header, rows) = parse(&write(&run));
        let names: Vec<&str> = names.split(", ").collect();
        assert_eq!(header[..names.len()], names);
        let mut unique = header.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), header.len(), "a name twice: {header:?}");
        assert!(!rows.is_empty());
        // An empty run still has its header.
        let empty = parse(&write(&RunRecord { cells: vec![], ..run.clone() }));
        assert_eq!(empty, (header, vec![]));
    }
}

#[test]
fn a_disturbed_cell_stays_valid_and_says_by_what() {
    let mut run = synthetic::run();
    let mut cell = run.cells.swap_remove(0);
    cell.verdict = Verdict::Valid;
    let disturbed = |kinds: &[Disturbance]| CellRecord { disturbed: kinds.to_vec(), ..cell.clone() };
    let runs = vec![disturbed(&[Disturbance::Drift]), disturbed(&[]), disturbed(&[Disturbance::Rivals])];
    run.cells = vec![jetbench::judge::repeat::join(runs).unwrap(), disturbed(&[])];
    let summary = parse(&csv::summary(&run));
    let seen: Vec<_> = (0..2).map(|i| (field(&summary, i, "verdict"), field(&summary, i, "disturbed"))).collect();
    assert_eq!(seen, [("valid", "rivals;drift"), ("valid", "")]);
    let repeats = parse(&csv::repeats(&run));
    assert_eq!([0, 1, 2].map(|i| field(&repeats, i, "disturbed")), ["drift", "", "rivals"]);
    let text = table::text(&run, Style::default());
    assert_eq!(text.matches("valid, disturbed").count(), 1, "{text}");
    assert_eq!(jetbench::judge::outcome::exit_code(&run, &[]), 0);
    let read: RunRecord = serde_json::from_str(&serde_json::to_string(&run).unwrap()).unwrap();
    assert_eq!(read.cells[0].disturbed, [Disturbance::Rivals, Disturbance::Drift]);
}

#[test]
fn csv_has_one_row_per_cell_object_frame_and_score_with_every_digit() {
    let run = synthetic::run();
    let summary = parse(&csv::summary(&run));
    assert_eq!(summary.1.len(), 6);
    assert_eq!(parse(&csv::objects(&run)).1.len(), 5 * 14);
    assert_eq!(parse(&csv::frames(&run)).1.len(), 5 * 576);
    let scores: usize =
        run.cells.iter().flat_map(|c| &c.sequences).flat_map(|s| &s.objects).map(|o| o.per_frame.len()).sum();
    assert_eq!(parse(&csv::frame_scores(&run)).1.len(), scores);
    for (i, cell) in run.cells.iter().enumerate() {
        let Some(s) = &cell.summary else { continue };
        let read = |name: &str| field(&summary, i, name).parse::<f64>().unwrap();
        assert_eq!((read("j"), read("f"), read("jf")), (s.j.unwrap(), s.f.unwrap(), s.jf.unwrap()));
        assert_eq!(read("latency_p95_ms"), s.latency.unwrap().p95_ms);
        assert_eq!((s.frames, field(&summary, i, "latency_p99_ms")), (576, ""), "a p99 takes 1,000 frames");
        assert_eq!(read("fps_wall"), s.fps_wall.unwrap());
        assert!(read("jf_low95") < read("jf") && read("jf") < read("jf_high95"));
    }
    insta::assert_snapshot!("summary_csv", String::from_utf8(csv::summary(&run)).unwrap());
}

#[test]
fn what_was_not_measured_is_an_empty_field() {
    let mut run = synthetic::run();
    run.cells[0].sequences[0].objects[0].j = None;
    run.cells[0].sequences[0].frames[0].stages_ms.remove("memory_attention");
    let file = parse(&csv::summary(&run));
    for column in ["j", "f", "jf", "fps_wall", "latency_p50_ms", "load_ms", "peak_system_mib", "videos", "frames"] {
        assert_eq!(field(&file, 5, column), "", "{column} of the failed cell");
    }
    assert_eq!(field(&file, 0, "energy_per_frame_j"), "");
    // Half a cell is no cell: it says how far it came, not how well it did.
    run.cells[1].verdict = Verdict::Failed { error: "hung".into(), phase: "track".into() };
    let half = parse(&csv::summary(&run));
    assert_eq!((field(&half, 1, "videos"), field(&half, 1, "jf"), field(&half, 1, "fps_wall")), ("6", "", ""));
    assert_eq!(field(&file, 5, "verdict"), "failed");
    assert!(field(&file, 5, "reasons").starts_with("warmup: the worker was killed"));
    assert_eq!(field(&parse(&csv::objects(&run)), 0, "j"), "");
    assert_eq!(field(&parse(&csv::frames(&run)), 0, "memory_attention_ms"), "", "a prompted frame attends to nothing");
}

#[test]
fn hostile_names_stay_in_their_field_and_out_of_the_terminal() {
    let mut run = synthetic::run();
    let evil = "a,b\"c\nd\u{1b}[31m|<x>\u{2063}";
    run.cells[0].sequences[0].video = evil.into();
    run.cells[0].sequences[0].objects[0].object = evil.into();
    run.cells[0].notes.push(Note::new(NoteKind::Setup, evil));
    run.data.root = format!("/data/{evil}");
    for (write, column) in
        [(csv::objects as fn(&RunRecord) -> Vec<u8>, "video"), (csv::frames, "video"), (csv::frame_scores, "object")]
    {
        assert_eq!(field(&parse(&write(&run)), 0, column), evil);
    }
    for text in [table::text(&run, Style::default()), markdown(&run)] {
        assert!(!text.contains(['\u{1b}', '\u{2063}']), "{text}");
    }
    assert!(!markdown(&run).contains("<x>"));
}

#[test]
fn the_summary_is_what_its_sequences_say() {
    let run = synthetic::run();
    let cell = &run.cells[0];
    let s = cell.summary.as_ref().unwrap();
    assert_eq!((s.videos, s.objects, s.frames), (6, 14, 576));
    let objects: Vec<_> = cell.sequences.iter().flat_map(|s| &s.objects).collect();
    let mean = objects.iter().map(|o| o.j.unwrap()).sum::<f64>() / 14.0;
    assert!((s.j.unwrap() - mean).abs() < 1e-9);
    assert_eq!(s.jf.unwrap(), (s.j.unwrap() + s.f.unwrap()) / 2.0);
    let wall: f64 = cell.sequences.iter().map(|s| s.wall_ms).sum();
    assert!((s.fps_wall.unwrap() - 576_000.0 / wall).abs() < 1e-9);
    assert!(s.fps_model > s.fps_wall, "decoding costs something");
    let share = s.overhead_share.unwrap();
    assert!((0.0..0.2).contains(&share), "{share}");
    assert_eq!(s.energy_per_frame_j, None);
    // Nothing finished, no summary; nothing scored, no score but still timings.
    let mut bare = cell.clone();
    bare.sequences.truncate(1);
    bare.sequences[0].objects.clear();
    let s = summary::summarise(&bare).unwrap();
    assert_eq!((s.j, s.jf, s.jf_interval, s.objects), (None, None, None, 0));
    assert!(s.latency.is_some() && s.fps_wall.is_some() && s.fps_wall_interval.is_none());
    bare.sequences.clear();
    assert_eq!(summary::summarise(&bare), None);
}

#[test]
fn remarks_name_what_is_unsteady_and_only_that() {
    let cell = synthetic::run().cells.swap_remove(0);
    assert_eq!(course::remarks(&cell), []);
    let said = |cell| course::remarks(cell).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let mut hot = cell.clone();
    let total = 576.0;
    for (i, frame) in hot.sequences.iter_mut().flat_map(|s| &mut s.frames).enumerate() {
        frame.latency_ms *= 1.0 + 0.4 * i as f64 / total;
    }
    let remarks = said(&hot);
    assert!(remarks.contains("latency rose by"), "{remarks}");
    let mut cold = cell.clone();
    cold.sequences[0].frames[1].latency_ms *= 5.0;
    cold.sequences[0].frames[0].latency_ms *= 9.0;
    let remarks = said(&cold);
    assert!(remarks.contains("the first "), "{remarks}");
    // The first frame of a video with another number of objects, as a provider that plans its kernels anew has it.
    let mut planning = cell.clone();
    let mut before = None;
    for sequence in &mut planning.sequences {
        let first = &mut sequence.frames[0];
        if before.is_some_and(|objects| objects != first.objects) {
            first.latency_ms *= 20.0;
        }
        before = sequence.frames.last().map(|f| f.objects);
    }
    let remarks = said(&planning);
    assert!(remarks.contains("frames are those on which the number of objects changed"), "{remarks}");
}

const BANNER: &str = "sam2_mini and edgetam_mini are test models; these figures do not describe SAM 2 or EdgeTAM";

#[test]
fn the_worst_video_and_object_stand_first_and_are_of_all_repeats() {
    let (run, _) = synthetic::repeated();
    let page = report::html::report(&run, &[], &[]);
    let rows = |title: &str| -> Vec<Vec<String>> {
        let table =
            page.split(title).nth(1).unwrap().split("<tbody>").nth(1).unwrap().split("</tbody>").next().unwrap();
        let plain = |cell: &str| cell.split('>').nth(1).unwrap().split('<').next().unwrap().to_string();
        let row = |row: &str| {
            row.replace("<wbr>", "")
                .split("</t")
                .map(|c| c.to_string())
                .filter(|c| c.contains("<t"))
                .map(|c| plain(&c[c.find("<t").unwrap()..]))
                .collect()
        };
        table.split("<tr>").skip(1).map(row).collect()
    };
    let (videos, objects) = (rows("By video ("), rows("By object ("));
    assert_eq!((videos.len(), objects.len()), (6, 14));
    for (table, column) in [(&videos, 3), (&objects, 3)] {
        let scores: Vec<f64> = table.iter().map(|row| row[column].parse().unwrap()).collect();
        assert!(scores.windows(2).all(|w| w[0] <= w[1]), "{scores:?}");
    }
    // The frame of 987 ms is in the second repeat.
    assert!(videos.iter().any(|row| row[0] == "demo_04" && row[6] == "987"), "{videos:?}");
    let cell = &run.cells[0];
    let worst = cell.sequences.iter().flat_map(|s| s.objects.iter().map(move |o| (s, o)));
    let (video, worst) = worst.min_by(|a, b| a.1.jf.unwrap().total_cmp(&b.1.jf.unwrap())).unwrap();
    assert_eq!((&objects[0][0], &objects[0][1]), (&video.video, &worst.object));
}

#[test]
fn the_page_says_the_licences_of_packs() {
    let mut run = synthetic::run();
    run.cells.iter_mut().for_each(|cell| cell.licence.clear());
    assert!(!report::html::report(&run, &[], &[]).contains("licences of packs"), "older records have none");
    run.cells[0].licence = "LicenseRef-SAM".to_string();
    let page = report::html::report(&run, &[], &[]);
    let said = page.split("licences of packs").nth(1).unwrap().split("</dd>").next().unwrap();
    assert!(said.contains(&format!("{} LicenseRef-SAM", run.cells[0].pack)), "{said}");
}

#[test]
fn a_run_leaves_its_files_and_the_report_stands_alone() {
    let mut run = synthetic::run();
    run.argv.push("it's <b>".into());
    run.cells[0].notes.push(Note::new(NoteKind::Setup, "<script>alert(1)</script>"));
    run.device.facts.insert("<i>".into(), "\" onload=\"x".into());
    let files = report::files(&run).unwrap();
    let names: Vec<&str> = files.iter().map(|f| f.0.as_str()).collect();
    insta::assert_snapshot!("files", names.join("\n"));
    assert_eq!(files, report::files(&run).unwrap(), "the same run, the same bytes");
    let html = String::from_utf8(files.iter().find(|f| f.0 == "report.html").unwrap().1.clone()).unwrap();
    for outside in ["<script", "<b>", "<i>", "src=", "href=", "http://", "https://", "url("] {
        let own = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("<svg").count(), 5);
    assert!(html.contains("4 of 6 valid, 1 invalid, 1 failed") && html.contains(BANNER));
    // One line per cell, with what stands behind it; a failed cell has no tables.
    assert_eq!(html.matches(": requested ").count(), 6);
    assert!(html.contains("edgetam_mini_points fp32: requested fp32, actual fp32"));
    assert_eq!((html.matches("By video (6 videos)").count(), html.matches("By object (14 objects)").count()), (5, 5));
    for word in
        ["verdict", "disturbed", "J", "F", "J&amp;F", "p50, p95, p99, max", "precision requested, actual", "memory"]
    {
        assert!(html.contains(&format!("<dt>{word}</dt>")), "{word} is not explained");
    }
    assert!(html.contains("'it'\\''s &lt;b&gt;'"), "the command is quoted for a shell, then escaped");
    // Every element that is opened is closed.
    for tag in ["table", "tr", "td", "th", "dl", "dt", "dd", "details", "figure", "ul", "li", "div", "main", "body"] {
        let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

/// Draws the true masks of the demo clips, one pixel row lower, as if they were predictions: for eyes.
#[test]
#[ignore = "for eyes: set FIGURES to a directory"]
fn draw_overlays_for_eyes() {
    let dir = std::path::PathBuf::from(std::env::var("FIGURES").expect("FIGURES names a directory"));
    std::fs::create_dir_all(&dir).unwrap();
    let data = Dataset::open(std::path::Path::new("assets/demo")).unwrap();
    for sequence in &data.sequences {
        for frame in [0, 24, 48] {
            let image = read_frame(&sequence.frames[frame].path).unwrap();
            let truths: Vec<Option<Mask>> = sequence
                .objects
                .iter()
                .map(|o| o.annotated.contains(&frame).then(|| sequence.truth(o, frame).unwrap()))
                .collect();
            let shifted: Vec<Option<Mask>> = truths
                .iter()
                .map(|t| t.as_ref().map(|t| Mask::from_fn(t.width(), t.height(), |x, y| y > 2 && t.get(x, y - 3))))
                .collect();
            let prompts: Vec<Option<PromptShape>> = truths
                .iter()
                .zip(&sequence.objects)
                .map(|(t, o)| {
                    let mask = t.as_ref().filter(|_| o.prompt_frame == frame)?;
                    Some(match o.id % 3 {
                        0 => PromptShape::Points(vec![jetbench_runners::types::Click {
                            x: 100.0,
                            y: 60.0,
                            positive: true,
                        }]),
                        1 => PromptShape::Bbox([50.0, 40.0, 120.0, 90.0]),
                        _ => PromptShape::Mask(mask.clone()),
                    })
                })
                .collect();
            let layers: Vec<Layer> = sequence
                .objects
                .iter()
                .enumerate()
                .map(|(i, o)| Layer {
                    name: &o.name,
                    object: o.id,
                    predicted: shifted[i].as_ref(),
                    truth: truths[i].as_ref(),
                    prompt: prompts[i].as_ref(),
                    j: truths[i].as_ref().map(|_| 87.65),
                })
                .collect();
            let out = dir.join(format!("overlay_{}_{frame:05}.png", sequence.name));
            png::write(&out, &overlay::render(&image, &layers).unwrap()).unwrap();
        }
    }
}

/// WCAG 2.1's relative luminance of `#rrggbb`.
fn luminance(colour: &str) -> f64 {
    let part = |i: usize| {
        let v = f64::from(u8::from_str_radix(&colour[i..i + 2], 16).unwrap()) / 255.0;
        if v <= 0.03928 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

fn contrast(a: &str, b: &str) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn the_report_is_readable_for_all() {
    let run = synthetic::run();
    let files = report::files(&run).unwrap();
    let html = String::from_utf8(files.iter().find(|f| f.0 == "report.html").unwrap().1.clone()).unwrap();
    // Contrast of every text colour on every background, in both schemes: at least 4.5, as WCAG AA asks of text.
    let schemes: Vec<&str> = html.split(":root{").skip(1).take(2).map(|s| s.split('}').next().unwrap()).collect();
    assert_eq!(schemes.len(), 2, "light and dark");
    for scheme in schemes {
        let colour = |name: &str| scheme.split(&format!("--{name}:")).nth(1).unwrap()[..7].to_string();
        for text in ["ink", "soft", "good", "warn", "bad"] {
            for paper in ["paper", "card"] {
                let ratio = contrast(&colour(text), &colour(paper));
                assert!(ratio >= 4.5, "{text} on {paper}: {ratio:.2} in {scheme}");
            }
        }
    }
    assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 1e-9);
    // So do the texts in the figures, which have colours of their own.
    let css = plot::paper::style("figure");
    let blocks: Vec<&str> = css.split("figure svg{").skip(1).collect();
    assert_eq!(blocks.len(), 2, "light and dark: {css}");
    let mut texts: Vec<&str> = html
        .split("<text")
        .skip(1)
        .map(|t| t.split("fill=\"var(").nth(1).unwrap().split(')').next().unwrap())
        .collect();
    texts.sort_unstable();
    texts.dedup();
    assert!(texts.len() > 1, "{texts:?}");
    for block in &blocks {
        let colour = |name: &str| block.split(&format!("{name}:")).nth(1).unwrap()[..7].to_string();
        for text in &texts {
            assert!(contrast(&colour(text), &colour("--paper")) >= 4.5, "{text} in {block}");
        }
    }
    // Every header cell says what it heads, every drawing and picture what it shows, and headings skip no level.
    let body = html.split("<body>").nth(1).unwrap();
    for th in body.split("<th").skip(1).filter(|t| !t.starts_with("ead")) {
        assert!(th.starts_with(" scope=\"col\"") || th.starts_with(" scope=\"row\""), "<th{}", &th[..40]);
    }
    for svg in body.split("<svg").skip(1) {
        let title = svg.split("<title>").nth(1).and_then(|t| t.split("</title>").next()).unwrap_or_default();
        assert!(svg.contains("role=\"img\"") && title.len() > 20, "{title}");
    }
    for img in body.split("<img").skip(1) {
        assert!(img.split('>').next().unwrap().contains("alt=\""));
    }
    assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">") && html.contains("<title>jetbench on "));
    let levels: Vec<u32> = body.split("<h").skip(1).filter_map(|h| h.chars().next()?.to_digit(10)).collect();
    assert_eq!(levels[0], 1);
    assert!(levels.windows(2).all(|w| w[1] <= w[0] + 1), "{levels:?}");
}

/// 200 sequences x 4 cells: the page in under 2 s (in a release build; a test build gets 6) and under 5 MB.
#[test]
fn a_large_run_has_a_small_report() {
    let run = synthetic::large_run(200);
    assert_eq!(run.cells.iter().map(|c| c.sequences.len()).sum::<usize>(), 800);
    let mut telemetry = String::from("model,dtype,device,t_s,quantity,value,repeat\n");
    for cell in &run.cells {
        for i in 0..36_000 {
            let row = format!(
                "{},{},{},{:.1},worker_rss_mib,{},1\n",
                cell.model,
                cell.dtype,
                cell.device,
                i as f64 / 10.0,
                900 + i % 77
            );
            telemetry.push_str(&row);
        }
    }
    let thumbs: Vec<report::thumb::Thumb> = (0..12)
        .map(|i| report::thumb::Thumb {
            cell: i / 3,
            moment: report::thumb::Moment {
                video: "v".into(),
                object: "000".into(),
                frame: i as u32,
                j: Some(1.0),
                switch: None,
                file: String::new(),
            },
            png: vec![7; 120_000],
        })
        .collect();
    let started = std::time::Instant::now();
    let figures = plot::figures_with(&run, telemetry.as_bytes());
    let html = report::html::report(&run, &figures, &thumbs);
    let seconds = started.elapsed().as_secs_f64();
    println!("{} figures, {:.2} MB of HTML in {seconds:.2} s", figures.len(), html.len() as f64 / 1e6);
    assert!(html.len() < 5_000_000, "{}", html.len());
}

#[test]
fn a_known_board_is_told_how_far_each_stage_is_from_its_limit() {
    let run = synthetic::run();
    let mut cell = run.cells.iter().find(|c| c.sequences.iter().any(|s| s.frames.len() > 1)).unwrap().clone();
    let pack = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/packs/sam2_mini");
    let mut device = run.device.clone();
    device.facts.insert("module".into(), "Jetson Orin Nano 8 GB (p3767-0003)".into());
    cell.device = "cpu".into();
    assert_eq!(jetbench::judge::roofline::remark(&cell, &device, &pack, None), None, "a CPU's peak is not in a table");
    cell.device = "cuda:0".into();
    let text = jetbench::judge::roofline::remark(&cell, &device, &pack, Some(625.0)).unwrap();
    for part in ["orin-nano-8gb, GPU 625 MHz", "image_encoder ", "memory_attention ", " % (compute)", "computed from"] {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    device.facts.insert("module".into(), "something else".into());
    assert_eq!(jetbench::judge::roofline::remark(&cell, &device, &pack, None), None);
}
