//! Frames out of a video file, through the system's ffmpeg: a child process decodes, and we read its frames one by one.
//! Without ffmpeg the error says how to get it, or how to unpack the frames once.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{DataError, MAX_PIXELS, MAX_SIDE, RgbFrame};

/// File name endings that are taken for a video.
pub(super) const EXTENSIONS: [&str; 7] = ["mp4", "mov", "mkv", "webm", "avi", "m4v", "mpg"];

/// Does the name end like a video's?
pub(super) fn is_video(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// What is in a video file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frames: usize,
}

/// Decodes the whole video once to count its frames: container headers lie too often.
pub(super) fn probe(ffmpeg: &Path, video: &Path) -> Result<Probe, DataError> {
    let mut stream = VideoStream::open(ffmpeg, video)?;
    let mut found: Option<Probe> = None;
    while let Some(frame) = stream.next_frame()? {
        let probe = found.get_or_insert(Probe { width: frame.width, height: frame.height, frames: 0 });
        probe.frames += 1;
    }
    found.ok_or_else(|| DataError(format!("{}: no video frame in it", video.display())))
}

/// The option that keeps ffmpeg from dropping or repeating frames: its name changed with version 5.1, and the old one
/// goes away. One drawn frame tells which this one knows.
fn pass_all(ffmpeg: &Path) -> [&'static str; 2] {
    let modern = ["-fps_mode", "passthrough"];
    let knows = Command::new(ffmpeg)
        .args(["-nostdin", "-v", "quiet", "-f", "lavfi", "-i", "nullsrc=s=16x16", "-frames:v", "1"])
        .args(modern)
        .args(["-f", "null", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match knows {
        Ok(status) if !status.success() => ["-vsync", "0"],
        _ => modern,
    }
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
        if !video.is_file() {
            return Err(DataError(format!("{name}: no such file")));
        }
        let fail = |e: std::io::Error| DataError(format!("{name}: no temporary file for ffmpeg's messages ({e})"));
        let complaints = tempfile::tempfile().map_err(fail)?;
        let stderr = complaints.try_clone().map_err(fail)?;
        // Every coded frame once, whatever its time stamp says.
        let mut child = Command::new(ffmpeg)
            .args(["-nostdin", "-v", "error", "-i"])
            .arg(video)
            .args(["-map", "0:v:0", "-vf", "setpts=N/TB"])
            .args(pass_all(ffmpeg))
            .args(["-f", "image2pipe", "-c:v", "ppm", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|e| {
                DataError(format!(
                    "{name}: {} cannot be started ({e}); install ffmpeg (apt install ffmpeg), or unpack the frames into a \
                     folder of JPEG or PNG files",
                    ffmpeg.display()
                ))
            })?;
        let stdout = child.stdout.take().ok_or_else(|| DataError(format!("{name}: no pipe from ffmpeg")))?;
        Ok(VideoStream { name, child, complaints, frames: BufReader::with_capacity(1 << 20, stdout) })
    }

    /// The next frame; `None` after the last.
    pub(super) fn next_frame(&mut self) -> Result<Option<RgbFrame>, DataError> {
        self.next_frame_in(Vec::new())
    }

    /// As [`VideoStream::next_frame`], with pixels in the memory of `rgb`.
    pub(super) fn next_frame_in(&mut self, mut rgb: Vec<u8>) -> Result<Option<RgbFrame>, DataError> {
        let fail = |what: String| DataError(format!("{}: {what}", self.name));
        let mut fields = [0u64; 3];
        let mut magic = [0u8; 2];
        match self.frames.read(&mut magic[..1]) {
            Ok(0) => return self.ended(),
            Ok(_) => {}
            Err(e) => return Err(fail(e.to_string())),
        }
        self.frames.read_exact(&mut magic[1..]).map_err(|e| fail(format!("ffmpeg stopped inside a frame ({e})")))?;
        if &magic != b"P6" {
            return Err(fail("ffmpeg sent something that is no frame".to_string()));
        }
        for field in &mut fields {
            *field = number(&mut self.frames).ok_or_else(|| fail("ffmpeg sent a damaged frame header".to_string()))?;
        }
        let [width, height, levels] = fields;
        let side = u64::from(MAX_SIDE);
        if levels != 255 || !(1..=side).contains(&width) || !(1..=side).contains(&height) || width * height > MAX_PIXELS
        {
            return Err(fail(format!("frames of {width}x{height} with {levels} levels are not read")));
        }
        rgb.resize((width * height * 3) as usize, 0);
        self.frames.read_exact(&mut rgb).map_err(|e| fail(format!("ffmpeg stopped inside a frame ({e})")))?;
        Ok(Some(RgbFrame { width: width as u32, height: height as u32, rgb }))
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

/// A decimal number and the single white space after it, with white space before it skipped.
fn number(from: &mut impl BufRead) -> Option<u64> {
    let mut value: Option<u64> = None;
    loop {
        let mut byte = [0u8];
        from.read_exact(&mut byte).ok()?;
        match byte[0] {
            b'0'..=b'9' => value = Some(value.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(byte[0] - b'0'))?),
            b' ' | b'\n' | b'\r' | b'\t' if value.is_none() => {}
            b' ' | b'\n' | b'\r' | b'\t' => return value,
            _ => return None,
        }
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
        let good = stand_in(dir.path(), &format!("{frame}; {frame}"));
        assert_eq!(probe(&good, &video).unwrap(), Probe { width: 2, height: 1, frames: 2 });
        let mut stream = VideoStream::open(&good, &video).unwrap();
        assert_eq!(stream.next_frame().unwrap().unwrap().rgb, b"abcdef");
        drop(stream);
        for (script, wanted) in [
            (format!("{frame}; echo 'moov atom not found' >&2; exit 1"), "moov atom"),
            ("printf 'P6\\n2 1\\n255\\nabc'".to_string(), "inside a frame"),
            ("printf 'P6\\n99999999999999999999 1\\n255\\n'".to_string(), "damaged frame header"),
            ("printf 'P6\\n99999 9\\n255\\n'".to_string(), "99999x9"),
            ("exit 0".to_string(), "no video frame"),
        ] {
            let bad = stand_in(dir.path(), &script);
            let error = probe(&bad, &video).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains("v.mp4"), "{script}: {error}");
        }
    }
}
