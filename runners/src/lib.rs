//! What is measured: model packs behind one trait. The root crate sees [`Runner`], [`REGISTRY`], plain data and a few
//! functions; ONNX Runtime is named only where graphs are loaded, bound and run. Runners never print and never write results.
//!
//! A runner is one file with an [`Entry`], and two lines that name it: its `mod`, and its place in [`REGISTRY`].

// See clippy.toml; tests open files as they like.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_macros))]

pub mod archive;
pub mod assignment;
pub mod associate;
mod compose;
pub mod detect;
pub mod digest;
pub mod files;
mod follow;
mod foreign;
mod frame;
mod host;
mod label;
pub mod lfs;
mod manifest;
mod mock;
mod onnx;
mod pack;
pub mod packs;
mod prompted;
mod requirements;
mod runner;
mod sam;
mod segment;
mod study;
pub mod types;

pub use manifest::draft;
pub use mock::null as null_runner;
pub use packs::REGISTRY;
pub use runner::{Entry, Runner, RunnerError};
pub use study::{audit, chains, detections, embeddings, frames, golden, inspect, roofline, tubes, whole};

/// What a pack's manifest says of panoptic segments.
pub mod panoptic {
    pub use crate::manifest::panoptic::PanopticSpec;
}

/// Names of graphs.
pub mod contract {
    pub use crate::detect::KEPT;
    pub use crate::detect::contract::{DETECTOR, PRED_BOXES};
    pub use crate::follow::contract::{FAMILY as DVIS_DAQ, STEP as TRACKER_STEP};
    pub use crate::sam::contract::{IMAGE_ENCODER, MASK_DECODER, MASK_PROMPT, MEMORY_ENCODER};
    pub use crate::sam::rows::KEEP;
    pub use crate::segment::contract::SEGMENTER;
}

/// How a graph's attentions are computed, for the check with NVIDIA's compiler.
pub mod attention {
    pub use crate::onnx::{Attended, Attention};
}

/// The options of the runners.
pub mod options {
    pub use crate::host::options::{
        DeviceKind, FORM, InvalidOption, MAX_TRACKS, MEMORY, OBJECTS, OVERLAPS, PIPELINE, PackNeed, REFUSED,
        RunnerOption, STAGE_TIMES, TABLE, check_together, find, loads_libraries,
    };
    pub use crate::host::providers::Provider;
}

/// The memory that graphs run in, and huge pages for it.
pub mod pool {
    pub use crate::host::pool::{REMEDY, SETTING, kernel, use_one_malloc_arena};
}

/// ONNX Runtime, as a run would find it.
pub mod runtime {
    pub use crate::host::providers::{fetch_command, fetched_by, missing_provider, where_from};
    pub use crate::host::runtime::{
        LibraryFacts, NO_TELEMETRY, RuntimeProbe, cache_dir, inspect, lacking, load, look_with, probe, probe_for,
        provider_files, same_file,
    };
}

/// Plugin libraries of execution providers.
pub mod plugin {
    pub use crate::host::plugin::{OLDEST, PluginDevice, PluginFacts, inspect, look, look_with, needs_library};
}

/// The GPUs that `webgpu:0` may be.
pub mod webgpu {
    pub use crate::host::webgpu::{VulkanDevice, vulkan_devices};
}

/// Kernels around the model, for the bench that compares them with plain forms.
#[doc(hidden)]
pub mod kernels {
    pub use crate::frame::{Candidate, Confidence, Contest, Preprocess, Thresholder, Way};
    pub use crate::manifest::{Colour, InputSpec, ResizeFilter};
}

// Tests of this crate share files with the tests beside it, which name it.
#[cfg(test)]
extern crate self as jetbench_runners;
#[cfg(test)]
#[path = "../tests/real_packs/mod.rs"]
mod real_packs;
