//! `memory=gated` against what it means: a tracked frame that leaves an object's memory as it was is a frame that the object's
//! memory has never seen, so a run without a gate that is not shown that frame is the reference.

use std::path::Path;

use jetbench_runners::types::{Dtype, Frame, Mask, ObjectMask, Prompt, PromptShape};
use jetbench_runners::{Runner, packs};

use crate::clip::click;
use crate::real_packs::{for_each_pack, request};

const FRAMES: u32 = 8;
const GATED: (&str, &str) = ("memory", "gated");

/// Two discs on a dark ground that move a pixel a frame; each is gone for a while, not the same while.
fn scene(t: u32) -> Vec<u8> {
    let discs = [(60.0, 40.0, [220, 180, 40], 2..4), (100.0, 90.0, [60, 90, 230], 3..6)];
    let pixel = |i: u32| {
        let (x, y) = ((i % 160) as f32, (i / 160) as f32);
        let at = |(cx, cy, colour, gone): &(f32, f32, [u8; 3], std::ops::Range<u32>)| {
            let inside = (x - cx - t as f32).hypot(y - cy) < 16.0;
            (inside && !gone.contains(&t)).then_some(*colour)
        };
        discs.iter().find_map(at).unwrap_or([40, (i % 160 / 2) as u8, (i / 160 / 2) as u8 + 30])
    };
    (0..160 * 120).flat_map(pixel).collect()
}

fn prompts() -> [Prompt; 2] {
    [click(1, 60.0, 40.0), click(2, 100.0, 90.0)]
}

fn open(dir: &Path, precision: Dtype, options: &[(&str, &str)]) -> Box<dyn Runner> {
    let mut request = request(dir, precision);
    request.options.extra.extend(options.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    packs::open(&request).unwrap()
}

fn step(runner: &mut dyn Runner, t: u32, prompts: &[Prompt]) -> Vec<ObjectMask> {
    let rgb = scene(t);
    runner.step(Frame { width: 160, height: 120, rgb: &rgb }, prompts).unwrap().objects
}

/// Objects through the whole scene, by frame.
fn run(runner: &mut dyn Runner, prompts: &[Prompt]) -> Vec<Vec<ObjectMask>> {
    runner.reset();
    (0..FRAMES).map(|t| step(runner, t, if t == 0 { prompts } else { &[] })).collect()
}

/// What a frame is worth: SAM 3's measure.
fn worth(object: &ObjectMask) -> f32 {
    (2.0 / (1.0 + (-object.object_score).exp()) - 1.0).max(0.0) * object.predicted_iou
}

/// One object by a runner without a gate, by frame: every frame that is not worth remembering is taken back. And which ones are.
fn reference(runner: &mut dyn Runner, prompt: &Prompt) -> (Vec<ObjectMask>, Vec<u32>) {
    let replay = |runner: &mut dyn Runner, seen: &[u32]| {
        runner.reset();
        let first = step(runner, 0, std::slice::from_ref(prompt));
        seen.iter().for_each(|&t| drop(step(runner, t, &[])));
        first
    };
    let mut results = replay(runner, &[]);
    let (mut seen, mut taken_back) = (Vec::new(), Vec::new());
    for t in 1..FRAMES {
        let found = step(runner, t, &[]).remove(0);
        if worth(&found) <= 0.01 {
            taken_back.push(t);
            replay(runner, &seen);
        } else {
            seen.push(t);
        }
        results.push(found);
    }
    (results, taken_back)
}

#[test]
fn a_gated_memory_is_one_that_never_saw_the_frame() {
    for_each_pack("a_gated_memory_is_one_that_never_saw_the_frame", |dir| {
        let plain = ("form", "plain");
        for (precision, form) in [(Dtype::Fp32, &[][..]), (Dtype::Fp32, &[plain]), (Dtype::Bf16, &[])] {
            let one_by_one = [form, &[("objects", "loop")]].concat();
            let mut all = open(dir, precision, &one_by_one);
            let expected = prompts().map(|prompt| reference(all.as_mut(), &prompt));
            assert_eq!([&expected[0].1[..], &expected[1].1], [&[2, 3][..], &[3, 4, 5]], "{}: the case", dir.display());
            // The CPU form runs objects whose ages may differ one by one without being asked to.
            let cpu_form = form.is_empty() && precision == Dtype::Fp32;
            let options = if cpu_form { form } else { &one_by_one };
            let mut gated = open(dir, precision, &[options, &[GATED]].concat());
            let notes = gated.open_report().notes.join("\n");
            assert!(notes.contains("IoU of at most 0.01 leave it as it was"), "{notes}");
            assert_eq!(notes.contains("one after the other (with memory=gated"), cpu_form, "{notes}");
            let alone = run(gated.as_mut(), &prompts());
            for (t, found) in alone.iter().enumerate() {
                let expected = [&expected[0].0[t], &expected[1].0[t]];
                assert_eq!([&found[0], &found[1]], expected, "{}, {precision}, {options:?}, frame {t}", dir.display());
            }
            if form.contains(&plain) {
                let mut batch = open(dir, precision, &[plain, GATED]);
                let notes = batch.open_report().notes.join("\n");
                assert!(notes.contains("objects: all in one batch"), "{notes}");
                let together = run(batch.as_mut(), &prompts());
                for (a, b) in together.iter().flatten().zip(alone.iter().flatten()) {
                    assert_eq!(a.mask, b.mask, "{}: object {} in a batch", dir.display(), a.object);
                    // A batch may sum in another order.
                    let close = (a.object_score - b.object_score).abs() < 1e-3;
                    assert!(close, "score {} and {}", a.object_score, b.object_score);
                }
            }
        }
    });
}

#[test]
fn a_gate_that_nothing_passes_leaves_the_prompt_alone_in_the_memory() {
    for_each_pack("a_gate_that_nothing_passes_leaves_the_prompt_alone_in_the_memory", |dir| {
        let shut = [GATED, ("memory_threshold", "1")];
        let mut plain = open(dir, Dtype::Fp32, &[("objects", "loop")]);
        let mut gated = open(dir, Dtype::Fp32, &shut);
        let mut as_on_a_device =
            open(dir, Dtype::Fp32, &[&shut[..], &[("results", "device"), ("image", "bytes")]].concat());
        // A mask: what its IoU is on the prompted frame nobody computes, and the frame is remembered all the same.
        let disc = Mask::from_fn(160, 120, |x, y| (x as f32 - 60.0).hypot(y as f32 - 40.0) < 16.0);
        for prompt in [click(1, 60.0, 40.0), Prompt { object: 1, shape: PromptShape::Mask(disc) }] {
            plain.reset();
            step(plain.as_mut(), 0, std::slice::from_ref(&prompt));
            let last = step(plain.as_mut(), FRAMES - 1, &[]);
            for gated in [&mut gated, &mut as_on_a_device] {
                let found = run(gated.as_mut(), std::slice::from_ref(&prompt));
                assert_eq!(found.last(), Some(&last), "{}, {:?}", dir.display(), prompt.shape.kind());
            }
        }
        let mut alone = request(dir, Dtype::Fp32);
        alone.options.extra.insert("memory_threshold".into(), "0.25".into());
        let refused = packs::open(&alone).err().unwrap().to_string();
        assert!(
            refused.contains("memory_threshold") && refused.contains("memory=gated or gated_last beside it"),
            "{refused}"
        );
    });
}
