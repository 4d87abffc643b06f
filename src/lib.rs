//! The half of jetbench that measures: plan, run, score, judge, report. `main.rs` only parses and dispatches.

// See clippy.toml; tests open files and print as they like.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_macros))]

mod child;
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
