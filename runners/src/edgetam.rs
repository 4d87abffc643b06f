//! Registry entry of EdgeTAM video packs. It differs from SAM 2 by its graphs (RepViT encoder, spatial perceiver: fewer
//! memory tokens) and by storing memories unrounded; both are in the pack, so the loop is the family tracker.

use crate::{Entry, tracker};

/// Registry entry of the `edgetam` family.
pub const ENTRY: Entry = Entry {
    family: "edgetam",
    aliases: &[("edgetam", "edgetam_mini")],
    summary: "EdgeTAM video: RepViT image encoder, memories compressed by a spatial perceiver",
    hidden: false,
    describe: tracker::describe,
    check: tracker::check,
    open: tracker::open,
};
