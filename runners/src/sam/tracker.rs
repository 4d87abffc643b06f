//! The SAM 2 family tracking loop: frame in, masks out, one memory per object. SAM 2 and EdgeTAM packs run through the
//! same code; what differs between them is in their graphs and manifests.
//!
//! A frame is encoded once. Then, group by group: tracked objects attend to their memories, are decoded without a prompt
//! and remembered; objects that start here are decoded from their prompts on the raw image features and remembered as
//! conditioning frames.

use std::collections::BTreeMap;
use std::path::Path;

use ort::memory::Allocator;

use crate::frame::{Preprocess, Thresholder, resize_mask};
use crate::host::loader::{GraphRequest, PackLoader};
use crate::host::runtime::Runtime;
use crate::host::session::GraphSession;
use crate::host::settings::SessionSettings;
use crate::host::tensor::{FloatTensor, input};
use crate::pack::Pack;
use crate::runner::{Runner, RunnerError};
use crate::sam::contract::{self, TensorSizes};
use crate::sam::copies::{Copied, Copies};
use crate::sam::edges::Edges;
use crate::sam::encoder::Encoder;
use crate::sam::groups::{Group, batches, grouping_note, is_mask};
#[cfg(test)]
use crate::sam::sabotage::Sabotage;
use crate::sam::state::{Joiner, Memories};
use crate::sam::wiring::{Features, UNUSED, Wiring, WiringContext};
use crate::types::{
    Capabilities, Device, Dtype, Frame, FrameMasks, Mask, ObjectMask, OpenReport, OpenRequest, Prompt, PromptShape,
    Stage, StageClock, StagePrecision, StageTimes,
};

/// What the pack in `dir` can do on `device`.
///
/// # Errors
/// [`RunnerError::Pack`] when the manifest is wrong.
pub fn describe(dir: &Path, device: Device) -> Result<Capabilities, RunnerError> {
    let (pack, sizes) = contract::read(dir, contract::sizes)?;
    Ok(capabilities(&pack, &sizes, device))
}

fn capabilities(pack: &Pack, sizes: &TensorSizes, device: Device) -> Capabilities {
    let mut capabilities = contract::capabilities(pack, sizes.batched, device);
    if device == Device::Cpu {
        capabilities.works_ahead = sizes.image <= contract::PIPELINE_PAYS;
    }
    capabilities
}

/// Compares the pack's files with its manifest and the family's contract.
///
/// # Errors
/// [`RunnerError::Pack`] naming file, tensor, expected and found.
pub fn check(dir: &Path, precision: Dtype) -> Result<(), RunnerError> {
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
    /// Mask logits, a square.
    pub low_res: &'a [f32],
    /// Object score logit.
    pub object_score: f32,
    /// Object pointer that was stored; empty where it stays on the device.
    pub obj_ptr: &'a [f32],
    /// Mask at source size.
    pub mask: &'a crate::types::Mask,
    /// Copies of what the inner graphs gave (graph, tensor, values): raw features, conditioned features on tracked frames,
    /// the memory bank. Nothing on a GPU: there they never leave the device.
    pub inner: &'a dyn Fn() -> Vec<(&'static str, &'static str, Vec<f32>)>,
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
    mask_prompt: Option<GraphSession>,
    mask_decoder: GraphSession,
    memory_attention: GraphSession,
    memory_encoder: GraphSession,
    /// Loaded when objects first join a running group.
    joiner: Option<Joiner>,
    runtime: &'static Runtime,
    capabilities: Capabilities,
    report: OpenReport,
    sizes: TensorSizes,
    settings: SessionSettings,
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
    /// Copies made, where they are counted.
    copies: Copies,
    /// Only in builds for unit tests: no frame of a measurement passes by it.
    #[cfg(test)]
    sabotage: Option<Sabotage>,
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
        let mut settings = SessionSettings::new(request.device, request.dtype, &request.options)?;
        settings.profile = profile.map(Path::to_path_buf);
        let attention = pack.manifest.graph(contract::MEMORY_ATTENTION);
        if settings.cpu_forms() && settings.memory_threshold().is_some() && attention.is_some_and(|g| g.cpu.is_some()) {
            // Objects of one start have one age until a gate lets some remember a frame and others not.
            settings.run_one_by_one();
        }
        let mut loader = PackLoader::begin(&pack, &settings, request.ort_lib.as_deref())?;
        let preprocess = Preprocess::new(&pack.manifest.input);
        let edges = Edges::new(&settings, &preprocess);
        let runtime = loader.runtime;
        let split = settings.split();
        let [encoding, others] = split.as_ref().map_or([&settings; 2], |parts| parts.each_ref());
        let wanted = |name: &'static str| GraphRequest {
            name,
            settings: if name == contract::IMAGE_ENCODER { encoding } else { others },
            // All inputs of memory attention are device memory: raw features and the state.
            on_device: name == contract::MEMORY_ATTENTION,
            edge: edges.of(name),
        };
        let [image_encoder, memory_attention, mask_decoder, memory_encoder] = loader.graphs(
            [contract::IMAGE_ENCODER, contract::MEMORY_ATTENTION, contract::MASK_DECODER, contract::MEMORY_ENCODER]
                .map(wanted),
        )?;
        let mask_prompt = match pack.manifest.graph(contract::MASK_PROMPT) {
            Some(_) => {
                let [mask_prompt] = loader.graphs([wanted(contract::MASK_PROMPT)])?;
                Some(mask_prompt)
            }
            None => None,
        };
        let mut report = loader.end();
        report.notes.push(grouping_note(&sizes, &settings, memory_attention.cpu_form));

        let device = image_encoder.device_allocator(request.device)?;
        let host = image_encoder.device_allocator(Device::Cpu)?;
        let features = || Features::new(&device, &host, &sizes, &image_encoder, settings.image_as_bytes());
        let (features, ahead) = (features()?, split.is_some().then(features).transpose()?);
        let encoder = Encoder::new(image_encoder, preprocess, ahead);
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
            copies: Copies::new(profile.is_some()),
            #[cfg(test)]
            sabotage: None,
        })
    }

    /// Copies between host and device that this loop has made since opening, where they are counted.
    pub fn copies(&self) -> &[Copied] {
        self.copies.list()
    }

    /// Ends profiling: graph name and file of every graph.
    ///
    /// # Errors
    /// As [`GraphSession::end_profile`].
    pub fn end_profiles(&mut self) -> Result<Vec<(String, std::path::PathBuf)>, RunnerError> {
        (self.encoder.iter_mut().map(|encoder| &mut encoder.graph))
            .chain([&mut self.memory_attention, &mut self.mask_decoder, &mut self.memory_encoder])
            .chain(&mut self.mask_prompt)
            .map(|graph| Ok((graph.name.clone(), graph.end_profile()?)))
            .collect()
    }

    /// Damages the state after every frame. Only on the CPU.
    #[cfg(test)]
    pub(crate) fn set_sabotage(&mut self, sabotage: Sabotage) {
        self.sabotage = Some(sabotage);
    }

    #[cfg(test)]
    fn damage(&self, group: &mut Group) {
        if let Some(sabotage) = self.sabotage.filter(|_| !self.settings.on_gpu()) {
            sabotage.apply(group.memories.current_mut(), group.objects.len(), &self.sizes);
        }
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
            self.copies.image(&self.sizes, self.settings.image_as_bytes());
            if self.lattice.is_none() {
                self.lattice = Some(match on_gpu {
                    true => "lattice of the outputs: not read back from the device".to_string(),
                    false => self.features.lattice(self.settings.precision),
                });
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
            self.copies.group(&self.sizes, &self.settings, group.objects.len(), false);
            self.results(group, false, frame, &mut masks, observe)?;
            #[cfg(test)]
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
            self.copies.group(&self.sizes, &self.settings, group.objects.len(), true);
            if on_gpu {
                self.copies.prompts(&self.sizes, together.len(), bypassed);
            }
            self.results(&group, true, frame, &mut masks, observe)?;
            if bypassed {
                let first = masks.objects.len() - group.objects.len();
                masks.objects[first..].iter_mut().for_each(|o| o.predicted_iou = f32::NAN);
            }
            #[cfg(test)]
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
        let tools = WiringContext {
            device: &self.device,
            host: &self.host,
            sizes: &self.sizes,
            features: &self.features,
            decoder: &self.mask_decoder,
            reports: self.settings.results_on_device(),
            gated: self.settings.memory_threshold().is_some(),
        };
        let wiring = wiring(&mut self.wirings, prompts.len())?;
        if is_mask(&prompts[0]) {
            let Some(graph) = &mut self.mask_prompt else {
                return Err(RunnerError::Usage("this pack takes no mask prompts".to_string()));
            };
            let mask = wiring.mask(&tools, graph)?;
            let pixels = (self.sizes.image * self.sizes.image) as usize;
            let planes = mask.masks.extract_tensor_mut().1.chunks_exact_mut(pixels);
            for (prompt, plane) in prompts.iter().zip(planes) {
                if let PromptShape::Mask(given) = &prompt.shape {
                    resize_mask(given, self.sizes.image as u32, plane);
                }
            }
            if on_gpu {
                input(&mut mask.prompt, "mask", &mask.masks)?;
            }
            graph.run(&mask.prompt)?;
            self.mask_decoder.run(&mask.decode_pointer)?;
            wiring.report_mask_scores();
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
            let tools = WiringContext {
                device: &self.device,
                host: &self.host,
                sizes: &self.sizes,
                features: &self.features,
                decoder: &self.mask_decoder,
                reports: self.settings.results_on_device(),
                gated: self.settings.memory_threshold().is_some(),
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
        for (i, (&object, low_res)) in objects.iter().zip(low_res).enumerate() {
            let [object_score, predicted_iou, pointer] = wiring.result(i);
            let obj_ptr = wiring.pointer(i).unwrap_or_default();
            // This object's share of tensors that are on the host anyway.
            let share = |tensor: &'_ FloatTensor| -> Vec<f32> {
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
            let finite = object_score.is_finite() && pointer.is_finite() && low_res.iter().all(|v| v.is_finite());
            let mut mask = self.blank.pop().unwrap_or_default();
            self.thresholder.fill(low_res, side, frame.width, frame.height, &mut mask);
            observe(RawOutput { object, low_res, object_score, obj_ptr, mask: &mask, inner: &inner });
            let claimed = !mask.is_empty();
            masks.objects.push(ObjectMask { object, mask, claimed, object_score, predicted_iou, finite });
            if exclusive {
                self.planes.extend_from_slice(low_res);
            }
        }
        Ok(())
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
