//! What a run waits for before it measures: the device to itself, a machine cool and idle enough, space on the disk. All
//! runs on a machine, of all users, share one lock per device, so that two never share a GPU; the kernel gives it back
//! when its holder ends, however it ends.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::exit::Error;
use crate::plan::settings::Waiting;
use crate::telemetry::{self, cpu::Ticks};
use jetbench_runners::files;
use jetbench_runners::types::Device;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(500);

/// The locks that runs on these devices need. A Tegra board is one device: its GPU and CPUs share memory, power and heat.
/// Elsewhere each GPU is one, under the name that `CUDA_VISIBLE_DEVICES` gives it.
pub fn names(devices: &[Device], tegra: bool, visible: Option<&str>) -> BTreeSet<String> {
    if tegra {
        return BTreeSet::from(["board".to_string()]);
    }
    let visible: Vec<&str> = visible.unwrap_or_default().split(',').map(str::trim).filter(|t| !t.is_empty()).collect();
    let gpu = |n: u32| match visible.get(n as usize) {
        Some(token) => token.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect(),
        None => n.to_string(),
    };
    let mut names = BTreeSet::new();
    for device in devices {
        match device {
            Device::Cpu => drop(names.insert("cpu".to_string())),
            Device::Cuda(n) | Device::TensorRt(n) => drop(names.insert(format!("gpu-{}", gpu(*n)))),
            // Which GPU the Vulkan driver or a plugin gives is not known yet, and it may be the processor.
            Device::WebGpu(_) | Device::Plugin(..) => names.extend(["cpu".to_string(), "gpu-0".to_string()]),
        }
    }
    names
}

/// Where the locks are: a directory of their own, in one that all users can write to and that does not outlive a boot.
pub fn directory() -> PathBuf {
    if let Some(dir) = std::env::var_os("JETBENCH_LOCKS").filter(|d| !d.is_empty()) {
        return dir.into();
    }
    let shared = PathBuf::from("/run/lock");
    if shared.is_dir() { shared } else { std::env::temp_dir() }.join("jetbench")
}

/// Held locks; dropping them gives them back.
#[derive(Debug)]
pub struct Held {
    _files: Vec<File>,
}

/// Takes the locks, waiting for other runs to end; `tell` hears of it once per lock.
///
/// # Errors
/// A lock that is still held after `max_wait`, or an interrupt: exit 3, or a file that cannot be opened.
pub fn acquire(
    dir: &Path,
    names: &BTreeSet<String>,
    max_wait: Duration,
    interrupt: &AtomicBool,
    tell: &dyn Fn(&str),
) -> Result<Held, Error> {
    let mut files = Vec::new();
    // Always in the same order, so that two runs with several devices cannot block each other.
    for name in names {
        let path = dir.join(format!("jetbench-{name}.lock"));
        let fault = |e: std::io::Error| {
            Error::Environment(format!(
                "device lock {}: {e}; name another directory with JETBENCH_LOCKS",
                path.display()
            ))
        };
        let mut file = open(dir, &path).map_err(fault)?;
        let started = Instant::now();
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::Error(e)) => return Err(fault(e)),
                Err(std::fs::TryLockError::WouldBlock) => {}
            }
            let holder = holder(&path);
            if started.elapsed() >= max_wait {
                return Err(Error::Environment(format!(
                    "device {name} is still in use by {holder} after {:.0} s; raise --max-wait, or end that run",
                    max_wait.as_secs_f64()
                )));
            }
            if !told {
                tell(&format!("device {name} is in use by {holder}; waiting"));
                told = true;
            }
            pause(interrupt)?;
        }
        // Who holds it is a courtesy: where it cannot be written (another user made it), the lock holds all the same.
        let _ = file.set_len(0).and_then(|()| file.write_all(format!("process {}\n", std::process::id()).as_bytes()));
        files.push(file);
    }
    Ok(Held { _files: files })
}

/// Opens a lock file that another user may have made: that one is locked, and neither written nor cut short.
fn open(dir: &Path, path: &Path) -> std::io::Result<File> {
    directory_is_safe(dir)?;
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.uid() != me() => return files::own(path, File::options().read(true)),
        Ok(found) if found.is_file() && found.nlink() > 1 => {
            return Err(std::io::Error::other("it has a second name (hard link); remove it"));
        }
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let file = files::own(path, File::options().write(true))?;
    // All users can lock it, whatever the umask; none but its owner can write to it.
    let _ = file.set_permissions(Permissions::from_mode(0o644));
    Ok(file)
}

/// Makes the directory of the locks where there is none. One in which others could put another file in a lock's place is refused.
fn directory_is_safe(dir: &Path) -> std::io::Result<()> {
    const STICKY: u32 = 0o1000;
    let refuse = |what: &str| Err(std::io::Error::other(format!("{} {what}", dir.display())));
    if let Err(e) = std::fs::symlink_metadata(dir) {
        match e.kind() {
            std::io::ErrorKind::NotFound => std::fs::create_dir_all(dir)?,
            _ => return Err(e),
        }
        // For all users, each with files of their own.
        let _ = std::fs::set_permissions(dir, Permissions::from_mode(0o1777));
    }
    let found = std::fs::symlink_metadata(dir)?;
    match (found.is_dir(), found.mode() & 0o022 != 0 && found.mode() & STICKY == 0) {
        (false, _) => refuse("is no directory (a link is not followed)"),
        (_, true) => refuse("can be written to by others and has no sticky bit (chmod +t)"),
        _ if ![0, me()].contains(&found.uid()) && found.mode() & STICKY == 0 => refuse("belongs to another user"),
        _ => Ok(()),
    }
}

/// Who holds a lock, as far as its file can be trusted: a living process of the user who owns the file.
fn holder(path: &Path) -> String {
    let said = files::read_text(path, 64).unwrap_or_default();
    let process = said.trim().strip_prefix("process ").and_then(|number| number.parse::<u32>().ok());
    let owner = |path: &Path| std::fs::symlink_metadata(path).ok().map(|m| m.uid());
    let alive = process.filter(|id| {
        let of_process = owner(&PathBuf::from(format!("/proc/{id}")));
        of_process.is_some() && of_process == owner(path)
    });
    alive.map_or_else(|| "another run".to_string(), |id| format!("process {id}"))
}

/// The user that this process acts as.
fn me() -> u32 {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

fn pause(interrupt: &AtomicBool) -> Result<(), Error> {
    std::thread::sleep(POLL);
    match interrupt.load(Ordering::SeqCst) {
        true => Err(Error::Environment("interrupted while waiting".into())),
        false => Ok(()),
    }
}

/// Waits until the machine is fit for the next cell.
///
/// # Errors
/// It is not after the longest wait, a condition cannot be sensed here, or the disk is full: exit 3.
pub fn until_fit(
    root: &Path,
    out: &Path,
    waiting: &Waiting,
    interrupt: &AtomicBool,
    tell: &dyn Fn(&str),
) -> Result<(), Error> {
    if let Some(free) = free_mib(out).filter(|free| *free < waiting.min_free_mib) {
        return Err(Error::Environment(format!(
            "{}: {free} MiB of disk space are free, {} are needed (--min-free-mib); remove old runs, or let --keep N do it",
            out.display(),
            waiting.min_free_mib
        )));
    }
    if let Some(limit) = waiting.cool_to_celsius {
        let hottest = || telemetry::thermal::hottest(root).map(|(_, celsius)| celsius);
        wait_for("the hottest zone", "°C", "--cool-to", limit, waiting.max_wait_s, &hottest, interrupt, tell)?;
    }
    if let Some(limit) = waiting.idle_percent {
        let busy = || {
            let before = telemetry::cpu::ticks(root)?;
            std::thread::sleep(Duration::from_secs(1));
            let after = telemetry::cpu::ticks(root)?;
            load_percent(before, after)
        };
        wait_for("the processors' load", "%", "--idle", limit, waiting.max_wait_s, &busy, interrupt, tell)?;
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)] // one call per condition, each in one line
fn wait_for(
    what: &str,
    unit: &str,
    flag: &str,
    limit: f64,
    max_wait_s: f64,
    read: &dyn Fn() -> Option<f64>,
    interrupt: &AtomicBool,
    tell: &dyn Fn(&str),
) -> Result<(), Error> {
    let started = Instant::now();
    let mut told = false;
    loop {
        let Some(now) = read() else {
            return Err(Error::Environment(format!(
                "{flag} {limit}: {what} cannot be read on this machine; leave it out"
            )));
        };
        if now <= limit {
            return Ok(());
        }
        if started.elapsed().as_secs_f64() >= max_wait_s {
            return Err(Error::Environment(format!(
                "{what}: still {now:.1} {unit} after {max_wait_s:.0} s, {flag} wants {limit} {unit}; raise --max-wait"
            )));
        }
        if !told {
            tell(&format!("{what}: {now:.1} {unit}; waiting for {limit} {unit}"));
            told = true;
        }
        pause(interrupt)?;
    }
}

/// Load of all processors between two readings, percent; what a hypervisor took is load. `None` when no time has passed.
fn load_percent(before: Ticks, after: Ticks) -> Option<f64> {
    let taken = |ticks: Ticks| ticks.busy + ticks.stolen;
    let total = |ticks: Ticks| taken(ticks) + ticks.idle;
    let passed = total(after).checked_sub(total(before)).filter(|t| *t > 0)?;
    Some(100.0 * taken(after).saturating_sub(taken(before)) as f64 / passed as f64)
}

/// Free space for this user where `path` is or will be, MiB.
pub fn free_mib(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let name = std::ffi::CString::new(there.as_os_str().as_bytes()).ok()?;
    // SAFETY: the kernel fills in the structure it is given; the name ends with a zero byte.
    unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(name.as_ptr(), &mut stat) == 0).then(|| stat.f_bavail as u64 * stat.f_frsize as u64 / (1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::tree;

    #[test]
    fn every_device_has_its_lock() {
        let of = |devices: &[Device], tegra, visible| {
            names(devices, tegra, visible).into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&[Device::Cpu], false, None), "cpu");
        assert_eq!(of(&[Device::Cuda(0), Device::TensorRt(0), Device::Cuda(1)], false, None), "gpu-0 gpu-1");
        assert_eq!(of(&[Device::Cuda(0)], false, Some("3,GPU-ab/cd")), "gpu-3");
        assert_eq!(of(&[Device::TensorRt(1)], false, Some("3,GPU-ab/cd")), "gpu-GPU-ab-cd");
        assert_eq!(of(&[Device::Cpu, Device::Cuda(0)], true, None), "board");
    }

    #[test]
    fn two_never_hold_one_lock() {
        let dir = tempfile::tempdir().unwrap();
        let names = BTreeSet::from(["gpu-0".to_string()]);
        let go_on = AtomicBool::new(false);
        let held = acquire(dir.path(), &names, Duration::ZERO, &go_on, &|_| {}).unwrap();
        let error = acquire(dir.path(), &names, Duration::ZERO, &go_on, &|_| {}).unwrap_err();
        assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
        assert_eq!(error.code(), 3);
        let other = BTreeSet::from(["gpu-1".to_string()]);
        acquire(dir.path(), &other, Duration::ZERO, &go_on, &|_| {}).unwrap();
        drop(held);
        acquire(dir.path(), &names, Duration::ZERO, &go_on, &|_| {}).unwrap();
    }

    #[test]
    fn nothing_in_a_locks_place_is_followed_awaited_or_believed() {
        let dir = tempfile::tempdir().unwrap();
        let names = BTreeSet::from(["cpu".to_string()]);
        let path = dir.path().join("jetbench-cpu.lock");
        let try_it = || acquire(dir.path(), &names, Duration::ZERO, &AtomicBool::new(false), &|_| {});
        let fault = || try_it().unwrap_err().to_string();
        // A link: the file behind it is neither locked nor emptied.
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "kept").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        assert!(fault().contains("it is a symbolic link"), "{}", fault());
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "kept");
        std::fs::remove_file(&path).unwrap();
        std::fs::hard_link(&precious, &path).unwrap();
        assert!(fault().contains("second name"), "{}", fault());
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "kept");
        std::fs::remove_file(&path).unwrap();
        // A pipe does not block.
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the name ends with a zero byte and outlives the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert!(fault().contains("pipe (FIFO)"), "{}", fault());
        std::fs::remove_file(&path).unwrap();
        // What stands in it is shown only when it names a living process.
        let held = File::create(&path).unwrap();
        held.lock().unwrap();
        for said in ["process 1\u{1b}[31m", "\u{1b}]0;title\u{7}", "process 4294967295", &"x".repeat(1 << 20)] {
            std::fs::write(&path, said).unwrap();
            assert!(fault().contains("in use by another run after"), "{}", fault());
        }
        drop(held);
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(fault().contains("sticky"), "{}", fault());
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        try_it().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_hot_busy_or_full_machine_is_not_fit() {
        let hot = tree(&[
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "52000\n"),
            ("proc/stat", "cpu  100 0 50 800 50 0 0 0 0 0\n"),
        ]);
        let go_on = AtomicBool::new(false);
        let calm = Waiting { cool_to_celsius: None, idle_percent: None, max_wait_s: 0.0, min_free_mib: 0 };
        let fit = |root: &Path, waiting: &Waiting| {
            until_fit(root, root, waiting, &go_on, &|_| {}).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(fit(hot.path(), &calm), "");
        assert_eq!(fit(hot.path(), &Waiting { cool_to_celsius: Some(52.0), ..calm.clone() }), "");
        let said = fit(hot.path(), &Waiting { cool_to_celsius: Some(45.0), ..calm.clone() });
        assert!(said.contains("still 52.0 °C after 0 s"), "{said}");
        let said = fit(tree(&[]).path(), &Waiting { cool_to_celsius: Some(45.0), ..calm.clone() });
        assert!(said.contains("cannot be read on this machine"), "{said}");
        // A clock that stands still tells nothing about load.
        let said = fit(hot.path(), &Waiting { idle_percent: Some(20.0), ..calm.clone() });
        assert!(said.contains("load cannot be read"), "{said}");
        assert_eq!(fit(Path::new("/"), &Waiting { idle_percent: Some(100.0), ..calm.clone() }), "");
        let said = fit(hot.path(), &Waiting { min_free_mib: u64::MAX, ..calm });
        assert!(said.contains("MiB of disk space are free"), "{said}");
        let before = telemetry::cpu::ticks(hot.path()).unwrap();
        assert_eq!(before, Ticks { busy: 150, idle: 850, stolen: 0 });
        let after = Ticks { busy: 175, idle: 920, stolen: 5 };
        assert_eq!((load_percent(before, after), load_percent(before, before)), (Some(30.0), None));
    }
}
