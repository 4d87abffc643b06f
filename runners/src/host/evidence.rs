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
    let wanted = match settings.precision {
        Dtype::Fp32 => ElementType::F32,
        Dtype::Fp16 => ElementType::F16,
        Dtype::Bf16 => ElementType::BF16,
        Dtype::Int8 => ElementType::I8,
    };
    let (agreeing, all) = facts.share(wanted);
    let emulate = settings.precision.is_half() && settings.device == Device::Cpu;
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
        // These providers compute such graphs in floats, on operands that were rounded to int8.
        (Dtype::Int8, _) if matches!(settings.device, Device::Cuda(_) | Device::WebGpu(_)) => {
            (INT8_EMULATED.to_string(), Effective::Emulated)
        }
        (p, true) => (format!("{p} operands, fp32 accumulation, emulated"), Effective::Emulated),
        (p, false) => (p.to_string(), Effective::Native),
    };
    let (effective, kind) = if agreeing == all && (all > 0 || settings.precision == Dtype::Fp32) {
        (pure, kind)
    } else if settings.precision == Dtype::Int8 && agreeing > 0 && kind < Effective::Other {
        let counts = if kind == Effective::Native { [agreeing, 0] } else { [0, agreeing] };
        int8_words([counts[0], counts[1], all - agreeing])
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

/// What was computed on operands that were rounded to int8, by kernels of floats.
const INT8_EMULATED: &str = "int8 operands, fp32 arithmetic, emulated";

/// The precision in effect of a graph with so many sums of products by int8 kernels, by float kernels on quantised operands, and by float
/// kernels on others.
fn int8_words([native, emulated, float]: [usize; 3]) -> (String, Effective) {
    let all = native + emulated + float;
    let of = "MatMul, Gemm and Conv";
    match (native, emulated, float) {
        (0, 0, _) => ("fp32 (int8 requested; no operand in the file has that type)".to_string(), Effective::Other),
        (_, 0, 0) => ("int8".to_string(), Effective::Native),
        (0, _, 0) => (INT8_EMULATED.to_string(), Effective::Emulated),
        (_, 0, _) => (format!("int8 and fp32 ({native} of {all} {of} in int8)"), Effective::Other),
        (0, _, _) => (
            format!("emulated int8 and fp32 ({emulated} of {all} {of} on int8 operands, all by fp32 arithmetic)"),
            Effective::Other,
        ),
        _ => (
            format!("int8 and fp32 ({native} of {all} {of} in int8, {emulated} on int8 operands by fp32 arithmetic)"),
            Effective::Other,
        ),
    }
}

/// Corrects the precision of a graph on the CPU by what ONNX Runtime made of it: `counts` as [`Model::computed`] gives them of the optimised
/// graph.
pub(super) fn as_optimised(precision: &mut StagePrecision, counts: [usize; 3]) {
    let [native, emulated, float] = counts;
    (precision.effective, precision.kind) = int8_words(counts);
    precision.evidence.push(format!(
        "optimised by ONNX Runtime: {native} sums of products by int8 kernels, {emulated} by float kernels on int8 operands, {float} by \
         float kernels on others"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int8_is_native_only_where_every_product_is() {
        for (counts, words, kind) in [
            ([9, 0, 0], "int8", Effective::Native),
            ([0, 9, 0], "int8 operands, fp32 arithmetic, emulated", Effective::Emulated),
            ([0, 0, 9], "fp32 (int8 requested; no operand in the file has that type)", Effective::Other),
            ([0, 0, 0], "fp32 (int8 requested; no operand in the file has that type)", Effective::Other),
            ([6, 0, 3], "int8 and fp32 (6 of 9 MatMul, Gemm and Conv in int8)", Effective::Other),
            (
                [0, 6, 3],
                "emulated int8 and fp32 (6 of 9 MatMul, Gemm and Conv on int8 operands, all by fp32 arithmetic)",
                Effective::Other,
            ),
            (
                [5, 1, 3],
                "int8 and fp32 (5 of 9 MatMul, Gemm and Conv in int8, 1 on int8 operands by fp32 arithmetic)",
                Effective::Other,
            ),
            (
                [8, 1, 0],
                "int8 and fp32 (8 of 9 MatMul, Gemm and Conv in int8, 1 on int8 operands by fp32 arithmetic)",
                Effective::Other,
            ),
        ] {
            assert_eq!(int8_words(counts), (words.to_string(), kind), "{counts:?}");
            assert_eq!(Effective::from_words(Dtype::Int8, words), kind, "the words alone say the same");
        }
    }
    use crate::host::tensorrt::WEAK;
    use crate::types::Options;

    /// What is said of a quantised product and a plain one, from the file alone.
    #[test]
    fn int8_on_devices_whose_optimised_graphs_are_not_seen() {
        use crate::onnx::build::{initializer, model, node, value_info};
        let graph = [
            (1, node("QuantizeLinear", &["x", "s", "z"], &["xq"], &[])),
            (1, node("DequantizeLinear", &["xq", "s", "z"], &["xd"], &[])),
            (1, node("DequantizeLinear", &["w", "s", "z"], &["wd"], &[])),
            (1, node("MatMul", &["xd", "wd"], &["a"], &[])),
            (1, node("MatMul", &["a", "a"], &["y"], &[])),
            (5, initializer("w", ElementType::I8, &[2, 2], &[1; 4])),
            (5, initializer("z", ElementType::I8, &[], &[0])),
            (5, initializer("s", ElementType::F32, &[], &1f32.to_le_bytes())),
            (11, value_info("x", ElementType::F32, &[2, 2])),
            (12, value_info("y", ElementType::F32, &[2, 2])),
        ];
        let bytes = model(9, 18, &graph);
        let model = Model::parse(&bytes).unwrap();
        for (device, version, words) in [
            (
                Device::TensorRt(0),
                Some("10.3.0"),
                "mixed: 1 of 2 MatMul, Gemm and Conv: int8, or fp32 on int8 operands",
            ),
            (Device::TensorRt(0), None, "mixed: 1 of 2 MatMul, Gemm and Conv: int8 if TensorRT is 9 or newer"),
            (Device::Cuda(0), None, "emulated int8 and fp32 (1 of 2 MatMul, Gemm and Conv on int8 operands"),
        ] {
            let mut options = Options::default();
            let emulates = matches!(device, Device::Cuda(_));
            emulates.then(|| options.set("int8", "emulated").unwrap());
            let settings = SessionSettings::new(device, Dtype::Int8, &options).unwrap();
            let compiler = (!emulates).then(|| Compiler::known(version, Dtype::Int8, false).unwrap());
            let (stage, rewritten) = evidence("g", &model, &settings, "1.31.1", compiler.as_ref()).unwrap();
            assert!(stage.effective.starts_with(words), "{stage:?}");
            assert!(stage.kind >= Effective::Other && rewritten.is_none(), "{stage:?}");
            assert!(stage.evidence[0].ends_with("operands: MatMul 1 f32, MatMul 1 i8"), "{stage:?}");
        }
    }

    #[test]
    fn the_record_says_how_tensorrt_types_a_graph() {
        use Dtype::{Bf16, Fp16, Fp32, Int8};
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
            (None, Int8, "off", ElementType::F32, "fp32 (int8 requested", Doubtful, "typing not known"),
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
