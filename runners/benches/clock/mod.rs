//! What the benches of this crate share: CPU time and the median.

/// CPU seconds on a clock of the kernel: `CLOCK_PROCESS_CPUTIME_ID` for all threads of this process,
/// `CLOCK_THREAD_CPUTIME_ID` for this one.
pub fn cpu(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the struct it is given.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The value in the middle; of an even number, the upper one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
