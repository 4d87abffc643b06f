//! SAM 2.0 as other people export it for video (the SAM2Export layout): `image_encoder`, `memory_attention`,
//! `image_decoder` and `memory_encoder`, where the memory is a list that the caller keeps. Every memory and object pointer
//! comes to the host after a frame and goes back for the next, in inputs that grow until all slots are filled; that work
//! is part of these graphs' contract, so it is in the times (stage `memory_attention`) and the record says where the memory
//! is. Such packs run under a family of their own so that their times are not taken for those of a resident memory.
//!
//! Which memories a frame sees is SAM 2's rule: the prompted frame with the last row of the temporal codes, the frame j
//! steps back with row j - 1, and the pointers of the prompted frame and of the last ones, without a place in time (SAM 2.0
//! gives them none). The decoder of the layout always takes the best of three masks, also for boxes, and tells no scores.

use std::collections::VecDeque;
use std::path::Path;

use ort::memory::Allocator;
use ort::session::SessionInputValue;
use ort::value::{DynValue, Tensor};

use crate::frame::{Preprocess, Thresholder};
use crate::host::loader::{GraphRequest, PackLoader};
use crate::host::session::{GraphSession, failed};
use crate::host::settings::SessionSettings;
use crate::host::tensor::{FloatTensor, tensor};
use crate::manifest::{MemorySpec, TensorType};
use crate::onnx::Dimension;
use crate::pack::Pack;
use crate::requirements::{self, GraphRequirement, ShapeRequirement, TensorRequirement};
use crate::runner::{Entry, Runner, RunnerError};
use crate::sam::contract::{capabilities, read};
use crate::types::{
    Capabilities, Device, Dtype, Frame, FrameMasks, ObjectMask, OpenReport, OpenRequest, Prompt, Stage, StageClock,
    StagePrecision, StageTimes,
};

/// Registry entry of the `sam2export` family.
pub const ENTRY: Entry = Entry {
    family: "sam2export",
    aliases: &[],
    summary: "SAM 2.0 video in four graphs (SAM2Export layout): memory kept on the host, copied to the graphs every frame",
    hidden: false,
    detects: false,
    describe,
    check,
    open,
    compose: None,
};

const ENCODER: &str = "image_encoder";
const ATTENTION: &str = "memory_attention";
const DECODER: &str = "image_decoder";
const MEMORY: &str = "memory_encoder";
const FEATURES: [&str; 5] = ["pix_feat", "high_res_feat0", "high_res_feat1", "vision_feats", "vision_pos_embed"];
const DECODED: [&str; 3] = ["obj_ptr", "mask_for_mem", "pred_mask"];
const REMEMBERED: [&str; 3] = ["maskmem_features", "maskmem_pos_enc", "temporal_code"];
/// Positions in [`FEATURES`].
const RAW: usize = 0;
const FINE: usize = 1;
const MIDDLE: usize = 2;
const UNCONDITIONED: usize = 3;
const PLACES: usize = 4;
/// Label of the point that is none.
const NO_POINT: i32 = -1;

/// Sizes of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ExportSizes {
    /// Side of the model input and of the low-resolution mask.
    image: i64,
    low: usize,
    /// Width of the image features and of a pointer.
    hidden: i64,
    /// Side of the grid of tokens.
    grid: i64,
    /// Channels of a memory, slots, pointers.
    channels: i64,
    slots: usize,
    pointers: usize,
    /// Is `frame_size` of 64 bits?
    wide: bool,
}

/// Sizes of the pack after comparing its manifest with the layout.
fn contract(pack: &Pack) -> Result<ExportSizes, RunnerError> {
    let wrong = |text: String| pack.wrong(text);
    let manifest = &pack.manifest;
    let Some(&MemorySpec { frames, tokens_per_frame, channels, pointers, .. }) = manifest.memory.as_ref() else {
        return Err(wrong("[memory] is missing; family `sam2export` has one".to_string()));
    };
    let features = manifest.graph(ENCODER).and_then(|g| g.outputs.iter().find(|t| t.name == FEATURES[RAW]));
    let Some(&Dimension::Size(hidden)) = features.and_then(|t| t.shape.get(1)) else {
        return Err(wrong(format!("graph `{ENCODER}`: output `{}` of fixed size is missing", FEATURES[RAW])));
    };
    let image = i64::from(manifest.input.size);
    let (grid, channels) = (image / 16, i64::from(channels));
    if i64::from(tokens_per_frame) != grid * grid || hidden % channels != 0 || frames < 2 || pointers < 1 {
        return Err(wrong(format!(
            "[memory]: {tokens_per_frame} tokens of {channels} channels in {frames} frames and {pointers} pointers; {} tokens, \
             channels that divide {hidden}, at least 2 frames and 1 pointer expected",
            grid * grid
        )));
    }
    let frame_size = manifest.graph(DECODER).and_then(|g| g.inputs.iter().find(|t| t.name == "frame_size"));
    let sizes = ExportSizes {
        image,
        low: (image / 4) as usize,
        hidden,
        grid,
        channels,
        slots: frames as usize,
        pointers: pointers as usize,
        wide: frame_size.is_none_or(|t| t.dtype == TensorType::I64),
    };
    requirements::check(pack, &requirements(&sizes))?;
    requirements::no_mask_prompts(pack)?;
    Ok(sizes)
}

/// The graphs of a pack of these sizes.
fn requirements(s: &ExportSizes) -> [GraphRequirement; 4] {
    let &ExportSizes { image, hidden, grid, channels, .. } = s;
    let tensor = |name, dtypes, sizes| TensorRequirement { name, dtypes, shape: ShapeRequirement::Open(sizes) };
    // Zero stands for an axis that is decided at run time.
    let floats = |name, sizes: &[i64]| {
        tensor(name, &[TensorType::F32], sizes.iter().map(|&n| (n > 0).then_some(n)).collect::<Vec<_>>())
    };
    let embed = |name| floats(name, &[1, hidden, grid, grid]);
    let fine = |name| floats(name, &[1, hidden / 8, image / 4, image / 4]);
    let middle = |name| floats(name, &[1, hidden / 4, image / 8, image / 8]);
    let places = |name| floats(name, &[grid * grid, 1, hidden]);
    let full = |name| floats(name, &[1, 1, image, image]);
    [
        GraphRequirement {
            name: ENCODER,
            inputs: vec![floats("image", &[1, 3, image, image])],
            outputs: vec![
                embed(FEATURES[RAW]),
                fine(FEATURES[FINE]),
                middle(FEATURES[MIDDLE]),
                embed(FEATURES[UNCONDITIONED]),
                places(FEATURES[PLACES]),
            ],
        },
        GraphRequirement {
            name: ATTENTION,
            inputs: vec![
                embed("current_vision_feat"),
                places("current_vision_pos_embed"),
                floats("memory_0", &[0, hidden]),
                floats("memory_1", &[0, channels, grid, grid]),
                floats("memory_pos_embed", &[0, 1, channels]),
            ],
            outputs: vec![embed("image_embed")],
        },
        GraphRequirement {
            name: DECODER,
            inputs: vec![
                floats("point_coords", &[0, 0, 2]),
                floats("point_labels", &[0, 0]),
                tensor("frame_size", &[TensorType::I64, TensorType::I32], vec![Some(2)]),
                embed("image_embed"),
                fine("high_res_feats_0"),
                middle("high_res_feats_1"),
            ],
            outputs: vec![floats(DECODED[0], &[0, 0]), full(DECODED[1]), floats(DECODED[2], &[0, 0, 0, 0])],
        },
        GraphRequirement {
            name: MEMORY,
            inputs: vec![full("mask_for_mem"), embed("pix_feat")],
            outputs: vec![
                floats(REMEMBERED[0], &[1, channels, grid, grid]),
                floats(REMEMBERED[1], &[grid * grid, 1, channels]),
                floats(REMEMBERED[2], &[s.slots as i64, 1, 1, channels]),
            ],
        },
    ]
}

fn describe(dir: &Path, device: Device) -> Result<Capabilities, RunnerError> {
    Ok(capabilities(&read(dir, contract)?.0, false, device))
}

fn check(dir: &Path, precision: Dtype) -> Result<(), RunnerError> {
    read(dir, contract)?.0.check(precision)
}

fn open(request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    Ok(Box::new(HostMemory::open(request)?))
}

/// What one frame leaves: its memory `[channels, grid, grid]` and the places of its tokens `[grid², channels]`.
struct FrameMemory {
    features: Vec<f32>,
    places: Vec<f32>,
}

/// One object's memory, on the host.
struct ObjectMemory {
    object: u32,
    prompted: FrameMemory,
    /// The frame before the present one first.
    recent: VecDeque<FrameMemory>,
    /// Pointer of the prompted frame, then of the others, latest first.
    pointer: Vec<f32>,
    pointers: VecDeque<Vec<f32>>,
}

impl ObjectMemory {
    fn push(&mut self, sizes: &ExportSizes, memory: FrameMemory, pointer: Vec<f32>) {
        self.recent.push_front(memory);
        self.recent.truncate(sizes.slots - 1);
        self.pointers.push_front(pointer);
        self.pointers.truncate(sizes.pointers - 1);
    }

    /// Memories, pointers and places as `memory_attention` takes them. `codes` `[slots, channels]`.
    fn gather(&self, sizes: &ExportSizes, codes: &[f32]) -> [Vec<f32>; 3] {
        let width = sizes.channels as usize;
        let frames = std::iter::once((&self.prompted, sizes.slots - 1))
            .chain(self.recent.iter().enumerate().map(|(back, memory)| (memory, back)));
        let (mut memories, mut places) = (Vec::new(), Vec::new());
        for (memory, row) in frames {
            memories.extend_from_slice(&memory.features);
            let code = &codes[row * width..(row + 1) * width];
            places.extend(memory.places.chunks(width).flat_map(|at| at.iter().zip(code).map(|(a, b)| a + b)));
        }
        let mut pointers = self.pointer.clone();
        self.pointers.iter().for_each(|p| pointers.extend_from_slice(p));
        // Pointers have no place: zeros, one row per piece of the memory's width.
        places.resize(places.len() + pointers.len(), 0.0);
        [memories, pointers, places]
    }
}

/// An open runner.
struct HostMemory {
    tracks: Vec<ObjectMemory>,
    pixels: FloatTensor,
    encoder: GraphSession,
    attention: GraphSession,
    decoder: GraphSession,
    memory: GraphSession,
    /// Temporal codes `[slots, channels]`, an output of `memory_encoder` that is the same every time.
    codes: Vec<f32>,
    sizes: ExportSizes,
    capabilities: Capabilities,
    report: OpenReport,
    /// Does a pixel that several objects claim go to one of them?
    exclusive: bool,
    preprocess: Preprocess,
    thresholder: Thresholder,
    /// Are stage times taken?
    stage_times: bool,
    times: StageTimes,
}

/// What the decoder says about one object.
struct DecoderOutput {
    pointer: Vec<f32>,
    mask_for_memory: DynValue,
    low_res: Vec<f32>,
}

fn floats(graph: &str, value: &DynValue) -> Result<Vec<f32>, RunnerError> {
    let (_, values) =
        value.try_extract_tensor::<f32>().map_err(|e| failed(graph, format!("output cannot be read: {e}")))?;
    Ok(values.to_vec())
}

fn host(graph: &str, shape: &[i64], values: Vec<f32>) -> Result<FloatTensor, RunnerError> {
    Tensor::from_array((shape.to_vec(), values)).map_err(|e| failed(graph, e))
}

impl HostMemory {
    fn open(request: &OpenRequest) -> Result<Self, RunnerError> {
        let (pack, sizes) = read(&request.pack, contract)?;
        let settings = SessionSettings::of(request)?;
        let mut loader = PackLoader::begin(&pack, &settings, request.ort_lib.as_deref())?;
        let wanted = |name| GraphRequest { name, settings: &settings, on_device: false, edge: None };
        let [encoder, attention, decoder, memory] = loader.graphs([ENCODER, ATTENTION, DECODER, MEMORY].map(wanted))?;
        let mut report = loader.end();
        let tokens = sizes.slots as i64 * sizes.grid * sizes.grid;
        let floats = 2 * tokens * sizes.channels + 2 * sizes.pointers as i64 * sizes.hidden;
        report.notes.push(format!(
            "memory on the host: up to {:.1} MiB per object and frame are put together there and given to memory_attention anew; \
             that is in the time of the stage memory_attention",
            floats as f64 * 4.0 / f64::from(1 << 20)
        ));
        report.notes.push(
            "the decoder tells no object score and no predicted IoU, and takes the best of three masks for boxes too"
                .to_string(),
        );
        let allocator = Allocator::default();
        Ok(HostMemory {
            tracks: Vec::new(),
            pixels: tensor(&allocator, &[1, 3, sizes.image, sizes.image])?,
            encoder,
            attention,
            decoder,
            memory,
            codes: Vec::new(),
            sizes,
            capabilities: capabilities(&pack, false, request.device),
            report,
            exclusive: settings.exclusive(),
            preprocess: Preprocess::new(&pack.manifest.input),
            thresholder: Thresholder::default(),
            stage_times: settings.stage_times(),
            times: StageTimes::default(),
        })
    }

    /// Image features of one object that see its memories.
    fn attend(&mut self, features: &[DynValue], track: &ObjectMemory) -> Result<DynValue, RunnerError> {
        let s = &self.sizes;
        let [memories, pointers, places] = track.gather(s, &self.codes);
        let frame = s.channels * s.grid * s.grid;
        let memories = host(ATTENTION, &[memories.len() as i64 / frame, s.channels, s.grid, s.grid], memories)?;
        let pointers = host(ATTENTION, &[pointers.len() as i64 / s.hidden, s.hidden], pointers)?;
        let places = host(ATTENTION, &[places.len() as i64 / s.channels, 1, s.channels], places)?;
        let inputs = vec![
            ("current_vision_feat", SessionInputValue::from(&features[UNCONDITIONED])),
            ("current_vision_pos_embed", SessionInputValue::from(&features[PLACES])),
            ("memory_0", SessionInputValue::from(&pointers)),
            ("memory_1", SessionInputValue::from(&memories)),
            ("memory_pos_embed", SessionInputValue::from(&places)),
        ];
        Ok(self.attention.run_values(inputs, &["image_embed"])?.remove(0))
    }

    /// The mask at a quarter of the input's side: the graph enlarges to the size that is asked for, and ours is the one at
    /// which it has nothing to do.
    fn decode(
        &mut self,
        features: &[DynValue],
        embed: &DynValue,
        points: &[([f32; 2], i32)],
    ) -> Result<DecoderOutput, RunnerError> {
        let count = points.len() as i64;
        let coords = host(DECODER, &[1, count, 2], points.iter().flat_map(|(at, _)| *at).collect())?;
        let labels = host(DECODER, &[1, count], points.iter().map(|(_, label)| *label as f32).collect())?;
        let side = self.sizes.low;
        let size: DynValue = if self.sizes.wide {
            Tensor::from_array(([2usize], vec![side as i64; 2])).map_err(|e| failed(DECODER, e))?.into_dyn()
        } else {
            Tensor::from_array(([2usize], vec![side as i32; 2])).map_err(|e| failed(DECODER, e))?.into_dyn()
        };
        let inputs = vec![
            ("point_coords", SessionInputValue::from(&coords)),
            ("point_labels", SessionInputValue::from(&labels)),
            ("frame_size", SessionInputValue::from(&size)),
            ("image_embed", SessionInputValue::from(embed)),
            ("high_res_feats_0", SessionInputValue::from(&features[FINE])),
            ("high_res_feats_1", SessionInputValue::from(&features[MIDDLE])),
        ];
        let mut found = self.decoder.run_values(inputs, &DECODED)?;
        let (pointer, low_res) = (floats(DECODER, &found[0])?, floats(DECODER, &found[2])?);
        if pointer.len() as i64 != self.sizes.hidden || low_res.len() != side * side {
            return Err(RunnerError::Pack(format!(
                "graph `{DECODER}`: obj_ptr of {} values and pred_mask of {}; {} and {side} x {side} expected",
                pointer.len(),
                low_res.len(),
                self.sizes.hidden
            )));
        }
        Ok(DecoderOutput { pointer, mask_for_memory: found.swap_remove(1), low_res })
    }

    fn remember(&mut self, features: &[DynValue], mask: &DynValue) -> Result<FrameMemory, RunnerError> {
        let inputs = vec![
            ("mask_for_mem", SessionInputValue::from(mask)),
            ("pix_feat", SessionInputValue::from(&features[RAW])),
        ];
        let found = self.memory.run_values(inputs, &REMEMBERED)?;
        if self.codes.is_empty() {
            self.codes = floats(MEMORY, &found[2])?;
        }
        Ok(FrameMemory { features: floats(MEMORY, &found[0])?, places: floats(MEMORY, &found[1])? })
    }
}

impl Runner for HostMemory {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn precision(&self) -> Vec<StagePrecision> {
        [&self.encoder, &self.attention, &self.decoder, &self.memory].map(|g| g.precision.clone()).to_vec()
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
        let features = self.encoder.run_values(vec![("image", SessionInputValue::from(&self.pixels))], &FEATURES)?;
        clock.lap(&mut self.times, Stage::ImageEncoder);

        let mut tracks = std::mem::take(&mut self.tracks);
        let tracked = tracks.len();
        let (mut found, mut planes) = (Vec::new(), Vec::new());
        for i in 0..tracked + prompts.len() {
            let decoded = if let Some(track) = tracks.get(i).filter(|_| i < tracked) {
                let embed = self.attend(&features, track)?;
                clock.lap(&mut self.times, Stage::MemoryAttention);
                self.decode(&features, &embed, &[([0.0; 2], NO_POINT)])?
            } else {
                let points = prompts[i - tracked].shape.points(frame, self.sizes.image as u32);
                self.decode(&features, &features[UNCONDITIONED], &points)?
            };
            clock.lap(&mut self.times, Stage::MaskDecoder);
            let memory = self.remember(&features, &decoded.mask_for_memory)?;
            let finite = decoded.low_res.iter().chain(&decoded.pointer).all(|v| v.is_finite());
            let object = match tracks.get_mut(i) {
                Some(track) => {
                    track.push(&self.sizes, memory, decoded.pointer);
                    track.object
                }
                None => {
                    let object = prompts[i - tracked].object;
                    tracks.push(ObjectMemory {
                        object,
                        prompted: memory,
                        recent: VecDeque::new(),
                        pointer: decoded.pointer,
                        pointers: VecDeque::new(),
                    });
                    object
                }
            };
            clock.lap(&mut self.times, Stage::MemoryEncoder);
            let mask = self.thresholder.mask(&decoded.low_res, self.sizes.low, frame.width, frame.height);
            found.push(ObjectMask {
                object,
                claimed: !mask.is_empty(),
                mask,
                object_score: f32::NAN,
                predicted_iou: f32::NAN,
                finite,
            });
            if self.exclusive {
                planes.extend_from_slice(&decoded.low_res);
            }
            clock.lap(&mut self.times, Stage::Postprocess);
        }
        self.tracks = tracks;
        if self.exclusive && found.len() > 1 {
            self.thresholder.resolve_overlaps(&mut found, &planes, self.sizes.low);
            clock.lap(&mut self.times, Stage::Postprocess);
        }
        Ok(FrameMasks { objects: found })
    }

    fn take_stage_times(&mut self) -> StageTimes {
        std::mem::take(&mut self.times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes() -> ExportSizes {
        ExportSizes { image: 32, low: 8, hidden: 4, grid: 2, channels: 2, slots: 3, pointers: 3, wide: true }
    }

    fn memory(value: f32) -> FrameMemory {
        FrameMemory { features: vec![value; 8], places: vec![10.0 * value; 8] }
    }

    #[test]
    fn slots_and_pointers_are_those_of_sam2() {
        let s = sizes();
        let mut track = ObjectMemory {
            object: 1,
            prompted: memory(1.0),
            recent: VecDeque::new(),
            pointer: vec![1.0; 4],
            pointers: VecDeque::new(),
        };
        let codes = [0.1, 0.1, 0.2, 0.2, 0.9, 0.9];
        let [memories, pointers, places] = track.gather(&s, &codes);
        assert_eq!((memories.len(), pointers.len(), places.len()), (8, 4, 8 + 4));
        for value in [2.0, 3.0, 4.0] {
            track.push(&s, memory(value), vec![value; 4]);
        }
        let [memories, pointers, places] = track.gather(&s, &codes);
        // The prompted frame stays, of the others the two latest.
        assert_eq!([memories[0], memories[8], memories[16]], [1.0, 4.0, 3.0]);
        assert_eq!((memories.len(), pointers.len()), (24, 12));
        assert_eq!([pointers[0], pointers[4], pointers[8]], [1.0, 4.0, 3.0]);
        // Its code is the last row; one frame back row 0, two frames back row 1; pointers have none.
        assert_eq!([places[0], places[8], places[16]], [10.9, 40.1, 30.2]);
        assert_eq!((&places[24..], places.len()), (&[0.0; 12][..], 24 + 12));
    }
}
