//! `jetbench verify`: runs a pack's golden clips and compares every frame with the outputs that the PyTorch session API
//! gave for the same weights. Inputs are lossless PNG frames; the comparison covers the logits, the object score, the
//! pointer that goes into memory and the final mask, so a fault anywhere in the loop shows up with its frame number.

use std::path::Path;

use serde::Serialize;

use crate::digest::sha256_hex;
use crate::frame::Preprocess;
use crate::host::options::{OBJECTS, RESULTS};
use crate::pack::Pack;
use crate::runner::{Runner, RunnerError};
use crate::sam::contract::{self, MASK_DECODER, MASK_PROMPT};
use crate::sam::tracker::Tracker;
use crate::study::reference::{ReferenceClip, ReferenceIndex, ReferenceTrack, read_index};
use crate::types::{Dtype, Mask, OpenRequest, PromptKind};

pub use crate::study::limits::{Allowed, Difference, Limits};
pub use crate::study::reference::SCHEMA;

/// What a verification showed. As JSON this is what `jetbench verify --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GoldenReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Does everything lie within tolerance?
    pub pass: bool,
    /// Pack id.
    pub pack: String,
    /// Precision that was run.
    pub precision: Dtype,
    /// Device that was used.
    pub device: String,
    /// ONNX Runtime version.
    pub runtime: String,
    /// The difference that is largest in units of its tolerance; `None` when nothing was compared.
    pub worst: Option<Difference>,
    /// Differences allowed.
    pub tolerance: Limits,
    /// One entry per clip, object and prompt kind.
    pub tracks: Vec<TrackReport>,
    /// What lies outside its tolerance, in words.
    pub failures: Vec<String>,
}

/// One object of one clip, tracked from one kind of prompt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrackReport {
    /// Clip name.
    pub clip: String,
    /// Object in the clip.
    pub object: u32,
    /// Kind of its prompt.
    pub prompt: PromptKind,
    /// Frames compared.
    pub frames: usize,
    /// Frames on which the reference says that the object is present; only there are logits compared.
    pub present: usize,
    /// Per tensor: `low_res_mask`, `object_score`, `obj_ptr`.
    pub differences: Vec<Difference>,
    /// Mask pixels that differ, all frames together.
    pub mask_pixels: u64,
    /// Mask pixels compared.
    pub mask_pixels_of: u64,
    /// Smallest mask IoU on a frame; 1 where both masks are empty.
    pub min_iou: f64,
    /// Largest share of a frame's mask pixels that differ.
    pub max_differing_fraction: f64,
    /// Within tolerance?
    pub pass: bool,
}

/// The largest absolute difference of a tensor that the pack in `dir` promises; `None` when it promises none.
///
/// # Errors
/// [`RunnerError::Pack`] when the manifest is missing or wrong.
pub fn promised_tolerance(dir: &Path) -> Result<Option<f64>, RunnerError> {
    Ok(Pack::read(dir)?.manifest.golden.map(|golden| golden.tolerance))
}

/// Compares the pack in `request` with its golden outputs. Every prompt kind of every clip is run, all objects of a clip
/// together.
///
/// # Errors
/// [`RunnerError::Pack`] when the golden files are missing or broken, and whatever opening or running gives. Differences
/// are no error: they are in the report.
pub fn verify(request: &OpenRequest) -> Result<GoldenReport, RunnerError> {
    verify_with(request, usize::MAX, |_| {})
}

/// As [`verify`], with the first `most` frames of each clip.
///
/// # Errors
/// As [`verify`].
pub fn verify_first(request: &OpenRequest, most: usize) -> Result<GoldenReport, RunnerError> {
    verify_with(request, most, |_| {})
}

/// As [`verify`], with a tracker that tests may damage: they prove that the comparison can fail.
fn verify_with(
    request: &OpenRequest,
    most: usize,
    prepare: impl FnOnce(&mut Tracker),
) -> Result<GoldenReport, RunnerError> {
    let pack = Pack::read(&request.pack)?;
    let (index, dir) = read_index(&pack)?;
    let dir = dir.as_path();
    let promised = pack.manifest.golden.as_ref().map_or(f64::INFINITY, |golden| golden.tolerance);
    let tolerance = Limits::new(request.dtype, &index.tolerance, promised);

    let request = &one_by_one(request, &pack)?;
    let mut tracker = Tracker::open(request)?;
    prepare(&mut tracker);
    let mut report = GoldenReport {
        schema: SCHEMA,
        pass: false,
        pack: pack.manifest.id.clone(),
        precision: request.dtype,
        device: request.device.to_string(),
        runtime: tracker.open_report().runtime_version.clone(),
        worst: None,
        tolerance,
        tracks: Vec::new(),
        failures: Vec::new(),
    };
    let mut preprocess = Preprocess::new(&pack.manifest.input);
    for clip in &index.clips {
        let mut frames = clip.read_frames(dir)?;
        frames.truncate(most);
        if let Some(first) = frames.first() {
            let pixels = preprocess.resize(clip.frame(first))?;
            let digest = sha256_hex(&pixels);
            if digest != clip.resized_sha256_frame0 {
                report.failures.push(format!("clip {}: frame 0 after resizing differs from the reference", clip.name));
            }
        }
        for kind in PromptKind::ALL {
            let tracks: Vec<&ReferenceTrack> = clip.tracks.iter().filter(|t| t.prompt.kind() == kind).collect();
            if !tracks.is_empty() {
                run_clip(&mut tracker, clip, &tracks, &frames, dir, &index, &mut report)?;
            }
        }
    }
    report.pass = report.failures.is_empty();
    Ok(report)
}

/// The request with objects run one by one.
///
/// The reference was computed object by object. With the object axis fixed to one, ONNX Runtime chooses the kernels of a
/// graph without that axis; a free axis changes the order of sums, and SAM 2's bf16 memories turn a last bit into 1e-3 of
/// a logit where a value lies on a rounding tie.
fn one_by_one(request: &OpenRequest, pack: &Pack) -> Result<OpenRequest, RunnerError> {
    let mut request = request.clone();
    if contract::sizes(pack)?.batched {
        request.options.extra.entry(OBJECTS.to_string()).or_insert_with(|| "loop".to_string());
    }
    // Pointers are compared, so they must come to the host.
    request.options.extra.insert(RESULTS.to_string(), "host".to_string());
    Ok(request)
}

fn run_clip(
    tracker: &mut Tracker,
    clip: &ReferenceClip,
    tracks: &[&ReferenceTrack],
    frames: &[Vec<u8>],
    dir: &Path,
    index: &ReferenceIndex,
    report: &mut GoldenReport,
) -> Result<(), RunnerError> {
    let references = tracks.iter().map(|t| t.read(clip, dir, index)).collect::<Result<Vec<_>, _>>()?;
    let prompts = tracks.iter().map(|t| t.prompt(clip)).collect::<Result<Vec<_>, _>>()?;
    let mut compared: Vec<TrackComparison> = tracks.iter().map(|_| TrackComparison::default()).collect();
    tracker.reset();
    for (t, rgb) in frames.iter().enumerate() {
        let prompts = if t == 0 { prompts.as_slice() } else { &[] };
        let mut wrong_size = None;
        tracker.step_observed(clip.frame(rgb), prompts, &mut |raw| {
            let Some(i) = tracks.iter().position(|track| track.object == raw.object) else { return };
            let (track, reference, compared) = (tracks[i], &references[i], &mut compared[i]);
            let (Some(low_res), Some(pointer)) = (
                at_frame(&reference.low_res, t, clip.count, raw.low_res.len()),
                at_frame(&reference.obj_ptr, t, clip.count, raw.obj_ptr.len()),
            ) else {
                wrong_size = Some(track);
                return;
            };
            let expected_score = track.object_score[t];
            if expected_score > 0.0 {
                compared.present += 1;
                compared.low_res.compare(t, raw.low_res, low_res);
            }
            compared.object_score.compare(t, &[raw.object_score], &[expected_score as f32]);
            compared.obj_ptr.compare(t, raw.obj_ptr, pointer);
            let agreement = agreement(raw.mask, &reference.masks[t]);
            compared.mask_pixels += agreement.differing;
            compared.min_iou = compared.min_iou.min(agreement.iou);
            compared.max_differing = compared.max_differing.max(agreement.differing);
        })?;
        if let Some(track) = wrong_size {
            return Err(RunnerError::Pack(format!(
                "{}: shapes {:?} and {:?} are not those of this model's low_res_mask and obj_ptr",
                dir.join(&track.low_res.file).display(),
                track.low_res.shape,
                track.obj_ptr.shape
            )));
        }
    }
    for (track, compared) in tracks.iter().zip(compared) {
        report.add(clip, track, frames.len(), &compared);
    }
    Ok(())
}

/// The part of a reference tensor that belongs to frame `t`; `None` when it is not `length` long.
fn at_frame(values: &[f32], t: usize, count: usize, length: usize) -> Option<&[f32]> {
    (values.len() == count * length).then(|| &values[t * length..(t + 1) * length])
}

/// How two masks of one size agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Intersection over union; 1 where both are empty.
    pub iou: f64,
    /// Pixels that differ.
    pub differing: u64,
}

/// Compares two masks of one size.
pub fn agreement(a: &Mask, b: &Mask) -> Agreement {
    let (mut both, mut either) = (0u64, 0u64);
    for (a, b) in a.words().iter().zip(b.words()) {
        both += u64::from((a & b).count_ones());
        either += u64::from((a | b).count_ones());
    }
    Agreement { iou: if either == 0 { 1.0 } else { both as f64 / either as f64 }, differing: either - both }
}

/// Largest absolute difference, and the root mean square of the difference over that of `theirs`; infinite when a value is
/// not finite.
pub fn difference(ours: &[f32], theirs: &[f32]) -> (f64, f64) {
    let (mut squares, mut of) = (0.0, 0.0);
    for (&a, &b) in ours.iter().zip(theirs) {
        squares += (f64::from(a) - f64::from(b)).powi(2);
        of += f64::from(b).powi(2);
    }
    let rel = if squares == 0.0 { 0.0 } else { (squares / of).sqrt() };
    (max_abs(ours, theirs), if rel.is_nan() { f64::INFINITY } else { rel })
}

/// What one object gave on one frame of a golden clip.
pub struct Observation<'a> {
    /// Clip name.
    pub clip: &'a str,
    /// Object in the clip.
    pub object: u32,
    /// Kind of its prompt.
    pub prompt: PromptKind,
    /// Frame index.
    pub frame: usize,
    /// Graph, tensor, values: what the inner graphs gave (on the CPU), then logits, score and pointer.
    pub tensors: Vec<(&'static str, &'static str, Vec<f32>)>,
    /// Mask at source size.
    pub mask: &'a Mask,
}

/// Runs the first `most` frames of the pack's golden clips, every kind of prompt, and shows what came out, in a fixed order. Nothing is compared.
/// Gives the version of ONNX Runtime.
///
/// # Errors
/// As [`verify`]; an error of `see` ends it.
pub fn observe(
    request: &OpenRequest,
    most: usize,
    see: &mut dyn FnMut(Observation<'_>) -> Result<(), RunnerError>,
) -> Result<String, RunnerError> {
    let pack = Pack::read(&request.pack)?;
    let (index, dir) = read_index(&pack)?;
    let request = one_by_one(request, &pack)?;
    let mut tracker = Tracker::open(&request)?;
    for clip in &index.clips {
        let mut frames = clip.read_frames(&dir)?;
        frames.truncate(most);
        for kind in PromptKind::ALL {
            let tracks: Vec<&ReferenceTrack> = clip.tracks.iter().filter(|t| t.prompt.kind() == kind).collect();
            if tracks.is_empty() {
                continue;
            }
            let prompts = tracks.iter().map(|t| t.prompt(clip)).collect::<Result<Vec<_>, _>>()?;
            tracker.reset();
            for (t, rgb) in frames.iter().enumerate() {
                let prompts = if t == 0 { prompts.as_slice() } else { &[] };
                let mut failed = None;
                tracker.step_observed(clip.frame(rgb), prompts, &mut |raw| {
                    let mut tensors = (raw.inner)();
                    let logits_from = if kind == PromptKind::Mask && t == 0 { MASK_PROMPT } else { MASK_DECODER };
                    tensors.push((logits_from, "low_res_mask", raw.low_res.to_vec()));
                    tensors.push((MASK_DECODER, "object_score", vec![raw.object_score]));
                    tensors.push((MASK_DECODER, "obj_ptr", raw.obj_ptr.to_vec()));
                    let seen = Observation {
                        clip: &clip.name,
                        object: raw.object,
                        prompt: kind,
                        frame: t,
                        tensors,
                        mask: raw.mask,
                    };
                    if failed.is_none() {
                        failed = see(seen).err();
                    }
                })?;
                if let Some(error) = failed {
                    return Err(error);
                }
            }
        }
    }
    Ok(tracker.open_report().runtime_version.clone())
}

/// Running maxima of one track.
struct TrackComparison {
    low_res: WorstDifference,
    object_score: WorstDifference,
    obj_ptr: WorstDifference,
    mask_pixels: u64,
    min_iou: f64,
    max_differing: u64,
    present: usize,
}

impl Default for TrackComparison {
    fn default() -> Self {
        TrackComparison {
            low_res: WorstDifference::default(),
            object_score: WorstDifference::default(),
            obj_ptr: WorstDifference::default(),
            mask_pixels: 0,
            min_iou: 1.0,
            max_differing: 0,
            present: 0,
        }
    }
}

/// A running maximum with its frame; not finite counts as largest.
#[derive(Default)]
struct WorstDifference {
    frame: usize,
    value: f64,
    /// Relative root mean square of every frame.
    rel_rms: Vec<f64>,
    seen: bool,
}

impl WorstDifference {
    fn compare(&mut self, frame: usize, ours: &[f32], theirs: &[f32]) {
        let (value, rel_rms) = difference(ours, theirs);
        self.take(frame, value);
        self.rel_rms.push(rel_rms);
    }

    fn take(&mut self, frame: usize, value: f64) {
        if !self.seen || value > self.value {
            (self.frame, self.value, self.seen) = (frame, value, true);
        }
    }

    fn worst_rel_rms(&self) -> f64 {
        self.rel_rms.iter().copied().fold(0.0, f64::max)
    }

    /// The median over the frames, of an even number the upper one.
    fn typical_rel_rms(&self) -> f64 {
        let mut sorted = self.rel_rms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }
}

/// Largest absolute difference; infinite when a value is not finite.
fn max_abs(ours: &[f32], theirs: &[f32]) -> f64 {
    ours.iter().zip(theirs).fold(0.0, |worst: f64, (&a, &b)| {
        let difference = (f64::from(a) - f64::from(b)).abs();
        if difference.is_nan() { f64::INFINITY } else { worst.max(difference) }
    })
}

impl GoldenReport {
    fn add(&mut self, clip: &ReferenceClip, track: &ReferenceTrack, frames: usize, compared: &TrackComparison) {
        let kind = track.prompt.kind();
        let logits_from =
            if kind == PromptKind::Mask && compared.low_res.frame == 0 { MASK_PROMPT } else { MASK_DECODER };
        let tensors = [
            (logits_from, "low_res_mask", &compared.low_res),
            (MASK_DECODER, "object_score", &compared.object_score),
            (MASK_DECODER, "obj_ptr", &compared.obj_ptr),
        ]
        .map(|(graph, tensor, seen)| (graph, tensor, seen, self.tolerance.of(tensor)));
        let mut entry = TrackReport {
            clip: clip.name.clone(),
            object: track.object,
            prompt: kind,
            frames,
            present: compared.present,
            differences: Vec::new(),
            mask_pixels: compared.mask_pixels,
            mask_pixels_of: frames as u64 * u64::from(clip.width) * u64::from(clip.height),
            min_iou: compared.min_iou,
            max_differing_fraction: compared.max_differing as f64 / (f64::from(clip.width) * f64::from(clip.height)),
            pass: true,
        };
        let place = format!("clip {}, object {}, {kind} prompt", clip.name, track.object);
        let finite = |value: f64| value.is_finite().then_some(value);
        for (graph, tensor, seen, allowed) in tensors {
            if !seen.seen {
                continue;
            }
            let difference = Difference {
                graph: graph.to_string(),
                tensor: tensor.to_string(),
                clip: clip.name.clone(),
                object: track.object,
                prompt: kind,
                frame: seen.frame,
                max_abs: finite(seen.value),
                rel_rms: finite(seen.worst_rel_rms()),
                typical_rel_rms: finite(seen.typical_rel_rms()),
            };
            if let Some(words) = allowed.exceeded(&difference) {
                entry.pass = false;
                self.failures.push(format!("{place}: {tensor} {words}"));
            }
            let in_limits = |d: &Difference| self.tolerance.of(&d.tensor).units(d);
            if self.worst.as_ref().is_none_or(|worst| in_limits(&difference) > in_limits(worst)) {
                self.worst = Some(difference.clone());
            }
            entry.differences.push(difference);
        }
        let share = compared.mask_pixels as f64 / entry.mask_pixels_of as f64;
        if share > self.tolerance.mask_pixels {
            entry.pass = false;
            self.failures.push(format!(
                "{place}: {} of {} mask pixels differ, a share of {:.1e} is allowed",
                compared.mask_pixels, entry.mask_pixels_of, self.tolerance.mask_pixels
            ));
        }
        self.tracks.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sam::sabotage::Sabotage;

    use crate::real_packs::{for_each_pack, request, with_golden};

    /// Keeps the point prompts: a third of the work.
    fn only_points(index: &mut serde_json::Value) {
        for clip in index["clips"].as_array_mut().unwrap() {
            clip["tracks"].as_array_mut().unwrap().retain(|track| track["prompt"]["kind"] == "points");
        }
    }

    /// Keeps the point prompts of the first clip.
    fn only_first_points(index: &mut serde_json::Value) {
        only_points(index);
        index["clips"].as_array_mut().unwrap().truncate(1);
    }

    #[test]
    fn a_damaged_memory_is_noticed() {
        for_each_pack("a_damaged_memory_is_noticed", |dir| {
            // fp32_reproduces_pytorch shows that the same comparison passes without damage
            let copy = with_golden(dir, only_points);
            for sabotage in
                [Sabotage::NegateSlot(0), Sabotage::NegateSlot(1), Sabotage::ZeroPointer(0), Sabotage::FreezeAge]
            {
                let report = verify_with(&request(copy.path(), Dtype::Fp32), usize::MAX, |tracker| {
                    tracker.set_sabotage(sabotage)
                })
                .unwrap();
                assert!(!report.pass, "{}: {sabotage:?} went unnoticed: {:?}", dir.display(), report.worst);
            }
        });
    }

    #[test]
    fn half_precisions_pass_by_limits_of_their_own_and_damage_is_noticed() {
        for_each_pack("half_precisions_pass_by_limits_of_their_own_and_damage_is_noticed", |dir| {
            let copy = with_golden(dir, only_first_points);
            for dtype in [Dtype::Fp16, Dtype::Bf16] {
                let healthy = verify(&request(copy.path(), dtype)).unwrap();
                assert!(healthy.pass, "{} {dtype}: {:?}", dir.display(), healthy.failures);
                for sabotage in [Sabotage::NegateSlot(0), Sabotage::NegateSlot(1), Sabotage::FreezeAge] {
                    let damaged =
                        verify_with(&request(copy.path(), dtype), usize::MAX, |tracker| tracker.set_sabotage(sabotage))
                            .unwrap();
                    assert!(
                        !damaged.pass,
                        "{} {dtype}: {sabotage:?} went unnoticed: {:?}",
                        dir.display(),
                        damaged.worst
                    );
                }
            }
        });
    }

    #[test]
    fn broken_golden_files_are_named() {
        for_each_pack("broken_golden_files_are_named", |dir| {
            let outcome = |edit: &dyn Fn(&mut serde_json::Value)| {
                let copy = with_golden(dir, |index| {
                    only_first_points(index);
                    edit(index);
                });
                verify(&request(copy.path(), Dtype::Fp32))
            };
            let refused = |edit: &dyn Fn(&mut serde_json::Value), part: &str| {
                let text = outcome(edit).expect_err(part).to_string();
                assert!(text.contains(part), "{text:?} does not say {part:?}");
            };
            refused(&|index| index["schema"] = 9.into(), "schema 9");
            refused(&|index| index["clips"] = serde_json::json!([]), "nothing to verify");
            refused(&|index| index["clips"][0]["frames"] = "/".into(), "not a relative path");
            refused(&|index| index["clips"][0]["frames"] = "nowhere".into(), "nowhere/00000.png");
            refused(&|index| index["clips"][0]["width"] = 7.into(), "7x");
            refused(&|index| index["clips"][0]["tracks"][0]["low_res"]["file"] = "x.z".into(), "x.z");
            refused(&|index| index["clips"][0]["tracks"][0]["low_res"]["shape"][1] = 5.into(), "low_res.z");
            refused(
                &|index| index["clips"][0]["tracks"][0]["object_score"] = serde_json::json!([1.0]),
                "1 object scores",
            );
            let swapped = |index: &mut serde_json::Value| {
                let track = &mut index["clips"][0]["tracks"][0];
                track["masks"]["file"] = track["obj_ptr"]["file"].clone();
            };
            refused(&swapped, "do not fit");
            let report = outcome(&|index| index["clips"][0]["resized_sha256_frame0"] = "0".into()).unwrap();
            assert!(!report.pass && report.failures[0].contains("after resizing"), "{:?}", report.failures);
        });
    }

    #[test]
    fn a_difference_that_is_not_a_number_is_the_largest() {
        assert_eq!(max_abs(&[1.0, 2.0], &[1.5, 2.0]), 0.5);
        assert_eq!(max_abs(&[f32::NAN, 2.0], &[1.5, 2.0]), f64::INFINITY);
        let mut largest = WorstDifference::default();
        largest.take(3, 0.0);
        largest.take(4, 2.0);
        largest.take(5, 1.0);
        assert_eq!((largest.frame, largest.value), (4, 2.0));
    }
}
