//! Flags of `scale`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;

use crate::cli::RunArgs;

/// Flags of `scale`.
#[derive(Args, Debug)]
pub struct ScaleArgs {
    /// Numbers of objects to track at once, e.g. 1,2,4,8
    ///
    /// Every video of --data needs as many. Without --data one is drawn: 60 frames of 640x480 pixels.
    #[arg(long, value_name = "N,…", value_delimiter = ',', required_unless_present = "detect_every")]
    pub objects: Vec<NonZeroUsize>,
    /// Intervals of the detector in frames instead, e.g. 1,2,5,10
    ///
    /// For models with a detector, such as sam2_dfine: what detection costs per frame at each interval, and accuracy against speed.
    #[arg(long, value_name = "N,…", value_delimiter = ',', conflicts_with = "objects")]
    pub detect_every: Vec<NonZeroU32>,
    /// Write the figure: FPS and memory against the number of objects, or what the interval costs and gains
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    pub plot: Option<PathBuf>,
    /// Write the table as CSV; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_csv: Option<PathBuf>,
    /// Flags of `run`, for every run of it.
    #[command(flatten)]
    pub run: RunArgs,
}
