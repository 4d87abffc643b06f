//! The kernels around the model, each beside a plain form of the same arithmetic, on one core: a 1080p frame to the
//! encoder's input tensor at 1024 px, and 256 x 256 logits to a packed mask at 1080p. The forms take turns, round by
//! round, on the same input, and their results are compared bit by bit before anything is timed. Printed are medians in
//! milliseconds of the thread's CPU time and of wall time, and the median of the CPU ratios within a round. The mean probability of a
//! mask's pixels is compared to 1e-6. Then panoptic segments beside masks of their own, and the association of 20 tracks with 100 detections, on frames of two sizes.
//!
//! `cargo bench -p jetbench-runners --bench kernels -- [ROUNDS]`

mod clock;

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Instant;

use clock::median;
use fast_image_resize as fir;
use jetbench_runners::associate::{Association, Carrier, Rules};
use jetbench_runners::detect::Detection;
use jetbench_runners::kernels::{
    Candidate, Colour, Confidence, Contest, InputSpec, Preprocess, ResizeFilter, Thresholder, Way,
};
use jetbench_runners::types::{Frame, Mask};

const WIDTH: u32 = 1920;
const HEIGHT: u32 = 1080;
const SIZE: u32 = 1024;
const SIDE: usize = 256;

fn main() {
    // `cargo test --all-targets` runs benches too; what they compare has tests of its own.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let rounds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(60);
    println!("{rounds} rounds, medians; {WIDTH}x{HEIGHT} pixels, input {SIZE} px, logits {SIDE} px, one thread");
    input_tensor(rounds);
    for (name, logits) in [("one object", blob(0.25)), ("many rims", ripples()), ("noise", noisy())] {
        mask(rounds, name, &logits);
        confidence(rounds, name, &logits);
    }
    for objects in [1, 5, 20] {
        segments(rounds, objects);
    }
    for (width, height) in [(640, 360), (WIDTH, HEIGHT)] {
        association(rounds, width, height);
    }
}

/// Tracks that stand still, each with a mask of a sixth of the frame's width and height.
struct Still {
    size: (u32, u32),
    masks: Vec<Mask>,
    /// Around the masks, as the thresholder gives them.
    boxes: Vec<Option<[f64; 4]>>,
}

impl Carrier for Still {
    type Error = Infallible;
    fn mask(&self, id: u32) -> &Mask {
        &self.masks[id as usize - 1]
    }
    fn bbox(&self, id: u32) -> Option<[f64; 4]> {
        self.boxes[id as usize - 1]
    }
    fn found(&mut self, _: u32, [x0, y0, x1, y1]: [f64; 4]) -> Result<(), Infallible> {
        let within = |from: f64, at: u32, to: f64| (from..to).contains(&f64::from(at));
        self.masks.push(Mask::from_fn(self.size.0, self.size.1, |x, y| within(x0, x, x1) && within(y0, y, y1)));
        self.boxes.push(Some([x0, y0, x1, y1].map(f64::ceil)));
        Ok(())
    }
    fn keep(&mut self, _: u32) -> Result<(), Infallible> {
        Ok(())
    }
    fn refuse(&mut self, _: u32) {
        unreachable!("every box founds a track of its own");
    }
    fn end(&mut self, _: u32, _: bool) {
        unreachable!("every track is supported");
    }
}

fn association(rounds: usize, width: u32, height: u32) {
    let (w, h) = (f64::from(width), f64::from(height));
    // 5 x 4 tracks, and five boxes for each of which the first lies on it.
    let boxes = (0..100).map(|i| {
        let (track, shift) = (i % 20, f64::from(i / 20));
        let (x, y) = (w * (0.01 + 0.195 * f64::from(track % 5)), h * (0.01 + 0.245 * f64::from(track / 5)));
        let bbox = [x + shift * w / 60.0, y, x + w / 6.0 - 1.0, y + h / 6.0 - shift * h / 60.0];
        Detection { bbox, score: 0.9 - 0.1 * shift, label: 0 }
    });
    let boxes: Vec<Detection> = boxes.collect();
    let rules = Rules { detect_every: 1, nms_iou: 1.0, ..Rules::default() };
    let mut association = Association::new(rules);
    let mut tracks = Still { size: (width, height), masks: Vec::new(), boxes: Vec::new() };
    let mut given = Vec::new();
    let mut once = || {
        given.clone_from(&boxes);
        let Ok(()) = association.step(&mut tracks, &mut given, (width, height));
        black_box(&given);
    };
    once();
    race(rounds, &format!("20 tracks, 100 detections, {width}x{height}"), &mut [("association", &mut once)]);
}

/// The masks of so many objects, each by itself, and the pixels that each keeps of all.
fn segments(rounds: usize, objects: usize) {
    let logits: Vec<Vec<f32>> = (0..objects).map(|i| blob(0.1 + 0.2 * i as f32 / objects as f32)).collect();
    let mut masks = [vec![Mask::default(); objects], vec![Mask::default(); objects]];
    let [own, kept] = &mut masks;
    let mut thresholder = Thresholder::default();
    let mut alone = || {
        for (logits, mask) in logits.iter().zip(own.iter_mut()) {
            black_box(thresholder.fill(logits, SIDE, WIDTH, HEIGHT, mask));
        }
    };
    let score = |i: usize| 0.8 + 0.01 * i as f32;
    let candidates: Vec<Candidate<'_>> =
        logits.iter().enumerate().map(|(i, logits)| Candidate { score: score(i), logits }).collect();
    let frame = [WIDTH, HEIGHT];
    let way = Way { logits: [SIDE; 2], input: frame, taken: frame, frame };
    let mut contest = Contest::default();
    let mut together = || contest.share_out(way, 0.0, &candidates, black_box(kept));
    race(rounds, &format!("{objects} objects"), &mut [("panoptic", &mut together), ("each by itself", &mut alone)]);
}

/// CPU time of this thread, milliseconds.
fn cpu() -> f64 {
    1e3 * clock::cpu(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Times the forms in turn and prints a line for each.
fn race(rounds: usize, what: &str, forms: &mut [(&str, &mut dyn FnMut())]) {
    let mut times = vec![[const { Vec::new() }; 2]; forms.len()];
    for round in 0..rounds + 3 {
        for (i, (_, form)) in forms.iter_mut().enumerate() {
            let (started, before) = (Instant::now(), cpu());
            form();
            let (used, wall) = (cpu() - before, started.elapsed().as_secs_f64() * 1e3);
            // The first rounds fill caches and make tables.
            if round >= 3 {
                times[i][0].push(used);
                times[i][1].push(wall);
            }
        }
    }
    for ((name, _), [used, wall]) in forms.iter().zip(&times) {
        let ratios = used.iter().zip(&times[0][0]).map(|(a, b)| a / b).collect();
        let [used, wall, ratio] = [used.clone(), wall.clone(), ratios].map(median);
        println!("{what}: {name}: CPU {used:.3} ms, wall {wall:.3} ms, {ratio:.2} x");
    }
}

fn input_tensor(rounds: usize) {
    let rgb: Vec<u8> = (0..WIDTH * HEIGHT)
        .flat_map(|i| {
            let (x, y) = (i % WIDTH, i / WIDTH);
            let grain = (i.wrapping_mul(2_654_435_761) >> 28) as u8;
            [(x / 8) as u8 ^ grain, (y / 5) as u8 ^ grain, ((x + y) / 12) as u8 ^ grain]
        })
        .collect();
    let frame = Frame { width: WIDTH, height: HEIGHT, rgb: &rgb };
    let input = InputSpec {
        fit: None,
        size: SIZE,
        resize: ResizeFilter::BilinearAntialiasU8,
        colour: Colour::Rgb,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
    let values = 3 * (SIZE * SIZE) as usize;
    let [mut ours, mut scalar, mut general] = [vec![0f32; values], vec![0f32; values], vec![0f32; values]];
    let [mut fast, mut plain] = [Preprocess::new(&input), Preprocess::new(&input)];
    plain.set_plain(true);
    let table: [[f32; 256]; 3] =
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 / 255.0 - input.mean[c]) / input.std[c]));
    let mut library = Library::new();
    fast.fill(frame, &mut ours).expect("a frame");
    plain.fill(frame, &mut scalar).expect("a frame");
    library.fill(frame, &table, &mut general);
    assert!(ours == scalar && ours == general, "all forms give the same tensor");
    race(
        rounds,
        "frame to tensor",
        &mut [
            ("ours", &mut || fast.fill(frame, black_box(&mut ours)).expect("a frame")),
            ("ours without vector instructions", &mut || plain.fill(frame, black_box(&mut scalar)).expect("a frame")),
            ("fast_image_resize in two passes, then a table", &mut || {
                library.fill(frame, &table, black_box(&mut general));
            }),
        ],
    );
}

/// The general library: two whole passes, then normalisation.
struct Library {
    resizer: fir::Resizer,
    wide: fir::images::TypedImage<'static, fir::pixels::U8x3>,
    square: fir::images::TypedImage<'static, fir::pixels::U8x3>,
}

impl Library {
    fn new() -> Library {
        let image = fir::images::TypedImage::new;
        Library { resizer: fir::Resizer::new(), wide: image(SIZE, HEIGHT), square: image(SIZE, SIZE) }
    }

    fn fill(&mut self, frame: Frame<'_>, table: &[[f32; 256]; 3], planes: &mut [f32]) {
        let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
        let source = fir::images::TypedImageRef::<fir::pixels::U8x3>::from_buffer(frame.width, frame.height, frame.rgb)
            .expect("a frame");
        self.resizer.resize_typed(&source, &mut self.wide, &options).expect("columns");
        self.resizer.resize_typed(&self.wide, &mut self.square, &options).expect("rows");
        let pixels = self.square.pixels();
        let (red, rest) = planes.split_at_mut(pixels.len());
        let (green, blue) = rest.split_at_mut(pixels.len());
        for (((pixel, r), g), b) in pixels.iter().zip(red).zip(green).zip(blue) {
            [*r, *g, *b] = std::array::from_fn(|c| table[c][usize::from(pixel.0[c])]);
        }
    }
}

/// A disc that covers `share` of the frame.
fn blob(share: f32) -> Vec<f32> {
    let radius = (share / std::f32::consts::PI).sqrt() * SIDE as f32;
    let at = |i: usize| ((i % SIDE) as f32 - 120.0).hypot((i / SIDE) as f32 - 130.0);
    (0..SIDE * SIDE).map(|i| (radius - at(i)) / 2.0).collect()
}

/// Rings all over the frame.
fn ripples() -> Vec<f32> {
    let at = |i: usize| ((i % SIDE) as f32 - 120.0).hypot((i / SIDE) as f32 - 130.0);
    (0..SIDE * SIDE).map(|i| (at(i) / 2.5).sin() * 6.0).collect()
}

/// Signs without any order: nothing can be left out.
fn noisy() -> Vec<f32> {
    (0..SIDE * SIDE).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 16) as f32 / 32_768.0 - 1.0).collect()
}

fn mask(rounds: usize, name: &str, logits: &[f32]) {
    let mut thresholder = Thresholder::default();
    let mut ours = Mask::default();
    let mut naive = Naive::new();
    thresholder.fill(logits, SIDE, WIDTH, HEIGHT, &mut ours);
    assert_eq!(ours, naive.mask(logits), "both forms give the same mask");
    race(
        rounds,
        &format!("logits to mask, {name}"),
        &mut [
            ("ours", &mut || {
                black_box(thresholder.fill(logits, SIDE, WIDTH, HEIGHT, black_box(&mut ours)));
            }),
            ("float image, then threshold", &mut || {
                black_box(naive.mask(logits));
            }),
        ],
    );
}

/// The mean probability inside a mask, and the same pixel by pixel in f64.
fn confidence(rounds: usize, name: &str, logits: &[f32]) {
    let mask = Thresholder::default().mask(logits, SIDE, WIDTH, HEIGHT);
    let mut naive = Naive::new();
    let mut ours = Confidence::default();
    let (found, expected) = (ours.mean(logits, SIDE, &mask), naive.mean(logits, &mask));
    assert!((found - expected).abs() < 1e-6, "both forms give the same mean: {found} {expected}");
    race(
        rounds,
        &format!("mean probability, {name}"),
        &mut [
            ("ours", &mut || {
                black_box(ours.mean(logits, SIDE, black_box(&mask)));
            }),
            ("pixel by pixel", &mut || {
                black_box(naive.mean(logits, black_box(&mask)));
            }),
        ],
    );
}

/// Interpolates a float image, columns first, then packs its signs.
struct Naive {
    wide: Vec<f32>,
    image: Vec<f32>,
    columns: Vec<(usize, usize, f32)>,
    rows: Vec<(usize, usize, f32)>,
}

impl Naive {
    fn new() -> Naive {
        let taps = |target: u32| {
            let tap = |i: u32| {
                let position = ((i as f32 + 0.5) * (SIDE as f32 / target as f32) - 0.5).max(0.0);
                let low = (position as usize).min(SIDE - 1);
                (low, (low + 1).min(SIDE - 1), position - low as f32)
            };
            (0..target).map(tap).collect::<Vec<_>>()
        };
        let (width, height) = (WIDTH as usize, HEIGHT as usize);
        Naive {
            wide: vec![0.0; SIDE * width],
            image: vec![0.0; width * height],
            columns: taps(WIDTH),
            rows: taps(HEIGHT),
        }
    }

    fn mean(&mut self, logits: &[f32], mask: &Mask) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for (y, (low, high, down)) in (0..).zip(&self.rows) {
            for (x, (left, right, across)) in (0..).zip(&self.columns) {
                if mask.get(x, y) {
                    let wide =
                        |row: usize| (1.0 - across) * logits[row * SIDE + left] + across * logits[row * SIDE + right];
                    let value = (1.0 - down) * wide(*low) + down * wide(*high);
                    (sum, count) = (sum + 1.0 / (1.0 + f64::from(-value).exp()), count + 1.0);
                }
            }
        }
        sum / (count + 1e-6)
    }

    fn mask(&mut self, logits: &[f32]) -> Mask {
        let width = WIDTH as usize;
        for (row, out) in logits.chunks_exact(SIDE).zip(self.wide.chunks_exact_mut(width)) {
            for (value, (low, high, weight)) in out.iter_mut().zip(&self.columns) {
                *value = (1.0 - weight) * row[*low] + weight * row[*high];
            }
        }
        for (row, (low, high, weight)) in self.image.chunks_exact_mut(width).zip(&self.rows) {
            let (above, below) = (&self.wide[low * width..][..width], &self.wide[high * width..][..width]);
            for ((value, a), b) in row.iter_mut().zip(above).zip(below) {
                *value = (1.0 - weight) * a + weight * b;
            }
        }
        let mut mask = Mask::empty(WIDTH, HEIGHT);
        let words = mask.words_per_row();
        for (row, words) in self.image.chunks_exact(width).zip(mask.words_mut().chunks_exact_mut(words)) {
            for (values, word) in row.chunks(64).zip(words) {
                *word = values.iter().enumerate().fold(0, |word, (i, v)| word | u64::from(*v > 0.0) << i);
            }
        }
        mask
    }
}
