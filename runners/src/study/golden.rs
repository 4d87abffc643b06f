//! `jetbench verify`: runs a pack's golden clips and compares every frame with the outputs that the PyTorch session API
//! gave for the same weights. Inputs are lossless PNG frames; the comparison covers the logits, the object score, the
//! pointer that goes into memory and the final mask, so a fault anywhere in the loop shows up with its frame number. Every
//! form of a graph that the device can choose is run.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::digest::sha256_hex;
use crate::frame::Preprocess;
use crate::host::options::{FORM, OBJECTS, RESULTS};
use crate::manifest::GraphSpec;
use crate::pack::Pack;
use crate::runner::{Runner, RunnerError};
use crate::sam::contract::{self, MASK_DECODER, MASK_PROMPT, MEMORY_ATTENTION};
use crate::sam::tracker::Tracker;
use crate::study::compare::Systematic;
use crate::study::evidence::{Evidence, Track};
use crate::study::reference::{ReferenceClip, ReferenceIndex, ReferenceOutputs, ReferenceTrack, read_index};
use crate::types::{Device, Dtype, OpenRequest, PromptKind};

pub use crate::study::compare::{MaskDifference, TensorDifference};
pub use crate::study::evidence::{Compared, LEAST_WITH};
pub use crate::study::limits::{Difference, Limits, Tolerance, shown};
pub use crate::study::observe::{Observation, observe};
pub use crate::study::reference::SCHEMA;

/// How a verification ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Enough was compared and all of it lies within the limits.
    Pass,
    /// Nothing lies outside, but too little was compared to call it a pass.
    Weak,
    /// Something lies outside.
    Fail,
}

impl Verdict {
    /// By what lies outside its limit, and by what a reference does not show.
    pub(super) fn of(failures: &[String], missing: &[String]) -> Verdict {
        match (failures.is_empty(), missing.is_empty()) {
            (false, _) => Verdict::Fail,
            (true, false) => Verdict::Weak,
            (true, true) => Verdict::Pass,
        }
    }
}

/// What a verification showed. As JSON this is what `jetbench verify --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GoldenReport {
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
    /// The difference that is largest in units of its limit; `None` when nothing was compared.
    pub worst: Option<Difference>,
    /// Differences allowed.
    pub tolerance: Limits,
    /// What was compared.
    pub compared: Compared,
    /// One entry per form, clip, object and prompt kind.
    pub tracks: Vec<TrackReport>,
    /// What all tracked frames of a form and a prompt kind have in common.
    pub systematic: Vec<SystematicReport>,
    /// What lies outside its limit, in words.
    pub failures: Vec<String>,
    /// What the reference does not show, in words.
    pub missing: Vec<String>,
}

/// One object of one clip, tracked from one kind of prompt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrackReport {
    /// Form of the graphs: `cpu` where a graph has a form for the CPU provider, else `plain`.
    pub form: String,
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
    /// IoU of the masks, all frames together; 1 where all are empty.
    pub iou: f64,
    /// Smallest mask IoU on a frame; 1 where both masks are empty.
    pub min_iou: f64,
    /// Largest share of a frame's mask pixels that differ.
    pub max_differing_fraction: f64,
    /// Within the limits?
    pub pass: bool,
}

/// The pointers of one form and one prompt kind: see [`Limits::systematic`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SystematicReport {
    /// Form of the graphs.
    pub form: String,
    /// Kind of the prompts.
    pub prompt: PromptKind,
    /// Tracked frames with the object.
    pub frames: usize,
    /// What stays, relative to a pointer's length; `None` (JSON null) when not finite.
    pub value: Option<f64>,
    /// Within the limit?
    pub pass: bool,
}

/// The limits that the reference of the pack in `dir` sets, for outputs in `dtype` on `device`.
///
/// # Errors
/// [`RunnerError::Pack`] when manifest or index are missing or wrong.
pub fn limits(dir: &Path, dtype: Dtype, device: Device) -> Result<Limits, RunnerError> {
    let pack = Pack::read(dir)?;
    let (index, _) = read_index(&pack)?;
    Ok(limits_of(&pack, &index, dtype, device))
}

fn limits_of(pack: &Pack, index: &ReferenceIndex, dtype: Dtype, device: Device) -> Limits {
    let promised = pack.manifest.golden.as_ref().map_or(f64::INFINITY, |golden| golden.tolerance);
    Limits::new(dtype, device, &index.tolerance, index.int8, promised)
}

/// Compares the pack in `request` with its golden outputs. Every prompt kind of every clip is run in every form, all
/// objects of a clip together.
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

/// As [`verify`], with trackers that tests may damage: they prove that the comparison can fail.
fn verify_with(
    request: &OpenRequest,
    most: usize,
    prepare: impl Fn(&mut Tracker),
) -> Result<GoldenReport, RunnerError> {
    let pack = Pack::read(&request.pack)?;
    let (index, dir) = read_index(&pack)?;
    let limits = limits_of(&pack, &index, request.dtype, request.device);
    let mut report = GoldenReport {
        schema: SCHEMA,
        verdict: Verdict::Fail,
        pack: pack.manifest.id.clone(),
        precision: request.dtype,
        device: request.device.to_string(),
        runtime: String::new(),
        worst: None,
        tolerance: limits,
        compared: Compared::default(),
        tracks: Vec::new(),
        systematic: Vec::new(),
        failures: Vec::new(),
        missing: Vec::new(),
    };
    let clips = read_clips(&pack, &index, &dir, most, &mut report)?;
    let request = &one_by_one(request, &pack)?;
    for form in forms(&pack, request) {
        let mut request = request.clone();
        request.options.extra.extend(form.map(|form| (FORM.to_string(), form.to_string())));
        let mut tracker = Tracker::open(&request)?;
        prepare(&mut tracker);
        report.runtime.clone_from(&tracker.open_report().runtime_version);
        let form = request.options.extra.get(FORM).map_or("plain", String::as_str);
        report.run_form(&mut tracker, form, &pack, &clips)?;
    }
    report.verdict = Verdict::of(&report.failures, &report.missing);
    Ok(report)
}

/// The forms of a pack's graphs that a request can choose; `None`: there is no choice, or it is made.
fn forms(pack: &Pack, request: &OpenRequest) -> Vec<Option<&'static str>> {
    let chosen = request.options.extra.contains_key(FORM);
    let has_two = pack.manifest.graphs.iter().any(|graph| graph.cpu.is_some());
    match request.device == Device::Cpu && request.dtype == Dtype::Fp32 && has_two && !chosen {
        true => vec![Some("cpu"), Some("plain")],
        false => vec![None],
    }
}

/// One golden clip with all that is compared.
struct Clip<'a> {
    clip: &'a ReferenceClip,
    frames: Vec<Vec<u8>>,
    tracks: Vec<(&'a ReferenceTrack, ReferenceOutputs)>,
    quantum: f64,
}

/// Reads the first `most` frames of every clip, with the references; notes what they do not show.
fn read_clips<'a>(
    pack: &Pack,
    index: &'a ReferenceIndex,
    dir: &Path,
    most: usize,
    report: &mut GoldenReport,
) -> Result<Vec<Clip<'a>>, RunnerError> {
    let mut preprocess = Preprocess::new(&pack.manifest.input);
    let mut evidence = Evidence::default();
    let mut clips = Vec::new();
    for clip in &index.clips {
        let mut frames = clip.read_frames(dir)?;
        frames.truncate(most);
        if let Some(first) = frames.first() {
            let pixels = preprocess.resize(clip.frame(first))?;
            if sha256_hex(&pixels) != clip.resized_sha256_frame0 {
                report.failures.push(format!("clip {}: frame 0 after resizing differs from the reference", clip.name));
            }
        }
        let tracks = clip
            .tracks
            .iter()
            .map(|track| Ok((track, track.read(clip, dir, index)?)))
            .collect::<Result<Vec<_>, RunnerError>>()?;
        let mut of_object: BTreeMap<u32, Vec<Track<'_>>> = BTreeMap::new();
        for (track, reference) in &tracks {
            let per_frame = reference.low_res.len() / reference.frames;
            of_object.entry(track.object).or_default().push(Track {
                place: place(clip, track),
                kind: track.prompt.kind(),
                scores: &track.object_score[..frames.len()],
                frames: reference.frames.min(frames.len()),
                tracked: &reference.low_res[per_frame..frames.len().clamp(1, reference.frames) * per_frame],
            });
        }
        of_object.values().for_each(|tracks| evidence.add(tracks));
        clips.push(Clip { clip, frames, tracks, quantum: index.quantum });
    }
    report.missing = evidence.missing(&pack.manifest.prompts.kinds);
    Ok(clips)
}

fn place(clip: &ReferenceClip, track: &ReferenceTrack) -> String {
    format!("clip {}, object {}, {} prompt", clip.name, track.object, track.prompt.kind())
}

/// The request with objects run one by one.
///
/// The reference was computed object by object. With the object axis fixed to one, ONNX Runtime chooses the kernels of a
/// graph without that axis; a free axis changes the order of sums, and SAM 2's bf16 memories turn a last bit into 1e-3 of
/// a logit where a value lies on a rounding tie.
pub(super) fn one_by_one(request: &OpenRequest, pack: &Pack) -> Result<OpenRequest, RunnerError> {
    let mut request = request.clone();
    if contract::sizes(pack)?.batched {
        request.options.extra.entry(OBJECTS.to_string()).or_insert_with(|| "loop".to_string());
    }
    // Pointers are compared, so they must come to the host.
    request.options.extra.insert(RESULTS.to_string(), "host".to_string());
    Ok(request)
}

/// The tracks of one kind of prompt of one clip while they run.
struct Run<'a> {
    clip: &'a Clip<'a>,
    tracks: Vec<&'a (&'a ReferenceTrack, ReferenceOutputs)>,
    found: Vec<TrackComparison>,
}

/// What is known of one track so far.
#[derive(Default)]
struct TrackComparison {
    low_res: TensorDifference,
    object_score: TensorDifference,
    obj_ptr: TensorDifference,
    masks: MaskDifference,
    present: usize,
    logits: u64,
}

impl Run<'_> {
    /// Tracks the clip from its first frame on and compares every frame; pointers also go into `systematic`.
    fn track(&mut self, tracker: &mut Tracker, systematic: &mut Systematic) -> Result<(), RunnerError> {
        let Clip { clip, frames, quantum, .. } = self.clip;
        let prompts = self.tracks.iter().map(|(track, _)| track.prompt(clip)).collect::<Result<Vec<_>, _>>()?;
        tracker.reset();
        for (t, rgb) in frames.iter().enumerate() {
            let prompts = if t == 0 { prompts.as_slice() } else { &[] };
            let mut wrong_size = None;
            tracker.step_observed(clip.frame(rgb), prompts, &mut |raw| {
                let Some(i) = self.tracks.iter().position(|(track, _)| track.object == raw.object) else { return };
                let ((track, reference), found) = (self.tracks[i], &mut self.found[i]);
                let score = track.object_score[t];
                found.object_score.compare(t, &[raw.object_score], &[score as f32], 0.0);
                found.masks.compare(raw.mask, &reference.masks[t]);
                if t >= reference.frames {
                    return;
                }
                let (Some(low_res), Some(pointer)) = (
                    at_frame(&reference.low_res, t, reference.frames, raw.low_res.len()),
                    at_frame(&reference.obj_ptr, t, reference.frames, raw.obj_ptr.len()),
                ) else {
                    wrong_size = Some(track);
                    return;
                };
                if score > 0.0 {
                    found.present += 1;
                    found.logits += low_res.len() as u64;
                    found.low_res.compare(t, raw.low_res, low_res, *quantum);
                }
                if score > 0.0 && t > 0 {
                    systematic.add(raw.obj_ptr, pointer);
                }
                found.obj_ptr.compare(t, raw.obj_ptr, pointer, 0.0);
            })?;
            if let Some(track) = wrong_size {
                return Err(RunnerError::Pack(format!(
                    "{}: shapes {:?} and {:?} are not those of this model's low_res_mask and obj_ptr",
                    track.low_res.file, track.low_res.shape, track.obj_ptr.shape
                )));
            }
        }
        Ok(())
    }
}

/// The part of a reference tensor that belongs to frame `t`; `None` when it is not `length` long.
fn at_frame(values: &[f32], t: usize, count: usize, length: usize) -> Option<&[f32]> {
    (values.len() == count * length).then(|| &values[t * length..(t + 1) * length])
}

impl GoldenReport {
    /// Everything lies within its limits and enough was compared.
    pub fn passes(&self) -> bool {
        self.verdict == Verdict::Pass
    }

    /// Runs all clips on one tracker.
    fn run_form(
        &mut self,
        tracker: &mut Tracker,
        form: &str,
        pack: &Pack,
        clips: &[Clip<'_>],
    ) -> Result<(), RunnerError> {
        let form_of = |graph: &GraphSpec| if form == "cpu" && graph.cpu.is_some() { "cpu" } else { "plain" };
        let mut systematic: BTreeMap<PromptKind, Systematic> = BTreeMap::new();
        for clip in clips {
            for kind in PromptKind::ALL {
                let tracks: Vec<_> = clip.tracks.iter().filter(|(track, _)| track.prompt.kind() == kind).collect();
                if tracks.is_empty() || clip.frames.is_empty() {
                    continue;
                }
                let found = tracks.iter().map(|_| TrackComparison::default()).collect();
                let mut run = Run { clip, tracks, found };
                run.track(tracker, systematic.entry(kind).or_default())?;
                for ((track, _), found) in run.tracks.iter().zip(&run.found) {
                    self.add(form, clip, track, found);
                }
                // The prompted frame needs no memory attention.
                for graph in pack.manifest.graphs.iter().filter(|graph| match graph.name.as_str() {
                    MASK_PROMPT => kind == PromptKind::Mask,
                    MEMORY_ATTENTION => clip.frames.len() > 1,
                    _ => true,
                }) {
                    let forms = self.compared.graphs.entry(graph.name.clone()).or_default();
                    if !forms.iter().any(|known| known == form_of(graph)) {
                        forms.push(form_of(graph).to_string());
                    }
                }
            }
        }
        for (prompt, seen) in systematic {
            self.add_systematic(form, prompt, &seen);
        }
        Ok(())
    }

    fn add_systematic(&mut self, form: &str, prompt: PromptKind, seen: &Systematic) {
        let Some(limit) = self.tolerance.systematic.filter(|_| seen.frames() >= LEAST_WITH) else { return };
        let value = seen.value();
        let pass = value.is_some_and(|value| value <= limit);
        if !pass {
            let size = value.map_or("by what is not finite".to_string(), |v| format!("by {v:.2e} of their length"));
            self.failures.push(format!(
                "{prompt} prompts, {form} form: pointers differ {size} in the middle of {} tracked frames, {limit:.1e} allowed",
                seen.frames()
            ));
        }
        self.systematic.push(SystematicReport { form: form.to_string(), prompt, frames: seen.frames(), value, pass });
    }

    fn add(
        &mut self,
        form: &str,
        Clip { clip, frames, .. }: &Clip<'_>,
        track: &ReferenceTrack,
        found: &TrackComparison,
    ) {
        let kind = track.prompt.kind();
        let logits_from =
            if kind == PromptKind::Mask && found.low_res.largest_on() == 0 { MASK_PROMPT } else { MASK_DECODER };
        let tensors = [
            (logits_from, "low_res_mask", &found.low_res),
            (MASK_DECODER, "object_score", &found.object_score),
            (MASK_DECODER, "obj_ptr", &found.obj_ptr),
        ];
        let place = format!("{}, {form} form", place(clip, track));
        let mut failures: Vec<String> = Vec::new();
        let mut differences = Vec::new();
        for (graph, tensor, seen) in tensors.into_iter().filter(|(_, _, seen)| seen.seen()) {
            let difference = seen.figures(graph, tensor, &clip.name, track.object, kind);
            failures
                .extend(self.tolerance.exceeded(&difference).iter().map(|words| format!("{place}: {tensor} {words}")));
            let in_limits = |d: &Difference| self.tolerance.units(d);
            if self.worst.as_ref().is_none_or(|worst| in_limits(&difference) > in_limits(worst)) {
                self.worst = Some(difference.clone());
            }
            differences.push(difference);
        }
        let masks = &found.masks;
        let wrong = self.tolerance.masks_exceeded(masks.differing, masks.pixels, masks.iou());
        failures.extend(wrong.map(|words| format!("{place}: {words}")));
        let tracked = frames.len() - 1;
        let absent = track.object_score[1..frames.len()].iter().filter(|score| **score <= 0.0).count();
        self.compared.tracks += 1;
        self.compared.frames += frames.len();
        self.compared.with_object += tracked - absent;
        self.compared.without_object += absent;
        self.compared.logits += found.logits;
        self.compared.pixels += masks.pixels;
        self.tracks.push(TrackReport {
            form: form.to_string(),
            clip: clip.name.clone(),
            object: track.object,
            prompt: kind,
            frames: frames.len(),
            present: found.present,
            differences,
            mask_pixels: masks.differing,
            mask_pixels_of: masks.pixels,
            iou: masks.iou(),
            min_iou: 1.0 - masks.worst_frame,
            max_differing_fraction: masks.most as f64 / (f64::from(clip.width) * f64::from(clip.height)),
            pass: failures.is_empty(),
        });
        self.failures.extend(failures);
    }
}

#[cfg(test)]
mod tests;
