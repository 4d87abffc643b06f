//! `jetbench verify` of a label pack: runs the pictures of its reference and compares the direction of each embedding with that of
//! PyTorch's for the same weights, and the class that comes of it.

use serde::{Deserialize, Serialize};

use crate::digest::sha256_hex;
use crate::label::contract::{signature, spec};
use crate::label::{Labeller, best, unit};
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::study::golden::{SCHEMA, Verdict};
use crate::study::reference::{FramesIndex, FramesReference, TensorFile, floats, read_png, relative};
use crate::types::{ClassProbability, Device, Dtype, Frame, OpenRequest};

/// Pictures that a reference must have.
const LEAST: usize = 2;
/// What no reference may allow: above, a comparison proves nothing.
const CEILING: f64 = 1e-3;
/// Largest difference of a value in half precisions: the vision transformers and the miniature differ by a tenth of it (emulated).
/// Of int8 nothing was measured.
const HALF: [(Dtype, f64); 3] = [(Dtype::Fp16, 5e-3), (Dtype::Bf16, 4e-2), (Dtype::Int8, 4e-2)];

#[derive(Deserialize)]
struct Index {
    schema: u32,
    tolerance: f64,
    frames: Vec<Picture>,
}

#[derive(Deserialize)]
struct Picture {
    image: String,
    width: u32,
    height: u32,
    resized_sha256: String,
    embeds: TensorFile,
}

impl FramesIndex for Index {
    const CEILING: f64 = CEILING;
    const CALLED: &'static str = "pictures";

    fn header(&self) -> (u32, f64, usize) {
        (self.schema, self.tolerance, self.frames.len())
    }
}

/// What a verification of a label pack showed. As JSON this is what `jetbench verify --json` prints of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EmbeddingReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// Pack id.
    pub pack: String,
    /// Precision that was run.
    pub precision: Dtype,
    /// Device that was used.
    pub device: String,
    /// ONNX Runtime version.
    pub runtime: String,
    /// Largest difference allowed of a value of an embedding of length 1.
    pub tolerance: f64,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The two classes whose vectors are most alike, and their cosine; `None`: there is one class.
    pub nearest: Option<(f64, usize, usize)>,
    /// One entry per picture.
    pub pictures: Vec<PictureReport>,
    /// What lies outside its limit, in words.
    pub failures: Vec<String>,
    /// What the reference does not show, in words.
    pub missing: Vec<String>,
}

/// One picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PictureReport {
    /// Its file, as in the index of the reference.
    pub file: String,
    /// Largest absolute difference of a value of the embedding, at length 1; `None` (JSON null) when not finite.
    pub difference: Option<f64>,
    /// The best class here, and PyTorch's.
    pub best: [Option<ClassProbability>; 2],
    /// Within the limits?
    pub pass: bool,
}

/// Compares the label pack in `request` with the first `most` pictures of its reference.
///
/// # Errors
/// [`RunnerError::Pack`] when the reference is missing or broken, and whatever opening and running give. Differences are no error: they are
/// in the report.
pub fn verify_first(request: &OpenRequest, most: usize) -> Result<EmbeddingReport, RunnerError> {
    let pack = Pack::read(&request.pack)?;
    let width = signature(&pack)?.width as usize;
    let FramesReference { index: Index { frames, .. }, dir, tolerance } = FramesReference::read(&pack)?;
    let mut labeller = Labeller::open(&request.pack, request)?;
    let tolerance = match (request.dtype, request.device) {
        (Dtype::Fp32, Device::Cpu) => tolerance,
        // Kernels of GPUs sum in another order.
        (Dtype::Fp32, _) => (20.0 * tolerance).min(CEILING),
        (half, _) => HALF.iter().find(|(dtype, _)| *dtype == half).map_or(0.0, |(_, limit)| *limit),
    };
    let mut report = EmbeddingReport {
        schema: SCHEMA,
        verdict: Verdict::Fail,
        pack: pack.manifest.id.clone(),
        precision: request.dtype,
        device: request.device.to_string(),
        runtime: labeller.open_report().runtime_version.clone(),
        tolerance,
        classes: spec(&pack)?.classes.clone(),
        nearest: labeller.vectors().nearest(),
        pictures: Vec::new(),
        failures: Vec::new(),
        missing: Vec::new(),
    };
    for of in frames.iter().take(most) {
        let rgb = read_png(&relative(&dir, &of.image)?, of.width, of.height)?;
        let resized = labeller.resize(Frame { width: of.width, height: of.height, rgb: &rgb });
        if sha256_hex(&resized) != of.resized_sha256 {
            report.failures.push(format!("{}: after resizing it differs from the reference", of.image));
        }
        let ours = unit(labeller.embed(&resized)?);
        let theirs = expected(&dir, &of.embeds, width)?;
        report.add(&of.image, &labeller, ours, &theirs);
    }
    report.judge();
    Ok(report)
}

impl EmbeddingReport {
    /// Everything lies within its limits and enough was compared.
    pub fn passes(&self) -> bool {
        self.verdict == Verdict::Pass
    }

    fn add(&mut self, file: &str, labeller: &Labeller, ours: Option<Vec<f64>>, theirs: &[f64]) {
        let named = |of: &[f64]| best(&labeller.vectors().probabilities(of).unwrap_or_default())[0];
        let both = [ours.as_deref().and_then(named), named(theirs)];
        let difference = ours.map(|ours| ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max));
        let before = self.failures.len();
        match difference {
            None => self.failures.push(format!("{file}: the embedding has values that are no numbers, or none but 0")),
            Some(found) if found > self.tolerance => {
                let allowed = self.tolerance;
                self.failures.push(format!("{file}: embeddings differ by {found:.3e}, {allowed:.1e} allowed"));
            }
            Some(_) => {}
        }
        let pass = self.failures.len() == before;
        self.pictures.push(PictureReport { file: file.to_string(), difference, best: both, pass });
    }

    fn judge(&mut self) {
        let compared = self.pictures.len();
        if compared < LEAST {
            self.missing.push(format!("{compared} pictures were compared, at least {LEAST} are needed"));
        }
        self.verdict = Verdict::of(&self.failures, &self.missing);
    }
}

/// The direction of a stored embedding.
fn expected(dir: &std::path::Path, tensor: &TensorFile, width: usize) -> Result<Vec<f64>, RunnerError> {
    unit(&floats(dir, tensor, &[width], "")?)
        .ok_or_else(|| RunnerError::Pack(format!("{}: no value but 0", dir.join(&tensor.file).display())))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::detect::tests::{can_run, request};

    /// A copy of the shipped miniature.
    fn copy(to: &Path) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/packs/labels_mini");
        crate::study::whole::copy(&from, to).unwrap();
    }

    #[test]
    fn the_shipped_label_pack_gives_pytorchs_embeddings_in_every_precision() {
        if !can_run("the_shipped_label_pack_gives_pytorchs_embeddings_in_every_precision") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        copy(&dir.path().join("p"));
        for dtype in [Dtype::Fp32, Dtype::Fp16, Dtype::Bf16] {
            let report = verify_first(&OpenRequest { dtype, ..request(&dir.path().join("p")) }, usize::MAX).unwrap();
            assert!(report.passes(), "{report:#?}");
            assert!(report.nearest.unwrap().0 < 0.5, "classes lie apart");
            assert!(report.pictures.iter().all(|p| p.best[0].unwrap().label == p.best[1].unwrap().label));
        }
        let one = verify_first(&request(&dir.path().join("p")), 1).unwrap();
        assert_eq!((one.verdict, one.missing.len()), (Verdict::Weak, 1));
    }

    #[test]
    fn another_embedding_another_picture_and_a_reference_that_allows_anything_are_noticed() {
        if !can_run("another_embedding_another_picture_and_a_reference_that_allows_anything_are_noticed") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let pack = dir.path().join("p");
        copy(&pack);
        let at = pack.join("reference/index.json");
        let good = std::fs::read_to_string(&at).unwrap();
        let outcome = |from: &str, to: &str| {
            std::fs::write(&at, good.replace(from, to)).unwrap();
            verify_first(&request(&pack), usize::MAX)
        };
        let report = outcome("001_embeds.z", "000_embeds.z").unwrap();
        assert!(report.verdict == Verdict::Fail && report.failures[0].contains("frames/00001.png: embeddings differ"));
        let report = outcome("00001.png", "00000.png");
        let found = report.map(|report| report.failures.join("; ")).unwrap_or_else(|e| e.to_string());
        assert!(found.contains("00000.png"), "another picture, or one of another size: {found}");
        for (from, to, part) in [
            ("\"tolerance\": ", "\"tolerance\": 5, \"before\": ", "comparison proves nothing"),
            ("\"schema\": 1", "\"schema\": 9", "schema 9"),
            ("000_embeds.z", "../../000_embeds.z", "000_embeds.z"),
        ] {
            let fault = outcome(from, to).map(drop).unwrap_err().to_string();
            assert!(fault.contains(part), "{part}: {fault}");
        }
    }
}
