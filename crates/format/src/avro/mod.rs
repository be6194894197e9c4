//! Avro object container files: a reader by field id with the file's own schema, and a writer.
//!
//! Nothing in a file is trusted before it is checked. A length is compared with the bytes that are left, and a count with the
//! smallest size of so many items. The decompressed size of blocks is bounded. Values that no caller asked for are skipped, not
//! built.
//!
//! Spec: Appendix A, "Avro". Start with `container` (files), `schema` (types) and `cursor` (values).

mod alone;
mod codec;
mod container;
mod cursor;
mod schema;
mod types;
mod value;
mod write;

pub(crate) use alone::fields_alone;
pub use codec::AvroCodec;
pub(crate) use codec::{budget, unzstd};
pub(crate) use container::{Container, Scratch};
pub(crate) use cursor::{Broken, Cursor, Read};
pub(crate) use schema::{Field, NodeKind, WriterSchema};
pub(crate) use types::{avro_schema, primitive_of};
pub(crate) use value::{decode, encode};
pub(crate) use write::{ContainerWriter, put_bytes, put_long};
