//! Who may write in a run's directory? One process at a time.

use std::fs::File;
use std::path::Path;

use jetbench_runners::files;

use crate::exit::Error;

/// Takes the right to write in a run's directory; it ends with the process, however it ends.
///
/// # Errors
/// Another process holds it, or the file cannot be made.
pub fn claim(path: &Path) -> Result<File, Error> {
    let file = path.join(".lock");
    let fault = |e: std::io::Error| Error::Environment(format!("{}: {e}", file.display()));
    let lock = files::own(&file, File::options().write(true)).map_err(fault)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Error::Usage(format!("{}: another process is still working on this run", path.display())))
        }
        Err(std::fs::TryLockError::Error(e)) => Err(fault(e)),
    }
}

/// Does a process work on this run? Leaves nothing behind, unlike a try to claim it.
pub fn is_claimed(path: &Path) -> bool {
    let Ok(lock) = files::plain(&path.join(".lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}
