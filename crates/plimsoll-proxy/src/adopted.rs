//! Connections that another process has left: they go on here as if they had been here all the time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_http::forwarded::AddressText;
use plimsoll_net::socket::Socket;
use plimsoll_net::{clock, stream};

use crate::connection::{self, Connection, End, admit};
use crate::handing::{self, Handed, Relayed, Request, Stage};
use crate::http::switch;
use crate::serving::Server;

impl<F: Future<Output = ()> + 'static> Server<F> {
    /// Goes on with a connection that another process has left, as if it had been here all the time. It counts for its
    /// client, but is not refused any more.
    pub(crate) fn adopt(self: &Rc<Self>, handed: Handed) {
        let Handed {
            state,
            client,
            server,
        } = handed;
        let generation = Arc::clone(&self.planes.current().generation);
        let mut listeners = generation.listeners.iter();
        let at = listeners.find(|at| at.address == state.listener);
        let Some(door) = at.and_then(|at| self.doors.find(at.door)) else {
            return;
        };
        let (plane, listener) = door.view();
        let worker = &self.station.worker;
        let seat = admit(&plane, &door, state.peer).flatten();
        let mut connection = Connection {
            session: self
                .station
                .sessions
                .open((&door, state.peer), 0, clock::now()),
            socket: Socket::new(client.into()),
            timer: worker.deadlines.timer(),
            peer: state.peer,
            peer_text: AddressText::new(state.peer.ip()),
            door,
            listener,
            deadline: clock::now(),
            is_new: false,
            stays: false,
            certificate: None,
            fingerprint: None,
            heard: handing::heard(&state),
            seats: Some((worker.count_connection(), seat)),
        };
        match (state.stage, server) {
            (Stage::Idle { left, is_new }, _) => {
                connection.deadline += left;
                connection.is_new = is_new;
                tokio::task::spawn_local(Rc::clone(self).live(connection, false));
            }
            (Stage::Relayed(relayed), Some(server)) => {
                let server = Socket::new(server.into());
                tokio::task::spawn_local(Rc::clone(self).resume(connection, relayed, server));
            }
            (Stage::Switched(relayed, request), Some(server)) => {
                let server = Socket::new(server.into());
                let serving = Rc::clone(self).go_on(connection, (relayed, request), server);
                tokio::task::spawn_local(serving);
            }
            (_, None) => {}
        }
    }

    /// The same for one that has left HTTP.
    async fn go_on(
        self: Rc<Self>,
        mut connection: Connection,
        of: (Relayed, Box<Request>),
        server: Socket,
    ) {
        let _end = End::of(&connection.door, &self.station.totals);
        let (plane, number) = connection.door.view();
        connection.listener = number;
        let session = &connection.session;
        let mut serving = pin!(switch::resume(&plane, &connection, of, &server));
        let served = poll_fn(|context| plane.poll_unless_over(session, serving.as_mut(), context));
        if served.await.is_none() {
            stream::reset_on_close(&connection.socket);
        }
    }

    /// The life of a connection that was relayed by another process.
    async fn resume(self: Rc<Self>, connection: Connection, relayed: Relayed, server: Socket) {
        let _end = End::of(&connection.door, &self.station.totals);
        let resumed = Box::new((relayed, server));
        connection::relayed(connection, Some(resumed)).await;
    }
}
