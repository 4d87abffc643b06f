//! What `jetbench plan` estimates, and from what.

use crate::bench::{Bench, stderr, text};

#[test]
fn a_plan_estimates_from_earlier_runs_and_says_what_it_does_not_know() {
    let bench = Bench::new();
    let plan = |more: &[&str]| {
        let dtype = if more.contains(&"--dtype") { &[][..] } else { &["--dtype", "fp32"] };
        let args = ["plan", "--models", "good_mask", "--data", "data", "--json"];
        let output = bench.output(&[&args[..], dtype, more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let said = text(&output.stdout);
        let line: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        (said.clone(), line["forecast"].clone())
    };
    let (said, forecast) = plan(&[]);
    assert!(said.contains("not known: no earlier run on this device"), "{said}");
    assert!(forecast["seconds"].is_null() && forecast["disk_mib"].is_null(), "{forecast}");
    assert!(!bench.path("results").exists(), "a plan leaves nothing");
    bench.run("good_mask", &[]);
    bench.run("good_mask", &["--save-masks=rle"]);
    let (said, forecast) = plan(&["--save-masks=rle"]);
    let cell = &forecast["cells"][0];
    assert!(said.contains("estimates from earlier runs, not measured") && said.contains("from 2 runs"), "{said}");
    assert_eq!((cell["runs"].as_array().unwrap().len(), &cell["unknown"]), (2, &serde_json::json!([])), "{cell}");
    for figure in ["seconds", "disk_mib", "memory_mib"] {
        let [low, middle, high] = ["low", "middle", "high"].map(|name| cell[figure][name].as_f64().unwrap());
        assert!(0.0 < low && low <= middle && middle <= high, "{figure}: {cell}");
    }
    assert_eq!(forecast["seconds"], cell["seconds"]);
    // A run that was foretold says how wrong that was, on the screen, in the report and in its record.
    let job = ["--models", "good_mask", "--dtype", "fp32", "--data", "data", "--save-masks=rle"];
    let third = bench.output(&job);
    let (out, told) = (text(&third.stdout), stderr(&third));
    assert!(told.contains("estimated from earlier runs: "), "{told}");
    assert!(
        out.contains("forecast: time: ") && out.contains(" estimated, ") && out.contains("forecast: disk: "),
        "{out}"
    );
    let place = out.lines().find_map(|line| line.strip_prefix("results: ")).unwrap();
    let newest = bench.path(place);
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(newest.join("run.json")).unwrap()).unwrap();
    let (estimated, taken) = (&record["forecast"]["estimated"], &record["forecast"]["taken"]);
    assert_eq!(estimated["cells"][0]["runs"].as_array().unwrap().len(), 2, "{estimated}");
    for figure in ["seconds", "disk_mib"] {
        assert!(taken[figure].as_f64().unwrap() > 0.0, "{taken}");
        assert!(estimated[figure]["middle"].as_f64().unwrap() > 0.0, "{estimated}");
    }
    assert!(taken["memory_mib"][0].as_f64().unwrap() > 0.0, "{taken}");
    assert!(std::fs::read_to_string(newest.join("report.html")).unwrap().contains("<h2>Forecast</h2>"));
    let forecast = plan(&["--save-masks=rle"]).1;
    // Twice the repeats, more than the time; masks are written once.
    let twice = plan(&["--save-masks=rle", "--repeat", "2"]).1;
    let high = |forecast: &serde_json::Value, figure: &str| forecast[figure]["high"].as_f64().unwrap();
    assert!((high(&twice, "seconds") - 2.0 * high(&forecast, "seconds")).abs() < 1e-9);
    assert!(high(&twice, "disk_mib") < 2.0 * high(&forecast, "disk_mib"));
    // Nothing is guessed: other frames, other outputs, another precision.
    assert!(plan(&["--limit-objects", "1"]).0.contains("not known: time: no earlier run has frames of"));
    assert!(plan(&["--overlays=png"]).0.contains("wrote the same masks and overlays"));
    assert!(plan(&["--dtype", "fp16"]).0.contains("not known: no earlier run on this device with this pack"));
    let (said, _) = plan(&["--min-free-mib", "1000000000"]);
    assert!(said.contains("does not fit: disk: ") && said.contains("--save-masks=rle"), "{said}");
}

#[test]
fn a_calibration_runs_a_few_frames_of_every_kind_and_the_plan_is_estimated_from_it() {
    let bench = Bench::new();
    let said = |args: &[&str]| {
        let output =
            bench.output(&[&["plan", "--models", "good_mask", "--data", "data", "--dtype", "fp32"], args].concat());
        (output.status.code().unwrap(), text(&output.stdout), stderr(&output))
    };
    let (code, out, told) = said(&["--calibrate", "--repeat", "3", "--loop-frames", "100", "--export-junit", "x.xml"]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("calibration: 34 of 200 frames, the first of 1 of 2 videos"),
        "the last prompt is on frame 4: {told}"
    );
    assert!(out.starts_with("calibration: results/") && out.contains("dry run: nothing was run"), "{out}");
    assert!(out.contains("from 1 run") && !out.contains("not known"), "{out}");
    assert!(!bench.path("x.xml").exists(), "it is the file of the run, not of its calibration");
    let name = out.lines().next().unwrap().strip_prefix("calibration: ").unwrap().to_string();
    let record = std::fs::read(bench.path(&name).join("run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["cells"][0]["repeats"].as_array().map_or(0, Vec::len), 0, "one repeat");
    // The kinds of frames are those of the whole data, whichever part will be run.
    let (code, _, told) = said(&["--calibrate", "--shard", "2/2"]);
    assert!(code == 0 && told.contains("the first of 1 of 2 videos"), "{told}");
    // What cannot be calibrated is refused before anything runs.
    let live = ["--models", "good_points", "--data", "-", "--raw", "rgb24:48x32", "--clicks", "1 3,3"];
    let live = bench.output(&[&["plan", "--calibrate"][..], &live].concat());
    assert_eq!(live.status.code(), Some(2));
    assert!(
        stderr(&live).contains("--calibrate: nobody knows how many frames a live source brings"),
        "{}",
        stderr(&live)
    );
}
