//! Tracks as MOTS text: one line per mask, `frame id class height width rle`, frames from 1, class 2 for what is tracked, class 10
//! for a region that counts for nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jetbench_runners::files;
use jetbench_runners::types::Mask;

use super::TrackedVideo;
use super::labels::{Masks, video};
use crate::dataset::{DataError, coco_mask};
use jetbench_runners::assignment::assign;

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
    masks: BTreeMap<u32, Masks>,
    ignored: BTreeMap<u32, Mask>,
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
    let scenes = (1..=length).map(|t| {
        let objects = truths.remove(&t).unwrap_or_default();
        let mut there = tracks.masks.remove(&t).unwrap_or_default();
        if let Some(region) = truth.ignored.get(&t) {
            drop_ignored(&objects, &mut there, region);
        }
        (objects, there)
    });
    Ok((video(name, scenes.collect()), others))
}

/// Takes out tracks that are no object's and lie in the region by more than half.
fn drop_ignored(objects: &Masks, tracks: &mut Masks, region: &Mask) {
    let score = |o: &Mask, t: &Mask| match o.iou(t).unwrap_or(0.0) {
        iou if iou < SAME - f64::EPSILON => 10_000.0,
        iou => -iou,
    };
    let cost = objects.iter().flat_map(|(_, o)| tracks.iter().map(move |(_, t)| score(o, t))).collect::<Vec<_>>();
    let pairs = assign(objects.len(), tracks.len(), &cost);
    let matched: Vec<usize> = pairs.iter().filter(|(o, t)| cost[o * tracks.len() + t] < 0.0).map(|(_, t)| *t).collect();
    let mut at = 0;
    tracks.retain(|(_, mask)| {
        let inside = mask.overlap(region) as f64 / mask.area() as f64 > SAME + f64::EPSILON;
        at += 1;
        matched.contains(&(at - 1)) || !inside
    });
}

fn lines(path: &Path) -> Result<Lines, DataError> {
    let text = files::read_text(path, files::LARGE).map_err(|e| DataError(format!("{}: {e}", path.display())))?;
    let mut all = Lines::default();
    let mut covered: BTreeMap<u32, Mask> = BTreeMap::new();
    let mut bytes = 0;
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let fail = |what: &str| DataError(format!("{}:{}: {what}", path.display(), i + 1));
        let words: Vec<&str> = line.split_whitespace().collect();
        let [frame, id, class, height, width, rle] = words[..] else {
            return Err(fail("expected `frame id class height width rle`"));
        };
        let number =
            |word: &str, what: &str| word.parse::<u32>().map_err(|_| fail(&format!("{what} {word:?} is no number")));
        let (frame, id, class) = (number(frame, "frame")?, number(id, "id")?, number(class, "class")?);
        if !(1..=MOST_FRAMES).contains(&frame) {
            return Err(fail(&format!("frame {frame}: frames count from 1, to {MOST_FRAMES} at most")));
        }
        let mask = coco_mask(number(width, "width")?, number(height, "height")?, rle).map_err(|e| fail(&e))?;
        if *all.size.get_or_insert((mask.width(), mask.height())) != (mask.width(), mask.height()) {
            return Err(fail("another size than the masks above it"));
        }
        // The mask, and at most one more for what its frame has so far.
        bytes += 2 * 8 * mask.words().len() as u64;
        if bytes > ROOM {
            return Err(fail("the masks up to here take more than 4 GiB of memory; score fewer frames at a time"));
        }
        let taken = covered.entry(frame).or_insert_with(|| Mask::empty(mask.width(), mask.height()));
        if taken.overlap(&mask) > 0 {
            return Err(fail("this mask overlaps another one of its frame; MOTS masks never do"));
        }
        taken.unite(&mask);
        match class {
            IGNORED => {
                all.classes.insert(class);
                let region = all.ignored.entry(frame).or_insert_with(|| Mask::empty(mask.width(), mask.height()));
                region.unite(&mask);
            }
            TRACKED => {
                let masks = all.masks.entry(frame).or_default();
                if masks.iter().any(|(other, _)| *other == id) {
                    return Err(fail(&format!("id {id} is on frame {frame} already")));
                }
                masks.push((id, mask));
            }
            other => drop(all.classes.insert(other)),
        }
    }
    for masks in all.masks.values_mut() {
        masks.sort_by_key(|(id, _)| *id);
    }
    Ok(all)
}
