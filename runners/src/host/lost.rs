//! Was the device lost? A GPU that was reset, fell off its bus, or ran into an error after which its context answers nothing but that error, ends
//! every session of the process on it: only another process can go on. Providers say so in words only, each in its own.

/// What Vulkan, WebGPU (Dawn) and Direct3D call it.
const GONE: [&str; 9] = [
    "device lost",
    "device is lost",
    "[device] is lost",
    "device was lost",
    "device_lost",
    "device removed",
    "device_removed",
    "device hung",
    "fallen off the bus",
];

/// What CUDA and TensorRT call errors that leave the context unusable: the texts of `cudaGetErrorString`, and the names.
const STICKY: [&str; 16] = [
    "illegal memory access was encountered",
    "illegal instruction was encountered",
    "unspecified launch failure",
    "launch timed out and was terminated",
    "device-side assert triggered",
    "hardware stack error",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "cudaerrorillegaladdress",
    "cudaerrorlaunchfailure",
    "cuda_error_illegal_address",
    "cuda_error_launch_failed",
    "cuda_error_ecc_uncorrectable",
];

/// The same by number, as ONNX Runtime writes them (`CUDA failure 700: …`, `CUDA error 719`); from `driver_types.h`.
const NUMBERS: [u32; 14] = [214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 999];

/// Do a provider's words mean that the device is lost for this process?
pub(super) fn is_lost(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let numbered = ["cuda failure ", "cuda error "].iter().any(|words| {
        text.split(words).skip(1).any(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().is_ok_and(|number| NUMBERS.contains(&number))
        })
    });
    numbered || GONE.iter().chain(&STICKY).any(|words| text.contains(words))
}

/// The error as the user reads it.
pub(super) fn told(text: &str) -> String {
    format!(
        "the device was lost while it worked. A run keeps what was finished before, and `jetbench --resume RUN` tries the rest in a new process. If \
         it happens again, look at the kernel's log (dmesg: a reset, an Xid, heat, power) and at the driver. ONNX Runtime's words: {text}"
    )
}

#[cfg(test)]
mod tests {
    use crate::host::session::failed;
    use crate::runner::RunnerError;

    #[test]
    fn a_lost_device_is_told_from_a_model_that_fails() {
        for text in [
            "buffer_manager.cc:553 Download status == wgpu::MapAsyncStatus::Success was false. Failed to download data from buffer: [Device] is lost.",
            "WebGPU device lost (2): vkQueueSubmit failed with VK_ERROR_DEVICE_LOST",
            "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=orin ; expr=cudaStreamSynchronize",
            "CUDA error 719",
            "CUDA failure 999: unknown error",
            "Error Code 1: Cuda Runtime (unspecified launch failure)",
            "cudaErrorIllegalAddress",
        ] {
            let RunnerError::Environment(told) = failed("g", text) else { panic!("{text}") };
            for words in ["device was lost", "--resume", "graph `g`", text] {
                assert!(told.contains(words), "{told}");
            }
        }
        for text in [
            "Non-zero status code returned while running Reshape node",
            "CUDA failure 2: out of memory ; GPU=0",
            "CUDA failure 7000: none such",
            "CUBLAS failure 3: the library was not initialized",
            "TensorRT EP execution context enqueue failed.",
        ] {
            assert!(matches!(failed("g", text), RunnerError::Inference(_)), "{text}");
        }
    }
}
