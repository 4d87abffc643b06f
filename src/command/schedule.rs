//! `jetbench schedule`: measurements that repeat themselves, as a systemd service and timer, hardened; what an unattended
//! run needs beside (skip when nothing changed, keep the newest, say how it ended). jetbench has no scheduler of its own:
//! where there is no systemd, it prints the line for cron.

mod cron;
mod units;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use jetbench_runners::files;
use jetbench_runners::types::Device;
use serde::{Deserialize, Serialize};

use crate::cli::{RunArgs, ScheduleArgs, ScheduleCommand, ScheduleInstall, SchedulePlace};
use crate::command::against::Against;
use crate::exit::{self, Error, Outcome};
use crate::plan::config;
use crate::plan::settings;
use crate::plan::shipped;
use crate::results::status::Status;
use crate::results::store;
use crate::text::say;

/// The comment line of our units that tells what they are.
const MARK: &str = "# jetbench schedule: ";

/// The kind of the unit for a run that failed.
const FAILED: &str = "failed";

/// What our units say about themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Meta {
    name: String,
    on_calendar: String,
    config: PathBuf,
    status: PathBuf,
}

/// Installs, lists or removes.
///
/// # Errors
/// A name, calendar or config that cannot be used; a directory that cannot be written; systemd's own complaints.
pub fn schedule(args: &ScheduleArgs) -> Result<Outcome, Error> {
    match &args.command {
        ScheduleCommand::Install(install) => install_units(install),
        ScheduleCommand::List { place, json } => list(place, *json),
        ScheduleCommand::Remove { name, place } => remove(name, place),
    }
}

/// Where units go, and how systemd is spoken to.
struct Home {
    dir: PathBuf,
    /// Flags of systemctl; `None`: the directory was given, systemd is left alone.
    control: Option<&'static [&'static str]>,
    system: bool,
}

fn home(place: &SchedulePlace) -> Result<Home, Error> {
    if let Some(dir) = &place.unit_dir {
        return Ok(Home { dir: dir.clone(), control: None, system: place.system });
    }
    if place.system {
        return Ok(Home { dir: "/etc/systemd/system".into(), control: Some(&[]), system: true });
    }
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|d| !d.is_empty()).map(PathBuf::from);
    let config = config.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
    let config =
        config.ok_or_else(|| Error::Environment("neither XDG_CONFIG_HOME nor HOME is set; use --system".into()))?;
    Ok(Home { dir: config.join("systemd/user"), control: Some(&["--user"]), system: false })
}

/// Does systemd run this machine?
fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn unit(name: &str, kind: &str) -> String {
    match kind == FAILED {
        true => format!("jetbench_failed-{name}.service"), // the name of no schedule's own unit
        false => format!("jetbench-{name}.{kind}"),
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !name.is_empty() && name.len() <= 64 && !name.starts_with(['.', '-']) && name.chars().all(fit) {
        true => Ok(()),
        false => Err(Error::Usage(format!("schedule name `{name}`: use letters, digits, dots and dashes"))),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))
}

/// What one schedule comes to: command line, environment, paths it writes to.
struct ScheduledJob {
    meta: Meta,
    words: Vec<String>,
    environment: Vec<(String, String)>,
    directory: PathBuf,
    writes: Vec<PathBuf>,
    /// Shell command for a run that did not end with exit code 0.
    on_failure: Option<String>,
    /// All its devices are processors: no device node need be seen.
    only_cpu: bool,
}

fn job(install: &ScheduleInstall) -> Result<ScheduledJob, Error> {
    let config_file = absolute(&shipped::named(&install.config))?;
    // Read as the run will read it: a fault in it is found now, not at two in the morning.
    let settings = config::with_file(RunArgs { config: Some(config_file.clone()), ..RunArgs::default() })?;
    let stem = || config_file.file_stem().map(|s| s.to_string_lossy().into_owned());
    let name = install.name.clone().or_else(stem).unwrap_or_default();
    check_name(&name)?;
    check_calendar(&install.on_calendar)?;
    if let Some(command) = &install.on_failure {
        check_command(command)?;
    }
    let out = absolute(&settings::default_out(settings.out.clone()))?;
    let status = out.join("schedules").join(format!("{name}.json"));
    let program =
        std::env::current_exe().map_err(|e| Error::Environment(format!("cannot find this program's file: {e}")))?;
    let mut words = vec![program.to_string_lossy().into_owned(), "run".into(), "--config".into()];
    words.push(config_file.to_string_lossy().into_owned());
    let mut flag =
        |name: &str, value: Option<String>| words.extend(value.map(|v| [name.to_string(), v]).into_iter().flatten());
    flag("--out", Some(out.to_string_lossy().into_owned()));
    flag("--status", Some(status.to_string_lossy().into_owned()));
    flag("--cool-to", install.cool_to.map(|c| c.to_string()));
    flag("--idle", install.idle.map(|p| p.to_string()));
    flag("--max-wait", install.max_wait.map(String::from));
    flag("--keep", install.keep.map(|n| n.to_string()));
    flag("--min-free-mib", install.min_free_mib.map(|n| n.to_string()));
    flag("--baseline", install.baseline.clone());
    let undecided = install.on_inconclusive.and_then(|o| o.to_possible_value());
    flag("--on-inconclusive", undecided.map(|o| o.get_name().to_string()));
    for (name, given) in [("--if-changed", install.if_changed), ("--fail-on-regression", install.fail_on_regression)] {
        words.extend(given.then(|| name.to_string()));
    }
    // A baseline that is missing is found now, too.
    Against::of(&RunArgs {
        out: Some(out.clone()),
        baseline: install.baseline.clone().or(settings.baseline.clone()),
        fail_on_regression: Some(install.fail_on_regression).filter(|f| *f).or(settings.fail_on_regression),
        on_inconclusive: install.on_inconclusive.or(settings.on_inconclusive),
        ..RunArgs::default()
    })?;
    let environment = [
        "JETBENCH_HOME",
        "JETBENCH_PACKS",
        "JETBENCH_LOCKS",
        "ORT_DYLIB_PATH",
        "LD_LIBRARY_PATH",
        "XDG_CACHE_HOME",
        "CUDA_VISIBLE_DEVICES",
    ]
    .iter()
    .filter_map(|name| Some((name.to_string(), std::env::var(name).ok().filter(|v| !v.is_empty())?)))
    .collect();
    let directory = std::env::current_dir().map_err(|e| Error::Environment(format!("no working directory: {e}")))?;
    let exports =
        [&settings.export_markdown, &settings.export_bmf, &settings.export_junit, &settings.export_prometheus];
    let files = exports.into_iter().flatten().filter(|file| file.as_os_str() != "-");
    let places = files.map(|file| Ok(absolute(file)?.parent().unwrap_or(Path::new("/")).to_path_buf()));
    let own = [Some(out), cache(owner(install.place.system).as_ref()), Some(locks())];
    let writes = own.into_iter().flatten().map(Ok).chain(places).collect::<Result<Vec<_>, Error>>()?;
    Ok(ScheduledJob {
        only_cpu: settings.device.iter().all(|d| *d == Device::Cpu),
        meta: Meta { name, on_calendar: install.on_calendar.clone(), config: config_file, status },
        words,
        environment,
        directory,
        writes,
        on_failure: install.on_failure.clone(),
    })
}

/// Who ran `sudo` to install system units, and so owns what a schedule writes.
struct Owner {
    uid: u32,
    gid: u32,
}

fn owner(system: bool) -> Option<Owner> {
    let id = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    Some(Owner { uid: id("SUDO_UID")?, gid: id("SUDO_GID")? }).filter(|_| system)
}

/// The cache of whoever the schedule runs as: `sudo` may have root's home in the environment.
fn cache(owner: Option<&Owner>) -> Option<PathBuf> {
    let Some(owner) = owner.filter(|_| std::env::var_os("XDG_CACHE_HOME").is_none()) else {
        return jetbench_runners::runtime::cache_dir();
    };
    let users = files::read_text(Path::new("/etc/passwd"), files::SMALL).ok()?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let home = fields.filter(|f| f.len() > 5).find(|f| f[2] == owner.uid.to_string())?[5].to_string();
    Some(Path::new(&home).join(".cache/jetbench"))
}

/// What must be writable for the locks: their directory does not outlive a boot, so that the one above it has to be.
fn locks() -> PathBuf {
    let dir = crate::run::lock::directory();
    match std::env::var_os("JETBENCH_LOCKS").is_some_and(|d| !d.is_empty()) {
        true => dir,
        false => dir.parent().map(Path::to_path_buf).unwrap_or(dir),
    }
}

/// Makes a directory, and gives what was not there before to its owner.
fn make(dir: &Path, owner: Option<&Owner>) -> Result<(), Error> {
    let fault = |e: std::io::Error| Error::Environment(format!("cannot make {}: {e}", dir.display()));
    let new: Vec<&Path> = dir.ancestors().take_while(|d| !d.exists()).collect();
    std::fs::create_dir_all(dir).map_err(fault)?;
    let give = |dir: &&Path| match owner {
        Some(owner) => std::os::unix::fs::chown(dir, Some(owner.uid), Some(owner.gid)),
        None => Ok(()),
    };
    new.iter().try_for_each(give).map_err(fault)
}

fn check_command(command: &str) -> Result<(), Error> {
    match command.trim().is_empty() || command.chars().any(char::is_control) {
        true => Err(Error::Usage(format!(
            "--on-failure {command:?}: one line of shell is needed, without control characters"
        ))),
        false => Ok(()),
    }
}

/// systemd's own judgement of a calendar expression, where it can be had.
fn check_calendar(expression: &str) -> Result<(), Error> {
    if expression.trim().is_empty() || expression.chars().any(char::is_control) {
        return Err(Error::Usage("--on-calendar: an expression such as \"*-*-* 02:00\" is needed".into()));
    }
    match Command::new("systemd-analyze").args(["calendar", expression]).output() {
        Ok(output) if !output.status.success() => Err(Error::Usage(format!(
            "--on-calendar {expression}: {}",
            String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("systemd does not understand it")
        ))),
        _ => Ok(()),
    }
}

fn install_units(install: &ScheduleInstall) -> Result<Outcome, Error> {
    let job = job(install)?;
    let home = home(&install.place)?;
    let mut parts = vec![
        (unit(&job.meta.name, "service"), units::service(&job, home.system)?),
        (unit(&job.meta.name, "timer"), units::timer(&job)),
    ];
    parts.extend(units::failure(&job, home.system)?.map(|text| (unit(&job.meta.name, FAILED), text)));
    let cron_words = || match cron::crontab(&job) {
        Some(line) => format!("{line}\n"),
        None => format!("cron has no form for `{}`\n", job.meta.on_calendar),
    };
    if install.print {
        let texts: String = parts.iter().map(|(name, text)| format!("# {name}\n{text}\n")).collect();
        return Ok(Outcome::ok(format!("{texts}# without systemd, in crontab -e:\n# {}", cron_words())));
    }
    if home.control.is_some() && !has_systemd() {
        say("note: systemd does not run this machine, nothing was installed; this line does the same in `crontab -e`:");
        return Ok(Outcome { stdout: cron_words(), code: exit::ENVIRONMENT });
    }
    for (name, text) in &parts {
        let file = home.dir.join(name);
        if files::read_text(&file, files::SMALL).is_ok_and(|old| !old.starts_with(MARK)) {
            return Err(Error::Usage(format!("{}: not made by jetbench; choose another --name", file.display())));
        }
        store::write_atomic(&file, text.as_bytes())
            .map_err(|e| Error::Environment(format!("cannot write {}: {e}", file.display())))?;
    }
    if job.on_failure.is_none() {
        discard(&home.dir.join(unit(&job.meta.name, FAILED)))?; // of an earlier installation
    }
    // systemd must find the paths that it is to leave writable.
    let owner = owner(home.system);
    for dir in job.writes.iter().map(PathBuf::as_path).chain(job.meta.status.parent()) {
        make(dir, owner.as_ref())?;
    }
    if let Some(flags) = home.control {
        systemctl(flags, &["daemon-reload"])?;
        systemctl(flags, &["enable", "--now", &parts[1].0])?;
    }
    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    let mut text = format!("installed {} in {}\n", names.join(", "), home.dir.display());
    if !home.system && home.control.is_some() {
        text.push_str("it runs while you are logged in; `loginctl enable-linger` lets it run always\n");
    }
    Ok(Outcome::ok(text))
}

fn systemctl(flags: &[&str], args: &[&str]) -> Result<String, Error> {
    let command = format!("systemctl {}", [flags, args].concat().join(" "));
    let output = Command::new("systemctl").args(flags).args(args).output();
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(Error::Environment(format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim()))),
        Err(e) => Err(Error::Environment(format!("{command}: {e}"))),
    }
}

/// Our timers in a directory.
fn installed(dir: &Path) -> Vec<Meta> {
    let mut found: Vec<Meta> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|x| x == "timer"))
        .filter_map(|e| {
            serde_json::from_str(files::read_text(&e.path(), files::SMALL).ok()?.lines().next()?.strip_prefix(MARK)?)
                .ok()
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// How the last run of a schedule ended, in words.
fn last(status: Option<&Status>) -> String {
    let Some(status) = status else { return "has not run yet".into() };
    let code = match status.code {
        Some(exit::OK) if status.run.is_none() => "skipped, nothing had changed".to_string(),
        Some(exit::OK) => "all cells valid".into(),
        Some(exit::NOT_VALID) => "a cell is invalid, failed or has regressed (exit 1)".into(),
        Some(exit::USAGE) => "wrong usage, pack or data (exit 2)".into(),
        Some(exit::ENVIRONMENT) => "device or environment unfit (exit 3)".into(),
        Some(exit::INTERRUPTED) => "interrupted (exit 130)".into(),
        Some(code) => format!("exit {code}"),
        None => "is running, or was killed".into(),
    };
    let when = status.finished.as_ref().unwrap_or(&status.started);
    let error = status.error.as_ref().map_or_else(String::new, |e| format!(": {e}"));
    let run = status.run.as_ref().map_or_else(String::new, |r| format!(", {r}"));
    format!("{when}: {code}{error}{run}")
}

fn list(place: &SchedulePlace, as_json: bool) -> Result<Outcome, Error> {
    let home = home(place)?;
    let entries: Vec<(Meta, Option<Status>)> = installed(&home.dir)
        .into_iter()
        .map(|meta| {
            let status = files::read(&meta.status, files::SMALL).ok().and_then(|b| serde_json::from_slice(&b).ok());
            (meta, status)
        })
        .collect();
    if as_json {
        let list: Vec<_> = entries.iter().map(|(m, s)| serde_json::json!({"schedule": m, "last": s})).collect();
        return Ok(Outcome::ok(format!(
            "{}\n",
            serde_json::json!({"schema": 1, "unit_dir": home.dir, "schedules": list})
        )));
    }
    if entries.is_empty() {
        let other = if home.system { "" } else { "; `--system` shows those of the system" };
        return Ok(Outcome::ok(format!("no schedules in {}{other}\n", home.dir.display())));
    }
    let text = entries.iter().map(|(meta, status)| {
        format!(
            "{}\n  when    {}\n  config  {}\n  last    {}\n",
            meta.name,
            meta.on_calendar,
            meta.config.display(),
            last(status.as_ref())
        )
    });
    Ok(Outcome::ok(text.collect()))
}

fn discard(file: &Path) -> Result<(), Error> {
    store::remove(file).map_err(|e| Error::Environment(format!("cannot remove {}: {e}", file.display())))
}

fn remove(name: &str, place: &SchedulePlace) -> Result<Outcome, Error> {
    check_name(name)?;
    let home = home(place)?;
    if !installed(&home.dir).iter().any(|m| m.name == name) {
        let known: Vec<String> = installed(&home.dir).into_iter().map(|m| m.name).collect();
        let known =
            if known.is_empty() { "there are none".to_string() } else { format!("there are: {}", known.join(", ")) };
        return Err(Error::Usage(format!("no schedule `{name}` in {}; {known}", home.dir.display())));
    }
    if let Some(flags) = home.control.filter(|_| has_systemd()) {
        systemctl(flags, &["disable", "--now", &unit(name, "timer")])?;
    }
    for kind in ["service", "timer", FAILED] {
        discard(&home.dir.join(unit(name, kind)))?;
    }
    if let Some(flags) = home.control.filter(|_| has_systemd()) {
        systemctl(flags, &["daemon-reload"])?;
    }
    Ok(Outcome::ok(format!("removed schedule {name}; its results stay\n")))
}
