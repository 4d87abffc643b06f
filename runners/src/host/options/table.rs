//! The table of options. A new option is one entry here and the code that reads the field which it sets.

use super::DeviceKind::{Cpu, Cuda, Plugin, TensorRt, WebGpu};
use super::ProviderValue::{Mib, Number, Switch, Text, Word};
use super::ValueType::{Decimal, Numbers, Passed, Words, WordsOrNumber};
use super::{DeviceKind, PackNeed, ProviderValue, RunnerOption, ValueType};
use crate::host::providers::Provider;
use crate::host::settings::{Arena, MemoryPolicy, Optimization};
use crate::onnx::Attention;

const SAM_FAMILIES: &[&str] = &["sam2", "edgetam", "efficienttam", "sam3_tracker"];
const EVERY: &[DeviceKind] = &[Cpu, Cuda, TensorRt, WebGpu, Plugin];
const ON_CPU: &[DeviceKind] = &[Cpu];
const ON_TENSORRT: &[DeviceKind] = &[TensorRt];
/// What ONNX Runtime does by itself: it is told nothing.
const THEIRS: &str = "ONNX Runtime's own";

const fn option(
    name: &'static str,
    devices: &'static [DeviceKind],
    default: &'static str,
    help: &'static str,
    value: ValueType,
) -> RunnerOption {
    RunnerOption { name, value, devices, families: &[], needs: PackNeed::Nothing, default, help, doc: "" }
}

/// A rule of runs in which a detector founds the tracks; see `associate`.
const fn rule(name: &'static str, default: &'static str, help: &'static str, value: ValueType) -> RunnerOption {
    RunnerOption { families: SAM_FAMILIES, needs: PackNeed::Detector, ..option(name, EVERY, default, help, value) }
}

/// An option of the CUDA provider, which TensorRT falls back to; names and meanings are those of
/// onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html.
const fn cuda(name: &'static str, key: &'static str, value: ProviderValue, help: &'static str) -> RunnerOption {
    option(name, &[Cuda, TensorRt], THEIRS, help, Passed(Provider::Cuda, key, value))
}

/// An option of the TensorRT provider; names and meanings are those of
/// onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html.
const fn trt(name: &'static str, value: ProviderValue, help: &'static str) -> RunnerOption {
    option(name, ON_TENSORRT, THEIRS, help, Passed(Provider::TensorRt, name, value))
}

/// An option of the WebGPU provider; names and meanings are those of `webgpu_provider_options.h` in ONNX Runtime.
const fn webgpu(name: &'static str, key: &'static str, value: ProviderValue, help: &'static str) -> RunnerOption {
    option(name, &[WebGpu], THEIRS, help, Passed(Provider::WebGpu, key, value))
}

/// Every option, in the order in which lists show them.
pub const TABLE: &[RunnerOption] = &[
    RunnerOption {
        families: SAM_FAMILIES,
        needs: PackNeed::ObjectAxis,
        doc: "Packs whose graphs have an object axis track all objects of a video as one batch, with one image encoding per \
              frame. `loop` runs them one after the other, a number in batches of at most so many, which takes less memory. \
              In fp32 the masks are the same; with rounded operands a pixel at the rim may differ between `loop` and a batch, \
              because other kernels are chosen.",
        ..option(
            "objects",
            EVERY,
            "batch",
            "Objects that run together: all, one after the other, at most N",
            WordsOrNumber(
                &[("batch", |s| s.together = usize::MAX), ("loop", |s| s.together = 1)],
                (1, 65_536),
                |s, n| s.together = n,
            ),
        )
    },
    RunnerOption {
        doc: "`exclusive` gives a pixel that several objects claim to the one with the highest logit, as SAM 2's own \
              evaluation does. It is the default where the truth is kept in label maps, because there a pixel belongs to one \
              object at most, and in runs without prompts; there `keep` makes average precision one of whole masks. Video \
              segmenters have other orders: of VidEoMT the last query wins, of DVIS-DAQ the eldest track.",
        ..option(
            "overlaps",
            EVERY,
            "keep, for label maps and without prompts exclusive",
            "What becomes of a pixel that several objects claim",
            Words(&[("keep", |s| s.exclusive = false), ("exclusive", |s| s.exclusive = true)]),
        )
    },
    RunnerOption {
        families: SAM_FAMILIES,
        doc: "`all` is SAM 2's own rule: every frame goes into the memory, those without the object too. With `gated`, a tracked frame \
              whose max(0, 2σ(object score) − 1) × predicted IoU is at most `memory_threshold` leaves the object's memory (bank, pointers, \
              age) as it was; a prompted frame always changes it. `gated_last` is SAM 3's rule: memories as with `gated`, and each frame also sees the frame \
              before it, even one that was not remembered; it takes a third set of memories. The \
              choice is made per object on the device, in the graph that writes the memory, and no weight changes. \
              With the CPU form of a pack's graphs, which takes objects of one age together, objects then run one after the other. \
              Figures: [performance.md](performance.md#memory-policies).",
        ..option(
            "memory",
            EVERY,
            "all",
            "Which tracked frames change the memory: all, those that show the object, or those and the last",
            Words(&[
                ("all", |s| s.memory = MemoryPolicy::All),
                ("gated", |s| s.memory = MemoryPolicy::Gated),
                ("gated_last", |s| s.memory = MemoryPolicy::GatedLast),
            ]),
        )
    },
    RunnerOption {
        families: SAM_FAMILIES,
        doc: "Only beside `memory=gated`.",
        ..option(
            "memory_threshold",
            EVERY,
            "0.01",
            "The value above which a tracked frame changes a gated memory",
            Decimal((0, 1), |s, threshold| s.memory_threshold = threshold as f32),
        )
    },
    RunnerOption {
        doc: "`cargo bench --bench overhead` measures what stage times and telemetry cost: +0.28 % of a frame's time (95 % \
              interval -0.24 to +0.68, bare against bare +0.06 %) on two cores, `edgetam_mini`: no cost that could be told \
              from noise.",
        ..option(
            "stage_times",
            EVERY,
            "on",
            "Take the time of each stage of a frame",
            Words(&[("on", |s| s.stage_times = true), ("off", |s| s.stage_times = false)]),
        )
    },
    RunnerOption {
        families: SAM_FAMILIES,
        doc: "As bytes a frame is a quarter as large on its way to the device, where the encoder's graph looks each sample up in a \
              table of its channel: the masks are the same to the bit. The graph is changed in memory, the pack's file stays as it is.",
        ..option(
            "image",
            EVERY,
            "bytes on cuda and tensorrt, else floats",
            "How a frame goes to the image encoder",
            Words(&[("bytes", |s| s.image_as_bytes = true), ("floats", |s| s.image_as_bytes = false)]),
        )
    },
    RunnerOption {
        families: SAM_FAMILIES,
        doc: "On the device, one small tensor per frame tells the host what it checks: score, predicted IoU, and whether the pointer \
              is finite. On the host they go down and up again on every frame. The masks are the same. Of a \
              detector beside it (layout `raw`), on the device only the rows with the highest logits come down, as many as \
              `max_tracks`; all of them on frames where as many or more count, or where a number is not finite, and always where \
              picking saves no bytes. The detections are the same.",
        ..option(
            "results",
            EVERY,
            "device, on the cpu host",
            "Where object scores and pointers lie between the graphs, and a detector's rows are picked",
            Words(&[("device", |s| s.results_on_device = true), ("host", |s| s.results_on_device = false)]),
        )
    },
    RunnerOption {
        doc: "`whole` writes out the weights of all queries, as the files do: 0.5 GB in fp32 for one object of SAM 2.1 at 1024 px. \
              `fused` takes ONNX Runtime's own operator, which never holds them all (cuda, and fp32 on the cpu). `onnx` takes ONNX's own \
              `Attention` (opset 23): in fp16 and bf16 on tensorrt, from TensorRT 10.14 and ONNX Runtime 1.23 on, and on devices of plugin libraries. \
              TensorRT for RTX builds such graphs; nothing has run them but the cpu, where `onnx` only proves the changed graph, and needs more memory \
              than `whole`. A number computes so many queries \
              at a time with the operators of the file, on every device. `fused` and `onnx` change attentions of 65536 weights or \
              more, `onnx` only where heads have at most 256 channels, a multiple of 8, and the graph has opset 18 to 23, a number those with more queries than that; on the cpu in fp32 the packs' own form is fused already. The \
              graph is changed in memory, the pack's file stays as \
              it is, and the record says what was changed. Figures: [gpu.md](gpu.md#attention).",
        ..option(
            "attention",
            EVERY,
            "fused on cuda, 512 on webgpu, else whole",
            "How large attentions are computed: as in the file, fused, by ONNX's own operator, or N queries at a time",
            WordsOrNumber(
                &[
                    ("whole", |s| s.attention = Attention::Whole),
                    ("fused", |s| s.attention = Attention::Fused),
                    ("onnx", |s| s.attention = Attention::Standard { spread: false }),
                ],
                (16, 65_536),
                |s, n| s.attention = Attention::Strips(n),
            ),
        )
    },
    RunnerOption {
        doc: "All rules: [detector_tracker.md](detector_tracker.md). Times are in frames, whatever this number is.",
        ..rule(
            "detect_every",
            "5",
            "Frames from one look of the detector to the next",
            Numbers((1, 1_000_000), |s, n| s.association.detect_every = n as u32),
        )
    },
    RunnerOption {
        families: &["videomt"],
        doc: "VidEoMT: a query is an object on a frame where the probability of its best class times the mean probability of its mask's \
              pixels is at least this, as in the instance segmentation of transformers.",
        ..option(
            super::QUERY_SCORE,
            EVERY,
            "0.5",
            "Score from which a query of a video segmenter is an object",
            Decimal((0, 1), |s, score| s.query_score = score),
        )
    },
    RunnerOption {
        families: &["videomt", "dvis_daq"],
        doc: "`on`: panoptic segments. Every pixel of a frame belongs to one object at most, the one with the largest product of score and mask \
              probability, and an object that wins too little of its own mask gets no segment. `[segmenter.panoptic]` of the pack has the \
              limits and says which classes are stuff; `overlaps=keep` and `query_score` cannot be combined with it. \
              `--save-masks=vipseg` writes the segments as VIPSeg's evaluators read them: \
              [video_segmenter.md](video_segmenter.md#panoptic-segments).",
        ..option(
            "panoptic",
            EVERY,
            "off",
            "Whether a pixel belongs to one object of a video segmenter at most, by score and mask probability",
            Words(&[("off", |s| s.panoptic = false), ("on", |s| s.panoptic = true)]),
        )
    },
    rule(
        "detect_score",
        "0.4",
        "Score from which a detection counts",
        Decimal((0, 1), |s, score| s.association.detect_score = score),
    ),
    rule(
        "new_score",
        "0.5",
        "Score from which a detection may found a track",
        Decimal((0, 1), |s, score| s.association.new_score = score),
    ),
    rule(
        "nms_iou",
        "0.7",
        "Box IoU with a better detection above which a detection is dropped",
        Decimal((0, 1), |s, iou| s.association.nms_iou = iou),
    ),
    rule(
        "match_iou",
        "0.5",
        "Least box IoU at which a detection and a track count as the same object",
        Decimal((0, 1), |s, iou| s.association.match_iou = iou),
    ),
    rule(
        "dup_iou",
        "0.7",
        "Least mask IoU with a live track at which a new track is refused",
        Decimal((0, 1), |s, iou| s.association.dup_iou = iou),
    ),
    rule(
        "probation",
        "15",
        "Frames after a track's birth in which half of the detector's looks must support it",
        Numbers((0, 1_000_000), |s, n| s.association.probation = n as u32),
    ),
    rule(
        "keep_alive",
        "30",
        "Frames without support after which a confirmed track ends",
        Numbers((1, 1_000_000), |s, n| s.association.keep_alive = n as u32),
    ),
    rule(
        "max_absent",
        "30",
        "Frames in a row with an empty mask after which a track ends",
        Numbers((1, 1_000_000), |s, n| s.association.max_absent = n as u32),
    ),
    rule(
        super::MAX_TRACKS,
        "20",
        "Most tracks alive at a time",
        Numbers((1, 1000), |s, n| s.association.max_tracks = n as u32),
    ),
    option(
        "optimization",
        EVERY,
        "all",
        "How far ONNX Runtime optimises the graphs",
        Words(&[
            ("disable", |s| s.optimization = Optimization::Disable),
            ("basic", |s| s.optimization = Optimization::Basic),
            ("extended", |s| s.optimization = Optimization::Extended),
            ("all", |s| s.optimization = Optimization::All),
        ]),
    ),
    RunnerOption {
        doc: "The same as `--threads`.",
        ..option(
            "threads",
            ON_CPU,
            "all physical cores",
            "Threads inside one operator",
            Numbers((1, 1024), |s, n| s.thread_pool.threads = Some(n)),
        )
    },
    RunnerOption {
        doc: "Spinning threads take processor time from everything else, the harness included.",
        ..option(
            "spinning",
            ON_CPU,
            "false",
            "Let idle ONNX Runtime threads spin instead of sleep",
            Words(&[("true", |s| s.thread_pool.spinning = true), ("false", |s| s.thread_pool.spinning = false)]),
        )
    },
    RunnerOption {
        doc: "Needs `--threads N`. The calling thread is left alone, because the decoder's thread would inherit its place.",
        ..option(
            "pin_threads",
            ON_CPU,
            "off",
            "Tie the threads beside the calling one to one processor each",
            Words(&[("on", |s| s.pin_threads = true), ("off", |s| s.pin_threads = false)]),
        )
    },
    RunnerOption {
        doc: "The graphs of a pack run in turn and share one pool of threads; where no `--threads` is given either, ONNX \
              Runtime ties the threads of a pool of a graph's own to cores. Figures: [performance.md](performance.md#threads).",
        ..option(
            "thread_pool",
            ON_CPU,
            "shared",
            "One pool of threads for all graphs, or one for each",
            Words(&[("shared", |s| s.one_pool = true), ("own", |s| s.one_pool = false)]),
        )
    },
    RunnerOption {
        doc: "`parallel` loads the image encoder beside the other graphs, so that their load times overlap; `serial` loads one \
              after the other. Figures: [performance.md](performance.md#start-up).",
        ..option(
            "load",
            ON_CPU,
            "parallel",
            "Load the image encoder beside the other graphs or in turn",
            Words(&[("parallel", |s| s.load_parallel = true), ("serial", |s| s.load_parallel = false)]),
        )
    },
    RunnerOption {
        doc: "`own` gives each graph a pool of its own, `off` none. Figures: [performance.md](performance.md#memory-of-a-run).",
        ..option(
            "cpu_arena",
            ON_CPU,
            "shared",
            "Memory for inner values: one pool, one per graph, or none",
            Words(&[
                ("shared", |s| s.cpu_arena = Arena::Shared),
                ("own", |s| s.cpu_arena = Arena::Own),
                ("off", |s| s.cpu_arena = Arena::Off),
            ]),
        )
    },
    RunnerOption {
        doc: "Takes a tenth to a fifth off a frame at 1024 px. The record says what became of it, and `jetbench doctor` names \
              the kernel's setting. On a device whose setting changed, figures are of another device digest. Figures: \
              [performance.md](performance.md#huge-pages).",
        ..option(
            "huge_pages",
            ON_CPU,
            "on",
            "Ask for huge pages for the shared pool of memory",
            Words(&[("on", |s| s.huge_pages = true), ("off", |s| s.huge_pages = false)]),
        )
    },
    RunnerOption {
        needs: PackNeed::CpuForm,
        doc: "In fp32 a pack's graphs run in their form for ONNX Runtime's CPU provider (fused attention) where they have one; \
              `plain` takes the form for all providers. Other precisions have the plain form only. Figures: \
              [performance.md](performance.md#the-graphs).",
        ..option(
            "form",
            ON_CPU,
            "cpu in fp32, else plain",
            "Form of the graphs: for the CPU provider or for all",
            Words(&[("cpu", |s| s.cpu_forms = true), ("plain", |s| s.cpu_forms = false)]),
        )
    },
    RunnerOption {
        families: SAM_FAMILIES,
        doc: "Only in the scenario `offline`. On a CPU the next frame goes through the image encoder meanwhile; that is the default for packs of \
              small input (256 px), because small operators leave a second thread idle, and large ones do not. The threads are shared out \
              between the image encoder and the other graphs. On a GPU a thread of its own resizes the next frame, and on CUDA and TensorRT \
              copies it to the device (not beside `cuda_graph=true`). Masks are the same to the bit (tested on CPU and WebGPU). A latency \
              counts from when the frame was handed over, which is before the frame in front of it is done: it comes near to the time of \
              two frames, and `fps_model` stays empty; compare `fps_wall`. Figures: [performance.md](performance.md#offline-the-next-frame-beside-this-one).",
        ..option(
            "pipeline",
            EVERY,
            "on for small input in offline on a CPU, else off",
            "Begin the next frame beside this one (scenario offline)",
            Words(&[("on", |s| s.pipeline = true), ("off", |s| s.pipeline = false)]),
        )
    },
    RunnerOption {
        doc: "Given only to graphs for which it is legal: all inputs on the device, fixed shapes (`objects=loop` fixes them). The \
              record says for each graph whether it was captured.",
        ..option(
            "cuda_graph",
            &[Cuda],
            "false",
            "Capture the kernels of a graph once and replay them",
            Words(&[("true", |s| s.cuda_graph = true), ("false", |s| s.cuda_graph = false)]),
        )
    },
    RunnerOption {
        doc: "More objects run in batches of so many: another size would mean another build in the middle of a video.",
        ..option(
            "max_objects",
            ON_TENSORRT,
            "8",
            "Most objects in one batch of a TensorRT engine",
            Numbers((1, 1024), |s, n| s.engine_objects[0] = n),
        )
    },
    option(
        "opt_objects",
        ON_TENSORRT,
        "1",
        "Objects that a TensorRT engine is tuned for, at most max_objects",
        Numbers((1, 1024), |s, n| s.engine_objects[1] = n),
    ),
    RunnerOption {
        default: "false",
        doc: "Off by default, because fp32 means fp32; the record says where it is on.",
        ..cuda("tf32", "use_tf32", Switch, "Let fp32 products be computed in TF32")
    },
    cuda("cudnn_conv_algo_search", "cudnn_conv_algo_search", SEARCH, "How convolution kernels are chosen"),
    cuda(
        "cudnn_conv_use_max_workspace",
        "cudnn_conv_use_max_workspace",
        Switch,
        "Let cuDNN use as much workspace as it likes",
    ),
    cuda(
        "cudnn_conv1d_pad_to_nc1d",
        "cudnn_conv1d_pad_to_nc1d",
        Switch,
        "Pad 1-D convolutions to [N,C,1,D] instead of [N,C,D,1]",
    ),
    cuda("cuda_mem_limit_mib", "gpu_mem_limit", Mib, "Most device memory of ONNX Runtime's arena, MiB"),
    cuda("cuda_arena_extend_strategy", "arena_extend_strategy", ARENA, "How that arena grows"),
    cuda("cuda_copy_in_default_stream", "do_copy_in_default_stream", Switch, "Copy in the stream that computes"),
    cuda("cuda_unified_stream", "use_ep_level_unified_stream", Switch, "One stream for the whole provider"),
    cuda("cuda_prefer_nhwc", "prefer_nhwc", Switch, "Prefer operators with channels last"),
    cuda("cuda_fuse_conv_bias", "fuse_conv_bias", Switch, "Fuse a convolution's bias into its kernel"),
    cuda(
        "cuda_skip_layer_norm_strict_mode",
        "enable_skip_layer_norm_strict_mode",
        Switch,
        "SkipLayerNormalization with better accuracy, slower",
    ),
    cuda("cuda_sdpa_kernel", "sdpa_kernel", Number(0, 255), "Attention kernels that may be used, a bit each"),
    cuda("cuda_tunable_op", "tunable_op_enable", Switch, "Use tunable operators"),
    cuda("cuda_tunable_op_tuning", "tunable_op_tuning_enable", Switch, "Tune them while running"),
    cuda(
        "cuda_tunable_op_max_tuning_ms",
        "tunable_op_max_tuning_duration_ms",
        Number(0, i32::MAX as i64),
        "Longest tuning of one of them, ms",
    ),
    option(
        "trt_workspace_mib",
        ON_TENSORRT,
        THEIRS,
        "Most scratch memory of an engine, MiB",
        Passed(Provider::TensorRt, "trt_max_workspace_size", Mib),
    ),
    RunnerOption {
        doc: "Engines are strongly typed: every layer has the types of the graph. `on` lets the compiler choose fp32 or the precision asked \
              for, layer by layer and by timing, as most TensorRT figures elsewhere are made; the record's precision is then `doubtful`. \
              TensorRT 9 and 10 only: 8 types weakly anyway, 11 and newer and TensorRT for RTX strongly. Not in fp32.",
        ..option(
            "trt_weak",
            ON_TENSORRT,
            "off",
            "Let TensorRT choose other types than the graph's",
            Words(&[("on", |s| s.weak_typing = true), ("off", |s| s.weak_typing = false)]),
        )
    },
    RunnerOption {
        doc: "ONNX Runtime's CUDA and WebGPU providers have no int8 kernels for such graphs: they would round the operands and compute in floats. So `--dtype int8` \
              is refused there, unless this asks for it; accuracy is then that of int8, speed is not, and the record's precision is `emulated`.",
        ..option(
            "int8",
            &[Cuda, WebGpu],
            "native",
            "Compute int8 graphs in floats, on rounded operands",
            Words(&[("emulated", |s| s.int8_emulated = true), ("native", |s| s.int8_emulated = false)]),
        )
    },
    trt("trt_builder_optimization_level", Number(0, 5), "How long the builder looks for fast kernels"),
    trt("trt_min_subgraph_size", Number(1, 1 << 20), "Fewest operators that TensorRT takes at a time"),
    trt("trt_max_partition_iterations", Number(1, 1 << 20), "Most rounds of dividing a graph"),
    RunnerOption { default: "true", ..trt("trt_engine_cache_enable", Switch, "Keep engines for the next run") },
    RunnerOption { default: "true", ..trt("trt_timing_cache_enable", Switch, "Keep kernel times for the next build") },
    trt("trt_force_timing_cache", Switch, "Use kept times also where the GPU does not match"),
    trt("trt_force_sequential_engine_build", Switch, "Build engines one after the other"),
    trt("trt_context_memory_sharing_enable", Switch, "Share scratch memory between engines"),
    trt("trt_layer_norm_fp32_fallback", Switch, "Compute layer normalisation's Pow and ReduceMean in fp32"),
    trt("trt_build_heuristics_enable", Switch, "Choose kernels by rule to build faster"),
    trt("trt_sparsity_enable", Switch, "Use sparse weights where there are any"),
    trt("trt_auxiliary_streams", Number(-1, 64), "Streams beside the main one; -1: by rule, 0: least memory"),
    trt("trt_tactic_sources", Text, "Libraries that kernels may come from, as in +CUDNN,-CUBLAS"),
    trt("trt_preview_features", Text, "TensorRT's preview features to use"),
    trt("trt_op_types_to_exclude", Text, "Operators that TensorRT must not take"),
    trt("trt_extra_plugin_lib_paths", Text, "Libraries of plug-ins to load"),
    trt("trt_engine_hw_compatible", Switch, "Build engines for every GPU from Ampere on"),
    trt("trt_weight_stripped_engine_enable", Switch, "Build engines without weights"),
    trt("trt_detailed_build_log", Switch, "Log every step of a build"),
    trt("trt_dump_subgraphs", Switch, "Write what TensorRT takes as ONNX files"),
    RunnerOption {
        doc: "`high` asks for the faster of several GPUs, which is what ONNX Runtime does by itself; `low` for the one that takes \
              less power. Which one the driver then gives cannot be chosen by number: see [usage.md](usage.md#webgpu).",
        ..webgpu("webgpu_power", "powerPreference", POWER, "Which of several GPUs to request")
    },
    webgpu("webgpu_layout", "preferredLayout", LAYOUT, "Layout of images in convolutions"),
    RunnerOption {
        doc: "`disabled` gives memory back at once, `bucket` keeps the most for the next use.",
        ..webgpu("webgpu_buffer_cache", "storageBufferCacheMode", BUFFERS, "How device memory is kept for the next use")
    },
    webgpu("webgpu_validation", "validationMode", VALIDATION, "How much of each call is checked"),
];

const POWER: ProviderValue = Word(&[("high", "high-performance"), ("low", "low-power")]);
const LAYOUT: ProviderValue = Word(&[("nchw", "NCHW"), ("nhwc", "NHWC")]);
const BUFFERS: ProviderValue =
    Word(&[("disabled", "disabled"), ("lazy_release", "lazyRelease"), ("simple", "simple"), ("bucket", "bucket")]);
const VALIDATION: ProviderValue =
    Word(&[("disabled", "disabled"), ("wgpu_only", "wgpuOnly"), ("basic", "basic"), ("full", "full")]);

const SEARCH: ProviderValue = Word(&[("exhaustive", "EXHAUSTIVE"), ("heuristic", "HEURISTIC"), ("default", "DEFAULT")]);
const ARENA: ProviderValue = Word(&[("power_of_two", "kNextPowerOfTwo"), ("as_requested", "kSameAsRequested")]);

const FLAG: &str = "not offered: it would let TensorRT choose other types than the graph's; --dtype chooses the graph, and trt_weak=on \
                    allows the choice where TensorRT has one";

/// Options whose value names libraries that are loaded: a record's are not taken over unasked.
pub(super) const LOAD_LIBRARIES: &[&str] = &["trt_extra_plugin_lib_paths"];

/// Options that exist and are never passed on, each with its reason.
pub const REFUSED: &[(&str, &str)] = &[
    (
        "trt_dla_enable",
        "refused: the DLA computes in fp16 and int8 only and has no MatMul of two activations, no LayerNormalization and \
         no Softmax as these graphs need them; what it cannot take would run on the GPU unseen, and an Orin Nano has none",
    ),
    ("trt_dla_core", "refused: the DLA is not used (see trt_dla_enable)"),
    (
        "trt_int8_enable",
        "refused: it types a network weakly, and a record could not say what was computed in int8; --dtype int8 runs graphs that are \
         quantised explicitly",
    ),
    ("trt_int8_calibration_table_name", "refused: scales are in the graphs of --dtype int8 (see trt_int8_enable)"),
    (
        "trt_int8_use_native_calibration_table",
        "refused: scales are in the graphs of --dtype int8 (see trt_int8_enable)",
    ),
    ("trt_fp16_enable", FLAG),
    ("trt_bf16_enable", FLAG),
    ("trt_engine_cache_path", "set by jetbench: the directory is keyed by graph, versions, device and precision"),
    ("trt_timing_cache_path", "set by jetbench: the directory is keyed by versions and device"),
    ("trt_engine_cache_prefix", "set by jetbench: the directory is the key"),
    ("trt_profile_min_shapes", "set by jetbench from the graph and from max_objects"),
    ("trt_profile_opt_shapes", "set by jetbench from the graph and from opt_objects"),
    ("trt_profile_max_shapes", "set by jetbench from the graph and from max_objects"),
    ("trt_dump_ep_context_model", "not offered: engines are cached by trt_engine_cache_enable"),
    ("trt_ep_context_file_path", "not offered: engines are cached by trt_engine_cache_enable"),
    ("trt_ep_context_embed_mode", "not offered: engines are cached by trt_engine_cache_enable"),
    ("trt_engine_decryption_enable", "not offered: packs are not encrypted"),
    ("trt_engine_decryption_lib_path", "not offered: packs are not encrypted"),
    ("trt_onnx_model_folder_path", "not offered: weights are in the graph files"),
    (
        "trt_cuda_graph_enable",
        "refused: memories alternate between two sets of buffers, and no device was at hand to prove that the provider \
         keeps the captures of both apart; on the cuda device cuda_graph does it with one id per set",
    ),
    ("enable_cuda_graph", "spelled cuda_graph here: it is given only to graphs for which it is legal"),
    ("device_id", "set by --device"),
    ("user_compute_stream", "not offered: streams are ONNX Runtime's own"),
    ("gpu_external_alloc", "not offered: a function's address cannot come from a config"),
    ("gpu_external_free", "not offered: a function's address cannot come from a config"),
];
