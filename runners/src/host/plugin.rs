//! What does a plugin library of execution providers offer? Since 1.22 ONNX Runtime takes providers from libraries of their own, which find
//! their devices among the machine's hardware. Such a library is only ever loaded because the user named it (`--ep-library`).

mod api;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError};

use ort::AsPointer;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::sys::{OrtEpDevice, OrtMemoryInfo, OrtMemoryInfoDeviceType};
use serde::{Deserialize, Serialize};

use super::providers::{ProviderPairs, fetch_command};
use super::runtime::{Runtime, release, same_file};
use crate::digest;
use crate::runner::RunnerError;
use crate::types::{Device, PluginReport, ProviderName};

/// Oldest ONNX Runtime that takes plugin libraries here: 1.22 takes them, but does not say where their devices' memory is.
pub const OLDEST: (u32, u32) = (1, api::LEVEL);

/// A device that a plugin library offers on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginDevice {
    /// How it is asked for; `None`: its provider's name cannot be one of a device.
    pub device: Option<Device>,
    /// The provider's name in ONNX Runtime, e.g. `WebGpuExecutionProvider`.
    pub provider: String,
    /// Version that the provider gives itself; `None`: it gives none.
    pub version: Option<String>,
    /// What ONNX Runtime knows of the hardware, in words.
    pub hardware: String,
}

/// What a plugin library offers on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginFacts {
    /// Its devices, in the order of their numbers; never none.
    pub devices: Vec<PluginDevice>,
}

impl PluginFacts {
    /// What it says of a device; `None`: it does not offer it.
    pub fn of(&self, device: Device) -> Option<&PluginDevice> {
        self.devices.iter().find(|offered| offered.device == Some(device))
    }

    /// The devices by name, for messages.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.devices.iter().filter_map(|d| Some(d.device?.to_string())).collect();
        names.join(", ")
    }
}

/// What the devices of a provider are called: its name in ONNX Runtime without `ExecutionProvider`, in lower case, letters and digits
/// only. One that has the name of a provider of ONNX Runtime's own, whose options are others, gets `plugin` behind it.
fn short_name(provider: &str) -> Option<ProviderName> {
    let lower = provider.to_ascii_lowercase();
    let stem = lower.strip_suffix("executionprovider").filter(|stem| !stem.is_empty()).unwrap_or(&lower);
    let mut name: String = stem.chars().filter(char::is_ascii_alphanumeric).collect();
    if matches!(name.as_str(), "cpu" | "cuda" | "tensorrt" | "trt") {
        name.push_str("plugin");
    }
    ProviderName::new(&name)
}

/// The n-th device of a provider of that name. WebGPU's chooses its adapter itself, so it has one device whatever it is offered.
fn named(name: ProviderName, n: u32) -> Option<Device> {
    match name.as_str() {
        "webgpu" => (n == 0).then_some(Device::WebGpu(0)),
        _ => Some(Device::Plugin(name, n)),
    }
}

/// Does a device exist only with a plugin library? Then none was given; the sentence says so.
pub fn needs_library(device: Device) -> Option<String> {
    match device {
        Device::Plugin(..) => Some(crate::types::UnknownDevice(device.to_string()).to_string()),
        _ => None,
    }
}

/// Looks at a plugin library with a runtime: what it offers, or why it cannot be used.
pub type LookAtPlugin = fn(&Path, &Path) -> Result<PluginFacts, String>;

static LOOK: OnceLock<LookAtPlugin> = OnceLock::new();

/// From now on this process looks at plugin libraries by `look`, before it loads one itself: loading runs the library's own code, which may
/// crash. The first call decides. Without one they are loaded at once.
pub fn look_with(look: LookAtPlugin) {
    let _ = LOOK.set(look);
}

/// Looks at a plugin library with a runtime, in a process of its own where that was set up.
///
/// # Errors
/// [`RunnerError::Environment`]: the file is missing or no plugin library, it crashes, it offers no device here, or the runtime is too
/// old for it.
pub fn look(runtime: &Path, version: &str, library: &Path) -> Result<PluginFacts, RunnerError> {
    let wrong = |text: String| RunnerError::Environment(format!("--ep-library {}: {text}", library.display()));
    fit(runtime, version, library).map_err(wrong)?;
    LOOK.get().copied().unwrap_or(inspect)(runtime, library).map_err(wrong)
}

/// What can be said without loading it.
fn fit(runtime: &Path, version: &str, library: &Path) -> Result<(), String> {
    if !library.is_file() {
        return Err("no such file".to_string());
    }
    if release(version) < OLDEST {
        return Err(format!(
            "ONNX Runtime {version} ({}) is too old for plugin libraries: {}.{} or newer is needed; {} fetches one, or name one with \
             --ort-lib FILE",
            runtime.display(),
            OLDEST.0,
            OLDEST.1,
            fetch_command()
        ));
    }
    Ok(())
}

/// Loads both into this process, to stay, and asks the plugin.
///
/// # Errors
/// Why it cannot be used.
pub fn inspect(runtime: &Path, library: &Path) -> Result<PluginFacts, String> {
    let runtime = super::runtime::load(Some(runtime)).map_err(|e| e.to_string())?;
    registered(runtime, library).map(|plugin| plugin.facts.clone())
}

/// A plugin library that ONNX Runtime has loaded; it stays until the process ends.
pub(crate) struct Plugin {
    path: PathBuf,
    sha256: String,
    facts: PluginFacts,
    table: &'static api::Table,
    /// In the order of `facts.devices`.
    devices: Vec<*const OrtEpDevice>,
}

// SAFETY: the devices belong to ONNX Runtime's environment, which keeps and does not change them while the library is registered: always.
unsafe impl Send for Plugin {}
// SAFETY: as above.
unsafe impl Sync for Plugin {}

/// A device of a loaded plugin library.
#[derive(Clone, Copy)]
pub(crate) struct PluginHandle {
    plugin: &'static Plugin,
    at: usize,
}

impl Plugin {
    /// Has ONNX Runtime load the library.
    fn register(runtime: &Runtime, library: &Path) -> Result<Plugin, String> {
        fit(&runtime.path, &runtime.version, library)?;
        let version = &runtime.version;
        let refused = |text: String| {
            format!(
                "ONNX Runtime {version} does not take it as a plugin library of execution providers: {text}. Name such a library, as the \
                 one in the package onnxruntime-ep-webgpu, in a version for this ONNX Runtime and this machine"
            )
        };
        let path = library.canonicalize().unwrap_or_else(|_| library.to_path_buf());
        let (_, sha256) = digest::sha256_of(&path).map_err(|e| e.to_string())?;
        let table = api::table(&runtime.path).map_err(refused)?;
        let environment = runtime.environment.ptr();
        let before = devices(table, environment).map_err(refused)?;
        // Some libraries call their provider by the name that they are registered under.
        let name = CString::new(registration(&path)).map_err(|e| refused(e.to_string()))?;
        let file = CString::new(path.as_os_str().as_bytes()).map_err(|e| refused(e.to_string()))?;
        // SAFETY: the environment lives as long as the runtime; ONNX Runtime guards it itself. Both texts live until the call returns.
        let status = unsafe { (table.register)(environment.cast_mut(), name.as_ptr(), file.as_ptr()) };
        api::outcome(status).map_err(refused)?;
        let after = devices(table, environment).map_err(refused)?;
        let found = after.into_iter().filter(|device| !before.contains(device));
        // SAFETY: they come from the environment, and their library stays registered.
        let mut found: Vec<Found> = found.map(|device| unsafe { Found::read(table, device) }).collect();
        if found.is_empty() {
            return Err("it offers no device on this machine. A plugin chooses among the hardware that ONNX Runtime finds, on Linux the \
                        GPUs below /sys/class/drm: is there one, with its driver loaded?"
                .to_string());
        }
        found.sort_by(|a, b| a.order.cmp(&b.order));
        let devices = found.iter().map(|found| found.pointer).collect();
        Ok(Plugin { path, sha256, facts: facts(found), table, devices })
    }

    /// Its device of that name.
    ///
    /// # Errors
    /// It has none; which it has.
    pub(crate) fn device(&'static self, device: Device) -> Result<PluginHandle, RunnerError> {
        let at = self.facts.devices.iter().position(|offered| offered.device == Some(device));
        at.map(|at| PluginHandle { plugin: self, at }).ok_or_else(|| {
            let (library, offered) = (self.path.display(), self.facts.names());
            RunnerError::Environment(format!(
                "device {device}: --ep-library {library} does not offer it; it offers: {offered}"
            ))
        })
    }
}

/// The library, loaded once per process.
fn registered(runtime: &Runtime, library: &Path) -> Result<&'static Plugin, String> {
    let mut plugins = runtime.plugins.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(plugin) = among(&plugins, library) {
        return Ok(plugin);
    }
    let plugin: &'static Plugin = Box::leak(Box::new(Plugin::register(runtime, library)?));
    plugins.push(plugin);
    Ok(plugin)
}

fn among(plugins: &[&'static Plugin], library: &Path) -> Option<&'static Plugin> {
    plugins.iter().copied().find(|plugin| same_file(&plugin.path, library))
}

/// The device of a library, which is loaded once per process; looked at in a process of its own before, where that was set up.
///
/// # Errors
/// As [`look`]; also when it does not offer the device.
pub(crate) fn handle(runtime: &Runtime, library: &Path, device: Device) -> Result<PluginHandle, RunnerError> {
    let known = among(&runtime.plugins.lock().unwrap_or_else(PoisonError::into_inner), library).is_some();
    if !known && LOOK.get().is_some() {
        look(&runtime.path, &runtime.version, library)?;
    }
    let wrong = |text: String| RunnerError::Environment(format!("--ep-library {}: {text}", library.display()));
    registered(runtime, library).map_err(wrong)?.device(device)
}

/// The name under which a library is registered: its file's, without `lib`, `onnxruntime_`, `providers_` and what follows the first dot.
fn registration(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    let parts = ["lib", "onnxruntime_", "providers_"];
    parts.iter().fold(stem, |rest, part| rest.strip_prefix(part).unwrap_or(rest)).to_string()
}

/// All devices that the environment knows.
fn devices(table: &api::Table, environment: *const ort::sys::OrtEnv) -> Result<Vec<*const OrtEpDevice>, String> {
    let (mut list, mut count) = (std::ptr::null(), 0);
    // SAFETY: both pointers are valid for writing; on success `list` has `count` devices, and belongs to the environment.
    api::outcome(unsafe { (table.devices)(environment, &mut list, &mut count) })?;
    // SAFETY: see above. It is copied, because another registration may move it.
    Ok(if count == 0 { Vec::new() } else { unsafe { std::slice::from_raw_parts(list, count) }.to_vec() })
}

/// A device as ONNX Runtime tells of it.
struct Found {
    pointer: *const OrtEpDevice,
    provider: String,
    version: Option<String>,
    hardware: String,
    /// What makes the order of devices the same every time: ONNX Runtime's own is that of a hash table.
    order: (i32, String, u64, u32),
}

impl Found {
    /// # Safety
    /// The device is one of an environment that lives.
    unsafe fn read(table: &api::Table, device: *const OrtEpDevice) -> Found {
        // SAFETY: texts and lists belong to the device, and the hardware to the environment.
        let (provider, metadata, hardware, about, kind, vendor, vendor_id, id) = unsafe {
            let hardware = (table.hardware)(device);
            (
                api::text((table.provider)(device)),
                table.read_pairs((table.metadata)(device)),
                hardware,
                table.read_pairs((table.hardware_metadata)(hardware)),
                (table.hardware_type)(hardware),
                api::text((table.hardware_vendor)(hardware)),
                (table.hardware_vendor_id)(hardware),
                (table.hardware_id)(hardware),
            )
        };
        debug_assert!(!hardware.is_null());
        let value = |list: &[(String, String)], name: &str| {
            list.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        let (rank, word) = match kind {
            1 => (0, "GPU"),
            2 => (1, "NPU"),
            0 => (2, "CPU"),
            _ => (3, "other hardware"),
        };
        let bus = value(&about, "pci_bus_id");
        let card = value(&about, "card_idx");
        let vendor = if vendor.is_empty() { String::new() } else { format!(" {vendor}") };
        let mut words = format!("{word}{vendor}, vendor {vendor_id:#06x}, device {id:#06x}");
        words.extend(bus.as_ref().map(|bus| format!(", PCI {bus}")));
        words.extend(card.as_ref().map(|card| format!(", card {card}")));
        let card = card.and_then(|card| card.parse().ok()).unwrap_or(u64::MAX);
        Found {
            pointer: device,
            provider,
            version: value(&metadata, "version"),
            hardware: words,
            order: (rank, bus.unwrap_or_default(), card, id),
        }
    }
}

/// Numbers the devices of each provider; two providers whose names differ in other signs alone count on.
fn facts(found: Vec<Found>) -> PluginFacts {
    let mut next: BTreeMap<String, u32> = BTreeMap::new();
    let devices = found.into_iter().map(|found| {
        let name = short_name(&found.provider);
        let number = next.entry(name.map(|name| name.to_string()).unwrap_or_default()).or_default();
        let device = name.and_then(|name| named(name, *number));
        *number += 1;
        PluginDevice { device, provider: found.provider, version: found.version, hardware: found.hardware }
    });
    PluginFacts { devices: devices.collect() }
}

/// Names of memory that `CreateMemoryInfo` takes. ort 2.0.0-rc.15 copies a description of memory by making another of its name, and panics
/// where that is refused; so a device's memory is described by one of these that means the same place.
const KNOWN_MEMORY: [&str; 10] = [
    "WebGPU_Buf",
    "WebGPU_Buffer",
    "Cuda",
    "Hip",
    "OpenVINO_GPU",
    "DML",
    "Cann",
    "QnnHtpShared",
    "OpenVINO_CPU",
    "HTP",
];

impl PluginHandle {
    fn pointer(&self) -> *const OrtEpDevice {
        self.plugin.devices[self.at]
    }

    fn facts(&self) -> &PluginDevice {
        &self.plugin.facts.devices[self.at]
    }

    /// What the record says of it.
    pub(super) fn report(&self) -> PluginReport {
        let PluginDevice { provider, version, hardware, .. } = self.facts().clone();
        let Plugin { path, sha256, .. } = self.plugin;
        PluginReport { path: path.clone(), sha256: sha256.clone(), provider, version, hardware }
    }

    /// Has the sessions of a builder run on it.
    pub(super) fn append(
        &self,
        builder: &SessionBuilder,
        runtime: &Runtime,
        pairs: &ProviderPairs,
    ) -> Result<(), String> {
        let text = |text: &String| CString::new(text.as_str()).map_err(|e| e.to_string());
        let keys = pairs.keys().map(text).collect::<Result<Vec<_>, _>>()?;
        let values = pairs.values().map(text).collect::<Result<Vec<_>, _>>()?;
        let [keys_at, values_at] = [&keys, &values].map(|list| list.iter().map(|t| t.as_ptr()).collect::<Vec<_>>());
        let (options, environment) = (builder.ptr().cast_mut(), runtime.environment.ptr().cast_mut());
        let device = self.pointer();
        // SAFETY: builder, environment and device live, and so do the texts until the call returns. Nobody else has the builder.
        let status = unsafe {
            (self.plugin.table.append)(
                options,
                environment,
                &device,
                1,
                keys_at.as_ptr(),
                values_at.as_ptr(),
                keys.len(),
            )
        };
        api::outcome(status)
    }

    /// The memory in which a session keeps tensors on the device: the host's, where the device has none of its own.
    pub(super) fn memory(&self, session: &Session) -> Result<Allocator, String> {
        // SAFETY: the device lives; what it says of its memory lives as long.
        let own = unsafe { (self.plugin.table.memory)(self.pointer(), 0) };
        if own.is_null() {
            return Ok(Allocator::default());
        }
        // SAFETY: see above.
        let (place, index) = unsafe { (self.place(own), index(own)) };
        let mut equal = KNOWN_MEMORY.iter().filter_map(|name| {
            MemoryInfo::new(AllocationDevice::new(name), index, AllocatorType::Device, MemoryType::Default).ok()
        });
        // SAFETY: a description that was just made.
        let info = equal.find(|info| unsafe { self.place(info.ptr()) } == place).ok_or_else(|| {
            format!(
                "its memory (kind {}, vendor {:#06x}) is of a sort that this program cannot bind tensors in",
                place.0, place.2
            )
        })?;
        Allocator::new(session, info).map_err(|e| e.to_string())
    }

    /// Where memory is: kind of device, kind of memory, vendor.
    ///
    /// # Safety
    /// The description lives.
    unsafe fn place(&self, info: *const OrtMemoryInfo) -> (i32, i32, u32) {
        let mut kind = OrtMemoryInfoDeviceType::OrtMemoryInfoDeviceType_CPU;
        // SAFETY: the caller's promise; the pointer is valid for writing.
        unsafe {
            (ort::api().MemoryInfoGetDeviceType)(info, &mut kind);
            (kind as i32, (self.plugin.table.memory_kind)(info), (self.plugin.table.memory_vendor_id)(info))
        }
    }
}

/// Number of the device that memory is on.
///
/// # Safety
/// The description lives.
unsafe fn index(info: *const OrtMemoryInfo) -> i32 {
    let mut index = 0;
    // SAFETY: the caller's promise; the pointer is valid for writing. It cannot fail.
    let status = unsafe { (ort::api().MemoryInfoGetId)(info, &mut index) };
    api::outcome(status).map_or(0, |()| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_called_by_their_provider() {
        for (provider, name) in [
            ("WebGpuExecutionProvider", Some("webgpu")),
            ("NvTensorRTRTXExecutionProvider", Some("nvtensorrtrtx")),
            ("QNN-EP", Some("qnnep")),
            ("CUDAExecutionProvider", Some("cudaplugin")),
            ("CPUExecutionProvider", Some("cpuplugin")),
            ("ExecutionProvider", Some("executionprovider")),
            ("7", None),
            ("", None),
        ] {
            assert_eq!(short_name(provider).map(|name| name.to_string()).as_deref(), name, "{provider}");
        }
        let webgpu = short_name("WebGpuExecutionProvider").unwrap();
        assert_eq!([named(webgpu, 0), named(webgpu, 1)], [Some(Device::WebGpu(0)), None]);
        let found = |provider: &str, card: u64| Found {
            pointer: std::ptr::null(),
            provider: provider.to_string(),
            version: None,
            hardware: String::new(),
            order: (0, String::new(), card, 0),
        };
        let numbered = facts(vec![found("QNN-EP", 0), found("QNNEP", 1), found("QNN-EP", 2)]);
        assert_eq!(numbered.names(), "qnnep:0, qnnep:1, qnnep:2", "no two devices of one name");
    }

    #[test]
    fn libraries_are_registered_under_their_files_names() {
        for (file, name) in
            [("/a/libonnxruntime_providers_webgpu.so", "webgpu"), ("libtoy.so.1.2", "toy"), ("onnxruntime_ep.so", "ep")]
        {
            assert_eq!(registration(Path::new(file)), name);
        }
    }
}
