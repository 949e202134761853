//! `plimsoll upgrade`: have the program as it is on disk now take over from the one that runs.

use plimsoll_admin::handover::{Upgrade, Upgraded};

use crate::output::print;
use crate::running::At;

/// What `plimsoll upgrade` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    at: At,
    /// Go on as before unless it serves within so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Upgrade::default().within)]
    within: u16,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let order = Upgrade {
        within: arguments.within,
    };
    let Upgraded { process, version } = arguments.at.post("/v1/upgrade", &order)?;
    print(&format!("process {process} of version {version} serves\n"))
}
