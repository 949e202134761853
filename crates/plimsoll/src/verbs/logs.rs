//! `plimsoll logs`: access log lines of a running Plimsoll, as they come.

use std::ops::ControlFlow;

use plimsoll_control::tail::Query;

use crate::output::print;
use crate::running::At;

/// What `plimsoll logs` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    at: At,
    /// Those of this site or service
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Those with this status, such as 404, or of this class, such as 5xx
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Those that took as long or longer, such as 200ms
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    slower: Option<f64>,
    /// How they are written
    #[arg(long, default_value = "json", value_parser = ["json", "combined", "haproxy"])]
    format: String,
    /// End after so many
    #[arg(long, value_name = "NUMBER")]
    lines: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let query = serde_urlencoded::to_string(Query {
        site: arguments.site.clone(),
        status: arguments.status.clone(),
        slower: arguments.slower,
        format: Some(arguments.format.clone()),
    })?;
    let mut left = arguments.lines.unwrap_or(u64::MAX);
    let mut is_lost = false;
    arguments
        .at
        .follow(&format!("/v1/logs/tail?{query}"), |line| {
            if let Some(event) = line.strip_prefix("event: ") {
                is_lost = event == "lost";
            } else if let Some(data) = line.strip_prefix("data: ") {
                match std::mem::take(&mut is_lost) {
                    true => warn(&format!("lines that came too fast: {data}\n")),
                    false => {
                        print(&format!("{data}\n"))?;
                        left -= 1;
                    }
                }
            }
            Ok(match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })
        })
}

#[expect(clippy::print_stderr, reason = "it is no line of the log")]
fn warn(text: &str) {
    eprint!("{text}");
}

fn seconds(text: &str) -> Result<f64, String> {
    let time = plimsoll_config::duration(text);
    let seconds = time.map(|time| time.as_secs_f64());
    seconds.ok_or_else(|| "write a time, such as `200ms`".to_owned())
}
