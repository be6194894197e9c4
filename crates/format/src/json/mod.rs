//! What the format writes down as JSON (specification, Appendix C and D).

#[macro_use]
mod object;
mod parts;
mod puffin;
mod types;
mod value;

pub use value::{json_of, value_of};
