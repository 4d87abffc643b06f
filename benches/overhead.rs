//! What does measuring cost? One real pack tracks one clip over and over in this process. Three things take turns: measured
//! (stage times on, and a sampler that reads all sensors ten times a second, as a run's parent does; there from another
//! process, so this is the upper end), bare (neither), and bare once more, which shows what the method itself would call a
//! difference where there is none. Every block opens three fresh runners, because two openings of one model differ a
//! little by where their memory lies, and the order of the three changes from pass to pass. Frame by frame the latency
//! is divided by that of the bare pass; the median of all these ratios is the slowdown, and its interval is a bootstrap over
//! blocks. `cargo bench --bench overhead`; JETBENCH_BLOCKS=N for more blocks of three passes (about twelve seconds each).

use std::path::Path;
use std::time::Instant;

use jetbench::dataset::Dataset;
use jetbench::judge::stats;
use jetbench::run::prompt::prompt_shape;
use jetbench::telemetry::Sampler;
use jetbench_runners::options::STAGE_TIMES;
use jetbench_runners::types::{Device, Dtype, Frame, OpenRequest, Options, Prompt, PromptKind};
use jetbench_runners::{Runner, packs};

/// Passes of each kind in a block.
const PASSES: usize = 12;

/// Frames of a pass: few, so that the three that are compared lie less than a second apart.
const FRAMES: usize = 20;

/// Samples per second.
const HZ: f64 = 10.0;

fn open(stage_times: &str) -> Box<dyn Runner> {
    let extra = [(STAGE_TIMES.to_string(), stage_times.to_string())].into();
    let request = OpenRequest {
        options: Options { threads: Some(1), extra, ..Options::default() },
        ..OpenRequest::new("assets/packs/edgetam_mini", Dtype::Fp32, Device::Cpu)
    };
    packs::open(&request).expect("pack and ONNX Runtime")
}

fn main() {
    // `cargo test --all-targets` runs benches too; there is nothing to prove there.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let blocks: usize = std::env::var("JETBENCH_BLOCKS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let data = Dataset::open(Path::new("assets/demo")).expect("run from the repository root");
    let sequence = &data.sequences[0];
    let object = &sequence.objects[0];
    let truth = sequence.truth(object, object.prompt_frame).expect("annotation");
    let shape = prompt_shape(PromptKind::Points, &truth, 1).expect("an object");
    let frames: Vec<_> =
        sequence.reader(2).skip(object.prompt_frame).take(FRAMES).map(|f| f.expect("frame").frame).collect();
    let pass = |runner: &mut dyn Runner, measured: bool| -> Vec<f64> {
        let sampler = measured.then(|| Sampler::start("/".into(), Some(std::process::id()), HZ));
        runner.reset();
        let latencies = frames
            .iter()
            .enumerate()
            .map(|(i, f)| {
                let prompts: Vec<Prompt> =
                    (i == 0).then(|| Prompt { object: object.id, shape: shape.clone() }).into_iter().collect();
                let started = Instant::now();
                runner.step(Frame { width: f.width, height: f.height, rgb: &f.rgb }, &prompts).expect("a frame");
                let stages = runner.take_stage_times();
                let latency = started.elapsed().as_secs_f64() * 1e3;
                assert_eq!(stages.is_empty(), !measured, "stage times are {stages:?}");
                latency
            })
            .collect();
        if let Some(sampler) = sampler {
            let samples = sampler.stop().samples.len();
            assert!(samples > 0, "no sample was taken");
        }
        latencies
    };
    let (mut slowdown, mut control, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for block in 0..blocks {
        // Which of the three is opened first changes too.
        let mut runners: Vec<(usize, Box<dyn Runner>)> =
            (0..3).map(|i| (i + block) % 3).map(|kind| (kind, open(if kind == 0 { "on" } else { "off" }))).collect();
        runners.sort_by_key(|(kind, _)| *kind);
        for (kind, runner) in &mut runners {
            pass(runner.as_mut(), *kind == 0);
        }
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for turn in 0..PASSES {
            let mut taken: [Vec<f64>; 3] = Default::default();
            for place in 0..3 {
                // All six orders of the three.
                let kind = if turn % 2 == 0 { (turn / 2 + place) % 3 } else { (turn / 2 + 3 - place) % 3 };
                taken[kind] = pass(runners[kind].1.as_mut(), kind == 0);
            }
            let [measured, plain, again] = taken;
            with.extend(measured.iter().zip(&plain).map(|(a, b)| a / b));
            without.extend(again.iter().zip(&plain).map(|(a, b)| a / b));
            bare.extend(plain);
        }
        slowdown.push(with);
        control.push(without);
    }
    println!("one bare frame: median {:.2} ms", stats::median(&bare).unwrap_or(f64::NAN));
    say(&format!("slowdown by telemetry at {HZ} Hz and stage times"), &slowdown);
    say("the same comparison of bare with bare", &control);
}

/// Median of all ratios of all blocks, with its interval over blocks.
fn say(what: &str, blocks: &[Vec<f64>]) {
    let of = |blocks: &[&Vec<f64>]| stats::median(&blocks.iter().flat_map(|r| r.iter().copied()).collect::<Vec<_>>());
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    let all: Vec<&Vec<f64>> = blocks.iter().collect();
    let interval = stats::bootstrap(blocks, of)
        .map_or(String::new(), |i| format!(", 95 % interval {:+.2} to {:+.2} %", percent(i.low), percent(i.high)));
    println!(
        "{what}: median {:+.2} % over {} frames in {} blocks{interval}",
        percent(of(&all).unwrap_or(f64::NAN)),
        blocks.iter().map(Vec::len).sum::<usize>(),
        blocks.len()
    );
}
