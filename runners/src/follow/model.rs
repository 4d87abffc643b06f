//! One open DVIS-DAQ: a frame goes in, class and mask logits of the live tracks come out, and the tracks stay on the device for the next one.

use std::path::{Path, PathBuf};

use ort::session::IoBinding;
use ort::value::Tensor;

use super::contract::{
    self, FIRST, IMAGE, LOGITS, MASKS, MATCH, OF_FRAME, RULES, SEEN, SIMILARITY, SOURCE, STATES, STEP, Sizes, TOTAL,
};
use super::life::{Entry, Lives, Told, sureness};
use crate::frame::{Candidate, Cropped, Fitted, Way, logit};
use crate::host::loader::{GraphRequest, PackLoader};
use crate::host::session::{GraphSession, failed};
use crate::host::settings::SessionSettings;
use crate::host::tensor::{FloatTensor, input, output, tensor};
use crate::runner::RunnerError;
use crate::sam::contract::read;
use crate::sam::copies::Copies;
use crate::segment::contract::SEGMENTER;
use crate::segment::panoptic::Panoptic;
use crate::types::{
    Capabilities, Device, Frame, FrameMasks, Mask, ObjectMask, OpenReport, OpenRequest, Stage, StageClock, StageTimes,
};

/// One open segmenter. Fields are dropped in order: bindings and tensors go before the sessions whose memory they use.
pub struct Follower {
    see: IoBinding,
    /// Of the step: from nothing to the first set of states, from that to the second, and back.
    steps: [IoBinding; 3],
    /// `[1, 3, H, W]`, on the host.
    image: FloatTensor,
    /// What the segmenter says of the frame, on the device.
    of_frame: [FloatTensor; 4],
    /// 1 and 0, `[1]`, on the host.
    first: [FloatTensor; 2],
    /// Limits, `[4]`, on the host.
    rules: FloatTensor,
    /// Queries that the slots ask for, `[rows]`, on the host; of packs with a slot branch.
    matched: Option<Tensor<i32>>,
    /// Zeros in the shapes of the state, on the host.
    nothing: [FloatTensor; 6],
    /// Two sets of states, on the device.
    states: [[FloatTensor; 6]; 2],
    logits: FloatTensor,
    masks: FloatTensor,
    source: FloatTensor,
    seen: FloatTensor,
    total: FloatTensor,
    /// Cosines `[rows, queries]`, on the host; of packs with a slot branch.
    similarity: Option<FloatTensor>,
    /// Segmenter and step.
    pub(super) graphs: [GraphSession; 2],
    fitted: Fitted,
    cropped: Cropped,
    /// Columns and rows of the input that the last frame took.
    taken: [u32; 2],
    on_gpu: bool,
    exclusive: bool,
    /// Where objects share a frame's pixels among them.
    panoptic: Option<Panoptic>,
    pub(super) sizes: Sizes,
    pub(super) lives: Lives,
    /// Masks whose memory is used again.
    pub(super) spare: Vec<Mask>,
    pub(super) capabilities: Capabilities,
    pub(super) report: OpenReport,
    stage_times: bool,
    pub(super) times: StageTimes,
}

fn words(sizes: &Sizes, panoptic: Option<&Panoptic>) -> String {
    let r = &sizes.rules;
    let branch = match r.slot_branch {
        true => format!(" and one above {} in the slot branch", r.keep_score),
        false => String::new(),
    };
    let result = match panoptic {
        Some(panoptic) => {
            format!("those that ever had a segment and whose score by all frames is above {}", panoptic.limit())
        }
        None => format!("the {} likeliest pairs of track and class", r.most),
    };
    format!(
        "a track is a query with a probability of its best class above {} (on the first frame the segmenter's above {}){branch}; {} frames \
         without it end it, one of fewer than {} frames is left out unless it lives to the end, and the result has {result}; \
         at most {} tracks live at a time",
        r.select_score, r.first_score, r.kick_out_frames, r.noise_frames, r.slots
    )
}

impl Follower {
    /// Adds what crosses between host and device on a frame.
    pub fn count_copies(&self, copies: &mut Copies) {
        let Sizes { input: [width, height], coarse: [across, down], queries, classes, .. } = self.sizes;
        let (slots, rows) = (self.sizes.slots(), self.sizes.rows());
        let mut push = |graph, tensor, to_host, values: usize| {
            copies.push_bytes(graph, tensor, to_host, 4 * values as u64, false);
        };
        push(SEGMENTER, IMAGE, false, 3 * width * height);
        if self.matched.is_some() {
            push(STEP, MATCH, false, rows);
            push(STEP, SIMILARITY, true, rows * queries);
        }
        push(STEP, LOGITS, true, slots * (classes + 1));
        push(STEP, MASKS, true, slots * across * down);
        push(STEP, "source, seen, total", true, 2 * slots + 1);
    }

    /// Checks the pack of a request, loads ONNX Runtime and the graphs, and binds their tensors. With a directory, ONNX Runtime profiles the
    /// graphs into it, which costs time.
    ///
    /// # Errors
    /// [`RunnerError::Pack`], [`RunnerError::Environment`] or [`RunnerError::Usage`], by whose fault it is.
    pub fn open(request: &OpenRequest, profile: Option<&Path>) -> Result<Self, RunnerError> {
        let (pack, sizes) = read(&request.pack, contract::sizes)?;
        let mut settings = SessionSettings::of(request)?;
        settings.profile = profile.map(Path::to_path_buf);
        let mut loader = PackLoader::begin(&pack, &settings, request.ort_lib.as_deref())?;
        let wanted = |name| GraphRequest { name, settings: &settings, on_device: false, edge: None };
        let graphs = loader.graphs([wanted(SEGMENTER), wanted(STEP)])?;
        let mut report = loader.end();
        let score_of = "the probability of a track's best class by its mean logits up to the frame";
        let panoptic = Panoptic::of(&pack, &settings, score_of, &mut report);
        report.notes.push(words(&sizes, panoptic.as_ref()));
        let [see, step] = &graphs;
        let host = see.device_allocator(Device::Cpu)?;
        let device = see.device_allocator(request.device)?;
        let of_state = |memory| -> Result<[FloatTensor; 6], RunnerError> {
            let [a, b, c, d, e, f] = sizes.states().map(|shape| tensor(memory, &shape));
            Ok([a?, b?, c?, d?, e?, f?])
        };
        let [a, b, c, d] = sizes.of_frame().map(|shape| tensor(&device, &shape));
        let of_frame = [a?, b?, c?, d?];
        let (slots, rows) = (sizes.slots() as i64, sizes.rows() as i64);
        let [across, down] = sizes.coarse.map(|n| n as i64);
        let matched = || {
            Tensor::<i32>::new(&host, vec![rows])
                .map_err(|e| RunnerError::Environment(format!("cannot allocate a tensor of shape [{rows}]: {e}")))
        };
        let similarity = || tensor(&host, &[rows, sizes.queries as i64]);
        let branch = sizes.rules.slot_branch;
        let mut follower = Follower {
            see: see.binding()?,
            steps: [step.binding()?, step.binding()?, step.binding()?],
            image: tensor(&host, &[1, 3, sizes.input[1] as i64, sizes.input[0] as i64])?,
            of_frame,
            first: [tensor(&host, &[1])?, tensor(&host, &[1])?],
            rules: tensor(&host, &[4])?,
            matched: branch.then(matched).transpose()?,
            nothing: of_state(&host)?,
            states: [of_state(&device)?, of_state(&device)?],
            logits: tensor(&host, &[slots, sizes.classes as i64 + 1])?,
            masks: tensor(&host, &[slots, down, across])?,
            source: tensor(&host, &[slots])?,
            seen: tensor(&host, &[slots])?,
            total: tensor(&host, &[1])?,
            similarity: branch.then(similarity).transpose()?,
            fitted: Fitted::new(&pack.manifest.input, sizes.fit),
            cropped: Cropped::new(sizes.coarse, sizes.input.map(|side| side as u32)),
            taken: [0; 2],
            on_gpu: settings.on_gpu(),
            exclusive: settings.exclusive(),
            panoptic,
            lives: Lives::new(sizes),
            spare: Vec::new(),
            capabilities: contract::capabilities(&pack, &sizes, request.device),
            report,
            stage_times: settings.stage_times(),
            times: StageTimes::default(),
            sizes,
            graphs,
        };
        follower.bind()?;
        Ok(follower)
    }

    fn bind(&mut self) -> Result<(), RunnerError> {
        let r = &self.sizes.rules;
        let limits = [r.select_score, r.first_score, r.keep_score, r.kick_out_frames as f32];
        self.rules.extract_tensor_mut().1.copy_from_slice(&limits);
        self.first[0].extract_tensor_mut().1[0] = 1.0;
        input(&mut self.see, IMAGE, &self.image)?;
        for (name, tensor) in OF_FRAME.iter().zip(&mut self.of_frame) {
            output(&mut self.see, name, tensor)?;
        }
        for (at, binding) in self.steps.iter_mut().enumerate() {
            for (name, tensor) in OF_FRAME.iter().zip(&self.of_frame) {
                input(binding, name, tensor)?;
            }
            input(binding, FIRST, &self.first[at.min(1)])?;
            input(binding, RULES, &self.rules)?;
            let from = if at == 0 { &self.nothing } else { &self.states[at - 1] };
            for ((name, _), tensor) in STATES.iter().zip(from) {
                input(binding, name, tensor)?;
            }
            for ((_, name), tensor) in STATES.iter().zip(&mut self.states[at % 2]) {
                output(binding, name, tensor)?;
            }
            for (name, tensor) in [LOGITS, MASKS, SOURCE, SEEN, TOTAL].into_iter().zip([
                &mut self.logits,
                &mut self.masks,
                &mut self.source,
                &mut self.seen,
                &mut self.total,
            ]) {
                output(binding, name, tensor)?;
            }
            if let (Some(matched), Some(similarity)) = (&self.matched, &mut self.similarity) {
                bind_match(binding, matched)?;
                output(binding, SIMILARITY, similarity)?;
            }
        }
        Ok(())
    }

    /// The next frame is the first of a sequence.
    pub fn restart(&mut self) {
        self.lives.reset();
    }

    /// Runs the graphs on a frame.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for a frame whose bytes do not fit its size; [`RunnerError::Inference`] when a graph fails, gives classes that
    /// are no numbers, or tracks that come from nowhere.
    pub fn look(&mut self, frame: Frame<'_>) -> Result<(), RunnerError> {
        let mut clock = StageClock::start(self.stage_times);
        self.taken = self.fitted.fill(frame, self.image.extract_tensor_mut().1, self.sizes.input[0])?;
        let steps = self.lives.frames() as usize;
        // 0 on the first frame, then 1 and 2 in turn.
        let at = if steps == 0 { 0 } else { 2 - steps % 2 };
        if let (Some(matched), Some(similarity)) = (&mut self.matched, &self.similarity) {
            self.lives.choose(similarity.extract_tensor().1, matched.extract_tensor_mut().1);
        }
        if self.on_gpu {
            // A session on a device copies its inputs while they are bound.
            input(&mut self.see, IMAGE, &self.image)?;
            if let Some(matched) = &self.matched {
                bind_match(&mut self.steps[at], matched)?;
            }
        }
        clock.lap(&mut self.times, Stage::Preprocess);
        let [see, step] = &mut self.graphs;
        see.run(&self.see)?;
        step.run(&self.steps[at])?;
        clock.lap(&mut self.times, Stage::Detector);
        let told = Told {
            logits: self.logits.extract_tensor().1,
            source: self.source.extract_tensor().1,
            seen: self.seen.extract_tensor().1,
            total: self.total.extract_tensor().1[0],
        };
        match self.lives.frame(&told) {
            true => Ok(()),
            false => Err(failed(STEP, "it gave tracks that come from nowhere, or numbers that are none")),
        }
    }

    /// The live tracks, in the order of their slots.
    pub fn live(&self) -> &[Entry] {
        self.lives.live()
    }

    /// Births for which there was no slot, since the first frame.
    pub fn dropped(&self) -> u32 {
        self.lives.dropped()
    }

    /// Class logits of the live tracks on the last frame, `[n, C + 1]`.
    pub fn logits(&self) -> &[f32] {
        &self.logits.extract_tensor().1[..self.live().len() * (self.sizes.classes + 1)]
    }

    /// Mask logits of the live tracks on the last frame, `[n, h, w]`.
    pub fn masks(&self) -> &[f32] {
        let [across, down] = self.sizes.coarse;
        &self.masks.extract_tensor().1[..self.live().len() * across * down]
    }

    /// What opening showed.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Sizes of the pack.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// As [`Fitted::resize`].
    pub fn resized(&mut self, frame: Frame<'_>) -> Result<Vec<u8>, RunnerError> {
        self.fitted.resize(frame)
    }

    /// The tracks so far; see [`Lives::tracks`].
    pub fn tracks(&self) -> crate::types::FoundTracks {
        self.lives.tracks(self.panoptic.as_ref())
    }

    /// Overlaps are left as they are.
    pub fn keep_overlaps(&mut self) {
        self.exclusive = false;
    }

    /// Ends profiling and gives each graph's name and the file that ONNX Runtime wrote.
    ///
    /// # Errors
    /// As [`GraphSession::end_profile`].
    pub fn end_profiles(&mut self) -> Result<Vec<(String, PathBuf)>, RunnerError> {
        self.graphs.iter_mut().map(|graph| Ok((graph.name.clone(), graph.end_profile()?))).collect()
    }

    /// The masks of the live tracks on the last frame, those too that are only waited for; what the model draws there is its guess. With a
    /// list those of the tracks in it.
    pub fn objects(&mut self, frame: Frame<'_>, of: Option<&[u32]>) -> FrameMasks {
        let mut clock = StageClock::start(self.stage_times);
        let [across, down] = self.sizes.coarse;
        let (logits, masks) = (self.logits.extract_tensor().1, self.masks.extract_tensor().1);
        let rows = logits.chunks_exact(self.sizes.classes + 1).zip(masks.chunks_exact(across * down));
        let mut objects: Vec<ObjectMask> = Vec::with_capacity(self.lives.live().len());
        let live = self.lives.live().iter().zip(rows);
        let size = [frame.width, frame.height];
        let mut segments = self.panoptic.as_mut().map(|panoptic| {
            let mut candidates = Vec::new();
            for (entry, (_, logits)) in live.clone() {
                if let Some(score) = self.lives.share_of(entry.id, panoptic) {
                    candidates.push((entry.id, Candidate { score: score as f32, logits }));
                }
            }
            let input = self.sizes.input.map(|side| side as u32);
            let way = Way { logits: self.sizes.coarse, input, taken: self.taken, frame: size };
            panoptic.segments(way, candidates.into_iter(), &mut self.spare)
        });
        for (entry, (logits, masks)) in live.filter(|(entry, _)| of.is_none_or(|of| of.contains(&entry.id))) {
            let segment = segments.as_mut().and_then(|segments| segments.remove(&entry.id));
            let shared = segment.is_some();
            let mut mask = segment.or_else(|| self.spare.pop()).unwrap_or_default();
            match &segments {
                None => self.cropped.fill(masks, self.taken, size, &mut mask),
                Some(_) if shared => {}
                Some(_) => mask.reset(size[0], size[1]),
            }
            objects.push(ObjectMask {
                object: entry.id,
                claimed: !mask.is_empty(),
                mask,
                object_score: logit(sureness(logits)),
                predicted_iou: f32::NAN,
                finite: masks.iter().all(|logit| logit.is_finite()),
            });
        }
        if self.panoptic.is_some() {
            let shown = objects.iter().filter(|object| object.claimed);
            shown.for_each(|object| self.lives.has_segment(object.object));
        }
        if self.exclusive {
            for at in 1..objects.len() {
                let (before, rest) = objects.split_at_mut(at);
                rest.iter_mut().for_each(|object| object.mask.subtract(&before[at - 1].mask));
            }
        }
        clock.lap(&mut self.times, Stage::Postprocess);
        FrameMasks { objects }
    }
}

fn bind_match(binding: &mut IoBinding, matched: &Tensor<i32>) -> Result<(), RunnerError> {
    binding.bind_input(MATCH, matched).map_err(|e| RunnerError::Inference(format!("cannot bind input `{MATCH}`: {e}")))
}
