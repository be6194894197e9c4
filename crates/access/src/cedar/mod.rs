//! The engine of access policies: an implementation of the language Cedar.
//!
//! It has the language of Cedar 4 without templates, and of the extensions `ip` alone. A text becomes tokens (`lexer`), then
//! policies (`parser`, `expression`, `ast`). `check` types their conditions by the `schema`, and refuses what it does not know.
//! So a policy that is stored means something. `compile` indexes all policies by their principals and resources, and by names
//! that their first condition asks for (`guard`). `select` finds those that a question is about, and `eval` evaluates their
//! conditions. `grants` prints grants as policies, and `oracle` answers for one policy alone.
//!
//! Each policy is evaluated alone, without Cedar's authorizer: a condition that fails with an error is met for a policy that
//! forbids, and not met for one that permits.

mod ast;
mod check;
mod compile;
mod eval;
mod expression;
mod grants;
mod guard;
mod impossible;
mod ip;
mod lexer;
mod oracle;
mod parser;
mod request;
mod schema;
mod select;
mod text;
mod types;
mod value;

#[cfg(test)]
mod language;
#[cfg(test)]
mod model;

pub use compile::check_policy;
pub(crate) use compile::compile;
pub use grants::grants_as_policies;
pub use oracle::{PolicyAnswer, PolicyRequest, evaluate_policy};
