//! Registry entry of SAM 2.1 video packs. Everything that makes the family special is in its graphs and its manifest;
//! the loop is the family tracker.

use crate::{Entry, tracker};

/// Registry entry of the `sam2` family.
pub const ENTRY: Entry = Entry {
    family: "sam2",
    aliases: &[("sam2", "sam2_mini")],
    summary: "SAM 2.1 video: Hiera image encoder, memory bank of 7 frames, stored as bf16 values",
    hidden: false,
    describe: tracker::describe,
    check: tracker::check,
    open: tracker::open,
};
