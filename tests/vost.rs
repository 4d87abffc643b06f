//! VOST's metrics against the outputs of its own tool (tests/cases/vost): every number bit for bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jetbench::score::{Protocol, ScoreOptions, ScoreReport, score};

use crate::workshop::Workshop;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn scored(truth: &str, pred: &str) -> ScoreReport {
    let mut options = ScoreOptions::new(cases().join(truth), cases().join(pred));
    (options.protocol, options.strict) = (Some(Protocol::Vost), false);
    score(&options, &|_, _| ()).unwrap()
}

#[test]
fn objects_score_as_in_the_official_tool() {
    let mut reader = csv::Reader::from_path(cases().join("vost/expected.csv")).unwrap();
    let names: Vec<String> = reader.headers().unwrap().iter().map(String::from).collect();
    let mut wanted: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for row in reader.records().map(Result::unwrap) {
        wanted.insert((row[0].into(), row[1].into()), row.iter().skip(2).map(|v| v.parse().unwrap()).collect());
    }
    let mut compared = 0;
    for (case, truth, pred) in [
        ("davis", "jf/davis/Annotations/480p", "jf/davis_pred"),
        ("mosev2", "mosev2/gt", "mosev2/pred"),
        ("odd", "vost/gt", "vost/pred"),
    ] {
        let report = scored(truth, pred);
        let global = &report.global;
        let all = [("ALL".to_string(), global.j, global.davis.unwrap(), global.late.unwrap())];
        let objects = report.objects.iter();
        let each = objects.map(|o| (format!("{}_{}", o.video, o.object), o.j, o.davis.unwrap(), o.late.unwrap()));
        for (object, j, davis, late) in each.chain(all) {
            let ours = [j, davis.j_recall, davis.j_decay, late.j_tr, late.j_tr_recall, late.j_tr_decay];
            let theirs = &wanted[&(case.to_string(), object.clone())];
            for ((name, ours), theirs) in names[2..].iter().zip(ours).zip(theirs) {
                assert_eq!(ours.to_bits(), theirs.to_bits(), "{case} {object}: {name} is {ours:?}, {theirs:?} wanted");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, wanted.len());
    let notes = scored("vost/gt", "vost/pred").notes.join("\n");
    assert!(notes.contains("VOST leaves out predicted id 3, 255; the first annotation has objects 1 to 2"), "{notes}");
    assert!(notes.contains("VOST ignores id 3, absent from the first annotation"), "{notes}");
}

#[test]
fn its_result_files_are_written_and_its_figures_shown() {
    let shop = Workshop::empty();
    let copy = shop.path("pred/video");
    std::fs::create_dir_all(&copy).unwrap();
    for file in std::fs::read_dir(cases().join("vost/pred/video")).unwrap().flatten() {
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let truth = cases().join("vost/gt").display().to_string();
    let said = shop.expect(0, &["score", &truth, "pred", "--protocol", "vost", "--compat", "vost"]);
    assert!(said.contains("J_tr 0.7498"), "{said}");
    let read = |name: &str| std::fs::read_to_string(shop.path("pred").join(name)).unwrap();
    let global =
        "J-Mean,J-Recall,J-Decay,J_last-Mean,J_last-Recall,J_last-Decay\n0.625,0.778,-0.166,0.750,1.000,0.025\n";
    assert_eq!(read("global_results-val.csv"), global);
    let sequences = "Sequence,J-Mean,J_last-Mean\nvideo_1,0.629,0.654\nvideo_2,0.621,0.846\n";
    assert_eq!(read("per-sequence_results-val.csv"), sequences);
    let other = shop.output(&["score", &truth, "pred", "--protocol", "vos", "--compat", "vost"]);
    assert_eq!(other.status.code(), Some(2));
}
