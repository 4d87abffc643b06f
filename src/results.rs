//! What is kept? The record of a run as types, where it lies, who may write there, and which runs stay.

pub mod baseline;
pub mod claim;
pub mod component;
pub mod disturbance;
pub mod note;
pub mod record;
pub mod retention;
pub mod rows;
mod sound;
pub mod status;
pub mod store;
mod upgrade;
