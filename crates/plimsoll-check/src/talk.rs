//! Reading what a server says, in bounded memory.

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Failure, Wire};

/// How much of an answer is read.
const ANSWER_MAX: usize = 64 * 1024;

/// A conversation with a server.
pub(crate) struct Talk<'a> {
    stream: &'a mut Wire,
    heard: Vec<u8>,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(stream: &'a mut Wire) -> Self {
        Self {
            stream,
            heard: Vec::with_capacity(512),
        }
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Takes the first `count` bytes of what comes.
    pub(crate) async fn take(&mut self, count: usize) -> Result<Vec<u8>, Failure> {
        while self.heard.len() < count {
            self.hear().await?;
        }
        Ok(self.heard.drain(..count).collect())
    }

    /// Takes a line, without its end.
    pub(crate) async fn line(&mut self) -> Result<String, Failure> {
        let end = self.find(b"\n").await?;
        let line: Vec<u8> = self.heard.drain(..end).collect();
        Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
    }

    /// Waits until `text` has come, and drops what is before and in it; returns where it ended.
    pub(crate) async fn expect(&mut self, text: &[u8]) -> Result<(), Failure> {
        let end = self.find(text).await?;
        self.heard.drain(..end);
        Ok(())
    }

    async fn find(&mut self, text: &[u8]) -> Result<usize, Failure> {
        loop {
            if let Some(at) = memmem::find(&self.heard, text) {
                return Ok(at + text.len());
            }
            self.hear().await?;
        }
    }

    async fn hear(&mut self) -> Result<(), Failure> {
        if self.heard.len() >= ANSWER_MAX {
            return Err(Failure::Answer("a very long answer".to_owned()));
        }
        match self.stream.read_buf(&mut self.heard).await? {
            0 => {
                let so_far = String::from_utf8_lossy(&self.heard);
                let why = match so_far.is_empty() {
                    true => "closed without an answer".to_owned(),
                    false => format!("closed after: {}", so_far.trim_end()),
                };
                Err(Failure::Answer(why))
            }
            _ => Ok(()),
        }
    }
}
