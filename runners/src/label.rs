//! What is this track called? Crops of a track go through an image tower, and their mean is held against the stored vector of each
//! class. Crops are cut while a runner tracks, which is the stage `labels` of a frame; the tower runs after the last frame.

pub mod contract;
mod crop;
mod labelled;
mod labeller;
mod slots;
mod vectors;

pub use labelled::{MOST_OBJECTS, open};
pub use labeller::Labeller;
pub use slots::MOST as MOST_CROPS;
pub use vectors::{Vectors, best, unit};

#[cfg(test)]
mod tests;
