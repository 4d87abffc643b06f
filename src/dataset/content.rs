//! Which bytes are in the files of a sequence? Digests are taken from the very bytes that are decoded; before that, what the file
//! system says of a file and a sample of its bytes stand for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jetbench_runners::digest::hex;
use jetbench_runners::files;
use sha2::{Digest, Sha256};

use super::{MaskSource, Sequence};

/// SHA-256 of a file, or of several.
pub type Sha = [u8; 32];

/// Bytes of one place of a sample.
const PLACE: u64 = 4096;
/// Places of a sample: the first and the last bytes of a file, and two between.
const PLACES: u64 = 4;

/// What the file system says of a file. Who writes to a file, replaces it or sets its times back moves `changed_ns`, which nobody can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    size: u64,
    modified_ns: i64,
    changed_ns: i64,
    inode: u64,
}

impl Stamp {
    fn of(file: &Metadata) -> Stamp {
        let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Stamp {
            size: file.size(),
            modified_ns: ns(file.mtime(), file.mtime_nsec()),
            changed_ns: ns(file.ctime(), file.ctime_nsec()),
            inode: file.ino(),
        }
    }

    /// Of the file at `path`, links followed.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(path: &Path) -> io::Result<Stamp> {
        std::fs::metadata(path).map(|file| Stamp::of(&file))
    }

    /// When it was last written to or given other times, nanoseconds since 1970.
    pub fn changed_ns(&self) -> i64 {
        self.changed_ns.max(self.modified_ns)
    }

    fn put(&self, digest: &mut Sha256) {
        digest.update(self.size.to_le_bytes());
        digest.update(self.inode.to_le_bytes());
        [self.modified_ns, self.changed_ns].iter().for_each(|ns| digest.update(ns.to_le_bytes()));
    }
}

/// A file before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What the file system says of it.
    pub stamp: Stamp,
    /// SHA-256 of its size and of its bytes: of small files all, of others those at a few places.
    pub sha: Sha,
    /// All bytes?
    pub whole: bool,
}

impl Sample {
    /// Of the file at `path`.
    ///
    /// # Errors
    /// The file system's; it is no plain file.
    pub fn read(path: &Path) -> io::Result<Sample> {
        let mut file = files::plain(path)?;
        let stamp = Stamp::of(&file.metadata()?);
        let mut digest = Sha256::new();
        digest.update(stamp.size.to_le_bytes());
        let whole = stamp.size <= PLACE * PLACES;
        let mut bytes = Vec::new();
        if whole {
            file.take(PLACE * PLACES).read_to_end(&mut bytes)?;
        } else {
            for place in 0..PLACES {
                file.seek(SeekFrom::Start((stamp.size - PLACE) * place / (PLACES - 1)))?;
                file.by_ref().take(PLACE).read_to_end(&mut bytes)?;
            }
        }
        digest.update(&bytes);
        Ok(Sample { stamp, sha: digest.finalize().into(), whole })
    }
}

/// SHA-256 of a whole file.
///
/// # Errors
/// The file system's; it is no plain file.
pub fn file_sha(path: &Path) -> io::Result<Sha> {
    let mut file = files::plain(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize().into()),
            n => digest.update(&buffer[..n]),
        }
    }
}

/// One digest for several files in order: of each the last two parts of its path and its SHA-256.
pub fn joined<'a>(files: impl IntoIterator<Item = (&'a Path, Sha)>) -> String {
    let mut digest = Sha256::new();
    for (path, sha) in files {
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        digest.update(format!("{folder:?} {name:?} {}\n", hex(&sha)));
    }
    hex(&digest.finalize())
}

/// One digest for what the file system says of several files in order, their paths included.
pub fn joined_stamps<'a>(files: impl IntoIterator<Item = (&'a Path, Stamp)>) -> String {
    let mut digest = Sha256::new();
    for (path, stamp) in files {
        digest.update(format!("{:?}\n", path.as_os_str()));
        stamp.put(&mut digest);
    }
    hex(&digest.finalize())
}

/// As [`joined_stamps`], of every file in a folder and below it; links to folders are not followed.
pub fn folder_stamp(dir: &Path) -> String {
    let mut files: BTreeMap<PathBuf, Stamp> = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => todo.push(entry.path()),
                false => drop(Stamp::read(&entry.path()).map(|stamp| files.insert(entry.path(), stamp))),
            }
        }
    }
    joined_stamps(files.iter().map(|(path, stamp)| (path.as_path(), *stamp)))
}

/// SHA-256 of every file that was read, from the very bytes that were decoded.
#[derive(Debug, Default)]
pub struct Witness(Mutex<BTreeMap<PathBuf, Sha>>);

impl Witness {
    /// Takes note of a file. One that was read twice with different bytes gets a digest that no file has.
    pub(super) fn saw(&self, path: &Path, bytes: &[u8]) {
        let sha: Sha = Sha256::digest(bytes).into();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(path) {
            Some(before) if *before != sha => {
                *before = Sha256::new().chain_update(*before).chain_update(sha).finalize().into()
            }
            Some(_) => {}
            None => drop(seen.insert(path.to_path_buf(), sha)),
        }
    }

    /// What was read of this file; `None`: nothing.
    pub fn seen(&self, path: &Path) -> Option<Sha> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }
}

impl Sequence {
    /// The same sequence with somebody who takes note of every frame and mask file that is read through it.
    pub fn watched(&self) -> (Sequence, Arc<Witness>) {
        let witness = Arc::new(Witness::default());
        (Sequence { witness: Some(Arc::clone(&witness)), ..self.clone() }, witness)
    }

    /// The files that its first `length` frames are in: one for each, or the video.
    pub fn frame_files(&self, length: usize) -> Vec<&Path> {
        match &self.video {
            Some(video) => vec![video],
            None => self.frames.iter().take(length).map(|f| f.path.as_path()).collect(),
        }
    }

    /// The annotation files of the frames and objects in use.
    pub fn truth_files(&self) -> BTreeSet<PathBuf> {
        let file = |dir: &Path, frame: usize| dir.join(format!("{}.png", self.frames[frame].name));
        let masks = self.objects.iter().flat_map(|object| object.annotated.iter().map(move |&frame| (object, frame)));
        let Some(source) = self.truth_source() else { return BTreeSet::new() };
        match source {
            MaskSource::ObjectFolders(dir) => masks.map(|(o, frame)| file(&dir.join(&o.name), frame)).collect(),
            MaskSource::LabelMaps(dir) | MaskSource::Foreground(dir) => {
                masks.map(|(_, frame)| file(dir, frame)).collect()
            }
            MaskSource::Masklets(masklets) => [masklets.content().0.to_path_buf()].into(),
            // Of every frame: what is no object is scored, too.
            MaskSource::Segments(segments) => {
                let masks = segments.frames.iter().take(self.frames.len()).map(|(path, _)| path.clone());
                masks.chain([segments.description.clone()]).collect()
            }
        }
    }

    /// The annotation files that were read, each with the SHA-256 of what was read of it, in hexadecimal digits.
    pub fn truth_seen(&self, witness: &Witness) -> Vec<(PathBuf, String)> {
        let known = match self.truth_source() {
            Some(MaskSource::Masklets(masklets)) => Some(masklets.content().1),
            _ => None,
        };
        let seen = move |path: PathBuf| known.or_else(|| witness.seen(&path)).map(|sha| (path, hex(&sha)));
        self.truth_files().into_iter().filter_map(seen).collect()
    }

    /// Digest of the first `length` frames' files: of those that the witness saw what was decoded, of others what they hold now.
    ///
    /// # Errors
    /// A file cannot be read: its path and why.
    pub fn frames_sha256(&self, length: usize, witness: &Witness) -> Result<String, super::DataError> {
        let sha = |path: &Path| witness.seen(path).map_or_else(|| file_sha(path), Ok);
        let files = self.frame_files(length).into_iter();
        let files: Result<Vec<_>, _> = files
            .map(|p| sha(p).map(|sha| (p, sha)).map_err(|e| super::DataError(format!("{}: {e}", p.display()))))
            .collect();
        files.map(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_whole_of_a_small_file_and_reaches_the_end_of_a_large_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let sample = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Sample::read(&path).unwrap()
        };
        let small = sample(&[7; 100]);
        assert!(small.whole);
        let mut other = [7; 100];
        other[50] = 8;
        assert_ne!(sample(&other).sha, small.sha);
        assert_eq!(sample(&[7; 100]).sha, small.sha, "the bytes count, not the times");
        let mut large = vec![7; 100_000];
        let before = sample(&large);
        assert!(!before.whole);
        *large.last_mut().unwrap() = 8;
        assert_ne!(sample(&large).sha, before.sha);
        assert!(Sample::read(dir.path()).is_err(), "a directory is no file");
    }

    #[test]
    fn a_file_whose_times_were_set_back_has_another_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "a").unwrap();
        let (before, modified) = (Stamp::read(&path).unwrap(), path.metadata().unwrap().modified().unwrap());
        std::fs::write(dir.path().join("g"), "b").unwrap();
        std::fs::rename(dir.path().join("g"), &path).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_ne!(Stamp::read(&path).unwrap(), before);
    }

    #[test]
    fn what_was_read_twice_with_other_bytes_equals_neither() {
        let witness = Witness::default();
        let path = Path::new("d/f");
        witness.saw(path, b"a");
        let first = witness.seen(path).unwrap();
        witness.saw(path, b"a");
        assert_eq!(witness.seen(path), Some(first));
        witness.saw(path, b"b");
        let both = witness.seen(path).unwrap();
        assert!(both != first && both != <Sha>::from(Sha256::digest(b"b")));
    }
}
