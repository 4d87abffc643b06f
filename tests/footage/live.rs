//! Live sources: every frame that comes is tracked or counted as dropped, what is cut off says so, and a password stays secret.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use jetbench::dataset::Layout;
use jetbench::dataset::live::CaptureClock;
use jetbench::results::record::SequenceRecord;
use serde_json::Value;

use super::{masks, record, shop};
use crate::unprompted::runs::shop as walking;
use crate::workshop::{Workshop, text, tree};

/// The flags of a run over a live source on the mock; the object `late` has its prompt on frame 7.
const LIVE: [&str; 8] =
    ["--models", "calm_points", "--dtype", "fp32", "--clicks", "1 20,16", "--clicks", "obj=late frame=7 30,10"];

/// A run over what `pipe` brings on standard input.
fn piped(shop: &Workshop, pipe: &[u8], args: &[&str]) -> Output {
    shop.piped(pipe, &[&LIVE[..], &["--data", "-"], args].concat())
}

/// What is said of a command that is refused.
fn refused(shop: &Workshop, args: &[&str]) -> String {
    let output = shop.output(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

/// `count` frames of 48x32 pixels as PPM images.
fn ppm(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| [b"P6\n48 32\n255\n".to_vec(), vec![i as u8; 48 * 32 * 3]].concat()).collect()
}

#[test]
fn every_frame_on_a_pipe_is_tracked_or_counted_as_dropped() {
    let shop = shop(1);
    let raw: Vec<u8> = (0..40).flat_map(|i| vec![i as u8; 48 * 32 * 3]).collect();
    let fits = ["--min-frames", "1", "--save-masks"];
    for (pipe, args) in [(ppm(40), &[][..]), (raw, &["--raw", "rgb24:48x32"])] {
        let output = piped(&shop, &pipe, &[&fits[..], args].concat());
        assert_eq!(output.status.code(), Some(0), "{}\n{}", text(&output.stdout), text(&output.stderr));
        let dir = shop.runs("results").pop().unwrap();
        let found = record(&dir);
        let (cell, sequence) = (&found.cells[0], &found.cells[0].sequences[0]);
        // Each of the 40 once, in order, and those with a prompt are tracked.
        let tracked: Vec<u32> = sequence.frames.iter().map(|f| f.frame).collect();
        let mut offered = [&tracked[..], &sequence.dropped].concat();
        offered.sort_unstable();
        assert_eq!(offered, (0..40).collect::<Vec<u32>>());
        assert!(tracked.windows(2).all(|w| w[0] < w[1]) && tracked.contains(&0) && tracked.contains(&7), "{tracked:?}");
        assert!(sequence.frames.iter().all(|f| f.response_ms.unwrap() >= f.latency_ms), "{:?}", sequence.frames);
        assert_eq!(masks(&dir).len(), 2 * 40, "also of dropped frames, which keep the masks before them");
        // No truth, and nothing of which it could be said that it was read again.
        let summary = cell.summary.as_ref().unwrap();
        assert_eq!((summary.j, summary.f, summary.jf), (None, None, None));
        assert_eq!(summary.dropped, Some(sequence.dropped.len()));
        assert_eq!(summary.response.map(|r| r.samples), Some(tracked.len()));
        assert_eq!((found.data.layout.as_str(), found.data.content_sha256.as_str()), ("live", ""));
        assert_eq!((cell.scenario.as_str(), sequence.fps), ("realtime", None), "no deadline unless --fps says one");
        let live = sequence.live.as_ref().unwrap();
        assert_eq!((live.clock, live.before, &live.cut), (CaptureClock::Arrival, 0, &None));
    }
    let planned = text(&piped(&shop, &ppm(1), &["--dry-run", "--json"]).stdout);
    let unknown = "nobody knows how many frames a live source brings";
    assert!(planned.contains(unknown) && planned.contains("\"frames\":null"), "{planned}");
    let runs = shop.runs("results");
    let compared = shop.output(&["compare", runs[0].to_str().unwrap(), runs[1].to_str().unwrap()]);
    let said = text(&compared.stdout);
    assert!(said.contains("other frames: a live source gives its frames once"), "{said}");
}

#[test]
fn tracks_found_on_a_live_source_are_those_of_its_frames() {
    let shop = walking(Layout::SaV, 1, 21);
    let args =
        ["--models", "walk_look", "--dtype", "fp32", "--data", "-", "--raw", "rgb24:48x32", "--save-masks=ytvis"];
    let (frame, pause) = (48 * 32 * 3, Duration::from_millis(10));
    let output = shop.piped_at(&vec![7; 40 * frame], frame, pause, &[&args[..], &["--min-frames", "1"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}\n{}", text(&output.stdout), text(&output.stderr));
    let dir = shop.runs("results").remove(0);
    let found = record(&dir);
    let cell = &found.cells[0];
    let (sequence, summary) = (&cell.sequences[0], cell.summary.as_ref().unwrap());
    assert_eq!((found.data.layout.as_str(), cell.scenario.as_str()), ("live", "realtime"));
    assert_eq!(sequence.frames.len() + sequence.dropped.len(), 40, "each is tracked or counted as dropped");
    // The two of the first frame; when the third is born depends on what was dropped.
    let (found, tracks) = (summary.found.as_ref().unwrap(), &sequence.found.as_ref().unwrap().tracks);
    assert!(found.confirmed >= 2 && found.scores.is_none(), "{found:?}");
    let worked_on: Vec<u32> = sequence.frames.iter().map(|frame| frame.frame).collect();
    let stays: Vec<u32> = tracks[1].frames.iter().map(|row| row.frame).collect();
    assert_eq!((tracks[1].birth, &stays), (worked_on[0], &worked_on));
    let file = tree(&dir.join("masks")).into_iter().find(|file| file.ends_with("results.json")).unwrap();
    let saved: Value = serde_json::from_slice(&std::fs::read(dir.join("masks").join(file)).unwrap()).unwrap();
    // One that was taken back is no result: which were depends on what was dropped too.
    let numbers: Vec<String> =
        tracks.iter().filter_map(|track| track.number).map(|number| number.to_string()).collect();
    let saved = saved.as_array().unwrap();
    assert_eq!(saved.iter().map(|result| result["track"].as_str().unwrap()).collect::<Vec<_>>(), numbers);
    assert!(saved.iter().all(|result| result["segmentations"].as_array().unwrap().len() == 40));
}

#[test]
fn a_pipe_that_was_cut_off_is_incomplete_and_keeps_its_figures() {
    let shop = shop(1);
    let other_size = b"P6\n32 48\n255\n".iter().copied().chain(vec![0; 48 * 32 * 3]);
    for (pipe, args, reason) in [
        (ppm(30), &["--seconds", "3600"][..], "of 3600 s: the pipe ended"),
        (ppm(30)[..30 * 4621 - 9].to_vec(), &[], "it stopped inside a frame"),
        (ppm(30).into_iter().chain(other_size).collect(), &[], "its frames changed from 48x32 to 32x48"),
        (ppm(5), &[], "it ended after 5 frames, before frame 7, on which object late has its prompt"),
    ] {
        std::fs::remove_dir_all(shop.path("results")).ok();
        let output = piped(&shop, &pipe, &[&["--min-frames", "1"], args].concat());
        assert_eq!(output.status.code(), Some(1), "{}\n{}", text(&output.stdout), text(&output.stderr));
        let dir = shop.runs("results").remove(0);
        let found = record(&dir);
        let reasons = found.cells[0].verdict.reasons();
        assert!(reasons.starts_with("incomplete: ") && reasons.contains(reason), "{reasons}");
        assert!(found.cells[0].summary.is_some() && !text(&output.stdout).contains("--resume"));
        let again = refused(&shop, &["--resume", dir.to_str().unwrap()]);
        assert!(again.contains("its frames came from a live source, once"), "{again}");
    }
}

#[test]
fn an_interrupted_live_run_keeps_what_came() {
    let shop = shop(1);
    let mut command = shop.command(&[&LIVE[..], &["--data", "-", "--raw", "rgb24:48x32"]].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than a pipe holds: when all is written, tracking is under way.
    for _ in 0..200 {
        stdin.write_all(&[7; 48 * 32 * 3]).unwrap();
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{said}\n{}", text(&output.stderr));
    assert!(!said.contains("--resume"), "{said}");
    let found = record(&shop.runs("results").remove(0));
    let cell = &found.cells[0];
    assert!(cell.interrupted && cell.summary.is_some(), "{:?}", cell.verdict);
    let sequence = &cell.sequences[0];
    let cut = sequence.live.as_ref().and_then(|live| live.cut.as_deref()).unwrap();
    assert!(cut.starts_with("the source was cut off after") && cut.ends_with("s: interrupted"), "{cut}");
    assert!(sequence.frames.len() + sequence.dropped.len() > 100, "{}", sequence.frames.len());
}

#[test]
fn what_would_need_a_live_sources_frames_again_is_refused_with_the_reason() {
    let shop = shop(1);
    let refused = |args: &[&str]| refused(&shop, args);
    let pipe = [&LIVE[..], &["--data", "-"]].concat();
    for (args, reason) in [
        (&["--models", "calm_bbox"][..], "name one model"),
        (&["--dtype", "fp16"], "name one model, one precision and one device"),
        (&["--repeat", "2"], "cannot be repeated on them"),
        (&["--if-changed"], "no earlier run has measured them"),
        (&["--shard", "1/2"], "has no parts"),
        (&["--limit-frames", "9"], "ends with --seconds"),
        (&["--loop-frames", "9"], "ends with --seconds"),
        (&["--layout", "plain"], "has no layout"),
        (&["--overlays=png"], "a live source's frames are not kept"),
        (&["--scenario", "offline"], "as its frames come"),
    ] {
        let said = refused(&[&pipe[..], args].concat());
        assert!(said.contains(reason), "{args:?}: {said}");
    }
    let without = ["--models", "calm_points", "--dtype", "fp32"];
    for (args, reason) in [
        (&["--data", "-"][..], "has no masks to make prompts from"),
        (&["--data", "udp://127.0.0.1:9", "--clicks", "1 2,2"], "does not end by itself; say --seconds N"),
        (&["--data", "clip", "--clicks", "1 2,2", "--seconds", "3"], "--seconds is for live sources"),
        (&["--data", "clip", "--clicks", "1 2,2", "--raw", "rgb24:4x4"], "--raw is for live sources"),
        (&["--data", "http://me:hunter2@cam/x", "--clicks", "1 2,2"], "http://cam/x: live sources are rtsp://…"),
        (&["--data", "-", "--raw", "yuv420p:4x4", "--clicks", "1 2,2"], "rgb24:WIDTHxHEIGHT is needed"),
    ] {
        let said = refused(&[&without[..], args].concat());
        assert!(said.contains(reason) && !said.contains("hunter2"), "{args:?}: {said}");
    }
    let address = "rtsp://me:hunter2@cam/x";
    for other in [
        &["data", "check", address][..],
        &["prompt", address],
        &["audit", "--models", "calm_points", "--data", address],
    ] {
        let said = refused(other);
        assert!(said.contains("rtsp://cam/x: a live source, and files are needed here"), "{other:?}: {said}");
    }
    for (pipe, reason) in [
        (&b""[..], "the pipe ended before its first frame"),
        (b"YUV4MPEG2 W48 H32 F30:1\n", "frames are PPM images"),
        (b"P6\n48 32\n65535\n", "65535 levels are not read"),
        (&ppm(1)[..4621 - 9], "the pipe ended inside a frame, after 4599 of 4608 bytes"),
    ] {
        let output = piped(&shop, pipe, &[]);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(output.status.code() == Some(2) && said.contains(reason), "{said}");
    }
    let outside = piped(&shop, &ppm(1), &["--clicks", "obj=2 99,99"]);
    assert!(text(&outside.stderr).contains("object 2, frame 0"), "{}", text(&outside.stderr));
}

/// A stand-in for ffmpeg that does what `script` says when it is to read a source.
fn stand_in(shop: &Workshop, script: &str) {
    let path = shop.path("bin/ffmpeg");
    std::fs::create_dir_all(shop.path("bin")).unwrap();
    let script = format!("#!/bin/sh\ncase \"$*\" in *lavfi*) exit 0;; esac\necho \"$*\" >> said.txt\n{script}\n");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A camera on the network.
const CAMERA: &str = "rtsp://admin:hunter2@cam:554/live?token=hunter2";

/// A run over a source, with nothing but the stand-in and a shell's tools on the PATH.
fn streamed(shop: &Workshop, address: &str, args: &[&str]) -> Output {
    let mut command = shop.command(&[&LIVE[..], &["--data", address, "-v"], args].concat());
    command.env("PATH", format!("{}:/usr/bin:/bin", shop.path("bin").display()));
    command.stdin(Stdio::null()).output().unwrap()
}

/// A run over a source that goes on, with what was tracked; a machine that stands still meanwhile is given more time.
fn tracked(shop: &Workshop, address: &str) -> (Output, SequenceRecord) {
    let run = |seconds: &str| {
        let output = streamed(shop, address, &["--seconds", seconds, "--min-frames", "1", "--fps", "30"]);
        let run = shop.runs("results").pop().unwrap_or_else(|| panic!("{}", text(&output.stderr)));
        let sequence = record(&run).cells.remove(0).sequences.remove(0);
        (!sequence.frames.is_empty()).then_some((output, sequence))
    };
    ["0.5", "5", "50"].into_iter().find_map(run).unwrap()
}

/// What ffmpeg would say and send of one frame: `stamp` in milliseconds.
fn sent(stamp: &str, size: &str) -> String {
    format!(
        "echo \"[Parsed_showinfo_0 @ 0x1] [info] config in time_base: 1/1000, frame_rate: 30/1\" >&2\n\
         echo \"[Parsed_showinfo_0 @ 0x1] [info] n:   0 pts: {stamp} pts_time:0 fmt:yuv420p sar:1/1 s:{size} i:P\" >&2\n\
         printf 'P6\\n48 32\\n255\\n'; head -c 4608 /dev/zero\n"
    )
}

#[test]
fn a_camera_is_read_through_ffmpeg_and_its_password_stays_secret() {
    let shop = shop(1);
    let nowhere_in_results = |output: &Output| {
        let mut seen = text(&output.stdout) + &text(&output.stderr);
        for dir in shop.runs("results") {
            for file in tree(&dir) {
                seen += &String::from_utf8_lossy(&std::fs::read(dir.join(file)).unwrap());
            }
        }
        assert!(seen.contains("rtsp://cam:554/live…"), "{seen}");
        assert!(!seen.contains("hunter2"), "{seen}");
    };
    let now = "$(date +%s%3N)";
    stand_in(&shop, &format!("while :; do\n{}done", sent(now, "48x32")));
    let (output, sequence) = tracked(&shop, CAMERA);
    nowhere_in_results(&output);
    assert!(sequence.frames.iter().all(|f| f.response_ms.is_some()));
    let live = sequence.live.as_ref().unwrap();
    assert!(live.clock == CaptureClock::Received && live.before > 0, "{live:?}");
    let read = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let counted = "response is the age of a frame when its masks are there, counted from the moment ffmpeg received";
    assert!(read.contains(counted), "{read}");
    std::fs::remove_dir_all(shop.path("results")).unwrap();

    // It dies when the first run has asked for the size; what it complains about has the whole address in it.
    let dies = "echo '[error] rtsp://admin:hunter2@cam:554/live?token=hunter2: 401 Unauthorized' >&2; exit 9";
    let once = format!("[ -e asked ] && last=1\ntouch asked\n{}[ \"$last\" ] && {{ {dies}; }}", sent(now, "48x32"));
    stand_in(&shop, &once);
    let output = streamed(&shop, CAMERA, &["--seconds", "3600"]);
    nowhere_in_results(&output);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}\n{}", text(&output.stderr));
    let reasons = record(&shop.runs("results").remove(0)).cells[0].verdict.reasons();
    assert!(reasons.contains("of 3600 s: ffmpeg ended (exit status: 9): rtsp://cam:554/live…: 401"), "{reasons}");

    for (script, patience, reason) in [
        (dies.to_string(), "30", "ffmpeg ended (exit status: 9)"),
        (sent(now, "64x48"), "30", "its frames changed from 64x48 to 48x32"),
        (String::new(), "30", "ffmpeg ended (exit status: 0)"),
        ("exec sleep 600".to_string(), "0.1", "no frame within 0.1 s"),
    ] {
        stand_in(&shop, &script);
        let output = streamed(&shop, CAMERA, &["--seconds", "3600", "--load-timeout", patience]);
        let said = text(&output.stderr);
        assert!(
            output.status.code() == Some(2) && said.contains(reason) && !said.contains("hunter2"),
            "{reason}: {said}"
        );
    }
    let missing = shop
        .command(&[&LIVE[..], &["--data", "rtsp://cam/x", "--seconds", "3"]].concat())
        .env("PATH", "/nowhere")
        .output();
    let said = text(&missing.unwrap().stderr);
    assert!(said.contains("cannot be started") && said.contains("install ffmpeg"), "{said}");
}

#[test]
fn a_camera_here_counts_from_the_kernels_stamp_and_a_frame_without_a_stamp_has_no_age() {
    let shop = shop(1);
    for (stamp, told) in [("$(date +%s%3N)", true), ("NOPTS", false)] {
        stand_in(&shop, &format!("while :; do\n{}done", sent(stamp, "48x32")));
        let (_, sequence) = tracked(&shop, "/dev/video9");
        assert!(sequence.frames.iter().all(|f| f.response_ms.is_some() == told), "{:?}", sequence.frames);
        assert_eq!(sequence.live.unwrap().clock, CaptureClock::Kernel);
        let found = record(&shop.runs("results").pop().unwrap());
        assert_eq!(found.cells[0].summary.as_ref().unwrap().response.is_some(), told);
    }
    let said = std::fs::read_to_string(shop.path("said.txt")).unwrap();
    assert!(said.contains("-f v4l2 -timestamps abs -framerate 30 -i /dev/video9 -map 0:V:0 -copyts "), "{said}");
}

/// `scripts/stream_test.sh` makes it longer.
#[test]
fn a_stream_from_a_real_ffmpeg_is_tracked() {
    let there = Command::new("ffmpeg").arg("-version").output().is_ok_and(|o| o.status.success());
    if !there {
        eprintln!("skipped: ffmpeg is not installed");
        return;
    }
    let seconds: u32 = std::env::var("JETBENCH_STREAM_SECONDS").map_or(1, |text| text.parse().unwrap());
    let shop = shop(1);
    shop.pack("calm", "motion = [1.0, 0.0]\nframe_ms = [25.0, 25.0, 25.0, 45.0]");
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = format!("udp://127.0.0.1:{port}");
    let mut sender = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=s=48x32:r=30"])
        .args(["-c:v", "mpeg2video", "-g", "5", "-f", "mpegts", &source])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let length = seconds.to_string();
    let output = shop.output(&[&LIVE[..], &["--data", &source, "--seconds", &length, "--fps", "30"]].concat());
    let _ = sender.kill();
    let _ = sender.wait();
    let runs = shop.runs("results");
    assert_eq!(runs.len(), 1, "{}", text(&output.stderr));
    let found = record(&runs[0]);
    let cell = &found.cells[0];
    let sequence = &cell.sequences[0];
    let mut offered: Vec<u32> =
        sequence.frames.iter().map(|f| f.frame).chain(sequence.dropped.iter().copied()).collect();
    offered.sort_unstable();
    assert_eq!(offered, (0..offered.len() as u32).collect::<Vec<u32>>());
    assert!(!sequence.frames.is_empty(), "{}", text(&output.stdout));
    assert_eq!((sequence.width, sequence.height), (48, 32), "{}", text(&output.stdout));
    assert!(sequence.frames.iter().all(|f| f.response_ms.is_some_and(|age| age >= f.latency_ms)));
    if seconds >= 10 {
        let response = cell.summary.as_ref().and_then(|summary| summary.response).unwrap();
        let memory: Vec<f64> = cell.memory_curve.iter().map(|point| point.rss_mib).collect();
        println!(
            "{seconds} s: {} frames came, {} tracked, {} dropped; age {:.1} ms (median), {:.1} ms (p95); memory {:?} to {:?} MiB",
            offered.len(),
            sequence.frames.len(),
            sequence.dropped.len(),
            response.p50_ms,
            response.p95_ms,
            memory.first(),
            memory.last()
        );
        let came = offered.len() as f64 / f64::from(30 * seconds);
        assert!((0.95..=1.05).contains(&came), "{came} of the frames of a stream of 30 per second");
        let middle = memory[memory.len() / 10];
        assert!(memory.iter().all(|mib| *mib < middle + 3.0), "memory grows: {memory:?}");
        assert!(!text(&output.stdout).contains("memory leak"), "{}", text(&output.stdout));
    }
}
