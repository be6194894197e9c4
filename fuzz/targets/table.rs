//! Tables' metadata: any bytes are an error or a table, which is printed, read again, judged by the rules and changed.
#![no_main]

use esker_format::{CommitContext, TableMetadata, TableUpdate, apply, rules};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let Ok(table) = TableMetadata::from_json(text) else { return };
    let printed = table.to_json().expect("printed");
    assert_eq!(TableMetadata::from_json(&printed).expect("read again"), table);
    rules::check(&table);
    let upgrade = [TableUpdate::UpgradeFormatVersion { format_version: 3 }];
    let _ = apply(&table, &upgrade, CommitContext { now_ms: 1_700_000_000_000, metadata_file: Some("s3://a/1.json") });
});
