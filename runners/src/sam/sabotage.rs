//! What must a comparison with reference outputs notice? Damage that unit tests do to the state.

use super::contract::TensorSizes;
use super::state::MemoryState;

/// Damage done to an object's state after every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The memory slot with this index changes its sign.
    NegateSlot(usize),
    /// The object pointer with this index becomes zero.
    ZeroPointer(usize),
    /// The age stays at 1: all but the conditioning frame are taken for missing, temporal positions stand still.
    FreezeAge,
}

impl Sabotage {
    /// Damages the state of `objects` objects, in host memory.
    pub fn apply(self, memory: &mut MemoryState, objects: usize, sizes: &TensorSizes) {
        let slot = |values: &mut [f32], index: usize, slots: i64, change: fn(&mut f32)| {
            let length = values.len() / objects / slots as usize;
            for object in values.chunks_exact_mut(length * slots as usize) {
                object.iter_mut().skip(index * length).take(length).for_each(change);
            }
        };
        match self {
            Sabotage::NegateSlot(i) => slot(memory.bank.extract_tensor_mut().1, i, sizes.frames, |v| *v = -*v),
            Sabotage::ZeroPointer(i) => slot(memory.ptrs.extract_tensor_mut().1, i, sizes.pointers, |v| *v = 0.0),
            Sabotage::FreezeAge => memory.age.extract_tensor_mut().1.fill(1.0),
        }
    }
}
