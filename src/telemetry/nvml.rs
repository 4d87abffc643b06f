//! Desktop and server GPUs through NVIDIA's management library, loaded at run time by nvml-wrapper: load, memory, power,
//! temperature, clocks, and the driver's own word on why clocks are held back. On a Tegra board NVML knows none of this,
//! so it is not asked there.

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
        NvidiaQuantity::MemoryUsed => gpu.memory_info().map(|m| (m.used + m.reserved) as f64 / 1048576.0),
        NvidiaQuantity::Power => gpu.power_usage().map(|milliwatts| f64::from(milliwatts) / 1000.0),
        NvidiaQuantity::Temperature => gpu.temperature(TemperatureSensor::Gpu).map(f64::from),
        NvidiaQuantity::Clock => gpu.clock_info(Clock::Graphics).map(f64::from),
        NvidiaQuantity::MemoryClock => gpu.clock_info(Clock::Memory).map(f64::from),
        NvidiaQuantity::ThrottleReasons => gpu.current_throttle_reasons().map(|reasons| reasons.bits() as f64),
    };
    reading.map_err(|e| e.to_string())
}

/// What one process holds on all GPUs, by the driver's own account: the context of the runtime, weights, and every pool that
/// a library took, used or not.
struct ProcessShare {
    pid: u32,
    devices: Vec<Device<'static>>,
}

impl ProcessShare {
    /// MiB; 0 for a process that has not touched a GPU.
    fn mib(&self) -> Reading {
        let mut bytes = 0;
        for device in &self.devices {
            let processes = device.running_compute_processes().map_err(|e| e.to_string())?;
            for process in processes.iter().filter(|p| p.pid == self.pid) {
                match process.used_gpu_memory {
                    UsedGpuMemory::Used(used) => bytes += used,
                    UsedGpuMemory::Unavailable => return Err("the driver does not tell processes apart".to_string()),
                }
            }
        }
        Ok(bytes as f64 / 1048576.0)
    }
}

impl Sensor for ProcessShare {
    fn channels(&self) -> Vec<Channel> {
        vec![Channel::Worker(WorkerMemory::Gpu)]
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        out.push(self.mib());
    }

    fn slow(&self) -> bool {
        true
    }
}

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
    if is_tegra(root) {
        return found
            .miss("nvml", "not asked on a Tegra board: it answers Not Supported there; the other sensors say more");
    }
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
        let mut quantities = Vec::new();
        for quantity in NvidiaQuantity::ALL {
            match read(&device, quantity) {
                Ok(_) => quantities.push(quantity),
                Err(reason) => found.miss(Channel::Nvidia(index, quantity), reason),
            }
        }
        if !quantities.is_empty() {
            found.add(Gpu { index, device, quantities });
        }
    }
    let Some(pid) = pid else { return };
    let share = ProcessShare { pid, devices: (0..count).filter_map(|i| nvml.device_by_index(i).ok()).collect() };
    match share.mib() {
        Ok(_) => found.add(share),
        Err(reason) => found.miss(Channel::Worker(WorkerMemory::Gpu), reason),
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

    #[test]
    fn gpus_are_read_through_the_library() {
        let root = tree(&[("fake.rs", FAKE), ("usr/lib/empty", "")]);
        let library = root.path().join("usr/lib/libnvidia-ml.so.1");
        let built = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--edition", "2024", "--crate-type", "cdylib", "-o"])
            .arg(&library)
            .arg(root.path().join("fake.rs"))
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
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
