//! Frame files: no panic, no unbounded allocation.
#![no_main]

use jetbench::dataset::decode_frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = decode_frame(data) {
        assert_eq!(frame.rgb.len(), frame.width as usize * frame.height as usize * 3);
    }
});
