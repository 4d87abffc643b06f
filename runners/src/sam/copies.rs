//! What is copied between host and device? Counted for the placement audit; a runner that measures counts nothing.

use crate::host::settings::SessionSettings;

use super::contract::{IMAGE_ENCODER, MASK_DECODER, MASK_PROMPT, MEMORY_ENCODER, TensorSizes};
use super::rows::{KEEP, ROWS};

/// A copy between host and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Graph that reads or wrote the tensor.
    pub graph: &'static str,
    /// Tensor name.
    pub tensor: &'static str,
    /// Down to the host, or up to the device.
    pub to_host: bool,
    /// Bytes.
    pub bytes: u64,
    /// Once per prompt, not on every frame.
    pub prompted: bool,
}

/// The copies that a runner has made since opening, where they are counted.
pub struct Copies(Option<Vec<Copied>>);

impl Copies {
    /// Counts them, or does not.
    pub fn new(counted: bool) -> Copies {
        Copies(counted.then(Vec::new))
    }

    /// All of them, in order.
    pub fn list(&self) -> &[Copied] {
        self.0.as_deref().unwrap_or_default()
    }

    fn push(&mut self, graph: &'static str, tensor: &'static str, to_host: bool, values: i64, prompted: bool) {
        self.push_bytes(graph, tensor, to_host, values as u64 * 4, prompted);
    }

    /// A copy that was made.
    pub fn push_bytes(&mut self, graph: &'static str, tensor: &'static str, to_host: bool, bytes: u64, prompted: bool) {
        if let Some(copies) = &mut self.0 {
            copies.push(Copied { graph, tensor, to_host, bytes, prompted });
        }
    }

    /// A frame that goes to the image encoder, as 8-bit samples or as floats.
    pub fn image(&mut self, s: &TensorSizes, as_bytes: bool) {
        let samples = 3 * s.image * s.image;
        let bytes = if as_bytes { samples } else { 4 * samples };
        self.push_bytes(IMAGE_ENCODER, "image", false, bytes as u64, false);
    }

    /// Results of `objects` objects that ran together. On the CPU host and device are one: only the masks come out. On a GPU
    /// the loop gets a report of scores and pointers; without one both come to the host and go back up into the memory encoder.
    pub fn group(&mut self, s: &TensorSizes, settings: &SessionSettings, objects: usize, prompted: bool) {
        let (n, on_gpu, reports) = (objects as i64, settings.on_gpu(), settings.results_on_device());
        self.push(MASK_DECODER, "low_res_mask", true, n * s.mask() * s.mask(), prompted);
        if on_gpu && reports {
            self.push(MASK_DECODER, "report", true, 3 * n, prompted);
        } else if on_gpu {
            for (tensor, values) in [("object_score", 1), ("obj_ptr", s.hidden)] {
                self.push(MASK_DECODER, tensor, true, n * values, prompted);
                self.push(MEMORY_ENCODER, tensor, false, n * values, prompted);
            }
            self.push(MASK_DECODER, "predicted_iou", true, n, prompted);
            if settings.memory_threshold().is_some() {
                self.push(MEMORY_ENCODER, "predicted_iou", false, n, prompted);
            }
        }
    }

    /// Prompts of `objects` objects that go up to a GPU, masks or points.
    pub fn prompts(&mut self, s: &TensorSizes, objects: usize, masks: bool) {
        let (graph, tensor, values) = match masks {
            true => (MASK_PROMPT, "mask", s.image * s.image),
            false => (MASK_DECODER, "point_coords, point_labels, multimask", 3 * s.points + 1),
        };
        self.push(graph, tensor, false, objects as i64 * values, true);
    }

    /// Numbers of the objects that stay in a batch, which go up to a GPU.
    pub fn rows(&mut self, settings: &SessionSettings, objects: usize) {
        if settings.on_gpu() {
            self.push(KEEP, ROWS, false, objects as i64, true);
        }
    }
}
