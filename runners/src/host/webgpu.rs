//! What can ONNX Runtime's WebGPU provider do, and on which GPU? It runs graphs on any GPU with a Vulkan driver. It does not say
//! which of several it took, nor what that one can do, so Vulkan's own list of devices is read.

use std::ffi::CStr;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use ash::vk;

use crate::types::Dtype;

/// Can it be had with this number, in this precision?
///
/// # Errors
/// Why not, in words.
pub(super) fn can(index: u32, precision: Dtype) -> Result<(), String> {
    if index > 0 {
        return Err(format!(
            "device webgpu:{index}: the provider takes no number of a GPU; use webgpu:0 and choose among several GPUs with \
             the option webgpu_power or with VK_DRIVER_FILES in the environment"
        ));
    }
    if precision == Dtype::Bf16 {
        return Err("device webgpu:0 has no bf16: WebGPU knows f32 and f16 only; use --dtype fp32 or fp16".to_string());
    }
    Ok(())
}

/// What the device complained of since it was last asked. The provider reports some faults nowhere but in its log: memory that
/// cannot be had is handed out as if it were there, and whatever is computed with it means nothing.
static FAULT: Mutex<Option<String>> = Mutex::new(None);

/// Takes a line of ONNX Runtime's log in; keeps the first that tells of a fault of the device.
pub(super) fn hear(line: &str) {
    if line.starts_with("WebGPU device error") || line.starts_with("WebGPU device lost") {
        FAULT.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| line.to_string());
    }
}

/// Did the device complain?
///
/// # Errors
/// It did: the first line of what it said.
pub(super) fn sound() -> Result<(), String> {
    let fault = FAULT.lock().unwrap_or_else(PoisonError::into_inner).take();
    fault.map_or(Ok(()), |text| Err(text.lines().next().unwrap_or_default().to_string()))
}

/// A device that a Vulkan driver offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VulkanDevice {
    /// Name, as the driver gives it.
    pub name: String,
    /// `discrete GPU`, `integrated GPU`, `virtual GPU`, `processor` or `other`.
    pub kind: &'static str,
    /// Name and version of the driver; `None` when it does not say.
    pub driver: Option<String>,
    /// Vulkan version.
    pub version: String,
    /// Largest storage buffer that a kernel can read, bytes (`maxStorageBufferRange`).
    pub largest_buffer: u64,
    /// Memory of the device, bytes: its device-local heaps. On boards with one memory that memory.
    pub memory: u64,
    /// Has it what WebGPU's `shader-f16` needs: 16-bit floats in kernels and in storage and uniform buffers?
    pub half: bool,
}

impl fmt::Display for VulkanDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VulkanDevice { name, kind, version, .. } = self;
        let driver = self.driver.as_deref().unwrap_or("driver not named");
        let half = if self.half { "fp16" } else { "no fp16" };
        let (memory, buffer) = (self.memory >> 20, self.largest_buffer >> 20);
        write!(
            f,
            "{name}, {kind}, {driver}, Vulkan {version}, {half}, memory {memory} MiB, largest buffer {buffer} MiB"
        )
    }
}

/// The devices that Vulkan's drivers offer, in their order. WebGPU takes one of them.
///
/// # Errors
/// There is no Vulkan loader, or it refuses to start; in its own words.
pub fn vulkan_devices() -> Result<Vec<VulkanDevice>, String> {
    // SAFETY: loads libvulkan.so.1, whose initialisers do nothing but read the environment.
    let entry = unsafe { ash::Entry::load() }.map_err(|e| format!("no Vulkan loader (package libvulkan1): {e}"))?;
    let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
    let create = vk::InstanceCreateInfo::default().application_info(&application);
    // SAFETY: the structures live until the call returns.
    let instance = unsafe { entry.create_instance(&create, None) }.map_err(|e| format!("no Vulkan driver: {e}"))?;
    // SAFETY: the instance lives; it is destroyed below, after its last use.
    let devices = unsafe { instance.enumerate_physical_devices() }.map_err(|e| format!("no Vulkan driver: {e}"));
    let devices = devices.map(|list| list.into_iter().map(|device| describe(&instance, device)).collect());
    // SAFETY: nothing made from the instance is left.
    unsafe { instance.destroy_instance(None) };
    devices
}

/// Asks one device. What it was not told by an old driver stays zero: no driver name, no 16-bit floats.
fn describe(instance: &ash::Instance, device: vk::PhysicalDevice) -> VulkanDevice {
    let mut driver = vk::PhysicalDeviceDriverProperties::default();
    let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
    let mut kernels = vk::PhysicalDeviceShaderFloat16Int8Features::default();
    let mut storage = vk::PhysicalDevice16BitStorageFeatures::default();
    let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut kernels).push_next(&mut storage);
    // SAFETY: the device is the instance's, and every structure in the chains lives and is of its own type.
    let memory = unsafe {
        instance.get_physical_device_properties2(device, &mut properties);
        instance.get_physical_device_features2(device, &mut features);
        instance.get_physical_device_memory_properties(device)
    };
    let properties = properties.properties;
    let text = |field: Result<&CStr, std::ffi::FromBytesUntilNulError>| {
        field.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let named = [text(driver.driver_name_as_c_str()), text(driver.driver_info_as_c_str())].join(" ");
    let version = properties.api_version;
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    VulkanDevice {
        name: text(properties.device_name_as_c_str()),
        kind: match properties.device_type {
            vk::PhysicalDeviceType::DISCRETE_GPU => "discrete GPU",
            vk::PhysicalDeviceType::INTEGRATED_GPU => "integrated GPU",
            vk::PhysicalDeviceType::VIRTUAL_GPU => "virtual GPU",
            vk::PhysicalDeviceType::CPU => "processor",
            _ => "other",
        },
        driver: Some(named.trim().to_string()).filter(|name| !name.is_empty()),
        version: [vk::api_version_major(version), vk::api_version_minor(version), vk::api_version_patch(version)]
            .map(|n| n.to_string())
            .join("."),
        largest_buffer: u64::from(properties.limits.max_storage_buffer_range),
        memory: heaps.filter(|heap| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL)).map(|heap| heap.size).sum(),
        half: kernels.shader_float16 != 0
            && storage.storage_buffer16_bit_access != 0
            && storage.uniform_and_storage_buffer16_bit_access != 0,
    }
}
