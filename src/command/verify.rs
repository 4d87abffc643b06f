//! `jetbench verify PACK`: does a pack give here what it should? Against its golden reference from PyTorch; or, with
//! `--against`, here and now against itself on another device, in another precision, with other threads or another ONNX
//! Runtime. The other side runs in a process of its own, because a process can load one ONNX Runtime only, and both are
//! compared frame by frame while they run.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use jetbench_runners::golden::{self, GoldenReport, Observation};
use jetbench_runners::options::FORM;
use jetbench_runners::types::{Device, Dtype, Mask, OpenRequest, Options, PromptKind};
use jetbench_runners::{RunnerError, packs};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::VerifyArgs;
use crate::exit::{Error, NOT_VALID, OK, Outcome, nearest};

/// Runs the golden clips of a pack.
///
/// # Errors
/// The pack is broken or has no reference (exit 2), the runtime or device is missing (exit 3), the model fails (exit 1).
pub fn verify(args: &VerifyArgs) -> Result<Outcome, Error> {
    let request = OpenRequest {
        pack: args.pack.clone(),
        dtype: args.dtype,
        device: args.device,
        options: Options { threads: args.threads.map(Into::into), ..Options::default() },
        ort_lib: args.ort_lib.clone(),
    };
    match &args.against {
        None => against_reference(args, &request),
        Some(words) => against_itself(args, &request, words),
    }
}

/// Frames of each clip that are run.
fn most(args: &VerifyArgs) -> usize {
    args.frames.map_or(usize::MAX, usize::from)
}

fn against_reference(args: &VerifyArgs, request: &OpenRequest) -> Result<Outcome, Error> {
    let report = golden::verify_first(request, most(args))?;
    let code = if report.pass { OK } else { NOT_VALID };
    if !args.json {
        return Ok(Outcome { stdout: text(&report, &args.pack), code });
    }
    let min_iou = report.tracks.iter().map(|t| t.min_iou).fold(1.0, f64::min);
    let differing = report.tracks.iter().map(|t| t.max_differing_fraction).fold(0.0, f64::max);
    let line = json!({"schema": 1, "pass": report.pass, "worst": report.worst,
        "masks": {"min_iou": min_iou, "max_differing_fraction": differing}, "comparisons": report.tracks,
        "a": {"pack": report.pack, "dtype": report.precision, "device": report.device, "onnxruntime": report.runtime},
        "b": {"reference": "golden outputs of the pack"}, "tolerance": report.tolerance, "failures": report.failures});
    Ok(Outcome { stdout: format!("{line}\n"), code })
}

/// How far two sides may lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Tolerances {
    /// Mask logits, scores and pointers: largest absolute difference; `None`: not judged.
    max_abs: Option<f64>,
    /// Mask logits and pointers: relative root mean square; `None`: not judged.
    rel_rms: Option<f64>,
    /// Share of a frame's mask pixels.
    mask_pixels: f64,
}

impl Tolerances {
    /// The same precision must give the golden tolerance. Another one rounds every operand: 2 % of a frame's pixels and a
    /// tenth of the logits' size are what this program allows; all can be said otherwise.
    fn new(args: &VerifyArgs, same_precision: bool, tolerance: f64) -> Tolerances {
        let base = match same_precision {
            true => Tolerances { max_abs: Some(tolerance), rel_rms: None, mask_pixels: 1e-3 },
            false => Tolerances { max_abs: None, rel_rms: Some(0.1), mask_pixels: 0.02 },
        };
        Tolerances {
            max_abs: args.max_abs.or(base.max_abs.filter(|_| args.max_rel_rms.is_none())),
            rel_rms: args.max_rel_rms.or(base.rel_rms.filter(|_| args.max_abs.is_none())),
            mask_pixels: args.max_mask_share.unwrap_or(base.mask_pixels),
        }
    }

    fn holds(&self, max_abs: f64, rel_rms: f64) -> bool {
        self.max_abs.is_none_or(|limit| max_abs <= limit) && self.rel_rms.is_none_or(|limit| rel_rms <= limit)
    }
}

/// The request of the other side: the same but for what the words say.
fn other_side(request: &OpenRequest, words: &str) -> Result<OpenRequest, Error> {
    const KEYS: [&str; 5] = ["device", "dtype", "threads", "ort-lib", FORM];
    let mut other = request.clone();
    for word in words.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        let wrong = |e: String| Error::Usage(format!("--against {word}: {e}"));
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| wrong(format!("expected KEY=VALUE with a key of {}", KEYS.join(", "))))?;
        match key {
            "device" => other.device = value.parse::<Device>().map_err(|e| wrong(e.to_string()))?,
            "dtype" => other.dtype = value.parse::<Dtype>().map_err(|e| wrong(e.to_string()))?,
            "threads" | FORM => other.options.set(key, value).map_err(|e| wrong(e.to_string()))?,
            "ort-lib" => other.ort_lib = Some(value.into()),
            _ => {
                let hint = nearest(key, KEYS).map(|k| format!("; did you mean `{k}`?")).unwrap_or_default();
                return Err(wrong(format!("unknown key; known: {}{hint}", KEYS.join(", "))));
            }
        }
    }
    if serde_json::to_value(&other).ok() == serde_json::to_value(request).ok() {
        return Err(Error::Usage(format!("--against {words}: both sides would be the same; say what differs")));
    }
    Ok(other)
}

/// One tensor of one track over all frames.
#[derive(Clone, Debug, Default, Serialize)]
struct TensorComparison {
    clip: String,
    object: u32,
    prompt: String,
    graph: String,
    tensor: String,
    frames: usize,
    /// Largest absolute difference (JSON null when not finite) and the frame it is on.
    max_abs: f64,
    frame: usize,
    /// Relative root mean square on the worst frame.
    rel_rms: f64,
    /// First frame on which the sides differ at all.
    first_frame_apart: Option<usize>,
    /// Largest absolute difference on every frame.
    max_abs_per_frame: Vec<f64>,
    /// Judged against the limits; inner tensors are shown only.
    judged: bool,
    pass: bool,
}

/// The masks of one track.
#[derive(Clone, Debug, Default, Serialize)]
struct MaskComparison {
    clip: String,
    object: u32,
    prompt: String,
    min_iou: f64,
    max_differing_fraction: f64,
    first_frame_apart: Option<usize>,
    iou_per_frame: Vec<f64>,
    pass: bool,
}

fn against_itself(args: &VerifyArgs, request: &OpenRequest, words: &str) -> Result<Outcome, Error> {
    let other = other_side(request, words)?;
    let pack = packs::describe(&request.pack, request.device)?;
    let tolerance = golden::promised_tolerance(&request.pack)?.unwrap_or(1e-3);
    let limits = Tolerances::new(args, request.dtype == other.dtype, tolerance);
    let mut side = Side::start(&other, most(args))?;
    let mut tensors: BTreeMap<String, TensorComparison> = BTreeMap::new();
    let mut masks: BTreeMap<String, MaskComparison> = BTreeMap::new();
    let ours = golden::observe(request, most(args), &mut |seen| {
        let theirs = side.next().map_err(RunnerError::Inference)?;
        compare(&seen, &theirs, &limits, &mut tensors, &mut masks).map_err(RunnerError::Inference)
    });
    let ours = match ours {
        Ok(version) => version,
        // What the other side says is the cause, where it has said something.
        Err(error) => return Err(side.failure().unwrap_or_else(|| error.into())),
    };
    let theirs = side.finish()?;
    let comparisons: Vec<TensorComparison> = tensors.into_values().collect();
    let masks: Vec<MaskComparison> = masks.into_values().collect();
    let pass = comparisons.iter().all(|c| c.pass) && masks.iter().all(|m| m.pass);
    let worst = comparisons.iter().filter(|c| c.judged).max_by(|a, b| match limits.max_abs {
        Some(_) => a.max_abs.total_cmp(&b.max_abs),
        None => a.rel_rms.total_cmp(&b.rel_rms),
    });
    let min_iou = masks.iter().map(|m| m.min_iou).fold(1.0, f64::min);
    let differing = masks.iter().map(|m| m.max_differing_fraction).fold(0.0, f64::max);
    let code = if pass { OK } else { NOT_VALID };
    let named = |r: &OpenRequest, runtime: &str| {
        json!({"pack": pack.id, "dtype": r.dtype, "device": r.device, "threads": r.options.threads,
            "onnxruntime": runtime})
    };
    if args.json {
        let worst = worst.map(|w| {
            json!({"graph": w.graph, "tensor": w.tensor, "frame": w.frame, "max_abs": w.max_abs, "rel_rms": w.rel_rms,
                "clip": w.clip, "object": w.object, "prompt": w.prompt})
        });
        let line = json!({"schema": 1, "pass": pass, "worst": worst,
            "masks": {"min_iou": min_iou, "max_differing_fraction": differing}, "comparisons": comparisons,
            "mask_comparisons": masks, "tolerance": limits, "a": named(request, &ours), "b": named(&other, &theirs)});
        return Ok(Outcome { stdout: format!("{line}\n"), code });
    }
    let mut text = format!("a: {}\nb: {}\n", named(request, &ours), named(&other, &theirs));
    for c in &comparisons {
        let mark = match (c.judged, c.pass) {
            (false, _) => "    ",
            (true, true) => "ok  ",
            (true, false) => "FAIL",
        };
        let apart = c.first_frame_apart.map_or("nowhere".to_string(), |f| format!("from frame {f}"));
        text.push_str(&format!(
            "{mark}  {} object {} {:6}  {:16} {:12}  max abs {:.1e} on frame {}, rel rms {:.1e}, apart {apart}\n",
            c.clip, c.object, c.prompt, c.graph, c.tensor, c.max_abs, c.frame, c.rel_rms
        ));
    }
    let limit = |what: &str, l: Option<f64>| l.map_or(String::new(), |l| format!("{what} {l:.0e}, "));
    text.push_str(&format!(
        "masks: smallest IoU {min_iou:.4}, at most {:.3} % of a frame's pixels differ\n{}: allowed {}{}{} % of a frame's \
         mask pixels\n",
        differing * 100.0,
        if pass { "pass" } else { "FAIL" },
        limit("max abs", limits.max_abs),
        limit("rel rms", limits.rel_rms),
        limits.mask_pixels * 100.0
    ));
    Ok(Outcome { stdout: text, code })
}

/// Adds one object on one frame.
fn compare(
    ours: &Observation<'_>,
    theirs: &Shown,
    limits: &Tolerances,
    tensors: &mut BTreeMap<String, TensorComparison>,
    masks: &mut BTreeMap<String, MaskComparison>,
) -> Result<(), String> {
    let place = (ours.clip, ours.object, ours.prompt, ours.frame);
    if place != (theirs.clip.as_str(), theirs.object, theirs.prompt, theirs.frame) {
        return Err(format!("the sides are out of step at clip {}, frame {}", ours.clip, ours.frame));
    }
    let track = format!("{} {} {}", ours.clip, ours.object, ours.prompt);
    for (graph, tensor, values) in &ours.tensors {
        // A GPU shows no inner tensors; what one side lacks is not compared.
        let Some(other) = theirs.tensors.iter().find(|t| t.0 == *graph && t.1 == *tensor) else { continue };
        if other.2.len() != values.len() {
            return Err(format!("{graph}: {tensor} has {} values here and {} there", values.len(), other.2.len()));
        }
        let (max_abs, rel_rms) = golden::difference(values, &other.2);
        let entry = tensors.entry(format!("{track} {graph} {tensor}")).or_insert_with(|| TensorComparison {
            clip: ours.clip.to_string(),
            object: ours.object,
            prompt: ours.prompt.to_string(),
            graph: (*graph).to_string(),
            tensor: (*tensor).to_string(),
            judged: matches!(*tensor, "low_res_mask" | "object_score" | "obj_ptr"),
            pass: true,
            ..TensorComparison::default()
        });
        entry.frames += 1;
        if max_abs > entry.max_abs {
            (entry.max_abs, entry.frame) = (max_abs, ours.frame);
        }
        entry.rel_rms = entry.rel_rms.max(rel_rms);
        entry.max_abs_per_frame.push(max_abs);
        if max_abs > 0.0 {
            entry.first_frame_apart.get_or_insert(ours.frame);
        }
        // One number has no size of its own: a score near 0 would be far off in relation to itself.
        let rel_rms = if values.len() > 1 { rel_rms } else { 0.0 };
        entry.pass &= !entry.judged || limits.holds(max_abs, rel_rms);
    }
    let there = Mask::from_runs(ours.mask.width(), ours.mask.height(), &theirs.runs)
        .ok_or_else(|| format!("clip {}, frame {}: masks of different sizes", ours.clip, ours.frame))?;
    let agreement = golden::agreement(ours.mask, &there);
    let share = agreement.differing as f64 / (f64::from(there.width()) * f64::from(there.height()));
    let entry = masks.entry(track).or_insert_with(|| MaskComparison {
        clip: ours.clip.to_string(),
        object: ours.object,
        prompt: ours.prompt.to_string(),
        min_iou: 1.0,
        pass: true,
        ..MaskComparison::default()
    });
    entry.min_iou = entry.min_iou.min(agreement.iou);
    entry.max_differing_fraction = entry.max_differing_fraction.max(share);
    entry.iou_per_frame.push(agreement.iou);
    if agreement.differing > 0 {
        entry.first_frame_apart.get_or_insert(ours.frame);
    }
    entry.pass &= share <= limits.mask_pixels;
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
        let mut child = Command::new(std::env::current_exe().map_err(fault)?)
            .arg("verify-side")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fault)?;
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
        if let SideLine::Shown(shown, lengths) = &mut word {
            for (tensor, &length) in shown.tensors.iter_mut().zip(lengths.iter()) {
                let mut bytes = vec![0; length * 4];
                self.out.read_exact(&mut bytes).map_err(ended)?;
                tensor.2 = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            }
        }
        Ok(word)
    }

    fn next(&mut self) -> Result<Shown, String> {
        match self.word()? {
            SideLine::Shown(shown, _) => Ok(shown),
            SideLine::Done(_) => Err("the other side showed less".into()),
            SideLine::Failed(code, text) => {
                self.said = Some((code, text.clone()));
                Err(text)
            }
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

/// The other side: request and number of frames as JSON on stdin, what came out on stdout.
pub fn side() -> u8 {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut say = |word: &SideLine, tensors: &[(&'static str, &'static str, Vec<f32>)]| -> std::io::Result<()> {
        let text = serde_json::to_vec(word)?;
        out.write_all(&(text.len() as u64).to_le_bytes())?;
        out.write_all(&text)?;
        for value in tensors.iter().flat_map(|t| &t.2) {
            out.write_all(&value.to_le_bytes())?;
        }
        out.flush()
    };
    let mut text = String::new();
    let request = std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())
        .and_then(|_| serde_json::from_str::<(OpenRequest, usize)>(&text).map_err(|e| e.to_string()));
    let result = request.map_err(RunnerError::Usage).and_then(|(request, most)| {
        golden::observe(&request, most, &mut |seen| {
            let shown = Shown {
                clip: seen.clip.to_string(),
                object: seen.object,
                prompt: seen.prompt,
                frame: seen.frame,
                tensors: seen.tensors.iter().map(|t| (t.0.to_string(), t.1.to_string(), Vec::new())).collect(),
                runs: seen.mask.to_runs(),
            };
            let lengths = seen.tensors.iter().map(|t| t.2.len()).collect();
            say(&SideLine::Shown(shown, lengths), &seen.tensors).map_err(|e| RunnerError::Inference(e.to_string()))
        })
    });
    let word = match result {
        Ok(version) => SideLine::Done(version),
        Err(error) => {
            let stop = Error::from(error);
            SideLine::Failed(stop.code(), stop.to_string())
        }
    };
    match say(&word, &[]) {
        Ok(()) => OK,
        Err(_) => NOT_VALID,
    }
}

fn text(report: &GoldenReport, pack: &Path) -> String {
    let mut text = format!(
        "{} ({}), {} on {}, ONNX Runtime {}\n",
        report.pack,
        pack.display(),
        report.precision,
        report.device,
        report.runtime
    );
    for track in &report.tracks {
        let worst: Vec<String> = track
            .differences
            .iter()
            .map(|d| format!("{} {}", d.tensor, report.tolerance.of(&d.tensor).shown(d)))
            .collect();
        text.push_str(&format!(
            "{}  {} object {} {:6}  {} frames, {} with the object  {}  mask pixels {} of {}\n",
            if track.pass { "ok  " } else { "FAIL" },
            track.clip,
            track.object,
            track.prompt,
            track.frames,
            track.present,
            worst.join("  "),
            track.mask_pixels,
            track.mask_pixels_of
        ));
    }
    if let Some(worst) = &report.worst {
        text.push_str(&format!(
            "worst: {} of {}, clip {}, object {} ({}), frame {}: {}\n",
            worst.tensor,
            worst.graph,
            worst.clip,
            worst.object,
            worst.prompt,
            worst.frame,
            worst.max_abs.map_or("not finite".to_string(), |v| format!("{v:.3e}"))
        ));
    }
    for failure in &report.failures {
        text.push_str(&format!("failure: {failure}\n"));
    }
    let limits = &report.tolerance;
    let allowed: Vec<String> =
        [("logits", limits.low_res), ("object scores", limits.object_score), ("pointers", limits.obj_ptr)]
            .into_iter()
            .filter_map(|(what, allowed)| Some(format!("{} for {what}", allowed.words()?)))
            .chain([format!("{:.2} % of mask pixels", limits.mask_pixels * 100.0)])
            .collect();
    let mark = if report.pass { "pass" } else { "FAIL" };
    text.push_str(&format!("{mark}: allowed {}\n", allowed.join(", ")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> OpenRequest {
        OpenRequest {
            pack: "p".into(),
            dtype: Dtype::Fp32,
            device: Device::Cpu,
            options: Options::default(),
            ort_lib: None,
        }
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
    fn differences_are_found_with_their_frame() {
        let limits = Tolerances { max_abs: Some(0.1), rel_rms: None, mask_pixels: 0.01 };
        let (mut tensors, mut masks) = (BTreeMap::new(), BTreeMap::new());
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
            compare(&seen, &shown, &limits, &mut tensors, &mut masks).unwrap();
        }
        assert_eq!(tensors.len(), 1, "a tensor that one side lacks is not compared");
        let c = tensors.values().next().unwrap();
        assert_eq!((c.frame, c.first_frame_apart, c.pass, c.frames), (2, Some(1), false, 3));
        assert!((c.max_abs - 0.2).abs() < 1e-6 && (c.rel_rms - 0.2 / (3.2f64.powi(2) + 16.0).sqrt()).abs() < 1e-6);
        let m = masks.values().next().unwrap();
        assert_eq!((m.first_frame_apart, m.pass, m.iou_per_frame.len()), (Some(2), false, 3));
        assert!((m.min_iou - 50.0 / 53.0).abs() < 1e-9 && (m.max_differing_fraction - 0.03).abs() < 1e-9);
    }
}
