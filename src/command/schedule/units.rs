//! The texts of a schedule's units: what measures, when, and what is started after a failure.

use std::path::Path;

use jetbench_runners::files;

use super::{FAILED, MARK, Meta, ScheduledJob, unit};
use crate::exit::Error;

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

/// The unit that measures.
pub(super) fn service(job: &ScheduledJob, system: bool) -> Result<String, Error> {
    let meta = serde_json::to_string(&job.meta).unwrap_or_default();
    let mut text = format!(
        "{MARK}{meta}\n[Unit]\nDescription=jetbench measurement {}\nDocumentation=man:jetbench(1)\n",
        job.meta.name
    );
    if job.on_failure.is_some() {
        text.push_str(&format!("OnFailure={}\n", unit(&job.meta.name, FAILED)));
    }
    text.push_str("\n[Service]\nType=oneshot\n");
    if system {
        let (user, root) = user();
        if root {
            text.push_str("# Installed by root itself, so it runs as root, without capabilities; install it through sudo to run it as you.\n");
        }
        text.push_str(&format!("User={user}\n"));
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

/// User id of whoever installs it, through sudo, and so owns the results; and whether that is root itself.
fn user() -> (String, bool) {
    // SAFETY: no arguments, no memory involved.
    let own = unsafe { libc::geteuid() }.to_string();
    let user = std::env::var("SUDO_UID").ok().filter(|u| u.parse::<u32>().is_ok());
    let root = user.is_none() && own == "0";
    (user.unwrap_or(own), root)
}

/// What the failure command is told, beside systemd's own variables.
pub(super) fn told(meta: &Meta) -> [(&'static str, String); 2] {
    [("JETBENCH_SCHEDULE", meta.name.clone()), ("JETBENCH_STATUS", meta.status.to_string_lossy().into_owned())]
}

/// The unit that systemd starts after a run that failed, if one was asked for. The command is its user's own: it may need the
/// network and whatever else, so nothing confines it.
pub(super) fn failure(job: &ScheduledJob, system: bool) -> Result<Option<String>, Error> {
    let Some(command) = &job.on_failure else { return Ok(None) };
    let meta = serde_json::to_string(&job.meta).unwrap_or_default();
    let mut text = format!(
        "{MARK}{meta}\n[Unit]\nDescription=after a failed jetbench measurement {}\n\n[Service]\nType=oneshot\n",
        job.meta.name
    );
    if system {
        text.push_str(&format!("User={}\n", user().0));
    }
    let words = ["/bin/sh", "-c", command].map(unit_word).into_iter().collect::<Result<Vec<_>, _>>()?;
    text.push_str(&format!("ExecStart={}\n", words.join(" ")));
    text.push_str(&format!("WorkingDirectory={}\n", job.directory.to_string_lossy().replace('%', "%%")));
    for (name, value) in told(&job.meta) {
        text.push_str(&format!("Environment={}\n", unit_word(&format!("{name}={value}"))?.replace("$$", "$")));
    }
    Ok(Some(text))
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

/// The unit that says when.
pub(super) fn timer(job: &ScheduledJob) -> String {
    let meta = serde_json::to_string(&job.meta).unwrap_or_default();
    format!(
        "{MARK}{meta}\n[Unit]\nDescription=when to run jetbench measurement {}\n\n[Timer]\nOnCalendar={}\nPersistent=yes\n\
         AccuracySec=1min\nUnit={}\n\n[Install]\nWantedBy=timers.target\n",
        job.meta.name,
        job.meta.on_calendar.replace('%', "%%"),
        unit(&job.meta.name, "service")
    )
}

#[cfg(test)]
mod tests {
    use super::super::check_name;
    use super::*;

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
