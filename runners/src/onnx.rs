//! What does an ONNX file hold, and how is it changed? Read without ONNX Runtime, so that a pack can be checked against its
//! manifest and the precision of a graph can be proven before anything is loaded; rewritten for providers that have no
//! half kernels, and at its edges, where host and device do not share memory.

mod attention;
pub(crate) mod build;
mod convolution;
mod dtype;
mod edges;
mod external;
mod facts;
mod gate;
mod model;
pub(crate) mod padding;
mod rewrite;
mod shapes;
mod wire;

pub use attention::{Attended, Attention};
pub use dtype::{Dimension, ElementType, shape_text};
pub use edges::{Edge, Gate, PIXELS, REPORT};
pub use external::ExternalTensor;
pub use model::{Model, Node, ValueInfo};
pub use padding::PAD_FUSION;
pub use shapes::Shapes;
pub use wire::OnnxError;
