//! The SAM 2 family tracking loop: frame in, masks out, one memory per object. SAM 2 and EdgeTAM packs run through the
//! same code; what differs between them is in their graphs and manifests.
//!
//! A frame is encoded once. Then, group by group: tracked objects attend to their memories, are decoded without a prompt
//! and remembered; objects that start here are decoded from their prompts on the raw image features and remembered as
//! conditioning frames. Where the graphs have an object axis, all tracked objects are one group and run as one batch
//! (unless the option `objects` says otherwise); in other packs every object is a group of its own.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use ort::memory::Allocator;

use crate::frame::{Preprocess, Thresholder, resize_mask};
use crate::host::loader::{Opening, Order};
use crate::host::options::PIPELINE;
use crate::host::runtime::Runtime;
use crate::host::session::Graph;
use crate::host::settings::Settings;
use crate::host::tensor::{Floats, input};
use crate::pack::Pack;
use crate::runner::{Runner, RunnerError};
use crate::sam::contract::{self, Sizes};
use crate::sam::encoder::Encoder;
use crate::sam::state::{Joiner, Memories};
use crate::sam::wiring::{Features, Tools, UNUSED, Wiring};
use crate::types::{
    Capabilities, Device, Frame, FrameMasks, Mask, ObjectMask, OpenReport, OpenRequest, Precision, Prompt, PromptKind,
    PromptShape, Stage, StageClock, StagePrecision, StageTimes,
};

/// What the pack in `dir` can do on `device`.
///
/// # Errors
/// [`RunnerError::Pack`] when the manifest is wrong.
pub fn describe(dir: &Path, device: Device) -> Result<Capabilities, RunnerError> {
    let (pack, sizes) = contract::read(dir, contract::sizes)?;
    Ok(capabilities(&pack, &sizes, device))
}

fn capabilities(pack: &Pack, sizes: &Sizes, device: Device) -> Capabilities {
    let mut capabilities = contract::capabilities(pack, sizes.batched, device);
    if device == Device::Cpu {
        capabilities.options.push(PIPELINE.to_string());
        capabilities.works_ahead = sizes.image <= contract::PIPELINE_PAYS;
    }
    capabilities
}

/// Compares the pack's files with its manifest and the family's contract.
///
/// # Errors
/// [`RunnerError::Pack`] naming file, tensor, expected and found.
pub fn check(dir: &Path, precision: Precision) -> Result<(), RunnerError> {
    contract::read(dir, contract::sizes)?.0.check(precision)
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
    /// Copies of what the inner graphs gave (graph, tensor, values): raw features, conditioned features on tracked frames,
    /// the memory bank. Nothing on a GPU: there they never leave the device.
    pub inner: &'a dyn Fn() -> Vec<(&'static str, &'static str, Vec<f32>)>,
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

/// A copy between host and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Graph that reads or wrote the tensor.
    pub graph: &'static str,
    /// Tensor name.
    pub tensor: &'static str,
    /// Down to the host, or up to the device.
    pub to_host: bool,
    /// Bytes.
    pub bytes: u64,
    /// Once per prompt, not on every frame.
    pub prompted: bool,
}

/// Objects that run through the graphs together.
struct Group {
    /// Caller's numbers of the objects, in the order of the tensors' first axis.
    objects: Vec<u32>,
    memories: Memories,
}

/// One open tracker. Fields are dropped in order: tensors and bindings go before the sessions whose memory they use.
pub struct Tracker {
    groups: Vec<Group>,
    /// Tensors and bindings by number of objects that run together.
    wirings: BTreeMap<usize, Wiring>,
    features: Features,
    device: Allocator,
    host: Allocator,
    /// `None` only while it works on another thread.
    encoder: Option<Encoder>,
    mask_prompt: Option<Graph>,
    mask_decoder: Graph,
    memory_attention: Graph,
    memory_encoder: Graph,
    /// Loaded when objects first join a running group.
    joiner: Option<Joiner>,
    runtime: &'static Runtime,
    capabilities: Capabilities,
    report: OpenReport,
    sizes: Sizes,
    settings: Settings,
    thresholder: Thresholder,
    /// Low-resolution logits of all objects of a frame, where objects exclude each other.
    planes: Vec<f32>,
    lattice: Option<String>,
    times: StageTimes,
    /// Objects that are tracked, for checks.
    live: Vec<u32>,
    /// Results that came back, to be filled again.
    returned: Vec<FrameMasks>,
    /// Their masks.
    blank: Vec<Mask>,
    /// A frame failed half-way: the memories no longer belong together.
    broken: bool,
    sabotage: Option<Sabotage>,
    /// Copies made, where they are counted.
    copies: Option<Vec<Copied>>,
}

impl Tracker {
    /// Checks the pack, loads ONNX Runtime and every graph, allocates and binds all tensors that do not depend on the
    /// number of objects.
    ///
    /// # Errors
    /// [`RunnerError::Pack`], [`RunnerError::Environment`] or [`RunnerError::Usage`], by whose fault it is.
    pub fn open(request: &OpenRequest) -> Result<Self, RunnerError> {
        Self::open_with(request, None)
    }

    /// As [`Tracker::open`]; with a directory, ONNX Runtime profiles every graph into it and copies are counted. That costs
    /// time: figures of such a tracker are no measurements.
    ///
    /// # Errors
    /// As [`Tracker::open`].
    pub fn open_with(request: &OpenRequest, profile: Option<&Path>) -> Result<Self, RunnerError> {
        let (pack, sizes) = contract::read(&request.pack, contract::sizes)?;
        let mut settings = Settings::new(request.device, request.precision, &request.options)?;
        settings.profile = profile.map(Path::to_path_buf);
        let mut opening = Opening::begin(&pack, &settings, request.ort_lib.as_deref())?;
        let runtime = opening.runtime;
        let split = settings.split();
        let [encoding, others] = split.as_ref().map_or([&settings; 2], |parts| parts.each_ref());
        let wanted = |name: &'static str| Order {
            name,
            settings: if name == contract::IMAGE_ENCODER { encoding } else { others },
            // All inputs of memory attention are device memory: raw features and the state.
            on_device: name == contract::MEMORY_ATTENTION,
        };
        let [image_encoder, memory_attention, mask_decoder, memory_encoder] = opening.graphs(
            [contract::IMAGE_ENCODER, contract::MEMORY_ATTENTION, contract::MASK_DECODER, contract::MEMORY_ENCODER]
                .map(wanted),
        )?;
        let mask_prompt = match pack.manifest.graph(contract::MASK_PROMPT) {
            Some(_) => {
                let [mask_prompt] = opening.graphs([wanted(contract::MASK_PROMPT)])?;
                Some(mask_prompt)
            }
            None => None,
        };
        let mut report = opening.end();
        report.notes.push(grouping_note(&sizes, &settings, memory_attention.cpu_form));

        let device = image_encoder.device_allocator(request.device)?;
        let host = image_encoder.device_allocator(Device::Cpu)?;
        let features = || Features::new(&device, &host, &sizes, &image_encoder);
        let (features, ahead) = (features()?, split.is_some().then(features).transpose()?);
        let encoder = Encoder::new(image_encoder, Preprocess::new(&pack.manifest.input), ahead);
        Ok(Tracker {
            capabilities: capabilities(&pack, &sizes, request.device),
            report,
            features,
            sizes,
            settings,
            thresholder: Thresholder::default(),
            planes: Vec::new(),
            encoder: Some(encoder),
            mask_prompt,
            mask_decoder,
            memory_attention,
            memory_encoder,
            joiner: None,
            runtime,
            device,
            host,
            groups: Vec::new(),
            wirings: BTreeMap::new(),
            lattice: None,
            times: StageTimes::default(),
            live: Vec::new(),
            returned: Vec::new(),
            blank: Vec::new(),
            broken: false,
            sabotage: None,
            copies: profile.map(|_| Vec::new()),
        })
    }

    /// Copies between host and device that this loop has made since opening, where they are counted.
    pub fn copies(&self) -> &[Copied] {
        self.copies.as_deref().unwrap_or_default()
    }

    /// Ends profiling: graph name and file of every graph.
    ///
    /// # Errors
    /// As [`Graph::end_profile`].
    pub fn end_profiles(&mut self) -> Result<Vec<(String, std::path::PathBuf)>, RunnerError> {
        (self.encoder.iter_mut().map(|encoder| &mut encoder.graph))
            .chain([&mut self.memory_attention, &mut self.mask_decoder, &mut self.memory_encoder])
            .chain(&mut self.mask_prompt)
            .map(|graph| Ok((graph.name.clone(), graph.end_profile()?)))
            .collect()
    }

    /// Notes a copy; `prompted`: it happens once per prompt, not on every frame.
    fn copied(&mut self, graph: &'static str, tensor: &'static str, to_host: bool, values: i64, prompted: bool) {
        if let Some(copies) = &mut self.copies {
            copies.push(Copied { graph, tensor, to_host, bytes: values as u64 * 4, prompted });
        }
    }

    /// Copies of `objects` objects that ran together. On the CPU host and device are one: only the masks come out. On a GPU
    /// score and pointer come to the host, where the loop checks them, and go back up into the memory encoder.
    fn copied_group(&mut self, objects: usize, prompted: bool) {
        let (n, s) = (objects as i64, &self.sizes);
        let (mask, hidden) = ((s.mask() * s.mask()) as i64, s.hidden);
        self.copied(contract::MASK_DECODER, "low_res_mask", true, n * mask, prompted);
        if self.settings.on_gpu() {
            for (tensor, values) in [("object_score", 1), ("obj_ptr", hidden)] {
                self.copied(contract::MASK_DECODER, tensor, true, n * values, prompted);
                self.copied(contract::MEMORY_ENCODER, tensor, false, n * values, prompted);
            }
            self.copied(contract::MASK_DECODER, "predicted_iou", true, n, prompted);
        }
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
        self.step_with(frame, prompts, None, observe)
    }

    fn step_with(
        &mut self,
        frame: Frame<'_>,
        prompts: &[Prompt],
        next: Option<Frame<'_>>,
        observe: &mut dyn FnMut(RawOutput<'_>),
    ) -> Result<FrameMasks, RunnerError> {
        crate::runner::check_frame(frame)?;
        next.map_or(Ok(()), crate::runner::check_frame)?;
        self.live.clear();
        self.live.extend(self.groups.iter().flat_map(|group| &group.objects));
        crate::runner::check_prompts(&self.capabilities, frame, prompts, &self.live)?;
        if self.broken {
            return Err(RunnerError::Inference(
                "an earlier frame of this sequence failed; reset the runner first".to_string(),
            ));
        }
        self.times = StageTimes::default();
        self.broken = true; // until this frame is through
        let lost =
            || RunnerError::Inference("the image encoder was lost in a panic; open the runner again".to_string());
        let mut encoder = self.encoder.take().ok_or_else(lost)?;
        let mut clock = StageClock::start(self.settings.stage_times());
        let on_gpu = self.settings.on_gpu();
        let masks = encoder.encode(frame, &mut self.features, on_gpu, &mut clock, &mut self.times).and_then(|()| {
            self.copied(contract::IMAGE_ENCODER, "image", false, 3 * self.sizes.image * self.sizes.image, false);
            if self.lattice.is_none() {
                self.lattice = Some(self.lattice_evidence());
            }
            let Some(next) = next.filter(|_| encoder.works_ahead()) else {
                return self.advance(frame, prompts, clock, observe);
            };
            let second = StageClock::start(self.settings.stage_times());
            std::thread::scope(|scope| {
                let ahead = scope.spawn(|| encoder.encode_ahead(next, second));
                let masks = self.advance(frame, prompts, clock, observe);
                match ahead.join() {
                    Ok(encoded) => encoded.and(masks),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            })
        });
        self.encoder = Some(encoder);
        // A frame that was refused has changed nothing.
        self.broken = !matches!(masks, Ok(_) | Err(RunnerError::Usage(_)));
        masks
    }

    /// What comes after the image encoder.
    fn advance(
        &mut self,
        frame: Frame<'_>,
        prompts: &[Prompt],
        mut clock: StageClock,
        observe: &mut dyn FnMut(RawOutput<'_>),
    ) -> Result<FrameMasks, RunnerError> {
        let on_gpu = self.settings.on_gpu();
        let mut masks = self.returned.pop().unwrap_or_default();
        self.planes.clear();
        let mut groups = std::mem::take(&mut self.groups);
        let followed = groups.iter_mut().try_for_each(|group| -> Result<(), RunnerError> {
            let wiring = wiring(&mut self.wirings, group.objects.len())?;
            group.memories.attend(&mut self.memory_attention)?;
            clock.lap(&mut self.times, Stage::MemoryAttention);
            self.mask_decoder.run(&wiring.decode_tracked)?;
            clock.lap(&mut self.times, Stage::MaskDecoder);
            group.memories.remember(&mut self.memory_encoder, &wiring.passed, on_gpu)?;
            clock.lap(&mut self.times, Stage::MemoryEncoder);
            self.copied_group(group.objects.len(), false);
            self.results(group, false, frame, &mut masks, observe)?;
            self.damage(group);
            clock.lap(&mut self.times, Stage::Postprocess);
            Ok(())
        });
        self.groups = groups;
        followed?;
        for together in batches(prompts, self.most_together()) {
            let mut group = self.new_group(together)?;
            clock.lap(&mut self.times, Stage::Postprocess);
            let bypassed = self.decode_prompts(frame, together)?;
            clock.lap(&mut self.times, Stage::MaskDecoder);
            let wiring = wiring(&mut self.wirings, together.len())?;
            let (blank, passed) = wiring.blank(&self.host, &self.sizes)?;
            let embed = &self.features.image_embed;
            group.memories.start(&mut self.memory_encoder, embed, passed, blank, on_gpu)?;
            clock.lap(&mut self.times, Stage::MemoryEncoder);
            self.copied_group(group.objects.len(), true);
            if on_gpu {
                let (n, s) = (together.len() as i64, &self.sizes);
                let (graph, tensor, values) = match bypassed {
                    true => (contract::MASK_PROMPT, "mask", s.image * s.image),
                    false => (contract::MASK_DECODER, "point_coords, point_labels, multimask", 3 * s.points + 1),
                };
                self.copied(graph, tensor, false, n * values, true);
            }
            self.results(&group, true, frame, &mut masks, observe)?;
            if bypassed {
                let first = masks.objects.len() - group.objects.len();
                masks.objects[first..].iter_mut().for_each(|o| o.predicted_iou = f32::NAN);
            }
            self.damage(&mut group);
            self.admit(group)?;
            clock.lap(&mut self.times, Stage::Postprocess);
        }
        if self.settings.exclusive() && masks.objects.len() > 1 {
            self.thresholder.resolve_overlaps(&mut masks.objects, &self.planes, self.sizes.mask());
            clock.lap(&mut self.times, Stage::Postprocess);
        }
        Ok(masks)
    }

    /// Decodes prompts of one kind on the raw image features. True when the decoder was bypassed (mask prompts).
    fn decode_prompts(&mut self, frame: Frame<'_>, prompts: &[Prompt]) -> Result<bool, RunnerError> {
        let on_gpu = self.settings.on_gpu();
        let tools = Tools {
            device: &self.device,
            host: &self.host,
            sizes: &self.sizes,
            features: &self.features,
            decoder: &self.mask_decoder,
        };
        let wiring = wiring(&mut self.wirings, prompts.len())?;
        if is_mask(&prompts[0]) {
            let Some(graph) = &mut self.mask_prompt else {
                return Err(RunnerError::Usage("this pack takes no mask prompts".to_string()));
            };
            let wiring = wiring.mask(&tools, graph)?;
            let pixels = (self.sizes.image * self.sizes.image) as usize;
            let planes = wiring.masks.extract_tensor_mut().1.chunks_exact_mut(pixels);
            for (prompt, plane) in prompts.iter().zip(planes) {
                if let PromptShape::Mask(mask) = &prompt.shape {
                    resize_mask(mask, self.sizes.image as u32, plane);
                }
            }
            if on_gpu {
                input(&mut wiring.prompt, "mask", &wiring.masks)?;
            }
            graph.run(&wiring.prompt)?;
            self.mask_decoder.run(&wiring.decode_pointer)?;
            return Ok(true);
        }
        let points = wiring.points(&tools)?;
        let slots = self.sizes.points as usize;
        let coords = points.coords.extract_tensor_mut().1.chunks_exact_mut(2 * slots);
        let labels = points.labels.extract_tensor_mut().1.chunks_exact_mut(slots);
        let multimask = points.multimask.extract_tensor_mut().1;
        for (((prompt, coords), labels), multimask) in prompts.iter().zip(coords).zip(labels).zip(multimask) {
            let given = prompt.shape.points(frame, self.sizes.image as u32);
            for (slot, (xy, label)) in coords.chunks_exact_mut(2).zip(labels).enumerate() {
                let (at, kind) = given.get(slot).copied().unwrap_or(([0.0; 2], UNUSED));
                xy.copy_from_slice(&at);
                *label = kind;
            }
            // One click is ambiguous: the best of three masks is taken. A box or several clicks mean one mask.
            *multimask = f32::from(u8::from(given.len() == 1));
        }
        if on_gpu {
            points.rebind()?;
        }
        self.mask_decoder.run(&points.decode)?;
        Ok(false)
    }

    /// Most objects that run together.
    fn most_together(&self) -> usize {
        if self.sizes.batched { self.settings.together() } else { 1 }
    }

    /// Memories for objects that start on this frame, with the wiring they need.
    fn new_group(&mut self, prompts: &[Prompt]) -> Result<Group, RunnerError> {
        let objects: Vec<u32> = prompts.iter().map(|prompt| prompt.object).collect();
        let memories = self.new_memories(objects.len())?;
        Ok(Group { objects, memories })
    }

    fn new_memories(&mut self, objects: usize) -> Result<Memories, RunnerError> {
        if !self.wirings.contains_key(&objects) {
            // Only the sizes in use are kept, so that memory does not grow with the variety of the videos.
            let live: Vec<usize> = self.groups.iter().map(|group| group.objects.len()).collect();
            self.wirings.retain(|size, _| live.contains(size));
            let tools = Tools {
                device: &self.device,
                host: &self.host,
                sizes: &self.sizes,
                features: &self.features,
                decoder: &self.mask_decoder,
            };
            self.wirings.insert(objects, Wiring::new(&tools, objects)?);
        }
        let wiring = wiring(&mut self.wirings, objects)?;
        match wiring.spare.pop() {
            Some(memories) => Ok(memories),
            None => Memories::new(
                &self.device,
                &self.sizes,
                objects,
                &self.features.image_embed,
                &mut wiring.passed,
                &self.memory_attention,
                &self.memory_encoder,
            ),
        }
    }

    /// Takes a started group in: it joins the last one while that has room and its age does not matter, else it stays a
    /// group of its own.
    fn admit(&mut self, started: Group) -> Result<(), RunnerError> {
        let most = if self.memory_attention.cpu_form { 0 } else { self.most_together() };
        let room = |last: &mut Group| last.objects.len().saturating_add(started.objects.len()) <= most;
        let Some(last) = self.groups.pop_if(room) else {
            self.groups.push(started);
            return Ok(());
        };
        let mut objects = last.objects.clone();
        objects.extend(&started.objects);
        let mut memories = self.new_memories(objects.len())?;
        let joiner = match self.joiner.take() {
            Some(joiner) => joiner,
            None => Joiner::new(&self.sizes, &self.settings, self.runtime)?,
        };
        memories.join(self.joiner.insert(joiner), &last.memories, &started.memories)?;
        self.groups.push(Group { objects, memories });
        Ok(())
    }

    /// Results of the objects that just ran together, from the tensors they were written to.
    fn results(
        &mut self,
        group: &Group,
        prompted: bool,
        frame: Frame<'_>,
        masks: &mut FrameMasks,
        observe: &mut dyn FnMut(RawOutput<'_>),
    ) -> Result<(), RunnerError> {
        let side = self.sizes.mask();
        let exclusive = self.settings.exclusive();
        let on_gpu = self.settings.on_gpu();
        let objects = &group.objects;
        let wiring = wiring(&mut self.wirings, objects.len())?;
        let low_res = wiring.low_res.extract_tensor().1.chunks_exact(side * side);
        let pointers = wiring.passed.obj_ptr.extract_tensor().1.chunks_exact(self.sizes.hidden as usize);
        let scores = wiring.passed.object_score.extract_tensor().1;
        let ious = wiring.predicted_iou.extract_tensor().1;
        for (i, ((((&object, low_res), obj_ptr), &object_score), &iou)) in
            objects.iter().zip(low_res).zip(pointers).zip(scores).zip(ious).enumerate()
        {
            // This object's share of tensors that are on the host anyway.
            let share = |tensor: &'_ Floats| -> Vec<f32> {
                let values = tensor.extract_tensor().1;
                let length = values.len() / objects.len();
                values[i * length..(i + 1) * length].to_vec()
            };
            let inner = || -> Vec<(&'static str, &'static str, Vec<f32>)> {
                if on_gpu {
                    return Vec::new();
                }
                let embed = self.features.image_embed.extract_tensor().1.to_vec();
                let mut inner = vec![(contract::IMAGE_ENCODER, "image_embed", embed)];
                if !prompted {
                    inner.push((contract::MEMORY_ATTENTION, "cond_embed", share(&wiring.passed.cond_embed)));
                }
                inner.push((contract::MEMORY_ENCODER, "bank_out", share(&group.memories.current().bank)));
                inner
            };
            let finite = object_score.is_finite() && low_res.iter().chain(obj_ptr).all(|v| v.is_finite());
            let mut mask = self.blank.pop().unwrap_or_default();
            self.thresholder.fill(low_res, side, frame.width, frame.height, &mut mask);
            observe(RawOutput { object, low_res, side, object_score, obj_ptr, mask: &mask, inner: &inner });
            let predicted_iou = iou;
            let claimed = !mask.is_empty();
            masks.objects.push(ObjectMask { object, mask, claimed, object_score, predicted_iou, finite });
            if exclusive {
                self.planes.extend_from_slice(low_res);
            }
        }
        Ok(())
    }

    /// Share of encoder outputs that lie on the grid of the 16-bit type, on the first frame after opening: all of them
    /// where a rounded result is the output itself, fewer where rounded results are added up in f32, next to none in fp32.
    fn lattice_evidence(&self) -> String {
        if self.settings.on_gpu() {
            return "lattice of the outputs: not read back from the device".to_string();
        }
        let outputs = [
            ("image_embed", &self.features.image_embed),
            ("high_res_0", &self.features.high_res[0]),
            ("high_res_1", &self.features.high_res[1]),
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

    fn damage(&self, group: &mut Group) {
        let Some(sabotage) = self.sabotage.filter(|_| !self.settings.on_gpu()) else { return };
        let memory = group.memories.current_mut();
        let slot = |values: &mut [f32], index: usize, slots: i64, change: fn(&mut f32)| {
            let objects = group.objects.len();
            let length = values.len() / objects / slots as usize;
            for object in values.chunks_exact_mut(length * slots as usize) {
                object.iter_mut().skip(index * length).take(length).for_each(change);
            }
        };
        match sabotage {
            Sabotage::NegateSlot(i) => {
                slot(memory.bank.extract_tensor_mut().1, i, self.sizes.frames, |v| *v = -*v);
            }
            Sabotage::ZeroPointer(i) => {
                slot(memory.ptrs.extract_tensor_mut().1, i, self.sizes.pointers, |v| *v = 0.0);
            }
            Sabotage::FreezeAge => memory.age.extract_tensor_mut().1.fill(1.0),
        }
    }
}

impl Runner for Tracker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn precision(&self) -> Vec<StagePrecision> {
        let graphs = self.encoder.iter().map(|encoder| &encoder.graph).chain([
            &self.memory_attention,
            &self.mask_decoder,
            &self.memory_encoder,
        ]);
        let mut stages: Vec<StagePrecision> =
            graphs.chain(&self.mask_prompt).map(|graph| graph.precision.clone()).collect();
        stages[0].evidence.extend(self.lattice.clone());
        stages
    }

    fn open_report(&self) -> &OpenReport {
        &self.report
    }

    fn reset(&mut self) {
        for group in self.groups.drain(..) {
            if let Some(wiring) = self.wirings.get_mut(&group.objects.len()) {
                wiring.spare.push(group.memories);
            }
        }
        if let Some(encoder) = &mut self.encoder {
            encoder.forget();
        }
        self.broken = false;
    }

    fn step(&mut self, frame: Frame<'_>, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError> {
        self.step_observed(frame, prompts, &mut |_| {})
    }

    fn step_ahead(
        &mut self,
        frame: Frame<'_>,
        prompts: &[Prompt],
        next: Option<Frame<'_>>,
    ) -> Result<FrameMasks, RunnerError> {
        self.step_with(frame, prompts, next, &mut |_| {})
    }

    fn works_ahead(&self) -> bool {
        self.encoder.as_ref().is_some_and(Encoder::works_ahead)
    }

    fn recycle(&mut self, mut masks: FrameMasks) {
        self.blank.extend(masks.objects.drain(..).map(|object| object.mask));
        self.returned.push(masks);
    }

    fn take_stage_times(&mut self) -> StageTimes {
        std::mem::take(&mut self.times)
    }
}

/// The wiring for so many objects; every live group has one.
fn wiring(wirings: &mut BTreeMap<usize, Wiring>, objects: usize) -> Result<&mut Wiring, RunnerError> {
    wirings.get_mut(&objects).ok_or_else(|| RunnerError::Inference(format!("no tensors for {objects} objects")))
}

/// How objects run, for the record.
fn grouping_note(sizes: &Sizes, settings: &Settings, one_age: bool) -> String {
    let together = if one_age { ", those that start on one frame" } else { "" };
    match (sizes.batched, settings.together()) {
        (false, _) => "objects: one after the other (the pack's graphs take one object at a time)".to_string(),
        (true, 1) => "objects: one after the other (asked for; the pack's graphs take any number)".to_string(),
        (true, usize::MAX) if one_age => "objects: those that start on one frame in one batch".to_string(),
        (true, usize::MAX) => "objects: all in one batch".to_string(),
        (true, n) => format!("objects: in batches of at most {n}{together}"),
    }
}

fn is_mask(prompt: &Prompt) -> bool {
    prompt.shape.kind() == PromptKind::Mask
}

/// Prompts that can run together, in their order: neighbours that are all masks or all points and boxes, at most `most`.
fn batches(prompts: &[Prompt], most: usize) -> impl Iterator<Item = &[Prompt]> {
    prompts.chunk_by(|a, b| is_mask(a) == is_mask(b)).flat_map(move |alike| alike.chunks(most.max(1)))
}
