//! MOSEv2's metrics against the outputs of its own tool (tests/cases/mosev2): every number bit for bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jetbench::score::{BOUNDARY_THRESHOLD, FrameScorer, MoseScore, Protocol, ScoreOptions, ScoreReport, score};
use jetbench_runners::types::Mask;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/mosev2")
}

fn rows(name: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(cases().join(name)).unwrap();
    let headers = reader.headers().unwrap().clone();
    let row = |r: csv::StringRecord| headers.iter().zip(r.iter()).map(|(h, v)| (h.into(), v.into())).collect();
    reader.records().map(|r| row(r.unwrap())).collect()
}

/// As `draw` in make.py.
fn draw(width: u32, height: u32, shapes: &str) -> Mask {
    let number = |word: &str| word.parse::<i64>().unwrap();
    let shapes: Vec<Vec<i64>> =
        shapes.split(';').filter(|s| !s.is_empty()).map(|s| s.split(' ').map(number).collect()).collect();
    Mask::from_fn(width, height, |x, y| {
        let (x, y) = (i64::from(x), i64::from(y));
        shapes.iter().any(|s| ((x - s[0]) * s[3]).pow(2) + ((y - s[1]) * s[2]).pow(2) <= (s[2] * s[3]).pow(2))
    })
}

#[test]
fn pairs_of_masks_score_as_in_the_official_tool() {
    let rows = rows("frames.csv");
    assert!(rows.len() > 200, "{} rows", rows.len());
    let mut fractional = 0;
    for row in rows {
        let (width, height) = (row["width"].parse().unwrap(), row["height"].parse().unwrap());
        let (truth, pred) = (draw(width, height, &row["truth"]), draw(width, height, &row["pred"]));
        let mut scorer = FrameScorer::new(width, height, BOUNDARY_THRESHOLD);
        let (counts, frame) = scorer.mosev2(&pred, &truth);
        assert_eq!(counts, scorer.counts(&pred, &truth));
        for (name, value) in [("j", frame.j), ("f", frame.f), ("f_dot", frame.f_dot)] {
            let wanted: f64 = row[name].parse().unwrap();
            assert_eq!(value.to_bits(), wanted.to_bits(), "{name} is {value} in {row:?}");
        }
        assert_eq!(frame.gone, row["gone"] == "1", "{row:?}");
        fractional += usize::from(frame.f != counts.f());
    }
    assert!(fractional > 20, "only {fractional} pairs show what a fractional radius changes");
}

fn scored(pred: &Path) -> Result<ScoreReport, jetbench::dataset::DataError> {
    let mut options = ScoreOptions::new(cases().join("gt"), pred);
    options.protocol = Some(Protocol::MoseV2);
    score(&options, &|_, _| ())
}

#[test]
fn a_dataset_scores_as_in_the_official_tool() {
    let report = scored(&cases().join("pred")).unwrap();
    let rows = rows("expected.csv");
    assert_eq!(report.objects.len(), rows.len());
    let parts = |s: &MoseScore| {
        let (gone, back) = (s.disappear, s.reappear);
        [
            ("j", Some(s.j)),
            ("f", Some(s.f)),
            ("f_dot", Some(s.f_dot)),
            ("j_disappear", gone.map(|s| s.j)),
            ("f_dot_disappear", gone.map(|s| s.f_dot)),
            ("j_reappear", back.map(|s| s.j)),
            ("f_dot_reappear", back.map(|s| s.f_dot)),
        ]
    };
    for (object, row) in report.objects.iter().zip(rows) {
        assert_eq!((&object.video, &object.object), (&row["video"], &row["object"]));
        for (name, value) in parts(&object.mosev2_parts.unwrap()) {
            let wanted: Option<f64> = row[name].parse().ok();
            assert_eq!(value.map(f64::to_bits), wanted.map(f64::to_bits), "{name} is {value:?} in {row:?}");
        }
    }
    let wanted = std::fs::read_to_string(cases().join("scores.txt")).unwrap();
    assert_eq!(report.to_mosev2_results().unwrap(), wanted);
    assert!(report.notes.iter().any(|n| n.contains("scores 0") && n.contains("lost")), "{:?}", report.notes);
}

#[test]
fn predictions_that_the_official_tool_would_shift_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |skip: &str| {
        for video in ["away", "edges", "many"] {
            std::fs::create_dir_all(dir.path().join(video)).unwrap();
            for entry in std::fs::read_dir(cases().join("pred").join(video)).unwrap() {
                let from = entry.unwrap().path();
                let to = dir.path().join(video).join(from.file_name().unwrap());
                match from.file_name().unwrap() == skip {
                    true => drop(std::fs::remove_file(to)),
                    false => drop(std::fs::copy(from, to).unwrap()),
                }
            }
        }
    };
    // It never looks at the last one.
    copy("00013.png");
    assert!(scored(dir.path()).is_ok());
    copy("00000.png");
    let fault = scored(dir.path()).unwrap_err().0;
    assert!(fault.contains("00001.png stands where 00000.png should"), "{fault}");
    copy("00004.png");
    let fault = scored(dir.path()).unwrap_err().0;
    assert!(fault.contains("00004.png"), "{fault}");
}

#[test]
fn other_tolerances_and_no_predictions_at_all_are_refused() {
    let mut options = ScoreOptions::new(cases().join("gt"), cases().join("pred"));
    options.protocol = Some(Protocol::MoseV2);
    options.boundary_threshold = 0.01;
    assert!(score(&options, &|_, _| ()).unwrap_err().0.contains("--boundary-threshold"));
    let empty = tempfile::tempdir().unwrap();
    assert!(scored(empty.path()).is_err());
}
