//! How far may outputs lie apart? One set of limits for `verify` against the reference and against the pack run otherwise.
//!
//! Masks come first: they are what a user gets. The other limits find damage that no mask shows. In fp32 they are as tight
//! as different kernels allow: a single frame of SAM 2 says little, because its memory is rounded to bfloat16, where a value
//! on a tie falls to either side with the last bit of a sum; the prompted frame, which has no memory, and the middle of all
//! tracked frames say much. Half precisions have limits of their own: rounding moves every logit, and now and then turns a
//! close choice between two masks, so there too a single frame says little and a typical one much.

use serde::{Deserialize, Serialize};

use crate::types::{Device, Dtype, PromptKind};

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
    /// Root mean square of the difference over that of the reference, on the worst frame; `None` when not finite. The steps
    /// in which the reference is stored are taken out.
    pub rel_rms: Option<f64>,
    /// The same on the frame in the middle, by size (median); `None` when not finite.
    pub typical_rel_rms: Option<f64>,
    /// The same on the prompted frame; `None` when not finite or not compared.
    pub prompted_rel_rms: Option<f64>,
}

/// Limits that a reference may set for its own clips (`tolerance` in golden.json): what PyTorch differs from itself by
/// there, with room. None may lie above [`CEILINGS`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Mask logits, absolute, any frame.
    pub low_res: f64,
    /// Object score logit, absolute, any frame.
    pub object_score: f64,
    /// Object pointer, absolute, any frame.
    pub obj_ptr: f64,
    /// Share of a track's mask pixels.
    pub mask_pixels: f64,
    /// See [`Limits::prompted`].
    #[serde(default = "prompted")]
    pub prompted: f64,
    /// See [`Limits::typical`].
    #[serde(default = "typical")]
    pub typical: f64,
    /// See [`Limits::systematic`].
    #[serde(default = "systematic")]
    pub systematic: f64,
}

/// Limits of int8 that a reference may set (`int8` in golden.json): what the pack's own int8 graphs differ from it by, with room.
/// `jetbench-models int8` measures them, because the scales of a pack say how much its rounding costs. None may lie above
/// [`INT8_CEILINGS`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Int8Tolerance {
    /// See [`Limits::typical`].
    pub typical: f64,
    /// Share of a track's mask pixels.
    pub mask_pixels: f64,
    /// 1 less the least IoU of a track's masks.
    pub apart: f64,
}

/// What no reference may exceed for int8: above, a comparison proves nothing.
pub const INT8_CEILINGS: Int8Tolerance = Int8Tolerance { typical: 0.5, mask_pixels: 2e-2, apart: 0.4 };

/// For references that say nothing of int8: the limits of bf16.
const INT8_UNSAID: Int8Tolerance = Int8Tolerance { typical: 3e-2, mask_pixels: 1e-3, apart: 2e-2 };

impl Int8Tolerance {
    /// Says which field is no usable limit.
    pub(super) fn check(&self) -> Result<(), String> {
        let most = INT8_CEILINGS;
        in_range(&[
            ("int8.typical", self.typical, most.typical),
            ("int8.mask_pixels", self.mask_pixels, most.mask_pixels),
            ("int8.apart", self.apart, most.apart),
        ])
    }
}

/// Says which of some limits (name, value, ceiling) is no usable one.
fn in_range(fields: &[(&str, f64, f64)]) -> Result<(), String> {
    match fields.iter().find(|(_, value, most)| !(0.0..=*most).contains(value)) {
        None => Ok(()),
        Some((name, value, most)) => {
            Err(format!("{name} = {value:e}: from 0 to {most:e} expected; above, a comparison proves nothing"))
        }
    }
}

/// So many pixels of a track may differ whatever its IoU: of a small mask a single one is much.
const FEW_PIXELS: u64 = 8;

/// What no reference may exceed: above, a comparison proves nothing.
pub const CEILINGS: Tolerance = Tolerance {
    low_res: 2e-2,
    object_score: 2e-2,
    obj_ptr: 2e-2,
    mask_pixels: 1e-3,
    prompted: 1e-3,
    typical: 1e-3,
    systematic: 1e-4,
};

/// For references that say nothing else. On the shipped packs, ONNX Runtime 1.20, 1.23 and 1.31, one and two threads, both
/// forms: prompted frames differ by 8e-7, and the damage of 1e-3 that shows least there is 1.6e-4.
fn prompted() -> f64 {
    2e-5
}

/// As [`prompted`]: typical frames differ by 2e-6.
fn typical() -> f64 {
    2e-5
}

/// As [`prompted`]: the pointers of a kind differ by 1.1e-7 in the middle; `edgetam_mini` with a layer of its memory encoder
/// that a normalisation follows scaled by 1.001, which hides most of it, by 1.1e-6.
fn systematic() -> f64 {
    4e-7
}

impl Tolerance {
    /// Says which field is no usable limit.
    pub(super) fn check(&self) -> Result<(), String> {
        in_range(&[
            ("tolerance.low_res", self.low_res, CEILINGS.low_res),
            ("tolerance.object_score", self.object_score, CEILINGS.object_score),
            ("tolerance.obj_ptr", self.obj_ptr, CEILINGS.obj_ptr),
            ("tolerance.mask_pixels", self.mask_pixels, CEILINGS.mask_pixels),
            ("tolerance.prompted", self.prompted, CEILINGS.prompted),
            ("tolerance.typical", self.typical, CEILINGS.typical),
            ("tolerance.systematic", self.systematic, CEILINGS.systematic),
        ])
    }
}

/// Differences allowed; `None`: shown, not judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Share of a track's mask pixels that may differ.
    pub mask_pixels: f64,
    /// Smallest intersection over union of a track's masks, all its frames together.
    pub iou: f64,
    /// Relative root mean square of logits and pointers, each, on a track's median frame.
    pub typical: f64,
    /// The same on the prompted frame.
    pub prompted: Option<f64>,
    /// What is left of the pointers' differences when the middle (median) is taken over all tracked frames with the object
    /// of one kind of prompt, value by value, relative to a pointer's length. Rounding points anywhere and goes;
    /// damage points somewhere and stays.
    pub systematic: Option<f64>,
    /// Largest absolute differences on any frame.
    pub worst: Option<Worst>,
}

/// Largest absolute differences on any frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Worst {
    /// Mask logits.
    pub low_res: f64,
    /// Object score logit.
    pub object_score: f64,
    /// Object pointer.
    pub obj_ptr: f64,
}

impl Limits {
    /// For outputs in `dtype` from `device` against fp32. The manifest's tolerance is a promise of the pack, which the
    /// reference cannot widen.
    ///
    /// The limits of half precisions are what the shipped packs show, with room: on a CPU (emulated) and on an H200 through
    /// CUDA, which sum in fp32, median frames differ by 6e-4 in fp16 and 6e-3 in bf16, masks by up to 7e-5 and 2e-4 of a
    /// track's pixels; WebGPU on the H200, whose kernels also sum in fp16, by 7.4e-3 and 9e-5.
    pub(super) fn new(
        dtype: Dtype,
        device: Device,
        reference: &Tolerance,
        int8: Option<Int8Tolerance>,
        promised: f64,
    ) -> Limits {
        let half = |typical: f64, mask_pixels: f64, iou: f64| Limits {
            mask_pixels,
            iou,
            typical,
            prompted: None,
            systematic: None,
            worst: None,
        };
        match dtype {
            Dtype::Fp32 => {
                let worst = |tolerance: f64| tolerance.min(promised);
                // Sines, exponentials and roots of GPUs err more, and to one side: on WebGPU (SwiftShader) the median frame of a random pack
                // differs by 1.7e-4. A run on the CPU tells what is in the files of a pack.
                let room = if device == Device::Cpu { 1.0 } else { 20.0 };
                // Vulkan lets a driver's sine err by 2^-11, and prompts become sines of their places. SwiftShader's errs by 1.9e-4, which
                // moves a logit of `edgetam_mini` by 1.05e-3 (1.3e-4 where polynomials stand for Sin and Cos); 2^-11 would move it by 2.7e-3.
                let sines = if matches!(device, Device::WebGpu(_) | Device::Plugin(..)) { 3.0 } else { 1.0 };
                Limits {
                    mask_pixels: reference.mask_pixels,
                    iou: 0.999,
                    typical: reference.typical * room,
                    prompted: Some(reference.prompted * room),
                    systematic: Some(reference.systematic * room),
                    worst: Some(Worst {
                        low_res: (worst(reference.low_res) * sines).min(CEILINGS.low_res),
                        object_score: worst(reference.object_score),
                        obj_ptr: worst(reference.obj_ptr),
                    }),
                }
            }
            Dtype::Fp16 => half(1e-2, 5e-4, 0.99),
            Dtype::Bf16 => half(3e-2, 1e-3, 0.98),
            Dtype::Int8 => {
                let Int8Tolerance { typical, mask_pixels, apart } = int8.unwrap_or(INT8_UNSAID);
                half(typical, mask_pixels, 1.0 - apart)
            }
        }
    }

    /// What is allowed of a tensor on any frame.
    fn worst_of(&self, tensor: &str) -> Option<f64> {
        self.worst.map(|worst| match tensor {
            "low_res_mask" => worst.low_res,
            "object_score" => worst.object_score,
            _ => worst.obj_ptr,
        })
    }

    /// The figures of a difference that are judged: name, value, limit. One number has no size of its own: near 0 it would
    /// be far off in relation to itself, so a score has no relative limit.
    fn judged(&self, d: &Difference) -> Vec<(String, Option<f64>, f64)> {
        let mut all = Vec::new();
        if d.tensor != "object_score" {
            all.push(("of its size on the median frame".to_string(), d.typical_rel_rms, self.typical));
            if let (Some(value), Some(limit)) = (d.prompted_rel_rms, self.prompted) {
                all.push(("of its size on the prompted frame".to_string(), Some(value), limit));
            }
        }
        match self.worst_of(&d.tensor) {
            Some(limit) => all.push((format!("on frame {}", d.frame), d.max_abs, limit)),
            // A value that is no number is never a matter of taste.
            None => all.push((format!("on frame {}", d.frame), d.max_abs, f64::INFINITY)),
        }
        all
    }

    /// The difference in units of what is allowed; infinite where it is not finite.
    pub(super) fn units(&self, d: &Difference) -> f64 {
        let units = |(_, value, limit): (String, Option<f64>, f64)| value.map_or(f64::INFINITY, |value| value / limit);
        self.judged(d).into_iter().map(units).fold(0.0, f64::max)
    }

    /// Says by how much a difference lies outside; nothing within.
    pub fn exceeded(&self, d: &Difference) -> Vec<String> {
        let outside = |value: Option<f64>, limit: f64| !value.is_some_and(|value| value <= limit);
        let said = |(place, value, limit): (String, Option<f64>, f64)| match value {
            Some(value) => format!("differs by {value:.3e} {place}, {limit:.1e} allowed"),
            None => format!("differs by what is not finite {place}"),
        };
        self.judged(d).into_iter().filter(|(_, value, limit)| outside(*value, *limit)).map(said).collect()
    }

    /// Says what is wrong with a track's masks: `differing` of `pixels` and their IoU, all frames together.
    pub fn masks_exceeded(&self, differing: u64, pixels: u64, iou: f64) -> Option<String> {
        let share = differing as f64 / pixels.max(1) as f64;
        if share > self.mask_pixels {
            let limit = self.mask_pixels;
            return Some(format!("{differing} of {pixels} mask pixels differ, a share of {limit:.1e} is allowed"));
        }
        (iou < self.iou && differing > FEW_PIXELS)
            .then(|| format!("IoU of the masks {iou:.5} ({differing} pixels differ), at least {} expected", self.iou))
    }

    /// In words, for the line that says what was allowed.
    pub fn words(&self) -> String {
        let mut all = vec![
            format!("{:.2} % of a track's mask pixels", self.mask_pixels * 100.0),
            format!("IoU {}", (self.iou * 1e4).round() / 1e4),
            format!("{} of their size for logits and pointers of the median frame", two_digits(self.typical)),
        ];
        all.extend(self.prompted.map(|limit| format!("{limit:.0e} on the prompted frame")));
        all.extend(self.systematic.map(|limit| format!("{limit:.0e} for pointers in the middle of all frames")));
        all.extend(self.worst.map(|w| {
            format!(
                "on any frame {:.0e} for logits, {:.0e} for scores, {:.0e} for pointers",
                w.low_res, w.object_score, w.obj_ptr
            )
        }));
        all.join(", ")
    }
}

/// A limit as text: `2e-5`, `5.7e-2`.
fn two_digits(limit: f64) -> String {
    format!("{limit:.1e}").replace(".0e", "e")
}

/// A figure as text.
pub fn shown(value: Option<f64>) -> String {
    value.map_or("not finite".to_string(), |v| format!("{v:.1e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logit_has_more_room_only_where_a_driver_makes_the_sines() {
        let reference = Tolerance {
            low_res: 1e-3,
            object_score: 1e-3,
            obj_ptr: 1e-3,
            mask_pixels: 1e-4,
            prompted: 2e-5,
            typical: 2e-5,
            systematic: 4e-7,
        };
        let of = |device| Limits::new(Dtype::Fp32, device, &reference, None, 1e-3);
        let worst = |device| of(device).worst.map(|worst| (worst.low_res, worst.object_score, worst.obj_ptr)).unwrap();
        assert_eq!(worst(Device::Cpu), (1e-3, 1e-3, 1e-3));
        assert_eq!(worst(Device::Cuda(0)), (1e-3, 1e-3, 1e-3));
        assert_eq!(worst(Device::WebGpu(0)), (3e-3, 1e-3, 1e-3));
        assert_eq!((of(Device::Cpu).typical, of(Device::WebGpu(0)).typical), (2e-5, 4e-4));
        let wide = Limits::new(Dtype::Fp32, Device::WebGpu(0), &Tolerance { low_res: 1e-2, ..reference }, None, 1e-2);
        assert_eq!(wide.worst.map(|worst| worst.low_res), Some(CEILINGS.low_res), "never above the ceiling");
    }
}
