//! The figures of a run: accuracy against speed, latency distribution, J over the frames of every object. This file
//! holds what they share: paper, axes, colours, and which cell looks how.
//!
//! Colour tells model and device, marker and dashes tell the dtype, hollow means "not valid". A cell that failed is not
//! drawn; a note on the figure says so.

pub mod frames;
pub mod history;
pub mod latency;
pub mod sensed;
pub mod speed;
pub mod stages;

use jetbench_runners::types::Precision;

use crate::report::scene::{Ink, Line, Scene, Type};
use crate::report::table::{cell_name, dataset_name, plural};
use crate::results::record::{CellRecord, RunRecord, Verdict};

/// Pixels of the PNG per pixel of the SVG.
const PNG_SCALE: f64 = 2.0;

/// One finished figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// File name without extension.
    pub name: String,
    /// What it shows, in one line, for titles and for those who cannot see it.
    pub caption: String,
    /// The drawing.
    pub scene: Scene,
}

impl Figure {
    /// The figure as an SVG document.
    pub fn svg(&self) -> String {
        self.scene.svg(&self.caption)
    }

    /// The figure as a PNG file, two pixels per SVG pixel.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn png(&self) -> Result<Vec<u8>, ::png::EncodingError> {
        super::png::encode(&self.scene.pixels(PNG_SCALE))
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
    figures.extend(frames::figures(run));
    figures
}

pub(crate) const INK: Ink = Ink(0x21, 0x25, 0x29, 1.0);
pub(crate) const SOFT: Ink = Ink(0x5c, 0x63, 0x6a, 1.0);
pub(crate) const RULE: Ink = Ink(0xc4, 0xc9, 0xce, 1.0);
pub(crate) const GRID: Ink = Ink(0xe9, 0xec, 0xef, 1.0);
pub(crate) const PAPER: Ink = Ink(0xff, 0xff, 0xff, 1.0);

/// Okabe and Ito's colours for every kind of colour vision, without the yellow that paper swallows, and a wine red.
pub const PALETTE: [Ink; 8] = [
    Ink(0x00, 0x72, 0xb2, 1.0),
    Ink(0xd5, 0x5e, 0x00, 1.0),
    Ink(0x00, 0x9e, 0x73, 1.0),
    Ink(0xcc, 0x79, 0xa7, 1.0),
    Ink(0xe6, 0x9f, 0x00, 1.0),
    Ink(0x56, 0xb4, 0xe9, 1.0),
    Ink(0x88, 0x22, 0x55, 1.0),
    Ink(0x49, 0x50, 0x57, 1.0),
];

/// How a cell looks in every figure of its run.
#[derive(Clone, Debug)]
struct Look {
    name: String,
    ink: Ink,
    dtype: Precision,
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
            looks.push(Look { name, ink: PALETTE[index % PALETTE.len()], dtype: cell.dtype, valid });
        }
        looks
    }

    /// Its marker: circle, square or triangle for fp32, fp16, bf16; hollow when not valid.
    fn marker(&self, scene: &mut Scene, (x, y): (f64, f64), r: f64) {
        let fill = if self.valid { self.ink } else { PAPER };
        let line = if self.valid { Line::new(PAPER, 1.2) } else { Line::new(self.ink, 2.0) };
        match self.dtype {
            Precision::Fp32 => scene.circle((x, y), r, Some(fill), Some(line)),
            Precision::Fp16 => {
                let h = 0.9 * r;
                scene.rect((x - h, y - h), (2.0 * h, 2.0 * h), Some(fill), Some(line));
            }
            Precision::Bf16 => {
                let points = [90.0f64, 210.0, 330.0].map(|a| {
                    let (sin, cos) = a.to_radians().sin_cos();
                    (x + 1.3 * r * cos, y - 1.3 * r * sin + 0.15 * r)
                });
                scene.polygon(points.to_vec(), Some(fill), Some(line));
            }
        }
    }

    /// Its line: solid, dashed or dotted for bf16, fp16, fp32 when the run compares dtypes.
    fn stroke(&self, compares: bool) -> Line {
        let line = Line::new(if self.valid { self.ink } else { self.ink.tinted(0.45) }, 2.0);
        match self.dtype {
            Precision::Fp16 if compares => line.dashed(7.0, 4.0),
            Precision::Fp32 if compares => line.dashed(2.5, 3.0),
            _ => line,
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

/// Paper with a title, a line that says on what data and device, and notes along the bottom. Returns the drawing and the
/// y of the first free line below the heading and of the last above the notes.
fn page(run: &RunRecord, title: &str, size: (f64, f64), notes: &[String]) -> (Scene, f64, f64) {
    let mut scene = Scene::new(size.0, size.1);
    let wide = size.0 - 2.0 * MARGIN;
    let heading = Type::new(22.0, INK).bold();
    scene.text((MARGIN, 42.0), heading.fit(title, wide), heading);
    let under = Type::new(15.0, SOFT);
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
    scene.text((MARGIN, 68.0), under.fit(&super::table::clean(&line), wide), under);
    let small = Type::new(12.5, SOFT);
    let lines: Vec<String> = notes.iter().flat_map(|n| wrap(&super::table::clean(n), wide, &small)).collect();
    let mut y = size.1 - 16.0 - 18.0 * (lines.len().saturating_sub(1)) as f64;
    let floor = if lines.is_empty() { size.1 - 12.0 } else { y - 24.0 };
    for line in lines {
        scene.text((MARGIN, y), line, small);
        y += 18.0;
    }
    (scene, 84.0, floor)
}

const MARGIN: f64 = 36.0;

/// Notes that every figure owes its reader: which cells are not in it, which are not valid.
fn notes(run: &RunRecord) -> Vec<String> {
    let mut notes = Vec::new();
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

/// Breaks a text at spaces into lines of at most `width`.
fn wrap(text: &str, width: f64, style: &Type) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if style.width(line) + style.width(" ") + style.width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(style.fit(word, width)),
        }
    }
    lines
}

/// Maps values to positions along one axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    /// A linear axis over at least `low..=high`, from position `from` to position `to`.
    fn linear(low: f64, high: f64, from: f64, to: f64) -> Axis {
        let high = if high > low { high } else { low + 1.0 };
        Axis { low, high, log: false, from, to }
    }

    /// A logarithmic axis with some air around `low..=high`, both positive.
    fn log(low: f64, high: f64, from: f64, to: f64) -> Axis {
        Axis { low: low / 1.15, high: high * 1.15, log: true, from, to }
    }

    /// Position of a value.
    fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }

    /// Values to mark, with their texts: multiples of 1, 2 or 5 times a power of ten, about `count` of them.
    fn ticks(&self, count: f64) -> Vec<(f64, String)> {
        if self.log {
            let decades = (self.high / self.low).log10();
            let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let mut ticks = Vec::new();
            for power in self.low.log10().floor() as i32..=self.high.log10().ceil() as i32 {
                for step in steps {
                    let value = step * 10f64.powi(power);
                    if (self.low..=self.high).contains(&value) {
                        ticks.push((value, plain(value, (-power).max(0) as usize)));
                    }
                }
            }
            return ticks;
        }
        let rough = (self.high - self.low) / count.max(1.0);
        let power = rough.log10().floor();
        let unit = 10f64.powf(power);
        let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * unit).into_iter().find(|s| *s >= rough * 0.999).unwrap_or(unit);
        let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| (i as f64 * step, plain(i as f64 * step, decimals))).collect()
    }
}

/// A tick's text.
fn plain(value: f64, decimals: usize) -> String {
    let value = if value == 0.0 { 0.0 } else { value };
    format!("{value:.decimals$}")
}

/// The frame of a plot: grid, tick labels, axis titles. `x` runs from left to right, `y` from bottom to top.
fn frame(scene: &mut Scene, x: &Axis, y: &Axis, x_title: &str, y_title: &str) {
    let tick = Type::new(14.0, SOFT);
    let title = Type::new(15.0, INK);
    for (value, text) in x.ticks((x.to - x.from) / 110.0) {
        let at = x.at(value);
        scene.line((at, y.from), (at, y.to), Line::new(GRID, 1.0));
        scene.text((at, y.from + 22.0), text, tick.middle());
    }
    let mut widest: f64 = 0.0;
    for (value, text) in y.ticks((y.from - y.to) / 70.0) {
        let at = y.at(value);
        scene.line((x.from, at), (x.to, at), Line::new(GRID, 1.0));
        widest = widest.max(tick.width(&text));
        scene.text((x.from - 10.0, at + tick.half_cap()), text, tick.end());
    }
    scene.polyline(vec![(x.from, y.to), (x.from, y.from), (x.to, y.from)], Line::new(RULE, 1.2));
    scene.text(((x.from + x.to) / 2.0, y.from + 50.0), x_title, title.middle());
    if !y_title.is_empty() {
        scene.text((x.from - widest - 28.0, (y.from + y.to) / 2.0), y_title, title.middle().upright());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: Axis, count: f64) -> Vec<String> {
        axis.ticks(count).into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_are_round_numbers_inside_the_axis() {
        assert_eq!(texts(Axis::linear(0.0, 100.0, 0.0, 1.0), 5.0), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(texts(Axis::linear(0.0, 1.2, 0.0, 1.0), 6.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0", "1.2"]);
        assert_eq!(texts(Axis::linear(71.0, 74.0, 0.0, 1.0), 4.0), ["71", "72", "73", "74"]);
        assert_eq!(texts(Axis::linear(-0.05, 0.05, 0.0, 1.0), 2.0), ["-0.05", "0.00", "0.05"]);
        assert_eq!(texts(Axis::log(10.0, 200.0, 0.0, 1.0), 5.0), ["10", "20", "50", "100", "200"]);
        assert_eq!(texts(Axis::log(0.2, 2.0, 0.0, 1.0), 5.0), ["0.2", "0.5", "1", "2"]);
        assert_eq!(texts(Axis::linear(5.0, 5.0, 0.0, 1.0), 2.0), ["5.0", "5.5", "6.0"]);
    }

    #[test]
    fn axes_run_from_end_to_end() {
        let y = Axis::linear(0.0, 100.0, 700.0, 100.0);
        assert_eq!((y.at(0.0), y.at(50.0), y.at(100.0)), (700.0, 400.0, 100.0));
        let x = Axis::log(1.0, 100.0, 0.0, 1.0);
        assert!((x.at(10.0) - 0.5).abs() < 1e-12 && x.at(1.0) > 0.0 && x.at(100.0) < 1.0);
    }
}
