//! May it be quoted? Statistics over samples, figures of a cell, repeats, limits of the hardware, and the verdict.

pub mod change;
pub mod complete;
pub mod limits;
pub mod noise;
pub mod outcome;
pub mod repeat;
pub mod stats;
pub mod summary;
pub mod transfers;
pub mod verdict;
