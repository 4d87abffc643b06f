//! What is kept? The record of a run as types, and where it lies.

pub mod record;
pub mod store;
