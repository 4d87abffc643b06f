//! Flags of `prompt`.

use std::path::PathBuf;

use clap::Args;

/// Flags of `prompt`.
#[derive(Args, Debug)]
pub struct PromptArgs {
    /// Video file, folder of frames, or a folder of either
    pub file: PathBuf,
    /// Which video, where there are several
    #[arg(long, value_name = "NAME")]
    pub video: Option<String>,
    /// Which frame, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub frame: usize,
    /// Write the page to FILE [default: NAME.prompts.html beside the footage]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
