//! What stands below a command's flags in its help: examples and exit codes.

/// Examples, then the exit codes; `$one` says what exit code 1 means for this command, where it has one.
macro_rules! after {
    ([$($one:literal)?], $($example:literal),+) => {
        after!(@ [$("  1    ", $one, "\n",)?] "device, driver, ONNX Runtime or environment is missing or unfit", $($example),+)
    };
    (@ [$($one:literal,)*] $three:literal, $($example:literal),+) => {
        concat!(
            "Examples:\n", $("  jetbench ", $example, "\n",)+
            "\nExit codes:\n",
            "  0    done\n",
            $($one,)*
            "  2    wrong usage, model pack or data\n",
            "  3    ", $three
        )
    };
}

pub(super) const RUN: &str = "\
Examples:
  jetbench --models sam2_points,edgetam_points --dtype bf16
  jetbench --config configs/demo.toml --device cuda:0 --out results
  jetbench --resume latest

Exit codes:
  0    every cell is valid
  1    a cell is invalid or failed, or --fail-on-regression says so
  2    wrong usage, model pack or data
  3    device, driver, ONNX Runtime or environment is missing or unfit
  130  interrupted; finished sequences are kept";

pub(super) const PROMPT: &str =
    after!([], "prompt clip.mp4", "prompt frames/ --frame 20", "prompt clips/ --video bear");

pub(super) const MODELS: &str = after!([], "models", "models --packs ~/packs --json", "models --options");
pub(super) const DOCTOR: &str = after!(@ [] "a check failed", "doctor", "doctor --device cuda:0 --data ~/sav_val");
pub(super) const SCORE: &str = after!(
    [],
    "score DAVIS predictions/",
    "score sav_val predictions/ --protocol vos --export-csv scores.csv",
    "score DAVIS ours/ theirs/ --export-latex table.tex"
);
pub(super) const CHECK: &str =
    after!(["a problem was found"], "data check ~/sav_val", "data check clips --layout plain");
pub(super) const SYNTH: &str =
    after!([], "data synth drawn", "data synth drawn --layout davis2017 --predictions predicted");
pub(super) const VERIFY: &str = after!(
    ["outputs differ by more than is allowed, or the reference shows too little (weak)"],
    "verify assets/packs/sam2_mini",
    "verify packs/edgetam --device cuda:0 --dtype fp16",
    "verify packs/edgetam --against dtype=bf16"
);
pub(super) const AUDIT: &str = after!(
    ["a copy of the severity of --fail-on was found"],
    "audit --models sam2_points --device cuda:0",
    "audit --models edgetam_bbox --device webgpu:0 --fail-on critical"
);
pub(super) const TELEMETRY: &str =
    after!([], "telemetry --duration 60 --out sensors.csv", "telemetry --source tegrastats --format jsonl");
pub(super) const INSPECT: &str = after!(
    [],
    "packs inspect assets/packs/sam2_mini",
    "packs inspect packs/edgetam --objects 4 --roofline orin-nano-8gb"
);
pub(super) const GET: &str = "\
Examples:
  jetbench packs get edgetam
  jetbench packs get edgetam sam2.1_tiny --dtype fp32,fp16 --out packs --yes
  jetbench packs get sam2.1_large --from /media/stick/checkpoints
  jetbench packs get --list

Exit codes:
  0    every pack is there and proven
  1    an export or a proof failed
  2    wrong usage, or a file that is not the released one
  3    Python, the network, the disk or the machine is not up to it
  130  interrupted; the next run goes on from there";
pub(super) const COPY_PACK: &str = after!([], "packs copy packs/edgetam /media/stick/edgetam");
pub(super) const PACK: &str =
    after!([], "packs pack packs/edgetam", "packs pack packs/edgetam --out /media/stick/edgetam.tar");
pub(super) const ADD: &str =
    after!([], "packs add edgetam.jetpack.tar", "packs add https://files.example/edgetam.jetpack.tar --out ~/packs");
pub(super) const HASH: &str = after!(["a digest is not as the manifest says"], "packs hash packs/edgetam");
pub(super) const NEW: &str = after!(
    ["a graph or tensor is missing, or wrong"],
    "packs new --family sam2 exported/",
    "packs new --family edgetam ~/onnx --id mine"
);
pub(super) const COMPARE: &str = after!(
    ["with --fail-on-regression: something regressed or could not be compared"],
    "compare OLD latest",
    "compare --models sam2_points edgetam_points latest",
    "compare latest --save-baseline main",
    "compare latest --baseline main --fail-on-regression"
);
pub(super) const HISTORY: &str =
    after!([], "history --plot trend.svg", "history --models sam2_points --export-csv -", "history --sizes");
pub(super) const PRUNE: &str = after!(
    ["the results take more than --max-size, and nothing else may be removed"],
    "prune --keep 30 --dry-run",
    "prune --max-size 20GiB"
);
pub(super) const INSTALL: &str = after!(
    [],
    "schedule install --on-calendar '*-*-* 02:00' --config configs/demo.toml --cool-to 45 --keep 30",
    "schedule install --on-calendar daily --config nightly.toml --print",
    "schedule install --on-calendar daily --config nightly.toml --baseline main --fail-on-regression --on-failure 'logger -t jetbench regressed'"
);
pub(super) const LIST: &str = after!([], "schedule list", "schedule list --system --json");
pub(super) const REMOVE: &str = after!([], "schedule remove demo");
pub(super) const MERGE: &str = after!(
    ["a cell is invalid or failed"],
    "merge results/part-1 results/part-2",
    "merge boards/ --energy-price 0.30 --currency EUR"
);
pub(super) const REPORT: &str = after!(
    ["a cell is invalid or failed"],
    "report latest",
    "report latest --export-markdown - --export-junit junit.xml >> notes.md"
);
pub(super) const COMPLETIONS: &str = "\
Examples:
  echo 'source <(jetbench completions bash)' >> ~/.bashrc
  echo 'source <(jetbench completions zsh)' >> ~/.zshrc
  echo 'jetbench completions fish | source' > ~/.config/fish/completions/jetbench.fish";
pub(super) const MAN: &str = "\
Examples:
  jetbench man --dir ~/.local/share/man/man1
  jetbench man | man -l -";
