//! How is a file that somebody else may have made opened? Only when it is a plain one, without waiting, and never read beyond a
//! limit: a pipe, a device or a file that grows for ever is named, not waited for. Every file that this program reads goes
//! through here; `clippy.toml` holds that.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Error, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Most bytes of a small text file: settings, lists, what a kernel says.
pub const SMALL: u64 = 16 << 20;
/// Most bytes of a file of frames, masks or figures that is held in memory whole.
pub const LARGE: u64 = 2 << 30;

/// Opens a plain file for reading. A symbolic link is followed to one.
///
/// # Errors
/// The file system's; the path leads to a directory, a pipe, a socket or a device, which the error names.
pub fn plain(path: &Path) -> io::Result<File> {
    // Opening a device can already do something, so what it is is asked first; what was opened may be another by then.
    is_plain(std::fs::metadata(path)?.file_type())?;
    opened(File::options().read(true), path, 0)
}

/// Opens a plain file for writing from its start, and makes it where there is none. A link is not followed.
///
/// # Errors
/// As [`plain`].
pub fn create(path: &Path) -> io::Result<File> {
    let file = own(path, File::options().write(true))?;
    file.set_len(0)?;
    Ok(file)
}

/// Opens a file of ours in a directory that others may write to, with `options` and made where there is none: a link, a pipe
/// or a device in its place is refused.
///
/// # Errors
/// As [`plain`]; the path is a link.
pub fn own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => {
            is_plain(found.file_type())?;
            opened(options, path, libc::O_NOFOLLOW)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => opened(options.create(true), path, libc::O_NOFOLLOW),
        Err(e) => Err(e),
    }
}

/// A plain file as a stream that ends with an error after `most` bytes.
///
/// # Errors
/// As [`plain`]; the file is larger.
pub fn limited(path: &Path, most: u64) -> io::Result<Limited> {
    let file = plain(path)?;
    match file.metadata()?.len() {
        length if length > most => Err(too_large(length, most)),
        _ => Ok(Limited { file, left: most, most }),
    }
}

/// The bytes of a plain file.
///
/// # Errors
/// As [`limited`].
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_into(path, most, &mut bytes)?;
    Ok(bytes)
}

/// As [`read`], in place of what `bytes` held, in its memory.
///
/// # Errors
/// As [`limited`].
pub fn read_into(path: &Path, most: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    let file = limited(path, most)?.file;
    bytes.clear();
    bytes.reserve_exact(usize::try_from(file.metadata()?.len()).unwrap_or(0));
    // Not through `Limited`: std writes zeros into the memory that a reader of others is to fill.
    match file.take(most + 1).read_to_end(bytes)? as u64 {
        length if length > most => Err(too_large(length, most)),
        _ => Ok(()),
    }
}

/// The text of a plain file.
///
/// # Errors
/// As [`limited`]; the file is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|e| Error::new(ErrorKind::InvalidData, format!("not UTF-8: {e}")))
}

/// A plain file that is not read beyond a limit, however much it grows.
#[derive(Debug)]
pub struct Limited {
    file: File,
    left: u64,
    most: u64,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte more than is left tells a file that ends there from one that goes on.
        let wanted = buffer.len().min(usize::try_from(self.left + 1).unwrap_or(usize::MAX));
        let got = self.file.read(&mut buffer[..wanted])?;
        self.left = self.left.checked_sub(got as u64).ok_or_else(|| too_large(self.most + 1, self.most))?;
        Ok(got)
    }
}

#[allow(clippy::disallowed_methods)] // the one place
fn opened(options: &mut OpenOptions, path: &Path, flags: libc::c_int) -> io::Result<File> {
    let file = options.custom_flags(flags | libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    is_plain(file.metadata()?.file_type())?;
    Ok(file)
}

fn is_plain(kind: FileType) -> io::Result<()> {
    let what = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a pipe (FIFO)",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_symlink() => "a symbolic link",
        _ => "a device",
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("it is {what}, not a plain file")))
}

fn too_large(length: u64, most: u64) -> Error {
    Error::new(ErrorKind::FileTooLarge, format!("{length} bytes or more; at most {most} are read of such a file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn fault(result: io::Result<Vec<u8>>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn only_plain_files_are_read_and_nothing_waits() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let pipe = std::ffi::CString::new(at("pipe").to_str().unwrap()).unwrap();
        // SAFETY: the name ends with a zero byte and outlives the call.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::write(at("file"), "text").unwrap();
        for (link, to) in [("to_file", "file"), ("to_pipe", "pipe"), ("to_zero", "/dev/zero")] {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        assert_eq!(read(&at("file"), 4).unwrap(), b"text");
        assert_eq!(read_text(&at("to_file"), SMALL).unwrap(), "text");
        for (name, what) in [
            ("pipe", "it is a pipe (FIFO), not a plain file"),
            ("to_pipe", "it is a pipe (FIFO), not a plain file"),
            ("socket", "it is a socket, not a plain file"),
            ("to_zero", "it is a device, not a plain file"),
            (".", "it is a directory, not a plain file"),
        ] {
            assert_eq!(fault(read(&at(name), SMALL)), what, "{name}");
            assert!(own(&at(name), File::options().write(true)).is_err(), "{name}");
        }
        assert_eq!(
            fault(own(&at("to_file"), File::options().write(true)).map(|_| Vec::new())),
            "it is a symbolic link, not a plain file"
        );
        create(&at("new")).unwrap().write_all(b"x").unwrap();
        create(&at("new")).unwrap().write_all(b"").unwrap();
        assert_eq!(read(&at("new"), 0).unwrap(), b"");
    }

    #[test]
    fn a_limit_holds_for_files_that_grow_or_hide_their_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(read(&path, 100).unwrap().len(), 100);
        assert!(fault(read(&path, 99)).contains("at most 99 are read"));
        let mut stream = limited(&path, 100).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(&[7; 50]).unwrap();
        assert!(stream.read_to_end(&mut Vec::new()).unwrap_err().to_string().contains("at most 100"));
        // Kernels say 0 bytes of their files.
        assert!(fault(read(Path::new("/proc/self/status"), 10)).contains("at most 10"));
        assert!(read(Path::new("/proc/self/status"), SMALL).unwrap().len() > 100);
    }
}
