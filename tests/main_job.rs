//! The program as a user calls it, on real packs and real clips: the main job, its precisions, flat memory, and every
//! kind of bad pack, runtime and device. Needs ONNX Runtime and packs (`assets/packs`, or those that
//! `JETBENCH_TEST_PACKS` names, separated by `:`); what is missing is said, and those tests pass without it.

mod found;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use jetbench::dataset::LabelMasks;
use jetbench_runners::types::{Device, Dtype, Mask, Options};
use jetbench_runners::{packs, pool, runtime};
use serde_json::Value;

use crate::workshop::limited;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Said on the real standard error, which the test harness does not swallow.
fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "skipped {what}");
}

/// The trackers' packs to test with, or `None` after saying why there are none.
fn real_packs(test: &str, needs_runtime: bool) -> Option<Vec<packs::PackInfo>> {
    let roots: Vec<PathBuf> = match std::env::var_os("JETBENCH_TEST_PACKS") {
        Some(paths) => std::env::split_paths(&paths).collect(),
        None => vec![repository().join("assets/packs")],
    };
    let found = packs::list(&roots, Device::Cpu).into_iter().filter_map(|(_, info)| info.ok());
    let found: Vec<_> = found.filter(|info| !info.detects && !info.labels() && !info.finds_and_tracks()).collect();
    if found.is_empty() {
        skipped(&format!("{test}: no packs in {roots:?}"));
        return None;
    }
    if let Some(problem) = runtime::probe(None).problem.filter(|_| needs_runtime) {
        skipped(&format!("{test}: {problem}"));
        return None;
    }
    Some(found)
}

fn jetbench(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(cargo_bin!("jetbench"));
    command.current_dir(dir).args(args).env("JETBENCH_LOCKS", dir.join("locks"));
    for name in ["JETBENCH_PACKS", "JETBENCH_CONFIG", "JETBENCH_RESULTS", "JETBENCH_HOME", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    limited(command)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs these packs on the demo clips, where no other data is named; gives the record.
fn run(dir: &Path, packs: &[packs::PackInfo], more: &[&str]) -> (Option<i32>, Value, PathBuf) {
    let models = packs.iter().map(|p| format!("{}_points", p.id)).collect::<Vec<_>>().join(",");
    let data = repository().join("assets/demo").display().to_string();
    let mut args = vec!["--models", &models, "--threads", "1", "--json", "--quiet"];
    if !more.contains(&"--data") {
        args.extend(["--data", &data]);
    }
    let places: Vec<String> = packs.iter().map(|p| p.dir.display().to_string()).collect();
    for place in &places {
        args.extend(["--packs", place]);
    }
    args.extend(more);
    let output = jetbench(dir, &args);
    let (place, record) = recorded(dir, &output);
    (output.status.code(), record, place)
}

/// Where a run that was started in `dir` with `--json` lies, and its record.
fn recorded(dir: &Path, output: &Output) -> (PathBuf, Value) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e}: {text}{}", stderr(output)));
    let place = dir.join(line["run"].as_str().unwrap());
    let record = serde_json::from_slice(&std::fs::read(place.join("run.json")).unwrap()).unwrap();
    (place, record)
}

#[test]
fn every_precision_runs_and_says_what_it_computed() {
    let Some(packs) = real_packs("every_precision_runs_and_says_what_it_computed", true) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (code, record, place) = run(dir.path(), &packs, &["--dtype", "fp32,fp16,bf16", "--limit-videos", "1"]);
    assert_eq!(code, Some(0), "{:#}", record["cells"]);
    for cell in record["cells"].as_array().unwrap() {
        let asked = cell["dtype"].as_str().unwrap();
        let expected = match asked {
            "fp32" => "fp32".to_string(),
            half => format!("{half} operands, fp32 accumulation, emulated"),
        };
        assert_eq!(cell["effective_dtype"], expected);
        for stage in cell["precision"].as_array().unwrap() {
            assert_eq!(stage["kind"], if asked == "fp32" { "native" } else { "emulated" });
            assert!(!stage["evidence"].as_array().unwrap().is_empty(), "{stage} has no evidence");
        }
        assert!(!cell["runtime"]["version"].as_str().unwrap().is_empty());
        let frame = &cell["sequences"][0]["frames"][5];
        let stages = frame["stages_ms"].as_object().unwrap();
        let sum: f64 = stages.values().map(|v| v.as_f64().unwrap()).sum();
        let latency = frame["latency_ms"].as_f64().unwrap();
        assert!(stages.len() >= 6 && sum <= latency, "stages {stages:?} of {latency} ms");
    }
    for plot in ["accuracy_speed.svg", "latency.png"] {
        assert!(place.join("plots").join(plot).is_file(), "{plot} is missing");
    }
}

/// Prompts that no golden reference has: two clicks, a negative click, a box on frame 10 (tests/cases/prompts). The masks are those of
/// transformers' session, frame by frame, within the share of pixels that `verify` allows a track.
#[test]
fn several_clicks_negative_ones_and_late_boxes_give_the_sessions_masks() {
    let test = "several_clicks_negative_ones_and_late_boxes_give_the_sessions_masks";
    let Some(packs) = real_packs(test, true) else { return };
    let cases = repository().join("tests/cases/prompts");
    let (data, prompts) = (repository().join("assets/golden/g2"), cases.join("prompts.json"));
    let (data, prompts) = (data.to_str().unwrap(), prompts.to_str().unwrap());
    for pack in packs {
        let Ok(reference) = std::fs::read(cases.join(format!("{}.json", pack.id))) else {
            skipped(&format!("{test} for {}: no reference", pack.id));
            continue;
        };
        let reference: Value = serde_json::from_slice(&reference).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (model, place) = (format!("{}_points", pack.id), pack.dir.to_str().unwrap());
        let job =
            ["--models", &model, "--packs", place, "--dtype", "fp32", "--data", data, "--quiet", "--min-frames", "1"];
        let output = jetbench(dir.path(), &[&job[..], &["--prompts", prompts, "--save-masks", "--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        let saved = dir.path().join(line["run"].as_str().unwrap()).join("masks").join(format!("{model}-fp32-cpu/g2"));
        let size = [1, 0].map(|axis: usize| reference["size"][axis].as_u64().unwrap() as u32);
        for (object, track) in reference["tracks"].as_object().unwrap() {
            let track = track.as_array().unwrap();
            let (mut apart, mut pixels) = (0, 0);
            for (i, runs) in track.iter().enumerate() {
                let runs: Vec<u32> = runs.as_array().unwrap().iter().map(|run| run.as_u64().unwrap() as u32).collect();
                let theirs = Mask::from_runs(size[0], size[1], &runs).unwrap();
                let file = saved.join(object).join(format!("{:05}.png", 24 - track.len() + i));
                let masks = LabelMasks::decode(&std::fs::read(&file).unwrap()).unwrap().masks;
                let ours = masks.into_iter().next().map_or_else(|| Mask::empty(size[0], size[1]), |(_, mask)| mask);
                let both = theirs.overlap(&ours);
                apart += theirs.area() + ours.area() - 2 * both;
                pixels += u64::from(size[0]) * u64::from(size[1]);
            }
            assert!(apart * 10_000 <= pixels, "{model}, object {object}: {apart} of {pixels} pixels differ");
        }
        // A correction of a running track is refused, with the reason.
        let output = jetbench(
            dir.path(),
            &[&job[..], &["--clicks", "obj=1 49,100", "--clicks", "obj=1 frame=20 49,100"]].concat(),
        );
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("the graphs keep one prompted frame per object in their memory"), "{said}");
    }
}

#[test]
fn memory_is_flat_in_video_length() {
    let Some(packs) = real_packs("memory_is_flat_in_video_length", true) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (_, record, _) = run(dir.path(), &packs, &["--dtype", "fp32", "--limit-videos", "1", "--loop-frames", "700"]);
    for cell in record["cells"].as_array().unwrap() {
        let curve = cell["memory_curve"].as_array().unwrap();
        let rss = |n: u64| curve.iter().find(|p| p["frames"] == n).unwrap()["rss_mib"].as_f64().unwrap();
        let growth = rss(700) - rss(200);
        assert!(growth < 3.0, "{} grew by {growth} MiB from frame 200 to frame 700", cell["model"]);
    }
}

#[test]
fn graphs_work_in_huge_pages_unless_told_otherwise() {
    let Some(packs) = real_packs("graphs_work_in_huge_pages_unless_told_otherwise", true) else { return };
    let dir = tempfile::tempdir().unwrap();
    let setting = std::fs::read_to_string(Path::new("/").join(pool::SETTING)).unwrap_or_default();
    let cell = |option: &str| {
        let more = ["--dtype", "fp32", "--limit-videos", "1", "--limit-frames", "6", "--option", option];
        let (_, record, _) = run(dir.path(), &packs[..1], &more);
        assert_eq!(record["device"]["facts"]["huge_pages"].as_str(), pool::kernel(&setting));
        let cell = record["cells"][0].clone();
        let note = |n: &Value| n["text"].as_str().filter(|n| n.starts_with("huge pages: ")).map(str::to_string);
        let note = cell["notes"].as_array().unwrap().iter().find_map(note).unwrap();
        (note, cell["memory"]["peak"]["huge_mib"].as_f64(), cell["summary"]["jf"].clone())
    };
    let (on, off) = (cell("huge_pages=on"), cell("huge_pages=off"));
    assert_eq!(off.0, "huge pages: off");
    assert_eq!(on.2, off.2, "pages change no mask");
    match pool::kernel(&setting) {
        Some("madvise") => {
            assert_eq!((on.0.as_str(), off.1), ("huge pages: requested", Some(0.0)));
            assert!(on.1.unwrap() > 8.0, "{on:?}");
        }
        Some("always") => assert_eq!(on.0, "huge pages: requested"),
        _ => assert!(on.0.starts_with("huge pages: none, ") && on.1.is_none_or(|mib| mib == 0.0), "{on:?}"),
    }
}

#[test]
fn a_memory_budget_is_recorded_and_held_against_the_measured_peak() {
    let name = "a_memory_budget_is_recorded_and_held_against_the_measured_peak";
    let Some(packs) = real_packs(name, true) else { return };
    let dir = tempfile::tempdir().unwrap();
    let notes = |budget: &str, bytes: u64| {
        let more = ["--dtype", "fp32", "--limit-videos", "1", "--limit-frames", "6", "--memory-budget", budget];
        let (_, record, _) = run(dir.path(), &packs[..1], &more);
        assert_eq!(record["settings"]["memory_budget"], bytes);
        record["cells"][0]["notes"].to_string()
    };
    assert!(!notes("1000GiB", 1000 << 30).contains("memory budget"));
    // An arena of each graph's own keeps more than the estimate counts.
    let mut options = Options::default();
    options.set("cpu_arena", "own").unwrap();
    let load = jetbench::plan::budget::Load {
        pack: &packs[0].dir,
        detector: None,
        labels: None,
        dtype: Dtype::Fp32,
        device: Device::Cpu,
        objects: 2,
        finds: false,
        options,
    };
    let estimate = load.estimate().unwrap();
    let budget = format!("{}KiB", estimate.div_ceil(1024));
    let more = ["--dtype", "fp32", "--limit-videos", "1", "--limit-frames", "6", "--option", "cpu_arena=own"];
    let (_, record, _) = run(dir.path(), &packs[..1], &[&more[..], &["--memory-budget", &budget]].concat());
    let said = record["cells"][0]["notes"].to_string();
    assert!(said.contains("the memory budget of") && said.contains("of the worker process"), "{said}");
}

/// The bound that docs/usage.md states, with room for other machines.
#[test]
fn estimates_of_memory_lie_near_the_measured_peak() {
    let Some(packs) = real_packs("estimates_of_memory_lie_near_the_measured_peak", true) else { return };
    let dir = tempfile::tempdir().unwrap();
    let drawn = ["data", "synth", "drawn", "--videos", "1", "--objects", "8", "--frames", "10"];
    assert!(jetbench(dir.path(), &drawn).status.success());
    for (objects, way) in [(1, "batch"), (8, "batch"), (8, "loop")] {
        let (limit, option) = (objects.to_string(), format!("objects={way}"));
        let more = ["--dtype", "fp32", "--data", "drawn", "--limit-objects", &limit, "--option", &option];
        let (_, record, _) = run(dir.path(), &packs, &more);
        for (cell, pack) in record["cells"].as_array().unwrap().iter().zip(&packs) {
            let mut options = Options { threads: Some(1), ..Options::default() };
            options.set("objects", way).unwrap();
            let (dtype, device) = (Dtype::Fp32, Device::Cpu);
            let load = jetbench::plan::budget::Load {
                pack: &pack.dir,
                detector: None,
                labels: None,
                dtype,
                device,
                objects,
                finds: false,
                options,
            };
            let estimate = load.estimate().unwrap() as f64 / 1_048_576.0;
            let rss = |phase: &str| cell["memory"][phase]["rss_mib"].as_f64().unwrap();
            // The estimate counts the program as it is released; as it is built for tests its own pages weigh more.
            let peak = rss("peak") - (rss("idle") - 8.0).max(0.0);
            let share = peak / estimate;
            let what = format!("{} {objects} {way}: {peak} MiB measured, {estimate} estimated", pack.id);
            assert!((0.75..1.3).contains(&share), "{what}");
        }
    }
}

#[test]
fn the_reference_is_met_through_the_program() {
    let Some(packs) = real_packs("the_reference_is_met_through_the_program", true) else { return };
    for pack in packs {
        let output = jetbench(repository(), &["verify", pack.dir.to_str().unwrap(), "--json"]);
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
        assert_eq!((output.status.code(), &report["pass"]), (Some(0), &Value::Bool(true)), "{report:#}");
        assert_eq!((&report["verdict"], &report["missing"]), (&"pass".into(), &Value::Array(Vec::new())));
        let compared = &report["compared"];
        assert_eq!(compared["graphs"]["memory_attention"], serde_json::json!(["cpu", "plain"]));
        assert!(compared["with_object"].as_u64().unwrap() > 200 && compared["without_object"].as_u64().unwrap() > 100);
    }
}

/// A copy of a pack with one thing changed.
fn broken(pack: &packs::PackInfo, root: &Path, name: &str, change: impl FnOnce(&Path)) -> PathBuf {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            let target = to.join(entry.file_name());
            if entry.path().is_dir() { copy(&entry.path(), &target) } else { drop(std::fs::copy(entry.path(), target)) }
        }
    }
    let dir = root.join(name);
    copy(&pack.dir, &dir);
    change(&dir);
    dir
}

/// ONNX Runtime 1.29 and newer keeps an identifier and a queue of what it reports below the user's cache directory.
#[test]
fn the_runtime_reports_to_nobody() {
    let Some(packs) = real_packs("the_runtime_reports_to_nobody", true) else { return };
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, model) = (repository().join("assets/demo"), format!("{}_points", packs[0].id));
    let output = Command::new(cargo_bin!("jetbench"))
        .current_dir(dir.path())
        .args(["--models", &model, "--packs", packs[0].dir.to_str().unwrap(), "--data", data.to_str().unwrap()])
        .args(["--dtype", "fp32", "--limit-videos", "1", "--quiet"])
        .env("ORT_DYLIB_PATH", runtime::probe(None).chosen.unwrap())
        .env("XDG_CACHE_HOME", home.path())
        .env("HOME", home.path())
        .env("JETBENCH_LOCKS", dir.path().join("locks"))
        .env_remove("ORT_DISABLE_TELEMETRY")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "a run leaves nothing at home: {left:?}");
}

#[test]
fn broken_packs_are_refused_before_a_device_is_touched() {
    let Some(packs) = real_packs("broken_packs_are_refused_before_a_device_is_touched", false) else { return };
    let root = tempfile::tempdir().unwrap();
    let pack = &packs[0];
    let refused = |dir: PathBuf, words: &[&str]| {
        let data = repository().join("assets/demo").display().to_string();
        let model = format!("{}_points", pack.id);
        let args = ["--packs", dir.to_str().unwrap(), "--models", &model, "--dtype", "fp32", "--data", &data];
        let output = jetbench(root.path(), &args);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        for word in words {
            assert!(stderr(&output).contains(word), "`{word}` is not in: {}", stderr(&output));
        }
        assert!(!root.path().join("results").exists());
    };
    let graph = "fp32/mask_decoder.onnx";
    let truncated = broken(pack, root.path(), "truncated", |dir| {
        let bytes = std::fs::read(dir.join(graph)).unwrap();
        std::fs::write(dir.join(graph), &bytes[..bytes.len() / 2]).unwrap();
    });
    refused(truncated, &[graph, "no usable ONNX file"]);
    let changed = broken(pack, root.path(), "changed", |dir| {
        let mut bytes = std::fs::read(dir.join(graph)).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(dir.join(graph), bytes).unwrap();
    });
    refused(changed, &[graph]);
    let gone = broken(pack, root.path(), "gone", |dir| std::fs::remove_file(dir.join(graph)).unwrap());
    refused(gone, &[graph]);
    let shape = broken(pack, root.path(), "shape", |dir| {
        let text = std::fs::read_to_string(dir.join("pack.toml")).unwrap();
        // One object at a time, or an object axis.
        let changed = ["1", "\"objects\""].iter().fold(text.clone(), |text, first| {
            let shape = |last| format!("name = \"predicted_iou\", dtype = \"f32\", shape = [{first}, {last}]");
            text.replacen(&shape(1), &shape(2), 1)
        });
        assert_ne!(text, changed, "the manifest is written in another way");
        std::fs::write(dir.join("pack.toml"), changed).unwrap();
    });
    refused(shape, &["mask_decoder", "predicted_iou", ", 2]"]);
}

#[test]
fn a_missing_runtime_or_device_is_an_environment_error() {
    let Some(packs) = real_packs("a_missing_runtime_or_device_is_an_environment_error", false) else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = repository().join("assets/demo").display().to_string();
    let model = format!("{}_points", packs[0].id);
    let args = |more: &[&str]| {
        let mut args = vec!["--packs", packs[0].dir.to_str().unwrap(), "--models", &model, "--data", &data];
        args.extend(more);
        jetbench(dir.path(), &args)
    };
    let output = args(&["--ort-lib", "/nowhere/libonnxruntime.so"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("/nowhere/libonnxruntime.so"), "{}", stderr(&output));
    let file = dir.path().join("libonnxruntime.so");
    std::fs::write(&file, "no library").unwrap();
    assert_eq!(args(&["--ort-lib", file.to_str().unwrap()]).status.code(), Some(3));

    let probe = runtime::probe(None);
    if probe.problem.is_some() || probe.providers.iter().any(|p| p == "CUDAExecutionProvider") {
        return skipped(
            "the device part of a_missing_runtime_or_device_is_an_environment_error: no CPU-only runtime here",
        );
    }
    for device in ["cuda:0", "tensorrt:0"] {
        let output = args(&["--device", device]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains("--device cpu"), "{}", stderr(&output));
    }
    assert!(!dir.path().join("results").exists(), "nothing may be written");
}

#[test]
fn fp32_on_the_cpu_copies_the_image_in_and_the_mask_out_and_nothing_else() {
    let Some(packs) = real_packs("fp32_on_the_cpu_copies_the_image_in_and_the_mask_out", true) else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = repository().join("assets/demo").display().to_string();
    for pack in packs {
        let (model, place) = (format!("{}_mask", pack.id), pack.dir.display().to_string());
        let args =
            ["audit", "--models", &model, "--dtype", "fp32", "--packs", &place, "--data", &data, "--frames", "4"];
        let args: Vec<&str> = args.into_iter().chain(["--json", "--fail-on", "minor"]).collect();
        let output = jetbench(dir.path(), &args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["transfers"], serde_json::json!({"critical": 0, "medium": 0, "minor": 0}));
        let items = report["items"].as_array().unwrap();
        let tensors: Vec<&str> = items.iter().map(|i| i["tensor"].as_str().unwrap()).collect();
        assert_eq!(tensors, ["image", "low_res_mask"], "{items:?}");
        for graph in report["graphs"].as_array().unwrap() {
            assert_eq!((&graph["provider"], &graph["time_share"]), (&"CPUExecutionProvider".into(), &1.0.into()));
            assert!(graph["nodes"].as_u64().unwrap() > 10, "{graph}");
        }
        assert!(report["graphs"].as_array().unwrap().len() >= 5, "every graph of a mask prompt ran");
    }
}

#[test]
fn a_pack_is_compared_with_itself_run_otherwise() {
    let Some(packs) = real_packs("a_pack_is_compared_with_itself_run_otherwise", true) else { return };
    let Some(pack) = packs.iter().find(|p| p.family == "edgetam") else { return };
    let verify = |against: &str, more: &[&str]| {
        let mut args = vec!["verify", pack.dir.to_str().unwrap(), "--threads", "2", "--json", "--against", against];
        args.extend(more);
        let output = jetbench(repository(), &args);
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
        (output.status.code(), report)
    };
    let (code, report) = verify("threads=1", &[]);
    assert_eq!((code, &report["pass"]), (Some(0), &Value::Bool(true)), "{}", report["worst"]);
    let graphs: std::collections::BTreeSet<&str> =
        report["comparisons"].as_array().unwrap().iter().map(|c| c["graph"].as_str().unwrap()).collect();
    assert!(graphs.contains("image_encoder") && graphs.contains("memory_encoder"), "{graphs:?}");
    // Attention by fused kernels against the file's operators in strips: the same but for sums in another order.
    let (code, report) =
        verify("attention=100", &["--option", "attention=fused", "--option", "form=plain", "--frames", "3"]);
    assert_eq!((code, &report["pass"]), (Some(0), &Value::Bool(true)), "{}", report["worst"]);
    assert!(report["worst"]["max_abs"].as_f64().unwrap() > 0.0, "both sides ran the same kernels");
    for (option, said) in [
        ("atention=fused", "no option `atention`; did you mean `attention`?"),
        ("attention=no", "expected whole, fused"),
        ("memory=gated", "a reference remembers every frame"),
    ] {
        let output = jetbench(repository(), &["verify", pack.dir.to_str().unwrap(), "--option", option]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    // Rounding to bf16 is within the limits of bf16, as the README's example says.
    let (code, report) = verify("dtype=bf16", &[]);
    assert_eq!((code, &report["pass"]), (Some(0), &Value::Bool(true)), "{}", report["worst"]);
    // It must show, and a limit that it breaks must fail.
    let (code, report) = verify("dtype=bf16", &["--max-abs", "1e-3", "--frames", "3"]);
    assert_eq!((code, &report["pass"]), (Some(1), &Value::Bool(false)));
    assert!(report["worst"]["max_abs"].as_f64().unwrap() > 1e-3);
    assert!(report["masks"]["min_iou"].as_f64().unwrap() <= 1.0);
}
