//! The admin listeners: they show what is served, and change it.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use plimsoll_config::model::AdminAddress;
use plimsoll_control::launch::Running;
use plimsoll_control::reload::Reloader;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::answer::answer;
use crate::guard::{From, Guard};
use crate::handover::Open;
use crate::listen::Listener;
use crate::logs::Places;
use crate::metrics::MoreMetrics;
use crate::sampler::Sampler;

/// How long a head may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How many connections there may be; others wait in the backlog.
const CONNECTIONS_MAX: usize = 256;

/// What is asked at every admin listener.
#[derive(Debug)]
pub struct Desk {
    pub(crate) reloader: Arc<Reloader>,
    pub(crate) more: MoreMetrics,
    pub(crate) guard: Guard,
    pub(crate) sampler: Sampler,
    /// Places for those who listen to what is logged.
    pub(crate) listeners_of_logs: Places,
    /// Seats for connections.
    seats: Arc<Semaphore>,
    pub(crate) open: Mutex<Vec<Open>>,
    /// The process that serves now, when it is another one.
    pub(crate) successor: watch::Sender<Option<u32>>,
}

impl Desk {
    /// Shows what is served, with `more` metrics, and changes it for whom `guard` lets.
    pub fn new(reloader: Arc<Reloader>, more: MoreMetrics, guard: Guard) -> Arc<Self> {
        let sampler = Sampler::new(reloader.engine());
        Arc::new(Self {
            reloader,
            more,
            guard,
            sampler,
            listeners_of_logs: Places::default(),
            seats: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            open: Mutex::default(),
            successor: watch::Sender::default(),
        })
    }

    /// What is served now.
    pub(crate) fn running(&self) -> Arc<Running> {
        self.reloader.engine().now()
    }

    /// Looks at everything each second, for ever.
    pub async fn watch(self: Arc<Self>) {
        self.sampler.run(self.reloader.engine()).await;
    }

    /// Serves on `listener`, which is at `place`.
    pub fn open(self: &Arc<Self>, place: &AdminAddress, listener: Listener) {
        let listener = Arc::new(listener);
        let serving = tokio::spawn(Arc::clone(self).serve(Arc::clone(&listener)));
        let open = Open {
            place: place.to_string(),
            listener,
            serving: serving.abort_handle(),
        };
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(open);
    }

    async fn serve(self: Arc<Self>, listener: Arc<Listener>) {
        loop {
            if let Err(error) = self.accept(&listener).await {
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn accept(self: &Arc<Self>, listener: &Listener) -> io::Result<()> {
        let desk = Arc::clone(self);
        let seats = Arc::clone(&self.seats);
        let seat = seats.acquire_owned().await.map_err(io::Error::other)?;
        match listener {
            Listener::Ip(listener) => {
                let (stream, _) = listener.accept().await?;
                let from = From::at(stream.local_addr()?);
                tokio::spawn(desk.connection(stream, from, seat));
            }
            Listener::Socket(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                tokio::spawn(desk.connection(stream, From::Socket, seat));
            }
        }
        Ok(())
    }

    async fn connection(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        from: From,
        _seat: OwnedSemaphorePermit,
    ) {
        let service = service_fn(|request| {
            let desk = &self;
            async move { Ok::<_, Infallible>(answer(desk, from, request).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "an admin connection failed");
        }
    }
}
