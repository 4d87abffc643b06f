//! The tensors that pass from graph to graph and the bindings that connect them: one set for the image, and one set per
//! number of objects that run together. Everything is allocated and bound when that number is first seen; a frame after
//! that only fills host tensors and runs sessions.

use half::{bf16, f16};
use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::Tensor;

use crate::host::session::GraphSession;
use crate::host::tensor::{FloatTensor, input, output, tensor};
use crate::onnx::REPORT;
use crate::runner::RunnerError;
use crate::sam::contract::{FINER, TensorSizes};
use crate::sam::image::Image;
use crate::sam::state::{FrameTensors, Memories, MemoryState};
use crate::types::Dtype;

/// Label of a point slot that is not used; the graph masks it out of attention.
pub const UNUSED: i32 = -10;
/// Label of the point that stands for "no prompt".
const NOT_A_POINT: i32 = -1;

/// The image and its features.
pub struct Features {
    /// Encoder input.
    pub image: Image,
    /// Binds the encoder.
    pub encode: IoBinding,
    /// Raw features `[1, hidden, side, side]`.
    pub image_embed: FloatTensor,
    /// Finer features, [`FINER`], where the pack has them.
    pub high_res: Vec<FloatTensor>,
}

impl Features {
    /// Allocates the tensors and binds the encoder. `bytes`: it takes 8-bit samples.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] or [`RunnerError::Inference`] with ONNX Runtime's text.
    pub fn new(
        device: &Allocator,
        host: &Allocator,
        s: &TensorSizes,
        encoder: &GraphSession,
        bytes: bool,
    ) -> Result<Self, RunnerError> {
        let f = s.grid;
        let image_embed = tensor(device, &[1, s.hidden, f, f])?;
        let shapes = s.finer.then(|| s.finer_shapes());
        let high_res =
            shapes.iter().flatten().map(|shape| tensor(device, shape)).collect::<Result<Vec<FloatTensor>, _>>()?;
        let (image, encode) = (Image::new(host, s.image, bytes)?, encoder.binding()?);
        let mut features = Features { image, encode, image_embed, high_res };
        features.image.bind(&mut features.encode)?;
        bind_features(&mut features.encode, &mut features.image_embed, &mut features.high_res)?;
        Ok(features)
    }

    /// Another binding of the encoder, of another image to the same features.
    ///
    /// # Errors
    /// As [`Features::new`].
    pub fn bind_image(&mut self, image: &Image, encoder: &GraphSession) -> Result<IoBinding, RunnerError> {
        let mut encode = encoder.binding()?;
        image.bind(&mut encode)?;
        bind_features(&mut encode, &mut self.image_embed, &mut self.high_res)?;
        Ok(encode)
    }

    /// Share of values that lie on the grid of the 16-bit type: all of them where a rounded result is the output itself,
    /// fewer where rounded results are added up in f32, next to none in fp32. Host memory only.
    pub fn lattice(&self, precision: Dtype) -> String {
        if precision == Dtype::Int8 {
            return "lattice of the outputs: none, a bias is added to them in fp32".to_string();
        }
        // Every bf16 value of ordinary size is also an fp16 value, so the other grid would say nothing.
        let (grid, on_grid): (_, fn(f32) -> bool) = match precision {
            Dtype::Fp16 => ("fp16", |v| f16::from_f32(v).to_f32() == v),
            Dtype::Fp32 | Dtype::Bf16 | Dtype::Int8 => ("bf16", |v| bf16::from_f32(v).to_f32() == v),
        };
        let share = |(name, values): (&str, &FloatTensor)| {
            let values = values.extract_tensor().1;
            let count = values.iter().filter(|&&v| on_grid(v)).count();
            format!("{name} {:.1} %", 100.0 * count as f64 / values.len() as f64)
        };
        let finer = FINER.into_iter().zip(&self.high_res);
        let parts: Vec<String> = std::iter::once(("image_embed", &self.image_embed)).chain(finer).map(share).collect();
        format!("values on the {grid} grid, first frame: {}", parts.join(", "))
    }

    /// Copies the features of another set. Host memory only.
    pub fn copy_from(&mut self, other: &Features) {
        let own = self.high_res.iter_mut().chain([&mut self.image_embed]);
        for (own, other) in own.zip(other.high_res.iter().chain([&other.image_embed])) {
            own.extract_tensor_mut().1.copy_from_slice(other.extract_tensor().1);
        }
    }
}

fn bind_features(
    encode: &mut IoBinding,
    image_embed: &mut FloatTensor,
    high_res: &mut [FloatTensor],
) -> Result<(), RunnerError> {
    output(encode, "image_embed", image_embed)?;
    FINER.into_iter().zip(high_res).try_for_each(|(name, map)| output(encode, name, map))
}

/// Values per object of a report: score, predicted IoU, summed pointer.
pub const REPORTED: usize = 3;

/// What is needed to make more wiring.
pub struct WiringContext<'a> {
    /// Memory of the device.
    pub device: &'a Allocator,
    /// Memory of the host.
    pub host: &'a Allocator,
    /// Sizes of the pack.
    pub sizes: &'a TensorSizes,
    /// The image's tensors.
    pub features: &'a Features,
    /// The decoder.
    pub decoder: &'a GraphSession,
    /// Do scores and pointers stay on the device, with a report of them for the host?
    pub reports: bool,
    /// Does the memory encoder look at the predicted IoU?
    pub gated: bool,
}

impl WiringContext<'_> {
    /// Memory in which scores and pointers lie between the graphs.
    fn results(&self) -> &Allocator {
        if self.reports { self.device } else { self.host }
    }
}

/// Tensors and bindings for `n` objects that run together.
pub struct Wiring {
    /// Number of objects.
    pub objects: usize,
    /// Tensors that more than one graph uses.
    pub passed: FrameTensors,
    /// Mask logits `[n, 1, side, side]`, on the host.
    pub low_res: FloatTensor,
    /// Object score, predicted IoU and summed pointer of each object, `[n, 3]`, on the host.
    pub report: Option<FloatTensor>,
    /// Decoder on memory-conditioned features, no prompt.
    pub decode_tracked: IoBinding,
    /// Memories of objects of earlier sequences, used again: memory stays flat however many sequences are run.
    pub spare: Vec<Memories>,
    points: Option<Points>,
    mask: Option<MaskPrompts>,
    blank: Option<MemoryState>,
    no_coords: FloatTensor,
    no_point: Tensor<i32>,
    no_dense: FloatTensor,
}

/// Decoder on raw features with clicks or boxes.
pub struct Points {
    /// Binds the decoder.
    pub decode: IoBinding,
    /// Places in model pixels, `[n, points, 2]`.
    pub coords: FloatTensor,
    /// Labels, `[n, points]`.
    pub labels: Tensor<i32>,
    /// 1 where the best of three masks is wanted, `[n]`.
    pub multimask: FloatTensor,
}

impl Points {
    /// Binds the host tensors again; a GPU session copied them when they were bound.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] naming the input.
    pub fn rebind(&mut self) -> Result<(), RunnerError> {
        input(&mut self.decode, "point_coords", &self.coords)?;
        input(&mut self.decode, "multimask", &self.multimask)?;
        bind_labels(&mut self.decode, &self.labels)
    }
}

/// Mask prompts and the decoder run that only makes their pointers.
pub struct MaskPrompts {
    /// Masks of {0, 1}, `[n, 1, image, image]`, on the host.
    pub masks: FloatTensor,
    /// Binds the mask prompt graph.
    pub prompt: IoBinding,
    /// Binds the decoder.
    pub decode_pointer: IoBinding,
    /// Object scores of the masks, `[n, 1]`, on the host, where the scores themselves stay on the device.
    pub score: Option<FloatTensor>,
    /// Bound and never looked at; they live as long as the bindings.
    _unused: Vec<FloatTensor>,
}

impl Wiring {
    /// Allocates and binds everything that tracked frames need.
    ///
    /// # Errors
    /// [`RunnerError::Environment`] or [`RunnerError::Inference`] with ONNX Runtime's text.
    pub fn new(tools: &WiringContext<'_>, objects: usize) -> Result<Self, RunnerError> {
        let (device, host, s) = (tools.device, tools.host, tools.sizes);
        let (f, n) = (s.grid, objects as i64);
        let mut passed = FrameTensors {
            cond_embed: tensor(device, &[n, s.hidden, f, f])?,
            mask_for_memory: tensor(device, &[n, 1, s.mask_for_memory(), s.mask_for_memory()])?,
            object_score: tensor(tools.results(), &[n, 1])?,
            obj_ptr: tensor(tools.results(), &[n, s.hidden])?,
            predicted_iou: tensor(tools.results(), &[n, 1])?,
            gated: tools.gated,
            zero: flags(host, n, 0.0)?,
            one: flags(host, n, 1.0)?,
            results_on_host: !tools.reports,
        };
        let mut low_res = tensor(host, &[n, 1, s.mask(), s.mask()])?;
        let mut report = tools.reports.then(|| tensor(host, &[n, REPORTED as i64])).transpose()?;
        let no_coords = tensor(host, &[n, s.points, 2])?;
        let no_point = labels(host, n, s.points, NOT_A_POINT)?;
        let no_dense = tensor(host, &[n, s.hidden, f, f])?;

        let mut decode_tracked = bind_decoder(tools, &passed.cond_embed, &no_coords, &no_point, &no_dense)?;
        input(&mut decode_tracked, "has_mask", &passed.zero)?;
        input(&mut decode_tracked, "is_prompt", &passed.zero)?;
        input(&mut decode_tracked, "multimask", &passed.one)?;
        bind_decoded(&mut decode_tracked, &mut passed, &mut low_res, report.as_mut())?;
        Ok(Wiring {
            objects,
            passed,
            low_res,
            report,
            decode_tracked,
            spare: Vec::new(),
            points: None,
            mask: None,
            blank: None,
            no_coords,
            no_point,
            no_dense,
        })
    }

    /// The decoder's wiring for clicks and boxes, made on first use.
    ///
    /// # Errors
    /// As [`Wiring::new`].
    pub fn points(&mut self, tools: &WiringContext<'_>) -> Result<&mut Points, RunnerError> {
        let points = match self.points.take() {
            Some(points) => points,
            None => {
                let (host, s, n) = (tools.host, tools.sizes, self.objects as i64);
                let coords = tensor(host, &[n, s.points, 2])?;
                let labels = labels(host, n, s.points, UNUSED)?;
                let multimask = flags(host, n, 1.0)?;
                let mut decode = bind_decoder(tools, &tools.features.image_embed, &coords, &labels, &self.no_dense)?;
                input(&mut decode, "has_mask", &self.passed.zero)?;
                input(&mut decode, "is_prompt", &self.passed.one)?;
                input(&mut decode, "multimask", &multimask)?;
                bind_decoded(&mut decode, &mut self.passed, &mut self.low_res, self.report.as_mut())?;
                Points { decode, coords, labels, multimask }
            }
        };
        Ok(self.points.insert(points))
    }

    /// The wiring of mask prompts, made on first use.
    ///
    /// # Errors
    /// As [`Wiring::new`].
    pub fn mask(
        &mut self,
        tools: &WiringContext<'_>,
        mask_prompt: &GraphSession,
    ) -> Result<&mut MaskPrompts, RunnerError> {
        let mask = match self.mask.take() {
            Some(mask) => mask,
            None => self.new_mask(tools, mask_prompt)?,
        };
        Ok(self.mask.insert(mask))
    }

    /// Puts the scores of the masks that were just prompted into the report: the decoder's own belong to its own mask.
    pub fn report_mask_scores(&mut self) {
        let Some((report, score)) = self.report.as_mut().zip(self.mask.as_ref().and_then(|mask| mask.score.as_ref()))
        else {
            return;
        };
        let rows = report.extract_tensor_mut().1.chunks_exact_mut(REPORTED);
        rows.zip(score.extract_tensor().1).for_each(|(row, score)| row[0] = *score);
    }

    /// Pointer of object `i` of those that ran; `None` where pointers stay on the device.
    pub fn pointer(&self, i: usize) -> Option<&[f32]> {
        let all = self.passed.results_on_host.then(|| self.passed.obj_ptr.extract_tensor().1)?;
        all.chunks_exact(all.len() / self.objects).nth(i)
    }

    /// Object score, predicted IoU, and a number that is finite if and only if the pointer is, of object `i`.
    pub fn result(&self, i: usize) -> [f32; REPORTED] {
        let values = |tensor: &'_ FloatTensor| tensor.extract_tensor().1[i];
        match (&self.report, self.pointer(i)) {
            (Some(report), _) => std::array::from_fn(|k| report.extract_tensor().1[REPORTED * i + k]),
            (None, pointer) => {
                let sum = pointer.into_iter().flatten().map(|v| v.abs()).sum();
                [values(&self.passed.object_score), values(&self.passed.predicted_iou), sum]
            }
        }
    }

    fn new_mask(&mut self, tools: &WiringContext<'_>, mask_prompt: &GraphSession) -> Result<MaskPrompts, RunnerError> {
        let (device, host, s) = (tools.device, tools.host, tools.sizes);
        let (f, n) = (s.grid, self.objects as i64);
        let masks = tensor(host, &[n, 1, s.image, s.image])?;
        let mut dense = tensor(device, &[n, s.hidden, f, f])?;
        let mut prompt = mask_prompt.binding()?;
        input(&mut prompt, "mask", &masks)?;
        output(&mut prompt, "dense_prompt", &mut dense)?;
        output(&mut prompt, "low_res_mask", &mut self.low_res)?;
        output(&mut prompt, "mask_for_memory", &mut self.passed.mask_for_memory)?;
        output(&mut prompt, "object_score", &mut self.passed.object_score)?;
        let mut score = tools.reports.then(|| tensor(host, &[n, 1])).transpose()?;
        if let Some(score) = &mut score {
            output(&mut prompt, REPORT, score)?;
        }

        // The mask itself is the frame's result; the decoder runs for its pointer alone.
        let embed = &tools.features.image_embed;
        let mut decode_pointer = bind_decoder(tools, embed, &self.no_coords, &self.no_point, &dense)?;
        input(&mut decode_pointer, "has_mask", &self.passed.one)?;
        input(&mut decode_pointer, "is_prompt", &self.passed.one)?;
        input(&mut decode_pointer, "multimask", &self.passed.one)?;
        let mut unused = [
            ("low_res_mask", tensor(host, &[n, 1, s.mask(), s.mask()])?),
            ("mask_for_memory", tensor(device, &[n, 1, s.mask_for_memory(), s.mask_for_memory()])?),
            ("predicted_iou", tensor(tools.results(), &[n, 1])?),
            ("object_score", tensor(tools.results(), &[n, 1])?),
        ];
        for (name, tensor) in &mut unused {
            output(&mut decode_pointer, name, tensor)?;
        }
        output(&mut decode_pointer, "obj_ptr", &mut self.passed.obj_ptr)?;
        if let Some(report) = &mut self.report {
            output(&mut decode_pointer, REPORT, report)?;
        }
        let unused = unused.into_iter().map(|(_, tensor)| tensor).chain([dense]).collect();
        Ok(MaskPrompts { masks, prompt, decode_pointer, score, _unused: unused })
    }

    /// A state of zeros for prompted frames, made on first use, and the tensors that go with it.
    ///
    /// # Errors
    /// As [`Wiring::new`].
    pub fn blank(
        &mut self,
        host: &Allocator,
        sizes: &TensorSizes,
    ) -> Result<(&MemoryState, &FrameTensors), RunnerError> {
        let blank = match self.blank.take() {
            Some(blank) => blank,
            None => MemoryState::new(host, sizes, self.objects)?,
        };
        Ok((self.blank.insert(blank), &self.passed))
    }
}

fn flags(host: &Allocator, objects: i64, value: f32) -> Result<FloatTensor, RunnerError> {
    let mut flags = tensor(host, &[objects])?;
    flags.extract_tensor_mut().1.fill(value);
    Ok(flags)
}

fn labels(host: &Allocator, objects: i64, slots: i64, first: i32) -> Result<Tensor<i32>, RunnerError> {
    let mut labels = Tensor::<i32>::new(host, vec![objects, slots])
        .map_err(|e| RunnerError::Environment(format!("cannot allocate point labels: {e}")))?;
    for row in labels.extract_tensor_mut().1.chunks_exact_mut(slots as usize) {
        row.fill(UNUSED);
        row[0] = first;
    }
    Ok(labels)
}

fn bind_labels(binding: &mut IoBinding, labels: &Tensor<i32>) -> Result<(), RunnerError> {
    binding
        .bind_input("point_labels", labels)
        .map_err(|e| RunnerError::Inference(format!("cannot bind input `point_labels`: {e}")))
}

fn bind_decoder(
    tools: &WiringContext<'_>,
    features: &FloatTensor,
    coords: &FloatTensor,
    labels: &Tensor<i32>,
    dense: &FloatTensor,
) -> Result<IoBinding, RunnerError> {
    let mut binding = tools.decoder.binding()?;
    input(&mut binding, "cond_embed", features)?;
    for (name, map) in FINER.into_iter().zip(&tools.features.high_res) {
        input(&mut binding, name, map)?;
    }
    input(&mut binding, "point_coords", coords)?;
    bind_labels(&mut binding, labels)?;
    input(&mut binding, "dense_prompt", dense)?;
    Ok(binding)
}

fn bind_decoded(
    binding: &mut IoBinding,
    passed: &mut FrameTensors,
    low_res: &mut FloatTensor,
    report: Option<&mut FloatTensor>,
) -> Result<(), RunnerError> {
    if let Some(report) = report {
        output(binding, REPORT, report)?;
    }
    output(binding, "low_res_mask", low_res)?;
    output(binding, "mask_for_memory", &mut passed.mask_for_memory)?;
    output(binding, "predicted_iou", &mut passed.predicted_iou)?;
    output(binding, "object_score", &mut passed.object_score)?;
    output(binding, "obj_ptr", &mut passed.obj_ptr)
}
