//! How does a pack travel as one file? A plain tar archive: first an index with the size and SHA-256 of every file, then the files in its
//! order. An archive is read as somebody else's: what is not in the index, leads out of the pack, is a link, or has another size or digest
//! is refused, and nothing is left of it. Weights hardly shrink, so nothing is compressed, and no archive unpacks to more than it is.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::files;
use crate::manifest::{self, check_id, stays_inside};
use crate::pack::Pack;
use crate::packs;
use crate::runner::RunnerError;
use crate::study::whole;

/// Name of the index, the first entry of an archive.
const INDEX: &str = "jetbench-pack.json";
/// Schema of the index.
const SCHEMA: u32 = 1;
/// More files than any pack has.
const MOST_FILES: usize = 100_000;
/// Longest path in an archive.
const LONGEST_PATH: usize = 1024;

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
            let hidden = item.path.len() > LONGEST_PATH || item.path.chars().any(char::is_control);
            if !stays_inside(&item.path) || hidden || item.path == INDEX {
                return Err(format!("{:?}: a relative path inside the pack expected", item.path));
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

/// Every graph in every precision, for families whose packs have graphs.
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
    let mut file = Hashed::new(files::plain(path).map_err(|e| wrong(path, &e.to_string()))?);
    let bytes = std::io::copy(&mut file, &mut std::io::sink()).map_err(|e| wrong(path, &e.to_string()))?;
    Ok((bytes, file.digest()))
}

/// SHA-256 of a file, hexadecimal.
///
/// # Errors
/// [`RunnerError::Pack`] when it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String, RunnerError> {
    measure(path).map(|(_, digest)| digest)
}

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
        let mut entry = archive
            .entries()
            .and_then(|mut entries| entries.next().transpose())
            .map_err(|e| fault(&e.to_string()))?
            .ok_or_else(|| fault("it is empty"))?;
        let named = entry.path_bytes().as_ref() == INDEX.as_bytes();
        if !named || entry.header().entry_type() != tar::EntryType::Regular || entry.size() > files::SMALL {
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
        let mut entries = self.archive.entries().map_err(cut)?.skip(1);
        for item in &index.files {
            let entry =
                entries.next().transpose().map_err(cut)?.ok_or_else(|| fault(&format!("{} is missing", item.path)))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
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
        if let Some(entry) = entries.next() {
            let name = entry.map(|e| String::from_utf8_lossy(&e.path_bytes()).into_owned()).unwrap_or_default();
            return Err(fault(&format!("{name:?} is not in its index")));
        }
        match packs::digest_of(to)? == index.manifest_sha256 && packs::header_of(to)?.0 == index.id {
            true => Ok(()),
            false => Err(fault(&format!("its index tells of another {}", manifest::FILE_NAME))),
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

/// Digests what is read through it.
struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R> Hashed<R> {
    fn new(inner: R) -> Self {
        Hashed { inner, hasher: Sha256::new() }
    }

    fn digest(self) -> String {
        hex(&self.hasher.finalize())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
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
    for graph in &pack.manifest.graphs {
        let plain = graph.files.iter().map(|(dtype, file)| (dtype.as_str(), file, graph.sha256.get(dtype)));
        let cpu = graph.cpu.iter().map(|form| ("cpu", &form.file, Some(&form.sha256)));
        for (form, file, said) in plain.chain(cpu) {
            let what = format!("graph {}, {form}", graph.name);
            found.push(Digested { what, file: file.clone(), sha256: sha256_of(&dir.join(file))?, said: said.cloned() });
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Case {
        root: tempfile::TempDir,
    }

    impl Case {
        /// A pack of one graph.
        fn new() -> Case {
            let root = tempfile::tempdir().unwrap();
            crate::pack::tests::write_pack(&root.path().join("pack"), |text| text);
            Case { root }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn pack(&self) -> Index {
            write(&self.at("pack"), &self.at("a.tar"), "1.2.3").unwrap()
        }

        fn add(&self) -> Result<(PathBuf, Index), RunnerError> {
            install(&self.at("a.tar"), &self.at("packs"), false)
        }

        /// Writes `a.tar` with these entries: path, type, data.
        fn forge(&self, index: &str, entries: &[(&str, tar::EntryType, &[u8])]) {
            let mut archive = tar::Builder::new(File::create(self.at("a.tar")).unwrap());
            for (path, kind, data) in
                std::iter::once(&(INDEX, tar::EntryType::Regular, index.as_bytes())).chain(entries)
            {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(*kind);
                header.set_size(data.len() as u64);
                // Not through the library, which refuses to write such paths.
                header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
                if *kind != tar::EntryType::Regular {
                    header.set_link_name("/etc/passwd").unwrap();
                }
                header.set_cksum();
                archive.append(&header, *data).unwrap();
            }
            archive.finish().unwrap();
        }

        /// The fault of an archive whose index has these files, and these entries.
        fn fault(&self, files: &[(&str, &[u8])], entries: &[(&str, tar::EntryType, &[u8])]) -> String {
            let items = files.iter().map(|(path, data)| Item {
                path: path.to_string(),
                bytes: data.len() as u64,
                sha256: crate::digest::sha256_hex(data),
            });
            let index = Index {
                schema: SCHEMA,
                written_by: "1".into(),
                id: "p".into(),
                family: "mock".into(),
                manifest_sha256: crate::digest::sha256_hex(files[0].1),
                files: items.collect(),
            };
            self.forge(&serde_json::to_string(&index).unwrap(), entries);
            let fault = self.add().unwrap_err().to_string();
            let left: Vec<_> = std::fs::read_dir(self.at("packs")).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "{fault}: {left:?}");
            fault
        }
    }

    const MANIFEST: (&str, &[u8]) = ("pack.toml", b"schema = 1\nid = \"p\"\nfamily = \"mock\"\n");
    const FILE: tar::EntryType = tar::EntryType::Regular;

    #[test]
    fn a_pack_comes_out_as_it_went_in_and_every_time_as_the_same_bytes() {
        let case = Case::new();
        let index = case.pack();
        let (place, read) = case.add().unwrap();
        assert_eq!(read, index);
        assert_eq!(packs::digest_of(&place).unwrap(), packs::digest_of(&case.at("pack")).unwrap());
        Pack::read(&place).unwrap().check(crate::types::Dtype::Fp32).unwrap();
        write(&place, &case.at("b.tar"), "1.2.3").unwrap();
        assert_eq!(std::fs::read(case.at("a.tar")).unwrap(), std::fs::read(case.at("b.tar")).unwrap());
        case.add().unwrap(); // the same pack again
    }

    #[test]
    fn what_a_pack_leads_to_is_in_its_archive() {
        let case = Case::new();
        std::fs::write(case.at("LICENSE"), "free").unwrap();
        symlink(case.at("LICENSE"), case.at("pack/LICENSE")).unwrap();
        assert!(case.pack().files.iter().any(|item| item.path == "LICENSE"));
        std::fs::remove_file(case.at("LICENSE")).unwrap();
        let (place, _) = case.add().unwrap();
        assert_eq!(std::fs::read_to_string(place.join("LICENSE")).unwrap(), "free");
        let left = std::fs::read_dir(case.root.path()).unwrap().flatten();
        assert!(!left.into_iter().any(|e| e.file_name().to_string_lossy().starts_with('.')));
    }

    #[test]
    fn another_pack_in_its_place_is_not_taken_away_unasked() {
        let case = Case::new();
        case.pack();
        let (place, _) = case.add().unwrap();
        let manifest = place.join("pack.toml");
        std::fs::write(&manifest, std::fs::read_to_string(&manifest).unwrap() + "\n# mine\n").unwrap();
        assert!(matches!(case.add(), Err(RunnerError::Usage(text)) if text.contains("--replace")));
        install(&case.at("a.tar"), &case.at("packs"), true).unwrap();
        case.add().unwrap();
        assert_eq!(std::fs::read_dir(case.at("packs")).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_pack_is_not_packed_and_a_damaged_archive_not_installed() {
        let case = Case::new();
        case.pack();
        let whole = std::fs::read(case.at("a.tar")).unwrap();
        for end in [0, 10, 511, 512, 3000, whole.len() / 2] {
            std::fs::write(case.at("a.tar"), &whole[..end]).unwrap();
            assert!(matches!(case.add(), Err(RunnerError::Pack(_))), "{end}");
        }
        let mut damaged = whole.clone();
        let text = whole.windows(11).rposition(|bytes| bytes == b"description").unwrap();
        damaged[text] ^= 1;
        std::fs::write(case.at("a.tar"), &damaged).unwrap();
        assert!(case.add().is_err());
        assert!(std::fs::read_dir(case.at("packs")).unwrap().next().is_none());
        let file =
            whole::files_in(&case.at("pack")).unwrap().into_iter().find(|f| f.extension().is_some_and(|e| e == "onnx"));
        std::fs::write(case.at("pack").join(file.unwrap()), "broken").unwrap();
        assert!(matches!(write(&case.at("pack"), &case.at("c.tar"), "1"), Err(RunnerError::Pack(_))));
        assert!(!case.at("c.tar").exists());
    }

    #[test]
    fn hostile_archives_are_refused_and_leave_nothing() {
        let case = Case::new();
        let plain = [("pack.toml", FILE, MANIFEST.1)];
        let escapes = ["../evil", "/etc/evil", "a/../../evil", "a\\b", "", "jetbench-pack.json", "a\nb"];
        for path in escapes {
            let fault = case.fault(&[MANIFEST, (path, b"x")], &plain);
            assert!(fault.contains("a relative path inside the pack expected"), "{path}: {fault}");
        }
        for (files, entries, part) in [
            (vec![MANIFEST, MANIFEST], plain.to_vec(), "is there twice"),
            (vec![MANIFEST, ("pack.toml/x", b"x")], plain.to_vec(), "lies in a file"),
            (vec![("other", b"x")], vec![("other", FILE, b"x".as_slice())], "there is no pack.toml"),
            (vec![MANIFEST, ("link", b"")], vec![plain[0], ("link", tar::EntryType::Symlink, b"")], "no plain file"),
            (vec![MANIFEST, ("link", b"")], vec![plain[0], ("link", tar::EntryType::Link, b"")], "no plain file"),
            (vec![MANIFEST, ("pipe", b"")], vec![plain[0], ("pipe", tar::EntryType::Fifo, b"")], "no plain file"),
            (vec![MANIFEST], vec![plain[0], ("more", FILE, b"x".as_slice())], "not in its index"),
            (vec![MANIFEST], vec![("../pack.toml", FILE, MANIFEST.1)], "where the index has"),
            (vec![MANIFEST, ("a", b"12")], vec![plain[0], ("a", FILE, b"123".as_slice())], "has 3 bytes, its index 2"),
            (vec![MANIFEST, ("a", b"12")], vec![plain[0], ("a", FILE, b"13".as_slice())], "has SHA-256"),
            (vec![MANIFEST, ("a", b"12")], vec![plain[0]], "a is missing"),
            (vec![MANIFEST, ("a", &[0; 1 << 16])], plain.to_vec(), "the archive has"),
        ] {
            let fault = case.fault(&files, &entries);
            assert!(fault.contains(part), "{part}: {fault}");
        }
        for (text, part) in [
            ("{}", "missing field"),
            (
                r#"{"schema":9,"written_by":"9.9","id":"p","family":"mock","manifest_sha256":"","files":[]}"#,
                "written by jetbench 9.9",
            ),
            (r#"{"schema":1,"written_by":"1","id":"../p","family":"mock","manifest_sha256":"","files":[]}"#, "id = "),
        ] {
            case.forge(text, &plain);
            let fault = case.add().unwrap_err().to_string();
            assert!(fault.contains(part), "{part}: {fault}");
        }
        std::fs::write(case.at("a.tar"), b"PK no tar at all").unwrap();
        assert!(case.add().is_err());
    }
}
