//! The SAM 2 family tracking loop: frame in, masks out, one memory per object. SAM 2 and EdgeTAM packs run through the
//! same code; what differs between them is in their graphs and manifests.
//!
//! A frame is encoded once. Then, object by object: a tracked object attends to its memory, is decoded without a prompt
//! and remembered; an object that starts here is decoded from its prompt on the raw image features and remembered as
//! the conditioning frame. All objects share the intermediate tensors.

use std::path::Path;
use std::time::{Duration, Instant};

use half::{bf16, f16};
use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::Tensor;

use crate::contract::{self, Sizes};
use crate::image::{Preprocess, Thresholder, resize_mask};
use crate::manifest::Pack;
use crate::session::{Graph, Settings};
use crate::state::{Floats, Memory, ObjectMemory, Shared, input, output, tensor};
use crate::types::{
    Capabilities, Device, Frame, FrameMasks, ObjectMask, OpenReport, OpenRequest, Precision, Prompt, PromptShape,
    Stage, StagePrecision, StageTimes,
};
use crate::{Runner, RunnerError, runtime};

/// Label of a point slot that is not used; the graph masks it out of attention.
const UNUSED: i32 = -10;
/// Label of the point that stands for "no prompt".
const NOT_A_POINT: i32 = -1;
/// Labels of a box's corners.
const CORNERS: [i32; 2] = [2, 3];

/// What the pack in `dir` can do on `device`.
///
/// # Errors
/// [`RunnerError::Pack`] when the manifest is wrong.
pub fn describe(dir: &Path, device: Device) -> Result<Capabilities, RunnerError> {
    let pack = Pack::read(dir)?;
    contract::sizes(&pack)?;
    Ok(contract::capabilities(&pack, device))
}

/// Compares the pack's files with its manifest and the family's contract.
///
/// # Errors
/// [`RunnerError::Pack`] naming file, tensor, expected and found.
pub fn check(dir: &Path, precision: Precision) -> Result<(), RunnerError> {
    let pack = Pack::read(dir)?;
    contract::sizes(&pack)?;
    pack.check(precision)
}

/// Opens the tracker behind the common trait.
///
/// # Errors
/// As [`Tracker::open`].
pub fn open(request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    Ok(Box::new(Tracker::open(request)?))
}

/// Model outputs of one object on one frame, before anything is thresholded.
pub struct RawOutput<'a> {
    /// Caller's number of the object.
    pub object: u32,
    /// Mask logits, `side` x `side`.
    pub low_res: &'a [f32],
    /// Side of `low_res`, pixels.
    pub side: usize,
    /// Object score logit.
    pub object_score: f32,
    /// Object pointer that was stored.
    pub obj_ptr: &'a [f32],
    /// Mask at source size.
    pub mask: &'a crate::types::Mask,
}

/// Damage done to an object's state after every frame, to prove that a comparison with reference outputs can fail.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The memory slot with this index changes its sign.
    NegateSlot(usize),
    /// The object pointer with this index becomes zero.
    ZeroPointer(usize),
    /// The age stays at 1: all but the conditioning frame are taken for missing, temporal positions stand still.
    FreezeAge,
}

/// Host and device tensors that are not part of [`Shared`], with the bindings that use them.
struct Wiring {
    image: Floats,
    encode_image: IoBinding,
    /// Encoder outputs other than `image_embed`, kept for the lattice evidence.
    high_res: [Floats; 2],
    low_res: Floats,
    predicted_iou: Floats,
    /// Decoder on memory-conditioned features, no prompt.
    decode_tracked: IoBinding,
    /// Decoder on raw features with clicks or a box.
    decode_points: IoBinding,
    point_coords: Floats,
    point_labels: Tensor<i32>,
    multimask: Floats,
    /// Mask prompt and the decoder run that only makes its pointer; absent in packs without mask prompts.
    from_mask: Option<MaskWiring>,
    /// Bound and never read or written by this program; they must live as long as the bindings.
    _constants: Vec<Floats>,
    _no_point: Tensor<i32>,
}

struct MaskWiring {
    mask: Floats,
    mask_prompt: IoBinding,
    decode_pointer: IoBinding,
}

/// One open tracker. Fields are dropped in order: tensors and bindings go before the sessions whose memory they use.
pub struct Tracker {
    objects: Vec<(u32, ObjectMemory)>,
    /// Memories of objects of earlier sequences, used again: memory stays flat however many sequences are run.
    spare: Vec<ObjectMemory>,
    wiring: Wiring,
    shared: Shared,
    allocator: Allocator,
    image_encoder: Graph,
    mask_prompt: Option<Graph>,
    mask_decoder: Graph,
    memory_attention: Graph,
    memory_encoder: Graph,
    capabilities: Capabilities,
    report: OpenReport,
    sizes: Sizes,
    settings: Settings,
    preprocess: Preprocess,
    thresholder: Thresholder,
    lattice: Option<String>,
    times: [Duration; Stage::ALL.len()],
    /// A frame failed half-way: the memories no longer belong together.
    broken: bool,
    sabotage: Option<Sabotage>,
}

impl Tracker {
    /// Checks the pack, loads ONNX Runtime and every graph, allocates and binds all tensors that do not depend on the
    /// number of objects.
    ///
    /// # Errors
    /// [`RunnerError::Pack`], [`RunnerError::Environment`] or [`RunnerError::Usage`], by whose fault it is.
    pub fn open(request: &OpenRequest) -> Result<Self, RunnerError> {
        let pack = Pack::read(&request.pack)?;
        let sizes = contract::sizes(&pack)?;
        let settings = Settings::new(request.device, request.precision, &request.options)?;
        let runtime = runtime::load(request.ort_lib.as_deref())?;
        runtime.take_messages();

        let mut report = OpenReport {
            runtime_version: runtime.version.clone(),
            runtime_path: runtime.path.clone(),
            graph_load_ms: Vec::new(),
            notes: settings.notes(),
        };
        let mut load = |name: &str| -> Result<Graph, RunnerError> {
            let spec = pack
                .manifest
                .graph(name)
                .ok_or_else(|| RunnerError::Pack(format!("{}: no graph `{name}`", pack.dir.display())))?;
            let file = pack.check_graph(spec, request.precision)?;
            let graph = Graph::open(name, &file, &settings, runtime)?;
            report.graph_load_ms.push((name.to_string(), graph.load_ms));
            Ok(graph)
        };
        let image_encoder = load(contract::IMAGE_ENCODER)?;
        let memory_attention = load(contract::MEMORY_ATTENTION)?;
        let mask_decoder = load(contract::MASK_DECODER)?;
        let memory_encoder = load(contract::MEMORY_ENCODER)?;
        let mask_prompt = match pack.manifest.graph(contract::MASK_PROMPT) {
            Some(_) => Some(load(contract::MASK_PROMPT)?),
            None => None,
        };
        report.notes.extend(runtime.take_messages().into_iter().map(|m| format!("ONNX Runtime: {m}")));

        let allocator = image_encoder.device_allocator(request.device)?;
        let host = Allocator::default();
        let mut shared = shared(&allocator, &host, &sizes)?;
        let wiring =
            Wiring::new(&allocator, &host, &sizes, &mut shared, &image_encoder, &mask_decoder, mask_prompt.as_ref())?;
        Ok(Tracker {
            capabilities: contract::capabilities(&pack, request.device),
            report,
            sizes,
            settings,
            preprocess: Preprocess::new(&pack.manifest.input),
            thresholder: Thresholder::default(),
            image_encoder,
            mask_prompt,
            mask_decoder,
            memory_attention,
            memory_encoder,
            allocator,
            shared,
            wiring,
            objects: Vec::new(),
            spare: Vec::new(),
            lattice: None,
            times: [Duration::ZERO; Stage::ALL.len()],
            broken: false,
            sabotage: None,
        })
    }

    /// Damages the state after every frame; see [`Sabotage`]. Only on the CPU.
    #[doc(hidden)]
    pub fn set_sabotage(&mut self, sabotage: Option<Sabotage>) {
        self.sabotage = sabotage;
    }

    /// As [`Runner::step`]; `observe` sees the model's outputs for every object, before the next object replaces them.
    ///
    /// # Errors
    /// As [`Runner::step`].
    pub fn step_observed(
        &mut self,
        frame: Frame<'_>,
        prompts: &[Prompt],
        observe: &mut dyn FnMut(RawOutput<'_>),
    ) -> Result<FrameMasks, RunnerError> {
        crate::check_frame(frame)?;
        let live: Vec<u32> = self.objects.iter().map(|(id, _)| *id).collect();
        crate::check_prompts(&self.capabilities, frame, prompts, &live)?;
        if self.broken {
            return Err(RunnerError::Inference(
                "an earlier frame of this sequence failed; reset the runner first".to_string(),
            ));
        }
        self.times = [Duration::ZERO; Stage::ALL.len()];
        self.broken = true; // until this frame is through
        let masks = self.advance(frame, prompts, observe)?;
        self.broken = false;
        Ok(masks)
    }

    fn advance(
        &mut self,
        frame: Frame<'_>,
        prompts: &[Prompt],
        observe: &mut dyn FnMut(RawOutput<'_>),
    ) -> Result<FrameMasks, RunnerError> {
        let on_gpu = self.settings.on_gpu();
        let mut clock = Clock::start();
        self.preprocess.fill(frame, self.wiring.image.extract_tensor_mut().1)?;
        if on_gpu {
            input(&mut self.wiring.encode_image, "image", &self.wiring.image)?;
        }
        clock.lap(&mut self.times, Stage::Preprocess);
        self.image_encoder.run(&self.wiring.encode_image)?;
        clock.lap(&mut self.times, Stage::ImageEncoder);
        if self.lattice.is_none() {
            self.lattice = Some(self.lattice_evidence());
        }

        let mut masks = FrameMasks { objects: Vec::with_capacity(self.objects.len() + prompts.len()) };
        let tracked = self.objects.len();
        for i in 0..tracked + prompts.len() {
            let mut bypassed = false;
            if i < tracked {
                self.objects[i].1.attend(&mut self.memory_attention)?;
                clock.lap(&mut self.times, Stage::MemoryAttention);
                self.mask_decoder.run(&self.wiring.decode_tracked)?;
                clock.lap(&mut self.times, Stage::MaskDecoder);
                self.objects[i].1.remember(&mut self.memory_encoder, &self.shared, on_gpu)?;
                clock.lap(&mut self.times, Stage::MemoryEncoder);
            } else {
                let prompt = &prompts[i - tracked];
                let mut memory = self.new_memory()?;
                clock.lap(&mut self.times, Stage::Postprocess);
                bypassed = self.decode_prompt(frame, &prompt.shape)?;
                clock.lap(&mut self.times, Stage::MaskDecoder);
                memory.start(&mut self.memory_encoder, &self.shared, on_gpu)?;
                clock.lap(&mut self.times, Stage::MemoryEncoder);
                self.objects.push((prompt.object, memory));
            }
            let mut result = self.result(self.objects[i].0, frame);
            if bypassed {
                result.predicted_iou = f32::NAN;
            }
            observe(RawOutput {
                object: result.object,
                low_res: self.wiring.low_res.extract_tensor().1,
                side: self.sizes.mask(),
                object_score: result.object_score,
                obj_ptr: self.shared.obj_ptr.extract_tensor().1,
                mask: &result.mask,
            });
            masks.objects.push(result);
            self.damage(i);
            clock.lap(&mut self.times, Stage::Postprocess);
        }
        Ok(masks)
    }

    /// Decodes a prompt on the raw image features. True when the decoder was bypassed (mask prompts).
    fn decode_prompt(&mut self, frame: Frame<'_>, shape: &PromptShape) -> Result<bool, RunnerError> {
        let on_gpu = self.settings.on_gpu();
        let scale = |at: f32, source: u32| (f64::from(at) * self.sizes.image as f64 / f64::from(source)) as f32;
        let mut points: Vec<([f32; 2], i32)> = Vec::with_capacity(self.sizes.points as usize);
        let mut point = |x: f32, y: f32, label: i32| {
            points.push(([scale(x, frame.width), scale(y, frame.height)], label));
        };
        match shape {
            PromptShape::Points(clicks) => clicks.iter().for_each(|c| point(c.x, c.y, i32::from(c.positive))),
            PromptShape::Bbox([x0, y0, x1, y1]) => {
                point(*x0, *y0, CORNERS[0]);
                point(*x1, *y1, CORNERS[1]);
            }
            PromptShape::Mask(mask) => {
                let (Some(graph), Some(wiring)) = (&mut self.mask_prompt, &mut self.wiring.from_mask) else {
                    return Err(RunnerError::Usage("this pack takes no mask prompts".to_string()));
                };
                resize_mask(mask, self.sizes.image as u32, wiring.mask.extract_tensor_mut().1);
                if on_gpu {
                    input(&mut wiring.mask_prompt, "mask", &wiring.mask)?;
                }
                graph.run(&wiring.mask_prompt)?;
                self.mask_decoder.run(&wiring.decode_pointer)?;
                return Ok(true);
            }
        }
        let wiring = &mut self.wiring;
        let coords = wiring.point_coords.extract_tensor_mut().1;
        let labels = wiring.point_labels.extract_tensor_mut().1;
        for (slot, (xy, label)) in coords.chunks_exact_mut(2).zip(labels).enumerate() {
            let (at, kind) = points.get(slot).copied().unwrap_or(([0.0; 2], UNUSED));
            xy.copy_from_slice(&at);
            *label = kind;
        }
        // One click is ambiguous: the best of three masks is taken. A box or several clicks mean one mask.
        wiring.multimask.extract_tensor_mut().1[0] = f32::from(u8::from(points.len() == 1));
        if on_gpu {
            input(&mut wiring.decode_points, "point_coords", &wiring.point_coords)?;
            input(&mut wiring.decode_points, "multimask", &wiring.multimask)?;
            bind_labels(&mut wiring.decode_points, &wiring.point_labels)?;
        }
        self.mask_decoder.run(&wiring.decode_points)?;
        Ok(false)
    }

    fn new_memory(&mut self) -> Result<ObjectMemory, RunnerError> {
        match self.spare.pop() {
            Some(memory) => Ok(memory),
            None => ObjectMemory::new(
                &self.allocator,
                &self.sizes,
                &mut self.shared,
                &self.memory_attention,
                &self.memory_encoder,
            ),
        }
    }

    fn result(&mut self, object: u32, frame: Frame<'_>) -> ObjectMask {
        let low_res = self.wiring.low_res.extract_tensor().1;
        let pointer = self.shared.obj_ptr.extract_tensor().1;
        let object_score = self.shared.object_score.extract_tensor().1[0];
        let finite = object_score.is_finite() && low_res.iter().chain(pointer).all(|v| v.is_finite());
        ObjectMask {
            object,
            mask: self.thresholder.mask(low_res, self.sizes.mask(), frame.width, frame.height),
            object_score,
            predicted_iou: self.wiring.predicted_iou.extract_tensor().1[0],
            finite,
        }
    }

    /// Share of encoder outputs that lie on the grid of the 16-bit type, on the first frame after opening: all of them
    /// where a rounded result is the output itself, fewer where rounded results are added up in f32, next to none in fp32.
    fn lattice_evidence(&self) -> String {
        if self.settings.on_gpu() {
            return "lattice of the outputs: not read back from the device".to_string();
        }
        let outputs = [
            ("image_embed", &self.shared.image_embed),
            ("high_res_0", &self.wiring.high_res[0]),
            ("high_res_1", &self.wiring.high_res[1]),
        ];
        // Every bf16 value of ordinary size is also an fp16 value, so the other grid would say nothing.
        let (grid, on_grid): (_, fn(f32) -> bool) = match self.settings.precision {
            Precision::Fp16 => ("fp16", |v| f16::from_f32(v).to_f32() == v),
            Precision::Fp32 | Precision::Bf16 => ("bf16", |v| bf16::from_f32(v).to_f32() == v),
        };
        let parts: Vec<String> = outputs
            .iter()
            .map(|(name, values)| {
                let values = values.extract_tensor().1;
                let count = values.iter().filter(|&&v| on_grid(v)).count();
                format!("{name} {:.1} %", 100.0 * count as f64 / values.len() as f64)
            })
            .collect();
        format!("values on the {grid} grid, first frame: {}", parts.join(", "))
    }

    fn damage(&mut self, object: usize) {
        let Some(sabotage) = self.sabotage.filter(|_| !self.settings.on_gpu()) else { return };
        let memory = self.objects[object].1.current_mut();
        let slot = |values: &mut [f32], index: usize, slots: i64, change: fn(&mut f32)| {
            let length = values.len() / slots as usize;
            values.iter_mut().skip(index * length).take(length).for_each(change);
        };
        match sabotage {
            Sabotage::NegateSlot(i) => {
                slot(memory.bank.extract_tensor_mut().1, i, self.sizes.frames, |v| *v = -*v);
            }
            Sabotage::ZeroPointer(i) => {
                slot(memory.ptrs.extract_tensor_mut().1, i, self.sizes.pointers, |v| *v = 0.0);
            }
            Sabotage::FreezeAge => memory.age.extract_tensor_mut().1[0] = 1.0,
        }
    }
}

impl Runner for Tracker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn precision(&self) -> Vec<StagePrecision> {
        let graphs =
            [&self.image_encoder, &self.memory_attention, &self.mask_decoder, &self.memory_encoder].into_iter();
        let mut stages: Vec<StagePrecision> =
            graphs.chain(&self.mask_prompt).map(|graph| graph.precision.clone()).collect();
        stages[0].evidence.extend(self.lattice.clone());
        stages
    }

    fn open_report(&self) -> &OpenReport {
        &self.report
    }

    fn reset(&mut self) {
        self.spare.extend(self.objects.drain(..).map(|(_, memory)| memory));
        self.broken = false;
    }

    fn step(&mut self, frame: Frame<'_>, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError> {
        self.step_observed(frame, prompts, &mut |_| {})
    }

    fn take_stage_times(&mut self) -> StageTimes {
        let times = std::mem::replace(&mut self.times, [Duration::ZERO; Stage::ALL.len()]);
        Stage::ALL.into_iter().zip(times).filter(|(_, time)| !time.is_zero()).collect()
    }
}

/// Splits a frame's time into stages without gaps: every lap ends where the next begins.
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Clock(Instant::now())
    }

    fn lap(&mut self, times: &mut [Duration; Stage::ALL.len()], stage: Stage) {
        let now = Instant::now();
        times[stage as usize] += now - self.0;
        self.0 = now;
    }
}

fn flag(host: &Allocator, value: f32) -> Result<Floats, RunnerError> {
    let mut flag = tensor(host, &[1])?;
    flag.extract_tensor_mut().1[0] = value;
    Ok(flag)
}

fn labels(host: &Allocator, slots: i64, first: i32) -> Result<Tensor<i32>, RunnerError> {
    let mut labels = Tensor::<i32>::new(host, vec![1, slots])
        .map_err(|e| RunnerError::Environment(format!("cannot allocate point labels: {e}")))?;
    let values = labels.extract_tensor_mut().1;
    values.fill(UNUSED);
    values[0] = first;
    Ok(labels)
}

fn bind_labels(binding: &mut IoBinding, labels: &Tensor<i32>) -> Result<(), RunnerError> {
    binding
        .bind_input("point_labels", labels)
        .map_err(|e| RunnerError::Inference(format!("cannot bind input `point_labels`: {e}")))
}

fn shared(device: &Allocator, host: &Allocator, s: &Sizes) -> Result<Shared, RunnerError> {
    let f = s.image / 16;
    Ok(Shared {
        image_embed: tensor(device, &[1, s.hidden, f, f])?,
        cond_embed: tensor(device, &[1, s.hidden, f, f])?,
        mask_for_memory: tensor(device, &[1, 1, s.image, s.image])?,
        object_score: tensor(host, &[1, 1])?,
        obj_ptr: tensor(host, &[1, s.hidden])?,
        zero: flag(host, 0.0)?,
        one: flag(host, 1.0)?,
        blank: Memory::new(host, s)?,
    })
}

impl Wiring {
    fn new(
        device: &Allocator,
        host: &Allocator,
        s: &Sizes,
        shared: &mut Shared,
        image_encoder: &Graph,
        mask_decoder: &Graph,
        mask_prompt: Option<&Graph>,
    ) -> Result<Self, RunnerError> {
        let f = s.image / 16;
        let image = tensor(host, &[1, 3, s.image, s.image])?;
        let mut high_res = [
            tensor(device, &[1, s.hidden / 8, s.image / 4, s.image / 4])?,
            tensor(device, &[1, s.hidden / 4, s.image / 8, s.image / 8])?,
        ];
        let mut encode_image = image_encoder.binding()?;
        input(&mut encode_image, "image", &image)?;
        output(&mut encode_image, "image_embed", &mut shared.image_embed)?;
        output(&mut encode_image, "high_res_0", &mut high_res[0])?;
        output(&mut encode_image, "high_res_1", &mut high_res[1])?;

        let mut low_res = tensor(host, &[1, 1, s.image / 4, s.image / 4])?;
        let mut predicted_iou = tensor(host, &[1, 1])?;
        let no_coords = tensor(host, &[1, s.points, 2])?;
        let no_point = labels(host, s.points, NOT_A_POINT)?;
        let no_dense = tensor(host, &[1, s.hidden, f, f])?;
        let point_coords = tensor(host, &[1, s.points, 2])?;
        let point_labels = labels(host, s.points, UNUSED)?;
        let multimask = flag(host, 1.0)?;

        let decoder = |features: &Floats| -> Result<IoBinding, RunnerError> {
            let mut binding = mask_decoder.binding()?;
            input(&mut binding, "cond_embed", features)?;
            input(&mut binding, "high_res_0", &high_res[0])?;
            input(&mut binding, "high_res_1", &high_res[1])?;
            Ok(binding)
        };
        let mut decode_tracked = decoder(&shared.cond_embed)?;
        input(&mut decode_tracked, "point_coords", &no_coords)?;
        bind_labels(&mut decode_tracked, &no_point)?;
        input(&mut decode_tracked, "dense_prompt", &no_dense)?;
        input(&mut decode_tracked, "has_mask", &shared.zero)?;
        input(&mut decode_tracked, "is_prompt", &shared.zero)?;
        input(&mut decode_tracked, "multimask", &shared.one)?;

        let mut decode_points = decoder(&shared.image_embed)?;
        input(&mut decode_points, "point_coords", &point_coords)?;
        bind_labels(&mut decode_points, &point_labels)?;
        input(&mut decode_points, "dense_prompt", &no_dense)?;
        input(&mut decode_points, "has_mask", &shared.zero)?;
        input(&mut decode_points, "is_prompt", &shared.one)?;
        input(&mut decode_points, "multimask", &multimask)?;

        for binding in [&mut decode_tracked, &mut decode_points] {
            output(binding, "low_res_mask", &mut low_res)?;
            output(binding, "mask_for_memory", &mut shared.mask_for_memory)?;
            output(binding, "predicted_iou", &mut predicted_iou)?;
            output(binding, "object_score", &mut shared.object_score)?;
            output(binding, "obj_ptr", &mut shared.obj_ptr)?;
        }

        let mut constants = Vec::new();
        let from_mask = match mask_prompt {
            None => None,
            Some(graph) => {
                let mask = tensor(host, &[1, 1, s.image, s.image])?;
                let mut dense = tensor(device, &[1, s.hidden, f, f])?;
                let mut mask_prompt = graph.binding()?;
                input(&mut mask_prompt, "mask", &mask)?;
                output(&mut mask_prompt, "dense_prompt", &mut dense)?;
                output(&mut mask_prompt, "low_res_mask", &mut low_res)?;
                output(&mut mask_prompt, "mask_for_memory", &mut shared.mask_for_memory)?;
                output(&mut mask_prompt, "object_score", &mut shared.object_score)?;

                // The mask itself is the frame's result; the decoder runs for its pointer alone.
                let mut decode_pointer = decoder(&shared.image_embed)?;
                input(&mut decode_pointer, "point_coords", &no_coords)?;
                bind_labels(&mut decode_pointer, &no_point)?;
                input(&mut decode_pointer, "dense_prompt", &dense)?;
                input(&mut decode_pointer, "has_mask", &shared.one)?;
                input(&mut decode_pointer, "is_prompt", &shared.one)?;
                input(&mut decode_pointer, "multimask", &shared.one)?;
                let mut unused = [
                    ("low_res_mask", tensor(host, &[1, 1, s.image / 4, s.image / 4])?),
                    ("mask_for_memory", tensor(device, &[1, 1, s.image, s.image])?),
                    ("predicted_iou", tensor(host, &[1, 1])?),
                    ("object_score", tensor(host, &[1, 1])?),
                ];
                for (name, tensor) in &mut unused {
                    output(&mut decode_pointer, name, tensor)?;
                }
                output(&mut decode_pointer, "obj_ptr", &mut shared.obj_ptr)?;
                constants.extend(unused.into_iter().map(|(_, tensor)| tensor));
                constants.push(dense);
                Some(MaskWiring { mask, mask_prompt, decode_pointer })
            }
        };
        constants.extend([no_coords, no_dense]);
        Ok(Wiring {
            image,
            encode_image,
            high_res,
            low_res,
            predicted_iou,
            decode_tracked,
            decode_points,
            point_coords,
            point_labels,
            multimask,
            from_mask,
            _constants: constants,
            _no_point: no_point,
        })
    }
}
