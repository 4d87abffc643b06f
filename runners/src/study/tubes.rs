//! `jetbench verify` of a video segmenter: runs the clip of a pack's reference with its state carried and compares every frame with what
//! PyTorch gave for the same weights: class logits, mask logits (those that the reference keeps), the state, and the objects with their
//! masks at the size of the frame. Or, on the same frames, with what the pack gives when it is run otherwise.

use std::ops::RangeInclusive;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::sha256_hex;
use crate::host::options::QUERY_SCORE;
use crate::host::settings::SessionSettings;
use crate::manifest::Manifest;
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::segment::Segmenter;
use crate::segment::panoptic::refuse;
use crate::study::frames::{FrameAnswer, judged};
use crate::study::golden::{SCHEMA, Verdict};
use crate::study::reference::{FramesIndex, FramesReference, TensorFile, floats, read_label_png, read_png, relative};
use crate::types::{Device, Dtype, Frame, FrameMasks, Mask, OpenRequest};

/// What no reference may allow, in shares of the largest value: above, a comparison proves nothing.
pub(super) const CEILING: f64 = 2e-3;
/// From row to row of mask logits that a reference keeps.
pub(super) const STEPS: RangeInclusive<usize> = 1..=4096;
/// Frames with an object that a reference must have, and frames over which the state must be carried.
const LEAST: usize = 2;

#[derive(Deserialize)]
struct Index {
    schema: u32,
    tolerance: f64,
    threshold: f64,
    mask_step: usize,
    frames: Vec<FrameFiles>,
}

#[derive(Deserialize)]
struct FrameFiles {
    image: String,
    width: u32,
    height: u32,
    resized_sha256: String,
    logits: TensorFile,
    masks: TensorFile,
    queries: TensorFile,
    labels: String,
}

type Reference = FramesReference<Index>;

impl FramesIndex for Index {
    const CEILING: f64 = CEILING;

    fn header(&self) -> (u32, f64, usize) {
        (self.schema, self.tolerance, self.frames.len())
    }

    fn check(&self, _: &Manifest) -> Result<(), String> {
        match (0.0..=1.0).contains(&self.threshold) && STEPS.contains(&self.mask_step) {
            true => Ok(()),
            false => Err(format!(
                "threshold = {}, mask_step = {}: from 0 to 1, and from {} to {} expected",
                self.threshold,
                self.mask_step,
                STEPS.start(),
                STEPS.end()
            )),
        }
    }
}

/// Differences allowed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Class logits, mask logits and state, in shares of the reference's largest value on that frame.
    pub values: f64,
    /// Least IoU of an object's masks.
    pub iou: f64,
    /// Share of the objects that may be on one side only, or below that IoU.
    pub apart: f64,
}

impl Limits {
    pub(super) fn new(dtype: Dtype, device: Device, tolerance: f64) -> Limits {
        match dtype {
            Dtype::Fp32 => {
                // Kernels of GPUs sum in another order.
                let values = if device == Device::Cpu { tolerance } else { (20.0 * tolerance).min(CEILING) };
                Limits { values, iou: 0.99, apart: 0.0 }
            }
            Dtype::Fp16 => Limits { values: 5e-2, iou: 0.9, apart: 0.05 },
            // Of int8 nothing was measured.
            Dtype::Bf16 | Dtype::Int8 => Limits { values: 3e-1, iou: 0.8, apart: 0.1 },
        }
    }

    /// In words, for the line that says what was allowed.
    pub fn words(&self) -> String {
        format!(
            "{:.1e} of the largest value for logits and state, the same objects with an IoU of {} at least, but for {} %",
            self.values,
            self.iou,
            self.apart * 100.0
        )
    }
}

/// What a verification of a video segmenter showed. As JSON this is what `jetbench verify --json` prints of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TubeReport {
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
    pub frames: Vec<FrameReport>,
    /// Objects of the reference on all frames, and those that are on one side only or too different.
    pub objects: [usize; 2],
    /// What lies outside its limit, in words.
    pub failures: Vec<String>,
    /// What the reference does not show, in words.
    pub missing: Vec<String>,
}

/// One frame. Differences are in shares of the reference's largest value; `None` (JSON null): not finite, or not compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrameReport {
    /// Its file, as in the index of the reference.
    pub file: String,
    /// Class logits.
    pub logits: Option<f64>,
    /// Mask logits.
    pub masks: Option<f64>,
    /// State; not compared on a device.
    pub queries: Option<f64>,
    /// Numbers of the objects here and in the reference.
    pub objects: [Vec<u32>; 2],
    /// Least IoU of an object that is on both sides; `None`: there is none.
    pub iou: Option<f64>,
    /// Pixels that belong to another object, or to none on one side only.
    pub pixels: u64,
    /// Within the limits?
    pub pass: bool,
}

impl TubeReport {
    /// Everything lies within its limits and enough was compared.
    pub fn passes(&self) -> bool {
        self.verdict == Verdict::Pass
    }
}

/// Every n-th row and column of mask logits `[n, rows, width]`, from n / 2 on.
pub(super) fn sampled(masks: &[f32], [width, rows]: [usize; 2], step: usize) -> Vec<f32> {
    let kept = masks.chunks_exact(width).enumerate().filter(|(row, _)| row % rows % step == step / 2);
    kept.flat_map(|(_, row)| row.iter().skip(step / 2).step_by(step).copied()).collect()
}

/// A reference in `dir` with that `step` keeps logits of masks of `[width, rows]`; one that keeps none would compare nothing.
pub(super) fn leaves_logits(dir: &Path, step: usize, [width, rows]: [usize; 2]) -> Result<(), RunnerError> {
    let least = width.min(rows);
    match step > least {
        false => Ok(()),
        true => Err(RunnerError::Pack(format!(
            "{}: mask_step {step} leaves no logit of masks that are {least} wide or high",
            dir.display()
        ))),
    }
}

/// Largest difference in shares of the largest value of `theirs`, 1 at least; infinite where a number is none.
pub(super) fn difference(ours: &[f32], theirs: &[f32]) -> f64 {
    let largest = theirs.iter().fold(1f64, |most, value| most.max(f64::from(value.abs())));
    let apart = ours.iter().zip(theirs).map(|(a, b)| f64::from((a - b).abs()));
    apart.fold(0f64, |most, one| if one.is_finite() { most.max(one) } else { f64::INFINITY }) / largest
}

/// Runs the segmenter on a frame of the reference and looks at what it gives.
type Each<'a> =
    dyn FnMut(&mut Segmenter, &Reference, &FrameFiles, Frame<'_>, &mut TubeReport) -> Result<(), RunnerError> + 'a;

/// An open segmenter, the reference of its pack, and what both show.
struct Bench {
    reference: Reference,
    segmenter: Segmenter,
    report: TubeReport,
}

impl Bench {
    /// `other`: precision and device of the other side, [`Dtype::Fp32`] and the same device where that is PyTorch.
    fn open(request: &OpenRequest, other: (Dtype, Device)) -> Result<Bench, RunnerError> {
        refuse(request, SHARED_OUT)?;
        let pack = Pack::read(&request.pack)?;
        let reference = Reference::read(&pack)?;
        let segmenter = Segmenter::open(request, None)?;
        let (coarser, device) = judged(request, other);
        let report = TubeReport {
            schema: SCHEMA,
            verdict: Verdict::Fail,
            pack: pack.manifest.id.clone(),
            precision: request.dtype,
            device: request.device.to_string(),
            runtime: segmenter.report().runtime_version.clone(),
            tolerance: Limits::new(coarser, device, reference.tolerance),
            frames: Vec::new(),
            objects: [0; 2],
            failures: Vec::new(),
            missing: Vec::new(),
        };
        Ok(Bench { reference, segmenter, report })
    }

    /// Shows `each` the first `most` frames with their place in the reference.
    fn frames(&mut self, most: usize, each: &mut Each<'_>) -> Result<(), RunnerError> {
        let Bench { reference, segmenter, report } = self;
        for of in reference.index.frames.iter().take(most) {
            let rgb = read_png(&relative(&reference.dir, &of.image)?, of.width, of.height)?;
            let frame = Frame { width: of.width, height: of.height, rgb: &rgb };
            each(segmenter, reference, of, frame, report)?;
        }
        Ok(())
    }
}

/// Why panoptic segments are not compared.
pub(super) const SHARED_OUT: &str =
    "what the model gives is compared, before objects share a frame among them; leave it out";

/// Refuses options that a stored reference cannot follow: its objects are those of one threshold, painted in one order.
fn refuse_other_rules(request: &OpenRequest, reference: &Reference) -> Result<(), RunnerError> {
    let settings = SessionSettings::of(request)?;
    let stated = |name: &str| request.options.extra.get(name);
    let threshold = reference.index.threshold;
    let other_score = stated(QUERY_SCORE).filter(|_| settings.query_score() != threshold);
    let other_overlaps = stated("overlaps").filter(|_| !settings.exclusive());
    let found = other_score.map(|value| (QUERY_SCORE, value)).or(other_overlaps.map(|value| ("overlaps", value)));
    match found {
        None => Ok(()),
        Some((name, value)) => Err(RunnerError::Usage(format!(
            "--option {name}={value}: the objects of the reference are those of query_score={threshold} and overlaps=exclusive, so it cannot \
             judge others; leave the option out, or compare two runs with --against"
        ))),
    }
}

/// Compares the segmenter in `request` with the first `most` frames of its reference.
///
/// # Errors
/// [`RunnerError::Pack`] when the reference is missing or broken, [`RunnerError::Usage`] for options that it cannot judge, and whatever
/// opening and running give. Differences are no error: they are in the report.
pub fn verify_first(request: &OpenRequest, most: usize) -> Result<TubeReport, RunnerError> {
    let mut bench = Bench::open(request, (Dtype::Fp32, request.device))?;
    refuse_other_rules(request, &bench.reference)?;
    bench.segmenter.judge_by(bench.reference.index.threshold);
    let sizes = *bench.segmenter.sizes();
    let step = bench.reference.index.mask_step;
    leaves_logits(&bench.reference.dir, step, [sizes.side; 2])?;
    let kept = (step / 2..sizes.side).step_by(step).count();
    bench.frames(most, &mut |segmenter, reference, of, frame, report| {
        if sha256_hex(&segmenter.resized(frame)?) != of.resized_sha256 {
            report.failures.push(format!("{}: after resizing it differs from the reference", of.image));
        }
        segmenter.look(frame)?;
        let logits = floats(&reference.dir, &of.logits, &[sizes.queries, sizes.classes + 1], "")?;
        let masks = floats(&reference.dir, &of.masks, &[sizes.queries, kept, kept], "")?;
        let queries = floats(&reference.dir, &of.queries, &[sizes.queries, sizes.channels], "")?;
        let values = [
            Some(difference(segmenter.logits(), &logits)),
            Some(difference(&sampled(segmenter.masks(), [sizes.side; 2], step), &masks)),
            segmenter.queries().map(|ours| difference(ours, &queries)),
        ];
        let labels = read_label_png(&relative(&reference.dir, &of.labels)?, of.width, of.height)?;
        let labels: Vec<u16> = labels.into_iter().map(u16::from).collect();
        report.add(&of.image, values, &segmenter.objects(frame, None), &labels, frame);
        Ok(())
    })?;
    let Bench { reference, mut report, .. } = bench;
    report.judge(reference.index.frames.len().min(most), "reference");
    Ok(report)
}

/// What the segmenter in `request` gives on the first `most` frames of its reference, in order: class logits, mask logits, state (none on a
/// device), and the object of each pixel. Gives the version of ONNX Runtime.
///
/// # Errors
/// As [`verify_first`]; an error of `see` ends it.
pub fn observe(
    request: &OpenRequest,
    most: usize,
    see: &mut dyn FnMut(FrameAnswer) -> Result<(), RunnerError>,
) -> Result<String, RunnerError> {
    let mut bench = Bench::open(request, (Dtype::Fp32, request.device))?;
    let threshold = SessionSettings::of(request)?.query_score();
    bench.segmenter.judge_by(threshold);
    bench.frames(most, &mut |segmenter, _, of, frame, _| {
        segmenter.look(frame)?;
        let state = segmenter.queries().map(<[f32]>::to_vec).unwrap_or_default();
        let tensors = vec![segmenter.logits().to_vec(), segmenter.masks().to_vec(), state];
        let labels = painted(&segmenter.objects(frame, None), frame);
        see(FrameAnswer { file: of.image.clone(), tensors, labels, ..FrameAnswer::default() })
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
) -> Result<TubeReport, RunnerError> {
    let mut bench = Bench::open(request, other)?;
    let threshold = SessionSettings::of(request)?.query_score();
    bench.segmenter.judge_by(threshold);
    bench.frames(most, &mut |segmenter, _, of, frame, report| {
        let there = theirs()?;
        segmenter.look(frame)?;
        let ours = [segmenter.logits(), segmenter.masks(), segmenter.queries().unwrap_or_default()];
        there.check(&of.image, &ours, frame)?;
        // A device keeps its state to itself; what one side lacks is not compared.
        let [logits, masks, queries] = [0, 1, 2].map(|at| {
            let (ours, theirs) = (ours[at], &there.tensors[at]);
            (!ours.is_empty() && !theirs.is_empty()).then(|| difference(ours, theirs))
        });
        report.add(&of.image, [logits, masks, queries], &segmenter.objects(frame, None), &there.labels, frame);
        Ok(())
    })?;
    let Bench { reference, mut report, .. } = bench;
    report.judge(reference.index.frames.len().min(most), "other side");
    Ok(report)
}

/// Number of the object of each pixel, 0 where there is none; masks do not overlap.
fn painted(objects: &FrameMasks, frame: Frame<'_>) -> Vec<u16> {
    let mut labels = vec![0u16; frame.width as usize * frame.height as usize];
    for object in objects.objects.iter().filter(|object| !object.mask.is_empty()) {
        for (i, label) in labels.iter_mut().enumerate() {
            if object.mask.get(i as u32 % frame.width, i as u32 / frame.width) {
                *label = u16::try_from(object.object).unwrap_or(u16::MAX);
            }
        }
    }
    labels
}

impl TubeReport {
    fn add(&mut self, file: &str, values: [Option<f64>; 3], ours: &FrameMasks, labels: &[u16], frame: Frame<'_>) {
        let limits = self.tolerance;
        let mut failures = Vec::new();
        for (name, value) in ["logits of classes", "logits of masks", "state"].into_iter().zip(values) {
            if let Some(value) = value.filter(|value| *value > limits.values) {
                failures.push(format!("{file}: {name} differ by {value:.3e}, {:.1e} allowed", limits.values));
            }
        }
        let mut theirs: Vec<u32> = labels.iter().filter(|label| **label > 0).map(|label| u32::from(*label)).collect();
        theirs.sort_unstable();
        theirs.dedup();
        let shown: Vec<u32> = ours.objects.iter().filter(|o| !o.mask.is_empty()).map(|o| o.object).collect();
        let mut least: Option<f64> = None;
        let (mut pixels, mut apart) = (0, 0);
        // The reference holds objects to 255; those beyond are in none.
        let mut all: Vec<u32> = theirs.iter().chain(&shown).copied().collect();
        all.sort_unstable();
        all.dedup();
        for object in all {
            let mine = ours.objects.iter().find(|o| o.object == object && !o.mask.is_empty());
            let there = theirs.contains(&object);
            if mine.is_none() && !there {
                continue;
            }
            let of_reference = Mask::from_fn(frame.width, frame.height, |x, y| {
                u32::from(labels[(y * frame.width + x) as usize]) == object
            });
            let Some(mine) = mine.filter(|_| there) else {
                apart += 1;
                pixels += mine.map_or(of_reference.area(), |mine| mine.mask.area());
                let side = if there { "only on the other side" } else { "not on the other side" };
                failures.extend((limits.apart == 0.0).then(|| format!("{file}: object {object} is {side}")));
                continue;
            };
            let iou = mine.mask.iou(&of_reference).unwrap_or(1.0);
            pixels += mine.mask.area() + of_reference.area() - 2 * mine.mask.overlap(&of_reference);
            least = Some(least.map_or(iou, |least| least.min(iou)));
            if iou < limits.iou {
                apart += 1;
                if limits.apart == 0.0 {
                    failures.push(format!("{file}: object {object} has an IoU of {iou:.4}, {} allowed", limits.iou));
                }
            }
        }
        self.objects = [self.objects[0] + theirs.len(), self.objects[1] + apart];
        let [logits, masks, queries] = values.map(|value| value.filter(|value| value.is_finite()));
        self.frames.push(FrameReport {
            file: file.to_string(),
            logits,
            masks,
            queries,
            objects: [shown, theirs],
            iou: least,
            pixels,
            pass: failures.is_empty(),
        });
        self.failures.extend(failures);
    }

    fn judge(&mut self, frames: usize, other: &str) {
        let [objects, apart] = self.objects;
        if self.tolerance.apart > 0.0 && apart as f64 > self.tolerance.apart * objects as f64 {
            self.failures.push(format!(
                "{apart} of {objects} objects are on one side only or have an IoU below {}, {} % allowed",
                self.tolerance.iou,
                self.tolerance.apart * 100.0
            ));
        }
        let with = self.frames.iter().filter(|frame| !frame.objects[1].is_empty()).count();
        if with < LEAST {
            self.missing.push(format!("{with} frames of the {other} have an object, at least {LEAST} are needed"));
        }
        if frames < LEAST {
            self.missing.push("one frame says nothing of the state that is carried".to_string());
        }
        self.verdict = Verdict::of(&self.failures, &self.missing);
    }
}
