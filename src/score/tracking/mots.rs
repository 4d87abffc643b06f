//! Tracks as MOTS text: one line per mask, `frame id class height width rle`, frames from 1, class 2 for what is tracked, class 10
//! for a region that counts for nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jetbench_runners::assignment::assign;
use jetbench_runners::files;

use super::TrackedVideo;
use super::labels::{Met, Shown, numbered};
use crate::dataset::{DataError, bound_mask_size};
use crate::score::segment::{Claims, Segment};

/// What is tracked.
const TRACKED: u32 = 2;
/// The region that counts for nobody.
const IGNORED: u32 = 10;
/// Masks of one file take at most so much memory, bytes.
const ROOM: u64 = 4 << 30;
/// Frames of a video at most: every one takes memory.
pub(super) const MOST_FRAMES: u32 = 1_000_000;
/// From here on a track and an object are one, when tracks in the ignored region are looked for.
const SAME: f64 = 0.5;

/// Masks of one file by frame.
#[derive(Default)]
struct Lines {
    masks: BTreeMap<u32, Shown<Segment>>,
    /// What is no one's, in parts.
    ignored: BTreeMap<u32, Vec<Segment>>,
    /// Width and height of every mask.
    size: Option<(u32, u32)>,
    /// Classes that are not scored.
    classes: BTreeSet<u32>,
}

impl Lines {
    /// The classes of lines that are not scored, in words.
    fn others(&self) -> String {
        let classes: Vec<String> = self.classes.iter().map(u32::to_string).collect();
        match classes.is_empty() {
            true => String::new(),
            false => format!(" (lines of class {}; class {TRACKED} is scored)", classes.join(", ")),
        }
    }
}

/// `seqLength` of a MOT sequence's `seqinfo.ini`, where there is one.
///
/// # Errors
/// The file cannot be read, or has no such number.
pub(super) fn length(video: &Path) -> Result<Option<u32>, DataError> {
    let path = video.join("seqinfo.ini");
    if !path.is_file() {
        return Ok(None);
    }
    let fail = |what: &str| DataError(format!("{}: {what}", path.display()));
    let text = files::read_text(&path, files::SMALL).map_err(|e| fail(&e.to_string()))?;
    let value = text.lines().find_map(|l| l.trim().strip_prefix("seqLength").map(|v| v.trim_start_matches([' ', '='])));
    let value = value.ok_or_else(|| fail("no seqLength in it"))?;
    match value.trim().parse() {
        Ok(length) if length <= MOST_FRAMES => Ok(Some(length)),
        _ => Err(fail(&format!("seqLength {value:?} is no number up to {}", MOST_FRAMES))),
    }
}

/// One video from its two files, and for truth and tracks what to say of lines of other classes; `frames` is its length, where something says it.
///
/// # Errors
/// A line that is none, an id twice on a frame, masks of one file that overlap or differ in size: names file and line. The two files
/// differ in size, or hold frames beyond the video's end.
pub(super) fn read(
    name: &str,
    truth_file: &Path,
    pred: &Path,
    frames: Option<u32>,
) -> Result<(TrackedVideo, [String; 2]), DataError> {
    let (truth, mut tracks) = (lines(truth_file)?, lines(pred)?);
    let last = |lines: &Lines| lines.masks.keys().chain(lines.ignored.keys()).max().copied().unwrap_or(0);
    let length = frames.unwrap_or_else(|| last(&truth).max(last(&tracks)));
    for (lines, path) in [(&truth, truth_file), (&tracks, pred)] {
        if last(lines) > length {
            let beyond = last(lines);
            return Err(DataError(format!("{}: frame {beyond}, but the video has {length}", path.display())));
        }
    }
    if let Some(((w, h), (tw, th))) = tracks.size.zip(truth.size).filter(|(a, b)| a != b) {
        let (truth, pred) = (truth_file.display(), pred.display());
        return Err(DataError(format!(
            "{pred}: masks of {w}x{h} pixels, but those of the truth {truth} are {tw}x{th}"
        )));
    }
    let others = [truth.others(), tracks.others()];
    let mut truths = truth.masks;
    let frames = (1..=length).map(|t| {
        let objects = truths.remove(&t).unwrap_or_default();
        let mut there = tracks.masks.remove(&t).unwrap_or_default();
        if let Some(region) = truth.ignored.get(&t) {
            drop_ignored(&objects, &mut there, region);
        }
        Met::of(&objects, &there, Segment::iou)
    });
    Ok((numbered(name, frames.collect()), others))
}

/// Takes out tracks that are no object's and lie in the region by more than half.
fn drop_ignored(objects: &Shown<Segment>, tracks: &mut Shown<Segment>, region: &[Segment]) {
    let score = |o: &Segment, t: &Segment| match o.iou(t) {
        iou if iou < SAME - f64::EPSILON => 10_000.0,
        iou => -iou,
    };
    let cost = objects.iter().flat_map(|(_, o)| tracks.iter().map(move |(_, t)| score(o, t))).collect::<Vec<_>>();
    let pairs = assign(objects.len(), tracks.len(), &cost);
    let matched: Vec<usize> = pairs.iter().filter(|(o, t)| cost[o * tracks.len() + t] < 0.0).map(|(_, t)| *t).collect();
    let mut at = 0;
    tracks.retain(|(_, track)| {
        let shared: u64 = region.iter().map(|part| track.overlap(part)).sum();
        let inside = shared as f64 / track.area() as f64 > SAME + f64::EPSILON;
        at += 1;
        matched.contains(&(at - 1)) || !inside
    });
}

/// A line of a file.
struct Line {
    /// Its number, from 1.
    at: usize,
    id: u32,
    class: u32,
    segment: Segment,
}

/// The five numbers of a line, and its mask, which is most of the line.
fn words(line: &str) -> Option<([&str; 5], &str)> {
    let mut rest = line;
    let mut numbers = [""; 5];
    for number in &mut numbers {
        (*number, rest) = rest.trim_start().split_once(char::is_whitespace)?;
    }
    let mask = rest.trim();
    // Where all is COCO's text there is no white space to look for.
    let one =
        mask.bytes().fold(0, |odd, byte| odd | byte.wrapping_sub(b'0')) < 64 || !mask.contains(char::is_whitespace);
    (one && !mask.is_empty()).then_some((numbers, mask))
}

fn lines(path: &Path) -> Result<Lines, DataError> {
    let text = files::read_text(path, files::LARGE).map_err(|e| DataError(format!("{}: {e}", path.display())))?;
    let mut frames: BTreeMap<u32, Vec<Line>> = BTreeMap::new();
    let mut all = Lines::default();
    let mut bytes = 0;
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let fail = |what: &str| DataError(format!("{}:{}: {what}", path.display(), i + 1));
        let Some(([frame, id, class, height, width], rle)) = words(line) else {
            return Err(fail("expected `frame id class height width rle`"));
        };
        let number =
            |word: &str, what: &str| word.parse::<u32>().map_err(|_| fail(&format!("{what} {word:?} is no number")));
        let (frame, id, class) = (number(frame, "frame")?, number(id, "id")?, number(class, "class")?);
        if !(1..=MOST_FRAMES).contains(&frame) {
            return Err(fail(&format!("frame {frame}: frames count from 1, to {MOST_FRAMES} at most")));
        }
        let (width, height) = (number(width, "width")?, number(height, "height")?);
        bound_mask_size(width, height).map_err(|e| fail(&e))?;
        let mut segment = Segment::default();
        let none = "not a COCO run-length text";
        segment.set_text([height, width], rle.as_bytes(), false, none).map_err(|e| fail(&e))?;
        segment.shrink();
        if *all.size.get_or_insert((width, height)) != (width, height) {
            return Err(fail("another size than the masks above it"));
        }
        bytes += (std::mem::size_of_val(segment.spans()) + std::mem::size_of::<Line>()) as u64;
        if bytes > ROOM {
            return Err(fail("the masks up to here take more than 4 GiB of memory; score fewer frames at a time"));
        }
        frames.entry(frame).or_default().push(Line { at: i + 1, id, class, segment });
    }
    let mut claims = Claims::default();
    for (frame, lines) in frames {
        let fail = |line: &Line, what: &str| Err(DataError(format!("{}:{}: {what}", path.display(), line.at)));
        if let Some(at) = claims.clash(&lines.iter().map(|line| &line.segment).collect::<Vec<_>>()) {
            return fail(&lines[at], "this mask overlaps another one of its frame; MOTS masks never do");
        }
        let mut ids = BTreeSet::new();
        if let Some(line) = lines.iter().find(|line| line.class == TRACKED && !ids.insert(line.id)) {
            return fail(line, &format!("id {} is on frame {frame} already", line.id));
        }
        for line in lines {
            match line.class {
                TRACKED => all.masks.entry(frame).or_default().push((line.id, line.segment)),
                IGNORED => all.ignored.entry(frame).or_default().push(line.segment),
                _ => {}
            }
            all.classes.extend((line.class != TRACKED).then_some(line.class));
        }
    }
    for masks in all.masks.values_mut() {
        masks.sort_by_key(|(id, _)| *id);
    }
    Ok(all)
}
