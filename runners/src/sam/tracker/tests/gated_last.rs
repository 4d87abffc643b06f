//! `memory=gated_last` against what it means: every frame sees the memories of those before it that were worth it, and of the last one. The
//! reference is a tracker without a gate whose memory is written a second time after each frame, onto that of the worthy frames alone.

use super::*;
use crate::types::{Mask, ObjectMask};

const FRAMES: u32 = 9;
/// Which disc is gone on which frames.
const GONE: [std::ops::Range<u32>; 2] = [2..5, 4..7];

fn step(tracker: &mut Tracker, t: u32, discs: &[u32]) -> Vec<ObjectMask> {
    let rgb = frame_with(t, |disc| GONE.get(disc).is_none_or(|gone| !gone.contains(&t)));
    let prompts = discs.iter().map(|&disc| Prompt { object: disc + 1, shape: box_prompt(disc, t) });
    let prompts: Vec<Prompt> = prompts.collect();
    tracker.step(Frame { width: WIDTH, height: HEIGHT, rgb: &rgb }, &prompts).unwrap().objects
}

/// Bank, pointers and age of one object.
type Saved = [Vec<f32>; 3];

fn saved(state: &MemoryState) -> Saved {
    [&state.bank, &state.ptrs, &state.age].map(|tensor| tensor.extract_tensor().1.to_vec())
}

/// What the object of a disc gives from frame `start` on, and whether each tracked frame was worth it.
fn reference(tracker: &mut Tracker, disc: u32, start: u32) -> Vec<(ObjectMask, bool)> {
    tracker.reset();
    let (mut results, mut base) = (Vec::new(), Saved::default());
    for t in start..FRAMES {
        let prompted = t == start;
        let given = [disc];
        let found = step(tracker, t, if prompted { &given } else { &[] }).remove(0);
        let presence = (2.0 / (1.0 + (-found.object_score).exp()) - 1.0f32).max(0.0);
        let worthy = prompted || presence * found.predicted_iou > 0.01;
        let memories = &mut tracker.groups[0].memories;
        if !prompted {
            memories.flip();
            let state = memories.current_mut();
            for (tensor, values) in [&mut state.bank, &mut state.ptrs, &mut state.age].into_iter().zip(&base) {
                tensor.extract_tensor_mut().1.copy_from_slice(values);
            }
            memories.remember(&mut tracker.memory_encoder, &tracker.wirings[&1].passed, false).unwrap();
        }
        if worthy {
            base = saved(memories.current());
        }
        results.push((found, worthy));
    }
    results
}

fn open(dir: &std::path::Path, options: &[(&str, &str)]) -> Tracker {
    let mut request = request(dir, Dtype::Fp32);
    request.options.extra = options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Tracker::open(&request).unwrap()
}

/// By frame, with disc `i` prompted on frame `starts[i]`.
fn run(tracker: &mut Tracker, starts: &[u32]) -> Vec<Vec<ObjectMask>> {
    tracker.reset();
    let discs = |t: u32| (0..starts.len() as u32).filter(|&disc| starts[disc as usize] == t).collect::<Vec<_>>();
    (0..FRAMES).map(|t| step(tracker, t, &discs(t))).collect()
}

#[test]
fn every_frame_sees_the_worthy_ones_and_the_last() {
    for_each_pack("every_frame_sees_the_worthy_ones_and_the_last", |dir| {
        const LAST: (&str, &str) = ("memory", "gated_last");
        for form in [&[][..], &[("form", "plain")]] {
            let one_by_one = [form, &[("objects", "loop")]].concat();
            let mut all = open(dir, &one_by_one);
            for starts in [[0, 0], [0, 2]] {
                let expected = [0, 1].map(|disc| reference(&mut all, disc, starts[disc as usize]));
                let mask_of = |disc: usize, t: u32| -> Option<&ObjectMask> {
                    let at = t.checked_sub(starts[disc])? as usize;
                    expected[disc].get(at).map(|(found, _)| found)
                };
                let doubted = expected.iter().flatten().filter(|(_, worthy)| !worthy).count();
                assert!(doubted >= 4, "{}: the case: {doubted} frames were not worth it", dir.display());
                let mut alone = open(dir, &[&one_by_one, &[LAST][..]].concat());
                for (t, found) in (0..).zip(run(&mut alone, &starts)) {
                    let wanted: Vec<ObjectMask> = (0..2).filter_map(|disc| mask_of(disc, t).cloned()).collect();
                    assert_eq!(found, wanted, "{}, {form:?}, frame {t}", dir.display());
                }
                let mut batch = open(dir, &[form, &[LAST][..]].concat());
                for (t, found) in (0..).zip(run(&mut batch, &starts)) {
                    let masks: Vec<&Mask> = found.iter().map(|object| &object.mask).collect();
                    let wanted: Vec<&Mask> =
                        (0..2).filter_map(|disc| mask_of(disc, t).map(|object| &object.mask)).collect();
                    assert_eq!(masks, wanted, "{}, {form:?}, a batch, frame {t}", dir.display());
                }
                let mut gated = open(dir, &[&one_by_one, &[("memory", "gated")][..]].concat());
                let other = run(&mut gated, &starts);
                let differ = (0..).zip(&other).any(|(t, found)| found.first() != mask_of(0, t));
                assert!(differ, "{}: the last frame makes no difference in this case", dir.display());
            }
        }
    });
}
