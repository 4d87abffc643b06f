//! J and F against the outputs of the three reference evaluators (tests/cases/jf, made by running them): every number
//! bit for bit. The README in that folder says what each file is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jetbench::dataset::LabelImage;
use jetbench::score::{BOUNDARY_THRESHOLD, FrameCounts, FrameScorer, tolerance_radius};
use jetbench_runners::types::Mask;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/jf")
}

fn rows(name: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(cases().join("expected").join(name)).unwrap();
    let headers = reader.headers().unwrap().clone();
    let row = |r: csv::StringRecord| headers.iter().zip(r.iter()).map(|(h, v)| (h.into(), v.into())).collect();
    reader.records().map(|r| row(r.unwrap())).collect()
}

fn float(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|e| panic!("{column} of {row:?}: {e}"))
}

fn integer(row: &BTreeMap<String, String>, column: &str) -> u64 {
    row[column].parse().unwrap_or_else(|e| panic!("{column} of {row:?}: {e}"))
}

/// Compares everything a row says about one pair of masks.
fn check_pair(row: &BTreeMap<String, String>, pred: &Mask, truth: &Mask, threshold: f64) {
    let (width, height) = (truth.width(), truth.height());
    assert_eq!(u64::from(width), integer(row, "width"), "{row:?}");
    assert_eq!(u64::from(height), integer(row, "height"), "{row:?}");
    assert_eq!(u64::from(tolerance_radius(width, height, threshold)), integer(row, "bound_pix"), "{row:?}");
    let counts = FrameScorer::new(width, height, threshold).counts(pred, truth);
    let wanted = FrameCounts {
        inter: integer(row, "inter"),
        union: integer(row, "union"),
        pred_area: pred.area(),
        truth_area: truth.area(),
        n_fg: integer(row, "n_fg"),
        n_gt: integer(row, "n_gt"),
        fg_match: integer(row, "fg_match"),
        gt_match: integer(row, "gt_match"),
    };
    // The references leave matches of an empty boundary at 0, as ours do.
    assert_eq!(counts, wanted, "{row:?}");
    assert_eq!(counts.j().to_bits(), float(row, "J").to_bits(), "{row:?}");
    assert_eq!(counts.f().to_bits(), float(row, "F").to_bits(), "{row:?}");
}

fn parse_mask(text: &str) -> Mask {
    let lines: Vec<&[u8]> = text.split('/').map(str::as_bytes).collect();
    Mask::from_fn(lines[0].len() as u32, lines.len() as u32, |x, y| lines[y as usize][x as usize] == b'1')
}

#[test]
fn unit_vectors() {
    let rows = rows("unit_vectors.csv");
    assert_eq!(rows.len(), 200);
    for row in &rows {
        // These tiny masks were made with radii of their own, in pixels.
        check_pair(row, &parse_mask(&row["pred"]), &parse_mask(&row["gt"]), float(row, "bound_pix"));
    }
}

#[test]
fn object_frames_of_the_sav_layout() {
    let rows = rows("per_frame_sav.csv");
    assert_eq!(rows.len(), 81);
    for row in &rows {
        let file = format!("{}/{}/{}.png", row["video"], row["obj"], row["frame"]);
        let read = |root: &str| {
            let (mask, values) = LabelImage::read(&cases().join(root).join(&file)).unwrap().foreground();
            assert!(values <= 2, "{file}");
            mask
        };
        check_pair(row, &read("sav_pred"), &read("sav/Annotations_6fps"), BOUNDARY_THRESHOLD);
    }
}

#[test]
fn object_frames_of_the_davis_layout() {
    let rows = rows("per_frame_davis.csv");
    assert_eq!(rows.len(), 81);
    for row in &rows {
        let file = format!("{}/{}.png", row["video"], row["frame"]);
        let read = |root: &str| {
            let image = LabelImage::read(&cases().join(root).join(&file)).unwrap();
            let wanted = integer(row, "obj") as u16;
            let found = image.masks().into_iter().find(|(id, _)| *id == wanted).map(|(_, m)| m);
            found.unwrap_or_else(|| Mask::empty(image.width(), image.height()))
        };
        check_pair(row, &read("davis_pred"), &read("davis/Annotations/480p"), BOUNDARY_THRESHOLD);
    }
}
