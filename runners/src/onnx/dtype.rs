//! What is a value? Element types and shapes, as ONNX files state them.

use std::fmt;

use serde::Deserialize;

/// Element type of a tensor, with ONNX's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ElementType(pub i64);

impl ElementType {
    /// 32-bit float.
    pub const F32: Self = ElementType(1);
    /// 8-bit natural number.
    pub const U8: Self = ElementType(2);
    /// 8-bit integer.
    pub const I8: Self = ElementType(3);
    /// 32-bit integer.
    pub const I32: Self = ElementType(6);
    /// 64-bit integer.
    pub const I64: Self = ElementType(7);
    /// Truth value.
    pub const BOOL: Self = ElementType(9);
    /// IEEE binary16.
    pub const F16: Self = ElementType(10);
    /// bfloat16.
    pub const BF16: Self = ElementType(16);

    /// Bytes per element; 0 for text and unknown types.
    pub fn bytes(self) -> u64 {
        match self.0 {
            2 | 3 | 9 => 1,
            4 | 5 | 10 | 16 => 2,
            1 | 6 | 12 => 4,
            7 | 11 | 13 | 14 => 8,
            15 => 16,
            _ => 0,
        }
    }

    /// Is it one of the two 16-bit floats?
    pub fn is_half(self) -> bool {
        self == Self::F16 || self == Self::BF16
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            "undefined",
            "f32",
            "u8",
            "i8",
            "u16",
            "i16",
            "i32",
            "i64",
            "string",
            "bool",
            "f16",
            "f64",
            "u32",
            "u64",
            "c64",
            "c128",
            "bf16",
        ];
        match usize::try_from(self.0).ok().and_then(|n| names.get(n)) {
            Some(name) => f.pad(name),
            None => f.pad(&format!("type {}", self.0)),
        }
    }
}

/// Size of one axis. In a manifest a number or a name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "the size of an axis or its name")]
pub enum Dimension {
    /// Fixed.
    Size(i64),
    /// Named or unknown: decided at run time.
    Dynamic(String),
}

/// A shape as it is written in messages: `[objects, 7, 512, 64]`.
pub fn shape_text(shape: &[Dimension]) -> String {
    format!("[{}]", shape.iter().map(Dimension::to_string).collect::<Vec<_>>().join(", "))
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dimension::Size(n) => write!(f, "{n}"),
            Dimension::Dynamic(name) if name.is_empty() => f.write_str("?"),
            Dimension::Dynamic(name) => f.write_str(name),
        }
    }
}
