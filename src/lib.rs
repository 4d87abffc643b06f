//! The half of jetbench that measures: plan, run, score, judge, report. `main.rs` only parses and dispatches.

pub mod cli;
pub mod config;
pub mod dataset;
pub mod event;
pub mod exit;
pub mod plan;
pub mod record;
pub mod score;
pub mod spool;
pub mod telemetry;
