//! Drawn frames as an MP4 file (H.264), through the system's ffmpeg: a child process takes raw frames one by one. Like all drawing
//! it comes after tracking, never while frames are timed.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::dataset::{FFMPEG, RgbFrame};
use crate::results::store::WRITING;

/// Why there is no movie.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MovieError(String);

/// Every frame of `frames`, in order, as the movie `path`; how many there were.
///
/// # Errors
/// What `frames` gives; frames of several sizes; ffmpeg is missing or fails. No file is left then.
pub fn encode<E: From<MovieError>>(
    frames: impl IntoIterator<Item = Result<RgbFrame, E>>,
    fps: f64,
    path: &Path,
) -> Result<usize, E> {
    let mut movie = Movie::create(path, fps);
    for frame in frames {
        movie.push(&frame?)?;
    }
    Ok(movie.finish()?)
}

/// Can this machine make movies? Two small frames tell.
///
/// # Errors
/// ffmpeg is missing, or has no encoder for H.264: why.
pub fn proof() -> Result<(), MovieError> {
    let dir = tempfile::tempdir().map_err(|e| MovieError(format!("no temporary directory ({e})")))?;
    let frame = RgbFrame { width: 16, height: 16, rgb: vec![128; 16 * 16 * 3] };
    encode((0..2).map(|_| Ok(frame.clone())), 1.0, &dir.path().join("proof.mp4")).map(|_: usize| ())
}

/// The name of a movie.
pub fn file_name(name: &str) -> String {
    format!("{name}.mp4")
}

/// The name that a movie has until it is whole.
pub fn unfinished_name(name: &str) -> String {
    format!("{WRITING}{}", file_name(name))
}

/// A movie that is being made. It has its name when it is whole; one that is dropped before leaves nothing.
pub struct Movie {
    path: PathBuf,
    fps: f64,
    started: Option<Encoder>,
    frames: usize,
}

/// A running ffmpeg.
struct Encoder {
    child: Child,
    pipe: Option<BufWriter<ChildStdin>>,
    /// A file, not a pipe, which ffmpeg could fill while we write frames.
    complaints: File,
    size: (u32, u32),
    writing: PathBuf,
}

impl Movie {
    /// Begins with the first frame, which says the size.
    pub fn create(path: &Path, fps: f64) -> Movie {
        Movie { path: path.to_path_buf(), fps, started: None, frames: 0 }
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// It has another size than those before; ffmpeg cannot be started or has stopped: what it said.
    pub fn push(&mut self, frame: &RgbFrame) -> Result<(), MovieError> {
        let size = (frame.width, frame.height);
        let encoder = match &mut self.started {
            Some(encoder) => encoder,
            none => none.insert(Encoder::start(&self.path, size, self.fps)?),
        };
        if encoder.size != size || frame.rgb.len() != size.0 as usize * size.1 as usize * 3 {
            let (w, h) = encoder.size;
            return Err(MovieError(format!("{}: frame {} is not {w}x{h}", self.path.display(), self.frames)));
        }
        let written = encoder.pipe.as_mut().map(|pipe| pipe.write_all(&frame.rgb));
        if !matches!(written, Some(Ok(()))) {
            return Err(encoder
                .end()
                .err()
                .unwrap_or_else(|| MovieError("ffmpeg stopped before the last frame".into())));
        }
        self.frames += 1;
        Ok(())
    }

    /// The movie is whole: how many frames it has. Without any there is no file.
    ///
    /// # Errors
    /// ffmpeg fails, or the file cannot get its name.
    pub fn finish(mut self) -> Result<usize, MovieError> {
        if let Some(encoder) = &mut self.started {
            encoder.end()?;
            std::fs::rename(&encoder.writing, &self.path)
                .map_err(|e| MovieError(format!("cannot write {}: {e}", self.path.display())))?;
        }
        Ok(self.frames)
    }
}

impl Encoder {
    fn start(path: &Path, size: (u32, u32), fps: f64) -> Result<Encoder, MovieError> {
        let fault = |what: String| MovieError(format!("{}: {what}", path.display()));
        let complaints = tempfile::tempfile().map_err(|e| fault(format!("no temporary file ({e})")))?;
        let stderr = complaints.try_clone().map_err(|e| fault(e.to_string()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let writing = path.with_file_name(format!("{WRITING}{name}"));
        // With its protocol said, no name is taken for another or for an option.
        let mut url = std::ffi::OsString::from("file:");
        url.push(&writing);
        let mut child = Command::new(FFMPEG)
            .args(["-nostdin", "-hide_banner", "-nostats", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"])
            .args(["-s", &format!("{}x{}", size.0, size.1), "-r", &fps.to_string(), "-i", "pipe:0"])
            // Players want 4:2:0, which has even sides.
            .args(["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"])
            .args(["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-movflags", "+faststart", "-f", "mp4"])
            .arg(url)
            // Ctrl-C is for us: what is begun is finished or removed.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|e| fault(format!("{FFMPEG} cannot be started ({e}); install ffmpeg (apt install ffmpeg)")))?;
        let pipe = child.stdin.take().map(|pipe| BufWriter::with_capacity(1 << 20, pipe));
        Ok(Encoder { child, pipe, complaints, size, writing })
    }

    /// Closes the pipe and waits.
    fn end(&mut self) -> Result<(), MovieError> {
        let fault = |what: String| MovieError(format!("{}: {what}", self.writing.display()));
        let flushed = self.pipe.take().map_or(Ok(()), |mut pipe| pipe.flush());
        let status = self.child.wait().map_err(|e| fault(e.to_string()))?;
        let mut said = Vec::new();
        let read = self.complaints.rewind().and_then(|()| (&self.complaints).take(2_000).read_to_end(&mut said));
        let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
        if !status.success() || read.is_err() || flushed.is_err() {
            return Err(fault(format!("ffmpeg failed ({status}): {said}")));
        }
        Ok(())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.writing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(width: u32, height: u32, grey: u8) -> Result<RgbFrame, MovieError> {
        Ok(RgbFrame { width, height, rgb: vec![grey; (width * height * 3) as usize] })
    }

    #[test]
    fn what_is_encoded_is_decoded_frame_by_frame() {
        if let Err(why) = proof() {
            return eprintln!("skipped: {why}");
        }
        let dir = tempfile::tempdir().unwrap();
        // Odd sides, and a name that is none for ffmpeg.
        let path = dir.path().join("-i 10:20|%03d.mp4");
        let greys = [10, 200, 60, 120, 250];
        assert_eq!(encode(greys.map(|grey| frame(33, 21, grey)), 12.5, &path), Ok(5));
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [path.file_name().unwrap()], "nothing else is left");
        let file = crate::dataset::FrameFile { path: path.clone(), name: String::new() };
        let sequence = crate::dataset::Sequence {
            name: String::new(),
            frames: vec![file; greys.len()],
            objects: Vec::new(),
            fps: 12.5,
            times: None,
            width: 34,
            height: 22,
            guide: crate::dataset::Guide::Truth(crate::dataset::MaskSource::LabelMaps(PathBuf::new())),
            video: Some(path.clone()),
            witness: None,
            findings: Vec::new(),
        };
        let mut picker = sequence.picker();
        for (i, grey) in greys.iter().enumerate() {
            let rgb = picker.frame(i).unwrap().rgb;
            assert!(rgb[0].abs_diff(*grey) <= 4, "frame {i}: {} for {grey}", rgb[0]);
        }
        assert!(picker.frame(greys.len()).is_err(), "one more frame than was encoded");
    }

    #[test]
    fn what_fails_leaves_no_file_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mp4");
        let error = encode([frame(8, 8, 0), Err(MovieError("no frame".into()))], 1.0, &path).unwrap_err();
        if proof().is_ok() {
            assert_eq!(error.to_string(), "no frame");
            let error = encode([frame(8, 8, 0), frame(8, 10, 0)], 1.0, &path).unwrap_err().to_string();
            assert!(error.contains("a.mp4: frame 1 is not 8x8"), "{error}");
            let error = encode([frame(8, 8, 0)], 1.0, &dir.path().join("no/a.mp4")).unwrap_err().to_string();
            assert!(error.contains("ffmpeg failed") && error.contains("No such file"), "{error}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(encode([], 1.0, &path), Ok::<_, MovieError>(0));
    }
}
