//! What the kernel knows of a process and those below it.

use anyhow::{Context, Result};
use plimsoll_e2e::daemon::Signal;
use rustix::process::{Pid, kill_process};
use std::fs;
use std::ops::Sub;

/// CPU time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            user: self.user - before.user,
            system: self.system - before.system,
        }
    }
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// Pages shared with other processes count in parts.
    pub(crate) proportional: u64,
}

/// What `/proc/ID/stat` says: see proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user_ticks: u32,
    system_ticks: u32,
}

impl Stat {
    fn read(id: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything; what follows is numbers.
        let (_, rest) = text.rsplit_once(')')?;
        let mut columns = rest.split_ascii_whitespace();
        Some(Self {
            parent: columns.nth(1)?.parse().ok()?,
            user_ticks: columns.nth(9)?.parse().ok()?,
            system_ticks: columns.next()?.parse().ok()?,
        })
    }
}

/// Returns `root` and all processes below it.
pub(crate) fn tree(root: u32) -> Result<Vec<u32>> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, Stat::read(id)?.parent)))
        .collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(id, _)| id));
        at += 1;
    }
    Ok(found)
}

/// Sends a signal.
pub(crate) fn signal(process: u32, signal: Signal) -> Result<()> {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    Ok(kill_process(process.context("no process")?, signal)?)
}

/// Tells whether it runs: one that has ended may wait until somebody asks how.
pub(crate) fn is_alive(process: u32) -> bool {
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty())
}

pub(crate) fn cpu(processes: &[u32]) -> Result<Cpu> {
    let second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    let mut sum = Cpu::default();
    for &id in processes {
        let stat = Stat::read(id).with_context(|| format!("process {id} has ended"))?;
        sum.user += f64::from(stat.user_ticks) / f64::from(second);
        sum.system += f64::from(stat.system_ticks) / f64::from(second);
    }
    Ok(sum)
}

pub(crate) fn memory(processes: &[u32]) -> Result<Memory> {
    let mut sum = Memory::default();
    for &id in processes {
        let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        sum.resident += kilobytes(&text, "Rss:").context("no Rss")? * 1024;
        sum.proportional += kilobytes(&text, "Pss:").context("no Pss")? * 1024;
    }
    Ok(sum)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_stat_line_whatever_the_name() {
        let line = "17 (a ) b) S 4 17 17 0 -1 4194560 100 0 1 0 321 654 0 0 20 0 1 0 12 3 4";
        let expected = Stat {
            parent: 4,
            user_ticks: 321,
            system_ticks: 654,
        };
        assert_eq!(Stat::parse(line), Some(expected));
    }

    #[test]
    fn knows_this_process_and_its_children() {
        let me = std::process::id();
        let mut child = std::process::Command::new("sleep")
            .arg("10")
            .spawn()
            .unwrap();
        let found = tree(me).unwrap();
        assert!(found.contains(&me) && found.contains(&child.id()));
        assert!(memory(&[me]).unwrap().resident > 100_000);
        assert!(cpu(&[me]).unwrap().user >= 0.0);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
