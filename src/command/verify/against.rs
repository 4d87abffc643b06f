//! Does a pack give the same here and now, run otherwise: on another device, in another precision, with other threads,
//! another ONNX Runtime, or the other form of its graphs? The other side runs in a process of its own, because a process can
//! load one ONNX Runtime only, and both are compared frame by frame while they run. Limits are those of the reference
//! ([`golden::limits`]), for the coarser precision of the two.

mod frames;

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::process::{Command, Stdio};

use jetbench_runners::contract::DVIS_DAQ;
use jetbench_runners::frames::{FrameAnswer, judged};
use jetbench_runners::golden::{self, Difference, Limits, MaskDifference, Observation, TensorDifference, shown};
use jetbench_runners::options::{TABLE, find};
use jetbench_runners::types::{Device, Dtype, Mask, OpenRequest, PromptKind};
use jetbench_runners::{RunnerError, chains, detections, packs, tubes};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::most;
use crate::child::die_with_parent;
use crate::cli::VerifyArgs;
use crate::exit::{Error, NOT_VALID, OK, Outcome, nearest};
use crate::report::screen::{Mark, stdout_colours};

pub(super) use self::frames::{detector, follower, segmenter};

/// How far two sides may lie apart: by the limits of the reference, where the flags do not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Judge {
    limits: Limits,
    /// Largest absolute difference of logits, scores and pointers on any frame; in place of the limits.
    max_abs: Option<f64>,
    /// Relative root mean square of logits and pointers on any frame; in place of the limits.
    max_rel_rms: Option<f64>,
    /// Share of any frame's mask pixels; in place of the limits.
    max_mask_share: Option<f64>,
}

impl Judge {
    fn new(args: &VerifyArgs, limits: Limits) -> Judge {
        let VerifyArgs { max_abs, max_rel_rms, max_mask_share, .. } = *args;
        Judge { limits, max_abs, max_rel_rms, max_mask_share }
    }

    fn tensor_holds(&self, d: &Difference) -> bool {
        if self.max_abs.is_none() && self.max_rel_rms.is_none() {
            return self.limits.exceeded(d).is_empty();
        }
        let within = |value: Option<f64>, limit: Option<f64>| limit.is_none_or(|l| value.is_some_and(|v| v <= l));
        // One number has no size of its own: a score near 0 would be far off in relation to itself.
        within(d.max_abs, self.max_abs) && (d.tensor == "object_score" || within(d.rel_rms, self.max_rel_rms))
    }

    fn masks_hold(&self, masks: &MaskDifference, share: f64) -> bool {
        match self.max_mask_share {
            Some(limit) => share <= limit,
            None => self.limits.masks_exceeded(masks.differing, masks.pixels, masks.iou()).is_none(),
        }
    }

    fn words(&self) -> String {
        let mut all: Vec<String> = [("max abs", self.max_abs), ("rel rms", self.max_rel_rms)]
            .into_iter()
            .filter_map(|(what, limit)| Some(format!("{what} {:.0e}", limit?)))
            .collect();
        all.extend(self.max_mask_share.map(|share| format!("{} % of a frame's mask pixels", share * 100.0)));
        if all.is_empty() { self.limits.words() } else { format!("{}; else {}", all.join(", "), self.limits.words()) }
    }
}

/// The request of the other side: the same but for what the words say.
fn other_side(request: &OpenRequest, words: &str) -> Result<OpenRequest, Error> {
    const KEYS: [&str; 4] = ["device", "dtype", "ort-lib", "ep-library"];
    let (mut other, mut named) = (request.clone(), false);
    for word in words.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        let wrong = |e: String| Error::Usage(format!("--against {word}: {e}"));
        let (key, value) = word.split_once('=').ok_or_else(|| {
            wrong(format!("expected KEY=VALUE with a key of {}, or a runner option", KEYS.join(", ")))
        })?;
        match key {
            "device" => other.device = value.parse::<Device>().map_err(|e| wrong(e.to_string()))?,
            "dtype" => other.dtype = value.parse::<Dtype>().map_err(|e| wrong(e.to_string()))?,
            "ort-lib" => other.ort_lib = Some(value.into()),
            // An empty one: the device of ONNX Runtime's own provider.
            "ep-library" => {
                named = true;
                other.ep_library = Some(value).filter(|value| !value.is_empty()).map(Into::into);
            }
            _ if find(key).is_some() => other.options.set(key, value).map_err(|e| wrong(e.to_string()))?,
            _ => {
                let hint = nearest(key, KEYS.into_iter().chain(TABLE.iter().map(|option| option.name)))
                    .map(|k| format!("; did you mean `{k}`?"))
                    .unwrap_or_default();
                return Err(wrong(format!("unknown key; known: {} and the runner options{hint}", KEYS.join(", "))));
            }
        }
    }
    // A plugin library is named for the one side's device; the processor is ONNX Runtime's own.
    if other.device == Device::Cpu && request.device != Device::Cpu && !named {
        other.ep_library = None;
    }
    if serde_json::to_value(&other).ok() == serde_json::to_value(request).ok() {
        return Err(Error::Usage(format!("--against {words}: both sides would be the same; say what differs")));
    }
    Ok(other)
}

/// One tensor of one track over all frames, as it is shown.
#[derive(Clone, Debug, Serialize)]
struct TensorComparison {
    #[serde(flatten)]
    difference: Difference,
    frames: usize,
    /// First frame on which the sides differ at all.
    first_frame_apart: Option<usize>,
    /// Largest absolute difference on every frame.
    max_abs_per_frame: Vec<f64>,
    /// Judged against the limits; inner tensors are shown only.
    judged: bool,
    pass: bool,
}

/// The masks of one track, as they are shown.
#[derive(Clone, Debug, Serialize)]
struct MaskComparison {
    clip: String,
    object: u32,
    prompt: PromptKind,
    iou: f64,
    min_iou: f64,
    max_differing_fraction: f64,
    first_frame_apart: Option<usize>,
    iou_per_frame: Vec<f64>,
    pass: bool,
}

/// A value per frame, and where the sides first differ.
#[derive(Debug, Default)]
struct PerFrame {
    values: Vec<f64>,
    apart: Option<usize>,
}

/// One track while it runs.
#[derive(Debug)]
struct TrackSeen {
    clip: String,
    object: u32,
    prompt: PromptKind,
    masks: MaskDifference,
    largest_share: f64,
    iou: PerFrame,
    /// By graph and tensor.
    tensors: BTreeMap<(String, String), (TensorDifference, PerFrame)>,
}

impl TrackSeen {
    fn tensors(&self, judge: &Judge) -> Vec<TensorComparison> {
        self.tensors
            .iter()
            .map(|((graph, tensor), (seen, frames))| {
                let difference = seen.figures(graph, tensor, &self.clip, self.object, self.prompt);
                let judged = matches!(tensor.as_str(), "low_res_mask" | "object_score" | "obj_ptr");
                TensorComparison {
                    frames: frames.values.len(),
                    first_frame_apart: frames.apart,
                    max_abs_per_frame: frames.values.clone(),
                    judged,
                    pass: !judged || judge.tensor_holds(&difference),
                    difference,
                }
            })
            .collect()
    }

    fn masks(&self, judge: &Judge) -> MaskComparison {
        MaskComparison {
            clip: self.clip.clone(),
            object: self.object,
            prompt: self.prompt,
            iou: self.masks.iou(),
            min_iou: 1.0 - self.masks.worst_frame,
            max_differing_fraction: self.largest_share,
            first_frame_apart: self.iou.apart,
            iou_per_frame: self.iou.values.clone(),
            pass: judge.masks_hold(&self.masks, self.largest_share),
        }
    }
}

pub(super) fn against_itself(args: &VerifyArgs, request: &OpenRequest, words: &str) -> Result<Outcome, Error> {
    let other = other_side(request, words)?;
    let pack = packs::describe(&request.pack, request.device)?;
    let (coarser, device) = judged(request, (other.dtype, other.device));
    let judge = Judge::new(args, golden::limits(&request.pack, coarser, device)?);
    let mut side = Side::start(&other, most(args))?;
    let mut tracks: BTreeMap<String, TrackSeen> = BTreeMap::new();
    let ours = golden::observe(request, most(args), &mut |seen| {
        let theirs = side.next().map_err(RunnerError::Inference)?;
        compare(&seen, &theirs, &mut tracks).map_err(RunnerError::Inference)
    });
    let ours = match ours {
        Ok(version) => version,
        // What the other side says is the cause, where it has said something.
        Err(error) => return Err(side.failure().unwrap_or_else(|| error.into())),
    };
    let theirs = side.finish()?;
    let comparisons: Vec<TensorComparison> = tracks.values().flat_map(|track| track.tensors(&judge)).collect();
    let masks: Vec<MaskComparison> = tracks.values().map(|track| track.masks(&judge)).collect();
    let pass = comparisons.iter().all(|c| c.pass) && masks.iter().all(|m| m.pass);
    let named = |r: &OpenRequest, runtime: &str| {
        json!({"pack": pack.id, "dtype": r.dtype, "device": r.device, "threads": r.options.threads,
            "onnxruntime": runtime})
    };
    let compared = Compared { pass, comparisons, masks, judge, sides: [named(request, &ours), named(&other, &theirs)] };
    let stdout = if args.json { compared.json_line() } else { compared.text() };
    Ok(Outcome { stdout, code: if pass { OK } else { NOT_VALID } })
}

/// Two sides beside each other.
struct Compared {
    pass: bool,
    comparisons: Vec<TensorComparison>,
    masks: Vec<MaskComparison>,
    judge: Judge,
    sides: [serde_json::Value; 2],
}

impl Compared {
    /// Smallest IoU and largest share of differing pixels of any frame.
    fn worst_masks(&self) -> (f64, f64) {
        let min_iou = self.masks.iter().map(|m| m.min_iou).fold(1.0, f64::min);
        (min_iou, self.masks.iter().map(|m| m.max_differing_fraction).fold(0.0, f64::max))
    }

    fn json_line(&self) -> String {
        let Compared { pass, comparisons, masks, judge, sides: [a, b] } = self;
        let size = |c: &TensorComparison| c.difference.max_abs.unwrap_or(f64::INFINITY);
        let worst = comparisons.iter().filter(|c| c.judged).max_by(|a, b| size(a).total_cmp(&size(b)));
        let (min_iou, differing) = self.worst_masks();
        let line = json!({"schema": 1, "pass": pass, "worst": worst.map(|c| &c.difference),
        "masks": {"min_iou": min_iou, "max_differing_fraction": differing}, "comparisons": comparisons,
        "mask_comparisons": masks, "tolerance": judge, "a": a, "b": b});
        format!("{line}\n")
    }

    fn text(&self) -> String {
        let Compared { pass, comparisons, masks, judge, sides: [a, b] } = self;
        let colours = stdout_colours();
        let mut text = format!("a: {a}\nb: {b}\n");
        for c in comparisons {
            let mark = match (c.judged, c.pass) {
                (false, _) => "    ".to_string(),
                (true, pass) => Mark::of(pass).word(colours),
            };
            let apart = c.first_frame_apart.map_or("nowhere".to_string(), |f| format!("from frame {f}"));
            let d = &c.difference;
            text.push_str(&format!(
            "{mark}  {} object {} {:6}  {:16} {:12}  max abs {} on frame {}, rel rms {} (median frame {}), apart {apart}\n",
            d.clip,
            d.object,
            d.prompt,
            d.graph,
            d.tensor,
            shown(d.max_abs),
            d.frame,
            shown(d.rel_rms),
            shown(d.typical_rel_rms)
        ));
        }
        for m in masks.iter().filter(|m| !m.pass) {
            let mark = Mark::Fail.word(colours);
            text.push_str(&format!("{mark}  {} object {} {:6}  masks: IoU {:.5}\n", m.clip, m.object, m.prompt, m.iou));
        }
        let (min_iou, differing) = self.worst_masks();
        text.push_str(&format!(
            "masks: smallest IoU of a frame {min_iou:.4}, at most {:.3} % of its pixels differ\n{}: allowed {}\n",
            differing * 100.0,
            if *pass { Mark::Ok.on("pass", colours) } else { Mark::Fail.word(colours) },
            judge.words()
        ));
        text
    }
}

/// Adds one object on one frame.
fn compare(ours: &Observation<'_>, theirs: &Shown, tracks: &mut BTreeMap<String, TrackSeen>) -> Result<(), String> {
    let place = (ours.clip, ours.object, ours.prompt, ours.frame);
    if place != (theirs.clip.as_str(), theirs.object, theirs.prompt, theirs.frame) {
        return Err(format!("the sides are out of step at clip {}, frame {}", ours.clip, ours.frame));
    }
    let track = tracks.entry(format!("{} {} {}", ours.clip, ours.object, ours.prompt)).or_insert_with(|| TrackSeen {
        clip: ours.clip.to_string(),
        object: ours.object,
        prompt: ours.prompt,
        masks: MaskDifference::default(),
        largest_share: 0.0,
        iou: PerFrame::default(),
        tensors: BTreeMap::new(),
    });
    for (graph, tensor, values) in &ours.tensors {
        // A GPU shows no inner tensors; what one side lacks is not compared.
        let Some(other) = theirs.tensors.iter().find(|t| t.0 == *graph && t.1 == *tensor) else { continue };
        if other.2.len() != values.len() {
            return Err(format!("{graph}: {tensor} has {} values here and {} there", values.len(), other.2.len()));
        }
        let (seen, frames) = track.tensors.entry((graph.to_string(), tensor.to_string())).or_default();
        let (max_abs, _) = seen.compare(ours.frame, values, &other.2, 0.0);
        frames.values.push(max_abs);
        if max_abs > 0.0 {
            frames.apart.get_or_insert(ours.frame);
        }
    }
    let there = Mask::from_runs(ours.mask.width(), ours.mask.height(), &theirs.runs)
        .ok_or_else(|| format!("clip {}, frame {}: masks of different sizes", ours.clip, ours.frame))?;
    let agreement = track.masks.compare(ours.mask, &there);
    let share = agreement.differing as f64 / (f64::from(there.width()) * f64::from(there.height()));
    track.largest_share = track.largest_share.max(share);
    track.iou.values.push(agreement.iou);
    if agreement.differing > 0 {
        track.iou.apart.get_or_insert(ours.frame);
    }
    Ok(())
}

/// What the other side showed of one object on one frame.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    clip: String,
    object: u32,
    prompt: PromptKind,
    frame: usize,
    tensors: Vec<(String, String, Vec<f32>)>,
    runs: Vec<u32>,
}

/// What the other side says.
#[derive(Debug, Serialize, Deserialize)]
enum SideLine {
    /// One object on one frame; so many values of each tensor follow, little endian.
    Shown(Shown, Vec<usize>),
    /// A frame of a pack that finds its objects itself; its tensors' values follow likewise.
    Frame(FrameAnswer, Vec<usize>),
    /// All was shown; the version of its ONNX Runtime.
    Done(String),
    /// It failed: exit code and text.
    Failed(u8, String),
}

/// The other side's process.
struct Side {
    child: std::process::Child,
    out: BufReader<std::process::ChildStdout>,
    said: Option<(u8, String)>,
}

impl Side {
    fn start(request: &OpenRequest, most: usize) -> Result<Side, Error> {
        let fault = |e: std::io::Error| Error::Environment(format!("cannot start the other side: {e}"));
        let mut command = Command::new(std::env::current_exe().map_err(fault)?);
        command.arg("verify-side").stdin(Stdio::piped()).stdout(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn().map_err(fault)?;
        if let Some(mut stdin) = child.stdin.take() {
            let text = serde_json::to_string(&(request, most)).map_err(|e| fault(e.into()))?;
            stdin.write_all(text.as_bytes()).map_err(fault)?;
        }
        let out = child.stdout.take().map(BufReader::new).ok_or_else(|| fault(std::io::Error::other("no output")))?;
        Ok(Side { child, out, said: None })
    }

    fn word(&mut self) -> Result<SideLine, String> {
        let ended = |e: std::io::Error| format!("the other side ended early: {e}");
        let mut length = [0; 8];
        self.out.read_exact(&mut length).map_err(ended)?;
        let mut text = vec![0; usize::try_from(u64::from_le_bytes(length)).unwrap_or(0).min(1 << 28)];
        self.out.read_exact(&mut text).map_err(ended)?;
        let mut word: SideLine =
            serde_json::from_slice(&text).map_err(|e| format!("the other side cannot be understood: {e}"))?;
        let (tensors, lengths): (Vec<&mut Vec<f32>>, &[usize]) = match &mut word {
            SideLine::Shown(shown, lengths) => (shown.tensors.iter_mut().map(|t| &mut t.2).collect(), lengths),
            SideLine::Frame(answer, lengths) => (answer.tensors.iter_mut().collect(), lengths),
            SideLine::Done(_) | SideLine::Failed(..) => (Vec::new(), &[]),
        };
        for (tensor, &length) in tensors.into_iter().zip(lengths) {
            let mut bytes = vec![0; length * 4];
            self.out.read_exact(&mut bytes).map_err(ended)?;
            *tensor = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        }
        Ok(word)
    }

    fn next(&mut self) -> Result<Shown, String> {
        match self.word()? {
            SideLine::Shown(shown, _) => Ok(shown),
            other => Err(self.ended(other)),
        }
    }

    fn next_frame(&mut self) -> Result<FrameAnswer, String> {
        match self.word()? {
            SideLine::Frame(answer, _) => Ok(answer),
            other => Err(self.ended(other)),
        }
    }

    /// Why nothing more comes.
    fn ended(&mut self, word: SideLine) -> String {
        match word {
            SideLine::Failed(code, text) => {
                self.said = Some((code, text.clone()));
                text
            }
            SideLine::Done(_) => "the other side showed less".to_string(),
            SideLine::Shown(..) | SideLine::Frame(..) => "the other side shows another kind of pack".to_string(),
        }
    }

    fn failure(&mut self) -> Option<Error> {
        let (code, text) = self.said.take()?;
        let text = format!("the other side: {text}");
        Some(match code {
            2 => Error::Usage(text),
            3 => Error::Environment(text),
            _ => Error::Failed(text),
        })
    }

    fn finish(mut self) -> Result<String, Error> {
        match self.word().map_err(Error::Failed)? {
            SideLine::Done(version) => Ok(version),
            _ => Err(Error::Failed("the other side showed more".into())),
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a word and the values of tensors that follow it.
fn put(out: &mut impl Write, word: &SideLine, tensors: &[&[f32]]) -> std::io::Result<()> {
    let text = serde_json::to_vec(word)?;
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)?;
    for value in tensors.iter().copied().flatten() {
        out.write_all(&value.to_le_bytes())?;
    }
    out.flush()
}

/// Shows all that the pack of a request gives, by its kind; gives the version of ONNX Runtime.
fn show(request: &OpenRequest, most: usize, out: &mut impl Write) -> Result<String, RunnerError> {
    let unsaid = |e: std::io::Error| RunnerError::Inference(e.to_string());
    let pack = packs::describe(&request.pack, request.device)?;
    let mut see_frame = |mut seen: FrameAnswer| {
        let lengths = seen.tensors.iter().map(Vec::len).collect();
        let values = std::mem::take(&mut seen.tensors);
        seen.tensors = vec![Vec::new(); values.len()];
        let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        put(out, &SideLine::Frame(seen, lengths), &values).map_err(unsaid)
    };
    if pack.family == DVIS_DAQ {
        return chains::observe(request, most, &mut see_frame);
    }
    if pack.finds_and_tracks() {
        return tubes::observe(request, most, &mut see_frame);
    }
    if pack.detects {
        return detections::observe(request, most, &mut see_frame);
    }
    golden::observe(request, most, &mut |seen| {
        let shown = Shown {
            clip: seen.clip.to_string(),
            object: seen.object,
            prompt: seen.prompt,
            frame: seen.frame,
            tensors: seen.tensors.iter().map(|t| (t.0.to_string(), t.1.to_string(), Vec::new())).collect(),
            runs: seen.mask.to_runs(),
        };
        let lengths = seen.tensors.iter().map(|t| t.2.len()).collect();
        let values: Vec<&[f32]> = seen.tensors.iter().map(|t| t.2.as_slice()).collect();
        put(out, &SideLine::Shown(shown, lengths), &values).map_err(unsaid)
    })
}

/// The other side: request and number of frames as JSON on stdin, what came out on stdout.
pub fn side() -> u8 {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut text = String::new();
    let request = std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())
        .and_then(|_| serde_json::from_str::<(OpenRequest, usize)>(&text).map_err(|e| e.to_string()));
    let result = request.map_err(RunnerError::Usage).and_then(|(request, most)| show(&request, most, &mut out));
    let word = match result {
        Ok(version) => SideLine::Done(version),
        Err(error) => {
            let stop = Error::from(error);
            SideLine::Failed(stop.code(), stop.to_string())
        }
    };
    match put(&mut out, &word, &[]) {
        Ok(()) => OK,
        Err(_) => NOT_VALID,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn request() -> OpenRequest {
        OpenRequest::new("p", Dtype::Fp32, Device::Cpu)
    }

    #[test]
    fn the_other_side_differs_by_what_is_said() {
        let other = other_side(&request(), "dtype=bf16, threads=1,ort-lib=/x.so").unwrap();
        assert_eq!((other.dtype, other.options.threads), (Dtype::Bf16, Some(1)));
        assert_eq!(other.ort_lib.as_deref(), Some(Path::new("/x.so")));
        for (words, said) in [
            ("dytpe=bf16", "did you mean `dtype`?"),
            ("dtype", "expected KEY=VALUE"),
            ("device=npu", "unknown device"),
            ("dtype=fp32", "both sides would be the same"),
        ] {
            let error = other_side(&request(), words).unwrap_err();
            assert!(error.code() == 2 && error.to_string().contains(said), "{words}: {error}");
        }
    }

    #[test]
    fn a_plugin_library_is_for_the_device_of_its_side() {
        let plugin = OpenRequest { device: Device::WebGpu(0), ep_library: Some("l.so".into()), ..request() };
        assert_eq!(other_side(&plugin, "device=cpu").unwrap().ep_library, None, "the processor is the runtime's own");
        let kept = other_side(&plugin, "dtype=fp16").unwrap().ep_library;
        assert_eq!(kept.as_deref(), Some(Path::new("l.so")));
        let named = other_side(&request(), "device=webgpu:0,ep-library=m.so").unwrap().ep_library;
        assert_eq!(named.as_deref(), Some(Path::new("m.so")));
    }

    #[test]
    fn differences_are_found_with_their_frame() {
        let mut tracks = BTreeMap::new();
        for frame in 0..3 {
            let mask = Mask::from_fn(10, 10, |x, _| x < 5);
            let there = Mask::from_fn(10, 10, |x, y| x < 5 || (frame == 2 && x == 5 && y < 3));
            let seen = Observation {
                clip: "c",
                object: 1,
                prompt: PromptKind::Mask,
                frame,
                tensors: vec![("image_encoder", "image_embed", vec![9.0]), ("mask_decoder", "obj_ptr", vec![3.0, 4.0])],
                mask: &mask,
            };
            let pointer = vec![3.0 + 0.1 * frame as f32, 4.0];
            let shown = Shown {
                clip: "c".into(),
                object: 1,
                prompt: PromptKind::Mask,
                frame,
                tensors: vec![("mask_decoder".into(), "obj_ptr".into(), pointer)],
                runs: there.to_runs(),
            };
            compare(&seen, &shown, &mut tracks).unwrap();
        }
        let judge = Judge { limits: LIMITS, max_abs: Some(0.1), max_rel_rms: None, max_mask_share: Some(0.01) };
        let track = tracks.values().next().unwrap();
        let tensors = track.tensors(&judge);
        assert_eq!(tensors.len(), 1, "a tensor that one side lacks is not compared");
        let (c, d) = (&tensors[0], &tensors[0].difference);
        assert_eq!((d.frame, c.first_frame_apart, c.pass, c.frames), (2, Some(1), false, 3));
        let rel_rms = 0.2 / (3.2f64.powi(2) + 16.0).sqrt();
        assert!((d.max_abs.unwrap() - 0.2).abs() < 1e-6 && (d.rel_rms.unwrap() - rel_rms).abs() < 1e-6);
        let m = track.masks(&judge);
        assert_eq!((m.first_frame_apart, m.pass, m.iou_per_frame.len()), (Some(2), false, 3));
        assert!((m.min_iou - 50.0 / 53.0).abs() < 1e-9 && (m.max_differing_fraction - 0.03).abs() < 1e-9);
        // Without flags the limits of the reference hold.
        let judge = Judge { max_abs: None, max_mask_share: None, ..judge };
        assert!(
            !track.tensors(&judge)[0].pass && track.masks(&judge).pass,
            "the pointer is too far off, the mask is not"
        );
    }

    const LIMITS: Limits =
        Limits { mask_pixels: 0.02, iou: 0.5, typical: 0.01, prompted: None, systematic: None, worst: None };
}
