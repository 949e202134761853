//! Packages of the program.

use crate::command::{read, run, target};
use anyhow::Result;

/// Builds the program as it is given away, and a Debian package of it.
pub(crate) fn build() -> Result<()> {
    run("cargo build --locked --profile dist -p plimsoll")?;
    let out = target().join("package");
    let program = out.join("plimsoll");
    std::fs::create_dir_all(&out)?;
    let built = target().join("dist/plimsoll");
    run(&format!(
        "strip -o {} {}",
        program.display(),
        built.display()
    ))?;
    let version = read(&format!("{} --version", program.display()))?;
    let version = version.trim().rsplit(' ').next().unwrap_or_default();
    run(&format!(
        "packaging/deb/build {} {version} {}",
        program.display(),
        out.display()
    ))
}
