//! How do objects come into a batch and leave it? The rows of states are put behind each other, or some of them taken out, by small
//! graphs on the device where the states are.

use ort::session::IoBinding;
use ort::value::Tensor;

use super::contract::TensorSizes;
use super::state::MemoryState;
use crate::host::runtime::Runtime;
use crate::host::session::{GraphSession, failed};
use crate::host::settings::SessionSettings;
use crate::host::tensor::input;
use crate::onnx::{Dimension, ElementType, build};
use crate::runner::RunnerError;

/// Name of the graph that takes rows out.
pub const KEEP: &str = "keep_memories";
/// Its input that says which.
pub const ROWS: &str = "rows";
/// Names of the joining graph's inputs: those of the first objects and those of the objects that follow.
const PARTS: [[&str; 3]; 2] = [["first_bank", "first_ptrs", "first_age"], ["second_bank", "second_ptrs", "second_age"]];
/// Names of the other graph's inputs.
const WHOLE: [&str; 3] = ["bank", "ptrs", "age"];
const OUTPUTS: [&str; 3] = ["bank_out", "ptrs_out", "age_out"];

/// Changes which objects are in a state. Each graph is loaded when it is first needed.
pub struct RowGraphs {
    sizes: TensorSizes,
    settings: SessionSettings,
    runtime: &'static Runtime,
    join: Option<GraphSession>,
    keep: Option<GraphSession>,
}

impl RowGraphs {
    /// For states of these sizes.
    pub fn new(sizes: &TensorSizes, settings: &SessionSettings, runtime: &'static Runtime) -> RowGraphs {
        RowGraphs { sizes: *sizes, settings: settings.clone(), runtime, join: None, keep: None }
    }

    /// Loads both graphs.
    ///
    /// # Errors
    /// As [`GraphSession::open_built`].
    pub fn load(&mut self) -> Result<(), RunnerError> {
        self.join()?;
        self.keep().map(drop)
    }

    /// Those of its graphs that are loaded.
    pub fn graphs(&mut self) -> impl Iterator<Item = &mut GraphSession> {
        self.join.iter_mut().chain(&mut self.keep)
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

    fn keep(&mut self) -> Result<&mut GraphSession, RunnerError> {
        let keep = match self.keep.take() {
            Some(keep) => keep,
            None => GraphSession::open_built(KEEP, &keep_model(&self.sizes), &self.settings, self.runtime)?,
        };
        Ok(self.keep.insert(keep))
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

    /// Those objects of `all` that `rows` names (a tensor on the host), into a state with room for them.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] with ONNX Runtime's text.
    pub fn take_out(
        &mut self,
        all: &MemoryState,
        rows: &Tensor<i32>,
        into: &mut MemoryState,
    ) -> Result<(), RunnerError> {
        let graph = self.keep()?;
        let mut binding = graph.binding()?;
        bind(&mut binding, &WHOLE, all)?;
        binding.bind_input(ROWS, rows).map_err(|e| failed(KEEP, format!("cannot bind input `{ROWS}`: {e}")))?;
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

/// One Gather per state tensor.
fn keep_model(s: &TensorSizes) -> Vec<u8> {
    let keep = |i: usize| build::node("Gather", &[WHOLE[i], ROWS], &[OUTPUTS[i]], &[("axis", 0)]);
    let mut fields: Vec<(u32, Vec<u8>)> = (0..3).map(|i| (1, keep(i))).collect();
    fields.extend(state_info(s, 11, &WHOLE, "all"));
    let rows = [Dimension::Dynamic("kept".to_string())];
    fields.push((11, build::value_info_of(ROWS, ElementType::I32, &rows)));
    fields.extend(state_info(s, 12, &OUTPUTS, "kept"));
    build::model(7, 13, &fields)
}
