//! `jetbench schedule`: measurements that repeat themselves, as a systemd service and timer, hardened; what an unattended
//! run needs beside (skip when nothing changed, keep the newest, say how it ended). jetbench has no scheduler of its own:
//! where there is no systemd, it prints the line for cron.

use std::path::{Path, PathBuf};
use std::process::Command;

use jetbench_runners::files;
use jetbench_runners::types::Device;
use serde::{Deserialize, Serialize};

use crate::cli::{RunArgs, ScheduleArgs, ScheduleCommand, ScheduleInstall, SchedulePlace};
use crate::exit::{self, Error, Outcome};
use crate::plan::config;
use crate::plan::settings;
use crate::plan::shipped;
use crate::results::status::Status;
use crate::results::store;
use crate::text::say;

/// The comment line of our units that tells what they are.
const MARK: &str = "# jetbench schedule: ";

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
    format!("jetbench-{name}.{kind}")
}

fn check_name(name: &str) -> Result<(), Error> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !name.is_empty() && name.len() <= 64 && !name.starts_with(['.', '-']) && name.chars().all(fit) {
        true => Ok(()),
        false => Err(Error::Usage(format!("schedule name `{name}`: use letters, digits, dots and dashes"))),
    }
}

/// A word as `ExecStart=` and `Environment=` take it: quoted, and nothing in it expanded.
fn unit_word(word: &str) -> Result<String, Error> {
    if word.chars().any(char::is_control) {
        return Err(Error::Usage(format!("{word:?}: control characters cannot stand in a unit")));
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(format!("\"{escaped}\""))
}

/// A path as settings such as `ReadWritePaths=` take it.
fn unit_path(path: &Path) -> Result<String, Error> {
    let text = path.to_string_lossy();
    if text.chars().any(char::is_control) {
        return Err(Error::Usage(format!("{text:?}: control characters cannot stand in a unit")));
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")))
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
    if install.if_changed {
        words.push("--if-changed".into());
    }
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
    let writes = [Some(out), jetbench_runners::runtime::cache_dir(), Some(crate::run::lock::directory())]
        .into_iter()
        .flatten()
        .collect();
    Ok(ScheduledJob {
        only_cpu: settings.device.iter().all(|d| *d == Device::Cpu),
        meta: Meta { name, on_calendar: install.on_calendar.clone(), config: config_file, status },
        words,
        environment,
        directory,
        writes,
    })
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

fn service(job: &ScheduledJob, system: bool) -> Result<String, Error> {
    let meta = serde_json::to_string(&job.meta).unwrap_or_default();
    let mut text = format!(
        "{MARK}{meta}\n[Unit]\nDescription=jetbench measurement {}\nDocumentation=man:jetbench(1)\n\n[Service]\nType=oneshot\n",
        job.meta.name
    );
    if system {
        // Whoever installs it, through sudo, owns the results.
        // SAFETY: no arguments, no memory involved.
        let own = unsafe { libc::geteuid() }.to_string();
        let user = std::env::var("SUDO_UID").ok().filter(|u| u.parse::<u32>().is_ok());
        if user.is_none() && own == "0" {
            text.push_str("# Installed by root itself, so it runs as root, without capabilities; install it through sudo to run it as you.\n");
        }
        text.push_str(&format!("User={}\n", user.as_deref().unwrap_or(&own)));
    }
    let words = job.words.iter().map(|w| unit_word(w)).collect::<Result<Vec<_>, _>>()?;
    let mut line = |key: &str, value: &str| text.push_str(&format!("{key}={value}\n"));
    line("ExecStart", &words.join(" "));
    line("WorkingDirectory", &job.directory.to_string_lossy().replace('%', "%%"));
    for (name, value) in &job.environment {
        line("Environment", &unit_word(&format!("{name}={value}"))?.replace("$$", "$"));
    }
    // Two minutes to end in order after a stop; a measurement itself may take all night.
    line("TimeoutStartSec", "infinity");
    line("TimeoutStopSec", "2min");
    line("KillMode", "mixed");
    line("UMask", "0022");
    for fixed in [
        "NoNewPrivileges=yes",
        "RestrictSUIDSGID=yes",
        "RestrictRealtime=yes",
        "RestrictNamespaces=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged",
        "SystemCallErrorNumber=EPERM",
    ] {
        text.push_str(&format!("{fixed}\n"));
    }
    if !system {
        text.push_str(
            "# A user's service manager cannot mount a read-only system; `--system` installs a unit that does.\n",
        );
        return Ok(text);
    }
    for fixed in [
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        "PrivateTmp=yes",
        "PrivateNetwork=yes",
        "RestrictAddressFamilies=AF_UNIX AF_NETLINK",
        "IPAddressDeny=any",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "RemoveIPC=yes",
    ] {
        text.push_str(&format!("{fixed}\n"));
    }
    text.push_str(&device_access(job.only_cpu));
    for path in &job.writes {
        text.push_str(&format!("ReadWritePaths={}\n", unit_path(path)?));
    }
    Ok(text)
}

/// Device nodes that the unit may use.
fn device_access(only_cpu: bool) -> String {
    if only_cpu {
        return "PrivateDevices=yes\nProtectProc=invisible\n".into();
    }
    let known = files::read_text(Path::new("/etc/group"), files::SMALL).unwrap_or_default();
    let groups = ["video", "render"].into_iter().filter(|g| known.lines().any(|l| l.split(':').next() == Some(g)));
    let groups: String = groups.map(|group| format!("SupplementaryGroups={group}\n")).collect();
    format!(
        "# The GPU's device nodes belong to these groups on Jetsons; a group that is not there would stop the unit.\n{groups}"
    )
}

fn timer(job: &ScheduledJob) -> String {
    let meta = serde_json::to_string(&job.meta).unwrap_or_default();
    format!(
        "{MARK}{meta}\n[Unit]\nDescription=when to run jetbench measurement {}\n\n[Timer]\nOnCalendar={}\nPersistent=yes\n\
         AccuracySec=1min\nUnit={}\n\n[Install]\nWantedBy=timers.target\n",
        job.meta.name,
        job.meta.on_calendar.replace('%', "%%"),
        unit(&job.meta.name, "service")
    )
}

/// The line for `crontab -e`; `None` where cron cannot say it.
fn crontab(job: &ScheduledJob) -> Option<String> {
    let when = cron(&job.meta.on_calendar)?;
    let quote = |word: &str| crate::text::shell_word(word).replace('%', "\\%");
    let environment: Vec<String> = job.environment.iter().map(|(k, v)| format!("{k}={}", quote(v))).collect();
    let words: Vec<String> = job.words.iter().map(|w| quote(w)).collect();
    let directory = quote(&job.directory.to_string_lossy());
    let command = [environment, words].concat().join(" ");
    Some(format!("{when} cd {directory} && {command} --quiet"))
}

/// systemd's calendar as cron's five fields, for the forms that both have: `hourly`, `daily`, `weekly`, `monthly`,
/// `[days] [*-*-D] HH:MM[:00]`.
fn cron(expression: &str) -> Option<String> {
    match expression.trim() {
        "hourly" => return Some("0 * * * *".into()),
        "daily" => return Some("0 0 * * *".into()),
        "weekly" => return Some("0 0 * * 1".into()),
        "monthly" => return Some("0 0 1 * *".into()),
        _ => {}
    }
    let (mut days, mut day, mut time) = ("*".to_string(), "*".to_string(), None);
    for word in expression.split_whitespace() {
        if word.contains(':') {
            let parts: Vec<&str> = word.split(':').collect();
            let number = |text: &str, below: u32| text.parse::<u32>().ok().filter(|n| *n < below);
            match parts.as_slice() {
                [hour, minute] | [hour, minute, "00"] => {
                    let hour = if *hour == "*" { "*".to_string() } else { number(hour, 24)?.to_string() };
                    time = Some((hour, number(minute, 60)?));
                }
                _ => return None,
            }
        } else if let Some(date) = word.strip_prefix("*-*-") {
            day = if date == "*" {
                "*".into()
            } else {
                date.parse::<u32>().ok().filter(|d| (1..=31).contains(d))?.to_string()
            };
        } else {
            const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
            let number = |d: &str| DAYS.iter().position(|n| d.to_ascii_lowercase().starts_with(n)).map(|p| p + 1);
            let parts = word.split(',').map(|part| match part.split_once("..") {
                Some((from, to)) => Some(format!("{}-{}", number(from)?, number(to)?)),
                None => Some(number(part)?.to_string()),
            });
            days = parts.collect::<Option<Vec<_>>>()?.join(",");
        }
    }
    let (hour, minute) = time?;
    // cron runs when either day matches where both are given; systemd when both do.
    (days == "*" || day == "*").then(|| format!("{minute} {hour} {day} * {days}"))
}

fn install_units(install: &ScheduleInstall) -> Result<Outcome, Error> {
    let job = job(install)?;
    let home = home(&install.place)?;
    let (service, timer) = (service(&job, home.system)?, timer(&job));
    let names = [unit(&job.meta.name, "service"), unit(&job.meta.name, "timer")];
    let cron_words = || match crontab(&job) {
        Some(line) => format!("{line}\n"),
        None => format!("cron has no form for `{}`\n", job.meta.on_calendar),
    };
    if install.print {
        return Ok(Outcome::ok(format!(
            "# {}\n{service}\n# {}\n{timer}\n# without systemd, in crontab -e:\n# {}",
            names[0],
            names[1],
            cron_words()
        )));
    }
    if home.control.is_some() && !has_systemd() {
        say("note: systemd does not run this machine, nothing was installed; this line does the same in `crontab -e`:");
        return Ok(Outcome { stdout: cron_words(), code: exit::ENVIRONMENT });
    }
    for (name, text) in names.iter().zip([&service, &timer]) {
        let file = home.dir.join(name);
        if files::read_text(&file, files::SMALL).is_ok_and(|old| !old.starts_with(MARK)) {
            return Err(Error::Usage(format!("{}: not made by jetbench; choose another --name", file.display())));
        }
        store::write_atomic(&file, text.as_bytes())
            .map_err(|e| Error::Environment(format!("cannot write {}: {e}", file.display())))?;
    }
    // systemd must find the paths that it is to leave writable.
    for dir in job.writes.iter().chain(job.meta.status.parent().map(Path::to_path_buf).as_ref()) {
        std::fs::create_dir_all(dir).map_err(|e| Error::Environment(format!("cannot make {}: {e}", dir.display())))?;
    }
    if let Some(flags) = home.control {
        systemctl(flags, &["daemon-reload"])?;
        systemctl(flags, &["enable", "--now", &names[1]])?;
    }
    let mut text = format!("installed {} and {} in {}\n", names[0], names[1], home.dir.display());
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
        Some(exit::NOT_VALID) => "a cell is invalid or failed (exit 1)".into(),
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
    for kind in ["service", "timer"] {
        let file = home.dir.join(unit(name, kind));
        store::remove(&file).map_err(|e| Error::Environment(format!("cannot remove {}: {e}", file.display())))?;
    }
    if let Some(flags) = home.control.filter(|_| has_systemd()) {
        systemctl(flags, &["daemon-reload"])?;
    }
    Ok(Outcome::ok(format!("removed schedule {name}; its results stay\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendars_become_cron_lines_where_cron_can_say_them() {
        let said: Vec<String> = [
            "*-*-* 02:00",
            "02:30:00",
            "Mon..Fri *-*-* 22:15",
            "Sat,Sun 04:00",
            "*-*-01 03:00",
            "*:15",
            "daily",
            "weekly",
            "Mon *-*-01 03:00",
            "*-*-* 02:00:30",
            "2027-01-01 00:00",
            "*-*-* 0/2:00",
        ]
        .iter()
        .map(|c| format!("{c} = {}", cron(c).unwrap_or_else(|| "no".into())))
        .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        *-*-* 02:00 = 0 2 * * *
        02:30:00 = 30 2 * * *
        Mon..Fri *-*-* 22:15 = 15 22 * * 1-5
        Sat,Sun 04:00 = 0 4 * * 6,7
        *-*-01 03:00 = 0 3 1 * *
        *:15 = 15 * * * *
        daily = 0 0 * * *
        weekly = 0 0 * * 1
        Mon *-*-01 03:00 = no
        *-*-* 02:00:30 = no
        2027-01-01 00:00 = no
        *-*-* 0/2:00 = no
        ");
    }

    #[test]
    fn words_survive_units() {
        assert_eq!(unit_word("a b").unwrap(), "\"a b\"");
        assert_eq!(unit_word(r#"100% "$HOME" \"#).unwrap(), r#""100%% \"$$HOME\" \\""#);
        assert!(unit_word("a\nExecStartPre=evil").is_err());
        assert!(
            check_name("../x").is_err()
                && check_name("").is_err()
                && check_name("-x").is_err()
                && check_name("a b").is_err()
        );
        assert!(check_name("nightly-2.1").is_ok());
    }
}
