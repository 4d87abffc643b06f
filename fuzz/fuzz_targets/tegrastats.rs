//! Lines of tegrastats: whatever the bytes, no panic, and every value is a finite number under a name.
#![no_main]

use jetbench::telemetry::tegrastats;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for (name, value) in tegrastats::parse(data).values {
        assert!(value.is_finite() && !name.is_empty(), "{name} = {value}");
    }
});
