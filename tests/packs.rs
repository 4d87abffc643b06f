//! `packs get`, `pack`, `add` and `hash` as a user calls them. Scripts of this test stand in for Python and for `jetbench-models`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::workshop::{Workshop, text};

fn script(at: &Path, body: &str) {
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::fs::write(at, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A Python that is new enough, makes environments with itself in them, and notes what its package installer and the exporter are asked for.
/// Its installer finds no PyTorch under an index of its own where `no-small-torch` lies beside the notes. The step whose command line has the
/// text of `stop` leaves a process behind that writes into the environment a moment later, and waits to be killed.
const PYTHON: &str = r#"
stopped() {
    [ -e "$NOTES/stop" ] || return 0
    case "$*" in *"$(cat "$NOTES/stop")"*) ;; *) return 0 ;; esac
    home=$(echo "$*" | sed -n 's/^-m venv //p')
    home=${home:-$(dirname "$(dirname "$0")")}
    touch "$TMPDIR/gigabytes"
    (sleep 0.3; mkdir -p "$home/lib"; echo late >"$home/lib/orphan") >/dev/null 2>&1 &
    echo $$ >"$NOTES/stopped.new" && mv "$NOTES/stopped.new" "$NOTES/stopped"
    exec sleep 60
}
case "$1 $2" in
    "-c "*) [ ! -e "$NOTES/old" ] ;;
    "-m venv") stopped "$@"; mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "exec $3/bin/python" >"$3/bin/pip" ;;
    "-m pip")
        [ ! -e "$NOTES/no-disk" ] || exit 1
        stopped "$@"
        case "$*" in *--index-url*) [ ! -e "$NOTES/no-small-torch" ] || exit 1 ;; esac
        echo "$TMPDIR:$PYTHONPATH" >>"$NOTES/around"
        echo "$*" >>"$NOTES/pip" ;;
    "-m jetbench_models") echo "$0 from $PYTHONPATH: $*" >>"$NOTES/kit"; echo "of the exporter"; exit "$(cat "$NOTES/code" 2>/dev/null || echo 0)" ;;
esac
"#;
const LOCK: &str = "# Exact versions of everything: words\n\n# always\nnumpy==2.4\n\n# extra test\nruff==0.1\n\n# extras export and train: PyTorch\n\
                    torch==2.15.0\ntorchvision==0.29\ntimm==1.0\n\n# the NVIDIA libraries that it loads\nnvidia-cublas==13\n\n\
                    # not loaded without a GPU: words\ntriton==3\n";

/// A place with the exporter's source and a scripted Python; nothing on PATH but the system.
struct Kit {
    shop: Workshop,
}

impl Kit {
    fn new() -> Kit {
        let shop = Workshop::empty();
        std::fs::create_dir_all(shop.path("scripts/jetbench_models/get")).unwrap();
        std::fs::create_dir_all(shop.path("notes")).unwrap();
        std::fs::write(shop.path("scripts/requirements.lock"), LOCK).unwrap();
        script(&shop.path("python"), PYTHON);
        Kit { shop }
    }

    fn get(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.shop.command(&["packs", "get", "edgetam"]);
        let python = self.shop.path("python");
        command.args(["--python", python.to_str().unwrap()]).args(args);
        command.env("PATH", "/usr/bin:/bin").env("NOTES", self.shop.path("notes"));
        command.env("XDG_DATA_HOME", self.shop.path("data")).stdin(Stdio::null());
        command
    }

    /// What lies where environments are made.
    fn environments(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.shop.path("data/jetbench"))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    fn expect(&self, code: i32, args: &[&str]) -> String {
        let output = self.get(args);
        let all = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {all}");
        all
    }

    fn note(&self, name: &str) -> String {
        std::fs::read_to_string(self.shop.path("notes").join(name)).unwrap_or_default()
    }

    fn set(&self, name: &str, text: &str) {
        std::fs::write(self.shop.path("notes").join(name), text).unwrap();
    }
}

#[test]
fn the_exporter_on_path_is_used_with_every_flag_and_its_exit_code() {
    let shop = Workshop::empty();
    script(&shop.path("bin/jetbench-models"), r#"[ "$2" = --list ] && exit 0; echo "$@"; exit "${CODE:-0}""#);
    let path = format!("{}:/usr/bin:/bin", shop.path("bin").display());
    let args = [
        "packs",
        "get",
        "edgetam",
        "sam2.1_tiny",
        "--dtype",
        "fp32,fp16",
        "--out",
        "p",
        "--from",
        "usb",
        "--force",
        "--frames",
        "8",
    ];
    for code in [0, 1, 3, 130] {
        let output = shop.command(&args).env("PATH", &path).env("CODE", code.to_string()).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let said = text(&output.stdout);
        assert!(
            said.starts_with("get edgetam sam2.1_tiny --out p --dtype fp32,fp16 --from usb --frames 8 --jetbench /"),
            "{said}"
        );
        assert!(said.trim_end().ends_with("jetbench --force"), "{said}");
    }
}

#[test]
fn nothing_is_installed_unasked_and_what_it_takes_is_said_first() {
    let kit = Kit::new();
    let said = kit.expect(2, &[]);
    for part in [
        "the exporter is not installed",
        "4800 MiB on disk, 7200 MiB while they are installed",
        "4 Python packages",
        "of the exporter",
        "--yes installs without asking",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(kit.note("kit").contains("get edgetam") && kit.note("kit").trim_end().ends_with("--plan"));
    assert!(!kit.shop.path("data").exists() && kit.note("pip").is_empty());
    kit.expect(0, &["--plan"]);
    assert!(!kit.shop.path("data").exists());
    kit.set("old", "");
    assert!(kit.expect(3, &["--yes"]).contains("Python 3.11 or newer is needed"));
}

#[test]
fn its_packages_come_into_an_environment_of_their_own_once() {
    let kit = Kit::new();
    kit.set("code", "1");
    kit.expect(2, &["--yes"]); // the plan is refused, so nothing is installed
    assert!(kit.note("pip").is_empty());
    kit.set("code", "0");
    kit.expect(0, &["--yes"]);
    let pip: Vec<String> = kit.note("pip").lines().map(str::to_string).collect();
    assert_eq!(pip.len(), 2, "{pip:?}");
    assert!(pip[0].ends_with("--no-deps --only-binary=:all: numpy==2.4 timm==1.0"), "{pip:?}");
    assert!(
        pip[1].contains("--index-url https://download.pytorch.org/whl/cpu torch==2.15.0 torchvision==0.29"),
        "{pip:?}"
    );
    let last = kit.note("kit").lines().last().unwrap().to_string();
    let environment = kit.shop.path("data/jetbench/models/bin/python");
    assert!(last.starts_with(&format!("{} from", environment.display())), "{last}");
    assert!(last.contains("get edgetam --out packs --jetbench /"), "{last}");
    let command = std::fs::read_to_string(environment.with_file_name("pip")).unwrap();
    assert_eq!(command, format!("exec {}\n", environment.display()), "its commands run");
    kit.set("code", "3");
    kit.expect(3, &[]); // nothing to ask for, and the exporter's exit code
    assert_eq!(kit.note("pip").lines().count(), 2);
}

#[test]
fn where_no_small_pytorch_is_found_the_large_one_is_taken_and_said() {
    let kit = Kit::new();
    kit.set("no-small-torch", "");
    assert!(kit.expect(0, &["--yes"]).contains("taking the one with them from the usual index"));
    let pip = kit.note("pip");
    assert!(pip.trim_end().ends_with("torch==2.15.0 torchvision==0.29 nvidia-cublas==13"), "{pip}");
    assert!(!pip.contains("triton") && !pip.contains("ruff"), "{pip}");
}

#[test]
fn an_installation_that_failed_leaves_nothing_and_one_of_another_list_is_made_anew() {
    let kit = Kit::new();
    kit.set("no-disk", "");
    assert!(kit.expect(3, &["--yes"]).contains("pip install"));
    assert_eq!(kit.environments(), ["models.lock"]);
    std::fs::remove_file(kit.shop.path("notes/no-disk")).unwrap();
    kit.expect(0, &["--yes"]);
    let made = kit.shop.path("data/jetbench/models");
    std::fs::write(made.join("of the old list"), "").unwrap();
    std::fs::write(kit.shop.path("scripts/requirements.lock"), LOCK.replace("numpy==2.4", "numpy==2.5")).unwrap();
    kit.expect(0, &["--yes"]);
    assert!(kit.note("pip").contains("numpy==2.5") && !made.join("of the old list").exists());
    assert_eq!(kit.environments(), ["models", "models.lock"]);
}

/// In each of its steps; the first process alone, as the kernel does when memory runs out, so that what the step had started lives on.
#[test]
fn an_installation_that_was_killed_is_never_taken_for_whole() {
    for step in ["-m venv", "numpy==", "--index-url", "nvidia-cublas=="] {
        let kit = Kit::new();
        kit.set("no-small-torch", "");
        kit.set("stop", step);
        let mut run = kit.command(&["--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while kit.note("stopped").is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "{step} was not reached");
            std::thread::sleep(Duration::from_millis(5));
        }
        run.kill().unwrap();
        run.wait().unwrap();
        let killed = Instant::now();
        assert!(!kit.shop.path("data/jetbench/models/made-from").exists(), "{step}");
        std::fs::remove_file(kit.shop.path("notes/stop")).unwrap();
        kit.expect(0, &["--yes"]);
        // Gone, or dead and not yet waited for by the system.
        let installer = std::fs::read_to_string(format!("/proc/{}/stat", kit.note("stopped").trim()));
        assert!(
            installer.is_err() || installer.unwrap().contains(") Z "),
            "{step}: goes on after its parent was killed"
        );
        std::thread::sleep(Duration::from_millis(500).saturating_sub(killed.elapsed()));
        let made = kit.shop.path("data/jetbench/models");
        assert!(made.join("made-from").exists() && !made.join("lib/orphan").exists(), "{step}");
        assert!(!made.join("tmp").exists(), "{step}");
        for around in kit.note("around").lines() {
            assert!(around.starts_with(kit.shop.path("data/jetbench").to_str().unwrap()), "{step}: {around}");
        }
    }
}

#[test]
fn two_installations_at_once_make_one_environment() {
    let kit = Kit::new();
    kit.set("stop", "-m venv");
    let mut first = kit.command(&["--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while kit.note("stopped").is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::remove_file(kit.shop.path("notes/stop")).unwrap();
    let second = kit.command(&["--yes"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    first.kill().unwrap();
    first.wait().unwrap();
    let second = second.wait_with_output().unwrap();
    let told = text(&second.stderr);
    assert!(second.status.success() && told.contains("another process installs the exporter"), "{told}");
}

#[test]
fn what_the_user_has_on_pythons_path_does_not_count_as_installed() {
    let kit = Kit::new();
    let output = kit.command(&["--yes"]).env("PYTHONPATH", "/mine").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(kit.note("around").lines().count() == 2 && !kit.note("around").contains("mine"), "{}", kit.note("around"));
}

#[test]
fn a_pack_goes_from_here_to_there_as_one_file() {
    let shop = Workshop::empty();
    shop.pack("tiny", "");
    let said = shop.expect(0, &["packs", "pack", "packs/tiny"]);
    let digest = said.split("--sha256 ").nth(1).unwrap().trim().to_string();
    assert!(shop.path("tiny.jetpack.tar").is_file());
    assert!(said.contains("jetbench packs add tiny.jetpack.tar --sha256"), "{said}");
    shop.expect(2, &["packs", "add", "tiny.jetpack.tar", "--out", "there", "--sha256", &"0".repeat(64)]);
    assert!(!shop.path("there").exists());
    let said = shop.expect(0, &["packs", "add", "tiny.jetpack.tar", "--out", "there", "--sha256", &digest]);
    assert!(said.contains("jetbench verify there/tiny"), "{said}");
    let manifest = |dir: &str| std::fs::read(shop.path(dir).join("tiny/pack.toml")).unwrap();
    assert_eq!(manifest("there"), manifest("packs"));
    shop.expect(2, &["packs", "pack", "packs/tiny"]); // the file is there
    shop.expect(2, &["packs", "add", "packs/tiny/pack.toml"]);
    shop.expect(2, &["packs", "add", "nowhere.tar"]);
}

#[test]
fn digests_are_printed_and_compared_with_the_manifest() {
    let shop = Workshop::empty();
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/packs/sam2_mini");
    let copied = shop.path("copy");
    shop.expect(0, &["packs", "copy", pack.to_str().unwrap(), "copy"]);
    let said = shop.expect(0, &["packs", "hash", "copy"]);
    assert!(said.lines().count() > 15 && said.contains("  fp32/image_encoder.onnx\n"), "{said}");
    std::fs::write(copied.join("fp16/mask_decoder.onnx"), "damaged").unwrap();
    let said = shop.expect(1, &["packs", "hash", "copy"]);
    assert!(said.contains("fp16/mask_decoder.onnx  (graph mask_decoder, fp16: pack.toml says "), "{said}");
    assert!(shop.expect(1, &["packs", "hash", "copy", "--json"]).starts_with('['));
}

#[test]
fn a_manifest_for_files_that_one_has_runs_and_says_what_is_missing() {
    let shop = Workshop::empty();
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/packs/edgetam_mini");
    shop.expect(0, &["packs", "copy", pack.to_str().unwrap(), "mine"]);
    shop.expect(2, &["packs", "new", "--family", "edgetam", "mine"]); // its own manifest is there
    std::fs::remove_file(shop.path("mine/pack.toml")).unwrap();
    let said = shop.expect(0, &["packs", "new", "--family", "edgetam", "mine"]);
    assert!(said.contains("to be filled in by hand:\n  licence") && !said.contains("missing or wrong"), "{said}");
    shop.expect(0, &["packs", "hash", "mine"]);
    shop.expect(0, &["packs", "inspect", "mine"]);
    std::fs::remove_file(shop.path("mine/fp32/memory_encoder.onnx")).unwrap();
    std::fs::remove_file(shop.path("mine/fp32/memory_attention.onnx")).unwrap();
    let said = shop.expect(1, &["packs", "new", "--family", "edgetam", "mine", "--force", "--id", "other"]);
    let missing = said.split("missing or wrong:").nth(1).unwrap();
    let at_once = [
        "fp32: no file of `memory_attention`, `memory_encoder`; ",
        "fp32/memory_attention.cpu.onnx: constant `",
        "is kept in fp32/memory_attention.onnx: No such file",
    ];
    assert!(at_once.iter().all(|part| missing.contains(part)), "{said}");
    for precision in ["fp16", "bf16"] {
        std::fs::remove_file(shop.path(&format!("mine/{precision}/memory_encoder.onnx"))).unwrap();
    }
    std::fs::write(shop.path("mine/fp16/mask_decoder.onnx"), "damaged").unwrap();
    let said = shop.expect(1, &["packs", "new", "--family", "edgetam", "mine", "--force", "--id", "other"]);
    let at_once =
        ["graph `memory_encoder` is missing", "fp16/mask_decoder.onnx: ", "fp32: no file of `memory_attention`; "];
    assert!(at_once.iter().all(|part| said.contains(part)), "{said}");
    shop.expect(2, &["packs", "new", "--family", "nonesuch", "mine", "--force"]);
}
