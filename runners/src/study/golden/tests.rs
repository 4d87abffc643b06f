//! What a comparison with the reference must notice, and what it must refuse. `packs.rs` shows that it passes without damage.

use super::*;
use crate::onnx::Model;
use crate::real_packs::{for_each_pack, request, with_golden};
use crate::sam::sabotage::Sabotage;

/// A copy of the pack in `dir`, with its first clip, in which the largest constant of one file is multiplied by `factor`. Its
/// digest is put right, as a foreign exporter would.
fn damaged(dir: &Path, file: &str, factor: f32) -> tempfile::TempDir {
    let copy = with_golden(dir, |index| index["clips"].as_array_mut().unwrap().truncate(1));
    let dir = dir.canonicalize().unwrap();
    let at = copy.path().join(file);
    let folder = at.parent().unwrap();
    std::fs::remove_file(folder).unwrap();
    std::fs::create_dir(folder).unwrap();
    for other in std::fs::read_dir(dir.join(file).parent().unwrap()).unwrap().flatten() {
        std::os::unix::fs::symlink(other.path(), folder.join(other.file_name())).unwrap();
    }
    let healthy = std::fs::read(dir.join(file)).unwrap();
    let mut bytes = healthy.clone();
    let model = Model::parse(&healthy).unwrap();
    // None that another form takes from this file: that form would be damaged, too.
    let form = std::fs::read(dir.join(file.replace(".onnx", ".cpu.onnx"))).unwrap_or_default();
    let lent: Vec<u64> = match Model::parse(&form) {
        Ok(form) => form.external().unwrap().iter().map(|tensor| tensor.offset).collect(),
        Err(_) => Vec::new(),
    };
    let place = |raw: &[u8]| raw.as_ptr() as u64 - healthy.as_ptr() as u64;
    let own = model.initializers.iter().filter_map(|i| i.raw_values()).filter(|raw| !lent.contains(&place(raw)));
    let values = own.max_by_key(|raw| raw.len()).unwrap();
    let start = values.as_ptr() as usize - healthy.as_ptr() as usize;
    for value in bytes[start..start + values.len()].chunks_exact_mut(4) {
        let changed = f32::from_le_bytes(value.try_into().unwrap()) * factor;
        value.copy_from_slice(&changed.to_le_bytes());
    }
    std::fs::remove_file(&at).unwrap();
    std::fs::write(&at, &bytes).unwrap();
    let manifest = std::fs::read_to_string(dir.join("pack.toml")).unwrap();
    assert!(manifest.contains(&sha256_hex(&healthy)));
    std::fs::remove_file(copy.path().join("pack.toml")).unwrap();
    let manifest = manifest.replace(&sha256_hex(&healthy), &sha256_hex(&bytes));
    std::fs::write(copy.path().join("pack.toml"), manifest).unwrap();
    copy
}

/// Form and file of every fp32 graph.
fn fp32_files(dir: &Path) -> Vec<(&'static str, String)> {
    let pack = Pack::read(dir).unwrap();
    let plain = pack.manifest.graphs.iter().map(|graph| ("plain", graph.files[&Dtype::Fp32].clone()));
    let cpu = pack.manifest.graphs.iter().filter_map(|graph| Some(("cpu", graph.cpu.as_ref()?.file.clone())));
    plain.chain(cpu).collect()
}

/// Frames of the first clip that show damage: the object is there on all of them.
const FEW: usize = 9;

#[test]
fn a_thousandth_of_the_largest_constant_of_any_graph_is_noticed() {
    for_each_pack("a_thousandth_of_the_largest_constant_of_any_graph_is_noticed", |dir| {
        let files = fp32_files(dir);
        assert!(files.len() > 5, "the forms for the CPU are among them: {files:?}");
        for (form, file) in files {
            let verdict = |factor: f32| {
                let copy = damaged(dir, &file, factor);
                let mut request = request(copy.path(), Dtype::Fp32);
                request.options.extra.insert(FORM.to_string(), form.to_string());
                let report = verify_first(&request, FEW).unwrap();
                (report.failures.clone(), report)
            };
            let (failures, report) = verdict(1.001);
            assert!(!failures.is_empty(), "{}: {file} went unnoticed: {:?}", dir.display(), report.systematic);
            if file.contains("memory_encoder") {
                let (failures, report) = verdict(1.0);
                assert_eq!(
                    failures,
                    Vec::<String>::new(),
                    "{}: {file} is healthy: {:?}",
                    dir.display(),
                    report.systematic
                );
            }
        }
    });
}

#[test]
fn every_form_of_a_graph_is_run_and_counted() {
    for_each_pack("every_form_of_a_graph_is_run_and_counted", |dir| {
        let file = "fp32/memory_attention.onnx";
        let copy = damaged(dir, file, 1.05);
        let report = verify_first(&request(copy.path(), Dtype::Fp32), FEW).unwrap();
        assert_eq!(report.verdict, Verdict::Fail, "{}: the CPU takes another file by itself", dir.display());
        assert!(report.failures.iter().all(|f| f.contains("plain form")), "{:?}", report.failures);
        let graphs = &report.compared.graphs;
        assert_eq!(graphs[MEMORY_ATTENTION], ["cpu", "plain"]);
        assert_eq!(graphs[MASK_PROMPT], ["plain"]);
        let (tracks, frames) = (report.compared.tracks, report.compared.frames);
        assert_eq!((tracks, frames, graphs.len()), (6, 6 * FEW, 5), "three kinds of prompt in two forms");
        let (with, without) = (report.compared.with_object, report.compared.without_object);
        assert_eq!((with, without), (6 * (FEW - 1), 0));
        assert!(report.compared.pixels > 0 && report.compared.logits > 0);
    });
}

#[test]
fn a_reference_that_shows_too_little_is_weak() {
    for_each_pack("a_reference_that_shows_too_little_is_weak", |dir| {
        let weak = |edit: &dyn Fn(&mut serde_json::Value), said: &str| {
            let copy = with_golden(dir, |index| {
                index["clips"].as_array_mut().unwrap().truncate(1);
                edit(index);
            });
            let report = verify_first(&request(copy.path(), Dtype::Fp32), 4).unwrap();
            assert_eq!((report.verdict, report.failures.len()), (Verdict::Weak, 0), "{:?}", report.failures);
            assert!(report.missing.iter().any(|m| m.contains(said)), "{:?} does not say {said:?}", report.missing);
        };
        weak(&|_| {}, "points: 3 tracked frames with the object, at least 4");
        weak(&only_points, "no track from a prompt of kind bbox");
    });
}

/// Keeps the point prompts: a third of the work.
fn only_points(index: &mut serde_json::Value) {
    for clip in index["clips"].as_array_mut().unwrap() {
        clip["tracks"].as_array_mut().unwrap().retain(|track| track["prompt"]["kind"] == "points");
    }
}

/// Keeps the point prompts of the first clip.
fn only_first_points(index: &mut serde_json::Value) {
    only_points(index);
    index["clips"].as_array_mut().unwrap().truncate(1);
}

#[test]
fn a_damaged_memory_is_noticed() {
    for_each_pack("a_damaged_memory_is_noticed", |dir| {
        // fp32_reproduces_pytorch shows that the same comparison passes without damage
        let copy = with_golden(dir, only_points);
        for sabotage in
            [Sabotage::NegateSlot(0), Sabotage::NegateSlot(1), Sabotage::ZeroPointer(0), Sabotage::FreezeAge]
        {
            let report =
                verify_with(&request(copy.path(), Dtype::Fp32), usize::MAX, |tracker| tracker.set_sabotage(sabotage))
                    .unwrap();
            assert!(!report.failures.is_empty(), "{}: {sabotage:?} went unnoticed: {:?}", dir.display(), report.worst);
        }
    });
}

#[test]
fn half_precisions_pass_by_limits_of_their_own_and_damage_is_noticed() {
    for_each_pack("half_precisions_pass_by_limits_of_their_own_and_damage_is_noticed", |dir| {
        let copy = with_golden(dir, only_first_points);
        for dtype in [Dtype::Fp16, Dtype::Bf16] {
            let healthy = verify(&request(copy.path(), dtype)).unwrap();
            assert!(healthy.failures.is_empty(), "{} {dtype}: {:?}", dir.display(), healthy.failures);
            for sabotage in [Sabotage::NegateSlot(0), Sabotage::NegateSlot(1), Sabotage::FreezeAge] {
                let damaged =
                    verify_with(&request(copy.path(), dtype), usize::MAX, |tracker| tracker.set_sabotage(sabotage))
                        .unwrap();
                assert!(
                    !damaged.failures.is_empty(),
                    "{} {dtype}: {sabotage:?} went unnoticed: {:?}",
                    dir.display(),
                    damaged.worst
                );
            }
        }
    });
}

/// All graphs left in fp32: pack.toml names the fp32 files for int8, too.
#[test]
fn int8_is_judged_by_the_limits_of_its_reference_and_damage_is_noticed() {
    for_each_pack("int8_is_judged_by_the_limits_of_its_reference_and_damage_is_noticed", |dir| {
        let copy = with_golden(dir, |index| {
            only_first_points(index);
            index["int8"] = serde_json::json!({"typical": 0.06, "mask_pixels": 0.001, "apart": 0.05});
        });
        let manifest = copy.path().join("pack.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let doubled: Vec<String> = text
            .lines()
            .map(|line| match line.split_once(" = { fp32 = ").filter(|(key, _)| ["files", "sha256"].contains(key)) {
                Some((_, rest)) => {
                    let value = rest.split(',').next().unwrap();
                    line.replace(" }", &format!(", int8 = {value} }}"))
                }
                None => line.to_string(),
            })
            .collect();
        std::fs::remove_file(&manifest).unwrap(); // a link to the pack's own
        std::fs::write(&manifest, doubled.join("\n")).unwrap();
        let healthy = verify_first(&request(copy.path(), Dtype::Int8), 6).unwrap();
        assert!(healthy.failures.is_empty(), "{}: {:?}", dir.display(), healthy.failures);
        assert_eq!((healthy.tolerance.typical, healthy.tolerance.iou), (0.06, 0.95));
        let request = request(copy.path(), Dtype::Int8);
        let damaged = verify_with(&request, 6, |tracker| tracker.set_sabotage(Sabotage::NegateSlot(0))).unwrap();
        assert!(!damaged.failures.is_empty(), "{}: it went unnoticed: {:?}", dir.display(), damaged.worst);
    });
}

#[test]
fn broken_golden_files_are_named() {
    for_each_pack("broken_golden_files_are_named", |dir| {
        let outcome = |edit: &dyn Fn(&mut serde_json::Value)| {
            let copy = with_golden(dir, |index| {
                only_first_points(index);
                edit(index);
            });
            verify(&request(copy.path(), Dtype::Fp32))
        };
        let refused = |edit: &dyn Fn(&mut serde_json::Value), part: &str| {
            let text = outcome(edit).expect_err(part).to_string();
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        };
        refused(&|index| index["schema"] = 9.into(), "schema 9");
        refused(
            &|index| index["tolerance"]["low_res"] = 1e9.into(),
            "tolerance.low_res = 1e9: from 0 to 2e-2 expected",
        );
        refused(&|index| index["tolerance"]["mask_pixels"] = 0.5.into(), "tolerance.mask_pixels");
        refused(&|index| index["tolerance"]["systematic"] = 1.into(), "tolerance.systematic");
        refused(&|index| index["tolerance"]["typical"] = (-1).into(), "tolerance.typical");
        let int8 =
            |typical: f64, apart: f64| serde_json::json!({"typical": typical, "mask_pixels": 0.0, "apart": apart});
        refused(&|index| index["int8"] = int8(0.6, 0.0), "int8.typical = 6e-1: from 0 to 5e-1 expected");
        refused(&|index| index["int8"] = int8(0.1, 0.5), "int8.apart");
        refused(&|index| index["quantum"] = 1.into(), "quantum");
        refused(&|index| index["clips"] = serde_json::json!([]), "nothing to verify");
        refused(&|index| index["clips"][0]["frames"] = "/".into(), "not a relative path");
        refused(&|index| index["clips"][0]["frames"] = "nowhere".into(), "nowhere/00000.png");
        refused(&|index| index["clips"][0]["width"] = 7.into(), "7x");
        refused(&|index| index["clips"][0]["tracks"][0]["low_res"]["file"] = "x.z".into(), "x.z");
        refused(&|index| index["clips"][0]["tracks"][0]["low_res"]["shape"][1] = 5.into(), "low_res.z");
        refused(&|index| index["clips"][0]["tracks"][0]["object_score"] = serde_json::json!([1.0]), "1 object scores");
        let swapped = |index: &mut serde_json::Value| {
            let track = &mut index["clips"][0]["tracks"][0];
            track["masks"]["file"] = track["obj_ptr"]["file"].clone();
        };
        refused(&swapped, "do not fit");
        let report = outcome(&|index| index["clips"][0]["resized_sha256_frame0"] = "0".into()).unwrap();
        assert!(
            report.verdict == Verdict::Fail && report.failures[0].contains("after resizing"),
            "{:?}",
            report.failures
        );
    });
}
