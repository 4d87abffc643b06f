//! In which form does ONNX Runtime get a graph file? Attention is computed as the settings say, half-typed graphs are rewritten for the CPU,
//! edges changed, and weights referred to where they lie: in the graph's own file, or in files beside it.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ort::session::Session;
use ort::session::builder::SessionBuilder;

use super::{Registration, convolution, refused, register, wrong};
use crate::files;
use crate::host::evidence::evidence;
use crate::host::runtime::Runtime;
use crate::host::settings::SessionSettings;
use crate::host::tensorrt::Compiler;
use crate::onnx::{Attention, Edge, Model, OnnxError, PAD_FUSION};
use crate::runner::RunnerError;
use crate::types::{Device, DroppedOption, Dtype, StagePrecision};

/// Where ONNX Runtime looks for the weights of a model that it was given in memory (its session option).
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// Steps of ONNX Runtime's optimiser that hide a quantised product from the step that gives it an int8 kernel: the first lets two products
/// share one DequantizeLinear, the second makes Gemm with a float bias of MatMul and Add (seen with 1.31 and 1.32).
const HIDE_INT8: [&str; 2] = ["CommonSubexpressionElimination", "MatMulAddFusion"];

/// A graph file that was read and agrees with its manifest.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
    pub(super) settings: &'a SessionSettings,
    pub(super) runtime: &'a Runtime,
    /// Files beside it that hold weights.
    pub(super) weights: usize,
}

/// The largest model that ONNX Runtime takes from memory: protobuf counts its bytes in 31 bits.
const MOST_BYTES: u64 = (1 << 31) - 1;

/// Names of folders that are tried.
const MOST_FOLDERS: u64 = 10_000;

/// A new folder for temporary files, removed when dropped.
struct OwnFolder(PathBuf);

impl OwnFolder {
    fn new() -> std::io::Result<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let place = std::env::temp_dir().join(format!("jetbench-{}-{number}", std::process::id()));
            match std::fs::create_dir(&place) {
                Ok(()) => return Ok(OwnFolder(place)),
                // Never a folder that somebody else has put there, or that a killed process of the same number has left.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && number < MOST_FOLDERS => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The file in the form in which ONNX Runtime gets it.
pub(super) struct Prepared<'a> {
    read: Read<'a>,
    /// The model, without the weights that are mapped.
    pub(super) bytes: Vec<u8>,
    /// Where weights are mapped from; `None`: they are in `bytes`.
    folder: Option<String>,
    /// How many attentions are computed in another way than the file's.
    attentions: Option<usize>,
    /// Pads that ONNX Runtime would take into a max pool, with another result.
    pads: usize,
    /// Is it for the int8 kernels of the CPU provider?
    quantised: bool,
}

impl<'a> Read<'a> {
    /// Does its precision show only in what ONNX Runtime's CPU provider makes of it?
    fn int8_on_cpu(&self) -> bool {
        self.settings.device == Device::Cpu && self.settings.precision == Dtype::Int8
    }

    /// Reads the graph, rewrites it where the device has no half kernels, and refers to weights in its file where they can be
    /// mapped. What was read from the file is let go before ONNX Runtime takes memory of its own.
    pub(super) fn prepare(
        self,
        read: Vec<u8>,
        compiler: Option<&Compiler>,
        edge: Option<&Edge>,
    ) -> Result<(StagePrecision, Prepared<'a>), RunnerError> {
        let Read { name, path, settings, runtime, weights } = self;
        let attended = settings.attention.of(&read).map_err(|e| wrong(path, &e))?;
        let (read, attentions) = attended.map_or((read, None), |attended| (attended.bytes, Some(attended.changed)));
        let model = Model::parse(&read).map_err(|e| wrong(path, &e))?;
        let (mut precision, mut rewritten) =
            evidence(name, &model, settings, &runtime.version, compiler).map_err(|e| wrong(path, &e))?;
        let said = attentions.map(|n| format!("rewritten at load, in memory: {n} attentions {}", settings.attention));
        precision.evidence.extend(said);
        if let Some(edge) = edge {
            let changed = Model::parse(rewritten.as_deref().unwrap_or(&read)).and_then(|model| model.with_edge(edge));
            rewritten = Some(changed.map_err(|e| wrong(path, &e))?);
        }
        sound(name, path, rewritten.as_deref().unwrap_or(&read), settings, runtime)?;
        let mut folder = None;
        // ONNX Runtime refuses weights that a link leads to out of the graph's folder.
        if weights > 0 && !(runtime.maps_weights() && self.holds_weights(&model)) {
            let bytes = self.with_weights(rewritten.as_deref().unwrap_or(&read))?;
            return Ok((precision, Prepared::new(self, bytes, None, attentions)));
        }
        if weights > 0 {
            let place = path.parent().map_or_else(|| Path::new(".").to_path_buf(), Path::to_path_buf);
            let place = place.canonicalize().unwrap_or(place);
            let text = place.to_str().ok_or_else(|| wrong(path, &"the path of its folder is no text"))?;
            let bytes = rewritten.unwrap_or(read);
            return Ok((precision, Prepared::new(self, bytes, Some(text.to_string()), attentions)));
        }
        // Where the file really is: ONNX Runtime refuses weights that a link leads to out of the graph's folder.
        let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let place = real.file_name().and_then(|file| file.to_str()).zip(real.parent().and_then(Path::to_str));
        let bytes = match (rewritten, place) {
            (None, Some((file, dir))) if attentions.is_none() && !settings.on_gpu() && runtime.maps_weights() => {
                let mapped = model.with_references(file).map_err(|e| wrong(path, &e))?;
                folder = mapped.is_some().then(|| dir.to_string());
                mapped
            }
            (rewritten, _) => rewritten,
        };
        Ok((precision, Prepared::new(self, bytes.unwrap_or(read), folder, attentions)))
    }
}

impl Read<'_> {
    /// Do all weights of other files lie in the graph's folder, or below, when links are followed?
    pub(super) fn holds_weights(&self, model: &Model<'_>) -> bool {
        let folder = self.path.parent().and_then(|folder| folder.canonicalize().ok());
        let within = |file: &str| {
            let folder = folder.as_deref()?;
            Some(folder.join(file).canonicalize().ok()?.starts_with(folder))
        };
        model.external().is_ok_and(|all| all.iter().all(|tensor| within(&tensor.location) == Some(true)))
    }

    /// The graph with the weights of the files beside it inside, for a runtime that would not find them.
    pub(super) fn with_weights(&self, bytes: &[u8]) -> Result<Vec<u8>, RunnerError> {
        let Read { name, path, runtime, .. } = *self;
        let folder = path.parent().unwrap_or(Path::new("."));
        let model = Model::parse(bytes).map_err(|e| wrong(path, &e))?;
        let mut left = MOST_BYTES.saturating_sub(bytes.len() as u64);
        let mut too_large = false;
        let inside = model.with_values(|tensor| {
            let file = folder.join(&tensor.location);
            let told =
                |e: std::io::Error| OnnxError(format!("constant `{}` is kept in {}: {e}", tensor.name, file.display()));
            let mut source = files::plain(&file).map_err(told)?;
            let end = source.metadata().map_err(told)?.len();
            let length = tensor.length.unwrap_or_else(|| end.saturating_sub(tensor.offset));
            if tensor.offset.saturating_add(length) > end {
                return Err(told(std::io::ErrorKind::UnexpectedEof.into()));
            }
            too_large = length > left;
            if too_large {
                return Err(OnnxError("too large".to_string()));
            }
            left -= length;
            let mut values = vec![0; length as usize];
            source.seek(SeekFrom::Start(tensor.offset)).and_then(|_| source.read_exact(&mut values)).map_err(told)?;
            Ok(values)
        });
        inside.map_err(|e| match too_large {
            true => RunnerError::Environment(format!(
                "graph `{name}` is larger than 2 GiB with its weights in other files, which needs ONNX Runtime {} or newer (this is {}: {}), \
                 and no links to other folders (`jetbench packs copy` makes a pack without links)",
                Runtime::maps_weights_from(),
                runtime.version,
                runtime.path.display()
            )),
            false => wrong(path, &e),
        })
    }
}

/// Refuses a graph with convolutions that this device computes wrongly.
fn sound(
    name: &str,
    path: &Path,
    bytes: &[u8],
    settings: &SessionSettings,
    runtime: &Runtime,
) -> Result<(), RunnerError> {
    if !matches!(settings.device, Device::WebGpu(_) | Device::Plugin(..)) {
        return Ok(());
    }
    let doubtful = Model::parse(bytes).map_err(|e| wrong(path, &e))?.convolutions_by_threes();
    if doubtful.is_empty() || convolution::is_right(settings, runtime)? {
        return Ok(());
    }
    Err(RunnerError::Environment(format!(
        "graph `{name}`: the provider of device {} under ONNX Runtime {} computes {} wrongly, because the number of its input channels is a \
         multiple of 3 but not of 4; pad them with zeros to a multiple of 4 when you export it, or use another device",
        settings.device,
        runtime.version,
        doubtful.join(", ")
    )))
}

impl<'a> Prepared<'a> {
    fn new(read: Read<'a>, bytes: Vec<u8>, folder: Option<String>, attentions: Option<usize>) -> Self {
        let int8 = read.int8_on_cpu();
        let (pads, quantised) = Model::parse(&bytes).map_or((0, false), |model| {
            let quantises = || model.nodes.iter().any(|node| node.op == "QuantizeLinear");
            (model.pads_for_max_pools().len(), int8 && quantises())
        });
        Prepared { read, bytes, folder, attentions, pads, quantised }
    }

    /// How attention is computed and where the weights are, in words.
    pub(super) fn notes(&self) -> Vec<String> {
        let Read { name, weights, settings, .. } = self.read;
        let asked = matches!(settings.attention, Attention::Standard { .. });
        let attention = match self.attentions {
            Some(n) => Some(format!("attention of `{name}`: {n} {}", settings.attention)),
            None => {
                asked.then(|| format!("attention of `{name}`: as in the file; attention=onnx changes nothing in it"))
            }
        };
        let mapped = match (weights, self.folder.is_some()) {
            (0, false) => None,
            (0, true) => Some(format!("weights of `{name}`: mapped from its file")),
            (n, mapped) => {
                let how = if mapped { "mapped" } else { "read into the graph" };
                let files = if n == 1 { "a file".to_string() } else { format!("{n} files") };
                Some(format!("weights of `{name}`: {how} from {files} beside it"))
            }
        };
        let pads = Some(self.pads).filter(|n| *n > 0);
        let pads = pads
            .map(|n| format!("`{PAD_FUSION}` of `{name}`: off; it computes zeros padded for a max pool wrongly ({n})"));
        let hiding = self.quantised.then(|| {
            format!(
                "{} of `{name}`: off; they hide products from int8 kernels",
                HIDE_INT8.map(|step| format!("`{step}`")).join(" and ")
            )
        });
        attention.into_iter().chain(mapped).chain(pads).chain(hiding).collect()
    }

    /// Loads it.
    ///
    /// # Errors
    /// ONNX Runtime refuses the graph or the device: its own text follows.
    pub(super) fn commit(
        &self,
        registration: &mut Registration,
        dropped: &mut Vec<DroppedOption>,
    ) -> Result<Session, RunnerError> {
        let Read { name, settings, runtime, path, .. } = self.read;
        let mut builder = self.builder(settings, registration, dropped)?;
        builder.commit_from_memory(&self.bytes).map_err(|e| {
            if settings.on_gpu() {
                refused(settings, runtime, name, &e)
            } else if e.message().contains("under development") && e.message().contains("pset") {
                RunnerError::Environment(format!(
                    "ONNX Runtime {} ({}) is too old for graph `{name}` of opset {}; install a newer one or run another \
                     precision. It says: {e}",
                    runtime.version,
                    runtime.path.display(),
                    Model::parse(&self.bytes).map_or(0, |model| model.opset())
                ))
            } else {
                let text = format!("ONNX Runtime {} cannot load graph `{name}` on the CPU: {e}", runtime.version);
                wrong(path, &text)
            }
        })
    }

    /// A session builder with all that this graph needs beside its bytes.
    fn builder(
        &self,
        settings: &SessionSettings,
        registration: &mut Registration,
        dropped: &mut Vec<DroppedOption>,
    ) -> Result<SessionBuilder, RunnerError> {
        let Read { name, runtime, .. } = self.read;
        let mut builder = register(settings, runtime, name, registration, dropped)?;
        if let Some(folder) = &self.folder {
            builder =
                builder.with_config_entry(WEIGHTS_FOLDER, folder).map_err(|e| refused(settings, runtime, name, &e))?;
        }
        let mut off = Vec::new();
        if self.pads > 0 {
            off.push(PAD_FUSION);
        }
        if self.quantised {
            off.extend(HIDE_INT8);
        }
        if !off.is_empty() {
            builder =
                builder.with_disabled_optimizers(off.join(";")).map_err(|e| refused(settings, runtime, name, &e))?;
        }
        Ok(builder)
    }

    /// What an int8 graph on the CPU is computed by, as [`Model::computed`] counts it; `None` for others. ONNX Runtime optimises the graph for
    /// this, into a file, and lets go of it.
    ///
    /// # Errors
    /// The file cannot be written or read, or ONNX Runtime refuses the graph.
    pub(super) fn computed(&self) -> Result<Option<[usize; 3]>, RunnerError> {
        let Read { name, settings, runtime, .. } = self.read;
        if !self.read.int8_on_cpu() {
            return Ok(None);
        }
        let unseen = |e: &dyn std::fmt::Display| {
            RunnerError::Environment(format!(
                "graph `{name}`: what ONNX Runtime computes in int8 cannot be seen: {e}; it is written to a temporary folder, which TMPDIR names, and read again"
            ))
        };
        let dir = OwnFolder::new().map_err(|e| unseen(&e))?;
        let file = dir.0.join("optimised.onnx");
        let quiet = SessionSettings { profile: None, ..settings.clone() };
        let builder = self.builder(&quiet, &mut Registration::new(), &mut Vec::new())?;
        let mut builder = builder.with_optimized_model_path(&file).map_err(|e| refused(settings, runtime, name, &e))?;
        drop(builder.commit_from_memory(&self.bytes).map_err(|e| unseen(&e))?);
        let bytes = files::read(&file, files::LARGE).map_err(|e| unseen(&e))?;
        Model::parse(&bytes).map(|model| Some(model.computed())).map_err(|e| unseen(&e))
    }
}
