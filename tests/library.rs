//! A runtime library that takes down the process which loads it: named with the signal and what to do, by every verb that would load it, while
//! the rest of the answer comes. The libraries are made here with the system's C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::workshop::{Workshop, text};

/// A library whose initialiser does this; `None` without a C compiler.
fn library(dir: &Path, initialiser: &str) -> Option<PathBuf> {
    std::fs::create_dir_all(dir).unwrap();
    let (source, library) = (dir.join("crash.c"), dir.join("libonnxruntime.so"));
    let code = format!(
        "#include <stdio.h>\n#include <stdlib.h>\n\
         __attribute__((constructor)) static void start(void) {{ {initialiser} }}\n"
    );
    std::fs::write(&source, code).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    if built.is_ok_and(|status| status.success()) {
        return Some(library);
    }
    eprintln!("skipped: no C compiler");
    None
}

const ABORTS: &str = "puts(\"noise\"); fflush(stdout); fprintf(stderr, \"no such processor\\n\"); abort();";

#[test]
fn doctor_names_the_library_and_goes_on() {
    let shop = Workshop::new(1, 3);
    let Some(library) = library(&shop.path("lib"), ABORTS) else { return };
    let library = library.to_str().unwrap();
    let output = shop.output(&["doctor", "--json", "--data", "data", "--ort-lib", library]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = answer["checks"].as_array().unwrap();
    let check = |name: &str| checks.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("no {name}: {answer}"));
    let said = check("onnxruntime")["detail"].as_str().unwrap();
    for words in [library, "signal 6 (SIGABRT)", "its last words: no such processor", "take another build"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(check("onnxruntime")["status"], "fail");
    assert_eq!(
        (&check("data")["ok"], &check("results")["ok"]),
        (&true.into(), &true.into()),
        "the other checks are made"
    );
}

#[test]
fn a_run_names_the_library_before_any_work() {
    let shop = Workshop::new(1, 3);
    for (initialiser, words) in [
        (ABORTS, "signal 6 (SIGABRT)"),
        ("*(volatile int *)0 = 1;", "signal 11 (SIGSEGV)"),
        ("exit(7);", "exit code 7"),
    ] {
        let Some(library) = library(&shop.path("lib"), initialiser) else { return };
        let library = library.to_str().unwrap();
        let packs = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/packs");
        let pack = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/packs/edgetam_mini");
        let model = ["--models", "edgetam_mini_points", "--dtype", "fp32", "--data", "data", "--packs", packs];
        for (verb, rest) in [("run", &model[..]), ("audit", &model), ("verify", &[pack])] {
            let args = [&[verb, "--ort-lib", library], rest].concat();
            let output = shop.output(&args);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{args:?}: {output:?}");
            assert!(said.contains(library) && said.contains(words), "{args:?}: {said}");
        }
    }
    assert!(!shop.path("results").exists());
}

/// One of several that a search finds is passed over, and said to be.
#[test]
fn a_search_goes_on_behind_a_library_that_crashes() {
    let shop = Workshop::new(1, 3);
    let Some(library) = library(&shop.path("cache/jetbench/ort/9.9.9"), ABORTS) else { return };
    let mut command = shop.command(&["doctor", "--json", "--data", "data"]);
    let output = command.env("XDG_CACHE_HOME", shop.path("cache")).env_remove("ORT_DYLIB_PATH").output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let check = answer["checks"].as_array().unwrap().iter().find(|c| c["name"] == "onnxruntime").unwrap().clone();
    let said = check["detail"].as_str().unwrap();
    assert!(said.contains(&format!("cache: {}: ends the process that loads it", library.display())), "{said}");
    assert!(said.contains("\npython3's onnxruntime: ") || said.contains("\n  python3's onnxruntime: "), "{said}");
}
