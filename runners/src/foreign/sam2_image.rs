//! SAM 2 in image mode: other people's two-graph exports (the onnx-community layout: `vision_encoder` and
//! `prompt_encoder_mask_decoder`), which have no memory. Every frame is segmented for itself and prompted with the tight
//! box of the object's last non-empty mask; the first frame with the user's clicks or box. This is the baseline that shows
//! what memory is worth, and it runs under a family and runner name of its own so that nobody takes it for tracking.
//!
//! Of the decoder's candidate masks the one with the highest predicted IoU is taken, as that export offers no other
//! choice. A box goes in as two points with the labels of corners. Where the object score is not positive the mask is
//! empty and the last box stays.

use std::path::Path;

use ort::memory::Allocator;
use ort::session::SessionInputValue;
use ort::value::{DynValue, Tensor};

use crate::frame::{Preprocess, Thresholder};
use crate::host::loader::{GraphRequest, PackLoader};
use crate::host::session::{GraphSession, failed};
use crate::host::settings::SessionSettings;
use crate::host::tensor::{FloatTensor, tensor};
use crate::manifest::TensorType;
use crate::pack::Pack;
use crate::requirements::{self, GraphRequirement, ShapeRequirement, TensorRequirement};
use crate::runner::{Entry, Runner, RunnerError};
use crate::sam::contract::{capabilities, read};
use crate::types::{
    Capabilities, Device, Dtype, Frame, FrameMasks, Mask, ObjectMask, OpenReport, OpenRequest, Prompt, PromptShape,
    Stage, StageClock, StagePrecision, StageTimes,
};

/// Registry entry of the `sam2_image` family.
pub const ENTRY: Entry = Entry {
    family: "sam2_image",
    aliases: &[],
    summary: "SAM 2 in image mode (onnx-community exports): each frame prompted with the last mask's box, no memory",
    hidden: false,
    detects: false,
    describe,
    check,
    open,
    compose: None,
};

const ENCODER: &str = "vision_encoder";
const DECODER: &str = "prompt_encoder_mask_decoder";
const FEATURES: [&str; 3] = ["image_embeddings.0", "image_embeddings.1", "image_embeddings.2"];
const RESULTS: [&str; 3] = ["iou_scores", "pred_masks", "object_score_logits"];

/// The two graphs with the tensors that this runner feeds and reads; shapes are the export's own.
fn contract(pack: &Pack) -> Result<(), RunnerError> {
    let tensor = |name, dtypes| TensorRequirement { name, dtypes, shape: ShapeRequirement::Any };
    let floats =
        |names: &[&'static str]| names.iter().map(|&name| tensor(name, &[TensorType::F32])).collect::<Vec<_>>();
    let mut prompts = floats(&["input_points", "input_boxes"]);
    prompts.push(tensor("input_labels", &[TensorType::I64]));
    prompts.extend(floats(&FEATURES));
    let graphs = [
        GraphRequirement { name: ENCODER, inputs: floats(&["pixel_values"]), outputs: floats(&FEATURES) },
        GraphRequirement { name: DECODER, inputs: prompts, outputs: floats(&RESULTS) },
    ];
    requirements::check(pack, &graphs)?;
    requirements::no_mask_prompts(pack)
}

fn describe(dir: &Path, device: Device) -> Result<Capabilities, RunnerError> {
    Ok(capabilities(&read(dir, contract)?.0, false, device))
}

fn check(dir: &Path, precision: Dtype) -> Result<(), RunnerError> {
    read(dir, contract)?.0.check(precision)
}

fn open(request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    Ok(Box::new(ImageMode::open(request)?))
}

/// One object: what the next frame is prompted with, in model pixels.
struct PromptedObject {
    object: u32,
    points: Vec<([f32; 2], i32)>,
}

/// An open runner.
struct ImageMode {
    tracks: Vec<PromptedObject>,
    pixels: FloatTensor,
    /// No boxes: `[1, 0, 4]`.
    no_boxes: FloatTensor,
    encoder: GraphSession,
    decoder: GraphSession,
    capabilities: Capabilities,
    report: OpenReport,
    size: u32,
    /// Does a pixel that several objects claim go to one of them?
    exclusive: bool,
    preprocess: Preprocess,
    thresholder: Thresholder,
    /// Are stage times taken?
    stage_times: bool,
    times: StageTimes,
}

impl ImageMode {
    fn open(request: &OpenRequest) -> Result<Self, RunnerError> {
        let (pack, ()) = read(&request.pack, contract)?;
        let settings = SessionSettings::of(request)?;
        let mut loader = PackLoader::begin(&pack, &settings, request.ort_lib.as_deref())?;
        let wanted = |name| GraphRequest { name, settings: &settings, on_device: false, edge: None };
        let [encoder, decoder] = loader.graphs([ENCODER, DECODER].map(wanted))?;
        let mut report = loader.end();
        report
            .notes
            .push("image mode: no memory; each frame is prompted with the box of the last non-empty mask".to_string());
        if settings.on_gpu() {
            report
                .notes
                .push("image features pass through the host between the two graphs; that is in the times".to_string());
        }
        let host = Allocator::default();
        let size = pack.manifest.input.size;
        Ok(ImageMode {
            tracks: Vec::new(),
            pixels: tensor(&host, &[1, 3, i64::from(size), i64::from(size)])?,
            no_boxes: tensor(&host, &[1, 0, 4])?,
            encoder,
            decoder,
            capabilities: capabilities(&pack, false, request.device),
            report,
            size,
            exclusive: settings.exclusive(),
            preprocess: Preprocess::new(&pack.manifest.input),
            thresholder: Thresholder::default(),
            stage_times: settings.stage_times(),
            times: StageTimes::default(),
        })
    }

    /// Candidate masks of one object from its points: scores, logits with their side, object score.
    fn decode(&mut self, features: &[DynValue], points: &[([f32; 2], i32)]) -> Result<MaskCandidate, RunnerError> {
        let count = points.len();
        let coords: Vec<f32> = points.iter().flat_map(|(at, _)| *at).collect();
        let labels: Vec<i64> = points.iter().map(|(_, label)| i64::from(*label)).collect();
        let coords = Tensor::from_array(([1, 1, count, 2], coords)).map_err(|e| failed(DECODER, e))?;
        let labels = Tensor::from_array(([1, 1, count], labels)).map_err(|e| failed(DECODER, e))?;
        let mut inputs: Vec<(&str, SessionInputValue<'_>)> = vec![
            ("input_points", SessionInputValue::from(&coords)),
            ("input_labels", SessionInputValue::from(&labels)),
            ("input_boxes", SessionInputValue::from(&self.no_boxes)),
        ];
        inputs.extend(FEATURES.iter().zip(features).map(|(name, value)| (*name, SessionInputValue::from(value))));
        let results = self.decoder.run_values(inputs, &RESULTS)?;
        let floats = |i: usize| results[i].try_extract_tensor::<f32>().map_err(|e| failed(DECODER, e));
        let ((_, ious), (shape, masks), (_, scores)) = (floats(0)?, floats(1)?, floats(2)?);
        let side = match shape.as_ref() {
            [1, 1, n, height, width] if height == width && *n >= 1 && ious.len() == *n as usize => *width as usize,
            other => {
                return Err(RunnerError::Pack(format!(
                    "graph `{DECODER}`: pred_masks has shape {other:?} and iou_scores {} values; [1, 1, masks, side, side] \
                     and one value per mask expected",
                    ious.len()
                )));
            }
        };
        let (Some(&object_score), Some((best, &iou))) =
            (scores.first(), ious.iter().enumerate().reduce(|a, b| if b.1 > a.1 { b } else { a }))
        else {
            return Err(failed(DECODER, "no scores"));
        };
        let low_res = masks[best * side * side..(best + 1) * side * side].to_vec();
        Ok(MaskCandidate { low_res, side, iou, object_score })
    }
}

/// The chosen candidate.
struct MaskCandidate {
    low_res: Vec<f32>,
    side: usize,
    iou: f32,
    object_score: f32,
}

impl Runner for ImageMode {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn precision(&self) -> Vec<StagePrecision> {
        vec![self.encoder.precision.clone(), self.decoder.precision.clone()]
    }

    fn open_report(&self) -> &OpenReport {
        &self.report
    }

    fn reset(&mut self) {
        self.tracks.clear();
    }

    fn step(&mut self, frame: Frame<'_>, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError> {
        crate::runner::check_frame(frame)?;
        let live: Vec<u32> = self.tracks.iter().map(|track| track.object).collect();
        crate::runner::check_prompts(&self.capabilities, frame, prompts, &live)?;
        self.times = StageTimes::default();
        let mut clock = StageClock::start(self.stage_times);
        self.preprocess.fill(frame, self.pixels.extract_tensor_mut().1)?;
        clock.lap(&mut self.times, Stage::Preprocess);
        let features =
            self.encoder.run_values(vec![("pixel_values", SessionInputValue::from(&self.pixels))], &FEATURES)?;
        clock.lap(&mut self.times, Stage::ImageEncoder);

        let mut tracks = std::mem::take(&mut self.tracks);
        tracks.extend(
            prompts
                .iter()
                .map(|prompt| PromptedObject { object: prompt.object, points: prompt.shape.points(frame, self.size) }),
        );
        let mut masks = FrameMasks::default();
        let (mut planes, mut side) = (Vec::new(), 0);
        for track in &mut tracks {
            let found = self.decode(&features, &track.points)?;
            clock.lap(&mut self.times, Stage::MaskDecoder);
            let mask = if found.object_score > 0.0 {
                self.thresholder.mask(&found.low_res, found.side, frame.width, frame.height)
            } else {
                Mask::empty(frame.width, frame.height)
            };
            if let Some(corners) = mask.corners() {
                track.points = PromptShape::Bbox(corners.map(|at| at as f32)).points(frame, self.size);
            }
            if self.exclusive {
                if side != 0 && side != found.side {
                    return Err(RunnerError::Pack(format!(
                        "graph `{DECODER}`: masks of {side} and {} pixels for objects of one frame",
                        found.side
                    )));
                }
                side = found.side;
                planes.extend_from_slice(&found.low_res);
            }
            masks.objects.push(ObjectMask {
                object: track.object,
                claimed: !mask.is_empty(),
                mask,
                object_score: found.object_score,
                predicted_iou: found.iou,
                finite: found.object_score.is_finite() && found.low_res.iter().all(|v| v.is_finite()),
            });
            clock.lap(&mut self.times, Stage::Postprocess);
        }
        self.tracks = tracks;
        if self.exclusive && masks.objects.len() > 1 {
            self.thresholder.resolve_overlaps(&mut masks.objects, &planes, side);
            clock.lap(&mut self.times, Stage::Postprocess);
        }
        Ok(masks)
    }

    fn take_stage_times(&mut self) -> StageTimes {
        std::mem::take(&mut self.times)
    }
}
