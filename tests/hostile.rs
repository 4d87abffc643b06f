//! A dataset, a pack and a results directory from somebody who means no good: names that are markup, quotes, formulas,
//! line breaks, paths. The report stays inert, the tables stay tables, and nothing is written outside the results.

use std::path::Path;

use crate::workshop::{Workshop, rows, tree};

/// Renames a video and an object everywhere.
fn rename(shop: &Workshop, video: usize, to: &str, object: &str) {
    let old = format!("synth_{video:03}");
    let list = |dir: &str| -> Vec<String> {
        let entries = std::fs::read_dir(shop.path(dir)).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    assert!(list("data/JPEGImages_24fps").contains(&old), "{:?}", list("data/JPEGImages_24fps"));
    for part in ["JPEGImages_24fps", "Annotations_6fps"] {
        let dir = shop.path("data").join(part);
        std::fs::rename(dir.join(&old), dir.join(to)).unwrap();
    }
    let dir = shop.path("data/Annotations_6fps").join(to);
    std::fs::rename(dir.join("000"), dir.join(object)).unwrap();
}

#[test]
fn hostile_names_stay_text_and_stay_inside() {
    let shop = Workshop::new(5, 9);
    shop.pack("calm", "motion = [1.0, 0.0]");
    for entry in std::fs::read_dir(shop.path("data")).unwrap().flatten() {
        // The list of videos would have to know the new names.
        if entry.path().is_file() {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let names = [
        ("<script>alert(1)<|script>", "\"><img src=x onerror=alert(1)>"),
        ("a\nb\r\"c\",d", "=HYPERLINK(1)"),
        ("'; rm -rf ~; '", "$(touch owned)"),
        ("%2e%2e%2fetc", "{{7*7}}"),
        ("-->]]><svg onload=x>", "\u{202e}gpj"),
    ];
    for (i, (video, object)) in names.iter().enumerate() {
        rename(&shop, i, video, object);
    }
    let before = tree(shop.dir.path());
    let run = shop.run(&["--models", "calm_mask", "--save-masks", "--overlays"]);
    let record = jetbench::results::store::load(&run).unwrap();
    assert_eq!(record.cells[0].sequences.len(), 5, "{:?}", record.cells[0].verdict);
    let inside = run.strip_prefix(shop.dir.path()).unwrap().to_str().unwrap().to_string();
    for file in tree(shop.dir.path()) {
        let ours = file.starts_with(&inside) || file.starts_with("locks/") || before.contains(&file);
        assert!(ours, "{file} is outside the results");
    }
    assert!(run.join("masks").is_dir() && run.join("overlays").is_dir() && run.join("moments").is_dir());
    let html = std::fs::read_to_string(run.join("report.html")).unwrap();
    for live in ["<script", "<img src=x", "onerror=alert(1)>", "<svg onload", "]]>", "-->"] {
        assert!(!html.contains(live), "{live}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)&lt;|script&gt;"), "the names are shown as what they are");
    // Tables: as wide as their header, in spite of line breaks and commas; Markdown rows stay one line each.
    assert_eq!(rows(&run.join("objects.csv")).len(), 1 + 5 * 2);
    assert_eq!(rows(&run.join("frames.csv")).len(), 1 + 5 * 9);
    for plot in tree(&run.join("plots")).iter().filter(|f| f.ends_with(".svg")) {
        let svg = std::fs::read_to_string(run.join("plots").join(plot)).unwrap();
        assert!(!svg.contains("<script") && !svg.contains("<svg onload"), "{plot}");
    }
    // Everything that reads results reads these.
    let dir = run.to_str().unwrap();
    shop.expect(0, &["report", dir]);
    shop.expect(0, &["compare", dir, dir]);
    shop.expect(0, &["merge", dir, "--out", "joined", "--quiet"]);
    assert_eq!(std::fs::read_to_string(run.join("report.html")).unwrap(), html, "written anew, it is the same");
}

/// Names that would lead out of a directory, in a record and a list of pictures that somebody else wrote.
#[test]
fn names_that_are_paths_are_harmless() {
    let shop = Workshop::new(2, 9);
    shop.pack("calm", "motion = [1.0, 0.0]");
    let run = shop.run(&["--models", "calm_mask", "--min-frames", "1"]);
    // A record whose names and pictures point elsewhere.
    std::fs::write(shop.path("secret.png"), "secret").unwrap();
    let text = std::fs::read_to_string(run.join("run.json")).unwrap();
    std::fs::write(run.join("run.json"), text.replace("synth_000", "../../../../escaped")).unwrap();
    let moments = run.join("moments/0/moments.json");
    let list = std::fs::read_to_string(&moments).unwrap();
    let file = list.split("\"file\": \"").nth(1).unwrap().split('"').next().unwrap().to_string();
    std::fs::write(&moments, list.replace(&file, "../../../../../secret.png")).unwrap();
    let before = tree(shop.dir.path());
    shop.expect(0, &["report", run.to_str().unwrap(), "--quiet"]);
    shop.expect(0, &["merge", run.to_str().unwrap(), "--out", "joined", "--quiet"]);
    let new: Vec<String> = tree(shop.dir.path()).into_iter().filter(|f| !before.contains(f)).collect();
    assert!(new.iter().all(|f| f.starts_with("joined/")), "{new:?}");
    let html = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(!html.contains("c2VjcmV0"), "the secret went into the report");
    assert!(!Path::new("/escaped").exists());
}
