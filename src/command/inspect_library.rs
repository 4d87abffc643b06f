//! The hidden verb `inspect-library FILE [--plugin FILE]`: does a library crash while it is loaded? It is loaded in a process of its own, so
//! that a crash has a name, and this program goes on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use jetbench_runners::plugin::{self, PluginFacts};
use jetbench_runners::runtime::{self, LibraryFacts};
use serde::de::DeserializeOwned;

use crate::exit::Outcome;
use crate::run::supervise;

/// The verb.
pub const VERB: &str = "inspect-library";

/// Longest loading of a library; it takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// The child: loads the library, or a plugin into it, and says as JSON what it found, after whatever the library itself printed.
pub fn answer(file: &Path, plugin: Option<&Path>) -> Outcome {
    let found = match plugin {
        Some(plugin) => serde_json::json!(plugin::inspect(file, plugin)),
        None => serde_json::json!(runtime::inspect(file)),
    };
    Outcome { stdout: format!("\n{found}\n"), code: 0 }
}

/// The parent: what a child finds.
///
/// # Errors
/// Why the library cannot be used: in the child's words, or how the child ended.
pub fn look(file: &Path) -> Result<LibraryFacts, String> {
    asked(file, None)
}

/// As [`look`], of a plugin library in that ONNX Runtime.
///
/// # Errors
/// As [`look`].
pub fn look_at_plugin(file: &Path, plugin: &Path) -> Result<PluginFacts, String> {
    asked(file, Some(plugin))
}

fn asked<T: DeserializeOwned>(file: &Path, plugin: Option<&Path>) -> Result<T, String> {
    let failed = |e: io::Error| format!("cannot be tried in a process of its own: {e}");
    let (mut said, mut log) = (tempfile::tempfile().map_err(failed)?, tempfile::tempfile().map_err(failed)?);
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    let (name, value) = runtime::NO_TELEMETRY;
    command.arg(VERB).arg(file).env(name, value).stdin(Stdio::null());
    if let Some(plugin) = plugin {
        command.arg("--plugin").arg(plugin);
    }
    command.stdout(said.try_clone().map_err(failed)?).stderr(log.try_clone().map_err(failed)?);
    let status = run(&mut command).map_err(failed)?;
    let answer = text(&mut said);
    let answer: Option<Result<T, String>> = answer.lines().next_back().and_then(|line| serde_json::from_str(line).ok());
    match (status, answer) {
        (Some(status), Some(found)) if status.success() => found,
        (status, _) => Err(ended(status, &text(&mut log))),
    }
}

/// Runs a command to its end; `None`: it took too long and was ended.
fn run(command: &mut Command) -> io::Result<Option<ExitStatus>> {
    let mut child = command.spawn()?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
    read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
}

/// How a child without an answer ended, and what to do.
fn ended(status: Option<ExitStatus>, log: &str) -> String {
    let how = match status {
        Some(status) => format!("ends the process that loads it: {}", supervise::words(status)),
        None => format!("does not come to an end of its loading within {} s", PATIENCE.as_secs()),
    };
    let last = log.lines().map(str::trim).rfind(|line| !line.is_empty());
    let last = last.map_or(String::new(), |line| format!("; its last words: {line}"));
    format!(
        "{how}{last}. The file is broken, or was built for another machine (processor, C library, driver): take another build, or move \
         this one away"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn an_end_without_an_answer_says_how_and_what_to_do() {
        let text = ended(Some(ExitStatus::from_raw(libc::SIGABRT)), "first\nterminate called\n\n");
        assert!(
            text.starts_with("ends the process that loads it: signal 6 (SIGABRT); its last words: terminate called. "),
            "{text}"
        );
        assert!(text.ends_with("take another build, or move this one away"), "{text}");
        assert!(ended(Some(ExitStatus::from_raw(3 << 8)), "").contains("exit code 3. "));
        assert!(ended(None, "").starts_with("does not come to an end of its loading within 60 s. "));
    }
}
