//! `jetbench report`: the readers' files of a run once more from its record.

use std::path::Path;

use crate::cli::ReportArgs;
use crate::exit::{Error, Outcome};
use crate::judge::outcome::exit_code;
use crate::plan::settings;
use crate::report::screen::{Wanted, screen};
use crate::report::{files_with, table, thumb};
use crate::results::store;
use jetbench_runners::files;

/// Writes or prints the report of a finished run.
///
/// # Errors
/// The run cannot be read, a file not be written.
pub fn report(args: &ReportArgs) -> Result<Outcome, Error> {
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
    if let Some(path) = &args.export_markdown {
        return Ok(Outcome { stdout: markdown(&record, path)?, code });
    }
    let sensed = files::read(&dir.join("telemetry.csv"), files::LARGE).unwrap_or_default();
    let thumbs = thumb::read(dir, record.cells.len());
    let written = files_with(&record, &sensed, &thumbs).map_err(std::io::Error::other);
    written
        .and_then(|files| files.iter().try_for_each(|(name, bytes)| store::write_atomic(&dir.join(name), bytes)))
        .map_err(|e| Error::Environment(format!("cannot write the report to {}: {e}", dir.display())))?;
    Ok(Outcome { stdout: screen(&record, dir, Wanted { quiet: args.quiet, verbose: args.verbose, json: false }), code })
}

/// The headline table as Markdown: to the file, or returned for stdout when it is `-`.
///
/// # Errors
/// The file cannot be written.
pub fn markdown(record: &crate::results::record::RunRecord, path: &Path) -> Result<String, Error> {
    let text = table::markdown(record);
    if path.as_os_str() == "-" {
        return Ok(text);
    }
    store::write_atomic(path, text.as_bytes())
        .map_err(|e| Error::Environment(format!("--export-markdown: cannot write {}: {e}", path.display())))?;
    Ok(String::new())
}
