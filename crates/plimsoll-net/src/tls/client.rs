//! The beginning of a session with a server.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ClientConnection;
use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;

use super::{ASIDE_BYTES, Session, State, invalid};
use crate::socket::Socket;

/// Agrees with the server at the other end of a new connection on a session. The server has then
/// proven that it is `name`, as far as `config` asks for it.
///
/// # Errors
/// The connection broke, or [`fault`](super::fault) tells what TLS has against it.
pub async fn secure(
    socket: Socket,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<Socket> {
    let connection = ClientConnection::new(config, name).map_err(invalid)?;
    let socket = socket.with_session(Session::with_server(connection));
    poll_fn(|context| match socket.session() {
        Some(mut session) => session.poll_handshake(&socket, context),
        None => Poll::Ready(Ok(())),
    })
    .await?;
    Ok(socket)
}

impl Session {
    /// Ready when the handshake is done on this side. Its last words leave with what is written first.
    pub(crate) fn poll_handshake(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut cipher = [0; ASIDE_BYTES];
        loop {
            match &mut self.state {
                State::Hello(_) => {}
                State::Open(connection) if connection.is_handshaking() => {}
                State::Open(_) => return Poll::Ready(Ok(())),
                _ => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            }
            ready!(self.poll_more(socket, context, &mut cipher))?;
            if self.has_ended() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
