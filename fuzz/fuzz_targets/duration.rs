#![no_main]

#[path = "../invariants/mod.rs"]
#[expect(dead_code, reason = "each target needs one of them")]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::duration::check(data));
