//! The columns of every CSV file: their names, word for word, and `docs/results.md`, which is written from them.

use jetbench::command::{self, history, scale};
use jetbench::report::csv::{self, CsvTable};
use jetbench::score;

/// Names, units and meanings of a file's columns, and its section in the document.
struct Section {
    file: &'static str,
    names: String,
    units: Vec<(&'static str, &'static str)>,
    text: String,
}

fn section<R>(table: CsvTable<R>) -> Section {
    let mut text = format!("### `{}`\n\n{}\n\n", table.file, table.row);
    text.push_str("| column | unit | what | empty when |\n|---|---|---|---|\n");
    for c in &table.columns {
        text.push_str(&format!("| `{}` | {} | {} | {} |\n", c.name, c.unit, c.meaning, c.empty));
    }
    let names: Vec<&str> = table.columns.iter().map(|c| c.name).collect();
    let units = table.columns.iter().map(|c| (c.name, c.unit)).collect();
    Section { file: table.file, names: names.join(","), units, text }
}

fn sections() -> Vec<Section> {
    vec![
        section(csv::summary_table()),
        section(csv::objects_table()),
        section(csv::frames_table()),
        section(csv::frame_scores_table()),
        section(csv::videos_table()),
        section(csv::rails_table()),
        section(csv::repeats_table()),
        section(csv::found_table()),
        section(csv::labels_table()),
        section(csv::tracks_table()),
        section(csv::agreement_table()),
        section(csv::memory_table()),
        section(csv::samples_table()),
        section(score::export::object_columns()),
        section(score::export::frame_columns()),
        section(command::score::tracking_columns()),
        section(command::score::tube_columns()),
        section(command::score::panoptic_columns()),
        section(history::columns()),
        section(scale::scale_columns()),
        section(scale::interval_columns()),
        section(csv::community_table()),
    ]
}

#[test]
fn headers_are_the_published_ones() {
    // Published names never change and keep their order; new ones come last.
    let all: Vec<String> = sections().iter().map(|s| format!("{}: {}", s.file, s.names)).collect();
    insta::assert_snapshot!("headers", all.join("\n"));
}

#[test]
fn a_name_that_ends_in_a_unit_has_that_unit() {
    for section in sections() {
        let mut names: Vec<&str> = section.units.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|w| w[0] != w[1]), "{}: a name twice", section.file);
        for (name, unit) in section.units {
            let end = name.rsplit('_').next().unwrap();
            let said = [("ms", "ms"), ("us", "µs"), ("mib", "MiB"), ("w", "W"), ("s", "s")].iter().find(|e| e.0 == end);
            assert!(said.is_none_or(|(_, u)| *u == unit), "{}: {name} in {unit:?}", section.file);
            let joules = unit == "J";
            assert_eq!(joules, name.starts_with("energy") && name.ends_with("_j"), "{}: {name}", section.file);
        }
    }
}

#[test]
fn the_document_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/results.md");
    let there = std::fs::read_to_string(&path).unwrap();
    const MARK: &str = "<!-- The rest is written from the code: UPDATE_DOCS=1 cargo test --test it columns:: -->\n";
    let (head, tail) = there.split_once(MARK).expect("the mark before the generated part");
    let now: String = sections().iter().map(|s| format!("\n{}", s.text)).collect();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{MARK}{now}")).unwrap();
        return;
    }
    assert!(tail == now, "docs/results.md is older than the columns; run UPDATE_DOCS=1 cargo test --test it columns::");
}
