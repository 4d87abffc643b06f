//! The figures of a run: accuracy against speed, latency distribution, J over the frames of every object. This file
//! holds what they share: paper, axes, colours, and which cell looks how.
//!
//! Colour tells model and device, marker and dashes tell the dtype, hollow means "not valid". A cell that failed is not
//! drawn; a note on the figure says so.

mod axes;
pub mod changes;
pub mod frames;
pub mod history;
pub mod interval;
pub mod latency;
pub mod paper;
pub mod scale;
pub mod sensed;
pub mod speed;
pub mod stages;
pub mod tracks;

use jetbench_runners::types::Dtype;
use plotters::prelude::{Color, RGBAColor};

use self::axes::{Axes, Plot, Scale};
pub use self::paper::{DrawError, PALETTE};
use self::paper::{GRID, INK, Measure, PAPER, Page, RULE, SHADE, SOFT, paint_over, text_style};
use crate::dataset::RgbFrame;
use crate::report::closing::banner;
use crate::report::table::{cell_name, dataset_name};
use crate::results::record::{CellRecord, RunRecord, Verdict};
use crate::text::{clean, plural};

/// Pixels of the PNG per pixel of the SVG.
const PNG_SCALE: f64 = 2.0;
/// Width of every figure.
const WIDE: f64 = 1200.0;
const MARGIN: f64 = 36.0;

/// One finished figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// File name without extension.
    pub name: String,
    /// What it shows, in one line, for titles and for those who cannot see it.
    pub caption: String,
    size: (f64, f64),
    svg: String,
}

impl Figure {
    /// Draws a figure of some height.
    fn draw(name: impl Into<String>, caption: String, height: f64, paint: impl FnOnce(&Page)) -> Figure {
        let size = (WIDE, height.ceil());
        let svg = Page::draw(size, &caption, Some(PAPER), paint);
        Figure { name: name.into(), caption, size, svg }
    }

    /// The figure as an SVG document.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The same SVG as a PNG file, two pixels per SVG pixel.
    ///
    /// # Errors
    /// When the SVG or the pixels cannot be used, which would be a fault in the drawing.
    pub fn png(&self) -> Result<Vec<u8>, DrawError> {
        let (width, height) = ((self.size.0 * PNG_SCALE) as u32, (self.size.1 * PNG_SCALE) as u32);
        let mut frame = RgbFrame { width, height, rgb: vec![255; width as usize * height as usize * 3] };
        paint_over(&self.svg, &mut frame, PNG_SCALE)?;
        Ok(super::png::encode(&frame)?)
    }
}

/// Every figure of a run; a run in which nothing was measured has none.
pub fn figures(run: &RunRecord) -> Vec<Figure> {
    figures_with(run, &[])
}

/// The same, with what the sensors saw: the rows of `telemetry.csv`.
pub fn figures_with(run: &RunRecord, telemetry: &[u8]) -> Vec<Figure> {
    let mut figures = Vec::new();
    figures.extend(speed::figure(run));
    figures.extend(latency::figure(run));
    figures.extend(stages::figure(run));
    figures.extend(sensed::figures(run, telemetry));
    figures.extend(tracks::figures(run));
    figures.extend(frames::figures(run));
    figures
}

/// How a cell looks in every figure of its run.
#[derive(Clone, Debug)]
struct Look {
    name: String,
    color: RGBAColor,
    dtype: Dtype,
    valid: bool,
}

impl Look {
    /// The looks of all cells, in plan order.
    fn all(run: &RunRecord) -> Vec<Look> {
        let mut seen: Vec<(&str, &str)> = Vec::new();
        let mut looks = Vec::new();
        for cell in &run.cells {
            let key = (cell.model.as_str(), cell.device.as_str());
            let index = seen.iter().position(|k| *k == key).unwrap_or_else(|| {
                seen.push(key);
                seen.len() - 1
            });
            let valid = cell.verdict == Verdict::Valid;
            let mut name = cell_name(run, cell);
            if !valid {
                name.push_str(" (not valid)");
            }
            looks.push(Look { name, color: PALETTE[index % PALETTE.len()], dtype: cell.dtype, valid });
        }
        looks
    }

    /// Its colour, paler by this share when it is not valid.
    fn pale(&self, share: f64) -> RGBAColor {
        if self.valid { self.color } else { self.color.mix(1.0 - share) }
    }

    /// Its marker: circle, square, triangle or diamond for fp32, fp16, bf16, int8; hollow when not valid.
    fn marker(&self, page: &Page, (x, y): (f64, f64), r: f64) {
        let fill = if self.valid { self.color } else { PAPER };
        let (edge, width) = if self.valid { (PAPER, 1.2) } else { (self.color, 2.0) };
        let corners = match self.dtype {
            Dtype::Fp32 => {
                page.disc((x, y), r, fill);
                return page.ring((x, y), r, edge, width);
            }
            Dtype::Fp16 => {
                let h = 0.9 * r;
                vec![(x - h, y - h), (x + h, y - h), (x + h, y + h), (x - h, y + h)]
            }
            Dtype::Bf16 => {
                let corner = |angle: f64| {
                    let (sin, cos) = angle.to_radians().sin_cos();
                    (x + 1.3 * r * cos, y - 1.3 * r * sin + 0.15 * r)
                };
                [90.0, 210.0, 330.0].map(corner).to_vec()
            }
            Dtype::Int8 => {
                let r = 1.25 * r;
                vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y)]
            }
        };
        page.area(&corners, fill);
        page.outline(&corners, edge, width);
    }

    /// A line in its colour: solid, dashed, dotted or in long dashes for bf16, fp16, fp32, int8 when the run compares dtypes.
    fn line(&self, page: &Page, points: &[(f64, f64)], compares: bool) {
        let color = self.pale(0.45);
        match self.dtype {
            Dtype::Fp16 if compares => page.dashes(points, color, 2.0, (7.0, 4.0)),
            Dtype::Fp32 if compares => page.dashes(points, color, 2.0, (2.5, 3.0)),
            Dtype::Int8 if compares => page.dashes(points, color, 2.0, (14.0, 4.0)),
            _ => page.line(points, color, 2.0),
        }
    }
}

/// Does the run compare dtypes?
fn compares_dtypes(run: &RunRecord) -> bool {
    run.cells.windows(2).any(|w| w[0].dtype != w[1].dtype)
}

/// Was anything of this cell measured, and may it be drawn?
fn drawable(cell: &CellRecord) -> bool {
    !matches!(cell.verdict, Verdict::Failed { .. }) && cell.summary.is_some()
}

/// A title, a line that says on what data and device, and notes along the bottom. Returns the y of the first free line below
/// the heading and of the last above the notes.
fn heading(page: &Page, run: &RunRecord, title: &str, notes: &[String]) -> (f64, f64) {
    let wide = page.size.0 - 2.0 * MARGIN;
    let heading = text_style(22.0, INK).bold();
    page.text((MARGIN, 42.0), &heading.fit(title, wide), &heading);
    let under = text_style(15.0, SOFT);
    let mut providers: Vec<&str> = Vec::new();
    for cell in &run.cells {
        if !providers.contains(&cell.device.as_str()) {
            providers.push(&cell.device);
        }
    }
    let line = format!(
        "{} · {}, {} · {} ({})",
        dataset_name(run),
        plural(run.data.videos, "video", "videos"),
        plural(run.data.objects, "object", "objects"),
        run.device.name,
        providers.join(", ")
    );
    page.text((MARGIN, 68.0), &under.fit(&clean(&line), wide), &under);
    let small = text_style(12.5, SOFT);
    let lines: Vec<String> = notes.iter().flat_map(|n| small.wrap(&clean(n), wide)).collect();
    let mut y = page.size.1 - 16.0 - 18.0 * (lines.len().saturating_sub(1)) as f64;
    let floor = if lines.is_empty() { page.size.1 - 12.0 } else { y - 24.0 };
    for line in lines {
        page.text((MARGIN, y), &line, &small);
        y += 18.0;
    }
    (84.0, floor)
}

/// An entry of a legend: the width of its sample, and its text.
type LegendEntry<'t> = (f64, &'t str);

/// Where the samples of a legend stand: x and row. It goes on in a new row where the page ends.
fn legend_places(entries: &[LegendEntry], left: f64) -> Vec<(f64, usize)> {
    let style = text_style(14.0, SOFT);
    let (mut x, mut row) = (left, 0);
    let mut places = Vec::new();
    for (sample, text) in entries {
        let width = sample + 8.0 + style.width(text);
        if x > left && x + width > WIDE - MARGIN {
            (x, row) = (left, row + 1);
        }
        places.push((x, row));
        x += width + 26.0;
    }
    places
}

/// A legend; `sample` draws the sample of an entry, whose text stands on the baseline of the place it gets.
fn legend(page: &Page, entries: &[LegendEntry], (left, y): (f64, f64), sample: impl Fn(usize, (f64, f64))) {
    let places = legend_places(entries, left);
    for (i, ((width, text), (x, row))) in entries.iter().zip(places).enumerate() {
        let y = y + 24.0 * row as f64;
        sample(i, (x, y));
        page.text((x + width + 8.0, y), text, &text_style(14.0, SOFT));
    }
}

/// Notes that every figure owes its reader: which cells are not in it, which are not valid.
fn notes(run: &RunRecord) -> Vec<String> {
    let mut notes: Vec<String> = banner(run).map(|text| text + ".").into_iter().collect();
    let missing: Vec<String> = run
        .cells
        .iter()
        .filter(|c| !drawable(c))
        .map(|c| format!("{} ({})", cell_name(run, c), c.verdict.as_str()))
        .collect();
    if !missing.is_empty() {
        notes.push(format!("Not shown, for want of figures: {}.", missing.join(", ")));
    }
    if run.cells.iter().any(|c| drawable(c) && c.verdict != Verdict::Valid) {
        notes.push("Hollow or pale: the cell is not valid; its figures must not be quoted.".to_string());
    }
    let mut emulated: Vec<&str> = run.cells.iter().filter(|c| c.emulated()).map(|c| c.dtype.as_str()).collect();
    emulated.sort_unstable();
    emulated.dedup();
    if !emulated.is_empty() {
        notes.push(format!(
            "{} is emulated on this device: its scores are those of the precision, its speed is not.",
            emulated.join(" and ")
        ));
    }
    if run.stopped.is_some() {
        notes.push("The run stopped early: finished videos only.".to_string());
    }
    notes
}
