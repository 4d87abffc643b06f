//! What a comparison of detections must notice, and what it must refuse: on a detector drawn by hand.

use super::*;
use crate::detect::tests::{BOXES, LOGITS, can_run, request, write};
use std::io::Write as _;
use std::path::Path;

/// Values as the reference keeps them: deflated, all lowest bytes first.
fn deflated(values: &[f32]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for plane in 0..4 {
        values.iter().for_each(|v| encoder.write_all(&v.to_le_bytes()[plane..=plane]).unwrap());
    }
    encoder.finish().unwrap()
}

/// A black frame and a red one of 40 x 20 pixels.
fn png(path: &Path, red: u8) -> String {
    let rgb: Vec<u8> = [red, 0, 0].repeat(40 * 20);
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), 40, 20);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(&rgb).unwrap();
    sha256_hex(&[red, 0, 0].repeat(16 * 16))
}

/// The pack with a reference of two frames, after edits of its logits, boxes and index.
fn pack(dir: &Path, values: impl Fn(&mut [f32], &mut [f32]), index: impl Fn(&mut serde_json::Value)) -> OpenRequest {
    write(dir, ["image", "logits", "pred_boxes"], |text| {
        text + "[golden]\nindex = \"reference/index.json\"\ntolerance = 1e-4\n"
    });
    let reference = dir.join("reference");
    std::fs::create_dir_all(&reference).unwrap();
    let digests = [0, 255].map(|red| png(&reference.join(format!("{red}.png")), red));
    let mut logits = [LOGITS, LOGITS].concat();
    [6, 8, 10].iter().for_each(|i: &usize| logits[*i] += 1.0);
    let mut boxes = [BOXES, BOXES].concat();
    values(&mut logits, &mut boxes);
    let frame = |i: usize, name: &str| {
        let part = |values: &[f32]| deflated(&values[i * values.len() / 2..][..values.len() / 2]);
        std::fs::write(reference.join(format!("{i}_logits.z")), part(&logits)).unwrap();
        std::fs::write(reference.join(format!("{i}_boxes.z")), part(&boxes)).unwrap();
        serde_json::json!({"image": name, "width": 40, "height": 20, "resized_sha256": digests[i],
            "logits": {"file": format!("{i}_logits.z"), "shape": [3, 2]}, "boxes": {"file": format!("{i}_boxes.z"), "shape": [3, 4]}})
    };
    let mut json = serde_json::json!({"tolerance": 1e-4, "frames": [frame(0, "0.png"), frame(1, "255.png")]});
    index(&mut json);
    std::fs::write(reference.join("index.json"), json.to_string()).unwrap();
    request(dir)
}

fn verified(values: impl Fn(&mut [f32], &mut [f32])) -> DetectionReport {
    let dir = tempfile::tempdir().unwrap();
    verify_first(&pack(dir.path(), values, |_| {}), usize::MAX).unwrap()
}

#[test]
fn a_shifted_row_a_dropped_detection_and_a_box_off_by_a_hundredth_are_noticed() {
    if !can_run("a_shifted_row_a_dropped_detection_and_a_box_off_by_a_hundredth_are_noticed") {
        return;
    }
    let healthy = verified(|_, _| {});
    assert!(healthy.passes(), "{:?} {:?}", healthy.failures, healthy.missing);
    let Compared { frames, rows, detections, with_detections, moved, .. } = healthy.compared;
    assert_eq!((frames, rows, detections, with_detections, moved), (2, 6, 3, 2, 0));
    let swapped = verified(|logits, boxes| {
        logits[..6].rotate_left(2);
        boxes[..12].rotate_left(4);
    });
    assert!(swapped.passes() && swapped.compared.moved == 3, "{:?}", swapped.failures);
    let red = |values: fn(&mut [f32], &mut [f32]), said: &str| {
        let report = verified(values);
        assert_eq!(report.verdict, Verdict::Fail, "{said}");
        assert!(report.failures.iter().any(|text| text.contains(said)), "{said}: {:?}", report.failures);
    };
    red(|_, boxes| boxes[..12].rotate_left(4), "boxes (worst");
    red(|logits, _| logits[1] = -3.0, "too many: class 1 in row 0 of the reference");
    red(|logits, _| logits[2] = 3.0, "missing: class 0 in row 1 of the reference");
    red(|_, boxes| boxes[0] += 1e-2, "edges of detections, in shares of the image, differ by 1.000e-2");
    red(|_, boxes| boxes[9] -= 1e-2, "boxes (worst: row 2 of the reference) differ by 1.000e-2");
    red(|logits, _| logits[5] += 1.5e-3, "logits (worst: row 2 of the reference) differ by 1.50");
}

#[test]
fn a_reference_without_detections_is_weak() {
    if !can_run("a_reference_without_detections_is_weak") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let request = pack(dir.path(), |_, _| {}, |_| {});
    let report = verify_first(&request, 1).unwrap();
    assert_eq!((report.verdict, report.failures.len()), (Verdict::Weak, 0), "{:?}", report.failures);
    assert!(report.missing[0].starts_with("1 frames of the reference have a detection"), "{:?}", report.missing);
}

#[test]
fn broken_references_of_detectors_are_named() {
    let refused = |edit: fn(&mut serde_json::Value), part: &str| {
        let dir = tempfile::tempdir().unwrap();
        let request = pack(dir.path(), |_, _| {}, edit);
        let text = verify_first(&request, 2).expect_err(part).to_string();
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    };
    refused(|index| index["schema"] = 9.into(), "schema 9");
    refused(|index| index["tolerance"] = 0.01.into(), "tolerance = 1e-2: from 0 to 2e-3 expected");
    refused(|index| index["tolerance"] = (-1).into(), "tolerance = -1");
    refused(|index| index["frames"] = serde_json::json!([]), "0 frames");
    if !can_run("broken_references_of_detectors_are_named") {
        return;
    }
    refused(|index| index["frames"][1]["boxes"]["shape"][0] = 4.into(), "1_boxes.z: shape [3, 4] expected");
    refused(|index| index["frames"][0]["logits"]["file"] = "x.z".into(), "x.z");
    refused(|index| index["frames"][0]["logits"]["file"] = "/x.z".into(), "not a relative path");
    refused(|index| index["frames"][0]["boxes"]["file"] = "0_logits.z".into(), "24 bytes, 48 expected");
    refused(|index| index["frames"][0]["image"] = "no.png".into(), "no.png");
    refused(|index| index["frames"][0]["width"] = 41.into(), "41x20");
    let dir = tempfile::tempdir().unwrap();
    let request = pack(dir.path(), |logits, _| logits[3] = f32::NAN, |_| {});
    assert!(verify_first(&request, 2).unwrap_err().to_string().contains("0_logits.z: value 3 is no number"));
}

#[test]
fn a_frame_that_is_resized_otherwise_is_noticed() {
    if !can_run("a_frame_that_is_resized_otherwise_is_noticed") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let request = pack(dir.path(), |_, _| {}, |index| index["frames"][1]["resized_sha256"] = "0".into());
    let report = verify_first(&request, 2).unwrap();
    assert_eq!(report.failures, ["255.png: after resizing it differs from the reference"]);
}
