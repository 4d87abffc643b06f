//! Data as people have it: what other programs read is read the same way, and what a run would refuse or score oddly is
//! said by `data check`, by the plan and by the run in the same words.

mod workshop;

use std::path::Path;

use serde_json::Value;
use workshop::Workshop;

/// `ImageSets/480p/val.txt` as DAVIS 2016 was published: a line per frame.
#[test]
fn davis_2016_is_scored_by_its_own_list() {
    let shop = Workshop::empty();
    let args = ["data", "synth", "d16", "--layout", "davis2016", "--videos", "2", "--frames", "9", "--size", "64x48"];
    shop.expect(0, &[&args[..], &["--predictions", "pred"]].concat());
    let names: Vec<String> = list(&shop.path("d16/JPEGImages/480p"));
    std::fs::remove_dir_all(shop.path("d16/ImageSets")).unwrap();
    std::fs::create_dir_all(shop.path("d16/ImageSets/480p")).unwrap();
    let line = |n: u32| format!("/JPEGImages/480p/{0}/{n:05}.jpg /Annotations/480p/{0}/{n:05}.png\n", names[1]);
    std::fs::write(shop.path("d16/ImageSets/480p/val.txt"), (0..9).map(line).collect::<String>()).unwrap();

    let score = |args: &[&str]| -> Value {
        serde_json::from_str(&shop.expect(0, &[&["score", "d16", "pred", "--json", "--quiet"], args].concat())).unwrap()
    };
    let (by_default, by_flag) = (score(&[]), score(&["--list", "d16/ImageSets/480p/val.txt"]));
    assert_eq!(by_default["protocol"], "davis2016");
    assert_eq!(by_default["objects"], by_flag["objects"]);
    let videos = by_default["videos"].as_array().unwrap();
    assert_eq!(videos.iter().map(|v| v["video"].as_str().unwrap()).collect::<Vec<_>>(), [names[1].as_str()]);
    assert!(by_default["global"]["j"].as_f64().unwrap() > 0.3, "{by_default:#}");
    assert!(by_default["notes"].to_string().contains(&names[0]), "the video that is not listed is named");
    // Check reads the same list.
    let out = shop.expect(0, &["data", "check", "d16", "--list", "d16/ImageSets/480p/val.txt"]);
    assert!(out.starts_with("d16: davis2016 layout, 1 video,"), "{out}");
}

fn list(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
