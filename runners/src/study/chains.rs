//! `jetbench verify` of a video segmenter whose tracks come and go: runs the clip of a pack's reference with its state carried and compares
//! every frame with what PyTorch gave for the same weights: the live tracks and whether they are seen, their class logits, their mask logits
//! (those that the reference keeps), and their masks at the size of the frame; at the end, the tracks that are kept, and their classes.

use serde::{Deserialize, Serialize};

use crate::digest::sha256_hex;
use crate::follow::Follower;
use crate::manifest::Manifest;
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::study::golden::{SCHEMA, Verdict};
use crate::study::reference::{FramesIndex, FramesReference, TensorFile, floats, read_label_png, read_png, relative};
use crate::study::tubes::{CEILING, Limits, STEPS, difference, leaves_logits, sampled};
use crate::types::{FoundTracks, Frame, FrameMasks, Mask, OpenRequest};

/// Frames with a track that a reference must have.
const LEAST: usize = 2;
/// Largest difference of a track's probability at the end, in fp32.
const SCORE: f64 = 1e-3;

#[derive(Deserialize)]
struct Index {
    schema: u32,
    tolerance: f64,
    mask_step: usize,
    frames: Vec<FrameFiles>,
    kept: Vec<Kept>,
}

#[derive(Deserialize)]
struct FrameFiles {
    image: String,
    width: u32,
    height: u32,
    resized_sha256: String,
    tracks: Vec<u32>,
    seen: Vec<bool>,
    logits: TensorFile,
    masks: TensorFile,
    outlines: Option<String>,
}

#[derive(Deserialize)]
struct Kept {
    track: u32,
    birth: u32,
    entries: u32,
    label: u32,
    score: f64,
}

/// What a verification showed. As JSON this is what `jetbench verify --json` prints of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChainReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// Pack id.
    pub pack: String,
    /// Precision that was run.
    pub precision: crate::types::Dtype,
    /// Device that was used.
    pub device: String,
    /// ONNX Runtime version.
    pub runtime: String,
    /// Differences allowed.
    pub tolerance: Limits,
    /// One entry per frame.
    pub frames: Vec<ChainFrame>,
    /// Entries of the reference's tracks on all frames, and those that are on one side only or too different.
    pub entries: [usize; 2],
    /// Births after the first frame and deaths in the reference.
    pub events: [usize; 2],
    /// Tracks that the reference keeps at the end, and those of them that are not kept here with this class.
    pub kept: [usize; 2],
    /// What lies outside its limit, in words.
    pub failures: Vec<String>,
    /// What the reference does not show, in words.
    pub missing: Vec<String>,
}

/// One frame. Differences are largest absolute ones, and in shares of the reference's largest value; `None` (JSON null): not finite, or not
/// compared, because the tracks differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChainFrame {
    /// Its file, as in the index of the reference.
    pub file: String,
    /// Class logits: absolute, in shares.
    pub logits: [Option<f64>; 2],
    /// Mask logits: absolute, in shares.
    pub masks: [Option<f64>; 2],
    /// Numbers of the live tracks here and in the reference.
    pub tracks: [Vec<u32>; 2],
    /// Tracks that are seen on one side and only waited for on the other.
    pub flags: usize,
    /// Least IoU of a track's masks; `None`: there is none.
    pub iou: Option<f64>,
    /// Pixels of masks that differ.
    pub pixels: u64,
    /// Within the limits?
    pub pass: bool,
}

impl ChainReport {
    /// Everything lies within its limits and enough was compared.
    pub fn passes(&self) -> bool {
        self.verdict == Verdict::Pass
    }
}

type Reference = FramesReference<Index>;

impl FramesIndex for Index {
    const CEILING: f64 = CEILING;

    fn header(&self) -> (u32, f64, usize) {
        (self.schema, self.tolerance, self.frames.len())
    }

    fn check(&self, manifest: &Manifest) -> Result<(), String> {
        if !STEPS.contains(&self.mask_step) {
            return Err(format!("mask_step = {}: from {} to {} expected", self.mask_step, STEPS.start(), STEPS.end()));
        }
        let tracks = manifest.segmenter.as_ref().and_then(|segmenter| segmenter.tracks);
        let most = tracks.map_or(0, |tracks| tracks.slots as usize);
        for frame in &self.frames {
            if frame.tracks.len() != frame.seen.len() || frame.tracks.len() > most {
                return Err(format!("{}: up to {most} tracks, and one flag for each, expected", frame.image));
            }
            if !frame.tracks.is_empty() && frame.outlines.is_none() {
                return Err(format!("{}: it has tracks and no outlines, so nothing would be compared", frame.image));
            }
            if frame.height.checked_mul(frame.tracks.len() as u32).is_none() {
                return Err(format!("{}: {} pixels high is too high", frame.image, frame.height));
            }
        }
        for Kept { track, birth, entries, .. } in &self.kept {
            if track.checked_add(1).is_none() || birth.checked_add(*entries).is_none() {
                return Err(format!("kept: track {track} from {birth} for {entries} frames cannot be"));
            }
        }
        Ok(())
    }
}

impl Reference {
    /// The masks of a frame's tracks, which are one below the other in a file.
    fn outlines(&self, of: &FrameFiles) -> Result<Vec<Mask>, RunnerError> {
        let (Some(file), count) = (&of.outlines, of.tracks.len() as u32) else { return Ok(Vec::new()) };
        let pixels = read_label_png(&relative(&self.dir, file)?, of.width, of.height * count)?;
        let one = |pixels: &[u8]| Mask::from_fn(of.width, of.height, |x, y| pixels[(y * of.width + x) as usize] != 0);
        Ok(pixels.chunks_exact((of.width * of.height).max(1) as usize).map(one).collect())
    }
}

/// Largest absolute difference, and in shares of the largest value; `None` where a number is none.
fn gaps(ours: &[f32], theirs: &[f32]) -> [Option<f64>; 2] {
    let apart = |a: &f32, b: &f32| f64::from((a - b).abs());
    let most = ours.iter().zip(theirs).fold(0f64, |most, (a, b)| match apart(a, b) {
        one if one.is_finite() => most.max(one),
        _ => f64::INFINITY,
    });
    [most, difference(ours, theirs)].map(|value| Some(value).filter(|value| value.is_finite()))
}

/// Compares the segmenter in `request` with the first `most` frames of its reference.
///
/// # Errors
/// [`RunnerError::Pack`] when the reference is missing or broken, [`RunnerError::Usage`] for options that it cannot judge, and whatever opening
/// and running give. Differences are no error: they are in the report.
pub fn verify_first(request: &OpenRequest, most: usize) -> Result<ChainReport, RunnerError> {
    let pack = Pack::read(&request.pack)?;
    let mut follower = Follower::open(request, None)?;
    let reference = Reference::read(&pack)?;
    if let Some(value) = request.options.extra.get("overlaps").filter(|value| *value != "keep") {
        return Err(RunnerError::Usage(format!(
            "--option overlaps={value}: the masks of the reference are those of overlaps=keep, so it cannot judge others; leave the option out"
        )));
    }
    follower.keep_overlaps();
    let sizes = *follower.sizes();
    leaves_logits(&reference.dir, reference.index.mask_step, sizes.coarse)?;
    let mut report = ChainReport {
        schema: SCHEMA,
        verdict: Verdict::Fail,
        pack: pack.manifest.id.clone(),
        precision: request.dtype,
        device: request.device.to_string(),
        runtime: follower.report().runtime_version.clone(),
        tolerance: Limits::new(request.dtype, request.device, reference.tolerance),
        frames: Vec::new(),
        entries: [0; 2],
        events: [0; 2],
        kept: [0; 2],
        failures: Vec::new(),
        missing: Vec::new(),
    };
    let step = reference.index.mask_step;
    let [across, down] = sizes.coarse.map(|side| (step / 2..side).step_by(step).count());
    for of in reference.index.frames.iter().take(most) {
        let rgb = read_png(&relative(&reference.dir, &of.image)?, of.width, of.height)?;
        let frame = Frame { width: of.width, height: of.height, rgb: &rgb };
        if sha256_hex(&follower.resized(frame)?) != of.resized_sha256 {
            report.failures.push(format!("{}: after resizing it differs from the reference", of.image));
        }
        follower.look(frame)?;
        let count = of.tracks.len();
        let logits = floats(&reference.dir, &of.logits, &[count, sizes.classes + 1], "")?;
        let masks = floats(&reference.dir, &of.masks, &[count, down, across], "")?;
        let outlines = reference.outlines(of)?;
        // The reference counts from 0, a run from 1.
        let live: Vec<(u32, bool)> = follower.live().iter().map(|entry| (entry.id - 1, entry.seen)).collect();
        let same = live.iter().map(|(id, _)| *id).eq(of.tracks.iter().copied());
        let values = match same {
            true => [gaps(follower.logits(), &logits), gaps(&sampled(follower.masks(), sizes.coarse, step), &masks)],
            false => [[None; 2]; 2],
        };
        report.add(of, &live, values, &follower.objects(frame), &outlines);
    }
    if follower.dropped() > 0 {
        report.failures.push(format!("{} births found no slot; the reference has none too many", follower.dropped()));
    }
    if most >= reference.index.frames.len() {
        report.end(&follower.tracks(), &reference.index.kept);
    }
    report.judge(&reference.index, most);
    Ok(report)
}

impl ChainReport {
    /// In fp32, whatever differs fails; else as many entries as are allowed may.
    fn strict(&self) -> bool {
        self.tolerance.apart == 0.0
    }

    fn add(
        &mut self,
        of: &FrameFiles,
        live: &[(u32, bool)],
        values: [[Option<f64>; 2]; 2],
        ours: &FrameMasks,
        outlines: &[Mask],
    ) {
        let (limits, file) = (self.tolerance, &of.image);
        let mut failures = Vec::new();
        let here: Vec<u32> = live.iter().map(|(id, _)| *id).collect();
        if here != of.tracks && self.strict() {
            failures.push(format!("{file}: tracks {here:?} live, {:?} in the reference", of.tracks));
        }
        if here == of.tracks {
            for (name, [_, share]) in ["logits of classes", "logits of masks"].into_iter().zip(values) {
                match share {
                    Some(value) if value <= limits.values => {}
                    Some(value) => {
                        failures.push(format!("{file}: {name} differ by {value:.3e}, {:.1e} allowed", limits.values));
                    }
                    None => failures.push(format!("{file}: {name} are no numbers")),
                }
            }
        }
        let (mut least, mut pixels, mut apart, mut flags): (Option<f64>, _, _, _) = (None, 0, 0, 0);
        for ((track, seen), outline) in of.tracks.iter().zip(&of.seen).zip(outlines) {
            let mine = ours.objects.iter().zip(live).find(|(_, (id, _))| id == track);
            let Some((object, (_, flag))) = mine else {
                apart += 1;
                pixels += outline.area();
                continue;
            };
            flags += usize::from(flag != seen);
            let iou = object.mask.iou(outline).unwrap_or(1.0);
            pixels += object.mask.area() + outline.area() - 2 * object.mask.overlap(outline);
            least = Some(least.map_or(iou, |least| least.min(iou)));
            if iou < limits.iou || flag != seen {
                apart += 1;
                if self.strict() {
                    failures.push(match flag != seen {
                        true => format!("{file}: track {track} is seen on one side only"),
                        false => format!("{file}: track {track} has an IoU of {iou:.4}, {} allowed", limits.iou),
                    });
                }
            }
        }
        apart += live.iter().filter(|(id, _)| !of.tracks.contains(id)).count();
        self.entries = [self.entries[0] + of.tracks.len(), self.entries[1] + apart];
        self.frames.push(ChainFrame {
            file: file.clone(),
            logits: values[0],
            masks: values[1],
            tracks: [here, of.tracks.clone()],
            flags,
            iou: least,
            pixels,
            pass: failures.is_empty(),
        });
        self.failures.extend(failures);
    }

    /// The tracks at the end of the clip.
    fn end(&mut self, ours: &FoundTracks, theirs: &[Kept]) {
        let mut wrong = Vec::new();
        for kept in theirs {
            let mine = ours.tracks.iter().find(|t| t.id == kept.track + 1 && t.confirmed);
            let same = mine.is_some_and(|t| {
                (t.birth, t.end, t.label) == (kept.birth, kept.birth + kept.entries, kept.label)
                    && (t.score - kept.score).abs() <= SCORE
            });
            if !same {
                let Kept { track, birth, entries, label, score } = kept;
                let found = mine.map_or("none".to_string(), |t| {
                    format!("from {} for {}, class {}, {:.6}", t.birth, t.end - t.birth, t.label, t.score)
                });
                wrong.push(format!(
                    "at the end track {track} is from {birth} for {entries}, class {label}, {score:.6}; here {found}"
                ));
            }
        }
        for extra in ours.tracks.iter().filter(|t| t.confirmed && theirs.iter().all(|kept| kept.track + 1 != t.id)) {
            wrong.push(format!("at the end track {} is kept, not in the reference", extra.id - 1));
        }
        self.kept = [theirs.len(), wrong.len()];
        if self.strict() {
            self.failures.extend(wrong);
        }
    }

    fn judge(&mut self, index: &Index, most: usize) {
        let frames = &index.frames[..most.min(index.frames.len())];
        for pair in frames.windows(2) {
            let new =
                |one: &FrameFiles, other: &FrameFiles| one.tracks.iter().filter(|t| !other.tracks.contains(t)).count();
            self.events[0] += new(&pair[1], &pair[0]);
            self.events[1] += new(&pair[0], &pair[1]);
        }
        let [entries, apart] = self.entries;
        if !self.strict() && apart as f64 > self.tolerance.apart * entries as f64 {
            self.failures.push(format!(
                "{apart} of {entries} entries of tracks are on one side only, seen on one side only, or have an IoU below {}; {} % allowed",
                self.tolerance.iou,
                self.tolerance.apart * 100.0
            ));
        }
        let with = frames.iter().filter(|frame| !frame.tracks.is_empty()).count();
        if with < LEAST {
            self.missing.push(format!("{with} frames of the reference have a track, at least {LEAST} are needed"));
        }
        if self.events[0] == 0 {
            self.missing.push("no track is born after the first frame of the reference".to_string());
        }
        self.verdict = Verdict::of(&self.failures, &self.missing);
    }
}
