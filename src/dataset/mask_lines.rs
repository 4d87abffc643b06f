//! The masks of a video as run lengths in one file, `<video>.rle.jsonl`, instead of a PNG file per frame or more. A JSON object
//! per line: the first says which video it is, every further one holds the masks of a frame in COCO's compressed form, which
//! `pycocotools.mask.decode` reads. docs/results.md describes it.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jetbench_runners::files;
use jetbench_runners::types::Mask;
use serde::{Deserialize, Serialize};

use super::coco_rle::{columns, mask, text};
use super::write::one_level;
use super::{DataError, LabelMasks, Sequence};

/// End of the name of such a file.
pub const ENDING: &str = ".rle.jsonl";
/// While it is written it has this name more.
const UNFINISHED: &str = ".part";
/// Version of the format.
const SCHEMA: u32 = 1;
/// More bytes than any line needs: a frame of 2^25 pixels with 255 objects.
const LONGEST_LINE: u64 = 1 << 30;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    /// [`SCHEMA`].
    schema: u32,
    /// Video name.
    video: String,
    /// Height, width of every mask, pixels.
    size: [u32; 2],
    /// Lines that follow.
    frames: usize,
    /// Names of the objects, also of those that were never found.
    objects: Vec<String>,
}

/// A further line.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Stem of the frame's file.
    frame: String,
    /// By object; without a pixel: not there.
    masks: BTreeMap<String, Rle>,
}

/// A mask as COCO writes it.
#[derive(Serialize, Deserialize)]
struct Rle {
    /// Height, width.
    size: [u32; 2],
    counts: String,
}

/// Name of a video's file, and its name while it is written.
pub fn file_names(video: &str) -> [String; 2] {
    [format!("{video}{ENDING}"), format!("{video}{ENDING}{UNFINISHED}")]
}

/// Writes the predicted masks of one sequence, frames in any order and from any thread.
#[derive(Debug)]
pub struct MaskLinesWriter {
    path: PathBuf,
    unfinished: PathBuf,
    head: Head,
    /// Place of each frame, by name.
    places: HashMap<String, usize>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: BufWriter<std::fs::File>,
    /// Lines that wait for earlier ones.
    waiting: BTreeMap<usize, String>,
    /// Place of the next line.
    next: usize,
}

impl MaskLinesWriter {
    /// Writer for the first `frames` frames of `sequence`, into the directory `root`, which is created.
    ///
    /// # Errors
    /// Names the file that cannot be made, or the video whose name is no single name.
    pub fn new(root: &Path, sequence: &Sequence, frames: usize) -> Result<MaskLinesWriter, DataError> {
        one_level(&sequence.name)?;
        let [path, unfinished] = file_names(&sequence.name).map(|name| root.join(name));
        let head = Head {
            schema: SCHEMA,
            video: sequence.name.clone(),
            size: [sequence.height, sequence.width],
            frames: frames.min(sequence.frames.len()),
            objects: sequence.objects.iter().map(|object| object.name.clone()).collect(),
        };
        let fail = |e: std::io::Error| DataError(format!("{}: {e}", unfinished.display()));
        std::fs::create_dir_all(root).map_err(fail)?;
        let mut file = BufWriter::new(files::create(&unfinished).map_err(fail)?);
        writeln!(file, "{}", json(&head)).map_err(fail)?;
        let places = sequence.frames.iter().enumerate().map(|(at, frame)| (frame.name.clone(), at)).collect();
        let state = Mutex::new(State { file, waiting: BTreeMap::new(), next: 0 });
        Ok(MaskLinesWriter { path, unfinished, head, places, state })
    }

    /// Writes frame `name` (its file stem), once. `masks` has one entry per object of the sequence, in order; `None` means not
    /// tracked (yet) and is the same as an empty mask.
    ///
    /// # Errors
    /// Names the file that cannot be written, or the object whose mask has another size.
    pub fn write(&self, name: &str, masks: &[Option<&Mask>]) -> Result<(), DataError> {
        let fail = |what: &dyn std::fmt::Display| DataError(format!("{}: frame {name}: {what}", self.path.display()));
        let place = *self.places.get(name).ok_or_else(|| fail(&"no such frame"))?;
        if masks.len() != self.head.objects.len() {
            return Err(fail(&format!("{} masks for {} objects", masks.len(), self.head.objects.len())));
        }
        let mut line = Line { frame: name.to_string(), masks: BTreeMap::new() };
        for (object, mask) in self.head.objects.iter().zip(masks) {
            let Some(mask) = mask.filter(|mask| !mask.is_empty()) else { continue };
            let size = [mask.height(), mask.width()];
            if size != self.head.size {
                let [height, width] = self.head.size;
                return Err(fail(&format!(
                    "mask of object {object} is {}x{}, the frame is {width}x{height}",
                    size[1], size[0]
                )));
            }
            line.masks.insert(object.clone(), Rle { size, counts: text(&columns(mask)) });
        }
        let line = json(&line);
        let mut state = self.state.lock().unwrap_or_else(|broken| broken.into_inner());
        state.waiting.insert(place, line);
        let State { file, waiting, next } = &mut *state;
        while let Some(line) = waiting.remove(next) {
            writeln!(file, "{line}").map_err(|e| fail(&e))?;
            *next += 1;
        }
        Ok(())
    }

    /// Ends the file: from now on it has its name.
    ///
    /// # Errors
    /// Names the file, and what is wrong: it cannot be written, or a frame was not.
    pub fn finish(self) -> Result<(), DataError> {
        let fail = |what: &dyn std::fmt::Display| DataError(format!("{}: {what}", self.path.display()));
        let mut state = self.state.lock().unwrap_or_else(|broken| broken.into_inner());
        if state.next != self.head.frames {
            return Err(fail(&format!("{} of {} frames were written in order", state.next, self.head.frames)));
        }
        state.file.flush().map_err(|e| fail(&e))?;
        std::fs::rename(&self.unfinished, &self.path).map_err(|e| fail(&e))
    }
}

impl Drop for MaskLinesWriter {
    fn drop(&mut self) {
        // Nothing is there any more when the file is whole.
        let _ = std::fs::remove_file(&self.unfinished);
    }
}

/// The masks of one video, read a frame at a time.
#[derive(Clone, Debug)]
pub struct MaskLines {
    path: PathBuf,
    head: Head,
    /// Frames in the file's order: name, where its line begins, bytes of it.
    lines: Vec<(String, u64, u64)>,
    /// Place of each frame in `lines`.
    places: HashMap<String, usize>,
}

impl MaskLines {
    /// Opens a file and looks where its frames are.
    ///
    /// # Errors
    /// Names the file, and the line that does not fit.
    pub fn open(path: &Path) -> Result<MaskLines, DataError> {
        let fail = |line: usize, what: &dyn std::fmt::Display| {
            DataError(format!("{}, line {}: {what}", path.display(), line + 1))
        };
        let mut file = BufReader::new(files::plain(path).map_err(|e| DataError(format!("{}: {e}", path.display())))?);
        let mut text = Vec::new();
        let mut next = |line: usize| -> Result<Option<Vec<u8>>, DataError> {
            text.clear();
            file.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text).map_err(|e| fail(line, &e))?;
            match text.last() {
                None => Ok(None),
                Some(b'\n') => Ok(Some(std::mem::take(&mut text))),
                Some(_) => Err(fail(line, &"it does not end, so the file is not whole")),
            }
        };
        let first = next(0)?.ok_or_else(|| fail(0, &"the file is empty"))?;
        let head: Head =
            serde_json::from_slice(&first).map_err(|e| fail(0, &format!("not masks as run lengths: {e}")))?;
        if head.schema != SCHEMA {
            return Err(fail(0, &format!("schema {}, this program reads {SCHEMA}", head.schema)));
        }
        super::label_png::bound_size(head.size[1], head.size[0], 0, 0).map_err(|what| fail(0, &what))?;
        if let Some(twice) = (1..head.objects.len()).find(|&i| head.objects[..i].contains(&head.objects[i])) {
            return Err(fail(0, &format!("object {} is there twice", head.objects[twice])));
        }
        #[derive(Deserialize)]
        struct Named {
            frame: String,
        }
        let mut at = first.len() as u64;
        let mut lines: Vec<(String, u64, u64)> = Vec::new();
        let mut places = HashMap::new();
        while let Some(line) = next(lines.len() + 1)? {
            let number = lines.len() + 1;
            let Named { frame } = serde_json::from_slice(&line).map_err(|e| fail(number, &e))?;
            if places.insert(frame.clone(), lines.len()).is_some() {
                return Err(fail(number, &format!("frame {frame} is there twice")));
            }
            lines.push((frame, at, line.len() as u64));
            at += line.len() as u64;
        }
        if lines.len() != head.frames {
            let (found, wanted) = (lines.len(), head.frames);
            return Err(fail(lines.len(), &format!("{found} frames, the first line says {wanted}")));
        }
        Ok(MaskLines { path: path.to_path_buf(), head, lines, places })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the objects.
    pub fn objects(&self) -> &[String] {
        &self.head.objects
    }

    /// Names of the frames.
    pub fn frames(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|(name, ..)| name.as_str())
    }

    /// The mask of one object on a frame, as a file in its folder would hold it: one mask, or none.
    ///
    /// # Errors
    /// The file cannot be read, there is no such frame, or the run lengths are damaged: names the file, frame and object.
    pub fn object(&self, object: &str, frame: &str) -> Result<LabelMasks, DataError> {
        let mut masks = self.masks(frame)?;
        masks.retain(|(name, _)| name == object);
        Ok(self.image(masks.pop().map(|(_, mask)| (1, mask)).into_iter().collect()))
    }

    /// All masks of a frame, as a label map would hold them.
    ///
    /// # Errors
    /// As [`MaskLines::object`]; an object whose name is no id, or two that overlap.
    pub fn labels(&self, frame: &str) -> Result<LabelMasks, DataError> {
        let fail = |what: String| DataError(format!("{}: frame {frame}: {what}", self.path.display()));
        let mut labels: Vec<(u16, Mask)> = Vec::new();
        let mut taken = Mask::empty(self.head.size[1], self.head.size[0]);
        for (name, mask) in self.masks(frame)? {
            let id = name.parse::<u16>().ok().filter(|id| *id > 0);
            let id = id.ok_or_else(|| fail(format!("object {name}: label maps have ids from 1 to 65535")))?;
            if taken.overlap(&mask) > 0 {
                return Err(fail(format!(
                    "object {name} overlaps another; in the truth a pixel belongs to one object"
                )));
            }
            taken.unite(&mask);
            labels.push((id, mask));
        }
        labels.sort_unstable_by_key(|(id, _)| *id);
        Ok(self.image(labels))
    }

    fn image(&self, masks: Vec<(u16, Mask)>) -> LabelMasks {
        let [height, width] = self.head.size;
        let covered: u64 = masks.iter().map(|(_, mask)| mask.area()).sum();
        LabelMasks { width, height, background: covered < u64::from(width) * u64::from(height), masks }
    }

    fn masks(&self, frame: &str) -> Result<Vec<(String, Mask)>, DataError> {
        let fail = |what: &dyn std::fmt::Display| DataError(format!("{}: frame {frame}: {what}", self.path.display()));
        let found = self.places.get(frame).map(|&place| &self.lines[place]);
        let (_, at, bytes) = found.ok_or_else(|| fail(&"not in the file"))?;
        let mut file = files::plain(&self.path).map_err(|e| fail(&e))?;
        file.seek(SeekFrom::Start(*at)).map_err(|e| fail(&e))?;
        let mut line = Vec::new();
        file.take(*bytes).read_to_end(&mut line).map_err(|e| fail(&e))?;
        let line: Line = serde_json::from_slice(&line).map_err(|e| fail(&e))?;
        let [height, width] = self.head.size;
        let read = |(object, rle): (String, Rle)| {
            let fail = |what: String| fail(&format!("object {object}: {what}"));
            if !self.head.objects.contains(&object) {
                return Err(fail("not among the objects of the first line".to_string()));
            }
            if rle.size != self.head.size {
                return Err(fail(format!("size {:?}, the first line says {:?}", rle.size, self.head.size)));
            }
            let mask = mask(width, height, &rle.counts).map_err(|what| fail(format!("`counts`: {what}")))?;
            Ok((object, mask))
        };
        let masks = line.masks.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(masks.into_iter().filter(|(_, mask)| !mask.is_empty()).collect())
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|e| unreachable!("plain data: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Dataset, Layout, SynthOptions, synthesise};

    fn drawn(root: &Path) -> Sequence {
        let out = root.join("drawn");
        let options = SynthOptions { out: out.clone(), videos: 1, objects: 2, frames: 4, ..SynthOptions::default() };
        synthesise(&SynthOptions { layout: Layout::SaV, ..options }, &|_, _| ()).unwrap();
        Dataset::open(&out).unwrap().sequences.swap_remove(0)
    }

    #[test]
    fn masks_written_in_any_order_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let sequence = drawn(dir.path());
        let (w, h) = (sequence.width, sequence.height);
        let square = |at: u32| Mask::from_fn(w, h, |x, y| (at..at + 5).contains(&x) && (2..9).contains(&y));
        let [path, unfinished] = file_names(&sequence.name).map(|name| dir.path().join("masks").join(name));
        let writer = MaskLinesWriter::new(&dir.path().join("masks"), &sequence, 4).unwrap();
        for at in [2, 0, 3, 1] {
            let (a, b) = (square(at), square(at + 5));
            let second = if at == 2 { None } else { Some(&b) };
            writer.write(&sequence.frames[at as usize].name, &[Some(&a), second]).unwrap();
        }
        assert!(unfinished.is_file() && !path.exists(), "it has its name when it is whole");
        writer.finish().unwrap();
        assert!(path.is_file() && !unfinished.exists());
        let read = MaskLines::open(&path).unwrap();
        assert_eq!(read.frames().collect::<Vec<_>>(), sequence.frames.iter().map(|f| &f.name).collect::<Vec<_>>());
        let (first, second) = (sequence.objects[0].name.as_str(), sequence.objects[1].name.as_str());
        assert_eq!(read.objects(), [first, second]);
        for at in 0..4 {
            let name = &sequence.frames[at as usize].name;
            assert_eq!(read.object(first, name).unwrap().into_foreground(), (square(at), 2));
            let other = read.object(second, name).unwrap().into_foreground();
            let expected = if at == 2 { (Mask::empty(w, h), 1) } else { (square(at + 5), 2) };
            assert_eq!(other, expected);
        }
        assert!(read.object(first, "nowhere").unwrap_err().0.contains("frame nowhere: not in the file"));
        // A writer that is given up, or lacks a frame, leaves nothing.
        let name = &sequence.frames[1].name;
        let writer = MaskLinesWriter::new(&dir.path().join("other"), &sequence, 4).unwrap();
        writer.write(name, &[None, None]).unwrap();
        assert!(writer.write(name, &[None]).unwrap_err().0.contains("1 masks for 2 objects"));
        assert!(writer.write("nowhere", &[None, None]).unwrap_err().0.contains("no such frame"));
        let small = Mask::empty(1, 1);
        assert!(writer.write(name, &[Some(&small), None]).is_ok(), "empty is empty");
        assert!(writer.finish().unwrap_err().0.contains("0 of 4 frames"));
        assert_eq!(std::fs::read_dir(dir.path().join("other")).unwrap().count(), 0);
    }

    #[test]
    fn damaged_files_are_named_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.rle.jsonl");
        // 7x5 pixels, as pycocotools wrote them.
        let head = r#"{"schema":1,"video":"v","size":[5,7],"frames":2,"objects":["1","2"]}"#;
        let rle = r#"{"size":[5,7],"counts":"123Oh00"}"#;
        let full = r#"{"size":[5,7],"counts":"0S1"}"#;
        let lines = |a: &str, b: &str| {
            format!("{head}\n{{\"frame\":\"a\",\"masks\":{a}}}\n{{\"frame\":\"b\",\"masks\":{b}}}\n")
        };
        let open = |text: &str| {
            std::fs::write(&path, text).unwrap();
            MaskLines::open(&path)
        };
        let good = open(&lines(&format!(r#"{{"2":{rle}}}"#), "{}")).unwrap();
        let labels = good.labels("a").unwrap();
        assert_eq!((labels.masks.len(), labels.masks[0].0, labels.background), (1, 2, true));
        assert!(labels.masks[0].1.get(6, 4) && labels.masks[0].1.area() == 4);
        assert!(good.labels("b").unwrap().masks.is_empty());
        let both = open(&lines(&format!(r#"{{"1":{full},"2":{rle}}}"#), "{}")).unwrap();
        assert!(both.labels("a").unwrap_err().0.contains("frame a: object 2 overlaps another"));
        assert_eq!(both.object("1", "a").unwrap().into_foreground().1, 1, "no pixel is background");
        let text = lines("{}", "{}");
        let faults = [
            (String::new(), "line 1: the file is empty"),
            ("[]\n".to_string(), "line 1: not masks as run lengths"),
            (text.replace("schema\":1", "schema\":9"), "line 1: schema 9"),
            (text.replace("[5,7]", "[5,4000000000]"), "line 1: "),
            (text.replace("\"2\"]", "\"1\"]"), "object 1 is there twice"),
            (text.replace("\"b\"", "\"a\""), "line 3: frame a is there twice"),
            (text.replace("frames\":2", "frames\":3"), "2 frames, the first line says 3"),
            (text.trim_end().to_string(), "line 3: it does not end"),
            (text.replace("{\"frame\":\"b\"", "{\"frames\":\"b\""), "line 3: "),
        ];
        for (text, why) in faults {
            let fault = open(&text).unwrap_err().0;
            assert!(fault.contains("v.rle.jsonl") && fault.contains(why), "{fault} does not say {why}");
        }
        for (masks, why) in [
            (r#"{"9":{"size":[5,7],"counts":"S1"}}"#, "object 9: not among the objects"),
            (r#"{"1":{"size":[7,5],"counts":"S1"}}"#, "size [7, 5], the first line says [5, 7]"),
            (r#"{"1":{"size":[5,7],"counts":"oo"}}"#, "not a COCO run-length text"),
            (r#"{"1":{"size":[5,7],"counts":"3"}}"#, "do not fill"),
        ] {
            let fault = open(&lines(masks, "{}")).unwrap().labels("a").unwrap_err().0;
            assert!(fault.contains("frame a") && fault.contains(why), "{fault} does not say {why}");
        }
        let named = r#"{"schema":1,"video":"v","size":[5,7],"frames":0,"objects":["dog"]}"#;
        assert!(open(&format!("{named}\n")).is_ok());
    }
}
