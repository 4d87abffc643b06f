//! What stands below a command's flags in its help: examples, and the exit codes that it can have.

use std::sync::LazyLock;

use clap::builder::StyledStr;
use clap::{Arg, Args, Command};

use crate::cli::RunArgs;
use crate::exit::{ENVIRONMENT, INTERRUPTED, MEANINGS, NOT_VALID, OK, USAGE};

/// What the help of `run` says of a flag that other commands pass on to it.
pub(super) fn of_run(flag: &str) -> StyledStr {
    // Asked for several flags whenever the command line is built.
    static RUN: LazyLock<Command> = LazyLock::new(|| RunArgs::augment_args(Command::new("run")));
    let found = RUN.get_arguments().find(|arg| arg.get_long() == Some(flag));
    found.and_then(Arg::get_help).cloned().unwrap_or_default()
}

/// Below the flags of one command.
pub(super) struct After {
    /// Without the program's name.
    examples: &'static [&'static str],
    codes: &'static [(u8, &'static str)],
}

impl From<After> for StyledStr {
    fn from(after: After) -> StyledStr {
        let mut text = String::from("Examples:\n");
        after.examples.iter().for_each(|example| text.push_str(&format!("  jetbench {example}\n")));
        text.push_str("\nExit codes:");
        after.codes.iter().for_each(|(code, meaning)| text.push_str(&format!("\n  {code:<3}  {meaning}")));
        text.into()
    }
}

const DONE: (u8, &str) = (OK, "done");
const BAD_USAGE: (u8, &str) = (USAGE, "wrong usage");
const BAD_DATA: (u8, &str) = (USAGE, "wrong usage or data");
const BAD_PACK: (u8, &str) = (USAGE, "wrong usage or model pack");
const BAD_RUN: (u8, &str) = (USAGE, "wrong usage, or a run that cannot be read");
const UNFIT: (u8, &str) = (ENVIRONMENT, "device, ONNX Runtime or environment is unfit");
const UNWRITTEN: (u8, &str) = (ENVIRONMENT, "a file cannot be written");
const CELL: (u8, &str) = (NOT_VALID, "a cell is invalid or failed");

pub(super) const RUN: After =
    After { examples: &["--models sam2_points,edgetam_points --dtype bf16", "--resume latest"], codes: &MEANINGS };
pub(super) const PLAN: After = After {
    examples: &[
        "plan --models sam2_points --data clips --save-masks=rle",
        "plan --calibrate --config configs/demo.toml",
    ],
    codes: &[DONE, (USAGE, "wrong usage, data or model pack"), UNFIT],
};
pub(super) const SCALE: After = After {
    examples: &[
        "scale --models sam2_points,edgetam_points --objects 1,2,4,8",
        "scale --models edgetam_points --objects 1,2,3 --data clips --plot scale.svg",
        "scale --models sam2_dfine,edgetam_dfine --detect-every 1,2,5,10",
    ],
    codes: &MEANINGS,
};
pub(super) const PROMPT: After = After {
    examples: &["prompt clip.mp4", "prompt frames/ --frame 20", "prompt clips/ --video bear"],
    codes: &[DONE, BAD_DATA, UNWRITTEN],
};
pub(super) const MODELS: After =
    After { examples: &["models", "models --packs ~/packs --json", "models --options"], codes: &[DONE, BAD_PACK] };
pub(super) const DOCTOR: After = After {
    examples: &["doctor", "doctor --device cuda:0 --data ~/sav_val"],
    codes: &[DONE, BAD_USAGE, (ENVIRONMENT, "a check failed")],
};
pub(super) const SCORE: After = After {
    examples: &[
        "score DAVIS predictions/",
        "score sav_val predictions/ --protocol vos --export-csv scores.csv",
        "score DAVIS ours/ theirs/ --export-latex table.tex",
    ],
    codes: &[DONE, BAD_DATA, UNWRITTEN],
};
pub(super) const CHECK: After = After {
    examples: &["data check ~/sav_val", "data check clips --layout plain"],
    codes: &[DONE, (NOT_VALID, "a problem was found"), (USAGE, "wrong usage, or no dataset is there")],
};
pub(super) const SYNTH: After = After {
    examples: &["data synth drawn", "data synth drawn --layout davis2017 --predictions predicted"],
    codes: &[DONE, (USAGE, "wrong usage, or the folder cannot be written")],
};
pub(super) const VERIFY: After = After {
    examples: &[
        "verify assets/packs/sam2_mini",
        "verify packs/edgetam --device cuda:0 --dtype fp16",
        "verify packs/edgetam --against dtype=bf16",
    ],
    codes: &[
        DONE,
        (NOT_VALID, "outputs differ by more than is allowed, or the reference shows too little (weak)"),
        BAD_PACK,
        UNFIT,
    ],
};
pub(super) const AUDIT: After = After {
    examples: &[
        "audit --models sam2_points --device cuda:0",
        "audit --models edgetam_bbox --device webgpu:0 --fail-on critical",
    ],
    codes: &[DONE, (NOT_VALID, "a copy of the severity of --fail-on was found"), BAD_PACK, UNFIT],
};
pub(super) const TELEMETRY: After = After {
    examples: &["telemetry --duration 60 --out sensors.csv", "telemetry --source tegrastats --format jsonl"],
    codes: &[DONE, BAD_USAGE, (ENVIRONMENT, "no sensor can be read, or the samples cannot be written")],
};
pub(super) const INSPECT: After = After {
    examples: &[
        "packs inspect assets/packs/sam2_mini",
        "packs inspect packs/edgetam --objects 4 --roofline orin-nano-8gb",
    ],
    codes: &[DONE, BAD_PACK, (ENVIRONMENT, "--roofline cpu without ONNX Runtime")],
};
pub(super) const GET: After = After {
    examples: &[
        "packs get edgetam",
        "packs get edgetam sam2.1_tiny --dtype fp32,fp16 --out packs --yes",
        "packs get sam2.1_large --from /media/stick/checkpoints",
        "packs get --list",
    ],
    codes: &[
        (OK, "every pack is there and proven"),
        (NOT_VALID, "an export or a proof failed"),
        (USAGE, "wrong usage, nobody to ask, or a file that is not the released one"),
        (ENVIRONMENT, "Python, the network, the disk or the machine is not up to it"),
        (INTERRUPTED, "interrupted; the next run goes on from there"),
    ],
};
pub(super) const COPY_PACK: After = After {
    examples: &["packs copy packs/edgetam /media/stick/edgetam"],
    codes: &[DONE, BAD_PACK, (ENVIRONMENT, "the copy cannot be written")],
};
pub(super) const PACK: After = After {
    examples: &["packs pack packs/edgetam", "packs pack packs/edgetam --out /media/stick/edgetam.tar"],
    codes: &[DONE, BAD_PACK, (ENVIRONMENT, "the archive cannot be written")],
};
pub(super) const ADD: After = After {
    examples: &["packs add edgetam.jetpack.tar", "packs add https://files.example/edgetam.jetpack.tar --out ~/packs"],
    codes: &[
        DONE,
        (USAGE, "wrong usage, archive or model pack"),
        (ENVIRONMENT, "the archive cannot be fetched, or the pack cannot be written"),
    ],
};
pub(super) const HASH: After = After {
    examples: &["packs hash packs/edgetam"],
    codes: &[DONE, (NOT_VALID, "a digest is not as the manifest says"), BAD_PACK],
};
pub(super) const NEW: After = After {
    examples: &["packs new --family sam2 exported/", "packs new --family edgetam ~/onnx --id mine"],
    codes: &[
        DONE,
        (NOT_VALID, "a graph or tensor is missing, or wrong"),
        (USAGE, "wrong usage, or an ONNX file that cannot be read"),
        (ENVIRONMENT, "pack.toml cannot be written"),
    ],
};
pub(super) const COMPARE: After = After {
    examples: &[
        "compare OLD latest",
        "compare --models sam2_points edgetam_points latest",
        "compare latest --save-baseline main",
        "compare latest --baseline main --fail-on-regression",
    ],
    codes: &[
        DONE,
        (NOT_VALID, "with --fail-on-regression: something regressed or could not be compared"),
        BAD_RUN,
        UNWRITTEN,
    ],
};
pub(super) const HISTORY: After = After {
    examples: &["history --plot trend.svg", "history --models sam2_points --export-csv -", "history --sizes"],
    codes: &[DONE, BAD_RUN, UNWRITTEN],
};
pub(super) const PRUNE: After = After {
    examples: &["prune --keep 30 --dry-run", "prune --max-size 20GiB"],
    codes: &[
        DONE,
        (NOT_VALID, "the results take more than --max-size, and nothing else may be removed"),
        (USAGE, "wrong usage, or a baseline that cannot be read"),
        (ENVIRONMENT, "a run cannot be removed"),
    ],
};
pub(super) const INSTALL: After = After {
    examples: &[
        "schedule install --on-calendar '*-*-* 02:00' --config configs/demo.toml --cool-to 45 --keep 30",
        "schedule install --on-calendar daily --config nightly.toml --print",
        "schedule install --on-calendar daily --config nightly.toml --baseline main --fail-on-regression --on-failure 'logger -t jetbench regressed'",
    ],
    codes: &[
        DONE,
        (USAGE, "wrong usage or config file, or no such baseline"),
        (ENVIRONMENT, "systemd refuses, or a unit cannot be written"),
    ],
};
pub(super) const LIST: After = After {
    examples: &["schedule list", "schedule list --system --json"],
    codes: &[DONE, BAD_USAGE, (ENVIRONMENT, "systemd does not answer")],
};
pub(super) const REMOVE: After = After {
    examples: &["schedule remove demo"],
    codes: &[
        DONE,
        (USAGE, "wrong usage, or no such schedule"),
        (ENVIRONMENT, "systemd refuses, or a unit cannot be removed"),
    ],
};
pub(super) const MERGE: After = After {
    examples: &["merge results/part-1 results/part-2", "merge boards/ --energy-price 0.30 --currency EUR"],
    codes: &[
        DONE,
        CELL,
        (USAGE, "wrong usage, or runs that cannot be read or joined"),
        (ENVIRONMENT, "the results cannot be written"),
    ],
};
pub(super) const REPORT: After = After {
    examples: &["report latest", "report latest --export-markdown - --export-junit junit.xml >> notes.md"],
    codes: &[DONE, CELL, BAD_RUN, UNWRITTEN],
};
pub(super) const COMPLETIONS: &str = "\
Examples:
  echo 'source <(jetbench completions bash)' >> ~/.bashrc
  echo 'source <(jetbench completions zsh)' >> ~/.zshrc
  echo 'jetbench completions fish | source' > ~/.config/fish/completions/jetbench.fish";
pub(super) const MAN: &str = "\
Examples:
  jetbench man --dir ~/.local/share/man/man1
  jetbench man | man -l -";
