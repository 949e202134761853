//! `plimsoll explain CODE` and `plimsoll schema`: what the language knows of itself.

use anyhow::bail;

/// What `plimsoll explain` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The code of an error or a warning, like E0312; without one, all codes are listed
    code: Option<String>,
}

#[expect(clippy::print_stdout, reason = "the text is what was asked for")]
pub(crate) fn explain(arguments: &Arguments) -> anyhow::Result<()> {
    let Some(code) = &arguments.code else {
        for code in plimsoll_config::CODES {
            let first = code.explain.split(['.', ':']).next().unwrap_or_default();
            println!(
                "{}  {}",
                code.id,
                first.split_whitespace().collect::<Vec<_>>().join(" ")
            );
        }
        return Ok(());
    };
    match plimsoll_config::explain(code) {
        Some(text) => println!("{text}"),
        None => bail!("unknown code `{code}`; `plimsoll explain` lists all codes"),
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the schema is what was asked for")]
pub(crate) fn schema() -> anyhow::Result<()> {
    println!("{:#}", plimsoll_config::schema());
    Ok(())
}
