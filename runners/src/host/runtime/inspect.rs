//! Can this library be loaded, and what does it say about itself? Loading runs the library's own code, and one that was built for another
//! machine may crash in it. A program that can start itself anew therefore looks in a process of its own ([`look_with`]).

use std::ffi::{CStr, c_char, c_int};
use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::{OLDEST, release};

/// What an ONNX Runtime library says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryFacts {
    /// Version, e.g. `1.31.1`.
    pub version: String,
    /// Execution providers compiled into it.
    pub providers: Vec<String>,
}

/// Looks at a library file: what it says, or why it cannot be used.
pub type Look = fn(&Path) -> Result<LibraryFacts, String>;

static LOOK: OnceLock<Look> = OnceLock::new();

/// From now on this process looks at libraries by `look`, before it loads one itself. The first call decides. Without one it looks by
/// [`inspect`].
pub fn look_with(look: Look) {
    let _ = LOOK.set(look);
}

/// Looks at a library file.
pub(super) fn look(path: &Path) -> Result<LibraryFacts, String> {
    if !path.is_file() {
        return Err("no such file".to_string());
    }
    LOOK.get().copied().unwrap_or(inspect)(path)
}

/// Loads a library file into this process, to stay, and asks it.
///
/// # Errors
/// Why it cannot be used.
pub fn inspect(path: &Path) -> Result<LibraryFacts, String> {
    // SAFETY: loading a library runs its initialisers; the file is one the user named or installed as ONNX Runtime.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| {
        let cause = std::error::Error::source(&e).map_or(String::new(), |cause| format!(": {cause}"));
        format!("cannot be loaded: {e}{cause}")
    })?;
    type Base = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: `OrtGetApiBase` has had this signature since the first release.
    let base = unsafe { library.get::<Base>(b"OrtGetApiBase") }
        .map_err(|_| "does not export OrtGetApiBase: not the ONNX Runtime library".to_string())?;
    // SAFETY: the function takes nothing and returns a pointer to a static table or null.
    let Some(base) = (unsafe { base().as_ref() }) else { return Err("OrtGetApiBase returned nothing".to_string()) };
    // SAFETY: returns a static C string.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
    if release(&version) < OLDEST {
        return Err(format!("ONNX Runtime {version} is too old; {}.{} or newer is needed", OLDEST.0, OLDEST.1));
    }
    // SAFETY: the version check above guarantees a table of at least this size, or null.
    let api = unsafe { (base.GetApi)(OLDEST.1).as_ref() }
        .ok_or_else(|| format!("ONNX Runtime {version} does not offer C API {}", OLDEST.1))?;
    let providers = available_providers(api);
    // Kept open: unloading ONNX Runtime and loading it again in the same process is not safe on every platform.
    std::mem::forget(library);
    Ok(LibraryFacts { version, providers })
}

fn available_providers(api: &ort::sys::OrtApi) -> Vec<String> {
    let mut list: *mut *mut c_char = std::ptr::null_mut();
    let mut count: c_int = 0;
    // SAFETY: both pointers are valid for writing; on success `list` holds `count` C strings until it is released.
    let status = unsafe { (api.GetAvailableProviders)(&mut list, &mut count) };
    if !status.0.is_null() || list.is_null() {
        return Vec::new();
    }
    let names = (0..usize::try_from(count).unwrap_or(0))
        // SAFETY: see above.
        .map(|i| unsafe { CStr::from_ptr(*list.add(i)) }.to_string_lossy().into_owned())
        .collect();
    // SAFETY: the list comes from GetAvailableProviders and is released once.
    let _ = unsafe { (api.ReleaseAvailableProviders)(list, count) };
    names
}
