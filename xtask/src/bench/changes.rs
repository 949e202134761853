//! What clients lose while a proxy is given other configurations, and other programs.

use super::contender::{Contender, Manner, Running};
use super::process;
use super::work_directory;
use anyhow::{Context, Result};
use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::load::{Expect, Fate, Load, Report, Reuse};
use plimsoll_e2e::{raw, wait};
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

pub(crate) const NAME: &str = "changes";
pub(crate) const ABOUT: &str =
    "requests lost over 100 reloads, and over 20 upgrades of the program";

/// How long a change may take, and the processes from before that only finish what they have.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time for processes to end that have nothing more to do.
const SETTLE: Duration = Duration::from_secs(3);

/// How often it is asked for a change in that time.
const TIMES: u32 = 10;

/// So many requests of each load come to their end between two changes.
const BETWEEN: u64 = 20;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Reload,
    Upgrade,
}

impl Change {
    const ALL: [(Self, usize); 2] = [(Self::Reload, 100), (Self::Upgrade, 20)];

    fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Upgrade => "upgrade",
        }
    }
}

/// What became of one load.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) proxy: &'static str,
    pub(crate) change: &'static str,
    /// How often it was changed; it may have refused to be changed again.
    pub(crate) changes: usize,
    pub(crate) load: &'static str,
    pub(crate) report: Report,
    /// Processes that were there in the end.
    pub(crate) processes: usize,
}

impl Lost {
    /// Requests that ended so.
    pub(crate) fn count(&self, fates: &[Fate]) -> u64 {
        fates.iter().map(|fate| self.report.count(*fate)).sum()
    }
}

/// Tells whether a proxy takes part: one that clients have connections to.
pub(crate) fn is_for(contender: Contender) -> bool {
    use Contender::{HaproxyHttp, HaproxyTcp, NginxHttp, NginxTcp, PlimsollHttp, PlimsollTcp};
    matches!(
        contender,
        PlimsollHttp | PlimsollTcp | NginxHttp | NginxTcp | HaproxyHttp | HaproxyTcp
    )
}

/// Tells whether its program can be changed here: NGINX takes no order for that in the foreground, as long as whoever
/// has started it lives.
fn is_upgraded(contender: Contender) -> bool {
    !matches!(contender, Contender::NginxHttp | Contender::NginxTcp)
}

pub(crate) fn measure(
    contender: Contender,
    servers: [u16; 2],
    authority: &Authority,
) -> Result<Vec<Lost>> {
    let mut all = Vec::new();
    for (change, count) in Change::ALL {
        if change == Change::Upgrade && !is_upgraded(contender) {
            continue;
        }
        let manner = Manner {
            slots: None,
            is_supervised: true,
        };
        let proxy = contender.start(&work_directory()?, servers, manner, authority)?;
        let mut changing = Changing::new(&proxy);
        let loads = loads(&proxy).map(|(name, load)| (name, load.start()));
        let mut changes = 0;
        while changes < count && changing.change(change)? {
            changes += 1;
            let before: Vec<u64> = loads.iter().map(|(_, load)| load.ended()).collect();
            wait::expect("requests to end", PATIENCE, || {
                let mut ended = loads.iter().zip(&before);
                ended.all(|((_, load), before)| load.ended() >= before + BETWEEN)
            });
        }
        thread::sleep(SETTLE); // those that are done end
        let processes = changing.processes()?.len();
        all.extend(loads.map(|(load, running)| Lost {
            proxy: proxy.name(),
            change: change.name(),
            changes,
            load,
            report: running.stop(),
            processes,
        }));
    }
    Ok(all)
}

/// What is asked for in the meantime. Behind a relay, a connection that is kept is one that lasts.
fn loads(proxy: &Running) -> [(&'static str, Load); 3] {
    let kept = Load {
        path: "/1k".to_owned(),
        expect: Expect::Any,
        ..Load::on(proxy.addresses.plain)
    };
    let once = Load {
        reuse: Reuse::Close,
        ..kept.clone()
    };
    let posts = Load {
        method: "POST",
        threads: 2,
        body: vec![b'x'; 64 * 1024],
        ..kept.clone()
    };
    [("kept", kept), ("one-shot", once), ("posts", posts)]
}

/// A proxy that is changed again and again. What comes after its first process is ended with this.
struct Changing<'a> {
    proxy: &'a Running,
    /// The process that takes orders now.
    process: u32,
    /// Those that have been started in its place.
    successors: Vec<u32>,
}

impl<'a> Changing<'a> {
    fn new(proxy: &'a Running) -> Self {
        Self {
            proxy,
            process: proxy.id(),
            successors: Vec::new(),
        }
    }

    /// Changes it, and waits until that is done; false when it cannot be changed again.
    fn change(&mut self, change: Change) -> Result<bool> {
        match (self.proxy.contender(), change) {
            (contender, Change::Reload) if contender.is_plimsoll() => self.reload_plimsoll(),
            (contender, Change::Upgrade) if contender.is_plimsoll() => self.upgrade_plimsoll(),
            (Contender::NginxHttp | Contender::NginxTcp, Change::Reload) => self.renew(Signal::HUP),
            // It starts its program anew at each reload.
            _ => self.renew(Signal::USR2),
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(self.process, signal).context("the proxy has ended")
    }

    fn reload_plimsoll(&self) -> Result<bool> {
        let admin = self.proxy.admin.context("it has no admin listener")?;
        let generation = || {
            let page = raw::get(admin, "/metrics").text();
            let mut lines = page.lines();
            let line = lines.find(|line| line.starts_with("plimsoll_config_generation "));
            line.map(str::to_owned)
        };
        let before = generation();
        self.signal(Signal::HUP)?;
        wait::expect("another generation", PATIENCE, || generation() != before);
        Ok(true)
    }

    fn upgrade_plimsoll(&mut self) -> Result<bool> {
        self.signal(Signal::USR2)?;
        let next = wait::until(PATIENCE, || {
            let said = self.proxy.said();
            let lines = said.lines().rev();
            let mut told = lines.filter(|line| line.contains("another process serves"));
            let (_, number) = told.next()?.split_once(" process=")?;
            let number = number.split(' ').next()?.parse().ok()?;
            (number != self.process).then_some(number)
        });
        self.go_over(next.context("no other process serves")?);
        Ok(true)
    }

    /// Has it start its workers anew, which it does on this signal. One that is still about to do so may not hear it.
    fn renew(&self, signal: Signal) -> Result<bool> {
        let before = self.processes()?;
        let others = || {
            let now = self.processes().unwrap_or_default();
            now.difference(&before).next().map(|_| ())
        };
        for _ in 0..TIMES {
            self.signal(signal)?;
            if wait::until(PATIENCE / TIMES, others).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn go_over(&mut self, next: u32) {
        self.process = next;
        self.successors.push(next);
    }

    /// All processes, those among them that only finish what they have.
    fn processes(&self) -> Result<BTreeSet<u32>> {
        let mut all: BTreeSet<u32> = process::tree(self.process)?.into_iter().collect();
        for first in self.successors.iter().chain([&self.proxy.id()]) {
            all.extend(process::tree(*first)?);
        }
        all.retain(|process| process::is_alive(*process));
        Ok(all)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        for successor in &self.successors {
            let _ = process::signal(*successor, Signal::INT); // most have ended
        }
        let all_ended = || {
            self.successors
                .iter()
                .all(|successor| !process::is_alive(*successor))
        };
        let _ = wait::until(PATIENCE, || all_ended().then_some(()));
    }
}
