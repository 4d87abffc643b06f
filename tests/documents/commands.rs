//! Every command of the documents is run, on drawn clips and mock packs, or stands in a table with the reason why not.

use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use jetbench::dataset::{Layout, SynthOptions, synthesise};

/// Commands that are run with other words, as they name what every reader has differently.
const RUN_AS: &[(&str, &str)] = &[
    // A cell that a busy machine made invalid cannot be compared; those of the example are valid.
    ("jetbench compare --models A B RUN", "jetbench compare --models sam2_points edgetam_points $EXAMPLE"),
    ("jetbench --models sam2_dfine --data DIR --overlays", "jetbench --models sam2_dfine --data frames --overlays"),
    (
        "jetbench scale --models sam2_dfine --detect-every 1,5 --data DIR --plot interval.svg --export-csv interval.csv",
        "jetbench scale --models sam2_dfine --detect-every 1,5 --data ~/davis --plot interval.svg --export-csv interval.csv",
    ),
    (
        "jetbench score TRUTH MASKS --protocol davis2017-unsup",
        "jetbench score ~/davis/Annotations/480p ~/predictions --protocol davis2017-unsup",
    ),
    (
        "jetbench score TRUTH MASKS --protocol hota --remove-void",
        "jetbench score ~/davis ~/predictions --protocol hota --remove-void",
    ),
    ("jetbench data check DIR", "jetbench data check assets/demo"),
    ("jetbench data synth DIR", "jetbench data synth synth --videos 1 --frames 2"),
    ("jetbench merge results/", "jetbench merge parts --out joined"),
    ("jetbench --models sam2_points --shard 1/4", "jetbench --models sam2_points --shard 1/2"),
    (
        "jetbench --models edgetam_points --data clip.mp4 --clicks \"1 320,180\"",
        "jetbench --models edgetam_points --data frames --clicks \"1 20,10\"",
    ),
    (
        "jetbench --models edgetam_points --data clip.mp4 --clicks \"1 320,180\" --save-masks --overlays",
        "jetbench --models edgetam_points --data frames --clicks \"1 20,10\" --save-masks --overlays",
    ),
    (
        "jetbench --models edgetam_points --data frames/ --clicks \"obj=car 320,180 40,60,-\" --clicks \"obj=dog frame=20 90,75\"",
        "jetbench --models edgetam_points --data frames/ --clicks \"obj=car 20,10 4,6,-\" --clicks \"obj=dog frame=2 9,7\"",
    ),
    (
        "jetbench --models edgetam_bbox --data clip.mp4 --box \"obj=1 100,80,260,300\"",
        "jetbench --models edgetam_bbox --data frames --box \"obj=1 10,8,26,30\"",
    ),
    ("jetbench prompt clip.mp4", "jetbench prompt frames --out frames.prompts.html"),
    ("jetbench packs add FILE", "jetbench packs add edgetam.tar --out added"),
    ("jetbench packs copy PACK DIR", "jetbench packs copy $PACK copy"),
    ("jetbench packs copy packs/sam2.1_tiny packs/sam2.1_tiny_int8", "jetbench packs copy $PACK int8"),
    ("jetbench packs hash DIR", "jetbench packs hash $PACK"),
    ("jetbench packs hash exported/", "jetbench packs hash $PACK"),
    ("jetbench packs inspect DIR", "jetbench packs inspect $PACK"),
    ("jetbench packs inspect exported/", "jetbench packs inspect $PACK"),
    ("jetbench packs inspect PACK --dtype fp32 --form plain", "jetbench packs inspect $PACK --dtype fp32 --form plain"),
    ("jetbench packs pack DIR", "jetbench packs pack $PACK --out sam2.tar"),
    ("jetbench packs pack packs/edgetam", "jetbench packs pack $PACK --out edgetam.tar"),
    ("jetbench plan", "jetbench plan --models sam2_points"),
    ("jetbench prompt clip.mp4", "jetbench prompt frames"),
    ("jetbench report RUN", "jetbench report latest"),
    ("jetbench report RUN -v", "jetbench report latest -v"),
    ("jetbench --resume RUN", "jetbench --resume latest"),
    ("jetbench run", "jetbench run --models sam2_points --limit-videos 1"),
    ("jetbench score GT PRED", "jetbench score ~/davis ~/predictions"),
    ("jetbench telemetry", "jetbench telemetry --duration 0.1"),
    ("jetbench telemetry --root DIR", "jetbench telemetry --root / --duration 0.1"),
    (
        "jetbench schedule install --on-calendar \"*-*-* 02:00\" --config FILE --keep 30",
        "jetbench schedule install --on-calendar \"*-*-* 02:00\" --config nightly.toml --keep 30",
    ),
    ("jetbench schedule remove NAME", "jetbench schedule remove demo"),
];

/// How the commands begin that are not run, and why.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "jetbench plan --models sam2_points --memory-budget",
        "needs packs with graphs and ONNX Runtime: tests/main_job.rs",
    ),
    ("jetbench --models sam2_dfine --labels", "needs a label pack and ONNX Runtime: tests/main_job/found.rs"),
    ("jetbench report latest --export-row", "the sandbox's runs are too short to be valid: tests/export.rs"),
    ("scripts/boards.py", "scripts/tests/test_boards.py"),
    ("jetbench packs new", "drafts a manifest for graphs that were exported: tests/packs.rs"),
    ("jetbench packs get", "downloads checkpoints, and installs PyTorch"),
    ("scripts/packs_get_test.sh", "installs PyTorch and exports at full size"),
    (
        "jetbench --models edgetam_points,sam2_points --data clips/ --prompts",
        "needs a file of prompts: tests/footage.rs",
    ),
    ("jetbench --models edgetam_points --data rtsp://", "needs a camera: tests/footage/live.rs has a stand-in"),
    ("jetbench --models edgetam_points --data /dev/video0", "needs a camera"),
    ("jetbench --models edgetam_dfine --data /dev/video0", "needs a camera: tests/footage/live.rs has a pipe"),
    ("jetbench --models videomt_mini", "needs ONNX Runtime: tests/main_job/found.rs"),
    ("jetbench --models dvis_mini", "needs ONNX Runtime: tests/main_job/found.rs"),
    ("ffmpeg -i udp://", "waits for a stream: tests/footage/live.rs"),
    ("jetbench score VIPSeg_720P", "needs VIPSeg: tests/panoptic.rs"),
    ("jetbench --models dvis_daq_r50", "needs VIPSeg and a pack of full size: tests/unprompted/panoptic.rs"),
    ("jetbench verify", "needs ONNX Runtime: runners/tests/packs.rs, tests/cli.rs"),
    ("jetbench --models sam2_points,sam2_bbox,sam2_mask", "the held-out clips are drawn by the model kit first"),
    ("jetbench run --models PACK_points", "how a published figure was measured, on packs of full size"),
    ("target/debug/jetbench", "the example of CONTRIBUTING.md, whose runner is not part of the program"),
    ("cargo ", "builds, or runs tests and benches"),
    ("INSTA_UPDATE=", "writes snapshots anew"),
    ("UPDATE_DOCS=", "writes documents anew: tests/options.rs and tests/columns.rs check them"),
    ("scripts/quickstart.sh", "builds a release"),
    ("scripts/test.sh", "runs all tests, this one too"),
    ("scripts/test-arm.sh", "builds for another processor; scripts/test.sh runs it"),
    ("scripts/attack.sh", "takes minutes; scripts/test.sh runs it"),
    ("scripts/compare_trials.sh", "takes minutes"),
    ("scripts/kill_resume.sh", "takes minutes"),
    ("scripts/stream_test.sh", "takes as long as the stream: tests/footage/live.rs"),
    ("scripts/rescore.sh", "installs the original evaluators"),
    ("scripts/slurm_test.sh", "needs Slurm"),
    ("scripts/schedule_test.sh", "needs root and a systemd of its own"),
    ("scripts/gpu_proof.sh", "needs a GPU"),
    ("scripts/capture_sysfs.sh", "needs a board"),
    ("scripts/get-runtime.sh", "needs the network; scripts/test.sh runs it"),
    ("jetbench doctor --device webgpu:0 --ep-library", "needs a GPU; scripts/test-plugin.sh runs it"),
    ("scripts/test-plugin.sh", "needs a Vulkan driver; scripts/test-webgpu.sh runs it"),
    ("scripts/tensorrt-check.sh", "needs NVIDIA's compiler; scripts/test-tensorrt.sh runs it"),
    ("scripts/test-webgpu.sh", "needs a Vulkan driver; scripts/test.sh runs it"),
    ("scripts/test-python.sh", "needs the network; scripts/test.sh runs it"),
    ("scripts/package.sh", "builds a release"),
    ("scripts/package_test.sh", "needs a package, root and the network"),
    ("cd ", "where the next command is run"),
    ("python", "needs the model kit: scripts/test-python.sh tests it"),
    ("pip install", "needs the network"),
    ("jetbench-models", "needs the model kit"),
    (". .venv", "needs the model kit"),
    ("./make_packs.sh", "needs the model kit, and an hour"),
    ("for mode in", "needs the model kit"),
    ("do python", "needs the model kit"),
    ("done", "ends a loop"),
    ("sudo ", "needs a board, or root"),
    ("apt", "needs root and the network"),
    ("git ", "needs the network"),
];

/// Clips, packs, a finished run with its baseline, and the parts of another.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        for pack in ["sam2_mini", "edgetam_mini"] {
            let dir = place.path("packs").join(pack);
            std::fs::create_dir_all(&dir).unwrap();
            let text = format!("schema = 1\nid = \"{pack}\"\nfamily = \"mock\"\n[mock]\nframe_ms = [0.1]\n");
            std::fs::write(dir.join("pack.toml"), text).unwrap();
        }
        std::fs::create_dir_all(place.path("packs/dfine_mini")).unwrap();
        let detector = "schema = 1\nid = \"dfine_mini\"\nfamily = \"mock_detector\"\n";
        std::fs::write(place.path("packs/dfine_mini/pack.toml"), detector).unwrap();
        let draw = |out: &str, layout, predictions: Option<&str>| {
            let options = SynthOptions {
                out: place.path(out),
                layout,
                videos: 2,
                objects: 1,
                frames: 5,
                width: 48,
                height: 32,
                predictions: predictions.map(|dir| place.path(dir)),
                ..SynthOptions::default()
            };
            synthesise(&options, &|_, _| {}).unwrap();
        };
        draw("assets/demo", Layout::SaV, None);
        draw("home/clips", Layout::Plain, None);
        draw("home/davis", Layout::Davis2017, Some("home/predictions"));
        let video = std::fs::read_dir(place.path("home/clips")).unwrap().next().unwrap().unwrap().path();
        std::os::unix::fs::symlink(video.join("frames"), place.path("frames")).unwrap();
        std::fs::create_dir(place.path("configs")).unwrap();
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/demo.toml");
        std::fs::copy(&demo, place.path("configs/demo.toml")).unwrap();
        std::fs::copy(&demo, place.path("nightly.toml")).unwrap();
        for command in [
            "jetbench --models sam2_points,edgetam_points --out results",
            "jetbench compare latest --save-baseline main",
            "jetbench --models sam2_points --shard 1/2 --out parts",
            "jetbench --models sam2_points --shard 2/2 --out parts",
        ] {
            place.run(command, "results").unwrap();
        }
        place
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Runs a command as a shell does; an exit code that says more than "not valid" is an error, in words.
    fn run(&self, command: &str, results: &str) -> Result<(), String> {
        let program = PathBuf::from(cargo_bin!("jetbench"));
        let path = std::env::join_paths(
            std::iter::once(program.parent().unwrap().to_path_buf())
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut shell = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["JETBENCH_", "SLURM_", "XDG_"].iter().any(|start| name.starts_with(start)) {
                shell.env_remove(name);
            }
        }
        // A schedule is for nobody's systemd.
        let units = if command.starts_with("jetbench schedule") { " --unit-dir units" } else { "" };
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (pack, example) = (repository.join("assets/packs/sam2_mini"), repository.join("results/example"));
        shell.args(["-c", &format!("{command}{units}")]).current_dir(self.dir.path()).env("PATH", path.unwrap());
        shell
            .env("HOME", self.path("home"))
            .env("JETBENCH_HOME", self.dir.path())
            .env("PACK", pack)
            .env("EXAMPLE", example);
        shell.env("JETBENCH_LOCKS", self.path("locks")).env("JETBENCH_RESULTS", results);
        let output = shell.output().unwrap();
        // A board or a machine without ONNX Runtime is no fault of the command `doctor`.
        let fine = if command == "jetbench doctor" { 0..=3 } else { 0..=1 };
        match output.status.code() {
            Some(code) if fine.contains(&code) => Ok(()),
            code => {
                Err(format!("{command}: exit code {code:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
            }
        }
    }
}

/// What is wrong with these commands: they fail, or are neither run nor in a table; and entries of the tables that no command uses.
pub fn faults(commands: &[String]) -> Vec<String> {
    let place = Place::new();
    let mut faults = Vec::new();
    let mut tried: Vec<&str> = Vec::new();
    for command in commands.iter().map(String::as_str) {
        if tried.contains(&command) || NOT_RUN.iter().any(|(start, _)| command.starts_with(start)) {
            continue;
        }
        tried.push(command);
        if !command.starts_with("jetbench ") {
            faults.push(format!("`{command}` is not run: add it to NOT_RUN, with the reason"));
            continue;
        }
        let words = RUN_AS.iter().find(|(written, _)| *written == command).map_or(command, |(_, words)| words);
        // A run leaves its results where no other command looks for `latest`.
        let measures = command.starts_with("jetbench --") || command.starts_with("jetbench run");
        let results = if measures && !command.contains("--resume") { "more" } else { "results" };
        faults.extend(place.run(words, results).err());
    }
    let stale = |start: &&str| !commands.iter().any(|command| command.starts_with(start));
    let starts = RUN_AS.iter().chain(NOT_RUN).map(|(start, _)| *start).filter(stale);
    faults.extend(starts.map(|start| format!("`{start}` is in a table and in no document")));
    faults
}
