//! Which precision does a graph really compute in, and how do we know?

use super::providers::{Provider, ProviderPairs, Registration};
use super::settings::SessionSettings;
use super::tensorrt::Compiler;
use crate::onnx::{ElementType, Model, OnnxError};
use crate::types::{Device, Dtype, Effective, StagePrecision};

/// What to add to `fp32` where fp32 products may have been computed in TF32 although nobody requested it.
pub(super) fn tf32_doubt(settings: &SessionSettings, registration: &Registration) -> Option<&'static str> {
    if settings.precision != Dtype::Fp32 || settings.provider_options.tf32() {
        return None; // said elsewhere
    }
    let told =
        |(provider, pairs): &(Provider, ProviderPairs)| *provider != Provider::Cuda || pairs.contains_key("use_tf32");
    match settings.device {
        Device::Cpu => None,
        _ if !registration.iter().all(told) => Some(" or tf32 (this ONNX Runtime has no switch for it)"),
        Device::TensorRt(_) if std::env::var_os("NVIDIA_TF32_OVERRIDE").is_none_or(|v| v != "0") => {
            Some(" or tf32 (TensorRT may choose it; NVIDIA_TF32_OVERRIDE=0 in the environment forbids it)")
        }
        _ => None,
    }
}

/// Precision of a graph on a device, and its rewritten bytes where the device has no half kernels. `compiler`: what builds its engine, on a
/// TensorRT device.
pub(super) fn evidence(
    name: &str,
    model: &Model<'_>,
    settings: &SessionSettings,
    runtime_version: &str,
    compiler: Option<&Compiler>,
) -> Result<(StagePrecision, Option<Vec<u8>>), OnnxError> {
    let facts = model.facts();
    let mut evidence = vec![format!("file: {facts}"), format!("ONNX Runtime {runtime_version}")];
    evidence.extend(compiler.map(|compiler| compiler.evidence(settings.precision)));
    let (wanted, half) = match settings.precision {
        Dtype::Fp32 => (ElementType::F32, false),
        Dtype::Fp16 => (ElementType::F16, true),
        Dtype::Bf16 => (ElementType::BF16, true),
    };
    let (agreeing, all) = facts.share(wanted);
    let emulate = half && settings.device == Device::Cpu;
    let mut bytes = None;
    if emulate {
        let emulated = model.emulate_half()?;
        let by_op: Vec<String> = emulated.rewritten.iter().map(|(op, n)| format!("{op} {n}")).collect();
        evidence.push(format!(
            "rewritten at load, in memory, because the CPU provider has no half kernels: {} casts to f32 before \
             operands, {} casts back after results, around {}",
            emulated.casts_in,
            emulated.casts_out,
            if by_op.is_empty() { "nothing".to_string() } else { by_op.join(", ") }
        ));
        bytes = Some(emulated.bytes);
    }
    let (pure, kind) = match (settings.precision, emulate) {
        (Dtype::Fp32, _) if settings.provider_options.tf32() => {
            ("tf32 products, fp32 otherwise".to_string(), Effective::Doubtful)
        }
        (p, false) if let Some(compiler) = compiler => compiler.typing.effective(p),
        // What it does inside is its own: some compute fp32 in TF32, some choose types anew.
        (p, _) if matches!(settings.device, Device::Plugin(..)) => {
            (format!("{p} as the file has it, or what the plugin's provider makes of it"), Effective::Doubtful)
        }
        (Dtype::Fp32, _) => ("fp32".to_string(), Effective::Native),
        (p, true) => (format!("{p} operands, fp32 accumulation, emulated"), Effective::Emulated),
        (p, false) => (p.to_string(), Effective::Native),
    };
    let (effective, kind) = if agreeing == all && (all > 0 || !half) {
        (pure, kind)
    } else if agreeing == 0 {
        (
            format!("fp32 ({} requested; no operand in the file has that type)", settings.precision),
            kind.max(Effective::Other),
        )
    } else {
        (format!("mixed: {agreeing} of {all} MatMul, Gemm and Conv: {pure}"), kind.max(Effective::Other))
    };
    let stage = StagePrecision { graph: name.to_string(), requested: settings.precision, effective, kind, evidence };
    Ok((stage, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tensorrt::WEAK;
    use crate::types::Options;

    #[test]
    fn the_record_says_how_tensorrt_types_a_graph() {
        use Dtype::{Bf16, Fp16, Fp32};
        use Effective::{Doubtful, Native, Other};
        for (version, precision, weak, file, effective, kind, typing) in [
            (Some("10.3.0"), Bf16, "off", ElementType::BF16, "bf16", Native, "TensorRT 10.3.0, strongly typed"),
            (Some("11.4.1"), Fp16, "off", ElementType::F16, "fp16", Native, "TensorRT 11.4.1, strongly typed"),
            (
                Some("10.16.2"),
                Bf16,
                "on",
                ElementType::BF16,
                "bf16 or fp32 (weakly typed",
                Doubtful,
                "TensorRT 10.16.2, weakly typed",
            ),
            (
                Some("8.6.2"),
                Fp16,
                "off",
                ElementType::F16,
                "fp16 or fp32 (weakly typed",
                Doubtful,
                "TensorRT 8.6.2, weakly typed",
            ),
            (Some("8.6.2"), Fp32, "off", ElementType::F32, "fp32", Native, "no lower precision is allowed"),
            (None, Bf16, "off", ElementType::BF16, "bf16 if TensorRT is 9 or newer", Doubtful, "typing not known"),
            // A file that is not what its folder says.
            (Some("10.3.0"), Bf16, "off", ElementType::F32, "fp32 (bf16 requested", Other, "strongly typed"),
            (Some("10.3.0"), Bf16, "on", ElementType::F32, "fp32 (bf16 requested", Doubtful, "weakly typed"),
        ] {
            let mut options = Options::default();
            options.set(WEAK, weak).unwrap();
            let settings = SessionSettings::new(Device::TensorRt(0), precision, &options).unwrap();
            let compiler = Compiler::known(version, precision, settings.weak_typing).unwrap();
            let bytes = crate::onnx::build::matmul(file);
            let model = Model::parse(&bytes).unwrap();
            let (stage, rewritten) = evidence("g", &model, &settings, "1.31.1", Some(&compiler)).unwrap();
            let case = format!("{version:?} {precision} {WEAK}={weak}: {stage:?}");
            assert!(stage.effective.starts_with(effective) && stage.kind == kind, "{case}");
            assert!(stage.evidence.iter().any(|line| line.contains(typing)), "{case}");
            assert!(rewritten.is_none(), "{case}");
        }
    }
}
