//! Where values lie on a chart: scales with round ticks, and the grid, ticks and titles that plotters draws for them.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{ChartBuilder, Color};
use plotters::style::TextStyle;

use super::paper::{GRID, INFALLIBLE, INK, Measure, Page, RULE, SOFT, text_style, units};

/// One axis of a chart, with the values it marks: plotters' linear axis, also over logarithms.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    range: Range<f64>,
    /// Logarithmic?
    pub(super) log: bool,
    ticks: Vec<f64>,
}

impl Scale {
    /// A linear axis over at least `low..=high` with up to `ticks` round values marked.
    pub(super) fn linear(low: f64, high: f64, ticks: f64) -> Scale {
        let high = if high > low { high } else { low + 1.0 };
        let ticks = RangedCoordf64::from(low..high).key_points(ticks as usize);
        Scale { range: low..high, log: false, ticks }
    }

    /// A logarithmic axis with some air around `low..=high`, both positive; 1, 2 and 5 times powers of ten are marked, on a
    /// long axis only the powers.
    pub(super) fn log(low: f64, high: f64) -> Scale {
        let range = low / 1.15..high * 1.15;
        let decades = (range.end / range.start).log10();
        let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let powers = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
        let values = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        Scale { ticks: values.filter(|v| range.contains(v)).collect(), range, log: true }
    }

    /// The same with these values marked.
    pub(super) fn marked(self, ticks: &[f64]) -> Scale {
        Scale { ticks: ticks.to_vec(), ..self }
    }

    /// The marked values.
    pub(super) fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// The texts at the marked values.
    pub(super) fn labels(&self) -> Vec<String> {
        self.ticks.iter().map(|tick| self.format_ext(tick)).collect()
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let along = |v: f64| if self.log { v.max(f64::MIN_POSITIVE).ln() } else { v };
        RangedCoordf64::from(along(self.range.start)..along(self.range.end)).map(&along(*value), limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // plotters asks for the fine lines between the marked ones too: there are none.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Scale {
    /// As many decimals as the step between the marked values has; on a logarithmic axis, as the value itself has.
    fn format_ext(&self, value: &f64) -> String {
        let step = match self.ticks[..] {
            [a, b, ..] if !self.log => b - a,
            _ => value.abs(),
        };
        let decimals = if step > 0.0 { (-(step.log10() + 1e-9).floor()).max(0.0) as usize } else { 0 };
        // A zero has no sign.
        format!("{:.decimals$}", if value.abs() < step * 1e-6 { 0.0 } else { *value })
    }
}

/// Two scales on a part of a page; `x` runs from left to right, `y` from bottom to top.
pub(super) struct Plot {
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// How the axes of a plot are written.
pub(super) struct Axes<'t> {
    /// Size of the texts at ticks.
    pub(super) tick: f64,
    /// Size of the titles.
    pub(super) title: f64,
    /// What is on the horizontal axis.
    pub(super) x: &'t str,
    /// What is on the vertical axis.
    pub(super) y: &'t str,
    /// Lines at the ticks of the horizontal axis?
    pub(super) columns: bool,
}

impl Plot {
    /// Position of a value on the horizontal axis.
    pub(super) fn x(&self, value: f64) -> f64 {
        position(&self.x, value, self.left, self.right)
    }

    /// Position of a value on the vertical axis.
    pub(super) fn y(&self, value: f64) -> f64 {
        position(&self.y, value, self.bottom, self.top)
    }

    /// Grid, tick labels, titles, and the two axes; a scale without ticks has none of them.
    pub(super) fn axes(&self, page: &Page, axes: &Axes) {
        // plotters puts labels at twice the length of its tick marks; those are not drawn.
        const GAP: f64 = 9.0;
        let tick: TextStyle<'static> = text_style(axes.tick, SOFT);
        let title = text_style(axes.title, INK);
        let widest = self.y.labels().iter().map(|label| tick.width(label)).fold(0.0, f64::max);
        let beside = if axes.y.is_empty() { widest + GAP } else { widest + GAP + 1.5 * axes.title };
        let below = if axes.x.is_empty() { axes.tick + GAP } else { axes.tick + GAP + 1.8 * axes.title };
        let area = page.part((self.left - beside, self.top), (self.right, self.bottom + below));
        let mut chart = ChartBuilder::on(&area)
            .x_label_area_size(units(below))
            .y_label_area_size(units(beside))
            .build_cartesian_2d(self.x.clone(), self.y.clone())
            .expect(INFALLIBLE);
        let mut mesh = chart.configure_mesh();
        mesh.bold_line_style(GRID.stroke_width(units(1.0) as u32))
            .axis_style(GRID.mix(0.0))
            .set_all_tick_mark_size(units(GAP / 2.0))
            .label_style(tick.clone())
            // plotters centres on half the height of an x.
            .y_label_offset(units(tick.half_cap() - 0.26 * axes.tick))
            .axis_desc_style(title)
            .x_desc(axes.x)
            .y_desc(axes.y);
        if !axes.columns {
            mesh.disable_x_mesh();
        }
        mesh.draw().expect(INFALLIBLE);
        let corner = (self.left, self.bottom);
        if self.y.ticks.is_empty() {
            page.line(&[corner, (self.right, self.bottom)], RULE, 1.2);
        } else {
            page.line(&[(self.left, self.top), corner, (self.right, self.bottom)], RULE, 1.2);
        }
    }
}

/// In plotters' units and back, so that what is drawn lies where plotters puts the ticks.
fn position(scale: &Scale, value: f64, from: f64, to: f64) -> f64 {
    if !value.is_finite() {
        return f64::NAN;
    }
    f64::from(scale.map(&value, (units(from), units(to)))) / f64::from(units(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_inside_the_axis() {
        assert_eq!(Scale::linear(0.0, 100.0, 6.0).labels(), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(Scale::linear(0.0, 1.2, 7.0).labels(), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0", "1.2"]);
        assert_eq!(Scale::linear(71.0, 74.0, 4.0).labels(), ["71", "72", "73", "74"]);
        assert_eq!(Scale::linear(-0.05, 0.05, 3.0).labels(), ["-0.05", "0.00", "0.05"]);
        assert_eq!(Scale::log(10.0, 200.0).labels(), ["10", "20", "50", "100", "200"]);
        assert_eq!(Scale::log(0.2, 2.0).labels(), ["0.2", "0.5", "1", "2"]);
        assert_eq!(Scale::linear(5.0, 5.0, 3.0).labels(), ["5.0", "5.5", "6.0"]);
        assert_eq!(Scale::linear(5.0, 5.0, 0.0).labels(), [""; 0]);
        assert_eq!(Scale::linear(0.0, 100.0, 0.0).marked(&[0.0, 50.0, 100.0]).labels(), ["0", "50", "100"]);
    }

    #[test]
    fn axes_run_from_end_to_end() {
        let (x, y) = (Scale::log(1.0, 100.0), Scale::linear(0.0, 100.0, 5.0));
        let plot = Plot { x, y, left: 0.0, top: 100.0, right: 1000.0, bottom: 700.0 };
        assert_eq!((plot.y(0.0), plot.y(50.0), plot.y(100.0)), (700.0, 400.0, 100.0));
        assert!((plot.x(10.0) - 500.0).abs() <= 0.1 && plot.x(1.0) > 0.0 && plot.x(100.0) < 1000.0);
        assert!(plot.y(f64::NAN).is_nan() && plot.x(f64::INFINITY).is_nan());
    }
}
