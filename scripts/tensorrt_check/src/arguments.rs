//! What was asked for?

use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, ValueEnum};
use jetbench_runners::attention::{Attended, Attention};

/// Builds every graph of model packs with NVIDIA's compiler (TensorRT for RTX), without a GPU.
///
/// Exit codes: 0 everything was built; 1 something was refused; 2 wrong arguments, or a pack that cannot be read; 3 NVIDIA's libraries
/// are missing or unfit.
#[derive(Debug, Parser)]
#[command(name = "tensorrt_check", version)]
pub struct Arguments {
    /// Pack directories; only graphs that their pack.toml names are compiled
    #[arg(required_unless_present = "one", value_name = "PACK")]
    pub packs: Vec<PathBuf>,
    /// Precisions of the packs to compile
    #[arg(long = "dtype", value_delimiter = ',', default_value = "fp32,fp16,bf16", value_name = "TYPE,…")]
    pub dtypes: Vec<Dtype>,
    /// What to compile for, and how far.
    #[command(flatten)]
    pub target: Target,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Directory with libtensorrt_rtx.so.* and libtensorrt_onnxparser_rtx.so.*
    #[arg(long, env = "TENSORRT_RTX_LIBRARIES", value_name = "DIR")]
    pub libraries: PathBuf,
    /// Compile this one file and write the outcome as JSON; what the program calls itself with.
    #[arg(long, hide = true, conflicts_with = "packs")]
    pub one: Option<PathBuf>,
}

impl Arguments {
    /// The precisions by name.
    pub fn dtype_names(&self) -> Vec<String> {
        self.dtypes.iter().map(Dtype::to_string).collect()
    }
}

/// What engines are built for.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Compute capability: 75 Turing, 80 and 86 Ampere (86: the nearest to Orin's 87), 89 Ada, 120 and 121 Blackwell
    #[arg(long, value_enum, default_value = "86", value_name = "N")]
    pub compute_capability: Capability,
    /// Objects that an engine is tuned for (jetbench's option of that name)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024), value_name = "N")]
    pub opt_objects: u16,
    /// Most objects in one batch of an engine (jetbench's option of that name); the least is 1
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024), value_name = "N")]
    pub max_objects: u16,
    /// `onnx`: only the graphs that jetbench's option `attention=onnx` changes, in that form
    #[arg(long, value_enum, default_value = "whole", value_name = "HOW")]
    pub attention: How,
    /// Read the graphs with NVIDIA's ONNX parser, build nothing
    #[arg(long)]
    pub parse_only: bool,
}

/// How attention is computed; jetbench's option of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// As in the file.
    Whole,
    /// By ONNX's own operator.
    Onnx,
}

impl How {
    /// A graph file with its attentions computed in this way; `None` where it stays as it is.
    ///
    /// # Errors
    /// The file cannot be read, or is broken.
    pub fn of(self, file: &Path) -> Result<Option<Attended>, String> {
        let how = match self {
            How::Whole => return Ok(None),
            How::Onnx => Attention::Standard { spread: false },
        };
        let wrong = |e: &dyn fmt::Display| format!("{}: {e}", file.display());
        let attended = how.of(&std::fs::read(file).map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
        match attended {
            // The changed graph lies in another folder, where the compiler would not find them.
            Some(attended) if attended.has_weights_elsewhere => {
                Err(wrong(&"its weights are in other files; --attention takes graphs that hold theirs"))
            }
            attended => Ok(attended),
        }
    }
}

/// Precisions of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    Fp32,
    Fp16,
    Bf16,
    Int8,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::Fp32 => "fp32",
            Dtype::Fp16 => "fp16",
            Dtype::Bf16 => "bf16",
            Dtype::Int8 => "int8",
        })
    }
}

/// Compute capabilities that this compiler builds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Capability {
    #[value(name = "75")]
    Sm75,
    #[value(name = "80")]
    Sm80,
    #[value(name = "86")]
    Sm86,
    #[value(name = "89")]
    Sm89,
    #[value(name = "120")]
    Sm120,
    #[value(name = "121")]
    Sm121,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is skipped");
        f.write_str(value.get_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        let words = ["tensorrt_check", "--libraries=/lib"].iter().chain(words);
        Arguments::try_parse_from(words).map_err(|e| e.to_string())
    }

    #[test]
    fn packs_precisions_and_targets() {
        let plain = parse(&["a", "b"]).unwrap();
        assert_eq!(plain.packs, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(plain.dtypes, [Dtype::Fp32, Dtype::Fp16, Dtype::Bf16]);
        assert_eq!(plain.target.compute_capability, Capability::Sm86);
        let given = parse(&["a", "--dtype", "bf16,fp32", "--compute-capability", "120", "--parse-only"]).unwrap();
        assert_eq!(given.dtype_names(), ["bf16", "fp32"]);
        assert_eq!(given.target.compute_capability.to_string(), "120");
        assert!(given.target.parse_only);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(parse(&[]).unwrap_err().contains("<PACK>"));
        assert!(parse(&["a", "--dtype", "int4"]).unwrap_err().contains("int4"));
        assert!(parse(&["a", "--compute-capability", "87"]).unwrap_err().contains("75, 80, 86, 89, 120, 121"));
        assert!(parse(&["a", "--max-objects", "0"]).unwrap_err().contains("1..=1024"));
    }

    #[test]
    fn attentions_are_changed_as_in_a_run() {
        let shipped = |file: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../assets/packs").join(file);
        let attention = shipped("sam2_mini/fp16/memory_attention.onnx");
        let changed = |how: How, file: &Path| how.of(file).unwrap().map(|attended| attended.changed);
        assert_eq!((changed(How::Whole, &attention), changed(How::Onnx, &attention)), (None, Some(4)));
        assert_eq!(changed(How::Onnx, &shipped("labels_mini/fp16/vision.onnx")), None);
        let refused = How::Onnx.of(&shipped("sam2_mini/pack.toml")).err().unwrap();
        assert!(refused.contains("sam2_mini/pack.toml: "), "{refused}");
    }

    /// The profile is jetbench's only as long as its defaults are.
    #[test]
    fn the_profile_is_that_of_jetbench() {
        let options = include_str!("../../../docs/options.md");
        let target = parse(&["a"]).unwrap().target;
        for (name, value) in [("max_objects", target.max_objects), ("opt_objects", target.opt_objects)] {
            let entry = options.split(&format!("### `{name}`")).nth(1).expect("docs/options.md has the option");
            let entry = entry.split("###").next().unwrap();
            assert!(entry.contains(&format!("default: {value}.")), "{name}: not {value} in docs/options.md");
        }
    }
}
