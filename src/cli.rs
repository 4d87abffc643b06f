//! The command line as clap sees it: structs and help texts, nothing else. [`RunArgs`] is at the same time the schema
//! of a config file, so that a file can say everything the flags say, under the same names.

pub mod complete;
mod help;
mod option;
mod packs;
mod prompt;
mod prune;
pub mod quantity;
mod run;
mod scale;
mod schedule;
mod score;
mod verbs;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args, CommandFactory, Parser, Subcommand};

use self::complete::Shell;
pub use self::packs::*;
pub use self::prompt::PromptArgs;
pub use self::prune::PruneArgs;
pub use self::run::RunArgs;
pub use self::scale::ScaleArgs;
pub use self::schedule::*;
pub use self::score::*;
pub use self::verbs::*;
use crate::report::screen::colours;
use crate::text::screen;

/// Accuracy, speed, memory and energy of video segmentation models on this device
#[derive(Parser, Debug)]
#[command(version, args_conflicts_with_subcommands = true, arg_required_else_help = true, after_help = help::RUN)]
pub struct Cli {
    /// What to do; `run` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of `plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// First run the job on few frames of the videos that show each kind of frame, and estimate from that too
    ///
    /// These are the frames up to the last prompt and 30 more. A kind is the size of a frame and its number of objects. The run is kept in the results directory like any other.
    #[arg(long, help_heading = run::HOW)]
    pub calibrate: bool,
    /// Flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Sub-commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Track, score, measure and report (the default)
    #[command(after_help = help::RUN)]
    Run(Box<RunArgs>),
    /// Say what a run would do, and what it will take
    ///
    /// As `run --dry-run`: everything is checked and nothing is run. Time, disk and memory are estimates from earlier runs of the same
    /// cells on this device; what they do not tell is not guessed. --calibrate makes such a run first, of a few frames.
    #[command(after_help = help::PLAN)]
    Plan(Box<PlanArgs>),
    /// Measure what one more object costs
    ///
    /// The same job once per number of objects, and frames per second and memory side by side.
    #[command(after_help = help::SCALE)]
    Scale(Box<ScaleArgs>),
    /// List the models that can run here
    #[command(after_help = help::MODELS)]
    Models(ModelsArgs),
    /// Check this machine, with a remedy for each failure
    #[command(after_help = help::DOCTOR)]
    Doctor(DoctorArgs),
    /// Score predicted masks against ground truth
    #[command(after_help = help::SCORE)]
    Score(ScoreArgs),
    /// Validate a dataset, or draw a small one
    Data(DataArgs),
    /// Write a web page for clicking on the objects to track
    #[command(after_help = help::PROMPT)]
    Prompt(PromptArgs),
    /// Compare a pack's outputs with its golden reference
    ///
    /// With --against, the pack is compared with itself: on another device or ONNX Runtime, in another precision or form of its
    /// graphs, or with other threads.
    #[command(after_help = help::VERIFY)]
    Verify(VerifyArgs),
    /// Show where nodes run, and what is copied between host and device
    #[command(after_help = help::AUDIT)]
    Audit(AuditArgs),
    /// Print or record this machine's sensors
    #[command(after_help = help::TELEMETRY)]
    Telemetry(TelemetryArgs),
    /// Get, make, inspect and move model packs
    Packs(PacksArgs),
    /// Compare runs: improved, regressed or within noise
    #[command(after_help = help::COMPARE)]
    Compare(CompareArgs),
    /// Show trends over the runs of a results directory
    #[command(after_help = help::HISTORY)]
    History(HistoryArgs),
    /// Run on a schedule, with a systemd timer or a line for cron
    Schedule(ScheduleArgs),
    /// Remove old runs; baselines and runs in progress stay
    #[command(after_help = help::PRUNE)]
    Prune(PruneArgs),
    /// Join the parts of a job, or compare boards
    #[command(after_help = help::MERGE)]
    Merge(MergeArgs),
    /// Rewrite the report of a run from its record
    #[command(after_help = help::REPORT)]
    Report(ReportArgs),
    /// Print the completions of a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: Shell,
    },
    /// Print the man page, or write one per command
    #[command(after_help = help::MAN)]
    Man {
        /// Write jetbench.1 and one page per command to DIR
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
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
        file: PathBuf,
        /// A plugin library to load into it
        #[arg(long, value_name = "FILE")]
        plugin: Option<PathBuf>,
    },
}

/// The arguments of this process; a request for help, or an error in them, ends it.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| match error.kind() {
        // Help is printed by the command line as it is shown; should that not get as far, by the one that parses.
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            shown().try_get_matches().err().filter(|shown| shown.kind() == error.kind()).unwrap_or(error).exit()
        }
        _ => refuse(&error),
    })
}

/// Says what is wrong with the command line: it may quote a name that a shell's pattern gave.
fn refuse(error: &clap::Error) -> ! {
    let stderr = std::io::stderr();
    let coloured = error.use_stderr() && colours(stderr.is_terminal());
    if error.use_stderr() {
        let text = error.render();
        let text = if coloured { text.ansi().to_string() } else { text.to_string() };
        let _ = write!(stderr.lock(), "{}", screen(&text, coloured));
    } else {
        let _ = error.print();
    }
    std::process::exit(error.exit_code())
}

/// The command line as help, man pages and completions show it: with plain switches instead of the `[=<BOOL>]` by which a
/// flag takes back what a config file says, and without lists of values beside the sentences that name them.
pub fn shown() -> clap::Command {
    fn plain(command: clap::Command) -> clap::Command {
        let switch = |arg: Arg| match arg.is_require_equals_set() {
            true => arg.num_args(0).require_equals(false).action(ArgAction::SetTrue),
            // The sentence names them.
            false if arg.get_action().takes_values() => arg.hide_possible_values(true),
            false => arg,
        };
        command.mut_args(switch).mut_subcommands(plain)
    }
    plain(Cli::command())
}

#[cfg(test)]
mod tests {
    use super::{CommandFactory, shown};

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
        shown().debug_assert();
    }
}
