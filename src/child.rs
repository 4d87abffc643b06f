//! How are other processes tied to this one? They end with it, and may be given its standard input.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Asks the kernel to kill the child when this thread dies: a killed parent leaves no child behind. The caller must therefore spawn it from
/// a thread that lives as long as it does.
#[cfg(target_os = "linux")]
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = std::process::id() as libc::pid_t;
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, getppid, _exit.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() != parent {
                libc::_exit(1);
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn die_with_parent(_command: &mut Command) {}

/// Gives the child a copy of our standard input beside its own: the number of its descriptor there.
///
/// # Errors
/// Standard input is closed.
pub(crate) fn hand_over_stdin(command: &mut Command) -> io::Result<i32> {
    let copy = io::stdin().as_fd().try_clone_to_owned()?;
    let number = copy.as_raw_fd();
    // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe, on a descriptor that the closure owns.
    unsafe {
        command.pre_exec(move || match libc::fcntl(copy.as_raw_fd(), libc::F_SETFD, 0) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    Ok(number)
}
