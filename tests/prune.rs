//! Old runs go, and never a baseline, one under way, or what somebody else put there.

use std::path::{Path, PathBuf};

use jetbench::results::claim;
use serde_json::Value;

use crate::workshop::{Workshop, text, tree};

/// Five runs of one device: copies of one, under the names of other times.
fn shop() -> (Workshop, Vec<PathBuf>) {
    let shop = Workshop::new(1, 5);
    shop.pack("calm", "motion = [1.0, 0.0]");
    let first = shop.run(&["--models", "calm_mask", "--min-frames", "1"]);
    let record = std::fs::read_to_string(first.join("run.json")).unwrap();
    let id = first.file_name().unwrap().to_string_lossy().into_owned();
    let made = (1..=5).map(|day| {
        let name = format!("2026010{day}T020000Z-000000");
        let dir = first.with_file_name(&name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("run.json"), record.replace(&id, &name)).unwrap();
        std::fs::write(dir.join("frames.csv"), vec![b'x'; 100_000]).unwrap();
        dir
    });
    let made = made.collect();
    std::fs::remove_dir_all(first).unwrap();
    (shop, made)
}

fn there(runs: &[PathBuf]) -> Vec<bool> {
    runs.iter().map(|run| run.exists()).collect()
}

fn edit(run: &Path, from: &str, to: &str) {
    let file = run.join("run.json");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from));
    std::fs::write(file, text.replace(from, to)).unwrap();
}

#[test]
fn the_newest_stay_and_so_does_what_may_not_go() {
    let (shop, runs) = shop();
    let name = |run: &PathBuf| run.file_name().unwrap().to_string_lossy().into_owned();
    shop.expect(0, &["compare", &name(&runs[0]), "--save-baseline", "main"]);
    let _under_way = claim::claim(&runs[1]).unwrap();
    // A folder of somebody's own, and a record that is not this directory's.
    let golden = runs[0].with_file_name("golden");
    std::fs::create_dir(&golden).unwrap();
    std::fs::copy(runs[2].join("run.json"), golden.join("run.json")).unwrap();
    let copied = runs[0].with_file_name("20250101T000000Z-000000");
    std::fs::create_dir(&copied).unwrap();
    std::fs::copy(runs[2].join("run.json"), copied.join("run.json")).unwrap();

    let before = tree(&shop.path("results"));
    let said = shop.expect(0, &["prune", "--keep", "1", "--dry-run"]);
    assert!(
        said.contains("would remove 2 runs") && said.contains("1 baseline, 1 under way, 2 not made here"),
        "{said}"
    );
    assert_eq!(tree(&shop.path("results")), before, "a dry run leaves everything as it was");
    let sizes = shop.expect(0, &["history", "--sizes"]);
    let line = |run: &PathBuf| sizes.lines().find(|l| l.contains(&name(run))).unwrap().trim_end().to_string();
    assert!(line(&runs[0]).ends_with("baseline") && line(&runs[1]).ends_with("under way"), "{sizes}");
    assert!(line(&golden).ends_with("not made here") && line(&runs[3]).ends_with("iB"), "{sizes}");
    assert_eq!(tree(&shop.path("results")), before, "nor does a look");

    shop.expect(0, &["prune", "--keep", "1"]);
    assert_eq!(there(&runs), [true, true, false, false, true]);
    assert!(golden.exists() && copied.exists());
    // The baselines of another program beside the results are none of ours.
    std::fs::create_dir(shop.path("baselines")).unwrap();
    std::fs::write(shop.path("baselines/theirs.json"), "{}").unwrap();
    shop.expect(0, &["prune", "--keep", "1"]);
    // A baseline is one by its name, too, when the results have moved; and from below, where it is not seen.
    std::fs::rename(shop.path("results"), shop.path("moved")).unwrap();
    let device = runs[0].parent().unwrap().file_name().unwrap();
    let below = shop.path("moved").join(device);
    std::os::unix::fs::symlink(shop.path("moved"), shop.path("link")).unwrap();
    for out in [shop.path("moved"), below, shop.path("link")] {
        shop.expect(0, &["prune", "--keep", "1", "--out", out.to_str().unwrap()]);
        assert!(shop.path("moved").join(device).join(name(&runs[0])).exists(), "{}", out.display());
    }
    // And where several results directories are looked at from above.
    std::fs::create_dir(shop.path("all")).unwrap();
    std::fs::rename(shop.path("moved"), shop.path("all/moved")).unwrap();
    shop.expect(0, &["prune", "--max-size", "1TiB", "--out", "all"]);
    shop.expect(1, &["prune", "--max-size", "1kB", "--out", "all"]);
    assert!(shop.path("all/moved").join(device).join(name(&runs[0])).exists());
}

#[test]
fn a_baseline_of_another_results_directory_stays_and_a_run_under_way_keeps_nobodys_place() {
    let (shop, runs) = shop();
    let save = |run: PathBuf, name: &str| {
        shop.expect(0, &["compare", run.to_str().unwrap(), "--save-baseline", name, "--out", "other"]);
    };
    save(runs[0].clone(), "main");
    save(runs[0].clone(), "again");
    save(runs[1].join("run.json"), "record");
    let under_way = claim::claim(&runs[4]).unwrap();
    shop.expect(0, &["prune", "--keep", "1"]);
    assert_eq!(there(&runs), [true, true, false, true, true]);
    // A disk that is not there now, and one that is back.
    std::fs::rename(shop.path("other"), shop.path("away")).unwrap();
    shop.expect(1, &["prune", "--max-size", "1kB"]);
    assert_eq!(there(&runs), [true, true, false, false, true]);
    std::fs::rename(shop.path("away"), shop.path("other")).unwrap();
    // A name goes when its file goes.
    std::fs::remove_file(shop.path("other/baselines/record.json")).unwrap();
    std::fs::remove_file(shop.path("other/baselines/main.json")).unwrap();
    shop.expect(1, &["prune", "--max-size", "1kB"]);
    assert_eq!(there(&runs), [true, false, false, false, true]);
    // --keep of `run` goes by the same rules.
    std::fs::write(runs[0].join("retention.txt"), "").unwrap();
    std::fs::write(runs[4].join("retention.txt"), "").unwrap();
    let keep = |keep: &str| shop.run(&["--models", "calm_mask", "--min-frames", "1", "--keep", keep]);
    let first = keep("2");
    keep("2");
    assert!(first.exists(), "a run under way has taken its place");
    drop(under_way);
    keep("1");
    assert_eq!((there(&runs), first.exists()), (vec![true, false, false, false, false], false));
}

#[test]
fn the_oldest_go_until_the_rest_fits() {
    let (shop, runs) = shop();
    let json = |args: &[&str]| -> Value { serde_json::from_str(&shop.expect(0, args)).unwrap() };
    let sizes = json(&["history", "--sizes", "--json"]);
    let all = sizes["bytes"].as_u64().unwrap();
    let last: u64 = [3, 4].map(|i: usize| sizes["runs"][i]["bytes"].as_u64().unwrap()).iter().sum();
    assert!(last > 200_000 && all > 2 * last, "{sizes}");
    let most = format!("{}B", last + 10);
    let dry = json(&["prune", "--max-size", &most, "--dry-run", "--json"]);
    assert_eq!((dry["freed_bytes"].as_u64().unwrap(), there(&runs)), (all - last, vec![true; 5]));
    let gone = json(&["prune", "--max-size", &most, "--json"]);
    assert_eq!(gone["removed"], dry["removed"]);
    assert_eq!(there(&runs), [false, false, false, true, true]);
    assert!(shop.expect(0, &["prune", "--max-size", &most]).contains("removed 0 runs"));
    // A limit that cannot be kept is said, and is an exit code.
    let id = runs[3].file_name().unwrap().to_str().unwrap();
    shop.expect(0, &["compare", id, "--save-baseline", "main"]);
    assert!(shop.expect(1, &["prune", "--max-size", "1kB"]).contains("may not be removed"));
    assert_eq!(there(&runs), [false, false, false, true, false]);
}

#[test]
fn a_baseline_that_cannot_be_read_protects_everything() {
    let (shop, runs) = shop();
    std::fs::create_dir_all(shop.path("results/baselines")).unwrap();
    std::fs::write(shop.path("results/baselines/main.json"), "{\"run\": ").unwrap();
    let refused = shop.output(&["prune", "--keep", "1"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("which run it protects is not known"), "{}", text(&refused.stderr));
    // --keep of `run` goes by the same rule, and its run is none the worse.
    std::fs::write(runs[0].join("retention.txt"), "").unwrap();
    let job = ["--models", "calm_mask", "--data", "data", "--dtype", "fp32", "--min-frames", "1", "--keep", "1"];
    let kept = shop.output(&job);
    assert_eq!(kept.status.code(), Some(0), "{}", text(&kept.stderr));
    assert!(text(&kept.stderr).contains("no run was removed"), "{}", text(&kept.stderr));
    assert_eq!(there(&runs), [true; 5]);
    // Neither a record of another program nor a missing results directory is anything to remove.
    std::fs::remove_dir_all(shop.path("results/baselines")).unwrap();
    edit(&runs[1], "\"run_id\"", "\"other\"");
    shop.expect(0, &["prune", "--keep", "1"]);
    assert_eq!(there(&runs), [false, true, false, false, false]);
    assert_eq!(shop.output(&["prune", "--keep", "1", "--out", "nowhere"]).status.code(), Some(2));
    assert_eq!(shop.output(&["prune"]).status.code(), Some(2));
    assert_eq!(shop.output(&["prune", "--keep", "1", "--max-size", "1GiB"]).status.code(), Some(2));
}
