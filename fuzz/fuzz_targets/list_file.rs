//! List files: every name that is accepted stays inside its folder.
#![no_main]

use std::path::{Component, Path};

use jetbench::dataset::parse_list;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for name in parse_list(text).unwrap_or_default() {
        let parts: Vec<Component> = Path::new(&name).components().collect();
        assert!(matches!(parts.as_slice(), [Component::Normal(_)]), "{name:?}");
    }
});
