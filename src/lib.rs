//! The half of jetbench that measures: plan, run, score, judge, report. `main.rs` only parses and dispatches.

pub mod cli;
pub mod config;
pub mod dataset;
pub mod device;
pub mod doctor;
pub mod event;
pub mod exit;
pub mod grade;
pub mod models;
pub mod overlay;
pub mod plan;
pub mod progress;
pub mod prompt;
pub mod record;
pub mod report;
pub mod run;
pub mod score;
pub mod spool;
pub mod stats;
pub mod store;
pub mod summary;
pub mod supervise;
pub mod telemetry;
pub mod verdict;
pub mod worker;
