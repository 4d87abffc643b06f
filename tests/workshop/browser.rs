//! A page as a real browser shows it. A browser that hangs is ended, with all its processes, and tried again: one that hung for good would
//! stop all tests, and say nothing.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Longer than any of our pages takes on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_secs(60);
const TRIES: usize = 3;

/// The page after its `load` event, as HTML; or why there is no browser to show it.
pub fn shown(page: &Path, flags: &[&str]) -> Result<String, String> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let there = |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    let browser = names.iter().find(there).ok_or("no chromium on the PATH (apt install chromium)")?;
    let ended = (0..TRIES).find_map(|_| once(browser, page, flags));
    Ok(ended.unwrap_or_else(|| panic!("{browser} did not end within {} s, {TRIES} times", PATIENCE.as_secs())))
}

/// `None` where it hangs.
fn once(browser: &str, page: &Path, flags: &[&str]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    // Into a file: a process that outlives the browser would keep a pipe open.
    let (dom, said) = (dir.path().join("dom"), dir.path().join("said"));
    let child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .args(flags)
        .arg("--dump-dom")
        .arg(page)
        .stdout(std::fs::File::create(&dom).unwrap())
        .stderr(std::fs::File::create(&said).unwrap())
        .process_group(0)
        .spawn();
    let ended = wait(&mut child.unwrap());
    let (dom, said) = (std::fs::read(dom).unwrap(), std::fs::read(said).unwrap());
    if ended {
        assert!(!dom.is_empty(), "the browser shows nothing: {}", super::text(&said));
        return Some(super::text(&dom));
    }
    eprintln!("the browser hung; what it said: {}", super::text(&said));
    None
}

/// Whether it ended by itself.
fn wait(child: &mut Child) -> bool {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
            child.wait().unwrap();
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
