//! What does a pack whose reference is a row of frames give on each of them? For a comparison of it with itself, run otherwise.

use serde::{Deserialize, Serialize};

use crate::runner::RunnerError;
use crate::types::{Device, Dtype, Frame, OpenRequest};

/// Precision and device whose limits two sides are held to: the coarser precision, and the device that is not the CPU, where one is.
pub fn judged(request: &OpenRequest, (dtype, device): (Dtype, Device)) -> (Dtype, Device) {
    let coarser = [Dtype::Int8, Dtype::Bf16, Dtype::Fp16].into_iter().find(|d| [request.dtype, dtype].contains(d));
    (coarser.unwrap_or(Dtype::Fp32), if request.device == Device::Cpu { device } else { request.device })
}

/// What came out for one frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameAnswer {
    /// The frame's file, as in the index of the reference.
    pub file: String,
    /// Values of each tensor, in an order that the family has; empty where a device keeps them.
    pub tensors: Vec<Vec<f32>>,
    /// Number of the object of each pixel, row by row, 0 where there is none; empty where the family has no masks, or tracks with masks of
    /// their own.
    pub labels: Vec<u16>,
    /// The live tracks of a segmenter whose tracks come and go.
    pub tracks: Vec<TrackAnswer>,
    /// With the last frame: the tracks that such a segmenter keeps.
    pub kept: Vec<KeptTrack>,
}

/// A live track on a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackAnswer {
    /// Its number, from 0 in the order of births.
    pub track: u32,
    /// Is it seen on this frame?
    pub seen: bool,
    /// Run lengths of its mask: see [`crate::types::Mask::to_runs`].
    pub runs: Vec<u32>,
}

/// A track that is kept at the end of a clip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptTrack {
    /// As [`TrackAnswer::track`].
    pub track: u32,
    /// Its first frame.
    pub birth: u32,
    /// Frames that it lives.
    pub entries: u32,
    /// Its likeliest class.
    pub label: u32,
    /// The probability of that.
    pub score: f64,
}

impl FrameAnswer {
    /// Does it belong to this frame, and has it as many values as ours?
    ///
    /// # Errors
    /// [`RunnerError::Inference`] saying what differs.
    pub(super) fn check(&self, file: &str, ours: &[&[f32]], frame: Frame<'_>) -> Result<(), RunnerError> {
        let wrong = |text: String| Err(RunnerError::Inference(format!("the sides are out of step at {file}: {text}")));
        if self.file != file {
            return wrong(format!("the other side is at {}", self.file));
        }
        let pixels = frame.width as usize * frame.height as usize;
        if self.tensors.len() != ours.len() || !(self.labels.is_empty() || self.labels.len() == pixels) {
            return wrong("the other side has other tensors".to_string());
        }
        let apart = ours.iter().zip(&self.tensors).find(|(a, b)| !a.is_empty() && !b.is_empty() && a.len() != b.len());
        match apart {
            Some((a, b)) => wrong(format!("a tensor has {} values here and {} there", a.len(), b.len())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_step_is_said() {
        let frame = Frame { width: 2, height: 1, rgb: &[0; 6] };
        let there = FrameAnswer {
            file: "a".into(),
            tensors: vec![vec![1.0; 3], vec![]],
            labels: vec![0, 1],
            ..FrameAnswer::default()
        };
        assert!(there.check("a", &[&[0.0; 3], &[0.0; 9]], frame).is_ok(), "what a device keeps is not compared");
        let said = |file: &str, ours: &[&[f32]]| there.check(file, ours, frame).unwrap_err().to_string();
        assert!(said("b", &[&[0.0; 3], &[]]).contains("out of step at b: the other side is at a"));
        assert!(said("a", &[&[0.0; 2], &[]]).contains("2 values here and 3 there"));
        assert!(said("a", &[&[0.0; 3]]).contains("other tensors"));
        let wide = Frame { width: 3, ..frame };
        assert!(there.check("a", &[&[0.0; 3], &[]], wide).is_err());
    }
}
