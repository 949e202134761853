//! QUIC through a port for datagrams: connections keep their servers when clients move.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::PATIENCE;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig,
    ServerConfig, TokioRuntime,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

const PROTOCOL: &[u8] = b"name";

/// Ids with the server in them, as draft-ietf-quic-load-balancers has it, in plain text: three bits of rotation, five
/// that are random, the server, and a nonce.
struct Ids {
    server: [u8; 2],
    made: u64,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.made += 1;
        let nonce = self.made.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let [first, ..] = nonce;
        let rotation = 0b010_00000;
        let mut id = vec![rotation | first & 0x1f];
        id.extend(self.server);
        id.extend(nonce);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        11
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A server that answers each question with its name.
struct Server {
    address: SocketAddr,
    _endpoint: Endpoint,
}

impl Server {
    /// With `id`, it stands in the ids of its connections.
    fn start(name: &'static str, authority: &Authority, id: Option<[u8; 2]>) -> Self {
        let certificate = CertificateDer::from_pem_file(authority.certificate()).unwrap();
        let key = PrivateKeyDer::from_pem_file(authority.key()).unwrap();
        let tls = rustls::ServerConfig::builder().with_no_client_auth();
        let mut tls = tls.with_single_cert(vec![certificate], key).unwrap();
        tls.alpn_protocols = vec![PROTOCOL.to_vec()];
        let tls = QuicServerConfig::try_from(tls).unwrap();
        let mut config = EndpointConfig::default();
        if let Some(server) = id {
            config.cid_generator(move || Box::new(Ids { server, made: 0 }));
        }
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let server = ServerConfig::with_crypto(Arc::new(tls));
        let endpoint = Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime));
        let endpoint = endpoint.unwrap();
        let accepting = endpoint.clone();
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                tokio::spawn(async move {
                    let connection = incoming.await.unwrap();
                    while let Ok((mut answer, mut question)) = connection.accept_bi().await {
                        question.read_to_end(100).await.unwrap();
                        answer.write_all(name.as_bytes()).await.unwrap();
                        answer.finish().unwrap();
                    }
                });
            }
        });
        Self {
            address,
            _endpoint: endpoint,
        }
    }
}

fn client(authorities: &[Authority]) -> Endpoint {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let root = CertificateDer::from_pem_file(authority.trusted()).unwrap();
        roots.add(root).unwrap();
    }
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots);
    let mut tls = tls.with_no_client_auth();
    tls.alpn_protocols = vec![PROTOCOL.to_vec()];
    let tls = QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(tls)));
    endpoint
}

async fn connect(client: &Endpoint, to: SocketAddr) -> Connection {
    let connecting = client.connect(to, "quic.test").unwrap();
    timeout(PATIENCE, connecting).await.unwrap().unwrap()
}

/// The name of the server that has the connection.
async fn ask(connection: &Connection) -> String {
    let asked = async {
        let (mut question, mut answer) = connection.open_bi().await.unwrap();
        question.write_all(b"who is there?").await.unwrap();
        question.finish().unwrap();
        String::from_utf8(answer.read_to_end(100).await.unwrap()).unwrap()
    };
    timeout(PATIENCE, asked).await.unwrap()
}

fn authorities() -> [Authority; 2] {
    [(); 2].map(|()| Authority::make("DNS:quic.test"))
}

/// Plimsoll before two servers, with more workers than a client would meet by chance.
fn before(servers: [&Server; 2], ids: [&str; 2]) -> Plimsoll {
    let [first, second] = servers.map(|server| server.address);
    let [one, two] = ids;
    Start::run(&format!(
        "workers 4\nadmin off\n\
         udp 127.0.0.1:{{port:udp}} {{ quic; proxy app }}\n\
         pool app {{ server {first} {one}; server {second} {two} }}\n"
    ))
    .start()
}

/// How many clients there are: all come to the same server by chance in one of 512 runs that are wrong.
const CLIENTS: usize = 10;

/// A client that moves takes another id, which its server has given it in secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_moves_stays_with_its_server() {
    let authorities = authorities();
    let [a, b] = &authorities;
    let servers = [
        Server::start("a", a, Some([0x0a, 1])),
        Server::start("b", b, Some([0x0a, 2])),
    ];
    let plimsoll = before(servers.each_ref(), ["quic-id=0a01", "quic-id=0a02"]);
    let mut names = BTreeSet::new();
    for _ in 0..CLIENTS {
        let client = client(&authorities);
        let connection = connect(&client, plimsoll.address_of("udp")).await;
        let name = ask(&connection).await;
        for _ in 0..3 {
            let elsewhere = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            client.rebind(elsewhere).unwrap();
            assert_eq!(ask(&connection).await, name);
        }
        names.insert(name);
        connection.close(0_u32.into(), b"");
    }
    assert_eq!(names, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
}

/// What passes datagrams on from ports of its own, and forgets them.
struct Nat {
    address: SocketAddr,
    forget: mpsc::Sender<()>,
}

impl Nat {
    async fn start(to: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let (forget, mut forgets) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut client = None;
            let mut back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let (mut up, mut down) = ([0; 2048], [0; 2048]);
            loop {
                tokio::select! {
                    Ok((len, from)) = front.recv_from(&mut up) => {
                        client = Some(from);
                        back.send_to(up.get(..len).unwrap(), to).await.unwrap();
                    }
                    Ok(len) = back.recv(&mut down) => {
                        let client = client.unwrap();
                        front.send_to(down.get(..len).unwrap(), client).await.unwrap();
                    }
                    Some(()) = forgets.recv() => {
                        back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                    }
                    else => break,
                }
            }
        });
        Self { address, forget }
    }
}

/// A client that is moved without knowing goes on with the id that its server gave it first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_moved_stays_with_its_server() {
    let authorities = authorities();
    let [a, b] = &authorities;
    let servers = [Server::start("a", a, None), Server::start("b", b, None)];
    let plimsoll = before(servers.each_ref(), ["", ""]);
    let mut names = BTreeSet::new();
    for _ in 0..CLIENTS {
        let nat = Nat::start(plimsoll.address_of("udp")).await;
        let client = client(&authorities);
        let connection = connect(&client, nat.address).await;
        let name = ask(&connection).await;
        for _ in 0..3 {
            nat.forget.send(()).await.unwrap();
            assert_eq!(ask(&connection).await, name);
        }
        names.insert(name);
        connection.close(0_u32.into(), b"");
    }
    assert_eq!(names, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
}
