//! The worker's results on their way to the scorer: one binary file per sequence, written frame by frame outside the
//! timed spans, so that the worker's memory does not grow with the length of a video and a finished sequence survives
//! whatever happens to the worker afterwards. Masks are run lengths; times are whole nanoseconds.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetbench_runners::files;
use jetbench_runners::types::{FrameMasks, Mask, Stage, StageTimes};

use crate::results::record::FrameRecord;

const MAGIC: &[u8; 8] = b"JBSPOOL2";

/// Times of one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameTimes {
    /// Index in the (possibly looped) video, from 0.
    pub frame: u32,
    /// Decode on the read-ahead thread.
    pub decode: Duration,
    /// RGB bytes in host memory to masks in host memory.
    pub latency: Duration,
    /// By stage, as the runner reports them.
    pub stages: StageTimes,
    /// In real time: from arrival to masks.
    pub response: Option<Duration>,
}

impl FrameTimes {
    /// As written to the record; `objects` is the number of live objects.
    pub fn record(&self, objects: u32) -> FrameRecord {
        let mut stages_ms = std::collections::BTreeMap::new();
        for (stage, time) in self.stages.iter() {
            *stages_ms.entry(stage.as_str().to_string()).or_insert(0.0) += ms(time);
        }
        FrameRecord {
            frame: self.frame,
            objects,
            decode_ms: ms(self.decode),
            stages_ms,
            latency_ms: ms(self.latency),
            response_ms: self.response.map(ms),
        }
    }
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

/// One object on one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct SpooledObject {
    /// Number within the sequence.
    pub object: u32,
    /// Object-score logit.
    pub object_score: f32,
    /// Predicted IoU; NaN where the prompt bypasses the decoder.
    pub predicted_iou: f32,
    /// All outputs finite.
    pub finite: bool,
    /// Run lengths, row-major, background first.
    pub runs: Vec<u32>,
}

/// One frame as read back.
#[derive(Clone, Debug, PartialEq)]
pub struct SpooledFrame {
    /// Its times; of a dropped frame only the index.
    pub times: FrameTimes,
    /// It was not worked on; its objects are those of the frame before.
    pub dropped: bool,
    /// Live objects.
    pub objects: Vec<SpooledObject>,
}

/// Writes one sequence.
pub struct Writer {
    file: BufWriter<File>,
    frames: u32,
    /// Runs of the mask that is being written; its memory is used again.
    runs: Vec<u32>,
}

impl Writer {
    /// Creates the file, for masks of `width` x `height` pixels.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(path: &Path, width: u32, height: u32) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 16, files::create(path)?);
        file.write_all(MAGIC)?;
        file.write_all(&width.to_le_bytes())?;
        file.write_all(&height.to_le_bytes())?;
        Ok(Writer { file, frames: 0, runs: Vec::new() })
    }

    /// Appends one frame.
    ///
    /// # Errors
    /// The file system's.
    pub fn frame(&mut self, times: &FrameTimes, masks: &FrameMasks) -> io::Result<()> {
        let out = &mut self.file;
        let nanos = |time: Duration| (time.as_nanos() as u64).to_le_bytes();
        out.write_all(b"F")?;
        out.write_all(&times.frame.to_le_bytes())?;
        out.write_all(&nanos(times.decode))?;
        out.write_all(&nanos(times.latency))?;
        out.write_all(&times.response.map_or(u64::MAX, |r| r.as_nanos() as u64).to_le_bytes())?;
        out.write_all(&[times.stages.iter().count() as u8])?;
        for (stage, time) in times.stages.iter() {
            out.write_all(&[stage as u8])?;
            out.write_all(&nanos(time))?;
        }
        out.write_all(&(masks.objects.len() as u32).to_le_bytes())?;
        for object in &masks.objects {
            out.write_all(&object.object.to_le_bytes())?;
            out.write_all(&object.object_score.to_le_bytes())?;
            out.write_all(&object.predicted_iou.to_le_bytes())?;
            out.write_all(&[u8::from(object.finite)])?;
            object.mask.runs_into(&mut self.runs);
            out.write_all(&(self.runs.len() as u32).to_le_bytes())?;
            for run in &self.runs {
                out.write_all(&run.to_le_bytes())?;
            }
        }
        self.frames += 1;
        Ok(())
    }

    /// Notes a frame that was dropped: it keeps the masks of the one before.
    ///
    /// # Errors
    /// The file system's.
    pub fn dropped(&mut self, frame: u32) -> io::Result<()> {
        self.file.write_all(b"D")?;
        self.file.write_all(&frame.to_le_bytes())?;
        self.frames += 1;
        Ok(())
    }

    /// Writes the end mark and waits until everything is on disk.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.write_all(b"E")?;
        self.file.write_all(&self.frames.to_le_bytes())?;
        self.file.flush()?;
        self.file.get_ref().sync_data()
    }
}

/// What is wrong with a spool file: the file and the fault.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct SpoolError {
    /// The file.
    pub path: PathBuf,
    /// The fault.
    pub fault: String,
}

/// Reads one sequence, frame by frame.
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    frames: u32,
    last: Vec<SpooledObject>,
    done: bool,
    /// Mask width in pixels.
    pub width: u32,
    /// Mask height in pixels.
    pub height: u32,
}

impl Reader {
    /// Opens a spool file.
    ///
    /// # Errors
    /// It cannot be read, or is no spool file.
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let fault = |e: io::Error| SpoolError { path: path.to_path_buf(), fault: e.to_string() };
        let mut file = BufReader::with_capacity(1 << 16, files::plain(path).map_err(fault)?);
        let magic: [u8; 8] = bytes(&mut file).map_err(fault)?;
        if &magic != MAGIC {
            return Err(SpoolError { path: path.to_path_buf(), fault: "is not a spool file".into() });
        }
        let width = u32::from_le_bytes(bytes(&mut file).map_err(fault)?);
        let height = u32::from_le_bytes(bytes(&mut file).map_err(fault)?);
        Ok(Reader { path: path.to_path_buf(), file, frames: 0, last: Vec::new(), done: false, width, height })
    }

    /// The mask of an object.
    ///
    /// # Errors
    /// The runs do not add up to the mask's size.
    pub fn mask(width: u32, height: u32, object: &SpooledObject) -> Result<Mask, String> {
        Mask::from_runs(width, height, &object.runs)
            .ok_or_else(|| format!("mask runs of object {} do not add up to {width}x{height}", object.object))
    }

    fn read(&mut self) -> io::Result<Option<SpooledFrame>> {
        let invalid = |fault: &str| io::Error::new(io::ErrorKind::InvalidData, fault.to_string());
        let file = &mut self.file;
        match &bytes::<1>(file)? {
            b"F" => {}
            b"D" => {
                let times = FrameTimes { frame: u32::from_le_bytes(bytes(file)?), ..FrameTimes::default() };
                self.frames += 1;
                return Ok(Some(SpooledFrame { times, dropped: true, objects: self.last.clone() }));
            }
            b"E" => {
                let frames = u32::from_le_bytes(bytes(file)?);
                if frames != self.frames {
                    return Err(invalid("the end mark counts another number of frames"));
                }
                return Ok(None);
            }
            _ => return Err(invalid("neither a frame nor the end mark where one is due")),
        }
        let frame = u32::from_le_bytes(bytes(file)?);
        let decode = Duration::from_nanos(u64::from_le_bytes(bytes(file)?));
        let latency = Duration::from_nanos(u64::from_le_bytes(bytes(file)?));
        let response = match u64::from_le_bytes(bytes(file)?) {
            u64::MAX => None,
            nanos => Some(Duration::from_nanos(nanos)),
        };
        let [count] = bytes(file)?;
        let mut stages = StageTimes::default();
        for _ in 0..count {
            let [index] = bytes(file)?;
            let stage = *Stage::ALL.get(usize::from(index)).ok_or_else(|| invalid("unknown stage"))?;
            stages.add(stage, Duration::from_nanos(u64::from_le_bytes(bytes(file)?)));
        }
        let mut objects = Vec::new();
        for _ in 0..u32::from_le_bytes(bytes(file)?) {
            let object = u32::from_le_bytes(bytes(file)?);
            let object_score = f32::from_le_bytes(bytes(file)?);
            let predicted_iou = f32::from_le_bytes(bytes(file)?);
            let [finite] = bytes(file)?;
            let count = u64::from(u32::from_le_bytes(bytes(file)?));
            if count > u64::from(self.width) * u64::from(self.height) + 1 {
                return Err(invalid("more mask runs than pixels"));
            }
            let runs = (0..count).map(|_| bytes(file).map(u32::from_le_bytes)).collect::<io::Result<_>>()?;
            objects.push(SpooledObject { object, object_score, predicted_iou, finite: finite == 1, runs });
        }
        self.frames += 1;
        let times = FrameTimes { frame, decode, latency, stages, response };
        self.last.clone_from(&objects);
        Ok(Some(SpooledFrame { times, dropped: false, objects }))
    }
}

impl Iterator for Reader {
    type Item = Result<SpooledFrame, SpoolError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let frame = self.read().map_err(|e| SpoolError { path: self.path.clone(), fault: e.to_string() }).transpose();
        self.done = !matches!(frame, Some(Ok(_)));
        frame
    }
}

fn bytes<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut buffer = [0; N];
    file.read_exact(&mut buffer)?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetbench_runners::types::ObjectMask;
    use proptest::prelude::*;

    fn frame(i: u32) -> (FrameTimes, FrameMasks) {
        let times = FrameTimes {
            frame: i,
            decode: Duration::from_micros(7),
            latency: Duration::from_millis(u64::from(i)),
            stages: [(Stage::ImageEncoder, Duration::from_nanos(u64::from(i) * 3))].into_iter().collect(),
            response: (i % 2 == 1).then(|| Duration::from_millis(9)),
        };
        let mask = Mask::from_fn(70, 3, |x, y| (x * 3 + y + i).is_multiple_of(4));
        let object =
            ObjectMask { object: 2, mask, claimed: true, object_score: -1.5, predicted_iou: f32::NAN, finite: true };
        (times, FrameMasks { objects: vec![object] })
    }

    fn write(path: &Path, frames: u32) {
        let mut writer = Writer::create(path, 70, 3).unwrap();
        for i in 0..frames {
            let (times, masks) = frame(i);
            writer.frame(&times, &masks).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.spool");
        write(&path, 3);
        let reader = Reader::open(&path).unwrap();
        assert_eq!((reader.width, reader.height), (70, 3));
        let back: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(back.len(), 3);
        for (i, got) in back.iter().enumerate() {
            let (times, masks) = frame(i as u32);
            assert_eq!(got.times, times);
            assert_eq!(Reader::mask(70, 3, &got.objects[0]).unwrap(), masks.objects[0].mask);
            assert!(got.objects[0].predicted_iou.is_nan() && got.objects[0].object_score == -1.5);
        }
    }

    #[test]
    fn a_dropped_frame_keeps_the_masks_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.spool");
        let mut writer = Writer::create(&path, 70, 3).unwrap();
        writer.dropped(0).unwrap();
        let (times, masks) = frame(1);
        writer.frame(&times, &masks).unwrap();
        writer.dropped(2).unwrap();
        writer.finish().unwrap();
        let back: Vec<_> = Reader::open(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(
            back.iter().map(|f| (f.times.frame, f.dropped)).collect::<Vec<_>>(),
            [(0, true), (1, false), (2, true)]
        );
        assert!(back[0].objects.is_empty(), "nothing was seen before");
        let mask = |i: usize| Reader::mask(70, 3, &back[i].objects[0]).unwrap();
        assert_eq!(mask(2), masks.objects[0].mask);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.spool");
        write(&path, 1);
        let whole = std::fs::read(&path).unwrap();
        for n in 0..whole.len() {
            std::fs::write(&path, &whole[..n]).unwrap();
            let fails = match Reader::open(&path) {
                Ok(reader) => reader.into_iter().any(|f| f.is_err()),
                Err(_) => true,
            };
            assert!(fails, "{n} of {} bytes were taken for a whole file", whole.len());
        }
    }

    proptest! {
        #[test]
        fn runs_come_back(width in 1u32..200, height in 1u32..4, seed: u64) {
            let mut state = seed | 1;
            let mask = Mask::from_fn(width, height, |_, _| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % 5 < 2
            });
            let mut naive = vec![0u32];
            let mut value = false;
            for y in 0..height {
                for x in 0..width {
                    if mask.get(x, y) != value {
                        value = !value;
                        naive.push(0);
                    }
                    *naive.last_mut().unwrap() += 1;
                }
            }
            prop_assert_eq!(mask.to_runs(), naive);
            prop_assert_eq!(Mask::from_runs(width, height, &mask.to_runs()).unwrap(), mask);
        }
    }
}
