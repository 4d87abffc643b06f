//! The command line as clap sees it: structs and help texts, nothing else. [`RunArgs`] is at the same time the schema
//! of a config file, so that a file can say everything the flags say, under the same names.

mod option;
pub mod quantity;
mod run;
mod verbs;

use clap::{Parser, Subcommand};

pub use self::run::RunArgs;
pub use self::verbs::*;
use crate::exit;

/// Accuracy, speed, memory and energy of video segmentation models on the device under test.
#[derive(Parser, Debug)]
#[command(version, args_conflicts_with_subcommands = true, arg_required_else_help = true, after_help = exit::HELP)]
pub struct Cli {
    /// What to do; `run` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Sub-commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Track, score, measure, judge and report (the default: `jetbench --models …` is `jetbench run --models …`)
    #[command(after_help = exit::HELP)]
    Run(Box<RunArgs>),
    /// List the model tags that can be run here, and where their packs are
    Models(ModelsArgs),
    /// Check this machine: runtime, packs, data, results directory, governor, swap; each failure with its remedy
    #[command(after_help = exit::HELP)]
    Doctor(DoctorArgs),
    /// Score predicted masks against ground truth
    Score(ScoreArgs),
    /// Look at a dataset before a night is spent on it, or draw a small one
    Data(DataArgs),
    /// Compare a pack's outputs on this machine with its golden reference, or with itself on another device, precision,
    /// thread count or ONNX Runtime
    Verify(VerifyArgs),
    /// Where every node runs and what is copied between host and device per frame, by severity, with remedies
    #[command(after_help = exit::HELP)]
    Audit(AuditArgs),
    /// Print or record this machine's sensors by themselves: clocks, loads, power rails, temperatures, memory
    #[command(after_help = exit::HELP)]
    Telemetry(TelemetryArgs),
    /// Look into model packs
    Packs(PacksArgs),
    /// Compare runs: improved, regressed, within noise, or not comparable
    #[command(after_help = "\
Examples:
  jetbench compare OLD NEW
  jetbench compare NEW --save-baseline main
  jetbench compare NEW --baseline main --fail-on-regression")]
    Compare(CompareArgs),
    /// Trends over the runs of a results directory
    #[command(after_help = "\
Examples:
  jetbench history --plot trend.svg
  jetbench history --models sam2_points --export-csv -")]
    History(HistoryArgs),
    #[command(after_help = "\
Examples:
  jetbench schedule install --on-calendar '*-*-* 02:00' --config configs/demo.toml --cool-to 45 --keep 30
  jetbench schedule list
  jetbench schedule remove demo")]
    /// Measure again and again: a systemd service and timer, or a line for cron
    Schedule(ScheduleArgs),
    #[command(after_help = "\
Examples:
  jetbench merge results/part-1 results/part-2
  jetbench merge boards/ --energy-price 0.30 --currency EUR")]
    /// Join the parts of one job, or set boards that did the same job beside each other
    Merge(MergeArgs),
    /// Write the report of a run anew from its record, or print it as Markdown or JSON
    #[command(after_help = "\
Examples:
  jetbench report results/board/20261121T093000Z-048213
  jetbench report RUN --export-markdown - >> notes.md")]
    Report(ReportArgs),
    /// Print the completions of a shell: bash, elvish, fish, powershell, zsh
    #[command(after_help = "\
Examples:
  jetbench completions bash > ~/.local/share/bash-completion/completions/jetbench
  jetbench completions zsh > ~/.zfunc/_jetbench")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    #[command(after_help = "\
Examples:
  jetbench man > ~/.local/share/man/man1/jetbench.1")]
    Man,
    /// One cell, driven by the parent process (JSON on stdin and stdout)
    #[command(hide = true)]
    Worker,
    /// The other side of `verify --against`
    #[command(hide = true)]
    VerifySide,
    /// Loads a library in a process of its own (JSON on stdout)
    #[command(hide = true)]
    InspectLibrary {
        /// The file
        file: std::path::PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
