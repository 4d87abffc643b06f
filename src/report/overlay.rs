//! Frames with what the model saw drawn on them: translucent predicted masks, contours of the truth, prompt marks, J in
//! a corner. A figure is judged by eye here, so what is not known (no truth on this frame, no score) is not drawn.

use jetbench_runners::types::{Mask, PromptShape};
use plotters::prelude::{Color, RGBAColor};

use crate::dataset::RgbFrame;
use crate::report::plot::paper::{DrawError, Measure, PALETTE, Page, paint_over, text_style};
use crate::text::clean;

/// What is drawn for one object. Masks must have the frame's size; others are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layer<'a> {
    /// Name of the object, for the legend.
    pub name: &'a str,
    /// Number of the object within its sequence: chooses its colour, the same on every frame.
    pub object: u32,
    /// Predicted mask: filled, translucent.
    pub predicted: Option<&'a Mask>,
    /// Ground truth, on annotated frames: its contour.
    pub truth: Option<&'a Mask>,
    /// The prompt, on the frame on which it was given: clicks, box, or a thick contour of the mask.
    pub prompt: Option<&'a PromptShape>,
    /// J on this frame, 0..100, where it was scored.
    pub j: Option<f64>,
}

const WHITE: RGBAColor = RGBAColor(255, 255, 255, 1.0);
const BLACK: RGBAColor = RGBAColor(0, 0, 0, 1.0);
const RED: RGBAColor = RGBAColor(0xb0, 0x00, 0x20, 1.0);

/// The frame with its layers and a legend, of the frame's size.
///
/// # Errors
/// When the marks cannot be drawn, which would be a fault in them.
pub fn render(frame: &RgbFrame, layers: &[Layer]) -> Result<RgbFrame, DrawError> {
    draw(frame, layers, true)
}

/// The frame with its layers; the legend would be too small to read where the picture is made smaller.
///
/// # Errors
/// As [`render`].
pub fn draw(frame: &RgbFrame, layers: &[Layer], with_legend: bool) -> Result<RgbFrame, DrawError> {
    let mut image = frame.clone();
    let (width, height) = (frame.width, frame.height);
    if frame.rgb.len() != width as usize * height as usize * 3 {
        return Ok(image);
    }
    let fits = |mask: &&Mask| mask.width() == width && mask.height() == height;
    // Marks grow with the frame, so that they are as visible in a full-size frame as in a thumbnail.
    let unit = (f64::from(width.min(height)) / 360.0).max(0.5);
    let contour = (unit * 1.6).round().max(1.0) as i64;
    for layer in layers {
        let ink = colour(layer.object);
        if let Some(mask) = layer.predicted.filter(fits) {
            each_pixel(mask, |x, y| blend(&mut image, x, y, ink.mix(0.45)));
        }
    }
    for layer in layers {
        let ink = colour(layer.object);
        if let Some(mask) = layer.predicted.filter(fits) {
            rim(mask, contour, |x, y| blend(&mut image, x, y, ink));
        }
        if let Some(mask) = layer.truth.filter(fits) {
            // A dark rim under a light line shows on every background.
            rim(mask, contour + 1, |x, y| blend(&mut image, x, y, BLACK.mix(0.55)));
            rim(mask, contour, |x, y| blend(&mut image, x, y, lightened(ink)));
        }
        if let Some(PromptShape::Mask(mask)) = layer.prompt.filter(|p| matches!(p, PromptShape::Mask(m) if fits(&m))) {
            rim(mask, 2 * contour + 1, |x, y| blend(&mut image, x, y, WHITE));
            rim(mask, contour, |x, y| blend(&mut image, x, y, ink));
        }
    }
    let size = (f64::from(width), f64::from(height));
    let svg = Page::draw(size, "marks", None, |page| {
        for layer in layers {
            match layer.prompt {
                Some(PromptShape::Points(clicks)) => {
                    for click in clicks {
                        // The centre of a pixel is half a pixel from its corner.
                        let at = (f64::from(click.x) + 0.5, f64::from(click.y) + 0.5);
                        click_mark(page, at, click.positive, unit, colour(layer.object));
                    }
                }
                Some(PromptShape::Bbox(corners)) => {
                    let [x0, y0, x1, y1] = corners.map(f64::from);
                    let corners = [(x0, y0), (x1 + 1.0, y0), (x1 + 1.0, y1 + 1.0), (x0, y1 + 1.0)];
                    page.outline(&corners, WHITE, 4.0 * unit);
                    page.outline(&corners, colour(layer.object), 2.2 * unit);
                }
                _ => {}
            }
        }
        if with_legend {
            legend(page, layers, unit);
        }
    });
    paint_over(&svg, &mut image, 1.0)?;
    Ok(image)
}

/// The colour of an object: those of the plots, the bright ones first.
fn colour(object: u32) -> RGBAColor {
    const VIVID: [usize; 8] = [5, 1, 2, 3, 4, 0, 6, 7];
    PALETTE[VIVID[object as usize % VIVID.len()]]
}

/// Mixed with seven tenths of white.
fn lightened(RGBAColor(r, g, b, a): RGBAColor) -> RGBAColor {
    let mix = |c: u8| (f32::from(c) + (255.0 - f32::from(c)) * 0.7).round() as u8;
    RGBAColor(mix(r), mix(g), mix(b), a)
}

/// A ring with a plus or a minus: the model was told "this" or "not this". A click outside the frame is not drawn: the page
/// ends where the frame ends, and the mark would stand where no click was.
fn click_mark(page: &Page, (x, y): (f64, f64), positive: bool, unit: f64, color: RGBAColor) {
    if !((0.0..=page.size.0).contains(&x) && (0.0..=page.size.1).contains(&y)) {
        return;
    }
    let r = 6.5 * unit;
    page.disc((x, y), r + 1.5 * unit, BLACK.mix(0.6));
    page.disc((x, y), r, if positive { color } else { WHITE });
    page.ring((x, y), r, WHITE, 1.6 * unit);
    let (ink, width, arm) = (if positive { WHITE } else { RED }, 1.8 * unit, 3.8 * unit);
    page.line(&[(x - arm, y), (x + arm, y)], ink, width);
    if positive {
        page.line(&[(x, y - arm), (x, y + arm)], ink, width);
    }
}

/// One row per object in the top left corner: colour, name, J.
fn legend(page: &Page, layers: &[Layer], unit: f64) {
    let size = (12.0 * unit).max(9.0);
    let (pad, row) = (0.45 * size, 1.45 * size);
    let style = text_style(size, WHITE);
    let room = page.size.0 - 3.0 * size - 2.0 * pad;
    // As many rows as fit; the rest are counted, not hidden.
    let rows = (((page.size.1 - 3.0 * pad) / row).floor().max(1.0) as usize).min(layers.len());
    let mut texts: Vec<String> = layers
        .iter()
        .map(|l| {
            let score = l.j.map_or_else(String::new, |j| format!(" · J {j:.1}"));
            style.fit(&format!("{}{score}", clean(l.name)), room)
        })
        .collect();
    if rows < layers.len() && rows > 0 {
        texts[rows - 1] = format!("and {} more", layers.len() - rows + 1);
    }
    texts.truncate(rows);
    if texts.is_empty() {
        return;
    }
    let wide = texts.iter().map(|t| style.width(t)).fold(0.0, f64::max) + 1.6 * size + 2.0 * pad;
    page.rect((pad, pad), (wide, rows as f64 * row + pad), BLACK.mix(0.6));
    for (i, (text, layer)) in texts.iter().zip(layers).enumerate() {
        let middle = pad + (i as f64 + 0.5) * row + 0.5 * pad;
        page.rect((2.0 * pad, middle - 0.45 * size), (0.9 * size, 0.9 * size), colour(layer.object));
        page.text((2.0 * pad + 1.4 * size, middle + style.half_cap()), text, &style);
    }
}

/// Calls `paint` with column and row of every foreground pixel.
fn each_pixel(mask: &Mask, mut paint: impl FnMut(u32, u32)) {
    for y in 0..mask.height() {
        for (i, &word) in mask.row(y).iter().enumerate() {
            let mut left = word;
            while left != 0 {
                paint(i as u32 * 64 + left.trailing_zeros(), y);
                left &= left - 1;
            }
        }
    }
}

/// Calls `paint` once for every foreground pixel less than `thick` steps from the background along a row or column. The
/// frame's edge is no background: an object that leaves the frame is open there.
fn rim(mask: &Mask, thick: i64, mut paint: impl FnMut(u32, u32)) {
    let (w, h) = (i64::from(mask.width()), i64::from(mask.height()));
    let background = |x: i64, y: i64| x >= 0 && y >= 0 && x < w && y < h && !mask.get(x as u32, y as u32);
    each_pixel(mask, |x, y| {
        let (cx, cy) = (i64::from(x), i64::from(y));
        let near = (1..=thick)
            .any(|d| [(d, 0), (-d, 0), (0, d), (0, -d)].into_iter().any(|(dx, dy)| background(cx + dx, cy + dy)));
        if near {
            paint(x, y);
        }
    });
}

fn blend(image: &mut RgbFrame, x: u32, y: u32, RGBAColor(r, g, b, a): RGBAColor) {
    let at = (y as usize * image.width as usize + x as usize) * 3;
    let a = a as f32;
    for (old, new) in image.rgb[at..at + 3].iter_mut().zip([r, g, b]) {
        *old = (f32::from(*old) * (1.0 - a) + f32::from(new) * a).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetbench_runners::types::Click;

    fn grey(width: u32, height: u32) -> RgbFrame {
        RgbFrame { width, height, rgb: vec![128; (width * height * 3) as usize] }
    }

    fn render(frame: &RgbFrame, layers: &[Layer]) -> RgbFrame {
        super::render(frame, layers).unwrap()
    }

    fn pixel(image: &RgbFrame, x: u32, y: u32) -> [u8; 3] {
        let at = (y as usize * image.width as usize + x as usize) * 3;
        [image.rgb[at], image.rgb[at + 1], image.rgb[at + 2]]
    }

    fn disc(width: u32, height: u32, cx: f64, cy: f64, r: f64) -> Mask {
        Mask::from_fn(width, height, |x, y| (f64::from(x) - cx).hypot(f64::from(y) - cy) <= r)
    }

    #[test]
    fn masks_tint_inside_and_leave_the_rest_alone() {
        let mask = disc(200, 150, 140.0, 90.0, 30.0);
        let image = render(&grey(200, 150), &[Layer { name: "a", predicted: Some(&mask), ..Layer::default() }]);
        assert_ne!(pixel(&image, 140, 90), [128; 3]);
        assert_eq!(pixel(&image, 190, 140), [128; 3]);
        let expected = 128.0 * 0.55 + f32::from(colour(0).0) * 0.45;
        assert_eq!(f32::from(pixel(&image, 140, 90)[0]), expected.round());
    }

    #[test]
    fn truth_is_a_contour_and_only_that() {
        let mask = disc(200, 150, 140.0, 90.0, 30.0);
        let image = render(&grey(200, 150), &[Layer { name: "a", truth: Some(&mask), ..Layer::default() }]);
        assert_eq!(pixel(&image, 140, 90), [128; 3], "the inside of the truth stays as it is");
        assert!(pixel(&image, 170, 90)[0] > 150, "{:?}", pixel(&image, 170, 90));
        // Where the frame cuts an object, it has no contour.
        let cut = Mask::from_fn(200, 150, |x, _| x >= 150);
        let image = render(&grey(200, 150), &[Layer { name: "a", truth: Some(&cut), ..Layer::default() }]);
        assert_eq!(pixel(&image, 199, 75), [128; 3]);
        assert_ne!(pixel(&image, 150, 75), [128; 3]);
    }

    #[test]
    fn prompts_are_marked_where_they_are() {
        let clicks = PromptShape::Points(vec![
            Click { x: 150.0, y: 60.0, positive: true },
            Click { x: 150.0, y: 110.0, positive: false },
        ]);
        let image = render(&grey(200, 150), &[Layer { name: "a", prompt: Some(&clicks), ..Layer::default() }]);
        assert_ne!(pixel(&image, 150, 60), [128; 3]);
        assert_ne!(pixel(&image, 150, 60), pixel(&image, 150, 110), "positive and negative differ");
        let bbox = PromptShape::Bbox([120.0, 50.0, 180.0, 100.0]);
        let image = render(&grey(200, 150), &[Layer { name: "a", prompt: Some(&bbox), ..Layer::default() }]);
        assert_ne!(pixel(&image, 120, 75), [128; 3]);
        assert_eq!(pixel(&image, 150, 75), [128; 3]);
        let mask = PromptShape::Mask(disc(200, 150, 140.0, 90.0, 30.0));
        let image = render(&grey(200, 150), &[Layer { name: "a", prompt: Some(&mask), ..Layer::default() }]);
        assert_ne!(pixel(&image, 170, 90), [128; 3]);
        assert_eq!(pixel(&image, 140, 90), [128; 3]);
    }

    #[test]
    fn odd_input_is_left_out_not_fatal() {
        let wrong = disc(10, 10, 5.0, 5.0, 3.0);
        let layers: Vec<Layer> =
            (0..40).map(|i| Layer { name: "x", object: i, predicted: Some(&wrong), ..Layer::default() }).collect();
        for (w, h) in [(1, 1), (3, 200), (200, 3), (64, 48)] {
            assert_eq!(render(&grey(w, h), &layers).rgb.len(), (w * h * 3) as usize);
        }
        assert_eq!(render(&grey(50, 50), &[]), grey(50, 50), "nothing to draw, nothing drawn");
        let broken = RgbFrame { width: 9, height: 9, rgb: vec![0; 5] };
        assert_eq!(render(&broken, &layers), broken);
        let off = PromptShape::Points(vec![Click { x: -500.0, y: f32::NAN, positive: true }]);
        render(&grey(20, 20), &[Layer { name: "a", prompt: Some(&off), ..Layer::default() }]);
    }
}
