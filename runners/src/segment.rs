//! How does a video segmenter find and track objects in one go? One graph per frame, whose queries are its state: query q of one frame is
//! query q of the next, so that its number is the object. Nobody prompts, and nothing is associated.

mod answer;
pub mod contract;
mod model;
pub mod panoptic;
mod runner;

pub(crate) use model::Segmenter;

#[cfg(test)]
pub(crate) mod tests;
