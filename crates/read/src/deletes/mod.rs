//! Reads delete files: deletion vectors, position deletes and equality deletes.
//!
//! All of them become positions of rows in data files. `positional` reads the first two kinds. `equality` looks the rows of data
//! files up among deleted `keys` of `key_columns`, and spills keys that exceed the budget (`spill`). Spec: "Row-level Deletes".

mod equality;
mod key_columns;
mod keys;
mod positional;
mod spill;

pub use equality::{EqualityBudget, EqualityDeletes};
pub use keys::{column_at, column_path, digest};
pub use positional::{FILE_PATH_FIELD_ID, POS_FIELD_ID, check_readable};
