//! `jetbench data synth`: a small drawn dataset in any of the layouts, for tests and for trying the program without
//! data. Seeded: the same options give the same files on every machine. Coloured shapes move over a textured
//! background; some come late, one leaves and returns, and they cover each other.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use jetbench_runners::files;
use jetbench_runners::types::Mask;
use rayon::prelude::*;

use super::panoptic_files::{FRAMES, PanopticTrack, PanopticWriter};
use super::panoptic_truth::{DESCRIPTION, MASKS};
use super::track_files::{join, join_results};
use super::{DataError, FrameFile, Guide, Layout, MaskSource, MaskWriter, Object, Sequence};

/// What to draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynthOptions {
    /// Folder to write into; created, must be empty or absent.
    pub out: PathBuf,
    /// Layout to write.
    pub layout: Layout,
    /// Videos.
    pub videos: usize,
    /// Objects per video, 1 to 254; DAVIS 2016 always has one.
    pub objects: usize,
    /// Frames per video.
    pub frames: usize,
    /// Frame width in pixels.
    pub width: u32,
    /// Frame height in pixels.
    pub height: u32,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Also write imperfect masks, as a model might predict them, into this folder, to try `jetbench score` on.
    pub predictions: Option<PathBuf>,
    /// Write frames too (masks alone are enough to score).
    pub with_frames: bool,
}

impl Default for SynthOptions {
    fn default() -> Self {
        SynthOptions {
            out: PathBuf::from("synth"),
            layout: Layout::SaV,
            videos: 3,
            objects: 3,
            frames: 25,
            width: 320,
            height: 240,
            seed: 1,
            predictions: None,
            with_frames: true,
        }
    }
}

/// Draws the dataset. `progress` is told (frames done, frames in all), from any thread.
///
/// # Errors
/// Options out of range, or the file that cannot be written.
pub fn synthesise(options: &SynthOptions, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<(), DataError> {
    let (min, max) = (8, super::MAX_SIDE);
    if !(min..=max).contains(&options.width) || !(min..=max).contains(&options.height) {
        return Err(DataError(format!(
            "size {}x{}: each side goes from {min} to {max}",
            options.width, options.height
        )));
    }
    if options.videos == 0 || options.frames == 0 || !(1..=254).contains(&options.objects) {
        return Err(DataError("give at least 1 video, 1 frame, and 1 to 254 objects".to_string()));
    }
    for dir in [Some(&options.out), options.predictions.as_ref()].into_iter().flatten() {
        if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(DataError(format!("{}: not empty; give a new folder", dir.display())));
        }
    }
    if let Some(dir) = options.predictions.as_ref().filter(|dir| dir.components().eq(options.out.components())) {
        return Err(DataError(format!(
            "{}: predictions want a folder of their own beside the dataset's",
            dir.display()
        )));
    }
    let places = LayoutPaths::new(options);
    let done = std::sync::atomic::AtomicUsize::new(0);
    let total = options.videos * options.frames;
    (0..options.videos).into_par_iter().try_for_each(|v| {
        let scene = Scene::new(options, v);
        let truth = scene.sequence(options, &places);
        let truth_dir = options.out.join(truth.name.as_str()).join("masks");
        let write = |root: &Path, frames: &str| match options.layout {
            Layout::Vipseg => PanopticWriter::new(root, frames, &truth, &tracks(&truth)).map(Masks::Segments),
            layout => MaskWriter::new(root, layout, &truth).map(Masks::Labels),
        };
        let truth_out = match options.layout {
            Layout::Plain => Masks::Labels(MaskWriter::flat(&truth_dir, &truth)?),
            _ => write(&places.masks, MASKS)?,
        };
        let pred_out = options.predictions.as_deref().map(|root| write(root, FRAMES)).transpose()?;
        for t in 0..options.frames {
            let (rgb, mut masks) = scene.draw(options, t);
            if options.layout == Layout::Vipseg {
                masks.insert(0, rest(&masks));
            }
            let file = &truth.frames[t];
            if options.with_frames {
                write_frame(&file.path, options.width, options.height, &rgb)?;
            }
            if t % places.stride == 0 {
                let shown: Vec<Option<&Mask>> = masks.iter().map(Some).collect();
                truth_out.write(&file.name, &shown)?;
            }
            if let Some(out) = &pred_out {
                let mut guessed: Vec<Mask> =
                    masks.iter().enumerate().map(|(k, m)| scene.guess(m, &masks, k, t)).collect();
                if options.layout == Layout::Vipseg {
                    apart(&mut guessed);
                }
                out.write(&file.name, &guessed.iter().map(Some).collect::<Vec<_>>())?;
            }
            progress(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1, total);
        }
        [Some(truth_out), pred_out].into_iter().flatten().try_for_each(Masks::finish)
    })?;
    describe(options)
}

/// Writes masks in the layout's form.
enum Masks {
    Labels(MaskWriter),
    Segments(PanopticWriter),
}

impl Masks {
    fn write(&self, name: &str, masks: &[Option<&Mask>]) -> Result<(), DataError> {
        match self {
            Masks::Labels(writer) => writer.write(name, masks),
            Masks::Segments(writer) => writer.write(name, masks),
        }
    }

    fn finish(self) -> Result<(), DataError> {
        match self {
            Masks::Labels(_) => Ok(()),
            Masks::Segments(writer) => writer.finish(),
        }
    }
}

/// Id, name and `isthing` of the panoptic categories.
const CATEGORIES: [(u32, &str, u8); 2] = [(0, "ground", 0), (1, "shape", 1)];

/// The first segment is the ground (stuff), because STQ takes a thing that comes first for a crowd; shapes are things.
fn tracks(sequence: &Sequence) -> Vec<Option<PanopticTrack>> {
    let track = |place: usize| Some(PanopticTrack { category: u32::from(place > 0), stuff: place == 0 });
    (0..sequence.objects.len()).map(track).collect()
}

/// The pixels of none of these.
fn rest(masks: &[Mask]) -> Mask {
    let (width, height) = masks.first().map_or((0, 0), |mask| (mask.width(), mask.height()));
    let mut rest = Mask::from_fn(width, height, |_, _| true);
    masks.iter().for_each(|mask| rest.subtract(mask));
    rest
}

/// A pixel belongs to one segment, of two that claim it the last.
fn apart(masks: &mut [Mask]) {
    let Some(first) = masks.first() else { return };
    let mut taken = Mask::empty(first.width(), first.height());
    for mask in masks.iter_mut().rev() {
        mask.subtract(&taken);
        taken.unite(mask);
    }
}

/// Where a layout keeps things.
struct LayoutPaths {
    frames: PathBuf,
    masks: PathBuf,
    /// Every so many frames there is an annotation.
    stride: usize,
}

impl LayoutPaths {
    fn new(options: &SynthOptions) -> LayoutPaths {
        let (frames, masks, stride) = match options.layout {
            Layout::SaV => ("JPEGImages_24fps", "Annotations_6fps", 4),
            Layout::Davis2016 | Layout::Davis2017 => ("JPEGImages/480p", "Annotations/480p", 1),
            Layout::Mose | Layout::YoutubeVos | Layout::Lvos => ("JPEGImages", "Annotations", 1),
            Layout::Vipseg => ("images", "", 1),
            // One folder per video, which has both.
            Layout::Plain => ("", "", 1),
        };
        LayoutPaths { frames: options.out.join(frames), masks: options.out.join(masks), stride }
    }
}

fn video_name(v: usize) -> String {
    format!("synth_{v:03}")
}

/// Lists and description files that belong to a layout.
fn describe(options: &SynthOptions) -> Result<(), DataError> {
    let names: Vec<String> = (0..options.videos).map(video_name).collect();
    let lines = names.iter().map(|n| format!("{n}\n")).collect::<String>();
    let objects = |range: bool| -> serde_json::Value {
        let one = |k: usize| {
            let frames = serde_json::json!({"start": 0, "end": options.frames - 1, "frame_nums": options.frames});
            let value = if range {
                serde_json::json!({"frame_range": frames})
            } else {
                serde_json::json!({"category": "shape"})
            };
            ((k + 1).to_string(), value)
        };
        (0..options.objects).map(one).collect::<serde_json::Map<_, _>>().into()
    };
    let meta = |range: bool| {
        let videos: serde_json::Map<_, _> =
            names.iter().map(|n| (n.clone(), serde_json::json!({"objects": objects(range)}))).collect();
        serde_json::json!({ "videos": videos }).to_string()
    };
    let (file, text) = match options.layout {
        Layout::SaV => ("sav_synth.txt", lines),
        Layout::Davis2016 => ("ImageSets/2016/val.txt", lines),
        Layout::Davis2017 => ("ImageSets/2017/val.txt", lines),
        Layout::YoutubeVos => ("meta.json", meta(false)),
        Layout::Lvos => ("synth_meta.json", meta(true)),
        Layout::Vipseg => return describe_segments(options, &names),
        Layout::Mose | Layout::Plain => return Ok(()),
    };
    let path = options.out.join(file);
    let fail = |e: std::io::Error| DataError(format!("{}: {e}", path.display()));
    std::fs::create_dir_all(path.parent().unwrap_or(&options.out)).map_err(fail)?;
    std::fs::write(&path, text).map_err(fail)
}

/// The description of VIPSeg, and one of the predictions.
fn describe_segments(options: &SynthOptions, names: &[String]) -> Result<(), DataError> {
    let videos = || names.iter().map(String::as_str);
    let category = |(id, name, thing)| serde_json::json!({"id": id, "name": name, "isthing": thing});
    let whole = |all: Vec<serde_json::Value>| {
        let video = |of: &serde_json::Value| {
            let frames = of["annotations"].as_array().into_iter().flatten();
            let images: Vec<_> = frames.map(|f| serde_json::json!({"file_name": f["file_name"]})).collect();
            serde_json::json!({"video_id": of["video_id"], "images": images})
        };
        let videos: Vec<_> = all.iter().map(video).collect();
        let categories = CATEGORIES.map(category);
        (DESCRIPTION, serde_json::json!({"videos": videos, "annotations": all, "categories": categories}))
    };
    join(&options.out, videos(), whole)?;
    options.predictions.iter().try_for_each(|root| join_results(root, true, videos()))
}

fn write_frame(path: &Path, width: u32, height: u32, rgb: &[u8]) -> Result<(), DataError> {
    let fail = |e: &dyn std::fmt::Display| DataError(format!("{}: {e}", path.display()));
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|e| fail(&e))?;
    }
    let file = files::create(path).map_err(|e| fail(&e))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(|e| fail(&e))?;
    writer.write_image_data(rgb).map_err(|e| fail(&e))?;
    writer.finish().map_err(|e| fail(&e))
}

/// Small fast generator with good mixing (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `from..to`.
    fn within(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// One moving shape. Positions and sizes are shares of the frame's shorter side.
struct Shape {
    round: bool,
    size: (f64, f64),
    start: (f64, f64),
    velocity: (f64, f64),
    swing: f64,
    turn: f64,
    colour: [u8; 3],
    first: usize,
}

struct Scene {
    video: usize,
    seed: u64,
    shapes: Vec<Shape>,
    background: [u8; 3],
}

impl Scene {
    fn new(options: &SynthOptions, video: usize) -> Scene {
        let seed = mix(options.seed ^ mix(video as u64 + 1));
        let mut random = Random(seed);
        let count = if options.layout == Layout::Davis2016 { 1 } else { options.objects };
        let aspect = f64::from(options.width) / f64::from(options.width.min(options.height));
        let tall = f64::from(options.height) / f64::from(options.width.min(options.height));
        let scale = (3.0 / count as f64).sqrt().min(1.0);
        let shapes = (0..count)
            .map(|k| Shape {
                round: random.next() & 1 == 0,
                size: (random.within(0.10, 0.24) * scale, random.within(0.10, 0.24) * scale),
                start: (random.within(0.2, 0.8) * aspect, random.within(0.2, 0.8) * tall),
                velocity: (random.within(-0.6, 0.6), random.within(-0.4, 0.4)),
                swing: random.within(0.0, 0.15),
                turn: random.within(-2.0, 2.0),
                colour: std::array::from_fn(|_| random.within(40.0, 250.0) as u8),
                // Every third object comes late; DAVIS has all of them in the first frame.
                first: if k % 3 == 2 && options.layout != Layout::Davis2017 { options.frames / 3 } else { 0 },
            })
            .collect();
        let background = std::array::from_fn(|_| random.within(60.0, 160.0) as u8);
        Scene { video, seed, shapes, background }
    }

    fn sequence(&self, options: &SynthOptions, places: &LayoutPaths) -> Sequence {
        let name = video_name(self.video);
        let plain = options.layout == Layout::Plain;
        let dir = if plain { options.out.join(&name).join("frames") } else { places.frames.join(&name) };
        let frames = (0..options.frames).map(|t| {
            let name = match options.layout {
                Layout::YoutubeVos => format!("{:05}", t * 5),
                Layout::Lvos => format!("{:08}", t + 1),
                _ => format!("{t:05}"),
            };
            FrameFile { path: dir.join(format!("{name}.png")), name }
        });
        // What is left of a frame is a segment, too.
        let more = usize::from(options.layout == Layout::Vipseg);
        let object = |k: usize| {
            let name = match options.layout {
                Layout::SaV => format!("{k:03}"),
                Layout::Davis2016 => "255".to_string(),
                _ => (k + 1).to_string(),
            };
            Object { id: k as u32, name, annotated: Vec::new(), prompt_frame: 0 }
        };
        let dir = places.masks.join(&name);
        Sequence {
            frames: frames.collect(),
            objects: (0..self.shapes.len() + more).map(object).collect(),
            fps: 24.0,
            witness: None,
            times: None,
            findings: Vec::new(),
            width: options.width,
            height: options.height,
            guide: Guide::Truth(if options.layout == Layout::SaV {
                MaskSource::ObjectFolders(dir)
            } else {
                MaskSource::LabelMaps(dir)
            }),
            video: None,
            name,
        }
    }

    /// Pixels and visible parts of the objects on frame `t`.
    fn draw(&self, options: &SynthOptions, t: usize) -> (Vec<u8>, Vec<Mask>) {
        let (w, h) = (options.width, options.height);
        let side = f64::from(w.min(h));
        let time = t as f64 / 24.0;
        let poses: Vec<Option<(f64, f64, f64, f64)>> = self
            .shapes
            .iter()
            .map(|s| {
                (t >= s.first).then(|| {
                    let x = (s.start.0 + s.velocity.0 * time + s.swing * (3.0 * time).sin()) * side;
                    let y = (s.start.1 + s.velocity.1 * time + s.swing * (2.0 * time).cos()) * side;
                    let angle = s.turn * time;
                    (x, y, angle.sin(), angle.cos())
                })
            })
            .collect();
        let mut masks = vec![Mask::empty(w, h); self.shapes.len()];
        let mut rgb = Vec::with_capacity(w as usize * h as usize * 3);
        for y in 0..h {
            for x in 0..w {
                // Later shapes lie on top.
                let top = (0..self.shapes.len()).rev().find(|&k| {
                    poses[k].is_some_and(|(cx, cy, sin, cos)| {
                        let shape = &self.shapes[k];
                        let (dx, dy) = ((f64::from(x) - cx) / side, (f64::from(y) - cy) / side);
                        let (u, v) = ((dx * cos + dy * sin) / shape.size.0, (dy * cos - dx * sin) / shape.size.1);
                        if shape.round { u * u + v * v <= 1.0 } else { u.abs() <= 1.0 && v.abs() <= 1.0 }
                    })
                });
                let colour = match top {
                    Some(k) => {
                        masks[k].set(x, y);
                        self.shapes[k].colour
                    }
                    None => self.background,
                };
                if options.with_frames {
                    let grain = (mix(self.seed ^ (u64::from(x / 4) << 32 | u64::from(y / 4))) & 31) as u8;
                    rgb.extend(colour.map(|c| c.saturating_add(grain)));
                }
            }
        }
        (rgb, masks)
    }

    /// What a model might have predicted for `mask`: shifted, sometimes missed, sometimes another object.
    fn guess(&self, mask: &Mask, all: &[Mask], k: usize, t: usize) -> Mask {
        let mut random = Random(mix(self.seed ^ ((k as u64) << 40) ^ t as u64));
        let chance = random.within(0.0, 1.0);
        if chance < 0.03 {
            return Mask::empty(mask.width(), mask.height());
        }
        let source = if chance < 0.06 { &all[(k + 1) % all.len()] } else { mask };
        let reach = f64::from(mask.width().min(mask.height())) * 0.02;
        let (dx, dy) = (random.within(-reach, reach).round() as i64, random.within(-reach, reach).round() as i64);
        shift(source, dx, dy)
    }
}

/// The mask moved by whole pixels; what leaves the frame is lost.
fn shift(mask: &Mask, dx: i64, dy: i64) -> Mask {
    let mut moved = Mask::empty(mask.width(), mask.height());
    for y in 0..mask.height() {
        let to_y = i64::from(y) + dy;
        if to_y < 0 || to_y >= i64::from(mask.height()) || mask.row(y).iter().all(|&w| w == 0) {
            continue;
        }
        for x in 0..mask.width() {
            let to_x = i64::from(x) + dx;
            if mask.get(x, y) && (0..i64::from(mask.width())).contains(&to_x) {
                moved.set(to_x as u32, to_y as u32);
            }
        }
    }
    moved
}
