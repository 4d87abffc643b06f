//! What is measured: model packs behind one trait. The root crate sees [`Runner`], [`REGISTRY`] and plain data; ONNX
//! Runtime is named only where graphs are loaded, bound and run. Runners never print and never write results.

pub mod digest;
mod foreign;
pub mod frame;
mod host;
pub mod manifest;
pub mod mock;
mod onnx;
pub mod pack;
pub mod packs;
mod requirements;
mod runner;
mod sam;
mod study;
pub mod types;

pub use host::{pool, runtime, settings as session};
pub use packs::REGISTRY;
pub use runner::{Entry, Runner, RunnerError};
/// The tracker's copies.
pub mod tracker {
    pub use crate::sam::copies::Copied;
}

/// Names of graphs and options.
pub mod contract {
    pub use crate::host::options::{FORM, OVERLAPS, PIPELINE, STAGE_TIMES};
    pub use crate::manifest::OBJECTS;
    pub use crate::sam::contract::*;
}
pub use study::{audit, golden, inspect, roofline};

// Tests of this crate share files with the tests beside it, which name it.
#[cfg(test)]
extern crate self as jetbench_runners;
#[cfg(test)]
#[path = "../tests/real_packs/mod.rs"]
mod real_packs;
