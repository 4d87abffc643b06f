//! Which machine is this, as far as it matters for comparing measurements? A name for the results directory, facts for
//! the record, and a digest of those facts that decide latencies. Serial numbers and host names never leave the
//! machine: only a hash tells two boards of one kind apart. Every fact is read below a given root, those that sysinfo knows
//! too: it reads `/` only, and calls processors and systems by other names, which would give every device of earlier
//! records another digest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jetbench_runners::files;
use jetbench_runners::pool;
use jetbench_runners::types::Device;
use jetbench_runners::webgpu;
use sha2::{Digest, Sha256};

use super::allowance::Allowance;
use super::sensor::{field_mib, text};
use super::{cpu, gpu, mode};
use crate::results::record::DeviceRecord;

/// Facts that make latencies comparable; the others describe.
const DECISIVE: [&str; 12] = [
    "model",
    "module",
    "cpu",
    "cores",
    "memory_mib",
    "arch",
    "gpu",
    "l4t",
    "power_mode",
    "cpu_governor",
    "clocks_pinned",
    "huge_pages",
];

/// Facts that are there only where this process may not use the whole machine, or the machine is not a real one. They are decisive then; a
/// machine without them keeps the digest that it always had.
const RESTRICTING: [&str; 6] =
    ["cpus_allowed", "cpu_quota_cores", "memory_limit_mib", "nice", "container", "virtual_machine"];

/// Describes the machine whose file tree is `root`.
pub fn describe(root: &Path) -> DeviceRecord {
    let mut facts = BTreeMap::new();
    let mut note = |name: &str, value: Option<String>| {
        if let Some(value) = value.map(|v| v.trim().to_string()).filter(|v| !v.is_empty()) {
            facts.insert(name.to_string(), value);
        }
    };
    let text = |path: &str| text(&root.join(path)).ok();
    let tree = |name: &str| {
        text(&format!("proc/device-tree/{name}")).or_else(|| text(&format!("sys/firmware/devicetree/base/{name}")))
    };
    let cpuinfo = text("proc/cpuinfo").unwrap_or_default();
    let field = |key: &str| {
        let line = cpuinfo.lines().find(|l| l.split(':').next().is_some_and(|k| k.trim() == key))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let compatible = tree("compatible").unwrap_or_default();
    note("model", tree("model"));
    note("soc", compatible.split('\0').next_back().map(String::from));
    note("module", module(&format!("{} {compatible}", tree("nvidia,boardids").unwrap_or_default())));
    note("cpu", field("model name").or_else(|| arm_core(&cpuinfo)));
    let cores = cpuinfo.lines().filter(|l| l.split(':').next().is_some_and(|k| k.trim() == "processor")).count();
    note("cores", (cores > 0).then(|| cores.to_string()));
    note("physical_cores", physical_cores(&cpuinfo).map(|n| n.to_string()));
    note("cpu_flags", field("flags").or_else(|| field("Features")).map(|f| matrix_flags(&f)));
    let memory = text("proc/meminfo").unwrap_or_default();
    let may = Allowance::read(root);
    note("cpus_allowed", may.processors.clone().filter(|_| may.processor_count().is_some_and(|n| n < cores)));
    note("cpu_quota_cores", may.quota_cores.map(|n| format!("{n:.2}")));
    let total = field_mib(&memory, "MemTotal").unwrap_or(f64::INFINITY);
    note("memory_limit_mib", may.memory_mib.filter(|mib| *mib < total).map(|mib| format!("{mib:.0}")));
    note("nice", may.nice.map(|n| n.to_string()));
    note("container", may.container.clone());
    note("virtual_machine", may.virtual_machine.clone());
    note("memory_mib", field_mib(&memory, "MemTotal").map(|mib| (mib as u64).to_string()));
    note("kernel", text("proc/sys/kernel/osrelease"));
    note(
        "os",
        text("etc/os-release")
            .and_then(|t| t.lines().find_map(|l| Some(l.strip_prefix("PRETTY_NAME=")?.trim_matches('"').to_string()))),
    );
    note("arch", Some(std::env::consts::ARCH.to_string()));
    note("cpu_governor", text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    note("huge_pages", text(pool::SETTING).as_deref().and_then(pool::kernel).map(String::from));
    note("clocks_pinned", pinned(root).map(String::from));
    let packages = Packages::read(root);
    let l4t = text("etc/nv_tegra_release").as_deref().and_then(l4t_release);
    // Containers rarely have the release file; the package list is often there.
    let l4t = l4t.or_else(|| packages.version("nvidia-l4t-core").and_then(|v| Some(v.split('-').next()?.to_string())));
    note("jetpack", l4t.as_deref().and_then(jetpack).map(String::from));
    note("l4t", l4t);
    note("power_mode", mode::power_mode(root));
    note("gpu", nvidia_gpu(root));
    note("nvidia_driver", text("sys/module/nvidia/version"));
    note("cuda", cuda(root).or_else(|| packages.version_of("cuda-cudart-")));
    note("tensorrt", packages.version_of("libnvinfer").or_else(|| library_version(root, "libnvinfer.so.")));
    note("cudnn", packages.version_of("libcudnn").or_else(|| library_version(root, "libcudnn.so.")));
    let identity = tree("serial-number").or_else(|| text("etc/machine-id"));
    note("machine_sha256", identity.filter(|i| !i.is_empty()).map(|i| hex(i.as_bytes(), 12)));

    let name = name(&facts);
    let always = DECISIVE.iter().map(|key| format!("{key}={}\n", facts.get(*key).map_or("", String::as_str)));
    let restricting = RESTRICTING.iter().filter_map(|key| Some(format!("{key}={}\n", facts.get(*key)?)));
    let decisive: String = always.chain(restricting).collect();
    DeviceRecord { name, digest: hex(decisive.as_bytes(), 12), facts }
}

/// The board's model; of a machine without one its processor, and its GPUs with memory of their own: their figures are not
/// the processor's.
fn name(facts: &BTreeMap<String, String>) -> String {
    let fact = |key: &str| facts.get(key).map(|name| slug(name));
    // Several cards of one kind are named once: eight of them would make a name that no directory can have.
    let cards: BTreeSet<&str> = facts.get("gpu").into_iter().flat_map(|names| names.split(", ")).collect();
    let parts = fact("cpu").into_iter().chain(cards.into_iter().map(slug));
    let named = fact("model").unwrap_or_else(|| parts.collect::<Vec<_>>().join("-"));
    if named.is_empty() { "unknown".to_string() } else { named }
}

/// Notes which ONNX Runtime is used, and which providers are compiled into it. They are no part of the digest: the record
/// of every cell names its own.
pub fn with_runtime(mut record: DeviceRecord, version: Option<&str>, providers: &[String]) -> DeviceRecord {
    if let Some(version) = version {
        record.facts.insert("onnxruntime".into(), version.to_string());
        record.facts.insert("onnxruntime_providers".into(), providers.join(", "));
    }
    record
}

/// Notes what Vulkan's drivers offer, for devices that are reached through Vulkan. ONNX Runtime does not say which of several it
/// takes. It is no part of the digest, which is of the machine.
pub fn with_vulkan(mut record: DeviceRecord, devices: &[Device]) -> DeviceRecord {
    if devices.iter().any(|device| matches!(device, Device::WebGpu(_)))
        && let Ok(found) = webgpu::vulkan_devices()
    {
        let list: Vec<String> = found.iter().map(ToString::to_string).collect();
        record.facts.insert("vulkan".into(), list.join("; "));
    }
    record
}

/// Notes which devices plugin libraries offer, in words, each once. They are no part of the digest: the record of every cell names its library.
pub fn with_plugins(mut record: DeviceRecord, offered: impl Iterator<Item = String>) -> DeviceRecord {
    let list: BTreeSet<String> = offered.collect();
    if !list.is_empty() {
        record.facts.insert("plugins".into(), list.into_iter().collect::<Vec<_>>().join("; "));
    }
    record
}

/// Jetson modules by the part number that the device tree or the board's own list holds. Names and numbers are those of NVIDIA's module data
/// sheets; that of Thor is in its device tree's `compatible` (`nvidia,p3971-0089+p3834-0008`; also in jetson_stats, whose table calls it
/// the developer kit's).
fn module(text: &str) -> Option<String> {
    const MODULES: [(&str, &str); 10] = [
        ("3834-0008", "Jetson AGX Thor developer kit"),
        ("3701-0008", "Jetson AGX Orin Industrial 64 GB"),
        ("3701-0005", "Jetson AGX Orin 64 GB"),
        ("3701-0004", "Jetson AGX Orin 32 GB"),
        ("3701-0000", "Jetson AGX Orin developer kit 32 GB"),
        ("3767-0000", "Jetson Orin NX 16 GB"),
        ("3767-0001", "Jetson Orin NX 8 GB"),
        ("3767-0003", "Jetson Orin Nano 8 GB"),
        ("3767-0004", "Jetson Orin Nano 4 GB"),
        ("3767-0005", "Jetson Orin Nano 8 GB developer kit"),
    ];
    let (part, name) = MODULES.iter().find(|(part, _)| text.contains(part))?;
    Some(format!("{name} (p{part})"))
}

/// Are the clocks held where they are? Without root only processor and GPU can be told; the memory clock needs root.
fn pinned(root: &Path) -> Option<&'static str> {
    let value = |path: &Path| files::read_text(path, files::SMALL).ok()?.trim().parse::<u64>().ok();
    let fixed = |dir: &Path, low: &str, high: &str| Some(value(&dir.join(low))? == value(&dir.join(high))?);
    let mut cores = Vec::new();
    for (_, core) in cpu::cores(root) {
        // A core that is switched off has no clock.
        if value(&core.join("online")) != Some(0) {
            cores.extend(fixed(&core.join("cpufreq"), "scaling_min_freq", "scaling_max_freq"));
        }
    }
    let gpus: Vec<bool> = gpu::nodes(root).iter().filter_map(|node| fixed(node, "min_freq", "max_freq")).collect();
    let all = |list: &[bool]| (!list.is_empty()).then(|| list.iter().all(|f| *f));
    match (all(&cores), all(&gpus)) {
        (None, None) => None,
        (Some(true), Some(true)) => Some("cpu and gpu"),
        (Some(true), None) => Some("cpu"),
        (Some(true), Some(false)) => Some("cpu only, gpu not"),
        (Some(false) | None, Some(true)) => Some("gpu only, cpu not"),
        _ => Some("no"),
    }
}

/// Debian's list of installed packages.
struct Packages(Vec<(String, String)>);

impl Packages {
    fn read(root: &Path) -> Packages {
        let bytes = files::read(&root.join("var/lib/dpkg/status"), files::SMALL).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let mut list = Vec::new();
        let mut name = "";
        for line in text.lines() {
            if let Some(package) = line.strip_prefix("Package: ") {
                name = package.trim();
            } else if let Some(version) = line.strip_prefix("Version: ") {
                list.push((name.to_string(), version.trim().to_string()));
            }
        }
        Packages(list)
    }

    fn version(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    /// Version of the library package `<prefix><number>…`, e.g. `libnvinfer10`; plugins and headers are other packages.
    fn version_of(&self, prefix: &str) -> Option<String> {
        let (_, version) = self.0.iter().find(|(name, _)| {
            name.strip_prefix(prefix).is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_digit()) && !rest.contains("dev") && !rest.contains("headers")
            })
        })?;
        Some(version.split(['-', '+']).next()?.to_string())
    }
}

/// CUDA's version from the toolkit's own file.
fn cuda(root: &Path) -> Option<String> {
    let text = files::read_text(&root.join("usr/local/cuda/version.json"), files::SMALL).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(value["cuda"]["version"].as_str()?.to_string())
}

/// Version at the end of a library's file name, the longest there is: `libnvinfer.so.10.3.0`.
fn library_version(root: &Path, prefix: &str) -> Option<String> {
    ["usr/lib/aarch64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib64"]
        .iter()
        .flat_map(|dir| std::fs::read_dir(root.join(dir)).into_iter().flatten().flatten())
        .filter_map(|e| Some(e.file_name().to_str()?.strip_prefix(prefix)?.to_string()))
        .filter(|v| v.chars().all(|c| c.is_ascii_digit() || c == '.'))
        .max_by_key(String::len)
}

fn hex(bytes: &[u8], digits: usize) -> String {
    let text: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    text[..digits].to_string()
}

/// Lower case, words joined by dashes, trade marks and clock rates left out.
fn slug(name: &str) -> String {
    let mut out = String::new();
    for word in name.split(|c: char| !c.is_ascii_alphanumeric() && c != '.') {
        let word = word.to_ascii_lowercase();
        if word.is_empty() || matches!(word.as_str(), "r" | "tm" | "cpu" | "processor") {
            continue;
        }
        if !out.is_empty() {
            out.push('-');
        }
        out.push_str(word.trim_matches('.'));
    }
    if out.is_empty() { "unknown".into() } else { out }
}

/// ARM kernels give part numbers where others give names.
fn arm_core(cpuinfo: &str) -> Option<String> {
    let value = |key: &str| {
        cpuinfo.lines().find(|l| l.starts_with(key)).and_then(|l| Some(l.split_once(':')?.1.trim().to_string()))
    };
    let (implementer, part) = (value("CPU implementer")?, value("CPU part")?);
    let known = match (implementer.as_str(), part.as_str()) {
        ("0x41", "0xd42") => "Cortex-A78AE",
        ("0x41", "0xd08") => "Cortex-A72",
        ("0x41", "0xd07") => "Cortex-A57",
        ("0x41", "0xd0b") => "Cortex-A76",
        ("0x41", "0xd0c") => "Neoverse-N1",
        ("0x41", "0xd40") => "Neoverse-V1",
        ("0x41", "0xd49") => "Neoverse-N2",
        ("0x41", "0xd83") => "Neoverse-V3AE",
        ("0x4e", "0x004") => "Carmel",
        _ => return Some(format!("ARM implementer {implementer} part {part}")),
    };
    Some(known.to_string())
}

fn physical_cores(cpuinfo: &str) -> Option<usize> {
    let mut cores = std::collections::BTreeSet::new();
    let mut socket = "0";
    for line in cpuinfo.lines() {
        let (key, value) = line.split_once(':').map_or(("", ""), |(k, v)| (k.trim(), v.trim()));
        match key {
            "physical id" => socket = value,
            "core id" => {
                cores.insert((socket, value));
            }
            _ => {}
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// The instruction sets that decide how fast matrices are multiplied.
fn matrix_flags(flags: &str) -> String {
    const TELLING: [&str; 12] = [
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512_vnni",
        "avx512_bf16",
        "avx512_fp16",
        "amx_bf16",
        "asimdhp",
        "asimddp",
        "bf16",
        "sve",
    ];
    flags.split_whitespace().filter(|f| TELLING.contains(f)).collect::<Vec<_>>().join(" ")
}

/// `# R36 (release), REVISION: 4.3, …` → `36.4.3`.
fn l4t_release(text: &str) -> Option<String> {
    let major: String = text.split("# R").nth(1)?.chars().take_while(char::is_ascii_digit).collect();
    let minor: String = text.split("REVISION:").nth(1)?.trim().chars().take_while(|c| *c != ',').collect();
    Some(format!("{major}.{minor}"))
}

/// JetPack that brings an L4T release, as far as known; of a release that came later, what its first number tells.
///
/// Source: NVIDIA's JetPack archive (developer.nvidia.com/embedded/jetpack-archive), compared with the table of jetson_stats. The number of
/// JetPack 7.2.2, which brings TensorRT 11.4, was not public when this was written.
fn jetpack(l4t: &str) -> Option<&'static str> {
    Some(match l4t {
        "35.1.0" => "5.0.2",
        "35.2.1" => "5.1",
        "35.3.1" => "5.1.1",
        "35.4.1" => "5.1.2",
        "35.5.0" => "5.1.3",
        "35.6.0" => "5.1.4",
        "35.6.1" | "35.6.2" | "35.6.3" => "5.1.5",
        "35.6.4" => "5.1.6",
        "36.3.0" => "6.0",
        "36.4.0" | "36.4.2" => "6.1",
        "36.4.3" => "6.2",
        "36.4.4" | "36.4.7" => "6.2.1",
        "36.5.0" => "6.2.2",
        "38.4.0" => "7.1",
        "39.0.0" => "7.2 early access",
        "39.2.0" => "7.2",
        _ if l4t.starts_with("38.2.") => "7.0",
        _ => match l4t.split('.').next()? {
            "35" => "5 (release not known here)",
            "36" => "6 (release not known here)",
            "38" => "7.0 or 7.1 (release not known here)",
            "39" => "7.2 or newer (release not known here)",
            _ => return None,
        },
    })
}

/// Names of the discrete NVIDIA GPUs, as the driver gives them.
fn nvidia_gpu(root: &Path) -> Option<String> {
    let mut names: Vec<String> = std::fs::read_dir(root.join("proc/driver/nvidia/gpus"))
        .ok()?
        .flatten()
        .filter_map(|e| files::read_text(&e.path().join("information"), files::SMALL).ok())
        .filter_map(|t| t.lines().find_map(|l| Some(l.strip_prefix("Model:")?.trim().to_string())))
        .collect();
    names.sort();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_machine_is_another_device() {
        let base = [
            ("proc/cpuinfo", "processor : 0\nprocessor : 1\n"),
            ("proc/meminfo", "MemTotal: 4194304 kB\n"),
            ("proc/self/cgroup", "0::/job\n"),
        ];
        let of = |more: &[(&str, &str)]| describe(tree(&[&base[..], more].concat()).path());
        let whole =
            of(&[("proc/self/status", "Cpus_allowed_list:\t0-1\n"), ("sys/fs/cgroup/job/cpu.max", "max 100000\n")]);
        assert_eq!(whole.digest, of(&[]).digest, "what does not restrict changes nothing");
        let shares = [
            ("cpus_allowed", "1", of(&[("proc/self/status", "Cpus_allowed_list:\t1\n")])),
            ("cpu_quota_cores", "0.20", of(&[("sys/fs/cgroup/job/cpu.max", "20000 100000\n")])),
            ("memory_limit_mib", "512", of(&[("sys/fs/cgroup/job/memory.max", "536870912\n")])),
            ("nice", "10", of(&[("proc/self/stat", "7 (x) R 1 7 7 0 -1 4 1 2 3 4 150 50 5 6 30 10 3 0 100")])),
            ("container", "docker", of(&[(".dockerenv", "")])),
            ("virtual_machine", "QEMU", of(&[("sys/class/dmi/id/sys_vendor", "QEMU")])),
        ];
        for (fact, value, device) in &shares {
            assert_eq!(device.facts.get(*fact).map(String::as_str), Some(*value));
            assert_ne!(device.digest, whole.digest, "{fact}");
        }
    }
    use crate::telemetry::tree;

    const ORIN: &[(&str, &str)] = &[
        ("sys/firmware/devicetree/base/model", "NVIDIA Jetson Orin Nano Developer Kit\0"),
        ("sys/firmware/devicetree/base/serial-number", "1420000000001\0"),
        ("proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0"),
        ("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n"),
        (
            "proc/cpuinfo",
            "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\nFeatures\t: fp asimd asimdhp\n\nprocessor\t: 1\n",
        ),
        ("proc/meminfo", "MemTotal:        7802908 kB\n"),
        ("var/lib/nvpmodel/status", "pmode:0001\n"),
        ("etc/nvpmodel.conf", "< POWER_MODEL ID=1 NAME=25W >\n"),
    ];

    #[test]
    fn a_jetson_is_described() {
        let board = tree(ORIN);
        let record = describe(board.path());
        assert_eq!(record.name, "nvidia-jetson-orin-nano-developer-kit");
        let fact = |name: &str| record.facts.get(name).map(String::as_str).unwrap_or_default();
        assert_eq!((fact("l4t"), fact("jetpack"), fact("soc")), ("36.4.3", "6.2", "nvidia,tegra234"));
        assert_eq!((fact("cpu"), fact("cores"), fact("memory_mib")), ("Cortex-A78AE", "2", "7620"));
        assert_eq!((fact("power_mode"), fact("cpu_flags")), ("25W (1)", "asimdhp"));
        assert!(!format!("{record:?}").contains("1420000000001"), "the serial number is in the record");
        assert_eq!(fact("machine_sha256").len(), 12);
    }

    #[test]
    fn the_digest_follows_what_decides_latencies_and_nothing_else() {
        let digest = |change: Option<(&'static str, &'static str)>| {
            let mut files = ORIN.to_vec();
            files.extend(change);
            describe(tree(&files).path()).digest
        };
        let same = digest(None);
        assert_eq!(same, digest(Some(("proc/sys/kernel/osrelease", "5.15.148-tegra"))));
        assert_eq!(same, digest(Some(("sys/firmware/devicetree/base/serial-number", "999"))));
        assert_ne!(same, digest(Some(("etc/nvpmodel.conf", "< POWER_MODEL ID=1 NAME=15W >\n"))));
        assert_ne!(same, digest(Some(("proc/meminfo", "MemTotal: 16000000 kB\n"))));
    }

    #[test]
    fn releases_have_the_jetpack_that_brings_them_and_later_ones_what_is_sure() {
        for (l4t, expected) in [
            ("35.4.1", Some("5.1.2")),
            ("35.6.0", Some("5.1.4")),
            ("35.6.4", Some("5.1.6")),
            ("36.4.7", Some("6.2.1")),
            ("38.2.1", Some("7.0")),
            ("38.4.0", Some("7.1")),
            ("38.5.0", Some("7.0 or 7.1 (release not known here)")),
            ("39.0.0", Some("7.2 early access")),
            ("39.2.0", Some("7.2")),
            ("39.4.1", Some("7.2 or newer (release not known here)")),
            ("36.9.0", Some("6 (release not known here)")),
            ("37.1.0", None),
            ("99.1.0", None),
            ("", None),
        ] {
            assert_eq!(jetpack(l4t), expected, "{l4t}");
        }
    }

    #[test]
    fn names_are_fit_for_directories() {
        assert_eq!(slug("Intel(R) Xeon(R) Processor @ 2.80GHz"), "intel-xeon-2.80ghz");
        assert_eq!(slug("../../etc"), "etc");
        assert_eq!(slug("AMD Ryzen 7 7840U w/ Radeon 780M"), "amd-ryzen-7-7840u-w-radeon-780m");
    }

    #[test]
    fn a_machine_with_a_graphics_card_is_named_by_it_too() {
        let pc = tree(&[
            ("proc/cpuinfo", "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Processor\n"),
            ("proc/driver/nvidia/gpus/0000:00:06.0/information", "Model: \t\t NVIDIA H200\nIRQ: 1\n"),
        ]);
        assert_eq!(describe(pc.path()).name, "intel-xeon-nvidia-h200");
        let cards: Vec<(String, String)> = (0..8)
            .map(|n| (format!("proc/driver/nvidia/gpus/{n}/information"), "Model: NVIDIA A100-SXM4-80GB".to_string()))
            .collect();
        let server = tree(&cards.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect::<Vec<_>>());
        assert_eq!(describe(server.path()).name, "nvidia-a100-sxm4-80gb");
    }

    #[test]
    fn an_empty_tree_has_a_name_too() {
        assert_eq!(describe(tree(&[]).path()).name, "unknown");
    }
}
