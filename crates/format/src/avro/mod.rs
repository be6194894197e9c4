//! Avro object container files: a reader by field id with the file's own schema, and a writer.
//!
//! Nothing in a file is trusted before it is checked. A length is compared with the bytes that are left, and a count with the
//! smallest size of so many items. The decompressed size of blocks is bounded. Values that no caller asked for are skipped, not
//! built.
//!
//! Spec: Appendix A, "Avro". Start with `container` (files), `schema` (types) and `cursor` (values).

mod codec;
mod container;
mod cursor;
mod schema;
mod self_contained;
mod types;
mod value;
mod write;

pub use codec::AvroCodec;
pub(crate) use codec::{max_decompressed_size, unzstd};
pub(crate) use container::{Container, Scratch};
pub(crate) use cursor::{Cursor, DecodeError, DecodeResult};
pub(crate) use schema::{Field, NodeKind, WriterSchema};
pub(crate) use self_contained::self_contained_fields;
pub(crate) use types::{avro_schema, primitive_of};
pub(crate) use value::{decode, encode};
pub(crate) use write::{ContainerWriter, put_bytes, put_long};
