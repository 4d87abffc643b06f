//! How do SAM 2, EdgeTAM, EfficientTAM, SAM 3's tracker and their kin track? One loop for the family; what differs between its members
//! is in their graphs and manifests.

pub mod contract;
pub mod copies;
mod edges;
mod encoder;
mod groups;
pub mod image;
pub mod rows;
#[cfg(test)]
pub(crate) mod sabotage;
mod state;
pub mod tracker;
mod wiring;

use crate::runner::Entry;

/// Registry entry of SAM 2.1 video packs.
pub const SAM2: Entry = Entry {
    family: "sam2",
    aliases: &[("sam2", "sam2_mini")],
    summary: "SAM 2.1 video: Hiera image encoder, memory bank of 7 frames, stored as bf16 values",
    hidden: false,
    detects: false,
    describe: tracker::describe,
    check: tracker::check,
    open: tracker::open,
    compose: None,
};

/// Registry entry of EdgeTAM video packs. They differ from SAM 2 by their graphs (RepViT encoder, spatial perceiver: fewer
/// memory tokens) and by storing memories unrounded.
pub const EDGETAM: Entry = Entry {
    family: "edgetam",
    aliases: &[("edgetam", "edgetam_mini")],
    summary: "EdgeTAM video: RepViT image encoder, memories compressed by a spatial perceiver",
    ..SAM2
};

/// Registry entry of EfficientTAM video packs. They differ from SAM 2 by their graphs: a plain ViT as encoder, one map of the
/// image, and in two of its forms a pooled memory attention.
pub const EFFICIENTTAM: Entry = Entry {
    family: contract::COARSE_FAMILY,
    aliases: &[],
    summary: "EfficientTAM video: plain ViT image encoder of one map, memory bank of 7 frames, stored as bf16 values",
    ..SAM2
};

/// Registry entry of SAM 3's tracker. It differs from SAM 2 by its graphs (plain ViT of patches of 14 pixels, maps of four, two and
/// one time its grid) and by its manifest: another size of the input, of masks and of memories, another normalisation.
pub const SAM3_TRACKER: Entry = Entry {
    family: contract::SAM3_FAMILY,
    aliases: &[],
    summary: "SAM 3 tracker, video: plain ViT image encoder, memory bank of 7 frames, stored as bf16 values",
    ..SAM2
};
