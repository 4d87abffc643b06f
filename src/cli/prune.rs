//! Flags of `prune`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::cli::quantity::ByteCount;

/// Flags of `prune`.
#[derive(Args, Debug)]
pub struct PruneArgs {
    /// Keep the newest N runs of each device; give either this or --max-size
    #[arg(long, value_name = "N", required_unless_present = "max_size", conflicts_with = "max_size")]
    pub keep: Option<NonZeroUsize>,
    /// Remove the oldest runs until all results take at most SIZE, e.g. 20GiB
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<ByteCount>,
    /// Show what would be removed; remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Results directory [env: JETBENCH_RESULTS] [default: results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
