//! One worker process under watch: started in its own process group, fed its job, read line by line, and ended with its
//! whole group when it is silent for too long or the user interrupts. Whatever a worker does (crash, hang, garbage), the
//! caller gets a sentence that says so and goes on with the next cell.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use jetbench_runners::files;

use crate::child::die_with_parent;
use crate::run::event::{Event, FaultClass, Job, Phase};

/// How often an interrupt is looked for.
const POLL: Duration = Duration::from_millis(50);
/// Longest line of the protocol; the real ones have a few kilobytes.
const LONGEST_LINE: u64 = 4 << 20;
/// How long a worker may take to exit after its last line.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// How a worker's life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It said so. `remark` tells of an unclean exit after that.
    Finished {
        /// `None` for exit code 0.
        remark: Option<String>,
    },
    /// It did not get through.
    Failed {
        /// Phase reached, when the worker named it.
        phase: Option<Phase>,
        /// Whose fault.
        class: FaultClass,
        /// What happened.
        error: String,
    },
    /// The user wants to stop.
    Interrupted,
}

/// Has a worker do a job that is no cell's, and listens until it ends; `take` is given its events, `timeout` is its longest silence.
///
/// # Errors
/// It did not get through: says why.
pub(super) fn see_through(
    job: &Job,
    log: &Path,
    timeout: Duration,
    interrupt: &AtomicBool,
    take: &mut dyn FnMut(Event),
) -> Result<(), String> {
    let job = serde_json::to_string(job).map_err(|e| e.to_string())?;
    let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
    command.arg("worker");
    let mut worker = Worker::spawn(command, &job, log).map_err(|e| e.to_string())?;
    loop {
        match worker.next(timeout, interrupt) {
            Ok(event) => take(event),
            Err(Ended::Finished { .. }) => return Ok(()),
            Err(Ended::Failed { error, .. }) => return Err(error),
            Err(Ended::Interrupted) => return Err("interrupted".to_string()),
        }
    }
}

/// A running worker.
pub struct Worker {
    child: Child,
    lines: Receiver<io::Result<Vec<u8>>>,
    log: PathBuf,
    log_start: u64,
    /// What an interrupt means to it: its end, or that it is asked to end.
    gently: bool,
    asked: bool,
}

impl Worker {
    /// Starts `command` with `job` on its stdin; its stderr is appended to `log`.
    ///
    /// # Errors
    /// The process cannot be started, or the log not opened.
    pub fn spawn(mut command: Command, job: &str, log: &Path) -> io::Result<Worker> {
        let log_file: File = files::own(log, OpenOptions::new().append(true))?;
        let log_start = log_file.metadata()?.len();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log_file).process_group(0);
        die_with_parent(&mut command);
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A worker that died at once closes the pipe; its exit tells more than this error would.
            let _ = stdin.write_all(job.as_bytes());
        }
        let (send, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stdout);
                loop {
                    let mut line = Vec::new();
                    match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line) {
                        Ok(0) => break,
                        Ok(_) if send.send(Ok(line)).is_ok() => {}
                        Err(e) => {
                            let _ = send.send(Err(e));
                            break;
                        }
                        Ok(_) => break,
                    }
                }
            });
        }
        Ok(Worker { child, lines, log: log.to_path_buf(), log_start, gently: false, asked: false })
    }

    /// Process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// From now on an interrupt asks it to end in its own time, by a signal. A worker that does not listen for that yet ends at once: what it has
    /// done is known here a moment later than there, so this side cannot tell.
    pub fn end_gently(&mut self) {
        self.gently = true;
    }

    fn ask_to_end(&mut self) {
        self.asked = true;
        // SAFETY: a signal to a child that has not been reaped: only `next` does that, and then it is the last that is asked of it.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
    }

    /// The next event, or how it ended. After `Err` the worker and its process group are gone.
    ///
    /// # Errors
    /// [`Ended`]: also for a worker that said it was finished.
    pub fn next(&mut self, timeout: Duration, interrupt: &AtomicBool) -> Result<Event, Ended> {
        let deadline = Instant::now() + timeout;
        loop {
            match (interrupt.load(Ordering::SeqCst), self.gently) {
                (true, false) => {
                    self.kill();
                    return Err(Ended::Interrupted);
                }
                (true, true) if !self.asked => self.ask_to_end(),
                _ => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(POLL)) {
                Ok(Ok(line)) => return self.understand(&line),
                Ok(Err(e)) => return Err(self.failed(format!("its output cannot be read: {e}"))),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    let seconds = timeout.as_secs_f64();
                    return Err(self.failed(format!(
                        "the worker gave no sign of life for {seconds} s and was killed; if the model needs longer, \
                         raise --event-timeout (tracking) or --load-timeout (loading, warm-up)"
                    )));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.died()),
            }
        }
    }

    fn understand(&mut self, line: &[u8]) -> Result<Event, Ended> {
        match serde_json::from_slice(line) {
            Ok(Event::Finished) => {
                let remark = self.leave();
                Err(if self.asked { Ended::Interrupted } else { Ended::Finished { remark } })
            }
            Ok(Event::Failed { phase, class, error }) => {
                self.leave();
                Err(Ended::Failed { phase: Some(phase), class, error })
            }
            Ok(event) => Ok(event),
            Err(_) => {
                let text = String::from_utf8_lossy(&line[..line.len().min(120)]);
                Err(self.failed(format!("the worker wrote a line that is not part of the protocol: {:?}", text.trim())))
            }
        }
    }

    /// Waits for the exit after the last line; says what was unclean about it.
    fn leave(&mut self) -> Option<String> {
        match self.wait(EXIT_GRACE) {
            Some(status) if status.success() => None,
            Some(status) if status.code().is_some() => None,
            Some(status) => Some(format!("the worker ended uncleanly after its work was done: {}", words(status))),
            None => {
                self.kill();
                Some("the worker did not exit after its work was done and was killed".into())
            }
        }
    }

    fn wait(&mut self, grace: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// stdout is closed without a last word.
    fn died(&mut self) -> Ended {
        match self.wait(EXIT_GRACE) {
            Some(status) if self.asked && status.signal() == Some(libc::SIGTERM) => Ended::Interrupted,
            Some(status) => self.failed(format!("the worker died: {}", words(status))),
            None => self.failed("the worker closed its output and did not exit; it was killed".into()),
        }
    }

    fn failed(&mut self, mut error: String) -> Ended {
        self.kill();
        let said = self.last_words();
        if !said.is_empty() {
            error.push_str("; its last words: ");
            error.push_str(&said);
        }
        Ended::Failed { phase: None, class: FaultClass::Inference, error }
    }

    /// Ends the worker and everything it started.
    fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // SAFETY: a signal to the process group that this worker leads; it has not been reaped while `try_wait` says so.
            unsafe { libc::kill(-(self.child.id() as libc::pid_t), libc::SIGKILL) };
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The end of what the worker wrote to the log.
    fn last_words(&self) -> String {
        let mut text = String::new();
        let read = files::plain(&self.log).and_then(|mut log| {
            let from = log.metadata()?.len().saturating_sub(16_384).max(self.log_start);
            log.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            log.take(16_384).read_to_end(&mut bytes)?;
            text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(())
        });
        if read.is_err() {
            return String::new();
        }
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !is_backtrace(l)).collect();
        // What the allocators of Rust and C++ say when there is no more.
        if let Some(line) = lines.iter().find(|l| l.contains("memory allocation of") || l.contains("std::bad_alloc")) {
            return format!("out of memory: {line}");
        }
        lines[lines.len().saturating_sub(3)..].join(" | ")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lines of a Rust backtrace: they say where, not what.
fn is_backtrace(line: &str) -> bool {
    let numbered = line.split_once(": ").is_some_and(|(n, _)| n.parse::<u32>().is_ok());
    numbered
        || line.starts_with("at /")
        || line.starts_with("at ./")
        || line == "stack backtrace:"
        || line.starts_with("note: Some details are omitted")
        || line.starts_with("note: run with `RUST_BACKTRACE")
}

/// How a process ended: its exit code, or the signal by number and name.
pub(crate) fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => {
            let hint = match signal {
                libc::SIGKILL => " (SIGKILL; when memory runs out the kernel does this: see `dmesg`)",
                libc::SIGSEGV => " (SIGSEGV)",
                libc::SIGABRT => " (SIGABRT)",
                libc::SIGBUS => " (SIGBUS)",
                libc::SIGILL => " (SIGILL: an instruction this CPU does not have)",
                _ => "",
            };
            format!("signal {signal}{hint}")
        }
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Worker, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        let worker = Worker::spawn(command, "{}", &dir.path().join("log.txt")).unwrap();
        (worker, dir)
    }

    fn end(script: &str, timeout: Duration) -> Ended {
        let (mut worker, _dir) = shell(script);
        let never = AtomicBool::new(false);
        loop {
            if let Err(ended) = worker.next(timeout, &never) {
                return ended;
            }
        }
    }

    fn error(script: &str) -> String {
        match end(script, Duration::from_secs(60)) {
            Ended::Failed { error, .. } => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_worker_that_finishes() {
        let script = r#"cat >/dev/null; echo '{"event":"hello","protocol":6}'; echo '{"event":"finished"}'"#;
        assert_eq!(end(script, Duration::from_secs(60)), Ended::Finished { remark: None });
    }

    #[test]
    fn a_worker_that_crashes_after_its_work_is_finished_with_a_remark() {
        let ended = end(r#"echo '{"event":"finished"}'; kill -SEGV $$"#, Duration::from_secs(60));
        let Ended::Finished { remark: Some(remark) } = ended else { panic!("{ended:?}") };
        assert!(remark.contains("SIGSEGV"), "{remark}");
    }

    #[test]
    fn deaths_are_told_apart_and_last_words_kept() {
        assert_eq!(error("exit 7"), "the worker died: exit code 7");
        assert!(error("kill -KILL $$").contains("SIGKILL; when memory runs out"));
        assert_eq!(
            error("echo one >&2; echo two >&2; exit 1"),
            "the worker died: exit code 1; its last words: one | two"
        );
    }

    #[test]
    fn running_out_of_memory_is_named() {
        let script = "echo 'memory allocation of 9 bytes failed' >&2; echo 'stack backtrace:' >&2; echo '   0: x' >&2; \
                      echo '             at /src/x.rs:1' >&2; kill -ABRT $$";
        assert_eq!(
            error(script),
            "the worker died: signal 6 (SIGABRT); its last words: out of memory: memory allocation of 9 bytes failed"
        );
    }

    #[test]
    fn garbage_is_a_failure() {
        insta::assert_snapshot!(error("echo loading model...; sleep 60"),
            @r#"the worker wrote a line that is not part of the protocol: "loading model...""#);
        assert!(error("printf '{\"event\":\"fini'").contains("not part of the protocol"));
        assert!(error("echo '{\"event\":\"nonsense\"}'").contains("not part of the protocol"));
    }

    #[test]
    fn a_silent_worker_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("pid");
        let hello = r#"echo '{"event":"hello","protocol":6}'"#;
        let script = format!("sleep 600 & echo $! > {}; {hello}; wait", mark.display());
        let (mut worker, _dir) = shell(&script);
        let never = AtomicBool::new(false);
        // Silent from here on; before that a busy machine may let it wait.
        worker.next(Duration::from_secs(60), &never).unwrap();
        let ended = worker.next(Duration::from_millis(300), &never).unwrap_err();
        drop(worker);
        let Ended::Failed { error, .. } = ended else { panic!("{ended:?}") };
        assert!(error.contains("no sign of life for 0.3 s"), "{error}");
        let pid = std::fs::read_to_string(mark).unwrap().trim().to_string();
        let gone = || std::fs::read_to_string(format!("/proc/{pid}/status")).map_or(true, |s| s.contains("State:\tZ"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !gone() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(gone(), "the worker's child {pid} is still alive");
    }

    #[test]
    fn an_interrupt_ends_it() {
        let (mut worker, _dir) = shell("sleep 60");
        let stop = AtomicBool::new(true);
        assert_eq!(worker.next(Duration::from_secs(60), &stop), Err(Ended::Interrupted));
        // One that is asked may say what it has, and one that does not listen ends.
        let hello = |n: u32| format!(r#"echo '{{"event":"hello","protocol":{n}}}'"#);
        let script = format!(
            r#"last() {{ {}; echo '{{"event":"finished"}}'; exit; }}; trap last TERM; {}; while :; do sleep 0.01; done"#,
            hello(2),
            hello(1)
        );
        let (mut worker, _dir) = shell(&script);
        worker.end_gently();
        let never = AtomicBool::new(false);
        assert_eq!(worker.next(Duration::from_secs(60), &never), Ok(Event::Hello { protocol: 1 }));
        assert_eq!(worker.next(Duration::from_secs(60), &stop), Ok(Event::Hello { protocol: 2 }));
        assert_eq!(worker.next(Duration::from_secs(60), &stop), Err(Ended::Interrupted));
        let (mut worker, _dir) = shell("exec sleep 60");
        worker.end_gently();
        assert_eq!(worker.next(Duration::from_secs(60), &stop), Err(Ended::Interrupted));
    }
}
