//! How much of this machine may be used? Processors by affinity and cpuset, the processor quota and the memory limit of every cgroup above
//! (v1, v2, nested), niceness, and whether it is a container or a virtual machine. A share of a machine is another device than
//! the whole: these are facts of the device record, and part of its digest where they restrict.

use std::path::{Path, PathBuf};

use super::key::Channel;
use super::sensor::{Found, Reading, Sensor, text};

/// What restricts this process; `None` where nothing does, or nobody tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allowance {
    /// Processors that it may run on, as the kernel lists them: `0-1,4`.
    pub processors: Option<String>,
    /// Processor time per time, cores: the smallest quota of its cgroups.
    pub quota_cores: Option<f64>,
    /// Memory, MiB: the smallest limit of its cgroups.
    pub memory_mib: Option<f64>,
    /// Niceness: above 0 others go first.
    pub nice: Option<i32>,
    /// Container: `docker`, `podman`, `kubernetes`, `lxc`, …
    pub container: Option<String>,
    /// Virtual machine, by the name that its firmware or hypervisor gives.
    pub virtual_machine: Option<String>,
}

impl Allowance {
    /// Of this process, below `root`.
    pub fn read(root: &Path) -> Allowance {
        let read = |path: &str| text(&root.join(path)).ok();
        let groups = Groups::of(root, "self");
        Allowance {
            processors: read("proc/self/status").as_deref().and_then(processors),
            quota_cores: smallest(groups.cpu.iter().filter_map(|dir| quota(dir))),
            memory_mib: smallest(groups.memory.iter().filter_map(|dir| memory_limit(dir))),
            nice: read("proc/self/stat").as_deref().and_then(nice).filter(|nice| *nice != 0),
            container: container(root),
            virtual_machine: virtual_machine(root),
        }
    }

    /// A budget of memory in bytes, no larger than what the cgroups allow.
    pub fn within_limit(&self, budget: u64) -> u64 {
        self.memory_mib.map_or(budget, |mib| budget.min((mib * 1_048_576.0) as u64))
    }

    /// What restricts, in words: `processors 0-1, 0.20 cores by quota, nice 10`; `None`: nothing does.
    pub fn words(&self) -> Option<String> {
        let parts: Vec<String> = [
            self.processors.as_ref().map(|list| format!("processors {list}")),
            self.quota_cores.map(|cores| format!("{cores:.2} cores by quota")),
            self.memory_mib.map(|mib| format!("{mib:.0} MiB of memory")),
            self.nice.map(|nice| format!("nice {nice}")),
            self.container.as_ref().map(|name| format!("container {name}")),
            self.virtual_machine.as_ref().map(|name| format!("virtual machine {name}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Number of processors in the list.
    pub fn processor_count(&self) -> Option<usize> {
        count(self.processors.as_deref()?)
    }
}

fn smallest(limits: impl Iterator<Item = f64>) -> Option<f64> {
    limits.min_by(f64::total_cmp)
}

/// Directories of the cgroups that a process is in, its own first, then each one above it.
struct Groups {
    cpu: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

impl Groups {
    fn of(root: &Path, process: &str) -> Groups {
        let listed = text(&root.join("proc").join(process).join("cgroup")).unwrap_or_default();
        let mount = root.join("sys/fs/cgroup");
        let of = |controller: &str| {
            let mut dirs = Vec::new();
            for line in listed.lines() {
                let mut fields = line.splitn(3, ':');
                let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                    continue;
                };
                if controllers.split(',').any(|name| name == controller) {
                    // v1: a hierarchy for each set of controllers, under the name of the set, or of each.
                    let base = [controllers, controller].iter().map(|name| mount.join(name)).find(|dir| dir.is_dir());
                    dirs.extend(base.into_iter().flat_map(|base| upwards(&base, path)));
                } else if controllers.is_empty() {
                    // v2, alone or beside v1.
                    let unified = mount.join("unified");
                    let base = if unified.is_dir() { unified } else { mount.clone() };
                    dirs.extend(upwards(&base, path));
                }
            }
            dirs
        };
        Groups { cpu: of("cpu"), memory: of("memory") }
    }
}

/// A cgroup and those above it. In a container the kernel may list a path that is seen from outside only; then the mount itself is the
/// cgroup.
fn upwards(base: &Path, path: &str) -> Vec<PathBuf> {
    let inner = path.trim_start_matches('/');
    let plain = !inner.split('/').any(|part| part == "..");
    let own = if plain { base.join(inner) } else { base.to_path_buf() };
    let own = if own.is_dir() { own } else { base.to_path_buf() };
    own.ancestors().take_while(|dir| dir.starts_with(base)).map(Path::to_path_buf).collect()
}

/// Quota in cores: `cpu.max` (v2: `20000 100000`, `max 100000`), `cpu.cfs_quota_us` over `cpu.cfs_period_us` (v1: -1 is none).
fn quota(dir: &Path) -> Option<f64> {
    let read = |name: &str| text(&dir.join(name)).ok();
    let (quota, period) = match read("cpu.max") {
        Some(max) => {
            let (quota, period) = max.split_once(' ')?;
            (quota.to_string(), period.to_string())
        }
        None => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
    };
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Limit in MiB: `memory.max` and `memory.high` (v2: `max` is none), `memory.limit_in_bytes` (v1: none is a number near 2^63).
fn memory_limit(dir: &Path) -> Option<f64> {
    const NONE: f64 = (1u64 << 60) as f64;
    let limits = ["memory.max", "memory.high", "memory.limit_in_bytes"];
    let bytes = limits.iter().filter_map(|name| text(&dir.join(name)).ok()?.parse::<f64>().ok());
    smallest(bytes.filter(|bytes| *bytes < NONE)).map(|bytes| bytes / 1_048_576.0)
}

/// `Cpus_allowed_list` of `status`: affinity and cpuset together.
fn processors(status: &str) -> Option<String> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
    count(list).map(|_| list.to_string())
}

/// Processors in a list like `0-3,8`.
fn count(list: &str) -> Option<usize> {
    list.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            last.checked_sub(first)?.checked_add(1)
        })
        .sum()
}

/// Niceness from the text of `stat`: the 19th field; the name before it may hold anything.
fn nice(stat: &str) -> Option<i32> {
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(16)?.parse().ok()
}

fn container(root: &Path) -> Option<String> {
    let there = |path: &str| root.join(path).exists();
    if there(".dockerenv") {
        return Some("docker".to_string());
    }
    if there("run/.containerenv") {
        return Some("podman".to_string());
    }
    let known = [
        ("kubepods", "kubernetes"),
        ("docker", "docker"),
        ("libpod", "podman"),
        ("lxc", "lxc"),
        ("containerd", "containerd"),
    ];
    let groups = text(&root.join("proc/self/cgroup")).unwrap_or_default();
    let named = known.iter().find(|(word, _)| groups.contains(word)).map(|(_, name)| name.to_string());
    // systemd leaves the name that the first process was given.
    named.or_else(|| text(&root.join("run/systemd/container")).ok().filter(|name| !name.is_empty()))
}

fn virtual_machine(root: &Path) -> Option<String> {
    let read = |path: &str| text(&root.join(path)).ok().filter(|text| !text.is_empty());
    if let Some(kind) = read("sys/hypervisor/type") {
        return Some(kind);
    }
    let makers =
        ["QEMU", "VMware", "Xen", "innotek", "Microsoft Corporation", "Amazon EC2", "Google", "Parallels", "KVM"];
    let vendor = read("sys/class/dmi/id/sys_vendor");
    let product = read("sys/class/dmi/id/product_name").unwrap_or_default();
    let maker = vendor.filter(|vendor| {
        let metal =
            product.contains("metal") || (vendor == "Microsoft Corporation" && !product.contains("Virtual Machine"));
        makers.iter().any(|maker| vendor.contains(maker)) && !metal
    });
    let flagged = || {
        let cpuinfo = read("proc/cpuinfo")?;
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
        flags.split_whitespace().any(|flag| flag == "hypervisor").then(|| "hypervisor".to_string())
    };
    maker.or_else(flagged)
}

/// Periods in which the quota of any cgroup above `pid` stopped it, and for how long, since the cgroups were made.
struct Throttling(Vec<PathBuf>);

impl Sensor for Throttling {
    fn channels(&self) -> Vec<Channel> {
        vec![Channel::QuotaPeriods, Channel::QuotaTime]
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        let mut sums: Result<(f64, f64), String> = Ok((0.0, 0.0));
        for path in &self.0 {
            sums = sums.and_then(|sum| {
                let (periods, seconds) =
                    throttled(&text(path)?).ok_or_else(|| format!("{} has no nr_throttled", path.display()))?;
                Ok((sum.0 + periods, sum.1 + seconds))
            });
        }
        out.push(sums.clone().map(|sum| sum.0));
        out.push(sums.map(|sum| sum.1));
    }
}

/// Throttled periods and seconds of a `cpu.stat`: microseconds in v2, nanoseconds in v1.
fn throttled(stat: &str) -> Option<(f64, f64)> {
    let field = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse::<f64>().ok()
    };
    let seconds = field("throttled_usec").map(|us| us / 1e6).or_else(|| field("throttled_time").map(|ns| ns / 1e9))?;
    Some((field("nr_throttled")?, seconds))
}

/// Counters of the cgroups of process `pid`.
pub(super) fn find(root: &Path, pid: u32, found: &mut Found) {
    let stats = Groups::of(root, &pid.to_string()).cpu.into_iter().map(|dir| dir.join("cpu.stat"));
    let counting: Vec<PathBuf> = stats.filter(|path| text(path).is_ok_and(|stat| throttled(&stat).is_some())).collect();
    match counting.is_empty() {
        true => found.miss("processor quota", "no cgroup of the worker counts throttled periods"),
        false => found.add(Throttling(counting)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::tree;

    const STATUS: &str = "Name:\tjetbench\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1,4\n";
    const STAT: &str = "7 (a) b) R 1 7 7 0 -1 4194560 1 2 3 4 150 50 5 6 30 10 3 0 100 1 2";

    #[test]
    fn nested_groups_of_version_2_give_the_smallest_limit() {
        let tree = tree(&[
            ("proc/self/cgroup", "0::/user.slice/job.scope\n"),
            ("proc/self/status", STATUS),
            ("proc/self/stat", STAT),
            ("sys/fs/cgroup/user.slice/cpu.max", "20000 100000\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/job.scope/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/user.slice/job.scope/memory.max", "536870912\n"),
            ("sys/fs/cgroup/user.slice/job.scope/memory.high", "268435456\n"),
        ]);
        let found = Allowance::read(tree.path());
        assert_eq!((found.quota_cores, found.memory_mib, found.nice), (Some(0.2), Some(256.0), Some(10)));
        assert_eq!((found.processors.as_deref(), found.processor_count()), (Some("0-1,4"), Some(3)));
        assert_eq!(found.words().unwrap(), "processors 0-1,4, 0.20 cores by quota, 256 MiB of memory, nice 10");
        assert_eq!((found.within_limit(1 << 30), found.within_limit(1 << 20)), (256 << 20, 1 << 20));
        assert_eq!((found.container, found.virtual_machine), (None, None));
    }

    #[test]
    fn groups_of_version_1_are_found_under_either_name() {
        let tree = tree(&[
            ("proc/self/cgroup", "4:memory:/a/b\n3:cpu,cpuacct:/a\n0::/\n"),
            ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "150000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n"),
            ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/unified/cgroup.procs", "1\n"),
        ]);
        let found = Allowance::read(tree.path());
        assert_eq!((found.quota_cores, found.memory_mib), (Some(1.5), Some(1024.0)));
    }

    #[test]
    fn a_container_that_does_not_see_its_own_path_reads_the_mount() {
        let tree = tree(&[
            (".dockerenv", ""),
            ("proc/self/cgroup", "0::/docker/0a1b\n"),
            ("sys/fs/cgroup/cpu.max", "50000 100000\n"),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
        ]);
        let found = Allowance::read(tree.path());
        assert_eq!((found.quota_cores, found.container.as_deref()), (Some(0.5), Some("docker")));
        assert_eq!(found.virtual_machine.as_deref(), Some("QEMU"));
        let outside = tree_with_path("0::/../../x\n");
        assert_eq!(Allowance::read(outside.path()).quota_cores, Some(0.5), "a path never leaves the mount");
    }

    fn tree_with_path(cgroup: &str) -> tempfile::TempDir {
        tree(&[("proc/self/cgroup", cgroup), ("sys/fs/cgroup/cpu.max", "50000 100000\n")])
    }

    #[test]
    fn nothing_restricts_where_nothing_is_said() {
        assert_eq!(Allowance::read(tree(&[]).path()), Allowance::default());
        let odd = tree(&[
            ("proc/self/cgroup", "garbage\n0::\n"),
            ("proc/self/status", "Cpus_allowed_list:\t3-1\n"),
            ("proc/self/stat", "7 (x"),
            ("sys/fs/cgroup/cpu.max", "x y\n"),
            ("sys/fs/cgroup/memory.max", "much\n"),
        ]);
        assert_eq!(Allowance::read(odd.path()), Allowance::default());
    }

    #[test]
    fn throttled_periods_of_all_groups_are_added() {
        let tree = tree(&[
            ("proc/7/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 250000\n"),
            ("sys/fs/cgroup/a/b/cpu.stat", "nr_periods 9\nnr_throttled 1\nthrottled_usec 50000\n"),
        ]);
        let mut found = Found::default();
        find(tree.path(), 7, &mut found);
        let mut out = Vec::new();
        found.sensors[0].read(&mut out);
        assert_eq!(out, [Ok(4.0), Ok(0.3)]);
        assert_eq!(throttled("nr_throttled 2\nthrottled_time 1500000000\n"), Some((2.0, 1.5)));
        let mut none = Found::default();
        find(tree.path(), 8, &mut none);
        assert_eq!(none.missing[0].sensor, "processor quota");
    }
}
