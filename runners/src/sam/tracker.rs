//! The SAM 2 family tracking loop: frame in, masks out, one memory per object. SAM 2 and EdgeTAM packs run through the
//! same code; what differs between them is in their graphs and manifests.
//!
//! A frame is encoded once. Then, group by group: tracked objects attend to their memories, are decoded without a prompt
//! and remembered; objects that start here are decoded from their prompts on the raw image features and remembered as
//! conditioning frames.

mod carry;
mod frame;
mod objects;
mod prompts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use ort::memory::Allocator;

pub use self::carry::Followed;
pub use self::frame::RawOutput;
use crate::frame::{Preprocess, Thresholder};
use crate::host::loader::{GraphRequest, PackLoader};
use crate::host::session::GraphSession;
use crate::host::settings::{NextFrame, SessionSettings};
use crate::pack::Pack;
use crate::runner::{Runner, RunnerError};
use crate::sam::contract::{self, TensorSizes};
use crate::sam::copies::{Copied, Copies};
use crate::sam::edges::Edges;
use crate::sam::encoder::{Encoder, Place};
use crate::sam::groups::{Group, grouping_note};
use crate::sam::image::Image;
use crate::sam::rows::RowGraphs;
#[cfg(test)]
use crate::sam::sabotage::Sabotage;
use crate::sam::wiring::{Features, Wiring};
use crate::types::{
    Capabilities, Device, Dtype, Frame, FrameMasks, Mask, OpenReport, OpenRequest, Prompt, StagePrecision, StageTimes,
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
    rows: RowGraphs,
    /// Are tracks founded and ended by themselves? Their numbers vary, and single objects start on many frames.
    founds: bool,
    capabilities: Capabilities,
    report: OpenReport,
    sizes: TensorSizes,
    settings: SessionSettings,
    thresholder: Thresholder,
    /// Low-resolution logits of all objects of a frame, where objects exclude each other.
    planes: Vec<f32>,
    /// The box around each mask of a frame, in their order: edges, in pixels; `None` where a mask is empty.
    boxes: Vec<Option<[f64; 4]>>,
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
        let mut settings = SessionSettings::of(request)?;
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
        let mut own = features()?;
        let ahead = match settings.next_frame() {
            None => None,
            Some(NextFrame::Encoded) => Some(Place::Features(features()?)),
            Some(next) => {
                let image = Image::new(&host, sizes.image, settings.image_as_bytes())?;
                let copied = next == NextFrame::Copied;
                let binding = copied.then(|| own.bind_image(&image, &image_encoder)).transpose()?;
                Some(Place::Image(image, binding))
            }
        };
        let encoder = Encoder::new(image_encoder, preprocess, ahead);
        Ok(Tracker {
            rows: RowGraphs::new(&sizes, &settings, runtime),
            founds: false,
            capabilities: capabilities(&pack, &sizes, request.device),
            report,
            features: own,
            sizes,
            settings,
            thresholder: Thresholder::default(),
            planes: Vec::new(),
            boxes: Vec::new(),
            encoder: Some(encoder),
            mask_prompt,
            mask_decoder,
            memory_attention,
            memory_encoder,
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
            .chain(self.rows.graphs())
            .map(|graph| Ok((graph.name.clone(), graph.end_profile()?)))
            .collect()
    }

    /// Damages the state after every frame. Only on the CPU.
    #[cfg(test)]
    pub(crate) fn set_sabotage(&mut self, sabotage: Sabotage) {
        self.sabotage = Some(sabotage);
    }

    /// Does with the next frame what is done on a device: only its image is made ready. Only on the CPU.
    #[cfg(test)]
    fn make_images_ready(&mut self, copy: bool) {
        let encoder = self.encoder.as_mut().unwrap();
        let image = Image::new(&self.host, self.sizes.image, false).unwrap();
        let binding = copy.then(|| self.features.bind_image(&image, &encoder.graph).unwrap());
        encoder.set_place(Place::Image(image, binding));
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
        std::mem::take(&mut self.groups).into_iter().for_each(|group| self.lay_by(group));
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
