//! Which detection is which track, which one founds a track, and which track ends? The rules of a run in which a detector
//! founds the tracks, apart from all models: `docs/detector_tracker.md` states them. And `prompts`: which track is whose, where a model finds
//! its tracks itself and objects are prompted.

mod boxes;
pub mod prompts;
mod rules;
mod select;
#[cfg(test)]
mod tests;
mod tracks;

pub use rules::Rules;
#[cfg(test)]
pub(crate) use select::select;
pub use tracks::{Association, Carrier};
