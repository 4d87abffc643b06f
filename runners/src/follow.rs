//! How does a video segmenter follow objects that come and go? Two graphs per frame: one segments, the other holds the tracks in slots, as
//! state on the device, and says which live on, end and begin. The host numbers them, matches queries for the branch that notices what is
//! gone, and adds up what the tracks are called. Nobody prompts.

pub mod contract;
mod life;
mod model;
mod runner;

#[cfg(test)]
pub(crate) use life::sureness;
pub(crate) use model::Follower;

#[cfg(test)]
mod tests;
