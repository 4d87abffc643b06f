//! The device path on a real device memory: the tracker's promises on `webgpu:0`. Any Vulkan driver will do, SwiftShader's on a
//! processor too (`scripts/test-webgpu.sh` looks for one); without a driver or without a WebGPU build of ONNX Runtime each test
//! says so and passes. `JETBENCH_TEST_PACKS` names the packs; on a processor small ones, such as that script makes, take
//! seconds where those of `assets/packs` take minutes. With `JETBENCH_TEST_EP_LIBRARY` the provider is that plugin library's, in a plain
//! build of ONNX Runtime (`scripts/test-plugin.sh`).

mod clip;
mod real_packs;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use clip::{click, frame};
use jetbench_runners::audit::{Audit, audit};
use jetbench_runners::detect::{Detection, Detector, Keep};
use jetbench_runners::golden::verify_first;
use jetbench_runners::types::{
    Device, Dtype, Frame, FrameMasks, Mask, ObjectMask, OpenRequest, Options, Prompt, PromptShape, Stage,
};
use jetbench_runners::{Runner, RunnerError, packs, plugin, runtime, webgpu};
use real_packs::{roots, skipped, trackers, with_golden};

const GPU: Device = Device::WebGpu(0);
const SIZE: (u32, u32) = (160, 120);

/// The plugin library to test, instead of a build with the provider in it.
fn plugin_library() -> Option<PathBuf> {
    std::env::var_os("JETBENCH_TEST_EP_LIBRARY").map(PathBuf::from)
}

/// Devices that ONNX Runtime itself must have the providers of.
fn built_in() -> &'static [Device] {
    if plugin_library().is_some() { &[] } else { &[GPU] }
}

/// What runs at a time: a driver on a processor takes all of it.
static ONE: Mutex<()> = Mutex::new(());

/// The packs to test with, and the right to use the device.
fn device_packs() -> Result<(MutexGuard<'static, ()>, Vec<PathBuf>), String> {
    if webgpu::vulkan_devices()?.is_empty() {
        return Err("no Vulkan driver offers a device".to_string());
    }
    let probe = runtime::probe_for(None, built_in());
    if let Some(problem) = probe.problem {
        return Err(problem);
    }
    let library = probe.chosen.unwrap_or_default();
    match plugin_library() {
        // It was asked for: without it nothing is tested.
        Some(plugin) => {
            let found = plugin::look(&library, &probe.version.unwrap_or_default(), &plugin).unwrap();
            assert!(found.of(GPU).is_some(), "{found:?}");
        }
        None => {
            if let Some(text) = runtime::lacking(GPU, &library, &probe.providers) {
                return Err(text);
            }
        }
    }
    let roots = roots();
    let found = trackers(&roots, GPU);
    if found.is_empty() {
        return Err(format!("no packs in {roots:?}"));
    }
    Ok((ONE.lock().unwrap_or_else(PoisonError::into_inner), found))
}

/// Runs `test` on every pack, or prints why it does not.
fn on_device(name: &str, test: impl Fn(&Path)) {
    match device_packs() {
        Ok((_held, packs)) => packs.iter().for_each(|dir| test(dir)),
        Err(reason) => skipped(&format!("{name}: {reason}")),
    }
}

fn request(pack: &Path, device: Device, objects: &str) -> OpenRequest {
    let mut options = Options::default();
    let ep_library = plugin_library().filter(|_| device != Device::Cpu);
    if objects != "batch" {
        options.extra.insert("objects".to_string(), objects.to_string());
    }
    OpenRequest {
        pack: pack.to_path_buf(),
        detector: None,
        prompted: false,
        dtype: Dtype::Fp32,
        device,
        options,
        ort_lib: None,
        ep_library,
    }
}

/// The CPU's answers come from the same library: a process can load one.
fn on_cpu(pack: &Path, objects: &str) -> OpenRequest {
    let library = runtime::probe_for(None, built_in()).chosen;
    OpenRequest { ort_lib: library, ..request(pack, Device::Cpu, objects) }
}

fn step(runner: &mut dyn Runner, t: u32, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError> {
    let rgb = frame(SIZE.0, SIZE.1, t);
    runner.step(Frame { width: SIZE.0, height: SIZE.1, rgb: &rgb }, prompts)
}

/// Objects of every kind of prompt start on frame 0, one more on frame 1.
fn starts(t: u32) -> Vec<Prompt> {
    let disc = Mask::from_fn(SIZE.0, SIZE.1, |x, y| (x as f32 - 60.0).hypot(y as f32 - 50.0) < 18.0);
    match t {
        0 => vec![click(1, 60.0, 50.0), Prompt { object: 2, shape: PromptShape::Mask(disc) }],
        1 => vec![Prompt { object: 3, shape: PromptShape::Bbox([44.0, 32.0, 80.0, 68.0]) }],
        _ => Vec::new(),
    }
}

fn sequence(runner: &mut dyn Runner) -> Vec<Vec<ObjectMask>> {
    runner.reset();
    (0..3).map(|t| step(runner, t, &starts(t)).unwrap().objects).collect()
}

/// The same objects, the same masks but for a few pixels at the rim, the same scores but for the last digits.
fn same(a: &[Vec<ObjectMask>], b: &[Vec<ObjectMask>], what: &str) {
    for (t, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!(a.len(), b.len(), "{what}, frame {t}");
        for (a, b) in a.iter().zip(b) {
            assert_eq!((a.object, a.finite), (b.object, true), "{what}, frame {t}");
            let differing: u32 = a.mask.words().iter().zip(b.mask.words()).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert!(differing <= SIZE.0 * SIZE.1 / 1000, "{what}, frame {t}, object {}: {differing} pixels", a.object);
            assert!((a.object_score - b.object_score).abs() < 1e-2, "{what}, frame {t}: {a:?} {b:?}");
        }
    }
}

#[test]
fn the_device_reproduces_pytorch() {
    on_device("the_device_reproduces_pytorch", |dir| {
        // The clip of two objects.
        let one = with_golden(dir, |index| drop(index["clips"].as_array_mut().unwrap().drain(..2)));
        let report = verify_first(&request(one.path(), GPU, "batch"), 3).unwrap();
        // Three frames are few: what they show must agree.
        assert!(report.failures.is_empty(), "{}: {:#?}", dir.display(), report.failures);
        assert!(report.tracks.len() == 6 && report.tracks.iter().all(|t| t.frames == 3), "{:?}", report.tracks);
        assert_eq!(report.device, "webgpu:0");
        // The comparison can fail: against a reference of other scores it does.
        let wrong = with_golden(dir, |index| {
            let clips = index["clips"].as_array_mut().unwrap();
            clips.truncate(1);
            clips[0]["tracks"].as_array_mut().unwrap().truncate(1);
            clips[0]["tracks"][0]["object_score"][0] = 77.0.into();
        });
        let report = verify_first(&request(wrong.path(), GPU, "batch"), 1).unwrap();
        assert!(!report.passes() && report.failures[0].contains("object_score"), "{:?}", report.failures);
    });
}

#[test]
fn objects_together_one_by_one_and_late_get_the_masks_of_the_cpu() {
    on_device("objects_together_one_by_one_and_late_get_the_masks_of_the_cpu", |dir| {
        let mut cpu = packs::open(&on_cpu(dir, "batch")).unwrap();
        let expected = sequence(cpu.as_mut());
        assert_eq!(expected[2].len(), 3);
        for objects in ["batch", "loop"] {
            let mut runner = packs::open(&request(dir, GPU, objects)).unwrap();
            let found = sequence(runner.as_mut());
            same(&found, &expected, &format!("{}, objects={objects}", dir.display()));
            if objects == "batch" {
                // Compared as text: a bypassed decoder's IoU is NaN, which equals nothing.
                let again = format!("{:?}", sequence(runner.as_mut()));
                assert_eq!(again, format!("{found:?}"), "after a reset the same frames give the same masks");
            }
        }
    });
}

#[test]
fn the_next_frame_is_made_ready_beside_this_one() {
    on_device("the_next_frame_is_made_ready_beside_this_one", |dir| {
        let mut plain = packs::open(&request(dir, GPU, "batch")).unwrap();
        assert!(!plain.works_ahead());
        let expected = format!("{:?}", sequence(plain.as_mut()));
        drop(plain);
        let mut asked = request(dir, GPU, "batch");
        asked.options.extra.insert("pipeline".into(), "on".into());
        let mut runner = packs::open(&asked).unwrap();
        let notes = &runner.open_report().notes;
        assert!(notes.iter().any(|note| note == "pipeline: the next frame is resized beside this one"), "{notes:?}");
        let frames: Vec<Vec<u8>> = (0..4).map(|t| frame(SIZE.0, SIZE.1, t)).collect();
        let view = |t: usize| Frame { width: SIZE.0, height: SIZE.1, rgb: &frames[t] };
        // The last frame has none behind it; after a reset the first is filled in its turn.
        for round in 0..2 {
            runner.reset();
            let step =
                |t: usize| runner.step_ahead(view(t), &starts(t as u32), (t < 2).then(|| view(t + 1))).unwrap().objects;
            let found: Vec<_> = (0..3).map(step).collect();
            assert_eq!(format!("{found:?}"), expected, "{}, round {round}", dir.display());
        }
        runner.step_ahead(view(2), &[], Some(view(3))).unwrap();
        let error = runner.step(view(2), &[]).unwrap_err();
        assert!(error.to_string().contains("not the frame that was announced"), "{error}");
    });
}

#[test]
fn a_stage_has_its_own_time() {
    on_device("a_stage_has_its_own_time", |dir| {
        let mut runner = packs::open(&request(dir, GPU, "batch")).unwrap();
        let mut share = |t: u32, prompts: &[Prompt]| {
            step(runner.as_mut(), t, prompts).unwrap();
            let times = runner.take_stage_times();
            let all: f64 = times.iter().map(|(_, time)| time.as_secs_f64()).sum();
            let of = |stage| times.iter().find(|(s, _)| *s == stage).map_or(0.0, |(_, time)| time.as_secs_f64() / all);
            [of(Stage::ImageEncoder), of(Stage::MemoryAttention), of(Stage::MemoryEncoder)]
        };
        share(0, &[click(1, 60.0, 50.0)]);
        share(1, &[]); // kernels are compiled when they are first needed
        // A session that does not wait leaves its kernels' time to whoever reads a result: these three have none to read.
        let shares = share(2, &[]);
        assert!(shares.iter().all(|share| *share > 0.03), "{}: {shares:?}", dir.display());
    });
}

#[test]
fn what_goes_up_and_down_is_known_by_name() {
    on_device("what_goes_up_and_down_is_known_by_name", |dir| {
        let place = tempfile::tempdir().unwrap();
        let mut frames = (0..3).map(|t| Ok((SIZE.0, SIZE.1, frame(SIZE.0, SIZE.1, t))));
        // A gated memory, which is chosen on the device: nothing of it comes down.
        let mut gated = request(dir, GPU, "batch");
        gated.options.extra.insert("memory".into(), "gated".into());
        let Audit { placements, memcpy, copies, frames } =
            audit(&gated, &mut frames, &[click(1, 60.0, 50.0)], place.path()).unwrap();
        assert_eq!((frames, memcpy), (3, Vec::new()), "ONNX Runtime copies nothing inside a graph");
        let elsewhere: Vec<_> = placements.iter().filter(|p| p.provider != "WebGpuExecutionProvider").collect();
        assert!(elsewhere.is_empty() && placements.len() >= 4, "{elsewhere:?}");
        let mut names: Vec<_> = copies.iter().filter(|c| !c.prompted).map(|c| (c.tensor, c.to_host)).collect();
        names.sort_unstable();
        names.dedup();
        let expected = [("image", false), ("low_res_mask", true), ("report", true)];
        assert_eq!(names, expected, "frame up; mask, and what is checked of score and pointer, down");
        // The largest: the frame up, the mask down. All else is small.
        let rest: u64 = copies.iter().filter(|c| !["image", "low_res_mask"].contains(&c.tensor)).map(|c| c.bytes).sum();
        assert!(rest < 1024, "{rest} bytes");
    });
}

#[test]
fn rows_of_a_detector_that_are_picked_on_the_device_are_those_of_the_host() {
    let name = "rows_of_a_detector_that_are_picked_on_the_device_are_those_of_the_host";
    let _held = match device_packs() {
        Ok((held, _)) => held,
        Err(reason) => return skipped(&format!("{name}: {reason}")),
    };
    let detector = |(dir, info): (PathBuf, Result<packs::PackInfo, RunnerError>)| info.ok()?.detects.then_some(dir);
    let Some(dir) = packs::list(&roots(), GPU).into_iter().find_map(detector) else {
        return skipped(&format!("{name}: no detector in {:?}", roots()));
    };
    let rgb = frame(SIZE.0, SIZE.1, 0);
    // What is seen of the frame, and what came down for it.
    let look = |keep: Option<Keep>| {
        let profile = tempfile::tempdir().unwrap();
        let mut detector = Detector::open(&dir, &request(&dir, GPU, "batch"), keep, Some(profile.path())).unwrap();
        let (mut found, mut down) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            detector.detect(Frame { width: SIZE.0, height: SIZE.1, rgb: &rgb }, &mut found).unwrap();
            down = detector.copies().iter().filter(|c| c.to_host).map(|c| (c.tensor, c.bytes)).collect();
        }
        assert_eq!(down.split_at(down.len() / 2).0, down.split_at(down.len() / 2).1);
        down.truncate(down.len() / 2);
        (found, down, detector.end_profiles().unwrap().len())
    };
    let (all, raw, graphs) = look(None);
    let classes = raw[0].1 / 4 / all.len() as u64;
    let row = if classes > 1 { 7 } else { 6 };
    assert_eq!((raw[0].0, raw[1], graphs), ("logits", ("pred_boxes", 16 * all.len() as u64), 1));
    let mut scores: Vec<f64> = all.iter().map(|d| d.score).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    // As if the sixth or one of those behind it were the last that counts: with twenty rows all of them come down, with four they cannot.
    let last = (5..19).find(|&n| scores[n] > scores[n + 1] + 1e-5 && scores[n] > scores[19] + 1e-5).unwrap();
    let counted = |all: &[Detection]| all.iter().filter(|d| d.score >= scores[last]).copied().collect::<Vec<_>>();
    for rows in [20, 4] {
        let (picked, down, graphs) = look(Some(Keep { score: scores[last], rows }));
        let kept = ("kept_detections", 4 * (rows as u64 * row + 1));
        let expected = if rows == 20 { vec![kept] } else { [&[kept], &raw[..]].concat() };
        assert_eq!((down, graphs), (expected, 3));
        assert_eq!(picked.len(), if rows == 20 { 20 } else { all.len() });
        assert_eq!(counted(&picked), counted(&all), "{rows} rows");
    }
}

#[test]
fn a_device_without_room_says_so_and_goes_on_with_less() {
    on_device("a_device_without_room_says_so_and_goes_on_with_less", |dir| {
        let mut runner = packs::open(&request(dir, GPU, "batch")).unwrap();
        let expected = sequence(runner.as_mut());
        runner.reset();
        step(runner.as_mut(), 0, &starts(0)).unwrap();
        // The memory bank of this many objects, 7 frames of 16 places of 64 channels at the least, is above what a buffer may be.
        let largest = webgpu::vulkan_devices().unwrap()[0].largest_buffer;
        let many = u32::try_from(largest / (7 * 16 * 64 * 4)).unwrap() + 10;
        let crowd: Vec<Prompt> = (10..10 + many).map(|object| click(object, 60.0, 50.0)).collect();
        let error = step(runner.as_mut(), 1, &crowd).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, RunnerError::Environment(_)) && text.contains("cannot allocate"), "{text}");
        // The frame stopped half-way: no mask of this sequence may be given any more.
        let error = step(runner.as_mut(), 2, &[]).unwrap_err();
        assert!(error.to_string().contains("reset the runner first"), "{error}");
        same(&sequence(runner.as_mut()), &expected, "after the failure");
    });
}

#[test]
fn what_webgpu_cannot_do_is_refused() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/packs/edgetam_mini");
    let refusal = |request: OpenRequest| match packs::open(&request) {
        Err(RunnerError::Usage(text)) => text,
        other => panic!("{:?}", other.err()),
    };
    let text = refusal(OpenRequest { dtype: Dtype::Bf16, ..request(&dir, GPU, "batch") });
    assert!(text.contains("no bf16") && text.contains("--dtype fp32"), "{text}");
    let text = refusal(request(&dir, Device::WebGpu(1), "batch"));
    assert!(text.contains("webgpu:1") && text.contains("webgpu_power"), "{text}");
}
