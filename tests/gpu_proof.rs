//! `scripts/gpu_proof.sh` with a program that only writes down what it was asked: what is a fault, what a refusal, and which precisions
//! the later steps get.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Writes its arguments to `asked` beside it; behaves as the files beside it say: `refused` and `failing` hold patterns of what ends with
/// exit code 3 or 1, `slow` of what takes a minute.
const STAND_IN: &str = r#"#!/usr/bin/env bash
here=$(dirname "$0")
echo "$*" >>"$here/asked"
words=$*
for kind in slow refused failing; do
    [ -e "$here/$kind" ] && [[ $words =~ $(cat "$here/$kind") ]] || continue
    case $kind in slow) exec sleep 60 ;; refused) exit 3 ;; failing) echo "said why"; exit 1 ;; esac
done
case $1 in
    --version) echo "jetbench 0" ;;
    verify) echo pass ;;
    run)
        while [ $# -gt 0 ]; do [ "$1" = --out ] && out=$2; [ "$1" = --save-masks ] && masks=1; shift; done
        mkdir -p "$out/board/now"
        touch "$out/board/now/run.json" "$out/board/now/summary.csv"
        [ -z "${masks:-}" ] || { mkdir "$out/board/now/masks"; echo "$([ -e "$here/unequal" ] && echo "$out")" >"$out/board/now/masks/0.png"; }
        echo "a_points  fp32  cpu  valid"
        echo "b_points  fp32  cpu  invalid [1]" ;;
esac
"#;

/// Two trackers, one of them without bf16, and a segmenter in fp32 only.
struct Proof {
    dir: TempDir,
}

impl Proof {
    fn new() -> Proof {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, STAND_IN).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let files =
            |dtypes: &[&str]| dtypes.iter().map(|d| format!("{d} = \"{d}.onnx\"")).collect::<Vec<_>>().join(", ");
        for (id, family, dtypes) in [
            ("a", "sam2", &["fp32", "fp16", "bf16"][..]),
            ("b", "edgetam", &["fp32", "fp16"]),
            ("whole", "dvis_daq", &["fp32"]),
        ] {
            let pack = dir.path().join("packs").join(id);
            std::fs::create_dir_all(&pack).unwrap();
            let text = format!("family = \"{family}\"\n[[graph]]\nfiles = {{ {} }}\n", files(dtypes));
            std::fs::write(pack.join("pack.toml"), text).unwrap();
        }
        Proof { dir }
    }

    fn says(&self, name: &str, pattern: &str) -> &Proof {
        std::fs::write(self.dir.path().join(name), pattern).unwrap();
        self
    }

    /// Exit code, what was asked of the program, and the rows of the summary.
    fn run(&self, device: &str, settings: &[(&str, &str)]) -> (Option<i32>, Vec<String>, Vec<String>) {
        let at = |name: &str| self.dir.path().join(name);
        std::fs::remove_file(at("asked")).ok();
        let packs = ["a", "b", "whole"].map(|id| at("packs").join(id).display().to_string()).join(" ");
        let output = Command::new("bash")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gpu_proof.sh"))
            .args([Path::new(device), &at("out")])
            .env("JETBENCH", at("program"))
            .env("PACKS", packs)
            .env_remove("STEPS")
            .env_remove("PYTORCH")
            .envs(settings.iter().copied())
            .output()
            .unwrap();
        let lines =
            |path: PathBuf| std::fs::read_to_string(path).unwrap().lines().map(String::from).collect::<Vec<_>>();
        (output.status.code(), lines(at("asked")), lines(at("out/summary.md")))
    }
}

/// The row of a step.
fn row<'a>(summary: &'a [String], step: &str) -> &'a str {
    summary
        .iter()
        .find(|line| line.starts_with(&format!("| {step} |")))
        .unwrap_or_else(|| panic!("{step}: {summary:#?}"))
}

/// The precisions that the run with this `--out` was asked for.
fn dtypes<'a>(asked: &'a [String], out: &str) -> &'a str {
    let line = asked
        .iter()
        .find(|line| line.starts_with("run ") && line.ends_with(&format!("/{out}")))
        .unwrap_or_else(|| panic!("{out}: {asked:#?}"));
    line.split(" --dtype ").nth(1).unwrap().split(' ').next().unwrap()
}

#[test]
fn every_step_has_a_row_and_packs_share_their_precisions() {
    let (code, asked, summary) = Proof::new().run("cpu", &[]);
    assert_eq!(code, Some(0), "{summary:#?}");
    assert_eq!(row(&summary, "verify_a_bf16"), "| verify_a_bf16 | passed | pass |");
    assert!(
        !asked.iter().any(|line| line.contains("verify") && line.contains("/whole ") && line.contains("fp16")),
        "{asked:#?}"
    );
    assert_eq!((dtypes(&asked, "demo"), dtypes(&asked, "segmenters")), ("fp32,fp16", "fp32"));
    assert_eq!(row(&summary, "demo"), "| demo | passed | 1 of 2 cells valid |");
    assert_eq!(row(&summary, "masks_equal"), "| masks_equal | passed | none of 1 files differs |");
    assert_eq!(summary.last().unwrap(), "0 failed.");
    assert!(!asked.iter().any(|line| line.contains("--limit-videos") || line.contains("cuda_graph")));
}

#[test]
fn webgpu_is_not_asked_for_bf16_and_a_software_driver_gets_one_video() {
    let proof = Proof::new();
    let (code, asked, summary) =
        proof.says("refused", "dtype fp16").run("webgpu:0", &[("VIDEOS", "1"), ("REPEAT", "1")]);
    assert_eq!(code, Some(0), "{summary:#?}");
    assert_eq!(row(&summary, "verify_b_fp16"), "| verify_b_fp16 | refused |  |");
    assert!(!asked.iter().any(|line| line.contains("bf16")), "{asked:#?}");
    assert_eq!(dtypes(&asked, "demo"), "fp32", "what the device refuses is not asked for again");
    let runs: Vec<_> = asked.iter().filter(|line| line.starts_with("run ") && !line.contains("/eight")).collect();
    assert!(runs.iter().all(|line| line.contains("--limit-videos 1")) && runs.len() > 6, "{runs:#?}");
    assert!(summary[2].ends_with("Of the demo clips only the first 1."), "{}", summary[2]);
}

#[test]
fn what_fails_does_not_end_or_differs_is_a_fault() {
    let proof = Proof::new();
    proof.says("failing", "^audit").says("slow", "pipeline=on --repeat").says("unequal", "");
    let (code, _, summary) = proof.run("cpu", &[("LIMIT", "5")]);
    assert_eq!(code, Some(1), "{summary:#?}");
    assert_eq!(row(&summary, "audit_demo"), "| audit_demo | **failed** (1) | said why |");
    assert!(row(&summary, "ahead_on").contains("**no end after 5 s**"), "{summary:#?}");
    assert!(row(&summary, "masks_equal").contains("**failed**"), "{summary:#?}");
    // Four audits of trackers, one of the segmenter, one that did not end, masks that differ.
    assert_eq!(summary.last().unwrap(), "7 failed.");
    let (code, asked, summary) = Proof::new().says("refused", "^verify").run("cuda:0", &[]);
    assert_eq!(code, Some(1), "{summary:#?}");
    assert!(summary.last().unwrap().contains("cuda:0 takes no precision that all trackers have"), "{summary:#?}");
    assert!(!asked.iter().any(|line| line.starts_with("run ")), "{asked:#?}");
}
