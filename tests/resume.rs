//! A run that is killed at any moment, in the parent or in the worker, once or several times, and taken up again: the
//! scores are those of a run that nobody disturbed, and every file is whole.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::workshop::{Workshop, rows, text, tree};

/// SplitMix64, for moments.
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

const JOB: [&str; 9] =
    ["--models", "calm_mask,calm_bbox", "--dtype", "fp32", "--data", "data", "--save-masks", "--quiet", "--json"];

fn shop() -> Workshop {
    let shop = Workshop::new(4, 9);
    shop.pack("calm", "motion = [1.0, 0.0]\nframe_ms = [3.0]");
    shop
}

/// What must be equal, however often a run was interrupted: scores to the last digit, masks to the last byte, and for
/// timings the rows, if not their times.
fn outcome(run: &Path) -> Vec<(String, String)> {
    let mut kept = Vec::new();
    for name in ["objects.csv", "frame_scores.csv"] {
        kept.push((name.to_string(), std::fs::read_to_string(run.join(name)).unwrap()));
    }
    let frames = rows(&run.join("frames.csv"));
    let keys: Vec<String> = frames.iter().map(|r| format!("{} {}", r[..5].join(" "), r[13..15].join(" "))).collect();
    kept.push(("frames.csv".into(), keys.join("\n")));
    let summary = rows(&run.join("summary.csv"));
    // Up to J&F: verdict and reasons, counts, scores.
    kept.push(("summary.csv".into(), summary.iter().map(|r| r[..14].join(" ")).collect::<Vec<_>>().join("\n")));
    // Up to J&F of every repeat: verdict and reasons.
    let repeats = rows(&run.join("repeats.csv"));
    kept.push(("repeats.csv".into(), repeats.iter().map(|r| r[..7].join(" ")).collect::<Vec<_>>().join("\n")));
    for row in rows(&run.join("telemetry.csv")).iter().skip(1).chain(rows(&run.join("memory.csv")).iter().skip(1)) {
        let figure: f64 = row[5].parse().unwrap_or_else(|e| panic!("{e}: {row:?}"));
        assert!(figure.is_finite(), "{row:?}");
    }
    for file in tree(&run.join("masks")) {
        let bytes = std::fs::read(run.join("masks").join(&file)).unwrap();
        kept.push((file, format!("{bytes:?}")));
    }
    let record = jetbench::results::store::load(run).unwrap();
    assert_eq!(record.stopped, None);
    for object in record.cells.iter().flat_map(|c| &c.sequences).flat_map(|s| &s.objects) {
        let prompt = object.prompt.as_ref().expect("every object was prompted");
        kept.push(("prompt".into(), format!("{} {}: {prompt:?}", object.object, object.prompt_frame)));
    }
    let names: Vec<_> = tree(run).into_iter().filter(|f| !f.starts_with("plots/")).collect();
    kept.push(("files".into(), names.join("\n")));
    kept
}

fn worker_of(parent: u32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Kills the parent, or its worker if it has one, after `moment`.
fn kill(child: &mut Child, moment: Duration, worker: bool) {
    let started = Instant::now();
    while started.elapsed() < moment && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_micros(300));
    }
    match worker_of(child.id()).filter(|_| worker) {
        Some(pid) => {
            // SAFETY: a signal to a child of our own child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        None => {
            let _ = child.kill();
        }
    }
    child.wait().unwrap();
}

/// `JETBENCH_KILLS` moments (12 when not said); `scripts/kill_resume.sh` asks for 100.
#[test]
fn killed_at_any_moment_and_resumed_it_equals_an_undisturbed_run() {
    let kills: usize = std::env::var("JETBENCH_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    killed_and_resumed(&JOB, kills, 20_261_121);
}

/// The same with every cell three times in fresh processes, and masks as run lengths: every repeat is there, once.
#[test]
fn killed_with_repeats_and_resumed_it_equals_an_undisturbed_run() {
    let kills: usize = std::env::var("JETBENCH_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let job = JOB.map(|word| if word == "--save-masks" { "--save-masks=rle" } else { word });
    let job: Vec<&str> = job.into_iter().chain(["--repeat", "3"]).collect();
    killed_and_resumed(&job, kills, 7);
}

/// One failed repeat is taken up from its first unfinished sequence; the others stay as they are.
#[test]
fn a_failed_repeat_is_tried_again() {
    let shop = shop();
    shop.pack("stumble", "[[mock.fault]]\nstep = 21\nkind = \"abort\"");
    let run = shop.run(&["--models", "calm_mask,stumble_mask", "--repeat", "2"]);
    let first = jetbench::results::store::load(&run).unwrap();
    assert_eq!([first.cells[0].verdict.as_str(), first.cells[1].verdict.as_str()], ["valid", "failed"]);
    assert!(!jetbench::results::store::head_of(&run).exists(), "it is complete");
    let resume = ["--resume", run.to_str().unwrap()];
    shop.expect(0, &resume);
    let second = jetbench::results::store::load(&run).unwrap();
    assert_eq!(second.cells[1].verdict.as_str(), "valid");
    assert_eq!(second.cells[0], first.cells[0], "what was whole stays");
    let repeats: Vec<_> = second.cells[1].repeats.iter().map(|r| (r.repeat, r.verdict.as_str())).collect();
    assert_eq!(repeats, [(1, "valid"), (2, "valid")]);
    assert_eq!(second.cells[1].repeats[1].sequences.len(), 4);
    assert!(!run.join("partial").exists(), "nothing is left to do");

    // Without the single repeats it is refused.
    let run = shop.run(&["--models", "stumble_mask", "--repeat", "2"]);
    std::fs::remove_dir_all(run.join("partial")).unwrap();
    let output = shop.output(&["--resume", run.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("start a new run"), "{}", text(&output.stderr));
}

fn killed_and_resumed(job: &[&str], kills: usize, seed: u64) {
    let shop = shop();
    let started = Instant::now();
    let calm = shop.output(job);
    let whole = started.elapsed();
    assert_eq!(calm.status.code(), Some(0), "{}", text(&calm.stderr));
    let expected = outcome(&shop.runs("results")[0]);
    assert!(expected.len() > 4 + 2 * 4 * 2, "masks are compared too: {}", expected.len());

    let mut moments = Moments(seed);
    let (mut killed, mut workers, mut resumes, mut early) = (0, 0, 0, 0);
    while killed < kills {
        let root = format!("kill{killed}");
        let mut args = job.to_vec();
        args.extend(["--out", &root]);
        let spawn = |args: &[&str]| {
            shop.command(args).stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap()
        };
        let mut child = spawn(&args);
        let mut run = None;
        // Most runs are killed once; some again and again while they are taken up.
        loop {
            let worker = moments.next() < 0.5;
            workers += usize::from(worker);
            killed += 1;
            kill(&mut child, whole.mul_f64(0.04 + moments.next()), worker);
            run = shop.runs(&root).into_iter().next().or(run);
            let begun = run
                .as_ref()
                .is_some_and(|r| jetbench::results::store::head_of(r).exists() || r.join("run.json").exists());
            if !begun {
                break; // killed before there was anything to take up
            }
            if killed >= kills || moments.next() < 0.6 {
                break;
            }
            resumes += 1;
            child = spawn(&["--resume", run.as_ref().unwrap().to_str().unwrap(), "--quiet"]);
        }
        let begun = run.filter(|r| jetbench::results::store::head_of(r).exists() || r.join("run.json").exists());
        let Some(run) = begun else {
            early += 1;
            continue;
        };
        resumes += 1;
        let last = shop.output(&["--resume", run.to_str().unwrap(), "--quiet"]);
        assert_eq!(last.status.code(), Some(0), "kill {killed}: {}", text(&last.stderr));
        let got = outcome(&run);
        for (got, want) in got.iter().zip(&expected) {
            assert_eq!(got, want, "kill {killed} of {kills}, {}", run.display());
        }
        assert_eq!(got.len(), expected.len());
        std::fs::remove_dir_all(shop.path(&root)).unwrap();
    }
    println!(
        "{killed} kills ({workers} aimed at the worker; {early} before anything was begun), {resumes} resumes: all equal to \
         the undisturbed run"
    );
}

/// Finished sequences are kept, not tracked again: their wall times are those of the first attempt.
#[test]
fn finished_sequences_are_not_repeated() {
    let shop = shop();
    // The third video fails; frames are counted since opening, so the resumed worker gets through.
    shop.pack("stumble", "[[mock.fault]]\nstep = 21\nkind = \"abort\"");
    let run = shop.run(&["--models", "stumble_mask"]);
    let first = jetbench::results::store::load(&run).unwrap();
    assert_eq!(first.cells[0].verdict.as_str(), "failed");
    let done = first.cells[0].sequences.clone();
    assert_eq!(done.len(), 2);
    let mut before = rows(&run.join("telemetry.csv"));

    shop.expect(0, &["--resume", run.to_str().unwrap()]);
    let second = jetbench::results::store::load(&run).unwrap();
    assert_eq!(second.cells[0].verdict.as_str(), "valid");
    assert_eq!(second.cells[0].sequences[..2], done[..]);
    assert_eq!(second.cells[0].sequences.len(), 4);
    assert_eq!(second.origin.resumed.len(), 1);
    assert_eq!(second.origin.resumed[0].kept, 2);
    assert!(
        second.cells[0].notes.iter().any(|n| n.text.starts_with("resumed: 2 sequences were")),
        "{:?}",
        second.cells[0].notes
    );
    let after = rows(&run.join("telemetry.csv"));
    before.truncate(after.len());
    assert_eq!(after[..before.len()], before[..], "telemetry of the first attempt is kept");
    assert!(after.len() > before.len());

    // Nothing is left to do: nothing is done, and the exit code is the run's.
    let record = std::fs::read(run.join("run.json")).unwrap();
    let again = shop.output(&["--resume", run.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(0));
    assert!(text(&again.stderr).contains("is complete"), "{}", text(&again.stderr));
    assert_eq!(std::fs::read(run.join("run.json")).unwrap(), record);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let shop = shop();
    shop.pack("stumble", "[[mock.fault]]\nframe = 3\nkind = \"abort\"");
    let run = shop.run(&["--models", "stumble_mask"]);
    let resume = ["--resume", run.to_str().unwrap()];
    let refused = |args: &[&str]| {
        let output = shop.output(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        text(&output.stderr)
            .replace(run.to_str().unwrap(), "RUN")
            .replace(run.canonicalize().unwrap().to_str().unwrap(), "RUN")
            .replace(run.file_name().unwrap().to_str().unwrap(), "ID")
    };
    let mut said = vec![refused(&["--resume", "data"]), refused(&["--resume", "nowhere"])];
    said.push(refused(&[resume[0], resume[1], "--models", "calm_mask", "--limit-videos", "1"]));
    // While another process holds the run.
    let claim = jetbench::results::claim::claim(&run).unwrap();
    said.push(refused(&resume));
    drop(claim);
    shop.pack("stumble", "frame_ms = [1.0]");
    said.push(refused(&resume).split(" (").next().unwrap().to_string());
    shop.pack("stumble", "[[mock.fault]]\nframe = 3\nkind = \"abort\"");
    std::fs::remove_dir_all(shop.path("data/Annotations_6fps/synth_002/001")).unwrap();
    said.push(refused(&resume).split(" (").next().unwrap().to_string());
    let said = said.join("\n").replace(shop.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(said);
}
