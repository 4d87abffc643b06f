//! Whole boards as file trees: each must be named rightly, its sensors read, and what is missing listed with the reason.
//! The trees are written here after documented layouts; none was captured on a device.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use jetbench::command::doctor;
use jetbench::telemetry::{Recorder, device, find};

/// Files by path.
type Tree = BTreeMap<String, String>;

/// A Jetson to draw.
struct Jetson {
    model: &'static str,
    compatible: &'static str,
    l4t: &'static str,
    /// JetPack's first number.
    jetpack: u32,
    mode: (&'static str, u32),
    memory_kib: u64,
    cores: u32,
    /// Monitors: address and rails.
    monitors: &'static [(&'static str, &'static [&'static str])],
    /// Are the files of debugfs in the tree?
    root: bool,
}

const NANO_RAILS: &[(&str, &[&str])] = &[("1-0040", &["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"])];
const AGX_RAILS: &[(&str, &[&str])] =
    &[("1-0040", &["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]), ("1-0041", &["NC", "VDDQ_VDD2_1V8AO", "NC"])];

fn agx(l4t: &'static str, jetpack: u32) -> Jetson {
    Jetson {
        model: "NVIDIA Jetson AGX Orin Developer Kit",
        compatible: "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0",
        l4t,
        jetpack,
        mode: ("MODE_30W", 2),
        memory_kib: 64_000_000,
        cores: 12,
        monitors: AGX_RAILS,
        root: true,
    }
}

fn nx(l4t: &'static str, jetpack: u32) -> Jetson {
    Jetson {
        model: "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
        compatible: "nvidia,p3768-0000+p3767-0000\0nvidia,tegra234\0",
        mode: ("25W", 3),
        memory_kib: 15_900_000,
        cores: 8,
        monitors: NANO_RAILS,
        ..agx(l4t, jetpack)
    }
}

fn nano(l4t: &'static str, jetpack: u32) -> Jetson {
    Jetson {
        model: "NVIDIA Jetson Orin Nano Developer Kit",
        compatible: "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
        mode: ("MAXN_SUPER", 2),
        memory_kib: 7_802_908,
        cores: 6,
        ..nx(l4t, jetpack)
    }
}

const R35: &str = "# R35 (release), REVISION: 4.1, GCID: 1, BOARD: t186ref, EABI: aarch64\n";
const R36: &str = "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64\n";
const R39: &str = "# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic, EABI: aarch64\n";

impl Jetson {
    fn tree(&self) -> Tree {
        let mut files = Tree::new();
        let mut put = |path: &str, text: String| {
            files.insert(path.to_string(), text);
        };
        put("proc/device-tree/compatible", self.compatible.into());
        put("sys/firmware/devicetree/base/model", format!("{}\0", self.model));
        put("sys/firmware/devicetree/base/serial-number", "1420000000001\0".into());
        put("etc/nv_tegra_release", self.l4t.into());
        put("proc/sys/kernel/osrelease", "5.15.148-tegra\n".into());
        put("var/lib/nvpmodel/status", format!("pmode:{:04}\n", self.mode.1));
        put(
            "etc/nvpmodel.conf",
            format!(
                "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID={} NAME={} >\nPM_CONFIG DEFAULT=2\n",
                self.mode.1, self.mode.0
            ),
        );
        put(
            "var/lib/dpkg/status",
            "Package: libnvinfer-dev\nVersion: 9.9\n\nPackage: libnvinfer10\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n\n\
             Package: libcudnn9-cuda-12\nVersion: 9.3.0.75-1\n\nPackage: nvidia-l4t-core\nVersion: 36.4.3-20250107174145\n"
                .into(),
        );
        put("usr/local/cuda/version.json", r#"{"cuda": {"name": "CUDA SDK", "version": "12.6.68"}}"#.into());
        let mut cpuinfo = String::new();
        for n in 0..self.cores {
            cpuinfo += &format!(
                "processor\t: {n}\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\nFeatures\t: asimd asimdhp asimddp\n\n"
            );
            let core = format!("sys/devices/system/cpu/cpu{n}/cpufreq");
            put(&format!("{core}/scaling_cur_freq"), "729600\n".into());
            put(&format!("{core}/scaling_min_freq"), "729600\n".into());
            put(&format!("{core}/scaling_max_freq"), "1510400\n".into());
            put(&format!("{core}/scaling_governor"), "schedutil\n".into());
        }
        put("proc/cpuinfo", cpuinfo);
        put("proc/stat", "cpu  100 0 100 100000 0 0 0 0 0 0\n".into());
        put(
            "proc/meminfo",
            format!(
                "MemTotal: {} kB\nMemAvailable: 4000000 kB\nSwapTotal: 3900000 kB\nSwapFree: 3900000 kB\nNvMapMemUsed: 102400 kB\n",
                self.memory_kib
            ),
        );
        // JetPack 5 names the GPU after the chip, later ones do not; the node's own name differs with it.
        let (node, name) = if self.jetpack < 6 { ("17000000.ga10b", "ga10b") } else { ("17000000.gpu", "gpu") };
        let gpu = format!("sys/class/devfreq/{node}");
        put(&format!("{gpu}/device/of_node/name"), format!("{name}\0"));
        put(&format!("{gpu}/device/load"), "873\n".into());
        put(&format!("{gpu}/cur_freq"), "624750000\n".into());
        put(&format!("{gpu}/min_freq"), "306000000\n".into());
        put(&format!("{gpu}/max_freq"), "624750000\n".into());
        put("sys/class/devfreq/15340000.vic/device/of_node/name", "vic\0".into());
        put("sys/class/devfreq/15340000.vic/device/load", "0\n".into());
        // JetPack 5 writes zones in mixed case; zones of engines that are off read absurdly.
        let zone =
            |z: &str| if self.jetpack < 6 { z.replace("cpu", "CPU").replace("cv0", "CV0") } else { z.to_string() };
        for (n, (kind, milli)) in
            [("cpu-thermal", 41437), ("cv0-thermal", -256_000), ("tj-thermal", 44531)].into_iter().enumerate()
        {
            put(&format!("sys/class/thermal/thermal_zone{n}/type"), format!("{}\n", zone(kind)));
            put(&format!("sys/class/thermal/thermal_zone{n}/temp"), format!("{milli}\n"));
        }
        put("sys/class/thermal/cooling_device0/type", "pwm-fan\n".into());
        put("sys/class/thermal/cooling_device0/cur_state", "1\n".into());
        put("sys/class/thermal/cooling_device1/type", "gpu-throttle-alert\n".into());
        put("sys/class/thermal/cooling_device1/cur_state", "0\n".into());
        put("sys/class/hwmon/hwmon1/name", "soctherm_oc\n".into());
        for n in 1..=3 {
            put(&format!("sys/class/hwmon/hwmon1/oc{n}_event_cnt"), format!("{}\n", n - 1));
        }
        put("sys/class/hwmon/hwmon2/name", "pwmfan\n".into());
        put("sys/class/hwmon/hwmon2/pwm1", "77\n".into());
        put("sys/class/hwmon/hwmon3/name", "pwm_tach\n".into());
        put("sys/class/hwmon/hwmon3/rpm", "1820\n".into());
        for (address, rails) in self.monitors {
            let device = format!("sys/bus/i2c/devices/{address}");
            put(&format!("{device}/name"), "ina3221\n".into());
            for (n, label) in rails.iter().enumerate() {
                let monitor = format!("{device}/hwmon/hwmon{}", 4 + self.jetpack);
                put(&format!("{monitor}/in{}_label", n + 1), format!("{label}\n"));
                put(&format!("{monitor}/in{}_input", n + 1), "5000\n".into());
                put(&format!("{monitor}/curr{}_input", n + 1), format!("{}\n", 100 * (n + 1)));
            }
            put(&format!("{device}/hwmon/hwmon{}/in7_label", 4 + self.jetpack), "sum of shunt voltages\n".into());
        }
        if self.root {
            put("sys/kernel/debug/bpmp/debug/clk/emc/rate", "3199000000\n".into());
            put("sys/kernel/debug/cactmon/mc_all", "319900\n".into());
        }
        files
    }
}

fn write(tree: &Tree) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in tree {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn fact(root: &Path, name: &str) -> String {
    device::describe(root).facts.get(name).cloned().unwrap_or_default()
}

/// Readings by name, and what is missing as `sensor: reason` without the tree's own place.
fn sensed(root: &Path) -> (BTreeMap<String, f64>, Vec<String>) {
    let mut recorder = Recorder::new(find(root, None));
    recorder.sample(true);
    let telemetry = recorder.finish();
    let values = telemetry.channels.iter().filter_map(|c| Some((c.to_string(), telemetry.largest(c)?))).collect();
    let place = format!("{}/", root.display());
    let missing = telemetry.missing.iter().map(|m| format!("{}: {}", m.sensor, m.reason.replace(&place, ""))).collect();
    (values, missing)
}

#[test]
fn every_orin_is_named_and_read() {
    type Board = fn(&'static str, u32) -> Jetson;
    let boards: [(Board, &str, &str); 3] = [
        (agx, "Jetson AGX Orin 64 GB (p3701-0005)", "VDD_GPU_SOC_w"),
        (nx, "Jetson Orin NX 16 GB (p3767-0000)", "VDD_IN_w"),
        (nano, "Jetson Orin Nano 8 GB developer kit (p3767-0005)", "VDD_IN_w"),
    ];
    for (board, module, rail) in boards {
        let mut digests = Vec::new();
        for (release, number, l4t, jetpack) in
            [(R35, 5, "35.4.1", "5.1.2"), (R36, 6, "36.4.3", "6.2"), (R39, 7, "39.2.0", "7.2")]
        {
            let jetson = board(release, number);
            let dir = write(&jetson.tree());
            let root = dir.path();
            for (name, expected) in [
                ("model", jetson.model),
                ("module", module),
                ("soc", "nvidia,tegra234"),
                ("l4t", l4t),
                ("jetpack", jetpack),
                ("power_mode", &format!("{} ({})", jetson.mode.0, jetson.mode.1)),
                ("cpu", "Cortex-A78AE"),
                ("cores", &jetson.cores.to_string()),
                ("clocks_pinned", "no"),
                ("cuda", "12.6.68"),
                ("tensorrt", "10.3.0.30"),
                ("cudnn", "9.3.0.75"),
                ("kernel", "5.15.148-tegra"),
            ] {
                assert_eq!(fact(root, name), expected, "{module}, JetPack {number}: {name}");
            }
            let record = device::describe(root);
            assert!(
                !serde_json::to_string(&record).unwrap().contains("1420000000001"),
                "the serial number leaves the board"
            );
            digests.push(record.digest);

            let (values, missing) = sensed(root);
            for (name, expected) in [
                ("gpu_load_percent", 87.3),
                ("gpu_mhz", 624.75),
                ("gpu_max_mhz", 624.75),
                ("emc_mhz", 3199.0),
                ("emc_percent", 10.0),
                ("cpu5_mhz", 729.6),
                (rail, 0.5),
                ("temp_tj-thermal_celsius", 44.531),
                ("alert_gpu-throttle-alert_state", 0.0),
                ("oc2_events", 1.0),
                ("fan_pwm", 77.0),
                ("fan_rpm", 1820.0),
                ("power_mode_id", f64::from(jetson.mode.1)),
                ("nvmap_mib", 100.0),
            ] {
                let got =
                    values.get(name).unwrap_or_else(|| panic!("{module}, JetPack {number}: no {name} in {values:?}"));
                assert!((got - expected).abs() < 1e-9, "{module}, JetPack {number}: {name} = {got}");
            }
            assert!(!values.keys().any(|k| k.contains("NC") || k.contains("shunt") || k.contains("vic")));
            let gated = if number < 6 { "CV0" } else { "cv0" };
            let expected = [
                "cpu throttle counters: this kernel counts none for this processor".to_string(),
                format!(
                    "temp_{gated}-thermal_celsius: sys/class/thermal/thermal_zone1/temp: -256 is outside what this sensor can measure; it is switched off"
                ),
                "nvml: usr/lib/libnvidia-ml.so.1 cannot be loaded: no NVIDIA driver".to_string(),
            ];
            assert_eq!(missing, expected, "{module}, JetPack {number}");
        }
        digests.dedup();
        assert_eq!(digests.len(), 3, "another release is another device for latencies");
    }
    // The rails of an AGX are parts; none of them is the whole module, and no sum is invented.
    let (values, _) = sensed(write(&agx(R36, 6).tree()).path());
    let rails: Vec<&String> = values.keys().filter(|k| k.ends_with("_w")).collect();
    assert_eq!(rails, ["VDDQ_VDD2_1V8AO_w", "VDD_CPU_CV_w", "VDD_GPU_SOC_w", "VIN_SYS_5V0_w"]);
}

/// A Thor as jetson_stats 7.2.2 reads it (`thor_gpu.py`, `thor_power.py`, `power.py`): no name of the GPU in the device tree, no load, no
/// NvMapMemUsed; what the carrier draws from an INA238.
fn thor() -> Tree {
    let monitor = "sys/bus/i2c/devices/1-0040";
    let carrier = "sys/bus/i2c/devices/1-0044";
    let mut files: Vec<(String, String)> = [
        ("proc/device-tree/compatible", "nvidia,p3971-0089+p3834-0008\0nvidia,tegra264\0"),
        ("proc/device-tree/model", "NVIDIA Jetson AGX Thor Developer Kit\0"),
        ("proc/meminfo", "MemTotal: 128000000 kB\nMemAvailable: 120000000 kB\n"),
        ("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd83\n"),
        ("etc/nv_tegra_release", R39),
        ("var/lib/nvpmodel/status", "pmode:0001\n"),
        ("etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n"),
        (
            "var/lib/dpkg/status",
            "Package: libnvinfer10\nVersion: 10.16.2.10-1+cuda13.2\n\nPackage: libcudnn9-cuda-13\nVersion: 9.20.0.48-1\n",
        ),
        ("sys/devices/virtual/thermal/thermal_zone0/type", "gpu-thermal\n"),
        ("sys/devices/virtual/thermal/thermal_zone0/temp", "45000\n"),
    ]
    .map(|(path, text)| (path.to_string(), text.to_string()))
    .to_vec();
    for node in ["gpu-gpc-0", "gpu-nvd-0"] {
        for (file, text) in [
            ("cur_freq", if node == "gpu-gpc-0" { "1049000000\n" } else { "1692000000\n" }),
            ("min_freq", "306000000\n"),
            ("max_freq", "1575000000\n"),
            ("governor", "nvhost_podgov\n"),
        ] {
            files.push((format!("sys/class/devfreq/{node}/{file}"), text.to_string()));
        }
    }
    files.push((format!("{monitor}/name"), "ina3221\n".into()));
    for (n, label) in (1..).zip(["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"]) {
        files.push((format!("{monitor}/hwmon/hwmon2/in{n}_label"), format!("{label}\n")));
        files.push((format!("{monitor}/hwmon/hwmon2/in{n}_input"), "5000\n".into()));
        files.push((format!("{monitor}/hwmon/hwmon2/curr{n}_input"), "1000\n".into()));
    }
    files.push((format!("{carrier}/name"), "ina238\n".into()));
    for (file, text) in [("in1_input", "20000\n"), ("curr1_input", "2500\n"), ("power1_input", "50000000\n")] {
        files.push((format!("{carrier}/hwmon/hwmon3/{file}"), text.into()));
    }
    files.into_iter().collect()
}

#[test]
fn a_thor_is_named_and_read() {
    let mut tree = thor();
    let dir = write(&tree);
    for (name, expected) in [
        ("model", "NVIDIA Jetson AGX Thor Developer Kit"),
        ("module", "Jetson AGX Thor developer kit (p3834-0008)"),
        ("soc", "nvidia,tegra264"),
        ("cpu", "Neoverse-V3AE"),
        ("l4t", "39.2.0"),
        ("jetpack", "7.2"),
        ("power_mode", "120W (1)"),
        ("tensorrt", "10.16.2.10"),
        ("cudnn", "9.20.0.48"),
        ("clocks_pinned", "no"),
    ] {
        assert_eq!(fact(dir.path(), name), expected, "{name}");
    }
    let (values, missing) = sensed(dir.path());
    for (name, expected) in [
        ("gpu_mhz", 1049.0),
        ("gpu_max_mhz", 1575.0),
        ("gpu_nvd_mhz", 1692.0),
        ("VIN_w", 50.0),
        ("VDD_GPU_w", 5.0),
        ("VIN_SYS_5V0_w", 5.0),
        ("temp_gpu-thermal_celsius", 45.0),
        ("power_mode_id", 1.0),
    ] {
        assert_eq!(values.get(name), Some(&expected), "{name} in {values:?}");
    }
    assert!(!values.keys().any(|name| name.starts_with("gpu1")), "the video engines are no second GPU: {values:?}");
    for reason in [
        "gpu_load_percent: sys/class/devfreq/gpu-gpc-0/device/load is not there",
        "nvmap: this kernel's /proc/meminfo has no NvMapMemUsed",
        "nvml: usr/lib/libnvidia-ml.so.1 cannot be loaded: no NVIDIA driver",
    ] {
        assert!(missing.iter().any(|m| m == reason), "{reason} is not in {missing:?}");
    }
    let before = device::describe(dir.path()).digest;
    tree.insert("etc/nv_tegra_release".into(), R39.replace("2.0", "4.1"));
    let later = write(&tree);
    assert_eq!(fact(later.path(), "jetpack"), "7.2 or newer (release not known here)");
    assert_ne!(device::describe(later.path()).digest, before, "another release is another device for latencies");
}

#[test]
fn pinned_clocks_and_containers_are_seen() {
    let mut tree = nano(R36, 6).tree();
    for n in 0..6 {
        tree.insert(format!("sys/devices/system/cpu/cpu{n}/cpufreq/scaling_min_freq"), "1510400\n".into());
    }
    assert_eq!(fact(write(&tree).path(), "clocks_pinned"), "cpu only, gpu not");
    tree.insert("sys/class/devfreq/17000000.gpu/min_freq".into(), "624750000\n".into());
    // A core that is off does not count.
    tree.insert("sys/devices/system/cpu/cpu5/online".into(), "0\n".into());
    tree.insert("sys/devices/system/cpu/cpu5/cpufreq/scaling_min_freq".into(), "1\n".into());
    assert_eq!(fact(write(&tree).path(), "clocks_pinned"), "cpu and gpu");
    // In a container the release file is missing and the package list is there.
    tree.remove("etc/nv_tegra_release");
    assert_eq!(fact(write(&tree).path(), "l4t"), "36.4.3");
    tree.insert("etc/nv_tegra_release".into(), "# R99 (release), REVISION: 1.0, …\n".into());
    let dir = write(&tree);
    assert_eq!(
        (fact(dir.path(), "l4t").as_str(), fact(dir.path(), "jetpack").as_str()),
        ("99.1.0", ""),
        "unknown is not guessed"
    );
}

#[test]
fn a_pc_without_a_gpu_says_what_it_lacks() {
    let mut tree = Tree::new();
    tree.insert(
        "proc/cpuinfo".into(),
        "processor\t: 0\nmodel name\t: AMD Ryzen 7 7840U\nphysical id\t: 0\ncore id\t: 0\nflags\t: fma avx2\n\n\
         processor\t: 1\nmodel name\t: AMD Ryzen 7 7840U\nphysical id\t: 0\ncore id\t: 0\nflags\t: fma avx2\n"
            .into(),
    );
    tree.insert("proc/meminfo".into(), "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\nSwapFree: 0 kB\n".into());
    tree.insert("proc/stat".into(), "cpu  1 1 1 1 1 1 1 1\n".into());
    for n in 0..2 {
        tree.insert(format!("sys/devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq"), "3300000\n".into());
        tree.insert(format!("sys/devices/system/cpu/cpu{n}/cpufreq/scaling_max_freq"), "5100000\n".into());
        tree.insert(format!("sys/devices/system/cpu/cpu{n}/thermal_throttle/core_throttle_count"), "0\n".into());
    }
    tree.insert("sys/class/thermal/thermal_zone0/type".into(), "x86_pkg_temp\n".into());
    tree.insert("sys/class/thermal/thermal_zone0/temp".into(), "51000\n".into());
    tree.insert("etc/machine-id".into(), "0123456789abcdef0123456789abcdef\n".into());
    let dir = write(&tree);
    let record = device::describe(dir.path());
    assert_eq!(record.name, "amd-ryzen-7-7840u");
    assert_eq!(record.facts["physical_cores"], "1");
    assert!(!format!("{record:?}").contains("0123456789abcdef"));
    for absent in ["module", "l4t", "jetpack", "power_mode", "gpu", "cuda"] {
        assert!(!record.facts.contains_key(absent), "{absent}");
    }
    let (values, missing) = sensed(dir.path());
    assert_eq!(
        (values["cpu1_mhz"], values["temp_x86_pkg_temp_celsius"], values["cpu0_throttle_events"]),
        (3300.0, 51.0, 0.0)
    );
    insta::assert_snapshot!(missing.join("\n"), @r"
    nvmap: not a Tegra board
    gpu: no devfreq GPU: not a Tegra board
    emc: not a Tegra board
    rails: sys/bus/i2c/devices is not there
    throttle alerts: not a Tegra board
    over-current: not a Tegra board
    fan: sys/class/hwmon is not there
    power mode: not a Tegra board
    nvml: usr/lib/libnvidia-ml.so.1 cannot be loaded: no NVIDIA driver
    ");
}

#[test]
fn a_board_without_root_says_what_root_would_see() {
    let dir = write(&Jetson { root: false, ..nano(R36, 6) }.tree());
    let (values, missing) = sensed(dir.path());
    assert!(values.contains_key("VDD_IN_w") && values.contains_key("gpu_load_percent"), "most needs no root");
    assert!(
        missing
            .contains(&"emc: sys/kernel/debug/bpmp/debug/clk/emc/rate is not there; debugfs is for root".to_string()),
        "{missing:?}"
    );
    let checks = doctor::sensors(dir.path());
    let said = checks.iter().find(|c| c.name == "sensors not read").unwrap();
    assert!(said.found.contains("debugfs is for root") && said.remedy.contains("sudo"), "{said:?}");
}

/// The real thing, where the tests run as root and can give it up: a file that may not be opened.
#[test]
fn a_closed_file_is_told_from_a_missing_one() {
    use std::os::unix::fs::PermissionsExt;
    let dir = write(&nano(R36, 6).tree());
    let closed = dir.path().join("sys/kernel/debug");
    // SAFETY: no arguments, no memory involved.
    let root = unsafe { libc::geteuid() } == 0;
    let mut command = Command::new(cargo_bin!("jetbench"));
    command.args(["telemetry", "--format", "jsonl", "--duration", "0", "--root"]).arg(dir.path()).current_dir("/");
    if root {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        command.uid(65534).gid(65534);
    }
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(if root { 0o700 } else { 0o000 })).unwrap();
    let output = command.output();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let output = match output {
        Ok(output) => output,
        // The program lies where another user may not go.
        Err(e) if root && e.kind() == std::io::ErrorKind::PermissionDenied => {
            eprintln!("skipped: the program cannot be started as another user here");
            return;
        }
        Err(e) => panic!("{e}"),
    };
    let (said, out) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(said.contains("not read: emc: ") && said.contains("emc/rate may only be read by root"), "{said}");
    assert!(out.contains("\"VDD_IN_w\":0.5") && !out.contains("emc"), "{out}");
}

#[test]
fn telemetry_is_useful_alone() {
    let dir = write(&nano(R36, 6).tree());
    let run = |args: &[&str]| Command::new(cargo_bin!("jetbench")).arg("telemetry").args(args).output().unwrap();
    let file = dir.path().join("out.csv");
    let root = dir.path().to_str().unwrap();
    let output =
        run(&["--root", root, "--duration", "0.25", "--sample-hz", "20", "--out", file.to_str().unwrap(), "--quiet"]);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("t_s,quantity,value\n0.0"), "{text}");
    let rows = text.lines().filter(|l| l.contains(",VDD_IN_w,0.5")).count();
    assert!((3..=6).contains(&rows), "{rows} samples in a quarter of a second at 20 Hz");

    let lines = dir.path().join("lines.txt");
    std::fs::write(
        &lines,
        "07-25-2026 09:08:28 RAM 10/20MB (lfb 1x2MB) GR3D_FREQ 12%@[300,305] WHAT now VDD_IN 500mW/1mW\nnonsense\n",
    )
    .unwrap();
    let output = run(&["--source", "tegrastats", "--input", lines.to_str().unwrap(), "--format", "jsonl"]);
    assert!(output.status.success(), "{output:?}");
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["board_time"], &line["values"]["gpu_mhz"]), (&"07-25-2026 09:08:28".into(), &305.0.into()));
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), "not understood: WHAT now nonsense");

    let empty = tempfile::tempdir().unwrap();
    for (args, code) in [
        (&["--root", empty.path().to_str().unwrap()][..], 3),
        (&["--source", "tegrastats"], 3),
        (&["--sample-hz", "0"], 2),
        (&["--duration", "-1"], 2),
        (&["--source", "tegrastats", "--input", file.to_str().unwrap()], 2),
    ] {
        assert_eq!(run(args).status.code(), Some(code), "{args:?}");
    }
}

/// What `scripts/capture_sysfs.sh` takes of a board is all that jetbench reads there, and no serial number.
#[test]
fn a_captured_board_is_the_board() {
    for mut tree in [agx(R35, 5).tree(), nx(R36, 6).tree(), nano(R39, 7).tree(), thor()] {
        tree.insert("proc/loadavg".into(), "0.10 0.20 0.30 1/200 4000\n".into());
        let cpuinfo = tree["proc/cpuinfo"].clone();
        tree.insert("proc/cpuinfo".into(), format!("{cpuinfo}Serial\t\t: 1420000000001\n"));
        tree.insert("etc/hostname".into(), "board-of-somebody\n".into());
        tree.insert("sys/firmware/devicetree/base/serial-number".into(), "1420000000001\0".into());
        let board = write(&tree);
        let out = tempfile::tempdir().unwrap();
        let copy = out.path().join("copy");
        let capture = || {
            std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/capture_sysfs.sh"))
                .args([&copy, board.path()])
                .output()
                .unwrap()
        };
        let output = capture();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(sensed(&copy), sensed(board.path()));
        let (mut original, mut captured) = (device::describe(board.path()), device::describe(&copy));
        let machines = [&mut original, &mut captured].map(|d| d.facts.remove("machine_sha256"));
        assert_ne!(machines[0], machines[1], "the serial number was hashed once more");
        assert_eq!((captured.name, captured.facts), (original.name, original.facts));

        let mut todo = vec![copy.clone()];
        let mut files = 0;
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    todo.push(path);
                    continue;
                }
                files += 1;
                let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
                assert!(!text.contains("1420000000001") && !text.contains("somebody"), "{}: {text}", path.display());
            }
        }
        assert!(files > 30, "{files}");
        assert_eq!(capture().status.code(), Some(2), "a directory that holds something is not written to");
    }
}
