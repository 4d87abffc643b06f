//! Whole trees: the input names folders and files under a temporary root, which is then opened, checked and scored.
//! Everything must end with a result or an error.
#![no_main]

use std::path::PathBuf;

use jetbench::dataset::{Dataset, OpenOptions, check};
use jetbench::score::{ScoreOptions, score};
use libfuzzer_sys::fuzz_target;

/// Parts of paths that the layouts look for, so that the fuzzer finds them soon.
const PARTS: [&str; 24] = [
    "JPEGImages_24fps", "Annotations_6fps", "JPEGImages", "Annotations", "480p", "ImageSets", "2016", "2017", "val.txt",
    "meta.json", "x_meta.json", "frames", "masks", "v", "w", "000", "1", "00000.png", "00004.png", "00000.jpg", "a.mp4",
    ".hidden", "notes.txt", "00008.png",
];

/// A 2x2 mask and a 2x2 frame can both be this file.
const PNG: &[u8] = include_bytes!("../seed/2x2.png");

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    // Each byte adds a part to the path; 255 ends a file, 254 a folder.
    let mut path = PathBuf::from(dir.path());
    for &byte in data.iter().take(200) {
        match byte {
            255 => {
                if let Some(parent) = path.parent() {
                    let _ = std::fs::create_dir_all(parent);
                }
                let _ = std::fs::write(&path, PNG);
                path = PathBuf::from(dir.path());
            }
            254 => {
                let _ = std::fs::create_dir_all(&path);
                path = PathBuf::from(dir.path());
            }
            part => path.push(PARTS[part as usize % PARTS.len()]),
        }
    }
    let _ = Dataset::open(dir.path());
    let _ = check(dir.path(), &OpenOptions::default(), &|_, _| ());
    for pred in ["", "masks", "Annotations", "Annotations_6fps", "Annotations/480p"] {
        let mut options = ScoreOptions::new(dir.path(), dir.path().join(pred));
        options.keep_first_last = data.first().is_some_and(|b| b & 1 == 1);
        let _ = score(&options, &|_, _| ());
    }
});
