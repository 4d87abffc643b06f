//! When has the device done what it was told? CUDA and TensorRT sessions return when their kernels have ended. A WebGPU session
//! returns when they are queued: whoever stops a clock then has measured the queueing. A fence reads one number back that the
//! device computes after everything before it.

use ort::memory::Allocator;
use ort::session::{IoBinding, Session};
use ort::value::Tensor;

use crate::onnx::{ElementType, build};

/// A session that computes one number. Fields are dropped in order: the binding goes before the memory it names.
pub(super) struct Fence {
    binding: IoBinding,
    _number: Tensor<f32>,
    _read: Tensor<f32>,
    session: Session,
}

/// ONNX file of its graph: the number's negative, because a copy would be optimised away.
pub(super) fn graph() -> Vec<u8> {
    build::model(
        7,
        13,
        &[
            (1, build::node("Neg", &["number"], &["read"], &[])),
            (11, build::value_info("number", ElementType::F32, &[1])),
            (12, build::value_info("read", ElementType::F32, &[1])),
        ],
    )
}

impl Fence {
    /// Over a session of [`graph`] on the device, with that device's memory and the host's.
    pub(super) fn new(session: Session, device: &Allocator, host: &Allocator) -> ort::Result<Fence> {
        let number = Tensor::<f32>::new(device, [1_i64])?;
        let mut read = Tensor::<f32>::new(host, [1_i64])?;
        let mut binding = session.create_binding()?;
        binding.bind_input("number", &number)?;
        binding.bind_output("read", &mut read)?;
        Ok(Fence { binding, _number: number, _read: read, session })
    }

    /// Returns when the device has done everything that was queued before.
    pub(super) fn wait(&mut self) -> ort::Result<()> {
        self.session.run_binding(&self.binding).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::host::runtime;
    use crate::host::session::GraphSession;
    use crate::host::settings::SessionSettings;
    use crate::host::tensor::tensor;
    use crate::types::{Device, Dtype, Options};

    #[test]
    fn device_memory_that_is_not_there_is_refused() {
        let device = Device::WebGpu(0);
        let settings = SessionSettings::new(device, Dtype::Fp32, &Options::default()).unwrap();
        let opened = runtime::load_with(None, device, None)
            .and_then(|runtime| GraphSession::open_built("g", &graph(), &settings, runtime));
        let graph = match opened {
            Ok(graph) => graph,
            Err(e) => {
                let _ = writeln!(std::io::stderr(), "skipped the test of device memory: {e}");
                return;
            }
        };
        let memory = graph.device_allocator(device).unwrap();
        let small = tensor(&memory, &[1 << 10]).unwrap();
        // The provider hands it out; only its log says that it is not there.
        let text = tensor(&memory, &[1 << 38]).unwrap_err().to_string();
        assert!(text.contains("exceeds the max buffer size limit"), "{text}");
        tensor(&memory, &[1 << 10]).unwrap();
        drop(small);
    }
}
