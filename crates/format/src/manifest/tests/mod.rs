//! Manifests and manifest lists: written and read back, compared with the `iceberg` crate, of unusual writers, and damaged.

mod beside;
mod crafted;
mod hostile;
mod lenient;
mod oracle;
mod round;
mod sample;
mod unknown;
