//! Runs with a name, to compare others with: `<out>/baselines/<name>.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::Error;
use crate::results::store;
use jetbench_runners::files;

/// What the file says.
#[derive(Serialize, Deserialize)]
struct Baseline {
    run: PathBuf,
}

fn file_of(out: &Path, name: &str) -> Result<PathBuf, Error> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(fit) {
        return Err(Error::Usage(format!("baseline `{name}`: use letters, digits, dots and dashes")));
    }
    Ok(out.join("baselines").join(format!("{name}.json")))
}

/// Gives `run` a name; returns its full path.
///
/// # Errors
/// The name does not fit a file name, the run cannot be read, the file not be written.
pub fn save(out: &Path, name: &str, run: &Path) -> Result<PathBuf, Error> {
    let file = file_of(out, name)?;
    store::load(run)?;
    let run = run.canonicalize().map_err(|e| Error::Usage(format!("{}: {e}", run.display())))?;
    let baseline = Baseline { run };
    store::write_json(&file, &baseline)
        .map_err(|e| Error::Environment(format!("cannot write {}: {e}", file.display())))?;
    Ok(baseline.run)
}

/// The run that has this name.
///
/// # Errors
/// There is none; the names that there are, are given.
pub fn find(out: &Path, name: &str) -> Result<PathBuf, Error> {
    let file = file_of(out, name)?;
    let known = || {
        let names: Vec<String> = std::fs::read_dir(out.join("baselines"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".json")?.to_string()))
            .collect();
        if names.is_empty() { "there are none".to_string() } else { format!("there are: {}", names.join(", ")) }
    };
    let bytes = files::read(&file, files::LARGE).map_err(|_| {
        Error::Usage(format!(
            "no baseline `{name}` in {}; {}; make one with `jetbench compare RUN --save-baseline {name}`",
            out.display(),
            known()
        ))
    })?;
    let baseline: Baseline =
        serde_json::from_slice(&bytes).map_err(|e| Error::Usage(format!("{}: {e}", file.display())))?;
    Ok(baseline.run)
}

/// Directories that baselines below `out` name: nothing removes them.
///
/// # Errors
/// A baseline that cannot be read: which run it protects is not known.
pub fn all(out: &Path) -> Result<Vec<PathBuf>, Error> {
    let files = std::fs::read_dir(out.join("baselines")).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = files.filter(|file| file.extension().is_some_and(|end| end == "json"));
    let run = |file: PathBuf| {
        let fault = |what: String| {
            Error::Usage(format!("{}: {what}; which run it protects is not known: repair or remove it", file.display()))
        };
        let bytes = files::read(&file, files::LARGE).map_err(|e| fault(e.to_string()))?;
        serde_json::from_slice::<Baseline>(&bytes).map(|baseline| baseline.run).map_err(|e| fault(e.to_string()))
    };
    named.map(run).collect()
}
