//! The flags of `packs` and its sub-commands.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jetbench_runners::types::Dtype;

use super::{complete, help};

/// Flags of `packs`.
#[derive(Args, Debug)]
pub struct PacksArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PacksCommand,
}

/// Sub-commands of `packs`.
#[derive(Subcommand, Debug)]
pub enum PacksCommand {
    /// Make packs of released models: download, export, proof
    ///
    /// Runs `jetbench-models get`: the one on PATH or, if there is none, one installed into an environment of its own (Linux on x86-64,
    /// Python 3.11 or newer), after showing its size and asking. Licence, sizes, time and memory of each model are shown before anything
    /// is fetched. Interrupted downloads are resumed. A pack appears under its name only when it is complete and proven.
    #[command(after_help = help::GET)]
    Get(GetArgs),
    /// Show a pack's graphs, cost per frame, memory and gaps
    ///
    /// Shapes, parameters, operations and bytes per frame, precision, memory, and what the manifest lacks: counted from the
    /// files, nothing is run.
    #[command(after_help = help::INSPECT)]
    Inspect(InspectArgs),
    /// Copy a pack with all that it leads to
    ///
    /// Real files stand in place of links, and the frames and tensors of the golden reference that the pack shares with others
    /// are in the copy.
    #[command(after_help = help::COPY_PACK)]
    Copy(CopyPackArgs),
    /// Write a pack to one checked file, to move it to a board
    #[command(after_help = help::PACK)]
    Pack(PackArgs),
    /// Install a pack from such a file
    ///
    /// Paths, sizes and digests of everything in it are checked, then the pack itself; nothing is left of one that is refused.
    #[command(after_help = help::ADD)]
    Add(AddArgs),
    /// Write pack.toml for ONNX files that you have
    ///
    /// Shapes, sizes and digests are read from the files; what only you know, and all that is missing, is listed at once.
    #[command(after_help = help::NEW)]
    New(NewArgs),
    /// Print the digests of a pack's files, and whether its manifest agrees
    #[command(after_help = help::HASH)]
    Hash(HashArgs),
}

/// Flags of `packs get`.
#[derive(Args, Debug)]
pub struct GetArgs {
    /// Released models, e.g. edgetam sam2.1_tiny; --list names them all
    #[arg(required_unless_present = "list", value_name = "NAME")]
    pub names: Vec<String>,
    /// List the released models, and stop
    #[arg(long)]
    pub list: bool,
    /// Say what would be installed, fetched and made, and stop
    #[arg(long)]
    pub plan: bool,
    /// Data types of the graphs, comma-separated [default: fp32,fp16,bf16]
    #[arg(long, value_name = "LIST", value_delimiter = ',', add = complete::dtypes())]
    pub dtype: Vec<Dtype>,
    /// Folder of packs
    #[arg(long, value_name = "DIR", default_value = "packs")]
    pub out: PathBuf,
    /// Take the checkpoints from this folder or address, under their released names [default: the publisher, then the hub; the
    /// hub at HF_ENDPOINT if that is set]
    #[arg(long, value_name = "DIR|URL")]
    pub from: Option<String>,
    /// Where downloads are kept [default: ~/.cache/jetbench/checkpoints]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// For the model NAME, accept a checkpoint with this SHA-256 in place of the released one (repeatable)
    #[arg(long, value_name = "NAME=DIGEST")]
    pub sha256: Vec<String>,
    /// Fetch the checkpoints, check their digests, and stop
    #[arg(long)]
    pub download_only: bool,
    /// Rebuild packs that already exist
    #[arg(long)]
    pub force: bool,
    /// Length of the clip of the golden reference, in frames [default: 12]
    #[arg(long, value_name = "N")]
    pub frames: Option<u32>,
    /// Prompt kinds of the golden reference, comma-separated [default: points,bbox,mask]
    #[arg(long, value_name = "LIST")]
    pub prompts: Option<String>,
    /// Install without asking
    #[arg(short, long)]
    pub yes: bool,
    /// Python to make the environment with
    #[arg(long, value_name = "FILE", default_value = "python3")]
    pub python: PathBuf,
    /// Package index to get PyTorch from, without GPU libraries; `none`: the usual index, whose PyTorch includes them
    #[arg(long, value_name = "URL", default_value = "https://download.pytorch.org/whl/cpu")]
    pub torch_index: String,
}

/// Flags of `packs copy`.
#[derive(Args, Debug)]
pub struct CopyPackArgs {
    /// Pack directory, e.g. assets/packs/sam2_mini
    pub pack: PathBuf,
    /// New directory for the copy
    pub dir: PathBuf,
}

/// Which form of a graph that has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphForm {
    /// For all providers
    Plain,
    /// For ONNX Runtime's CPU provider
    Cpu,
}

/// Flags of `packs inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Pack directory, e.g. assets/packs/sam2_mini
    pub pack: PathBuf,
    /// Precision whose graphs are counted [default: the first that every graph has]
    #[arg(long, value_name = "TYPE", add = complete::dtypes())]
    pub dtype: Option<Dtype>,
    /// Form of the graphs that have two: plain, for all providers [default], or cpu, for ONNX Runtime's CPU provider
    #[arg(long, value_name = "FORM", value_enum)]
    pub form: Option<GraphForm>,
    /// Number of objects that are tracked
    #[arg(long, value_name = "N", default_value = "1")]
    pub objects: NonZeroUsize,
    /// Add the least possible time per graph on a device: cpu (measured now), or a Jetson module such as orin-nano-8gb,
    /// agx-orin-64gb@612/3200 (GPU and memory clock of a power mode, MHz)
    #[arg(long, value_name = "DEVICE")]
    pub roofline: Option<String>,
    /// Threads of the CPU measurement [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// ONNX Runtime library for the CPU measurement [default: the first one found]
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `packs pack`.
#[derive(Args, Debug)]
pub struct PackArgs {
    /// Pack directory, e.g. packs/edgetam
    pub pack: PathBuf,
    /// New file for the archive [default: the pack's id and .jetpack.tar, in the current directory]
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Flags of `packs add`.
#[derive(Args, Debug)]
pub struct AddArgs {
    /// Archive that `packs pack` wrote, or its http address (fetched with curl)
    #[arg(value_name = "FILE|URL")]
    pub archive: String,
    /// Folder of packs
    #[arg(long, value_name = "DIR", default_value = "packs")]
    pub out: PathBuf,
    /// SHA-256 that the archive must have, as `packs pack` printed it
    #[arg(long, value_name = "DIGEST")]
    pub sha256: Option<String>,
    /// Replace an installed pack that has the same id
    #[arg(long)]
    pub replace: bool,
}

/// Flags of `packs hash`.
#[derive(Args, Debug)]
pub struct HashArgs {
    /// Pack directory, e.g. packs/edgetam
    pub pack: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `packs new`.
#[derive(Args, Debug)]
pub struct NewArgs {
    /// Folder with ONNX files: NAME.onnx, in folders fp32/, fp16/, bf16/, int8/ or with an ending such as NAME_fp16.onnx
    pub dir: PathBuf,
    /// Family: sam2, edgetam, efficienttam, sam3_tracker, dfine or videomt
    #[arg(long, value_name = "NAME", value_parser = jetbench_runners::draft::FAMILIES)]
    pub family: String,
    /// Id of the pack [default: name of the folder]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Write over a pack.toml that is there
    #[arg(long)]
    pub force: bool,
}
