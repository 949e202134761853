//! Connections that go from one process to the next, one after the other. Each is in one process at any moment: the old one
//! reads nothing of what it offers until it is told, and the new one says that it has it, in one byte, before it reads. What it
//! could not say, it has not.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use plimsoll_net::handover;
use plimsoll_proxy::handing::{Handed, Heir, Offered, State};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::engine::Engine;

/// How many may wait to be offered.
const WAITING: usize = 64;

/// How long one may take: its ends are not heard in the meantime.
const PATIENCE: Duration = Duration::from_secs(5);

/// Offers connections over `line` to the process that serves now, as long as it takes some.
pub(crate) fn offer(line: UnixStream) -> Heir {
    let (heir, offered) = mpsc::channel(WAITING);
    spawn("heir", move || offer_all(line, offered));
    heir
}

/// Goes on with the connections that the process before offers over `line`, as long as it does.
pub fn adopt(line: UnixStream, engine: Arc<Engine>) {
    let runtime = Handle::current();
    spawn("adopt", move || adopt_all(line, &engine, &runtime));
}

/// Without a thread the other end is closed: then all goes on as it is.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    if let Err(error) = spawned {
        tracing::warn!(%error, "connections stay with the process that they are with");
    }
}

fn offer_all(mut line: UnixStream, mut offered: mpsc::Receiver<Offered>) {
    let _set = line.set_read_timeout(Some(PATIENCE)); // or it has the one that it had
    let _set = line.set_write_timeout(Some(PATIENCE));
    let mut count = 0_u64;
    while let Some(one) = offered.blocking_recv() {
        match offer_one(&mut line, &one) {
            Ok(is_taken) => {
                count += u64::from(is_taken);
                let _ = one.taken.send(is_taken); // it may have been ended
            }
            Err(error) => {
                tracing::debug!(%error, "no more connections are taken");
                break; // those that wait are told by the end of this
            }
        }
    }
    tracing::info!(count, "connections went to the process that serves now");
}

fn offer_one(line: &mut UnixStream, offered: &Offered) -> io::Result<bool> {
    let state = serde_json::to_vec(&offered.state)?;
    let sockets: Vec<_> = offered.sockets.iter().map(AsFd::as_fd).collect();
    handover::send(line, &state, &sockets)?;
    heard(line)
}

/// What the other end says. When that takes too long, it can say nothing any more, but may have said it just now.
fn heard(line: &mut UnixStream) -> io::Result<bool> {
    let mut answer = [0];
    match line.read_exact(&mut answer) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            line.shutdown(Shutdown::Both)?;
            line.read_exact(&mut answer)?;
        }
        read => read?,
    }
    Ok(answer == [TAKEN])
}

/// What is said of a connection that was taken, and of another one.
const TAKEN: u8 = 1;
const REFUSED: u8 = 0;

fn adopt_all(mut line: UnixStream, engine: &Engine, runtime: &Handle) {
    while let Ok((state, sockets)) = handover::receive(&mut line) {
        let mut tell = |is_taken: bool| {
            let answer = if is_taken { TAKEN } else { REFUSED };
            line.write_all(&[answer])
        };
        let is_told = match handed(&state, sockets) {
            Ok(handed) => runtime.block_on(engine.adopt(handed, tell)),
            Err(error) => {
                tracing::warn!(%error, "a connection of the process before is not understood");
                tell(false).is_ok()
            }
        };
        if !is_told {
            return;
        }
    }
}

fn handed(state: &[u8], sockets: Vec<OwnedFd>) -> io::Result<Handed> {
    let state: State = serde_json::from_slice(state)?;
    let mut sockets = sockets.into_iter();
    let client = sockets.next().ok_or(ErrorKind::InvalidData)?;
    Ok(Handed {
        state,
        client: client.into(),
        server: sockets.next().map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_proxy::handing::Stage;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;
    use tokio::sync::oneshot;

    fn offered() -> (Offered, oneshot::Receiver<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (taken, answer) = oneshot::channel();
        let left = Duration::from_secs(3);
        let state = State {
            listener: address,
            peer: address,
            heard: None,
            stage: Stage::Idle { left, is_new: true },
        };
        let sockets = vec![client.into()];
        let offered = Offered {
            state,
            sockets,
            taken,
        };
        (offered, answer)
    }

    #[test]
    fn whoever_offers_is_told_what_the_other_end_says_and_nothing_when_that_is_gone() {
        let (line, mut other) = UnixStream::pair().unwrap();
        let heir = offer(line);
        for is_taken in [true, false] {
            let (offered, answer) = offered();
            heir.blocking_send(offered).unwrap();
            let (state, sockets) = handover::receive(&mut other).unwrap();
            let handed = handed(&state, sockets).unwrap();
            assert!(matches!(
                handed.state.stage,
                Stage::Idle { is_new: true, .. }
            ));
            other.write_all(&[u8::from(is_taken)]).unwrap();
            assert_eq!(answer.blocking_recv(), Ok(is_taken));
        }
        // One that ends with the question unanswered has taken nothing.
        let (offered, answer) = offered();
        heir.blocking_send(offered).unwrap();
        drop(handover::receive(&mut other).unwrap());
        drop(other);
        assert!(answer.blocking_recv().is_err());
    }

    #[test]
    fn an_answer_that_comes_too_late_is_none_and_the_other_end_knows() {
        let (mut line, mut other) = UnixStream::pair().unwrap();
        let short = Duration::from_millis(10);
        line.set_read_timeout(Some(short)).unwrap();
        assert!(heard(&mut line).is_err());
        assert!(other.write_all(&[TAKEN]).is_err());
    }
}
