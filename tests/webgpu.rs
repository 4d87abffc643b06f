//! The program on `webgpu:0`: a run that is killed is taken up again, and what the device cannot do is said before anything
//! runs. Needs a Vulkan driver and a WebGPU build of ONNX Runtime (`scripts/test-webgpu.sh` sees to both); what is missing is
//! said, and the tests pass without it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use jetbench_runners::types::Device;
use jetbench_runners::{packs, runtime, webgpu};

use crate::workshop::{Workshop, rows, text};

const GPU: Device = Device::WebGpu(0);

fn roots() -> Vec<PathBuf> {
    match std::env::var_os("JETBENCH_TEST_PACKS") {
        Some(paths) => std::env::split_paths(&paths).collect(),
        None => vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/packs")],
    }
}

/// A pack to run on the device, or why there is none.
fn pack() -> Result<packs::PackInfo, String> {
    if webgpu::vulkan_devices()?.is_empty() {
        return Err("no Vulkan driver offers a device".to_string());
    }
    let probe = runtime::probe_for(None, &[GPU]);
    let library = probe.chosen.clone().unwrap_or_default();
    match probe.problem.clone().or_else(|| runtime::lacking(GPU, &library, &probe.providers)) {
        Some(problem) => Err(problem),
        None => {
            let mut found = packs::list(&roots(), GPU).into_iter().filter_map(|(_, info)| info.ok());
            found
                .find(|info| !info.detects && !info.labels() && !info.finds_and_tracks())
                .ok_or_else(|| format!("no packs in {:?}", roots()))
        }
    }
}

/// The flags of a run of mask prompts on the data of the workshop.
fn flags(pack: &str, place: &Path, dtype: &str, device: &str) -> Vec<String> {
    let (model, place) = (format!("{pack}_mask"), place.display().to_string());
    ["--models", &model, "--packs", &place, "--dtype", dtype, "--device", device, "--data", "data"]
        .map(String::from)
        .to_vec()
}

/// A run in two videos of three frames, with two objects each; the flags that follow the data.
fn job(pack: &packs::PackInfo) -> Vec<String> {
    let flags = flags(&pack.id, pack.dir.parent().unwrap(), "fp32", "webgpu:0");
    [flags, ["--min-frames", "1"].map(String::from).to_vec()].concat()
}

#[test]
fn a_run_that_is_killed_is_taken_up_again() {
    let pack = match pack() {
        Ok(pack) => pack,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "skipped a_run_that_is_killed_is_taken_up_again: {reason}");
            return;
        }
    };
    let shop = Workshop::new(2, 3);
    let args = job(&pack);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let calm = shop.output(&[&args[..], &["--out", "calm", "--quiet"]].concat());
    let calm_run = shop.runs("calm").pop().unwrap_or_else(|| panic!("{}", text(&calm.stderr)));
    let record = jetbench::results::store::load(&calm_run).unwrap();
    assert_ne!(record.cells[0].verdict.as_str(), "failed", "{:?}", record.cells[0].verdict);
    assert!(record.device.facts["vulkan"].contains("Vulkan 1."), "{:?}", record.device.facts);

    let mut child = shop
        .command(&[&args[..], &["--out", "killed", "--quiet"]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Killed when the first video is finished, or the worker has begun with it.
    let started = Instant::now();
    let begun = |run: &PathBuf| jetbench::results::store::head_of(run).exists();
    while !shop.runs("killed").last().is_some_and(begun) && started.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(1500));
    child.kill().unwrap();
    child.wait().unwrap();
    let run = shop.runs("killed").pop().unwrap();
    assert!(!run.join("run.json").exists(), "it was killed before it was done");
    let resumed = shop.output(&["--resume", run.to_str().unwrap(), "--quiet"]);
    assert!(run.join("run.json").exists(), "{}", text(&resumed.stderr));
    for name in ["objects.csv", "frame_scores.csv"] {
        assert_eq!(rows(&run.join(name)), rows(&calm_run.join(name)), "{name}");
    }
}

/// A Vulkan layer that loses the device when it is told to, made by the system's C compiler in `place`; `None` without one.
fn losing_layer(place: &Path) -> Option<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/webgpu/lost.c");
    std::fs::create_dir_all(place).unwrap();
    let library = place.join("liblost.so");
    let built =
        std::process::Command::new("cc").args(["-w", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    let manifest = serde_json::json!({"file_format_version": "1.0.0", "layer": {"name": "VK_LAYER_JETBENCH_lost", "type": "GLOBAL",
        "library_path": library, "api_version": "1.3.0", "implementation_version": "1", "description": "loses the device"}});
    std::fs::write(place.join("lost.json"), manifest.to_string()).unwrap();
    built.is_ok_and(|status| status.success()).then_some(())
}

#[test]
fn a_lost_device_costs_its_cell_and_no_more() {
    const NAME: &str = "a_lost_device_costs_its_cell_and_no_more";
    let shop = Workshop::new(2, 3);
    let (layer, lose) = (shop.path("layer"), shop.path("lose"));
    let pack = match pack().and_then(|pack| losing_layer(&layer).map(|()| pack).ok_or("no C compiler".to_string())) {
        Ok(pack) => pack,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "skipped {NAME}: {reason}");
            return;
        }
    };
    let mut args = job(&pack);
    args[1] = format!("{0}_mask,{0}_bbox", pack.id);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = shop.command(&[&args[..], &["--quiet", "--limit-objects", "1", "--keep-going"]].concat());
    command.env("VK_LAYER_PATH", &layer).env("VK_INSTANCE_LAYERS", "VK_LAYER_JETBENCH_lost");
    command.env("JETBENCH_TEST_LOSE", &lose).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // When the first cell has begun with its second video, the device goes: the layer takes the file away.
    let began = |run: &PathBuf| run.join("spool/0/1.spool").exists();
    while !shop.runs("results").last().is_some_and(began) && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::write(&lose, "").unwrap();
    let status = child.wait().unwrap();
    assert!(!lose.exists(), "no device was lost");
    let record = jetbench::results::store::load(&shop.runs("results").pop().unwrap()).unwrap();
    let (lost, next) = (&record.cells[0], &record.cells[1]);
    let said = lost.verdict.reasons();
    // The provider tells of it, or is brought down by it and takes its process along: Dawn with SwiftShader does either.
    let (code, all): (i32, &[&str]) = match said.contains("the worker died") {
        true => (1, &["signal"]),
        false => (3, &["track: ", "the device was lost", "jetbench --resume RUN", "dmesg"]),
    };
    assert_eq!(status.code(), Some(code), "{said}");
    for words in all {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!((lost.verdict.as_str(), lost.sequences.len()), ("failed", 1), "the finished video is kept: {said}");
    assert!(next.verdict.as_str() != "failed" && next.sequences.len() == 2, "{:?}", next.verdict);
}

#[test]
fn what_webgpu_cannot_do_is_said_before_anything_runs() {
    let shop = Workshop::new(1, 2);
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/packs");
    let said_of = |more: &[&str], dtype: &str, device: &str| {
        let flags = flags("edgetam_mini", &place, dtype, device);
        let all: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let output = shop.output(&all);
        (output.status.code(), text(&output.stderr))
    };
    let refused = |dtype: &str, device: &str| said_of(&[], dtype, device);
    let (code, said) = refused("bf16", "webgpu:0");
    assert!(code == Some(2) && said.contains("no bf16") && said.contains("--dtype fp32"), "{said}");
    let (code, said) = refused("fp32", "webgpu:1");
    assert!(code == Some(2) && said.contains("webgpu_power"), "{said}");
    // A library without the provider is named, with what to do.
    if let Some(library) = runtime::probe(None).chosen.filter(|_| runtime::probe(None).providers.len() == 1) {
        let (code, said) = said_of(&["--ort-lib", &library.display().to_string()], "fp32", "webgpu:0");
        assert!(code == Some(3) && said.contains("get-runtime.sh --webgpu"), "{said}");
    }
}
