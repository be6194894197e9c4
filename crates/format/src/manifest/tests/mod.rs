//! Manifests and lists, written and read back, held against the `iceberg` crate, and damaged.

mod hostile;
mod oracle;
mod round;
mod sample;
