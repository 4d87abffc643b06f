//! What charts are drawn on and with: a page on which plotters writes SVG, text measured in the embedded font, and the
//! pixels that resvg makes of that same SVG. There is one drawing, so a PNG shows what its SVG shows.

use std::sync::{Arc, LazyLock};

use plotters::coord::Shift;
use plotters::element::{DashedPathElement, Drawable, PointCollection};
use plotters::prelude::{
    Circle, Color, DrawingArea, IntoDrawingArea, IntoFont, PathElement, Polygon, RGBAColor, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, TextStyle};
use resvg::usvg::fontdb::{Database, Source};
use resvg::{tiny_skia, usvg};
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

use crate::dataset::RgbFrame;
use crate::text::{escape, printable};

/// DejaVu Sans (see `assets/fonts/`): free, and wider than most, so that a substitute fits the place kept for it.
const REGULAR: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans.subset.ttf");
const BOLD: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans-Bold.subset.ttf");
/// What a browser takes for it where it is not installed.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// Units of plotters per pixel of the page: plotters counts in whole units, and whole pixels are too coarse.
const FINE: f64 = 10.0;
/// plotters takes a font's line height, and writes this part of it into the SVG as the font's size.
const LINE_HEIGHT: f64 = 1.24;
/// How far below its anchor plotters sets the baseline of a text that hangs from its top, in ems. Its other anchors depend
/// on the font of whoever shows the SVG.
const TOP: f64 = 0.76;
/// Half the height of a capital, in ems.
const HALF_CAP: f64 = 0.365;
pub(super) const INFALLIBLE: &str = "SVG is written to memory, which cannot fail";

pub(crate) const INK: RGBAColor = RGBAColor(0x21, 0x25, 0x29, 1.0);
pub(crate) const SOFT: RGBAColor = RGBAColor(0x5c, 0x63, 0x6a, 1.0);
pub(crate) const RULE: RGBAColor = RGBAColor(0xc4, 0xc9, 0xce, 1.0);
pub(crate) const GRID: RGBAColor = RGBAColor(0xe9, 0xec, 0xef, 1.0);
pub(crate) const SHADE: RGBAColor = RGBAColor(0xdd, 0xe1, 0xe5, 1.0);
pub(crate) const PAPER: RGBAColor = RGBAColor(0xff, 0xff, 0xff, 1.0);

/// Okabe and Ito's colours for every kind of colour vision, without the yellow that paper swallows, and a wine red.
pub const PALETTE: [RGBAColor; 8] = [
    RGBAColor(0x00, 0x72, 0xb2, 1.0),
    RGBAColor(0xd5, 0x5e, 0x00, 1.0),
    RGBAColor(0x00, 0x9e, 0x73, 1.0),
    RGBAColor(0xcc, 0x79, 0xa7, 1.0),
    RGBAColor(0xe6, 0x9f, 0x00, 1.0),
    RGBAColor(0x56, 0xb4, 0xe9, 1.0),
    RGBAColor(0x88, 0x22, 0x55, 1.0),
    RGBAColor(0x49, 0x50, 0x57, 1.0),
];

/// Every colour of a chart, the name of its variable inside the page, and what it is where the screen is dark.
const COLOURS: [(RGBAColor, &str, &str); 14] = [
    (PAPER, "--paper", "#1e2226"),
    (INK, "--ink", "#e9ecef"),
    (SOFT, "--soft", "#adb5bd"),
    (RULE, "--rule", "#5c636a"),
    (GRID, "--grid", "#30363c"),
    (SHADE, "--shade", "#343b42"),
    (PALETTE[0], "--c0", "#3d9ad6"),
    (PALETTE[1], "--c1", "#d55e00"),
    (PALETTE[2], "--c2", "#009e73"),
    (PALETTE[3], "--c3", "#cc79a7"),
    (PALETTE[4], "--c4", "#e69f00"),
    (PALETTE[5], "--c5", "#56b4e9"),
    (PALETTE[6], "--c6", "#c65b92"),
    (PALETTE[7], "--c7", "#868e96"),
];

fn hex(RGBAColor(r, g, b, _): RGBAColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// CSS with the colours of [`themed`] charts inside elements `within`: as drawn, for white paper, and others where the screen is
/// dark.
pub fn style(within: &str) -> String {
    let block = |colour: &dyn Fn(&(RGBAColor, &'static str, &'static str)) -> String| {
        let colours: Vec<String> = COLOURS.iter().map(|row| format!("{}:{}", row.1, colour(row))).collect();
        format!("{within} svg{{{}}}\n", colours.join(";"))
    };
    let (light, dark) = (block(&|row| hex(row.0)), block(&|row| row.2.to_string()));
    format!("{light}@media screen and (prefers-color-scheme:dark){{{dark}}}\n")
}

/// A chart for a page with [`style`]: every colour is a variable.
pub fn themed(svg: &str) -> String {
    COLOURS.iter().fold(svg.to_string(), |svg, (colour, name, _)| {
        svg.replace(&format!("=\"{}\"", hex(*colour)), &format!("=\"var({name})\""))
    })
}

/// Why a drawing has no picture.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// The SVG is not well-formed.
    #[error("the drawing is no valid SVG: {0}")]
    Svg(#[from] usvg::Error),
    /// No PNG can be made of the pixels.
    #[error("the picture cannot be written as PNG: {0}")]
    Png(#[from] ::png::EncodingError),
}

/// Text of `size` pixels from the left; the position of a text is on its baseline.
pub fn text_style(size: f64, color: RGBAColor) -> TextStyle<'static> {
    (FAMILY, size * LINE_HEIGHT * FINE).into_font().color(&color).pos(Pos::new(HPos::Left, VPos::Top))
}

/// Variants of a text style, and what a text in it measures, in pixels.
pub trait Measure: Sized {
    /// The same in bold.
    fn bold(&self) -> Self;
    /// The same, placed by its middle.
    fn middle(&self) -> Self;
    /// The same, placed by its end.
    fn end(&self) -> Self;
    /// The same, turned by 90 degrees to the left.
    fn upright(&self) -> Self;
    /// The em.
    fn size(&self) -> f64;
    /// Width of a text, from the advances of the embedded font: plotters' SVG backend only guesses it from the number of
    /// letters, and labels placed by a guess collide.
    fn width(&self, text: &str) -> f64;

    /// From the baseline to half the height of a capital: add it to a middle to place a text there.
    fn half_cap(&self) -> f64 {
        HALF_CAP * self.size()
    }

    /// The text, with an ellipsis in its middle where it would be wider than `width`: names differ at their ends.
    fn fit(&self, text: &str, width: f64) -> String {
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

    /// Breaks a text at spaces into lines of at most `width`.
    fn wrap(&self, text: &str, width: f64) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split(' ') {
            match lines.last_mut() {
                Some(line) if self.width(line) + self.width(" ") + self.width(word) <= width => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(self.fit(word, width)),
            }
        }
        lines
    }
}

impl Measure for TextStyle<'static> {
    fn bold(&self) -> Self {
        TextStyle { font: self.font.style(FontStyle::Bold), ..self.clone() }
    }

    fn middle(&self) -> Self {
        self.pos(Pos::new(HPos::Center, VPos::Top))
    }

    fn end(&self) -> Self {
        self.pos(Pos::new(HPos::Right, VPos::Top))
    }

    fn upright(&self) -> Self {
        self.transform(FontTransform::Rotate270)
    }

    fn size(&self) -> f64 {
        self.font.get_size() / LINE_HEIGHT / FINE
    }

    fn width(&self, text: &str) -> f64 {
        static FACES: LazyLock<[FontRef; 2]> = LazyLock::new(|| {
            [REGULAR, BOLD].map(|bytes| FontRef::new(bytes).expect("the embedded font is whole: a test reads it"))
        });
        let face = &FACES[usize::from(matches!(self.font.get_style(), FontStyle::Bold))];
        let (letters, metrics) = (face.charmap(), face.glyph_metrics(Size::new(1.0), LocationRef::default()));
        let ems: f32 = text.chars().filter_map(|c| metrics.advance_width(letters.map(c).unwrap_or_default())).sum();
        f64::from(ems) * self.size()
    }
}

/// A page while it is drawn on. Positions and lengths are in pixels from the top left corner; what has a coordinate that is
/// no number is left out.
pub struct Page<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    /// Width and height.
    pub size: (f64, f64),
}

/// A position in plotters' units.
pub(super) fn units(pixels: f64) -> i32 {
    (pixels * FINE).round() as i32
}

fn place(&(x, y): &(f64, f64)) -> (i32, i32) {
    (units(x), units(y))
}

fn are_numbers(points: &[(f64, f64)]) -> bool {
    points.iter().all(|p| p.0.is_finite() && p.1.is_finite())
}

impl<'a> Page<'a> {
    /// What `paint` draws, as an SVG document that stands alone and may stand inside HTML. `caption` says what it shows to
    /// those who cannot see it. Without a `paper` it is transparent.
    pub fn draw(size: (f64, f64), caption: &str, paper: Option<RGBAColor>, paint: impl FnOnce(&Page)) -> String {
        let mut svg = String::new();
        {
            let area =
                SVGBackend::with_string(&mut svg, (units(size.0) as u32, units(size.1) as u32)).into_drawing_area();
            let page = Page { area, size };
            if let Some(color) = paper {
                page.rect((0.0, 0.0), size, color);
            }
            paint(&page);
            page.area.present().expect(INFALLIBLE);
        }
        // Ours takes the place of plotters' first line, which has no title and no size in pixels.
        let body = svg.split_once('\n').map_or("", |parts| parts.1);
        let body = body.replace(&format!(" font-family=\"{FAMILY}\""), "").replace(" opacity=\"1\"", "");
        let (width, height) = size;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {} {}\" \
             font-family=\"{FAMILY}\" stroke-linejoin=\"round\" role=\"img\"><title>{}</title>\n{body}",
            units(width),
            units(height),
            escape(caption)
        )
    }

    /// The part of the page from `from` to `to`, for plotters' own charts.
    pub(super) fn part(&self, from: (f64, f64), to: (f64, f64)) -> DrawingArea<SVGBackend<'a>, Shift> {
        let ((left, top), (right, bottom)) = (place(&from), place(&to));
        self.area.clone().shrink((left, top), (right - left + 1, bottom - top + 1))
    }

    /// A text; `at` is on its baseline.
    pub fn text(&self, at: (f64, f64), text: &str, style: &TextStyle) {
        let hang = TOP * style.font.get_size() / LINE_HEIGHT / FINE;
        let at = match style.font.get_transform() {
            FontTransform::Rotate270 => (at.0 - hang, at.1),
            _ => (at.0, at.1 - hang),
        };
        self.put(&[at], &Text::new(printable(text), place(&at), style.clone()));
    }

    /// A line through points.
    pub fn line(&self, points: &[(f64, f64)], color: RGBAColor, width: f64) {
        self.put(points, &PathElement::new(placed(points), color.stroke_width(units(width) as u32)));
    }

    /// A line in dashes: lengths of dash and gap.
    pub fn dashes(&self, points: &[(f64, f64)], color: RGBAColor, width: f64, (dash, gap): (f64, f64)) {
        let style = color.stroke_width(units(width) as u32);
        self.put(points, &DashedPathElement::new(placed(points), units(dash), units(gap), style));
    }

    /// A filled area.
    pub fn area(&self, points: &[(f64, f64)], color: RGBAColor) {
        self.put(points, &Polygon::new(placed(points), color));
    }

    /// A closed line.
    pub fn outline(&self, points: &[(f64, f64)], color: RGBAColor, width: f64) {
        // On to the second point, so that the corner where it closes is a joint as the others are.
        let closed: Vec<_> = points.iter().chain(points.iter().take(2)).copied().collect();
        self.line(&closed, color, width);
    }

    /// A filled rectangle from its top left corner.
    pub fn rect(&self, (x, y): (f64, f64), (width, height): (f64, f64), color: RGBAColor) {
        let corners = [(x, y), (x + width, y + height)];
        self.put(&corners, &Rectangle::new(corners.map(|c| place(&c)), color.filled()));
    }

    /// A disc.
    pub fn disc(&self, at: (f64, f64), radius: f64, color: RGBAColor) {
        self.put(&[at], &Circle::new(place(&at), units(radius), color.filled()));
    }

    /// A circle line.
    pub fn ring(&self, at: (f64, f64), radius: f64, color: RGBAColor, width: f64) {
        self.put(&[at], &Circle::new(place(&at), units(radius), color.stroke_width(units(width) as u32)));
    }

    fn put<E>(&self, points: &[(f64, f64)], element: &E)
    where
        for<'e> &'e E: PointCollection<'e, (i32, i32)>,
        E: Drawable<SVGBackend<'a>>,
    {
        if are_numbers(points) {
            self.area.draw(element).expect(INFALLIBLE);
        }
    }
}

fn placed(points: &[(f64, f64)]) -> Vec<(i32, i32)> {
    points.iter().map(place).collect()
}

/// An SVG as resvg understands it, its texts set in the embedded font.
///
/// # Errors
/// It is not well-formed.
pub fn tree(svg: &str) -> Result<usvg::Tree, usvg::Error> {
    static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
        let mut fonts = Database::new();
        for bytes in [REGULAR, BOLD] {
            fonts.load_font_source(Source::Binary(Arc::new(bytes)));
        }
        Arc::new(fonts)
    });
    usvg::Tree::from_str(svg, &usvg::Options { fontdb: FONTS.clone(), ..usvg::Options::default() })
}

/// Paints an SVG over an image, `scale` pixels of the image per pixel of the SVG, from the top left corner.
///
/// # Errors
/// It is not well-formed.
pub fn paint_over(svg: &str, frame: &mut RgbFrame, scale: f64) -> Result<(), usvg::Error> {
    // An image without pixels has nothing to paint on.
    let Some(mut pixmap) = tiny_skia::Pixmap::new(frame.width, frame.height) else { return Ok(()) };
    for (rgba, rgb) in pixmap.data_mut().chunks_exact_mut(4).zip(frame.rgb.chunks_exact(3)) {
        rgba[..3].copy_from_slice(rgb);
        rgba[3] = 255;
    }
    let scale = scale as f32;
    resvg::render(&tree(svg)?, tiny_skia::Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    for (rgb, rgba) in frame.rgb.chunks_exact_mut(3).zip(pixmap.data().chunks_exact(4)) {
        rgb.copy_from_slice(&rgba[..3]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: RGBAColor = RGBAColor(0, 0, 0, 1.0);

    fn pixels(size: u32, paint: impl FnOnce(&Page)) -> RgbFrame {
        let mut frame = RgbFrame { width: size, height: size, rgb: vec![255; (size * size * 3) as usize] };
        let svg = Page::draw((f64::from(size), f64::from(size)), "a test", None, paint);
        paint_over(&svg, &mut frame, 1.0).unwrap();
        frame
    }

    fn dark(frame: &RgbFrame, x: u32, y: u32) -> bool {
        frame.rgb[(y * frame.width + x) as usize * 3] < 128
    }

    #[test]
    fn text_is_painted_where_it_is_measured() {
        let plain = text_style(40.0, BLACK);
        let anchored = [(plain.clone(), 0.5), (plain.middle(), 0.0), (plain.end(), -0.5)];
        for (style, share) in anchored.into_iter().flat_map(|(s, a)| [(s.clone(), a), (s.bold(), a)]) {
            for upright in [false, true] {
                let style = if upright { style.upright() } else { style.clone() };
                let frame = pixels(400, |page| page.text((200.0, 200.0), "HHHH", &style));
                let inked: Vec<(u32, u32)> =
                    (0..400 * 400).map(|i| (i % 400, i / 400)).filter(|&(x, y)| dark(&frame, x, y)).collect();
                let along = |p: &(u32, u32)| if upright { 200.0 - f64::from(p.1) } else { f64::from(p.0) - 200.0 };
                let low = inked.iter().map(along).fold(f64::MAX, f64::min);
                let high = inked.iter().map(along).fold(f64::MIN, f64::max);
                let width = style.width("HHHH");
                assert!(width > 100.0 && high - low > 0.9 * width && high - low < width, "{low} {high} {width}");
                assert!(((low + high) / 2.0 - share * width).abs() < 2.0, "{share} {upright}: {low}..{high}");
                // Capitals stand on the baseline: half their height is `half_cap`.
                let across = |p: &(u32, u32)| f64::from(if upright { p.0 } else { p.1 }) - 200.0;
                let top = inked.iter().map(across).fold(f64::MAX, f64::min);
                assert!((top + 2.0 * style.half_cap()).abs() < 2.0, "{top}");
            }
        }
    }

    #[test]
    fn a_dash_has_gaps_and_a_fill_covers() {
        let frame = pixels(100, |page| {
            page.dashes(&[(0.0, 5.0), (100.0, 5.0)], BLACK, 4.0, (10.0, 10.0));
            page.rect((50.0, 12.0), (20.0, 8.0), BLACK);
        });
        assert!(dark(&frame, 5, 5) && !dark(&frame, 15, 5) && dark(&frame, 25, 5));
        assert!(dark(&frame, 60, 15) && !dark(&frame, 40, 15));
    }

    #[test]
    fn svg_is_well_formed_whatever_the_text() {
        let svg = Page::draw((10.0, 10.0), "</title><script>\u{1}", None, |page| {
            page.text((1.0, 2.0), "<a href='x'>&\"\u{1b}\u{0}", &text_style(4.0, BLACK.mix(0.5)));
            page.line(&[(f64::NAN, 0.0), (1.0, 1.0)], BLACK, 1.0);
            page.disc((f64::INFINITY, 0.0), 1.0, BLACK);
        });
        assert!(!svg.contains("<a") && !svg.contains("<script") && !svg.contains('\u{1b}'));
        assert!(!svg.contains("<polyline") && !svg.contains("<circle"), "{svg}");
        assert!(svg.contains("&lt;a href=&apos;x&apos;&gt;&amp;&quot;") && svg.contains("opacity=\"0.5\""), "{svg}");
        tree(&svg).unwrap();
    }

    #[test]
    fn long_names_are_cut_to_fit() {
        let style = text_style(14.0, BLACK);
        let cut = style.fit("a_very_long_model_name_points bf16", 100.0);
        assert!(cut.contains('…') && cut.starts_with('a') && cut.ends_with("f16"), "{cut}");
        assert!(style.width(&cut) <= 100.0 && style.width(&cut) > 80.0, "{cut}");
        assert_eq!(style.fit("short", 100.0), "short");
        assert_eq!(style.fit("anything", 1.0), "");
    }
}
