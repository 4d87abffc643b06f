//! The program as a user calls it, through the mock runner: every way a run can end, in milliseconds each, without ONNX
//! Runtime.

mod plans;
mod scaled;

use std::io::BufRead;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

use crate::bench::{Bench, Ran, stderr, text};

#[test]
fn a_run_leaves_record_tables_and_verdicts_and_nothing_else() {
    let bench = Bench::new();
    let ran = bench.run("good_mask,good_bbox", &[]);
    assert_eq!((ran.code, ran.verdict(0).0, ran.verdict(1).0), (0, "valid", "valid"), "{}", ran.line);
    let mut names: Vec<_> =
        std::fs::read_dir(&ran.dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.retain(|n| n != "plots");
    let expected = [
        "frame_scores.csv",
        "frames.csv",
        "log.txt",
        "memory.csv",
        "objects.csv",
        "rails.csv",
        "repeats.csv",
        "report.html",
        "run.json",
        "summary.csv",
        "summary.md",
        "telemetry.csv",
        "videos.csv",
    ];
    assert_eq!(names, expected);
    // The mask prompt moved one pixel per frame is the truth itself: every score must be perfect.
    let objects = ran.csv("objects.csv");
    assert_eq!(objects.len(), 1 + 2 * 2 * 2);
    for row in objects[1..].iter().filter(|r| r[0] == "good_mask") {
        assert_eq!(&row[7..10], ["100", "100", "100"], "{row:?}");
    }
    assert_eq!(objects[2][5], "4", "the late object is prompted on its first visible frame");
    assert_eq!(ran.csv("frames.csv").len(), 1 + 2 * 2 * 13);
    let cell = &ran.record["cells"][0];
    for phase in ["idle", "loaded", "warmed", "last", "peak"] {
        assert!(cell["memory"][phase]["rss_mib"].as_f64().unwrap() > 0.0, "{phase}: {}", cell["memory"]);
    }
    assert_eq!(cell["summary"]["frames"], 26);
    assert!(cell["summary"]["energy_per_frame_j"].is_null() || Path::new("/sys/bus/i2c").exists());
    assert_eq!(ran.record["settings"]["dtype"][0], "fp32");
    let record = jetbench::results::store::load(&ran.dir).unwrap();
    assert_eq!(record.cells.len(), 2);
    assert_eq!(serde_json::to_value(&record).unwrap(), ran.record, "run.json does not survive reading");
}

#[test]
fn the_last_line_is_what_scripts_expect() {
    let bench = Bench::new();
    let ran = bench.run("good_points", &["--quiet", "--min-frames", "1000"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.line["schema"], 1);
    // What disturbs this machine now is its own affair.
    let disturbed = format!("\"disturbed\":{}", ran.line["cells"][0]["disturbed"]);
    let line = ran.last.replace(ran.line["run"].as_str().unwrap(), "…").replace(&disturbed, "\"disturbed\":[…]");
    insta::assert_snapshot!(line, @r#"{"schema":1,"run":"…","cells":[{"model":"good_points","dtype":"fp32","device":"cpu","verdict":"invalid","disturbed":[…],"reasons":["too few frames: 26 were timed, 1000 are needed (--min-frames)"]}]}"#);
}

#[test]
fn run_is_the_default_command_and_both_spellings_agree() {
    let bench = Bench::new();
    let flags = ["--models", "good_mask", "--data", "data", "--dry-run"];
    let long: Vec<&str> = ["run"].into_iter().chain(flags).collect();
    let (a, b) = (bench.output(&flags), bench.output(&long));
    assert!(a.status.success(), "{}", stderr(&a));
    assert_eq!(text(&a.stdout), text(&b.stdout));
    assert!(!bench.path("results").exists(), "a dry run leaves nothing");
}

#[test]
fn a_dry_run_shows_cells_options_and_notes() {
    let bench = Bench::new();
    let output = bench.output(&[
        "--models",
        "short_bbox,good_points",
        "--dtype",
        "fp32,bf16",
        "--data",
        "data",
        "--alias",
        "short=good",
        "--threads",
        "2",
        "--option",
        "graphs=yes",
        "--clicks",
        "9",
        "--limit-videos",
        "1",
        "--limit-frames",
        "5",
        "--dry-run",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    insta::assert_snapshot!(text(&output.stdout));
}

#[test]
fn what_is_wrong_with_the_command_line_is_said_before_anything_runs() {
    let bench = Bench::new();
    bench.pack("one", "max_objects = 1\nprompts = [\"bbox\"]\nprecisions = [\"fp32\"]\n");
    std::fs::create_dir_all(bench.path("packs/bad")).unwrap();
    std::fs::write(bench.path("packs/bad/pack.toml"), "schema = 1\nid = \"bad\"\nfamily = \"sam2\"\n").unwrap();
    let mut seen = String::new();
    for (args, code) in [
        (&["--models", "good_boxx"][..], 2),
        (&["--models", "gold_mask"][..], 2),
        (&["--models", "sam2_points"][..], 2),
        (&["--models", "bad_points"][..], 2),
        (&["--models", "one_mask"][..], 2),
        (&["--models", "one_bbox", "--dtype", "bf16"][..], 2),
        (&["--models", "one_bbox", "--dtype", "fp32"][..], 2),
        (&["--models", "good_mask", "--dtype", "int4"][..], 2),
        (&["--models", "good_mask", "--device", "npu"][..], 2),
        (&["--models", "good_mask", "--data", "nowhere"][..], 2),
        (&["--models", "good_mask", "--limit-frames", "0"][..], 2),
        (&["--models", "good_mask", "--precision-policy", "lax"][..], 2),
        (&["--models", "good_mask", "--event-timeout", "-1"][..], 2),
        (&["--models", "good_mask", "--option", "novalue"][..], 2),
        (&["--models", "good_mask", "--ouput", "x"][..], 2),
        (&["--data", "data"][..], 2),
        (&["modles"][..], 2),
    ] {
        let mut all = args.to_vec();
        if args[0] == "--models" && !args.contains(&"--data") {
            all.extend(["--data", "data"]);
        }
        let output = bench.output(&all);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(text(&output.stdout).is_empty());
        seen.push_str(&format!("$ jetbench {}\n{}\n", args.join(" "), stderr(&output).trim_end()));
    }
    assert!(!bench.path("results").exists(), "nothing may be written");
    insta::assert_snapshot!(seen);
}

/// A broken pack is never replaced by a sound one of the same name further down the path.
#[test]
fn a_broken_pack_hides_the_next_one_of_its_name() {
    let bench = Bench::new();
    let dir = bench.path("other/renamed");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("pack.toml"), "schema = 1\nid = \"good\"\nfamily = \"mock\"\n[mock]\nspeed = 1\n").unwrap();
    let args = ["--models", "good_mask", "--data", "data", "--dry-run", "--packs", "other"];
    let output = bench.output(&args);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(
        stderr(&output).contains("other/renamed/pack.toml") && stderr(&output).contains("speed"),
        "{}",
        stderr(&output)
    );
    assert!(bench.output(&args[..5]).status.success());
}

#[test]
fn a_config_file_says_what_flags_say_and_flags_win() {
    let bench = Bench::new();
    let config = "models = [\"good_mask\", \"good_bbox\"]\ndtype = \"fp32\"\ndata = \"data\"\nlimit-videos = 1\n\
                  limit-frames = 9\nmin-frames = 1\njson = true\n[option]\nthreads = 1\n";
    std::fs::write(bench.path("job.toml"), config).unwrap();
    let ran = Ran::new(&bench, bench.output(&["--config", "job.toml", "--limit-videos", "2", "--models", "good_mask"]));
    assert_eq!(ran.code, 0, "{}", ran.line);
    assert_eq!(ran.record["cells"].as_array().unwrap().len(), 1);
    assert_eq!(ran.record["cells"][0]["summary"]["frames"], 2 * 9);
    assert_eq!(ran.record["cells"][0]["options"]["passed"][0], serde_json::json!(["threads", "1"]));

    std::fs::write(bench.path("job.toml"), "models = []\nlimit-frame = 3\n").unwrap();
    let output = bench.output(&["--config", "job.toml"]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(stderr(&output), @"error: job.toml:2: unknown key `limit-frame`; did you mean `limit-frames`?");
    assert_eq!(bench.output(&["--config", "missing.toml"]).status.code(), Some(2));
}

#[test]
fn a_cell_that_goes_wrong_does_not_stop_the_others() {
    let bench = Bench::new();
    bench
        .pack("crash", "[[mock.fault]]\nframe = 3\nkind = \"abort\"\n")
        .pack("panic", "[[mock.fault]]\nframe = 3\nkind = \"panic\"\n")
        .pack("hang", "[[mock.fault]]\nframe = 3\nkind = \"hang\"\n")
        .pack("hang_load", "[[mock.fault]]\nkind = \"hang\"\n")
        .pack("error", "[[mock.fault]]\nframe = 3\nkind = \"error\"\n")
        .pack("no_load", "[[mock.fault]]\nkind = \"error\"\n")
        .pack("killed", "[[mock.fault]]\nframe = 3\nkind = \"kill\"\n")
        .pack("memory", "[[mock.fault]]\nframe = 3\nkind = \"out_of_memory\"\n")
        .pack("memory_load", "[[mock.fault]]\nkind = \"out_of_memory\"\n")
        .pack("no_frame", "[[mock.fault]]\nstep = 0\nkind = \"error\"\n");
    let models = ["crash", "panic", "error", "no_frame", "killed", "memory", "memory_load", "good"]
        .map(|m| format!("{m}_mask"))
        .join(",");
    let said = |ran: &Ran| -> Vec<String> {
        assert_eq!(ran.code, 1);
        let line = |(i, cell): (usize, &Value)| {
            let (verdict, reasons) = ran.verdict(i);
            format!("{}: {verdict}: {reasons}", cell["model"].as_str().unwrap())
        };
        ran.line["cells"].as_array().unwrap().iter().enumerate().map(line).collect()
    };
    let ran = bench.run(&models, &[]);
    // Limits so short are for those that hang: others may need longer on a busy machine.
    let hangs = [("hang_mask", "--event-timeout", "1"), ("hang_load_mask", "--load-timeout", "5")];
    let hung = hangs.map(|(model, limit, seconds)| said(&bench.run(model, &[limit, seconds])));
    insta::assert_snapshot!([said(&ran), hung.concat()].concat().join("\n"));
    // A frame that fails is told apart from a model that does not load.
    let warmup = &ran.record["cells"][3]["warmup"];
    assert_eq!((&warmup["frame_ok"], &warmup["load_only_ok"]), (&Value::Bool(false), &Value::Bool(true)));
    let ran = bench.run("no_load_mask", &[]);
    assert_eq!(ran.code, 3, "an environment fault has its own exit code");
    let warmup = &ran.record["cells"][0]["warmup"];
    assert_eq!((&warmup["frame_ok"], &warmup["load_only_ok"]), (&Value::Bool(false), &Value::Bool(false)));
}

#[test]
fn dropped_options_are_shown_and_recorded() {
    let bench = Bench::new();
    let ran = bench.run("good_mask", &["--threads", "1", "--option", "cuda_graph=true"]);
    assert!(ran.stderr.contains("option cuda_graph=true dropped: not supported by this runner"), "{}", ran.stderr);
    assert_eq!(ran.record["cells"][0]["options"]["dropped"][0]["name"], "cuda_graph");
    assert_eq!(ran.record["cells"][0]["options"]["passed"][0][0], "threads");
}

#[test]
fn an_unwritable_results_directory_is_refused_before_any_work() {
    let bench = Bench::new();
    std::fs::write(bench.path("file"), "").unwrap();
    let output = bench.output(&["--models", "good_mask", "--data", "data", "--out", "file/results"]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(stderr(&output), @"error: cannot write results to file/results: Not a directory (os error 20); make the directory writable or choose another with --out DIR");
}

#[test]
fn unusable_data_is_named_before_any_work() {
    let bench = Bench::new();
    let frame = bench.path("data/JPEGImages_24fps/b/00007.png");
    let whole = std::fs::read(&frame).unwrap();
    std::fs::write(&frame, &whole[..whole.len() - 20]).unwrap();
    let mut seen = stderr(&bench.output(&["--models", "good_mask", "--data", "data"]));
    std::fs::write(&frame, b"\xff\xd8\xff\xe0 half a picture").unwrap();
    seen += &stderr(&bench.output(&["--models", "good_mask", "--data", "data"]));
    std::fs::write(&frame, &whole).unwrap();

    let mask = bench.path("data/Annotations_6fps/a/000/00008.png");
    let file = std::fs::File::create(&mask).unwrap();
    let mut encoder = png::Encoder::new(file, 10, 10);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[0; 100]).unwrap();
    let output = bench.output(&["--models", "good_mask", "--data", "data"]);
    assert_eq!(output.status.code(), Some(2));
    seen += &stderr(&output);
    std::fs::create_dir_all(bench.path("none/JPEGImages_24fps")).unwrap();
    std::fs::create_dir_all(bench.path("none/Annotations_6fps")).unwrap();
    let output = bench.output(&["--models", "good_mask", "--data", "none"]);
    assert_eq!(output.status.code(), Some(2));
    seen += &stderr(&output);
    insta::assert_snapshot!(seen);
    assert!(!bench.path("results").exists());
}

/// A frame that is whole by its ends and broken inside is found by the worker: exit 2, finished sequences kept.
#[test]
fn a_frame_that_breaks_half_way_loses_nothing() {
    let bench = Bench::new();
    let frame = bench.path("data/JPEGImages_24fps/b/00007.png");
    let mut bytes = std::fs::read(&frame).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&frame, bytes).unwrap();
    let ran = bench.run("good_mask", &[]);
    assert_eq!((ran.code, ran.verdict(0).0), (2, "failed"));
    assert!(ran.verdict(0).1.contains("b/00007.png"), "{:?}", ran.verdict(0));
    assert_eq!(ran.record["cells"][0]["sequences"][0]["video"], "a");
}

#[test]
fn ctrl_c_keeps_finished_sequences() {
    let bench = Bench::new();
    // Two steps of warm-up and the 13 frames of the first video, then one more: the second video never ends.
    bench.pack("slow", "[[mock.fault]]\nstep = 16\nkind = \"hang\"\n");
    let args = ["--models", "slow_mask,good_mask", "--dtype", "fp32", "--data", "data", "--json", "--quiet"];
    let mut child = bench.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let results = bench.path("results");
    let first_done = || {
        let list =
            |p: &Path| std::fs::read_dir(p).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>();
        list(&results).iter().flat_map(|d| list(d)).any(|run| run.join("partial/cell-0.progress.json").exists())
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while !first_done() {
        assert!(Instant::now() < deadline, "the first sequence never finished");
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: a signal to our own child.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let mut last = String::new();
    for line in std::io::BufReader::new(child.stdout.take().unwrap()).lines() {
        last = line.unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let line: Value = serde_json::from_str(&last).unwrap();
    let record = jetbench::results::store::load(&bench.path(line["run"].as_str().unwrap())).unwrap();
    assert_eq!(record.stopped.as_deref(), Some("interrupted"));
    let videos: Vec<_> = record.cells[0].sequences.iter().map(|s| s.video.as_str()).collect();
    assert_eq!(videos, ["a"]);
    assert_eq!(record.cells[0].sequences[0].frames.len(), 13);
    assert_eq!(record.cells[1].verdict.reasons(), "spawn: interrupted before it started");
    let words: Vec<_> = record.cells.iter().map(|c| (c.verdict.as_str(), c.verdict_words())).collect();
    assert_eq!(words, [("failed", "interrupted"); 2]);
}

#[test]
fn a_killed_parent_leaves_no_worker_behind() {
    let bench = Bench::new();
    bench.pack("hang", "[[mock.fault]]\nframe = 3\nkind = \"hang\"\n");
    let args = ["--models", "hang_mask", "--dtype", "fp32", "--data", "data", "--quiet"];
    let mut child = bench.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let workers = || {
        let path = format!("/proc/{0}/task/{0}/children", child.id());
        std::fs::read_to_string(path).unwrap_or_default().split_whitespace().map(String::from).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    let worker = loop {
        if let Some(worker) = workers().first() {
            break worker.clone();
        }
        assert!(Instant::now() < deadline, "no worker was started");
        std::thread::sleep(Duration::from_millis(5));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = || std::fs::read_to_string(format!("/proc/{worker}/status")).map_or(true, |s| s.contains("State:\tZ"));
    let deadline = Instant::now() + Duration::from_secs(120);
    while !gone() {
        assert!(Instant::now() < deadline, "worker {worker} outlived its parent");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn masks_are_saved_in_the_datasets_layout() {
    let bench = Bench::new();
    let ran = bench.run("good_mask", &["--save-masks"]);
    let masks = ran.dir.join("masks/good_mask-fp32-cpu");
    // The mock's masks are the truth, so they must come out as the annotations went in.
    for file in ["a/000/00004.png", "b/001/00012.png"] {
        let decode = |path: &Path| {
            let mut reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap()));
            reader.set_transformations(png::Transformations::EXPAND);
            let mut reader = reader.read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut pixels).unwrap();
            pixels.iter().map(|p| *p > 0).collect::<Vec<_>>()
        };
        let truth = bench.path("data/Annotations_6fps").join(file);
        assert_eq!(decode(&masks.join(file)), decode(&truth), "{file}");
    }
}

/// Two ways to the same figures: scored by the run, and scored again from the masks it saved.
#[test]
fn saved_masks_score_as_the_run_did() {
    let bench = Bench::new();
    let ran = bench.run("good_bbox,good_points", &["--save-masks", "--overlays=png"]);
    for cell in ran.record["cells"].as_array().unwrap() {
        let name = format!("{}-fp32-cpu", cell["model"].as_str().unwrap());
        let masks = ran.dir.join("masks").join(&name);
        let output = bench.output(&["score", "data", masks.to_str().unwrap(), "--json", "--quiet"]);
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
        for figure in ["j", "f", "jf"] {
            assert_eq!(report["global"][figure], cell["summary"][figure], "{name}: {figure}");
        }
        let perfect = cell["summary"]["j"].as_f64().unwrap() == 100.0;
        assert_eq!(
            perfect,
            name.starts_with("good_bbox"),
            "the mock draws discs for points: a perfect score proves little"
        );
        let overlays = ran.dir.join("overlays").join(&name);
        assert!(overlays.join("a/00000.png").is_file() && overlays.join("b/00012.png").is_file());
    }
    let output = bench.output(&["score", "data", "nowhere"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn models_and_doctor_speak_json() {
    let bench = Bench::new();
    let output = bench.output(&["models", "--json"]);
    let models: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(models["schema"], 1);
    let output = bench.output(&["doctor", "--json", "--data", "data"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let check = |name: &str| report["checks"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap().clone();
    assert_eq!(check("data")["status"], "ok");
    assert_eq!(check("results")["status"], "ok");
    assert_eq!(report["ok"], output.status.success());
    assert_eq!((&check("data")["ok"], &report["schema"]), (&Value::Bool(true), &Value::from(1)));
    assert!(report["device"]["digest"].as_str().is_some_and(|d| d.len() == 12), "{}", report["device"]);
    for check in report["checks"].as_array().unwrap() {
        let names: Vec<&str> = check.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["detail", "name", "ok", "remedy", "status"]);
    }
    assert!(!bench.path("results").exists(), "doctor leaves nothing behind");
    let output = bench.output(&["doctor", "--data", "nowhere"]);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn help_documents_the_exit_codes() {
    let bench = Bench::new();
    for args in [&["--help"][..], &["run", "--help"][..]] {
        let help = text(&bench.output(args).stdout);
        assert!(help.contains("130  interrupted; finished sequences are kept"), "{help}");
        assert!(!help.contains("loop-frames"));
    }
}

#[test]
fn packs_inspect_counts_what_the_files_hold() {
    for (pack, family) in [("sam2_mini", "sam2"), ("edgetam_mini", "edgetam")] {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/packs").join(pack);
        let run = |args: &[&str]| {
            let output =
                Command::new(cargo_bin!("jetbench")).args(["packs", "inspect"]).arg(&dir).args(args).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let value: serde_json::Value = serde_json::from_str(&run(&["--json", "--roofline", "orin-nano-8gb"])).unwrap();
        assert_eq!((value["schema"].as_u64(), value["family"].as_str()), (Some(2), Some(family)));
        assert_eq!(value["missing"], serde_json::json!([]), "the shipped packs say everything");
        assert_eq!(value["follows"], "transformers");
        let graphs = value["graphs"].as_array().unwrap();
        assert_eq!(graphs.len(), 5);
        for graph in graphs {
            assert_eq!(graph["cost"]["unknown"], serde_json::json!({}), "{graph}");
            let name = graph["name"].as_str().unwrap();
            assert!(value["roofline"]["limits"][name]["ms"].as_f64().unwrap() > 0.0);
        }
        let cpu: serde_json::Value =
            serde_json::from_str(&run(&["--json", "--dtype", "fp32", "--form", "cpu"])).unwrap();
        let attention = |value: &serde_json::Value| {
            let graph = value["graphs"].as_array().unwrap().iter().find(|g| g["name"] == "memory_attention").unwrap();
            assert_eq!(graph["cost"]["unknown"], serde_json::json!({}), "{graph}");
            let flops = graph["cost"]["flops"].as_object().unwrap();
            let all: u64 = flops.values().map(|n| n.as_u64().unwrap()).sum();
            (flops.contains_key("MultiHeadAttention"), all, graph["cost"]["peak_activation_bytes"].as_u64().unwrap())
        };
        let (plain, fused) = (attention(&value), attention(&cpu));
        assert_eq!((plain.0, fused.0), (false, true));
        assert!(fused.1 < plain.1 && fused.2 < plain.2, "fewer operations, no matrix of scores: {plain:?} {fused:?}");
        let text = run(&["--dtype", "bf16", "--objects", "2"]);
        assert!(text.contains("tracked frame") && text.contains("MatMul") && text.contains("bf16"), "{text}");
        assert!(text.contains("nothing is missing"), "{text}");
        let forms = |text: &str| -> Vec<String> {
            let named = |line: &&str| line.starts_with("  forms  ");
            text.lines().filter(named).map(|line| line.trim_start_matches("  forms  ").to_string()).collect()
        };
        let changed = "attention=fused changes 4; attention=onnx changes 4";
        let in_half = forms(&text);
        assert!(in_half.contains(&format!("as in the file; {changed}")), "{text}");
        assert!(in_half.len() < graphs.len(), "graphs without another form say nothing: {text}");
        let cpu_form = format!("as in the file; form=cpu fp32/memory_attention.cpu.onnx; {changed}");
        assert!(forms(&run(&["--dtype", "fp32"])).contains(&cpu_form));
        assert!(text.contains("the masks of transformers' video session"), "{text}");
        assert!(text.contains("packs copy") && text.contains("frames of clip g0 are in"), "they share frames: {text}");
    }
}

#[test]
fn no_sum_leaves_out_operators_that_could_not_be_counted() {
    let pack = concat!(env!("CARGO_MANIFEST_DIR"), "/runners/tests/data/sam2_image_mini");
    let run = |args: &[&str]| {
        let output = Command::new(cargo_bin!("jetbench")).args(["packs", "inspect", pack]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let value: serde_json::Value = serde_json::from_str(&run(&["--json", "--roofline", "orin-nano-8gb"])).unwrap();
    let graphs = value["graphs"].as_array().unwrap();
    let whole = |graph: &serde_json::Value| graph["cost"]["unknown"] == serde_json::json!({});
    assert!(!graphs.iter().all(whole), "this pack has such operators");
    for graph in graphs {
        let limit = &value["roofline"]["limits"][graph["name"].as_str().unwrap()];
        assert_eq!(limit.is_object(), whole(graph), "{graph}");
    }
    assert!(value["frame"].is_null() && value["memory"]["activations_bytes"].is_null(), "{value}");
    assert!(value["memory"]["weights_bytes"].as_u64().unwrap() > 0);
    let said = run(&["--roofline", "orin-nano-8gb"]);
    for part in
        ["tracked frame: not known: not counted are", "memory needed: not known", "vision_encoder    not known: ", " >"]
    {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn a_copied_pack_holds_all_it_leads_to() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    let run =
        |args: &[&std::path::Path]| Command::new(cargo_bin!("jetbench")).arg("packs").args(args).output().unwrap();
    let pack = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/packs/edgetam_mini");
    let output = run(&["copy".as_ref(), &pack, &copy]);
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("now in it: reference/golden.json: frames of clip g0"), "{said}");
    let inspected = run(&["inspect".as_ref(), &copy, "--json".as_ref()]);
    let value: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!((&value["outside"], &value["missing"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert!(copy.join("reference/shared/0/g0/00023.png").is_file());
    let again = run(&["copy".as_ref(), &pack, &copy]);
    assert!(
        again.status.code() == Some(2) && text(&again.stderr).contains("exists already"),
        "{}",
        text(&again.stderr)
    );
}

#[test]
fn the_table_goes_to_markdown_and_verbose_says_more() {
    let bench = Bench::new();
    let quiet = bench.run("good_mask", &["--export-markdown", "table.md"]);
    assert_eq!(quiet.code, 0);
    let table = std::fs::read_to_string(bench.path("table.md")).unwrap();
    let rows: Vec<&str> = table.lines().filter(|l| l.starts_with('|')).collect();
    assert_eq!(rows.len(), 3, "heading, rule, one cell: {table}");
    assert!(rows[2].contains("good_mask") && rows[2].contains("valid"), "{table}");
    let columns = |row: &str| row.matches('|').count();
    assert!(rows.iter().all(|row| columns(row) == columns(rows[0])), "{table}");

    // On stdout, before the line for scripts; the same table from the record later.
    let run = quiet.dir.to_str().unwrap();
    let again = bench.output(&["report", run, "--export-markdown", "-"]);
    assert_eq!(text(&again.stdout), table);
    let refused = bench.output(&["report", run, "--export-markdown", "table.md/table.md"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("--export-markdown: cannot write table.md/table.md"), "{}", stderr(&refused));

    let loud = bench.run("good_mask", &["-v"]);
    let said = |ran: &Ran, part: &str| ran.stderr.contains(part);
    assert!(said(&loud, "cell 1/1: good_mask fp32 cpu") && said(&loud, "workers speak to "), "{}", loud.stderr);
    assert!(!said(&quiet, "cell 1/1: good_mask fp32 cpu") && !said(&quiet, "workers speak to "), "{}", quiet.stderr);
}

#[test]
fn what_does_not_fit_the_memory_budget_is_refused_before_anything_is_loaded() {
    let bench = Bench::new();
    let packs = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/packs");
    let flags = ["--models", "sam2_mini_points", "--dtype", "fp32", "--data", "data", "--packs", packs];
    let refused = |models: &str, budget: &str| {
        let mut args = flags.to_vec();
        args[1] = models;
        args.extend(["--memory-budget", budget]);
        let output = bench.output(&args);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(!bench.path("results").exists(), "nothing was begun");
        stderr(&output)
    };
    let said = refused("sam2_mini_points", "10MiB");
    for part in [
        "--memory-budget: sam2_mini_points fp32 cpu: about",
        "for 2 objects in one video",
        "(an estimate from the graphs",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(refused("sam2_mini_points", "40").contains("a number with a unit is needed"));
    assert!(refused("good_points", "4GiB").contains("its memory cannot be estimated"), "a mock has no graphs");
}
