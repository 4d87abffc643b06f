//! One open label pack: a crop goes in, its embedding comes out.

use std::path::Path;

use ort::session::IoBinding;

use super::contract::{PIXELS, Signature, VISION, signature};
use super::vectors::Vectors;
use crate::frame::{Preprocess, Rows};
use crate::host::loader::{GraphRequest, PackLoader};
use crate::host::session::{GraphSession, failed};
use crate::host::settings::SessionSettings;
use crate::host::tensor::{FloatTensor, input, output, tensor};
use crate::onnx::Edge;
use crate::runner::RunnerError;
use crate::sam::contract::read;
use crate::sam::image::Image;
use crate::types::{Device, Frame, OpenReport, OpenRequest, StagePrecision};

/// One open label pack. Fields are dropped in order: bindings and tensors go before the session whose memory they use.
pub struct Labeller {
    binding: IoBinding,
    image: Image,
    embedding: FloatTensor,
    graph: GraphSession,
    signature: Signature,
    preprocess: Preprocess,
    vectors: Vectors,
    /// Colour of what lies outside a frame: the mean that crops are normalised with.
    pub fill: [u8; 3],
    on_gpu: bool,
    report: OpenReport,
}

impl Labeller {
    /// Checks the pack in `dir`, loads ONNX Runtime and the graph, and binds its tensors; device, precision and options are those of
    /// `request`.
    ///
    /// # Errors
    /// [`RunnerError::Pack`], [`RunnerError::Environment`] or [`RunnerError::Usage`], by whose fault it is.
    pub fn open(dir: &Path, request: &OpenRequest) -> Result<Self, RunnerError> {
        let (pack, signature) = read(dir, signature)?;
        let vectors = Vectors::read(&pack, signature.width)?;
        let settings = SessionSettings::of(request)?;
        let mut loader = PackLoader::begin(&pack, &settings, request.ort_lib.as_deref())?;
        let preprocess = Preprocess::new(&pack.manifest.input);
        let bytes = settings.image_as_bytes() && signature.fixed;
        let edge = bytes.then(|| Edge::Pixels(PIXELS, preprocess.levels()));
        let split = settings.split();
        let own = split.as_ref().map_or(&settings, |[_, rest]| rest);
        let [graph] =
            loader.graphs([GraphRequest { name: VISION, settings: own, on_device: false, edge: edge.as_ref() }])?;
        let report = loader.end();
        let host = graph.device_allocator(Device::Cpu)?;
        let image = Image::new(&host, signature.size, bytes)?;
        let mut embedding = tensor(&host, &[1, signature.width])?;
        let mut binding = graph.binding()?;
        output(&mut binding, signature.output, &mut embedding)?;
        let fill = pack.manifest.input.mean.map(|m| (255.0 * m).round().clamp(0.0, 255.0) as u8);
        let on_gpu = settings.on_gpu();
        let mut labeller =
            Labeller { binding, image, embedding, graph, signature, preprocess, vectors, fill, on_gpu, report };
        labeller.bind_input()?;
        Ok(labeller)
    }

    /// What opening showed.
    pub fn open_report(&self) -> &OpenReport {
        &self.report
    }

    /// Requested and effective precision, with evidence.
    pub fn precision(&self) -> &StagePrecision {
        &self.graph.precision
    }

    /// The vectors of its classes.
    pub fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    /// A crop of any size at the size of the model's input, 8-bit RGB; of a frame, its bytes fit its size.
    pub fn resize(&mut self, crop: impl Rows) -> Vec<u8> {
        self.preprocess.resized(crop)
    }

    /// Runs the tower once, on a crop of one colour: with the first frame, so that it does not fail, and is not slow, after a whole video only.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] when the model fails or gives what is no number.
    pub fn warm_up(&mut self) -> Result<(), RunnerError> {
        let side = self.signature.size as usize;
        let blank: Vec<u8> = std::iter::repeat_n(self.fill, side * side).flatten().collect();
        match self.embed(&blank)?.iter().all(|value| value.is_finite()) {
            true => Ok(()),
            false => Err(failed(VISION, "an embedding has values that are no numbers")),
        }
    }

    /// The embedding of a crop that [`Labeller::resize`] gave, as the tower gives it.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] when the model fails.
    pub fn embed(&mut self, pixels: &[u8]) -> Result<&[f32], RunnerError> {
        let side = self.signature.size as u32;
        self.image.fill(&mut self.preprocess, Frame { width: side, height: side, rgb: pixels })?;
        if self.on_gpu {
            // A session on a device copies its inputs while they are bound.
            self.bind_input()?;
        }
        self.graph.run(&self.binding)?;
        Ok(self.embedding.extract_tensor().1)
    }

    fn bind_input(&mut self) -> Result<(), RunnerError> {
        match &self.image {
            Image::Floats(values) => input(&mut self.binding, PIXELS, values),
            Image::Bytes(_) => self.image.bind(&mut self.binding),
        }
    }
}
