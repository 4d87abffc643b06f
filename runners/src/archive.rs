//! How does a pack travel as one file? A plain tar archive: first an index with the size and SHA-256 of every file, then the files in its
//! order. An archive is read as somebody else's: what is not in the index, leads out of the pack, is a link, or has another size or digest
//! is refused, and nothing is left of it. Weights hardly shrink, so nothing is compressed, and no archive unpacks to more than it is.

mod install;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::{self, Hashed};
use crate::files;
use crate::manifest::{self, check_id, stays_inside};
use crate::pack::Pack;
use crate::packs;
use crate::runner::RunnerError;
use crate::study::whole;

pub use install::install;

/// Name of the index, the first entry of an archive.
const INDEX: &str = "jetbench-pack.json";
/// Schema of the index.
const SCHEMA: u32 = 1;
/// More files than any pack has.
const MOST_FILES: usize = 100_000;
/// Longest path in an archive.
const LONGEST_PATH: usize = 1024;
/// Longest name of a file or folder that Linux's file systems take.
const LONGEST_NAME: usize = 255;

/// What an archive says of its pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// [`SCHEMA`].
    schema: u32,
    /// Version of the program that wrote the archive.
    pub written_by: String,
    /// Id of the pack.
    pub id: String,
    /// Its family.
    pub family: String,
    /// SHA-256 of its `pack.toml`, hexadecimal.
    pub manifest_sha256: String,
    /// Its files, in the order in which they follow.
    pub files: Vec<Item>,
}

/// One file of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Path in the pack, with `/`.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl Index {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, item| sum.saturating_add(item.bytes))
    }

    /// Does it make sense by itself, in an archive of so many bytes?
    fn check(&self, archive: u64) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!(
                "schema = {}, this program reads schema {SCHEMA}; it was written by jetbench {}",
                self.schema, self.written_by
            ));
        }
        check_id(&self.id)?;
        if self.files.len() > MOST_FILES {
            return Err(format!("{} files: at most {MOST_FILES} expected", self.files.len()));
        }
        if self.bytes() > archive {
            return Err(format!("its files have {} bytes in all, the archive has {archive}", self.bytes()));
        }
        let mut seen = BTreeSet::new();
        for item in &self.files {
            let path = &item.path;
            let hidden = path.len() > LONGEST_PATH || path.chars().any(char::is_control);
            if !stays_inside(path) || hidden || path == INDEX {
                return Err(format!("{path:?}: a relative path inside the pack expected"));
            }
            // One file has one name: `a//b`, `a/./b` and `a/b` would be the same one, and `a/` is a folder.
            if path.split('/').any(|name| matches!(name, "" | ".") || name.len() > LONGEST_NAME) {
                return Err(format!(
                    "{path:?}: names of at most {LONGEST_NAME} bytes with one `/` between them expected"
                ));
            }
            if !seen.insert(item.path.as_str()) {
                return Err(format!("{:?} is there twice", item.path));
            }
        }
        // A path that is also the folder of another one could turn a file into a folder while it is unpacked.
        let folder = self
            .files
            .iter()
            .find(|i| Path::new(&i.path).ancestors().skip(1).any(|a| a.to_str().is_some_and(|a| seen.contains(a))));
        match folder {
            Some(item) => Err(format!("{:?} lies in a file", item.path)),
            None if !seen.contains(manifest::FILE_NAME) => Err(format!("there is no {}", manifest::FILE_NAME)),
            None => Ok(()),
        }
    }
}

/// Writes the pack in `dir` to the new file `to`: checked first, with all that it leads to.
///
/// # Errors
/// [`RunnerError::Usage`] when `to` exists; [`RunnerError::Pack`] when the pack is broken; [`RunnerError::Environment`] when the archive cannot
/// be written. Nothing is left of an archive that failed.
pub fn write(dir: &Path, to: &Path, version: &str) -> Result<Index, RunnerError> {
    if to.symlink_metadata().is_ok() {
        return Err(RunnerError::Usage(format!("{}: exists already; name a new file", to.display())));
    }
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = to.file_name().ok_or_else(|| RunnerError::Usage(format!("{}: no name of a file", to.display())))?;
    std::fs::create_dir_all(parent).map_err(|e| unwritten(parent, &e))?;
    let half = parent.join(format!(".packing-{}-{}", std::process::id(), name.to_string_lossy()));
    let copy = parent.join(format!(".packing-{}-pack", std::process::id()));
    let written = complete(dir, &copy).and_then(|source| write_from(&source, &half, version)).and_then(|index| {
        std::fs::rename(&half, to).map_err(|e| unwritten(to, &e))?;
        Ok(index)
    });
    let _ = std::fs::remove_dir_all(&copy);
    if written.is_err() {
        let _ = std::fs::remove_file(&half);
    }
    written
}

/// The directory to archive: the pack's own, or a copy with what it leads to outside.
fn complete(dir: &Path, copy: &Path) -> Result<PathBuf, RunnerError> {
    if whole::outside(dir)?.is_empty() {
        check(dir)?;
        return Ok(dir.to_path_buf());
    }
    whole::copy(dir, copy)?;
    Ok(copy.to_path_buf())
}

/// Every graph in every precision, for families whose packs have graphs, and a label pack's vectors.
fn check(dir: &Path) -> Result<(), RunnerError> {
    match Pack::read(dir) {
        Ok(pack) => pack.manifest.dtypes().into_iter().try_for_each(|dtype| pack.check(dtype)),
        Err(error) => match packs::header_of(dir)? {
            (_, family) if packs::entry(&family).is_some_and(|entry| entry.hidden) => Ok(()),
            _ => Err(error),
        },
    }
}

fn write_from(dir: &Path, to: &Path, version: &str) -> Result<Index, RunnerError> {
    let (id, family) = packs::header_of(dir)?;
    let mut files_of = Vec::new();
    for path in whole::files_in(dir)? {
        let text = path.to_str().map(str::to_string).ok_or_else(|| wrong(&dir.join(&path), "its name is no text"))?;
        let (bytes, sha256) = measure(&dir.join(&path))?;
        files_of.push(Item { path: text, bytes, sha256 });
    }
    let manifest_sha256 = packs::digest_of(dir)?;
    let index = Index { schema: SCHEMA, written_by: version.to_string(), id, family, manifest_sha256, files: files_of };
    index.check(u64::MAX).map_err(|e| wrong(dir, &e))?;
    let mut archive = tar::Builder::new(files::create(to).map_err(|e| unwritten(to, &e))?);
    let text = serde_json::to_vec_pretty(&index).map_err(|e| wrong(dir, &e.to_string()))?;
    append(&mut archive, INDEX, text.len() as u64, &mut text.as_slice()).map_err(|e| unwritten(to, &e))?;
    for item in &index.files {
        let path = dir.join(&item.path);
        let mut file = Hashed::new(files::plain(&path).map_err(|e| wrong(&path, &e.to_string()))?);
        append(&mut archive, &item.path, item.bytes, &mut file).map_err(|e| unwritten(to, &e))?;
        if file.digest() != item.sha256 {
            return Err(wrong(&path, "it changed while it was packed"));
        }
    }
    let mut file = archive.into_inner().map_err(|e| unwritten(to, &e))?;
    file.flush().and_then(|()| file.sync_all()).map_err(|e| unwritten(to, &e))?;
    Ok(index)
}

/// One entry that says nothing of the machine or the day it was made on.
fn append(archive: &mut tar::Builder<File>, path: &str, bytes: u64, data: &mut dyn Read) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(bytes);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, data)
}

fn measure(path: &Path) -> Result<(u64, String), RunnerError> {
    digest::sha256_of(path).map_err(|e| wrong(path, &e.to_string()))
}

/// SHA-256 of a file, hexadecimal.
///
/// # Errors
/// [`RunnerError::Pack`] when it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String, RunnerError> {
    measure(path).map(|(_, digest)| digest)
}

/// SHA-256 of the manifest's text and of every file that it names, with what the manifest says: for `packs hash`.
///
/// # Errors
/// [`RunnerError::Pack`] when the manifest or a file cannot be read.
pub fn digests(dir: &Path) -> Result<Vec<Digested>, RunnerError> {
    let pack = Pack::read(dir)?;
    let mut found = vec![Digested {
        what: manifest::FILE_NAME.to_string(),
        file: manifest::FILE_NAME.to_string(),
        sha256: pack.digest.clone(),
        said: None,
    }];
    if let Some(labels) = &pack.manifest.labels {
        found.push(Digested {
            what: "vectors of the classes".to_string(),
            file: labels.embeddings.clone(),
            sha256: sha256_of(&dir.join(&labels.embeddings))?,
            said: Some(labels.sha256.clone()),
        });
    }
    for graph in &pack.manifest.graphs {
        for form in graph.forms() {
            let files = std::iter::once((form.file, form.sha256, ""))
                .chain(form.weights.iter().map(|w| (w.file.as_str(), w.sha256.as_str(), ", weights")));
            for (file, said, part) in files {
                let what = format!("graph {}, {}{part}", graph.name, form.name);
                let sha256 = sha256_of(&dir.join(file))?;
                found.push(Digested { what, file: file.to_string(), sha256, said: Some(said.to_string()) });
            }
        }
    }
    Ok(found)
}

/// A file of a pack and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digested {
    /// What it is.
    pub what: String,
    /// Where it lies in the pack.
    pub file: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// What the manifest says; `None` for the manifest itself.
    pub said: Option<String>,
}

impl Digested {
    /// Does the manifest say what the file is?
    pub fn agrees(&self) -> bool {
        self.said.as_ref().is_none_or(|said| said.eq_ignore_ascii_case(&self.sha256))
    }
}

fn wrong(path: &Path, text: &str) -> RunnerError {
    RunnerError::Pack(format!("{}: {text}", path.display()))
}

fn unwritten(path: &Path, error: &std::io::Error) -> RunnerError {
    RunnerError::Environment(format!("cannot write {}: {error}", path.display()))
}
