//! Small pictures for the report, from a spooled sequence: the frame on which an object was lost, and the two between which its track
//! changed.

use std::path::Path;

use jetbench_runners::types::Mask;

use super::found::{Tracks, truth_id};
use super::{Extras, Finished, Grading, Predictions, predictions};
use crate::dataset::{DataError, Layout, RgbFrame, Sequence};
use crate::report::overlay::{self, Layer};
use crate::report::thumb;
use crate::run::spool::Reader;
use crate::score::unprompted::IdSwitch;

/// One object on one frame: what was true, as a contour, and what was predicted, as a fill.
///
/// # Errors
/// The frame, its annotation or the spool file cannot be read, or they hold no such frame or object.
pub fn lost(sequence: &Sequence, spool: &Path, frame: usize, object: &str) -> Result<RgbFrame, DataError> {
    let wrong = |e: String| DataError(e);
    let reader = Reader::open(spool).map_err(|e| wrong(e.to_string()))?;
    let (width, height) = (reader.width, reader.height);
    let missing = || wrong(format!("{}: no object {object} on frame {frame}", spool.display()));
    let object = sequence.objects.iter().find(|o| o.name == object).ok_or_else(missing)?;
    for spooled in reader {
        let spooled = spooled.map_err(|e| wrong(e.to_string()))?;
        if spooled.times.frame as usize != frame {
            continue;
        }
        let own = spooled.objects.iter().find(|o| o.object == object.id);
        let predicted = own.map(|own| Reader::mask(width, height, own).map_err(wrong)).transpose()?;
        let truth = sequence.truths(std::slice::from_ref(object), frame)?.swap_remove(0);
        let seen: Vec<&Mask> = predicted.iter().chain([&truth]).collect();
        let part = thumb::around(&seen, (width, height));
        let image = thumb::cut(&sequence.picker().frame(frame)?, part);
        let (predicted, truth) = {
            let small = |mask: &Mask| thumb::cut_mask(mask, part, (image.width, image.height));
            (predicted.as_ref().map(small), small(&truth))
        };
        let layer = Layer {
            name: &object.name,
            object: object.id,
            predicted: predicted.as_ref(),
            truth: Some(&truth),
            ..Layer::default()
        };
        return overlay::draw(&image, &[layer], false).map_err(|e| DataError(e.to_string()));
    }
    Err(missing())
}

/// The name of the object whose track changed, and two pictures side by side: the last frame on which it had its last track, and the
/// one on which it has another. The object's contour is what was true; the tracks are filled, each in its colour.
///
/// # Errors
/// As [`lost`]; the sequence has no found tracks.
pub fn switched(
    sequence: &Sequence,
    finished: &Finished,
    layout: Layout,
    switch: &IdSwitch,
) -> Result<(String, RgbFrame), DataError> {
    let missing = |what: String| DataError(format!("{}: no {what}", finished.spool.display()));
    let found = finished.found.as_ref().ok_or_else(|| missing("found tracks".into()))?;
    let extras = Extras::default();
    let tracks = Tracks::new(sequence, found, None, &extras, layout)?;
    let object = sequence.objects.iter().find(|object| u32::from(truth_id(sequence, object)) == switch.object);
    let object = object.ok_or_else(|| missing(format!("object {}", switch.object)))?;
    let grading = Grading { sequence, tracks: Some(&tracks), writer: None, painter: None, overlaps: false };
    let mut sides = Vec::new();
    for spooled in Reader::open(&finished.spool).map_err(|e| DataError(e.to_string()))? {
        let spooled = spooled.map_err(|e| DataError(e.to_string()))?;
        let frame = spooled.times.frame;
        // Frames ascend, and the one before comes first.
        if frame == switch.before || frame == switch.frame {
            let predicted = predictions(&grading, &spooled)?.masks;
            sides.push(side((sequence, &tracks), frame as usize, &predicted, switch)?);
        }
        if frame == switch.frame {
            break;
        }
    }
    match &sides[..] {
        [before, after] => Ok((object.name.clone(), beside(before, after))),
        _ => Err(missing(format!("frames {} and {}", switch.before, switch.frame))),
    }
}

/// One of the two frames, cut to the object and the track that it has there.
fn side(
    (sequence, tracks): (&Sequence, &Tracks),
    frame: usize,
    predicted: &Predictions,
    switch: &IdSwitch,
) -> Result<RgbFrame, DataError> {
    let truth = tracks
        .truth(sequence, frame)?
        .and_then(|(masks, _)| masks.into_iter().find(|(id, _)| u32::from(*id) == switch.object).map(|(_, mask)| mask));
    let of = |number: u32| -> Option<&Mask> {
        let object = tracks.shown.objects.get(number as usize - 1)?;
        predicted.get(&object.id).map(|(mask, _)| mask).filter(|mask| !mask.is_empty())
    };
    let held = if frame as u32 == switch.before { switch.from } else { switch.to };
    let seen: Vec<&Mask> = truth.iter().chain(of(held)).collect();
    let part = thumb::around(&seen, (sequence.width, sequence.height));
    let image = thumb::cut(&sequence.picker().frame(frame)?, part);
    let small = |mask: &Mask| thumb::cut_mask(mask, part, (image.width, image.height));
    let truth = truth.as_ref().map(small);
    let there = |number: u32| Some((number, small(of(number)?), format!("track {number}, frame {frame}")));
    let there: Vec<(u32, Mask, String)> = [switch.from, switch.to].into_iter().filter_map(there).collect();
    let layers: Vec<Layer> = there
        .iter()
        .map(|(number, mask, name)| Layer {
            name,
            object: *number,
            predicted: Some(mask),
            truth: truth.as_ref().filter(|_| *number == held),
            ..Layer::default()
        })
        .collect();
    overlay::render(&image, &layers).map_err(|e| DataError(e.to_string()))
}

/// Two pictures side by side with a white line between, both as high as the higher one.
fn beside(left: &RgbFrame, right: &RgbFrame) -> RgbFrame {
    const LINE: u32 = 4;
    let height = left.height.max(right.height);
    let mut rgb = Vec::new();
    for y in 0..height as usize {
        let row = |of: &RgbFrame| {
            let wide = of.width as usize * 3;
            of.rgb.get(y * wide..(y + 1) * wide).map_or_else(|| vec![255; wide], <[u8]>::to_vec)
        };
        rgb.extend([row(left), vec![255; LINE as usize * 3], row(right)].concat());
    }
    RgbFrame { width: left.width + LINE + right.width, height, rgb }
}
