//! Runs with a name, to compare others with: `<out>/baselines/<name>.json`. A run that lies in another results directory than its name has a
//! note of that beside its record, so that what removes runs there knows it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
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

/// In a run: the files in other results directories that name it.
const ELSEWHERE: &str = "baselines.json";

/// A baseline that was saved.
#[derive(Debug)]
pub struct Saved {
    /// Full path of the run.
    pub run: PathBuf,
    /// The run lies in another results directory, and why this could not be noted there: it may be removed there.
    pub unnoted: Option<std::io::Error>,
}

fn file_of(out: &Path, name: &str) -> Result<PathBuf, Error> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(fit) {
        return Err(Error::Usage(format!("baseline `{name}`: use letters, digits, dots and dashes")));
    }
    Ok(out.join("baselines").join(format!("{name}.json")))
}

/// Gives `run`, a directory or its record, a name.
///
/// # Errors
/// The name does not fit a file name, the run cannot be read, the file not be written.
pub fn save(out: &Path, name: &str, run: &Path) -> Result<Saved, Error> {
    let file = file_of(out, name)?;
    store::load(run)?;
    let full = |path: &Path| path.canonicalize().map_err(|e| Error::Usage(format!("{}: {e}", path.display())));
    let run = full(if run.is_file() {
        run.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    } else {
        run
    })?;
    let baseline = Baseline { run };
    store::write_json(&file, &baseline)
        .map_err(|e| Error::Environment(format!("cannot write {}: {e}", file.display())))?;
    let run = baseline.run;
    let home = run.parent().and_then(Path::parent);
    let unnoted = match home == Some(full(out)?.as_path()) {
        true => None,
        false => note(&run, full(&file)?).err(),
    };
    Ok(Saved { run, unnoted })
}

/// Notes in a run that the baseline in `file` names it.
fn note(run: &Path, file: PathBuf) -> std::io::Result<()> {
    let place = run.join(ELSEWHERE);
    let mut names = noted(&place)?;
    names.insert(file);
    store::write_json(&place, &names)
}

fn noted(place: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    match files::read(place, files::LARGE) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(e) => Err(e),
    }
}

/// Is `run` a baseline of another results directory? Yes, too, while that cannot be told: the directory may be on a disk that is not there now.
pub fn is_elsewhere(run: &Path) -> bool {
    let Ok(names) = noted(&run.join(ELSEWHERE)) else { return true };
    names.iter().any(|file| match files::read(file, files::LARGE) {
        Ok(bytes) => serde_json::from_slice::<Baseline>(&bytes).map_or(true, |baseline| names_it(&baseline.run, run)),
        // The file was removed, and so the name with it; or all of the directory is out of reach.
        Err(e) if e.kind() == ErrorKind::NotFound => !file.parent().is_some_and(Path::is_dir),
        Err(_) => true,
    })
}

/// Does a baseline name the run in `dir`? By its path, or by its id where the results have moved since.
pub fn names_it(baseline: &Path, dir: &Path) -> bool {
    baseline.file_name() == dir.file_name()
        || baseline.canonicalize().is_ok_and(|b| dir.canonicalize().is_ok_and(|d| b == d))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_that_cannot_be_read_is_left_as_it_is() {
        let run = tempfile::tempdir().unwrap();
        let list = run.path().join(ELSEWHERE);
        std::fs::write(&list, "[\"/elsewhere/baselines/ma").unwrap();
        assert!(note(run.path(), PathBuf::from("/there/baselines/new.json")).is_err());
        assert_eq!(std::fs::read_to_string(&list).unwrap(), "[\"/elsewhere/baselines/ma");
        assert!(is_elsewhere(run.path()), "nobody can tell that no name is left");
    }
}
