//! Does the device convolve right? Asked of a WebGPU device before a graph runs with convolutions that ONNX Runtime is known to get wrong there.

use ort::session::SessionInputValue;
use ort::value::Tensor;

use super::{GraphSession, failed};
use crate::host::runtime::Runtime;
use crate::host::settings::SessionSettings;
use crate::onnx::{ElementType, build};
use crate::runner::RunnerError;

/// Channels in and out, side of the image and of the kernel.
const INPUTS: usize = 6;
const RESULTS: usize = 4;
const SIDE: usize = 8;
const KERNEL: usize = 2;

/// Whole numbers in a fixed order that looks like none, so that sums are exact.
fn value(i: usize) -> f32 {
    (i * 7919 % 19) as f32 - 9.0
}

/// Computes a small convolution on the device, and compares it with sums made here.
///
/// # Errors
/// [`RunnerError::Environment`] or [`RunnerError::Inference`] with ONNX Runtime's text.
pub(super) fn is_right(settings: &SessionSettings, runtime: &Runtime) -> Result<bool, RunnerError> {
    let weights = RESULTS * INPUTS * KERNEL * KERNEL;
    let raw: Vec<u8> = (0..weights).flat_map(|i| value(i + 1).to_le_bytes()).collect();
    let made = SIDE - KERNEL + 1;
    let shape = |axes: [usize; 4]| axes.map(|n| n as i64);
    let bytes = build::model(
        8,
        17,
        &[
            (1, build::node("Conv", &["x", "w"], &["y"], &[])),
            (5, build::initializer("w", ElementType::F32, &shape([RESULTS, INPUTS, KERNEL, KERNEL]), &raw)),
            (11, build::value_info("x", ElementType::F32, &shape([1, INPUTS, SIDE, SIDE]))),
            (12, build::value_info("y", ElementType::F32, &shape([1, RESULTS, made, made]))),
        ],
    );
    const NAME: &str = "convolution_probe";
    let quiet = SessionSettings { profile: None, ..settings.clone() };
    let mut graph = GraphSession::open_built(NAME, &bytes, &quiet, runtime)?;
    let image: Vec<f32> = (0..INPUTS * SIDE * SIDE).map(value).collect();
    let x = Tensor::from_array(([1, INPUTS, SIDE, SIDE], image)).map_err(|e| failed(NAME, e))?;
    let results = graph.run_values(vec![("x", SessionInputValue::from(&x))], &["y"])?;
    let (_, found) = results[0].try_extract_tensor::<f32>().map_err(|e| failed(NAME, e))?;
    let expected = |at: usize| {
        let (result, y, x) = (at / (made * made), at / made % made, at % made);
        let of = |i: usize| {
            let (channel, dy, dx) = (i / (KERNEL * KERNEL), i / KERNEL % KERNEL, i % KERNEL);
            value(result * INPUTS * KERNEL * KERNEL + i + 1) * value((channel * SIDE + y + dy) * SIDE + x + dx)
        };
        (0..INPUTS * KERNEL * KERNEL).map(of).sum::<f32>()
    };
    Ok(found.len() == RESULTS * made * made && found.iter().enumerate().all(|(at, value)| *value == expected(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Device, Dtype, Options};

    #[test]
    fn a_device_that_convolves_right_passes() {
        let settings = SessionSettings::new(Device::Cpu, Dtype::Fp32, &Options::default()).unwrap();
        match crate::host::runtime::load(None) {
            Ok(runtime) => assert!(is_right(&settings, runtime).unwrap()),
            Err(e) => {
                use std::io::Write;
                let _ = writeln!(std::io::stderr(), "skipped a_device_that_convolves_right_passes: {e}");
            }
        }
    }
}
