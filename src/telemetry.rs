//! What does the machine say? While a worker runs, one sensor per source is read, each in its own file, each given the root
//! of the file tree, so that a captured tree of any board tests it anywhere. A source that is not there, or dies on the
//! way, is named with its reason; it never reads as 0 and never as "all is well". Figures of different sources are never
//! added up. What machine it is, is said by [`device`]; who else uses it, by [`rivals`].
//!
//! The readers are ours where a root must be given, and where one file gives several figures at one moment (`status`:
//! resident set, its high-water mark, swap). `sysinfo` can do neither; it reads what exists on the live machine only, the
//! list of processes.

pub mod allowance;
pub mod cpu;
pub mod device;
pub mod fan;
mod find;
pub mod gpu;
pub mod key;
pub mod memory;
pub mod mode;
pub mod nvml;
pub mod power;
pub mod process;
pub mod rivals;
pub mod sampler;
pub mod sensor;
pub mod series;
pub mod tegrastats;
pub mod thermal;

pub use find::find;
pub use key::Channel;
pub use memory::{SystemMemory, system_memory};
pub use mode::power_mode;
pub use process::{process_memory, resident_mib};
pub use sampler::{DEFAULT_HZ, Recorder, Sampler, now_ns, rate};
#[cfg(test)]
pub(crate) use sensor::tree;
pub use sensor::{Found, Reading, Sensor, is_tegra};
pub use series::{PHASE, Sample, Span, Telemetry};
