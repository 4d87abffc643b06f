//! The memory of tracked objects, resident on the device: two sets of {bank, pointers, age} buffers with one entry per
//! object, and the bindings that read one and write the other. Per frame the parity flips; nothing is allocated, copied
//! or re-bound. Where the last frame is always seen, a third set holds what the next frame sees. Objects that join later get a memory of their own first, which is then joined with the others (`rows`).

use std::sync::atomic::{AtomicU32, Ordering};

use ort::memory::Allocator;
use ort::session::IoBinding;

use crate::host::session::GraphSession;
use crate::host::tensor::{FloatTensor, input, output, tensor};
use crate::onnx::Gate;
use crate::runner::RunnerError;
use crate::sam::contract::{STATES, TensorSizes};

/// One set of state tensors of `n` objects.
pub struct MemoryState {
    /// Memory slots `[n, frames, tokens, channels]`: slot 0 is the prompted frame, slot j the frame j steps back.
    pub bank: FloatTensor,
    /// Object pointers `[n, pointers, hidden]`, in the same order.
    pub ptrs: FloatTensor,
    /// Frames since the prompted one, `[n]`: 1 after it.
    pub age: FloatTensor,
}

impl MemoryState {
    /// Zero on the host, undefined on a device.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] when there is no memory left.
    pub fn new(allocator: &Allocator, s: &TensorSizes, objects: usize) -> Result<Self, RunnerError> {
        let n = objects as i64;
        Ok(MemoryState {
            bank: tensor(allocator, &[n, s.frames, s.tokens, s.channels])?,
            ptrs: tensor(allocator, &[n, s.pointers, s.hidden])?,
            age: tensor(allocator, &[n])?,
        })
    }

    /// As what the graph gives out for the last frame, whatever that is worth.
    fn bind_last(&mut self, binding: &mut IoBinding) -> Result<(), RunnerError> {
        let tensors = [&mut self.bank, &mut self.ptrs, &mut self.age];
        STATES.iter().zip(tensors).try_for_each(|((_, after), tensor)| output(binding, &Gate::last(after), tensor))
    }

    fn bind_inputs(&self, binding: &mut IoBinding) -> Result<(), RunnerError> {
        input(binding, "bank", &self.bank)?;
        input(binding, "ptrs", &self.ptrs)?;
        input(binding, "age", &self.age)
    }

    pub(super) fn bind_outputs(&mut self, binding: &mut IoBinding) -> Result<(), RunnerError> {
        output(binding, "bank_out", &mut self.bank)?;
        output(binding, "ptrs_out", &mut self.ptrs)?;
        output(binding, "age_out", &mut self.age)
    }
}

/// Tensors of `n` objects that pass from one graph to the next within a frame, then are free for the next frame.
pub struct FrameTensors {
    /// Image features conditioned on the memories, `[n, hidden, side, side]`.
    pub cond_embed: FloatTensor,
    /// Masks in the scale the memory encoder takes, `[n, 1, side, side]`, with 16 times the grid as side.
    pub mask_for_memory: FloatTensor,
    /// Object score logits, `[n, 1]`.
    pub object_score: FloatTensor,
    /// Object pointers, `[n, hidden]`.
    pub obj_ptr: FloatTensor,
    /// Predicted IoU, `[n, 1]`.
    pub predicted_iou: FloatTensor,
    /// Does the memory encoder take it? Only where the memory is gated.
    pub gated: bool,
    /// The flag 0, for tracked frames, `[n]`.
    pub zero: FloatTensor,
    /// The flag 1, for prompted frames, `[n]`.
    pub one: FloatTensor,
    /// Are scores and pointers on the host? Else they stay on the device.
    pub results_on_host: bool,
}

/// The memories of `n` objects that run through the graphs together.
pub struct Memories {
    pair: [MemoryState; 2],
    /// Index of the set that holds the current state.
    current: usize,
    /// The current state with the last frame, where that is always seen; else the current state is what the next frame sees.
    seen: Option<MemoryState>,
    attend: [IoBinding; 2],
    /// Numbers of the two attention bindings, for captured kernels.
    captures: [u32; 2],
    encode: [IoBinding; 2],
    /// Made when the first prompt comes; memories that were joined from others never need it.
    encode_prompt: Option<IoBinding>,
}

impl Memories {
    /// Allocates the sets for `objects` and makes the bindings; `passed` must be of the same number of objects. `sees_last`: does each frame
    /// see the one before it, whatever that was worth?
    ///
    /// # Errors
    /// [`RunnerError::Environment`] or [`RunnerError::Inference`] with ONNX Runtime's text.
    pub fn new(
        allocator: &Allocator,
        sizes: &TensorSizes,
        objects: usize,
        image_embed: &FloatTensor,
        passed: &mut FrameTensors,
        (attention, encoder): (&GraphSession, &GraphSession),
        sees_last: bool,
    ) -> Result<Self, RunnerError> {
        let mut pair = [MemoryState::new(allocator, sizes, objects)?, MemoryState::new(allocator, sizes, objects)?];
        let mut seen = sees_last.then(|| MemoryState::new(allocator, sizes, objects)).transpose()?;
        let mut attend = [attention.binding()?, attention.binding()?];
        for (binding, memory) in attend.iter_mut().zip(&pair) {
            input(binding, "image_embed", image_embed)?;
            seen.as_ref().unwrap_or(memory).bind_inputs(binding)?;
            output(binding, "cond_embed", &mut passed.cond_embed)?;
        }
        let mut encode = [encoder.binding()?, encoder.binding()?];
        for (from, binding) in encode.iter_mut().enumerate() {
            bind_frame(binding, image_embed, passed, &passed.zero)?;
            pair[from].bind_inputs(binding)?;
            pair[1 - from].bind_outputs(binding)?;
            seen.as_mut().map_or(Ok(()), |seen| seen.bind_last(binding))?;
        }
        // One capture per set of addresses, for as long as the process lives.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let first = NEXT.fetch_add(2, Ordering::Relaxed);
        Ok(Memories { pair, current: 0, seen, attend, captures: [first, first + 1], encode, encode_prompt: None })
    }

    /// Image features conditioned on these objects' memories, into `cond_embed`.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the graph.
    pub fn attend(&self, attention: &mut GraphSession) -> Result<(), RunnerError> {
        attention.run_replayable(&self.attend[self.current], self.captures[self.current])
    }

    /// Stores a prompted frame: it becomes slot 0, everything older is forgotten. `blank` is a state of zeros: its values
    /// do not matter, but they must be finite.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the graph.
    pub fn start(
        &mut self,
        encoder: &mut GraphSession,
        image_embed: &FloatTensor,
        passed: &FrameTensors,
        blank: &MemoryState,
        on_gpu: bool,
    ) -> Result<(), RunnerError> {
        match &mut self.encode_prompt {
            Some(binding) if on_gpu && passed.results_on_host => bind_results(binding, passed)?,
            Some(_) => {}
            none => {
                let mut binding = encoder.binding()?;
                bind_frame(&mut binding, image_embed, passed, &passed.one)?;
                blank.bind_inputs(&mut binding)?;
                self.pair[0].bind_outputs(&mut binding)?;
                self.seen.as_mut().map_or(Ok(()), |seen| seen.bind_last(&mut binding))?;
                *none = Some(binding);
            }
        }
        if let Some(binding) = &self.encode_prompt {
            encoder.run(binding)?;
        }
        self.current = 0;
        Ok(())
    }

    /// Stores a tracked frame and flips the parity.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the graph.
    pub fn remember(
        &mut self,
        encoder: &mut GraphSession,
        passed: &FrameTensors,
        on_gpu: bool,
    ) -> Result<(), RunnerError> {
        let binding = &mut self.encode[self.current];
        if on_gpu && passed.results_on_host {
            bind_results(binding, passed)?;
        }
        encoder.run(binding)?;
        self.current = 1 - self.current;
        Ok(())
    }

    /// The states that make up these memories: the current one, and that with the last frame.
    pub fn layers(&self) -> usize {
        1 + usize::from(self.seen.is_some())
    }

    /// One of them.
    pub fn layer(&self, layer: usize) -> &MemoryState {
        self.seen.as_ref().filter(|_| layer > 0).unwrap_or(self.current())
    }

    /// The set to be written next to begin anew from it, of a layer: the current one from now on.
    pub fn anew(&mut self, layer: usize) -> &mut MemoryState {
        match &mut self.seen {
            Some(seen) if layer > 0 => seen,
            _ => {
                self.current = 0;
                &mut self.pair[0]
            }
        }
    }

    /// The current state.
    pub fn current(&self) -> &MemoryState {
        &self.pair[self.current]
    }

    /// Makes the other set the current one.
    #[cfg(test)]
    pub fn flip(&mut self) {
        self.current = 1 - self.current;
    }

    /// The current state, writable. Host memory only.
    #[cfg(test)]
    pub fn current_mut(&mut self) -> &mut MemoryState {
        &mut self.pair[self.current]
    }
}

fn bind_frame(
    binding: &mut IoBinding,
    image_embed: &FloatTensor,
    passed: &FrameTensors,
    is_prompt: &FloatTensor,
) -> Result<(), RunnerError> {
    input(binding, "image_embed", image_embed)?;
    input(binding, "mask_for_memory", &passed.mask_for_memory)?;
    input(binding, "is_prompt", is_prompt)?;
    bind_results(binding, passed)
}

/// Binds score and pointer, and what a gate looks at beside the score. A session on a GPU copies what lies on the host when it is bound, so there they are bound again
/// on every frame.
fn bind_results(binding: &mut IoBinding, passed: &FrameTensors) -> Result<(), RunnerError> {
    input(binding, "object_score", &passed.object_score)?;
    if passed.gated {
        input(binding, "predicted_iou", &passed.predicted_iou)?;
    }
    input(binding, "obj_ptr", &passed.obj_ptr)
}
