//! In which form does ONNX Runtime get a graph file? Attention is computed as the settings say, half-typed graphs are rewritten for the CPU,
//! edges changed, and weights referred to where they lie: in the graph's own file, or in files beside it.

use std::path::Path;

use ort::session::Session;

use super::{Registration, convolution, refused, register, wrong};
use crate::host::evidence::evidence;
use crate::host::runtime::Runtime;
use crate::host::settings::SessionSettings;
use crate::host::tensorrt::Compiler;
use crate::onnx::{Edge, Model, PAD_FUSION};
use crate::runner::RunnerError;
use crate::types::{Device, DroppedOption, StagePrecision};

/// Where ONNX Runtime looks for the weights of a model that it was given in memory (its session option).
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";

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

/// The file in the form in which ONNX Runtime gets it.
pub(super) struct Prepared<'a> {
    read: Read<'a>,
    /// The model, without the weights that are mapped.
    pub(super) bytes: Vec<u8>,
    /// Where weights are mapped from; `None`: they are in `bytes`.
    folder: Option<String>,
    /// How many attentions are computed in another way than the file's.
    attentions: Option<usize>,
}

impl<'a> Read<'a> {
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
        if weights > 0 {
            if !runtime.maps_weights() {
                return Err(RunnerError::Environment(format!(
                    "ONNX Runtime {} ({}) is too old for graph `{name}`, whose weights are in other files: {} or newer is needed",
                    runtime.version,
                    runtime.path.display(),
                    Runtime::maps_weights_from()
                )));
            }
            let place = path.parent().map_or_else(|| Path::new(".").to_path_buf(), Path::to_path_buf);
            let place = place.canonicalize().unwrap_or(place);
            let text = place.to_str().ok_or_else(|| wrong(path, &"the path of its folder is no text"))?;
            let bytes = rewritten.unwrap_or(read);
            return Ok((precision, Prepared { read: self, bytes, folder: Some(text.to_string()), attentions }));
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
        Ok((precision, Prepared { read: self, bytes: bytes.unwrap_or(read), folder, attentions }))
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

impl Prepared<'_> {
    /// How attention is computed and where the weights are, in words.
    pub(super) fn notes(&self) -> Vec<String> {
        let Read { name, weights, settings, .. } = self.read;
        let attention = self.attentions.map(|n| format!("attention of `{name}`: {n} {}", settings.attention));
        let mapped = self.folder.as_ref().map(|_| match weights {
            0 => format!("weights of `{name}`: mapped from its file"),
            1 => format!("weights of `{name}`: mapped from a file beside it"),
            n => format!("weights of `{name}`: mapped from {n} files beside it"),
        });
        let pads = Some(self.pads_for_max_pools()).filter(|n| *n > 0);
        let pads = pads
            .map(|n| format!("`{PAD_FUSION}` of `{name}`: off; it computes zeros padded for a max pool wrongly ({n})"));
        attention.into_iter().chain(mapped).chain(pads).collect()
    }

    /// Pads that ONNX Runtime would take into a max pool, with another result.
    fn pads_for_max_pools(&self) -> usize {
        Model::parse(&self.bytes).map_or(0, |model| model.pads_for_max_pools().len())
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
        let mut builder = register(settings, runtime, name, registration, dropped)?;
        if let Some(folder) = &self.folder {
            builder =
                builder.with_config_entry(WEIGHTS_FOLDER, folder).map_err(|e| refused(settings, runtime, name, &e))?;
        }
        if self.pads_for_max_pools() > 0 {
            builder = builder.with_disabled_optimizers(PAD_FUSION).map_err(|e| refused(settings, runtime, name, &e))?;
        }
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
}
