//! A place to run the program in: drawn clips, mock packs, an environment without surprises. It exists only under
//! `tests/`.

pub mod browser;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use jetbench::dataset::{Layout, SynthOptions, synthesise};
use serde_json::Value;

/// No call in a test takes a tenth of this; one that hangs fails by its name, where it would stop all tests and say nothing.
const HANGS: Duration = Duration::from_secs(600);

/// A directory with `data/`, `packs/`, and whatever runs leave.
pub struct Workshop {
    pub dir: tempfile::TempDir,
}

impl Workshop {
    /// With `videos` drawn clips of `frames` frames.
    pub fn new(videos: usize, frames: usize) -> Self {
        Workshop::of(Layout::SaV, videos, frames)
    }

    /// The same in any layout.
    pub fn of(layout: Layout, videos: usize, frames: usize) -> Self {
        let shop = Workshop { dir: tempfile::tempdir().unwrap() };
        let options = SynthOptions {
            out: shop.path("data"),
            layout,
            videos,
            objects: 2,
            frames,
            width: 48,
            height: 32,
            ..SynthOptions::default()
        };
        synthesise(&options, &|_, _| {}).unwrap();
        shop
    }

    /// With nothing in it.
    pub fn empty() -> Self {
        Workshop { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes the mock pack `id`.
    pub fn pack(&self, id: &str, mock: &str) -> &Self {
        let dir = self.path("packs").join(id);
        std::fs::create_dir_all(&dir).unwrap();
        let text = format!("schema = 1\nid = \"{id}\"\nfamily = \"mock\"\n[mock]\n{mock}\n");
        std::fs::write(dir.join("pack.toml"), text).unwrap();
        self
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin!("jetbench"));
        command.current_dir(self.dir.path()).args(args);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("JETBENCH_") || name.starts_with("SLURM_") || name == "JOB_COMPLETION_INDEX" {
                command.env_remove(name);
            }
        }
        // Neither the repository's packs and clips nor another run's device lock may be found.
        command.env("JETBENCH_HOME", self.dir.path()).env("JETBENCH_LOCKS", self.path("locks"));
        command.env_remove("CLICOLOR_FORCE");
        command
    }

    pub fn output(&self, args: &[&str]) -> Output {
        limited(self.command(args))
    }

    /// What it says of what `pipe` brings on standard input.
    pub fn piped(&self, pipe: &[u8], args: &[&str]) -> Output {
        self.piped_at(pipe, pipe.len().max(1), Duration::ZERO, args)
    }

    /// The same, `bytes` at a time and a pause after each.
    pub fn piped_at(&self, pipe: &[u8], bytes: usize, pause: Duration, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let pipe = pipe.to_vec();
        // One that was refused reads nothing.
        let mut write = move |part: &[u8]| stdin.write_all(part).inspect(|()| std::thread::sleep(pause));
        let writer = std::thread::spawn(move || drop(pipe.chunks(bytes).try_for_each(&mut write)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Runs it and expects this exit code; returns stdout.
    pub fn expect(&self, code: i32, args: &[&str]) -> String {
        let output = self.output(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "jetbench {}\n{out}\n{err}", args.join(" "));
        out
    }

    /// Runs a job and returns its directory.
    pub fn run(&self, args: &[&str]) -> PathBuf {
        let mut all = vec!["--data", "data", "--dtype", "fp32", "--quiet", "--json"];
        all.extend(args);
        let output = self.output(&all);
        let out = text(&output.stdout);
        let line: Value = serde_json::from_str(out.lines().last().unwrap_or_default())
            .unwrap_or_else(|e| panic!("{e}: {out}\n{}", text(&output.stderr)));
        self.path(line["run"].as_str().unwrap())
    }

    /// Directories of all runs below `root`, in order of their names.
    pub fn runs(&self, root: &str) -> Vec<PathBuf> {
        let list = |p: &Path| -> Vec<PathBuf> {
            let mut dirs: Vec<_> = std::fs::read_dir(p).into_iter().flatten().flatten().map(|e| e.path()).collect();
            let hidden = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            dirs.retain(|p| p.is_dir() && !hidden(p));
            dirs.sort();
            dirs
        };
        list(&self.path(root)).iter().flat_map(|device| list(device)).collect()
    }
}

/// Runs a call to its end. One that hangs is ended with all that it started, and fails.
pub fn limited(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().unwrap();
    let (ended, waited) = std::sync::mpsc::channel::<()>();
    let group = format!("-{}", child.id());
    let watch = std::thread::spawn(move || {
        let hangs = waited.recv_timeout(HANGS) == Err(RecvTimeoutError::Timeout);
        hangs.then(|| Command::new("kill").args(["-KILL", "--", &group]).status())
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    assert!(watch.join().unwrap().is_none(), "{command:?} hung for {} s", HANGS.as_secs());
    output
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Rows of a CSV file, header included; every row as wide as the header, or it fails.
pub fn rows(path: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(path).unwrap();
    reader.records().map(|r| r.unwrap().iter().map(String::from).collect()).collect()
}

/// A column of a CSV file, by its name, without the name.
pub fn column(path: &Path, name: &str) -> Vec<String> {
    let rows = rows(path);
    let at = rows[0].iter().position(|column| column == name).unwrap_or_else(|| panic!("{name} in {}", path.display()));
    rows[1..].iter().map(|row| row[at].clone()).collect()
}

/// Every file below a directory, as paths relative to it.
pub fn tree(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => todo.push(entry.path()),
                false => files.push(entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned()),
            }
        }
    }
    files.sort();
    files
}
