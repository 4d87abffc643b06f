//! Pictures of the worst moments of a cell: the frames on which it lost an object, or changed the track of one, cut to where the object
//! is and was taken to be, with what was true and what it predicted. Made when the cell is scored, because masks do not outlive that; kept small, because they travel inside the
//! report.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::RgbFrame;
use crate::results::record::SequenceRecord;
use crate::score::unprompted::IdSwitch;
use jetbench_runners::files;
use jetbench_runners::types::Mask;

/// Pictures per cell.
pub const MOST: usize = 3;
/// Longest side of a picture in pixels.
const SIDE: u32 = 300;
/// A moment with this J or more is no bad one.
const WORST_BELOW: f64 = 50.0;

/// A frame on which an object was lost, or on which its track changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Video name.
    pub video: String,
    /// Object name.
    pub object: String,
    /// Index of the frame in the video.
    pub frame: u32,
    /// J there, 0..100; `None`: its track changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub j: Option<f64>,
    /// How its track changed; `None`: it was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<IdSwitch>,
    /// File of the picture beside the list.
    pub file: String,
}

impl Moment {
    /// Do both tell of the same?
    pub fn is_same(&self, other: &Moment) -> bool {
        let key = |m: &Moment| (m.video.clone(), m.frame, m.switch);
        key(self) == key(other) && (self.switch.is_some() || self.object == other.object)
    }
}

/// The pictures of one cell, read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Thumb {
    /// Index of the cell.
    pub cell: usize,
    /// What it shows.
    pub moment: Moment,
    /// PNG.
    pub png: Vec<u8>,
}

/// Is this J, 0..100, bad enough for a picture? Half of what is seen or should be seen is then wrong.
pub fn is_bad(j: f64) -> bool {
    j < WORST_BELOW
}

/// The worst counted frames of a cell, worst first: video, object, frame, J. At most one per object, and none that shows the same
/// scene as another: frames of one video lie a tenth of it apart. Fewer than [`MOST`], or none, where nothing went wrong.
pub fn worst(sequences: &[SequenceRecord]) -> Vec<Moment> {
    let mut bad: Vec<(Moment, u32)> = sequences
        .iter()
        .flat_map(|s| s.objects.iter().map(move |o| (s, o)))
        .filter_map(|(s, o)| {
            let counted = o.per_frame.iter().filter(|f| f.counted && is_bad(f.j));
            let lowest = counted.min_by(|a, b| a.j.total_cmp(&b.j))?;
            let (video, object) = (s.video.clone(), o.object.clone());
            let moment =
                Moment { video, object, frame: lowest.frame, j: Some(lowest.j), switch: None, file: String::new() };
            Some((moment, (s.frames.len() / 10) as u32))
        })
        .collect();
    bad.sort_by(|a, b| a.0.j.unwrap_or_default().total_cmp(&b.0.j.unwrap_or_default()));
    distinct(bad)
}

/// The first id switches of a cell in the order of its videos: at most one per object, and none that shows the same scene as another.
/// Where a detector founded the tracks; an object goes by its id.
pub fn switched(sequences: &[SequenceRecord]) -> Vec<Moment> {
    let of = |s: &SequenceRecord| {
        let mut objects = BTreeSet::new();
        let switches = s.found.iter().filter_map(|found| found.scores.as_ref()).flat_map(|scores| &scores.switches);
        let first = switches.filter(|switch| objects.insert(switch.object));
        let moment = |switch: &IdSwitch| Moment {
            video: s.video.clone(),
            object: switch.object.to_string(),
            frame: switch.frame,
            j: None,
            switch: Some(*switch),
            file: String::new(),
        };
        first.map(|switch| (moment(switch), (s.frames.len() / 10) as u32)).collect::<Vec<_>>()
    };
    distinct(sequences.iter().flat_map(of))
}

/// The first of these moments, each with the distance in frames at which another shows the same scene.
fn distinct(all: impl IntoIterator<Item = (Moment, u32)>) -> Vec<Moment> {
    let mut moments: Vec<Moment> = Vec::new();
    for (moment, apart) in all {
        let same = |m: &Moment| m.video == moment.video && m.frame.abs_diff(moment.frame) <= apart;
        if moments.len() < MOST && !moments.iter().any(same) {
            moments.push(moment);
        }
    }
    moments
}

/// The part of a frame that shows these pixels with as much again around them, as 4:3 as the frame allows: left, top, width,
/// height. The whole frame where there are none.
pub fn around(seen: &[&Mask], (width, height): (u32, u32)) -> [u32; 4] {
    let mut bounds: Option<[u32; 4]> = None;
    for mask in seen {
        for y in 0..mask.height().min(height) {
            for (i, &word) in mask.row(y).iter().enumerate().filter(|(_, word)| **word != 0) {
                let (left, right) = (i as u32 * 64 + word.trailing_zeros(), i as u32 * 64 + 63 - word.leading_zeros());
                let [l, t, r, b] = bounds.unwrap_or([left, y, right, y]);
                bounds = Some([l.min(left), t.min(y), r.max(right), b.max(y)]);
            }
        }
    }
    let Some([l, t, r, b]) = bounds else { return [0, 0, width, height] };
    let (wide, tall) = (f64::from(r - l + 1), f64::from(b - t + 1));
    let across = (2.0 * wide).max(2.0 * tall * 4.0 / 3.0).max(32.0);
    let (w, h) = ((across.ceil() as u32).min(width), ((across * 0.75).ceil() as u32).min(height));
    let place =
        |low: u32, high: u32, size: u32, all: u32| (low + high).div_ceil(2).saturating_sub(size / 2).min(all - size);
    [place(l, r, w, width), place(t, b, h, height), w, h]
}

/// This part of an image, at most 300 pixels long: made smaller as by [`shrink`], or larger by interpolation.
pub fn cut(image: &RgbFrame, [left, top, width, height]: [u32; 4]) -> RgbFrame {
    let row = |y: u32| ((top + y) * image.width + left) as usize * 3;
    let rgb = (0..height).flat_map(|y| image.rgb[row(y)..row(y) + width as usize * 3].iter().copied()).collect();
    let part = RgbFrame { width, height, rgb };
    if width.max(height) >= SIDE {
        return shrink(&part);
    }
    let scaled = |v: u32| (v * SIDE / width.max(height)).max(1);
    let (wide, tall) = (scaled(width), scaled(height));
    // Centres of pixels lie on each other.
    let at = |i: u32, n: u32, of: u32| {
        let at = ((f64::from(i) + 0.5) * f64::from(of) / f64::from(n) - 0.5).clamp(0.0, f64::from(of - 1));
        (at.floor() as u32, (at.floor() as u32 + 1).min(of - 1), at.fract())
    };
    let mut rgb = Vec::with_capacity(wide as usize * tall as usize * 3);
    for y in 0..tall {
        let (y0, y1, v) = at(y, tall, height);
        for x in 0..wide {
            let (x0, x1, u) = at(x, wide, width);
            let of = |x: u32, y: u32, c: usize| f64::from(part.rgb[(y * width + x) as usize * 3 + c]);
            rgb.extend((0..3).map(|c| {
                let (above, below) =
                    (of(x0, y0, c) * (1.0 - u) + of(x1, y0, c) * u, of(x0, y1, c) * (1.0 - u) + of(x1, y1, c) * u);
                (above * (1.0 - v) + below * v).round() as u8
            }));
        }
    }
    RgbFrame { width: wide, height: tall, rgb }
}

/// The same part of a mask, each pixel that of its centre, for an image of `size`.
pub fn cut_mask(mask: &Mask, [left, top, width, height]: [u32; 4], size: (u32, u32)) -> Mask {
    Mask::from_fn(size.0, size.1, |x, y| {
        mask.get(left + (2 * x + 1) * width / (2 * size.0), top + (2 * y + 1) * height / (2 * size.1))
    })
}

/// The image, no side longer than 300 pixels; each pixel is the mean of those it covers.
pub fn shrink(image: &RgbFrame) -> RgbFrame {
    let longest = image.width.max(image.height);
    if longest <= SIDE {
        return image.clone();
    }
    let scaled = |v: u32| (u64::from(v) * u64::from(SIDE) / u64::from(longest)).max(1) as u32;
    let (width, height) = (scaled(image.width), scaled(image.height));
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        let rows = span(y, height, image.height);
        for x in 0..width {
            let columns = span(x, width, image.width);
            let mut sum = [0u32; 3];
            for row in rows.clone() {
                for column in columns.clone() {
                    let at = (row * image.width as usize + column) * 3;
                    sum.iter_mut().zip(&image.rgb[at..at + 3]).for_each(|(s, v)| *s += u32::from(*v));
                }
            }
            let count = (rows.len() * columns.len()) as u32;
            rgb.extend(sum.map(|s| ((s + count / 2) / count) as u8));
        }
    }
    RgbFrame { width, height, rgb }
}

/// Source pixels that small pixel `i` of `n` covers.
fn span(i: u32, n: u32, of: u32) -> std::ops::Range<usize> {
    let at = |i: u32| (u64::from(i) * u64::from(of) / u64::from(n)) as usize;
    at(i)..at(i + 1).max(at(i) + 1)
}

/// Directory of the pictures below that of the run.
pub const DIR: &str = "moments";

/// The pictures of all cells below a run's directory; a list or picture that cannot be read is left out.
pub fn read(run: &Path, cells: usize) -> Vec<Thumb> {
    let mut thumbs = Vec::new();
    for cell in 0..cells {
        let dir = run.join(DIR).join(cell.to_string());
        let Ok(bytes) = files::read(&dir.join("moments.json"), files::LARGE) else { continue };
        let Ok(list) = serde_json::from_slice::<Vec<Moment>>(&bytes) else { continue };
        for moment in list {
            // The list is ours, but names in it must not lead elsewhere.
            let plain = !moment.file.contains(['/', '\\']);
            if let Some(png) = plain.then(|| files::read(&dir.join(&moment.file), files::LARGE).ok()).flatten() {
                thumbs.push(Thumb { cell, moment, png });
            }
        }
    }
    thumbs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::record::{FrameScoreRecord, ObjectRecord};

    fn sequence(video: &str, objects: &[&[(u32, f64, bool)]]) -> SequenceRecord {
        let object = |(i, frames): (usize, &&[(u32, f64, bool)])| ObjectRecord {
            object: i.to_string(),
            prompt_frame: 0,
            prompt: None,
            frames_scored: frames.len() as u32,
            j: None,
            f: None,
            jf: None,
            track: Vec::new(),
            taken: None,
            mosev2: None,
            per_frame: frames
                .iter()
                .map(|&(frame, j, counted)| FrameScoreRecord {
                    frame,
                    j,
                    f: j,
                    counted,
                    visible: true,
                    object_score: None,
                })
                .collect(),
        };
        let objects = objects.iter().enumerate().map(object).collect();
        SequenceRecord { video: video.into(), frames: vec![Default::default(); 100], objects, ..Default::default() }
    }

    #[test]
    fn worst_moments_are_bad_and_distinct_and_never_padded() {
        let good: &[_] = &[(10, 97.0, true), (20, 50.0, true)];
        assert_eq!(worst(&[sequence("a", &[good, good])]), [], "nothing went wrong");
        let told = |sequences: &[SequenceRecord]| -> Vec<(String, String, u32, f64)> {
            worst(sequences).into_iter().map(|m| (m.video, m.object, m.frame, m.j.unwrap())).collect()
        };
        let said = |video: &str, object: &str, frame, j| (video.to_string(), object.to_string(), frame, j);
        // One per object; a frame that does not count is none; the same scene twice is shown once.
        let a = sequence("a", &[&[(10, 30.0, true), (50, 20.0, true), (60, 0.0, false)], &[(58, 21.0, true)], good]);
        let b = sequence("b", &[&[(50, 40.0, true)], &[(80, 49.0, true)]]);
        assert_eq!(told(std::slice::from_ref(&a)), [said("a", "0", 50, 20.0)]);
        assert_eq!(told(&[a, b]), [said("a", "0", 50, 20.0), said("b", "0", 50, 40.0), said("b", "1", 80, 49.0)]);
        let many: Vec<_> = (0..9).map(|i| sequence(&i.to_string(), &[&[(5, f64::from(i), true)]])).collect();
        assert_eq!(told(&many).len(), MOST);
    }

    #[test]
    fn a_small_object_is_cut_out_and_enlarged() {
        let (truth, predicted) = ([100, 60, 20, 10], [140, 60, 10, 10]);
        let mask =
            |[l, t, w, h]: [u32; 4]| Mask::from_fn(640, 480, |x, y| (l..l + w).contains(&x) && (t..t + h).contains(&y));
        let (truth, predicted) = (mask(truth), mask(predicted));
        let part = around(&[&truth, &predicted], (640, 480));
        let [left, top, width, height] = part;
        assert_eq!((width, height), (100, 75), "twice the fifty columns of both, 4:3");
        assert!(left <= 75 && left + width >= 175 && top <= 40 && top + height >= 90, "{part:?}");
        let image =
            RgbFrame { width: 640, height: 480, rgb: (0..640 * 480).flat_map(|i| [(i % 640 / 4) as u8; 3]).collect() };
        let small = cut(&image, part);
        assert_eq!((small.width, small.height, small.rgb.len()), (300, 225, 300 * 225 * 3));
        assert_eq!(u32::from(small.rgb[0]), left / 4);
        let seen = cut_mask(&truth, part, (300, 225));
        let count = seen.words().iter().map(|w| w.count_ones()).sum::<u32>();
        assert!((count as i64 - 20 * 10 * 9).abs() <= 200, "three times as long: {count}");
        // At the edge, without anything, larger than a picture, smaller than it.
        assert_eq!(around(&[&mask([630, 470, 10, 10])], (640, 480)), [608, 456, 32, 24]);
        assert_eq!(around(&[&Mask::empty(640, 480)], (640, 480)), [0, 0, 640, 480]);
        assert_eq!(around(&[&mask([0, 0, 640, 480])], (640, 480)), [0, 0, 640, 480]);
        assert_eq!((cut(&image, [0, 0, 640, 480]).width, cut(&image, [0, 0, 1, 1]).width), (300, 300));
        assert_eq!(around(&[&Mask::from_fn(3, 200, |_, _| true)], (3, 200)), [0, 0, 3, 200]);
    }

    #[test]
    fn pictures_shrink_to_means() {
        let image = RgbFrame {
            width: 1200,
            height: 600,
            rgb: (0..1200 * 600).flat_map(|i| [(i % 2 * 200) as u8, 7, 9]).collect(),
        };
        let small = shrink(&image);
        assert_eq!((small.width, small.height, small.rgb.len()), (300, 150, 300 * 150 * 3));
        assert!(small.rgb.chunks(3).all(|p| p == [100, 7, 9]));
        let tiny = RgbFrame { width: 3, height: 2, rgb: vec![5; 18] };
        assert_eq!(shrink(&tiny), tiny);
        let thin = RgbFrame { width: 5000, height: 1, rgb: vec![5; 15000] };
        assert_eq!((shrink(&thin).width, shrink(&thin).height), (300, 1));
    }
}
