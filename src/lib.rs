//! The half of jetbench that measures: plan, run, score, judge, report. `main.rs` only parses and dispatches.

pub mod dataset;
pub mod overlay;
pub mod prompt;
pub mod record;
pub mod report;
pub mod score;
pub mod stats;
pub mod summary;
