//! The clip that tests and benches of the tracker share: a bright disc of 18 pixels that moves two pixels a frame over a
//! dark ground, starting around (60, 50); and a click to start an object with.

use jetbench_runners::types::{Click, Prompt, PromptShape};

/// Frame `t`, RGB.
pub fn frame(width: u32, height: u32, t: u32) -> Vec<u8> {
    let pixel = |i: u32| {
        let (x, y) = (i % width, i / width);
        let inside = (x as f32 - 60.0 - 2.0 * t as f32).hypot(y as f32 - 50.0) < 18.0;
        if inside { [220, 180, 40] } else { [40, (x / 2) as u8, (y / 2) as u8 + 30] }
    };
    (0..width * height).flat_map(pixel).collect()
}

/// An object that starts from one click.
pub fn click(object: u32, x: f32, y: f32) -> Prompt {
    Prompt { object, shape: PromptShape::Points(vec![Click { x, y, positive: true }]) }
}
