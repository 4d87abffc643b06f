//! Can every cell be given the prompts that the user gives? Which kinds a pack takes and how many clicks, before anything is loaded.

use jetbench_runners::types::{PromptKind, PromptShape};

use crate::dataset::{Dataset, Object, Sequence};
use crate::exit::Error;
use crate::plan::resolve::Cell;

/// Holds the user's prompts against every cell; what the user should know.
///
/// # Errors
/// A kind of prompt or a number of clicks that the pack does not take; a model tag that names none of the kinds given.
pub(super) fn check(dataset: &Dataset, cells: &[Cell]) -> Result<Vec<String>, Error> {
    let given: Vec<(&Sequence, &Object, &PromptShape)> = dataset
        .sequences
        .iter()
        .flat_map(|s| s.objects.iter().filter_map(move |o| Some((s, o, s.given(o)?))))
        .collect();
    let mut notes = Vec::new();
    for cell in cells {
        for &(sequence, object, shape) in &given {
            fits(cell, shape)
                .map_err(|what| Error::Usage(format!("video {}, object {}: {what}", sequence.name, object.name)))?;
        }
        let kinds = kinds(cell, given.iter().map(|(.., shape)| *shape));
        let named: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        if !kinds.is_empty() && !kinds.contains(&cell.prompt) {
            let name = cell.model.strip_suffix(&format!("_{}", cell.prompt)).unwrap_or(&cell.model);
            return Err(Error::Usage(format!(
                "model `{}` asks for {} prompts, and those given are of kind {}; say {name}_{}",
                cell.model,
                cell.prompt,
                named.join(" and "),
                named[0]
            )));
        }
        if kinds.len() > 1 {
            notes.push(format!(
                "{}: the prompts given are of kinds {}; each object is given its own",
                cell.model,
                named.join(" and ")
            ));
        }
    }
    notes.dedup();
    Ok(notes)
}

/// The kinds that the objects of a cell get: a mask becomes what the model tag says, clicks and boxes stay.
fn kinds<'a>(cell: &Cell, shapes: impl Iterator<Item = &'a PromptShape>) -> Vec<PromptKind> {
    let mut kinds: Vec<PromptKind> = shapes.map(|shape| became(cell, shape)).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

fn became(cell: &Cell, shape: &PromptShape) -> PromptKind {
    match shape.kind() {
        PromptKind::Mask => cell.prompt,
        kind => kind,
    }
}

fn fits(cell: &Cell, shape: &PromptShape) -> Result<(), String> {
    let (pack, takes) = (&cell.pack.id, &cell.pack.capabilities);
    let kind = became(cell, shape);
    if !takes.prompts.contains(&kind) {
        let known: Vec<&str> = takes.prompts.iter().map(|kind| kind.as_str()).collect();
        return Err(format!("pack {pack} takes no {kind} prompts; it takes {}", known.join(", ")));
    }
    match shape {
        PromptShape::Points(clicks) if clicks.len() > takes.max_points as usize => Err(format!(
            "{} clicks; pack {pack} takes at most {} per object, the number of points that its graphs have room for",
            clicks.len(),
            takes.max_points
        )),
        _ => Ok(()),
    }
}
