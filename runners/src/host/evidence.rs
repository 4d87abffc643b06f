//! Which precision does a graph really compute in, and how do we know?

use super::providers::{Provider, ProviderPairs, Registration};
use super::runtime::Runtime;
use super::settings::SessionSettings;
use crate::onnx::{ElementType, Model, OnnxError};
use crate::types::{Device, Dtype, Effective, StagePrecision};

/// What to add to `fp32` where fp32 products may have been computed in TF32 although nobody asked for it.
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

/// Precision of a graph on a device, and its rewritten bytes where the device has no half kernels.
pub(super) fn evidence(
    name: &str,
    model: &Model<'_>,
    settings: &SessionSettings,
    runtime: &Runtime,
) -> Result<(StagePrecision, Option<Vec<u8>>), OnnxError> {
    let facts = model.facts();
    let mut evidence = vec![format!("file: {facts}"), format!("ONNX Runtime {}", runtime.version)];
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
            ("fp32, tf32 products allowed".to_string(), Effective::Doubtful)
        }
        (Dtype::Fp32, _) => ("fp32".to_string(), Effective::Native),
        (p, true) => (format!("{p} operands, fp32 accumulation, emulated"), Effective::Emulated),
        (p, false) => (p.to_string(), Effective::Native),
    };
    let (effective, kind) = if agreeing == all && (all > 0 || !half) {
        (pure, kind)
    } else if agreeing == 0 {
        (format!("fp32 ({} asked for; no operand in the file has that type)", settings.precision), Effective::Other)
    } else {
        (format!("mixed: {agreeing} of {all} MatMul, Gemm and Conv: {pure}"), kind.max(Effective::Other))
    };
    let stage = StagePrecision { graph: name.to_string(), requested: settings.precision, effective, kind, evidence };
    Ok((stage, bytes))
}
