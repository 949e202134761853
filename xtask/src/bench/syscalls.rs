//! How many system calls move the bytes of a request, counted by strace in a run of its own:
//! being traced makes a proxy several times slower.

use super::case::Case;
use super::contender::Running;
use super::{load, work_directory};
use anyhow::{Context, Result, bail};
use plimsoll_e2e::daemon::{Daemon, Signal};
use plimsoll_e2e::wait;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// The calls that carry data. Waiting, accepting and closing are not among them.
const DATA: &str = "read,readv,recvfrom,recvmsg,recvmmsg,write,writev,sendto,sendmsg,sendmmsg,\
                    sendfile,splice";

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn per_request(case: &Case, proxy: &Running) -> Result<f64> {
    let summary = work_directory()?.join("strace.txt");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-c", "-e", &format!("trace={DATA}"), "-o"])
        .arg(&summary);
    let processes = proxy.processes()?;
    for id in &processes {
        command.arg("-p").arg(id.to_string());
    }
    let mut tracer = Daemon::spawn("strace", "install the Debian package strace", command);
    let attached =
        || (tracer.stderr().matches(" attached").count() >= processes.len()).then_some(());
    if wait::until(SOON, attached).is_none() {
        bail!("strace did not attach:\n{}", tracer.stderr());
    }
    let load = load::run(case, proxy, 1)?;
    tracer.signal(Signal::INT);
    tracer.wait_exit(SOON);
    let text = fs::read_to_string(&summary)?;
    let calls = count(&text).with_context(|| format!("strace wrote:\n{text}"))?;
    Ok(calls / f64::from(load.requests))
}

/// Reads the table of `strace -c`: the fourth column of the line that ends in `total`.
fn count(text: &str) -> Option<f64> {
    let total = text
        .lines()
        .find(|line| line.trim_end().ends_with(" total"))?;
    total.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn reads_the_table_of_strace() {
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 52.11    0.100000          10     10000        12 recvfrom
 47.89    0.090000           9     10000           writev
------ ----------- ----------- --------- --------- ----------------
100.00    0.190000           9     20000        12 total
";
        assert_eq!(count(text), Some(20_000.0));
        assert_eq!(count("nothing"), None);
    }
}
