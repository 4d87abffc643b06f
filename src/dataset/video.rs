//! Frames out of a video file, through the system's ffmpeg: a child process decodes, and we read its frames one by one.
//! Without ffmpeg the error says how to get it, or how to unpack the frames once.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use jetbench_runners::lfs::{LFS_POINTER, is_lfs_pointer};

use jetbench_runners::files;

use super::{DataError, MAX_PIXELS, MAX_SIDE, RgbFrame, ppm};

/// File name endings that are taken for a video.
pub(super) const EXTENSIONS: [&str; 7] = ["mp4", "mov", "mkv", "webm", "avi", "m4v", "mpg"];

/// What ffmpeg may read, by the names of its demuxers: those endings' own. A playlist or a list of parts under such a name could
/// lead it to any other file, or out to the network.
const DEMUXERS: &str = "mov,matroska,avi,mpeg,mpegts,mpegvideo";

/// Does the name end like a video's?
pub(super) fn is_video(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// What is in a video file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Probe {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frames: usize,
    /// Frames per second; `None` where the file does not say.
    pub(super) fps: Option<f64>,
    /// When each frame is shown, nanoseconds after the first; `None` where they come evenly.
    pub(super) times: Option<Arc<[u64]>>,
    /// What a reader should know: turned by its metadata, HDR.
    pub(super) remarks: Vec<String>,
}

/// Decodes the whole video once to count its frames and read their time stamps: container headers lie too often.
pub(super) fn probe(ffmpeg: &Path, video: &Path) -> Result<Probe, DataError> {
    let name = video.display();
    let fail = |what: &dyn std::fmt::Display| DataError(format!("{name}: {what}"));
    is_here(video)?;
    // `showinfo` says size and time stamp of every frame, in the file's own time base.
    let output = Command::new(ffmpeg)
        .args(["-nostdin", "-hide_banner", "-nostats", "-v", "level+info", "-i"])
        .arg(video)
        .args(["-map", STREAM, "-vf", "showinfo"])
        .args(pass_all(ffmpeg))
        .args(["-f", "null", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|e| no_ffmpeg(ffmpeg, video, &e))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint(&said);
    // A damaged stream can end with status 0: what ffmpeg complains about counts.
    if !output.status.success() || !complaint.is_empty() {
        return Err(fail(&format!("ffmpeg failed ({}): {complaint}", output.status)));
    }
    read_probe(&said).map_err(|what| fail(&what))
}

/// The lines that ffmpeg marks as errors; without any, its last words.
fn complaint(said: &str) -> String {
    let found: Vec<String> = said.lines().filter_map(complaint_in).take(8).collect();
    let marked = said.lines().any(|line| line.contains("[info] "));
    if found.is_empty() && !marked {
        return said.trim().chars().take(2_000).collect::<String>().replace('\n', "; ");
    }
    found.join("; ")
}

/// The text of a line that ffmpeg marks as an error.
pub(super) fn complaint_in(line: &str) -> Option<String> {
    let marks = ["[error] ", "[fatal] ", "[panic] "];
    marks.iter().find_map(|m| line.split_once(m)).map(|(_, text)| text.trim().to_string())
}

/// What the filter `showinfo` says, line by line.
#[derive(Debug, Default)]
pub(super) struct Showinfo {
    /// Seconds per unit of the time stamps.
    tick: Option<f64>,
    /// Frames per second.
    rate: Option<f64>,
}

/// What it says of a frame.
pub(super) struct ShownFrame {
    /// Time stamp in ticks.
    stamp: Option<i64>,
    /// Time stamp in seconds.
    pub(super) seconds: Option<f64>,
    /// Width and height, pixels.
    pub(super) size: Option<(u32, u32)>,
}

impl Showinfo {
    /// Takes in a line; what it says of a frame.
    pub(super) fn frame(&mut self, line: &str) -> Option<ShownFrame> {
        let after = |key: &str| -> Option<&str> {
            let rest = line.split_once(key)?.1.trim_start();
            rest.split([' ', ',']).next()
        };
        let ratio = |text: &str| -> Option<f64> {
            let (a, b) = text.split_once('/')?;
            let (a, b): (f64, f64) = (a.parse().ok()?, b.parse().ok()?);
            (a > 0.0 && b > 0.0).then_some(a / b)
        };
        if !line.contains("showinfo") {
            return None;
        }
        if let Some(base) = after("config in time_base:") {
            (self.tick, self.rate) = (ratio(base), after("frame_rate:").and_then(ratio));
        }
        line.contains(" n:").then(|| {
            let stamp = after(" pts:").and_then(|pts| pts.parse::<i64>().ok());
            let size = after(" s:").and_then(|s| {
                let (w, h) = s.split_once('x')?;
                Some((w.parse::<u32>().ok()?, h.parse::<u32>().ok()?))
            });
            ShownFrame { stamp, seconds: stamp.zip(self.tick).map(|(stamp, tick)| stamp as f64 * tick), size }
        })
    }
}

/// From what ffmpeg says with `-v level+info` and the filter `showinfo`.
fn read_probe(said: &str) -> Result<Probe, String> {
    let mut showinfo = Showinfo::default();
    let shown: Vec<ShownFrame> = said.lines().filter_map(|line| showinfo.frame(line)).collect();
    if shown.is_empty() {
        return Err("no video frame in it".to_string());
    }
    let size = shown.iter().find_map(|frame| frame.size);
    let (width, height) = size.ok_or("ffmpeg does not say how large its frames are")?;
    let (side, pixels) = (u64::from(MAX_SIDE), u64::from(width) * u64::from(height));
    if u64::from(width.max(height)) > side || pixels > MAX_PIXELS {
        return Err(format!("frames of {width}x{height} are not read"));
    }
    let frames = shown.len();
    let stamps = shown.iter().map(|frame| frame.stamp).collect::<Option<Vec<i64>>>();
    let (fps, times) = match (stamps, showinfo.tick) {
        (Some(stamps), Some(tick)) => clock(&stamps, tick, showinfo.rate),
        _ => (showinfo.rate, None),
    };
    Ok(Probe { width, height, frames, fps, times, remarks: remarks(said) })
}

/// Frames per second and, where the frames do not come evenly, the time of each.
fn clock(stamps: &[i64], tick: f64, rate: Option<f64>) -> (Option<f64>, Option<Arc<[u64]>>) {
    let mut last = 0;
    let seconds: Vec<f64> = stamps
        .iter()
        .map(|s| {
            last = last.max(s - stamps[0]);
            last as f64 * tick
        })
        .collect();
    let span = seconds.last().copied().unwrap_or_default();
    let mean = (span > 0.0).then(|| (seconds.len() - 1) as f64 / span);
    let Some(mean) = mean else { return (rate, None) };
    // Stamps are rounded to the file's time base: Matroska's milliseconds are an even 60 frames per second all the same.
    let even = |fps: f64| seconds.iter().enumerate().all(|(i, s)| (s - i as f64 / fps).abs() <= tick * 1.001);
    match rate.into_iter().chain([mean]).find(|fps| even(*fps)) {
        Some(fps) => (Some(fps), None),
        None => (Some(mean), Some(seconds.iter().map(|s| (s * 1e9).round() as u64).collect())),
    }
}

/// What the file's metadata says that changes how its frames look.
fn remarks(said: &str) -> Vec<String> {
    let input = said.split("Stream mapping:").next().unwrap_or_default();
    let mut remarks = Vec::new();
    let turn =
        input.lines().find_map(|l| l.split_once("displaymatrix: rotation of ")?.1.split(' ').next()?.parse().ok());
    if let Some(degrees) = turn.filter(|d: &f64| d.abs() > 0.5) {
        remarks.push(format!(
            "the video is marked as turned by {degrees:.0} degrees, and its frames are turned as players show them; masks must \
             be drawn on the turned frames"
        ));
    }
    let stream = input.lines().find(|l| l.contains("Video:") && !l.contains("(attached pic)")).unwrap_or_default();
    if let Some(transfer) = ["smpte2084", "arib-std-b67"].iter().find(|t| stream.contains(**t)) {
        let kind = if *transfer == "smpte2084" { "PQ" } else { "HLG" };
        remarks.push(format!(
            "HDR video ({kind}): its values are taken as 8-bit RGB without tone mapping, so frames look pale; models are \
             trained on SDR, so map the tones first (ffmpeg's filters zscale and tonemap)"
        ));
    }
    remarks
}

/// The video stream that is read: the first that is no cover picture.
pub(super) const STREAM: &str = "0:V:0";

fn is_here(video: &Path) -> Result<(), DataError> {
    let fail = |what: &dyn std::fmt::Display| Err(DataError(format!("{}: {what}", video.display())));
    if !video.exists() {
        return fail(&"no such file");
    }
    let mut start = Vec::new();
    match files::plain(video).and_then(|file| file.take(64).read_to_end(&mut start)) {
        Err(e) => fail(&e),
        Ok(_) if is_lfs_pointer(&start) => fail(&LFS_POINTER),
        Ok(_) => Ok(()),
    }
}

fn no_ffmpeg(ffmpeg: &Path, video: &Path, error: &std::io::Error) -> DataError {
    DataError(format!(
        "{}: {} cannot be started ({error}); install ffmpeg (apt install ffmpeg), or unpack the frames into a folder of JPEG \
         or PNG files",
        video.display(),
        ffmpeg.display()
    ))
}

/// The option that keeps ffmpeg from dropping or repeating frames: its name changed with version 5.1, and the old one
/// goes away.
pub(super) fn pass_all(ffmpeg: &Path) -> [&'static str; 2] {
    let modern = ["-fps_mode", "passthrough"];
    if knows(ffmpeg, &modern) { modern } else { ["-vsync", "0"] }
}

/// The filter that says size and time of each frame; where this ffmpeg can leave it out, without a sum over the pixels.
pub(super) fn quiet_showinfo(ffmpeg: &Path) -> &'static str {
    let quiet = "showinfo=checksum=0";
    if knows(ffmpeg, &["-vf", quiet]) { quiet } else { "showinfo" }
}

/// Does this ffmpeg take these words? One drawn frame tells. One that cannot be started says so when it is used.
fn knows(ffmpeg: &Path, words: &[&str]) -> bool {
    let tried = Command::new(ffmpeg)
        .args(["-nostdin", "-v", "quiet", "-f", "lavfi", "-i", "nullsrc=s=16x16", "-frames:v", "1"])
        .args(words)
        .args(["-f", "null", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.map_or(true, |status| status.success())
}

/// A running ffmpeg and its frames.
pub(super) struct VideoStream {
    name: String,
    child: Child,
    /// A file, not a pipe: a damaged video makes ffmpeg say more than a pipe holds, and it would wait for us.
    complaints: File,
    frames: BufReader<std::process::ChildStdout>,
}

impl VideoStream {
    /// Starts ffmpeg on `video`.
    pub(super) fn open(ffmpeg: &Path, video: &Path) -> Result<VideoStream, DataError> {
        let name = video.display().to_string();
        is_here(video)?;
        let fail = |e: std::io::Error| DataError(format!("{name}: no temporary file for ffmpeg's messages ({e})"));
        let complaints = tempfile::tempfile().map_err(fail)?;
        let stderr = complaints.try_clone().map_err(fail)?;
        // With its protocol said, no name is taken for another (`concat:a|b`) or for an option.
        let mut url = OsString::from("file:");
        url.push(video);
        // Every coded frame once, whatever its time stamp says.
        let mut child = Command::new(ffmpeg)
            .args(["-nostdin", "-v", "error", "-protocol_whitelist", "file", "-format_whitelist", DEMUXERS, "-i"])
            .arg(url)
            .args(["-map", STREAM, "-vf", "setpts=N/TB", "-pix_fmt", "rgb24"])
            .args(pass_all(ffmpeg))
            .args(["-f", "image2pipe", "-c:v", "ppm", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|e| no_ffmpeg(ffmpeg, video, &e))?;
        let stdout = child.stdout.take().ok_or_else(|| DataError(format!("{name}: no pipe from ffmpeg")))?;
        Ok(VideoStream { name, child, complaints, frames: BufReader::with_capacity(1 << 20, stdout) })
    }

    /// The next frame; `None` after the last.
    pub(super) fn next_frame(&mut self) -> Result<Option<RgbFrame>, DataError> {
        self.next_frame_in(Vec::new())
    }

    /// As [`VideoStream::next_frame`], with pixels in the memory of `rgb`.
    pub(super) fn next_frame_in(&mut self, rgb: Vec<u8>) -> Result<Option<RgbFrame>, DataError> {
        match ppm::read(&mut self.frames, rgb) {
            Ok(Some(frame)) => Ok(Some(frame)),
            Ok(None) => self.ended(),
            Err(what) => Err(DataError(format!("{}: {what}", self.name))),
        }
    }

    /// The pipe is closed: well, or with a message from ffmpeg?
    fn ended(&mut self) -> Result<Option<RgbFrame>, DataError> {
        let fail = |e: std::io::Error| DataError(format!("{}: {e}", self.name));
        let status = self.child.wait().map_err(fail)?;
        let mut message = Vec::new();
        self.complaints.rewind().map_err(fail)?;
        self.complaints.by_ref().take(2_000).read_to_end(&mut message).map_err(fail)?;
        let message = String::from_utf8_lossy(&message);
        // A damaged stream can end with status 0: what ffmpeg complains about counts.
        if !status.success() || !message.trim().is_empty() {
            let message = message.trim().replace('\n', "; ");
            return Err(DataError(format!("{}: ffmpeg failed ({status}): {message}", self.name)));
        }
        Ok(None)
    }
}

impl Drop for VideoStream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_ffmpeg_the_error_says_what_to_do() {
        let video = tempfile::NamedTempFile::with_suffix(".mp4").unwrap();
        let error = probe(Path::new("/nonexistent/ffmpeg"), video.path()).unwrap_err().to_string();
        assert!(error.contains("install ffmpeg") && error.contains(".mp4"), "{error}");
    }

    #[test]
    fn video_names_are_recognised() {
        assert!(is_video("a.MP4") && is_video("b.webm") && !is_video("c.jpg") && !is_video("mp4"));
    }

    /// A stand-in for ffmpeg: frames, then an exit status and a message.
    #[cfg(unix)]
    fn stand_in(dir: &Path, script: &str) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("ffmpeg");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    #[cfg(unix)]
    fn frames_are_read_and_failures_told() {
        let dir = tempfile::tempdir().unwrap();
        let video = dir.path().join("v.mp4");
        std::fs::write(&video, "x").unwrap();
        let frame = "printf 'P6\\n2 1\\n255\\nabcdef'";
        let info = |frames: u32, stamps: &str| {
            let config = "[Parsed_showinfo_0 @ 0x1] [info] config in time_base: 1/1000, frame_rate: 60/1";
            let line = |(n, pts): (usize, &str)| {
                format!("[Parsed_showinfo_0 @ 0x1] [info] n:   {n} pts:  {pts} pts_time:1.5   fmt:x s:2x1 i:P")
            };
            let lines: Vec<String> = stamps.split(' ').enumerate().map(line).collect();
            assert_eq!(lines.len(), frames as usize);
            format!("cat >&2 <<'X'\n{config}\n{}\nX\n", lines.join("\n"))
        };
        let even = Probe { width: 2, height: 1, frames: 4, fps: Some(60.0), times: None, remarks: Vec::new() };
        let good = stand_in(dir.path(), &info(4, "100 117 133 150"));
        assert_eq!(probe(&good, &video).unwrap(), even, "milliseconds of an even 60 frames per second");
        let good = stand_in(dir.path(), &info(4, "0 17 33 533"));
        let found = probe(&good, &video).unwrap();
        assert_eq!(found.times.as_deref(), Some(&[0, 17_000_000, 33_000_000, 533_000_000][..]));
        assert!((found.fps.unwrap() - 3.0 / 0.533).abs() < 1e-9, "{found:?}");
        let good = stand_in(dir.path(), &info(2, "NOPTS NOPTS"));
        assert_eq!(probe(&good, &video).unwrap().fps, Some(60.0));
        for (script, wanted) in [
            ("echo 'moov atom not found' >&2; exit 1".to_string(), "moov atom"),
            (format!("{}echo '[h264 @ 0x1] [error] corrupt frame' >&2", info(1, "0")), "corrupt frame"),
            (info(1, "0").replace("2x1", "99999x9"), "99999x9"),
            ("exit 0".to_string(), "no video frame"),
        ] {
            let bad = stand_in(dir.path(), &script);
            let error = probe(&bad, &video).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains("v.mp4"), "{script}: {error}");
        }
        let good = stand_in(dir.path(), &format!("{frame}; {frame}"));
        let mut stream = VideoStream::open(&good, &video).unwrap();
        assert_eq!(stream.next_frame().unwrap().unwrap().rgb, b"abcdef");
        assert_eq!(stream.next_frame().unwrap().unwrap().rgb, b"abcdef");
        assert_eq!(stream.next_frame().unwrap(), None);
        for (script, wanted) in [
            (format!("{frame}; echo 'moov atom not found' >&2; exit 1"), "moov atom"),
            ("printf 'P6\\n2 1\\n255\\nabc'".to_string(), "inside a frame"),
            ("printf 'P6\\n99999999999999999999 1\\n255\\n'".to_string(), "damaged frame header"),
            ("printf 'P6\\n99999 9\\n255\\n'".to_string(), "99999x9"),
        ] {
            let bad = stand_in(dir.path(), &script);
            let mut stream = VideoStream::open(&bad, &video).unwrap();
            let error = (0..2).find_map(|_| stream.next_frame().err()).unwrap().to_string();
            assert!(error.contains(wanted) && error.contains("v.mp4"), "{script}: {error}");
        }
        std::fs::write(&video, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n").unwrap();
        assert!(probe(&good, &video).unwrap_err().0.contains("git lfs pull"));
    }

    #[test]
    fn turned_and_hdr_videos_are_named() {
        let said = "[info]   Stream #0:0: Video: hevc (Main 10), yuv420p10le(tv, bt2020nc/bt2020/smpte2084), 64x48\n\
                    [info]       displaymatrix: rotation of -90.00 degrees\n[info] Stream mapping:\n\
                    [info]       displaymatrix: rotation of -0.00 degrees\n";
        let found = remarks(said).join(" ");
        assert!(found.contains("turned by -90 degrees") && found.contains("HDR video (PQ)"), "{found}");
        let plain = "[info]   Stream #0:0: Video: h264 (High), yuv420p(tv, bt709), 64x48\n[info] Stream mapping:\n\
                     [info]       displaymatrix: rotation of 90.00 degrees\n";
        assert_eq!(remarks(plain), [""; 0]);
    }
}
