use super::crop::{Crop, square};
use super::slots::{Kept, MOST, Slots};
use super::vectors::{Vectors, best, unit};
use crate::frame::{Preprocess, Rows};
use crate::manifest::{Colour, InputSpec, ResizeFilter};
use crate::types::{Frame, Mask};

const FILL: [u8; 3] = [9, 8, 7];

/// Pixel (x, y) is (x, y, 1).
fn picture(width: u32, height: u32) -> Vec<u8> {
    (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 1])).collect()
}

fn crop_of(width: u32, height: u32, [x0, y0, x1, y1]: [u32; 4]) -> (u32, Vec<u8>) {
    let rgb = picture(width, height);
    let mask = Mask::from_fn(width, height, |x, y| (x0..x1).contains(&x) && (y0..y1).contains(&y));
    let mut lines = [vec![5; 7], Vec::new()];
    let crop = square(Frame { width, height, rgb: &rgb }, &mask, FILL, &mut lines).unwrap();
    let side = crop.size()[0];
    let pixels = whole(crop);
    assert_eq!(pixels.len(), 3 * side * side);
    (side as u32, pixels)
}

/// All pixels of a crop.
fn whole(mut crop: Crop<'_>) -> Vec<u8> {
    let rows = crop.size()[1];
    (0..rows).flat_map(|row| crop.pair([0, row])[1].to_vec()).collect()
}

#[test]
fn a_crop_is_a_grown_square_with_the_mean_colour_outside_the_frame() {
    // 20 x 10 at (30, 20): 24 wide, centre (40, 25).
    let (side, crop) = crop_of(100, 80, [30, 20, 50, 30]);
    let at = |x: u32, y: u32| &crop[3 * (y * side + x) as usize..][..3];
    assert_eq!((side, at(0, 0), at(23, 23)), (24, &[28, 13, 1][..], &[51, 36, 1][..]));
    // In the corner: what is left and above does not exist, and the side is rounded up.
    let (side, crop) = crop_of(100, 80, [0, 0, 6, 3]);
    let at = |x: u32, y: u32| &crop[3 * (y * side + x) as usize..][..3];
    // 8 wide: from -1 on, and from (3 - 8) / 2 = -3 on.
    assert_eq!(
        (side, at(0, 4), at(4, 2), at(1, 3), at(7, 7)),
        (8, &FILL[..], &FILL[..], &[0, 0, 1][..], &[6, 4, 1][..])
    );
    // Beyond the other edge, and wider than the frame.
    let (side, crop) = crop_of(10, 4, [0, 0, 10, 4]);
    assert_eq!((side, &crop[..3], crop.chunks(3).filter(|p| **p != FILL).count()), (12, &FILL[..], 40));
    let rgb = picture(4, 4);
    let frame = Frame { width: 4, height: 4, rgb: &rgb };
    assert!(square(frame, &Mask::empty(4, 4), FILL, &mut Default::default()).is_none());
}

/// As a whole the crop of this frame would have 1.1 GiB.
#[test]
fn a_crop_of_a_long_and_narrow_frame_is_resized_without_being_made() {
    let input = InputSpec {
        size: 32,
        fit: None,
        resize: ResizeFilter::BicubicAntialiasU8,
        colour: Colour::Rgb,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let mut preprocess = Preprocess::new(&input);
    let mut resized = |width: u32, height: u32, at_once: bool| {
        let rgb = picture(width, height);
        let mask = Mask::from_fn(width, height, |_, _| true);
        let mut lines = Default::default();
        let crop = square(Frame { width, height, rgb: &rgb }, &mask, FILL, &mut lines).unwrap();
        let side = crop.size()[0] as u32;
        if at_once {
            let pixels = whole(crop);
            return preprocess.resize(Frame { width: side, height: side, rgb: &pixels }).unwrap();
        }
        let resized = preprocess.resized(crop);
        assert!(lines.iter().all(|line| line.capacity() < 8 * side as usize));
        resized
    };
    for (width, height) in [(200, 3), (3, 200), (90, 70)] {
        assert_eq!(resized(width, height, false), resized(width, height, true), "{width}x{height}");
    }
    assert_eq!(resized(16_384, 1, false).len(), 3 * 32 * 32);
}

/// Steps kept of a track whose mask has these areas, from step 5 on.
fn kept(areas: impl Iterator<Item = u64>) -> Vec<u32> {
    let mut slots = Slots::new(5);
    for (step, area) in (5..).zip(areas) {
        if slots.wants(step, area) {
            slots.keep(Kept { step, area, pixels: Vec::new() });
        }
    }
    slots.within(0..u32::MAX).map(|kept| kept.step).collect()
}

#[test]
fn frames_are_the_largest_of_spans_over_the_whole_life() {
    assert_eq!(kept([3, 2, 1].into_iter()), [5, 6, 7], "a short life is seen whole");
    assert_eq!(kept([0, 2, 0].into_iter()), [6], "an empty mask shows nothing");
    // 16 frames in 8 spans of 2: the second of each is the larger.
    assert_eq!(kept((0..16).map(|i| 10 + i % 2)), [6, 8, 10, 12, 14, 16, 18, 20]);
    // 1,000 frames: spans of 128 steps; the peak is kept, and no more than 8 are.
    let long = kept((0..1000).map(|i| if i == 700 { 99 } else { 10 }));
    assert!(long.contains(&705) && long.len() == MOST && long[0] == 5 && long[7] >= 5 + 7 * 128, "{long:?}");
    let mut slots = Slots::new(0);
    (0..4).for_each(|step| slots.keep(Kept { step, area: 1, pixels: Vec::new() }));
    assert_eq!(slots.within(1..3).map(|kept| kept.step).collect::<Vec<_>>(), [1, 2], "frames that are not the track's");
}

#[test]
fn the_best_class_is_the_first_of_the_largest() {
    let [one, two] = best(&[0.2, 0.4, 0.4]);
    assert_eq!((one.unwrap().label, two.unwrap().label), (1, 2));
    assert_eq!(best(&[]), [None, None]);
    assert_eq!(best(&[1.0])[1], None);
}

/// A manifest of a label pack whose vectors are those of `bytes`; its graph does not exist.
fn pack(
    dir: &std::path::Path,
    bytes: &[u8],
    activation: &str,
    edit: impl Fn(String) -> String,
) -> Result<Vectors, String> {
    let digest = crate::digest::sha256_hex(bytes);
    let text = format!(
        "schema = 1\nid = \"t\"\nfamily = \"clip_labels\"\ndescription = \"\"\nlicence = \"\"\n[provenance]\ncheckpoint_sha256 = \"\"\n\
         exporter = \"\"\ncommand = \"\"\n[input]\nsize = 32\nresize = \"bicubic_antialias_u8\"\ncolour = \"rgb\"\nmean = [0, 0, 0]\n\
         std = [1, 1, 1]\n[labels]\nembeddings = \"v.safetensors\"\nsha256 = \"{digest}\"\nclasses = [\"ball\", \"box\"]\n\
         activation = \"{activation}\"\npooling = \"eot\"\nprompts = []\n[[graph]]\nname = \"vision\"\nfiles = {{ fp32 = \"v.onnx\" }}\n\
         sha256 = {{ fp32 = \"{digest}\" }}\n\
         inputs = [{{ name = \"pixel_values\", dtype = \"f32\", shape = [1, 3, 32, 32] }}]\n\
         outputs = [{{ name = \"pooler_output\", dtype = \"f32\", shape = [1, 2] }}]\n"
    );
    std::fs::write(dir.join("pack.toml"), edit(text)).unwrap();
    std::fs::write(dir.join("v.safetensors"), bytes).unwrap();
    let pack = crate::pack::Pack::read(dir).map_err(|e| e.to_string())?;
    let found = super::contract::signature(&pack).map_err(|e| e.to_string())?;
    assert_eq!((found.output, found.size, found.width, found.fixed), ("pooler_output", 32, 2, true));
    Vectors::read(&pack, found.width).map_err(|e| e.to_string())
}

/// A file of vectors with these tensors.
fn tensors(all: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        all.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = all.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (*name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn vectors_that_cannot_name_anything_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let same = |text: String| text;
    let scale: (&str, &[usize], &[f32]) = ("logit_scale", &[1], &[2.0]);
    let rows = |values: &'static [f32]| tensors(&[("text_embeds", &[values.len() / 2, 2], values), scale]);
    let good = rows(&[1.0, 0.0, 0.0, 1.0]);
    let refused = |bytes: &[u8], activation: &str, parts: &[&str]| {
        let fault = pack(dir.path(), bytes, activation, same).map(drop).unwrap_err();
        assert!(parts.iter().all(|part| fault.contains(part)), "{parts:?}: {fault}");
    };
    pack(dir.path(), &good, "softmax", same).unwrap();
    refused(&good, "sigmoid", &["v.safetensors", "`logit_bias` is missing"]);
    refused(b"{}", "softmax", &["no safetensors file"]);
    refused(&rows(&[1.0, 0.0]), "softmax", &["`text_embeds`", "[2, 2] expected", "[1, 2]"]);
    refused(&rows(&[1.0, 0.0, f32::NAN, 1.0]), "softmax", &["`text_embeds`: value 2 is no number"]);
    refused(&rows(&[1.0, 0.0, 0.0, 2.0]), "softmax", &["class \"box\" has length 2.0000"]);
    refused(&rows(&[1.0, 0.0, 0.999_95, 0.01]), "softmax", &["\"ball\"", "\"box\"", "one vector", "--pooling eot"]);
    refused(
        &tensors(&[("text_embeds", &[2, 2], &[1.0, 0.0, 0.0, 1.0]), ("logit_scale", &[1], &[100.0])]),
        "softmax",
        &["logit_scale = 100", "a logarithm"],
    );
    for (from, to, part) in [
        ("[\"ball\", \"box\"]", "[\"ball\", \"ball\"]", "\"ball\" stands twice"),
        ("\"v.safetensors\"", "\"../v\"", "labels.embeddings"),
        ("safetensors\"\nsha256 = \"", "safetensors\"\nsha256 = \"0", "SHA-256 is"),
        ("[labels]", "[prompts]\nkinds = [\"mask\"]\npoint_slots = 2\n[labels]", "a label pack takes none"),
        ("\"pooler_output\"", "\"text_embeds\"", "output image_embeds or pooler_output expected"),
    ] {
        let fault = pack(dir.path(), &good, "softmax", |text| text.replacen(from, to, 1)).map(drop).unwrap_err();
        assert!(fault.contains(part), "{part}: {fault}");
    }
}

#[test]
fn probabilities_are_those_of_scaled_cosines() {
    let dir = tempfile::tempdir().unwrap();
    let all = [
        ("text_embeds", &[2, 2][..], &[1.0, 0.0, 0.6, 0.8][..]),
        ("logit_scale", &[1], &[2.0]),
        ("logit_bias", &[1], &[-1.0]),
    ];
    let bytes = tensors(&all);
    let softmax = pack(dir.path(), &bytes, "softmax", |text| text).unwrap();
    // Of any length: only the direction counts.
    let found = softmax.probabilities(&[0.0, 5.0]).unwrap();
    let (scale, box_) = (2f64.exp(), f64::from(0.8f32));
    assert!((found[1] - 1.0 / (1.0 + (-scale * box_).exp())).abs() < 1e-9 && (found[0] + found[1] - 1.0).abs() < 1e-12);
    let sigmoid = pack(dir.path(), &bytes, "sigmoid", |text| text).unwrap();
    let found = sigmoid.probabilities(&[0.0, 5.0]).unwrap();
    assert!((found[0] - 1.0 / (1.0 + 1f64.exp())).abs() < 1e-9, "each class by itself: {found:?}");
    assert_eq!(sigmoid.probabilities(&[0.0, 0.0]), None);
    assert_eq!(sigmoid.probabilities(&[f64::NAN, 1.0]), None);
    assert_eq!((unit(&[0.0, 0.0]), unit(&[f32::NAN])), (None, None));
    assert_eq!(unit(&[3.0, 4.0]), Some(vec![0.6, 0.8]));
}

/// The tracks of a video segmenter get names as those of a detector do: of the frames on which they show, after the last one.
#[test]
fn tracks_of_a_video_segmenter_get_names() {
    use crate::runner::{Runner, RunnerError};
    use crate::segment::Segmenter;
    use crate::segment::tests::{SIDE, rgb, write};
    use crate::types::{Device, Dtype, OpenRequest, Stage};
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), |text| text);
    let request = OpenRequest::new(dir.path(), Dtype::Fp32, Device::Cpu);
    let segmenter = match Segmenter::open(&request, None) {
        Ok(segmenter) => segmenter,
        Err(RunnerError::Environment(text)) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "skipped a test of labels: {text}");
            return;
        }
        Err(other) => panic!("{other}"),
    };
    let pack = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/packs/labels_mini");
    let mut runner: Box<dyn Runner> = super::open(Box::new(segmenter), &request, &pack).unwrap();
    let (pixels, dark) = (rgb(), vec![0; rgb().len()]);
    for _ in 0..2 {
        // The first query is an object on both bright frames, the second from its second frame on; on a dark one nothing is.
        for rgb in [&pixels, &pixels, &dark] {
            runner.step(Frame { width: SIDE, height: SIDE, rgb }, &[]).unwrap();
        }
        assert!(runner.take_stage_times().iter().any(|(stage, _)| stage == Stage::Labels), "crops are a stage");
        let found = runner.take_tracks().unwrap();
        let mut alive = 0;
        let labels = runner.take_labels(&mut || alive += 1).unwrap().unwrap();
        let told: Vec<_> = labels.objects.iter().map(|of| (of.object, of.crops)).collect();
        assert_eq!((told, alive, labels.left_out), (vec![(1, 2), (2, 1)], 3, 0));
        assert_eq!(found.tracks.iter().map(|track| track.id).collect::<Vec<_>>(), [1, 2]);
        let ordered = |of: &crate::types::TrackLabel| of.best.unwrap().probability >= of.second.unwrap().probability;
        assert!(labels.objects.iter().all(ordered), "{:?}", labels.objects);
        assert!(labels.time_ms > 0.0);
        runner.reset();
    }
}

/// A tower that gives no numbers fails on the first frame, and not after a whole video.
#[test]
fn a_tower_that_gives_no_numbers_is_found_on_the_first_frame() {
    use crate::digest::sha256_hex;
    use crate::onnx::{ElementType, build};
    use crate::runner::{Runner, RunnerError};
    use crate::types::{Device, Dtype, OpenRequest, Options, Prompt, PromptShape};
    let dir = tempfile::tempdir().unwrap();
    let write = |offset: f32| {
        let (floats, raw) = (ElementType::F32, |v: f32| v.to_le_bytes());
        let onnx = build::model(
            8,
            17,
            &[
                (1, build::node("GlobalAveragePool", &["pixel_values"], &["pooled"], &[])),
                (1, build::node("Add", &["pooled", "offset"], &["moved"], &[])),
                (1, build::node("Sqrt", &["moved"], &["rooted"], &[])),
                (1, build::node("Flatten", &["rooted"], &["image_embeds"], &[])),
                (5, build::initializer("offset", floats, &[1], &raw(offset))),
                (11, build::value_info("pixel_values", floats, &[1, 3, 32, 32])),
                (12, build::value_info("image_embeds", floats, &[1, 3])),
            ],
        );
        let vectors =
            tensors(&[("text_embeds", &[2, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), ("logit_scale", &[1], &[2.0])]);
        let text = format!(
            "schema = 1\nid = \"t\"\nfamily = \"clip_labels\"\ndescription = \"\"\nlicence = \"\"\n[provenance]\ncheckpoint_sha256 = \"\"\n\
             exporter = \"\"\ncommand = \"\"\n[input]\nsize = 32\nresize = \"bicubic_antialias_u8\"\ncolour = \"rgb\"\nmean = [0, 0, 0]\n\
             std = [1, 1, 1]\n[labels]\nembeddings = \"v.safetensors\"\nsha256 = \"{}\"\nclasses = [\"ball\", \"box\"]\n\
             activation = \"softmax\"\npooling = \"eot\"\nprompts = []\n[[graph]]\nname = \"vision\"\nfiles = {{ fp32 = \"v.onnx\" }}\n\
             sha256 = {{ fp32 = \"{}\" }}\n\
             inputs = [{{ name = \"pixel_values\", dtype = \"f32\", shape = [1, 3, 32, 32] }}]\n\
             outputs = [{{ name = \"image_embeds\", dtype = \"f32\", shape = [1, 3] }}]\n",
            sha256_hex(&vectors),
            sha256_hex(&onnx)
        );
        for (file, bytes) in
            [("labels/v.onnx", &onnx), ("labels/v.safetensors", &vectors), ("labels/pack.toml", &text.into_bytes())]
        {
            std::fs::create_dir_all(dir.path().join("labels")).unwrap();
            std::fs::write(dir.path().join(file), bytes).unwrap();
        }
    };
    std::fs::create_dir(dir.path().join("mock")).unwrap();
    std::fs::write(dir.path().join("mock/pack.toml"), "schema = 1\nid = \"m\"\nfamily = \"mock\"\n").unwrap();
    let request = OpenRequest {
        options: Options::default(),
        ..OpenRequest::new(dir.path().join("mock"), Dtype::Fp32, Device::Cpu)
    };
    let rgb = picture(16, 16);
    let frame = Frame { width: 16, height: 16, rgb: &rgb };
    let prompt = Prompt { object: 1, shape: PromptShape::Bbox([2.0, 2.0, 9.0, 9.0]) };
    let step = |offset: f32| {
        write(offset);
        let mut runner: Box<dyn Runner> = crate::packs::open_labelled(&request, &dir.path().join("labels"))?;
        runner.step(frame, std::slice::from_ref(&prompt)).map(drop)
    };
    match step(0.0) {
        Ok(()) => {}
        Err(RunnerError::Environment(text)) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "skipped a test of labels: {text}");
            return;
        }
        Err(other) => panic!("{other}"),
    }
    let fault = step(-1.0).unwrap_err();
    assert!(
        matches!(&fault, RunnerError::Inference(text) if text.contains("vision") && text.contains("no numbers")),
        "{fault}"
    );
}
