//! Parts of one job on several processes and boards: what belongs together is joined to exactly what one run gives, and
//! what is missing, doubled or foreign is named.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::workshop::{Workshop, rows, text};

const JOB: [&str; 4] = ["--models", "calm_mask,calm_bbox", "--min-frames", "30"];

fn shop() -> Workshop {
    let shop = Workshop::new(7, 9);
    shop.pack("calm", "motion = [1.0, 0.0]");
    shop
}

fn part(shop: &Workshop, shard: &str, out: &str) -> PathBuf {
    let mut args = JOB.to_vec();
    args.extend(["--shard", shard, "--out", out]);
    shop.run(&args)
}

/// Changes the record of a run, as another board would have written it.
fn edit(run: &Path, change: impl Fn(&mut Value)) {
    let file = run.join("run.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut record);
    std::fs::write(file, record.to_string()).unwrap();
}

fn on_board(run: &Path, name: &str, power: f64) {
    edit(run, |record| {
        record["device"] =
            json!({"name": name, "digest": format!("digest-{name}"), "facts": {"power_mode": "25W (1)"}});
        for cell in record["cells"].as_array_mut().unwrap() {
            cell["summary"]["energy_per_frame_j"] = json!(power);
            let frames = cell["summary"]["frames"].as_f64().unwrap();
            cell["energy_j"] = json!({"VDD_IN": power * frames});
        }
    });
}

fn merged(shop: &Workshop, code: i32, args: &[&str]) -> PathBuf {
    let mut all = vec!["merge", "--quiet", "--json"];
    all.extend(args);
    let line: Value = serde_json::from_str(shop.expect(code, &all).trim()).unwrap();
    shop.path(line["run"].as_str().unwrap())
}

fn refused(shop: &Workshop, args: &[&str]) -> String {
    let output = shop.output(&[&["merge", "--out", "never"], args].concat());
    assert_eq!(output.status.code(), Some(2), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!shop.path("never").exists(), "a refused merge writes nothing");
    let mut said = text(&output.stderr);
    for (i, run) in ["parts", "extra", "boards"].iter().flat_map(|r| shop.runs(r)).enumerate() {
        let relative = run.strip_prefix(shop.dir.path()).unwrap().to_str().unwrap();
        said = said.replace(relative, &format!("RUN{i}"));
    }
    said
}

/// J&F to the last digit, and every row of every frame.
fn same_scores(a: &Path, b: &Path) {
    for name in ["objects.csv", "frame_scores.csv"] {
        let (a, b) = (std::fs::read_to_string(a.join(name)).unwrap(), std::fs::read_to_string(b.join(name)).unwrap());
        assert_eq!(a, b, "{name}");
    }
    let scores = |run: &Path| -> Vec<String> {
        let columns = |r: &Vec<String>| [&r[..7], &r[8..14], &r[29..31]].concat().join(" ");
        rows(&run.join("summary.csv")).iter().map(columns).collect()
    };
    assert_eq!(scores(a), scores(b));
}

#[test]
fn parts_join_to_exactly_the_single_run() {
    let shop = shop();
    let whole = shop.run(&JOB);
    for shard in ["1/4", "3/4", "4/4", "2/4"] {
        let run = part(&shop, shard, "parts");
        let record = jetbench::results::store::load(&run).unwrap();
        assert!(record.cells[0].sequences.len() <= 2 && record.data.list.len() == 7);
    }
    let joined = merged(&shop, 0, &["parts"]);
    same_scores(&whole, &joined);
    let frames =
        |run: &Path| -> Vec<String> { rows(&run.join("frames.csv")).iter().map(|r| r[..5].join(" ")).collect() };
    assert_eq!(frames(&whole), frames(&joined));
    let (one, four) =
        (jetbench::results::store::load(&whole).unwrap(), jetbench::results::store::load(&joined).unwrap());
    assert_eq!(one.origin.job_sha256, four.origin.job_sha256);
    assert_eq!(four.origin.parts.len(), 4);
    assert_eq!(
        (one.data.videos, one.data.objects, one.data.frames),
        (four.data.videos, four.data.objects, four.data.frames)
    );
    assert!(four.cells[0].summary.as_ref().unwrap().latency.is_some(), "one device: latencies are joined");
    assert!(joined.join("report.html").is_file() && !joined.join("partial").exists());
    // Joining again finds the joined run beside its parts and leaves it out.
    std::fs::rename(shop.path("results"), shop.path("parts/results")).unwrap();
    let said = refused(&shop, &["parts"]);
    assert!(said.contains("appears twice"), "the single run is there too: {said}");
}

#[test]
fn what_is_missing_doubled_or_foreign_is_named() {
    let shop = shop();
    for shard in ["1/4", "2/4", "4/4"] {
        part(&shop, shard, "parts");
    }
    let mut said = vec![refused(&shop, &["parts"])];
    let partial = merged(&shop, 1, &["parts", "--partial"]);
    let record = jetbench::results::store::load(&partial).unwrap();
    said.push(record.stopped.unwrap());
    assert!(std::fs::read_to_string(partial.join("report.html")).unwrap().contains("partial: 5 of 7 videos"));
    part(&shop, "1/4", "extra");
    said.push(refused(&shop, &["parts", "extra"]));
    std::fs::remove_dir_all(shop.path("extra")).unwrap();
    let foreign = shop.run(&["--models", "calm_mask", "--shard", "3/4", "--out", "extra", "--clicks", "2"]);
    said.push(refused(&shop, &["parts", "extra"]));
    edit(&foreign, |record| record["data"]["list_sha256"] = json!("of another list"));
    said.push(refused(&shop, &["parts", "extra"]).split(" (of").next().unwrap().to_string());
    // A part that was cut off is missing, and named by what to do about it.
    std::fs::remove_dir_all(shop.path("extra")).unwrap();
    let cut = part(&shop, "3/4", "extra");
    let mut record = jetbench::results::store::load(&cut).unwrap();
    record.cells[1].sequences.pop();
    record.cells[1].summary = jetbench::judge::summary::summarise(&record.cells[1]);
    jetbench::results::store::write_json(&cut.join("run.json"), &record).unwrap();
    said.push(refused(&shop, &["parts", "extra"]));
    std::fs::create_dir_all(cut.join("partial")).unwrap();
    std::fs::rename(cut.join("run.json"), cut.join("partial/run.json")).unwrap();
    said.push(refused(&shop, &["parts", "extra"]));
    said.push(refused(&shop, &["packs"]));
    insta::assert_snapshot!(said.join("\n"));
}

/// A part that was cut off and submitted again is joined once, however the first try ended.
#[test]
fn a_try_that_was_cut_off_gives_way_to_the_one_that_was_done() {
    let shop = shop();
    let whole = shop.run(&JOB);
    let parts = ["1/2", "2/2"].map(|shard| part(&shop, shard, "parts"));
    let again = part(&shop, "2/2", "extra");
    // Ended by a signal: a record of what was done, here nothing of the second cell.
    edit(&parts[1], |record| {
        record["stopped"] = json!("interrupted");
        let cell = record["cells"][1].as_object_mut().unwrap();
        cell.insert("verdict".into(), json!({"kind": "failed", "error": "interrupted", "phase": "spawn"}));
        cell.insert("sequences".into(), json!([]));
        for name in ["summary", "runtime", "effective_dtype"] {
            cell.insert(name.into(), Value::Null);
        }
    });
    same_scores(&whole, &merged(&shop, 0, &["parts", "extra", "--out", "first"]));
    // Killed: a record of what was planned.
    std::fs::create_dir_all(parts[1].join("partial")).unwrap();
    std::fs::rename(parts[1].join("run.json"), parts[1].join("partial/run.json")).unwrap();
    let output = shop.output(&["merge", "parts", "extra", "--out", "second"]);
    let said = text(&output.stderr);
    assert!(said.contains("was not done to its end and is left out, as another run did part 2/2"), "{said}");
    same_scores(&whole, &shop.runs("second")[0]);
    // What no other run did is not left out, be it of another part or of another job.
    std::fs::remove_dir_all(&again).unwrap();
    assert!(refused(&shop, &["parts"]).contains("unfinished; continue it with"));
    shop.run(&["--models", "calm_mask", "--min-frames", "30", "--shard", "2/2", "--out", "extra"]);
    assert!(refused(&shop, &["parts", "extra"]).contains("unfinished; continue it with"));
}

#[test]
fn runs_of_one_board_are_sent_to_compare() {
    let shop = shop();
    let job = ["--models", "calm_mask", "--min-frames", "30"];
    let runs = [1, 2].map(|clicks: u32| shop.run(&[&job[..], &["--clicks", &clicks.to_string()]].concat()));
    // Whole runs, also of different settings.
    let said = refused(&shop, &["results"]);
    let relative = runs.each_ref().map(|r| r.strip_prefix(shop.dir.path()).unwrap().display().to_string());
    let command = format!("jetbench compare {} {}", relative[0], relative[1]);
    assert!(said.contains("whole runs on one board") && said.trim_end().ends_with(&command), "{said}");
    // The same part twice, too.
    for _ in 0..2 {
        part(&shop, "1/4", "again");
    }
    assert!(refused(&shop, &["again"]).contains("runs of part 1/4 on one board"));
}

#[test]
fn boards_stand_beside_each_other_and_keep_their_own_latencies() {
    let shop = shop();
    let whole = shop.run(&JOB);
    for (name, power) in [("orin-nano", 0.72), ("orin-agx", 1.44)] {
        let run = shop.run(&[&JOB[..], &["--out", "boards"]].concat());
        on_board(&run, name, power);
    }
    let joined = merged(&shop, 0, &["boards", "--energy-price", "0.25"]);
    let summary = rows(&joined.join("summary.csv"));
    let devices: Vec<&str> = summary[1..].iter().map(|r| r[5].as_str()).collect();
    assert_eq!(devices.iter().filter(|d| **d == "orin-nano, 25W (1), cpu").count(), 2, "{devices:?}");
    assert_eq!(summary.len(), 5);
    let latency = |row: &Vec<String>| row[17].parse::<f64>().unwrap();
    assert!(summary[1..].iter().all(|r| latency(r) >= 0.0));
    let markdown = std::fs::read_to_string(joined.join("summary.md")).unwrap();
    // 0.72 J per frame are 720 J per 1,000 frames, 0.0002 kWh, 0.00005 of the price of a euro quarter.
    assert!(markdown.contains("energy EUR/1000 frames") && markdown.contains("0.00005"), "{markdown}");
    assert!(markdown.contains("0.00010"), "{markdown}");

    // Parts of one data set on two boards: scores are joined, what depends on the device is not.
    for (shard, name) in [("1/2", "orin-nano"), ("2/2", "orin-agx")] {
        on_board(&part(&shop, shard, "spread"), name, 0.7);
    }
    let joined = merged(&shop, 0, &["spread"]);
    let objects = |run: &Path| std::fs::read_to_string(run.join("objects.csv")).unwrap();
    assert_eq!(objects(&whole), objects(&joined));
    let record = jetbench::results::store::load(&joined).unwrap();
    let figures = record.cells[0].summary.as_ref().unwrap();
    assert!(figures.jf.is_some() && figures.latency.is_none() && figures.fps_wall.is_none());
    assert!(figures.energy_per_frame_j.is_none() && record.cells[0].memory.is_empty());
    assert_eq!(rows(&joined.join("frames.csv")).len(), 1);
    assert!(record.cells[0].notes.iter().any(|n| n.text.contains("2 devices")), "{:?}", record.cells[0].notes);
}

/// What schedulers say about themselves is understood, and said.
#[test]
fn arrays_and_indexed_jobs_find_their_part() {
    let shop = shop();
    let said = |env: &[(&str, &str)]| {
        let mut command = shop.command(&["--models", "calm_mask", "--data", "data", "--dtype", "fp32", "--dry-run"]);
        let output = command.envs(env.iter().copied()).output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "2"),
        ("SLURM_ARRAY_TASK_COUNT", "1"),
        ("SLURM_ARRAY_TASK_MIN", "2"),
        ("SLURM_ARRAY_TASK_MAX", "2"),
        ("JETBENCH_SHARDS", "4"),
    ];
    // A part that is submitted again is the same part.
    let (code, words) = said(&slurm);
    assert!(
        code == Some(0) && words.contains("2 videos") && words.contains("part 2/4 of the videos (Slurm array)"),
        "{words}"
    );
    let (code, words) = said(&slurm[..4]);
    assert!(code == Some(2) && words.contains("set JETBENCH_SHARDS"), "{words}");
    let (code, words) = said(&[("JOB_COMPLETION_INDEX", "0"), ("JETBENCH_SHARDS", "2")]);
    assert!(code == Some(0) && words.contains("part 1/2 of the videos (indexed Kubernetes job)"), "{words}");
    assert_eq!(said(&[("JOB_COMPLETION_INDEX", "0")]).0, Some(2));
    let (code, words) = said(&[("JOB_COMPLETION_INDEX", "8"), ("JETBENCH_SHARDS", "9")]);
    assert!(code == Some(2) && words.contains("at most 7 parts"), "{words}");
}
