//! What the format writes down as JSON (specification, Appendix C and D).

#[macro_use]
mod object;
mod metadata;
mod parts;
mod puffin;
mod types;
mod value;
mod view;

pub use value::{json_of, value_of};

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::metadata::tests::of_version;
}
