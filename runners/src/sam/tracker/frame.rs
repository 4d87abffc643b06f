//! What happens on a frame? It is encoded; the objects that are tracked attend to their memories, are decoded without a prompt and
//! remembered; what comes then is the caller's: prompts, or a detector's boxes; at last pixels that several masks claim are
//! given to one.

use super::Tracker;
use super::objects::wiring;
use crate::host::tensor::FloatTensor;
use crate::runner::{RunnerError, check_frame, check_prompts};
use crate::sam::contract;
use crate::sam::groups::batches;
use crate::sam::state::Memories;
use crate::types::{Frame, FrameMasks, ObjectMask, Prompt, Stage, StageClock, StageTimes};

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

/// A frame on its way through the tracker.
pub struct Passing<'a> {
    pub frame: Frame<'a>,
    pub clock: StageClock,
    pub masks: FrameMasks,
    observe: &'a mut dyn FnMut(RawOutput<'_>),
}

impl Tracker {
    pub(super) fn step_with(
        &mut self,
        frame: Frame<'_>,
        prompts: &[Prompt],
        next: Option<Frame<'_>>,
        observe: &mut dyn FnMut(RawOutput<'_>),
    ) -> Result<FrameMasks, RunnerError> {
        check_frame(frame)?;
        self.live.clear();
        self.live.extend(self.groups.iter().flat_map(|group| &group.objects));
        check_prompts(&self.capabilities, frame, prompts, &self.live)?;
        self.pass(frame, next, observe, |tracker, passing| tracker.start(prompts, passing))
    }

    /// Takes a frame through: `work` comes after all objects were followed on it.
    pub(super) fn pass(
        &mut self,
        frame: Frame<'_>,
        next: Option<Frame<'_>>,
        observe: &mut dyn FnMut(RawOutput<'_>),
        work: impl FnOnce(&mut Tracker, &mut Passing<'_>) -> Result<(), RunnerError>,
    ) -> Result<FrameMasks, RunnerError> {
        next.map_or(Ok(()), check_frame)?;
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
            let passing = Passing { frame, clock, masks: self.returned.pop().unwrap_or_default(), observe };
            let Some(next) = next.filter(|_| encoder.works_ahead()) else {
                return self.advance(passing, work);
            };
            let second = StageClock::start(self.settings.stage_times());
            std::thread::scope(|scope| {
                let ahead = scope.spawn(|| encoder.begin(next, second));
                let masks = self.advance(passing, work);
                match ahead.join() {
                    Ok(encoded) => masks.and_then(|masks| encoded.map(|()| masks)),
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
        mut passing: Passing<'_>,
        work: impl FnOnce(&mut Tracker, &mut Passing<'_>) -> Result<(), RunnerError>,
    ) -> Result<FrameMasks, RunnerError> {
        self.planes.clear();
        self.boxes.clear();
        self.follow(&mut passing)?;
        work(self, &mut passing)?;
        let Passing { mut masks, mut clock, .. } = passing;
        if self.settings.exclusive() && masks.objects.len() > 1 {
            self.thresholder.resolve_overlaps(&mut masks.objects, &self.planes, self.sizes.mask() as usize);
            clock.lap(&mut self.times, Stage::Postprocess);
        }
        Ok(masks)
    }

    /// Masks of the objects that are tracked, and their memories of this frame.
    fn follow(&mut self, passing: &mut Passing<'_>) -> Result<(), RunnerError> {
        let on_gpu = self.settings.on_gpu();
        let mut groups = std::mem::take(&mut self.groups);
        let followed = groups.iter_mut().try_for_each(|group| -> Result<(), RunnerError> {
            let wiring = wiring(&mut self.wirings, group.objects.len())?;
            group.memories.attend(&mut self.memory_attention)?;
            passing.clock.lap(&mut self.times, Stage::MemoryAttention);
            self.mask_decoder.run(&wiring.decode_tracked)?;
            passing.clock.lap(&mut self.times, Stage::MaskDecoder);
            group.memories.remember(&mut self.memory_encoder, &wiring.passed, on_gpu)?;
            passing.clock.lap(&mut self.times, Stage::MemoryEncoder);
            self.copies.group(&self.sizes, &self.settings, group.objects.len(), false);
            self.results(&group.objects, Some(&group.memories), false, passing)?;
            #[cfg(test)]
            self.damage(group);
            passing.clock.lap(&mut self.times, Stage::Postprocess);
            Ok(())
        });
        self.groups = groups;
        followed
    }

    /// Starts the objects of prompts.
    fn start(&mut self, prompts: &[Prompt], passing: &mut Passing<'_>) -> Result<(), RunnerError> {
        for together in batches(prompts, self.most_together()) {
            let mut group = self.new_group(together.iter().map(|prompt| prompt.object).collect())?;
            passing.clock.lap(&mut self.times, Stage::Postprocess);
            let bypassed = self.decode_prompts(passing.frame, together)?;
            passing.clock.lap(&mut self.times, Stage::MaskDecoder);
            self.begin(&mut group)?;
            passing.clock.lap(&mut self.times, Stage::MemoryEncoder);
            self.results(&group.objects, Some(&group.memories), true, passing)?;
            if bypassed {
                let first = passing.masks.objects.len() - group.objects.len();
                passing.masks.objects[first..].iter_mut().for_each(|o| o.predicted_iou = f32::NAN);
            }
            #[cfg(test)]
            self.damage(&mut group);
            self.admit(group)?;
            passing.clock.lap(&mut self.times, Stage::Postprocess);
        }
        Ok(())
    }

    /// Results of the objects that just ran together, from the tensors they were written to; their memories, where they have any yet.
    pub(super) fn results(
        &mut self,
        objects: &[u32],
        memories: Option<&Memories>,
        prompted: bool,
        passing: &mut Passing<'_>,
    ) -> Result<(), RunnerError> {
        let side = self.sizes.mask() as usize;
        let exclusive = self.settings.exclusive();
        let on_gpu = self.settings.on_gpu();
        let frame = passing.frame;
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
                if let Some(memories) = memories {
                    inner.push((contract::MEMORY_ENCODER, "bank_out", share(&memories.current().bank)));
                }
                inner
            };
            let finite = object_score.is_finite() && pointer.is_finite() && low_res.iter().all(|v| v.is_finite());
            let mut mask = self.blank.pop().unwrap_or_default();
            let bbox = self.thresholder.fill(low_res, side, frame.width, frame.height, &mut mask);
            (passing.observe)(RawOutput { object, low_res, object_score, obj_ptr, mask: &mask, inner: &inner });
            let claimed = bbox.is_some();
            self.boxes.push(bbox.map(|bbox| bbox.map(f64::from)));
            passing.masks.objects.push(ObjectMask { object, mask, claimed, object_score, predicted_iou, finite });
            if exclusive {
                self.planes.extend_from_slice(low_res);
            }
        }
        Ok(())
    }
}
