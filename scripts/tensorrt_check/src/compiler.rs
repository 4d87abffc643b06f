//! What does NVIDIA's compiler make of one ONNX file?

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use trtx::builder::BuilderConfig;
use trtx::trtx_sys::Dims64;
use trtx::{Builder, ComputeCapability, Logger, NetworkDefinition, OnnxParser, OptProfileSelector, ProfilingVerbosity};

use crate::arguments::{Capability, Target};
use crate::listing::type_name;
use crate::messages::{Messages, refusal};
use crate::nodes;
use crate::row::{ByType, Engine, Network, Outcome, Step};

/// File names up to their versions.
const COMPILER: &str = "libtensorrt_rtx.so.";
const PARSER: &str = "libtensorrt_onnxparser_rtx.so.";

/// NVIDIA's libraries.
#[derive(Debug)]
pub struct Libraries {
    compiler: PathBuf,
    parser: PathBuf,
    /// The compiler's version, from its file name.
    pub version: String,
}

impl Libraries {
    /// Finds both in a directory.
    ///
    /// # Errors
    /// When one is missing: says which, and where it was looked for.
    pub fn find(folder: &Path) -> Result<Libraries, String> {
        let names: Vec<String> = fs::read_dir(folder)
            .map_err(|e| format!("the directory of NVIDIA's libraries, {}: {e}", folder.display()))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        let find = |start: &str| {
            names
                .iter()
                .find(|name| name.starts_with(start))
                .ok_or_else(|| format!("{} has no {start}*; scripts/get-tensorrt-rtx.sh fetches it", folder.display()))
        };
        let (compiler, parser) = (find(COMPILER)?, find(PARSER)?);
        let version = compiler[COMPILER.len()..].to_string();
        Ok(Libraries { compiler: folder.join(compiler), parser: folder.join(parser), version })
    }

    fn load(&self) -> Result<(), String> {
        let named = |file: &Path, e: trtx::Error| format!("{} cannot be loaded: {e}", file.display());
        trtx::dynamically_load_tensorrt(Some(&self.compiler)).map_err(|e| named(&self.compiler, e))?;
        trtx::dynamically_load_tensorrt_onnxparser(Some(&self.parser)).map_err(|e| named(&self.parser, e))
    }
}

/// Parses and builds one file.
///
/// # Errors
/// When the compiler itself cannot be used. That it refuses the file is an [`Outcome`].
pub fn compile(libraries: &Libraries, file: &Path, target: &Target) -> Result<Outcome, String> {
    libraries.load()?;
    let messages = Messages::default();
    let unfit = |e: trtx::Error| format!("TensorRT for RTX {} cannot be used: {e}", libraries.version);
    let logger = Logger::new(messages.clone()).map_err(unfit)?;
    let mut builder = Builder::new(&logger).map_err(unfit)?;
    // No flag: networks of TensorRT for RTX are strongly typed whatever is asked for.
    let network = builder.create_network(0).map_err(unfit)?;
    let mut parser = OnnxParser::new(network, &logger).map_err(unfit)?;
    let refused = |step, error: trtx::Error| {
        Some(refusal(step, &messages.said().errors, &error.to_string(), &nodes::operators(file)))
    };
    let started = Instant::now();
    let mut outcome = Outcome::default();
    let changed = target.attention.of(file)?.map(|attended| {
        outcome.attentions = Some(attended.changed);
        let place = std::env::temp_dir().join(format!("tensorrt_check-{}.onnx", std::process::id()));
        fs::write(&place, attended.bytes).map(|()| place.clone()).map_err(|e| format!("{}: {e}", place.display()))
    });
    let changed = changed.transpose()?;
    let path = changed.as_deref().unwrap_or(file);
    let path = path.to_str().ok_or_else(|| format!("{}: the path is not UTF-8", path.display()))?;
    let parsed = parser.parse_from_file(path, trtx::Severity::Error as i32);
    changed.iter().for_each(|place| drop(fs::remove_file(place)));
    if let Err(error) = parsed {
        outcome.refusal = refused(Step::Parse, error);
        outcome.peak_memory_bytes = peak_memory();
        return Ok(outcome);
    }
    outcome.network = Some(network_facts(parser.network(), started.elapsed().as_secs_f64()));
    if !target.parse_only {
        match build(&mut builder, &mut parser, &messages, target) {
            Ok(engine) => outcome.engine = Some(engine),
            Err(error) => outcome.refusal = refused(Step::Build, error),
        }
    }
    outcome.peak_memory_bytes = peak_memory();
    Ok(outcome)
}

fn network_facts(network: &NetworkDefinition<'_>, parse_seconds: f64) -> Network {
    let mut output_types = ByType::new();
    for layer in network.layers().filter(|layer| layer.num_outputs(network) > 0) {
        if let Ok(output) = layer.output(network, 0) {
            let theirs = format!("{:?}", output.data_type(network));
            *output_types.entry(type_name(&theirs).to_string()).or_default() += 1;
        }
    }
    Network { layers: usize::try_from(network.nb_layers()).unwrap_or_default(), output_types, parse_seconds }
}

/// Builds the engine that jetbench would have TensorRT build, and throws it away.
fn build<'p>(
    builder: &mut Builder<'p>,
    parser: &'p mut OnnxParser<'p>,
    messages: &Messages,
    target: &Target,
) -> trtx::Result<Engine> {
    let mut config = builder.create_config()?;
    // The builder then lists the engine's layers in its log. The engine's size does not change.
    config.set_profiling_verbosity(ProfilingVerbosity::kDETAILED);
    config.set_nb_compute_capabilities(1)?;
    config.set_compute_capability(theirs(target.compute_capability), 0)?;
    set_profile(builder, &mut config, parser.network(), target)?;
    let started = Instant::now();
    let bytes = builder.build_serialized_network(parser.network_mut(), &mut config)?.len();
    let build_seconds = started.elapsed().as_secs_f64();
    let mut said = messages.said();
    Ok(Engine {
        bytes: bytes as u64,
        weight_bytes: said.weight_bytes,
        activation_bytes: said.activation_bytes,
        build_seconds,
        layers: said.layers.take(),
    })
}

/// Least, best and most objects for every free axis of the inputs, as `profile` in jetbench's `runners/src/host/providers.rs` does.
fn set_profile(
    builder: &mut Builder<'_>,
    config: &mut BuilderConfig<'_>,
    network: &NetworkDefinition<'_>,
    target: &Target,
) -> trtx::Result<()> {
    let counts = [
        (OptProfileSelector::kMIN, 1),
        (OptProfileSelector::kOPT, i64::from(target.opt_objects)),
        (OptProfileSelector::kMAX, i64::from(target.max_objects)),
    ];
    let mut profile = builder.creata_optimization_profile()?;
    let mut free = false;
    for input in network.inputs() {
        let (name, shape) = (input.name(network)?, input.dimensions(network)?);
        if shape.iter().all(|size| *size >= 0) {
            continue;
        }
        free = true;
        for (which, objects) in &counts {
            let sizes: Vec<i64> = shape.iter().map(|size| if *size < 0 { *objects } else { *size }).collect();
            profile.set_dimensions(&name, *which, &Dims64::from_slice(&sizes))?;
        }
    }
    if free {
        config.add_optimization_profile(&mut profile)?;
    }
    Ok(())
}

fn theirs(capability: Capability) -> ComputeCapability {
    match capability {
        Capability::Sm75 => ComputeCapability::kSM75,
        Capability::Sm80 => ComputeCapability::kSM80,
        Capability::Sm86 => ComputeCapability::kSM86,
        Capability::Sm89 => ComputeCapability::kSM89,
        Capability::Sm120 => ComputeCapability::kSM120,
        Capability::Sm121 => ComputeCapability::kSM121,
    }
}

/// Most memory that this process had in use, bytes (`VmHWM`, which the kernel gives in KiB).
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_libraries_are_named() {
        let nowhere = Libraries::find(Path::new("/nonesuch")).unwrap_err();
        assert!(nowhere.contains("/nonesuch"), "{nowhere}");
        let empty = Libraries::find(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
        assert!(empty.contains("libtensorrt_rtx.so.*"), "{empty}");
    }

    #[test]
    fn this_process_has_memory() {
        assert!(peak_memory().unwrap() > 1 << 20);
    }
}
