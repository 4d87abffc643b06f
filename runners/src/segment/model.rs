//! One open video segmenter: a frame goes in, class logits and mask logits come out, and the queries stay on the device for the next one.

use std::path::{Path, PathBuf};

use ort::session::IoBinding;

use super::answer::Answers;
use super::contract::{self, IMAGE, LOGITS, MASKS, QUERIES, SEGMENTER, Sizes};
use super::panoptic::Panoptic;
use crate::frame::Preprocess;
use crate::host::loader::{GraphRequest, PackLoader};
use crate::host::session::{GraphSession, failed};
use crate::host::settings::SessionSettings;
use crate::host::tensor::{FloatTensor, input, output, tensor};
use crate::onnx::Edge;
use crate::runner::RunnerError;
use crate::sam::contract::read;
use crate::sam::copies::Copies;
use crate::sam::image::Image;
use crate::types::{Capabilities, Device, Frame, OpenReport, OpenRequest, Stage, StageClock, StageTimes};

/// One open segmenter. Fields are dropped in order: bindings and tensors go before the session whose memory they use.
pub struct Segmenter {
    /// From zeros to the first set of queries, from that to the second, and back.
    bindings: [IoBinding; 3],
    image: Image,
    /// `[1, Q, C + 1]`, on the host.
    logits: FloatTensor,
    /// `[1, Q, s, s]`, on the host.
    masks: FloatTensor,
    /// Zeros, `[1, Q, D]`, on the host.
    nothing: FloatTensor,
    /// Two sets of queries `[1, Q, D]`, on the device.
    queries: [FloatTensor; 2],
    pub(super) graph: GraphSession,
    preprocess: Preprocess,
    on_gpu: bool,
    /// Steps since the last reset.
    steps: usize,
    sizes: Sizes,
    pub(super) answers: Answers,
    pub(super) capabilities: Capabilities,
    pub(super) report: OpenReport,
    stage_times: bool,
    pub(super) times: StageTimes,
}

impl Segmenter {
    /// Adds what crosses between host and device on a frame.
    pub fn count_copies(&self, copies: &mut Copies) {
        let Sizes { queries, side, classes, image, .. } = self.sizes;
        let samples = 3 * (image as u64).pow(2);
        let up = if matches!(self.image, Image::Bytes(_)) { samples } else { 4 * samples };
        copies.push_bytes(SEGMENTER, IMAGE, false, up, false);
        copies.push_bytes(SEGMENTER, LOGITS, true, 4 * queries as u64 * (classes as u64 + 1), false);
        copies.push_bytes(SEGMENTER, MASKS, true, 4 * queries as u64 * (side as u64).pow(2), false);
    }

    /// Checks the pack of a request, loads ONNX Runtime and the graph, and binds its tensors. With a directory, ONNX Runtime profiles the
    /// graph into it, which costs time.
    ///
    /// # Errors
    /// [`RunnerError::Pack`], [`RunnerError::Environment`] or [`RunnerError::Usage`], by whose fault it is.
    pub fn open(request: &OpenRequest, profile: Option<&Path>) -> Result<Self, RunnerError> {
        let (pack, sizes) = read(&request.pack, contract::sizes)?;
        let mut settings = SessionSettings::of(request)?;
        settings.profile = profile.map(Path::to_path_buf);
        let mut loader = PackLoader::begin(&pack, &settings, request.ort_lib.as_deref())?;
        let preprocess = Preprocess::new(&pack.manifest.input);
        let bytes = settings.image_as_bytes();
        let edge = bytes.then(|| Edge::Pixels(IMAGE, preprocess.levels()));
        let wanted = GraphRequest { name: SEGMENTER, settings: &settings, on_device: false, edge: edge.as_ref() };
        let [graph] = loader.graphs([wanted])?;
        let mut report = loader.end();
        let threshold = settings.query_score();
        let score_of = "the probability of its best class on the frame";
        let panoptic = Panoptic::of(&pack, &settings, score_of, &mut report);
        if panoptic.is_none() {
            report.notes.push(format!(
                "an object is a query with a score (probability of its best class times mean probability of its mask) from {threshold} on"
            ));
        }
        report.notes.push("a track has the best class of the mean logits of all frames".to_string());
        let host = graph.device_allocator(Device::Cpu)?;
        let device = graph.device_allocator(request.device)?;
        let (queries, side) = (sizes.queries as i64, sizes.side as i64);
        let state = [1, queries, sizes.channels as i64];
        let mut segmenter = Segmenter {
            bindings: [graph.binding()?, graph.binding()?, graph.binding()?],
            image: Image::new(&host, sizes.image, bytes)?,
            logits: tensor(&host, &[1, queries, sizes.classes as i64 + 1])?,
            masks: tensor(&host, &[1, queries, side, side])?,
            nothing: tensor(&host, &state)?,
            queries: [tensor(&device, &state)?, tensor(&device, &state)?],
            graph,
            preprocess,
            on_gpu: settings.on_gpu(),
            steps: 0,
            sizes,
            answers: Answers::new(sizes, threshold, settings.exclusive(), panoptic),
            capabilities: contract::capabilities(&pack, &sizes, request.device),
            report,
            stage_times: settings.stage_times(),
            times: StageTimes::default(),
        };
        segmenter.bind()?;
        Ok(segmenter)
    }

    fn bind(&mut self) -> Result<(), RunnerError> {
        for (step, binding) in self.bindings.iter_mut().enumerate() {
            let from = if step == 0 { &self.nothing } else { &self.queries[step - 1] };
            input(binding, QUERIES.0, from)?;
            output(binding, LOGITS, &mut self.logits)?;
            output(binding, MASKS, &mut self.masks)?;
            output(binding, QUERIES.1, &mut self.queries[step % 2])?;
            self.image.bind(binding)?;
        }
        Ok(())
    }

    /// The next frame is the first of a sequence.
    pub fn restart(&mut self) {
        self.steps = 0;
        self.answers.reset();
    }

    /// Runs the graph on a frame.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for a frame whose bytes do not fit its size; [`RunnerError::Inference`] when the model fails, or gives
    /// classes that are no numbers.
    pub fn look(&mut self, frame: Frame<'_>) -> Result<(), RunnerError> {
        let mut clock = StageClock::start(self.stage_times);
        self.image.fill(&mut self.preprocess, frame)?;
        // 0 on the first frame, then 1 and 2 in turn.
        let at = if self.steps == 0 { 0 } else { 2 - self.steps % 2 };
        if self.on_gpu {
            // A session on a device copies its inputs while they are bound.
            self.image.bind(&mut self.bindings[at])?;
        }
        clock.lap(&mut self.times, Stage::Preprocess);
        self.graph.run(&self.bindings[at])?;
        self.steps += 1;
        clock.lap(&mut self.times, Stage::Detector);
        match self.logits().iter().all(|logit| logit.is_finite()) {
            true => Ok(()),
            false => Err(failed(SEGMENTER, "it gave logits of classes that are no numbers")),
        }
    }

    /// Class logits of the last frame, `[Q, C + 1]`.
    pub fn logits(&self) -> &[f32] {
        self.logits.extract_tensor().1
    }

    /// Mask logits of the last frame, `[Q, s, s]`.
    pub fn masks(&self) -> &[f32] {
        self.masks.extract_tensor().1
    }

    /// Queries of the next frame, `[Q, D]`; `None` where they are on a device.
    pub fn queries(&self) -> Option<&[f32]> {
        let written = (self.steps + 1) % 2;
        (!self.on_gpu && self.steps > 0).then(|| self.queries[written].extract_tensor().1)
    }

    /// Objects are judged by this score, and a pixel belongs to one at most.
    pub fn judge_by(&mut self, threshold: f64) {
        self.answers = Answers::new(self.sizes, threshold, true, None);
    }

    /// What opening showed.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Sizes of the pack.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// As [`crate::frame::Preprocess::resize`].
    pub fn resized(&mut self, frame: Frame<'_>) -> Result<Vec<u8>, RunnerError> {
        self.preprocess.resize(frame)
    }

    /// Ends profiling and gives the file that ONNX Runtime wrote.
    ///
    /// # Errors
    /// As [`GraphSession::end_profile`].
    pub fn end_profile(&mut self) -> Result<PathBuf, RunnerError> {
        self.graph.end_profile()
    }

    /// What of the last frame are objects; with a list those of the queries with these numbers.
    pub fn objects(&mut self, frame: Frame<'_>, of: Option<&[u32]>) -> crate::types::FrameMasks {
        let mut clock = StageClock::start(self.stage_times);
        let (logits, masks) = (self.logits.extract_tensor().1, self.masks.extract_tensor().1);
        let found = self.answers.frame(logits, masks, frame, of);
        clock.lap(&mut self.times, Stage::Postprocess);
        found
    }
}
