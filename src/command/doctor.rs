//! `jetbench doctor`: is this machine fit to measure? Every check says what it found and, where that will not do, what
//! to do about it. Nothing is changed: where a setting of the machine is at fault, the command is printed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetbench_runners::files;
use jetbench_runners::packs;
use jetbench_runners::pool;
use jetbench_runners::runtime;
use jetbench_runners::types::Device;
use jetbench_runners::webgpu;
use serde::Serialize;
use serde_json::json;

use crate::cli::DoctorArgs;
use crate::dataset::Dataset;
use crate::exit::{ENVIRONMENT, Error, OK, Outcome};
use crate::plan::plugins::Plugins;
use crate::plan::{self, shipped, unnamed};
use crate::report::screen::{Mark, stdout_colours, stdout_columns};
use crate::report::table::wrap_with;
use crate::results::record::DeviceRecord;
use crate::run::lock;
use crate::telemetry::allowance::Allowance;
use crate::telemetry::rivals::{self, Watch};
use crate::telemetry::{self, SystemMemory, device};
use crate::text::plural;

/// Result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// Fit.
    Ok,
    /// Usable; figures may suffer.
    Warn,
    /// Runs will fail.
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Result.
    pub status: CheckStatus,
    /// What was found.
    pub found: String,
    /// What to do; empty when all is well.
    pub remedy: String,
}

impl Check {
    fn ok(name: &str, found: impl Into<String>) -> Self {
        Check { name: name.into(), status: CheckStatus::Ok, found: found.into(), remedy: String::new() }
    }

    fn warn(name: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Check { name: name.into(), status: CheckStatus::Warn, found: found.into(), remedy: remedy.into() }
    }

    fn fail(name: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Check { name: name.into(), status: CheckStatus::Fail, found: found.into(), remedy: remedy.into() }
    }
}

/// Runs every check.
///
/// # Errors
/// A device that is no device.
pub fn doctor(args: &DoctorArgs) -> Result<Outcome, Error> {
    let root = Path::new("/");
    let (devices, unnamed) = match args.device.is_empty() {
        false => (args.device.clone(), None),
        true => match unnamed::here(args.ort_lib.as_deref()) {
            Ok((device, said)) => (vec![device], said.map(|said| Check::ok("device", said))),
            Err(stop) => (vec![Device::Cpu], Some(Check::fail("device", stop.to_string(), "see docs/jetson.md"))),
        },
    };
    // Which devices are the runtime's own is known when the plugins have been asked.
    let own: &[Device] = if args.ep_library.is_empty() { &devices } else { &[] };
    let mut probe = runtime::probe_for(args.ort_lib.as_deref(), own);
    let (mut plugins, mut of_plugins) = plugin_checks(&probe, &args.ep_library);
    let lacks = |device: &Device| {
        plugins.offering(*device).is_none()
            && probe
                .chosen
                .as_ref()
                .is_some_and(|library| runtime::lacking(*device, library, &probe.providers).is_some())
    };
    if !args.ep_library.is_empty() && devices.iter().any(lacks) {
        let rest: Vec<Device> = devices.iter().copied().filter(|device| plugins.offering(*device).is_none()).collect();
        probe = runtime::probe_for(args.ort_lib.as_deref(), &rest);
        (plugins, of_plugins) = plugin_checks(&probe, &args.ep_library);
    }
    let device = device::with_runtime(device::describe(root), probe.version.as_deref(), &probe.providers);
    let device = device::with_vulkan(device, &devices);
    let offered = devices.iter().filter_map(|&device| Some(format!("{device}: {}", plugins.offering(device)?)));
    let device = device::with_plugins(device, offered);
    let mut checks = vec![machine(&device)];
    checks.extend(unnamed);
    checks.extend(runtime_checks(probe, &devices, &plugins, of_plugins));
    checks.extend(pack_checks(&plan::settings::pack_path(&args.packs)));
    checks.push(match plan::settings::data(args.data.as_deref()) {
        Ok(path) => data(&path),
        Err(missing) => Check::fail("data", missing.to_string(), NAME_DATA),
    });
    checks.push(results(&plan::settings::default_out(args.out.clone())));
    checks.extend(conditions(root));
    let failed = checks.iter().any(|c| c.status == CheckStatus::Fail);
    let stdout = if args.json {
        let checks: Vec<_> = checks
            .iter()
            .map(|c| {
                let ok = c.status != CheckStatus::Fail;
                json!({"name": c.name, "ok": ok, "status": c.status, "detail": c.found, "remedy": c.remedy})
            })
            .collect();
        format!("{}\n", json!({"schema": 1, "ok": !failed, "device": device, "checks": checks}))
    } else {
        text(&checks, stdout_colours(), stdout_columns())
    };
    Ok(Outcome { stdout, code: if failed { ENVIRONMENT } else { OK } })
}

/// `columns`: lines are broken between words to fit.
fn text(checks: &[Check], colours: bool, columns: Option<usize>) -> String {
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = match check.status {
            CheckStatus::Ok => Mark::Ok,
            CheckStatus::Warn => Mark::Warn,
            CheckStatus::Fail => Mark::Fail,
        };
        let mark = mark.word(colours);
        let indent = format!("\n{:width$}", "", width = width + 8);
        let fit = |words: String| {
            let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(width + 8));
            words
                .split('\n')
                .map(|line| wrap_with(line, room, "  "))
                .collect::<Vec<_>>()
                .join("\n")
                .replace('\n', &indent)
        };
        text.push_str(&format!("{mark}  {:width$}  {}\n", check.name, fit(check.found.clone())));
        if !check.remedy.is_empty() {
            text.push_str(&format!("      {:width$}  {}\n", "", fit(format!("→ {}", check.remedy))));
        }
    }
    let (fails, warns) = (count(checks, CheckStatus::Fail), count(checks, CheckStatus::Warn));
    text.push_str(&match (fails, warns) {
        (0, 0) => "all checks passed\n".to_string(),
        (0, n) => format!("usable, with {}\n", plural(n, "warning", "warnings")),
        (n, _) => format!("not usable: {n} of {} checks failed\n", checks.len()),
    });
    text
}

fn count(checks: &[Check], status: CheckStatus) -> usize {
    checks.iter().filter(|c| c.status == status).count()
}

fn machine(record: &DeviceRecord) -> Check {
    let fact = |name: &str| record.facts.get(name).map(|v| format!(", {v}")).unwrap_or_default();
    let memory = record.facts.get("memory_mib").map(|m| format!(", {m} MiB")).unwrap_or_default();
    let cores = record.facts.get("cores").map(|n| format!(", {n} cores")).unwrap_or_default();
    let cpu = fact("cpu");
    let jetpack = record.facts.get("jetpack").map(|j| format!(", JetPack {j}")).unwrap_or_default();
    let facts = [fact("module"), fact("gpu"), jetpack, fact("power_mode")].concat();
    Check::ok("machine", format!("{}{cpu}{cores}{memory}{facts}, digest {}", record.name, record.digest))
}

/// Packs found, and every graph file of every precision compared with its manifest.
fn pack_checks(path: &[PathBuf]) -> Vec<Check> {
    let places = path.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    let found = packs::list(path, Device::Cpu);
    if found.is_empty() {
        let places = if places.is_empty() { shipped::missing("assets/packs") } else { format!("none in {places}") };
        return vec![Check::fail("packs", places, "say where your packs are with --packs DIR or JETBENCH_PACKS")];
    }
    let others = |id: &str| -> Vec<PathBuf> {
        found.iter().filter(|(_, i)| i.as_ref().is_ok_and(|i| i.id == id)).map(|(dir, _)| dir.clone()).collect()
    };
    found
        .iter()
        .map(|(dir, info)| match info {
            Ok(info) => {
                let twins = others(&info.id);
                let twins: Vec<&Path> = twins.iter().map(PathBuf::as_path).collect();
                let ambiguous = packs::ambiguous(&info.id, &twins);
                let name = format!("pack {}", info.id);
                let dtypes: Vec<_> = info.capabilities.dtypes.iter().map(|p| p.as_str()).collect();
                let fault =
                    ambiguous.or_else(|| info.capabilities.dtypes.iter().find_map(|&p| packs::check(dir, p).err()));
                match fault {
                    None => Check::ok(
                        &name,
                        format!("{}: {}, files agree with the manifest", dir.display(), dtypes.join(", ")),
                    ),
                    Some(fault) => Check::fail(
                        &name,
                        fault.to_string(),
                        "keep one pack of each id; restore or export a damaged one",
                    ),
                }
            }
            Err(fault) => Check::fail(
                &format!("pack {}", dir.file_name().unwrap_or_default().to_string_lossy()),
                fault.to_string(),
                "repair the pack, or take it off the pack path",
            ),
        })
        .collect()
}

const NAME_DATA: &str = "name the dataset's folder with --data DIR";

fn data(path: &Path) -> Check {
    match Dataset::open(path) {
        Ok(data) => Check::ok(
            "data",
            format!(
                "{}: {} layout, {}, {}, {}",
                path.display(),
                data.layout,
                plural(data.sequences.len(), "video", "videos"),
                plural(data.object_count(), "object", "objects"),
                plural(data.frame_count(), "frame", "frames")
            ),
        ),
        Err(e) => Check::fail("data", e.to_string(), NAME_DATA),
    }
}

/// Can a file be made in the results directory, or in the nearest directory above it that exists?
fn results(out: &Path) -> Check {
    let absolute = std::path::absolute(out).unwrap_or_else(|_| out.to_path_buf());
    let Some(place) = absolute.ancestors().find(|p| p.exists()) else {
        return Check::fail(
            "results",
            format!("{}: no such directory", out.display()),
            "choose another with --out DIR",
        );
    };
    match tempfile::tempfile_in(place) {
        Ok(_) => {
            let free = lock::free_mib(place);
            let found =
                format!("{} is writable{}", out.display(), free.map_or(String::new(), |m| format!(", {m} MiB free")));
            match free {
                Some(mib) if mib < 500 => {
                    Check::warn("results", found, "free some disk space: masks are kept there while a run goes on")
                }
                _ => Check::ok("results", found),
            }
        }
        Err(e) => Check::fail(
            "results",
            format!("{}: {e}", out.display()),
            "make the directory writable, or choose another with --out DIR",
        ),
    }
}

/// How long other programs are watched to see which are busy.
const LOOK: Duration = Duration::from_millis(500);

/// What makes figures worse or unsteady without making a run impossible.
fn conditions(root: &Path) -> Vec<Check> {
    let memory = telemetry::system_memory(root);
    let may = Allowance::read(root);
    let mut checks = vec![governor(root), huge_pages(root)];
    checks.extend(swap(&memory));
    checks.push(allowance(&may));
    checks.extend(free_memory(&memory, &may));
    checks.extend(other_load(root));
    checks.extend(telemetry::power_mode(root).map(|mode| {
        Check::ok("power mode", format!("{mode}; sudo nvpmodel -q shows all, sudo nvpmodel -m ID sets one"))
    }));
    checks.extend(sensors(root));
    checks
}

/// The trimmed text of a small file below the root; `None`: it cannot be read.
fn setting(root: &Path, path: &str) -> Option<String> {
    files::read_text(&root.join(path), files::SMALL).ok().map(|t| t.trim().to_string())
}

fn governor(root: &Path) -> Check {
    match setting(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").as_deref() {
        Some("performance") => Check::ok("cpu governor", "performance"),
        Some(governor) => Check::warn(
            "cpu governor",
            format!("{governor}: clocks follow the load, latencies vary"),
            "for comparable figures: sudo cpupower frequency-set -g performance (Jetson: sudo jetson_clocks)",
        ),
        None => Check::ok("cpu governor", "not visible on this machine"),
    }
}

fn huge_pages(root: &Path) -> Check {
    match setting(root, pool::SETTING).as_deref().and_then(pool::kernel) {
        Some("never") => Check::warn(
            "huge pages",
            "never: graphs on the CPU use small pages and take longer",
            format!("until the next restart: {}", pool::REMEDY),
        ),
        Some(setting) => Check::ok("huge pages", setting),
        None => Check::ok("huge pages", "the kernel does not offer them"),
    }
}

fn swap(memory: &SystemMemory) -> Option<Check> {
    let (total, free) = (memory.swap_total_mib? as u64, memory.swap_free_mib? as u64);
    Some(match (total, total.saturating_sub(free)) {
        (0, _) => Check::ok("swap", "none"),
        (_, 0) => Check::ok("swap", format!("{total} MiB, unused")),
        (_, used) => Check::warn(
            "swap",
            format!("{used} of {total} MiB in use: memory is or was short"),
            "close other programs; a worker that is swapped out makes its cell invalid",
        ),
    })
}

fn allowance(may: &Allowance) -> Check {
    let whole = may.words().unwrap_or_else(|| "the whole machine".to_string());
    match (may.quota_cores, may.nice) {
        (None, None | Some(..=0)) => Check::ok("allowance", whole),
        _ => Check::warn(
            "allowance",
            whole,
            "measure without a processor quota and without `nice`: periods in which a quota stops the worker make its cell invalid",
        ),
    }
}

fn free_memory(memory: &SystemMemory, may: &Allowance) -> Option<Check> {
    let available = memory.available_mib?;
    let allowed = may.memory_mib.filter(|mib| *mib < available);
    let limited = allowed.map(|mib| format!(", {mib:.0} MiB allowed by a cgroup")).unwrap_or_default();
    let found = format!("{available:.0} MiB available{limited}");
    Some(if allowed.unwrap_or(available) < 1024.0 {
        Check::warn("memory", found, "close other programs")
    } else {
        Check::ok("memory", found)
    })
}

fn other_load(root: &Path) -> Option<Check> {
    let load = setting(root, "proc/loadavg")?.split_whitespace().next()?.parse::<f64>().ok()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let busy = load > 0.5 * cores as f64;
    // Who it is can only be seen on the machine itself.
    let who = (busy && root == Path::new("/")).then(|| {
        let watch = Watch::start();
        std::thread::sleep(LOOK);
        rivals::names(&watch.busiest(&[std::process::id()]))
    });
    let who = who.flatten().map_or(String::new(), |names| format!("; busiest now, in cores: {names}"));
    let found = format!("load average {load:.2} on {cores} cores{who}");
    Some(if busy {
        Check::warn(
            "other load",
            found,
            "close other programs: they take time and memory bandwidth from the measurement",
        )
    } else {
        Check::ok("other load", found)
    })
}

/// What can be read here, and a plain list of what cannot, with the reason for each.
pub fn sensors(root: &Path) -> Vec<Check> {
    let found = telemetry::find(root, None);
    let channels = found.channels();
    let sources: BTreeSet<&str> = channels.iter().map(|c| c.source()).collect();
    let names = |source: &str| {
        let names: Vec<String> = channels.iter().filter(|c| c.source() == source).map(ToString::to_string).collect();
        format!("{source}: {}", names.join(", "))
    };
    let read: Vec<String> = sources.into_iter().map(names).collect();
    let mut checks = vec![match read.is_empty() {
        true => Check::warn("sensors read", "none", "memory, clocks, heat and power will not be recorded"),
        false => Check::ok("sensors read", read.join("\n")),
    }];
    if !found.missing.is_empty() {
        let list: Vec<String> = found.missing.iter().map(|m| format!("{}: {}", m.sensor, m.reason)).collect();
        let list = list.join("\n");
        checks.push(match list.contains("root") {
            true => Check::warn("sensors not read", list, "run jetbench with sudo to read those that need root"),
            false => Check::ok("sensors not read", list),
        });
    }
    checks
}

/// Every plugin library that was named: what it offers here, or why it cannot be used.
fn plugin_checks(probe: &runtime::RuntimeProbe, libraries: &[PathBuf]) -> (Plugins, Vec<Check>) {
    let mut plugins = Plugins::default();
    let Some(runtime) = &probe.chosen else { return (plugins, Vec::new()) };
    let checks = libraries.iter().map(|library| {
        match plugins.add(runtime, probe.version.as_deref().unwrap_or_default(), library) {
            Ok(()) => {
                let (_, facts) = &plugins.libraries[plugins.libraries.len() - 1];
                let devices = facts.devices.iter().map(|found| {
                    let name = found.device.map_or("(no name of a device)".to_string(), |device| device.to_string());
                    let version = found.version.as_ref().map_or(String::new(), |version| format!(" {version}"));
                    format!("\n{name}: {}{version}, {}", found.provider, found.hardware)
                });
                Check::ok("plugin library", format!("{}{}", library.display(), devices.collect::<String>()))
            }
            Err(fault) => {
                Check::fail("plugin library", fault.to_string(), "name another with --ep-library FILE, or leave it out")
            }
        }
    });
    let checks = checks.collect();
    (plugins, checks)
}

/// ONNX Runtime: places tried, the library chosen, and whether the devices asked for are in it or in a plugin library.
fn runtime_checks(
    probe: runtime::RuntimeProbe,
    devices: &[Device],
    plugins: &Plugins,
    plugin_checks: Vec<Check>,
) -> Vec<Check> {
    let Some(library) = probe.chosen else {
        return vec![Check::fail(
            "onnxruntime",
            probe.problem.unwrap_or_else(|| "not found".into()),
            format!("get a build for the CPU: {}\nor name a library with --ort-lib FILE", shipped::fetch_command()),
        )];
    };
    let version = probe.version.unwrap_or_default();
    let places = probe.looked_at.iter().map(|(place, outcome)| format!("\n{place}: {outcome}")).collect::<String>();
    let found = format!("{version}, {}\nproviders: {}{places}", library.display(), probe.providers.join(", "));
    let mut checks = vec![Check::ok("onnxruntime", found)];
    checks.extend(plugin_checks);
    for &device in devices {
        let name = format!("device {device}");
        if let Some(offered) = plugins.offering(device) {
            checks.push(Check::ok(&name, format!("{offered}; a run shows whether it works")));
            continue;
        }
        checks.push(match runtime::missing_provider(device, &probe.providers) {
            None if device == Device::Cpu => Check::ok(&name, "always available"),
            None => match gpu(device) {
                Ok(found) => Check::ok(&name, found),
                Err(missing) => Check::fail(&name, missing, "install the driver, or use --device cpu"),
            },
            Some(missing) => {
                let fault = format!("this build of ONNX Runtime has no {missing}");
                Check::fail(&name, plugins.lacking(device, fault), runtime::where_from(device))
            }
        });
    }
    checks
}

/// Is there an NVIDIA GPU that a driver serves? Only a run shows that a provider really works.
fn gpu(device: Device) -> Result<String, String> {
    let index = match device {
        Device::Cuda(index) | Device::TensorRt(index) => index,
        Device::WebGpu(_) => return vulkan(),
        Device::Cpu | Device::Plugin(..) => 0,
    };
    let nodes = [format!("/dev/nvidia{index}"), "/dev/nvhost-gpu".to_string(), "/dev/nvgpu/igpu0".to_string()];
    match nodes.iter().find(|n| Path::new(n).exists()) {
        Some(node) => Ok(format!("provider compiled in, {node} present; a run shows whether it works")),
        None => Err(format!("no NVIDIA GPU is visible: none of {} exists", nodes.join(", "))),
    }
}

/// The GPUs that Vulkan's drivers offer. ONNX Runtime does not say which of several it takes.
fn vulkan() -> Result<String, String> {
    let devices = webgpu::vulkan_devices()?;
    let list: Vec<String> = devices.iter().map(ToString::to_string).collect();
    match list.len() {
        0 => Err("no Vulkan driver offers a device".to_string()),
        1 => Ok(format!("provider compiled in; {}", list[0])),
        _ => Ok(format!("provider compiled in; one of these (option webgpu_power):\n{}", list.join("\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_that_is_not_ok_has_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in [
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n"),
            ("proc/meminfo", "MemAvailable: 100000 kB\nSwapTotal: 2097152 kB\nSwapFree: 1048576 kB\n"),
            ("proc/loadavg", "99.0 1 1 1/1 1\n"),
        ] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let mut checks = conditions(dir.path());
        assert_eq!(count(&checks, CheckStatus::Warn), 4, "{checks:?}");
        checks.extend(pack_checks(&[]));
        checks.push(data(&dir.path().join("nothing")));
        checks.push(results(Path::new("/proc/nothing")));
        assert_eq!(count(&checks, CheckStatus::Fail), 3, "{checks:?}");
        assert!(checks.iter().all(|c| (c.status == CheckStatus::Ok) == c.remedy.is_empty()), "{checks:?}");
    }

    #[test]
    fn a_narrow_terminal_breaks_no_word() {
        let found = "load average 12.21 on 2 cores; busiest now, in cores: rustc 0.5\n/a/path/that/is/longer/than/the/whole/line/is";
        let shown = text(&[Check::warn("other load", found, "close other programs: they take time")], false, Some(50));
        insta::assert_snapshot!(shown, @r"
        warn  other load  load average 12.21 on 2 cores;
                            busiest now, in cores: rustc
                            0.5
                          /a/path/that/is/longer/than/the/whole/line/is
                          → close other programs: they
                            take time
        usable, with 1 warning
        ");
    }

    #[test]
    fn the_text_lines_up() {
        let checks = [Check::ok("machine", "a box"), Check::fail("swap", "full\nof it", "empty it")];
        let coloured = text(&checks, true, None);
        assert!(
            coloured.contains("\u{1b}[32mok\u{1b}[0m    machine") && coloured.contains("\u{1b}[31mFAIL\u{1b}[0m  swap")
        );
        insta::assert_snapshot!(text(&checks, false, None), @r"
        ok    machine  a box
        FAIL  swap     full
                       of it
                       → empty it
        not usable: 1 of 2 checks failed
        ");
    }
}
