//! Manifests and lists, written and read back, held against the `iceberg` crate, and damaged.

mod beside;
mod crafted;
mod hostile;
mod lenient;
mod oracle;
mod round;
mod sample;
mod unknown;
