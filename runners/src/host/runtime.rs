//! Finds and loads ONNX Runtime: one place, one order of search, every place looked at named in the error. The library is
//! always loaded by an explicit path; the binding's own lazy loading would panic when there is none or an old one.

mod inspect;

use std::ffi::{CStr, OsString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;

use super::plugin::Plugin;
use super::providers::{fetch_command, missing_provider, where_from};
use super::webgpu;
use crate::host::pool;
use crate::runner::RunnerError;
use crate::types::Device;
pub use inspect::{LibraryFacts, inspect, look_with};

/// Oldest ONNX Runtime that is accepted: the C API level this crate is built for.
pub const OLDEST: (u32, u32) = (1, ort::MINOR_VERSION);

/// Oldest ONNX Runtime in which a model given in memory may refer to weights in a file: 1.20.1 does not find them, 1.23.2 does.
const MAPS_WEIGHTS: (u32, u32) = (1, 23);

/// Major and minor version of `1.31.1`.
pub(super) fn release(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The threads inside the operators of a CPU session, the calling one among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadPool {
    /// How many; `None`: ONNX Runtime's default, all physical cores.
    pub threads: Option<usize>,
    /// May idle threads spin?
    pub spinning: bool,
    /// The processors (counted from 0) that the threads beside the calling one are tied to, one each; empty: none is tied.
    pub pinned: Vec<usize>,
}

impl ThreadPool {
    /// Where the threads are tied to, as ONNX Runtime wants it said: it counts processors from 1. `None`: nowhere.
    pub(crate) fn affinities(&self) -> Option<String> {
        let places: Vec<String> = self.pinned.iter().map(|n| (n + 1).to_string()).collect();
        (!places.is_empty()).then(|| places.join(";"))
    }

    fn options(&self) -> ort::Result<GlobalThreadPoolOptions> {
        let options = GlobalThreadPoolOptions::default()
            .with_intra_threads(self.threads.unwrap_or(0))?
            .with_inter_threads(1)?
            .with_spin_control(self.spinning)?;
        match self.affinities() {
            Some(places) => options.with_intra_affinity(places),
            None => Ok(options),
        }
    }
}

/// A loaded ONNX Runtime. One per process.
pub struct Runtime {
    /// Library file.
    pub path: PathBuf,
    /// Version, e.g. `1.31.1`.
    pub version: String,
    /// Execution providers compiled into it. A provider listed here can still fail to load its driver libraries.
    pub providers: Vec<String>,
    pub(crate) environment: Environment,
    /// The thread pool that serves every session which asks for the same.
    pub(crate) thread_pool: Option<ThreadPool>,
    messages: Arc<Mutex<Vec<String>>>,
    /// Plugin libraries that were loaded into it.
    pub(super) plugins: Mutex<Vec<&'static Plugin>>,
}

/// What a search for the runtime found, for `jetbench doctor`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeProbe {
    /// Every place looked at and what was there, in search order.
    pub looked_at: Vec<(String, String)>,
    /// The library that would be loaded.
    pub chosen: Option<PathBuf>,
    /// Its version.
    pub version: Option<String>,
    /// Execution providers compiled into it.
    pub providers: Vec<String>,
    /// Why a run would fail, in words; `None` when it would not.
    pub problem: Option<String>,
}

/// Where a library may be.
struct SearchPlace<'a> {
    label: String,
    /// Asked for by name: when it fails, nothing else is tried.
    explicit: bool,
    /// Looks there: the candidates, best first, or why there are none. Not called when an earlier place has one.
    look: Box<dyn Fn() -> Result<Vec<PathBuf>, String> + 'a>,
}

/// Looks for the runtime as a run on the CPU would, without keeping it loaded. Never panics.
pub fn probe(ort_lib: Option<&Path>) -> RuntimeProbe {
    probe_for(ort_lib, &[])
}

/// As [`probe`], for a run on these devices: libraries without their providers come last.
pub fn probe_for(ort_lib: Option<&Path>, devices: &[Device]) -> RuntimeProbe {
    let mut probe = RuntimeProbe::default();
    match search(ort_lib, devices, &|name| std::env::var_os(name), &mut probe.looked_at) {
        Ok(found) => {
            probe.version = Some(found.version);
            probe.providers = found.providers;
            probe.chosen = Some(found.path);
        }
        Err(problem) => probe.problem = Some(problem),
    }
    probe
}

/// Loads the runtime for the CPU, once per process.
///
/// # Errors
/// [`RunnerError::Environment`]: no library found, or one that is broken or too old (every place looked at is named),
/// or another library was loaded before in this process.
pub fn load(ort_lib: Option<&Path>) -> Result<&'static Runtime, RunnerError> {
    load_with(ort_lib, Device::Cpu, None)
}

/// As [`load`], for a device, with threads for the sessions of this process. The first loading decides: later ones get what is
/// there.
///
/// # Errors
/// As [`load`]; also when the library that is or was loaded lacks the device's provider.
pub(crate) fn load_with(
    ort_lib: Option<&Path>,
    device: Device,
    thread_pool: Option<&ThreadPool>,
) -> Result<&'static Runtime, RunnerError> {
    static LOADED: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| load_once(ort_lib, device, thread_pool));
    let runtime = loaded.as_ref().map_err(|e| RunnerError::Environment(e.clone()))?;
    if let Some(asked) = ort_lib.filter(|asked| !same_file(asked, &runtime.path)) {
        return Err(RunnerError::Environment(format!(
            "{} was requested, but this process has already loaded {}; a process can load only one ONNX Runtime",
            asked.display(),
            runtime.path.display()
        )));
    }
    match lacking(device, &runtime.path, &runtime.providers) {
        Some(text) => Err(RunnerError::Environment(text)),
        None => Ok(runtime),
    }
}

/// Do two paths lead to one file?
pub fn same_file(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().ok().is_some_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// What is wrong with a library that lacks the provider of a device; `None`: it has it.
pub fn lacking(device: Device, library: &Path, providers: &[String]) -> Option<String> {
    let missing = missing_provider(device, providers)?;
    Some(format!(
        "device {device}: {} has no {missing}; it has: {}. {}; or use --device cpu",
        library.display(),
        providers.join(", "),
        where_from(device)
    ))
}

/// What keeps ONNX Runtime 1.29 and newer from reporting to its makers: it does so as it starts, before anything can be said to
/// it through its interface, keeps an identifier below the user's cache directory, and has a thread that sends. Children inherit it.
pub const NO_TELEMETRY: (&str, &str) = ("ORT_DISABLE_TELEMETRY", "1");

fn load_once(ort_lib: Option<&Path>, device: Device, thread_pool: Option<&ThreadPool>) -> Result<Runtime, String> {
    let (name, value) = NO_TELEMETRY;
    // SAFETY: the standard library guards its own uses of the environment, and no C code that reads it runs in this process before
    // ONNX Runtime has started: that is what comes next.
    unsafe { std::env::set_var(name, value) };
    let mut looked_at = Vec::new();
    let found = search(ort_lib, &[device], &|name| std::env::var_os(name), &mut looked_at)?;
    let failed = |e: &dyn std::fmt::Display| format!("{}: cannot start ONNX Runtime: {e}", found.path.display());
    let messages = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&messages);
    let mut builder = ort::init_from(&found.path).map_err(|e| failed(&e))?;
    if let Some(thread_pool) = thread_pool {
        builder = builder.with_global_thread_pool(thread_pool.options().map_err(|e| failed(&e))?);
    }
    let environment = builder
        .with_name("jetbench")
        .with_telemetry(false)
        .with_logger(Arc::new(move |level, _category: &str, _id: &str, _at: &str, message: &str| {
            webgpu::hear(message);
            if matches!(level, LogLevel::Warning | LogLevel::Error | LogLevel::Fatal) {
                let mut messages = sink.lock().unwrap_or_else(PoisonError::into_inner);
                if messages.len() < MOST_MESSAGES && !messages.iter().any(|m| m == message) {
                    messages.push(message.to_string());
                }
            }
        }))
        .build()
        .map_err(|e| failed(&e))?;
    // The environment starts at the most verbose level; formatting those lines would cost time in every run.
    environment.set_log_level(LogLevel::Warning);
    pool::register(&environment).map_err(|e| failed(&e))?;
    let thread_pool = thread_pool.cloned();
    Ok(Runtime {
        path: found.path,
        version: found.version,
        providers: found.providers,
        environment,
        thread_pool,
        messages,
        plugins: Mutex::default(),
    })
}

/// Warnings kept per process; more of them say nothing new.
const MOST_MESSAGES: usize = 32;

impl Runtime {
    /// May a model given in memory refer to weights in a file?
    pub(crate) fn maps_weights(&self) -> bool {
        release(&self.version) >= MAPS_WEIGHTS
    }

    /// The first version of ONNX Runtime that may.
    pub(crate) fn maps_weights_from() -> String {
        format!("{}.{}", MAPS_WEIGHTS.0, MAPS_WEIGHTS.1)
    }

    /// Warnings and errors that ONNX Runtime logged since the last call.
    pub(crate) fn take_messages(&self) -> Vec<String> {
        std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Name, compute capability and driver version of an NVIDIA GPU: `Orin, 8.7, driver 12.6`; `None` without a driver.
pub(crate) fn gpu_identity(index: u32) -> Option<String> {
    // SAFETY: NVIDIA's driver library; loading runs its initialisers.
    let library = unsafe { libloading::Library::new("libcuda.so.1") }.ok()?;
    type One = unsafe extern "C" fn(u32) -> c_int;
    type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
    type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
    type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
    type Version = unsafe extern "C" fn(*mut c_int) -> c_int;
    let mut name: [c_char; 128] = [0; 128];
    let (mut device, mut major, mut minor, mut driver) = (0, 0, 0, 0);
    // SAFETY: signatures of the CUDA driver API; every pointer is valid for its call; 0 means success.
    unsafe {
        let ok = library.get::<One>(b"cuInit").ok()?(0) == 0
            && library.get::<Get>(b"cuDeviceGet").ok()?(&mut device, c_int::try_from(index).ok()?) == 0
            && library.get::<Name>(b"cuDeviceGetName").ok()?(name.as_mut_ptr(), 127, device) == 0
            && library.get::<Attribute>(b"cuDeviceGetAttribute").ok()?(&mut major, 75, device) == 0
            && library.get::<Attribute>(b"cuDeviceGetAttribute").ok()?(&mut minor, 76, device) == 0
            && library.get::<Version>(b"cuDriverGetVersion").ok()?(&mut driver) == 0;
        std::mem::forget(library); // unloading a driver that has been started is not safe
        if !ok {
            return None;
        }
        let name = CStr::from_ptr(name.as_ptr()).to_string_lossy();
        Some(format!("{name}, {major}.{minor}, driver {}.{}", driver / 1000, driver % 1000 / 10))
    }
}

struct FoundLibrary {
    path: PathBuf,
    version: String,
    providers: Vec<String>,
}

type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A library that is named must do; of the others one that has the providers of all `devices` is preferred.
fn search(
    ort_lib: Option<&Path>,
    devices: &[Device],
    variable: Variable<'_>,
    log: &mut Vec<(String, String)>,
) -> Result<FoundLibrary, String> {
    let mut poorer = None;
    for place in places(ort_lib, devices, variable) {
        let files = match (place.look)() {
            Ok(files) => files,
            Err(reason) => {
                log.push((place.label, reason));
                continue;
            }
        };
        for path in files {
            match inspect::look(&path) {
                Ok(LibraryFacts { version, providers }) => {
                    let missing = devices.iter().find_map(|&device| missing_provider(device, &providers));
                    let but = missing.map_or(String::new(), |missing| format!(", without {missing}"));
                    log.push((place.label.clone(), format!("{}: ONNX Runtime {version}{but}", path.display())));
                    let found = FoundLibrary { path, version, providers };
                    if missing.is_none() || place.explicit {
                        return Ok(found);
                    }
                    poorer.get_or_insert(found);
                }
                Err(reason) => {
                    log.push((place.label.clone(), format!("{}: {reason}", path.display())));
                    if place.explicit {
                        return Err(format!("{}: {}: {reason}", place.label, path.display()));
                    }
                }
            }
        }
    }
    if let Some(found) = poorer {
        return Ok(found);
    }
    let (major, minor) = OLDEST;
    let lines: Vec<String> = log.iter().map(|(place, outcome)| format!("  {place}: {outcome}")).collect();
    Err(format!(
        "no ONNX Runtime {major}.{minor} or newer found. Looked at:\n{}\nInstall one ({} fetches the CPU \
         build; a Jetson has its own, see docs/jetson.md) or name its library with --ort-lib FILE.",
        lines.join("\n"),
        fetch_command()
    ))
}

fn places<'a>(ort_lib: Option<&Path>, devices: &[Device], variable: Variable<'a>) -> Vec<SearchPlace<'a>> {
    let named = |label: &str, path: Option<PathBuf>, absent: &'static str| SearchPlace {
        label: label.to_string(),
        explicit: true,
        look: Box::new(move || {
            let path = path.clone().ok_or_else(|| absent.to_string())?;
            // A directory means "the library in there"; if there is none the path itself fails by name.
            let inside = libraries_in(&path);
            Ok(if inside.is_empty() { vec![path] } else { inside })
        }),
    };
    let environment_path = variable("ORT_DYLIB_PATH").filter(|v| !v.is_empty()).map(PathBuf::from);
    let searched = |label: &str, look: Box<dyn Fn() -> Result<Vec<PathBuf>, String> + 'a>| SearchPlace {
        label: label.to_string(),
        explicit: false,
        look,
    };
    let mut places = vec![
        named("--ort-lib", ort_lib.map(Path::to_path_buf), "not given"),
        named("ORT_DYLIB_PATH", environment_path, "not set"),
    ];
    let cache = move || cache_dir_of(variable).ok_or("neither XDG_CACHE_HOME nor HOME is set");
    if devices.iter().any(|device| matches!(device, Device::WebGpu(_))) {
        places.push(searched("cache of WebGPU builds", Box::new(move || cached_libraries(cache()?, "ort-webgpu"))));
        places.push(searched(
            "WebGPU builds of all users",
            Box::new(|| cached_libraries(ALL_USERS.into(), "ort-webgpu")),
        ));
    }
    places.push(searched("cache", Box::new(move || cached_libraries(cache()?, "ort"))));
    places.push(searched("builds of all users", Box::new(|| cached_libraries(ALL_USERS.into(), "ort"))));
    places.push(searched("python3's onnxruntime", Box::new(|| python_library(variable))));
    let triple = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    for dir in ["/usr/local/lib", "/usr/lib", &triple, "/usr/lib64", "/opt/onnxruntime/lib"] {
        let path = PathBuf::from(dir);
        let look = move || {
            let files = libraries_in(&path);
            if files.is_empty() { Err("no libonnxruntime.so there".to_string()) } else { Ok(files) }
        };
        places.push(searched(dir, Box::new(look)));
    }
    places
}

/// Where `scripts/get-runtime.sh --system` puts its builds.
const ALL_USERS: &str = "/var/lib/jetbench";

/// Libraries that scripts/get-runtime.sh put in a folder of `place`, newest version first.
fn cached_libraries(place: PathBuf, folder: &str) -> Result<Vec<PathBuf>, String> {
    let root = place.join(folder);
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir(&root).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    versions.sort_by_key(|path| std::cmp::Reverse(version_key(path)));
    let files: Vec<PathBuf> = versions.iter().flat_map(|dir| libraries_in(dir)).collect();
    if files.is_empty() { Err(format!("no library in {}/*/", root.display())) } else { Ok(files) }
}

/// jetbench's cache directory: `$XDG_CACHE_HOME/jetbench`, else `~/.cache/jetbench`; `None` where neither variable holds an
/// absolute path.
pub fn cache_dir() -> Option<PathBuf> {
    cache_dir_of(&|name| std::env::var_os(name))
}

fn cache_dir_of(variable: Variable<'_>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache"))).map(|c| c.join("jetbench"))
}

/// Version-like numbers of a path's last part, so that 1.31 sorts after 1.9.
fn version_key(path: &Path) -> Vec<u64> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// `libonnxruntime.so*` in `dir`, the one with the longest version first. Provider libraries are not among them.
fn libraries_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let is_runtime = |path: &PathBuf| {
        path.file_name().and_then(|n| n.to_str()).is_some_and(|name| {
            name.strip_prefix("libonnxruntime.so").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                && !name.ends_with(".part")
        })
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(is_runtime).collect();
    files.sort_by_key(|path| std::cmp::Reverse(version_key(path)));
    files.truncate(1); // the others are links to it or leftovers
    files
}

/// The library inside the `onnxruntime` package that `python3` would import; the package itself is not imported.
fn python_library(variable: Variable<'_>) -> Result<Vec<PathBuf>, String> {
    // Of the current directory nothing may be imported: it can be anybody's, as that of a foreign run.
    const ASK: &str = "import sys\nsys.path = [p for p in sys.path if p]\n\
                       import importlib.util as u\ns = u.find_spec('onnxruntime')\n\
                       print(s.submodule_search_locations[0] if s and s.submodule_search_locations else '')";
    let mut command = std::process::Command::new("python3");
    command.args(["-c", ASK]).stdin(std::process::Stdio::null());
    if let Some(path) = variable("PATH") {
        command.env("PATH", path);
    }
    let output = command.output().map_err(|e| format!("python3 cannot be run: {e}"))?;
    let package = String::from_utf8_lossy(&output.stdout).trim().to_string();
    if !output.status.success() || package.is_empty() {
        return Err("python3 has no onnxruntime package".to_string());
    }
    let capi = Path::new(&package).join("capi");
    let files = libraries_in(&capi);
    if files.is_empty() {
        return Err(format!("no libonnxruntime.so in {} (packages before 1.19 have none)", capi.display()));
    }
    Ok(files)
}

/// The files beside ONNX Runtime's library from which it loads the provider of a device, those of them that are there.
pub fn provider_files(library: &Path, device: Device) -> Vec<PathBuf> {
    let names: &[&str] = match device {
        Device::Cuda(_) => &["shared", "cuda"],
        Device::TensorRt(_) => &["shared", "cuda", "tensorrt"],
        Device::Cpu | Device::WebGpu(_) | Device::Plugin(..) => &[],
    };
    names.iter().map(|name| provider_file(library, name)).filter(|file| file.is_file()).collect()
}

/// The file of a provider beside ONNX Runtime's library.
pub(super) fn provider_file(library: &Path, name: &str) -> PathBuf {
    library.with_file_name(format!("libonnxruntime_providers_{name}.so"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn search_with(ort_lib: Option<&Path>, vars: &[(&str, &str)]) -> (Result<PathBuf, String>, Vec<(String, String)>) {
        let mut log = Vec::new();
        let variable = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        let result = search(ort_lib, &[], &variable, &mut log).map(|found| found.path);
        (result, log)
    }

    #[test]
    fn a_named_library_that_fails_is_final() {
        let dir = tempfile::tempdir().unwrap();
        let fake = dir.path().join("libonnxruntime.so");
        std::fs::write(&fake, "not a library").unwrap();
        let (result, _) = search_with(Some(&fake), &[]);
        let text = result.unwrap_err();
        assert!(text.starts_with("--ort-lib: ") && text.contains("cannot be loaded"), "{text}");
        assert!(
            text.contains("file too short") || text.contains("invalid ELF header"),
            "the loader's own words: {text}"
        );
        let (result, _) = search_with(None, &[("ORT_DYLIB_PATH", "/nonexistent/lib.so")]);
        assert_eq!(result.unwrap_err(), "ORT_DYLIB_PATH: /nonexistent/lib.so: no such file");
    }

    #[test]
    fn every_place_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().display().to_string();
        let (result, log) = search_with(None, &[("XDG_CACHE_HOME", &root), ("PATH", &root)]);
        let labels: Vec<&str> = log.iter().map(|(label, _)| label.as_str()).collect();
        assert!(
            labels.starts_with(&[
                "--ort-lib",
                "ORT_DYLIB_PATH",
                "cache",
                "builds of all users",
                "python3's onnxruntime"
            ]),
            "{labels:?}"
        );
        if let Err(text) = result {
            assert!(text.contains(&format!("{root}/jetbench/ort/*/")) && text.contains("/usr/lib"), "{text}");
            assert!(text.contains("--ort-lib FILE"), "{text}");
        }
    }

    #[test]
    fn files_of_a_provider_lie_beside_the_library() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["shared", "cuda", "webgpu"] {
            std::fs::write(dir.path().join(format!("libonnxruntime_providers_{name}.so")), "").unwrap();
        }
        let library = dir.path().join("libonnxruntime.so.1.31.1");
        let found = |device| {
            let name =
                |file: PathBuf| file.file_stem().unwrap().to_string_lossy().rsplit('_').next().unwrap().to_string();
            provider_files(&library, device).into_iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(found(Device::Cuda(0)), ["shared", "cuda"]);
        assert_eq!(found(Device::TensorRt(0)), ["shared", "cuda"], "what is not there is not loaded from there");
        assert!(found(Device::Cpu).is_empty() && found(Device::WebGpu(0)).is_empty(), "built into the library");
    }

    #[test]
    fn newest_version_in_the_cache_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["1.9.0", "1.31.1", "1.22.0"] {
            let at = dir.path().join("jetbench/ort").join(version);
            std::fs::create_dir_all(&at).unwrap();
            std::fs::write(at.join(format!("libonnxruntime.so.{version}")), "").unwrap();
            std::fs::write(at.join("libonnxruntime_providers_shared.so"), "").unwrap();
        }
        let root = dir.path().display().to_string();
        let variable = |name: &str| (name == "XDG_CACHE_HOME").then(|| OsString::from(&root));
        let cache = &places(None, &[], &variable)[2];
        let names: Vec<String> =
            (cache.look)().unwrap().iter().map(|p| p.file_name().unwrap().to_string_lossy().into()).collect();
        assert_eq!(names, ["libonnxruntime.so.1.31.1", "libonnxruntime.so.1.22.0", "libonnxruntime.so.1.9.0"]);
    }

    #[test]
    fn a_library_without_the_entry_point_is_refused() {
        // any shared library of the system will do
        let Some(libc) = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6"]
            .map(Path::new)
            .into_iter()
            .find(|p| p.is_file())
        else {
            eprintln!("skipped: no libc.so.6 at a known place");
            return;
        };
        assert!(inspect(libc).unwrap_err().contains("OrtGetApiBase"));
    }

    /// A library that says it is ONNX Runtime `version` and offers no API; `None` without a C compiler.
    fn fake_runtime(dir: &Path, version: &str) -> Option<PathBuf> {
        let source = dir.join("fake.c");
        let library = dir.join("libonnxruntime.so");
        let code = format!(
            "static const void *api(unsigned v) {{ (void)v; return 0; }}\n\
             static const char *version(void) {{ return \"{version}\"; }}\n\
             static const struct {{ const void *(*a)(unsigned); const char *(*v)(void); }} base = {{ api, version }};\n\
             const void *OrtGetApiBase(void) {{ return &base; }}\n"
        );
        std::fs::write(&source, code).unwrap();
        let built =
            std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        if built.is_ok_and(|status| status.success()) {
            Some(library)
        } else {
            let _ = writeln!(std::io::stderr(), "skipped the too-old-runtime test: no C compiler");
            None
        }
    }

    #[test]
    fn an_old_runtime_is_refused_by_version() {
        let dir = tempfile::tempdir().unwrap();
        let Some(old) = fake_runtime(dir.path(), "1.17.3") else { return };
        let text = search_with(Some(&old), &[]).0.unwrap_err();
        assert!(text.contains("ONNX Runtime 1.17.3 is too old; 1.18 or newer is needed"), "{text}");
        // a directory is searched for the library
        let text = search_with(Some(dir.path()), &[]).0.unwrap_err();
        assert!(text.contains("libonnxruntime.so: ONNX Runtime 1.17.3 is too old"), "{text}");
        let empty = tempfile::tempdir().unwrap();
        let Some(mute) = fake_runtime(empty.path(), "1.99.0") else { return };
        let text = search_with(None, &[("ORT_DYLIB_PATH", &mute.display().to_string())]).0.unwrap_err();
        assert!(text.contains("does not offer C API 18"), "{text}");
    }
}
