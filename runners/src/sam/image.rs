//! The frame as it goes into the image encoder: floats that the host has normalised, or bytes that the graph looks up.

use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::Tensor;

use crate::frame::Preprocess;
use crate::host::tensor::{FloatTensor, input, tensor};
use crate::onnx::PIXELS;
use crate::runner::RunnerError;
use crate::types::Frame;

/// Encoder input `[1, 3, size, size]`, on the host.
pub enum Image {
    /// Normalised.
    Floats(FloatTensor),
    /// 8-bit samples, for a graph whose edge was changed.
    Bytes(Tensor<u8>),
}

impl Image {
    /// Allocates it.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] when there is no memory left.
    pub fn new(host: &Allocator, size: i64, bytes: bool) -> Result<Image, RunnerError> {
        let shape = [1, 3, size, size];
        if !bytes {
            return tensor(host, &shape).map(Image::Floats);
        }
        Tensor::<u8>::new(host, shape.to_vec())
            .map(Image::Bytes)
            .map_err(|e| RunnerError::Environment(format!("cannot allocate a tensor of shape {shape:?}: {e}")))
    }

    /// Binds it. A session on a device copies it while it does.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the input.
    pub fn bind(&self, binding: &mut IoBinding) -> Result<(), RunnerError> {
        match self {
            Image::Floats(values) => input(binding, "image", values),
            Image::Bytes(samples) => binding
                .bind_input(PIXELS, samples)
                .map_err(|e| RunnerError::Inference(format!("cannot bind input `{PIXELS}`: {e}"))),
        }
    }

    /// Resizes a frame into it, and normalises it where it holds floats.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for a frame whose bytes do not fit its size.
    pub fn fill(&mut self, preprocess: &mut Preprocess, frame: Frame<'_>) -> Result<(), RunnerError> {
        match self {
            Image::Floats(values) => preprocess.fill(frame, values.extract_tensor_mut().1),
            Image::Bytes(samples) => preprocess.fill_bytes(frame, samples.extract_tensor_mut().1),
        }
    }
}
