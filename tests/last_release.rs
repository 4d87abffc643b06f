//! Records that the last release wrote are read by everything that reads records. `fixtures/last_release/README.md` has the
//! commands that made them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::workshop::{Workshop, tree};

/// A workshop with a copy of the fixture in `old/`.
fn shop() -> Workshop {
    let shop = Workshop { dir: tempfile::tempdir().unwrap() };
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/last_release");
    for file in tree(&fixture) {
        let to = shop.path("old").join(&file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fixture.join(&file), to).unwrap();
    }
    shop
}

fn whole(shop: &Workshop) -> PathBuf {
    shop.runs("old/whole").remove(0)
}

/// Every CSV file but the telemetry, by name.
fn tables(run: &Path) -> Vec<(String, String)> {
    let names = tree(run).into_iter().filter(|name| name.ends_with(".csv") && name != "telemetry.csv");
    names.map(|name| (name.clone(), std::fs::read_to_string(run.join(name)).unwrap())).collect()
}

#[test]
fn its_report_is_made_anew_with_the_same_figures() {
    let shop = shop();
    let run = whole(&shop);
    let before = tables(&run);
    assert!(before.iter().any(|(name, text)| name == "repeats.csv" && text.lines().count() == 5), "{before:?}");
    for (name, _) in &before {
        std::fs::remove_file(run.join(name)).unwrap();
    }
    shop.expect(0, &["report", run.to_str().unwrap()]);
    // Columns that came since then stand behind the others; of a run that knows nothing of them they are empty.
    let after = tables(&run);
    assert_eq!(after.len(), before.len());
    for ((name, old), (_, new)) in before.iter().zip(&after) {
        assert_eq!(old.lines().count(), new.lines().count(), "{name}");
        for (i, (old, new)) in old.lines().zip(new.lines()).enumerate() {
            let rest = new.strip_prefix(old).unwrap_or_else(|| panic!("{name}, line {}: {new:?} was {old:?}", i + 1));
            assert!(rest.chars().all(|c| c == ',') || i == 0, "{name}, line {}: {rest:?}", i + 1);
        }
    }
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(
        page.contains("bf16 operands, fp32 accumulation, emulated") && page.contains("bf16 (emulated)"),
        "precision"
    );
    assert!(page.contains("repeat 2"), "what only the second repeat said is still said of it");
}

#[test]
fn it_is_compared_and_has_a_history() {
    let shop = shop();
    let run = whole(&shop);
    let said = shop.expect(0, &["compare", run.to_str().unwrap(), run.to_str().unwrap(), "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let cells = said["comparisons"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    assert!(cells.iter().all(|c| c["jf"]["base"].as_f64().is_some() && c["jf"]["base"] == c["jf"]["other"]), "{said}");
    let said = shop.expect(0, &["history", "--out", "old/whole", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["series"].as_array().unwrap().len(), 2);
    assert!(said["series"][0]["runs"][0]["jf"].as_f64().is_some());
}

#[test]
fn its_parts_are_joined() {
    let shop = shop();
    let said = shop.expect(0, &["merge", "old/parts/1", "old/parts/2", "--out", "joined", "--json"]);
    let line: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(line["cells"][0]["verdict"], "valid");
    let joined = std::fs::read(shop.runs("joined")[0].join("run.json")).unwrap();
    let joined: Value = serde_json::from_slice(&joined).unwrap();
    assert_eq!((&joined["data"]["videos"], joined["cells"][0]["sequences"].as_array().unwrap().len()), (&2.into(), 2));
}
