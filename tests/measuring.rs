//! What is measured and judged, through the mock runner: scenarios, repeats, timing figures, and what makes a cell invalid.

use serde_json::Value;

use crate::bench::{Bench, Ran, WIDTH, stderr};

#[test]
fn a_worker_that_was_stopped_says_so() {
    let bench = Bench::new();
    bench.pack("stopped", "[[mock.fault]]\nframe = 6\nkind = \"stop\"\n");
    let ran = bench.run("stopped_mask", &[]);
    assert_eq!((ran.code, ran.verdict(0)), (0, ("valid", String::new())));
    let disturbed = ran.line["cells"][0]["disturbed"].as_array().unwrap();
    assert!(disturbed.iter().any(|d| d == "stalled"), "{disturbed:?}");
    let stalls = ran.record["cells"][0]["sequences"][0]["stalls"].as_array().unwrap();
    assert!(stalls.iter().any(|s| s["ms"].as_f64().unwrap() >= 200.0), "stopped for 250 ms: {stalls:?}");
    let notes = ran.record["cells"][0]["notes"].as_array().unwrap();
    let note = notes.iter().find(|n| n["kind"] == "stalled").unwrap();
    assert!(note["text"].as_str().unwrap().starts_with("the worker stood still "), "{note}");
}

#[test]
fn faulty_warm_up_masks_make_a_cell_invalid_and_stop_it() {
    let bench = Bench::new();
    for kind in ["empty", "full", "non_finite"] {
        bench.pack(kind, &format!("[[mock.fault]]\nstep = 0\nkind = \"{kind}\"\n"));
    }
    let ran = bench.run("empty_mask,full_mask,non_finite_mask", &[]);
    assert_eq!(ran.code, 1);
    let verdicts: Vec<String> = (0..3).map(|i| format!("{:?}", ran.verdict(i))).collect();
    insta::assert_snapshot!(verdicts.join("\n"), @r#"
    ("invalid", "warm-up: empty mask for object 0 (prompted frame)")
    ("invalid", "warm-up: full mask for object 0 (prompted frame)")
    ("invalid", "warm-up: non-finite output for object 0 (prompted frame)")
    "#);
    assert_eq!(ran.record["cells"][0]["sequences"].as_array().unwrap().len(), 0);

    let ran = bench.run("empty_mask", &["--keep-going"]);
    assert_eq!((ran.code, ran.verdict(0).0), (1, "invalid"));
    assert_eq!(ran.record["cells"][0]["sequences"].as_array().unwrap().len(), 2);
}

#[test]
fn non_finite_output_while_tracking_makes_a_cell_invalid() {
    let bench = Bench::new();
    bench.pack("nan", "[[mock.fault]]\nframe = 5\nobject = 1\nkind = \"non_finite\"\n");
    let ran = bench.run("nan_bbox", &[]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(format!("{:?}", ran.verdict(0)), @r#"("invalid", "non-finite output: video a, frame 5, object 1 and 1 more")"#);
    // The score that was no number is an empty field, not 0.
    assert!(!ran.csv("frame_scores.csv").iter().flatten().any(|f| f.contains("NaN") || f.contains("nan,")));
}

#[test]
fn a_strict_precision_policy_refuses_another_precision() {
    let bench = Bench::new();
    bench.pack("emulated", "effective = \"bf16 operands, fp32 accumulation, emulated\"\n");
    let args =
        ["--dtype", "bf16", "--precision-policy", "strict", "--models", "emulated_mask", "--data", "data", "--json"];
    let ran = Ran::new(&bench, bench.output(&args));
    insta::assert_snapshot!(format!("{} {:?}", ran.code, ran.verdict(0)), @r#"1 ("invalid", "precision: mock was asked to compute in bf16 and computed in bf16 operands, fp32 accumulation, emulated")"#);
    let report: Vec<&str> = args.iter().map(|a| if *a == "strict" { "report" } else { a }).collect();
    let ran = Ran::new(&bench, bench.output(&report));
    assert_eq!(ran.code, 0, "{}", ran.line);
    assert_eq!(ran.record["cells"][0]["effective_dtype"], "bf16 operands, fp32 accumulation, emulated");

    // Quantised in part, as every tracker is: int8 is asked for, recorded with its share, and never called native.
    let words = "int8 and fp32 (55 of 70 MatMul, Gemm and Conv in int8)";
    bench.pack("part", &format!("effective = \"{words}\"\n"));
    let int8 = |policy: &str| {
        let args =
            ["--dtype", "int8", "--precision-policy", policy, "--models", "part_mask", "--data", "data", "--json"];
        Ran::new(&bench, bench.output(&args))
    };
    let refused = int8("strict");
    assert_eq!((refused.code, refused.verdict(0).0), (1, "invalid"));
    assert!(
        refused.verdict(0).1.contains("compute in int8 and computed in int8 and fp32 (55 of 70"),
        "{:?}",
        refused.verdict(0)
    );
    let ran = int8("report");
    assert_eq!((ran.code, &ran.record["cells"][0]["dtype"]), (0, &Value::from("int8")));
    assert_eq!(ran.record["cells"][0]["effective_dtype"], words);
    let summary = ran.csv("summary.csv");
    assert!(summary.iter().flatten().any(|field| field == "int8"), "{summary:?}");
}

#[test]
fn a_provider_fallback_makes_a_cell_invalid() {
    let bench = Bench::new();
    bench.pack("elsewhere", "fallback = \"image_encoder ran on CPUExecutionProvider\"\n");
    let ran = bench.run("elsewhere_mask", &[]);
    assert_eq!(
        (ran.code, ran.verdict(0)),
        (1, ("invalid", "provider fallback: image_encoder ran on CPUExecutionProvider".to_string()))
    );
}

/// 5 frames a second, 1.35 periods of work per frame and 2.3 for the sixth: frames come and go while it works. Which ones is arithmetic on a
/// virtual clock in `plan/scenario.rs`; here the record must agree with itself, however late a busy machine lets the worker run.
#[test]
fn real_time_drops_frames_that_come_meanwhile_and_scores_them_with_the_masks_before() {
    let bench = Bench::new();
    bench.pack("slow", "motion = [1.0, 0.0]\nframe_ms = [270, 270, 270, 270, 270, 460, 270, 270, 270, 270]\n");
    let args = ["--scenario", "realtime", "--fps", "5", "--limit-videos", "1", "--min-frames", "1"];
    let ran = bench.run("slow_mask", &args);
    assert_eq!(ran.code, 0, "{}", ran.line);
    let cell = &ran.record["cells"][0];
    let sequence = &cell["sequences"][0];
    let indices =
        |list: &Value, of: fn(&Value) -> u64| -> Vec<u64> { list.as_array().unwrap().iter().map(of).collect() };
    let dropped = indices(&sequence["dropped"], |d| d.as_u64().unwrap());
    let worked = indices(&sequence["frames"], |f| f["frame"].as_u64().unwrap());
    let mut all = [dropped.clone(), worked.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..13).collect::<Vec<u64>>(), "every frame is worked on or dropped");
    assert!(!dropped.is_empty() && ![0, 4].iter().any(|prompted| dropped.contains(prompted)), "{dropped:?}");
    assert_eq!(cell["summary"]["dropped"].as_u64().unwrap(), dropped.len() as u64);
    assert_eq!(cell["scenario"], "realtime");
    for frame in sequence["frames"].as_array().unwrap() {
        let (latency, response) = (frame["latency_ms"].as_f64().unwrap(), frame["response_ms"].as_f64().unwrap());
        assert!(response >= latency && latency >= 270.0, "{frame}");
    }
    assert_eq!(cell["summary"]["deadline_misses"].as_u64().unwrap(), worked.len() as u64, "270 ms are more than 200");
    // The object is 12 pixels wide and moves one a frame; the mock moves one per frame it sees. So its mask lags by as many
    // pixels as frames were dropped, and a dropped frame is scored with the mask of the frame before.
    let per_frame = sequence["objects"][0]["per_frame"].as_array().unwrap();
    for frame in [0, 4, 8, 12] {
        let j = per_frame.iter().find(|f| f["frame"] == frame).unwrap()["j"].as_f64().unwrap();
        let lag = dropped.iter().filter(|d| **d <= frame).count().min(12) as f64;
        let expected = 100.0 * (12.0 - lag) / (12.0 + lag);
        assert!((j - expected).abs() < 1e-9, "frame {frame}: {j}, {expected} expected");
    }
    let html = std::fs::read_to_string(ran.dir.join("report.html")).unwrap();
    let said = format!("{} frames dropped, {} worked on", dropped.len(), worked.len());
    assert!(html.contains(&said), "the report says what was dropped");

    bench.pack("quick", "frame_ms = [1.0]\n");
    let ran =
        bench.run("quick_mask", &["--scenario", "realtime", "--fps", "20", "--limit-videos", "1", "--min-frames", "1"]);
    let wall = ran.record["cells"][0]["sequences"][0]["wall_ms"].as_f64().unwrap();
    assert!(wall >= 600.0, "13 frames at 20 a second take 0.6 s, not {wall} ms");
}

#[test]
fn offline_gives_the_same_masks_as_one_at_a_time() {
    let bench = Bench::new();
    let jf = |scenario: &str| {
        let ran = bench.run("good_mask,good_points", &["--scenario", scenario]);
        assert_eq!(ran.code, 0, "{}", ran.line);
        let cells = ran.record["cells"].as_array().unwrap().clone();
        cells.iter().map(|c| (c["summary"]["jf"].clone(), c["summary"]["frames"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(jf("offline"), jf("single-stream"));
    let output = bench.output(&["--models", "good_mask", "--data", "data", "--scenario", "burst"]);
    assert_eq!(output.status.code(), Some(2));
    let said = "error: invalid value 'burst' for '--scenario <NAME>': unknown scenario `burst`; known: single-stream, offline, realtime";
    assert!(stderr(&output).starts_with(said), "{}", stderr(&output));
}

#[test]
fn repeats_run_in_turn_in_fresh_processes_and_give_intervals() {
    let bench = Bench::new();
    bench.pack("other", "motion = [1.0, 0.0]\nframe_ms = [2.0]\n");
    let ran = bench.run("good_mask,other_mask", &["--repeat", "5", "--limit-videos", "1", "--min-frames", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.line);
    assert_eq!(ran.line["cells"].as_array().unwrap().len(), 2, "one line per cell, however often it ran");
    for cell in ran.record["cells"].as_array().unwrap() {
        let repeats = cell["repeats"].as_array().unwrap();
        assert_eq!(repeats.len(), 5);
        let own: Vec<f64> = repeats.iter().map(|r| r["summary"]["latency"]["p50_ms"].as_f64().unwrap()).collect();
        let mut sorted = own.clone();
        sorted.sort_by(f64::total_cmp);
        assert_eq!(cell["summary"]["latency"]["p50_ms"], sorted[2], "the headline is the median of {own:?}");
        let spread = &cell["summary"]["repeats"]["latency_p50_ms"];
        assert_eq!(spread["interval"]["low"], sorted[0]);
        assert!(spread["next_run"]["high"].as_f64().unwrap() >= sorted[2]);
        // Repeats have processes of their own: each one loaded.
        assert!(repeats.iter().all(|r| r["load_ms"].as_f64().is_some() && r["first_mask_ms"].as_f64().is_some()));
    }
    assert_eq!(ran.csv("repeats.csv").len(), 1 + 2 * 5);
    assert_eq!(ran.csv("frames.csv").len(), 1 + 2 * 5 * 13, "every frame of every repeat is kept");
    let telemetry = ran.csv("telemetry.csv");
    let order: Vec<(String, String)> = telemetry[1..].iter().map(|r| (r[6].clone(), r[0].clone())).collect();
    let mut turns = order.clone();
    turns.dedup();
    assert_eq!(turns.len(), 10, "cells take turns: {turns:?}");
    assert_eq!((turns[0].1.as_str(), turns[1].1.as_str()), ("good_mask", "other_mask"));

    bench.pack("shaky", "frame_ms = [0.0]\n[[mock.fault]]\nframe = 3\nkind = \"abort\"\n");
    let ran = bench.run("shaky_mask,good_mask", &["--repeat", "2"]);
    assert_eq!((ran.code, ran.verdict(0).0, ran.verdict(1).0), (1, "failed", "valid"));
    assert!(ran.verdict(0).1.starts_with("track: repeat 1 of 2: the worker died"), "{:?}", ran.verdict(0));
}

#[test]
fn every_run_says_what_the_harness_itself_costs() {
    let bench = Bench::new();
    let ran = bench.run("good_mask", &[]);
    let null = &ran.record["null_run"];
    assert_eq!((&null["frames"], &null["objects"], &null["width"]), (&1000.into(), &2.into(), &WIDTH.into()));
    let median = null["median_us"].as_f64().unwrap();
    assert!(median > 0.0, "{median}");
    let html = std::fs::read_to_string(ran.dir.join("report.html")).unwrap();
    assert!(html.contains("The harness itself cost"), "the report says it");
    let summary = ran.csv("summary.csv");
    let column = summary[0].iter().position(|name| name == "harness_median_us").unwrap();
    assert_eq!(summary[1][column].parse::<f64>().unwrap(), median);
}

#[test]
fn timing_figures_are_in_the_record() {
    let bench = Bench::new();
    bench.pack("timed", "frame_ms = [5.0]\nload_ms = 50.0\n");
    let ran = bench.run("timed_mask", &["--fps", "250", "--min-seconds", "100"]);
    assert_eq!(ran.verdict(0).0, "invalid");
    assert!(ran.verdict(0).1.starts_with("too short: 0."), "{:?}", ran.verdict(0));
    let cell = &ran.record["cells"][0];
    let first = cell["warmup"]["first_mask_ms"].as_f64().unwrap();
    assert!(first >= 55.0, "loading takes 50 ms, the first frame 5: {first}");
    assert_eq!(cell["summary"]["deadline_misses"], 26, "5 ms are more than 4");
    let of = |s: &Value| -> Vec<f64> {
        s["frames"].as_array().unwrap().iter().map(|f| f["latency_ms"].as_f64().unwrap()).collect()
    };
    let sequences: Vec<Vec<f64>> = cell["sequences"].as_array().unwrap().iter().map(of).collect();
    let steps: Vec<f64> = sequences.iter().flat_map(|s| s.windows(2).map(|w| (w[1] - w[0]).abs())).collect();
    let jitter = cell["summary"]["jitter_ms"].as_f64().unwrap();
    assert!((jitter - steps.iter().sum::<f64>() / steps.len() as f64).abs() < 1e-9, "{jitter}");
    assert!(cell["summary"]["steady"].is_null(), "26 frames are too few to tell");
    let sensors = cell["sensors"]["read"].as_array().unwrap();
    assert!(sensors.contains(&"worker_rss_mib".into()) && sensors.contains(&"worker_cpu_s".into()), "{sensors:?}");
    let missing = cell["sensors"]["missing"].as_array().unwrap();
    assert!(missing.iter().all(|m| !m["reason"].as_str().unwrap().is_empty()));
    // Whether this machine is steady now is its own affair; the record says what its frames say.
    let ran = bench.run("good_mask", &["--loop-frames", "120", "--limit-videos", "1"]);
    let record = jetbench::results::store::load(&ran.dir).unwrap();
    let steady = record.cells[0].summary.as_ref().unwrap().steady.map(|s| (s.begins_after, s.frames));
    let expected = match jetbench::judge::course::steadiness(&record.cells[0]) {
        jetbench::judge::course::Steadiness::From(begin) => Some((begin, 120 - begin)),
        _ => None,
    };
    assert_eq!(steady, expected);
}

/// The memory of the worker is flat in video length; a runner that leaks is seen.
#[test]
fn a_leak_shows_in_the_memory_curve() {
    let bench = Bench::new();
    bench.pack("leak", "leak_bytes = 65536\n");
    let growth = |model: &str| {
        let ran = bench.run(model, &["--limit-videos", "1", "--loop-frames", "600"]);
        let curve = ran.record["cells"][0]["memory_curve"].as_array().unwrap().clone();
        let rss = |n: u64| curve.iter().find(|p| p["frames"] == n).unwrap()["rss_mib"].as_f64().unwrap();
        assert_eq!(ran.record["cells"][0]["sequences"][0]["frames"].as_array().unwrap().len(), 600);
        (rss(600) - rss(200), ran.verdict(0).1)
    };
    let ((flat, _), (leaking, reasons)) = (growth("good_mask"), growth("leak_mask"));
    assert!(reasons.contains("memory leak: the worker's resident set grew by "), "{reasons:?}");
    assert!(flat < 2.0, "the harness itself grows by {flat} MiB in 400 frames");
    assert!(leaking > 20.0, "400 frames that keep 64 KiB each grew by {leaking} MiB only");
}
