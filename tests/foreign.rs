//! Records that somebody else wrote, or that were changed after they were written: nothing in them becomes a path, a library or a
//! number of videos unasked.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jetbench::judge::summary::summarise;
use jetbench::results::record::CellRecord;
use jetbench::results::store;
use serde_json::{Value, json};

use crate::workshop::{Workshop, text, tree};

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

/// Waits for the first finished sequence of the first cell.
fn first_spool(shop: &Workshop) {
    let started = Instant::now();
    while !shop.runs("results").iter().any(|run| run.join("spool/0/0.spool").is_file()) {
        assert!(started.elapsed() < Duration::from_secs(120), "nothing was begun");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_video_that_goes_away_meanwhile_leaves_no_valid_cell() {
    let shop = shop(4);
    shop.pack("slow", "[[mock.fault]]\nframe = 6\nkind = \"wait\"\n");
    for entry in std::fs::read_dir(shop.path("data")).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::remove_file(entry.path()).unwrap(); // the list of videos
        }
    }
    let mut run = shop
        .command(&[
            "--models",
            "slow_mask,calm_mask",
            "--dtype",
            "fp32",
            "--data",
            "data",
            "--min-frames",
            "1",
            "--quiet",
        ])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    first_spool(&shop);
    for part in ["JPEGImages_24fps", "Annotations_6fps"] {
        let at = shop.path("data").join(part).join("synth_003");
        std::fs::rename(at, shop.path(&format!("gone-{part}"))).unwrap();
    }
    std::fs::write(shop.path("go"), "").unwrap();
    assert_ne!(run.wait().unwrap().code(), Some(0));
    let dir = shop.runs("results").remove(0);
    let record = store::load(&dir).unwrap();
    let cell = &record.cells[1];
    assert_eq!(cell.sequences.len(), 3);
    assert_eq!(cell.verdict.as_str(), "invalid");
    assert!(
        cell.verdict.reasons().contains("incomplete: 3 of 4 videos finished, without synth_003"),
        "{:?}",
        cell.verdict
    );
    // Put back, the rest is done.
    for part in ["JPEGImages_24fps", "Annotations_6fps"] {
        let at = shop.path("data").join(part).join("synth_003");
        std::fs::rename(shop.path(&format!("gone-{part}")), at).unwrap();
    }
    shop.expect(0, &["--resume", dir.to_str().unwrap(), "--quiet"]);
    let record = store::load(&dir).unwrap();
    assert!(record.cells.iter().all(|c| c.verdict.as_str() == "valid" && c.sequences.len() == 4));
}

/// Changes the first cell of a record, and its summary so that it goes with it.
fn forge(run: &Path, change: impl Fn(&mut CellRecord)) {
    let mut record = store::load(run).unwrap();
    change(&mut record.cells[0]);
    record.cells[0].summary = summarise(&record.cells[0]);
    store::write_json(&run.join("run.json"), &record).unwrap();
}

/// A record that calls itself finished and valid, and is not: a resume does the rest, a merge does not call it valid.
#[test]
fn a_forged_end_is_no_end() {
    let shop = shop(4);
    let run = shop.run(&["--models", "calm_mask", "--min-frames", "1"]);
    let file = run.join("run.json");
    let dir = run.to_str().unwrap();
    let whole = std::fs::read(&file).unwrap();
    // Frames of one video, an object of another: the merge names them.
    for (what, words) in [("frames", "incomplete: 35 of 36 frames"), ("objects", "incomplete: 7 of 8 objects")] {
        std::fs::write(&file, &whole).unwrap();
        forge(&run, |cell| match what {
            "frames" => drop(cell.sequences[1].frames.pop()),
            _ => drop(cell.sequences[1].objects.pop()),
        });
        let line = shop.expect(1, &["merge", dir, "--out", what, "--quiet", "--json"]);
        let line: Value = serde_json::from_str(line.lines().last().unwrap()).unwrap();
        assert_eq!(line["cells"][0]["verdict"], "invalid");
        let joined = store::load(&shop.runs(what)[0]).unwrap();
        assert!(joined.cells[0].verdict.reasons().contains(words), "{:?}", joined.cells[0].verdict);
    }
    // A video and its scores: the resume tracks it.
    std::fs::write(&file, &whole).unwrap();
    forge(&run, |cell| {
        cell.sequences.pop();
        cell.sequences[0].frames.pop();
    });
    shop.expect(0, &["--resume", dir, "--quiet"]);
    let record = store::load(&run).unwrap();
    assert_eq!(record.cells[0].verdict.as_str(), "valid");
    assert_eq!(record.cells[0].sequences.iter().map(|s| s.frames.len()).collect::<Vec<_>>(), [9; 4]);
}

/// What `--partial` joins is not the job.
#[test]
fn parts_that_are_joined_partly_are_not_valid() {
    let shop = shop(4);
    shop.run(&["--models", "calm_mask", "--min-frames", "1", "--shard", "1/2", "--out", "parts"]);
    shop.expect(1, &["merge", "parts", "--partial", "--out", "joined", "--quiet"]);
    let joined = store::load(&shop.runs("joined")[0]).unwrap();
    let said = joined.cells[0].verdict.reasons();
    assert!(said.contains("incomplete: 2 of 4 videos finished, without synth_001, synth_003"), "{said}");
}

#[test]
fn two_packs_of_one_id_are_named_with_both_places() {
    let shop = shop(1);
    let other = shop.path("more/calm");
    std::fs::create_dir_all(&other).unwrap();
    let manifest = std::fs::read_to_string(shop.path("packs/calm/pack.toml")).unwrap();
    // The same manifest to the byte, and the same directory twice, are one pack.
    std::fs::write(other.join("pack.toml"), &manifest).unwrap();
    let run = ["--models", "calm_mask", "--dtype", "fp32", "--data", "data", "--min-frames", "1", "--quiet"];
    let both = ["--packs", "packs", "--packs", "./packs/../packs", "--packs", "more"];
    shop.expect(0, &[&run[..], &both[..]].concat());
    std::fs::write(other.join("pack.toml"), format!("{manifest}frame_ms = [1.0]\n")).unwrap();
    refused(&shop, &[&run[..], &both[..]].concat(), &["two packs", "`calm`", "packs/calm", "more/calm", "pack path"]);
    shop.expect(0, &[&run[..], &["--packs", "packs"]].concat());
}

#[test]
fn a_record_that_contradicts_itself_is_named_by_every_reader() {
    let shop = shop(2);
    let run = shop.run(&["--models", "calm_mask", "--min-frames", "1"]);
    let good = shop.run(&["--models", "calm_mask", "--min-frames", "1"]);
    let (dir, file) = (run.to_str().unwrap(), run.join("run.json"));
    let whole = std::fs::read(&file).unwrap();
    for (place, value, words) in [
        ("/cells/0/summary/jf", json!(999.0), "jf is 999"),
        ("/cells/0/summary/jf", json!(12.5), "its sequences give"),
        ("/cells/0/summary/fps_wall", json!(1e300), "fps_wall is"),
        ("/cells/0/summary/latency/p50_ms", json!(-1.0), "latency is -1 ms"),
        ("/cells/0/summary/latency/p50_ms", json!(1e8), "do not rise"),
        ("/cells/0/summary/videos", json!(3), "videos is 3"),
        ("/cells/0/sequences/0/objects/0/j", json!(-5.0), "j is -5"),
    ] {
        std::fs::write(&file, &whole).unwrap();
        edit(&file, |record| *record.pointer_mut(place).unwrap() = value.clone());
        for args in
            [vec!["merge", dir, "--out", "joined"], vec!["report", dir], vec!["compare", good.to_str().unwrap(), dir]]
        {
            refused(&shop, &args, &["run.json", words]);
        }
        let output = shop.output(&["history", "--json"]);
        let said = text(&output.stderr);
        assert!(said.contains("left out") && said.contains(words), "{said}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["series"][0]["runs"].as_array().unwrap().len(), 1, "the other one is shown");
    }
}
