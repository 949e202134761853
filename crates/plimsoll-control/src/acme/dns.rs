//! Messages to name servers and back, over TCP (RFC 7766).

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a server may take to answer a question.
const DEADLINE: Duration = Duration::from_secs(2);

/// Sends a message to a server; returns what comes back. The caller limits the time.
///
/// # Errors
/// Why nothing came.
pub(super) async fn exchange(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| error.to_string();
    let length = u16::try_from(message.len()).map_err(|error| error.to_string())?;
    let mut stream = TcpStream::connect(server).await.map_err(failed)?;
    stream.write_u16(length).await.map_err(failed)?;
    stream.write_all(message).await.map_err(failed)?;
    let length = stream.read_u16().await.map_err(failed)?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(failed)?;
    Ok(answer)
}

/// Asks a server what it knows itself of a name.
///
/// # Errors
/// Why it does not say.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
) -> Result<Message, String> {
    let mut question = Message::query();
    question.add_query(Query::query(name.clone(), kind));
    let question = question.to_vec().map_err(|error| error.to_string())?;
    let asked = tokio::time::timeout(DEADLINE, exchange(server, &question)).await;
    let answer = asked.unwrap_or_else(|_| Err("it took longer than 2 seconds".to_owned()));
    let answer = answer.map_err(|why| format!("the name server {server}: {why}"))?;
    Message::from_vec(&answer).map_err(|error| format!("the name server {server}: {error}"))
}
