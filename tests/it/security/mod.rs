//! Who gets in, and what nobody may do. Each module has one subject, which its own first line names.

mod hosts;
mod page;
mod paths;
