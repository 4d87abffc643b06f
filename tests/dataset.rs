//! Datasets as users have them: every layout written, opened, read, scored and written again; and what is broken named.

use std::path::Path;

use jetbench::dataset::{
    Dataset, FrameReader, Layout, MaskWriter, OpenOptions, SynthOptions, check, read_frame, synthesise,
};
use jetbench::score::panoptic::{self, PanopticOptions};
use jetbench::score::{ScoreOptions, score};
use jetbench_runners::types::Mask;

fn synth(dir: &Path, layout: Layout) -> SynthOptions {
    let options = SynthOptions {
        out: dir.join("data"),
        layout,
        videos: 2,
        objects: 3,
        frames: 13,
        width: 96,
        height: 64,
        seed: 7,
        predictions: Some(dir.join("pred")),
        with_frames: true,
    };
    synthesise(&options, &|_, _| ()).unwrap();
    options
}

#[test]
fn every_layout_is_written_detected_read_scored_and_written_back_the_same() {
    for layout in Layout::ALL {
        let dir = tempfile::tempdir().unwrap();
        let options = synth(dir.path(), layout);
        let data = Dataset::open(&options.out).unwrap();
        assert_eq!(data.kind, layout);
        assert_eq!(data.sequences.len(), 2, "{layout}");
        let again = dir.path().join("again");
        for sequence in &data.sequences {
            assert_eq!(sequence.frames.len(), 13, "{layout}");
            let objects = if layout == Layout::Davis2016 { 1 } else { 3 };
            assert_eq!(sequence.objects.len(), objects, "{layout}");
            let decoded: Vec<_> = sequence.reader(2).collect::<Result<_, _>>().unwrap();
            assert_eq!(decoded.iter().map(|d| d.index).collect::<Vec<_>>(), (0..13).collect::<Vec<_>>());
            assert!(decoded.iter().all(|d| (d.frame.width, d.frame.height) == (96, 64)));
            for object in &sequence.objects {
                assert_eq!(object.annotated.len(), if layout == Layout::SaV { 4 } else { 13 }, "{layout}");
                let first =
                    *object.annotated.iter().find(|&&f| !sequence.truth(object, f).unwrap().is_empty()).unwrap();
                assert_eq!(object.prompt_frame, first);
            }
            let writer = MaskWriter::new(&again, layout, sequence).unwrap();
            for &frame in &sequence.objects[0].annotated {
                let masks = sequence.truths(&sequence.objects, frame).unwrap();
                let masks: Vec<Option<&Mask>> = masks.iter().map(Some).collect();
                writer.write(&sequence.frames[frame].name, &masks).unwrap();
            }
        }
        // Late objects exist: the third comes in after a third of the video.
        if !matches!(layout, Layout::Davis2016 | Layout::Davis2017) {
            assert!(data.sequences[0].objects[2].prompt_frame >= 4, "{layout}");
        }
        let truth = &options.out;
        if layout == Layout::Vipseg {
            let options = PanopticOptions { truth: truth.clone(), pred: dir.path().join("pred") };
            let report = panoptic::score(&options).unwrap();
            let (vpq, stq) = (report.vpq, report.stq);
            let imperfect = |share: Option<f64>| share > Some(0.3) && share < Some(0.999);
            assert!(imperfect(vpq.things) && imperfect(vpq.stuff) && imperfect(stq.stq), "{vpq:?} {stq:?}");
            continue;
        }
        let report = score(&ScoreOptions::new(truth, &again), &|_, _| ()).unwrap();
        assert_eq!(report.global.jf, report.scale, "{layout}: masks written and read again are not the same");
        let report = score(&ScoreOptions::new(truth, dir.path().join("pred")), &|_, _| ()).unwrap();
        assert!(
            report.global.jf < report.scale && report.global.jf > 0.3 * report.scale,
            "{layout}: {:?}",
            report.global
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_files() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    synth(a.path(), Layout::SaV);
    synth(b.path(), Layout::SaV);
    let mut compared = 0;
    let mut stack = vec![a.path().to_path_buf()];
    while let Some(dir) = stack.pop() {
        for entry in dir.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
            } else {
                let other = b.path().join(path.strip_prefix(a.path()).unwrap());
                assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(other).unwrap(), "{}", path.display());
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 2 * (13 + 3 * 4 + 3 * 13) + 1);
}

#[test]
fn limits_cut_videos_objects_and_frames() {
    let dir = tempfile::tempdir().unwrap();
    let options = synth(dir.path(), Layout::Davis2017);
    let mut data = Dataset::open(&options.out).unwrap();
    data.limit(Some(1), Some(2), Some(5)).unwrap();
    assert_eq!((data.sequences.len(), data.object_count(), data.frame_count()), (1, 2, 5));
    assert!(data.sequences[0].objects.iter().all(|o| o.annotated == [0, 1, 2, 3, 4]));
    let error = data.limit(Some(0), None, None).unwrap_err().to_string();
    assert!(error.contains("videos 0"), "{error}");
    let one = Dataset::open_with(&options.out, &OpenOptions { videos: Some(1), ..OpenOptions::default() }).unwrap();
    assert_eq!(one.sequences.len(), 1);
}

#[test]
fn broken_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = synth(dir.path(), Layout::SaV);
    let frame = options.out.join("JPEGImages_24fps/synth_000/00003.png");
    let bytes = std::fs::read(&frame).unwrap();
    std::fs::write(&frame, &bytes[..bytes.len() / 2]).unwrap();
    let data = Dataset::open(&options.out).unwrap();
    let results: Vec<_> = data.sequences[0].reader(4).collect();
    assert_eq!(results.len(), 4, "reading stops at the fault");
    let error = results[3].as_ref().unwrap_err().to_string();
    assert!(error.contains("00003.png") && error.contains("truncated"), "{error}");

    // An annotation of another size.
    let small = tempfile::tempdir().unwrap();
    synthesise(
        &SynthOptions { out: small.path().join("d"), width: 48, height: 32, frames: 13, ..SynthOptions::default() },
        &|_, _| (),
    )
    .unwrap();
    let mask = options.out.join("Annotations_6fps/synth_001/000/00000.png");
    std::fs::copy(small.path().join("d/Annotations_6fps/synth_001/000/00000.png"), &mask).unwrap();
    let error = Dataset::open(&options.out).unwrap_err().to_string();
    assert!(error.contains("000/00000.png") && error.contains("48x32") && error.contains("96x64"), "{error}");
}

#[test]
fn a_wrong_root_says_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let error = Dataset::open(&dir.path().join("nothing")).unwrap_err().to_string();
    assert!(error.contains("no such directory"), "{error}");
    std::fs::create_dir_all(dir.path().join("val/JPEGImages")).unwrap();
    let error = Dataset::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("JPEGImages_24fps") && error.contains("did you mean") && error.contains("val"), "{error}");
}

#[test]
fn jpeg_frames_are_read_and_truncation_is_an_error_at_every_length() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/jpeg/grad_37x29.jpg");
    let frame = read_frame(&path).unwrap();
    assert_eq!((frame.width, frame.height, frame.rgb.len()), (37, 29, 37 * 29 * 3));
    let bytes = std::fs::read(&path).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.jpg");
    for length in (0..bytes.len() - 1).step_by(7) {
        std::fs::write(&cut, &bytes[..length]).unwrap();
        let error = read_frame(&cut).unwrap_err().to_string();
        assert!(error.contains("cut.jpg"), "{error}");
    }
}

#[test]
fn dropping_a_reader_early_stops_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let options = synth(dir.path(), Layout::Mose);
    let data = Dataset::open(&options.out).unwrap();
    let mut reader = FrameReader::new(&data.sequences[0].frames, 1);
    assert_eq!(reader.next().unwrap().unwrap().index, 0);
    drop(reader);
}

/// MOSE v2 has a description file too, and LVOS has had several names for its own.
#[test]
fn datasets_are_told_by_what_their_description_says() {
    let dir = tempfile::tempdir().unwrap();
    let options = synth(dir.path(), Layout::Mose);
    let objects = |of: &str| format!("{{\"videos\": {{\"v\": {{\"objects\": {{\"1\": {{{of}}}}}, \"length\": 9}}}}}}");
    let youtube =
        "{\"videos\": {\"v\": {\"objects\": {\"1\": {\"category\": \"cat\", \"frames\": [\"00000\"]}}}}}".to_string();
    let lvos =
        "{\"videos\": {\"v\": {\"objects\": {\"1\": {\"frame_range\": {\"start\": \"00000001\"}}}}}}".to_string();
    for (file, text, layout) in [
        ("meta.json", &objects(""), Layout::Mose),
        ("meta_valid.json", &objects(""), Layout::Mose),
        ("meta.json", &youtube, Layout::YoutubeVos),
        ("meta.json", &lvos, Layout::Lvos),
        ("val_meta.json", &lvos, Layout::Lvos),
        ("notes.json", &lvos, Layout::Mose),
    ] {
        std::fs::write(options.out.join(file), text).unwrap();
        assert_eq!(Dataset::open(&options.out).unwrap().kind, layout, "{file}: {text}");
        let report = score(&ScoreOptions::new(&options.out, dir.path().join("pred")), &|_, _| ()).unwrap();
        assert_eq!(report.layout, Some(layout), "score: {file}: {text}");
        std::fs::remove_file(options.out.join(file)).unwrap();
    }
    // The splits of a download: the one to open is named.
    std::fs::create_dir_all(dir.path().join("lvos/val")).unwrap();
    std::fs::rename(options.out.join("JPEGImages"), dir.path().join("lvos/val/JPEGImages")).unwrap();
    let error = Dataset::open(&dir.path().join("lvos")).unwrap_err().to_string();
    assert!(error.contains("did you mean") && error.contains("lvos/val"), "{error}");
}

#[test]
fn check_finds_nothing_wrong_with_drawn_data() {
    for layout in Layout::ALL {
        let dir = tempfile::tempdir().unwrap();
        let options = synth(dir.path(), layout);
        let report = check(&options.out, &OpenOptions::default(), &|_, _| ()).unwrap();
        assert_eq!((report.layout, report.videos, report.frames), (layout, 2, 26));
        let late = "the first annotation is empty";
        let others: Vec<_> = report.findings.iter().filter(|f| !f.what.contains(late)).collect();
        assert!(report.passed() && others.is_empty(), "{layout}: {others:?}");
    }
}

#[test]
fn check_names_everything_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let options = synth(dir.path(), Layout::SaV);
    let frames = options.out.join("JPEGImages_24fps/synth_000");
    let masks = options.out.join("Annotations_6fps/synth_000");
    std::fs::remove_file(frames.join("00004.png")).unwrap();
    std::fs::write(frames.join("00007.png"), b"not a frame").unwrap();
    std::fs::write(masks.join("notes.txt"), b"x").unwrap();
    std::fs::create_dir(masks.join("1")).unwrap();
    std::fs::copy(masks.join("000/00000.png"), masks.join("1/00000.png")).unwrap();
    std::fs::remove_file(masks.join("000/00008.png")).unwrap();
    std::fs::create_dir_all(options.out.join("Annotations_6fps/nobody/000")).unwrap();
    let report = check(&options.out, &OpenOptions::default(), &|_, _| ()).unwrap();
    assert!(!report.passed());
    for (place, what) in [
        ("000/00004.png", "no frame 00004"),
        ("00007.png", "neither JPEG nor PNG"),
        ("notes.txt", "move it away"),
        ("synth_000", "objects 001 and 1 have the same number"),
        ("synth_000", "after 00003 comes 5"),
        ("synth_000/1", "1 annotated frame:"),
        ("nobody", "without frames"),
    ] {
        let there = report.findings.iter().any(|f| f.place.contains(place) && f.what.contains(what));
        assert!(there, "{place}: {what} is not in {:#?}", report.findings);
    }
}
