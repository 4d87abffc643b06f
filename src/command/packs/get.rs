//! `jetbench packs get`: a thin front of the Python program that makes packs of released checkpoints. It finds that program, or
//! installs what it needs into an environment of its own, and becomes it: what it prints and its exit code are the user's.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{BufRead, ErrorKind, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use jetbench_runners::digest::sha256_hex;
use jetbench_runners::files;

use crate::child::die_with_parent;
use crate::cli::GetArgs;
use crate::exit::{Error, Outcome};
use crate::plan::shipped;
use crate::run::lock::free_mib;
use crate::text::{say, shell_word};

/// The Python program, as it is called on PATH.
const PROGRAM: &str = "jetbench-models";
/// Its source.
const SOURCE: &str = "scripts/jetbench_models";
/// The oldest Python that it runs on.
const PYTHON: (u32, u32) = (3, 11);
/// What the environment takes on disk with PyTorch as the package index has it, with the GPU libraries that it loads on a CPU, too:
/// measured with the versions of requirements.lock.
const DISK_MIB: u64 = 4800;
/// The most that it takes while it is made: the packages, as they were fetched, lie beside what was unpacked of them.
const DISK_MAKING_MIB: u64 = 7200;
/// Written last into the environment: the digest of the list of packages that it was made from.
const MADE_FROM: &str = "made-from";
/// How the names of environments begin that are being made or removed, beside the place of the finished one.
const UNFINISHED: &str = "models.unfinished-";

/// Runs the sub-command: does not return where the Python program takes over.
///
/// # Errors
/// Python is missing or too old, packages cannot be installed (exit 3), or nobody can be asked (exit 2).
pub fn get(args: &GetArgs) -> Result<Outcome, Error> {
    if let Some(program) = on_path() {
        return Err(become_it(Command::new(program).args(words(args)?)));
    }
    let kit = Kit::find()?;
    let python = python(&args.python)?;
    if args.list {
        return Err(become_it(kit.command(&python).args(words(args)?)));
    }
    let home = home()?;
    let ready = Environment::ready(&home, &kit);
    if ready.is_none() {
        say(&kit.announcement(&home, args));
    }
    if args.plan || ready.is_none() {
        plan(&kit, &python, args)?;
    }
    if args.plan {
        return Ok(Outcome::default());
    }
    let environment = match ready {
        Some(environment) => environment,
        None => {
            consent(args)?;
            Environment::make(&home, &kit, &python, args)?
        }
    };
    Err(become_it(kit.command(&environment.python()).args(words(args)?)))
}

/// This process becomes that program; only the failure to start it comes back.
fn become_it(command: &mut Command) -> Error {
    let error = command.exec();
    Error::Environment(format!("{}: {error}", command.get_program().to_string_lossy()))
}

/// The arguments of `jetbench-models` for these flags.
fn words(args: &GetArgs) -> Result<Vec<OsString>, Error> {
    let mut words: Vec<OsString> = vec!["get".into()];
    words.extend(args.names.iter().map(OsString::from));
    let mut flag = |name: &str, value: OsString| words.extend([name.into(), value]);
    flag("--out", args.out.clone().into());
    if !args.dtype.is_empty() {
        flag("--dtype", args.dtype.iter().map(|d| d.as_str()).collect::<Vec<_>>().join(",").into());
    }
    if let Some(from) = &args.from {
        flag("--from", from.into());
    }
    if let Some(cache) = &args.cache {
        flag("--cache", cache.into());
    }
    for pair in &args.sha256 {
        flag("--sha256", pair.into());
    }
    if let Some(prompts) = &args.prompts {
        flag("--prompts", prompts.into());
    }
    if let Some(frames) = args.frames {
        flag("--frames", frames.to_string().into());
    }
    let own = std::env::current_exe().map_err(|e| Error::Environment(format!("the path of this program: {e}")))?;
    flag("--jetbench", own.into());
    let switches = [
        ("--list", args.list),
        ("--plan", args.plan),
        ("--download-only", args.download_only),
        ("--force", args.force),
    ];
    words.extend(switches.iter().filter(|(_, on)| *on).map(|(name, _)| OsString::from(name)));
    Ok(words)
}

/// `jetbench-models` on PATH, if it knows `get`.
fn on_path() -> Option<PathBuf> {
    let found =
        std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(PROGRAM)).find(|file| file.is_file())?;
    let knows = Command::new(&found)
        .args(["get", "--list"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    knows.is_ok_and(|status| status.success()).then_some(found)
}

/// The Python that was asked for, if it is new enough.
fn python(wanted: &Path) -> Result<PathBuf, Error> {
    let (major, minor) = PYTHON;
    let old = format!("import sys; sys.exit(sys.version_info < ({major}, {minor}))");
    match Command::new(wanted).args(["-c", &old]).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(wanted.to_path_buf()),
        Ok(_) => Err(Error::Environment(format!(
            "{}: Python {major}.{minor} or newer is needed; --python names another",
            wanted.display()
        ))),
        Err(e) => Err(Error::Environment(format!(
            "{}: {e}; install Python {major}.{minor} or newer, or name one with --python",
            wanted.display()
        ))),
    }
}

/// What would be fetched and made, said by the Python program.
fn plan(kit: &Kit, python: &Path, args: &GetArgs) -> Result<(), Error> {
    let mut words = words(args)?;
    if !args.plan {
        words.push("--plan".into());
    }
    match kit.command(python).args(words).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) if status.code() == Some(3) => Err(Error::Environment("nothing was installed".to_string())),
        Ok(_) => Err(Error::Usage("nothing was installed".to_string())),
        Err(e) => Err(Error::Environment(format!("{}: {e}", python.display()))),
    }
}

fn consent(args: &GetArgs) -> Result<(), Error> {
    if args.yes {
        return Ok(());
    }
    let no = || Error::Usage("nothing was installed; --yes installs without asking".to_string());
    if !std::io::stdin().is_terminal() {
        return Err(no());
    }
    say("install? [y/N]");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    let yes = read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    if yes { Ok(()) } else { Err(no()) }
}

/// `$XDG_DATA_HOME/jetbench/models`, else `~/.local/share/jetbench/models`.
fn home() -> Result<PathBuf, Error> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("jetbench/models"))
        .ok_or_else(|| Error::Environment("neither XDG_DATA_HOME nor HOME is set".to_string()))
}

/// The Python program's source, as it lies in a checkout or an installation.
struct Kit {
    /// Holds `jetbench_models/` and `requirements.lock`.
    scripts: PathBuf,
    /// Text of the list of packages.
    list: String,
}

impl Kit {
    fn find() -> Result<Kit, Error> {
        let found = shipped::find(SOURCE).and_then(|source| source.canonicalize().ok());
        let scripts = found.as_deref().and_then(Path::parent).map(Path::to_path_buf).ok_or_else(|| {
            Error::Environment(format!("`{PROGRAM}` is not on PATH, and its source: {}", shipped::missing(SOURCE)))
        })?;
        let file = scripts.join("requirements.lock");
        let list = files::read_text(&file, files::SMALL)
            .map_err(|e| Error::Environment(format!("{}: {e}", file.display())))?;
        Ok(Kit { scripts, list })
    }

    /// The program with this Python.
    fn command(&self, python: &Path) -> Command {
        let mut command = Command::new(python);
        command.args(["-m", "jetbench_models"]).env("PYTHONPATH", &self.scripts).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// The packages whose section of the list starts with one of these words, as `name==version`.
    fn packages(&self, sections: &[&str]) -> Vec<&str> {
        let mut taken = false;
        let mut found = Vec::new();
        for line in self.list.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.strip_prefix("# ") {
                Some(title) => taken = sections.iter().any(|start| title.starts_with(start)),
                None if taken => found.push(line),
                None => {}
            }
        }
        found
    }

    fn announcement(&self, home: &Path, args: &GetArgs) -> String {
        let count = self.packages(&["always", "extras"]).len();
        let size = format!("{DISK_MIB} MiB on disk, {DISK_MAKING_MIB} MiB while they are installed, minutes");
        let torch = if args.torch_index == "none" {
            format!("PyTorch with the GPU libraries that it loads: {size}")
        } else {
            format!(
                "PyTorch without GPU libraries from {}; where that does not answer, PyTorch with them from the usual index: {size}",
                args.torch_index
            )
        };
        format!("the exporter is not installed; into {}: {count} Python packages with {torch}", home.display())
    }
}

/// The environment of the Python program.
struct Environment {
    dir: PathBuf,
}

impl Environment {
    fn python(&self) -> PathBuf {
        self.dir.join("bin/python")
    }

    /// The environment at `home`, if it is whole and was made from the kit's list of packages.
    fn ready(home: &Path, kit: &Kit) -> Option<Environment> {
        let made = files::read_text(&home.join(MADE_FROM), files::SMALL).ok()?;
        let environment = Environment { dir: home.to_path_buf() };
        (made.trim() == sha256_hex(kit.list.as_bytes()) && environment.python().exists()).then_some(environment)
    }

    fn make(home: &Path, kit: &Kit, python: &Path, args: &GetArgs) -> Result<Environment, Error> {
        let fault = |what: &Path, e: std::io::Error| Error::Environment(format!("{}: {e}", what.display()));
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return Err(Error::Environment(format!(
                "the list of packages is for Linux on x86-64: make the pack there, `jetbench packs pack` it, and `jetbench packs add` it \
                 here; or put a `{PROGRAM}` of your own on PATH"
            )));
        }
        let parent = home.parent().unwrap_or(home);
        std::fs::create_dir_all(parent).map_err(|e| fault(parent, e))?;
        let lock = parent.join("models.lock");
        let held = files::own(&lock, File::options().write(true)).map_err(|e| fault(&lock, e))?;
        if matches!(held.try_lock(), Err(TryLockError::WouldBlock)) {
            say(&format!("another process installs the exporter into {}; waiting", home.display()));
        }
        held.lock().map_err(|e| fault(&lock, e))?;
        if let Some(ready) = Environment::ready(home, kit) {
            return Ok(ready); // another process made it meanwhile
        }
        sweep(parent).map_err(|e| fault(parent, e))?;
        // A name that no earlier installation had: what is left of one that was killed may write for a moment yet.
        let unique = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        // Out of its place before anything of it is removed: an environment in its place is whole.
        match std::fs::rename(home, parent.join(format!("{UNFINISHED}old-{unique}"))) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(fault(home, e)),
            _ => sweep(parent).map_err(|e| fault(parent, e))?,
        }
        if free_mib(parent).is_some_and(|free| free < DISK_MAKING_MIB) {
            return Err(Error::Environment(format!(
                "{}: less than {DISK_MAKING_MIB} MiB are free, which the exporter's packages may need while they are installed; \
                 XDG_DATA_HOME names another place",
                parent.display()
            )));
        }
        let half = Environment { dir: parent.join(format!("{UNFINISHED}{}-{unique}", std::process::id())) };
        let made = half.fill(kit, python, args).and_then(|()| {
            half.rename_within(home).map_err(|e| fault(&half.dir, e))?;
            std::fs::rename(&half.dir, home).map_err(|e| fault(home, e))?;
            Ok(Environment { dir: home.to_path_buf() })
        });
        // Nothing of it is of use: what failed is told, and what an orphan wrote after the first sweep is gone, too.
        sweep(parent).map_err(|e| fault(parent, e)).and(made)
    }

    /// Makes all of it, the mark last.
    fn fill(&self, kit: &Kit, python: &Path, args: &GetArgs) -> Result<(), Error> {
        let fault = |what: &Path, e: std::io::Error| Error::Environment(format!("{}: {e}", what.display()));
        // Gigabytes that a killed installer leaves there would stay in the system's directory, and may not fit into it.
        let temporary = self.dir.join("tmp");
        std::fs::create_dir_all(&temporary).map_err(|e| fault(&temporary, e))?;
        let made = step(Command::new(python).args(["-m", "venv"]).arg(&self.dir), &temporary);
        made.map_err(|e| Error::Environment(format!("{e} (Debian: apt-get install python3-venv)")))?;
        self.install(kit, args, &temporary)?;
        std::fs::remove_dir_all(&temporary).map_err(|e| fault(&temporary, e))?;
        let mark = self.dir.join(MADE_FROM);
        std::fs::write(&mark, sha256_hex(kit.list.as_bytes())).map_err(|e| fault(&mark, e))
    }

    /// Its commands (`bin/pip`) name the Python that they run on: gives them the path that it will have.
    fn rename_within(&self, home: &Path) -> std::io::Result<()> {
        let (from, to) = (self.dir.as_os_str().as_bytes(), home.as_os_str().as_bytes());
        for entry in std::fs::read_dir(self.dir.join("bin"))? {
            let file = entry?.path();
            // Programs are longer than scripts, and have no path in them.
            let there = std::fs::symlink_metadata(&file)?;
            if !there.is_file() || there.len() > files::SMALL {
                continue;
            }
            let text = files::read(&file, files::SMALL)?;
            let renamed = replaced(&text, from, to);
            if renamed != text {
                std::fs::write(&file, renamed)?;
            }
        }
        Ok(())
    }

    /// Installs the packages: PyTorch without GPU libraries if its index answers, else with those that it loads on a CPU, too.
    fn install(&self, kit: &Kit, args: &GetArgs, temporary: &Path) -> Result<(), Error> {
        let (torch, others): (Vec<&str>, Vec<&str>) = kit
            .packages(&["always", "extras"])
            .into_iter()
            .partition(|p| p.starts_with("torch==") || p.starts_with("torchvision=="));
        step(self.pip(&[]).args(others), temporary)?;
        if args.torch_index != "none" {
            let options = ["--retries", "0", "--timeout", "15", "--index-url", &args.torch_index];
            match step(self.pip(&options).args(&torch), temporary) {
                Ok(()) => return Ok(()),
                Err(_) => say("no PyTorch without GPU libraries there; taking the one with them from the usual index"),
            }
        }
        step(self.pip(&[]).args(torch).args(kit.packages(&["the NVIDIA libraries"])), temporary)
    }

    fn pip(&self, options: &[&str]) -> Command {
        let mut command = Command::new(self.python());
        command
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
            .args(options);
        command
    }
}

/// `text` with `to` in place of every `from`.
fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = rest.windows(from.len().max(1)).position(|part| part == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Removes what unfinished installations left.
fn sweep(parent: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // Again where an orphan writes into it meanwhile; what it still wins is removed at the end.
            let removed = (0..3).map(|_| std::fs::remove_dir_all(entry.path())).find(Result::is_ok);
            if removed.is_none() {
                say(&format!("{}: cannot be removed yet", entry.path().display()));
            }
        }
    }
    Ok(())
}

/// Runs one step of the installation, with its output passed through.
fn step(command: &mut Command, temporary: &Path) -> Result<(), Error> {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| shell_word(&word.to_string_lossy()))
        .collect();
    let line = words.join(" ");
    say(&line);
    die_with_parent(command);
    // A package that lies on PYTHONPATH would count as installed.
    command.env_remove("PYTHONPATH").env("TMPDIR", temporary);
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Environment(format!("`{line}` ended with {status}"))),
        Err(e) => Err(Error::Environment(format!("`{line}`: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mention_of_a_path_is_renamed_and_nothing_else() {
        assert_eq!(replaced(b"#!/a/b/bin/python\n/a/b", b"/a/b", b"/long/c"), b"#!/long/c/bin/python\n/long/c");
        assert_eq!(replaced(b"\xff\0/a", b"/a", b"/c"), b"\xff\0/c", "no text");
        assert_eq!(replaced(b"/a", b"/ab", b"/c"), b"/a");
    }
}
