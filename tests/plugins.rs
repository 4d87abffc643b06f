//! Plugin libraries of execution providers: what is no such library, crashes, offers nothing or offers something else is named before any
//! work, with what to do; what a library offers has names, and stands in the record's identity. The libraries are made here with the
//! system's C compiler, and take the processor for their device; `scripts/test-plugin.sh` runs a real one.

use std::path::{Path, PathBuf};
use std::process::Command;

use jetbench::results::record::RuntimeRecord;
use jetbench::results::rows::Key;
use jetbench_runners::types::PluginReport;
use jetbench_runners::{plugin, runtime};
use serde_json::Value;

use crate::synthetic;
use crate::workshop::{Workshop, text};

/// A provider that takes the processor as often as it is told, and refuses every graph.
const TOY: &str = r#"
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
typedef struct Factory {
    uint32_t level;
    const char *(*name)(const struct Factory *);
    const char *(*vendor)(const struct Factory *);
    void *(*supported)(struct Factory *, const void *const *, size_t, void **, size_t, size_t *);
    void *(*create)(struct Factory *, const void *const *, const void *const *, size_t, const void *, const void *, void **);
    void (*release)(struct Factory *, void *);
    uint32_t (*vendor_id)(const struct Factory *);
    const char *(*version)(const struct Factory *);
    void *rest[24];
} Factory;
static void **api;
static const char *name(const Factory *f) { return PROVIDER; }
static const char *vendor(const Factory *f) { return "nobody"; }
static uint32_t vendor_id(const Factory *f) { return 0; }
static const char *version(const Factory *f) { return "1.2.3"; }
static void *supported(Factory *f, const void *const *hardware, size_t n, void **devices, size_t most, size_t *found) {
    void **ep_api = ((void **(*)(void))api[317])();
    *found = 0;
    for (size_t i = 0; i < n; i++)
        if (((int (*)(const void *))api[307])(hardware[i]) == 0)
            while (*found < DEVICES && *found < most) {
                void *status = ((void *(*)(Factory *, const void *, void *, void *, void **))ep_api[0])(f, hardware[i], 0, 0, &devices[*found]);
                if (status) return status;
                (*found)++;
            }
    return 0;
}
static void *create(Factory *f, const void *const *d, const void *const *m, size_t n, const void *o, const void *l, void **ep) {
    return ((void *(*)(int, const char *))api[0])(11, "a toy computes nothing");
}
static void release(Factory *f, void *ep) {}
/* What else a factory may be asked for: no data transfer, no streams. */
static void *nothing(void) { return 0; }
static Factory factory = {23, name, vendor, supported, create, release, vendor_id, version,
                          {nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing}};
void *CreateEpFactories(const char *registered, const void *const *base, const void *logger, Factory **factories, size_t most, size_t *n) {
    BEGIN
    api = ((void **(*)(uint32_t))base[0])(23);
    factories[0] = &factory;
    *n = 1;
    return 0;
}
void *ReleaseEpFactory(Factory *f) { return 0; }
"#;

/// A runtime that says it is of a version, and has just enough of the API to be asked for its providers.
const OLD: &str = r#"
#include <stddef.h>
static void *providers(char ***list, int *n) { *list = 0; *n = 0; return 0; }
static void *table[400] = {[125] = providers};
static const void *api(unsigned level) { return level <= 20 ? table : 0; }
static const char *version(void) { return "1.20.1"; }
static const struct { const void *(*api)(unsigned); const char *(*version)(void); } base = {api, version};
const void *OrtGetApiBase(void) { return &base; }
"#;

/// `None` without a C compiler.
fn compiled(file: &Path, code: &str, defined: &[String]) -> Option<String> {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let source = file.with_extension("c");
    std::fs::write(&source, code).unwrap();
    let built = Command::new("cc").args(["-w", "-shared", "-fPIC", "-o"]).arg(file).arg(&source).args(defined).status();
    if built.is_ok_and(|status| status.success()) {
        return Some(file.display().to_string());
    }
    eprintln!("skipped: no C compiler");
    None
}

/// A plugin whose provider has this name and so many devices; `begin`: what it does first.
fn toy(file: PathBuf, provider: &str, devices: usize, begin: &str) -> Option<String> {
    let defined = [format!("-DPROVIDER=\"{provider}\""), format!("-DDEVICES={devices}"), format!("-DBEGIN={begin}")];
    compiled(&file, TOY, &defined)
}

/// Is there an ONNX Runtime that takes plugins? Says so where there is none.
fn runtime_takes_plugins(test: &str) -> bool {
    let found = runtime::probe(None);
    let version = found.version.unwrap_or_default();
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let fits = (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= plugin::OLDEST;
    if !fits {
        eprintln!("skipped {test}: it needs ONNX Runtime 1.23 or newer, there is {version:?}");
    }
    fits
}

const PACKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/packs");
const PACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/packs/edgetam_mini");

/// Flags of a run, a plan, an audit or a verification on a device.
fn flags<'a>(verb: &'a str, device: &'a str, library: &'a str) -> Vec<&'a str> {
    let of = ["--dtype", "fp32", "--device", device, "--ep-library", library];
    match verb {
        "verify" => [&["verify", PACK, "--frames", "1"][..], &of].concat(),
        _ => [&[verb, "--models", "edgetam_mini_points", "--data", "data", "--packs", PACKS][..], &of].concat(),
    }
}

#[test]
fn what_is_no_plugin_is_named_before_any_work() {
    const NAME: &str = "what_is_no_plugin_is_named_before_any_work";
    if !runtime_takes_plugins(NAME) {
        return;
    }
    let shop = Workshop::new(1, 3);
    std::fs::write(shop.path("text.so"), "no library").unwrap();
    let text_file = shop.path("text.so").display().to_string();
    let none = shop.path("none.so").display().to_string();
    let path = |name: &str| shop.path("lib").join(name).join("libtoy.so");
    let Some(empty) = compiled(&path("empty"), "int nothing;", &[]) else { return };
    let idle = toy(path("idle"), "ToyExecutionProvider", 0, "").unwrap();
    let aborts = toy(path("aborts"), "ToyExecutionProvider", 1, "abort();").unwrap();
    let crashes = toy(path("crashes"), "ToyExecutionProvider", 1, "*(volatile int *)0 = 1;").unwrap();
    let good = toy(path("good"), "ToyExecutionProvider", 1, "").unwrap();
    for (library, device, words) in [
        (&none, "webgpu:0", &["no such file"][..]),
        (&text_file, "webgpu:0", &["does not take it as a plugin library", "Name such a library"]),
        (&empty, "webgpu:0", &["does not take it as a plugin library", "CreateEpFactories"]),
        (&idle, "toy:0", &["offers no device on this machine", "/sys/class/drm"]),
        (&aborts, "toy:0", &["signal 6 (SIGABRT)", "take another build"]),
        (&crashes, "toy:0", &["signal 11 (SIGSEGV)", "take another build"]),
        (&good, "toy:7", &["toy:7", "offer", "toy:0"]),
        (&good, "other:0", &["other:0", "offer", "toy:0"]),
    ] {
        for verb in ["run", "plan", "audit", "verify"] {
            let args = flags(verb, device, library);
            let output = shop.output(&args);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{args:?}: {output:?}");
            assert!(words.iter().all(|word| said.contains(word)), "{args:?}: {said}");
        }
        let output = shop.output(&["doctor", "--json", "--data", "data", "--ep-library", library, "--device", device]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let failed: Vec<&Value> =
            answer["checks"].as_array().unwrap().iter().filter(|c| c["status"] == "fail").collect();
        assert_eq!(output.status.code(), Some(3));
        let said = failed.iter().map(|check| check.to_string()).collect::<String>();
        assert!(words.iter().all(|word| said.contains(word)), "{library}: {said}");
    }
    assert!(!shop.path("results").exists());
}

#[test]
fn an_old_runtime_is_told_apart_from_a_bad_plugin() {
    let shop = Workshop::new(1, 3);
    let Some(old) = compiled(&shop.path("old/libonnxruntime.so"), OLD, &[]) else { return };
    let toy = toy(shop.path("lib/libtoy.so"), "ToyExecutionProvider", 1, "").unwrap();
    for verb in ["run", "plan", "audit"] {
        let args = [&flags(verb, "toy:0", &toy)[..], &["--ort-lib", &old]].concat();
        let output = shop.output(&args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let words = ["ONNX Runtime 1.20.1", "too old for plugin libraries", "1.23 or newer", "--ort-lib FILE"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn a_device_that_only_a_plugin_can_have_needs_one() {
    let shop = Workshop::new(1, 3);
    for verb in ["run", "plan", "audit", "verify"] {
        let args: Vec<&str> = flags(verb, "toy:0", "").into_iter().filter(|word| !word.is_empty()).collect();
        let args = &args[..args.len() - 1]; // without --ep-library
        let output = shop.output(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(said.contains("unknown device `toy:0`") && said.contains("--ep-library"), "{args:?}: {said}");
    }
}

#[test]
fn what_plugins_offer_has_names_and_decides_the_job() {
    const NAME: &str = "what_plugins_offer_has_names_and_decides_the_job";
    if !runtime_takes_plugins(NAME) {
        return;
    }
    let shop = Workshop::new(1, 3);
    let path = |name: &str| shop.path("lib").join(name).join("libtoy.so");
    let Some(two) = toy(path("two"), "ToyExecutionProvider", 2, "") else { return };
    let cuda = toy(shop.path("lib/libcudaish.so"), "CUDAExecutionProvider", 1, "").unwrap();
    let output = shop.output(&[
        "doctor",
        "--json",
        "--data",
        "data",
        "--ep-library",
        &two,
        "--ep-library",
        &cuda,
        "--device",
        "toy:1",
    ]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = answer["checks"].as_array().unwrap();
    let said: Vec<String> = checks.iter().map(|c| format!("{} {} {}", c["status"], c["name"], c["detail"])).collect();
    let said = said.join("\n");
    for words in [
        "\"ok\" \"plugin library\"",
        "toy:0: ToyExecutionProvider 1.2.3, CPU",
        "toy:1: ToyExecutionProvider 1.2.3, CPU",
        // ONNX Runtime's own CUDA provider takes other options: this is another device.
        "cudaplugin:0: CUDAExecutionProvider 1.2.3",
        "\"ok\" \"device toy:1\"",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(
        answer["device"]["facts"]["plugins"].as_str().unwrap().starts_with("toy:1: ToyExecutionProvider 1.2.3 of ")
    );

    let planned = shop.expect(0, &flags("plan", "toy:1", &two));
    assert!(planned.contains(&format!("provider of toy:1: ToyExecutionProvider 1.2.3 of {two}")), "{planned}");
    // The same provider from two libraries is no choice of ours.
    let twin = toy(path("twin"), "ToyExecutionProvider", 1, "").unwrap();
    let output = shop.output(&[&flags("plan", "toy:0", &two)[..], &["--ep-library", &twin]].concat());
    assert!(text(&output.stderr).contains("it offers toy:0, and so does"), "{output:?}");
    // Without a library, or with one of other devices, what is missing is said, not a list of nothing.
    let output = shop.output(&["doctor", "--device", "toy:0"]);
    assert!(text(&output.stdout).contains("--ep-library"), "{output:?}");
    assert!(!text(&output.stdout).contains("they offer: \n"), "{output:?}");
    // A library that no cell uses is said, and changes nothing.
    let output = shop.output(&flags("plan", "cpu", &two));
    assert!(text(&output.stdout).contains("no cell uses it; it offers: toy:0, toy:1"), "{output:?}");

    // What the provider says when it is asked for a session reaches the user, and the cell has failed for want of a device.
    let output = shop.output(&flags("run", "toy:0", &two));
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let run = shop.runs("results").pop().unwrap();
    let record = jetbench::results::store::load(&run).unwrap();
    assert!(record.cells[0].verdict.reasons().contains("a toy computes nothing"), "{:?}", record.cells[0].verdict);
    let other = toy(path("other"), "ToyExecutionProvider", 1, "(void)0;").unwrap();
    shop.output(&flags("run", "toy:0", &other));
    let runs = shop.runs("results");
    let jobs: Vec<String> =
        runs.iter().map(|run| jetbench::results::store::load(run).unwrap().origin.job_sha256).collect();
    assert!(jobs.len() == 2 && jobs[0] != jobs[1], "another library is another job: {jobs:?}");

    // A record's library is not loaded unless the user names it.
    let resume = ["--resume", run.to_str().unwrap(), "--quiet"];
    let output = shop.output(&resume);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("add --ep-library FILE with that file if you trust it"), "{output:?}");
    let output = shop.output(&[&resume[..], &["--ep-library", &other]].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains(&two), "{output:?}");
    let output = shop.output(&[&resume[..], &["--ep-library", &two]].concat());
    assert_eq!(output.status.code(), Some(3), "it was tried again: {output:?}");
}

#[test]
fn cells_of_another_plugin_file_or_of_none_are_not_alike() {
    let key = |plugin: Option<&str>| {
        let mut run = synthetic::run();
        let plugin = plugin.map(|sha256| PluginReport { sha256: sha256.repeat(32), ..PluginReport::default() });
        let runtime = RuntimeRecord { version: "1.31.1".into(), plugin, ..RuntimeRecord::default() };
        run.cells[0].runtime = Some(runtime);
        Key::of(&run, &run.cells[0])
    };
    assert_eq!(key(Some("a1")), key(Some("a1")));
    assert!(key(Some("a1")) != key(Some("b2")) && key(Some("a1")) != key(None));
}
