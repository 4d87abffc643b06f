//! Where results lie and how they get there: `<out>/<device>/<run-id>/`. Every file appears whole or not at all (written
//! beside its place, then renamed), finished sequences are on disk before the next one starts, and `run.json` comes
//! last, so that a directory with it is a complete run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::exit::Stop;
use crate::record::{RunRecord, SCHEMA};

/// File name of the record.
pub const RECORD: &str = "run.json";

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunDir {
    /// The directory.
    pub path: PathBuf,
    /// Its name.
    pub id: String,
}

impl RunDir {
    /// Makes the directory of a new run below `out/<device>/`, and proves that it can be written.
    ///
    /// # Errors
    /// Names the place and the remedy; exit 2.
    pub fn create(out: &Path, device: &str) -> Result<RunDir, Stop> {
        let id = run_id();
        let path = out.join(device).join(&id);
        let fault = |e: std::io::Error| {
            Stop::Usage(format!(
                "cannot write results to {}: {e}; make the directory writable or choose another with --out DIR",
                out.display()
            ))
        };
        std::fs::create_dir_all(&path).map_err(fault)?;
        let run = RunDir { path, id };
        std::fs::create_dir_all(run.spool_root()).map_err(fault)?;
        write_atomic(&run.path.join("log.txt"), b"").map_err(fault)?;
        Ok(run)
    }

    /// Log of the workers' stderr.
    pub fn log(&self) -> PathBuf {
        self.path.join("log.txt")
    }

    /// Directory of the spool files of cell `index`.
    pub fn spool(&self, index: usize) -> PathBuf {
        self.spool_root().join(index.to_string())
    }

    fn spool_root(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// State of an unfinished cell: `partial/cell-<index>.json`.
    pub fn partial(&self, index: usize) -> PathBuf {
        self.path.join("partial").join(format!("cell-{index}.json"))
    }

    /// Writes `run.json` and removes what only an unfinished run needs.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(&self, record: &RunRecord) -> std::io::Result<()> {
        write_json(&self.path.join(RECORD), record)?;
        for leftover in ["partial", "spool"] {
            match std::fs::remove_dir_all(self.path.join(leftover)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Time stamp and six digits that two runs of the same second do not share.
fn run_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = format!("{}.{}", now.as_nanos(), std::process::id());
    let digits: String = Sha256::digest(seed.as_bytes()).iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{digits}", chrono::Utc::now().format("%Y%m%dT%H%M%SZ"))
}

/// Writes a file so that readers see the old content or the new, never a part.
///
/// # Errors
/// The file system's.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    // Results are for everybody who may read the directory; temporary files are private by default.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// Writes a value as JSON, atomically.
///
/// # Errors
/// The file system's.
pub fn write_json(path: &Path, value: &impl Serialize) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    write_atomic(path, &bytes)
}

/// Reads the record of a run; `path` is its directory or its `run.json`.
///
/// # Errors
/// The file is missing, unreadable, or of another schema.
pub fn load(path: &Path) -> Result<RunRecord, Stop> {
    let file = if path.is_dir() { path.join(RECORD) } else { path.to_path_buf() };
    let fault = |what: String| Stop::Usage(format!("{}: {what}", file.display()));
    let bytes = std::fs::read(&file).map_err(|e| fault(format!("{e}; a finished run has this file")))?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| fault(format!("not JSON: {e}")))?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        found => return Err(fault(format!("schema {found:?}; this program reads schema {SCHEMA}"))),
    }
    serde_json::from_value(value).map_err(|e| fault(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.json");
        write_json(&path, &[1, 2]).unwrap();
        write_json(&path, &[3]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[\n  3\n]\n");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn two_runs_of_one_second_have_two_directories() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (RunDir::create(dir.path(), "d").unwrap(), RunDir::create(dir.path(), "d").unwrap());
        assert_ne!(a.path, b.path);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = RunDir::create(&file, "d").unwrap_err();
        assert_eq!(error.code(), 2);
        assert!(error.to_string().contains("--out DIR"), "{error}");
    }
}
