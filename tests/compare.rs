//! Comparing runs: the same thing twice is noise, 5 % slower is not; what cannot be compared is said. The statistics are
//! tried on made-up runs with known noise, many times; `scripts/compare_trials.sh` tries them on real processes.

use jetbench::judge::change::{ChangeWord, pair};
use jetbench::judge::noise::{DEFAULT_FLOOR, Floor};
use jetbench::judge::summary::summarise;
use jetbench::results::disturbance::Disturbance;
use jetbench::results::note::{Reason, ReasonKind};
use jetbench::results::record::{RunRecord, Verdict};
use serde_json::Value;

use crate::synthetic::{self, Numbers};
use crate::workshop::{Workshop, rows, text};

/// Standard normal.
fn normal(n: &mut Numbers) -> f64 {
    (0..12).map(|_| n.next()).sum::<f64>() - 6.0
}

/// A run as a machine would time it: 4 % noise from frame to frame, a frame in a hundred that takes three times as long,
/// 0.6 % from process to process. Scores do not depend on the time.
fn timed(base: &RunRecord, slower: f64, seed: u64) -> RunRecord {
    let mut run = base.clone();
    let mut n = Numbers::new(seed * 7919 + 13);
    for _ in 0..20 {
        n.next();
    }
    for cell in &mut run.cells {
        let process = 1.0 + 0.006 * normal(&mut n);
        for frame in cell.sequences.iter_mut().flat_map(|s| &mut s.frames) {
            let stumble = if n.next() > 0.99 { 3.0 } else { 1.0 };
            frame.latency_ms = 20.0 * slower * process * (1.0 + 0.04 * normal(&mut n)).max(0.1) * stumble;
        }
        cell.summary = summarise(cell);
    }
    run
}

fn one_cell() -> RunRecord {
    let mut run = synthetic::run();
    run.cells.truncate(1);
    run
}

fn default_floor() -> Floor {
    Floor { share: DEFAULT_FLOOR, from: "by default".into() }
}

#[test]
fn the_same_thing_is_within_noise_and_five_percent_are_seen() {
    let base = one_cell();
    let words = |slower: f64, trials: u64| -> Vec<ChangeWord> {
        (0..trials)
            .map(|t| {
                let (a, b) = (timed(&base, 1.0, 2 * t), timed(&base, slower, 2 * t + 1));
                let (cells, _) = pair(&a, &b, &|_| default_floor());
                assert_eq!(cells[0].jf.word, ChangeWord::WithinNoise, "the scores are the same");
                cells[0].latency.word
            })
            .collect()
    };
    let count = |words: &[ChangeWord], word| words.iter().filter(|w| **w == word).count();
    let same = words(1.0, 40);
    let slower = words(1.05, 40);
    let faster = words(1.0 / 1.05, 20);
    println!(
        "of 40: same within noise {}, 5 % slower regressed {}; of 20: 5 % faster improved {}",
        count(&same, ChangeWord::WithinNoise),
        count(&slower, ChangeWord::Regressed),
        count(&faster, ChangeWord::Improved)
    );
    assert!(count(&same, ChangeWord::WithinNoise) >= 38, "{same:?}");
    assert!(count(&slower, ChangeWord::Regressed) >= 38, "{slower:?}");
    assert!(count(&faster, ChangeWord::Improved) >= 19, "{faster:?}");
    assert_eq!(count(&slower, ChangeWord::Improved), 0);
}

/// Noise in which neighbouring frames are alike (AR(1), 0.9) makes slow waves, which differ from run to run as a change would.
#[test]
fn slow_waves_of_the_latency_are_no_change() {
    let waves = |base: &RunRecord, slower: f64, spread: f64, n: &mut Numbers| {
        let mut run = base.clone();
        let cell = &mut run.cells[0];
        let mut at = normal(n);
        for frame in cell.sequences.iter_mut().flat_map(|s| &mut s.frames) {
            at = 0.9 * at + 0.19f64.sqrt() * normal(n);
            frame.latency_ms = 20.0 * slower * (spread * at).exp();
        }
        cell.summary = None; // pairs are compared frame by frame
        run
    };
    let several = one_cell();
    let mut single = one_cell();
    single.cells[0].sequences.truncate(1);
    let long: Vec<_> = (0..480).map(|i| single.cells[0].sequences[0].frames[i % 96].clone()).collect();
    single.cells[0].sequences[0].frames = long;
    single.cells[0].sequences[0].frames.iter_mut().enumerate().for_each(|(i, f)| f.frame = i as u32);
    let mut n = Numbers::new(17);
    for (name, base, spread) in [
        ("six videos", &several, 0.03),
        ("six videos", &several, 0.1),
        ("one video", &single, 0.03),
        ("one video", &single, 0.1),
    ] {
        let mut count = |slower: f64, wanted: &[ChangeWord]| {
            let said = |n: &mut Numbers| {
                let (a, b) = (waves(base, 1.0, spread, n), waves(base, slower, spread, n));
                pair(&a, &b, &|_| default_floor()).0[0].latency.word
            };
            (0..60).filter(|_| wanted.contains(&said(&mut n))).count()
        };
        let alarms = count(1.0, &[ChangeWord::Regressed, ChangeWord::Improved]);
        let misses = count(1.05, &[ChangeWord::WithinNoise, ChangeWord::Improved]);
        println!(
            "{name}, {spread}: of 60 pairs of the same {alarms} false alarms, of 60 that are 5 % slower {misses} missed"
        );
        assert!(alarms <= 9 && misses <= 3, "{name}, {spread}: {alarms} false alarms, {misses} misses");
    }
}

#[test]
fn scores_that_fall_are_seen_and_their_video_named() {
    let base = one_cell();
    let mut worse = timed(&base, 1.0, 3);
    for (i, object) in worse.cells[0].sequences.iter_mut().flat_map(|s| &mut s.objects).enumerate() {
        object.jf = object.jf.map(|jf| jf - 1.5 - 0.3 * (i % 4) as f64);
    }
    for object in &mut worse.cells[0].sequences[3].objects {
        object.jf = object.jf.map(|jf| jf - 4.0);
    }
    let (cells, _) = pair(&base, &worse, &|_| default_floor());
    assert_eq!(cells[0].jf.word, ChangeWord::Regressed, "{:?}", cells[0].jf);
    assert_eq!(cells[0].moved[0].0, base.cells[0].sequences[3].video);
    let (cells, _) = pair(&worse, &base, &|_| default_floor());
    assert_eq!(cells[0].jf.word, ChangeWord::Improved);
    // One video alone proves nothing either way.
    let mut one = base.clone();
    one.cells[0].sequences[3].objects[0].jf = one.cells[0].sequences[3].objects[0].jf.map(|jf| jf - 30.0);
    let (cells, _) = pair(&base, &one, &|_| default_floor());
    assert_eq!(cells[0].jf.word, ChangeWord::Inconclusive, "{:?}", cells[0].jf);
    assert!(cells[0].inconclusive() && !cells[0].regressed());
}

/// What a memory policy changes is on few frames of few objects, and J&F averages it away.
#[test]
fn two_memory_policies_are_compared_after_an_objects_return() {
    let with = |policy: &str, back: f64| {
        let mut run = one_cell();
        run.cells[0].options.passed = vec![("memory".to_string(), policy.to_string())];
        // One object of each video but the first comes back.
        run.cells[0].sequences.iter_mut().flat_map(|s| &mut s.objects).for_each(|o| o.mosev2 = None);
        for (i, sequence) in run.cells[0].sequences.iter_mut().enumerate().skip(1) {
            let share = back + 0.01 * i as f64;
            let score = serde_json::json!({"j": 0.5, "f": 0.5, "f_dot": 0.5, "disappear": null,
                "reappear": {"j": share, "f_dot": share + 0.1}});
            sequence.objects[0].mosev2 = serde_json::from_value(score).unwrap();
        }
        run
    };
    let (all, gated) = (with("all", 0.5), with("gated", 0.625));
    let (cells, _) = pair(&all, &gated, &|_| default_floor());
    assert_eq!(cells[0].changed, ["memory all → gated"]);
    let found = cells[0].returned.as_ref().unwrap();
    assert_eq!((found.objects, found.videos), (5, 5));
    assert!((found.first - 58.0).abs() < 1e-9 && (found.points - 12.5).abs() < 1e-9, "{found:?}");
    assert!(found.interval.is_some(), "{found:?}");
    let shop = Workshop::new(1, 3);
    let [base, other] = [("all", &all), ("gated", &gated)].map(|(name, run)| {
        let dir = shop.path(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("run.json"), serde_json::to_vec(run).unwrap()).unwrap();
        dir.to_str().unwrap().to_string()
    });
    let said = shop.expect(0, &["compare", &base, &other]);
    assert!(
        said.contains(
            "  return   not judged      58.00 → 70.50  (+12.50, 95 % interval +12.50 to +12.50; J&Ḟ, 5 objects)"
        ),
        "{said}"
    );
    // Where J&F cannot be compared, this cannot either; where nothing returns, nothing is said.
    let mut elsewhere = gated.clone();
    elsewhere.data.list_sha256 = "another".into();
    assert_eq!(pair(&all, &elsewhere, &|_| default_floor()).0[0].returned, None);
    let mut never = all.clone();
    never.cells[0].sequences.iter_mut().flat_map(|s| &mut s.objects).for_each(|o| o.mosev2 = None);
    assert_eq!(pair(&all, &never, &|_| default_floor()).0[0].returned, None);
}

/// The two numbers that are shown and the change between them are one: no overall median beside a paired one.
#[test]
fn the_change_is_what_lies_between_the_two_numbers() {
    let base = one_cell();
    for (slower, seed) in [(1.0, 3), (1.07, 5), (0.9, 7)] {
        let mut other = timed(&base, slower, seed);
        // A few videos move against the rest, where medians over all frames and paired medians part.
        for sequence in &mut other.cells[0].sequences[..2] {
            sequence.frames.iter_mut().for_each(|f| f.latency_ms *= 1.4);
        }
        let (cells, _) = pair(&timed(&base, 1.0, 1), &other, &|_| default_floor());
        for change in [&cells[0].latency, &cells[0].jf] {
            let (a, b) = (change.base.unwrap(), change.other.unwrap());
            let between = if std::ptr::eq(change, &cells[0].jf) { b - a } else { b / a - 1.0 };
            assert!((change.change.unwrap() - between).abs() < 1e-9, "{change:?}");
        }
    }
}

#[test]
fn an_interval_wider_than_the_floor_is_inconclusive() {
    let base = timed(&one_cell(), 1.0, 1);
    let mut other = timed(&base, 1.0, 2);
    for (i, sequence) in other.cells[0].sequences.iter_mut().enumerate() {
        let factor = if i % 2 == 0 { 1.2 } else { 0.83 };
        sequence.frames.iter_mut().for_each(|f| f.latency_ms *= factor);
    }
    let (cells, _) = pair(&base, &other, &|_| default_floor());
    assert_eq!(cells[0].latency.word, ChangeWord::Inconclusive, "{:?}", cells[0].latency);
    let (cells, _) = pair(&base, &other, &|_| Floor { share: 0.5, from: "as asked".into() });
    assert_eq!(cells[0].latency.word, ChangeWord::WithinNoise, "{:?}", cells[0].latency);
}

/// Other load makes a run slower, never faster.
#[test]
fn what_a_disturbance_may_explain_is_no_change() {
    let (quick, slow) = (timed(&one_cell(), 1.0, 1), timed(&one_cell(), 1.1, 2));
    let disturbed = |run: &RunRecord| {
        let mut run = run.clone();
        run.cells[0].disturbed = vec![Disturbance::Rivals];
        run
    };
    let word = |a: &RunRecord, b: &RunRecord| pair(a, b, &|_| default_floor()).0[0].latency.word;
    assert_eq!(word(&quick, &slow), ChangeWord::Regressed);
    assert_eq!(word(&quick, &disturbed(&slow)), ChangeWord::Inconclusive);
    assert_eq!(word(&disturbed(&quick), &slow), ChangeWord::Regressed, "it was quicker although it was disturbed");
    assert_eq!(word(&slow, &quick), ChangeWord::Improved);
    assert_eq!(word(&disturbed(&slow), &quick), ChangeWord::Inconclusive);
    let (cells, _) = pair(&quick, &disturbed(&slow), &|_| default_floor());
    assert_eq!(cells[0].disturbed, ["the other run by other programs"]);
    assert!(cells[0].latency.remark.contains("a disturbance may explain"), "{}", cells[0].latency.remark);
    assert_eq!(word(&quick, &disturbed(&quick)), ChangeWord::Inconclusive, "it may hide a change, too");
    let mut stumbling = slow.clone();
    stumbling.cells[0].disturbed = vec![Disturbance::Outliers];
    assert_eq!(word(&quick, &stumbling), ChangeWord::Regressed, "single frames do not move a median");
}

#[test]
fn what_differs_is_named_and_never_guessed_over() {
    let base = one_cell();
    let with = |change: &dyn Fn(&mut RunRecord)| {
        let mut run = timed(&base, 1.2, 5);
        change(&mut run);
        let (cells, unmatched) = pair(&base, &run, &|_| default_floor());
        (cells.into_iter().next(), unmatched)
    };
    let (cell, _) = with(&|r| r.device.digest = "feedc0de".into());
    let cell = cell.unwrap();
    assert_eq!((cell.jf.word, cell.latency.word), (ChangeWord::WithinNoise, ChangeWord::NotComparable));
    assert_eq!(cell.latency.remark, "another state of device synthetic-board (digests in -v)");
    assert!(cell.digests.contains(&("device".into(), "0badcafe".into(), "feedc0de".into())), "{:?}", cell.digests);
    let (cell, _) = with(&|r| {
        r.device.digest = "feedc0de".into();
        r.device.facts.insert("power_mode".into(), "15W".into());
    });
    assert_eq!(cell.unwrap().latency.remark, "device synthetic-board: power mode none → 15W");
    let (cell, _) = with(&|r| r.data.list_sha256 = "another".into());
    let cell = cell.unwrap();
    assert_eq!((cell.jf.word, cell.latency.word), (ChangeWord::NotComparable, ChangeWord::NotComparable));
    let (cell, _) = with(&|r| (r.data.list_sha256, r.data.videos) = ("another".into(), 7));
    let jf = cell.unwrap().jf;
    assert_eq!(
        (jf.remark.as_str(), jf.base, jf.other),
        ("6 videos → 7", None, None),
        "told in things, without figures"
    );
    let (cell, _) = with(&|r| r.cells[0].pack_digest = "9999".into());
    let cell = cell.unwrap();
    assert_eq!(cell.changed, ["another version of pack sam2_mini"]);
    assert_eq!(cell.digests, [("pack".to_string(), "5f0c".to_string(), "9999".to_string())]);
    assert_ne!(cell.latency.word, ChangeWord::NotComparable, "another pack is what one wants to compare");
    let (cell, _) = with(&|r| {
        r.cells[0].verdict = Verdict::Invalid { reasons: vec![Reason::new(ReasonKind::Throttled, "throttled")] };
    });
    let cell = cell.unwrap();
    assert!(cell.regressed() && cell.latency.word == ChangeWord::NotComparable);
    assert_eq!(cell.verdict.as_deref(), Some("regressed: valid → invalid: throttled"));
    let (cell, unmatched) = with(&|r| r.cells[0].model = "other_mask".into());
    assert!(cell.is_none() && unmatched.len() == 2, "{unmatched:?}");
    let (cell, _) = with(&|r| r.cells[0].sequences.iter_mut().for_each(|s| s.video.push('x')));
    let cell = cell.unwrap();
    assert_eq!(
        (cell.videos, cell.jf.word, cell.latency.word),
        (0, ChangeWord::NotComparable, ChangeWord::NotComparable)
    );
}

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

#[test]
fn runs_over_other_bytes_are_not_comparable() {
    let base = one_cell();
    let mut other = base.clone();
    let compared = |a: &RunRecord, b: &RunRecord| {
        let (cells, _) = pair(a, b, &|_| default_floor());
        let said = cells[0].jf.remark.clone();
        (cells[0].jf.word, cells[0].latency.word, said)
    };
    let old = compared(&base, &other);
    assert!(!old.2.contains("content"), "records from before do not say it: {}", old.2);
    other.data.content_sha256 = "b".into();
    assert_eq!(compared(&base, &other), old);
    let base = RunRecord {
        data: jetbench::results::record::DataRecord { content_sha256: "a".into(), ..base.data.clone() },
        ..base
    };
    let (jf, latency, said) = compared(&base, &other);
    assert_eq!([jf, latency], [ChangeWord::NotComparable; 2]);
    assert!(said.contains("content of frames and annotations"), "{said}");
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
