//! What is measured is what was planned: frames, annotations and packs that change between plan and figure are named, and give none. Runs
//! wait for the device after they were planned, so a test that holds it can change files exactly then.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jetbench::results::record::RunRecord;
use jetbench::results::store;
use jetbench::run::lock;
use jetbench_runners::runtime;

use crate::workshop::{Workshop, text};

const MODEL: [&str; 2] = ["--models", "calm_mask"];
const JOB: [&str; 6] = ["--models", "calm_mask", "--dtype", "fp32", "--data", "data"];

fn shop() -> Workshop {
    let shop = Workshop::new(4, 9);
    shop.pack("calm", "motion = [1.0, 0.0]");
    shop
}

fn record(run: &Path) -> RunRecord {
    store::load(run).unwrap()
}

/// The annotation of one object on one frame.
fn truth(shop: &Workshop, video: usize, frame: usize) -> PathBuf {
    shop.path(&format!("data/Annotations_6fps/synth_{video:03}/000/{frame:05}.png"))
}

fn frame(shop: &Workshop, video: usize, frame: usize) -> PathBuf {
    shop.path(&format!("data/JPEGImages_24fps/synth_{video:03}/{frame:05}.png"))
}

/// Puts another file in the place of this one, with its size (a comment makes up the difference where it is smaller) and its times.
fn replace(path: &Path, with: &Path) {
    let times = path.metadata().unwrap().modified().unwrap();
    let beside = path.with_extension("new");
    std::fs::copy(with, &beside).unwrap();
    std::fs::rename(&beside, path).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(times).unwrap();
}

fn touch(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
}

/// Starts a run while the device is held, changes files when it has been planned, and lets it go on.
pub fn changed_after_planning(shop: &Workshop, args: &[&str], change: impl FnOnce()) -> (Option<i32>, String, PathBuf) {
    let interrupt = AtomicBool::new(false);
    let names = ["cpu".to_string()].into();
    let locks = shop.path("locks");
    let held = lock::acquire(&locks, &names, Duration::ZERO, &interrupt, &|_| {}).unwrap();
    let before = shop.runs("results").len();
    let mut child = shop.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("waiting") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended before it waited: {said}");
    }
    change();
    drop(held);
    stderr.read_to_string(&mut said).unwrap();
    let code = child.wait().unwrap().code();
    let runs = shop.runs("results");
    assert_eq!(runs.len(), before + 1, "{said}");
    (code, said, runs.into_iter().next_back().unwrap())
}

fn failed_with(run: &Path, wanted: &[&str]) {
    let record = record(run);
    let cell = &record.cells[0];
    assert_eq!(cell.verdict.as_str(), "failed", "{:?}", cell.verdict);
    for part in wanted {
        assert!(cell.verdict.reasons().contains(part), "{:?} does not say {part:?}", cell.verdict);
    }
}

#[test]
fn truth_that_changes_while_tracking_gives_no_figure() {
    let shop = shop();
    // Of the first object on the frame of its prompt, which the worker reads, and on a later frame, which only scoring reads.
    for frame in [0, 8] {
        let place = truth(&shop, 2, frame);
        let kept = std::fs::read(&place).unwrap();
        let (code, _, run) = changed_after_planning(&shop, &JOB, || replace(&place, &truth(&shop, 0, frame)));
        assert_eq!(code, Some(2));
        failed_with(&run, &["changed since it was planned", &format!("synth_002/000/{frame:05}.png")]);
        std::fs::write(&place, kept).unwrap();
        // Taken up again with the right file it is whole.
        shop.expect(0, &["--resume", run.to_str().unwrap()]);
        assert_eq!(record(&run).cells[0].verdict.as_str(), "valid");
    }
}

#[test]
fn frames_that_change_while_tracking_give_no_figure_and_touched_ones_do() {
    let shop = shop();
    let place = frame(&shop, 2, 5);
    let kept = std::fs::read(&place).unwrap();
    let (code, _, run) = changed_after_planning(&shop, &JOB, || replace(&place, &frame(&shop, 2, 6)));
    assert_eq!(code, Some(2));
    failed_with(&run, &["changed since it was planned", "synth_002/00005.png"]);
    std::fs::write(&place, kept).unwrap();
    let (code, said, run) = changed_after_planning(&shop, &JOB, || {
        touch(&place);
        touch(&truth(&shop, 2, 0));
    });
    assert_eq!(code, Some(0), "{said}");
    let data = record(&run).data;
    assert_eq!((data.planned.len(), data.content_sha256.len()), (4, 64));
}

#[test]
fn a_pack_that_is_swapped_after_planning_is_refused() {
    let shop = shop();
    shop.pack("other", "motion = [0.0, 0.0]");
    let args = ["--models", "calm_mask,other_mask", "--dtype", "fp32", "--data", "data"];
    let (code, _, run) = changed_after_planning(&shop, &args, || {
        shop.pack("other", "motion = [2.0, 0.0]");
    });
    assert_eq!(code, Some(2));
    let record = record(&run);
    assert_eq!(record.cells[0].verdict.as_str(), "valid");
    let said = record.cells[1].verdict.reasons();
    assert!(record.cells[1].verdict.as_str() == "failed" && said.contains("changed since it was planned"), "{said}");
    assert!(said.contains("packs/other"), "{said}");
}

#[test]
fn a_runtime_that_is_replaced_after_planning_is_refused() {
    let Some(library) = runtime::probe(None).chosen else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped a_runtime_that_is_replaced_after_planning_is_refused: no ONNX Runtime"
        );
        return;
    };
    let shop = shop();
    let own = shop.path("libonnxruntime.so");
    std::fs::copy(library, &own).unwrap();
    let packs = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/packs/sam2_mini").display().to_string();
    let lib = own.display().to_string();
    let more = ["--packs", &packs, "--ort-lib", &lib];
    let args = [&["--models", "calm_mask,sam2_mini_mask", "--dtype", "fp32", "--data", "data"][..], &more].concat();
    // What stands behind the end of a library is loaded by nobody.
    let (code, said, run) = changed_after_planning(&shop, &args, || {
        let mut file = std::fs::File::options().append(true).open(&own).unwrap();
        file.write_all(b"another build").unwrap();
    });
    assert_eq!(code, Some(3), "{said}");
    let record = record(&run);
    assert_eq!(
        record.cells[0].verdict.as_str(),
        "valid",
        "a test pack loads no runtime: {:?}",
        record.cells[0].verdict
    );
    let said = record.cells[1].verdict.reasons();
    assert!(record.cells[1].verdict.as_str() == "failed" && said.contains("changed since it was planned"), "{said}");
    assert!(said.contains("libonnxruntime.so (SHA-256 "), "{said}");
    assert!(record.cells[1].sequences.is_empty(), "nothing was tracked");
}

/// A run that ended in its third video.
fn stumbled(shop: &Workshop) -> PathBuf {
    shop.pack("stumble", "[[mock.fault]]\nstep = 21\nkind = \"abort\"");
    let run = shop.run(&["--models", "stumble_mask"]);
    assert_eq!(record(&run).cells[0].sequences.len(), 2);
    run
}

#[test]
fn resume_names_what_changed_and_bears_what_was_touched() {
    let shop = shop();
    let run = stumbled(&shop);
    let resume = ["--resume", run.to_str().unwrap()];
    let other = [truth(&shop, 3, 4), frame(&shop, 3, 6)];
    // Finished and unfinished videos alike.
    for (place, other) in [
        (truth(&shop, 0, 4), &other[0]),
        (truth(&shop, 2, 4), &other[0]),
        (frame(&shop, 0, 5), &other[1]),
        (frame(&shop, 2, 5), &other[1]),
    ] {
        let kept = std::fs::read(&place).unwrap();
        replace(&place, other);
        let output = shop.output(&resume);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let name = place.strip_prefix(shop.path("data")).unwrap().display().to_string();
        assert!(said.contains("changed since it was planned") && said.contains(&name), "{name}: {said}");
        std::fs::write(&place, kept).unwrap();
    }
    [truth(&shop, 0, 4), truth(&shop, 2, 4), frame(&shop, 0, 5), frame(&shop, 2, 5)].iter().for_each(|p| touch(p));
    shop.expect(0, &resume);
    let whole = record(&run);
    assert_eq!((whole.cells[0].verdict.as_str(), whole.origin.resumed[0].kept), ("valid", 2));
    // What one undisturbed run reads.
    let calm = record(&shop.run(&MODEL));
    assert_eq!(whole.data.content_sha256, calm.data.content_sha256);
}

/// Brings a record into the state that a quiet machine would have left.
fn edit(run: &Path, change: impl Fn(&mut RunRecord)) {
    let mut record = record(run);
    record.cells.iter_mut().for_each(|cell| cell.disturbed.clear());
    change(&mut record);
    store::write_json(&run.join("run.json"), &record).unwrap();
}

#[test]
fn if_changed_sees_bytes_and_not_times() {
    let shop = shop();
    // Files that were just written get no stamp, by which they need not be read again.
    std::thread::sleep(Duration::from_millis(2100));
    let run = shop.run(&MODEL);
    assert!(record(&run).data.planned.iter().all(|video| video.frames_stamp.len() == 64));
    edit(&run, |_| {});
    let again = [&JOB[..], &["--if-changed"]].concat();
    let nothing = |code| {
        let said = shop.expect(code, &again);
        assert!(said.contains("nothing has changed since"), "{said}");
        assert_eq!(shop.runs("results").len(), 1, "nothing was run");
    };
    nothing(0);
    [truth(&shop, 1, 4), frame(&shop, 1, 5)].iter().for_each(|p| touch(p));
    nothing(0);
    for (n, (place, other)) in
        [(truth(&shop, 1, 4), truth(&shop, 2, 4)), (frame(&shop, 1, 5), frame(&shop, 1, 6))].into_iter().enumerate()
    {
        replace(&place, &other);
        assert!(!shop.expect(0, &again).contains("nothing has changed"));
        assert_eq!(shop.runs("results").len(), n + 2);
    }
}

#[test]
fn if_changed_keeps_the_verdict_and_tries_again_what_may_pass() {
    use jetbench::results::disturbance::Disturbance;
    use jetbench::results::note::{Reason, ReasonKind};
    use jetbench::results::record::Verdict;
    let shop = shop();
    let run = shop.run(&MODEL);
    let again = [&JOB[..], &["--if-changed"]].concat();
    let invalid = |kind| {
        edit(&run, |r| r.cells[0].verdict = Verdict::Invalid { reasons: vec![Reason::new(kind, "as it was found")] });
    };
    invalid(ReasonKind::WarmUp);
    let said = shop.expect(1, &again);
    assert!(said.contains("nothing has changed") && said.contains("invalid: as it was found"), "{said}");
    // A record that contradicts itself is no reason to do nothing.
    edit(&run, |r| r.cells[0].summary.as_mut().unwrap().jf = Some(99.0));
    let mut runs = 1;
    let mut measured = |what: &str| {
        assert!(!shop.expect(0, &again).contains("nothing has changed"), "{what}");
        runs += 1;
        assert_eq!(shop.runs("results").len(), runs, "{what}");
        // The new run gives way to the old one, as it was changed.
        std::fs::remove_dir_all(&shop.runs("results")[1]).unwrap();
        runs -= 1;
    };
    measured("contradicts itself");
    let jf =
        jetbench::judge::summary::summarise(&record(&shop.run(&[&MODEL[..], &["--out", "calm"]].concat())).cells[0]);
    let repair = |r: &mut RunRecord| r.cells[0].summary = jf.clone();
    let bytes = std::fs::read(run.join("run.json")).unwrap();
    let mut raw: RunRecord = serde_json::from_slice(&bytes).unwrap();
    repair(&mut raw);
    store::write_json(&run.join("run.json"), &raw).unwrap();
    invalid(ReasonKind::Throttled);
    measured("passes");
    edit(&run, |r| (r.cells[0].verdict, r.cells[0].disturbed) = (Verdict::Valid, vec![Disturbance::Rivals]));
    measured("disturbed");
    edit(&run, |r| r.cells[0].verdict = Verdict::Valid);
    assert!(shop.expect(0, &again).contains("nothing has changed"));
}

#[test]
fn parts_planned_over_other_files_are_not_joined() {
    let shop = shop();
    let part =
        |shard: &str| shop.run(&[&MODEL[..], &["--min-frames", "5", "--shard", shard, "--out", "parts"]].concat());
    let first = part("1/2");
    // The second part tracks videos 1 and 3; what changed belongs to the first, which is done.
    replace(&truth(&shop, 2, 4), &truth(&shop, 3, 4));
    let second = part("2/2");
    let refused = || {
        let output = shop.output(&["merge", "parts"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        text(&output.stderr)
    };
    let said = refused();
    assert!(said.contains("changed since it was planned") && said.contains("annotations of video synth_002"), "{said}");
    std::fs::remove_dir_all(second).unwrap();
    std::fs::copy(truth(&shop, 1, 4), truth(&shop, 3, 4)).unwrap();
    replace(&frame(&shop, 3, 5), &frame(&shop, 3, 6));
    part("2/2");
    assert!(refused().contains("frames and annotations of video synth_003"), "{}", refused());
    std::fs::remove_dir_all(first).unwrap();
    part("1/2");
    shop.expect(0, &["merge", "parts"]);
}
