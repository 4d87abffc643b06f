//! Which device is measured when none is named? The CPU of a PC. A Jetson is bought for its GPU, and a figure of its CPU
//! would be taken for one of the board: there it is the GPU, or a refusal that says what is missing.

use std::path::Path;

use jetbench_runners::runtime::{self, RuntimeProbe};
use jetbench_runners::types::Device;

use crate::exit::Error;
use crate::telemetry::sensor::is_tegra;

/// Devices of a board in the order in which they are taken. CUDA comes first: it takes every pack as it is, while TensorRT
/// builds an engine for minutes before the first frame.
const OF_A_BOARD: [Device; 2] = [Device::Cuda(0), Device::TensorRt(0)];

/// The device of this machine, and a remark where it is not the CPU; `ort_lib` is the runtime that the user names.
///
/// # Errors
/// As [`device`].
pub(crate) fn here(ort_lib: Option<&Path>) -> Result<(Device, Option<String>), Error> {
    device(Path::new("/"), |device| runtime::probe_for(ort_lib, &[device]))
}

/// The device of the machine below `root`, and a remark where it is not the CPU. `probe` looks for a runtime for one device.
///
/// # Errors
/// A Jetson without an ONNX Runtime for its GPU: exit 3, with every place that was looked at.
fn device(root: &Path, probe: impl Fn(Device) -> RuntimeProbe) -> Result<(Device, Option<String>), Error> {
    if !is_tegra(root) {
        return Ok((Device::Cpu, None));
    }
    let mut looked_at = Vec::new();
    for device in OF_A_BOARD {
        let found = probe(device);
        if let Some(library) = &found.chosen
            && runtime::lacking(device, library, &found.providers).is_none()
        {
            let said = format!("no --device given: {device}, this board's GPU ({})", library.display());
            return Ok((device, Some(said)));
        }
        looked_at = found.looked_at;
    }
    let places: Vec<String> = looked_at.iter().map(|(place, outcome)| format!("  {place}: {outcome}")).collect();
    Err(Error::Environment(format!(
        "this board has a GPU, but no ONNX Runtime with the CUDA or the TensorRT provider was found. Looked at:\n{}\nName the \
         board's GPU build with --ort-lib FILE (docs/jetson.md says where to get one), or ask for its CPU with --device cpu",
        places.join("\n")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(providers: &[&str]) -> RuntimeProbe {
        RuntimeProbe {
            looked_at: vec![("cache".into(), "/cache/libonnxruntime.so: ONNX Runtime 1.23.2".into())],
            chosen: Some("/cache/libonnxruntime.so".into()),
            providers: providers.iter().map(ToString::to_string).collect(),
            ..RuntimeProbe::default()
        }
    }

    #[test]
    fn a_board_gets_its_gpu_or_a_refusal_and_a_pc_its_cpu() {
        let pc = tempfile::tempdir().unwrap();
        let unasked = |_: Device| -> RuntimeProbe { panic!("a PC is not asked") };
        assert_eq!(device(pc.path(), unasked).unwrap(), (Device::Cpu, None));

        let board = tempfile::tempdir().unwrap();
        let compatible = board.path().join("proc/device-tree/compatible");
        std::fs::create_dir_all(compatible.parent().unwrap()).unwrap();
        std::fs::write(&compatible, "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0").unwrap();
        let with = |providers: &'static [&'static str]| device(board.path(), move |_| probe(providers));
        let both = with(&["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]).unwrap();
        assert_eq!(both.0, Device::Cuda(0));
        assert_eq!(both.1.unwrap(), "no --device given: cuda:0, this board's GPU (/cache/libonnxruntime.so)");
        assert_eq!(with(&["TensorrtExecutionProvider", "CPUExecutionProvider"]).unwrap().0, Device::TensorRt(0));
        let refused = with(&["CPUExecutionProvider"]).unwrap_err();
        assert_eq!(refused.code(), crate::exit::ENVIRONMENT);
        for part in ["no ONNX Runtime with the CUDA or the TensorRT provider", "cache: /cache/libonnx", "--device cpu"]
        {
            assert!(refused.to_string().contains(part), "{refused}");
        }
    }
}
