//! How fast a graph could run at the best: its arithmetic against the device's peak rate, its minimal bytes against the
//! memory's bandwidth, whichever takes longer. Peaks of Jetson modules are computed from their data sheets; the peak of
//! a CPU is measured here, because no data sheet states one that holds for the clocks a machine really has.

use std::path::Path;
use std::time::{Duration, Instant};

use ort::memory::Allocator;
use serde::Serialize;

use crate::host::session::GraphSession;
use crate::host::settings::SessionSettings;
use crate::host::{runtime, tensor};
use crate::onnx::{ElementType, build};
use crate::runner::RunnerError;
use crate::types::{Device, Dtype, Options};

/// A Jetson module at one pair of clocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Module {
    /// Name on the command line.
    pub name: &'static str,
    /// CUDA cores.
    pub cuda_cores: u32,
    /// Tensor cores.
    pub tensor_cores: u32,
    /// Dense fp16 or bf16 operations of a tensor core per cycle: 512 of the third generation (Ampere), 2048 of Thor's fifth.
    pub half_per_cycle: u32,
    /// GPU clock, MHz.
    pub gpu_mhz: f64,
    /// Width of the LPDDR5 or LPDDR5X bus, bits.
    pub bus_bits: u32,
    /// Memory clock, MHz; two transfers per cycle.
    pub memory_mhz: f64,
    /// Where the figures come from.
    pub source: &'static str,
}

/// Jetson modules at the highest clocks of their data sheets.
///
/// Sources. Cores, GPU clock, bus width and memory clock are those of NVIDIA's module data sheets (AGX Orin Series
/// DS-10662-001, Orin NX Series DS-10712-001, Orin Nano Series DS-11105-001); the `-super` clocks those of JetPack 6.2
/// (NVIDIA technical blog, "JetPack 6.2 Brings Super Mode to Jetson Orin Nano and Jetson Orin NX Modules"). The data sheets
/// themselves could not be opened; the table was checked against what NVIDIA ships and boards report:
/// - the power-mode files of Jetson Linux (`nvpmodel_p3701_0000`, `_0004`, `nvpmodel_p3767_0000`, `_0001`, `_0003`, `_0004`, with
///   and without `_super`; copies in github.com/LineageOS/android_device_nvidia_concord): TPCs left on, of two SMs with 128
///   CUDA and 4 tensor cores each, by module 8, 7, 4, 4, 4, 2; GPU 1173 MHz in the 40 W mode of both Orin NX, 1020 MHz and memory
///   3199 MHz in the 25 W mode of the Orin Nano 4 GB; memory 2133 MHz in the 15 W and 10 W modes of the Orin Nano;
/// - CUDA's deviceQuery on an Orin NX 16 GB: 1024 CUDA cores, 918 MHz (gist.github.com/atinfinity/8cede915acda05d0ff427c09604735dd);
/// - NVIDIA's sparse int8 rates for each module, which the test below recomputes from cores and clock: these alone vouch for
///   the clocks of 625, 930 and 1300 MHz; nothing beyond the data sheet does for the Orin NX 8 GB's 765 MHz.
///
/// Thor: 20 SMs of 128 CUDA cores, as CUDA reports them on the developer kit (forums.developer.nvidia.com/t/356355; the 96 tensor cores of the
/// brochures are those of a full chip of 24 SMs), four tensor cores each; 1575 MHz, the bound that the board states; 273 GB/s, which the Thor
/// Series data sheet gives for 256 bits of LPDDR5X, that is 4266 MHz. 2048 dense bf16 operations per tensor core and cycle follow
/// from the data sheet's 2070 TFLOPS of sparse FP4, eight times the dense rate of bf16, which the test below recomputes. The T4000 is left
/// out: nothing but a brochure vouches for its clocks.
///
/// A lower power mode caps both clocks: give the caps the board states
/// (`max_freq` of the GPU's devfreq node; the EMC rate) as `NAME@GPU_MHZ/MEMORY_MHZ`. TPCs that a mode switches off
/// lower the peak further and are not modelled.
pub const MODULES: &[Module] = &[
    module("orin-nano-4gb", 512, 16, 625.0, 64, 2133.0, "DS-11105-001"),
    module("orin-nano-4gb-super", 512, 16, 1020.0, 64, 3200.0, "DS-11105-001 and JetPack 6.2 super mode"),
    module("orin-nano-8gb", 1024, 32, 625.0, 128, 2133.0, "DS-11105-001"),
    module("orin-nano-8gb-super", 1024, 32, 1020.0, 128, 3200.0, "DS-11105-001 and JetPack 6.2 super mode"),
    module("orin-nx-8gb", 1024, 32, 765.0, 128, 3200.0, "DS-10712-001"),
    module("orin-nx-8gb-super", 1024, 32, 1173.0, 128, 3200.0, "DS-10712-001 and JetPack 6.2 super mode"),
    module("orin-nx-16gb", 1024, 32, 918.0, 128, 3200.0, "DS-10712-001"),
    module("orin-nx-16gb-super", 1024, 32, 1173.0, 128, 3200.0, "DS-10712-001 and JetPack 6.2 super mode"),
    module("agx-orin-32gb", 1792, 56, 930.0, 256, 3200.0, "DS-10662-001"),
    module("agx-orin-64gb", 2048, 64, 1300.0, 256, 3200.0, "DS-10662-001"),
    Module {
        half_per_cycle: 2048,
        ..module("agx-thor-t5000", 2560, 80, 1575.0, 256, 4266.0, "Jetson Thor Series data sheet and CUDA on the board")
    },
];

const fn module(
    name: &'static str,
    cuda_cores: u32,
    tensor_cores: u32,
    gpu_mhz: f64,
    bus_bits: u32,
    memory_mhz: f64,
    source: &'static str,
) -> Module {
    Module { name, cuda_cores, tensor_cores, half_per_cycle: 512, gpu_mhz, bus_bits, memory_mhz, source }
}

/// Best rates of a device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// Device, with its clocks where they matter.
    pub name: String,
    /// fp32 operations per second without tensor cores (TF32 off), in 10^9.
    pub fp32_gflops: f64,
    /// fp16 and bf16 operations per second, dense, fp32 accumulation, in 10^9; `None` where such arithmetic is emulated in
    /// fp32 or its rate is not known.
    pub half_gflops: Option<f64>,
    /// Memory bandwidth, 10^9 bytes per second.
    pub bandwidth_gb_s: f64,
    /// Was it measured here, or computed from a data sheet?
    pub measured: bool,
    /// How, or from which data sheet.
    pub source: String,
}

impl Module {
    /// Peaks by formula: fp32 2 operations per CUDA core and cycle; half precision [`Module::half_per_cycle`] dense operations per tensor core
    /// and cycle (on Orin a quarter of the data sheets' sparse int8 rate, on Thor an eighth of the sparse FP4 rate); bandwidth two transfers of the bus per memory cycle.
    pub fn peak(&self) -> Peak {
        Peak {
            name: format!("{}, GPU {} MHz, memory {} MHz", self.name, self.gpu_mhz, self.memory_mhz),
            fp32_gflops: f64::from(self.cuda_cores) * 2.0 * self.gpu_mhz / 1e3,
            half_gflops: Some(f64::from(self.tensor_cores) * f64::from(self.half_per_cycle) * self.gpu_mhz / 1e3),
            bandwidth_gb_s: f64::from(self.bus_bits) / 8.0 * 2.0 * self.memory_mhz / 1e3,
            measured: false,
            source: format!("computed from {}", self.source),
        }
    }
}

/// A module by its text: `orin-nano-8gb`, `orin-nano-8gb@420`, `agx-orin-64gb@612/3200`.
///
/// # Errors
/// [`RunnerError::Usage`] naming the known modules, or the clock that is no number.
pub fn module_peak(text: &str) -> Result<Peak, RunnerError> {
    let (name, clocks) = text.split_once('@').map_or((text, None), |(name, clocks)| (name, Some(clocks)));
    let Some(known) = MODULES.iter().find(|m| m.name == name) else {
        let names: Vec<&str> = MODULES.iter().map(|m| m.name).collect();
        return Err(RunnerError::Usage(format!("no peak is known for `{name}`; known: cpu, {}", names.join(", "))));
    };
    let mut module = *known;
    if let Some(clocks) = clocks {
        let (gpu, memory) = clocks.split_once('/').map_or((clocks, None), |(gpu, memory)| (gpu, Some(memory)));
        let read = |text: &str| match text.parse::<f64>() {
            Ok(mhz) if (1.0..=10_000.0).contains(&mhz) => Ok(mhz),
            _ => Err(RunnerError::Usage(format!("clock `{text}` in `{name}@{clocks}`: MHz from 1 to 10000 expected"))),
        };
        module.gpu_mhz = read(gpu)?;
        if let Some(memory) = memory {
            module.memory_mhz = read(memory)?;
        }
    }
    Ok(module.peak())
}

/// The least time that one run can take, and what sets it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// Milliseconds.
    pub ms: f64,
    /// Arithmetic (or memory) alone, milliseconds.
    pub compute_ms: f64,
    /// Memory traffic alone, milliseconds.
    pub memory_ms: f64,
    /// Operations per byte.
    pub intensity: f64,
}

impl Limit {
    /// `compute` or `memory`.
    pub fn bound(&self) -> &'static str {
        if self.compute_ms >= self.memory_ms { "compute" } else { "memory" }
    }
}

impl Peak {
    /// Rate of int8 products: dense, they are twice as fast on the tensor cores of these modules. Of a CPU it is not known.
    pub fn int8_gops(&self) -> Option<f64> {
        self.half_gflops.map(|gflops| 2.0 * gflops)
    }

    /// The limit of a run with so many operations in sums of products and so many bytes to move.
    pub fn limit(&self, flops: u64, bytes: u64, precision: Dtype) -> Limit {
        let gflops = match precision {
            Dtype::Fp32 => self.fp32_gflops,
            Dtype::Fp16 | Dtype::Bf16 => self.half_gflops.unwrap_or(self.fp32_gflops),
            // Where the rate is not known, only memory limits it.
            Dtype::Int8 => self.int8_gops().unwrap_or(f64::INFINITY),
        };
        let compute_ms = flops as f64 / gflops / 1e6;
        let memory_ms = bytes as f64 / self.bandwidth_gb_s / 1e6;
        Limit { ms: compute_ms.max(memory_ms), compute_ms, memory_ms, intensity: flops as f64 / bytes.max(1) as f64 }
    }
}

/// Side of the square matrices of the arithmetic probe.
const SIDE: i64 = 1024;
/// Floats per array and thread of the bandwidth probe: 64 MiB, beyond any cache of the devices in question.
const STREAM: usize = 16 << 20;
/// Each probe repeats for at least this long, and at least this often; the best counts.
const PROBE: (Duration, usize) = (Duration::from_millis(700), 4);

/// Measures this machine's CPU: an fp32 product of two 1024 x 1024 matrices through ONNX Runtime, and the triad
/// `a = b + s c` over arrays beyond the caches, on the same number of threads. The best of several runs counts, since a
/// peak is asked for.
///
/// # Errors
/// [`RunnerError::Environment`] when ONNX Runtime cannot be loaded.
pub fn measure_cpu(ort_lib: Option<&Path>, threads: Option<usize>) -> Result<Peak, RunnerError> {
    let runtime = runtime::load(ort_lib)?;
    let count = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let options = Options { threads: Some(count), ..Options::default() };
    let settings = SessionSettings::new(Device::Cpu, Dtype::Fp32, &options)?;
    let square = |field, name| (field, build::value_info(name, ElementType::F32, &[SIDE, SIDE]));
    let fields =
        [(1, build::node("MatMul", &["a", "b"], &["c"], &[])), square(11, "a"), square(11, "b"), square(12, "c")];
    let mut graph = GraphSession::open_built("arithmetic_probe", &build::model(7, 13, &fields), &settings, runtime)?;
    let host = Allocator::default();
    let mut binding = graph.binding()?;
    let mut operands = [tensor::tensor(&host, &[SIDE, SIDE])?, tensor::tensor(&host, &[SIDE, SIDE])?];
    for (name, operand) in ["a", "b"].into_iter().zip(&mut operands) {
        operand.extract_tensor_mut().1.iter_mut().enumerate().for_each(|(i, v)| *v = (i % 7) as f32 - 3.0);
        tensor::input(&mut binding, name, operand)?;
    }
    let mut product = tensor::tensor(&host, &[SIDE, SIDE])?;
    tensor::output(&mut binding, "c", &mut product)?;
    let seconds = best(|| graph.run(&binding))?;
    let fp32_gflops = 2.0 * (SIDE as f64).powi(3) / seconds / 1e9;

    let mut arrays: Vec<[Vec<f32>; 3]> =
        (0..count).map(|_| [vec![0.0; STREAM], vec![1.0; STREAM], vec![2.0; STREAM]]).collect();
    let seconds = best(|| {
        std::thread::scope(|scope| {
            for [a, b, c] in &mut arrays {
                scope.spawn(move || {
                    for ((a, b), c) in a.iter_mut().zip(b.iter()).zip(c.iter()) {
                        *a = *b + 3.0 * *c;
                    }
                });
            }
        });
        Ok(())
    })?;
    std::hint::black_box(&arrays);
    let bytes = (count * 3 * STREAM * size_of::<f32>()) as f64;
    Ok(Peak {
        name: format!("cpu, {count} threads"),
        fp32_gflops,
        half_gflops: None,
        bandwidth_gb_s: bytes / seconds / 1e9,
        measured: true,
        source: format!(
            "measured here, best of several: fp32 product of {SIDE} x {SIDE} matrices (ONNX Runtime {}), triad over {} MiB \
             per thread",
            runtime.version,
            (3 * STREAM * size_of::<f32>()) >> 20
        ),
    })
}

/// Seconds of the fastest run.
fn best(mut run: impl FnMut() -> Result<(), RunnerError>) -> Result<f64, RunnerError> {
    let (least, times) = PROBE;
    let (started, mut done, mut best) = (Instant::now(), 0, f64::INFINITY);
    while done < times || started.elapsed() < least {
        let one = Instant::now();
        run()?;
        best = best.min(one.elapsed().as_secs_f64());
        done += 1;
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_agree_with_the_data_sheets() {
        // (module, sparse int8 TOPS of the GPU, of Thor sparse FP4 TFLOPS, fp32 TFLOPS where stated, GB/s), as the data sheets print them
        for (name, tops, tflops, bandwidth) in [
            ("agx-thor-t5000", 2070.0, None, 273.0),
            ("orin-nano-4gb", 20.0, None, 34.0),
            ("orin-nano-8gb", 40.0, Some(1.28), 68.0),
            ("orin-nano-8gb-super", 67.0, None, 102.0),
            ("orin-nx-16gb", 60.0, Some(1.88), 102.4),
            ("agx-orin-32gb", 108.0, Some(3.3), 204.8),
            ("agx-orin-64gb", 170.0, Some(5.3), 204.8),
        ] {
            let peak = module_peak(name).unwrap();
            let near = |a: f64, b: f64| (a - b).abs() <= 0.03 * b;
            let sparse = if name.contains("thor") { 8.0 } else { 4.0 };
            assert!(near(peak.half_gflops.unwrap() * sparse / 1e3, tops), "{name}: {peak:?}");
            assert!(tflops.is_none_or(|t| near(peak.fp32_gflops / 1e3, t)), "{name}: {peak:?}");
            assert!(near(peak.bandwidth_gb_s, bandwidth), "{name}: {peak:?}");
            assert!(!peak.measured);
        }
    }

    #[test]
    fn clocks_of_a_power_mode_scale_the_peak() {
        let full = module_peak("agx-orin-64gb").unwrap();
        let capped = module_peak("agx-orin-64gb@650/1600").unwrap();
        assert!((capped.fp32_gflops * 2.0 - full.fp32_gflops).abs() < 1e-6);
        assert!((capped.bandwidth_gb_s * 2.0 - full.bandwidth_gb_s).abs() < 1e-6);
        for wrong in ["agx-orin-64gb@fast", "agx-orin-64gb@0", "agx-orin-64gb@600/x", "xavier"] {
            assert!(matches!(module_peak(wrong), Err(RunnerError::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn the_slower_of_arithmetic_and_memory_is_the_limit() {
        let peak = Peak {
            name: String::new(),
            fp32_gflops: 100.0,
            half_gflops: Some(400.0),
            bandwidth_gb_s: 10.0,
            measured: false,
            source: String::new(),
        };
        let compute = peak.limit(1_000_000_000, 1_000_000, Dtype::Fp32);
        assert_eq!((compute.ms, compute.bound(), compute.intensity), (10.0, "compute", 1000.0));
        let memory = peak.limit(1_000_000, 100_000_000, Dtype::Fp16);
        assert_eq!((memory.ms, memory.bound()), (10.0, "memory"));
        assert_eq!(peak.limit(1_000_000_000, 0, Dtype::Bf16).ms, 2.5);
        assert_eq!(peak.limit(1_000_000_000, 0, Dtype::Int8).ms, 1.25);
        let emulated = Peak { half_gflops: None, ..peak };
        assert_eq!(emulated.limit(1_000_000_000, 0, Dtype::Bf16).ms, 10.0, "emulated in fp32");
        assert_eq!(emulated.limit(1_000_000_000, 0, Dtype::Int8).ms, 0.0, "of a CPU no int8 rate is known");
    }

    #[test]
    fn the_probe_measures_something() {
        match measure_cpu(None, Some(1)) {
            Ok(peak) => assert!(peak.measured && peak.fp32_gflops > 0.1 && peak.bandwidth_gb_s > 0.1, "{peak:?}"),
            Err(e) => {
                use std::io::Write;
                let _ = writeln!(std::io::stderr(), "skipped the CPU probe: {e}");
            }
        }
    }
}
