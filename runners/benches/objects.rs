//! What a batch of objects costs against single objects, paired in one run: frames without objects, with one and with
//! N are taken in turns on the same open pack, on wall and CPU time. The bound is (frame without objects) + N x (what
//! one object adds). Also says whether the batch's masks are those of N separate runs.
//!
//! `cargo bench -p jetbench-runners --bench objects -- PACK [N [ROUNDS [THREADS]]]`

mod clock;

use std::path::Path;
use std::time::Instant;

use clock::median;
use jetbench_runners::types::{Click, Device, Dtype, Frame, FrameMasks, OpenRequest, Options, Prompt, PromptShape};
use jetbench_runners::{Runner, packs};

const SIDE: u32 = 512;

fn frame(t: u32) -> Vec<u8> {
    (0..SIDE * SIDE).flat_map(|i| [(i % SIDE + 3 * t) as u8, (i / SIDE / 2) as u8, ((i / 7) % 251) as u8]).collect()
}

fn prompt(object: u32) -> Prompt {
    let at = 40.0 + 50.0 * object as f32;
    Prompt { object, shape: PromptShape::Points(vec![Click { x: at, y: 256.0, positive: true }]) }
}

/// CPU seconds of this process, all threads.
fn cpu() -> f64 {
    clock::cpu(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn step(runner: &mut dyn Runner, t: u32, prompts: &[Prompt]) -> FrameMasks {
    let rgb = frame(t);
    runner.step(Frame { width: SIDE, height: SIDE, rgb: &rgb }, prompts).expect("a frame")
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(pack) = args.first() else { return println!("objects: no pack named, nothing measured") };
    let number = |i: usize, default: usize| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (objects, rounds, threads) = (number(1, 8) as u32, number(2, 5), number(3, 2));
    let options = Options { threads: Some(threads), ..Options::default() };
    let pack = Path::new(pack).to_path_buf();
    let request = OpenRequest { options, ..OpenRequest::new(pack, Dtype::Fp32, Device::Cpu) };
    let mut runner = packs::open(&request).expect("the pack opens");

    let counts = [0, 1, objects];
    let mut wall: [Vec<f64>; 3] = Default::default();
    let mut used: [Vec<f64>; 3] = Default::default();
    let mut together: Vec<FrameMasks> = Vec::new();
    for round in 0..rounds {
        for (i, &count) in counts.iter().enumerate() {
            runner.reset();
            let prompts: Vec<Prompt> = (0..count).map(prompt).collect();
            step(runner.as_mut(), 0, &prompts);
            for t in 1..3 {
                let (started, before) = (Instant::now(), cpu());
                let masks = step(runner.as_mut(), t, &[]);
                wall[i].push(started.elapsed().as_secs_f64());
                used[i].push(cpu() - before);
                if round == 0 && count == objects {
                    together.push(masks);
                }
            }
        }
    }
    let mut equal = true;
    for object in 0..objects {
        runner.reset();
        step(runner.as_mut(), 0, &[prompt(object)]);
        for (t, beside) in together.iter().enumerate() {
            let alone = step(runner.as_mut(), t as u32 + 1, &[]);
            equal &= alone.objects[0].mask == beside.objects[object as usize].mask;
        }
    }
    println!("{} objects, {} rounds of 2 tracked frames, {threads} threads, medians in ms:", objects, rounds);
    for (name, samples) in [("wall", wall), ("CPU", used)] {
        let [none, one, all] = samples.map(median).map(|s| s * 1e3);
        let bound = none + f64::from(objects) * (one - none);
        println!(
            "{name}: no object {none:.1}, one {one:.1}, {objects} together {all:.1}; {all:.1} / ({none:.1} + {objects} x \
             {:.1}) = {:.3}",
            one - none,
            all / bound
        );
    }
    println!("masks equal to {objects} separate runs: {}", if equal { "yes" } else { "NO" });
}
