//! `jetbench verify` of a video segmenter whose tracks come and go: runs the clip of a pack's reference with its state carried and compares
//! every frame with what PyTorch gave for the same weights: the live tracks and whether they are seen, their class logits, their mask logits
//! (those that the reference keeps), and their masks at the size of the frame; at the end, the tracks that are kept, and their classes. Or, on
//! the same frames, with what the pack gives when it is run otherwise.

use serde::{Deserialize, Serialize};

use crate::digest::sha256_hex;
use crate::follow::Follower;
use crate::manifest::Manifest;
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::segment::panoptic::refuse;
use crate::study::frames::{FrameAnswer, KeptTrack, TrackAnswer, judged};
use crate::study::golden::{SCHEMA, Verdict};
use crate::study::reference::{FramesIndex, FramesReference, TensorFile, floats, read_label_png, read_png, relative};
use crate::study::tubes::{CEILING, Limits, SHARED_OUT, STEPS, difference, leaves_logits, sampled};
use crate::types::{Device, Dtype, FoundTracks, Frame, FrameMasks, Mask, OpenRequest};

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
    kept: Vec<KeptTrack>,
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
    pub precision: Dtype,
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
    /// What it is compared with, in words.
    #[serde(skip)]
    beside: &'static str,
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
        for KeptTrack { track, birth, entries, .. } in &self.kept {
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

/// An open segmenter, the reference of its pack, and what both show.
struct Bench {
    reference: Reference,
    follower: Follower,
    report: ChainReport,
}

impl Bench {
    /// `other`: precision and device of the other side, [`Dtype::Fp32`] and the same device where that is PyTorch, which `beside` says.
    fn open(request: &OpenRequest, other: (Dtype, Device), beside: &'static str) -> Result<Bench, RunnerError> {
        refuse(request, SHARED_OUT)?;
        let pack = Pack::read(&request.pack)?;
        let follower = Follower::open(request, None)?;
        let reference = Reference::read(&pack)?;
        let (coarser, device) = judged(request, other);
        let report = ChainReport {
            schema: SCHEMA,
            verdict: Verdict::Fail,
            pack: pack.manifest.id.clone(),
            precision: request.dtype,
            device: request.device.to_string(),
            runtime: follower.report().runtime_version.clone(),
            tolerance: Limits::new(coarser, device, reference.tolerance),
            frames: Vec::new(),
            entries: [0; 2],
            events: [0; 2],
            kept: [0; 2],
            failures: Vec::new(),
            missing: Vec::new(),
            beside,
        };
        Ok(Bench { reference, follower, report })
    }

    /// Shows `each` the first `most` frames with their place in the reference.
    fn frames(
        &mut self,
        most: usize,
        mut each: impl FnMut(&mut Bench, &FrameFiles, Frame<'_>) -> Result<(), RunnerError>,
    ) -> Result<(), RunnerError> {
        let frames = std::mem::take(&mut self.reference.index.frames);
        let shown = frames.iter().take(most).try_for_each(|of| {
            let rgb = read_png(&relative(&self.reference.dir, &of.image)?, of.width, of.height)?;
            each(self, of, Frame { width: of.width, height: of.height, rgb: &rgb })
        });
        self.reference.index.frames = frames;
        shown
    }

    /// Numbers of the live tracks, from 0, and whether they are seen. A run counts from 1.
    fn live(&self) -> Vec<(u32, bool)> {
        self.follower.live().iter().map(|entry| (entry.id - 1, entry.seen)).collect()
    }
}

/// Compares the segmenter in `request` with the first `most` frames of its reference.
///
/// # Errors
/// [`RunnerError::Pack`] when the reference is missing or broken, [`RunnerError::Usage`] for options that it cannot judge, and whatever opening
/// and running give. Differences are no error: they are in the report.
pub fn verify_first(request: &OpenRequest, most: usize) -> Result<ChainReport, RunnerError> {
    let mut bench = Bench::open(request, (Dtype::Fp32, request.device), "in the reference")?;
    if let Some(value) = request.options.extra.get("overlaps").filter(|value| *value != "keep") {
        return Err(RunnerError::Usage(format!(
            "--option overlaps={value}: the masks of the reference are those of overlaps=keep, so it cannot judge others; leave the option \
             out, or compare two runs with --against"
        )));
    }
    bench.follower.keep_overlaps();
    let (sizes, step) = (*bench.follower.sizes(), bench.reference.index.mask_step);
    leaves_logits(&bench.reference.dir, step, sizes.coarse)?;
    let [across, down] = sizes.coarse.map(|side| (step / 2..side).step_by(step).count());
    bench.frames(most, |bench, of, frame| {
        if sha256_hex(&bench.follower.resized(frame)?) != of.resized_sha256 {
            bench.report.failures.push(format!("{}: after resizing it differs from the reference", of.image));
        }
        bench.follower.look(frame)?;
        let (count, dir) = (of.tracks.len(), &bench.reference.dir);
        let logits = floats(dir, &of.logits, &[count, sizes.classes + 1], "")?;
        let masks = floats(dir, &of.masks, &[count, down, across], "")?;
        let outlines = bench.reference.outlines(of)?;
        let live = bench.live();
        let follower = &mut bench.follower;
        let values = match live.iter().map(|(id, _)| *id).eq(of.tracks.iter().copied()) {
            true => [gaps(follower.logits(), &logits), gaps(&sampled(follower.masks(), sizes.coarse, step), &masks)],
            false => [[None; 2]; 2],
        };
        let theirs = Theirs { file: &of.image, tracks: &of.tracks, seen: &of.seen, masks: &outlines };
        bench.report.add(&theirs, &live, values, &follower.objects(frame, None));
        Ok(())
    })?;
    let Bench { reference, follower, mut report } = bench;
    if follower.dropped() > 0 {
        report.failures.push(format!("{} births found no slot; the reference has none too many", follower.dropped()));
    }
    if most >= reference.index.frames.len() {
        report.end(&follower.tracks(), &reference.index.kept);
    }
    report.judge();
    Ok(report)
}

/// What the segmenter in `request` gives on the first `most` frames of its reference, in order: class logits and mask logits of the live
/// tracks, these tracks with their masks, and with the last frame the tracks that are kept. Gives the version of ONNX Runtime.
///
/// # Errors
/// As [`verify_first`]; an error of `see` ends it.
pub fn observe(
    request: &OpenRequest,
    most: usize,
    see: &mut dyn FnMut(FrameAnswer) -> Result<(), RunnerError>,
) -> Result<String, RunnerError> {
    let mut bench = Bench::open(request, (Dtype::Fp32, request.device), "")?;
    let mut left = most.min(bench.reference.index.frames.len());
    bench.frames(most, |bench, of, frame| {
        bench.follower.look(frame)?;
        left -= 1;
        let live = bench.live();
        let follower = &mut bench.follower;
        let kept = if left == 0 { kept(&follower.tracks()) } else { Vec::new() };
        let objects = follower.objects(frame, None).objects;
        let tracks = live.iter().zip(&objects).map(|(&(track, seen), object)| TrackAnswer {
            track,
            seen,
            runs: object.mask.to_runs(),
        });
        see(FrameAnswer {
            file: of.image.clone(),
            tensors: vec![follower.logits().to_vec(), follower.masks().to_vec()],
            tracks: tracks.collect(),
            kept,
            ..FrameAnswer::default()
        })
    })?;
    Ok(bench.report.runtime)
}

/// Compares the segmenter in `request` with `theirs`, what it gives when run otherwise: [`observe`] of the other side, in order; `other`: its
/// precision and device. Limits are those of the coarser precision.
///
/// # Errors
/// As [`verify_first`]; [`RunnerError::Inference`] when the sides are out of step.
pub fn compare_with(
    request: &OpenRequest,
    other: (Dtype, Device),
    most: usize,
    theirs: &mut dyn FnMut() -> Result<FrameAnswer, RunnerError>,
) -> Result<ChainReport, RunnerError> {
    let mut bench = Bench::open(request, other, "on the other side")?;
    let mut last = FrameAnswer::default();
    bench.frames(most, |bench, of, frame| {
        let there = theirs()?;
        bench.follower.look(frame)?;
        let live = bench.live();
        let (tracks, seen): (Vec<u32>, Vec<bool>) = there.tracks.iter().map(|t| (t.track, t.seen)).unzip();
        let same = live.iter().map(|(id, _)| *id).eq(tracks.iter().copied());
        let follower = &mut bench.follower;
        let ours = [follower.logits(), follower.masks()];
        // Other tracks have another number of values: these are not compared.
        there.check(&of.image, if same { &ours } else { &[&[], &[]] }, frame)?;
        let values = match same {
            true => [0, 1].map(|at| gaps(ours[at], &there.tensors[at])),
            false => [[None; 2]; 2],
        };
        let mask = |t: &TrackAnswer| Mask::from_runs(frame.width, frame.height, &t.runs);
        let masks: Option<Vec<Mask>> = there.tracks.iter().map(mask).collect();
        let masks = masks
            .ok_or_else(|| RunnerError::Inference(format!("the sides are out of step at {}: other masks", of.image)))?;
        let theirs = Theirs { file: &of.image, tracks: &tracks, seen: &seen, masks: &masks };
        bench.report.add(&theirs, &live, values, &follower.objects(frame, None));
        last = there;
        Ok(())
    })?;
    let Bench { follower, mut report, .. } = bench;
    report.end(&follower.tracks(), &last.kept);
    report.judge();
    Ok(report)
}

/// The tracks that are kept, counted from 0.
fn kept(found: &FoundTracks) -> Vec<KeptTrack> {
    let kept = found.tracks.iter().filter(|track| track.confirmed);
    kept.map(|t| KeptTrack {
        track: t.id - 1,
        birth: t.birth,
        entries: t.end - t.birth,
        label: t.label,
        score: t.score,
    })
    .collect()
}

/// A frame as the reference or the other side has it.
struct Theirs<'a> {
    file: &'a str,
    tracks: &'a [u32],
    seen: &'a [bool],
    masks: &'a [Mask],
}

impl ChainReport {
    /// In fp32, whatever differs fails; else as many entries as are allowed may.
    fn strict(&self) -> bool {
        self.tolerance.apart == 0.0
    }

    fn add(&mut self, of: &Theirs<'_>, live: &[(u32, bool)], values: [[Option<f64>; 2]; 2], ours: &FrameMasks) {
        let (limits, file, beside) = (self.tolerance, of.file, self.beside);
        let mut failures = Vec::new();
        let here: Vec<u32> = live.iter().map(|(id, _)| *id).collect();
        if here != of.tracks && self.strict() {
            failures.push(format!("{file}: tracks {here:?} live, {:?} {beside}", of.tracks));
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
        for ((track, seen), outline) in of.tracks.iter().zip(of.seen).zip(of.masks) {
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
            file: file.to_string(),
            logits: values[0],
            masks: values[1],
            tracks: [here, of.tracks.to_vec()],
            flags,
            iou: least,
            pixels,
            pass: failures.is_empty(),
        });
        self.failures.extend(failures);
    }

    /// The tracks at the end of the clip.
    fn end(&mut self, ours: &FoundTracks, theirs: &[KeptTrack]) {
        let mut wrong = Vec::new();
        for kept in theirs {
            let mine = ours.tracks.iter().find(|t| t.id == kept.track + 1 && t.confirmed);
            let same = mine.is_some_and(|t| {
                (t.birth, t.end, t.label) == (kept.birth, kept.birth + kept.entries, kept.label)
                    && (t.score - kept.score).abs() <= SCORE
            });
            if !same {
                let KeptTrack { track, birth, entries, label, score } = kept;
                let found = mine.map_or("none".to_string(), |t| {
                    format!("from {} for {}, class {}, {:.6}", t.birth, t.end - t.birth, t.label, t.score)
                });
                wrong.push(format!(
                    "at the end track {track} is from {birth} for {entries}, class {label}, {score:.6}; here {found}"
                ));
            }
        }
        for extra in ours.tracks.iter().filter(|t| t.confirmed && theirs.iter().all(|kept| kept.track + 1 != t.id)) {
            wrong.push(format!("at the end track {} is kept, not {}", extra.id - 1, self.beside));
        }
        self.kept = [theirs.len(), wrong.len()];
        if self.strict() {
            self.failures.extend(wrong);
        }
    }

    fn judge(&mut self) {
        for pair in self.frames.windows(2) {
            let [before, after] = [&pair[0].tracks[1], &pair[1].tracks[1]];
            let new = |one: &[u32], other: &[u32]| one.iter().filter(|track| !other.contains(track)).count();
            self.events[0] += new(after, before);
            self.events[1] += new(before, after);
        }
        let [entries, apart] = self.entries;
        if !self.strict() && apart as f64 > self.tolerance.apart * entries as f64 {
            self.failures.push(format!(
                "{apart} of {entries} entries of tracks are on one side only, seen on one side only, or have an IoU below {}; {} % allowed",
                self.tolerance.iou,
                self.tolerance.apart * 100.0
            ));
        }
        let with = self.frames.iter().filter(|frame| !frame.tracks[1].is_empty()).count();
        if with < LEAST {
            self.missing.push(format!("{with} frames have a track {}, at least {LEAST} are needed", self.beside));
        }
        if self.events[0] == 0 {
            self.missing.push(format!("no track is born after the first frame {}", self.beside));
        }
        self.verdict = Verdict::of(&self.failures, &self.missing);
    }
}
