//! What does measuring cost? One real pack tracks one clip over and over in this process; in every other pass a sampler
//! reads all sensors ten times a second, as a run's parent does (there from another process, so this is the upper end). Passes
//! are paired: with and without in turn, the order swapped from pair to pair; frame by frame the ratio of the two
//! latencies is taken, and the median of all ratios is the slowdown. Stage times are taken in both: they are clock
//! readings of some 25 ns, about ten per frame. `cargo bench --bench overhead`, JETBENCH_PAIRS=N for more pairs.

use std::path::Path;
use std::time::Instant;

use jetbench::dataset::Dataset;
use jetbench::prompt::prompt_shape;
use jetbench::stats;
use jetbench::telemetry::Sampler;
use jetbench_runners::packs;
use jetbench_runners::types::{Device, Frame, OpenRequest, Options, Precision, Prompt, PromptKind};

fn main() {
    // `cargo test --all-targets` runs benches too; there is nothing to prove there.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let pairs: usize = std::env::var("JETBENCH_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let data = Dataset::open(Path::new("assets/demo")).expect("run from the repository root");
    let sequence = &data.sequences[0];
    let object = &sequence.objects[0];
    let truth = sequence.truth(object, object.prompt_frame).expect("annotation");
    let shape = prompt_shape(PromptKind::Points, &truth, 1).expect("an object");
    let frames: Vec<_> = sequence.reader(2).skip(object.prompt_frame).map(|f| f.expect("frame").frame).collect();
    let request = OpenRequest {
        pack: "assets/packs/edgetam_mini".into(),
        precision: Precision::Fp32,
        device: Device::Cpu,
        options: Options { threads: Some(1), ..Options::default() },
        ort_lib: None,
    };
    let mut runner = packs::open(&request).expect("pack and ONNX Runtime");
    let mut pass = |measured: bool| -> Vec<f64> {
        let sampler = measured.then(|| Sampler::start("/".into(), Some(std::process::id()), 10.0));
        runner.reset();
        let latencies = frames
            .iter()
            .enumerate()
            .map(|(i, f)| {
                let prompts: Vec<Prompt> =
                    (i == 0).then(|| Prompt { object: object.id, shape: shape.clone() }).into_iter().collect();
                let started = Instant::now();
                runner.step(Frame { width: f.width, height: f.height, rgb: &f.rgb }, &prompts).expect("a frame");
                started.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        if let Some(sampler) = sampler {
            sampler.stop();
        }
        latencies
    };
    pass(false);
    let mut ratios = Vec::new();
    for pair in 0..pairs {
        let (with, without) = if pair % 2 == 0 {
            let with = pass(true);
            (with, pass(false))
        } else {
            let without = pass(false);
            (pass(true), without)
        };
        ratios.push(with.iter().zip(&without).map(|(a, b)| a / b).collect::<Vec<f64>>());
    }
    let all: Vec<f64> = ratios.iter().flatten().copied().collect();
    let interval = stats::bootstrap(&ratios, |sample| {
        stats::median(&sample.iter().flat_map(|r| r.iter().copied()).collect::<Vec<_>>())
    });
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    println!(
        "slowdown by telemetry at 10 Hz: median {:+.2} % over {} pairs of frames{}",
        percent(stats::median(&all).unwrap_or(f64::NAN)),
        all.len(),
        interval.map_or(String::new(), |i| format!(
            ", 95 % interval {:+.2} to {:+.2} %",
            percent(i.low),
            percent(i.high)
        ))
    );
}
