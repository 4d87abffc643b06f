//! Flags of `schedule`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::quantity::TimeSpan;
use crate::cli::{OnInconclusive, help};

/// Flags of `schedule`.
#[derive(Args, Debug)]
pub struct ScheduleArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ScheduleCommand,
}

/// Sub-commands of `schedule`.
#[derive(Subcommand, Debug)]
pub enum ScheduleCommand {
    /// Install a service and its timer
    #[command(after_help = help::INSTALL)]
    Install(Box<ScheduleInstall>),
    /// Show schedules, and how their last runs ended
    #[command(after_help = help::LIST)]
    List {
        /// Where to look.
        #[command(flatten)]
        place: SchedulePlace,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a schedule; its results stay
    #[command(after_help = help::REMOVE)]
    Remove {
        /// Its name
        name: String,
        /// Where to look.
        #[command(flatten)]
        place: SchedulePlace,
    },
}

/// Where units are.
#[derive(Args, Debug)]
pub struct SchedulePlace {
    /// Units of this user (the default)
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// System units, sandboxed more strictly; root installs them, but they do not run as root
    #[arg(long)]
    pub system: bool,
    /// Write units to DIR (or look for them there), and leave systemd alone
    #[arg(long, value_name = "DIR")]
    pub unit_dir: Option<PathBuf>,
}

/// Flags of `schedule install`.
#[derive(Args, Debug)]
pub struct ScheduleInstall {
    /// When to run, in systemd's notation: "*-*-* 02:00", "Mon..Fri 22:00", daily
    #[arg(long, value_name = "WHEN")]
    pub on_calendar: String,
    /// The job: a config file of `jetbench run`
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Name of the schedule [default: that of the config file]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where units go.
    #[command(flatten)]
    pub place: SchedulePlace,
    /// Print units and cron line; install nothing
    #[arg(long)]
    pub print: bool,
    /// As for `run`
    #[arg(long, value_name = "CELSIUS", help = help::of_run("cool-to"))]
    pub cool_to: Option<f64>,
    /// As for `run`
    #[arg(long, value_name = "PERCENT", help = help::of_run("idle"))]
    pub idle: Option<f64>,
    /// As for `run`
    #[arg(long, value_name = "TIME", help = help::of_run("max-wait"))]
    pub max_wait: Option<TimeSpan>,
    /// As for `run`
    #[arg(long, value_name = "N", help = help::of_run("keep"))]
    pub keep: Option<NonZeroUsize>,
    /// As for `run`
    #[arg(long, value_name = "MIB", help = help::of_run("min-free-mib"))]
    pub min_free_mib: Option<u64>,
    /// As for `run`
    #[arg(long, help = help::of_run("if-changed"))]
    pub if_changed: bool,
    /// As for `run`
    #[arg(long, value_name = "NAME", help = help::of_run("baseline"))]
    pub baseline: Option<String>,
    /// As for `run`
    #[arg(long, requires = "baseline", help = help::of_run("fail-on-regression"))]
    pub fail_on_regression: bool,
    /// As for `run`
    #[arg(long, value_name = "pass|fail", value_enum, requires = "fail_on_regression", help = help::of_run("on-inconclusive"))]
    pub on_inconclusive: Option<OnInconclusive>,
    /// Shell command to run when a run ends with an exit code other than 0
    ///
    /// Its environment has JETBENCH_SCHEDULE, the schedule's name, and JETBENCH_STATUS, the file that says how the run ended
    #[arg(long, value_name = "COMMAND")]
    pub on_failure: Option<String>,
}
