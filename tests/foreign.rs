//! Records that somebody else wrote, or that were changed after they were written: nothing in them becomes a path, a library or a
//! number of videos unasked.

mod workshop;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use workshop::{Workshop, text, tree};

/// Changes a record on disk.
fn edit(file: &Path, change: impl Fn(&mut Value)) {
    let mut record: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut record);
    std::fs::write(file, record.to_string()).unwrap();
}

fn shop(videos: usize) -> Workshop {
    let shop = Workshop::new(videos, 9);
    shop.pack("calm", "motion = [1.0, 0.0]");
    shop.pack("stumble", "[[mock.fault]]\nstep = 21\nkind = \"abort\"");
    shop
}

/// A run whose third video failed.
fn cut(shop: &Workshop) -> PathBuf {
    shop.run(&["--models", "stumble_mask", "--min-frames", "1"])
}

fn refused(shop: &Workshop, args: &[&str], words: &[&str]) {
    let output = shop.output(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {}{said}", text(&output.stdout));
    for word in words {
        assert!(said.contains(word), "{args:?}: {word} is not in: {said}");
    }
}

#[test]
fn names_in_a_record_are_no_paths() {
    let shop = shop(1);
    let run = shop.run(&["--models", "calm_mask", "--min-frames", "1"]);
    let (dir, file) = (run.to_str().unwrap(), run.join("run.json"));
    let whole = std::fs::read(&file).unwrap();
    let before = tree(shop.dir.path());
    for (field, change) in [
        ("device.name", json!({"device": {"name": "../../escaped"}})),
        ("device.name", json!({"device": {"name": shop.path("escaped")}})),
        ("device.name", json!({"device": {"name": ".."}})),
        ("run_id", json!({"run_id": "../../escaped"})),
    ] {
        std::fs::write(&file, &whole).unwrap();
        edit(&file, |record| match change.get("run_id") {
            Some(id) => record["run_id"] = id.clone(),
            None => record["device"]["name"] = change["device"]["name"].clone(),
        });
        for args in [vec!["merge", dir, "--out", "joined/deep"], vec!["report", dir], vec!["compare", dir, dir]] {
            refused(&shop, &args, &["run.json", field, "cannot be the name of a directory"]);
        }
        let new: Vec<String> = tree(shop.dir.path()).into_iter().filter(|f| !before.contains(f)).collect();
        assert!(new.is_empty(), "{field}: {new:?}");
    }
}

#[test]
fn a_library_in_a_record_is_not_loaded_unasked() {
    let shop = shop(4);
    let run = cut(&shop);
    let library = shop.path("libevil.so");
    std::fs::write(&library, "not one of ours").unwrap();
    edit(&run.join("run.json"), |record| record["settings"]["ort_lib"] = json!(library));
    let resume = ["--resume", run.to_str().unwrap(), "--quiet"];
    refused(&shop, &resume, &["libevil.so", "--ort-lib FILE"]);
    let other = shop.path("libother.so");
    std::fs::write(&other, "").unwrap();
    refused(&shop, &[&resume[..], &["--ort-lib", other.to_str().unwrap()]].concat(), &["libevil.so", "libother.so"]);
    // What the user names again is the user's: the mock runner needs no library, so the run goes on.
    shop.expect(0, &[&resume[..], &["--ort-lib", library.to_str().unwrap()]].concat());
}

#[test]
fn an_option_in_a_record_that_loads_libraries_is_not_followed_unasked() {
    let shop = shop(4);
    let run = cut(&shop);
    edit(&run.join("run.json"), |record| {
        record["settings"]["options"]["extra"] = json!({"trt_extra_plugin_lib_paths": "/tmp/evil.so"});
    });
    let resume = ["--resume", run.to_str().unwrap()];
    refused(&shop, &resume, &["trt_extra_plugin_lib_paths=/tmp/evil.so", "loads libraries"]);
}

#[test]
fn numbers_in_a_record_pass_the_checks_of_flags() {
    let shop = shop(4);
    let run = cut(&shop);
    let file = run.join("run.json");
    let whole = std::fs::read(&file).unwrap();
    for (change, words) in [
        (json!({"event_timeout_s": -1.0}), "--event-timeout -1"),
        (json!({"load_timeout_s": 1e300}), "--load-timeout"),
        (json!({"repeat": 0}), "--repeat 0"),
        (json!({"sample_hz": 0.0}), "--sample-hz 0"),
        (json!({"fps": 0.0}), "--fps 0"),
    ] {
        std::fs::write(&file, &whole).unwrap();
        edit(&file, |record| {
            for (name, value) in change.as_object().unwrap() {
                record["settings"][name] = value.clone();
            }
        });
        refused(&shop, &["--resume", run.to_str().unwrap()], &["in its record", words]);
    }
}
