//! How is a graph to run? The settings of a runner, read from its options, and in words for the record.

use std::path::PathBuf;

use ort::session::builder::GraphOptimizationLevel;

use super::plugin::{self, PluginHandle};
use super::providers::ProviderOptions;
use super::runtime::{Runtime, ThreadPool};
use crate::associate::Rules;
use crate::onnx::Attention;
use crate::runner::RunnerError;
use crate::types::{Device, Dtype};

/// Settings common to all graphs of a runner.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSettings {
    /// Where it runs.
    pub device: Device,
    /// The plugin library that offers the device; `None`: ONNX Runtime's own provider does.
    pub(super) ep_library: Option<PathBuf>,
    /// Precision asked for.
    pub precision: Dtype,
    /// CPU: the threads inside one operator.
    pub(super) thread_pool: ThreadPool,
    /// CPU: does one thread pool serve all graphs?
    pub(super) one_pool: bool,
    /// CPU: is the first graph loaded beside the others?
    pub(super) load_parallel: bool,
    /// CPU: are the threads beside the calling one tied to a processor each?
    pub(super) pin_threads: bool,
    /// `disable`, `basic`, `extended` or `all`.
    pub(super) optimization: Optimization,
    /// CPU: where inner values live.
    pub(super) cpu_arena: Arena,
    /// CPU: in huge pages, where they can be had?
    pub(super) huge_pages: bool,
    /// CUDA: capture and replay the kernels of graphs for which that is legal.
    pub(super) cuda_graph: bool,
    /// TensorRT: may the compiler choose other types than the file's, where it knows both?
    pub(super) weak_typing: bool,
    /// Devices without int8 kernels: may int8 graphs be computed in floats, on operands rounded to int8?
    pub(super) int8_emulated: bool,
    /// TensorRT: largest and best number of objects of the engines.
    pub(super) engine_objects: [usize; 2],
    /// Options of the providers.
    pub(super) provider_options: ProviderOptions,
    /// Most objects that run together where the graphs have an object axis; `usize::MAX`: all.
    pub(super) together: usize,
    /// Does a pixel belong to one object at most?
    pub(super) exclusive: bool,
    /// Which tracked frames change an object's memory?
    pub(super) memory: MemoryPolicy,
    /// What a tracked frame must be worth more than to change the memory, where it is gated.
    pub(super) memory_threshold: f32,
    /// Take the forms for the CPU provider?
    pub(super) cpu_forms: bool,
    /// How is attention with large weights computed?
    pub(super) attention: Attention,
    /// Are stage times taken?
    pub(super) stage_times: bool,
    /// Does a frame go to the image encoder as bytes?
    pub(super) image_as_bytes: bool,
    /// Do object scores and pointers stay on the device?
    pub(super) results_on_device: bool,
    /// May the next frame be begun beside this one?
    pub(super) pipeline: bool,
    /// The rules of a run in which a detector founds the tracks.
    pub(super) association: Rules,
    /// Score from which a query of a video segmenter is an object.
    pub(super) query_score: f64,
    /// Do the objects of a video segmenter share a frame's pixels among them?
    pub(super) panoptic: bool,
    /// Directory for the profiles of the graphs, for the placement audit.
    pub(crate) profile: Option<PathBuf>,
}

/// What is done with the next frame while this one is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextFrame {
    /// It goes through the image encoder, which has threads of its own.
    Encoded,
    /// It is resized and copied to the device.
    Copied,
    /// It is resized.
    Resized,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Optimization {
    Disable,
    Basic,
    Extended,
    All,
}

impl Optimization {
    // Never `Level3`: runtimes before 1.23 refuse it, and `All` includes it on newer ones.
    pub(super) fn level(self) -> GraphOptimizationLevel {
        match self {
            Optimization::Disable => GraphOptimizationLevel::Disable,
            Optimization::Basic => GraphOptimizationLevel::Level1,
            Optimization::Extended => GraphOptimizationLevel::Level2,
            Optimization::All => GraphOptimizationLevel::All,
        }
    }
}

/// Which tracked frames change an object's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryPolicy {
    /// All of them.
    All,
    /// Those that show the object.
    Gated,
    /// The same, and each frame sees the one before it whatever that was worth.
    GatedLast,
}

impl MemoryPolicy {
    /// The value of the option `memory`.
    pub fn as_str(self) -> &'static str {
        match self {
            MemoryPolicy::All => "all",
            MemoryPolicy::Gated => "gated",
            MemoryPolicy::GatedLast => "gated_last",
        }
    }
}

impl SessionSettings {
    /// Does a pixel belong to one object at most?
    pub fn exclusive(&self) -> bool {
        self.exclusive
    }

    /// Do the objects of a video segmenter share a frame's pixels among them?
    pub fn panoptic(&self) -> bool {
        self.panoptic
    }

    /// What a tracked frame must be worth more than to change an object's memory; `None`: every frame changes it.
    pub fn memory_threshold(&self) -> Option<f32> {
        (self.memory != MemoryPolicy::All).then_some(self.memory_threshold)
    }

    /// Which tracked frames change an object's memory.
    pub fn memory(&self) -> MemoryPolicy {
        self.memory
    }

    /// The rules of a run in which a detector founds the tracks.
    pub fn association(&self) -> &Rules {
        &self.association
    }

    /// Score from which a query of a video segmenter is an object.
    pub fn query_score(&self) -> f64 {
        self.query_score
    }

    /// How are large attentions computed?
    pub(crate) fn attention(&self) -> Attention {
        self.attention
    }

    /// Are stage times taken? They are unless the option `stage_times` says `off`.
    pub fn stage_times(&self) -> bool {
        self.stage_times
    }

    /// Does a frame go to the image encoder as 8-bit samples? Else as floats, four times as large.
    pub fn image_as_bytes(&self) -> bool {
        self.image_as_bytes
    }

    /// Do object scores and pointers stay on the device, with a small report of them for the host?
    pub fn results_on_device(&self) -> bool {
        self.results_on_device
    }

    /// Objects run one after the other, whatever was asked for.
    pub fn run_one_by_one(&mut self) {
        self.together = 1;
    }

    /// Do graphs run in their form for the CPU provider, where they have one?
    pub fn cpu_forms(&self) -> bool {
        self.cpu_forms
    }

    /// Do the graphs, which run in turn, keep their inner values in the same memory?
    pub fn graphs_share_memory(&self) -> bool {
        self.device == Device::Cpu && self.cpu_arena == Arena::Shared
    }

    /// Settings of the image encoder and of the other graphs when the next frame is encoded beside this one: the threads are
    /// shared out between the two, so that no more run than were asked for. `None`: one frame after the other.
    pub fn split(&self) -> Option<[SessionSettings; 2]> {
        let all =
            self.thread_pool.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        if !self.pipeline || self.on_gpu() || all < 2 {
            return None;
        }
        // The calling thread of either side is tied to no processor; the other threads keep theirs.
        let part = |n: usize, pinned: Option<&[usize]>, one_pool: bool| SessionSettings {
            thread_pool: ThreadPool {
                threads: Some(n),
                pinned: pinned.unwrap_or_default().to_vec(),
                ..self.thread_pool
            },
            one_pool,
            ..self.clone()
        };
        let (ahead, pinned) = (all / 2, &self.thread_pool.pinned);
        // Two graphs run at a time, so the image encoder keeps threads of its own.
        Some([part(ahead, pinned.get(..ahead - 1), false), part(all - ahead, pinned.get(ahead..), self.one_pool)])
    }

    /// What is done with the next frame beside this one; `None`: nothing. Its graph is left to its turn on a device, where graphs run one
    /// after the other anyway.
    pub fn next_frame(&self) -> Option<NextFrame> {
        match self.device {
            _ if !self.pipeline => None,
            Device::Cpu => self.split().map(|_| NextFrame::Encoded),
            // While a graph is captured, CUDA refuses copies of all threads.
            Device::Cuda(_) | Device::TensorRt(_) if !self.cuda_graph => Some(NextFrame::Copied),
            // WebGPU's provider is for one thread at a time; of a plugin's nobody knows.
            Device::Cuda(_) | Device::TensorRt(_) | Device::WebGpu(_) | Device::Plugin(..) => Some(NextFrame::Resized),
        }
    }

    /// Most objects that may run together. A TensorRT engine takes no more than it was built for; another number would
    /// mean another build in the middle of a video.
    pub fn together(&self) -> usize {
        match self.device {
            Device::TensorRt(_) => self.together.min(self.engine_objects[0]),
            _ => self.together,
        }
    }

    /// Does the runtime's thread pool run the graphs? Only if it is what these settings ask for.
    pub(super) fn shares(&self, runtime: &Runtime) -> bool {
        self.one_pool && runtime.thread_pool.as_ref() == Some(&self.thread_pool)
    }

    /// The plugin's device that the graphs run on; its library is loaded into the runtime. `None`: a provider of the runtime's own.
    ///
    /// # Errors
    /// As [`plugin::handle`].
    pub(super) fn plugin(&self, runtime: &Runtime) -> Result<Option<PluginHandle>, RunnerError> {
        self.ep_library.as_deref().map(|library| plugin::handle(runtime, library, self.device)).transpose()
    }

    /// Does the graph run on a GPU?
    pub fn on_gpu(&self) -> bool {
        self.device != Device::Cpu
    }

    /// Every setting in effect, in words, for the record.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!("graph optimisation: {:?}", self.optimization).to_lowercase()];
        match self.device {
            Device::Cpu => {
                notes.push(match self.thread_pool.threads {
                    Some(n) => format!("threads: {n}"),
                    None => "threads: ONNX Runtime's default (all physical cores)".to_string(),
                });
                notes.push(format!("spinning: {}", if self.thread_pool.spinning { "on" } else { "off" }));
                if !self.thread_pool.pinned.is_empty() {
                    let list: Vec<String> = self.thread_pool.pinned.iter().map(usize::to_string).collect();
                    notes.push(format!("threads beside the calling one: tied to processors {}", list.join(", ")));
                }
            }
            Device::Cuda(_) | Device::WebGpu(_) | Device::Plugin(..) => {
                notes.push("no operator may run on the CPU".to_string())
            }
            Device::TensorRt(_) => notes
                .push("operators that TensorRT does not take run on the CUDA provider, none on the CPU".to_string()),
        }
        if self.pipeline {
            let threads = |part: SessionSettings| part.thread_pool.threads.unwrap_or_default();
            notes.push(match (self.next_frame(), self.split().map(|parts| parts.map(threads))) {
                (Some(NextFrame::Copied), _) => "pipeline: the next frame is resized and copied to the device beside this one".into(),
                (Some(NextFrame::Resized), _) => "pipeline: the next frame is resized beside this one".into(),
                (Some(NextFrame::Encoded), Some([ahead, rest])) => format!(
                    "pipeline: the next frame is encoded beside this one; threads: {ahead} for the image encoder, {rest} for \
                     the other graphs"
                ),
                _ => "pipeline: off, because there is only one thread".to_string(),
            });
        }
        if let Some(threshold) = self.memory_threshold() {
            let last = match self.memory {
                MemoryPolicy::GatedLast => ", but the last frame is always seen",
                _ => "",
            };
            notes.push(format!(
                "memory: {}; tracked frames with max(0, 2σ(object score) - 1) × IoU of at most {threshold} leave it as it was{last}",
                self.memory.as_str()
            ));
        }
        if !self.stage_times {
            notes.push("stage times: off".to_string());
        }
        if self.device == Device::Cpu {
            notes.push(format!("CPU memory arena: {}", self.cpu_arena.text()));
        }
        notes
    }
}

/// Where a CPU session keeps the inner values of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arena {
    /// In one pool of the process. Graphs that run in turn use the same memory.
    Shared,
    /// In a pool of each graph's own, which is ONNX Runtime's default.
    Own,
    /// In memory that is asked for and given back every time.
    Off,
}

impl Arena {
    fn text(self) -> &'static str {
        match self {
            Arena::Shared => "one for all graphs",
            Arena::Own => "one for each graph",
            Arena::Off => "off",
        }
    }
}
