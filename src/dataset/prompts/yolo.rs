//! YOLO's label files: a line per object, `class x y w h` for a box or `class x1 y1 x2 y2 x3 y3 …` for a polygon, as shares of the frame.
//! The line's number names the object, the file's name the frame.

use jetbench_runners::types::PromptShape;

use super::{FrameName, UserPrompt, polygon, room};

/// The prompts of a file named `stem`, for frames of this size.
///
/// # Errors
/// The line and what is wrong in it.
pub(super) fn read(text: &str, stem: &str, (width, height): (u32, u32)) -> Result<Vec<UserPrompt>, String> {
    room(text.lines().map(|_| (width, height)))?;
    let size = [f64::from(width), f64::from(height)];
    let mut prompts = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fail = |what: String| format!("line {}: {what}", at + 1);
        let numbers: Option<Vec<f64>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
        let numbers = numbers.ok_or_else(|| fail("a word that is no number".to_string()))?;
        let (_, shares) = numbers.split_first().ok_or_else(|| fail("nothing in it".to_string()))?;
        if let Some(other) = shares.iter().find(|v| !(0.0..=1.0).contains(*v)) {
            return Err(fail(format!("{other} is no share of the frame; 0 to 1 is")));
        }
        let shape = match shares {
            [x, y, w, h] => {
                // As in COCO, the box ends behind its last pixel.
                let (from, to) = ([x - w / 2.0, y - h / 2.0], [x + w / 2.0, y + h / 2.0]);
                let place = |share: f64, axis: usize| (share * size[axis]).clamp(0.0, size[axis]);
                let corners = [place(from[0], 0), place(from[1], 1), place(to[0], 0) - 1.0, place(to[1], 1) - 1.0];
                // Shares are rounded; pixels of a sixteenth are meant to be whole.
                PromptShape::Bbox(
                    corners.map(|v| if (v - v.round()).abs() < 1.0 / 16.0 { v.round() } else { v } as f32),
                )
            }
            more if more.len() >= 6 && more.len() % 2 == 0 => {
                let corners = more.chunks_exact(2).map(|xy| [xy[0] * size[0], xy[1] * size[1]]).collect();
                PromptShape::Mask(polygon::fill(width, height, &[corners]).map_err(fail)?)
            }
            other => {
                return Err(fail(format!(
                    "{} numbers; a class with 4 for a box, or with x and y of 3 or more corners",
                    other.len() + 1
                )));
            }
        };
        prompts.push(UserPrompt {
            video: None,
            object: (at + 1).to_string(),
            frame: FrameName::Named(stem.to_string()),
            shape,
        });
    }
    Ok(prompts)
}
