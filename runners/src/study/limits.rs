//! How far may outputs lie from the golden reference? In fp32 as far as the pack promises. Half precisions have limits of
//! their own: rounding alone moves every logit by more than that promise, and now and then turns a close choice between
//! two masks, so that a single frame says little and a typical one much.

use serde::Serialize;

use crate::study::reference::Tolerance;
use crate::types::{Dtype, PromptKind};

/// The largest difference of one tensor, and where it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Graph that made the tensor.
    pub graph: String,
    /// Tensor name.
    pub tensor: String,
    /// Clip name.
    pub clip: String,
    /// Object in the clip.
    pub object: u32,
    /// Kind of its prompt.
    pub prompt: PromptKind,
    /// Frame index in the clip.
    pub frame: usize,
    /// Largest absolute difference; `None` (JSON null) when one side is not finite.
    pub max_abs: Option<f64>,
    /// Root mean square of the difference over that of the reference, on the worst frame; `None` when not finite.
    pub rel_rms: Option<f64>,
    /// The same on the frame in the middle, by size (median); `None` when not finite.
    pub typical_rel_rms: Option<f64>,
}

/// Differences allowed, by tensor and for the masks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Mask logits.
    pub low_res: Allowed,
    /// Object score logit.
    pub object_score: Allowed,
    /// Object pointer.
    pub obj_ptr: Allowed,
    /// Share of a track's mask pixels.
    pub mask_pixels: f64,
}

/// What is allowed of one tensor of a track.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowed {
    /// The largest absolute difference on any frame.
    MaxAbs(f64),
    /// The relative root mean square on the median frame.
    TypicalRelRms(f64),
    /// It is shown, not judged.
    Any,
}

impl Limits {
    /// For outputs in `dtype` against an fp32 reference of this tolerance. The manifest's tolerance is a promise of the
    /// pack, which the reference cannot widen.
    ///
    /// The limits of half precisions are what the shipped packs show, with room: on a CPU (emulated) and on an H200 through
    /// CUDA, which sum in fp32, median frames differ by 6e-4 in fp16 and 6e-3 in bf16, masks by up to 7e-5 and 2e-4 of a
    /// track's pixels; WebGPU on the H200, whose kernels also sum in fp16, by 7.4e-3 and 9e-5.
    pub(super) fn new(dtype: Dtype, reference: &Tolerance, promised: f64) -> Limits {
        let half = |rel_rms: f64, mask_pixels: f64| Limits {
            low_res: Allowed::TypicalRelRms(rel_rms),
            // One number has no size of its own: near 0 it would be far off in relation to itself. The masks hold it.
            object_score: Allowed::Any,
            obj_ptr: Allowed::TypicalRelRms(rel_rms),
            mask_pixels,
        };
        match dtype {
            Dtype::Fp32 => {
                let promise = |tolerance: f64| Allowed::MaxAbs(tolerance.min(promised));
                Limits {
                    low_res: promise(reference.low_res),
                    object_score: promise(reference.object_score),
                    obj_ptr: promise(reference.obj_ptr),
                    mask_pixels: reference.mask_pixels,
                }
            }
            Dtype::Fp16 => half(1e-2, 5e-4),
            Dtype::Bf16 => half(3e-2, 1e-3),
        }
    }

    /// What is allowed of a tensor.
    pub fn of(&self, tensor: &str) -> Allowed {
        match tensor {
            "low_res_mask" => self.low_res,
            "object_score" => self.object_score,
            _ => self.obj_ptr,
        }
    }
}

impl Allowed {
    /// The difference in units of what is allowed; infinite where it is not finite.
    pub(super) fn units(self, difference: &Difference) -> f64 {
        let of = |value: Option<f64>, limit: f64| value.map_or(f64::INFINITY, |value| value / limit);
        match self {
            Allowed::MaxAbs(limit) => of(difference.max_abs, limit),
            Allowed::TypicalRelRms(limit) => of(difference.typical_rel_rms, limit),
            // A value that is no number is never a matter of taste.
            Allowed::Any => of(difference.max_abs, f64::INFINITY),
        }
    }

    /// Says by how much a difference lies outside; `None` within.
    pub(super) fn exceeded(self, difference: &Difference) -> Option<String> {
        let size = |value: Option<f64>| value.map_or("by what is not finite".to_string(), |v| format!("by {v:.3e}"));
        (self.units(difference) > 1.0).then(|| match self {
            Allowed::MaxAbs(limit) => {
                format!("differs {} on frame {}, {limit:.1e} allowed", size(difference.max_abs), difference.frame)
            }
            Allowed::TypicalRelRms(limit) => format!(
                "differs {} of its size on the median frame, {limit:.1e} allowed",
                size(difference.typical_rel_rms)
            ),
            Allowed::Any => format!("differs {} on frame {}", size(difference.max_abs), difference.frame),
        })
    }

    /// The figure of a difference that is judged, as text.
    pub fn shown(self, difference: &Difference) -> String {
        let text = match self {
            Allowed::TypicalRelRms(_) => difference.typical_rel_rms.map(|v| format!("{:.2} %", v * 100.0)),
            Allowed::MaxAbs(_) | Allowed::Any => difference.max_abs.map(|v| format!("{v:.1e}")),
        };
        text.unwrap_or_else(|| "not finite".to_string())
    }

    /// In words, for the line that says what was allowed.
    pub fn words(self) -> Option<String> {
        match self {
            Allowed::MaxAbs(limit) => Some(format!("{limit:.0e}")),
            Allowed::TypicalRelRms(limit) => Some(format!("{:.1} % on the median frame", limit * 100.0)),
            Allowed::Any => None,
        }
    }
}
