//! What is copied between host and device? Counted for the placement audit; a tracker that measures counts nothing.

use super::contract::{IMAGE_ENCODER, MASK_DECODER, MASK_PROMPT, MEMORY_ENCODER, TensorSizes};

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

/// The copies that a tracker has made since opening, where they are counted.
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
        if let Some(copies) = &mut self.0 {
            copies.push(Copied { graph, tensor, to_host, bytes: values as u64 * 4, prompted });
        }
    }

    /// A frame that goes to the image encoder.
    pub fn image(&mut self, s: &TensorSizes) {
        self.push(IMAGE_ENCODER, "image", false, 3 * s.image * s.image, false);
    }

    /// Results of `objects` objects that ran together. On the CPU host and device are one: only the masks come out. On a GPU
    /// score and pointer come to the host, where the loop checks them, and go back up into the memory encoder.
    pub fn group(&mut self, s: &TensorSizes, on_gpu: bool, objects: usize, prompted: bool) {
        let n = objects as i64;
        self.push(MASK_DECODER, "low_res_mask", true, n * (s.mask() * s.mask()) as i64, prompted);
        if on_gpu {
            for (tensor, values) in [("object_score", 1), ("obj_ptr", s.hidden)] {
                self.push(MASK_DECODER, tensor, true, n * values, prompted);
                self.push(MEMORY_ENCODER, tensor, false, n * values, prompted);
            }
            self.push(MASK_DECODER, "predicted_iou", true, n, prompted);
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
}
