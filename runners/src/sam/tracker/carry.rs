//! How are tracks founded and ended on a frame that all others were followed on? A box is decoded, its mask is looked at, and only
//! then is the track remembered; what ends leaves its batch when the frame is done.

use ort::value::Tensor;

use super::Tracker;
use super::frame::Passing;
use crate::associate::Carrier;
use crate::runner::{RunnerError, check_frame};
use crate::sam::groups::Group;
use crate::sam::state::MemoryState;
use crate::types::{Frame, FrameMasks, Mask, Prompt, PromptShape, Stage};

/// A frame on which all tracks were followed. Its masks are those before pixels that several claim are given to one.
pub struct Followed<'t, 'p, 'f> {
    tracker: &'t mut Tracker,
    pub(super) passing: &'p mut Passing<'f>,
    started: Vec<Group>,
    ended: Vec<u32>,
}

impl Tracker {
    /// From now on tracks are founded and ended by [`Tracker::carry`]: what that needs is loaded.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] with ONNX Runtime's text.
    pub fn found_tracks(&mut self) -> Result<(), RunnerError> {
        self.founds = true;
        self.rows.load()
    }

    /// Follows all tracks on a frame, hands it to `work`, which founds and ends tracks, and gives the masks. `next` as in
    /// [`crate::runner::Runner::step_ahead`].
    ///
    /// # Errors
    /// As [`crate::runner::Runner::step`], and those of `work`.
    pub fn carry(
        &mut self,
        frame: Frame<'_>,
        next: Option<Frame<'_>>,
        work: &mut dyn FnMut(&mut Followed<'_, '_, '_>) -> Result<(), RunnerError>,
    ) -> Result<FrameMasks, RunnerError> {
        check_frame(frame)?;
        self.pass(frame, next, &mut |_| {}, |tracker, passing| {
            let mut followed = Followed { tracker, passing, started: Vec::new(), ended: Vec::new() };
            work(&mut followed)?;
            let Followed { tracker, passing, started, ended } = followed;
            tracker.settle(&ended, started)?;
            passing.clock.lap(&mut tracker.times, Stage::Postprocess);
            Ok(())
        })
    }

    /// After a frame: objects that ended leave their batches, those that started (each a group of its own) come into one. What
    /// the others have in memory stays as it is, to the bit.
    fn settle(&mut self, ended: &[u32], started: Vec<Group>) -> Result<(), RunnerError> {
        if ended.is_empty() && started.is_empty() {
            return Ok(());
        }
        let mut batches: Vec<(Vec<Group>, Vec<u32>)> = Vec::new();
        for group in std::mem::take(&mut self.groups) {
            let objects: Vec<u32> = group.objects.iter().filter(|id| !ended.contains(id)).copied().collect();
            match objects.is_empty() {
                true => self.lay_by(group),
                false => batches.push((vec![group], objects)),
            }
        }
        // Where a batch must be of one age, those of this frame join nobody but each other.
        let old = if self.memory_attention.cpu_form { batches.len() } else { 0 };
        for group in started {
            match batches[old..].last_mut().filter(|(_, objects)| objects.len() < self.most_together()) {
                Some((parts, objects)) => {
                    objects.extend(&group.objects);
                    parts.push(group);
                }
                None => {
                    let objects = group.objects.clone();
                    batches.push((vec![group], objects));
                }
            }
        }
        for (mut parts, objects) in batches {
            if parts.len() == 1 && parts[0].objects == objects {
                self.groups.append(&mut parts);
                continue;
            }
            let group = self.rearrange(&parts, objects)?;
            self.groups.push(group);
            parts.into_iter().for_each(|part| self.lay_by(part));
        }
        let live: Vec<usize> = self.groups.iter().map(|group| group.objects.len()).collect();
        self.wirings.retain(|size, _| *size == 1 || live.contains(size));
        if self.most_together() > 1 {
            // What ended gives its memory back; one object's is kept, for the next that starts.
            self.wirings.iter_mut().for_each(|(size, wiring)| wiring.spare.truncate(usize::from(*size == 1)));
        }
        Ok(())
    }

    /// A group of those objects of the first part that stay and of all objects of the others.
    fn rearrange(&mut self, parts: &[Group], objects: Vec<u32>) -> Result<Group, RunnerError> {
        let mut memories = self.new_memories(objects.len())?;
        for layer in 0..memories.layers() {
            self.rearrange_layer(parts, &objects, layer, memories.anew(layer))?;
        }
        Ok(Group { objects, memories })
    }

    /// The states of one layer of those objects, into `target`.
    fn rearrange_layer(
        &mut self,
        parts: &[Group],
        objects: &[u32],
        layer: usize,
        target: &mut MemoryState,
    ) -> Result<(), RunnerError> {
        let Some((first, others)) = parts.split_first() else { return Ok(()) };
        let staying = first.objects.iter().enumerate().filter(|(_, id)| objects.contains(id));
        let staying: Vec<i32> = staying.map(|(i, _)| i as i32).collect();
        // What was put together so far, where that is not the first part as it was.
        let mut before: Option<MemoryState> = None;
        if staying.len() < first.objects.len() {
            let rows = self.row_numbers(&staying)?;
            let mut kept = match others.is_empty() {
                true => None,
                false => Some(MemoryState::new(&self.device, &self.sizes, staying.len())?),
            };
            let into = kept.as_mut().unwrap_or(target);
            self.rows.take_out(first.memories.layer(layer), &rows, into)?;
            before = kept;
        }
        let mut count = staying.len();
        for (i, part) in others.iter().enumerate() {
            count += part.objects.len();
            let mut both = match i + 1 == others.len() {
                true => None,
                false => Some(MemoryState::new(&self.device, &self.sizes, count)?),
            };
            let into = both.as_mut().unwrap_or(target);
            let so_far = before.as_ref().unwrap_or(first.memories.layer(layer));
            self.rows.put_together(so_far, part.memories.layer(layer), into)?;
            before = both;
        }
        Ok(())
    }

    fn row_numbers(&mut self, numbers: &[i32]) -> Result<Tensor<i32>, RunnerError> {
        let mut rows = Tensor::<i32>::new(&self.host, vec![numbers.len() as i64])
            .map_err(|e| RunnerError::Environment(format!("cannot allocate row numbers: {e}")))?;
        rows.extract_tensor_mut().1.copy_from_slice(numbers);
        self.copies.rows(&self.settings, numbers.len());
        Ok(rows)
    }
}

impl Followed<'_, '_, '_> {
    /// The time since the last lap was this stage's.
    pub fn lap(&mut self, stage: Stage) {
        self.passing.clock.lap(&mut self.tracker.times, stage);
    }

    /// The place of a track among the masks of this frame.
    fn place(&self, id: u32) -> usize {
        let found = self.passing.masks.objects.iter().position(|object| object.object == id);
        found.expect("only tracks that were followed or founded on this frame are asked for")
    }

    /// Takes a mask out of this frame.
    fn withdraw(&mut self, id: u32) {
        let objects = &mut self.passing.masks.objects;
        if let Some(at) = objects.iter().position(|object| object.object == id) {
            self.tracker.blank.push(objects.remove(at).mask);
            self.tracker.boxes.remove(at);
            if !self.tracker.planes.is_empty() {
                let plane = (self.tracker.sizes.mask() as usize).pow(2);
                self.tracker.planes.drain(at * plane..(at + 1) * plane);
            }
        }
    }
}

impl Carrier for Followed<'_, '_, '_> {
    type Error = RunnerError;

    fn mask(&self, id: u32) -> &Mask {
        &self.passing.masks.objects[self.place(id)].mask
    }

    fn bbox(&self, id: u32) -> Option<[f64; 4]> {
        self.tracker.boxes[self.place(id)]
    }

    fn found(&mut self, id: u32, [x0, y0, x1, y1]: [f64; 4]) -> Result<(), RunnerError> {
        self.lap(Stage::Association);
        // A prompt names the last column and row, not the edges behind them.
        let shape = PromptShape::Bbox([x0, y0, x1 - 1.0, y1 - 1.0].map(|edge| edge as f32));
        self.tracker.wire(1)?;
        self.tracker.decode_prompts(self.passing.frame, &[Prompt { object: id, shape }])?;
        self.lap(Stage::MaskDecoder);
        self.tracker.results(&[id], None, true, self.passing)?;
        self.lap(Stage::Postprocess);
        Ok(())
    }

    fn keep(&mut self, id: u32) -> Result<(), RunnerError> {
        self.lap(Stage::Association);
        let mut group = self.tracker.new_group(vec![id])?;
        self.tracker.begin(&mut group)?;
        self.started.push(group);
        self.lap(Stage::MemoryEncoder);
        Ok(())
    }

    fn refuse(&mut self, id: u32) {
        self.withdraw(id);
    }

    fn end(&mut self, id: u32, taken_back: bool) {
        self.ended.push(id);
        if taken_back {
            self.withdraw(id);
        }
    }
}
