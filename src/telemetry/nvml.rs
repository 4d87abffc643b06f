//! Desktop and server GPUs through NVIDIA's management library, loaded at run time: load, memory, power, temperature,
//! clocks, and the driver's own word on why clocks are held back. On a Tegra board NVML knows none of this, so it is not
//! asked there.

use std::ffi::{CStr, c_char, c_uint, c_void};
use std::path::{Path, PathBuf};

use libloading::Library;

use super::{Channel, Found, Reading, Sensor, is_tegra};

/// What NVML calls success.
const SUCCESS: c_uint = 0;
const GRAPHICS_CLOCK: c_uint = 0;
const MEMORY_CLOCK: c_uint = 2;
const CORE_TEMPERATURE: c_uint = 0;

/// Reasons for which clocks are cut by force: software power cap, hardware slowdown, software and hardware thermal
/// slowdown, power brake. An idle GPU (bit 0) or clocks that the user set (bit 1) are no throttling.
pub const THROTTLE_BITS: u64 = 0x4 | 0x8 | 0x20 | 0x40 | 0x80;

type Handle = *mut c_void;

#[repr(C)]
#[derive(Default)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[repr(C)]
#[derive(Default)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

/// One GPU.
struct Gpu {
    index: u32,
    handle: Handle,
    library: Library,
}

// SAFETY: NVML handles may be used from any thread (NVML API reference, "thread-safe").
unsafe impl Send for Gpu {}

/// Calls `name(handle, extra…, &mut out)` and gives what it wrote.
macro_rules! ask {
    ($library:expr, $name:literal, $out:ty, $handle:expr $(, $extra:expr)*) => {{
        let mut out = <$out>::default();
        // SAFETY: the signature is NVML's, and the structure is the one that this function fills in.
        let code = unsafe {
            match $library.get::<unsafe extern "C" fn(Handle, $(ask!(@uint $extra),)* *mut $out) -> c_uint>($name) {
                Ok(function) => Ok(function($handle, $($extra,)* &mut out)),
                Err(_) => Err(()),
            }
        };
        let name = String::from_utf8_lossy(&$name[..$name.len() - 1]);
        match code {
            Ok(SUCCESS) => Ok(out),
            Ok(code) => Err(format!("{name}: {}", error_text(&$library, code))),
            Err(()) => Err(format!("this NVML has no {name}")),
        }
    }};
    (@uint $extra:expr) => { c_uint };
}

fn error_text(library: &Library, code: c_uint) -> String {
    // SAFETY: NVML returns a constant string for every code.
    unsafe {
        match library.get::<unsafe extern "C" fn(c_uint) -> *const c_char>(b"nvmlErrorString\0") {
            Ok(function) if !function(code).is_null() => CStr::from_ptr(function(code)).to_string_lossy().into_owned(),
            _ => format!("error {code}"),
        }
    }
}

/// What is asked of each GPU.
const QUANTITIES: [&str; 7] = ["load_percent", "mem_used_mib", "w", "celsius", "mhz", "mem_mhz", "throttle_reasons"];

impl Gpu {
    fn quantity(&self, name: &str) -> Reading {
        let (library, handle) = (&self.library, self.handle);
        match name {
            "load_percent" => {
                ask!(library, b"nvmlDeviceGetUtilizationRates\0", Utilization, handle).map(|u| f64::from(u.gpu))
            }
            "mem_used_mib" => {
                ask!(library, b"nvmlDeviceGetMemoryInfo\0", Memory, handle).map(|m| m.used as f64 / 1048576.0)
            }
            "w" => ask!(library, b"nvmlDeviceGetPowerUsage\0", c_uint, handle).map(|mw| f64::from(mw) / 1000.0),
            "celsius" => ask!(library, b"nvmlDeviceGetTemperature\0", c_uint, handle, CORE_TEMPERATURE).map(f64::from),
            "mhz" => ask!(library, b"nvmlDeviceGetClockInfo\0", c_uint, handle, GRAPHICS_CLOCK).map(f64::from),
            "mem_mhz" => ask!(library, b"nvmlDeviceGetClockInfo\0", c_uint, handle, MEMORY_CLOCK).map(f64::from),
            _ => ask!(library, b"nvmlDeviceGetCurrentClocksThrottleReasons\0", u64, handle).map(|bits| bits as f64),
        }
    }
}

/// The quantities of one GPU that it really gives.
struct Readable {
    gpu: Gpu,
    names: Vec<&'static str>,
}

impl Sensor for Readable {
    fn channels(&self) -> Vec<Channel> {
        let name = |n: &&str| format!("nvidia{}_{n}", self.gpu.index);
        self.names.iter().map(|n| Channel { source: "nvml", name: name(n) }).collect()
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        out.extend(self.names.iter().map(|name| self.gpu.quantity(name)));
    }
}

/// Where the library is: by the loader's own search on this machine, inside the tree for a captured one.
fn library_path(root: &Path) -> PathBuf {
    if root == Path::new("/") { "libnvidia-ml.so.1".into() } else { root.join("usr/lib/libnvidia-ml.so.1") }
}

fn open(path: &Path) -> Result<(Library, u32), String> {
    // SAFETY: loading the driver's management library runs its initialisers; there is no other way to ask it.
    let library =
        unsafe { Library::new(path) }.map_err(|_| format!("{} cannot be loaded: no NVIDIA driver", path.display()))?;
    // SAFETY: as NVML declares them.
    unsafe {
        let init = library.get::<unsafe extern "C" fn() -> c_uint>(b"nvmlInit_v2\0").map_err(|e| e.to_string())?;
        match init() {
            SUCCESS => {}
            code => return Err(format!("nvmlInit_v2: {}", error_text(&library, code))),
        }
        let count = library
            .get::<unsafe extern "C" fn(*mut c_uint) -> c_uint>(b"nvmlDeviceGetCount_v2\0")
            .map_err(|e| e.to_string())?;
        let mut n = 0;
        match count(&mut n) {
            SUCCESS => Ok((library, n)),
            code => Err(format!("nvmlDeviceGetCount_v2: {}", error_text(&library, code))),
        }
    }
}

fn gpu(path: &Path, index: u32) -> Result<Gpu, String> {
    let (library, _) = open(path)?;
    let mut handle: Handle = std::ptr::null_mut();
    // SAFETY: as NVML declares it; the handle is only used if the call succeeded.
    let code = unsafe {
        library
            .get::<unsafe extern "C" fn(c_uint, *mut Handle) -> c_uint>(b"nvmlDeviceGetHandleByIndex_v2\0")
            .map_err(|e| e.to_string())?(index, &mut handle)
    };
    match code {
        SUCCESS => Ok(Gpu { index, handle, library }),
        code => Err(format!("nvmlDeviceGetHandleByIndex_v2: {}", error_text(&library, code))),
    }
}

/// Every GPU that the driver knows.
pub(super) fn find(root: &Path, found: &mut Found) {
    if is_tegra(root) {
        return found
            .miss("nvml", "not asked on a Tegra board: it answers Not Supported there; the other sensors say more");
    }
    let path = library_path(root);
    let count = match open(&path) {
        Ok((_, 0)) => return found.miss("nvml", "the NVIDIA driver knows no GPU"),
        Ok((_, count)) => count,
        Err(reason) => return found.miss("nvml", reason),
    };
    for index in 0..count {
        let gpu = match gpu(&path, index) {
            Ok(gpu) => gpu,
            Err(reason) => {
                found.miss(&format!("nvidia{index}"), reason);
                continue;
            }
        };
        let mut names = Vec::new();
        for name in QUANTITIES {
            match gpu.quantity(name) {
                Ok(_) => names.push(name),
                Err(reason) => found.miss(&format!("nvidia{index}_{name}"), reason),
            }
        }
        if !names.is_empty() {
            found.add(Readable { gpu, names });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Recorder, tree};
    use super::*;

    /// An NVML of two GPUs, of which the second cannot measure its power.
    const FAKE: &str = r#"
        #![allow(non_snake_case)]
        use std::ffi::{c_char, c_uint, c_void};
        #[repr(C)] pub struct U { gpu: c_uint, memory: c_uint }
        #[repr(C)] pub struct M { total: u64, free: u64, used: u64 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlInit_v2() -> c_uint { 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetCount_v2(n: *mut c_uint) -> c_uint { unsafe { *n = 2 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(i: c_uint, h: *mut *mut c_void) -> c_uint {
            unsafe { *h = (i as usize + 1) as *mut c_void }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetUtilizationRates(_: *mut c_void, u: *mut U) -> c_uint {
            unsafe { *u = U { gpu: 97, memory: 3 } }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetMemoryInfo(_: *mut c_void, m: *mut M) -> c_uint {
            unsafe { *m = M { total: 8 << 30, free: 6 << 30, used: 2 << 30 } }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetPowerUsage(h: *mut c_void, mw: *mut c_uint) -> c_uint {
            if h as usize == 2 { return 3 } unsafe { *mw = 123_500 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetTemperature(_: *mut c_void, _: c_uint, t: *mut c_uint) -> c_uint {
            unsafe { *t = 61 }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlDeviceGetClockInfo(_: *mut c_void, k: c_uint, c: *mut c_uint) -> c_uint {
            unsafe { *c = 1000 + k }; 0 }
        #[unsafe(no_mangle)] pub extern "C" fn nvmlErrorString(_: c_uint) -> *const c_char { c"Not Supported".as_ptr() }
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
        find(root.path(), &mut found);
        let missing: Vec<String> = found.missing.iter().map(|m| format!("{}: {}", m.sensor, m.reason)).collect();
        assert_eq!(
            missing,
            [
                "nvidia0_throttle_reasons: this NVML has no nvmlDeviceGetCurrentClocksThrottleReasons",
                "nvidia1_w: nvmlDeviceGetPowerUsage: Not Supported",
                "nvidia1_throttle_reasons: this NVML has no nvmlDeviceGetCurrentClocksThrottleReasons",
            ]
        );
        let mut recorder = Recorder::new(found);
        recorder.sample(true);
        let telemetry = recorder.finish();
        let value = |name: &str| telemetry.largest(name);
        assert_eq!(value("nvidia0_w"), Some(123.5));
        assert_eq!(value("nvidia1_w"), None);
        assert_eq!((value("nvidia1_mem_used_mib"), value("nvidia0_load_percent")), (Some(2048.0), Some(97.0)));
        assert_eq!((value("nvidia0_mhz"), value("nvidia0_mem_mhz")), (Some(1000.0), Some(1002.0)));
        assert_eq!(telemetry.rails(), ["nvidia0"]);
    }
}
