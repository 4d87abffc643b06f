//! How does a pack come out of its archive? Entry by entry, each compared with the index before a byte of it is written.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::{INDEX, Index, LONGEST_PATH, check, unwritten, wrong};
use crate::digest::Hashed;
use crate::files;
use crate::manifest;
use crate::packs;
use crate::runner::RunnerError;

/// Installs the pack of an archive as a directory of its id in `packs_dir`; the directory and what the archive says of it.
/// `replace`: a pack of that id that is there already gives way.
///
/// # Errors
/// [`RunnerError::Pack`] when the archive is not as it should be, or its pack is broken; [`RunnerError::Usage`] when another pack of that id is
/// there; [`RunnerError::Environment`] when it cannot be written. Nothing is left of a pack that failed.
pub fn install(archive: &Path, packs_dir: &Path, replace: bool) -> Result<(PathBuf, Index), RunnerError> {
    let mut reader = Reader::open(archive)?;
    let index = reader.index()?;
    let place = packs_dir.join(&index.id);
    let there = packs::digest_of(&place).ok();
    if there.as_ref() != Some(&index.manifest_sha256) && place.symlink_metadata().is_ok() && !replace {
        return Err(RunnerError::Usage(format!(
            "{}: another pack is there ({}); --replace takes it away, --out names another folder",
            place.display(),
            there.map_or("no pack.toml".to_string(), |digest| format!(
                "pack.toml {}, the archive's {}",
                short(&digest),
                short(&index.manifest_sha256)
            ))
        )));
    }
    std::fs::create_dir_all(packs_dir).map_err(|e| unwritten(packs_dir, &e))?;
    let half = packs_dir.join(format!(".adding-{}-{}", std::process::id(), index.id));
    let old = packs_dir.join(format!(".replaced-{}-{}", std::process::id(), index.id));
    let done = reader.unpack(&index, &half).and_then(|()| {
        check(&half)?;
        if place.symlink_metadata().is_ok() {
            std::fs::rename(&place, &old).map_err(|e| unwritten(&place, &e))?;
        }
        std::fs::rename(&half, &place).map_err(|e| unwritten(&place, &e))
    });
    let _ = std::fs::remove_dir_all(&half);
    let _ = std::fs::remove_dir_all(&old);
    done.map(|()| (place, index))
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// An archive that is read from its start.
struct Reader {
    path: PathBuf,
    archive: tar::Archive<BufReader<File>>,
    bytes: u64,
}

impl Reader {
    fn open(path: &Path) -> Result<Reader, RunnerError> {
        let file = files::plain(path).map_err(|e| wrong(path, &e.to_string()))?;
        let bytes = file.metadata().map_err(|e| wrong(path, &e.to_string()))?.len();
        Ok(Reader { path: path.to_path_buf(), archive: tar::Archive::new(BufReader::new(file)), bytes })
    }

    fn index(&mut self) -> Result<Index, RunnerError> {
        let (path, bytes) = (self.path.clone(), self.bytes);
        let fault = |text: &str| wrong(&path, &format!("no archive of a pack: {text}"));
        let file = files::plain(&path).map_err(|e| wrong(&path, &e.to_string()))?;
        // Read from an archive of its own: entries can be gone over only once.
        let mut archive = tar::Archive::new(BufReader::new(file));
        let mut entries = archive.entries().map_err(|e| fault(&e.to_string()))?.raw(true);
        let (name, mut entry) = next(&mut entries).map_err(|e| fault(&e))?.ok_or_else(|| fault("it is empty"))?;
        if name != INDEX || entry.header().entry_type() != tar::EntryType::Regular || entry.size() > files::SMALL {
            return Err(fault(&format!("it does not begin with {INDEX}")));
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).map_err(|e| fault(&e.to_string()))?;
        let index: Index = serde_json::from_str(&text).map_err(|e| fault(&format!("{INDEX}: {e}")))?;
        index.check(bytes).map_err(|e| fault(&format!("{INDEX}: {e}")))?;
        Ok(index)
    }

    /// Writes the files of the index below `to`, which is new.
    fn unpack(&mut self, index: &Index, to: &Path) -> Result<(), RunnerError> {
        let path = self.path.clone();
        let fault = |text: &str| wrong(&path, text);
        let cut = |e: std::io::Error| fault(&format!("it is cut off or damaged: {e}"));
        std::fs::create_dir(to).map_err(|e| unwritten(to, &e))?;
        let mut entries = self.archive.entries().map_err(cut)?.raw(true);
        next(&mut entries).map_err(|e| fault(&e))?; // the index
        for item in &index.files {
            let (name, entry) = next(&mut entries)
                .map_err(|e| fault(&e))?
                .ok_or_else(|| fault(&format!("{} is missing", item.path)))?;
            if name != item.path {
                return Err(fault(&format!("{name:?} where the index has {:?}", item.path)));
            }
            if entry.header().entry_type() != tar::EntryType::Regular {
                return Err(fault(&format!("{name:?} is no plain file")));
            }
            if entry.size() != item.bytes {
                return Err(fault(&format!("{name:?} has {} bytes, its index {}", entry.size(), item.bytes)));
            }
            let place = to.join(&item.path);
            let folder = place.parent().unwrap_or(to);
            std::fs::create_dir_all(folder).map_err(|e| unwritten(folder, &e))?;
            let mut file = files::create(&place).map_err(|e| unwritten(&place, &e))?;
            let mut data = Hashed::new(entry);
            copy(&mut data, &mut file).map_err(|e| match e {
                Broken::Source(e) => cut(e),
                Broken::Target(e) => unwritten(&place, &e),
            })?;
            let found = data.digest();
            if found != item.sha256 {
                return Err(fault(&format!("{name:?} has SHA-256 {found}, its index {}", item.sha256)));
            }
        }
        if let Some((name, _)) = next(&mut entries).map_err(|e| fault(&e))? {
            return Err(fault(&format!("{name:?} is not in its index")));
        }
        let (id, family) = packs::header_of(to)?;
        match packs::digest_of(to)? == index.manifest_sha256 && (&id, &family) == (&index.id, &index.family) {
            true => Ok(()),
            false => Err(fault(&format!("its index describes another {}", manifest::FILE_NAME))),
        }
    }
}

/// The next entry and its path. Headers that only carry a path are read here, because the library would take one of any size into memory.
fn next<'a, R: Read>(entries: &mut tar::Entries<'a, R>) -> Result<Option<(String, tar::Entry<'a, R>)>, String> {
    let mut long = None;
    loop {
        let entry = entries.next().transpose().map_err(|e| format!("it is cut off or damaged: {e}"))?;
        let Some(mut entry) = entry else { return Ok(None) };
        match entry.header().entry_type() {
            tar::EntryType::GNULongName if long.is_none() => {
                // A zero byte follows the path.
                if entry.size() > LONGEST_PATH as u64 + 1 {
                    return Err(format!("a path of {} bytes: at most {LONGEST_PATH} expected", entry.size()));
                }
                let mut path = Vec::new();
                entry.read_to_end(&mut path).map_err(|e| format!("it is cut off or damaged: {e}"))?;
                let path = path.strip_suffix(b"\0").unwrap_or(&path);
                long = Some(String::from_utf8_lossy(path).into_owned());
            }
            tar::EntryType::GNULongName
            | tar::EntryType::GNULongLink
            | tar::EntryType::XHeader
            | tar::EntryType::XGlobalHeader => {
                return Err(
                    "it has headers that `jetbench packs pack` does not write: make it anew with that".to_string()
                );
            }
            _ => {
                let name = long.unwrap_or_else(|| String::from_utf8_lossy(&entry.path_bytes()).into_owned());
                return Ok(Some((name, entry)));
            }
        }
    }
}

/// Which side of a copy broke.
enum Broken {
    Source(std::io::Error),
    Target(std::io::Error),
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<(), Broken> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n]).map_err(Broken::Target)?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Broken::Source(e)),
        }
    }
}
