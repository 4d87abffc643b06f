//! How do objects come into a batch? The rows of states are put behind each other by a small graph, on the device where the states
//! are.

use ort::session::IoBinding;

use super::contract::TensorSizes;
use super::state::MemoryState;
use crate::host::runtime::Runtime;
use crate::host::session::GraphSession;
use crate::host::settings::SessionSettings;
use crate::host::tensor::input;
use crate::onnx::{Dimension, ElementType, build};
use crate::runner::RunnerError;

/// Names of the joining graph's inputs: those of the first objects and those of the objects that follow.
const PARTS: [[&str; 3]; 2] = [["first_bank", "first_ptrs", "first_age"], ["second_bank", "second_ptrs", "second_age"]];
const OUTPUTS: [&str; 3] = ["bank_out", "ptrs_out", "age_out"];

/// Changes which objects are in a state. The graph is loaded when it is first needed.
pub struct RowGraphs {
    sizes: TensorSizes,
    settings: SessionSettings,
    runtime: &'static Runtime,
    join: Option<GraphSession>,
}

impl RowGraphs {
    /// For states of these sizes.
    pub fn new(sizes: &TensorSizes, settings: &SessionSettings, runtime: &'static Runtime) -> RowGraphs {
        RowGraphs { sizes: *sizes, settings: settings.clone(), runtime, join: None }
    }

    fn join(&mut self) -> Result<&mut GraphSession, RunnerError> {
        let join = match self.join.take() {
            Some(join) => join,
            None => {
                let model = join_model(&self.sizes);
                GraphSession::open_built("join_memories", &model, &self.settings, self.runtime)?
            }
        };
        Ok(self.join.insert(join))
    }

    /// The objects of `first`, then those of `second`, into a state with room for both.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] with ONNX Runtime's text.
    pub fn put_together(
        &mut self,
        first: &MemoryState,
        second: &MemoryState,
        into: &mut MemoryState,
    ) -> Result<(), RunnerError> {
        let graph = self.join()?;
        let mut binding = graph.binding()?;
        for (names, part) in PARTS.iter().zip([first, second]) {
            bind(&mut binding, names, part)?;
        }
        into.bind_outputs(&mut binding)?;
        graph.run(&binding)
    }
}

fn bind(binding: &mut IoBinding, names: &[&str; 3], state: &MemoryState) -> Result<(), RunnerError> {
    names.iter().zip([&state.bank, &state.ptrs, &state.age]).try_for_each(|(name, tensor)| input(binding, name, tensor))
}

/// A state tensor's axes after the first, in the order of the names.
fn rests(s: &TensorSizes) -> [Vec<i64>; 3] {
    [vec![s.frames, s.tokens, s.channels], vec![s.pointers, s.hidden], Vec::new()]
}

/// State tensors as inputs (field 11) or outputs (12) of a graph.
fn state_info(s: &TensorSizes, field: u32, names: &[&str; 3], objects: &str) -> [(u32, Vec<u8>); 3] {
    let rests = rests(s);
    std::array::from_fn(|i| {
        let first = Dimension::Dynamic(objects.to_string());
        let shape: Vec<Dimension> =
            std::iter::once(first).chain(rests[i].iter().map(|&n| Dimension::Size(n))).collect();
        (field, build::value_info_of(names[i], ElementType::F32, &shape))
    })
}

/// One Concat per state tensor. Operator set 13 and file format 7 are known to every runtime that is accepted.
fn join_model(s: &TensorSizes) -> Vec<u8> {
    let join = |i: usize| build::node("Concat", &[PARTS[0][i], PARTS[1][i]], &[OUTPUTS[i]], &[("axis", 0)]);
    let mut fields: Vec<(u32, Vec<u8>)> = (0..3).map(|i| (1, join(i))).collect();
    fields.extend(state_info(s, 11, &PARTS[0], "first"));
    fields.extend(state_info(s, 11, &PARTS[1], "second"));
    fields.extend(state_info(s, 12, &OUTPUTS, "both"));
    build::model(7, 13, &fields)
}
