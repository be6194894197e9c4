//! Avro object container files, read by the schema that they carry and by field id (specification, "Avro").
//!
//! Nothing in a file is believed before it is checked: a length is held against the bytes that are left, a count against the bytes that so
//! many items take at least, and what a block is decompressed to is bounded. Fields that nobody asked for are skipped, not built.

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
