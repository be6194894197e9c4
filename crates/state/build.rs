//! Embeds the migrations: writes `migrations.rs`, which lists the files of each database with their versions and names.
//!
//! The macro of `sqlx` does the same. But with it, drivers, TLS and runtime of both databases are compiled a second time for the
//! compiler's own use.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=migrations");
    let variable =
        |name: &str| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(format!("{name} is not set")));
    let (root, out) = (variable("CARGO_MANIFEST_DIR")?.join("migrations"), variable("OUT_DIR")?);
    let lists = [list("SQLITE_FILES", &root.join("sqlite"))?, list("POSTGRES_FILES", &root.join("postgres"))?];
    fs::write(out.join("migrations.rs"), lists.concat())
}

/// Returns the Rust code of a constant that lists the files of a directory: version, name with blanks for underscores, text.
fn list(constant: &str, dir: &Path) -> io::Result<String> {
    let mut entries = String::new();
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.sort();
    for file in files {
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let (version, name) = name.split_once('_').unwrap_or_default();
        let Ok(version) = version.parse::<i64>() else {
            return Err(io::Error::other(format!("{}: the name of a migration is NNNN_subject.sql", file.display())));
        };
        // The text itself, not its path: a target directory is shared by clones, and an earlier one may be gone.
        entries += &format!("    ({version}, {:?}, {:?}),\n", name.replace('_', " "), fs::read_to_string(&file)?);
    }
    Ok(format!(
        "/// Version, name and text of each migration in `{}`.\nconst {constant}: &[(i64, &str, &str)] = &[\n{entries}];\n",
        dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    ))
}
