//! May it be quoted? Statistics over samples, figures of a cell, repeats, what the hardware could do, the verdict, and what
//! disturbed the measurement.

pub mod change;
pub mod complete;
pub mod contest;
pub mod course;
pub mod disturbed;
pub mod interval;
pub mod leak;
pub mod levels;
pub mod limits;
pub mod noise;
pub mod outcome;
pub mod paired;
pub mod repeat;
pub mod roofline;
pub mod scale;
pub mod stats;
pub mod summary;
pub mod transfers;
mod unprompted;
pub mod verdict;
