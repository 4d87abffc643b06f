//! Hostile or odd surroundings: files that are no files, names that act on a terminal, limits and full disks, outputs that cannot
//! be written. What was measured is kept, and a sentence and the exit code say what went wrong.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use jetbench::dataset::Layout;
use serde_json::Value;

use crate::workshop::{Workshop, text, tree};

const RUN: [&str; 6] = ["--dtype", "fp32", "--models", "m_mask", "--data", "data"];

/// A workshop with a mock pack `m` and label maps below `data/`.
fn label_maps(frames: usize) -> Workshop {
    let shop = Workshop::of(Layout::Mose, 1, frames);
    shop.pack("m", "frame_ms = [0.1]");
    shop
}

fn only(dir: &Path) -> std::path::PathBuf {
    let mut found: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn pipe(path: &Path) {
    let _ = std::fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The program under a shell's words; one that waits for ever is ended (exit code 124).
fn under(shop: &Workshop, before: &str, args: &[&str]) -> Output {
    let plain = shop.command(args);
    let mut command = Command::new("timeout");
    command.args(["60", "sh", "-c", &format!("{before} exec \"$0\" \"$@\"")]).arg(plain.get_program()).args(args);
    command.current_dir(shop.dir.path());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().unwrap()
}

fn record(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("run.json")).unwrap()).unwrap()
}

/// Exit code and all that was printed.
fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn label_maps_with_wide_ids_are_saved_whole() {
    let shop = label_maps(24);
    let masks = only(&shop.path("data/Annotations"));
    // Ids 1 and 2 become 1000 and 40000, in 16 bits.
    for file in std::fs::read_dir(&masks).unwrap().map(|e| e.unwrap().path()) {
        let labels = jetbench::dataset::LabelImage::read(&file).unwrap();
        let (width, height) = (labels.width(), labels.height());
        let wide = |id: u16| [0u16, 1000, 40_000][usize::from(id)].to_be_bytes();
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let bytes: Vec<u8> = pixels.flat_map(|(x, y)| wide(labels.get(x, y))).collect();
        let mut out = png::Encoder::new(std::fs::File::create(&file).unwrap(), width, height);
        out.set_color(png::ColorType::Grayscale);
        out.set_depth(png::BitDepth::Sixteen);
        out.write_header().unwrap().write_image_data(&bytes).unwrap();
    }
    let output = shop.output(&[&RUN[..], &["--save-masks", "--overlays", "--out", "out"]].concat());
    let (code, out) = said(&output);
    assert_eq!(code, Some(0), "{out}");
    let notes = text(&output.stderr);
    assert!(notes.contains("ids above 255") && notes.contains("per-object masks"), "{notes}");
    let run = shop.runs("out").remove(0);
    let saved = only(&run.join("masks"));
    let scored = shop.expect(0, &["score", "data/Annotations", saved.to_str().unwrap(), "--json"]);
    let scored: Value = serde_json::from_str(&scored).unwrap();
    let jf = record(&run)["cells"][0]["summary"]["jf"].as_f64().unwrap();
    let again = scored["jf"].as_f64().or(scored["global"]["jf"].as_f64()).unwrap_or_else(|| panic!("{scored}"));
    assert!((jf - again).abs() < 1e-9 || (jf / 100.0 - again).abs() < 1e-9, "{jf} {again}");
}

#[test]
fn a_video_named_like_a_time_is_saved_under_its_name() {
    let shop = label_maps(24);
    for folder in ["JPEGImages", "Annotations"] {
        let video = only(&shop.path("data").join(folder));
        std::fs::rename(&video, video.with_file_name("2025-11-02T10:20:30")).unwrap();
    }
    let (code, out) = said(&shop.output(&[&RUN[..], &["--save-masks", "--overlays=png", "--out", "out"]].concat()));
    assert_eq!(code, Some(0), "{out}");
    let files = tree(&shop.runs("out")[0]);
    for output in ["masks", "overlays"] {
        let saved = files.iter().filter(|f| f.starts_with(output) && f.contains("/2025-11-02T10:20:30/")).count();
        assert_eq!(saved, 24, "{output}: {files:?}");
    }
}

#[test]
fn an_output_that_fails_at_the_end_costs_nothing_else() {
    let shop = label_maps(24);
    // The directory of the masks goes while the only cell is tracked: a file lies in its place.
    shop.pack("slow", "frame_ms = [30.0]");
    let args = [
        "--dtype",
        "fp32",
        "--models",
        "slow_mask",
        "--data",
        "data",
        "--save-masks",
        "--overlays=png",
        "--out",
        "out",
    ];
    let child = shop.command(&args).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
    let child = child.unwrap();
    let spooled = || shop.runs("out").first().map(|run| run.join("spool/0/0.spool")).filter(|spool| spool.exists());
    while spooled().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let run = shop.runs("out").remove(0);
    std::fs::remove_dir_all(run.join("masks")).unwrap();
    std::fs::write(run.join("masks"), "").unwrap();
    let (code, out) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(3), "{out}");
    let cell = &record(&run)["cells"][0];
    assert_eq!(cell["verdict"]["kind"], "valid", "{}", cell["verdict"]);
    assert_eq!(cell["summary"]["frames"], 24);
    let notes = cell["notes"].to_string();
    assert!(notes.contains("the masks of video") && notes.contains("missing or incomplete"), "{notes}");
    assert!(!notes.contains("overlays"), "{notes}");
    assert!(out.split_whitespace().collect::<Vec<_>>().join(" ").contains("masks"), "{out}");
}

#[test]
fn files_that_are_no_files_are_refused_at_once() {
    let shop = label_maps(24);
    let fourth = |folder: &str| {
        let video = only(&shop.path("data").join(folder));
        let mut files: Vec<_> = std::fs::read_dir(&video).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files.swap_remove(3)
    };
    let refused = |what: &str, args: &[&str]| {
        let (code, out) = said(&under(&shop, "", args));
        assert_eq!(code, Some(if args[0] == "data" { 1 } else { 2 }), "{what}: {out}");
        assert!(out.contains("not a plain file"), "{what}: {out}");
    };
    pipe(&shop.path("pipe"));
    refused("config", &[&RUN[..], &["--config", "pipe"]].concat());
    refused("device as config", &[&RUN[..], &["--config", "/dev/zero"]].concat());
    refused("list", &["score", "data/Annotations", "data/Annotations", "--list", "pipe"]);
    refused("tegrastats", &["telemetry", "--source", "tegrastats", "--input", "pipe"]);
    for (what, file) in [("frame", fourth("JPEGImages")), ("mask", fourth("Annotations"))] {
        let kept = std::fs::read(&file).unwrap();
        pipe(&file);
        refused(what, &RUN);
        refused(what, &["data", "check", "data"]);
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        refused(what, &RUN);
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, kept).unwrap();
    }
    // Packs and records that are none.
    pipe(&shop.path("packs/m/pack.toml"));
    let (code, out) = said(&under(&shop, "", &RUN));
    assert_eq!(code, Some(2), "{out}");
}

#[test]
fn names_and_errors_do_not_act_on_the_terminal() {
    let shop = label_maps(24);
    const NAME: &str = "v\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\u{9b}31m";
    for folder in ["JPEGImages", "Annotations"] {
        let video = only(&shop.path("data").join(folder));
        std::fs::rename(&video, video.with_file_name(NAME)).unwrap();
    }
    let mut outputs = vec![
        shop.output(&[&RUN[..], &["--out", "out", "--verbose", "--json"]].concat()),
        shop.output(&[&RUN[..], &["--dry-run", "--json"]].concat()),
        shop.output(&["data", "check", "data"]),
        shop.output(&["data", "check", "data", "--json"]),
        shop.output(&["--models", "\u{1b}[31mred_mask", "--data", "data"]),
        shop.output(&["run", "\u{1b}[31mred"]),
        shop.output(&["report", NAME]),
    ];
    let run = shop.runs("out").remove(0);
    std::fs::write(run.join("run.json"), format!("{{\"schema\": \"{NAME}\"")).unwrap();
    outputs.extend([shop.output(&["history", "--out", "out"]), shop.output(&["merge", "out"])]);
    for output in outputs {
        let (_, out) = said(&output);
        let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!out.contains(acts), "{out:?}");
    }
}

#[test]
fn a_limit_on_file_sizes_is_an_error_with_a_sentence() {
    let shop = label_maps(24);
    let args = [&RUN[..], &["--out", "out"]].concat();
    let (code, out) = said(&under(&shop, "ulimit -f 1;", &args));
    assert_eq!(code, Some(3), "{out}");
    assert!(out.contains("File too large") && out.contains("ulimit -f"), "{out}");
    assert!(shop.runs("out").iter().all(|run| run.join("partial/run.json").is_file()), "a run without its record");
}

#[test]
fn results_are_for_whom_the_umask_says() {
    let shop = label_maps(24);
    for (umask, mode) in [("077", 0o600), ("022", 0o644), ("002", 0o664)] {
        let out = format!("out{umask}");
        let output = under(&shop, &format!("umask {umask};"), &[&RUN[..], &["--save-masks", "--out", &out]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", said(&output).1);
        let run = shop.runs(&out).remove(0);
        for file in tree(&run) {
            let found = std::fs::metadata(run.join(&file)).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{file}: {found:o} under umask {umask}");
        }
    }
}

#[test]
fn a_playlist_is_not_a_video() {
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        return eprintln!("skipped a_playlist_is_not_a_video: no ffmpeg on the PATH (apt install ffmpeg)");
    }
    let shop = label_maps(24);
    std::fs::create_dir_all(shop.path("plain")).unwrap();
    std::fs::rename(only(&shop.path("data/Annotations")), shop.path("plain/masks")).unwrap();
    let other = shop.path("other.mp4").display().to_string();
    let made =
        Command::new("ffmpeg").args(["-v", "error", "-f", "lavfi", "-i", "testsrc=s=48x32:d=1", &other]).status();
    assert!(made.unwrap().success());
    for text in [
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST\n"),
        format!("ffconcat version 1.0\nfile '{other}'\n"),
    ] {
        std::fs::write(shop.path("plain/clip.mp4"), text).unwrap();
        let (code, out) = said(&shop.output(&["--dtype", "fp32", "--models", "m_mask", "--data", "plain"]));
        assert_eq!(code, Some(2), "{out}");
        assert!(out.contains("ffmpeg failed"), "{out}");
    }
    std::fs::rename(&other, shop.path("plain/clip.mp4")).unwrap();
    let (_, out) = said(&shop.output(&["--dtype", "fp32", "--models", "m_mask", "--data", "plain"]));
    assert!(!out.contains("ffmpeg failed"), "the real one is read: {out}");
}

/// A terminal whose other end nobody reads, full to the brim: whoever writes to it waits.
fn stuck_terminal() -> (std::fs::File, std::fs::File) {
    use std::os::fd::FromRawFd;
    let (mut master, mut terminal) = (0, 0);
    // SAFETY: both pointers are valid, and no name, settings or size are asked for; the descriptors are new, so owned here.
    let (master, terminal) = unsafe {
        let none = std::ptr::null_mut();
        assert_eq!(libc::openpty(&mut master, &mut terminal, none, none.cast(), none.cast()), 0);
        (std::fs::File::from_raw_fd(master), std::fs::File::from_raw_fd(terminal))
    };
    let waiting = |wait: bool| {
        let flags = if wait { 0 } else { libc::O_NONBLOCK };
        // SAFETY: the descriptor is open.
        assert_eq!(unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&terminal), libc::F_SETFL, flags) }, 0);
    };
    waiting(false);
    while std::io::Write::write(&mut &terminal, &[b'.'; 64]).is_ok() {}
    waiting(true);
    (master, terminal)
}

#[test]
fn a_stuck_terminal_holds_up_no_measurement() {
    let shop = Workshop::new(2, 6);
    shop.pack("m", "");
    let (master, terminal) = stuck_terminal();
    let mut command = shop.command(&[&RUN[..], &["--repeat", "2"]].concat());
    let mut child = command.stderr(terminal).stdout(std::process::Stdio::null()).spawn().unwrap();
    let whole = || shop.runs("results").iter().any(|run| run.join("run.json").is_file());
    let begun = std::time::Instant::now();
    while !whole() && begun.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(whole(), "the run waits for its terminal");
    // Somebody reads on: the rest comes, and the program ends.
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = std::io::Read::read(&mut &master, &mut buffer) {
            said.extend_from_slice(&buffer[..n]);
        }
        text(&said)
    });
    child.wait().unwrap();
    drop(command); // its end of the terminal
    let said = reader.join().unwrap();
    assert!(said.contains("[1/2] m_mask fp32 cpu, repeat 1 of 2"), "{said}");
}
