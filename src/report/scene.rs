//! A drawing as a list of shapes and texts, written as SVG or painted as pixels: one drawing, two forms that agree to
//! the pixel. Text is measured and painted with fonts inside the program, so a board without any font draws the same
//! picture; SVG names the same font and wide substitutes, so that text never outgrows the place kept for it.

use std::fmt::Write as _;
use std::sync::LazyLock;

use ab_glyph::{Font as _, FontRef, OutlineCurve};
use tiny_skia::{Color, FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Stroke, StrokeDash, Transform};

use crate::dataset::RgbFrame;

/// DejaVu Sans (see `assets/fonts/`): free, and wider than most, so substitutes fit.
static REGULAR: LazyLock<FontRef<'static>> =
    LazyLock::new(|| font(include_bytes!("../../assets/fonts/DejaVuSans.subset.ttf")));
static BOLD: LazyLock<FontRef<'static>> =
    LazyLock::new(|| font(include_bytes!("../../assets/fonts/DejaVuSans-Bold.subset.ttf")));
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

fn font(bytes: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(bytes).expect("the embedded font is whole: a test reads it")
}

/// Red, green, blue, opacity 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ink(pub u8, pub u8, pub u8, pub f32);

impl Ink {
    /// The same colour, `opacity` times as opaque.
    pub fn faded(self, opacity: f32) -> Ink {
        Ink(self.0, self.1, self.2, self.3 * opacity)
    }

    /// Mixed with white: 0 keeps the colour, 1 is white.
    pub fn tinted(self, white: f32) -> Ink {
        let mix = |c: u8| (f32::from(c) + (255.0 - f32::from(c)) * white).round() as u8;
        Ink(mix(self.0), mix(self.1), mix(self.2), self.3)
    }

    fn svg(self, name: &str) -> String {
        let Ink(r, g, b, a) = self;
        let opacity = if a < 1.0 { format!(" {name}-opacity=\"{}\"", short(f64::from(a))) } else { String::new() };
        format!(" {name}=\"#{r:02x}{g:02x}{b:02x}\"{opacity}")
    }

    fn paint(self) -> Paint<'static> {
        let mut paint = Paint { anti_alias: true, ..Paint::default() };
        let alpha = (self.3.clamp(0.0, 1.0) * 255.0).round() as u8;
        paint.set_color(Color::from_rgba8(self.0, self.1, self.2, alpha));
        paint
    }
}

/// An outline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Colour.
    pub ink: Ink,
    /// Width in scene units.
    pub width: f64,
    /// Lengths of dash and gap; `None`: solid.
    pub dash: Option<[f64; 2]>,
}

impl Line {
    /// A solid line.
    pub fn new(ink: Ink, width: f64) -> Line {
        Line { ink, width, dash: None }
    }

    /// The same line in dashes.
    pub fn dashed(self, dash: f64, gap: f64) -> Line {
        Line { dash: Some([dash, gap]), ..self }
    }
}

/// Which point of a text its position names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Left end.
    Start,
    /// Middle.
    Middle,
    /// Right end.
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Type {
    /// Em size in scene units.
    pub size: f64,
    /// Colour.
    pub ink: Ink,
    /// Heavier cut.
    pub bold: bool,
    /// What the position names.
    pub anchor: Anchor,
    /// Read from bottom to top.
    pub upright: bool,
}

impl Type {
    /// Plain text from the left.
    pub fn new(size: f64, ink: Ink) -> Type {
        Type { size, ink, bold: false, anchor: Anchor::Start, upright: false }
    }

    /// The same in bold.
    pub fn bold(self) -> Type {
        Type { bold: true, ..self }
    }

    /// The same, placed by its middle.
    pub fn middle(self) -> Type {
        Type { anchor: Anchor::Middle, ..self }
    }

    /// The same, placed by its end.
    pub fn end(self) -> Type {
        Type { anchor: Anchor::End, ..self }
    }

    /// The same, turned by 90 degrees to the left.
    pub fn upright(self) -> Type {
        Type { upright: true, ..self }
    }

    /// Width of a text in scene units.
    pub fn width(&self, text: &str) -> f64 {
        let font = self.font();
        let units: f32 = text.chars().map(|c| font.h_advance_unscaled(font.glyph_id(c))).sum();
        f64::from(units) * self.per_unit()
    }

    /// From the baseline to half the height of a capital: add it to a middle to place a text there.
    pub fn half_cap(&self) -> f64 {
        0.365 * self.size
    }

    /// The text, with an ellipsis in its middle where it would be wider than `width`: names differ at their ends.
    pub fn fit(&self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.to_string();
        }
        let chars: Vec<char> = text.chars().collect();
        let cut = |kept: usize| {
            let (head, tail) = (kept.div_ceil(2), kept / 2);
            chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect::<String>()
        };
        (1..chars.len()).rev().map(cut).find(|short| self.width(short) <= width).unwrap_or_default()
    }

    fn font(&self) -> &'static FontRef<'static> {
        if self.bold { &BOLD } else { &REGULAR }
    }

    /// Scene units per font unit.
    fn per_unit(&self) -> f64 {
        self.size / f64::from(self.font().units_per_em().unwrap_or(2048.0))
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Item {
    Shape { points: Vec<(f64, f64)>, closed: bool, fill: Option<Ink>, line: Option<Line> },
    Circle { at: (f64, f64), radius: f64, fill: Option<Ink>, line: Option<Line> },
    Text { at: (f64, f64), text: String, style: Type },
}

/// A drawing; the origin is the top left corner, y grows downwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Width in scene units: pixels of the SVG.
    pub width: f64,
    /// Height in scene units.
    pub height: f64,
    items: Vec<Item>,
}

impl Scene {
    /// An empty drawing.
    pub fn new(width: f64, height: f64) -> Scene {
        Scene { width, height, items: Vec::new() }
    }

    /// A filled area, a closed outline, or both. Fewer than two points draw nothing.
    pub fn polygon(&mut self, points: Vec<(f64, f64)>, fill: Option<Ink>, line: Option<Line>) {
        self.shape(points, true, fill, line);
    }

    /// A line through points.
    pub fn polyline(&mut self, points: Vec<(f64, f64)>, line: Line) {
        self.shape(points, false, None, Some(line));
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), line: Line) {
        self.shape(vec![from, to], false, None, Some(line));
    }

    /// A rectangle from its top left corner.
    pub fn rect(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), fill: Option<Ink>, line: Option<Line>) {
        self.shape(vec![(x, y), (x + w, y), (x + w, y + h), (x, y + h)], true, fill, line);
    }

    /// A circle.
    pub fn circle(&mut self, at: (f64, f64), radius: f64, fill: Option<Ink>, line: Option<Line>) {
        self.items.push(Item::Circle { at, radius, fill, line });
    }

    /// A text; `at` is on its baseline.
    pub fn text(&mut self, at: (f64, f64), text: impl Into<String>, style: Type) {
        self.items.push(Item::Text { at, text: text.into(), style });
    }

    /// Where every text stands, as left, top, right, bottom: lets a test see that none covers another or leaves the page.
    pub fn text_areas(&self) -> Vec<(&str, [f64; 4])> {
        let mut areas = Vec::new();
        for item in &self.items {
            let Item::Text { at, text, style } = item else { continue };
            let wide = style.width(text);
            let start = match style.anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => -wide / 2.0,
                Anchor::End => -wide,
            };
            // From the top of a capital to the foot of a descender.
            let (up, down) = (2.0 * style.half_cap(), 0.24 * style.size);
            areas.push((
                text.as_str(),
                if style.upright {
                    [at.0 - up, at.1 - start - wide, at.0 + down, at.1 - start]
                } else {
                    [at.0 + start, at.1 - up, at.0 + start + wide, at.1 + down]
                },
            ));
        }
        areas
    }

    fn shape(&mut self, points: Vec<(f64, f64)>, closed: bool, fill: Option<Ink>, line: Option<Line>) {
        // A coordinate that is no number would spoil the whole file; it can only come from a figure that is none.
        if points.len() > 1 && points.iter().all(|p| p.0.is_finite() && p.1.is_finite()) {
            self.items.push(Item::Shape { points, closed, fill, line });
        }
    }

    /// The drawing as a stand-alone SVG document, which can also stand inside HTML. `label` says what it shows to those
    /// who cannot see it.
    pub fn svg(&self, label: &str) -> String {
        let (w, h) = (short(self.width), short(self.height));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             font-family=\"{FAMILY}\" role=\"img\"><title>{}</title>\n<rect width=\"{w}\" height=\"{h}\" \
             fill=\"#ffffff\"/>\n",
            escape(label)
        );
        for item in &self.items {
            match item {
                Item::Shape { points, closed, fill, line } => {
                    let mut d = String::new();
                    for (i, (x, y)) in points.iter().enumerate() {
                        let _ = write!(d, "{}{} {}", if i == 0 { "M" } else { "L" }, short(*x), short(*y));
                    }
                    let close = if *closed { "Z" } else { "" };
                    let _ = writeln!(out, "<path d=\"{d}{close}\"{}/>", look(*fill, *line));
                }
                Item::Circle { at, radius, fill, line } => {
                    let (x, y, r) = (short(at.0), short(at.1), short(*radius));
                    let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\"{}/>", look(*fill, *line));
                }
                Item::Text { at, text, style } => {
                    let anchor = match style.anchor {
                        Anchor::Start => "",
                        Anchor::Middle => " text-anchor=\"middle\"",
                        Anchor::End => " text-anchor=\"end\"",
                    };
                    let bold = if style.bold { " font-weight=\"bold\"" } else { "" };
                    let (x, y) = (short(at.0), short(at.1));
                    let turn =
                        if style.upright { format!(" transform=\"rotate(-90 {x} {y})\"") } else { String::new() };
                    let _ = writeln!(
                        out,
                        "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\"{}{bold}{anchor}{turn}>{}</text>",
                        short(style.size),
                        style.ink.svg("fill"),
                        escape(text)
                    );
                }
            }
        }
        out.push_str("</svg>\n");
        out
    }

    /// The drawing on white paper, `scale` pixels per scene unit.
    pub fn pixels(&self, scale: f64) -> RgbFrame {
        let (width, height) = ((self.width * scale).round() as u32, (self.height * scale).round() as u32);
        let mut frame = RgbFrame { width, height, rgb: vec![255; width as usize * height as usize * 3] };
        self.paint_over(&mut frame, scale);
        frame
    }

    /// Paints the drawing over an image, `scale` pixels per scene unit, from the image's top left corner.
    pub fn paint_over(&self, frame: &mut RgbFrame, scale: f64) {
        // An image without pixels has nothing to paint on.
        let Some(mut pixmap) = Pixmap::new(frame.width, frame.height) else { return };
        for (rgba, rgb) in pixmap.data_mut().chunks_exact_mut(4).zip(frame.rgb.chunks_exact(3)) {
            rgba[..3].copy_from_slice(rgb);
            rgba[3] = 255;
        }
        let transform = Transform::from_scale(scale as f32, scale as f32);
        for item in &self.items {
            paint(&mut pixmap, item, transform);
        }
        for (rgb, rgba) in frame.rgb.chunks_exact_mut(3).zip(pixmap.data().chunks_exact(4)) {
            rgb.copy_from_slice(&rgba[..3]);
        }
    }
}

fn paint(pixmap: &mut Pixmap, item: &Item, transform: Transform) {
    let mut builder = PathBuilder::new();
    let (fill, line) = match item {
        Item::Shape { points, closed, fill, line } => {
            for (i, &(x, y)) in points.iter().enumerate() {
                if i == 0 { builder.move_to(x as f32, y as f32) } else { builder.line_to(x as f32, y as f32) }
            }
            if *closed {
                builder.close();
            }
            (*fill, *line)
        }
        Item::Circle { at, radius, fill, line } => {
            builder.push_circle(at.0 as f32, at.1 as f32, *radius as f32);
            (*fill, *line)
        }
        Item::Text { at, text, style } => {
            outline(&mut builder, *at, text, style);
            (Some(style.ink), None)
        }
    };
    let Some(path) = builder.finish() else { return };
    if let Some(ink) = fill {
        pixmap.fill_path(&path, &ink.paint(), FillRule::Winding, transform, None);
    }
    if let Some(line) = line {
        let dash = line.dash.and_then(|d| StrokeDash::new(d.iter().map(|&v| v as f32).collect(), 0.0));
        let stroke = Stroke {
            width: line.width as f32,
            line_join: LineJoin::Round,
            line_cap: LineCap::Butt,
            dash,
            ..Stroke::default()
        };
        pixmap.stroke_path(&path, &line.ink.paint(), &stroke, transform, None);
    }
}

/// Glyph outlines of a text as one path.
fn outline(builder: &mut PathBuilder, at: (f64, f64), text: &str, style: &Type) {
    let font = style.font();
    let unit = style.per_unit();
    let mut along = match style.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => -style.width(text) / 2.0,
        Anchor::End => -style.width(text),
    };
    for c in text.chars() {
        let glyph = font.glyph_id(c);
        // Font coordinates grow upwards.
        let place = |p: &ab_glyph::Point| {
            let (x, y) = (along + f64::from(p.x) * unit, -f64::from(p.y) * unit);
            let (x, y) = if style.upright { (at.0 + y, at.1 - x) } else { (at.0 + x, at.1 + y) };
            (x as f32, y as f32)
        };
        let mut pen = None;
        for curve in font.outline(glyph).map(|o| o.curves).unwrap_or_default() {
            let (first, last) = match &curve {
                OutlineCurve::Line(a, b) | OutlineCurve::Quad(a, _, b) | OutlineCurve::Cubic(a, _, _, b) => {
                    (place(a), place(b))
                }
            };
            if pen != Some(first) {
                builder.move_to(first.0, first.1);
            }
            match &curve {
                OutlineCurve::Line(..) => builder.line_to(last.0, last.1),
                OutlineCurve::Quad(_, m, _) => {
                    let m = place(m);
                    builder.quad_to(m.0, m.1, last.0, last.1);
                }
                OutlineCurve::Cubic(_, m, n, _) => {
                    let (m, n) = (place(m), place(n));
                    builder.cubic_to(m.0, m.1, n.0, n.1, last.0, last.1);
                }
            }
            pen = Some(last);
        }
        along += f64::from(font.h_advance_unscaled(glyph)) * unit;
    }
}

fn look(fill: Option<Ink>, line: Option<Line>) -> String {
    let mut out = fill.map_or_else(|| " fill=\"none\"".to_string(), |ink| ink.svg("fill"));
    if let Some(line) = line {
        out.push_str(&line.ink.svg("stroke"));
        let _ = write!(out, " stroke-width=\"{}\" stroke-linejoin=\"round\"", short(line.width));
        if let Some([dash, gap]) = line.dash {
            let _ = write!(out, " stroke-dasharray=\"{} {}\"", short(dash), short(gap));
        }
    }
    out
}

/// At most two decimals: a hundredth of a pixel.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_string() } else { text.to_string() }
}

/// Text made safe inside XML and HTML, in content and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            // XML 1.0 forbids these even when escaped.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: Ink = Ink(0, 0, 0, 1.0);

    fn dark(frame: &RgbFrame, x: u32, y: u32) -> bool {
        frame.rgb[(y * frame.width + x) as usize * 3] < 128
    }

    #[test]
    fn text_is_painted_where_it_is_measured() {
        for anchor in [Anchor::Start, Anchor::Middle, Anchor::End] {
            for upright in [false, true] {
                let style = Type { anchor, upright, ..Type::new(40.0, BLACK) };
                let mut scene = Scene::new(400.0, 400.0);
                scene.text((200.0, 200.0), "HHHH", style);
                let frame = scene.pixels(1.0);
                let inked: Vec<(u32, u32)> =
                    (0..400 * 400).map(|i| (i % 400, i / 400)).filter(|&(x, y)| dark(&frame, x, y)).collect();
                let along = |p: &(u32, u32)| if upright { 200.0 - f64::from(p.1) } else { f64::from(p.0) - 200.0 };
                let low = inked.iter().map(along).fold(f64::MAX, f64::min);
                let high = inked.iter().map(along).fold(f64::MIN, f64::max);
                let width = style.width("HHHH");
                assert!(width > 100.0 && high - low > 0.9 * width && high - low < width, "{low} {high} {width}");
                let want = match anchor {
                    Anchor::Start => width / 2.0,
                    Anchor::Middle => 0.0,
                    Anchor::End => -width / 2.0,
                };
                assert!(((low + high) / 2.0 - want).abs() < 2.0, "{anchor:?} {upright}: {low}..{high}, {want}");
                // Capitals stand on the baseline: half their height is `half_cap`.
                let across = |p: &(u32, u32)| f64::from(if upright { p.0 } else { p.1 }) - 200.0;
                let top = inked.iter().map(across).fold(f64::MAX, f64::min);
                assert!((top + 2.0 * style.half_cap()).abs() < 2.0, "{top}");
            }
        }
    }

    #[test]
    fn a_dash_has_gaps_and_a_fill_covers() {
        let mut scene = Scene::new(100.0, 20.0);
        scene.line((0.0, 5.0), (100.0, 5.0), Line::new(BLACK, 4.0).dashed(10.0, 10.0));
        scene.rect((50.0, 12.0), (20.0, 8.0), Some(BLACK), None);
        let frame = scene.pixels(1.0);
        assert!(dark(&frame, 5, 5) && !dark(&frame, 15, 5) && dark(&frame, 25, 5));
        assert!(dark(&frame, 60, 15) && !dark(&frame, 40, 15));
    }

    #[test]
    fn svg_is_well_formed_whatever_the_text() {
        let mut scene = Scene::new(10.0, 10.0);
        scene.text((1.0, 2.0), "<a href='x'>&\"\u{1b}\u{0}", Type::new(4.0, BLACK.faded(0.5)));
        scene.polyline(vec![(f64::NAN, 0.0), (1.0, 1.0)], Line::new(BLACK, 1.0));
        let svg = scene.svg("</title><script>");
        assert!(!svg.contains("<a") && !svg.contains("<script") && !svg.contains('\u{1b}') && !svg.contains("NaN"));
        assert!(svg.contains("&lt;a href=&#39;x&#39;&gt;&amp;&quot;") && svg.contains("fill-opacity=\"0.5\""));
    }

    #[test]
    fn long_names_are_cut_to_fit() {
        let style = Type::new(14.0, BLACK);
        let cut = style.fit("a_very_long_model_name_points bf16", 100.0);
        assert!(cut.contains('…') && cut.starts_with('a') && cut.ends_with("f16"), "{cut}");
        assert!(style.width(&cut) <= 100.0 && style.width(&cut) > 80.0, "{cut}");
        assert_eq!(style.fit("short", 100.0), "short");
        assert_eq!(style.fit("anything", 1.0), "");
    }
}
