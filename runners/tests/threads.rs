//! Threads of a CPU runner, as the kernel lists them: one pool serves all graphs unless each is to have its own, and
//! `pin_threads=on` ties them. In a binary of its own, because the first opening of a process decides about the pool, and
//! because threads of other tests would be counted. Needs Linux, two processors and ONNX Runtime; else the test says so.
#![cfg(target_os = "linux")]

mod clip;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use clip::{click, frame};
use jetbench_runners::types::{Device, Dtype, Frame, FrameMasks, OpenRequest, Options};
use jetbench_runners::{Runner, packs, runtime};

/// The processors that a thread may run on, from its directory below `/proc`, as `0-3,7`.
fn allowed(thread: &Path) -> Option<String> {
    let status = std::fs::read_to_string(thread.join("status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_string())
}

/// Every thread of this process and where it may run.
fn threads() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    entries.filter_map(|e| Some((e.file_name().to_string_lossy().into_owned(), allowed(&e.path())?))).collect()
}

fn processors(list: &str) -> Vec<usize> {
    let number = |text: &str| text.parse::<usize>().unwrap();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        number(first)..=number(last)
    };
    list.split(',').flat_map(range).collect()
}

/// Opens the pack with two threads, one of them tied; the runner, what it noted of its pool, and where each thread that it started may
/// run.
fn open(thread_pool: &str) -> (Box<dyn Runner>, String, Vec<String>) {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/packs/edgetam_mini");
    let extra = [("pin_threads", "on"), ("thread_pool", thread_pool)].map(|(k, v)| (k.to_string(), v.to_string()));
    let options = Options { threads: Some(2), spinning: None, extra: extra.into() };
    let before = threads();
    let request = OpenRequest { options, ..OpenRequest::new(pack, Dtype::Fp32, Device::Cpu) };
    let runner = packs::open(&request).unwrap();
    // A thread ties itself when it first runs, which may be after the opening on a busy machine.
    let begun = Instant::now();
    let started = loop {
        let new = threads().into_iter().filter(|(id, _)| !before.contains_key(id));
        let started: Vec<String> = new.map(|(_, allowed)| allowed).collect();
        if started.iter().all(|allowed| processors(allowed).len() == 1) || begun.elapsed() > Duration::from_secs(60) {
            break started;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let note = runner.open_report().notes.iter().find(|note| note.starts_with("thread pool")).unwrap().clone();
    (runner, note, started)
}

fn track(runner: &mut dyn Runner) -> Vec<FrameMasks> {
    let step = |t: u32| {
        let (rgb, prompts) = (frame(160, 120, t), [click(1, 60.0, 50.0)]);
        let prompts = if t == 0 { &prompts[..] } else { &[] };
        runner.step(Frame { width: 160, height: 120, rgb: &rgb }, prompts).unwrap()
    };
    (0..3).map(step).collect()
}

#[test]
fn one_pool_of_tied_threads_serves_all_graphs() {
    let skipped = |why: &str| {
        let _ = writeln!(std::io::stderr(), "skipped one_pool_of_tied_threads_serves_all_graphs: {why}");
    };
    let own = processors(&allowed(Path::new("/proc/thread-self")).unwrap());
    let [_, second, ..] = own[..] else { return skipped("one processor") };
    if let Some(problem) = runtime::probe(None).problem {
        return skipped(&problem);
    }

    let tied = |threads: usize| vec![second.to_string(); threads];
    let (mut shared, note, started) = open("shared");
    assert_eq!((note.as_str(), started), ("thread pool: one for all graphs", tied(1)));

    let (mut apart, note, started) = open("own");
    let graphs = apart.open_report().graph_load_ms.len();
    assert_eq!((note.as_str(), started), ("thread pool: one for each graph", tied(graphs)));

    let masks = track(shared.as_mut());
    assert_eq!(masks, track(apart.as_mut()));
    assert!(masks.iter().all(|masks| masks.objects[0].mask.area() > 0), "tracks something");
}
