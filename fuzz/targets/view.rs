//! Views' metadata: any bytes are an error or a view, which is printed and read again.
#![no_main]

use esker_format::ViewMetadata;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok(view) = ViewMetadata::from_json(text) else { return };
    let printed = view.to_json().expect("printed");
    assert_eq!(ViewMetadata::from_json(&printed).expect("read again"), view);
});
