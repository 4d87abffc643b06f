//! The functions of ONNX Runtime's C API about plugin libraries. They came with 1.22 and 1.23, after the level that this crate
//! is built for, which it keeps so that a board's older runtime still does. A runtime is therefore asked for the longer table
//! when it is there; the bindings' own end before these entries.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;

use ort::sys::{OrtApi, OrtEpDevice, OrtHardwareDevice, OrtKeyValuePairs, OrtMemoryInfo, OrtStatusPtr};
use ort::sys::{OrtEnv, OrtSessionOptions};

/// Level of the C API that has all of them: that of ONNX Runtime 1.23.
pub(super) const LEVEL: u32 = 23;

/// Entries of the table that are not used here.
type Others<const N: usize> = [*const c_void; N];

/// ONNX Runtime's table of functions as far as it is used here. Entries never move: a later level only adds some at the end.
/// Names are ONNX Runtime's, places those of `onnxruntime_c_api.h`, which asserts some of them itself (`GetEpApi`, the last of
/// level 22, is 317).
#[repr(C)]
pub(super) struct Table {
    _0: Others<298>,
    /// `GetKeyValuePairs`
    pub(super) pairs: unsafe extern "system" fn(
        *const OrtKeyValuePairs,
        *mut *const *const c_char,
        *mut *const *const c_char,
        *mut usize,
    ),
    _299: Others<2>,
    /// `RegisterExecutionProviderLibrary`
    pub(super) register: unsafe extern "system" fn(*mut OrtEnv, *const c_char, *const c_char) -> OrtStatusPtr,
    _302: Others<1>,
    /// `GetEpDevices`
    pub(super) devices:
        unsafe extern "system" fn(*const OrtEnv, *mut *const *const OrtEpDevice, *mut usize) -> OrtStatusPtr,
    /// `SessionOptionsAppendExecutionProvider_V2`
    pub(super) append: unsafe extern "system" fn(
        *mut OrtSessionOptions,
        *mut OrtEnv,
        *const *const OrtEpDevice,
        usize,
        *const *const c_char,
        *const *const c_char,
        usize,
    ) -> OrtStatusPtr,
    _305: Others<2>,
    /// `HardwareDevice_Type`
    pub(super) hardware_type: unsafe extern "system" fn(*const OrtHardwareDevice) -> c_int,
    /// `HardwareDevice_VendorId`
    pub(super) hardware_vendor_id: unsafe extern "system" fn(*const OrtHardwareDevice) -> u32,
    /// `HardwareDevice_Vendor`
    pub(super) hardware_vendor: unsafe extern "system" fn(*const OrtHardwareDevice) -> *const c_char,
    /// `HardwareDevice_DeviceId`
    pub(super) hardware_id: unsafe extern "system" fn(*const OrtHardwareDevice) -> u32,
    /// `HardwareDevice_Metadata`
    pub(super) hardware_metadata: unsafe extern "system" fn(*const OrtHardwareDevice) -> *const OrtKeyValuePairs,
    /// `EpDevice_EpName`
    pub(super) provider: unsafe extern "system" fn(*const OrtEpDevice) -> *const c_char,
    _313: Others<1>,
    /// `EpDevice_EpMetadata`
    pub(super) metadata: unsafe extern "system" fn(*const OrtEpDevice) -> *const OrtKeyValuePairs,
    _315: Others<1>,
    /// `EpDevice_Device`
    pub(super) hardware: unsafe extern "system" fn(*const OrtEpDevice) -> *const OrtHardwareDevice,
    _317: Others<4>,
    /// `MemoryInfoGetDeviceMemType`
    pub(super) memory_kind: unsafe extern "system" fn(*const OrtMemoryInfo) -> c_int,
    /// `MemoryInfoGetVendorId`
    pub(super) memory_vendor_id: unsafe extern "system" fn(*const OrtMemoryInfo) -> u32,
    _323: Others<51>,
    /// `EpDevice_MemoryInfo`; 0 asks for the device's own memory.
    pub(super) memory: unsafe extern "system" fn(*const OrtEpDevice, c_int) -> *const OrtMemoryInfo,
}

const fn place(bytes: usize) -> usize {
    bytes / size_of::<*const c_void>()
}

// The bindings' table is the beginning of this one, up to the last entry of level 18.
const _: () = assert!(place(size_of::<OrtApi>()) == 280);
const _: () = assert!(place(std::mem::offset_of!(Table, register)) == 301);
const _: () = assert!(place(std::mem::offset_of!(Table, append)) == 304);
const _: () = assert!(place(std::mem::offset_of!(Table, hardware)) == 316);
const _: () = assert!(place(std::mem::offset_of!(Table, memory)) == 374);

/// The table of a runtime that is loaded.
///
/// # Errors
/// It is older.
pub(super) fn table(runtime: &Path) -> Result<&'static Table, String> {
    // SAFETY: the file is loaded already, and stays: this only counts one more user of it.
    let library = unsafe { libloading::Library::new(runtime) }.map_err(|e| e.to_string())?;
    type Base = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: `OrtGetApiBase` has had this signature since the first release, and gives a static table.
    let base = unsafe { library.get::<Base>(b"OrtGetApiBase").map_err(|e| e.to_string())?().as_ref() };
    std::mem::forget(library);
    // SAFETY: a runtime that knows the level gives its table, which lives as long as the library and begins as `Table`; an older
    // one gives null.
    base.and_then(|base| unsafe { (base.GetApi)(LEVEL).cast::<Table>().as_ref() })
        .ok_or_else(|| format!("it has no C API {LEVEL}"))
}

/// The words that ONNX Runtime wraps in a status.
pub(super) fn outcome(status: OrtStatusPtr) -> Result<(), String> {
    // SAFETY: the status comes from ONNX Runtime and is looked at once.
    unsafe { ort::Error::result_from_status(status) }.map_err(|e: ort::Error| e.to_string())
}

/// Text of ONNX Runtime's.
///
/// # Safety
/// `text` is null, or a C string that lives until this returns.
pub(super) unsafe fn text(text: *const c_char) -> String {
    // SAFETY: the caller's promise.
    if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
}

impl Table {
    /// A list of names and values.
    ///
    /// # Safety
    /// `list` is null, or a list that lives until this returns.
    pub(super) unsafe fn read_pairs(&self, list: *const OrtKeyValuePairs) -> Vec<(String, String)> {
        let (mut keys, mut values, mut count) = (std::ptr::null(), std::ptr::null(), 0);
        if list.is_null() {
            return Vec::new();
        }
        // SAFETY: the pointers are valid for writing; afterwards both arrays have `count` C strings, which the list owns.
        unsafe {
            (self.pairs)(list, &mut keys, &mut values, &mut count);
            (0..count).map(|i| (text(*keys.add(i)), text(*values.add(i)))).collect()
        }
    }
}
