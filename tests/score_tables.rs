//! What `score` shows a reader, and what goes into a wiki or a paper: every video, the worst objects, and what became of them.

use std::path::{Path, PathBuf};

use jetbench::score::export::tables::digits;

use crate::workshop::Workshop;

fn case(name: &str) -> String {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/jf").join(name);
    dir.to_str().unwrap().to_string()
}

fn score(shop: &Workshop, of: &str, more: &[&str]) -> String {
    let (truth, pred) = (case(of), case(&format!("{of}_pred")));
    let said = shop.expect(0, &[&["score", &truth, &pred, "--quiet"], more].concat());
    said.replace(env!("CARGO_MANIFEST_DIR"), "…")
}

#[test]
fn digits_that_count_are_four_in_every_protocol() {
    let cases = [(100.0, 72.1349, "72.13"), (1.0, 0.721349, "0.7213"), (1.0, 1.0, "1.0000"), (100.0, 100.0, "100.00")];
    for (scale, value, said) in cases {
        assert_eq!(digits(scale, Some(value)), said);
    }
    assert_eq!(digits(1.0, Some(-0.00001)), "0.0000");
    assert_eq!(digits(1.0, Some(-0.25)), "-0.2500");
    assert_eq!(["–"; 2], [digits(1.0, Some(f64::NAN)), digits(1.0, None)]);
}

#[test]
fn a_reader_sees_videos_objects_and_what_became_of_them() {
    let shop = Workshop::empty();
    insta::assert_snapshot!("sav", score(&shop, "sav", &["--boundary-iou"]));
    insta::assert_snapshot!("davis", score(&shop, "davis", &[]));
    let mosev2 = score(&shop, "davis", &["--protocol", "mosev2", "--lenient"]);
    assert!(mosev2.contains("while gone") && mosev2.contains("after return"), "{mosev2}");
    let unseen = shop.path("unseen.txt");
    std::fs::write(&unseen, "syn_48x64\n").unwrap();
    let parts = score(&shop, "davis", &["--protocol", "vos", "--unseen", unseen.to_str().unwrap()]);
    for line in ["\nseen, ", "\nunseen, ", "\nmean of both  "] {
        assert!(parts.contains(line), "{parts}");
    }
}

#[test]
fn tables_go_to_a_wiki_and_to_a_paper() {
    let shop = Workshop::empty();
    insta::assert_snapshot!("markdown", score(&shop, "davis", &["--export-markdown", "-"]));
    insta::assert_snapshot!("latex", score(&shop, "davis", &["--export-latex", "-"]));
    // Several folders stand beside each other, in the order in which they were given.
    let (truth, pred, same) = (case("davis"), case("davis_pred"), case("davis/Annotations/480p"));
    let (markdown, latex) = (shop.path("both.md"), shop.path("both.tex"));
    let files = ["--export-markdown", markdown.to_str().unwrap(), "--export-latex", latex.to_str().unwrap()];
    shop.expect(0, &[&["score", &truth, &pred, &same, "--quiet", "--protocol", "vos"], &files[..]].concat());
    let rows = |path: &Path, mark: &str| -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter(|l| l.contains(mark)).map(String::from).collect()
    };
    let both = rows(&markdown, "tests/cases");
    assert!(both.len() == 3 && both[0].contains("davis_pred") && both[1].contains(" 100.00 |"), "{both:#?}");
    assert_eq!(rows(&latex, "tests/cases").len(), 2);
    assert!(rows(&latex, r"davis\_pred").len() == 1 && !rows(&latex, r"\toprule").is_empty());
}
