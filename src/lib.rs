//! The half of jetbench that measures: plan, run, score, judge, report. `main.rs` only parses and dispatches.

pub mod cli;
pub mod command;
pub mod dataset;
pub mod exit;
pub mod judge;
pub mod plan;
pub mod report;
pub mod results;
pub mod run;
pub mod score;
pub mod telemetry;
pub mod text;
