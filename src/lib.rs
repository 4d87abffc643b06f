//! The half of jetbench that measures: plan, run, score, judge, report. `main.rs` only parses and dispatches.

pub mod dataset;
pub mod record;
pub mod score;
