//! Data as people have it: what other programs read is read the same way, and what a run would refuse or score oddly is
//! said by `data check`, by the plan and by the run in the same words.

use std::path::Path;
use std::process::Command;

use jetbench::dataset::read_frame;
use serde_json::Value;

use crate::workshop::{Workshop, text};

/// Size of the JPEG frame of these tests.
const W: u32 = 37;
const H: u32 = 29;

/// `ImageSets/480p/val.txt` as DAVIS 2016 was published: a line per frame.
#[test]
fn davis_2016_is_scored_by_its_own_list() {
    let shop = Workshop::empty();
    let args = ["data", "synth", "d16", "--layout", "davis2016", "--videos", "2", "--frames", "9", "--size", "64x48"];
    shop.expect(0, &[&args[..], &["--predictions", "pred"]].concat());
    let names: Vec<String> = list(&shop.path("d16/JPEGImages/480p"));
    std::fs::remove_dir_all(shop.path("d16/ImageSets")).unwrap();
    std::fs::create_dir_all(shop.path("d16/ImageSets/480p")).unwrap();
    let line = |n: u32| format!("/JPEGImages/480p/{0}/{n:05}.jpg /Annotations/480p/{0}/{n:05}.png\n", names[1]);
    std::fs::write(shop.path("d16/ImageSets/480p/val.txt"), (0..9).map(line).collect::<String>()).unwrap();

    let score = |args: &[&str]| -> Value {
        serde_json::from_str(&shop.expect(0, &[&["score", "d16", "pred", "--json", "--quiet"], args].concat())).unwrap()
    };
    let (by_default, by_flag) = (score(&[]), score(&["--list", "d16/ImageSets/480p/val.txt"]));
    assert_eq!(by_default["protocol"], "davis2016");
    assert_eq!(by_default["objects"], by_flag["objects"]);
    let videos = by_default["videos"].as_array().unwrap();
    assert_eq!(videos.iter().map(|v| v["video"].as_str().unwrap()).collect::<Vec<_>>(), [names[1].as_str()]);
    assert!(by_default["global"]["j"].as_f64().unwrap() > 0.3, "{by_default:#}");
    assert!(by_default["notes"].to_string().contains(&names[0]), "the video that is not listed is named");
    // Check reads the same list.
    let out = shop.expect(0, &["data", "check", "d16", "--list", "d16/ImageSets/480p/val.txt"]);
    assert!(out.starts_with("d16: davis2016 layout, 1 video,"), "{out}");
}

fn list(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn jpeg() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/jpeg/grad_37x29.jpg")).unwrap()
}

/// An 8-bit grey PNG.
fn label_map(path: &Path, (width, height): (u32, u32), value: impl Fn(u32, u32) -> u8) {
    let data: Vec<u8> = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| value(x, y)).collect();
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
}

/// Two objects side by side.
fn two(x: u32, y: u32) -> u8 {
    if (4..14).contains(&y) { u8::from((3..15).contains(&x)) + 2 * u8::from((20..31).contains(&x)) } else { 0 }
}

/// A plain folder `d` of six JPEG frames with label maps, and the mock pack `box`.
fn plain() -> Workshop {
    let shop = Workshop::empty();
    shop.pack("box", "motion = [1.0, 0.5]");
    for folder in ["d/frames", "d/masks"] {
        std::fs::create_dir_all(shop.path(folder)).unwrap();
    }
    for n in 0..6 {
        std::fs::write(shop.path(&format!("d/frames/{n:05}.jpg")), jpeg()).unwrap();
        label_map(&shop.path(&format!("d/masks/{n:05}.png")), (W, H), two);
    }
    shop
}

/// Exit code and findings of `data check`, each as `severity place: what`.
fn check(shop: &Workshop, args: &[&str]) -> (Option<i32>, Vec<String>) {
    let output = shop.output(&[&["data", "check", "--json"], args].concat());
    let Ok(report) = serde_json::from_slice::<Value>(&output.stdout) else {
        return (output.status.code(), vec![text(&output.stderr)]);
    };
    let said = |f: &Value| {
        let [severity, place, what] = ["severity", "place", "what"].map(|key| f[key].as_str().unwrap());
        format!("{severity} {place}: {what}")
    };
    (output.status.code(), report["findings"].as_array().unwrap().iter().map(said).collect())
}

/// Exit code and words of planning a run.
fn plan(shop: &Workshop, args: &[&str]) -> (Option<i32>, String) {
    let output = shop.output(&[&["--models", "box_mask", "--dtype", "fp32", "--dry-run"], args].concat());
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// `data check` and the plan of a run say the same of `d`: errors stop both, warnings none.
fn both_say(shop: &Workshop, severity: &str, what: &str) {
    let (code, findings) = check(shop, &["d"]);
    let found = findings.iter().any(|f| f.starts_with(severity) && f.contains(what));
    assert!(found, "check: no {severity} `{what}` in {findings:#?}");
    assert_eq!(code, Some(i32::from(severity == "error")), "check: {what}: {findings:#?}");
    let (code, said) = plan(shop, &["--data", "d"]);
    assert!(said.contains(what), "plan: no `{what}` in {said}");
    assert_eq!(code, Some(if severity == "error" { 2 } else { 0 }), "plan: {what}: {said}");
}

/// The mean J of a run of the mock pack, and its record.
fn run(shop: &Workshop, args: &[&str]) -> (f64, Value) {
    let output = shop.output(
        &[&["--models", "box_mask", "--dtype", "fp32", "--min-frames", "1", "--quiet", "--json"], args].concat(),
    );
    let out = text(&output.stdout);
    let line: Value = serde_json::from_str(out.lines().last().unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e}: {out}{}", text(&output.stderr)));
    let record = std::fs::read(shop.path(line["run"].as_str().unwrap()).join("run.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    (record["cells"][0]["summary"]["j"].as_f64().unwrap(), record)
}

#[test]
fn what_a_run_refuses_is_found_by_check_in_the_same_words() {
    type Change = fn(&Workshop);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    let cases: [(&str, Change); 10] = [
        ("end in `.png` in small letters", |shop| {
            std::fs::rename(shop.path("d/masks/00003.png"), shop.path("d/masks/00003.PNG")).unwrap();
        }),
        ("annotation is 20x10, the frames of the video are 37x29", |shop| {
            label_map(&shop.path("d/masks/00000.png"), (20, 10), |x, _| u8::from(x > 3));
        }),
        ("00004.jpg", |shop| {
            let whole = jpeg();
            std::fs::write(shop.path("d/frames/00004.jpg"), &whole[..whole.len() - 2]).unwrap();
        }),
        ("a Git LFS pointer, not the file itself; fetch it with `git lfs pull`", |shop| {
            std::fs::write(shop.path("d/masks/00000.png"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
        }),
        ("00003.jpg", |shop| {
            std::fs::write(shop.path("d/frames/00003.jpg"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
        }),
        ("arithmetic-coded JPEG, which is not read; `jpegtran -optimize`", |shop| {
            let mut coded = jpeg();
            let at = coded.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
            coded[at + 1] = 0xc9;
            std::fs::write(shop.path("d/frames/00000.jpg"), coded).unwrap();
        }),
        ("mostly on the edges of others: an enlarged or compressed mask", |shop| {
            for n in 0..6 {
                label_map(&shop.path(&format!("d/masks/{n:05}.png")), (W, H), |x, _| (x * 7).min(255) as u8);
            }
        }),
        ("there is no frame 00009 for this annotation", |shop| {
            label_map(&shop.path("d/masks/00009.png"), (W, H), two);
        }),
        ("as label maps and in one folder per object", |shop| {
            std::fs::create_dir(shop.path("d/masks/1")).unwrap();
            for n in 0..6 {
                label_map(&shop.path(&format!("d/masks/1/{n:05}.png")), (W, H), |x, y| u8::from(two(x, y) == 1));
            }
        }),
        ("frame 00002 is there twice, with two extensions", |shop| {
            std::fs::write(shop.path("d/frames/00002.png"), "x").unwrap();
        }),
    ];
    for (what, change) in cases {
        let shop = plain();
        change(&shop);
        both_say(&shop, "error", what);
    }
    // Enlarged ids 0 and 2: the object 1 between them may be none, or one.
    let shop = plain();
    for n in 0..6 {
        let ramp = |x: u32, y: u32| {
            if (4..20).contains(&y) { [0, 0, 0, 1, 2, 2, 2, 2, 1, 0, 0, 0][x as usize % 12] } else { 0 }
        };
        label_map(&shop.path(&format!("d/masks/{n:05}.png")), (W, H), ramp);
    }
    both_say(&shop, "warning", "values 0 and 2 never touch");
    // A list of names or a document is no dataset.
    std::fs::write(shop.path("d/frames/00001.jpg"), pointer).unwrap();
    assert!(plan(&shop, &["--data", "d/frames/00001.jpg"]).1.contains("a file, but no video"));
    assert_eq!(check(&shop, &["d/frames/00001.jpg"]).0, Some(2));
}

#[test]
fn what_is_odd_but_usable_is_said_by_check_and_by_the_run() {
    type Change = fn(&Workshop);
    let cases: [(&str, Change); 6] = [
        ("masks/preview: a folder beside the label maps; it is left out", |shop| {
            std::fs::create_dir(shop.path("d/masks/preview")).unwrap();
            std::fs::copy(shop.path("d/masks/00000.png"), shop.path("d/masks/preview/00000.png")).unwrap();
        }),
        ("masks/@eaDir: a folder beside the label maps; it is left out", |shop| {
            std::fs::create_dir_all(shop.path("d/masks/@eaDir/00000.png")).unwrap();
            std::fs::write(shop.path("d/masks/@eaDir/00000.png/thumb.jpg"), "x").unwrap();
        }),
        ("masks/notes.txt: not a .png: it is left out", |shop| {
            std::fs::write(shop.path("d/masks/notes.txt"), "x").unwrap();
        }),
        ("after 00002 comes 9", |shop| {
            for n in 3..6 {
                std::fs::rename(
                    shop.path(&format!("d/frames/{n:05}.jpg")),
                    shop.path(&format!("d/frames/{:05}.jpg", n + 6)),
                )
                .unwrap();
                std::fs::remove_file(shop.path(&format!("d/masks/{n:05}.png"))).unwrap();
            }
        }),
        ("3 annotated frames: one alone is scored", |shop| {
            for n in 3..6 {
                std::fs::remove_file(shop.path(&format!("d/masks/{n:05}.png"))).unwrap();
            }
        }),
        ("EXIF orientation 6: they are taken as they are stored", |shop| {
            let exif = b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
            let whole = jpeg();
            let turned = [&whole[..2], exif, &whole[2..]].concat();
            std::fs::write(shop.path("d/frames/00000.jpg"), turned).unwrap();
        }),
    ];
    for (what, change) in cases {
        let shop = plain();
        change(&shop);
        both_say(&shop, "warning", what);
        let said = plan(&shop, &["--data", "d"]).1;
        assert!(said.contains("2 objects"), "{what}: {said}");
    }
    let shop = plain();
    assert_eq!(check(&shop, &["d"]), (Some(0), Vec::new()), "nothing is said of what is well");
}

/// Folders per object, with a file and a folder of pictures among them.
#[test]
fn a_stray_among_the_folders_of_objects_hides_none() {
    let shop = plain();
    for (object, id) in [("000", 1), ("001", 2)] {
        std::fs::create_dir(shop.path(&format!("d/masks/{object}"))).unwrap();
        for n in 0..6 {
            let path = format!("d/masks/{object}/{n:05}.png");
            label_map(&shop.path(&path), (W, H), |x, y| u8::from(two(x, y) == id));
        }
    }
    for n in 1..6 {
        std::fs::remove_file(shop.path(&format!("d/masks/{n:05}.png"))).unwrap();
    }
    std::fs::create_dir(shop.path("d/masks/preview")).unwrap();
    std::fs::write(shop.path("d/masks/preview/00000.png"), "no mask").unwrap();
    both_say(&shop, "warning", "a file among the objects' folders");
    both_say(&shop, "warning", "masks/preview: a folder that is no object's");
    assert!(plan(&shop, &["--data", "d"]).1.contains("2 objects"));
}

#[test]
fn frames_come_in_the_order_of_their_numbers() {
    let shop = Workshop::empty();
    shop.pack("box", "motion = [1.0, 0.5]");
    let drawn = ["--layout", "mose", "--videos", "1", "--objects", "2", "--frames", "24", "--size", "64x48", "-q"];
    shop.expect(0, &[&["data", "synth", "padded", "--predictions", "pred"], &drawn[..]].concat());
    shop.expect(0, &[&["data", "synth", "plain"], &drawn[..]].concat());
    let video = list(&shop.path("plain/JPEGImages")).remove(0);
    for root in [format!("plain/JPEGImages/{video}"), format!("plain/Annotations/{video}"), format!("pred/{video}")] {
        for name in list(&shop.path(&root)) {
            let (stem, ending) = name.split_once('.').unwrap();
            let to = format!("{root}/frame_{}.{ending}", stem.parse::<u32>().unwrap() + 1);
            std::fs::rename(shop.path(&format!("{root}/{name}")), shop.path(&to)).unwrap();
        }
    }
    let ((padded, _), (plain, record)) = (run(&shop, &["--data", "padded"]), run(&shop, &["--data", "plain"]));
    assert!((padded - plain).abs() < 1e-12, "{padded} in the drawn order, {plain} by number");
    assert_eq!(record["cells"][0]["verdict"]["kind"], "valid");
    let what = "names without leading zeros are taken in the order of their numbers (frame_1, frame_2, …)";
    let (code, findings) = check(&shop, &["plain"]);
    assert!(code == Some(0) && findings.concat().contains(what), "{findings:#?}");
    assert!(plan(&shop, &["--data", "plain"]).1.contains(what));
    // `score` leaves out the same first and last frame, and says that the reference's are others.
    let scored: Value =
        serde_json::from_str(&shop.expect(0, &["score", "plain", "pred", "--per-frame", "--json", "-q"])).unwrap();
    let frames: Vec<_> = scored["objects"][0]["per_frame"].as_array().unwrap().iter().map(|f| &f["frame"]).collect();
    assert_eq!((frames[0], frames[frames.len() - 1], frames.len()), (&"frame_2".into(), &"frame_23".into(), 22));
    assert!(scored["notes"].to_string().contains("reference tools sort them as text"), "{}", scored["notes"]);
}

#[test]
fn jpeg_files_are_read_as_other_programs_read_them() {
    let shop = plain();
    let whole = jpeg();
    let path = shop.path("d/frames/00001.jpg");
    let picture = read_frame(&shop.path("d/frames/00000.jpg")).unwrap();
    for trailer in [5_000, 200_000] {
        std::fs::write(&path, [whole.as_slice(), &vec![0x41; trailer]].concat()).unwrap();
        assert_eq!(read_frame(&path).unwrap(), picture, "{trailer} bytes behind the end");
        assert_eq!(check(&shop, &["d"]), (Some(0), Vec::new()));
    }
    assert_eq!(run(&shop, &["--data", "d"]).1["cells"][0]["verdict"]["kind"], "valid");
    // A frame of a Motion JPEG stream: the standard's Huffman tables, which this file has, are left out.
    let mut bare = whole[..2].to_vec();
    let mut at = 2;
    while whole[at + 1] != 0xda {
        let length = 2 + usize::from(u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
        bare.extend_from_slice(if whole[at + 1] == 0xc4 { &[] } else { &whole[at..at + length] });
        at += length;
    }
    bare.extend_from_slice(&whole[at..]);
    assert!(bare.len() + 400 < whole.len(), "there were tables");
    std::fs::write(&path, bare).unwrap();
    assert_eq!(read_frame(&path).unwrap(), picture);
    assert_eq!(check(&shop, &["d"]), (Some(0), Vec::new()));
}

/// Masks of 0 and 255, sharp or blurred, are one object for who says so.
#[test]
fn one_object_of_0_and_255_is_offered_by_option() {
    let shop = plain();
    let blurred = |x: u32, y: u32| if (4..14).contains(&y) { (x * 20).min(255) as u8 } else { 0 };
    for n in 0..6 {
        label_map(&shop.path(&format!("d/masks/{n:05}.png")), (W, H), blurred);
    }
    both_say(&shop, "error", "`--layout davis2016` takes every pixel above 0 for it");
    let (code, findings) = check(&shop, &["d", "--layout", "davis2016"]);
    assert_eq!(code, Some(0), "{findings:#?}");
    let (_, record) = run(&shop, &["--data", "d", "--layout", "davis2016"]);
    assert_eq!((&record["data"]["objects"], &record["data"]["layout"]), (&1.into(), &"davis2016".into()));
    assert_eq!(record["cells"][0]["verdict"]["kind"], "valid");
    assert_eq!(record["settings"]["layout"], "davis2016");
    // In DAVIS 2017's folders 255 is void.
    let args =
        ["data", "synth", "d16", "--layout", "davis2016", "--videos", "1", "--frames", "6", "--size", "64x48", "-q"];
    shop.expect(0, &args);
    let said = plan(&shop, &["--data", "d16", "--layout", "davis2017"]).1;
    assert!(said.contains("255, which DAVIS 2017 calls void") && said.contains("`--layout davis2016`"), "{said}");
    assert!(check(&shop, &["d16", "--layout", "davis2017"]).1.concat().contains("which DAVIS 2017 calls void"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_path_that_is_no_text_is_refused_by_check_and_by_the_run() {
    use std::os::unix::ffi::OsStrExt;
    let shop = plain();
    let odd = shop.dir.path().join(std::ffi::OsStr::from_bytes(b"d\xff"));
    std::fs::rename(shop.path("d"), &odd).unwrap();
    for args in [&["data", "check"][..], &["--models", "box_mask", "--dtype", "fp32", "--data"]] {
        let output = shop.command(args).arg(&odd).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("the path is not UTF-8"), "{}", text(&output.stderr));
    }
}

#[test]
fn ids_that_are_not_those_of_the_truth_are_named() {
    let shop = Workshop::empty();
    let args = ["data", "synth", "d", "--layout", "mose", "--videos", "1", "--objects", "2", "--frames", "9", "-q"];
    shop.expect(0, &[&args[..], &["--size", "64x48", "--no-frames"]].concat());
    let video = list(&shop.path("d/Annotations")).remove(0);
    let truth = shop.path("d/Annotations").join(&video);
    let notes = |id: fn(u16) -> u8| -> String {
        std::fs::create_dir_all(shop.path("pred").join(&video)).unwrap();
        for name in list(&truth) {
            let image = jetbench::dataset::LabelImage::read(&truth.join(&name)).unwrap();
            let value = |x: u32, y: u32| if image.get(x, y) == 0 { 0 } else { id(image.get(x, y)) };
            label_map(&shop.path("pred").join(&video).join(name), (64, 48), value);
        }
        let report: Value = serde_json::from_str(&shop.expect(0, &["score", "d", "pred", "--json", "-q"])).unwrap();
        report["notes"].to_string()
    };
    let shifted = notes(|id| id as u8 + 1);
    assert!(shifted.contains("predicted ids 2, 3 are the truth's 1, 2 shifted by 1"), "{shifted}");
    let apart = notes(|id| if id == 1 { 7 } else { 90 });
    assert!(apart.contains("no predicted id (7, 90) occurs in the truth (1, 2)"), "{apart}");
    assert!(notes(|_| 0).contains("no pixel is predicted"));
    assert_eq!(notes(|id| id as u8), "[]");
    // Folders of objects.
    let args = ["data", "synth", "o", "--layout", "sa-v", "--videos", "1", "--objects", "2", "--frames", "21", "-q"];
    shop.expect(0, &[&args[..], &["--size", "64x48", "--no-frames", "--predictions", "opred"]].concat());
    let video = shop.path("opred").join(list(&shop.path("opred")).remove(0));
    std::fs::rename(video.join("001"), video.join("002")).unwrap();
    std::fs::rename(video.join("000"), video.join("001")).unwrap();
    let output = shop.output(&["score", "o", "opred"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("predicted objects 001, 002 are the truth's 000, 001 with numbers shifted by 1"), "{said}");
}

/// Runs ffmpeg on the frames of `d`, or says that there is none.
fn ffmpeg(shop: &Workshop, args: &[&str], out: &str) -> bool {
    let frames = shop.path("d/frames/%05d.jpg");
    let mut command = Command::new("ffmpeg");
    command.args(["-y", "-v", "error"]).args(&args[..2]).arg("-i").arg(frames).args(&args[2..]).arg(shop.path(out));
    match command.output() {
        Err(_) => false,
        Ok(made) => {
            assert!(made.status.success(), "{args:?}: {}", text(&made.stderr));
            true
        }
    }
}

/// The video file beside the masks, and nothing else.
fn videos() -> Option<Workshop> {
    let shop = plain();
    if !ffmpeg(&shop, &["-framerate", "60", "-c:v", "ffv1"], "clip.mkv") {
        eprintln!("skipped: no ffmpeg on the PATH (apt install ffmpeg)");
        return None;
    }
    std::fs::create_dir_all(shop.path("v/masks")).unwrap();
    for name in list(&shop.path("d/masks")) {
        std::fs::copy(shop.path("d/masks").join(&name), shop.path("v/masks").join(&name)).unwrap();
    }
    Some(shop)
}

#[test]
fn a_video_files_own_rate_and_time_stamps_drive_clock_and_deadlines() {
    let Some(shop) = videos() else { return };
    let clock = |args: &[&str]| {
        let (_, record) = run(&shop, &[&["--data", "v", "--scenario", "realtime"], args].concat());
        let sequence = &record["cells"][0]["sequences"][0];
        (sequence["fps"].as_f64().unwrap(), sequence["deadlines_ms"].clone())
    };
    std::fs::rename(shop.path("clip.mkv"), shop.path("v/clip.mkv")).unwrap();
    assert_eq!(clock(&[]), (60.0, Value::Null), "Matroska rounds to milliseconds, the rate is even all the same");
    // Frames at 0, 40, 80, 120, 320, 520 ms: the deadline is the time to the next one.
    let uneven =
        ["-framerate", "25", "-vf", "setpts='if(lt(N,4),N,3+(N-3)*5)/25/TB'", "-fps_mode", "vfr", "-c:v", "ffv1"];
    ffmpeg(&shop, &uneven, "v/clip.mkv");
    let (fps, deadlines) = clock(&[]);
    assert!((fps - 5.0 / 0.52).abs() < 1e-9, "{fps}");
    assert_eq!(deadlines, serde_json::json!([40.0, 40.0, 40.0, 200.0, 200.0, 200.0]));
    assert_eq!(clock(&["--fps", "25"]), (25.0, Value::Null), "the flag wins over rate and stamps");
    // A bare file is the dataset of its folder.
    let said = |data: &str| plan(&shop, &["--data", data]).1.lines().next().unwrap().replace("/clip.mkv", "");
    assert_eq!(said("v/clip.mkv"), said("v"));
    std::fs::rename(shop.path("v/clip.mkv"), shop.path("clip.mkv")).unwrap();
    for (code, said) in [plan(&shop, &["--data", "clip.mkv"]), {
        let (code, findings) = check(&shop, &["clip.mkv"]);
        (code, findings.concat())
    }] {
        assert!(code == Some(2) && said.contains("a video without masks"), "{said}");
    }
}

#[test]
fn videos_of_10_bits_are_read_and_hdr_and_turned_ones_are_named() {
    let Some(shop) = videos() else { return };
    let deep = ["-framerate", "24", "-c:v", "ffv1", "-pix_fmt", "yuv420p10le"];
    ffmpeg(&shop, &deep, "v/clip.mkv");
    assert_eq!(check(&shop, &["v"]), (Some(0), Vec::new()));
    assert_eq!(run(&shop, &["--data", "v"]).1["cells"][0]["verdict"]["kind"], "valid");
    let hdr =
        [&deep[..], &["-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc"]].concat();
    ffmpeg(&shop, &hdr, "v/clip.mkv");
    let what = "HDR video (PQ)";
    assert!(check(&shop, &["v"]).1.concat().contains(what) && plan(&shop, &["--data", "v"]).1.contains(what));
    std::fs::remove_file(shop.path("v/clip.mkv")).unwrap();

    // A phone's video: stored lying, marked as upright. The mark was metadata first, then an option.
    ffmpeg(&shop, &["-framerate", "24", "-c:v", "mpeg4"], "lying.mp4");
    let mark = |before: &[&str], after: &[&str]| {
        let mut command = Command::new("ffmpeg");
        command.args(["-y", "-v", "error"]).args(before).arg("-i").arg(shop.path("lying.mp4")).args(["-c", "copy"]);
        command.args(after).arg(shop.path("v/clip.mp4")).status().unwrap().success()
    };
    let made = mark(&["-display_rotation", "90"], &[]) || mark(&[], &["-metadata:s:v", "rotate=90"]);
    assert!(made, "this ffmpeg can mark a video as turned");
    let (code, findings) = check(&shop, &["v"]);
    assert_eq!(code, Some(1));
    let what = format!("annotation is {W}x{H}, the frames of the video are {H}x{W}");
    let found = findings.iter().find(|f| f.starts_with("error")).unwrap();
    assert!(found.contains(&what) && found.contains("before the video was turned"), "{findings:#?}");
    assert!(findings.concat().contains("marked as turned by"), "{findings:#?}");
    let (code, said) = plan(&shop, &["--data", "v"]);
    assert!(code == Some(2) && said.contains(&what) && said.contains("before the video was turned"), "{said}");
}
