//! Every pack in `assets/packs` against PyTorch's outputs, and the tracker's promises that need a real model: equal
//! results after a reset, late objects, precision as recorded, errors for what cannot run. Needs ONNX Runtime; without
//! it each test says so and passes. `JETBENCH_TEST_PACKS` names other pack directories (separated by `:`).

mod clip;
mod gated;
mod real_packs;

use std::path::Path;

use clip::{click, frame};
use jetbench_runners::golden::verify;
use jetbench_runners::types::{Click, Device, Dtype, Effective, Frame, Mask, ObjectMask, Options, Prompt, PromptShape};
use jetbench_runners::{Runner, RunnerError, packs, runtime};
use real_packs::{for_each_pack, request, skipped, with_golden};

fn step(runner: &mut dyn Runner, t: u32, prompts: &[Prompt]) -> jetbench_runners::types::FrameMasks {
    let rgb = frame(160, 120, t);
    runner.step(Frame { width: 160, height: 120, rgb: &rgb }, prompts).unwrap()
}

#[test]
fn fp32_reproduces_pytorch() {
    for_each_pack("fp32_reproduces_pytorch", |dir| {
        let report = verify(&request(dir, Dtype::Fp32)).unwrap();
        assert!(report.passes(), "{}: {:#?} {:#?}", dir.display(), report.failures, report.missing);
        let json = serde_json::to_value(&report).unwrap();
        for field in ["graph", "tensor", "frame", "max_abs"] {
            assert!(!json["worst"][field].is_null(), "worst.{field} is missing");
        }
    });
}

/// A number that a pack allows stands in its golden index; the manifest and the documents repeat it.
#[test]
fn limits_and_documents_say_one_number() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = std::fs::read_to_string(root.join("docs/miniature-packs.md")).unwrap();
    for id in ["sam2_mini", "edgetam_mini"] {
        let pack = root.join("assets/packs").join(id);
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(pack.join("reference/golden.json")).unwrap()).unwrap();
        let allowed = index["tolerance"]["low_res"].as_f64().unwrap();
        let manifest: toml::Table = std::fs::read_to_string(pack.join("pack.toml")).unwrap().parse().unwrap();
        assert_eq!(manifest["golden"]["tolerance"].as_float(), Some(allowed), "{id}");
        let said = document.split(&format!("for {id} (")).nth(1).and_then(|rest| rest.split(" allowed").next());
        assert_eq!(said.and_then(|said| said.parse().ok()), Some(allowed), "docs/miniature-packs.md on {id}");
        // Of a tensor whose spread in PyTorch is known, eight times that.
        if let Some(spread) = index["spread"]["low_res"].as_f64() {
            assert!((8.0 * spread / allowed - 1.0).abs() < 0.05, "{id}: {spread} {allowed}");
        }
    }
}

#[test]
fn sequences_do_not_leak_into_each_other() {
    for_each_pack("sequences_do_not_leak_into_each_other", |dir| {
        let mut runner = packs::open(&request(dir, Dtype::Fp32)).unwrap();
        let mut sequence = || {
            runner.reset();
            let mut all = vec![step(runner.as_mut(), 0, &[click(1, 60.0, 50.0)])];
            all.push(step(runner.as_mut(), 1, &[click(2, 100.0, 90.0)]));
            all.extend((2..6).map(|t| step(runner.as_mut(), t, &[])));
            all
        };
        let first = sequence();
        assert_eq!(first[5].objects.len(), 2, "a late object is tracked beside the first");
        assert_eq!(first, sequence(), "the same frames give the same masks after a reset");
        let times = runner.take_stage_times();
        assert_eq!(times.iter().count(), 6, "{times:?}");

        // A late object sees only its own past: alone it gets the same masks.
        runner.reset();
        step(runner.as_mut(), 1, &[click(2, 100.0, 90.0)]);
        let alone: Vec<_> = (2..6).map(|t| step(runner.as_mut(), t, &[])).collect();
        for (alone, beside) in alone.iter().zip(&first[2..]) {
            assert_eq!(alone.objects[0], beside.objects[1]);
        }
    });
}

/// Every click of a prompt reaches the model, negative ones too; a box may come late; what the graphs have no room for is refused. That the
/// masks are PyTorch's is proven by golden references for one click, and for several by `tests/cases/prompts`.
#[test]
fn every_click_counts_and_a_box_may_come_late() {
    for_each_pack("every_click_counts_and_a_box_may_come_late", |dir| {
        let mut runner = packs::open(&request(dir, Dtype::Fp32)).unwrap();
        let clicks = |places: &[(f32, f32, bool)]| {
            let click = |&(x, y, positive): &(f32, f32, bool)| Click { x, y, positive };
            Prompt { object: 1, shape: PromptShape::Points(places.iter().map(click).collect()) }
        };
        let (one, two) = ((60.0, 50.0, true), (64.0, 54.0, true));
        let outside = (90.0, 50.0, false);
        let prompts =
            [clicks(&[one]), clicks(&[one, two]), clicks(&[one, outside]), clicks(&[one, (90.0, 50.0, true)])];
        let scores: Vec<f32> = prompts
            .iter()
            .map(|prompt| {
                runner.reset();
                step(runner.as_mut(), 0, std::slice::from_ref(prompt)).objects[0].predicted_iou
            })
            .collect();
        for (i, score) in scores.iter().enumerate() {
            assert!(score.is_finite() && scores[..i].iter().all(|other| other != score), "{scores:?}");
        }
        let limit = runner.capabilities().max_points as usize;
        let rgb = frame(160, 120, 0);
        let shown = Frame { width: 160, height: 120, rgb: &rgb };
        runner.reset();
        let many = runner.step(shown, &[clicks(&vec![one; limit + 1])]).unwrap_err().to_string();
        assert!(many.contains(&format!("{} clicks; 1 to {limit} expected", limit + 1)), "{many}");
        step(runner.as_mut(), 0, &[clicks(&[one])]);
        let corrected = runner.step(shown, &[clicks(&[one, outside])]).unwrap_err().to_string();
        assert!(corrected.contains("corrections of a running track are not supported"), "{corrected}");

        // A box on frame 3 of a sequence is that of a sequence that begins there.
        let boxed = Prompt { object: 2, shape: PromptShape::Bbox([48.0, 32.0, 84.0, 68.0]) };
        let mut track = |from: u32| {
            runner.reset();
            (from..6)
                .map(|t| step(runner.as_mut(), t, if t == 3 { std::slice::from_ref(&boxed) } else { &[] }))
                .collect::<Vec<_>>()
        };
        assert_eq!(track(0)[3..], track(3)[..]);
    });
}

/// Masks of a run of six frames in which objects start on frames 0, 1 and 3, from every kind of prompt.
fn crowd(dir: &Path, precision: Dtype, objects: &str, only: Option<u32>) -> Vec<Vec<ObjectMask>> {
    crowd_with(dir, precision, objects, only, &[])
}

/// As [`crowd`], with further options.
fn crowd_with(
    dir: &Path,
    precision: Dtype,
    objects: &str,
    only: Option<u32>,
    options: &[(&str, &str)],
) -> Vec<Vec<ObjectMask>> {
    let mut request = request(dir, precision);
    for (name, value) in options.iter().chain(&[("objects", objects)]) {
        request.options.extra.insert(name.to_string(), value.to_string());
    }
    let mut runner = packs::open(&request).unwrap();
    let bbox = |object, corners| Prompt { object, shape: PromptShape::Bbox(corners) };
    let disc = |object, t: u32| {
        let mask = Mask::from_fn(160, 120, |x, y| (x as f32 - 60.0 - 2.0 * t as f32).hypot(y as f32 - 50.0) < 18.0);
        Prompt { object, shape: PromptShape::Mask(mask) }
    };
    let starts = |t: u32| match t {
        0 => vec![click(5, 60.0, 50.0), bbox(2, [42.0, 32.0, 78.0, 68.0]), disc(9, 0), click(1, 100.0, 90.0)],
        1 => vec![disc(3, 1), disc(4, 1)],
        3 => vec![click(8, 66.0, 50.0), click(7, 20.0, 20.0)],
        _ => Vec::new(),
    };
    let sequence = |runner: &mut dyn Runner| {
        runner.reset();
        (0..6)
            .map(|t| {
                let prompts: Vec<Prompt> =
                    starts(t).into_iter().filter(|p| only.is_none_or(|one| p.object == one)).collect();
                step(runner, t, &prompts).objects
            })
            .collect::<Vec<_>>()
    };
    let first = sequence(runner.as_mut());
    if only.is_none() && objects == "batch" && precision == Dtype::Fp32 {
        // Compared as text: a bypassed decoder's IoU is NaN, which equals nothing.
        assert_eq!(format!("{first:?}"), format!("{:?}", sequence(runner.as_mut())), "a reset changes nothing");
    }
    first
}

#[test]
fn objects_in_a_batch_get_the_masks_they_get_alone() {
    for_each_pack("objects_in_a_batch_get_the_masks_they_get_alone", |dir| {
        let info = packs::describe(dir, Device::Cpu).unwrap();
        if !info.capabilities.options.iter().any(|o| o == "objects") {
            return skipped(&format!("the batch test on {}: its graphs have no object axis", dir.display()));
        }
        for precision in [Dtype::Fp32, Dtype::Bf16] {
            let batch = crowd(dir, precision, "batch", None);
            let order: Vec<u32> = batch[5].iter().map(|o| o.object).collect();
            assert_eq!(order, [5, 2, 9, 1, 3, 4, 8, 7], "the order of the first prompts");
            // ONNX Runtime may take other kernels for another number of objects: in fp32 no pixel may change, with operands
            // rounded to bf16 one at the rim may.
            let same = |a: &ObjectMask, b: &ObjectMask, what: &str| {
                assert_eq!(a.object, b.object);
                let differing: u32 = a.mask.words().iter().zip(b.mask.words()).map(|(a, b)| (a ^ b).count_ones()).sum();
                let allowed = if precision != Dtype::Fp32 { 160 * 120 / 1000 } else { 0 };
                assert!(differing <= allowed, "{}, {precision}: {what}: {differing} pixels differ", dir.display());
                // A vector times a matrix is summed in another order than a matrix times a matrix.
                let close = precision != Dtype::Fp32 || (a.object_score - b.object_score).abs() < 1e-3;
                assert!(close, "{what}: score {} and {}", a.object_score, b.object_score);
            };
            for objects in ["loop", "3"] {
                for (t, (batch, other)) in batch.iter().zip(crowd(dir, precision, objects, None)).enumerate() {
                    assert_eq!(batch.len(), other.len());
                    let what = format!("objects={objects}, frame {t}");
                    batch.iter().zip(&other).for_each(|(a, b)| same(a, b, &what));
                }
            }
            for object in [2, 9, 4, 7] {
                for (t, alone) in crowd(dir, precision, "batch", Some(object)).iter().enumerate() {
                    let beside = batch[t].iter().find(|o| o.object == object);
                    assert_eq!(beside.is_some(), !alone.is_empty());
                    beside.into_iter().zip(alone).for_each(|(a, b)| same(a, b, &format!("alone, frame {t}")));
                }
            }
        }
    });
}

#[test]
fn all_forms_of_a_graph_give_the_same_masks() {
    for_each_pack("all_forms_of_a_graph_give_the_same_masks", |dir| {
        let info = packs::describe(dir, Device::Cpu).unwrap();
        if !info.capabilities.options.iter().any(|o| o == "form") {
            return skipped(&format!("the test of forms on {}: its graphs have one form", dir.display()));
        }
        let run = |form: &str, how: &str| {
            let mut request = request(dir, Dtype::Fp32);
            request.options.extra.insert("form".into(), form.into());
            request.options.extra.insert("attention".into(), how.into());
            let mut runner = packs::open(&request).unwrap();
            let said = format!(
                "form of `memory_attention`: the one for {}",
                ["all providers", "the CPU provider"][usize::from(form == "cpu")]
            );
            assert!(runner.open_report().notes.contains(&said), "{:?}", runner.open_report().notes);
            let attention = runner.precision().into_iter().find(|stage| stage.graph == "memory_attention").unwrap();
            assert_eq!((attention.effective.as_str(), attention.kind), ("fp32", Effective::Native));
            let counted = attention.evidence[0].contains("MultiHeadAttention");
            assert_eq!(counted, form == "cpu", "{:?}", attention.evidence);
            let counted = attention.evidence[0].contains(" Attention 4 f32");
            assert_eq!(counted, how == "onnx", "{:?}", attention.evidence);
            // objects of three ages, so that batches of one age are needed
            let mut results = Vec::new();
            for t in 0..12 {
                let prompts: Vec<Prompt> = match t {
                    0 => vec![click(1, 60.0, 50.0), click(2, 100.0, 70.0)],
                    3 => vec![click(3, 30.0, 90.0)],
                    7 => vec![click(4, 120.0, 40.0)],
                    _ => Vec::new(),
                };
                results.push(step(runner.as_mut(), t, &prompts));
            }
            results
        };
        let plain = run("plain", "whole");
        for (form, how) in [("cpu", "whole"), ("plain", "onnx")] {
            for (t, (plain, other)) in plain.iter().zip(run(form, how)).enumerate() {
                assert_eq!(plain.objects.len(), other.objects.len());
                for (a, b) in plain.objects.iter().zip(&other.objects) {
                    assert_eq!(a.object, b.object);
                    // The same function in another order of sums: the bar of the fidelity checks, 0.01 % of the pixels. These
                    // frames are drawn so that much of the mask is a ragged rim; on the golden clips no pixel differs.
                    let pairs = a.mask.words().iter().zip(b.mask.words());
                    let differing: u32 = pairs.map(|(a, b)| (a ^ b).count_ones()).sum();
                    let place = dir.display();
                    assert!(differing <= 160 * 120 / 10_000, "{place}: {form}, {how}, frame {t}: {differing} pixels");
                    assert!((a.object_score - b.object_score).abs() < 1e-3);
                }
            }
        }
        let mut half = request(dir, Dtype::Bf16);
        half.options.extra.insert("form".into(), "cpu".into());
        let refusal = packs::open(&half).err().unwrap().to_string();
        assert!(refusal.contains("\"cpu\" for option form") && refusal.contains("only fp32"), "{refusal}");
    });
}

#[test]
fn frames_encoded_ahead_give_the_same_masks() {
    for_each_pack("frames_encoded_ahead_give_the_same_masks", |dir| {
        let open = |pipeline: &str| {
            let mut request = request(dir, Dtype::Fp32);
            request.options.threads = Some(2);
            request.options.extra.insert("pipeline".to_string(), pipeline.to_string());
            packs::open(&request).unwrap()
        };
        let (mut ahead, mut plain) = (open("on"), open("off"));
        assert!(ahead.works_ahead() && !plain.works_ahead());
        assert!(ahead.capabilities().works_ahead, "it pays for small inputs");
        let notes = &ahead.open_report().notes;
        assert!(notes.iter().any(|n| n.contains("threads: 1 for the image encoder, 1 for")), "{notes:?}");
        let frames: Vec<Vec<u8>> = (0..14).map(|t| frame(160, 120, t)).collect();
        let view = |t: usize| frames.get(t).map(|rgb| Frame { width: 160, height: 120, rgb });
        let starts = |t: usize| match t {
            0 => vec![click(1, 60.0, 50.0)],
            4 => vec![click(2, 100.0, 90.0), click(3, 64.0, 50.0)],
            _ => Vec::new(),
        };
        for round in 0..2 {
            ahead.reset();
            plain.reset();
            for t in 0..frames.len() {
                // Now and then no frame is announced.
                let next = if t % 5 == 3 { None } else { view(t + 1) };
                let found = ahead.step_ahead(view(t).unwrap(), &starts(t), next).unwrap();
                let expected = plain.step(view(t).unwrap(), &starts(t)).unwrap();
                assert_eq!(found, expected, "{}, round {round}, frame {t}", dir.display());
                let stages = ahead.take_stage_times();
                assert!(stages.iter().count() >= 5, "what was encoded ahead is in the times: {stages:?}");
                ahead.recycle(found);
            }
        }
        // Another frame than the announced one is refused, and nothing is lost.
        ahead.reset();
        ahead.step_ahead(view(0).unwrap(), &starts(0), view(1)).unwrap();
        let refused = ahead.step(view(9).unwrap(), &[]).unwrap_err();
        assert!(matches!(&refused, RunnerError::Usage(text) if text.contains("announced")), "{refused}");
        plain.reset();
        plain.step(view(0).unwrap(), &starts(0)).unwrap();
        assert_eq!(ahead.step(view(1).unwrap(), &[]).unwrap(), plain.step(view(1).unwrap(), &[]).unwrap());
    });
}

#[test]
fn what_crosses_to_a_device_may_be_less_and_the_results_are_the_same() {
    for_each_pack("what_crosses_to_a_device_may_be_less_and_the_results_are_the_same", |dir| {
        for (precision, objects) in [(Dtype::Fp32, "batch"), (Dtype::Fp32, "loop"), (Dtype::Bf16, "batch")] {
            let plain = crowd(dir, precision, objects, None);
            for options in
                [&[("image", "bytes")][..], &[("results", "device")], &[("image", "bytes"), ("results", "device")]]
            {
                let least = crowd_with(dir, precision, objects, None, options);
                // As text: a bypassed decoder's IoU is NaN, which equals nothing.
                assert_eq!(format!("{plain:?}"), format!("{least:?}"), "{}, {precision}, {options:?}", dir.display());
            }
        }
    });
}

#[test]
fn half_precisions_are_what_the_record_says() {
    for_each_pack("half_precisions_are_what_the_record_says", |dir| {
        for precision in [Dtype::Fp16, Dtype::Bf16] {
            let mut runner = packs::open(&request(dir, precision)).unwrap();
            let masks = step(runner.as_mut(), 0, &[click(1, 60.0, 50.0)]);
            assert!(masks.objects[0].finite);
            for stage in runner.precision() {
                assert_eq!(
                    (stage.effective, stage.kind),
                    (format!("{precision} operands, fp32 accumulation, emulated"), Effective::Emulated),
                    "{}: {:?}",
                    stage.graph,
                    stage.evidence
                );
            }
        }
    });
}

#[test]
fn what_cannot_run_says_so() {
    for_each_pack("what_cannot_run_says_so", |dir| {
        let mut on_gpu = request(dir, Dtype::Fp32);
        on_gpu.device = Device::Cuda(0);
        on_gpu.options = Options::default();
        if runtime::load(None).unwrap().providers.iter().any(|p| p.contains("CUDA")) {
            skipped("the GPU part of what_cannot_run_says_so: this runtime has CUDA");
        } else {
            match packs::open(&on_gpu) {
                Err(RunnerError::Environment(text)) => {
                    assert!(text.contains("cuda:0") && text.contains("has no CUDAExecutionProvider"), "{text}");
                }
                Err(other) => panic!("{other:?}"),
                Ok(_) => panic!("a CUDA session without CUDA"),
            }
        }
        let mut runner = packs::open(&request(dir, Dtype::Fp32)).unwrap();
        let rgb = frame(160, 120, 0);
        let short = Frame { width: 160, height: 121, rgb: &rgb };
        assert!(matches!(runner.step(short, &[]), Err(RunnerError::Usage(_))));
        let five = (0..5).map(|i| Click { x: i as f32, y: 1.0, positive: true }).collect();
        let many = Prompt { object: 1, shape: PromptShape::Points(five) };
        let text = runner.step(Frame { width: 160, height: 120, rgb: &rgb }, &[many]).unwrap_err().to_string();
        assert!(text.contains("5 clicks"), "{text}");
        step(runner.as_mut(), 0, &[click(1, 60.0, 50.0)]); // refused input leaves the runner usable
    });
}

#[test]
fn graphs_loaded_beside_each_other_are_the_ones_loaded_in_turn() {
    for_each_pack("graphs_loaded_beside_each_other_are_the_ones_loaded_in_turn", |dir| {
        let open = |dir: &Path, load: &str| {
            let mut request = request(dir, Dtype::Fp32);
            request.options.extra.insert("load".to_string(), load.to_string());
            packs::open(&request)
        };
        let [mut parallel, mut serial] = ["parallel", "serial"].map(|load| open(dir, load).unwrap());
        let names = |runner: &dyn Runner| -> Vec<String> {
            runner.open_report().graph_load_ms.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(parallel.as_ref()), names(serial.as_ref()));
        let overlap = |runner: &dyn Runner| runner.open_report().notes.iter().any(|note| note.contains("overlap"));
        assert!(overlap(parallel.as_ref()) && !overlap(serial.as_ref()));
        for t in 0..3 {
            let prompts = if t == 0 { vec![click(1, 60.0, 50.0)] } else { Vec::new() };
            assert_eq!(step(parallel.as_mut(), t, &prompts), step(serial.as_mut(), t, &prompts));
        }
        // Whichever of them is broken, it is named.
        for graph in parallel.precision().iter().map(|stage| &stage.graph) {
            let broken = with_golden(dir, |_| {});
            std::fs::remove_file(broken.path().join("fp32")).unwrap();
            std::fs::create_dir(broken.path().join("fp32")).unwrap();
            for entry in std::fs::read_dir(dir.join("fp32")).unwrap().flatten() {
                let place = broken.path().join("fp32").join(entry.file_name());
                match entry.file_name().to_string_lossy().starts_with(&format!("{graph}.")) {
                    true => std::fs::write(place, "no graph").unwrap(),
                    false => std::os::unix::fs::symlink(entry.path().canonicalize().unwrap(), place).unwrap(),
                }
            }
            let [parallel, serial] =
                ["parallel", "serial"].map(|load| open(broken.path(), load).err().unwrap().to_string());
            assert_eq!(parallel, serial);
            assert!(parallel.contains(graph.as_str()), "{graph}: {parallel}");
        }
    });
}

/// Runs a foreign export from a click and from a box over the clip of its reference, and compares every frame; at most
/// `wrong` pixels of a frame may differ.
fn foreign(name: &str, family: &str, wrong: u32, same: impl Fn(&ObjectMask, &serde_json::Value, &str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = root.join("tests/data").join(name);
    let info = packs::describe(&dir, Device::Cpu).unwrap();
    assert_eq!(info.family, family);
    packs::check(&dir, Dtype::Fp32).unwrap();
    if let Err(e) = runtime::load(None) {
        return skipped(&format!("{name}: {e}"));
    }
    let text = std::fs::read_to_string(dir.join("reference.json")).unwrap();
    let reference: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (width, height) = (number(&reference["width"]) as u32, number(&reference["height"]) as u32);
    let at = &reference["click"];
    let corners: Vec<f32> = reference["box"].as_array().unwrap().iter().map(number).collect();
    let corners = PromptShape::Bbox([corners[0], corners[1], corners[2], corners[3]]);
    let prompts =
        [("points", click(1, number(&at[0]), number(&at[1]))), ("bbox", Prompt { object: 2, shape: corners })];
    let frames: Vec<Vec<u8>> = (0..number(&reference["count"]) as u32)
        .map(|t| {
            let file = std::fs::File::open(root.join(format!("../assets/golden/g0/{t:05}.png"))).unwrap();
            let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
            let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut rgb).unwrap();
            rgb
        })
        .collect();
    let mut runner = packs::open(&request(&dir, Dtype::Fp32)).unwrap();
    let mut alone = Vec::new();
    for (kind, prompt) in &prompts {
        runner.reset();
        for (t, expected) in reference[kind].as_array().unwrap().iter().enumerate() {
            let prompts = if t == 0 { std::slice::from_ref(prompt) } else { &[] };
            let found = runner.step(Frame { width, height, rgb: &frames[t] }, prompts).unwrap().objects.remove(0);
            let what = format!("{kind}, frame {t}");
            same(&found, expected, &what);
            let runs: Vec<u32> =
                expected["runs"].as_array().unwrap().iter().map(|r| r.as_u64().unwrap() as u32).collect();
            let mask = Mask::from_runs(width, height, &runs).unwrap();
            let differing: u32 = mask.words().iter().zip(found.mask.words()).map(|(a, b)| (a ^ b).count_ones()).sum();
            // Another ONNX Runtime sums in another order, and random weights give masks full of rims.
            assert!(differing <= wrong, "{what}: {differing} pixels differ");
            assert!(found.finite && !found.mask.is_empty());
            alone.push(found.mask);
        }
    }
    runner.reset();
    for t in 0..frames.len() {
        let prompts: Vec<Prompt> = if t == 0 { prompts.iter().map(|(_, p)| p.clone()).collect() } else { Vec::new() };
        let found = runner.step(Frame { width, height, rgb: &frames[t] }, &prompts).unwrap().objects;
        assert_eq!(found.iter().map(|o| o.object).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(found[0].mask, alone[t], "objects of one run are tracked as alone: 1, frame {t}");
        assert_eq!(found[1].mask, alone[frames.len() + t], "2, frame {t}");
    }
    assert!(!runner.take_stage_times().is_empty());
    let mut untimed = request(&dir, Dtype::Fp32);
    untimed.options.extra.insert("stage_times".to_string(), "off".to_string());
    let mut untimed = packs::open(&untimed).unwrap();
    untimed.step(Frame { width, height, rgb: &frames[0] }, &[prompts[0].1.clone()]).unwrap();
    assert!(untimed.take_stage_times().is_empty(), "stage times were not wanted");
    let mask = Prompt { object: 1, shape: PromptShape::Mask(Mask::from_fn(width, height, |x, _| x < 9)) };
    runner.reset();
    let text = runner.step(Frame { width, height, rgb: &frames[0] }, &[mask]).unwrap_err().to_string();
    assert!(text.contains("mask"), "{text}");
}

fn number(value: &serde_json::Value) -> f32 {
    value.as_f64().unwrap() as f32
}

#[test]
fn a_foreign_image_export_runs_as_the_python_loop_does() {
    foreign("sam2_image_mini", "sam2_image", 27, |found, expected, what| {
        assert!((found.object_score - number(&expected["object_score"])).abs() < 1e-3, "{what}");
        assert!((found.predicted_iou - number(&expected["predicted_iou"])).abs() < 1e-3, "{what}");
    });
}

#[test]
fn a_foreign_video_export_tracks_as_transformers_does() {
    // On the third frame lost memories change 8,715 pixels, mistimed ones 2,245, lost pointers 706.
    foreign("sam2export_mini", "sam2export", 3, |found, _, what| {
        assert!(found.object_score.is_nan() && found.predicted_iou.is_nan(), "{what}: the layout has no scores");
    });
}

#[test]
fn a_foreign_video_export_says_where_its_memory_is_and_what_does_not_fit() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sam2export_mini");
    if runtime::load(None).is_ok() {
        let runner = packs::open(&request(&dir, Dtype::Fp32)).unwrap();
        let notes = runner.open_report().notes.join("\n");
        assert!(notes.contains("memory on the host") && notes.contains("no object score"), "{notes}");
    }
    let manifest = std::fs::read_to_string(dir.join("pack.toml")).unwrap();
    for (from, to, named) in [
        ("name = \"memory_pos_embed\"", "name = \"memory_pos\"", "input `memory_pos_embed` is missing"),
        ("shape = [\"memory_0_0\", 64]", "shape = [16, 64]", "input `memory_0`"),
        ("name = \"frame_size\", dtype = \"i64\"", "name = \"frame_size\", dtype = \"f32\"", "[I64, I32]"),
        ("tokens_per_frame = 64", "tokens_per_frame = 63", "64 tokens"),
        ("kinds = [\"points\", \"bbox\"]", "kinds = [\"mask\"]", "takes no masks"),
        ("[memory]\nframes = 7", "[memory]\nframes = 1", "at least 2 frames"),
    ] {
        let changed = tempfile::tempdir().unwrap();
        assert!(manifest.contains(from), "{from}");
        std::fs::write(changed.path().join("pack.toml"), manifest.replacen(from, to, 1)).unwrap();
        let text = packs::describe(changed.path(), Device::Cpu).unwrap_err().to_string();
        assert!(text.contains(named) && text.contains("pack.toml"), "{to}: {text}");
    }
}
