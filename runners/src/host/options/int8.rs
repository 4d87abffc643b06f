//! Where can int8 graphs run?

use super::InvalidOption;
use crate::host::settings::SessionSettings;
use crate::host::tensorrt::WEAK;
use crate::runner::RunnerError;
use crate::types::{Device, Dtype};

/// Are these settings ones that int8 can have, or that need no int8?
///
/// # Errors
/// [`RunnerError::Usage`]: the device computes such graphs in floats and emulation was not asked for; or it was, and there is nothing to emulate; or weak
/// typing was asked for.
pub(super) fn check(settings: &SessionSettings) -> Result<(), RunnerError> {
    let SessionSettings { device, precision, int8_emulated, weak_typing, .. } = *settings;
    let clash = |name: &'static str, value: &str, expected: String| {
        Err(RunnerError::Usage(InvalidOption { name, value: value.to_string(), expected }.to_string()))
    };
    if precision != Dtype::Int8 {
        return match int8_emulated {
            true => clash("int8", "emulated", format!("native in {precision}, where there is nothing to emulate")),
            false => Ok(()),
        };
    }
    if weak_typing {
        return clash(WEAK, "on", "off in int8, because the types of a quantised graph are the file's".to_string());
    }
    if matches!(device, Device::Cuda(_) | Device::WebGpu(_)) && !int8_emulated {
        return Err(RunnerError::Usage(format!(
            "device {device} has no int8 kernels for such graphs, it would compute in floats on rounded operands; use --dtype fp16 or fp32, --device cpu or \
             tensorrt:0 for int8, or --option int8=emulated for its accuracy alone"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Options;

    fn asked(extra: &[(&str, &str)]) -> Options {
        let extra = extra.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Options { extra, ..Options::default() }
    }

    #[test]
    fn int8_is_refused_where_there_are_no_kernels_unless_its_accuracy_alone_is_asked_for() {
        let new = |device, dtype, extra: &[(&str, &str)]| {
            SessionSettings::new(device, dtype, &asked(extra))
                .map(|settings| settings.int8_emulated)
                .map_err(|e| e.to_string())
        };
        let emulated = [("int8", "emulated")];
        for device in [Device::Cuda(0), Device::WebGpu(0)] {
            let refused = new(device, Dtype::Int8, &[]).unwrap_err();
            assert!(refused.contains("no int8 kernels") && refused.contains("--option int8=emulated"), "{refused}");
            assert_eq!(new(device, Dtype::Int8, &[("int8", "native")]), Err(refused));
            assert_eq!(new(device, Dtype::Int8, &emulated), Ok(true));
            assert!(new(device, Dtype::Fp32, &emulated).unwrap_err().contains("nothing to emulate"));
            assert_eq!(new(device, Dtype::Fp32, &[]), Ok(false));
        }
        for device in [Device::Cpu, Device::TensorRt(0)] {
            assert_eq!(new(device, Dtype::Int8, &[]), Ok(false));
            assert!(new(device, Dtype::Int8, &emulated).unwrap_err().contains("no such option on"));
        }
        let weak = new(Device::TensorRt(0), Dtype::Int8, &[("trt_weak", "on")]).unwrap_err();
        assert!(weak.contains("the types of a quantised graph are the file's"), "{weak}");
    }
}
