//! The stored vectors of the classes, and the probabilities that an embedding has. The file is that of the exporter: `text_embeds` f32
//! [C, D] with rows of length 1, `logit_scale` f32 [1], `logit_bias` f32 [1] where each class is judged by itself.

use safetensors::{Dtype as Kind, SafeTensors};

use super::contract::spec;
use crate::digest::sha256_hex;
use crate::files;
use crate::manifest::Activation;
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::types::ClassProbability;

/// How far the length of a row may be from 1.
const UNIT: f64 = 1e-3;
/// Cosine of two classes from which on they are one.
const SAME: f64 = 0.995;
/// Logarithm of the largest scale; CLIP is trained with at most 100.
const LARGEST_SCALE: f32 = 6.91;

/// The vectors of a pack.
pub struct Vectors {
    /// `[C, D]`.
    rows: Vec<f32>,
    width: usize,
    scale: f64,
    bias: f64,
    activation: Activation,
}

impl Vectors {
    /// Reads and checks them: digest, shapes, numbers, lengths, and that no two classes are one.
    ///
    /// # Errors
    /// [`RunnerError::Pack`] naming the file, the tensor, what was expected and what was found.
    pub fn read(pack: &Pack, width: i64) -> Result<Vectors, RunnerError> {
        let spec = spec(pack)?;
        let path = pack.dir.join(&spec.embeddings);
        let wrong = |text: String| RunnerError::Pack(format!("{}: {text}", path.display()));
        let bytes = files::read(&path, files::LARGE).map_err(|e| wrong(e.to_string()))?;
        let found = sha256_hex(&bytes);
        if !found.eq_ignore_ascii_case(&spec.sha256) {
            return Err(wrong(format!("SHA-256 is {found}, pack.toml says {}", spec.sha256)));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(format!("no safetensors file: {e}")))?;
        let tensor = |name: &str, shape: &[usize]| -> Result<Vec<f32>, RunnerError> {
            let tensor = file.tensor(name).map_err(|_| wrong(format!("tensor `{name}` is missing")))?;
            if tensor.dtype() != Kind::F32 || tensor.shape() != shape {
                let (kind, has) = (tensor.dtype(), tensor.shape());
                return Err(wrong(format!("tensor `{name}`: F32 {shape:?} expected, found {kind:?} {has:?}")));
            }
            let values: Vec<f32> =
                tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            match values.iter().position(|v| !v.is_finite()) {
                Some(at) => Err(wrong(format!("tensor `{name}`: value {at} is no number"))),
                None => Ok(values),
            }
        };
        let width = width as usize;
        let rows = tensor("text_embeds", &[spec.classes.len(), width])?;
        let scale = tensor("logit_scale", &[1])?[0];
        if !(0.0..=LARGEST_SCALE).contains(&scale) {
            return Err(wrong(format!("logit_scale = {scale}: a logarithm from 0 to {LARGEST_SCALE} expected")));
        }
        let bias = match spec.activation {
            Activation::Softmax => 0.0,
            Activation::Sigmoid => tensor("logit_bias", &[1])?[0],
        };
        for (row, name) in rows.chunks_exact(width).zip(&spec.classes) {
            let length = norm(row);
            if (length - 1.0).abs() > UNIT {
                return Err(wrong(format!("the vector of class {name:?} has length {length:.4}, 1 expected")));
            }
        }
        let vectors =
            Vectors { rows, width, scale: f64::from(scale).exp(), bias: f64::from(bias), activation: spec.activation };
        match vectors.nearest() {
            Some((cosine, i, j)) if cosine >= SAME => Err(wrong(format!(
                "classes {:?} and {:?} have one vector (cosine {cosine:.4}), so no picture can tell them apart; make the vectors with the \
                 pooling that the model was trained with (CLIP: --pooling eot), and see jetbench-models labels check",
                spec.classes[i], spec.classes[j]
            ))),
            _ => Ok(vectors),
        }
    }

    /// The two classes that are most alike: their cosine and numbers; `None`: there is one class.
    pub fn nearest(&self) -> Option<(f64, usize, usize)> {
        let rows: Vec<&[f32]> = self.rows.chunks_exact(self.width).collect();
        let pairs = (0..rows.len()).flat_map(|i| (0..i).map(move |j| (j, i)));
        let lengths: Vec<f64> = rows.iter().map(|row| norm(row)).collect();
        let cosines = pairs.map(|(i, j)| (dot(rows[i], rows[j]) / (lengths[i] * lengths[j]), i, j));
        cosines.max_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Probability of each class for the mean of unit embeddings, of any length; `None` where it is no direction.
    pub fn probabilities(&self, mean: &[f64]) -> Option<Vec<f64>> {
        let length = mean.iter().map(|v| v * v).sum::<f64>().sqrt();
        if !(length.is_finite() && length > 0.0) {
            return None;
        }
        let cosine = |row: &[f32]| row.iter().zip(mean).map(|(a, b)| f64::from(*a) * b).sum::<f64>() / length;
        let mut scores: Vec<f64> =
            self.rows.chunks_exact(self.width).map(|row| self.scale * cosine(row) + self.bias).collect();
        match self.activation {
            Activation::Sigmoid => scores.iter_mut().for_each(|s| *s = 1.0 / (1.0 + (-*s).exp())),
            Activation::Softmax => {
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                scores.iter_mut().for_each(|s| *s = (*s - largest).exp());
                let total: f64 = scores.iter().sum();
                scores.iter_mut().for_each(|s| *s /= total);
            }
        }
        Some(scores)
    }
}

/// The two largest of the probabilities, the lower class first where they are equal.
pub fn best(probabilities: &[f64]) -> [Option<ClassProbability>; 2] {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    [0, 1].map(|place| {
        let label = *order.get(place)?;
        Some(ClassProbability { label: label as u32, probability: probabilities[label] })
    })
}

/// The direction of an embedding; `None` where it has none, because a value is no number or all are 0.
pub fn unit(embedding: &[f32]) -> Option<Vec<f64>> {
    let length = norm(embedding);
    (length.is_finite() && length > 0.0).then(|| embedding.iter().map(|v| f64::from(*v) / length).collect())
}

fn norm(row: &[f32]) -> f64 {
    dot(row, row).sqrt()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
