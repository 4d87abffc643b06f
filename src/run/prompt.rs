//! From a ground-truth mask to the prompt that starts a track: clicks, a box, or the mask itself. Deterministic: the
//! same mask gives the same prompt on every machine.
//!
//! A click goes to the pixel deepest inside the object by the exact Euclidean distance to the nearest background pixel;
//! everything beyond the image border counts as background, as the trainer of the miniature packs has it, so a click is
//! never pulled to the border of an object that the frame cuts. Ties go to the smallest row, then the smallest column.

use jetbench_runners::types::{Click, Mask, Prompt, PromptKind, PromptShape};
use serde::{Deserialize, Serialize};

use crate::dataset::{DataError, Object, Sequence};
use crate::results::record::PromptRecord;

/// A prompt, the frame it is given on, and whether its mask may fill that frame.
#[derive(Clone, Debug)]
pub struct PlannedPrompt {
    /// Frame index.
    pub frame: usize,
    /// The prompt.
    pub prompt: Prompt,
    /// May there be no background on that frame? So it is where the object's mask is known to fill it, or is not known.
    pub full: bool,
}

/// What a worker says of a prompt that it gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GivenPrompt {
    /// Number of the object within its sequence.
    pub object: u32,
    /// Frame index.
    pub frame: u32,
    /// The prompt.
    pub prompt: PromptRecord,
}

impl From<&PlannedPrompt> for GivenPrompt {
    fn from(planned: &PlannedPrompt) -> Self {
        let PlannedPrompt { frame, prompt: Prompt { object, shape }, .. } = planned;
        GivenPrompt { object: *object, frame: *frame as u32, prompt: shape.into() }
    }
}

/// All prompts of a sequence, one per object; none where a detector founds the tracks. They are made from masks, as `kind` says with `clicks` per object for
/// [`PromptKind::Points`]; clicks and boxes of the user's own are given as they are.
///
/// # Errors
/// The annotation of a prompt frame cannot be read, or has no pixel.
pub fn plan(sequence: &Sequence, kind: PromptKind, clicks: usize) -> Result<Vec<PlannedPrompt>, DataError> {
    if kind == PromptKind::Detector {
        return Ok(Vec::new());
    }
    let prompt = |object: &Object| {
        let frame = object.prompt_frame;
        let truth = match sequence.given(object) {
            Some(PromptShape::Mask(mask)) => mask.clone(),
            Some(shape) => {
                let prompt = Prompt { object: object.id, shape: shape.clone() };
                return Ok(PlannedPrompt { frame, prompt, full: true });
            }
            None => sequence.truth(object, frame)?,
        };
        let shape = prompt_shape(kind, &truth, clicks).ok_or_else(|| {
            DataError(format!("video {}, object {}: its prompt frame has an empty mask", sequence.name, object.name))
        })?;
        Ok(PlannedPrompt { frame, prompt: Prompt { object: object.id, shape }, full: truth.is_full() })
    };
    sequence.objects.iter().map(prompt).collect()
}

/// Prompt of the given kind for `mask`; `None` for an empty mask. `clicks` is the number of clicks for
/// [`PromptKind::Points`] (at least 1 is placed; fewer than asked for when the object has no pixels left for more).
pub fn prompt_shape(kind: PromptKind, mask: &Mask, clicks: usize) -> Option<PromptShape> {
    Some(match kind {
        PromptKind::Points => {
            let points = click_points(mask, clicks.max(1));
            if points.is_empty() {
                return None;
            }
            let click = |&(x, y): &(u32, u32)| Click { x: x as f32, y: y as f32, positive: true };
            PromptShape::Points(points.iter().map(click).collect())
        }
        PromptKind::Bbox => {
            let [x0, y0, x1, y1] = bounding_box(mask)?;
            PromptShape::Bbox([x0 as f32, y0 as f32, x1 as f32, y1 as f32])
        }
        PromptKind::Mask => {
            if mask.is_empty() {
                return None;
            }
            PromptShape::Mask(mask.clone())
        }
        PromptKind::Detector => return None, // founds its tracks itself
    })
}

/// `[x_min, y_min, x_max, y_max]`, first and last foreground column and row, inclusive; `None` for an empty mask.
pub fn bounding_box(mask: &Mask) -> Option<[u32; 4]> {
    let mut columns = vec![0u64; mask.words_per_row()];
    let (mut top, mut bottom) = (None, 0);
    for y in 0..mask.height() {
        let mut any = 0;
        for (column, &word) in columns.iter_mut().zip(mask.row(y)) {
            *column |= word;
            any |= word;
        }
        if any != 0 {
            top.get_or_insert(y);
            bottom = y;
        }
    }
    let first = columns.iter().position(|&w| w != 0)?;
    let last = columns.iter().rposition(|&w| w != 0)?;
    let left = first as u32 * 64 + columns[first].trailing_zeros();
    let right = last as u32 * 64 + 63 - columns[last].leading_zeros();
    Some([left, top?, right, bottom])
}

/// Up to `count` positive clicks `(x, y)`: the deepest pixel; then, each time, the deepest pixel of what is left after
/// the largest disk inside the object around the last click (pixels nearer than its depth) has been taken away, the
/// taken pixels counting as background. Empty for an empty mask.
pub fn click_points(mask: &Mask, count: usize) -> Vec<(u32, u32)> {
    let mut left = mask.clone();
    let mut points = Vec::new();
    while points.len() < count {
        let Some((x, y, depth)) = deepest(&left) else { break };
        points.push((x, y));
        if points.len() < count {
            remove_disk(&mut left, x, y, depth);
        }
    }
    points
}

/// Clears the pixels at squared distance less than `depth` from `(x, y)`.
fn remove_disk(mask: &mut Mask, x: u32, y: u32, depth: u64) {
    let reach = depth.isqrt() as u32 + 1;
    let n = mask.words_per_row();
    for yy in y.saturating_sub(reach)..(y + reach + 1).min(mask.height()) {
        for xx in x.saturating_sub(reach)..(x + reach + 1).min(mask.width()) {
            let (dx, dy) = (u64::from(xx.abs_diff(x)), u64::from(yy.abs_diff(y)));
            if dx * dx + dy * dy < depth {
                mask.words_mut()[yy as usize * n + xx as usize / 64] &= !(1 << (xx % 64));
            }
        }
    }
}

/// The pixel with the largest squared distance to the background, and that distance.
fn deepest(mask: &Mask) -> Option<(u32, u32, u64)> {
    let [x0, y0, x1, y1] = bounding_box(mask)?;
    // Everything outside the box is background: the transform of the box, one background pixel around it, is exact.
    let (width, height) = ((x1 - x0 + 3) as usize, (y1 - y0 + 3) as usize);
    let inside = |x: usize, y: usize| {
        x > 0 && y > 0 && x + 1 < width && y + 1 < height && mask.get(x0 + x as u32 - 1, y0 + y as u32 - 1)
    };
    // First pass: distance to the nearest background pixel in the same column.
    let mut column = vec![0i64; width * height];
    for x in 0..width {
        for y in 1..height {
            column[y * width + x] = if inside(x, y) { column[(y - 1) * width + x] + 1 } else { 0 };
        }
        for y in (0..height - 1).rev() {
            column[y * width + x] = column[y * width + x].min(column[(y + 1) * width + x] + 1);
        }
    }
    // Second pass: lower envelope of the parabolas (x - i)^2 + column(i)^2, in integers.
    let mut best: Option<(u32, u32, u64)> = None;
    let (mut peaks, mut starts) = (vec![0usize; width], vec![0i64; width]);
    for y in 1..height - 1 {
        let g = &column[y * width..][..width];
        let at = |x: i64, i: usize| (x - i as i64).pow(2) + g[i].pow(2);
        let mut top = 0;
        (peaks[0], starts[0]) = (0, 0);
        let mut alive = true;
        for u in 1..width {
            while alive && at(starts[top], peaks[top]) > at(starts[top], u) {
                alive = top > 0;
                top = top.saturating_sub(1);
            }
            if !alive {
                (top, peaks[0], starts[0], alive) = (0, u, 0, true);
                continue;
            }
            let i = peaks[top];
            let (ii, uu) = (i as i64, u as i64);
            let cross = (uu * uu - ii * ii + g[u].pow(2) - g[i].pow(2)).div_euclid(2 * (uu - ii)) + 1;
            if cross < width as i64 {
                top += 1;
                (peaks[top], starts[top]) = (u, cross);
            }
        }
        for x in (0..width).rev() {
            let depth = at(x as i64, peaks[top]) as u64;
            let (px, py) = ((x0 as usize + x).wrapping_sub(1) as u32, y0 + y as u32 - 1);
            // Columns run from right to left: an equal depth in the same row wins, in an earlier row it does not.
            let better = best.is_none_or(|(_, by, bd)| depth > bd || (depth == bd && py == by));
            if depth > 0 && better {
                best = Some((px, py, depth));
            }
            if x as i64 == starts[top] {
                top = top.saturating_sub(1);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Squared distance to the nearest background pixel, the whole outside included, by looking at all of them.
    fn naive_deepest(mask: &Mask) -> Option<(u32, u32, u64)> {
        let (w, h) = (i64::from(mask.width()), i64::from(mask.height()));
        let mut best = None;
        for y in 0..h {
            for x in 0..w {
                if !mask.get(x as u32, y as u32) {
                    continue;
                }
                let mut nearest = u64::MAX;
                for yy in -1..=h {
                    for xx in -1..=w {
                        let outside = xx < 0 || yy < 0 || xx >= w || yy >= h;
                        if outside || !mask.get(xx as u32, yy as u32) {
                            nearest = nearest.min(((x - xx).pow(2) + (y - yy).pow(2)) as u64);
                        }
                    }
                }
                if best.is_none_or(|(_, _, depth)| nearest > depth) {
                    best = Some((x as u32, y as u32, nearest));
                }
            }
        }
        best
    }

    fn blobs() -> impl Strategy<Value = Mask> {
        let shape = (0i64..80, 0i64..40, 1i64..25, any::<bool>());
        (1u32..80, 1u32..40, prop::collection::vec(shape, 0..5)).prop_map(|(w, h, shapes)| {
            Mask::from_fn(w, h, |x, y| {
                let mut inside = false;
                for &(cx, cy, r, fill) in &shapes {
                    if (i64::from(x) - cx).pow(2) + (i64::from(y) - cy).pow(2) <= r * r {
                        inside = fill;
                    }
                }
                inside
            })
        })
    }

    proptest! {
        #[test]
        fn deepest_pixel_is_that_of_the_naive_transform(mask in blobs()) {
            prop_assert_eq!(deepest(&mask), naive_deepest(&mask));
        }

        #[test]
        fn clicks_are_distinct_foreground_pixels(mask in blobs(), count in 1usize..5) {
            let points = click_points(&mask, count);
            for (k, &(x, y)) in points.iter().enumerate() {
                prop_assert!(mask.get(x, y));
                prop_assert!(!points[..k].contains(&(x, y)));
            }
            prop_assert!(points.len() <= count);
            prop_assert_eq!(points.is_empty(), mask.is_empty());
        }

        #[test]
        fn box_is_tight(mask in blobs()) {
            let pixels: Vec<_> = (0..mask.height())
                .flat_map(|y| (0..mask.width()).map(move |x| (x, y)))
                .filter(|&(x, y)| mask.get(x, y))
                .collect();
            let naive = pixels.iter().fold(None, |b: Option<[u32; 4]>, &(x, y)| {
                let [x0, y0, x1, y1] = b.unwrap_or([x, y, x, y]);
                Some([x0.min(x), y0.min(y), x1.max(x), y1.max(y)])
            });
            prop_assert_eq!(bounding_box(&mask), naive);
        }
    }

    #[test]
    fn ring_is_clicked_on_its_body_not_at_its_centroid() {
        let ring = Mask::from_fn(40, 40, |x, y| {
            let d = (i64::from(x) - 20).pow(2) + (i64::from(y) - 20).pow(2);
            (100..=225).contains(&d)
        });
        let (x, y) = click_points(&ring, 1)[0];
        assert!(ring.get(x, y));
        assert!(!ring.get(20, 20));
    }

    #[test]
    fn ties_go_to_the_first_row_then_column() {
        let two = Mask::from_fn(20, 9, |x, y| (1..4).contains(&(x % 8)) && x < 16 && (3..6).contains(&y));
        assert_eq!(click_points(&two, 1), [(2, 4)]);
        assert_eq!(click_points(&two, 2), [(2, 4), (10, 4)]);
    }

    #[test]
    fn an_empty_mask_has_no_prompt() {
        for kind in PromptKind::ALL {
            assert_eq!(prompt_shape(kind, &Mask::empty(9, 7), 1), None);
        }
    }
}
