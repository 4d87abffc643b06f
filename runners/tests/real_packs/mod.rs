//! The packs that tests run on: those of `assets/packs`, or those that `JETBENCH_TEST_PACKS` names. Without ONNX Runtime each
//! test says so and passes.
#![allow(dead_code)] // each test file uses its part

use std::io::Write;
use std::path::{Path, PathBuf};

use jetbench_runners::types::{Device, Dtype, OpenRequest, Options};
use jetbench_runners::{packs, runtime};

/// Folders with packs to test with.
pub fn roots() -> Vec<PathBuf> {
    match std::env::var_os("JETBENCH_TEST_PACKS") {
        Some(paths) => std::env::split_paths(&paths).collect(),
        None => vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/packs")],
    }
}

/// Real packs of trackers, or the reason why there is nothing to test with.
fn packs_under_test() -> Result<Vec<PathBuf>, String> {
    let roots = roots();
    let dirs = trackers(&roots, Device::Cpu);
    if dirs.is_empty() {
        return Err(format!("no packs in {roots:?}"));
    }
    runtime::load(None).map(|_| dirs).map_err(|e| e.to_string())
}

/// The packs below these directories that track; a detector's alone does not.
pub fn trackers(roots: &[PathBuf], device: Device) -> Vec<PathBuf> {
    let found = packs::list(roots, device).into_iter();
    found
        .filter(|(_, info)| info.as_ref().is_ok_and(|info| !info.detects && !info.labels() && !info.finds_and_tracks()))
        .map(|(dir, _)| dir)
        .collect()
}

/// Runs `test` on every pack, or prints why it does not.
pub fn for_each_pack(name: &str, test: impl Fn(&Path)) {
    match packs_under_test() {
        Ok(dirs) => dirs.iter().for_each(|dir| test(dir)),
        Err(reason) => skipped(&format!("{name}: {reason}")),
    }
}

/// Says that a test was left out, on the real standard error, which the test harness does not swallow.
pub fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "skipped {what}");
}

/// On the CPU, with one thread.
pub fn request(pack: &Path, dtype: Dtype) -> OpenRequest {
    let options = Options { threads: Some(1), ..Options::default() };
    OpenRequest { options, ..OpenRequest::new(pack, dtype, Device::Cpu) }
}

/// The same pack with an edited golden index.
pub fn with_golden(dir: &Path, edit: impl Fn(&mut serde_json::Value)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let dir = dir.canonicalize().unwrap();
    let reference = copy.path().join("reference");
    std::fs::create_dir(&reference).unwrap();
    for name in ["pack.toml", "fp32", "fp16", "bf16"] {
        std::os::unix::fs::symlink(dir.join(name), copy.path().join(name)).unwrap();
    }
    for file in std::fs::read_dir(dir.join("reference")).unwrap().flatten() {
        if file.file_name() != "golden.json" {
            std::os::unix::fs::symlink(file.path(), reference.join(file.file_name())).unwrap();
        }
    }
    let text = std::fs::read_to_string(dir.join("reference/golden.json")).unwrap();
    let mut index: serde_json::Value = serde_json::from_str(&text).unwrap();
    for clip in index["clips"].as_array_mut().unwrap() {
        let frames = dir.join("reference").join(clip["frames"].as_str().unwrap());
        let name = clip["name"].as_str().unwrap().to_string();
        std::os::unix::fs::symlink(frames.canonicalize().unwrap(), reference.join(&name)).unwrap();
        clip["frames"] = name.into();
    }
    edit(&mut index);
    std::fs::write(reference.join("golden.json"), index.to_string()).unwrap();
    copy
}
