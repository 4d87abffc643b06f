//! What does it cost to hash frames while they are decoded? One real pack tracks a clip in this process, as a worker does: frames are decoded ahead
//! on a thread of their own, with and without a witness that hashes each file, in turns. What is compared is the CPU time of the whole process
//! (model, decoder, hash), which other programs hardly move; each pass with a witness is divided by the one without beside it, and once more
//! one without by one without. Clips: the demo, and frames of 1920 x 1080 drawn for it. `cargo bench --bench hashing`; JETBENCH_PASSES=N.

use std::path::Path;
use std::time::Instant;

use jetbench::dataset::{Dataset, Layout, Sequence, SynthOptions, content, synthesise};
use jetbench::judge::stats;
use jetbench::run::prompt::prompt_shape;
use jetbench_runners::types::{Device, Dtype, Frame, OpenRequest, Options, Prompt, PromptKind};
use jetbench_runners::{Runner, packs};

/// CPU time of all threads of this process, seconds.
fn cpu_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to the timespec and nowhere else.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Tracks the clip once; CPU seconds.
fn pass(runner: &mut dyn Runner, sequence: &Sequence, prompt: &Prompt, hashed: bool) -> f64 {
    runner.reset();
    let (watched, witness) = sequence.watched();
    let sequence = if hashed { &watched } else { sequence };
    let began = cpu_time();
    for frame in sequence.reader(2) {
        let frame = frame.expect("a frame");
        let prompts: Vec<Prompt> = (frame.index == 0).then(|| prompt.clone()).into_iter().collect();
        let (width, height) = (frame.frame.width, frame.frame.height);
        let masks = runner.step(Frame { width, height, rgb: &frame.frame.rgb }, &prompts).expect("masks");
        runner.recycle(masks);
    }
    if hashed {
        let digest = sequence.frames_sha256(usize::MAX, &witness).expect("frames");
        assert_eq!(digest.len(), 64);
    }
    cpu_time() - began
}

fn compare(what: &str, sequence: &Sequence, passes: usize) {
    let request = OpenRequest {
        options: Options { threads: Some(1), ..Options::default() },
        ..OpenRequest::new("assets/packs/edgetam_mini", Dtype::Fp32, Device::Cpu)
    };
    let mut runner = packs::open(&request).expect("pack and ONNX Runtime");
    let object = &sequence.objects[0];
    let truth = sequence.truth(object, object.prompt_frame).expect("annotation");
    let prompt = Prompt { object: object.id, shape: prompt_shape(PromptKind::Points, &truth, 1).expect("an object") };
    let (mut cost, mut control, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    pass(runner.as_mut(), sequence, &prompt, false);
    for turn in 0..passes {
        let mut taken = [0.0; 3]; // hashed, plain, plain
        for place in 0..3 {
            let kind = (turn + place) % 3;
            taken[kind] = pass(runner.as_mut(), sequence, &prompt, kind == 0);
        }
        cost.push(taken[0] / taken[1]);
        control.push(taken[2] / taken[1]);
        plain.push(taken[1]);
    }
    let bytes: u64 = sequence.frame_files(usize::MAX).iter().map(|p| p.metadata().map_or(0, |m| m.len())).sum();
    let began = cpu_time();
    let rounds = 20;
    for _ in 0..rounds {
        sequence.frame_files(usize::MAX).iter().for_each(|path| {
            content::file_sha(path).expect("a frame");
        });
    }
    let alone = (cpu_time() - began) / f64::from(rounds);
    let frames = sequence.frames.len() as f64;
    let median = stats::median(&plain).unwrap_or(f64::NAN);
    println!(
        "{what}: {frames} frames of {:.0} kB, {:.2} ms CPU per frame; reading and hashing alone {:.3} ms per frame ({:.2} %)",
        bytes as f64 / frames / 1e3,
        median / frames * 1e3,
        alone / frames * 1e3,
        100.0 * alone / median
    );
    say("  with a witness", &cost);
    say("  the same comparison of plain with plain", &control);
}

fn say(what: &str, ratios: &[f64]) {
    let of = |ratios: &[&f64]| stats::median(&ratios.iter().map(|r| **r).collect::<Vec<_>>());
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    let interval = stats::bootstrap(ratios, of)
        .map_or(String::new(), |i| format!(", 95 % interval {:+.2} to {:+.2} %", percent(i.low), percent(i.high)));
    let median = stats::median(ratios).unwrap_or(f64::NAN);
    println!("{what}: median {:+.2} % over {} pairs{interval}", percent(median), ratios.len());
}

fn main() {
    // `cargo test --all-targets` runs benches too; there is nothing to prove there.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let passes: usize = std::env::var("JETBENCH_PASSES").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let began = Instant::now();
    let demo = Dataset::open(Path::new("assets/demo")).expect("run from the repository root");
    compare("demo", &demo.sequences[0], passes);
    let dir = tempfile::tempdir().expect("a directory for drawn frames");
    let options = SynthOptions {
        out: dir.path().join("drawn"),
        layout: Layout::SaV,
        videos: 1,
        objects: 1,
        frames: 12,
        width: 1920,
        height: 1080,
        ..SynthOptions::default()
    };
    synthesise(&options, &|_, _| {}).expect("drawn frames");
    let drawn = Dataset::open(&options.out).expect("drawn frames");
    compare("drawn 1920 x 1080", &drawn.sequences[0], passes);
    println!("took {:.0} s", began.elapsed().as_secs_f64());
}
