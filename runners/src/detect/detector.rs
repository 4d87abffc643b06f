//! One open detector: a frame goes in, its boxes come out, in one session on the device of the tracker beside it.

use std::path::{Path, PathBuf};

use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::Tensor;

use super::Detection;
use super::boxes::Rows;
use super::contract::{DETECTOR, OFFICIAL, PRED_BOXES, SIZE, Signature, signature};
use super::kept::{KEPT, Keep, Kept};
use crate::frame::Preprocess;
use crate::host::loader::{GraphRequest, PackLoader};
use crate::host::session::{GraphSession, failed};
use crate::host::settings::SessionSettings;
use crate::host::tensor::{FloatTensor, input, output, tensor};
use crate::manifest::DetectorLayout;
use crate::onnx::Edge;
use crate::runner::RunnerError;
use crate::sam::contract::read;
use crate::sam::copies::{Copied, Copies};
use crate::sam::image::Image;
use crate::types::{Device, Frame, OpenReport, OpenRequest, StagePrecision};

/// One open detector. Fields are dropped in order: bindings and tensors go before the session whose memory they use.
pub struct Detector {
    binding: IoBinding,
    image: Image,
    outputs: Outputs,
    kept: Option<Kept>,
    /// Were the last frame's rows picked on the device?
    picked: bool,
    graph: GraphSession,
    signature: Signature,
    preprocess: Preprocess,
    on_gpu: bool,
    report: OpenReport,
    copies: Copies,
}

/// Tensors on the host, by layout.
enum Outputs {
    /// Where rows are picked on the device, those of a frame on which all were read.
    Raw {
        /// `[1, queries, classes]`.
        logits: FloatTensor,
        /// `[1, queries, 4]`, shares.
        boxes: FloatTensor,
    },
    Official {
        /// Width and height of the frame.
        size: Tensor<i64>,
        /// `[1, queries]`.
        labels: Tensor<i64>,
        /// `[1, queries, 4]`, corners in pixels.
        boxes: FloatTensor,
        /// `[1, queries]`.
        scores: FloatTensor,
    },
}

impl Detector {
    /// Checks the pack in `dir`, loads ONNX Runtime and the graph, and binds its tensors; device, precision and options are those of
    /// `request`. With `keep`, results that lie on the device (option `results`) are picked there, as far as all are there that count.
    /// With a directory, ONNX Runtime profiles the graph into it and copies are counted, which costs time.
    ///
    /// # Errors
    /// [`RunnerError::Pack`], [`RunnerError::Environment`] or [`RunnerError::Usage`], by whose fault it is.
    pub fn open(
        dir: &Path,
        request: &OpenRequest,
        keep: Option<Keep>,
        profile: Option<&Path>,
    ) -> Result<Self, RunnerError> {
        let (pack, signature) = read(dir, signature)?;
        let mut settings = SessionSettings::of(request)?;
        settings.profile = profile.map(Path::to_path_buf);
        let mut loader = PackLoader::begin(&pack, &settings, request.ort_lib.as_deref())?;
        let preprocess = Preprocess::new(&pack.manifest.input);
        // The image goes in as floats where the graph leaves its size open: a table of samples needs a fixed shape.
        let bytes = settings.image_as_bytes() && signature.fixed;
        let edge = bytes.then(|| Edge::Pixels(signature.image, preprocess.levels()));
        // Where the next frame is encoded beside this one, the threads of the other graphs are the detector's.
        let split = settings.split();
        let own = split.as_ref().map_or(&settings, |[_, rest]| rest);
        let request = GraphRequest { name: DETECTOR, settings: own, on_device: false, edge: edge.as_ref() };
        let [graph] = loader.graphs([request])?;
        let host = graph.device_allocator(Device::Cpu)?;
        let image = Image::new(&host, signature.size, bytes)?;
        let mut binding = graph.binding()?;
        let mut outputs = Outputs::new(&host, &signature, &mut binding)?;
        let kept = match (keep.filter(|_| settings.results_on_device()), &mut outputs) {
            (Some(keep), Outputs::Raw { logits, boxes }) => {
                let tensors = [logits, boxes];
                Kept::new(keep, &signature, own, loader.runtime, (&graph, &mut binding), tensors).map_err(
                    |e| match e {
                        RunnerError::Environment(why) => {
                            RunnerError::Environment(format!("{why}; --option results=host reads all rows instead"))
                        }
                        other => other,
                    },
                )?
            }
            _ => None,
        };
        let mut report = loader.end();
        report.graph_load_ms.extend(kept.iter().flat_map(Kept::load_ms));
        report.notes.extend(keep.map(|_| match &kept {
            Some(kept) => kept.note(),
            None => format!("detections: all {} rows are read", signature.queries),
        }));
        let (on_gpu, copies) = (settings.on_gpu(), Copies::new(profile.is_some()));
        let mut detector = Detector {
            binding,
            image,
            outputs,
            kept,
            picked: false,
            graph,
            signature,
            preprocess,
            on_gpu,
            report,
            copies,
        };
        detector.bind_inputs()?;
        Ok(detector)
    }

    /// What opening showed.
    pub fn open_report(&self) -> &OpenReport {
        &self.report
    }

    /// Requested and effective precision, with evidence.
    pub fn precision(&self) -> &StagePrecision {
        &self.graph.precision
    }

    /// What its pack was found to be.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Looks at a frame: one detection per query (of its best class; a row of the exporter's own choice in layout `official`), in the
    /// graph's order, without a threshold; where rows are picked on the device, some of those below the score that counts are left
    /// out. `found` is emptied first.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for a frame whose bytes do not fit its size; [`RunnerError::Inference`] when the model fails.
    pub fn detect(&mut self, frame: Frame<'_>, found: &mut Vec<Detection>) -> Result<(), RunnerError> {
        self.image.fill(&mut self.preprocess, frame)?;
        if let Outputs::Official { size, .. } = &mut self.outputs {
            size.extract_tensor_mut().1.copy_from_slice(&[i64::from(frame.width), i64::from(frame.height)]);
        }
        if self.on_gpu {
            // A session on a device copies its inputs while they are bound.
            self.bind_inputs()?;
        }
        self.graph.run(&self.binding)?;
        let size = [frame.width, frame.height];
        let picked = match &mut self.kept {
            None => false,
            Some(kept) => kept.pick(size, found)? || kept.read().map(|()| false)?,
        };
        self.picked = picked;
        self.count_copies();
        match &self.outputs {
            Outputs::Raw { .. } if picked => {}
            Outputs::Raw { .. } => self.rows().into_iter().for_each(|rows| rows.best(size, found)),
            Outputs::Official { labels, boxes, scores, .. } => {
                let of_rows = labels.extract_tensor().1.iter().zip(boxes.extract_tensor().1.chunks_exact(4));
                found.clear();
                for ((label, corners), score) in of_rows.zip(scores.extract_tensor().1) {
                    found.push(official(*label, corners, *score, self.signature.classes)?);
                }
            }
        }
        Ok(())
    }

    /// What the graph gave for the last frame; `None` in layout `official`, which keeps it to itself, and where rows were picked on the
    /// device, because the others never came down.
    pub fn rows(&self) -> Option<Rows<'_>> {
        match &self.outputs {
            _ if self.picked => None,
            Outputs::Raw { logits, boxes } => Some(Rows {
                logits: logits.extract_tensor().1,
                boxes: boxes.extract_tensor().1,
                classes: self.signature.classes,
            }),
            Outputs::Official { .. } => None,
        }
    }

    /// Copies between host and device since opening, where they are counted.
    pub fn copies(&self) -> &[Copied] {
        self.copies.list()
    }

    /// What one frame copies: the image up, and what the graph says of the queries down, of all of them or of those that were picked.
    fn count_copies(&mut self) {
        let (queries, classes) = (self.signature.queries as u64, self.signature.classes as u64);
        let samples = 3 * (self.signature.size as u64).pow(2);
        let image = if matches!(self.image, Image::Bytes(_)) { samples } else { 4 * samples };
        let mut count = |tensor, to_host, bytes| self.copies.push_bytes(DETECTOR, tensor, to_host, bytes, false);
        count(self.signature.image, false, image);
        if let Some(kept) = &self.kept {
            count(KEPT, true, kept.bytes());
        }
        match &self.outputs {
            Outputs::Raw { .. } if self.picked => {}
            Outputs::Raw { .. } => {
                count(self.signature.logits, true, 4 * queries * classes);
                count(PRED_BOXES, true, 4 * queries * 4);
            }
            Outputs::Official { .. } => {
                let [labels, boxes, scores] = OFFICIAL;
                count(SIZE, false, 2 * 8);
                count(labels, true, 8 * queries);
                count(boxes, true, 4 * queries * 4);
                count(scores, true, 4 * queries);
            }
        }
    }

    /// Ends profiling: graph name and file of every graph.
    ///
    /// # Errors
    /// As [`GraphSession::end_profile`].
    pub fn end_profiles(&mut self) -> Result<Vec<(String, PathBuf)>, RunnerError> {
        let built = self.kept.iter_mut().flat_map(Kept::graphs);
        std::iter::once(&mut self.graph).chain(built).map(|g| Ok((g.name.clone(), g.end_profile()?))).collect()
    }

    fn bind_inputs(&mut self) -> Result<(), RunnerError> {
        match &self.image {
            Image::Floats(values) => input(&mut self.binding, self.signature.image, values)?,
            Image::Bytes(_) => self.image.bind(&mut self.binding)?,
        }
        match &self.outputs {
            Outputs::Raw { .. } => Ok(()),
            Outputs::Official { size, .. } => {
                self.binding.bind_input(SIZE, size).map_err(|e| failed(DETECTOR, format!("cannot bind `{SIZE}`: {e}")))
            }
        }
    }
}

impl Outputs {
    fn new(host: &Allocator, signature: &Signature, binding: &mut IoBinding) -> Result<Outputs, RunnerError> {
        let (queries, classes) = (signature.queries as i64, signature.classes as i64);
        match signature.layout {
            DetectorLayout::Raw => {
                let (mut logits, mut boxes) = (tensor(host, &[1, queries, classes])?, tensor(host, &[1, queries, 4])?);
                output(binding, signature.logits, &mut logits)?;
                output(binding, PRED_BOXES, &mut boxes)?;
                Ok(Outputs::Raw { logits, boxes })
            }
            DetectorLayout::Official => {
                let [of_labels, of_boxes, of_scores] = OFFICIAL;
                let (size, mut labels) = (integers(host, &[1, 2])?, integers(host, &[1, queries])?);
                let (mut boxes, mut scores) = (tensor(host, &[1, queries, 4])?, tensor(host, &[1, queries])?);
                let unbound = |e: ort::Error| failed(DETECTOR, format!("cannot bind output `{of_labels}`: {e}"));
                binding.bind_output(of_labels, &mut labels).map_err(unbound)?;
                output(binding, of_boxes, &mut boxes)?;
                output(binding, of_scores, &mut scores)?;
                Ok(Outputs::Official { size, labels, boxes, scores })
            }
        }
    }
}

fn integers(host: &Allocator, shape: &[i64]) -> Result<Tensor<i64>, RunnerError> {
    Tensor::<i64>::new(host, shape.to_vec())
        .map_err(|e| RunnerError::Environment(format!("cannot allocate a tensor of shape {shape:?}: {e}")))
}

/// A row of layout `official`.
fn official(label: i64, corners: &[f32], score: f32, classes: usize) -> Result<Detection, RunnerError> {
    let known = usize::try_from(label).ok().filter(|label| *label < classes);
    let label = known.and_then(|label| u32::try_from(label).ok()).ok_or_else(|| {
        failed(DETECTOR, format!("it gave class {label}; detector.classes of the pack names {classes} classes"))
    })?;
    let mut bbox = [0.0; 4];
    bbox.iter_mut().zip(corners).for_each(|(to, from)| *to = f64::from(*from));
    let finite = score.is_finite() && bbox.iter().all(|v| v.is_finite());
    Ok(Detection { bbox, score: if finite { f64::from(score) } else { f64::NAN }, label })
}
