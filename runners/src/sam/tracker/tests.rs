//! Tracks that are founded and ended within frames, against runs that are prompted. With real packs, so with ONNX Runtime.

mod gated_last;

use std::hash::Hasher;

use super::*;
use crate::associate::Carrier;
use crate::frame::tight;
use crate::host::session::RUNS;
use crate::real_packs::{for_each_pack, request};
use crate::sam::state::{Memories, MemoryState};
use crate::types::PromptShape;

const WIDTH: u32 = 160;
const HEIGHT: u32 = 120;

/// Four discs of different colours that drift.
fn frame(t: u32) -> Vec<u8> {
    frame_with(t, |_| true)
}

/// Those of them that are there.
fn frame_with(t: u32, there: impl Fn(usize) -> bool) -> Vec<u8> {
    let discs = [
        (40.0, 30.0, [220, 180, 40]),
        (120.0, 40.0, [40, 200, 220]),
        (50.0, 90.0, [230, 60, 60]),
        (115.0, 92.0, [90, 230, 80]),
    ];
    let pixel = |i: u32| {
        let (x, y) = ((i % WIDTH) as f32, (i / WIDTH) as f32);
        let inside =
            |&(i, (cx, cy, _)): &(usize, &(f32, f32, [u8; 3]))| there(i) && (x - cx - t as f32).hypot(y - cy) < 16.0;
        let disc = discs.iter().enumerate().find(inside);
        disc.map_or([30, (x / 2.0) as u8, (y / 2.0) as u8 + 30], |(_, (_, _, colour))| *colour)
    };
    (0..WIDTH * HEIGHT).flat_map(pixel).collect()
}

/// The box of disc `i` on frame `t`, in edges.
fn bbox(i: u32, t: u32) -> [f64; 4] {
    let (x, y) = [(40, 30), (120, 40), (50, 90), (115, 92)][i as usize];
    let x = x + t;
    [x - 15, y - 15, x + 16, y + 16].map(f64::from)
}

/// The same as a prompt, which names the last column and row.
fn box_prompt(i: u32, t: u32) -> PromptShape {
    let [x0, y0, x1, y1] = bbox(i, t);
    PromptShape::Bbox([x0, y0, x1 - 1.0, y1 - 1.0].map(|edge| edge as f32))
}

/// What is done on a frame, in order.
#[derive(Clone, Copy)]
enum Act {
    /// Track `.0` is founded by the box of disc `.1`.
    Found(u32, u32),
    /// A box of disc `.0` founds nothing.
    Refused(u32),
    End(u32),
    TakenBack(u32),
}
use Act::{End, Found, Refused, TakenBack};

fn carry(tracker: &mut Tracker, t: u32, acts: &[Act]) -> FrameMasks {
    let rgb = frame(t);
    let frame = Frame { width: WIDTH, height: HEIGHT, rgb: &rgb };
    let work = &mut |followed: &mut Followed<'_, '_, '_>| {
        for act in acts {
            match *act {
                Found(id, disc) => {
                    followed.found(id, bbox(disc, t))?;
                    assert!(followed.bbox(id).is_some());
                    followed.keep(id)?;
                }
                Refused(disc) => {
                    followed.found(99, bbox(disc, t))?;
                    followed.refuse(99);
                }
                End(id) => followed.end(id, false),
                TakenBack(id) => followed.end(id, true),
            }
            for object in &followed.passing.masks.objects {
                assert_eq!(followed.bbox(object.object), tight(&object.mask), "frame {t}, track {}", object.object);
            }
        }
        Ok(())
    };
    tracker.carry(frame, None, work).unwrap()
}

fn prompt(tracker: &mut Tracker, t: u32, prompts: &[(u32, u32)]) -> FrameMasks {
    let rgb = frame(t);
    let prompts: Vec<Prompt> =
        prompts.iter().map(|&(object, disc)| Prompt { object, shape: box_prompt(disc, t) }).collect();
    tracker.step(Frame { width: WIDTH, height: HEIGHT, rgb: &rgb }, &prompts).unwrap()
}

fn ids(masks: &FrameMasks) -> Vec<u32> {
    masks.objects.iter().map(|object| object.object).collect()
}

/// Every object with a number that tells its state (bank, pointers, age) from others, to the bit.
fn states(tracker: &Tracker) -> BTreeMap<u32, u64> {
    let hash = |memories: &Memories, n: usize, i: usize| {
        let mut hasher = std::hash::DefaultHasher::new();
        let layers = (0..memories.layers()).map(|layer| memories.layer(layer));
        for tensor in layers.flat_map(|state| [&state.bank, &state.ptrs, &state.age]) {
            let values = tensor.extract_tensor().1;
            let row = &values[values.len() / n * i..][..values.len() / n];
            row.iter().for_each(|value| hasher.write_u32(value.to_bits()));
        }
        hasher.finish()
    };
    let of_group = |group: &Group| -> Vec<(u32, u64)> {
        let (n, memories) = (group.objects.len(), &group.memories);
        group.objects.iter().enumerate().map(|(i, id)| (*id, hash(memories, n, i))).collect()
    };
    tracker.groups.iter().flat_map(of_group).collect()
}

/// One after the other; in batches of one age (the form for the CPU); all in one batch, with two states each; all in one batch.
const MODES: [&[(&str, &str)]; 4] = [
    &[("objects", "loop")],
    &[("overlaps", "exclusive")],
    &[("form", "plain"), ("memory", "gated_last")],
    &[("form", "plain"), ("overlaps", "exclusive")],
];

#[test]
fn tracks_are_founded_and_end_without_a_trace_in_the_others() {
    for_each_pack("tracks_are_founded_and_end_without_a_trace_in_the_others", |dir| {
        // One pack in every mode, the others in the last: what differs between packs is in their graphs.
        let modes = if dir.ends_with("sam2_mini") { &MODES[..] } else { &MODES[3..] };
        for mode in modes {
            let open = || {
                let mut request = request(dir, Dtype::Fp32);
                request.options.extra = mode.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
                let mut tracker = Tracker::open(&request).unwrap();
                tracker.copies = Copies::new(true);
                tracker
            };
            let [mut founding, mut other] = [open(), open()];
            founding.found_tracks().unwrap();
            let name = format!("{}, {mode:?}", dir.display());
            for scene in [as_prompted, ended, many] {
                founding.reset();
                other.reset();
                scene(&name, &mut founding, &mut other);
            }
        }
    });
}

#[test]
fn an_image_that_was_made_ready_is_the_one_that_is_encoded() {
    for_each_pack("an_image_that_was_made_ready_is_the_one_that_is_encoded", |dir| {
        let open = || Tracker::open(&request(dir, Dtype::Fp32)).unwrap();
        let frames: Vec<Vec<u8>> = (0..6).map(frame).collect();
        let view = |t: usize| frames.get(t).map(|rgb| Frame { width: WIDTH, height: HEIGHT, rgb });
        let starts = |t: usize| match t {
            0 => vec![Prompt { object: 1, shape: box_prompt(0, 0) }],
            _ => Vec::new(),
        };
        let mut plain = open();
        let step = |t: usize| plain.step(view(t).unwrap(), &starts(t)).unwrap();
        let expected: Vec<FrameMasks> = (0..frames.len()).map(step).collect();
        for copy in [false, true] {
            let mut ahead = open();
            ahead.make_images_ready(copy);
            for round in 0..2 {
                ahead.reset();
                for (t, expected) in expected.iter().enumerate() {
                    // Now and then no frame is announced.
                    let next = view(t + 1).filter(|_| t != 2);
                    let found = ahead.step_ahead(view(t).unwrap(), &starts(t), next).unwrap();
                    assert_eq!(&found, expected, "{}, copy {copy}, round {round}, frame {t}", dir.display());
                }
            }
            ahead.reset();
            ahead.step_ahead(view(0).unwrap(), &starts(0), view(1)).unwrap();
            assert!(ahead.step(view(3).unwrap(), &[]).unwrap_err().to_string().contains("announced"));
            assert_eq!(ahead.step(view(1).unwrap(), &[]).unwrap(), expected[1]);
        }
    });
}

/// An object whose memory holds what is no number is said to be lost, wherever its results are checked; the other is what it would be
/// without it, and so is the next sequence.
#[test]
fn an_object_that_fails_half_way_is_named_and_harms_no_other() {
    for_each_pack("an_object_that_fails_half_way_is_named_and_harms_no_other", |dir| {
        for mode in [&[("form", "plain")][..], &[("form", "plain"), ("results", "device"), ("image", "bytes")]] {
            let mut request = request(dir, Dtype::Fp32);
            request.options.extra = mode.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let [mut harmed, mut well] = [(); 2].map(|()| Tracker::open(&request).unwrap());
            for failing in [false, true, false] {
                harmed.reset();
                well.reset();
                for t in 0..3 {
                    let what = format!("{}, {mode:?}, frame {t}", dir.display());
                    let starts: &[(u32, u32)] = if t == 0 { &[(1, 0), (2, 1)] } else { &[] };
                    let [found, expected] = [&mut harmed, &mut well].map(|tracker| prompt(tracker, t, starts).objects);
                    assert_eq!((found[0].object, found[1].object), (1, 2), "{what}");
                    let lost = failing && t == 2;
                    assert_eq!((found[0].finite, found[1].finite), (!lost, true), "{what}");
                    for i in usize::from(lost)..2 {
                        assert_eq!(
                            (&found[i].mask, found[i].object_score),
                            (&expected[i].mask, expected[i].object_score),
                            "{what}"
                        );
                    }
                    if failing && t == 1 {
                        let group = &mut harmed.groups[0];
                        let pointers = group.memories.current_mut().ptrs.extract_tensor_mut().1;
                        let own = pointers.len() / group.objects.len();
                        pointers[..own].fill(f32::NAN);
                    }
                }
            }
        }
    });
}

fn groups(tracker: &Tracker) -> Vec<Vec<u32>> {
    tracker.groups.iter().map(|group| group.objects.clone()).collect()
}

/// A founded track is carried as one that was prompted; a refused one leaves no trace.
fn as_prompted(mode: &str, founding: &mut Tracker, prompted: &mut Tracker) {
    for t in 0..5 {
        let (acts, prompts): (&[Act], &[(u32, u32)]) = match t {
            0 => (&[Found(1, 0), Refused(3)], &[(1, 0)]),
            1 => (&[Refused(0), Found(2, 1)], &[(2, 1)]),
            4 => (&[Found(3, 2), Found(4, 3)], &[(3, 2), (4, 3)]),
            _ => (&[], &[]),
        };
        RUNS.take();
        let from = [founding.copies().len(), prompted.copies().len()];
        let founded = carry(founding, t, acts);
        let ran = RUNS.take();
        let masks = prompt(prompted, t, prompts);
        assert_eq!(groups(founding), groups(prompted), "{mode}, frame {t}");
        if prompts.len() < 2 {
            assert_eq!(founded, masks, "{mode}, frame {t}");
            assert_eq!(states(founding), states(prompted), "{mode}, frame {t}");
        } else {
            // Prompts that come together are decoded together, which may round otherwise.
            for (a, b) in founded.objects.iter().zip(&masks.objects) {
                assert!(a.object == b.object && a.mask.iou(&b.mask) > Some(0.99), "{mode}, frame {t}");
            }
        }
        if prompts.is_empty() {
            assert_eq!(ran, RUNS.take(), "{mode}, frame {t}: graphs");
            assert_eq!(founding.copies()[from[0]..], prompted.copies()[from[1]..], "{mode}, frame {t}: copies");
        }
    }
}

/// What ends leaves the memories of the others as they are in a run without it, to the bit.
fn ended(mode: &str, ending: &mut Tracker, without: &mut Tracker) {
    let acts = [Found(1, 0), Found(2, 1), Found(3, 2)];
    carry(ending, 0, &acts);
    carry(without, 0, &[acts[0], acts[2]]);
    let masks = carry(ending, 1, &[End(2)]);
    assert_eq!(ids(&masks), [1, 2, 3], "{mode}: its last mask is that of the frame after which it ends");
    carry(without, 1, &[]);
    for t in 2..4 {
        assert_eq!(states(ending), states(without), "{mode}, before frame {t}");
        assert_eq!(carry(ending, t, &[]), carry(without, t, &[]), "{mode}, frame {t}");
    }
    // A founded and an ended one on the same frame, then one that is taken back, then none is left.
    assert_eq!(ids(&carry(ending, 4, &[End(1), Found(4, 3)])), [1, 3, 4], "{mode}");
    carry(without, 4, &[Found(4, 3)]);
    let left = states(without).into_iter().filter(|(id, _)| *id != 1).collect();
    assert_eq!(states(ending), left, "{mode}");
    assert_eq!(ids(&carry(ending, 5, &[TakenBack(3)])), [4], "{mode}: what is taken back has no mask");
    assert_eq!(ids(&carry(ending, 6, &[TakenBack(4)])), [0; 0], "{mode}");
    assert!(ending.groups.is_empty() && carry(ending, 7, &[]).objects.is_empty(), "{mode}");
    assert_eq!(ids(&carry(ending, 8, &[Found(5, 0)])), [5], "{mode}");
}

/// Memory does not grow with births and deaths: what is held beside the live tracks' is one spare memory, or as many as were ever
/// alive where each is alone.
fn many(mode: &str, tracker: &mut Tracker, _: &mut Tracker) {
    let (mut next, mut live) = (1, Vec::new());
    let mut most = 0;
    for t in 0..12 {
        // 0 to 2 die and 0 to 3 are born, never more than four at a time.
        let deaths = (t % 3) as usize;
        let mut acts: Vec<Act> = live.drain(..deaths.min(live.len())).map(End).collect();
        for disc in 0..(t * 7 / 3 % 4).min(4 - live.len() as u32) {
            acts.push(Found(next, disc));
            live.push(next);
            next += 1;
        }
        carry(tracker, t % 8, &acts);
        most = most.max(live.len());
        assert_eq!(groups(tracker).concat(), live, "{mode}, frame {t}");
        let spare: usize = tracker.wirings.iter().map(|(size, wiring)| size * wiring.spare.len()).sum();
        let alone = tracker.most_together() == 1;
        assert!(spare <= if alone { 5 } else { 1 }, "{mode}, frame {t}: {spare} spare");
        let used = |size: &usize| *size == 1 || groups(tracker).iter().any(|group| group.len() == *size);
        assert!(tracker.wirings.keys().all(used), "{mode}, frame {t}");
    }
    assert!(most == 4 && next > 10, "{mode}: there were births and deaths");
}

/// By hand, for a figure: what 2,000 frames of births and deaths leave in memory.
#[test]
#[ignore = "takes minutes; prints a figure"]
fn two_thousand_frames_of_births_and_deaths() {
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
    };
    for_each_pack("two_thousand_frames_of_births_and_deaths", |dir| {
        for mode in MODES.into_iter().rev() {
            let mut request = request(dir, Dtype::Fp32);
            request.options.extra = mode.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let mut tracker = Tracker::open(&request).unwrap();
            tracker.found_tracks().unwrap();
            let (mut next, mut live, mut at) = (1, Vec::new(), [0; 3]);
            for t in 0..2000u32 {
                let mut acts: Vec<Act> = Vec::new();
                if t % 3 == 0 {
                    acts.extend(live.drain(..(t as usize / 3 % 3).min(live.len())).map(End));
                    for disc in 0..(t / 3 * 7 / 3 % 4).min(4 - live.len() as u32) {
                        acts.push(Found(next, disc));
                        live.push(next);
                        next += 1;
                    }
                }
                let masks = carry(&mut tracker, t % 8, &acts);
                tracker.recycle(masks);
                [200, 1000, 1999]
                    .iter()
                    .zip(&mut at)
                    .filter(|(when, _)| t == **when)
                    .for_each(|(_, kib)| *kib = resident());
            }
            eprintln!(
                "{} {mode:?}: {} tracks; resident after 200, 1000 and 2000 frames: {at:?} KiB",
                dir.display(),
                next - 1
            );
        }
    });
}
