//! `jetbench verify` of a detector: runs the frames of a pack's reference and compares every row of logits and boxes with what PyTorch gave for
//! the same weights, and the detections that come of them. Rows are compared as sets ([`rows`]); a fault that turns no detection shows in
//! the logits, which an average precision hides.

mod reference;
mod rows;

use serde::Serialize;

use crate::detect::Detector;
use crate::detect::contract::signature;
use crate::digest::sha256_hex;
use crate::frame::Preprocess;
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::study::frames::{FrameAnswer, judged};
use crate::study::golden::{SCHEMA, Verdict};
use crate::types::{Device, Dtype, Frame, OpenRequest};

use crate::detect::boxes::Rows;
use reference::{CEILING, FrameFiles, Reference};
use rows::RowDifference;
pub use rows::THRESHOLD;

/// Frames with a detection that a reference must have.
pub const LEAST_WITH: usize = 2;

/// Differences allowed; `None`: shown, not judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Logits, absolute, any row of any frame.
    pub logits: Option<f64>,
    /// Boxes in shares of the image, absolute, any row of any frame.
    pub boxes: Option<f64>,
    /// Larger of the two in the row in the middle (median), by size, of any frame.
    pub typical: f64,
    /// Edges of detections, shares of the image.
    pub edges: f64,
    /// Share of the detections that may be on one side only, or have an edge beyond that.
    pub apart: f64,
    /// How far from the threshold a score may lie and yet fall to the other side.
    pub near: f64,
}

impl Limits {
    /// For outputs in `dtype` from `device` against PyTorch's fp32.
    ///
    /// In half precisions other tokens become queries, so a single row says nothing. Measured on the CPU (emulated): `dfine_mini` differs in fp16 by
    /// 2e-3 in the median row and 1e-4 at edges, in bf16 by 2e-2 and 8e-4, every detection found; D-FINE n with random weights, where hundreds of
    /// tokens score alike, in fp16 by 3e-2 in the median row, with 0.9 % of 3,600 detections apart.
    fn new(dtype: Dtype, device: Device, tolerance: f64) -> Limits {
        match dtype {
            Dtype::Fp32 => {
                // Kernels of GPUs sum in another order; 20 as for trackers, but never more than a reference may allow.
                let limit = if device == Device::Cpu { tolerance } else { (20.0 * tolerance).min(CEILING) };
                // A sigmoid is nowhere steeper than 1/4; an edge is the centre and half a side.
                let (edges, near) = (1.5 * limit, limit / 4.0);
                Limits { logits: Some(limit), boxes: Some(limit), typical: limit, edges, apart: 0.0, near }
            }
            Dtype::Fp16 => Limits { logits: None, boxes: None, typical: 5e-2, edges: 1e-2, apart: 5e-2, near: 2e-2 },
            // Of int8 nothing was measured.
            Dtype::Bf16 | Dtype::Int8 => {
                Limits { logits: None, boxes: None, typical: 3e-1, edges: 5e-2, apart: 1e-1, near: 1e-1 }
            }
        }
    }

    /// In words, for the line that says what was allowed.
    pub fn words(&self) -> String {
        let mut all = vec![
            format!(
                "the same detections with edges within {:.1e} of the image, but for {} %",
                self.edges,
                self.apart * 100.0
            ),
            format!("scores within {:.1e} of the lowest of a detection on either side of it", self.near),
            format!("{:.1e} for the median row of a frame", self.typical),
        ];
        all.extend(self.logits.map(|limit| format!("{limit:.1e} for any logit")));
        all.extend(self.boxes.map(|limit| format!("{limit:.1e} of the image for any box")));
        all.join(", ")
    }
}

/// What a verification of a detector showed. As JSON this is what `jetbench verify --json` prints of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DetectionReport {
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
    /// What was compared.
    pub compared: Compared,
    /// One entry per frame.
    pub frames: Vec<FrameReport>,
    /// What lies outside its limit, in words.
    pub failures: Vec<String>,
    /// What the reference does not show, in words.
    pub missing: Vec<String>,
}

/// What was compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Compared {
    /// Frames.
    pub frames: usize,
    /// Rows (queries) of all frames.
    pub rows: usize,
    /// Logits of all rows.
    pub logits: usize,
    /// Detections of the reference.
    pub detections: usize,
    /// Frames on which it has any.
    pub with_detections: usize,
    /// Detections on one side only, with a score near the lowest of a detection on both.
    pub near: usize,
    /// Other detections on one side only, and those with an edge beyond the limit.
    pub apart: usize,
    /// Rows that have another place in the reference.
    pub moved: usize,
}

impl Compared {
    /// In words.
    pub fn words(&self) -> String {
        format!(
            "{} frames ({} with detections), {} rows ({} in another place), {} logits, {} detections ({} apart, {} at the threshold left out)",
            self.frames,
            self.with_detections,
            self.rows,
            self.moved,
            self.logits,
            self.detections,
            self.apart,
            self.near
        )
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrameReport {
    /// Its file, as in the index of the reference.
    pub file: String,
    /// Largest absolute difference of a logit; `None` (JSON null) when not finite.
    pub logits: Option<f64>,
    /// Largest absolute difference of a box, in shares of the image.
    pub boxes: Option<f64>,
    /// Row of the reference with the largest of the two.
    pub row: usize,
    /// Larger of the two in the row in the middle, by size.
    pub typical: Option<f64>,
    /// Detections here and in the reference.
    pub detections: [usize; 2],
    /// Largest difference of an edge of a detection, pixels.
    pub edge_pixels: Option<f64>,
    /// Largest difference of a detection's score.
    pub scores: Option<f64>,
    /// Within the limits?
    pub pass: bool,
}

/// Looks at what the graph gave for a frame of the reference.
type Each<'a> =
    dyn FnMut(Rows<'_>, &Reference, &FrameFiles, Frame<'_>, &mut DetectionReport) -> Result<(), RunnerError> + 'a;

/// An open detector, the reference of its pack, and what both show.
struct Bench {
    pack: Pack,
    reference: Reference,
    detector: Detector,
    report: DetectionReport,
}

impl Bench {
    /// `other`: precision and device of the other side, [`Dtype::Fp32`] and the same device where that is PyTorch.
    fn open(request: &OpenRequest, other: (Dtype, Device)) -> Result<Bench, RunnerError> {
        let pack = Pack::read(&request.pack)?;
        let reference = Reference::read(&pack, &signature(&pack)?)?;
        let detector = Detector::open(&request.pack, request, None, None)?;
        let (coarser, device) = judged(request, other);
        let report = DetectionReport {
            schema: SCHEMA,
            verdict: Verdict::Fail,
            pack: pack.manifest.id.clone(),
            precision: request.dtype,
            device: request.device.to_string(),
            runtime: detector.open_report().runtime_version.clone(),
            tolerance: Limits::new(coarser, device, reference.tolerance),
            compared: Compared::default(),
            frames: Vec::new(),
            failures: Vec::new(),
            missing: Vec::new(),
        };
        Ok(Bench { pack, reference, detector, report })
    }

    /// Runs the first `most` frames and shows `each` what came out.
    fn frames(&mut self, most: usize, each: &mut Each<'_>) -> Result<(), RunnerError> {
        let Bench { pack, reference, detector, report } = self;
        let mut found = Vec::new();
        for of in reference.frames.iter().take(most) {
            let rgb = reference.pixels(of)?;
            let frame = Frame { width: of.width, height: of.height, rgb: &rgb };
            detector.detect(frame, &mut found)?;
            let ours = detector.rows().ok_or_else(|| {
                pack.wrong("detector.layout = \"official\": such a graph keeps logits and boxes to itself, so there is nothing to compare")
            })?;
            each(ours, reference, of, frame, report)?;
        }
        Ok(())
    }
}

/// Compares the detector in `request` with the first `most` frames of its reference.
///
/// # Errors
/// [`RunnerError::Pack`] when the reference is missing or broken, and whatever opening and running give. Differences are no error: they are
/// in the report.
pub fn verify_first(request: &OpenRequest, most: usize) -> Result<DetectionReport, RunnerError> {
    let mut bench = Bench::open(request, (Dtype::Fp32, request.device))?;
    let mut preprocess = Preprocess::new(&bench.pack.manifest.input);
    bench.frames(most, &mut |ours, reference, of, frame, report| {
        let resized =
            of.resized_sha256.as_ref().map(|said| Ok::<_, RunnerError>((said, sha256_hex(&preprocess.resize(frame)?))));
        if resized.transpose()?.is_some_and(|(said, found)| *said != found) {
            report.failures.push(format!("{}: after resizing it differs from the reference", of.image));
        }
        let theirs = reference.answer(of)?;
        report.compare(&of.image, ours, theirs.rows(), frame);
        Ok(())
    })?;
    bench.report.judge("reference");
    Ok(bench.report)
}

/// What the detector in `request` gives on the first `most` frames of its reference, in order: logits and boxes of all rows. Gives the version
/// of ONNX Runtime.
///
/// # Errors
/// As [`verify_first`]; an error of `see` ends it.
pub fn observe(
    request: &OpenRequest,
    most: usize,
    see: &mut dyn FnMut(FrameAnswer) -> Result<(), RunnerError>,
) -> Result<String, RunnerError> {
    let mut bench = Bench::open(request, (Dtype::Fp32, request.device))?;
    bench.frames(most, &mut |ours, _, of, _, _| {
        let tensors = vec![ours.logits.to_vec(), ours.boxes.to_vec()];
        see(FrameAnswer { file: of.image.clone(), tensors, ..FrameAnswer::default() })
    })?;
    Ok(bench.report.runtime)
}

/// Compares the detector in `request` with `theirs`, what it gives when run otherwise: [`observe`] of the other side, in order; `other`: its
/// precision and device. Limits are those of the coarser precision.
///
/// # Errors
/// As [`verify_first`]; [`RunnerError::Inference`] when the sides are out of step.
pub fn compare_with(
    request: &OpenRequest,
    other: (Dtype, Device),
    most: usize,
    theirs: &mut dyn FnMut() -> Result<FrameAnswer, RunnerError>,
) -> Result<DetectionReport, RunnerError> {
    let mut bench = Bench::open(request, other)?;
    bench.frames(most, &mut |ours, _, of, frame, report| {
        let there = theirs()?;
        there.check(&of.image, &[ours.logits, ours.boxes], frame)?;
        let rows = Rows { logits: &there.tensors[0], boxes: &there.tensors[1], classes: ours.classes };
        report.compare(&of.image, ours, rows, frame);
        Ok(())
    })?;
    bench.report.judge("other side");
    Ok(bench.report)
}

impl DetectionReport {
    /// Everything lies within its limits and enough was compared.
    pub fn passes(&self) -> bool {
        self.verdict == Verdict::Pass
    }

    /// The frame with the largest difference of logits; `None` when nothing was compared.
    pub fn worst(&self) -> Option<&FrameReport> {
        let size = |frame: &&FrameReport| frame.logits.zip(frame.boxes).map_or(f64::INFINITY, |(a, b)| a.max(b));
        self.frames.iter().max_by(|a, b| size(a).total_cmp(&size(b)))
    }

    fn compare(&mut self, file: &str, ours: Rows<'_>, theirs: Rows<'_>, frame: Frame<'_>) {
        let seen = rows::compare(ours, theirs, [frame.width, frame.height], self.tolerance.near);
        self.compared.logits += theirs.logits.len();
        self.add(file, &seen);
    }

    fn add(&mut self, file: &str, seen: &RowDifference) {
        let mut sorted = seen.each.clone();
        sorted.sort_by(f64::total_cmp);
        let typical = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let (limits, detected) = (self.tolerance, &seen.detections);
        let beyond = detected.edges.iter().filter(|edge| **edge > limits.edges).count();
        let mut failures: Vec<String> = Vec::new();
        if limits.apart == 0.0 {
            failures.extend(detected.apart.iter().map(|text| format!("{file}: {text}")));
        }
        let mut judge = |what: String, value: f64, limit: Option<f64>| {
            // What is no number is never a matter of taste.
            if limit.is_some_and(|limit| value > limit) || !value.is_finite() {
                let limit = limit.map_or("a number expected".to_string(), |limit| format!("{limit:.1e} allowed"));
                failures.push(format!("{file}: {what} differ by {value:.3e}, {limit}"));
            }
        };
        judge(format!("logits (worst: row {} of the reference)", seen.row), seen.logits, limits.logits);
        judge(format!("boxes (worst: row {} of the reference)", seen.row), seen.boxes, limits.boxes);
        judge("logits or boxes of the median row".to_string(), typical, Some(limits.typical));
        let edge = detected.edges.iter().copied().fold(0.0, f64::max);
        judge(
            "edges of detections, in shares of the image,".to_string(),
            edge,
            Some(limits.edges).filter(|_| limits.apart == 0.0),
        );
        let finite = |value: f64| value.is_finite().then_some(value);
        self.compared.frames += 1;
        self.compared.rows += seen.each.len();
        self.compared.moved += seen.moved;
        self.compared.detections += detected.theirs;
        self.compared.with_detections += usize::from(detected.theirs > 0);
        self.compared.near += detected.near;
        self.compared.apart += detected.apart.len() + beyond;
        self.frames.push(FrameReport {
            file: file.to_string(),
            logits: finite(seen.logits),
            boxes: finite(seen.boxes),
            row: seen.row,
            typical: finite(typical),
            detections: [detected.ours, detected.theirs],
            edge_pixels: finite(detected.pixels),
            scores: finite(detected.scores),
            pass: failures.is_empty(),
        });
        self.failures.extend(failures);
    }

    fn judge(&mut self, other: &str) {
        let Compared { apart, detections, .. } = self.compared;
        if self.tolerance.apart > 0.0 && apart as f64 > self.tolerance.apart * detections as f64 {
            self.failures.push(format!(
                "{apart} of {detections} detections are missing, surplus, or have an edge off by more than {:.1e} of the image; {} % allowed",
                self.tolerance.edges,
                self.tolerance.apart * 100.0
            ));
        }
        let with = self.compared.with_detections;
        if with < LEAST_WITH {
            self.missing.push(format!(
                "{with} frames of the {other} have a detection (score above {THRESHOLD}), at least {LEAST_WITH} are needed"
            ));
        }
        if self.compared.near * 2 > self.compared.detections {
            self.missing.push(format!(
                "{} of {} detections lie at the threshold, where rounding decides",
                self.compared.near, self.compared.detections
            ));
        }
        self.verdict = Verdict::of(&self.failures, &self.missing);
    }
}

#[cfg(test)]
mod tests;
