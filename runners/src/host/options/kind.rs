//! On which kind of device does an option mean something?

use crate::types::Device;

/// A device without its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// ONNX Runtime's CPU provider.
    Cpu,
    /// The CUDA provider.
    Cuda,
    /// The TensorRT provider.
    TensorRt,
    /// The WebGPU provider.
    WebGpu,
    /// Another provider, of a plugin library.
    Plugin,
}

impl DeviceKind {
    /// Every kind.
    pub const ALL: [DeviceKind; 5] =
        [DeviceKind::Cpu, DeviceKind::Cuda, DeviceKind::TensorRt, DeviceKind::WebGpu, DeviceKind::Plugin];

    /// `cpu`, `cuda`, `tensorrt`, `webgpu` or `plugin`.
    pub const fn as_str(self) -> &'static str {
        match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
            DeviceKind::TensorRt => "tensorrt",
            DeviceKind::WebGpu => "webgpu",
            DeviceKind::Plugin => "plugin",
        }
    }
}

impl From<Device> for DeviceKind {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => DeviceKind::Cpu,
            Device::Cuda(_) => DeviceKind::Cuda,
            Device::TensorRt(_) => DeviceKind::TensorRt,
            Device::WebGpu(_) => DeviceKind::WebGpu,
            Device::Plugin(..) => DeviceKind::Plugin,
        }
    }
}
