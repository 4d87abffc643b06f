//! `jetbench report`: the readers' files of a run once more from its record, and the texts about the program itself:
//! completions and man page, both from the structs of the command line, so that they cannot fall behind.

use std::path::Path;

use clap::CommandFactory;

use super::{files_with, table, thumb};
use crate::cli::{Cli, ReportArgs};
use crate::exit::{Outcome, Stop};
use crate::{run, store};

/// Writes or prints the report of a finished run.
///
/// # Errors
/// The run cannot be read, a file not be written.
pub fn report(args: &ReportArgs) -> Result<Outcome, Stop> {
    let mut record = store::load(&args.run)?;
    let dir = if args.run.is_dir() { args.run.as_path() } else { args.run.parent().unwrap_or(Path::new(".")) };
    let code = run::exit_code(&record, &[]);
    if args.json {
        for cell in &mut record.cells {
            cell.sequences.clear();
            cell.memory_curve.clear();
            cell.repeats.iter_mut().for_each(|r| r.sequences.clear());
        }
        let text = serde_json::to_string(&record).map_err(|e| Stop::Usage(e.to_string()))?;
        return Ok(Outcome { stdout: format!("{text}\n"), code });
    }
    if let Some(path) = &args.export_markdown {
        return Ok(Outcome { stdout: markdown(&record, path)?, code });
    }
    let sensed = std::fs::read(dir.join("telemetry.csv")).unwrap_or_default();
    let thumbs = thumb::read(dir, record.cells.len());
    let written = files_with(&record, &sensed, &thumbs).map_err(std::io::Error::other);
    written
        .and_then(|files| files.iter().try_for_each(|(name, bytes)| store::write_atomic(&dir.join(name), bytes)))
        .map_err(|e| Stop::Environment(format!("cannot write the report to {}: {e}", dir.display())))?;
    Ok(Outcome { stdout: run::screen(&record, dir, args.quiet, false), code })
}

/// The headline table as Markdown: to the file, or returned for stdout when it is `-`.
///
/// # Errors
/// The file cannot be written.
pub fn markdown(record: &crate::record::RunRecord, path: &Path) -> Result<String, Stop> {
    let text = table::markdown(record);
    if path.as_os_str() == "-" {
        return Ok(text);
    }
    store::write_atomic(path, text.as_bytes())
        .map_err(|e| Stop::Environment(format!("--export-markdown: cannot write {}: {e}", path.display())))?;
    Ok(String::new())
}

/// Completions of a shell. The generators offer hidden commands too, so they are given a program without them.
pub fn completions(shell: clap_complete::Shell) -> Outcome {
    let whole = Cli::command();
    let mut shown = clap::Command::new("jetbench")
        .args(whole.get_arguments().cloned())
        .groups(whole.get_groups().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut shown, "jetbench", &mut bytes);
    Outcome::ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The man page: the program, then every sub-command's flags.
///
/// # Errors
/// It cannot be written to memory, which does not happen.
pub fn man() -> Result<Outcome, Stop> {
    let fault = |e: std::io::Error| Stop::Environment(e.to_string());
    let mut command = Cli::command();
    command.build();
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut bytes).map_err(fault)?;
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let page = clap_mangen::Man::new(sub.clone());
        bytes.extend_from_slice(
            format!(".SH \"{}\"\n", sub.get_display_name().unwrap_or(sub.get_name()).to_uppercase()).as_bytes(),
        );
        page.render_description_section(&mut bytes).map_err(fault)?;
        page.render_options_section(&mut bytes).map_err(fault)?;
    }
    Ok(Outcome::ok(String::from_utf8_lossy(&bytes).into_owned()))
}
