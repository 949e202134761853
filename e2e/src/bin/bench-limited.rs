//! A server that can do so much and no more, for the overload case of the benchmark: it works on
//! a few requests at a time, each takes a fixed time, and the others wait inside it. It does not
//! begin to work for a client that has left.
//!
//! `bench-limited SLOTS MILLISECONDS ADDRESS…` is one such server on each address. It trusts its
//! clients: this is no server for anything else.
#![forbid(unsafe_code)]

use std::error::Error;
use std::future::pending;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let mut number = || {
        words
            .next()
            .ok_or("usage: bench-limited SLOTS MILLISECONDS ADDRESS…")
    };
    let slots: usize = number()?.parse()?;
    let work = Duration::from_millis(number()?.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        for address in words {
            let listener = TcpListener::bind(address).await?;
            spawn_local(serve(listener, Rc::new(Semaphore::new(slots)), work));
        }
        pending::<Result<(), Box<dyn Error>>>().await
    })
}

async fn serve(listener: TcpListener, slots: Rc<Semaphore>, work: Duration) {
    while let Ok((stream, _)) = listener.accept().await {
        let slots = Rc::clone(&slots);
        spawn_local(async move {
            let _ = answer_all(stream, &slots, work).await; // a client that leaves is its own affair
        });
    }
}

/// Answers one request after the other; none of them has a body.
async fn answer_all(mut stream: TcpStream, slots: &Semaphore, work: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::with_capacity(1024);
    while stream.read_buf(&mut input).await? > 0 {
        if !input.ends_with(b"\r\n\r\n") {
            continue;
        }
        input.clear();
        tokio::select! {
            // Nobody sends two requests at once, so what can be read is the end.
            _ = stream.read_buf(&mut input) => return Ok(()),
            Ok(_slot) = slots.acquire() => sleep(work).await,
        }
        stream.write_all(ANSWER.as_bytes()).await?;
    }
    Ok(())
}
