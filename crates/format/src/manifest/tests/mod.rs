//! Manifests and lists, written and read back, held against the `iceberg` crate, and damaged.

mod hostile;
mod lenient;
mod oracle;
mod round;
mod sample;
