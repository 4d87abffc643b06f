//! Overlays: movies where ffmpeg makes them, pictures where it is said, and a word on which.

use serde_json::Value;

use crate::bench::{Bench, Ran, stderr, text};

#[test]
fn overlays_are_movies_where_ffmpeg_makes_them_and_pictures_where_it_is_said() {
    let bench = Bench::new();
    let files = |ran: &Ran| -> Vec<String> {
        let root = ran.dir.join("overlays/good_mask-fp32-cpu");
        let mut names: Vec<String> =
            std::fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let args = ["--models", "good_mask", "--dtype", "fp32", "--data", "data", "--json"];
    let without = |flag: &str| bench.command(&[&args[..], &[flag]].concat()).env("PATH", "").output().unwrap();
    // Without ffmpeg: pictures, and a word on why; movies that were insisted on stop the run before it begins.
    let output = without("--overlays");
    let ran = Ran::new(&bench, output);
    assert_eq!((ran.code, &ran.record["settings"]["overlays"]), (0, &Value::from("png")), "{}", ran.stderr);
    assert!(ran.stderr.contains("one PNG file per frame") && ran.stderr.contains("install ffmpeg"), "{}", ran.stderr);
    assert_eq!(files(&ran), ["a", "b"]);
    let output = without("--overlays=mp4");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("--overlays=mp4") && said.contains("--overlays=png needs no ffmpeg"), "{said}");
    let output = without("--overlays=gif");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    if let Err(why) = jetbench::report::movie::proof() {
        return eprintln!("skipped the rest: {why}");
    }
    let ran = bench.run("good_mask", &["--overlays"]);
    assert_eq!((ran.code, &ran.record["settings"]["overlays"]), (0, &Value::from("mp4")), "{}", ran.stderr);
    assert!(ran.stderr.contains("one MP4 file per video"), "{}", ran.stderr);
    assert_eq!(files(&ran), ["a.mp4", "b.mp4"]);
    // Every frame once, at the clip's own speed.
    let movie = ran.dir.join("overlays/good_mask-fp32-cpu/a.mp4");
    let probe =
        std::process::Command::new("ffmpeg").args(["-nostdin", "-i"]).arg(&movie).args(["-f", "null", "-"]).output();
    let said = text(&probe.unwrap().stderr);
    assert!(said.contains("frame=   13") && said.contains("64x48") && said.contains("24 fps"), "{said}");
    // A movie that cannot be written costs the measurement nothing.
    std::fs::create_dir_all(bench.path("bin")).unwrap();
    let fake = bench.path("bin/ffmpeg");
    std::fs::write(
        &fake,
        "#!/bin/sh\ncase \"$*\" in *64x48*) echo no room >&2; exit 1;; *) exec \"$REAL\" \"$@\";; esac\n",
    )
    .unwrap();
    std::fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let real =
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).map(|d| d.join("ffmpeg")).find(|f| f.is_file());
    let path = format!("{}:{}", bench.path("bin").display(), std::env::var("PATH").unwrap());
    let args = [&args[..], &["--overlays=mp4", "--save-masks"]].concat();
    let output = bench.command(&args).env("PATH", path).env("REAL", real.unwrap()).output().unwrap();
    let ran = Ran::new(&bench, output);
    assert_eq!(ran.verdict(0).0, "valid");
    let notes = ran.record["cells"][0]["notes"].to_string();
    assert!(
        ran.code == 3 && notes.contains("overlays of video a") && notes.contains("no room"),
        "{} {notes}",
        ran.code
    );
    assert!(files(&ran).is_empty() && !notes.contains("masks of video"), "{:?} {notes}", files(&ran));
}
