//! Tells cargo that the migrations are part of the crate: `sqlx::migrate!` embeds them, and a stable compiler does not notice new files.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
