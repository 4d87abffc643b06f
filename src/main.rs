//! Parse, dispatch, exit code.

#![deny(clippy::disallowed_methods, clippy::disallowed_macros)] // see clippy.toml

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use jetbench::cli::{self, Command};
use jetbench::command::{
    audit, compare, data, doctor, history, inspect_library, manual, merge, models, packs, prompt, prune, report, run,
    scale, schedule, score, telemetry, verify,
};
use jetbench::exit::{Error, Outcome};
use jetbench::plan::shipped;
use jetbench::report::screen::colours;
use jetbench::run::worker;
use jetbench::text::{output, say};
use jetbench_runners::{plugin, runtime};

fn main() -> ExitCode {
    // A file that grows beyond the limit on file sizes is an error like a full disk, not the end of the process.
    // SAFETY: no handler is installed, and no other thread is there yet.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    // A shell that asks for completions sets a variable; this answers it and ends.
    clap_complete::CompleteEnv::with_factory(cli::shown).complete();
    let cli = cli::parse();
    let argv: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    runtime::fetched_by(shipped::fetch_command());
    // The worker loads what its parent has looked at.
    if !matches!(cli.command, Some(Command::Worker | Command::InspectLibrary { .. })) {
        runtime::look_with(inspect_library::look);
        plugin::look_with(inspect_library::look_at_plugin);
    }
    let outcome = match cli.command {
        Some(Command::VerifySide) => return ExitCode::from(verify::side()),
        Some(Command::Worker) => return ExitCode::from(worker::main()),
        Some(Command::InspectLibrary { file, plugin }) => Ok(inspect_library::answer(&file, plugin.as_deref())),
        Some(Command::Run(args)) => run::run(*args, argv),
        Some(Command::Plan(args)) => run::plan(*args, argv),
        Some(Command::Scale(args)) => scale::scale(*args, &argv),
        Some(Command::Compare(args)) => compare::compare(&args),
        Some(Command::Schedule(args)) => schedule::schedule(&args),
        Some(Command::Report(args)) => report::report(&args),
        Some(Command::Completions { shell }) => manual::completions(shell),
        Some(Command::Man { dir }) => manual::man(dir.as_deref()),
        Some(Command::History(args)) => history::history(&args),
        Some(Command::Prune(args)) => prune::prune(&args),
        Some(Command::Merge(args)) => merge::merge(&args, argv),
        None => run::run(cli.run, argv),
        Some(Command::Packs(args)) => packs::packs(&args),
        Some(Command::Models(args)) => Ok(models::models(&args)),
        Some(Command::Doctor(args)) => doctor::doctor(&args),
        Some(Command::Score(args)) => score::score(&args),
        Some(Command::Data(args)) => data::data(&args),
        Some(Command::Prompt(args)) => prompt::prompt(&args),
        Some(Command::Verify(args)) => verify::verify(&args),
        Some(Command::Audit(args)) => audit::audit(&args),
        Some(Command::Telemetry(args)) => telemetry::telemetry(&args),
    };
    ExitCode::from(finish(outcome))
}

/// Prints what is to be printed. A reader that has gone (`| head`) is no error.
fn finish(outcome: Result<Outcome, Error>) -> u8 {
    let (text, code) = match outcome {
        Ok(outcome) => (outcome.stdout, outcome.code),
        Err(stop) => {
            say(&format!("error: {stop}"));
            return stop.code();
        }
    };
    let text = output(&text, colours(std::io::stdout().is_terminal()));
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Error::Environment(String::new()).code(),
        _ => code,
    }
}
