//! J and F against the outputs of the three reference evaluators (tests/cases/jf, made by running them): every number
//! bit for bit. The README in that folder says what each file is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jetbench::dataset::{DataError, LabelMasks};
use jetbench::score::{
    BOUNDARY_THRESHOLD, FrameCounts, FrameScorer, Protocol, ScoreOptions, ScoreReport, score, tolerance_radius,
};
use jetbench_runners::types::Mask;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/jf")
}

fn rows(name: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(cases().join("expected").join(name)).unwrap();
    let headers = reader.headers().unwrap().clone();
    let row = |r: csv::StringRecord| headers.iter().zip(r.iter()).map(|(h, v)| (h.into(), v.into())).collect();
    reader.records().map(|r| row(r.unwrap())).collect()
}

fn float(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|e| panic!("{column} of {row:?}: {e}"))
}

fn integer(row: &BTreeMap<String, String>, column: &str) -> u64 {
    row[column].parse().unwrap_or_else(|e| panic!("{column} of {row:?}: {e}"))
}

/// Compares everything a row says about one pair of masks.
fn check_pair(row: &BTreeMap<String, String>, pred: &Mask, truth: &Mask, threshold: f64) {
    let (width, height) = (truth.width(), truth.height());
    assert_eq!(u64::from(width), integer(row, "width"), "{row:?}");
    assert_eq!(u64::from(height), integer(row, "height"), "{row:?}");
    assert_eq!(u64::from(tolerance_radius(width, height, threshold)), integer(row, "bound_pix"), "{row:?}");
    let counts = FrameScorer::new(width, height, threshold).counts(pred, truth);
    let wanted = FrameCounts {
        inter: integer(row, "inter"),
        union: integer(row, "union"),
        pred_area: pred.area(),
        truth_area: truth.area(),
        n_fg: integer(row, "n_fg"),
        n_gt: integer(row, "n_gt"),
        fg_match: integer(row, "fg_match"),
        gt_match: integer(row, "gt_match"),
    };
    // The references leave matches of an empty boundary at 0, as ours do.
    assert_eq!(counts, wanted, "{row:?}");
    assert_eq!(counts.j().to_bits(), float(row, "J").to_bits(), "{row:?}");
    assert_eq!(counts.f().to_bits(), float(row, "F").to_bits(), "{row:?}");
}

fn parse_mask(text: &str) -> Mask {
    let lines: Vec<&[u8]> = text.split('/').map(str::as_bytes).collect();
    Mask::from_fn(lines[0].len() as u32, lines.len() as u32, |x, y| lines[y as usize][x as usize] == b'1')
}

#[test]
fn unit_vectors() {
    let rows = rows("unit_vectors.csv");
    assert_eq!(rows.len(), 200);
    for row in &rows {
        // These tiny masks were made with radii of their own, in pixels.
        check_pair(row, &parse_mask(&row["pred"]), &parse_mask(&row["gt"]), float(row, "bound_pix"));
    }
}

#[test]
fn object_frames_of_the_sav_layout() {
    let rows = rows("per_frame_sav.csv");
    assert_eq!(rows.len(), 81);
    for row in &rows {
        let file = format!("{}/{}/{}.png", row["video"], row["obj"], row["frame"]);
        let read = |root: &str| {
            let (mask, values) = LabelMasks::read(&cases().join(root).join(&file)).unwrap().into_foreground();
            assert!(values <= 2, "{file}");
            mask
        };
        check_pair(row, &read("sav_pred"), &read("sav/Annotations_6fps"), BOUNDARY_THRESHOLD);
    }
}

#[test]
fn object_frames_of_the_davis_layout() {
    let rows = rows("per_frame_davis.csv");
    assert_eq!(rows.len(), 81);
    for row in &rows {
        let file = format!("{}/{}.png", row["video"], row["frame"]);
        let read = |root: &str| {
            let image = LabelMasks::read(&cases().join(root).join(&file)).unwrap();
            let wanted = integer(row, "obj") as u16;
            let found = image.masks.into_iter().find(|(id, _)| *id == wanted).map(|(_, m)| m);
            found.unwrap_or_else(|| Mask::empty(image.width, image.height))
        };
        check_pair(row, &read("davis_pred"), &read("davis/Annotations/480p"), BOUNDARY_THRESHOLD);
    }
}

fn run(truth: &Path, pred: &Path, protocol: Protocol, keep: bool, strict: bool) -> Result<ScoreReport, DataError> {
    let mut options = ScoreOptions::new(truth, pred);
    (options.protocol, options.keep_first_last, options.strict) = (Some(protocol), keep, strict);
    score(&options, &|_, _| ())
}

/// Compares a report's objects with the rows of a reference run; returns how many rows that were.
fn check_objects(report: &ScoreReport, wanted: &[&BTreeMap<String, String>]) -> usize {
    let same = |a: f64, row: &BTreeMap<String, String>, column: &str| {
        assert_eq!(a.to_bits(), float(row, column).to_bits(), "{column}: ours {a:?}, reference {row:?}");
    };
    let mut compared = 0;
    for row in wanted {
        compared += 1;
        if row["video"] == "ALL" {
            same(report.global.j, row, "J");
            same(report.global.f, row, "F");
            same(report.global.jf, row, "JF");
            continue;
        }
        // The references' programs print ids of label maps with leading zeros in some files.
        let id = |text: &str| text.parse::<u32>().map_or(text.to_string(), |n| n.to_string());
        let ours = report.objects.iter().find(|o| o.video == row["video"] && id(&o.object) == id(&row["obj"]));
        let ours = ours.unwrap_or_else(|| panic!("no such object in ours: {row:?}"));
        same(ours.j, row, "J");
        same(ours.f, row, "F");
        same(ours.jf, row, "JF");
    }
    assert_eq!(report.objects.len(), wanted.iter().filter(|r| r["video"] != "ALL").count());
    compared
}

#[test]
fn objects_of_every_protocol() {
    let rows = rows("per_object.csv");
    let runs: [(&str, &str, &str, Protocol, bool); 7] = [
        ("sav_on_sav_skip", "sav", "sav_pred", Protocol::Sav, false),
        ("sav_on_sav_noskip", "sav", "sav_pred", Protocol::Sav, true),
        ("sav_on_davis_skip", "davis/Annotations/480p", "davis_pred", Protocol::Sav, false),
        ("sav_on_davis_noskip", "davis/Annotations/480p", "davis_pred", Protocol::Sav, true),
        ("vos_on_davis_skip", "davis/Annotations/480p", "davis_pred", Protocol::Vos, false),
        ("vos_on_davis_noskip", "davis/Annotations/480p", "davis_pred", Protocol::Vos, true),
        ("davis_semi", "davis", "davis_pred", Protocol::Davis2017Semi, false),
    ];
    let mut compared = 0;
    for (name, truth, pred, protocol, keep) in runs {
        let report = run(&cases().join(truth), &cases().join(pred), protocol, keep, true).unwrap();
        compared += check_objects(&report, &rows.iter().filter(|r| r["run"] == name).collect::<Vec<_>>());
    }
    assert_eq!(compared, rows.len());
}

#[test]
fn counted_frames_are_those_of_the_references() {
    for (name, truth, pred, runs) in [
        (
            "per_frame_sav.csv",
            "sav",
            "sav_pred",
            vec![("counted_skip", Protocol::Sav, false), ("counted_noskip", Protocol::Sav, true)],
        ),
        (
            "per_frame_davis.csv",
            "davis",
            "davis_pred",
            vec![
                ("counted_vos_skip", Protocol::Vos, false),
                ("counted_vos_noskip", Protocol::Vos, true),
                ("counted_davis", Protocol::Davis2017Semi, false),
            ],
        ),
    ] {
        let rows = rows(name);
        for (column, protocol, keep) in runs {
            let mut options = ScoreOptions::new(cases().join(truth), cases().join(pred));
            (options.protocol, options.keep_first_last, options.per_frame) = (Some(protocol), keep, true);
            let report = score(&options, &|_, _| ()).unwrap();
            for row in &rows {
                let object = report.objects.iter().find(|o| o.video == row["video"] && o.object == row["obj"]).unwrap();
                let ours = object.per_frame.iter().find(|f| f.frame == row["frame"]);
                assert_eq!(ours.is_some_and(|f| f.counted), row[column] == "1", "{column} {row:?}");
                if let Some(ours) = ours {
                    assert_eq!(ours.j.to_bits(), (float(row, "J") * protocol.scale()).to_bits());
                    assert_eq!(ours.f.to_bits(), (float(row, "F") * protocol.scale()).to_bits());
                }
            }
        }
    }
}

#[test]
fn davis_recall_and_decay() {
    let rows = rows("davis_semi_stats.csv");
    assert_eq!(rows.len(), 5);
    let report =
        run(&cases().join("davis"), &cases().join("davis_pred"), Protocol::Davis2017Semi, false, true).unwrap();
    for row in &rows {
        let ours = report.objects.iter().find(|o| format!("{}_{}", o.video, o.object) == row["object"]).unwrap();
        let davis = ours.davis.unwrap();
        for (value, column) in [
            (ours.j, "J_mean"),
            (davis.j_recall, "J_recall"),
            (davis.j_decay, "J_decay"),
            (ours.f, "F_mean"),
            (davis.f_recall, "F_recall"),
            (davis.f_decay, "F_decay"),
        ] {
            assert_eq!(value.to_bits(), float(row, column).to_bits(), "{column}: ours {value:?}, {row:?}");
        }
    }
}

/// Every variant under every protocol: the reference's numbers where it gave any; where it failed, hung or stopped
/// without a result, an error that names what is wrong.
#[test]
fn variants_have_the_references_scores_or_a_clear_error() {
    let scores = rows("variants_scores.csv");
    let outcomes = rows("variants_outcome.csv");
    let names: BTreeSet<&String> = outcomes.iter().map(|r| &r["variant"]).collect();
    assert_eq!(names.len(), 15);
    let must_name = |variant: &str| match variant {
        "d04_late_higher_id" => vec!["video v", "id 2", "objects 1 to 1"],
        "d08_pred_frame_missing" => vec!["pred/v", "00003.png", "missing"],
        "d13_shape_mismatch" => vec!["pred/v/0000", "79x60", "80x60"],
        "s03_pred_frame_missing" => vec!["pred/v/001", "00012.png", "missing"],
        "s07_two_frames" => vec!["video v", "object 000", "2 annotated frames", "--keep-first-last"],
        "s11_pred_video_missing" => vec!["video w", "pred/w", "missing"],
        "s25_stray_file_in_gt_video" => vec!["gt/v/notes.txt"],
        other => panic!("{other} fails in a reference; say what our error must name"),
    };
    let (mut compared, mut refused) = (0, 0);
    for outcome in &outcomes {
        let (variant, name) = (&outcome["variant"], &outcome["run"]);
        let (protocol, keep, strict) = match name.as_str() {
            "sav_skip" => (Protocol::Sav, false, false),
            "sav_noskip" => (Protocol::Sav, true, false),
            "sav_skip_strict" => (Protocol::Sav, false, true),
            "vos_skip" => (Protocol::Vos, false, false),
            "vos_noskip" => (Protocol::Vos, true, false),
            "davis_semi" => (Protocol::Davis2017Semi, false, false),
            // Unsupervised DAVIS is not one of our protocols.
            "davis_unsup" => continue,
            other => panic!("unknown run {other}"),
        };
        let dir = cases().join("variants").join(variant);
        let result = run(&dir.join("gt"), &dir.join("pred"), protocol, keep, strict);
        if outcome["status"] == "ok" {
            let wanted: Vec<_> = scores.iter().filter(|r| r["variant"] == *variant && r["run"] == *name).collect();
            assert!(!wanted.is_empty(), "{variant} {name}");
            let report = result.unwrap_or_else(|e| panic!("{variant} {name}: {e}"));
            compared += check_objects(&report, &wanted);
        } else {
            let error = result.expect_err(&format!("{variant} {name} gave a score")).to_string();
            for part in must_name(variant) {
                assert!(error.contains(part), "{variant} {name}: `{part}` is not in: {error}");
            }
            refused += 1;
        }
    }
    let unsupervised = scores.iter().filter(|r| r["run"] == "davis_unsup").count();
    assert_eq!(compared, scores.len() - unsupervised);
    assert_eq!(refused, 17);
}

#[test]
fn a_missing_video_is_an_error_unless_asked_otherwise() {
    let dir = cases().join("variants/s11_pred_video_missing");
    assert!(run(&dir.join("gt"), &dir.join("pred"), Protocol::Sav, false, true).is_err());
    let report = run(&dir.join("gt"), &dir.join("pred"), Protocol::Sav, false, false).unwrap();
    assert!(report.notes.iter().any(|n| n.contains("left out") && n.contains('w')), "{:?}", report.notes);
}
