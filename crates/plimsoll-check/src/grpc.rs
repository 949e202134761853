//! The gRPC health service (grpc.health.v1) over HTTP/2, with TLS or in cleartext.

use h2::client;
use http::{Method, Request, Version};

use crate::{Failure, Wire};

/// A message longer than this is no health answer.
const MESSAGE_MAX: usize = 1024;

/// Asks for `service`; an empty name asks for the whole server.
pub(crate) async fn health(
    service: &str,
    authority: &str,
    (scheme, stream): (&str, Wire),
) -> Result<(), Failure> {
    let (sender, connection) = client::handshake(stream).await.map_err(broken)?;
    let driven = tokio::spawn(connection);
    let answer = ask(service, &format!("{scheme}://{authority}"), sender).await;
    driven.abort();
    judge(&answer?)
}

async fn ask(
    service: &str,
    origin: &str,
    sender: client::SendRequest<bytes::Bytes>,
) -> Result<Vec<u8>, Failure> {
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("{origin}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|error| Failure::Answer(error.to_string()))?;
    let mut sender = sender.ready().await.map_err(broken)?;
    let (response, mut stream) = sender.send_request(request, false).map_err(broken)?;
    stream
        .send_data(message(service).into(), true)
        .map_err(broken)?;
    let response = response.await.map_err(broken)?;
    let status = response.headers().get("grpc-status").cloned();
    if let Some(status) = status.filter(|status| status.as_bytes() != b"0") {
        let status = String::from_utf8_lossy(status.as_bytes()).into_owned();
        return Err(Failure::Answer(format!("gRPC status {status}")));
    }
    let mut body = response.into_body();
    let mut answer = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(broken)?;
        let _ = body.flow_control().release_capacity(data.len()); // it is about to end anyway
        answer.extend_from_slice(&data);
        if answer.len() > MESSAGE_MAX {
            return Err(Failure::Answer("a very long answer".to_owned()));
        }
    }
    Ok(answer)
}

fn broken(error: h2::Error) -> Failure {
    Failure::Answer(error.to_string())
}

/// `HealthCheckRequest { service = 1 }` with gRPC's five bytes before it.
fn message(service: &str) -> Vec<u8> {
    let mut body = Vec::new();
    if !service.is_empty() {
        body.push(0x0a); // field 1, a text
        let length = u8::try_from(service.len().min(127)).unwrap_or(127);
        body.push(length);
        body.extend(service.bytes().take(127));
    }
    let length = u32::try_from(body.len()).unwrap_or_default();
    [&[0][..], &length.to_be_bytes(), &body].concat()
}

/// `HealthCheckResponse { status = 1 }`, of which 1 is SERVING.
fn judge(answer: &[u8]) -> Result<(), Failure> {
    let status = match answer {
        [0, 0, 0, 0, 2, 0x08, status] => *status,
        [0, 0, 0, 0, 0] => 0,
        _ => return Err(Failure::Answer("not a health answer".to_owned())),
    };
    let name = match status {
        1 => return Ok(()),
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "not a health answer",
    };
    Err(Failure::Answer(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_answers() {
        assert_eq!(message(""), [0; 5]);
        assert_eq!(message("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert!(judge(&[0, 0, 0, 0, 2, 8, 1]).is_ok());
        for bad in [&[0, 0, 0, 0, 2, 8, 2][..], &[0; 5], b"", b"HTTP/1.1"] {
            assert!(judge(bad).is_err());
        }
    }
}
