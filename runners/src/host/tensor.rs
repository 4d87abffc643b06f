//! How is a tensor made and bound? Only tensors made by `Tensor::new` are bound. ort 2.0.0-rc.15 deadlocks when borrowed
//! tensors are bound, and binding an output "to a device" would hand out the same buffer for every frame, which corrupts a
//! memory bank silently.

use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::Tensor;

use super::{lost, webgpu};
use crate::runner::RunnerError;

/// An f32 tensor, on the host or on the device.
pub type FloatTensor = Tensor<f32>;

/// A new f32 tensor; zero-filled on the host, undefined on a device.
///
/// # Errors
/// [`RunnerError::Environment`] when there is no memory left.
pub fn tensor(allocator: &Allocator, shape: &[i64]) -> Result<FloatTensor, RunnerError> {
    let wrong = |e: &dyn std::fmt::Display| {
        let text = format!("cannot allocate a tensor of shape {shape:?}: {e}");
        RunnerError::Environment(if lost::is_lost(&text) { lost::told(&text) } else { text })
    };
    let tensor = FloatTensor::new(allocator, shape.to_vec()).map_err(|e| wrong(&e))?;
    webgpu::sound().map_err(|e| wrong(&e))?;
    Ok(tensor)
}

/// Binds `tensor` as an input.
///
/// # Errors
/// [`RunnerError::Inference`] naming the input.
pub fn input(binding: &mut IoBinding, name: &str, tensor: &FloatTensor) -> Result<(), RunnerError> {
    binding.bind_input(name, tensor).map_err(|e| RunnerError::Inference(format!("cannot bind input `{name}`: {e}")))
}

/// Binds `tensor` as an output.
///
/// # Errors
/// [`RunnerError::Inference`] naming the output.
pub fn output(binding: &mut IoBinding, name: &str, tensor: &mut FloatTensor) -> Result<(), RunnerError> {
    binding.bind_output(name, tensor).map_err(|e| RunnerError::Inference(format!("cannot bind output `{name}`: {e}")))
}
