//! What can be said about a pack beside its speed? What it costs, how fast it could be, where its operators run, and
//! whether it computes what PyTorch computes.

pub mod audit;
pub mod chains;
mod compare;
mod cost;
pub mod detections;
pub mod embeddings;
mod evidence;
pub mod frames;
pub mod golden;
pub mod inspect;
mod limits;
mod observe;
mod reference;
pub mod roofline;
pub mod tubes;
pub mod whole;
