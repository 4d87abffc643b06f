//! Frames as they come: from ffmpeg, which reads a stream or a camera and says when each frame was captured, or from a pipe.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Address, LiveKind, PipeFormat, Secret};
use crate::child::die_with_parent;
use crate::dataset::video::{STREAM, Showinfo, complaint_in, pass_all, quiet_showinfo};
use crate::dataset::{DataError, RgbFrame, ppm};

/// What ffmpeg may speak, and what it may take for a stream: an address must not lead it to files.
const PROTOCOLS: &str = "rtsp,rtp,udp,tcp,tls,crypto,srtp";
const DEMUXERS: &str = "rtsp,rtp,sdp,mpegts,h264,hevc,mjpeg,mpjpeg";
/// Complaints of ffmpeg that are kept, the newest.
const COMPLAINTS: usize = 8;
/// A frame's stamp is said before the frame; longer than this it is not waited for.
const STAMP_WAIT: Duration = Duration::from_secs(5);

/// One frame.
#[derive(Debug)]
pub struct LiveFrame {
    /// Its pixels.
    pub image: RgbFrame,
    /// When the whole frame had been read.
    pub arrived: Instant,
    /// When it was captured; `None`: its source has such a clock, and did not say it of this frame.
    pub captured: Option<Instant>,
    /// From its first byte to its last.
    pub reading: Duration,
}

/// A running source.
pub struct Source {
    frames: BufReader<Box<dyn Read + Send>>,
    format: PipeFormat,
    /// Size of every frame, once it is known.
    size: Option<(u32, u32)>,
    /// The header of the next frame has been read.
    header_read: bool,
    ffmpeg: Option<Ffmpeg>,
}

struct Ffmpeg {
    child: Arc<Mutex<Child>>,
    said: Receiver<Said>,
    complaints: Arc<Mutex<VecDeque<String>>>,
    address: Secret,
}

/// What ffmpeg says of a frame.
struct Said {
    size: Option<(u32, u32)>,
    /// Since 1970.
    captured: Option<Duration>,
}

impl Source {
    /// Has `ffmpeg` read a stream or a camera; `fps` is asked of a camera.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn open(ffmpeg: &Path, kind: LiveKind, address: &Secret, fps: Option<f64>) -> Result<Source, DataError> {
        let mut command = Command::new(ffmpeg);
        die_with_parent(&mut command);
        command.args(["-nostdin", "-hide_banner", "-nostats", "-v", "level+info", "-thread_type", "slice"]);
        match kind {
            LiveKind::Camera => {
                command.args(["-f", "v4l2", "-timestamps", "abs"]);
                command.args(fps.iter().flat_map(|fps| ["-framerate".to_string(), fps.to_string()]));
            }
            _ => {
                command.args(["-protocol_whitelist", PROTOCOLS, "-format_whitelist", DEMUXERS]);
                command.args([
                    "-fflags",
                    "nobuffer",
                    "-analyzeduration",
                    "1000000",
                    "-use_wallclock_as_timestamps",
                    "1",
                ]);
            }
        }
        let mut child = command
            .args(["-i", &address.0, "-map", STREAM, "-copyts", "-vf", quiet_showinfo(ffmpeg)])
            .args(pass_all(ffmpeg))
            .args(["-f", "image2pipe", "-c:v", "ppm", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| {
                DataError(format!(
                    "{} cannot be started ({e}); streams and cameras are read through it: install ffmpeg (apt install ffmpeg)",
                    ffmpeg.display()
                ))
            })?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(DataError("no pipe from ffmpeg".to_string()));
        };
        let (say, said) = channel();
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&complaints);
        std::thread::spawn(move || {
            let mut showinfo = Showinfo::default();
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                if let Some(frame) = showinfo.frame(&line) {
                    let captured = frame.seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
                    let _ = say.send(Said { size: frame.size, captured });
                } else if let Some(text) = complaint_in(&line) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push_back(text);
                    let over = kept.len().saturating_sub(COMPLAINTS);
                    kept.drain(..over);
                }
            }
        });
        let child = Arc::new(Mutex::new(child));
        let ffmpeg = Ffmpeg { child, said, complaints, address: address.clone() };
        let frames: Box<dyn Read + Send> = Box::new(stdout);
        let frames = BufReader::with_capacity(1 << 16, frames);
        Ok(Source { frames, format: PipeFormat::Ppm, size: None, header_read: false, ffmpeg: Some(ffmpeg) })
    }

    /// Frames on a pipe, of which the first header, where there is one, has been read by [`piped`].
    pub fn of_pipe(pipe: impl Read + Send + 'static, format: PipeFormat, size: (u32, u32)) -> Source {
        let frames: Box<dyn Read + Send> = Box::new(pipe);
        let header_read = format == PipeFormat::Ppm;
        Source {
            frames: BufReader::with_capacity(1 << 16, frames),
            format,
            size: Some(size),
            header_read,
            ffmpeg: None,
        }
    }

    /// What ends it, when dropped, while another thread waits for its next frame.
    pub fn stop(&self) -> Stop {
        Stop(self.ffmpeg.as_ref().map(|ffmpeg| Arc::clone(&ffmpeg.child)))
    }

    /// The next frame, with its pixels in the memory of `rgb`, when it has come; `None` where a pipe ends.
    ///
    /// # Errors
    /// The source cannot go on: it ended in a frame, changed its size, or ffmpeg ended. In words without credentials.
    pub fn next_frame(&mut self, rgb: Vec<u8>) -> Result<Option<LiveFrame>, String> {
        // Waiting for the next frame is no part of reading it.
        if !self.header_read && self.frames.fill_buf().map_err(|e| e.to_string())?.is_empty() {
            return self.ended();
        }
        let began = Instant::now();
        let image = match self.read(rgb) {
            Ok(Some(image)) => image,
            Ok(None) => return self.ended(),
            Err(what) => return Err(self.ffmpeg.as_mut().map_or(what, Ffmpeg::last_words)),
        };
        let arrived = Instant::now();
        let said = self.ffmpeg.as_ref().map(Ffmpeg::said).transpose()?;
        let shown = said.as_ref().and_then(|said| said.size).unwrap_or((image.width, image.height));
        let size = *self.size.get_or_insert(shown);
        for other in [shown, (image.width, image.height)] {
            if other != size {
                return Err(format!("its frames changed from {}x{} to {}x{}", size.0, size.1, other.0, other.1));
            }
        }
        let captured = match said {
            Some(said) => said.captured.and_then(on_our_clock),
            None => Some(arrived),
        };
        Ok(Some(LiveFrame { image, arrived, captured, reading: arrived - began }))
    }

    fn read(&mut self, mut rgb: Vec<u8>) -> Result<Option<RgbFrame>, String> {
        let (width, height) = match (self.size, self.format) {
            (Some(size), _) if std::mem::take(&mut self.header_read) => size,
            (Some(size), PipeFormat::Rgb24) => size,
            _ => return ppm::read(&mut self.frames, rgb),
        };
        let length = width as usize * height as usize * 3;
        rgb.resize(length, 0);
        let mut read = 0;
        while read < length {
            match self.frames.read(&mut rgb[read..]) {
                Ok(0) => return Err(format!("the pipe ended inside a frame, after {read} of {length} bytes")),
                Ok(more) => read += more,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        Ok(Some(RgbFrame { width, height, rgb }))
    }

    fn ended(&mut self) -> Result<Option<LiveFrame>, String> {
        self.ffmpeg.as_mut().map_or(Ok(None), |ffmpeg| Err(ffmpeg.last_words()))
    }
}

impl Ffmpeg {
    fn said(&self) -> Result<Said, String> {
        let said = self.said.recv_timeout(STAMP_WAIT);
        said.map_err(|_| "ffmpeg sent a frame and did not say when it was captured".to_string())
    }

    /// How it ended, and what it complained about.
    fn last_words(&mut self) -> String {
        let status = end(&self.child).map_or_else(|e| e.to_string(), |status| status.to_string());
        self.said.iter().for_each(drop); // until all is heard
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<&str> = complaints.iter().map(String::as_str).collect();
        let said = if said.is_empty() { String::new() } else { format!(": {}", said.join("; ")) };
        self.address.redact(&format!("ffmpeg ended ({status}){said}"))
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        let _ = end(&self.child);
    }
}

/// Ends a process that may have ended by itself: one that waits for a silent sender heeds no softer signal.
fn end(child: &Mutex<Child>) -> std::io::Result<ExitStatus> {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // One that has closed its output is about to end, and with what status is worth a moment.
    for _ in 0..50 {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill()?;
    child.wait()
}

/// Ends a source on which another thread waits.
pub struct Stop(Option<Arc<Mutex<Child>>>);

impl Drop for Stop {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Size of the frames of a stream or camera, from the first one.
///
/// # Errors
/// ffmpeg cannot be started or fails; no frame comes within `patience`.
pub fn probe(ffmpeg: &Path, address: &Address, fps: Option<f64>, patience: Duration) -> Result<(u32, u32), DataError> {
    let fail = |what: String| DataError(format!("--data {}: {what}", address.shown()));
    let mut source = Source::open(ffmpeg, address.kind, &address.whole, fps)?;
    let stop = source.stop();
    let (say, heard) = channel();
    std::thread::spawn(move || {
        let _ = say.send(source.next_frame(Vec::new()));
    });
    let frame = heard.recv_timeout(patience);
    drop(stop);
    match frame {
        Ok(Ok(Some(frame))) => Ok((frame.image.width, frame.image.height)),
        Ok(Ok(None)) => Err(fail("it ended before its first frame".to_string())),
        Ok(Err(what)) => Err(fail(what)),
        Err(_) => {
            Err(fail(format!("no frame within {} s; is it on, and is the address right?", patience.as_secs_f64())))
        }
    }
}

/// A moment of the wall clock on the monotonic one; `None` for one that is still to come, or before this machine started.
fn on_our_clock(captured: Duration) -> Option<Instant> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Instant::now().checked_sub(now.checked_sub(captured)?)
}

/// What is known of the pipe on standard input.
pub struct Piped {
    /// How frames lie on it.
    pub format: PipeFormat,
    /// Width and height of the frames, pixels.
    pub size: (u32, u32),
}

/// Standard input as a pipe of frames: raw ones of the size that is given, else PPM, of which the first header is read, and nothing more.
///
/// # Errors
/// It is a terminal; there is no header within `patience`, or another one.
pub fn piped(raw: Option<(u32, u32)>, patience: Duration) -> Result<Piped, DataError> {
    const HOW: &str = "; frames are PPM images (`ffmpeg … -f image2pipe -c:v ppm - | jetbench --data - …`), or raw with --raw rgb24:WxH";
    let fail = |what: String| DataError(format!("--data -: {what}"));
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(fail(format!("standard input is a terminal{HOW}")));
    }
    if let Some(size) = raw {
        return Ok(Piped { format: PipeFormat::Rgb24, size });
    }
    // The library's own buffer would keep what comes after the header.
    let mut pipe = File::from(stdin.as_fd().try_clone_to_owned().map_err(|e| fail(e.to_string()))?);
    let (say, heard) = channel();
    std::thread::spawn(move || say.send(ppm::header(&mut pipe)));
    match heard.recv_timeout(patience) {
        Ok(Ok(Some(size))) => Ok(Piped { format: PipeFormat::Ppm, size }),
        Ok(Ok(None)) => Err(fail("the pipe ended before its first frame".to_string())),
        Ok(Err(what)) => Err(fail(format!("{what}{HOW}"))),
        Err(_) => {
            Err(fail(format!("no frame within {} s; does the program before the pipe run?", patience.as_secs_f64())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(mut source: Source) -> (Vec<u8>, Result<(), String>) {
        let mut values = Vec::new();
        loop {
            match source.next_frame(Vec::new()) {
                Ok(Some(frame)) => {
                    assert_eq!(frame.captured, Some(frame.arrived));
                    values.extend(frame.image.rgb.iter().step_by(6));
                }
                Ok(None) => return (values, Ok(())),
                Err(what) => return (values, Err(what)),
            }
        }
    }

    #[test]
    fn frames_on_a_pipe_are_read_and_faults_told() {
        // Two pixels a frame; of PPM the first header has been read.
        let ppm = |tail: &str| {
            let bytes = format!("aaaaaaP6\n2 1\n255\nbbbbbb{tail}").into_bytes();
            values(Source::of_pipe(std::io::Cursor::new(bytes), PipeFormat::Ppm, (2, 1)))
        };
        let raw = |bytes: &str| {
            let bytes = std::io::Cursor::new(bytes.as_bytes().to_vec());
            values(Source::of_pipe(bytes, PipeFormat::Rgb24, (2, 1)))
        };
        assert_eq!(ppm(""), (b"ab".to_vec(), Ok(())));
        assert_eq!(raw("aaaaaabbbbbb"), (b"ab".to_vec(), Ok(())));
        assert_eq!(raw("aaaaaabbbb"), (b"a".to_vec(), Err("the pipe ended inside a frame, after 4 of 6 bytes".into())));
        for (tail, wanted) in [
            ("P6\n2 1\n255\ncc", "stopped inside a frame"),
            ("P6\n1 2\n255\ncccccc", "its frames changed from 2x1 to 1x2"),
            ("P5\n2 1\n255\ncc", "no PPM frame"),
        ] {
            let (seen, end) = ppm(tail);
            assert_eq!(seen, b"ab");
            assert!(end.as_ref().unwrap_err().contains(wanted), "{tail}: {end:?}");
        }
    }

    #[test]
    fn the_wall_clock_of_a_stamp_becomes_an_age() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = on_our_clock(now - Duration::from_secs(3)).unwrap().elapsed();
        assert!(age >= Duration::from_secs(3), "{age:?}");
        assert_eq!(on_our_clock(now + Duration::from_secs(3600)), None, "a stamp of the future is none");
    }
}
