//! `jetbench report`: the readers' files of a run once more from its record.

use std::path::Path;

use crate::cli::ReportArgs;
use crate::command::export::Exports;
use crate::exit::{Error, Outcome};
use crate::judge::outcome::exit_code;
use crate::plan::settings;
use crate::report::screen::{Wanted, screen};
use crate::report::{csv, files_with, thumb};
use crate::results::record::{RunRecord, Verdict};
use crate::results::store;
use crate::text::{plural, say};
use jetbench_runners::digest::sha256_hex;
use jetbench_runners::files;

/// Writes or prints the report of a finished run.
///
/// # Errors
/// The run cannot be read, a file not be written.
pub fn report(args: &ReportArgs) -> Result<Outcome, Error> {
    let exports = Exports::of_report(args)?;
    let run = store::which(&args.run, &settings::default_out(None))?;
    let mut record = store::load(&run)?;
    let dir = if run.is_dir() { run.as_path() } else { run.parent().unwrap_or(Path::new(".")) };
    let code = exit_code(&record, &[]);
    if args.json {
        for cell in &mut record.cells {
            cell.sequences.clear();
            cell.memory_curve.clear();
            cell.repeats.iter_mut().for_each(|r| r.sequences.clear());
        }
        let text = serde_json::to_string(&record).map_err(|e| Error::Usage(e.to_string()))?;
        return Ok(Outcome { stdout: format!("{text}\n"), code });
    }
    if let Some(path) = &args.export_row {
        return export_row(&record, &run, path).map(|stdout| Outcome { stdout, code });
    }
    if !exports.none() {
        let (stdout, written) = exports.write(&record, None);
        return written.map(|()| Outcome { stdout, code });
    }
    let sensed = files::read(&dir.join("telemetry.csv"), files::LARGE).unwrap_or_default();
    let thumbs = thumb::read(dir, record.cells.len());
    let written = files_with(&record, &sensed, &thumbs).map_err(std::io::Error::other);
    written
        .and_then(|files| files.iter().try_for_each(|(name, bytes)| store::write_atomic(&dir.join(name), bytes)))
        .map_err(|e| Error::Environment(format!("cannot write the report to {}: {e}", dir.display())))?;
    Ok(Outcome { stdout: screen(&record, dir, Wanted { quiet: args.quiet, verbose: args.verbose, json: false }), code })
}

/// Writes the rows for the table of boards; gives what is for stdout, and says on stderr how many cells have none.
fn export_row(record: &RunRecord, run: &Path, path: &Path) -> Result<String, Error> {
    let file = if run.is_dir() { run.join(store::RECORD) } else { run.to_path_buf() };
    let bytes = files::read(&file, files::LARGE).map_err(|e| {
        Error::Usage(format!("{}: {e}: only a finished run has rows for a table of boards", file.display()))
    })?;
    let unfit = record.cells.iter().filter(|cell| cell.verdict != Verdict::Valid).count();
    if unfit > 0 {
        say(&format!("note: --export-row leaves out {} not valid", plural(unfit, "cell that is", "cells that are")));
    }
    if unfit == record.cells.len() {
        return Err(Error::Usage("--export-row: no cell of the run is valid, so there is no row".to_string()));
    }
    let rows = csv::community(record, &sha256_hex(&bytes));
    if path.as_os_str() == "-" {
        return String::from_utf8(rows).map_err(|e| Error::Environment(e.to_string()));
    }
    store::export(path, &rows, &[]).map_err(|e| {
        Error::Environment(format!("--export-row: cannot write {}: {e}{}", path.display(), store::remedy(&e)))
    })?;
    Ok(String::new())
}
