//! The graphs a SAM 2 family tracker needs, tensor by tensor, as functions of the sizes in the manifest. The manifest is
//! compared with this table, so that a pack which describes itself correctly but is no SAM 2 style pack is refused by
//! name instead of failing in the middle of a video.
//!
//! All graphs but the image encoder work on objects. In a pack with an object axis their first axis has the name
//! [`OBJECTS`] and any size; in others it is 1 and the tracker runs them once per object. Features of the image have a
//! first axis of 1 in both; only the decoder's `cond_embed` may be one for all objects (a prompted frame) or one per
//! object (a tracked frame), so its axis has a name of its own.

use std::path::Path;

use crate::host::options::{self, PackNeed};
use crate::manifest::{COND_OBJECTS, OBJECTS, TensorType};
use crate::onnx::Dimension;
use crate::pack::Pack;
use crate::requirements::{self, GraphRequirement, ShapeRequirement, TensorRequirement};
use crate::runner::RunnerError;
use crate::types::{Capabilities, Device, PromptKind};

/// Name of the image encoder graph.
pub const IMAGE_ENCODER: &str = "image_encoder";
/// Name of the graph that turns a mask prompt into the decoder's inputs.
pub const MASK_PROMPT: &str = "mask_prompt";
/// Name of the mask decoder graph.
pub const MASK_DECODER: &str = "mask_decoder";
/// Name of the memory attention graph.
pub const MEMORY_ATTENTION: &str = "memory_attention";
/// Name of the memory encoder graph.
pub const MEMORY_ENCODER: &str = "memory_encoder";

/// The state of an object: each tensor as input and as output.
pub const STATES: [(&str, &str); 3] = [("bank", "bank_out"), ("ptrs", "ptrs_out"), ("age", "age_out")];

/// The finer maps of the image, 4 and 2 times the grid of its embedding: outputs of the encoder, inputs of the decoder.
pub const FINER: [&str; 2] = ["high_res_0", "high_res_1"];
/// The family whose graphs have no [`FINER`].
pub const COARSE_FAMILY: &str = "efficienttam";
/// The family of SAM 3's tracker.
pub const SAM3_FAMILY: &str = "sam3_tracker";

/// Largest input side, pixels, at which that is the default. Small operators leave a second thread idle, large ones do not: on
/// two cores it took 1.42 and 1.81 times less per frame at 256 px, 1.01 and 0.85 at 512, 0.77 at 1024 (`benches/pipeline.rs`).
pub const PIPELINE_PAYS: i64 = 256;

/// Sizes that fix every tensor shape of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSizes {
    /// Side of the square model input, pixels.
    pub image: i64,
    /// Side of the image embedding, tokens: a 16th of the input in SAM 2 and its kin, a 14th in SAM 3.
    pub grid: i64,
    /// Hidden width: channels of the image embedding and of an object pointer.
    pub hidden: i64,
    /// Memory slots.
    pub frames: i64,
    /// Tokens per memory slot.
    pub tokens: i64,
    /// Channels per memory token.
    pub channels: i64,
    /// Object pointers kept.
    pub pointers: i64,
    /// Point slots of the mask decoder.
    pub points: i64,
    /// Do the graphs take any number of objects at once?
    pub batched: bool,
    /// Does the decoder see the finer maps of the image, [`FINER`]? EfficientTAM has none.
    pub finer: bool,
}

impl TensorSizes {
    /// Side of the low-resolution mask, pixels.
    pub fn mask(&self) -> i64 {
        4 * self.grid
    }

    /// Side of the mask that the memory encoder takes, pixels.
    pub fn mask_for_memory(&self) -> i64 {
        16 * self.grid
    }

    /// Shapes of [`FINER`].
    pub fn finer_shapes(&self) -> [[i64; 4]; 2] {
        [4, 2].map(|times| [1, self.hidden / (2 * times), times * self.grid, times * self.grid])
    }
}

/// Reads the pack in `dir` and holds it against the contract of its family.
///
/// # Errors
/// [`RunnerError::Pack`] when the manifest is wrong or another family's.
pub fn read<T>(dir: &Path, contract: impl FnOnce(&Pack) -> Result<T, RunnerError>) -> Result<(Pack, T), RunnerError> {
    let pack = Pack::read(dir)?;
    let agreed = contract(&pack)?;
    Ok((pack, agreed))
}

/// The graphs of a pack of these sizes, the one for mask prompts last.
pub(crate) fn requirements(s: &TensorSizes) -> [GraphRequirement; 5] {
    let named = |name: &str| if s.batched { Dimension::Dynamic(name.to_string()) } else { Dimension::Size(1) };
    let tensor = |name, dtypes, first: Dimension, rest: &[i64]| {
        let axes = std::iter::once(first).chain(rest.iter().map(|&n| Dimension::Size(n))).collect();
        TensorRequirement { name, dtypes, shape: ShapeRequirement::Exactly(axes) }
    };
    // One for the whole image, and one per object.
    let image = |name, rest: &[i64]| tensor(name, &[TensorType::F32], Dimension::Size(1), rest);
    let object = |name, rest: &[i64]| tensor(name, &[TensorType::F32], named(OBJECTS), rest);
    let f = s.grid;
    let embed = [s.hidden, f, f];
    let finer = || {
        let maps = s.finer.then(|| FINER.into_iter().zip(s.finer_shapes()));
        maps.into_iter().flatten().map(|(name, shape)| image(name, &shape[1..]))
    };
    let for_memory = || object("mask_for_memory", &[1, s.mask_for_memory(), s.mask_for_memory()]);
    let low = || object("low_res_mask", &[1, s.mask(), s.mask()]);
    let score = || object("object_score", &[1]);
    let pointer = || object("obj_ptr", &[s.hidden]);
    let flag = |name| object(name, &[]);
    let bank = |name| object(name, &[s.frames, s.tokens, s.channels]);
    let ptrs = |name| object(name, &[s.pointers, s.hidden]);
    [
        GraphRequirement {
            name: IMAGE_ENCODER,
            inputs: vec![image("image", &[3, s.image, s.image])],
            outputs: std::iter::once(image("image_embed", &embed)).chain(finer()).collect(),
        },
        GraphRequirement {
            name: MASK_DECODER,
            inputs: std::iter::once(tensor("cond_embed", &[TensorType::F32], named(COND_OBJECTS), &embed))
                .chain(finer())
                .chain([
                    object("point_coords", &[s.points, 2]),
                    tensor("point_labels", &[TensorType::I32], named(OBJECTS), &[s.points]),
                    object("dense_prompt", &embed),
                    flag("has_mask"),
                    flag("is_prompt"),
                    flag("multimask"),
                ])
                .collect(),
            outputs: vec![low(), for_memory(), object("predicted_iou", &[1]), score(), pointer()],
        },
        GraphRequirement {
            name: MEMORY_ATTENTION,
            inputs: vec![image("image_embed", &embed), bank("bank"), ptrs("ptrs"), flag("age")],
            outputs: vec![object("cond_embed", &embed)],
        },
        GraphRequirement {
            name: MEMORY_ENCODER,
            inputs: vec![
                image("image_embed", &embed),
                for_memory(),
                score(),
                pointer(),
                flag("is_prompt"),
                bank("bank"),
                ptrs("ptrs"),
                flag("age"),
            ],
            outputs: vec![bank("bank_out"), ptrs("ptrs_out"), flag("age_out")],
        },
        // Last, because packs that take no masks have none.
        GraphRequirement {
            name: MASK_PROMPT,
            inputs: vec![object("mask", &[1, s.image, s.image])],
            outputs: vec![object("dense_prompt", &embed), low(), for_memory(), score()],
        },
    ]
}

/// Sizes of the pack after comparing its manifest with the table.
///
/// # Errors
/// [`RunnerError::Pack`] naming the manifest, the graph, the tensor, what was expected and what was found.
pub fn sizes(pack: &Pack) -> Result<TensorSizes, RunnerError> {
    let manifest = &pack.manifest;
    let wrong = |text: String| pack.wrong(text);
    let graph = |name: &str| {
        manifest.graph(name).ok_or_else(|| wrong(format!("graph `{name}` is missing; family `{}`", manifest.family)))
    };
    let embed = graph(IMAGE_ENCODER)?.outputs.iter().find(|t| t.name == "image_embed");
    let Some(&[_, Dimension::Size(hidden), Dimension::Size(grid), _]) = embed.map(|t| t.shape.as_slice()) else {
        return Err(wrong(format!("graph `{IMAGE_ENCODER}` has no output `image_embed` of four axes")));
    };
    let Some(memory) = &manifest.memory else {
        return Err(wrong(format!("[memory] is missing; family `{}` has one", manifest.family)));
    };
    // One tensor tells; that all others agree with it is then checked.
    let bank = graph(MEMORY_ATTENTION)?.inputs.iter().find(|t| t.name == "bank");
    let batched = bank.and_then(|t| t.shape.first()) == Some(&Dimension::Dynamic(OBJECTS.to_string()));
    if hidden % 8 != 0 {
        return Err(wrong(format!("`image_embed` has {hidden} channels: a multiple of 8 expected")));
    }
    let sizes = TensorSizes {
        image: i64::from(manifest.input.size),
        grid,
        hidden,
        frames: i64::from(memory.frames),
        tokens: i64::from(memory.tokens_per_frame),
        channels: i64::from(memory.channels),
        pointers: i64::from(memory.pointers),
        points: i64::from(manifest.prompts.point_slots),
        batched,
        finer: manifest.family != COARSE_FAMILY,
    };
    let takes_masks = manifest.graph(MASK_PROMPT).is_some();
    if !takes_masks && manifest.prompts.kinds.contains(&PromptKind::Mask) {
        return Err(wrong(format!("prompts.kinds names mask, but graph `{MASK_PROMPT}` is missing")));
    }
    let graphs = requirements(&sizes);
    requirements::check(pack, if takes_masks { &graphs } else { &graphs[..4] })?;
    let states: Vec<(&str, &str)> = manifest.states.iter().map(|s| (s.input.as_str(), s.output.as_str())).collect();
    if states != STATES {
        return Err(wrong(format!(
            "state: bank -> bank_out, ptrs -> ptrs_out, age -> age_out expected, found {states:?}"
        )));
    }
    Ok(sizes)
}

/// What a runner can do with this pack on this device; `batched`: its graphs have an object axis.
pub fn capabilities(pack: &Pack, batched: bool, device: Device) -> Capabilities {
    let cpu_form = pack.manifest.graphs.iter().any(|graph| graph.cpu.is_some());
    let has = |need| match need {
        PackNeed::Nothing => true,
        PackNeed::ObjectAxis => batched,
        PackNeed::CpuForm => cpu_form,
        PackNeed::Detector => false,
    };
    Capabilities {
        prompts: pack.manifest.prompts.kinds.clone(),
        dtypes: pack.manifest.dtypes(),
        options: options::names(&pack.manifest.family, device, has),
        max_objects: None,
        max_points: pack.manifest.prompts.point_slots,
        works_ahead: false,
        refused: options::refused(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256_hex;
    use crate::manifest::FILE_NAME;

    const SIZES: TensorSizes = TensorSizes {
        image: 128,
        grid: 8,
        hidden: 64,
        frames: 7,
        tokens: 64,
        channels: 64,
        pointers: 16,
        points: 4,
        batched: false,
        finer: true,
    };

    fn outcome(edit: impl Fn(String) -> String) -> Result<TensorSizes, String> {
        outcome_of(&SIZES, edit)
    }

    /// A manifest that follows the table (its graph files do not exist), after `edit`.
    fn outcome_of(sizes_of_pack: &TensorSizes, edit: impl Fn(String) -> String) -> Result<TensorSizes, String> {
        let mut text = String::from(
            "schema = 1\nid = \"t\"\nfamily = \"sam2\"\ndescription = \"\"\nlicence = \"\"\n[provenance]\n\
             checkpoint_sha256 = \"\"\nexporter = \"\"\ncommand = \"\"\n[input]\nsize = 128\n\
             resize = \"bilinear_antialias_u8\"\ncolour = \"rgb\"\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n\
             [memory]\nframes = 7\ntokens_per_frame = 64\nchannels = 64\npointers = 16\nstorage = \"fp32\"\n\
             [prompts]\nkinds = [\"points\", \"bbox\", \"mask\"]\npoint_slots = 4\n",
        );
        for GraphRequirement { name, inputs, outputs } in requirements(sizes_of_pack) {
            let list = |tensors: Vec<TensorRequirement>| {
                let each = tensors.iter().map(|tensor| {
                    let ShapeRequirement::Exactly(shape) = &tensor.shape else {
                        panic!("{} has no shape", tensor.name)
                    };
                    let (name, dtype) = (tensor.name, format!("{:?}", tensor.dtypes[0]).to_lowercase());
                    let axes: Vec<String> = shape
                        .iter()
                        .map(|axis| match axis {
                            Dimension::Size(n) => n.to_string(),
                            Dimension::Dynamic(name) => format!("{name:?}"),
                        })
                        .collect();
                    format!("{{ name = \"{name}\", dtype = \"{dtype}\", shape = [{}] }}", axes.join(", "))
                });
                each.collect::<Vec<_>>().join(", ")
            };
            text += &format!(
                "[[graph]]\nname = \"{name}\"\nfiles = {{ fp32 = \"{name}.onnx\" }}\nsha256 = {{ fp32 = \"{}\" }}\n\
                 inputs = [{}]\noutputs = [{}]\n",
                sha256_hex(b""),
                list(inputs),
                list(outputs)
            );
        }
        for name in ["bank", "ptrs", "age"] {
            text += &format!("[[state]]\ninput = \"{name}\"\noutput = \"{name}_out\"\n");
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), edit(text)).unwrap();
        let pack = Pack::read(dir.path()).map_err(|e| e.to_string())?;
        sizes(&pack).map_err(|e| e.to_string())
    }

    #[test]
    fn a_pack_that_follows_the_table_passes() {
        assert_eq!(outcome(|text| text).unwrap(), SIZES);
        let batched = TensorSizes { batched: true, ..SIZES };
        assert_eq!(outcome_of(&batched, |text| text).unwrap(), batched);
    }

    #[test]
    fn an_object_axis_is_there_everywhere_or_nowhere() {
        let batched = TensorSizes { batched: true, ..SIZES };
        let text = outcome_of(&batched, |text| text.replacen("[\"objects\", 16, 64]", "[1, 16, 64]", 1)).unwrap_err();
        assert!(text.contains("input `ptrs`: F32 [objects, 16, 64] expected, found F32 [1, 16, 64]"), "{text}");
        let text = outcome_of(&batched, |text| text.replacen("\"cond_objects\"", "\"objects\"", 1)).unwrap_err();
        assert!(text.contains("[cond_objects, 64, 8, 8] expected"), "{text}");
    }

    #[test]
    fn sizes_follow_the_grid_and_not_the_input() {
        // SAM 3 has patches of 14 pixels: a grid of 72 at 1008 pixels, masks of 288, of 1152 for the memory.
        let sizes = TensorSizes { image: 112, ..SIZES };
        let of_112 = |text: String| text.replacen("size = 128", "size = 112", 1);
        assert_eq!(outcome_of(&sizes, of_112).unwrap(), sizes);
        assert_eq!(sizes.finer_shapes(), [[1, 8, 32, 32], [1, 16, 16, 16]]);
        assert_eq!((sizes.mask(), sizes.mask_for_memory()), (32, 128));
        let text = outcome(|text| text.replacen("[1, 64, 8, 8]", "[1, 64, 9, 9]", 1)).unwrap_err();
        assert!(text.contains("output `high_res_0`: F32 [1, 8, 36, 36] expected"), "{text}");
    }

    #[test]
    fn the_finer_maps_are_those_of_the_family() {
        let coarse = TensorSizes { finer: false, ..SIZES };
        let of_family = |sizes, family: &str| {
            outcome_of(sizes, |text| text.replacen("family = \"sam2\"", &format!("family = \"{family}\""), 1))
        };
        assert_eq!(of_family(&coarse, "efficienttam").unwrap(), coarse);
        let text = of_family(&coarse, "sam2").unwrap_err();
        assert!(text.contains("image_encoder") && text.contains("output `high_res_0` is missing"), "{text}");
        let text = of_family(&SIZES, "efficienttam").unwrap_err();
        assert!(text.contains("image_encoder") && text.contains("high_res_0"), "{text}");
    }

    #[test]
    fn what_does_not_fit_the_family_is_named() {
        let refused = |from: &str, to: &str, parts: &[&str]| {
            let text = outcome(|text| {
                assert!(text.contains(from), "the edit {from:?} must hit");
                text.replacen(from, to, 1)
            })
            .expect_err(to);
            for part in parts {
                assert!(text.contains(part), "{from} -> {to}: {text:?} does not say {part:?}");
            }
        };
        refused("name = \"predicted_iou\"", "name = \"iou\"", &["mask_decoder", "output `predicted_iou` is missing"]);
        refused("frames = 7", "frames = 5", &["input `bank`", "[1, 5, 64, 64] expected", "[1, 7, 64, 64]"]);
        refused("point_slots = 4", "point_slots = 6", &["point_coords", "[1, 6, 2]"]);
        refused("input = \"ptrs\"", "input = \"pointers\"", &["state", "ptrs_out"]);
        refused("name = \"mask_prompt\"", "name = \"mask_input\"", &["mask_prompt", "missing"]);
        refused("dtype = \"i32\"", "dtype = \"f32\"", &["point_labels", "I32"]);
        refused("[1, 64, 8, 8]", "[1, 60, 8, 8]", &["multiple of 8"]);
    }
}
