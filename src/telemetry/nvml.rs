//! GPUs through NVIDIA's management library, loaded at run time by nvml-wrapper: load, memory, power, temperature, clocks, and the driver's own
//! word on why clocks are held back. On an Orin it answers Not Supported to all of this. On Thor it knows power, temperature and the memory of
//! processes, and answers constants for load and clocks (github.com/iopsystems/rezolus/issues/1105, read off a board;
//! github.com/rbonghi/jetson_stats/pull/852): what may be a constant is not asked on a Tegra board, so that no record holds it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::key::{Channel, NvidiaQuantity, WorkerMemory};
use super::sensor::{Found, Reading, Sensor, is_tegra};

/// Reasons for which clocks are cut by force: software power cap, hardware slowdown, software and hardware thermal
/// slowdown, power brake. An idle GPU or clocks that the user set are no throttling.
pub const THROTTLE_BITS: u64 = ThrottleReasons::SW_POWER_CAP
    .union(ThrottleReasons::HW_SLOWDOWN)
    .union(ThrottleReasons::SW_THERMAL_SLOWDOWN)
    .union(ThrottleReasons::HW_THERMAL_SLOWDOWN)
    .union(ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN)
    .bits();

/// Bytes of one MiB.
const MIB: f64 = 1048576.0;

/// One GPU, and the quantities that it really gives.
struct Gpu {
    index: u32,
    device: Device<'static>,
    quantities: Vec<NvidiaQuantity>,
}

impl Sensor for Gpu {
    fn channels(&self) -> Vec<Channel> {
        self.quantities.iter().map(|q| Channel::Nvidia(self.index, *q)).collect()
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        out.extend(self.quantities.iter().map(|q| read(&self.device, *q)));
    }
}

fn read(gpu: &Device<'_>, quantity: NvidiaQuantity) -> Reading {
    let reading = match quantity {
        NvidiaQuantity::Load => gpu.utilization_rates().map(|u| f64::from(u.gpu)),
        // The second version of the call counts what the driver reserves by itself; it is not free either.
        NvidiaQuantity::MemoryUsed => gpu.memory_info().map(|m| (m.used + m.reserved) as f64 / MIB),
        NvidiaQuantity::ProcessMemory => memory_by_process(gpu).map(|held| held.values().sum::<u64>() as f64 / MIB),
        NvidiaQuantity::Power => gpu.power_usage().map(|milliwatts| f64::from(milliwatts) / 1000.0),
        NvidiaQuantity::Temperature => gpu.temperature(TemperatureSensor::Gpu).map(f64::from),
        NvidiaQuantity::Clock => gpu.clock_info(Clock::Graphics).map(f64::from),
        NvidiaQuantity::MemoryClock => gpu.clock_info(Clock::Memory).map(f64::from),
        NvidiaQuantity::ThrottleReasons => gpu.current_throttle_reasons().map(|reasons| reasons.bits() as f64),
    };
    reading.map_err(|e| e.to_string())
}

/// Bytes that each process holds on a GPU, by the driver's own account: the context of the runtime, weights, and every pool
/// that a library took, used or not. A process that computes and draws stands in both lists with the same memory.
fn memory_by_process(gpu: &Device<'_>) -> Result<BTreeMap<u32, u64>, NvmlError> {
    let mut by_process = BTreeMap::new();
    // Some drivers have the first list only.
    for process in
        gpu.running_compute_processes()?.into_iter().chain(gpu.running_graphics_processes().unwrap_or_default())
    {
        let UsedGpuMemory::Used(bytes) = process.used_gpu_memory else { return Err(NvmlError::NotSupported) };
        let held = by_process.entry(process.pid).or_insert(0);
        *held = bytes.max(*held);
    }
    Ok(by_process)
}

/// What one process holds on all GPUs that tell processes apart.
struct ProcessShare {
    pid: u32,
    devices: Vec<Device<'static>>,
}

impl Sensor for ProcessShare {
    fn channels(&self) -> Vec<Channel> {
        vec![Channel::Worker(WorkerMemory::Gpu)]
    }

    /// MiB; 0 for a process that has not touched a GPU.
    fn read(&mut self, out: &mut Vec<Reading>) {
        let held = |device: &Device<'_>| Ok(memory_by_process(device)?.get(&self.pid).copied().unwrap_or(0));
        let bytes: Result<u64, NvmlError> = self.devices.iter().map(held).sum();
        out.push(bytes.map(|bytes| bytes as f64 / MIB).map_err(|e| e.to_string()));
    }

    fn slow(&self) -> bool {
        true
    }
}

/// What a Tegra board's NVML is asked for.
const ON_TEGRA: [NvidiaQuantity; 4] =
    [NvidiaQuantity::MemoryUsed, NvidiaQuantity::ProcessMemory, NvidiaQuantity::Power, NvidiaQuantity::Temperature];

/// The library: by the loader's own search on this machine, inside the tree for a captured one. It is never shut down,
/// because a GPU that no program holds is put to sleep by its driver and takes long to wake.
fn library(root: &Path) -> Result<&'static Nvml, String> {
    static LIVE: OnceLock<Result<Nvml, String>> = OnceLock::new();
    if root == Path::new("/") {
        LIVE.get_or_init(|| open(Path::new("libnvidia-ml.so.1"))).as_ref().map_err(Clone::clone)
    } else {
        open(&root.join("usr/lib/libnvidia-ml.so.1")).map(|nvml| &*Box::leak(Box::new(nvml)))
    }
}

fn open(path: &Path) -> Result<Nvml, String> {
    Nvml::builder().lib_path(path.as_os_str()).init().map_err(|e| match e {
        NvmlError::LibloadingError(_) => format!("{} cannot be loaded: no NVIDIA driver", path.display()),
        other => format!("NVML cannot be started: {other}"),
    })
}

/// Every GPU that the driver knows, and what process `pid` holds on them.
pub(super) fn find(root: &Path, pid: Option<u32>, found: &mut Found) {
    let tegra = is_tegra(root);
    let counted = library(root).and_then(|nvml| Ok((nvml, nvml.device_count().map_err(|e| e.to_string())?)));
    let (nvml, count) = match counted {
        Ok((_, 0)) => return found.miss("nvml", "the NVIDIA driver knows no GPU"),
        Ok(counted) => counted,
        Err(reason) => return found.miss("nvml", reason),
    };
    for index in 0..count {
        let device = match nvml.device_by_index(index) {
            Ok(device) => device,
            Err(reason) => {
                found.miss(format!("nvidia{index}"), reason.to_string());
                continue;
            }
        };
        let asked: &[NvidiaQuantity] = if tegra { &ON_TEGRA } else { &NvidiaQuantity::ALL };
        let mut quantities = Vec::new();
        let mut missing = Vec::new();
        for &quantity in asked {
            // A card's own memory says more than that of its processes.
            if quantity == NvidiaQuantity::ProcessMemory && quantities.contains(&NvidiaQuantity::MemoryUsed) {
                continue;
            }
            match read(&device, quantity) {
                Ok(_) => quantities.push(quantity),
                Err(reason) => missing.push((quantity, reason)),
            }
        }
        if tegra && quantities.is_empty() {
            found.miss("nvml", "it answers Not Supported on this board; the other sensors say more");
            continue;
        }
        missing.into_iter().for_each(|(quantity, reason)| found.miss(Channel::Nvidia(index, quantity), reason));
        if tegra {
            found.miss(
                format!("nvidia{index} load and clocks"),
                "not asked: on a Tegra board NVML answers constants, or Not Supported",
            );
        }
        if !quantities.is_empty() {
            found.add(Gpu { index, device, quantities });
        }
    }
    let Some(pid) = pid else { return };
    let devices = (0..count).filter_map(|i| nvml.device_by_index(i).ok());
    let devices: Vec<_> = devices.filter(|device| memory_by_process(device).is_ok()).collect();
    if !devices.is_empty() {
        found.add(ProcessShare { pid, devices });
    } else if !tegra {
        found.miss(Channel::Worker(WorkerMemory::Gpu), "the driver does not tell the memory of processes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Recorder, tree};

    /// An NVML of two GPUs, of which the second cannot measure its power.
    const FAKE: &str = r#"
        #![allow(non_snake_case)]
        use std::ffi::{c_uint, c_void};
        #[repr(C)] pub struct U { gpu: c_uint, memory: c_uint }
        #[repr(C)] pub struct M { version: c_uint, total: u64, reserved: u64, free: u64, used: u64 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlInit_v2() -> c_uint { 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlShutdown() -> c_uint { 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetCount_v2(n: *mut c_uint) -> c_uint { unsafe { *n = 2 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(i: c_uint, h: *mut *mut c_void) -> c_uint {
            unsafe { *h = (i as usize + 1) as *mut c_void }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetUtilizationRates(_: *mut c_void, u: *mut U) -> c_uint {
            unsafe { *u = U { gpu: 97, memory: 3 } }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(_: *mut c_void, m: *mut M) -> c_uint {
            if unsafe { (*m).version } != 0x2000028 { return 25 }
            unsafe { *m = M { version: 2, total: 8 << 30, reserved: 1 << 29, free: 6 << 30, used: 3 << 29 } }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetPowerUsage(h: *mut c_void, mw: *mut c_uint) -> c_uint {
            if h as usize == 2 { return 3 } unsafe { *mw = 123_500 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetTemperature(_: *mut c_void, _: c_uint, t: *mut c_uint) -> c_uint {
            unsafe { *t = 61 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetClockInfo(_: *mut c_void, k: c_uint, c: *mut c_uint) -> c_uint {
            unsafe { *c = 1000 + k }; 0 }
        #[repr(C)] pub struct P { pid: c_uint, used: u64, instance: c_uint, compute: c_uint }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
            _: *mut c_void, n: *mut c_uint, p: *mut P) -> c_uint {
            if p.is_null() { unsafe { *n = 2 }; return 7 }
            for (i, pid) in [77, 5].into_iter().enumerate() {
                unsafe { *p.add(i) = P { pid, used: 3 << 20, instance: 0, compute: 0 } }
            }
            unsafe { *n = 2 }; 0 }
    "#;

    /// The NVML of a Thor: a load and a clock that are constants, no memory of its own, two processes of which one is in both lists.
    const THOR: &str = r#"
        #![allow(non_snake_case)]
        use std::ffi::{c_uint, c_void};
        #[repr(C)] pub struct U { gpu: c_uint, memory: c_uint }
        #[repr(C)] #[derive(Clone, Copy)] pub struct P { pid: c_uint, used: u64, gpu: c_uint, compute: c_uint }
        fn list(all: &[P], n: *mut c_uint, out: *mut P) -> c_uint { unsafe {
            if out.is_null() { *n = all.len() as c_uint; return if all.is_empty() { 0 } else { 7 } }
            for (i, p) in all.iter().enumerate() { *out.add(i) = *p }
            *n = all.len() as c_uint; 0 } }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlInit_v2() -> c_uint { 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlShutdown() -> c_uint { 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetCount_v2(n: *mut c_uint) -> c_uint { unsafe { *n = 1 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(_: c_uint, h: *mut *mut c_void) -> c_uint {
            unsafe { *h = 1 as *mut c_void }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetUtilizationRates(_: *mut c_void, u: *mut U) -> c_uint {
            unsafe { *u = U { gpu: 0, memory: 0 } }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetClockInfo(_: *mut c_void, _: c_uint, c: *mut c_uint) -> c_uint {
            unsafe { *c = 1575 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(_: *mut c_void, _: *mut c_void) -> c_uint { 3 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetPowerUsage(_: *mut c_void, mw: *mut c_uint) -> c_uint {
            unsafe { *mw = 20_500 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetTemperature(_: *mut c_void, _: c_uint, t: *mut c_uint) -> c_uint {
            unsafe { *t = 64 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(_: *mut c_void, n: *mut c_uint, out: *mut P) -> c_uint {
            list(&[P { pid: 7, used: 3 << 30, gpu: 0, compute: 0 }, P { pid: 8, used: 1 << 20, gpu: 0, compute: 0 }], n, out) }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(_: *mut c_void, n: *mut c_uint, out: *mut P) -> c_uint {
            list(&[P { pid: 7, used: 3 << 30, gpu: 0, compute: 0 }], n, out) }
    "#;

    /// A tree with a library made of Rust text, and these files.
    fn machine(library: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tree(&[&[("fake.rs", library), ("usr/lib/empty", "")], files].concat());
        let built = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--edition", "2024", "--crate-type", "cdylib", "-o"])
            .arg(root.path().join("usr/lib/libnvidia-ml.so.1"))
            .arg(root.path().join("fake.rs"))
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        root
    }

    #[test]
    fn a_thor_is_asked_for_what_it_knows() {
        let tegra = &[("proc/device-tree/compatible", "nvidia,p3971-0089+p3834-0008\0nvidia,tegra264\0")];
        let root = machine(THOR, tegra);
        let mut found = Found::default();
        find(root.path(), None, &mut found);
        let missing: Vec<&str> = found.missing.iter().map(|m| m.sensor.as_str()).collect();
        assert_eq!(missing, ["nvidia0_mem_used_mib", "nvidia0 load and clocks"]);
        let mut recorder = Recorder::new(found);
        recorder.sample(true);
        let telemetry = recorder.finish();
        let values: Vec<(String, Option<f64>)> =
            telemetry.channels.iter().map(|c| (c.to_string(), telemetry.largest(c))).collect();
        let expected = [("nvidia0_processes_mib", 3073.0), ("nvidia0_w", 20.5), ("nvidia0_celsius", 64.0)];
        assert_eq!(values, expected.map(|(name, value)| (name.to_string(), Some(value))));

        // An Orin's library answers nothing.
        let mute = THOR
            .replace("unsafe { *mw = 20_500 }; 0", "3")
            .replace("unsafe { *t = 64 }; 0", "3")
            .replace(" list(&[", " if true { return 3 } list(&[");
        let orin =
            machine(&mute, &[("proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0")]);
        let mut found = Found::default();
        find(orin.path(), Some(7), &mut found);
        assert!(found.sensors.is_empty());
        let missing: Vec<(&str, &str)> = found.missing.iter().map(|m| (m.sensor.as_str(), m.reason.as_str())).collect();
        assert_eq!(missing, [("nvml", "it answers Not Supported on this board; the other sensors say more")]);
    }

    #[test]
    fn gpus_are_read_through_the_library() {
        let root = machine(FAKE, &[]);
        let mut found = Found::default();
        find(root.path(), Some(77), &mut found);
        let missing: Vec<(&str, &str)> = found.missing.iter().map(|m| (m.sensor.as_str(), m.reason.as_str())).collect();
        let [(first, no_such), (power, not_supported), (third, _)] = missing[..] else { panic!("{missing:?}") };
        assert_eq!((first, power, third), ("nvidia0_throttle_reasons", "nvidia1_w", "nvidia1_throttle_reasons"));
        assert!(no_such.contains("nvmlDeviceGetCurrentClocksThrottleReasons"), "{no_such}");
        assert_eq!(not_supported, "the requested operation is not available on the target device");
        let mut recorder = Recorder::new(found);
        recorder.sample(true);
        let telemetry = recorder.finish();
        let value = |gpu, quantity| telemetry.largest(&Channel::Nvidia(gpu, quantity));
        assert_eq!(value(0, NvidiaQuantity::Power), Some(123.5));
        assert_eq!(value(1, NvidiaQuantity::Power), None);
        // Allocated and reserved together: what is not free.
        assert_eq!(value(1, NvidiaQuantity::MemoryUsed), Some(2048.0));
        // Two GPUs with 3 MiB each; another process's are not counted.
        assert_eq!(telemetry.largest(&Channel::Worker(WorkerMemory::Gpu)), Some(6.0));
        assert_eq!((value(0, NvidiaQuantity::Load), value(0, NvidiaQuantity::Temperature)), (Some(97.0), Some(61.0)));
        let clocks = (value(0, NvidiaQuantity::Clock), value(0, NvidiaQuantity::MemoryClock));
        assert_eq!(clocks, (Some(1000.0), Some(1002.0)));
        assert_eq!(telemetry.channels.iter().filter_map(Channel::rail).collect::<Vec<_>>(), ["nvidia0"]);
    }

    #[test]
    fn the_bits_of_forced_clock_cuts_are_nvmls() {
        assert_eq!(THROTTLE_BITS, 0x4 | 0x8 | 0x20 | 0x40 | 0x80);
    }

    #[test]
    fn a_library_that_fails_is_a_missing_source() {
        let board = tree(&[("usr/lib/libnvidia-ml.so.1", "not a library")]);
        let mut found = Found::default();
        find(board.path(), Some(77), &mut found);
        assert!(found.sensors.is_empty());
        assert!(found.missing[0].sensor == "nvml" && found.missing[0].reason.ends_with("no NVIDIA driver"));
    }
}
