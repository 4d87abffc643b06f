//! The memory of one tracked object, resident on the device: two sets of {bank, pointers, age} buffers and the bindings
//! that read one and write the other. Per frame the parity flips; nothing is allocated, copied or re-bound.
//!
//! Only tensors made by `Tensor::new` are bound. ort 2.0.0-rc.15 deadlocks when borrowed tensors are bound, and binding
//! an output "to a device" would hand out the same buffer for every frame, which corrupts a memory bank silently.

use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::Tensor;

use crate::RunnerError;
use crate::contract::Sizes;
use crate::session::Graph;

/// An f32 tensor, on the host or on the device.
pub type Floats = Tensor<f32>;

/// A new f32 tensor; zero-filled on the host, undefined on a device.
///
/// # Errors
/// [`RunnerError::Environment`] when there is no memory left.
pub fn tensor(allocator: &Allocator, shape: &[i64]) -> Result<Floats, RunnerError> {
    Floats::new(allocator, shape.to_vec())
        .map_err(|e| RunnerError::Environment(format!("cannot allocate a tensor of shape {shape:?}: {e}")))
}

/// Binds `tensor` as an input.
///
/// # Errors
/// [`RunnerError::Inference`] naming the input.
pub fn input(binding: &mut IoBinding, name: &str, tensor: &Floats) -> Result<(), RunnerError> {
    binding.bind_input(name, tensor).map_err(|e| RunnerError::Inference(format!("cannot bind input `{name}`: {e}")))
}

/// Binds `tensor` as an output.
///
/// # Errors
/// [`RunnerError::Inference`] naming the output.
pub fn output(binding: &mut IoBinding, name: &str, tensor: &mut Floats) -> Result<(), RunnerError> {
    binding.bind_output(name, tensor).map_err(|e| RunnerError::Inference(format!("cannot bind output `{name}`: {e}")))
}

/// One set of state tensors.
pub struct Memory {
    /// Memory slots `[1, frames, tokens, channels]`: slot 0 is the prompted frame, slot j the frame j steps back.
    pub bank: Floats,
    /// Object pointers `[1, pointers, hidden]`, in the same order.
    pub ptrs: Floats,
    /// Frames since the prompted one, `[1]`: 1 after it.
    pub age: Floats,
}

impl Memory {
    /// Zero on the host, undefined on a device.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] when there is no memory left.
    pub fn new(allocator: &Allocator, s: &Sizes) -> Result<Self, RunnerError> {
        Ok(Memory {
            bank: tensor(allocator, &[1, s.frames, s.tokens, s.channels])?,
            ptrs: tensor(allocator, &[1, s.pointers, s.hidden])?,
            age: tensor(allocator, &[1])?,
        })
    }

    fn bind_inputs(&self, binding: &mut IoBinding) -> Result<(), RunnerError> {
        input(binding, "bank", &self.bank)?;
        input(binding, "ptrs", &self.ptrs)?;
        input(binding, "age", &self.age)
    }

    fn bind_outputs(&mut self, binding: &mut IoBinding) -> Result<(), RunnerError> {
        output(binding, "bank_out", &mut self.bank)?;
        output(binding, "ptrs_out", &mut self.ptrs)?;
        output(binding, "age_out", &mut self.age)
    }
}

/// Tensors that all objects share: written by one graph, read by the next, then free for the next object.
pub struct Shared {
    /// Raw output of the image encoder.
    pub image_embed: Floats,
    /// Image features conditioned on the memory.
    pub cond_embed: Floats,
    /// Mask in the scale the memory encoder takes.
    pub mask_for_memory: Floats,
    /// Object score logit, on the host.
    pub object_score: Floats,
    /// Object pointer, on the host.
    pub obj_ptr: Floats,
    /// The flag 0, for tracked frames.
    pub zero: Floats,
    /// The flag 1, for prompted frames.
    pub one: Floats,
    /// All-zero state, read on prompted frames (its values do not matter, but they must be finite).
    pub blank: Memory,
}

/// The memory of one object.
pub struct ObjectMemory {
    pair: [Memory; 2],
    /// Index of the set that holds the current state.
    current: usize,
    attend: [IoBinding; 2],
    encode: [IoBinding; 2],
    encode_prompt: IoBinding,
}

impl ObjectMemory {
    /// Allocates both sets and makes the bindings.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] or [`RunnerError::Inference`] with ONNX Runtime's text.
    pub fn new(
        allocator: &Allocator,
        sizes: &Sizes,
        shared: &mut Shared,
        attention: &Graph,
        encoder: &Graph,
    ) -> Result<Self, RunnerError> {
        let mut pair = [Memory::new(allocator, sizes)?, Memory::new(allocator, sizes)?];
        let mut attend = [attention.binding()?, attention.binding()?];
        for (binding, memory) in attend.iter_mut().zip(&pair) {
            input(binding, "image_embed", &shared.image_embed)?;
            memory.bind_inputs(binding)?;
            output(binding, "cond_embed", &mut shared.cond_embed)?;
        }
        let mut encode = [encoder.binding()?, encoder.binding()?];
        for (from, binding) in encode.iter_mut().enumerate() {
            bind_frame(binding, shared, &shared.zero)?;
            pair[from].bind_inputs(binding)?;
            pair[1 - from].bind_outputs(binding)?;
        }
        let mut encode_prompt = encoder.binding()?;
        bind_frame(&mut encode_prompt, shared, &shared.one)?;
        shared.blank.bind_inputs(&mut encode_prompt)?;
        pair[0].bind_outputs(&mut encode_prompt)?;
        Ok(ObjectMemory { pair, current: 0, attend, encode, encode_prompt })
    }

    /// Image features conditioned on this object's memory, into `cond_embed`.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the graph.
    pub fn attend(&self, attention: &mut Graph) -> Result<(), RunnerError> {
        attention.run(&self.attend[self.current])
    }

    /// Stores a prompted frame: it becomes slot 0, everything older is forgotten.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the graph.
    pub fn start(&mut self, encoder: &mut Graph, shared: &Shared, on_gpu: bool) -> Result<(), RunnerError> {
        if on_gpu {
            rebind_host_inputs(&mut self.encode_prompt, shared)?;
        }
        encoder.run(&self.encode_prompt)?;
        self.current = 0;
        Ok(())
    }

    /// Stores a tracked frame and flips the parity.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the graph.
    pub fn remember(&mut self, encoder: &mut Graph, shared: &Shared, on_gpu: bool) -> Result<(), RunnerError> {
        let binding = &mut self.encode[self.current];
        if on_gpu {
            rebind_host_inputs(binding, shared)?;
        }
        encoder.run(binding)?;
        self.current = 1 - self.current;
        Ok(())
    }

    /// The current state, writable, for proofs that a golden test can fail. Host memory only.
    pub fn current_mut(&mut self) -> &mut Memory {
        &mut self.pair[self.current]
    }
}

fn bind_frame(binding: &mut IoBinding, shared: &Shared, is_prompt: &Floats) -> Result<(), RunnerError> {
    input(binding, "image_embed", &shared.image_embed)?;
    input(binding, "mask_for_memory", &shared.mask_for_memory)?;
    input(binding, "is_prompt", is_prompt)?;
    rebind_host_inputs(binding, shared)
}

/// Score and pointer live on the host, because the loop checks them. On the CPU a binding reads them in place; a GPU
/// session copies them when they are bound, so there they are bound again on every frame.
fn rebind_host_inputs(binding: &mut IoBinding, shared: &Shared) -> Result<(), RunnerError> {
    input(binding, "object_score", &shared.object_score)?;
    input(binding, "obj_ptr", &shared.obj_ptr)
}
