//! What did the user ask for? One file per verb: arguments in, outcome out.

mod against;
pub mod audit;
pub mod compare;
pub mod data;
pub mod doctor;
mod export;
pub mod history;
pub mod inspect_library;
pub mod manual;
pub mod merge;
pub mod models;
pub mod packs;
pub mod prompt;
pub mod prune;
pub mod report;
pub mod run;
pub mod scale;
pub mod schedule;
pub mod score;
pub mod telemetry;
pub mod verify;
