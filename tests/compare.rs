//! Comparing runs as a user does: baselines, history, models of one run and folders of masks.

mod pairs;

use jetbench::results::record::RunRecord;
use serde_json::Value;

use crate::workshop::{Workshop, rows, text};

/// Real processes. `JETBENCH_TRIALS` pairs (2 when not said): the mock against itself, and against one that is 5 % slower.
#[test]
fn processes_are_compared() {
    let trials: usize = std::env::var("JETBENCH_TRIALS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let shop = Workshop::new(6, 16);
    let pack = |ms: f64| format!("frame_ms = [{ms}]\njitter = [0.03, 0.003]");
    shop.pack("same", &pack(30.0));
    shop.pack("slow", &pack(30.0));
    let job = |model: &str| shop.run(&["--models", model]);
    let compare = |a: &std::path::Path, b: &std::path::Path, more: &[&str]| -> (Option<i32>, Value) {
        let mut args = vec!["compare", a.to_str().unwrap(), b.to_str().unwrap(), "--json", "--fail-on-regression"];
        args.extend(more);
        let output = shop.output(&args);
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
        (output.status.code(), json)
    };
    // History first: the machine shows how steady it is.
    for _ in 0..if trials > 2 { 8 } else { 2 } {
        job("same_mask");
    }
    let mut words = (Vec::new(), Vec::new());
    let mut seen = (Vec::new(), String::new());
    for _ in 0..trials {
        let (a, b) = (job("same_mask"), job("same_mask"));
        let (code, json) = compare(&a, &b, &[]);
        let cell = &json["comparisons"][0]["cells"][0];
        assert_eq!(cell["jf"]["word"], "within_noise");
        words.0.push((code, cell["latency"]["word"].as_str().unwrap().to_string()));
        seen.0.push(cell["latency"]["change"].as_f64().unwrap() * 100.0);
        seen.1 =
            format!("{:.1} %, {}", cell["latency"]["floor"].as_f64().unwrap() * 100.0, cell["latency"]["floor_from"]);
        // The same pack, grown slower: its digest changes, its name does not.
        let before = job("slow_mask");
        shop.pack("slow", &pack(30.0 * 1.05));
        let after = job("slow_mask");
        shop.pack("slow", &pack(30.0));
        let floor = format!("{}", cell["latency"]["floor"].as_f64().unwrap() * 100.0);
        let (code, json) = compare(&before, &after, &["--noise-floor", &floor]);
        let cell = &json["comparisons"][0]["cells"][0];
        assert_eq!(cell["changed"][0], "another version of pack slow", "{cell}");
        words.1.push((code, cell["latency"]["word"].as_str().unwrap().to_string()));
    }
    // A false alarm is a change that is not there; a miss is one that is there and passes as noise.
    let word = |words: &[(Option<i32>, String)], word: &str| words.iter().filter(|w| w.1 == word).count();
    let alarms = word(&words.0, "regressed") + word(&words.0, "improved");
    let misses = word(&words.1, "within_noise") + word(&words.1, "improved");
    for (code, word) in words.0.iter().chain(&words.1) {
        assert_eq!(*code, Some(i32::from(word == "regressed")), "{words:?}");
    }
    println!(
        "{trials} of the same: {alarms} false alarms, {} inconclusive; {trials} 5 % slower: {misses} misses, {} inconclusive; floor {}",
        word(&words.0, "inconclusive"),
        word(&words.1, "inconclusive"),
        seen.1
    );
    println!("changes of the same: {:?} %", seen.0.iter().map(|c| (c * 100.0).round() / 100.0).collect::<Vec<_>>());
    if trials >= 20 {
        assert!(alarms * 20 <= trials && misses * 20 <= trials, "{words:?}");
    }
    let history = shop.expect(0, &["history", "--export-csv", "-", "--plot", "trend.svg"]);
    assert!(history.starts_with("run_id,device_name"));
    assert!(rows_of(&history) >= 2 + 4 * trials);
    assert_eq!(shop.expect(0, &["history", "--plot", "trend.svg"]), "trend.svg\n", "a plot alone prints no table");
    let plot = std::fs::read_to_string(shop.path("trend.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("same_mask"));
    shop.expect(0, &["history", "--models", "same_mask", "--plot", "trend.png"]);
    shop.expect(2, &["history", "--models", "nobody_mask"]);
    shop.expect(2, &["history", "--plot", "trend.pdf"]);
    assert!(rows(&shop.runs("results")[0].join("summary.csv")).len() == 2);
}

fn rows_of(csv: &str) -> usize {
    csv.lines().count() - 1
}

#[test]
fn comparisons_and_trends_of_test_models_say_that_they_are() {
    let shop = Workshop::new(1, 9);
    shop.pack("calm", "motion = [1.0, 0.0]");
    let banner = "calm is a test model; these figures do not describe SAM 2";
    let runs = [(); 2].map(|()| shop.run(&["--models", "calm_mask", "--min-frames", "1"]));
    let [a, b] = [&runs[0], &runs[1]].map(|run| run.to_str().unwrap());
    for said in [false, true] {
        if said {
            let file = runs[1].join("run.json");
            let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            record["cells"][0]["test_model_of"] = "SAM 2".into();
            std::fs::write(file, record.to_string()).unwrap();
        }
        let told = shop.expect(0, &["compare", a, b, "--html", "changes.html"]);
        assert_eq!(told.starts_with(banner), said, "{told}");
        shop.expect(0, &["history", "--html", "trend.html"]);
        for page in ["changes.html", "trend.html"] {
            let page = std::fs::read_to_string(shop.path(page)).unwrap();
            assert_eq!(page.contains(banner), said, "{page}");
        }
    }
}

#[test]
fn baselines_have_names() {
    let shop = Workshop::new(2, 9);
    shop.pack("calm", "motion = [1.0, 0.0]");
    let (a, b) = (
        shop.run(&["--models", "calm_mask", "--min-frames", "1"]),
        shop.run(&["--models", "calm_mask", "--min-frames", "1"]),
    );
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let said = shop.expect(0, &["compare", a, "--save-baseline", "main"]);
    assert!(said.starts_with("baseline main is "), "{said}");
    let said = shop.expect(0, &["compare", b, "--baseline", "main"]);
    assert!(
        said.contains("J&F      within noise    100.00 → 100.00") || said.contains("J&F      within noise"),
        "{said}"
    );
    // The same as a page that stands alone.
    let again = shop.expect(0, &["compare", b, "--baseline", "main", "--html", "pages/changes.html"]);
    assert_eq!(again, said);
    assert_eq!(shop.expect(0, &["history", "--html", "trend.html"]), "trend.html\n", "a page alone prints no table");
    for (file, words) in [("pages/changes.html", "within noise"), ("trend.html", "noise of latency")] {
        let page = std::fs::read_to_string(shop.path(file)).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.contains(words), "{page}");
        assert!(page.replace("<wbr>", "").contains("calm_mask"), "{page}");
        assert!(!["<script", "src=", "href=", "url("].iter().any(|outside| page.contains(outside)), "{file}");
    }
    let error = |args: &[&str]| {
        let output = shop.output(args);
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr)
    };
    assert!(error(&["compare", b, "--baseline", "trunk"]).contains("there are: main"));
    assert!(error(&["compare", a, "--save-baseline", "../main"]).contains("use letters"));
    assert!(error(&["compare", a]).contains("two runs are needed"));
}

/// Every record is read whole and checked; `docs/performance.md` says how long that takes.
#[test]
fn history_lists_hundreds_of_records_and_names_the_one_that_is_damaged() {
    let shop = Workshop::new(1, 9);
    shop.pack("calm", "motion = [1.0, 0.0]");
    let run = shop.run(&["--models", "calm_mask", "--min-frames", "1"]);
    let record = jetbench::results::store::load(&run).unwrap();
    let place = |n: usize| shop.path(&format!("many/{}/20260101T0000{:02}Z-{:06}", record.device.name, n / 100, n));
    for n in 0..300 {
        let run_id = place(n).file_name().unwrap().to_str().unwrap().to_string();
        let mut record = RunRecord { run_id, ..record.clone() };
        if n == 150 {
            record.cells[0].summary.as_mut().unwrap().jf = Some(999.0);
        }
        jetbench::results::store::write_json(&place(n).join("run.json"), &record).unwrap();
    }
    let output = shop.output(&["history", "--out", "many", "--export-csv", "-"]);
    let (listed, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), rows_of(&listed)), (Some(0), 299), "{said}");
    assert!(listed.lines().skip(1).is_sorted(), "oldest first");
    assert!(said.contains("000150/run.json") && said.contains("jf is 999"), "{said}");
}

/// Two mock packs of known quality on six videos: one follows its objects, the other loses them.
fn two_models() -> (Workshop, std::path::PathBuf) {
    let shop = Workshop::new(6, 12);
    shop.pack("good", "motion = [1.0, 0.0]");
    shop.pack("lost", "motion = [-3.0, 2.0]");
    let run = shop.run(&["--models", "good_mask,lost_mask", "--save-masks", "--min-frames", "1"]);
    (shop, run)
}

#[test]
fn models_of_one_run_are_compared_and_so_are_folders_of_masks() {
    let (shop, run) = two_models();
    let path = run.to_str().unwrap();
    let said = shop.expect(0, &["compare", "--models", "good_mask", "lost_mask", path]);
    assert!(said.contains("good_mask fp32 → lost_mask fp32") && said.contains("good_mask is "), "{said}");
    assert!(
        said.contains(" J&F better (95 %: ") && said.contains("6 videos)") && said.contains("Student's t;"),
        "{said}"
    );
    let again = shop.expect(0, &["compare", "--models", "good_mask,lost_mask", "--html", "models.html", "--", path]);
    assert_eq!(again, said);
    let page = std::fs::read_to_string(shop.path("models.html")).unwrap().replace("&amp;", "&");
    assert!(
        page.contains(said.lines().find(|l| l.starts_with("good_mask is ")).unwrap().split(" (").next().unwrap()),
        "{page}"
    );
    // The list may have commas, and the run may come first or be the newest.
    assert_eq!(shop.expect(0, &["compare", "--models", "good_mask,lost_mask", "latest"]), said);
    assert_eq!(shop.expect(0, &["compare", path, "--models", "good_mask,lost_mask"]), said);
    let line = shop.expect(0, &["compare", path, "--models", "good_mask,lost_mask", "--json"]);
    let json: Value = serde_json::from_str(&line).unwrap();
    let jf = &json["models"][0]["jf"];
    let (first, second) = (jf["first"].as_f64().unwrap(), jf["second"].as_f64().unwrap());
    assert!((jf["points"].as_f64().unwrap() - (second - first)).abs() < 1e-9, "one consistent pair: {jf}");
    let record = jetbench::results::store::load(&run).unwrap();
    let table: Vec<f64> = record.cells.iter().map(|c| c.summary.as_ref().unwrap().jf.unwrap()).collect();
    assert!((table[0] - first).abs() < 1e-9 && (table[1] - second).abs() < 1e-9, "the pair is that of the table");
    assert_eq!((json["models"][0]["clear"].as_bool(), jf["videos"].as_u64()), (Some(true), Some(6)));
    for (args, what) in [
        (
            vec!["compare", "--models", "good_mask", "nobody_mask", path],
            "no model nobody_mask; it has: good_mask, lost_mask",
        ),
        (vec!["compare", "--models", "good_mask", path], "nothing to compare"),
        (vec!["compare", "--models", "good_mask,lost_mask", path, path], "no model /"),
    ] {
        let output = shop.output(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(what), "{}", text(&output.stderr));
    }
    // The same from the masks: the same figures.
    let masks = |model: &str| {
        let dirs = std::fs::read_dir(run.join("masks")).unwrap().flatten().map(|e| e.path());
        dirs.into_iter().find(|d| d.file_name().unwrap().to_string_lossy().starts_with(model)).unwrap()
    };
    let (good, lost) = (masks("good"), masks("lost"));
    let (good, lost) = (good.to_str().unwrap(), lost.to_str().unwrap());
    let said = shop.expect(0, &["score", "data", good, lost, "--quiet"]);
    assert!(said.contains(&format!("{good} is ")) && said.contains(&format!("than {lost}.")), "{said}");
    let json: Value =
        serde_json::from_str(&shop.expect(0, &["score", "data", good, lost, "--quiet", "--json"])).unwrap();
    let scored = json["compared"][0]["jf"]["points"].as_f64().unwrap();
    assert!((scored - jf["points"].as_f64().unwrap()).abs() < 1e-9, "{scored} {jf}");
    assert_eq!(json["reports"].as_array().unwrap().len(), 2);
    // Three folders: three pairs, corrected.
    let said = shop.expect(0, &["score", "data", good, lost, good, "--quiet"]);
    assert_eq!(said.matches("corrected for 3 pairs").count(), 3, "{said}");
    assert!(
        text(&shop.output(&["score", "data", good, lost, "--export-csv", "-"]).stderr).contains("score each by itself")
    );
}

/// What CI asks: an inconclusive change passes unless it is told otherwise.
#[test]
fn an_inconclusive_change_passes_or_fails_as_asked() {
    let shop = Workshop::new(6, 12);
    shop.pack("calm", "motion = [1.0, 0.0]");
    let (a, b) = (
        shop.run(&["--models", "calm_mask", "--min-frames", "1"]),
        shop.run(&["--models", "calm_mask", "--min-frames", "1"]),
    );
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    // No noise at all is allowed for: whatever differs is wider than that.
    let ask = |more: &[&str]| {
        let mut args = vec!["compare", a, b, "--noise-floor", "0", "--json"];
        args.extend(more);
        let output = shop.output(&args);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), json["comparisons"][0]["cells"][0]["latency"]["word"].as_str().unwrap().to_string())
    };
    let (plain, word) = ask(&[]);
    assert_eq!(plain, Some(0));
    let code = |fail: bool| Some(i32::from(word == "regressed" || (fail && word == "inconclusive")));
    assert_eq!(ask(&["--fail-on-regression"]).0, code(false), "{word}");
    assert_eq!(ask(&["--fail-on-regression", "--on-inconclusive", "pass"]).0, code(false), "{word}");
    assert_eq!(ask(&["--fail-on-regression", "--on-inconclusive", "fail"]).0, code(true), "{word}");
    assert_eq!(
        shop.output(&["compare", a, b, "--on-inconclusive", "fail"]).status.code(),
        Some(2),
        "it needs the other flag"
    );
}

#[test]
fn a_run_is_compared_with_its_baseline_in_the_same_command() {
    let shop = Workshop::new(6, 13);
    shop.pack("calm", "motion = [1.0, 0.0]");
    let job = ["--models", "calm_mask", "--data", "data", "--dtype", "fp32", "--min-frames", "1"];
    let main = ["--baseline", "main"];
    let fail = ["--baseline", "main", "--fail-on-regression"];
    let output = |words: &[&[&str]]| shop.output(&words.concat());
    // What is missing is said before anything is measured.
    for (words, said) in [
        (&main[..], "no baseline `main`"),
        (&fail[2..], "--fail-on-regression: regressed against what?"),
        (&["--on-inconclusive", "fail"], "--on-inconclusive: regressed against what?"),
    ] {
        let refused = output(&[&job, words]);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stdout));
        assert!(text(&refused.stderr).contains(said), "{}", text(&refused.stderr));
    }
    assert!(!shop.path("results").exists());

    shop.expect(0, &job);
    shop.expect(0, &["compare", "latest", "--save-baseline", "main"]);
    // With itself nothing differs, however busy the machine is.
    let same = shop.expect(0, &[&["--resume", "latest"][..], &fail].concat());
    assert!(same.contains("1 of 1 valid") && same.contains("J&F      within noise"), "{same}");

    shop.pack("calm", "motion = [6.0, 0.0]");
    let worse = output(&[&job, &fail, &["--json", "--status", "status.json"]]);
    let said = text(&worse.stdout);
    assert_eq!(worse.status.code(), Some(1), "{said}{}", text(&worse.stderr));
    assert!(said.contains("1 of 1 valid") && said.contains("J&F      regressed"), "{said}");
    let line: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(line["comparison"]["cells"][0]["jf"]["word"], "regressed", "{line}");
    let status: Value = serde_json::from_slice(&std::fs::read(shop.path("status.json")).unwrap()).unwrap();
    assert_eq!(status["code"], 1);
    // `compare` says the same of the same runs, and it is only said where it is not to fail.
    let compared = shop.expect(1, &[&["compare", "latest"][..], &fail].concat());
    assert!(said.contains(compared.split_once("\n\n").unwrap().1.trim_end()), "{said}\n{compared}");
    shop.expect(0, &[&["--resume", "latest"][..], &main].concat());
    let quiet = output(&[&["--resume", "latest", "--quiet"], &fail]);
    assert_eq!((quiet.status.code(), text(&quiet.stdout).as_str()), (Some(1), ""));
}
