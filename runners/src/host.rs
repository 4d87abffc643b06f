//! How is a graph run on this machine? ONNX Runtime is found, told about devices, threads and memory, and named nowhere
//! else but where tensors are bound.

mod evidence;
mod fence;
pub mod loader;
mod lost;
pub mod options;
pub mod plugin;
pub mod pool;
pub mod providers;
pub mod runtime;
pub mod session;
pub mod settings;
pub mod tensor;
pub mod tensorrt;
pub mod webgpu;
