//! What `jetbench scale` runs and says.

use crate::bench::{Bench, stderr, text};

#[test]
fn a_job_is_run_once_per_number_of_objects() {
    let bench = Bench::new();
    let said = |args: &[&str]| {
        let output =
            bench.output(&[&["scale", "--models", "good_points", "--dtype", "fp32", "--out", "r"], args].concat());
        (output.status.code().unwrap(), text(&output.stdout), stderr(&output))
    };
    let drawn = ["data", "synth", "drawn", "--videos", "1", "--objects", "4", "--frames", "24", "--size", "64x48"];
    assert!(bench.output(&drawn).status.success());
    // The order of the numbers does not matter.
    let (code, out, told) = said(&[
        "--data",
        "drawn",
        "--objects",
        "4,1,2,2",
        "--export-csv",
        "scale.csv",
        "--plot",
        "scale.svg",
        "--json",
    ]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("scale: run 3 of 3, 4 objects"), "{told}");
    let line: serde_json::Value = serde_json::from_str(&out).unwrap();
    let points = line["points"].as_array().unwrap();
    let objects: Vec<u64> = points.iter().map(|p| p["objects"].as_u64().unwrap()).collect();
    assert_eq!(objects, [1, 2, 4]);
    let machine = std::fs::read_dir(bench.path("r")).unwrap().next().unwrap().unwrap().path();
    let runs: Vec<_> = std::fs::read_dir(machine).unwrap().map(|entry| entry.unwrap().path()).collect();
    for (point, objects) in points.iter().zip(objects) {
        assert_eq!(point["verdict"], "valid", "{point}");
        assert!(point["frames"].as_u64().unwrap() > 0 && point["peak_rss_mib"].as_f64().unwrap() > 0.0, "{point}");
        let run = runs.iter().find(|run| run.ends_with(point["run_id"].as_str().unwrap())).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(run.join("run.json")).unwrap()).unwrap();
        assert_eq!(record["data"]["objects"], objects);
        // Its figures are those of the frames that track all of them.
        let frames = record["cells"][0]["sequences"][0]["frames"].as_array().unwrap();
        let all = frames.iter().filter(|frame| frame["objects"] == objects).count();
        assert_eq!(point["frames"], all);
    }
    let csv = std::fs::read_to_string(bench.path("scale.csv")).unwrap();
    assert_eq!(csv.lines().count(), 4, "{csv}");
    assert!(std::fs::read_to_string(bench.path("scale.svg")).unwrap().contains("What one more object costs"));
    let (_, out, told) = said(&["--data", "drawn", "--objects", "1,3"]);
    assert!(out.contains("  objects  verdict") && out.contains("  3 objects take "), "{out}{told}");
    // Without data a clip is drawn.
    let (code, out, told) = said(&["--objects", "1", "--limit-frames", "2"]);
    assert!(code == 1 && out.contains("        1  invalid"), "{out}{told}");
    assert!(out.contains("  1 object: too few frames: 2 were timed"), "{out}");
    // Videos with too few objects would measure something else.
    let (code, _, told) = said(&["--objects", "1,64", "--data", "data"]);
    assert!(code == 2 && told.contains("and --objects asks for 64: every video needs as many"), "{told}");
    let (code, _, told) = said(&["--objects", "1", "--limit-objects", "1"]);
    assert!(code == 2 && told.contains("--limit-objects does not apply to `scale`"), "{told}");
    for refused in [&["--dry-run"][..], &["--keep", "3"], &["--export-bmf", "x.json"], &["--baseline", "main"]] {
        let (code, _, told) = said(&[&["--objects", "1"], refused].concat());
        assert!(code == 2 && told.contains(&format!("{} does not apply to `scale`", refused[0])), "{told}");
    }
    let (code, _, told) = said(&["--objects", "1", "--plot", "scale.pdf"]);
    assert!(code == 2 && told.contains("the name must end in .svg or .png"), "{told}");
}
