//! What encoding the next frame beside this one gains: one pack, opened twice with the same number of threads, once with
//! the pipeline and once without, tracks the same frames, pass by pass in turn, the order swapped from pair to pair.
//! Printed are the medians of wall and CPU time per frame and the median of the ratios of the two passes of a pair.
//! Masks are compared too.
//!
//! `cargo bench -p jetbench-runners --bench pipeline -- PACK [PAIRS [THREADS [FRAMES]]]`

#[path = "../tests/clip/mod.rs"]
mod clip;
mod clock;

use std::path::Path;
use std::time::Instant;

use clock::median;
use jetbench_runners::types::{Device, Dtype, Frame, Mask, OpenRequest, Options};
use jetbench_runners::{Runner, packs};

const WIDTH: u32 = 640;
const HEIGHT: u32 = 360;

/// CPU seconds of this process, all threads.
fn cpu() -> f64 {
    clock::cpu(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// One pass: wall and CPU milliseconds per frame, and the last mask.
fn pass(runner: &mut dyn Runner, frames: &[Vec<u8>]) -> ([f64; 2], Mask) {
    let prompt = clip::click(1, 60.0, 50.0);
    let view = |t: usize| frames.get(t).map(|rgb| Frame { width: WIDTH, height: HEIGHT, rgb });
    runner.reset();
    let mut last = Mask::default();
    let (started, before) = (Instant::now(), cpu());
    for t in 0..frames.len() {
        let prompts = if t == 0 { std::slice::from_ref(&prompt) } else { &[] };
        let masks = runner.step_ahead(view(t).expect("a frame"), prompts, view(t + 1)).expect("a frame");
        last.clone_from(&masks.objects[0].mask);
        runner.recycle(masks);
    }
    let per_frame = 1e3 / frames.len() as f64;
    ([started.elapsed().as_secs_f64() * per_frame, (cpu() - before) * per_frame], last)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(pack) = args.first() else { return println!("pipeline: no pack named, nothing measured") };
    let number = |i: usize, default: usize| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (pairs, threads, count) = (number(1, 10), number(2, 2), number(3, 24));
    let open = |pipeline: &str| {
        let extra = [("pipeline".to_string(), pipeline.to_string())].into();
        let options = Options { threads: Some(threads), spinning: None, extra };
        let pack = Path::new(pack).to_path_buf();
        packs::open(&OpenRequest { options, ..OpenRequest::new(pack, Dtype::Fp32, Device::Cpu) })
            .expect("the pack opens")
    };
    let mut runners = [open("off"), open("on")];
    for note in runners[1].open_report().notes.iter().filter(|n| n.starts_with("pipeline")) {
        println!("{note}");
    }
    let frames: Vec<Vec<u8>> = (0..count as u32).map(|t| clip::frame(WIDTH, HEIGHT, t)).collect();
    let mut equal = true;
    // wall and CPU, of each runner
    let mut times: [[Vec<f64>; 2]; 2] = Default::default();
    for pair in 0..pairs + 1 {
        let mut last = [Mask::default(), Mask::default()];
        for turn in 0..2 {
            let which = (pair + turn) % 2;
            let (spent, mask) = pass(runners[which].as_mut(), &frames);
            last[which] = mask;
            // The first pair warms up.
            if pair > 0 {
                (0..2).for_each(|clock| times[clock][which].push(spent[clock]));
            }
        }
        equal &= last[0] == last[1];
    }
    println!("{pack}: {pairs} pairs of {count} frames, {threads} threads, medians per frame");
    for (name, [off, on]) in ["wall", "CPU"].into_iter().zip(times) {
        let ratio = median(off.iter().zip(&on).map(|(off, on)| off / on).collect());
        println!("{name}: one after the other {:.2} ms, ahead {:.2} ms, {ratio:.3} x", median(off), median(on));
    }
    println!("masks equal: {}", if equal { "yes" } else { "NO" });
}
