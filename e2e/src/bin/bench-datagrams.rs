//! The load of the benchmark's cases with datagrams: sockets that have one question under way each, until the
//! time is over. A question that is not answered within a second is asked again, and counted as an error.
//!
//! `bench-datagrams ADDRESS SOCKETS BYTES SECONDS` writes one line: answers, errors, and the 50th and 99th
//! percentile of the time to an answer in microseconds.
#![forbid(unsafe_code)]

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::error::Error;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often is looked for those that take longer.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

fn main() -> ExitCode {
    match run() {
        Ok(line) => {
            let written = writeln!(io::stdout(), "{line}");
            written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "bench-datagrams: {error}"); // nowhere else to say it
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, sockets, bytes, seconds] = words.as_slice() else {
        return Err("usage: bench-datagrams ADDRESS SOCKETS BYTES SECONDS".into());
    };
    let mut load = Load::open(address, sockets.parse()?, bytes.parse()?)?;
    load.run(Duration::from_secs(seconds.parse()?))?;
    let (p50, p99) = (load.percentile(50), load.percentile(99));
    Ok(format!(
        "{} answers, {} errors, p50 {p50} us, p99 {p99} us",
        load.answers, load.errors
    ))
}

struct Load {
    set: OwnedFd,
    sockets: Vec<(UdpSocket, Instant)>,
    question: Vec<u8>,
    answers: u64,
    errors: u64,
    /// How many answers took so many microseconds; the last one, or more.
    times: Vec<u64>,
}

impl Load {
    fn open(address: &str, count: u64, bytes: usize) -> io::Result<Self> {
        let set = epoll::create(CreateFlags::CLOEXEC)?;
        let mut sockets = Vec::new();
        for number in 0..count {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(address)?;
            socket.set_nonblocking(true)?;
            epoll::add(&set, &socket, EventData::new_u64(number), EventFlags::IN)?;
            sockets.push((socket, Instant::now()));
        }
        Ok(Self {
            set,
            sockets,
            question: vec![b'x'; bytes],
            answers: 0,
            errors: 0,
            times: vec![0; 100_000],
        })
    }

    fn run(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        for (socket, asked) in &mut self.sockets {
            *asked = Instant::now();
            socket.send(&self.question)?;
        }
        let mut events = Vec::with_capacity(1024);
        while Instant::now() < end {
            events.clear();
            let room = rustix::buffer::spare_capacity(&mut events);
            let found = epoll::wait(&self.set, room, Some(&LOOK))?;
            for event in &events {
                self.go_on(usize::try_from(event.data.u64()).unwrap_or(usize::MAX));
            }
            if found == 0 {
                self.ask_again();
            }
        }
        Ok(())
    }

    /// Takes an answer and asks the next question.
    fn go_on(&mut self, number: usize) {
        let Some((socket, asked)) = self.sockets.get_mut(number) else {
            return;
        };
        let mut room = [0; 2048];
        match socket.recv(&mut room) {
            Ok(_) => {
                self.answers += 1;
                let took = usize::try_from(asked.elapsed().as_micros()).unwrap_or(usize::MAX);
                let last = self.times.len() - 1;
                if let Some(count) = self.times.get_mut(took.min(last)) {
                    *count += 1;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => self.errors += 1,
        }
        *asked = Instant::now();
        let _ = socket.send(&self.question); // or it is asked again
    }

    fn ask_again(&mut self) {
        for (socket, asked) in &mut self.sockets {
            if asked.elapsed() > PATIENCE {
                self.errors += 1;
                *asked = Instant::now();
                let _ = socket.send(&self.question);
            }
        }
    }

    fn percentile(&self, percent: u64) -> usize {
        let mut left = self.answers * percent / 100;
        let found = self.times.iter().position(|count| {
            let is_here = *count > left;
            left = left.saturating_sub(*count);
            is_here
        });
        found.unwrap_or(0)
    }
}
