//! `plimsoll top`: a running Plimsoll, looked at each second.

use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use anyhow::bail;
use plimsoll_admin::view::View;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::running::At;
use crate::verbs::status;

/// What `plimsoll top` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    at: At,
}

const PACE: Duration = Duration::from_secs(1);

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("this needs a terminal; `plimsoll status` does not");
    }
    let first = arguments.at.look(status::PATH)?;
    let screen = Screen::take()?;
    let mut view: View = first;
    loop {
        screen.draw(&text(&view))?;
        if screen.wait_for_end()? {
            return Ok(());
        }
        view = arguments.at.look(status::PATH)?;
    }
}

/// The pools, and the servers that have most to do, or something wrong, first.
fn text(view: &View) -> String {
    let servers = view
        .pools
        .iter()
        .flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)));
    let mut servers: Vec<_> = servers.collect();
    servers.sort_by(|(_, one), (_, other)| {
        let is_well = |state: &str| state == "ready";
        let trouble = is_well(&one.state).cmp(&is_well(&other.state));
        trouble.then(other.request_rate.total_cmp(&one.request_rate))
    });
    let pools = status::pools(&view.pools);
    let servers = status::servers(servers.into_iter());
    format!("{}\n{pools}\n{servers}\nq ends this", status::head(view))
}

/// The terminal, as long as it is ours.
struct Screen {
    before: Termios,
}

/// Goes to the other screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

impl Screen {
    fn take() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let screen = Self { before };
        write(ENTER)?;
        Ok(screen)
    }

    /// Shows as much as fits.
    fn draw(&self, text: &str) -> anyhow::Result<()> {
        let size = tcgetwinsize(io::stdout())?;
        let (rows, columns) = (usize::from(size.ws_row), usize::from(size.ws_col));
        let lines = text.lines().take(rows).map(|line| {
            let line: String = line.chars().take(columns).collect();
            format!("{line}\x1b[K")
        });
        let lines: Vec<String> = lines.collect();
        write(&format!("\x1b[H{}\x1b[J", lines.join("\r\n")))
    }

    /// Waits for the next look; tells whether someone wants it to end instead.
    fn wait_for_end(&self) -> anyhow::Result<bool> {
        let input = io::stdin();
        let mut waits = [PollFd::new(&input, PollFlags::IN)];
        let pace = Timespec::try_from(PACE)?;
        if poll(&mut waits, Some(&pace))? == 0 {
            return Ok(false);
        }
        let mut keys = [0; 16];
        let count = input.lock().read(&mut keys)?;
        // Ctrl-C and Ctrl-D are bytes in this state of a terminal.
        let ends = |key: &u8| matches!(key, b'q' | b'Q' | 3 | 4);
        Ok(count == 0 || keys.iter().take(count).any(ends))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whoever takes the terminal back sees what is left to be done.
        let _ = write(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
