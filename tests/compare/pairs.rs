//! Two records, cell by cell: the same thing twice is noise, 5 % slower is not; what cannot be compared is said. The statistics are tried
//! on made-up runs with known noise, many times; `scripts/compare_trials.sh` tries them on real processes.

use jetbench::judge::change::{ChangeWord, pair};
use jetbench::judge::noise::{DEFAULT_FLOOR, Floor};
use jetbench::judge::summary::summarise;
use jetbench::results::disturbance::Disturbance;
use jetbench::results::note::{Reason, ReasonKind};
use jetbench::results::record::{RunRecord, Verdict};

use crate::synthetic::{self, Numbers};
use crate::workshop::Workshop;

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
