//! Which precision was asked for, and which was in effect?

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Numeric precision asked for (`--dtype`). What was really computed is recorded per graph in [`StagePrecision`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE binary32.
    Fp32,
    /// IEEE binary16.
    Fp16,
    /// bfloat16: 8 exponent bits, 7 stored mantissa bits.
    Bf16,
    /// 8-bit integers, by the scales of a pack whose graphs are quantised explicitly (QuantizeLinear, DequantizeLinear).
    Int8,
}

impl Dtype {
    /// Every precision, in the order in which help texts list them.
    pub const ALL: [Dtype; 4] = [Dtype::Fp32, Dtype::Fp16, Dtype::Bf16, Dtype::Int8];

    /// Canonical name: `fp32`, `fp16`, `bf16`, `int8`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Dtype::Fp32 => "fp32",
            Dtype::Fp16 => "fp16",
            Dtype::Bf16 => "bf16",
            Dtype::Int8 => "int8",
        }
    }

    /// Is it one of the two 16-bit floats?
    pub const fn is_half(self) -> bool {
        matches!(self, Dtype::Fp16 | Dtype::Bf16)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype `{0}`; known: fp32 (float32), fp16 (float16, half), bf16 (bfloat16), int8")]
pub struct UnknownDtype(pub String);

impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word.trim().to_ascii_lowercase().as_str() {
            "fp32" | "float32" | "f32" => Ok(Dtype::Fp32),
            "fp16" | "float16" | "f16" | "half" => Ok(Dtype::Fp16),
            "bf16" | "bfloat16" => Ok(Dtype::Bf16),
            "int8" | "i8" => Ok(Dtype::Int8),
            _ => Err(UnknownDtype(word.to_string())),
        }
    }
}

/// How what was computed relates to what was asked for. The order is that of a summary: the last one found names the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effective {
    /// What was asked for.
    Native,
    /// Operands and results were rounded to what was asked for, by kernels of another precision.
    Emulated,
    /// Something else, in some operators at least.
    Other,
    /// Not known: the provider was free to choose a coarser type (TF32).
    Doubtful,
}

impl Effective {
    /// The kind that a runner means by its words, for records of the time when it said nothing but words.
    pub fn from_words(requested: Dtype, text: &str) -> Effective {
        let asked = requested.as_str();
        if text == asked {
            Effective::Native
        } else if text.contains("tf32") {
            Effective::Doubtful
        } else if text.starts_with(asked) && text.ends_with("emulated") {
            Effective::Emulated
        } else {
            Effective::Other
        }
    }
}

/// Precision of one graph: asked for, in effect, and how we know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenStagePrecision")]
pub struct StagePrecision {
    /// Graph name, e.g. `image_encoder`.
    pub graph: String,
    /// What was asked for.
    pub requested: Dtype,
    /// What was computed, in words for people: `fp32`, `bf16`, `bf16 operands, fp32 accumulation, emulated`.
    pub effective: String,
    /// The same for programs: native, emulated, other, doubtful.
    pub kind: Effective,
    /// Facts that support it: graph value types, cast pairs inserted, node placement, lattice of the outputs.
    pub evidence: Vec<String>,
}

/// [`StagePrecision`] as it stands in a record. Old ones have no `kind`; it is then taken from the words, here and nowhere else.
#[derive(Deserialize)]
struct WrittenStagePrecision {
    graph: String,
    requested: Dtype,
    effective: String,
    kind: Option<Effective>,
    evidence: Vec<String>,
}

impl From<WrittenStagePrecision> for StagePrecision {
    fn from(written: WrittenStagePrecision) -> Self {
        let WrittenStagePrecision { graph, requested, effective, kind, evidence } = written;
        let kind = kind.unwrap_or_else(|| Effective::from_words(requested, &effective));
        StagePrecision { graph, requested, effective, kind, evidence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Effective::{Doubtful, Emulated, Native, Other};

    fn read(requested: &str, effective: &str, kind: &str) -> Effective {
        let text = format!(
            r#"{{"graph": "g", "requested": "{requested}", "effective": "{effective}"{kind}, "evidence": ["file: 9 MatMul"]}}"#
        );
        let stage: StagePrecision = serde_json::from_str(&text).unwrap();
        let again: StagePrecision = serde_json::from_str(&serde_json::to_string(&stage).unwrap()).unwrap();
        assert_eq!((&again, stage.effective.as_str()), (&stage, effective));
        stage.kind
    }

    /// Every sentence that a runner has ever written.
    #[test]
    fn a_record_without_the_kind_is_read_by_its_words() {
        for (requested, effective, kind) in [
            ("fp32", "fp32", Native),
            ("bf16", "bf16", Native),
            ("bf16", "bf16 operands, fp32 accumulation, emulated", Emulated),
            ("fp16", "fp16 operands, fp32 accumulation, emulated", Emulated),
            ("bf16", "fp32 (bf16 asked for; no operand in the file has that type)", Other),
            ("bf16", "fp32 (bf16 requested; no operand in the file has that type)", Other),
            ("bf16", "mixed: 3 of 5 MatMul, Gemm and Conv: bf16 operands, fp32 accumulation, emulated", Other),
            ("fp16", "mixed: 3 of 5 MatMul, Gemm and Conv: fp16", Other),
            ("fp16", "bf16", Other),
            ("int8", "int8", Native),
            ("int8", "int8 operands, fp32 arithmetic, emulated", Emulated),
            ("int8", "int8 and fp32 (55 of 70 MatMul, Gemm and Conv in int8)", Other),
            ("fp32", "tf32 products, fp32 otherwise", Doubtful),
            ("fp32", "fp32, tf32 products allowed", Doubtful),
            ("fp32", "mixed: 3 of 5 MatMul, Gemm and Conv: fp32, tf32 products allowed", Doubtful),
            ("fp32", "fp32 or tf32 (this ONNX Runtime has no switch for it)", Doubtful),
            (
                "fp32",
                "fp32 or tf32 (TensorRT may choose it; NVIDIA_TF32_OVERRIDE=0 in the environment forbids it)",
                Doubtful,
            ),
        ] {
            assert_eq!(read(requested, effective, ""), kind, "{requested}: {effective}");
        }
    }

    #[test]
    fn a_kind_that_is_written_counts_whatever_the_words_say() {
        assert_eq!(read("bf16", "bf16", r#", "kind": "emulated""#), Emulated);
        assert_eq!(read("fp32", "fp32, tf32 products allowed", r#", "kind": "other""#), Other);
    }
}
