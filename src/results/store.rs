//! Where results lie and how they get there: `<out>/<device>/<run-id>/`. Every file appears whole or not at all (written
//! beside its place, then renamed), finished sequences are on disk before the next one starts, and `run.json` comes
//! last, so that a directory with it is a complete run.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Duration, Utc};
use serde::Serialize;

use crate::exit::Error;
use crate::results::claim::claim;
use crate::results::record::{CellRecord, RunRecord, SCHEMA};
use crate::results::upgrade;
use crate::results::{component, sound};
use crate::text::utc;
use jetbench_runners::files;

/// How the names of files begin that are being written.
pub const WRITING: &str = ".writing-";

/// File name of what was sensed while workers ran.
const TELEMETRY: &str = "telemetry.csv";

/// File name of the record.
pub const RECORD: &str = "run.json";

/// The directory of one run, claimed by this process.
#[derive(Debug)]
pub struct RunDir {
    /// The directory.
    pub path: PathBuf,
    /// Its name.
    pub id: String,
    /// It has its name; until then it is removed again when dropped.
    named: bool,
    _claim: File,
}

impl RunDir {
    /// Makes the directory of a new run below `out/<device>/`, and proves that it can be written. It has a hidden name until
    /// [`RunDir::appear`], so that no run is seen without its record, whenever its process is killed.
    ///
    /// # Errors
    /// Names the place and the remedy; exit 2.
    pub fn create(out: &Path, device: &str) -> Result<RunDir, Error> {
        component::check(device, out, "the device's name")?;
        let parent = out.join(device);
        let fault = |e: std::io::Error| {
            Error::Usage(format!(
                "cannot write results to {}: {e}; make the directory writable or choose another with --out DIR",
                out.display()
            ))
        };
        std::fs::create_dir_all(&parent).map_err(fault)?;
        let mut at = utc();
        if at < DateTime::UNIX_EPOCH {
            return Err(Error::Environment(format!(
                "the clock says {at}, and runs are named after the time at which they began; set it"
            )));
        }
        sweep(&parent, at);
        // Another run that began in the same microsecond has its name, and a clock may stand still: the next one is ours.
        let (id, path) = loop {
            let id = run_id(at);
            let path = parent.join(format!("{WRITING}{id}"));
            match std::fs::create_dir(&path) {
                // Looked for afterwards: a run that has just been named cannot be missed.
                Ok(()) if parent.join(&id).symlink_metadata().is_err() => break (id, path),
                Ok(()) => drop(std::fs::remove_dir(&path)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(fault(e)),
            }
            at += Duration::microseconds(1);
        };
        let run = RunDir { _claim: claim(&path)?, path, id, named: false };
        std::fs::create_dir_all(run.spool_root()).map_err(fault)?;
        write_atomic(&run.path.join("log.txt"), b"").map_err(fault)?;
        Ok(run)
    }

    /// Gives the directory its name, now that there is a record in it.
    ///
    /// # Errors
    /// The file system's.
    pub fn appear(&mut self) -> std::io::Result<()> {
        let path = self.path.with_file_name(&self.id);
        std::fs::rename(&self.path, &path)?;
        (self.path, self.named) = (path, true);
        Ok(())
    }

    /// The directory of a run that was begun before; what a killed writer left half done is removed.
    ///
    /// # Errors
    /// Another process works on it.
    pub fn open(path: &Path) -> Result<RunDir, Error> {
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let run = RunDir { _claim: claim(path)?, path: path.to_path_buf(), id, named: true };
        for dir in [run.path.clone(), run.path.join("partial"), run.path.join("plots")] {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(WRITING) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
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

    /// Spool file of sequence `sequence` of cell `cell`.
    pub fn spool_file(&self, cell: usize, sequence: usize) -> PathBuf {
        self.spool(cell).join(format!("{sequence}.spool"))
    }

    fn spool_root(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// The record of an unfinished run, without cells.
    pub fn head(&self) -> PathBuf {
        head_of(&self.path)
    }

    /// State of a cell under way.
    pub fn progress(&self, index: usize) -> PathBuf {
        self.path.join("partial").join(format!("cell-{index}.progress.json"))
    }

    /// Record of a cell that is done, in a run that is not: `partial/cell-<index>.json`.
    pub fn partial(&self, index: usize) -> PathBuf {
        self.path.join("partial").join(format!("cell-{index}.json"))
    }

    /// Telemetry of a cell in a run that is not done.
    pub fn telemetry(&self, index: usize) -> PathBuf {
        self.path.join("partial").join(format!("telemetry-{index:03}.csv"))
    }

    /// Joins the telemetry of all cells, behind that of [`RunDir::reopen`], to `telemetry.csv`.
    ///
    /// # Errors
    /// The file system's.
    pub fn join_telemetry(&self, cells: usize, header: &[u8]) -> std::io::Result<()> {
        let mut file = temporary(&self.path)?;
        match files::plain(&self.telemetry_before()) {
            Ok(mut earlier) => std::io::copy(&mut earlier, &mut file).map(drop)?,
            Err(_) => file.write_all(header)?,
        }
        for index in 0..cells {
            if let Ok(mut part) = files::plain(&self.telemetry(index)) {
                std::io::copy(&mut part, &mut file)?;
            }
        }
        publish(file, &self.path.join(TELEMETRY))
    }

    fn telemetry_before(&self) -> PathBuf {
        self.path.join("partial").join("telemetry-before.csv")
    }

    /// Makes a finished run an unfinished one again: its cells go back to `partial/`, except where repeats were joined: they
    /// are still there. Interrupted at any point, it is one or the other.
    ///
    /// # Errors
    /// The file system's.
    pub fn reopen(&self, head: &RunRecord, cells: &[CellRecord]) -> std::io::Result<()> {
        if cells.iter().all(|cell| cell.repeats.is_empty()) {
            for (index, cell) in cells.iter().enumerate() {
                write_json(&self.partial(index), cell)?;
            }
        }
        for index in 0..cells.iter().map(|cell| cell.repeats.len().max(1)).sum() {
            remove(&self.telemetry(index))?; // it is in the joined file
        }
        write_json(&self.head(), head)?;
        match std::fs::rename(self.path.join(TELEMETRY), self.telemetry_before()) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        std::fs::remove_file(self.path.join(RECORD))
    }

    /// Writes `run.json` and removes what only an unfinished run needs. Where something of it can still be taken up, repeats
    /// that were joined stay in `partial/`, because they cannot be taken apart again.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(&self, record: &RunRecord) -> std::io::Result<()> {
        write_json(&self.path.join(RECORD), record)?;
        let joined: usize = record.cells.iter().map(|cell| cell.repeats.len()).sum();
        if joined == 0 || (record.stopped.is_none() && record.cells.iter().all(CellRecord::is_final)) {
            return self.clean();
        }
        let kept: Vec<PathBuf> = (0..joined).map(|index| self.partial(index)).collect();
        for entry in std::fs::read_dir(self.path.join("partial"))? {
            let path = entry?.path();
            if !kept.contains(&path) {
                std::fs::remove_file(path)?;
            }
        }
        self.clear("spool")?;
        remove(&self.path.join(".lock"))
    }

    /// Removes what only an unfinished run needs.
    ///
    /// # Errors
    /// The file system's.
    pub fn clean(&self) -> std::io::Result<()> {
        self.clear("partial")?;
        self.clear("spool")?;
        remove(&self.path.join(".lock"))
    }

    fn clear(&self, folder: &str) -> std::io::Result<()> {
        match std::fs::remove_dir_all(self.path.join(folder)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if !self.named {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes what processes left that were killed before their run had a name, an hour ago or longer.
fn sweep(parent: &Path, now: DateTime<Utc>) {
    let old = format!("{WRITING}{}", run_id(now - Duration::hours(1)));
    for path in std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(WRITING) && *name < *old && claim(&path).is_ok() {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// Where the run in directory `run` keeps its record while it is unfinished.
pub fn head_of(run: &Path) -> PathBuf {
    run.join("partial").join(RECORD)
}

/// Is this the directory of a run, finished or not?
pub fn is_run(path: &Path) -> bool {
    path.join(RECORD).is_file() || head_of(path).is_file()
}

/// Adds every run at or below `path` to `found`, in order of their paths; nothing is looked for inside a run.
///
/// # Errors
/// The directory cannot be read.
pub fn find_runs(path: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if is_run(path) {
        found.push(path.to_path_buf());
        return Ok(());
    }
    let mut below: Vec<PathBuf> = std::fs::read_dir(path)?.flatten().map(|e| e.path()).collect();
    // Links are not followed: they could lead in a circle. A run without a name is none yet.
    let unnamed = |p: &Path| p.file_name().is_some_and(|name| name.to_string_lossy().starts_with(WRITING));
    below.retain(|p| p.symlink_metadata().is_ok_and(|m| m.is_dir()) && !unnamed(p));
    below.sort();
    below.iter().try_for_each(|p| find_runs(p, found))
}

/// Runs below `out` with their ids, oldest first; none when it cannot be read.
pub fn named(out: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let _ = find_runs(out, &mut found);
    let id = |run: &PathBuf| run.file_name().map(|id| id.to_string_lossy().into_owned());
    let mut named: Vec<(String, PathBuf)> = found.into_iter().filter_map(|run| Some((id(&run)?, run))).collect();
    named.sort();
    named
}

/// The run that a user means: a directory or record as it is, the newest run of a directory that holds runs, and where no
/// such file exists, `latest` or a run id below `out`.
///
/// # Errors
/// There is no such run; the newest ones are named.
pub fn which(name: &Path, out: &Path) -> Result<PathBuf, Error> {
    if is_run(name) || name.is_file() {
        return Ok(name.to_path_buf());
    }
    let (place, wanted) = match name.is_dir() {
        true => (name, None),
        false => (out, Some(name.to_string_lossy()).filter(|n| n != "latest")),
    };
    let runs = named(place);
    let found = runs.iter().rev().find(|(id, _)| wanted.as_ref().is_none_or(|wanted| id == wanted));
    found.map(|(_, run)| run.clone()).ok_or_else(|| {
        let newest: Vec<&str> = runs.iter().rev().take(3).map(|(id, _)| id.as_str()).collect();
        Error::Usage(match newest.is_empty() {
            true => format!("{}: no such run, and there is no run in {}", name.display(), place.display()),
            false => format!(
                "{}: no such run; `latest` in {} is {}",
                name.display(),
                place.display(),
                newest.join(", before it ")
            ),
        })
    })
}

/// Time stamp to the second and the microseconds of it: names in the order in which runs began, which history, merge
/// and comparison rely on.
fn run_id(now: DateTime<Utc>) -> String {
    now.format("%Y%m%dT%H%M%SZ-%6f").to_string()
}

/// When the run of this id began; `None` for an id of another form.
pub fn began(run_id: &str) -> Option<chrono::DateTime<chrono::Utc>> {
    chrono::NaiveDateTime::parse_from_str(run_id, "%Y%m%dT%H%M%SZ-%6f").ok().map(|t| t.and_utc())
}

/// Writes a file so that readers see the old content or the new, never a part.
///
/// # Errors
/// The file system's.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut file = temporary(dir)?;
    file.write_all(bytes)?;
    publish(file, path)
}

/// Writes a file where the user asked for one: only in an empty place, or over a plain file that is none of jetbench's own and none of
/// `inputs`, which the command reads.
///
/// # Errors
/// The file system's; what is there, where it must stay.
pub fn export(path: &Path, bytes: &[u8], inputs: &[&Path]) -> std::io::Result<()> {
    may_replace(path, inputs).map_err(|why| std::io::Error::new(ErrorKind::AlreadyExists, why))?;
    write_atomic(path, bytes)
}

/// May a file that the user asked for take this place? A directory fails when it is written to.
///
/// # Errors
/// Why what is there must stay.
pub fn may_replace(path: &Path, inputs: &[&Path]) -> Result<(), String> {
    let Ok(there) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if there.is_dir() {
        return Ok(());
    }
    if !there.is_file() {
        return Err("it is a link, a pipe or a device; name a plain file".into());
    }
    let real = path.canonicalize().ok();
    if inputs.iter().any(|input| real.is_some() && input.canonicalize().ok() == real) {
        return Err("this command reads it; name another file".into());
    }
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let own = ["json", "html", "csv", "txt"].iter().any(|e| name.ends_with(&format!(".{e}")));
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if own && dir.join(RECORD).is_file() {
        return Err("it is a file of a run; name another".into());
    }
    if name == "pack.toml" {
        return Err("it is the manifest of a pack; name another file".into());
    }
    Ok(())
}

/// A file that has no name yet. Temporary files are private by default; results are for whom the umask says.
fn temporary(dir: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(WRITING).permissions(Permissions::from_mode(0o666)).tempfile_in(dir)
}

/// Gives a finished temporary file its name.
fn publish(file: tempfile::NamedTempFile, path: &Path) -> std::io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// What is to be done where a file could not be written.
pub fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull => "; make room on the disk",
        ErrorKind::QuotaExceeded => "; the user's disk quota is used up",
        ErrorKind::FileTooLarge => "; the limit on the size of files is too low (ulimit -f)",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "; make the directory writable",
        _ => "",
    }
}

/// Removes a file; one that is not there is no error.
///
/// # Errors
/// The file system's.
pub fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
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
/// The file is missing, unreadable, of another schema, holds what would become a path and is none, or contradicts itself.
pub fn load(path: &Path) -> Result<RunRecord, Error> {
    let file = if path.is_dir() { path.join(RECORD) } else { path.to_path_buf() };
    let fault = |what: String| Error::Usage(format!("{}: {what}", file.display()));
    let bytes = files::read(&file, files::LARGE).map_err(|e| fault(format!("{e}; a finished run has this file")))?;
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| fault(format!("not JSON: {e}")))?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(1) => upgrade::from_schema_1(&mut value),
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => return Err(fault(format!("schema {schema}; this program reads schemas 1 to {SCHEMA}"))),
        None => return Err(fault("no schema number, so it is no record of a run".into())),
    }
    let record: RunRecord = serde_json::from_value(value).map_err(|e| fault(e.to_string()))?;
    component::check(&record.device.name, &file, "device.name")?;
    component::check(&record.run_id, &file, "run_id")?;
    match sound::fault(&record) {
        Some(what) => Err(fault(format!("{what}; the record is damaged or was changed"))),
        None => Ok(record),
    }
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
    fn runs_of_one_second_have_names_in_the_order_they_began() {
        let dir = tempfile::tempdir().unwrap();
        let runs: Vec<RunDir> = (0..16).map(|_| RunDir::create(dir.path(), "d").unwrap()).collect();
        assert!(runs.is_sorted_by(|a, b| a.id < b.id), "{:?}", runs.iter().map(|r| &r.id).collect::<Vec<_>>());
        let at: chrono::DateTime<chrono::Utc> = "2026-11-21T09:30:00.048213999Z".parse().unwrap();
        assert_eq!(run_id(at), "20261121T093000Z-048213");
        assert_eq!(began(&run_id(at)).unwrap().timestamp_micros(), at.timestamp_micros());
    }

    #[test]
    fn a_run_is_seen_with_its_record_or_not_at_all() {
        let out = tempfile::tempdir().unwrap();
        let device = out.path().join("d");
        let visible = || {
            let mut runs = Vec::new();
            find_runs(out.path(), &mut runs).unwrap();
            let names = std::fs::read_dir(&device).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
            (runs.len(), names.collect::<Vec<_>>())
        };
        let mut run = RunDir::create(out.path(), "d").unwrap();
        assert_eq!(visible(), (0, vec![format!("{WRITING}{}", run.id)]));
        std::fs::create_dir_all(run.head().parent().unwrap()).unwrap();
        std::fs::write(run.head(), "{}").unwrap();
        assert_eq!(visible().0, 0, "its record is not enough");
        run.appear().unwrap();
        assert_eq!(visible(), (1, vec![run.id.clone()]));
        drop(RunDir::create(out.path(), "d").unwrap());
        assert_eq!(visible().1.len(), 1, "one that never began leaves nothing");
        // A killed process cannot tidy up: what is old goes with the next run, what is young may be another's.
        for id in ["20200101T000000Z-000000", "99991231T235959Z-000000"] {
            std::fs::create_dir(device.join(format!("{WRITING}{id}"))).unwrap();
        }
        drop(RunDir::create(out.path(), "d").unwrap());
        assert_eq!(visible().1.len(), 2);
    }

    #[test]
    fn a_file_that_is_asked_for_replaces_none_of_ours_and_nothing_that_is_not_plain() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["run.json", "report.html", "summary.csv", "pack.toml", "ci.xml"] {
            std::fs::write(at(name), "old").unwrap();
        }
        std::os::unix::fs::symlink(at("ci.xml"), at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["run.json", "report.html", "summary.csv", "pack.toml", "link", "socket"] {
            assert!(export(&at(name), b"new", &[]).is_err(), "{name}");
        }
        assert_eq!(std::fs::read(at("run.json")).unwrap(), b"old");
        assert!(at("link").is_symlink());
        assert!(
            export(&at("ci.xml"), b"new", &[&at("no"), &dir.path().join(".").join("ci.xml")]).is_err(),
            "it is read"
        );
        for name in ["ci.xml", "fresh.json"] {
            export(&at(name), b"new", &[&at("run.json")]).unwrap();
            assert_eq!(std::fs::read(at(name)).unwrap(), b"new", "{name}");
        }
    }

    #[test]
    fn files_are_for_whom_the_umask_says() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plain"), "").unwrap();
        write_atomic(&dir.path().join("ours"), b"").unwrap();
        let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("ours"), mode("plain"));
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
