//! Probes against servers that behave, and servers that do not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use plimsoll_check::{
    HttpProbe, MysqlProbe, PostgresProbe, Probe, Report, Role, Step, UdpProbe, Verdict, Way, run,
};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UdpSocket};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(150);

fn every() -> Vec<Probe> {
    vec![
        Probe::Http(HttpProbe {
            method: "GET".into(),
            path: "/".into(),
            host: "x".into(),
            expect: vec![(200, 399)],
            header: None,
            body: None,
        }),
        Probe::Tls("example.com".into()),
        grpc("app"),
        postgres(None),
        postgres(Some(Role::Primary)),
        mysql(None),
        mysql(Some(Role::Primary)),
        Probe::Redis(None),
        Probe::Redis(Some(Role::Replica)),
        Probe::Smtp,
        Probe::Script(vec![Step::Expect(b"hello".to_vec())]),
        Probe::Agent,
    ]
}

fn postgres(role: Option<Role>) -> Probe {
    Probe::Postgres(PostgresProbe {
        user: "plimsoll_check".into(),
        database: "postgres".into(),
        password: Some("secret".into()),
        role,
    })
}

fn mysql(role: Option<Role>) -> Probe {
    Probe::Mysql(MysqlProbe {
        user: "plimsoll_check".into(),
        role,
    })
}

fn grpc(service: &str) -> Probe {
    Probe::Grpc {
        service: service.into(),
        authority: "x:1".into(),
    }
}

/// A server that sends these bytes to everyone, and then closes or keeps still.
async fn saying(bytes: &'static [u8], closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(bytes).await; // a client that left needs nothing
            if !closes {
                kept.push(stream);
            }
        }
    });
    address
}

fn at(address: SocketAddr, probe: &Probe, timeout: Duration) -> impl Future<Output = Report> {
    run(probe, Way::default(), address, timeout)
}

#[tokio::test]
async fn what_is_not_the_protocol_is_unfit() {
    let garbage: &[u8] = b"\x00\xff\x07garbage\r\nmore of it\r\n\r\n\x16\x03";
    let zeros: &[u8] = &[0; 200_000];
    for bytes in [b"", garbage, zeros] {
        let address = saying(bytes, true).await;
        for probe in every() {
            let report = at(address, &probe, LONG).await;
            assert_eq!(report.verdict, Verdict::Unfit, "{probe:?} {report:?}");
            assert!(!report.detail.is_empty() && !report.detail.chars().any(char::is_control));
        }
    }
}

#[tokio::test]
async fn silence_is_unfit_and_nobody_is_unreachable() {
    let address = saying(b"", false).await;
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for probe in every() {
        let report = at(address, &probe, SHORT).await;
        assert_eq!(report.verdict, Verdict::Unfit, "{probe:?} {report:?}");
        let report = at(nobody, &probe, LONG).await;
        assert_eq!(report.verdict, Verdict::Unreachable, "{probe:?} {report:?}");
    }
    assert_eq!(
        at(address, &Probe::Tcp, LONG).await.verdict,
        Verdict::Passed
    );
    assert_eq!(
        at(nobody, &Probe::Tcp, LONG).await.verdict,
        Verdict::Unreachable
    );
}

/// A gRPC server that answers health questions with this status of a service.
async fn health(status: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((mut request, mut respond))) = connection.accept().await {
                let asked = request.uri().path() == "/grpc.health.v1.Health/Check";
                let asked = asked && request.headers()["content-type"] == "application/grpc";
                tokio::spawn(async move {
                    let message = request.body_mut().data().await.unwrap().unwrap();
                    let known = message == Bytes::from_static(b"\0\0\0\0\x05\x0a\x03app");
                    let answer = http::Response::builder();
                    if !asked || !known {
                        let refusal = answer.header("grpc-status", "5").body(()).unwrap();
                        respond.send_response(refusal, true).unwrap();
                        return;
                    }
                    let mut body = respond
                        .send_response(answer.body(()).unwrap(), false)
                        .unwrap();
                    let bytes = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]);
                    body.send_data(bytes, false).unwrap();
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    body.send_trailers(trailers).unwrap();
                });
            }
        }
    });
    address
}

#[tokio::test]
async fn the_health_service_of_grpc() {
    let serving = health(1).await;
    assert_eq!(
        at(serving, &grpc("app"), LONG).await.verdict,
        Verdict::Passed
    );
    let unknown = at(serving, &grpc("other"), LONG).await;
    assert_eq!(
        (unknown.verdict, &*unknown.detail),
        (Verdict::Unfit, "gRPC status 5")
    );
    let stopped = at(health(2).await, &grpc("app"), LONG).await;
    assert_eq!(
        (stopped.verdict, &*stopped.detail),
        (Verdict::Unfit, "NOT_SERVING")
    );
}

/// A server that sends back what this makes of each datagram.
async fn answering(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut room = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut room).await {
            if let Some(answer) = room.get(..len).and_then(&answer) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    address
}

fn udp(expect: &[u8]) -> Probe {
    Probe::Udp(UdpProbe {
        send: b"ping".to_vec(),
        expect: expect.to_vec(),
    })
}

#[tokio::test]
async fn a_datagram_is_answered_as_it_should_be_or_not() {
    let echo = answering(|heard| Some([b"<", heard, b">\xff"].concat())).await;
    let silent = answering(|_| None).await;
    let nobody = UdpSocket::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for (address, expect, due) in [
        (echo, &b"ping>\xff"[..], Verdict::Passed),
        (echo, b"", Verdict::Passed),
        (echo, b"pong", Verdict::Unfit),
        (nobody, b"", Verdict::Unreachable),
    ] {
        assert_eq!(
            at(address, &udp(expect), LONG).await.verdict,
            due,
            "{expect:?}"
        );
    }
    let report = at(silent, &udp(b""), SHORT).await;
    assert_eq!(
        (report.verdict, &*report.detail),
        (Verdict::Unfit, "no answer in time")
    );
}

#[tokio::test]
async fn a_name_server_knows_a_name_or_not() {
    let dns = Probe::Dns("example.com".into());
    let coded = |code: u8| {
        move |heard: &[u8]| {
            let mut answer = heard.to_vec();
            *answer.get_mut(2)? |= 0x80;
            *answer.get_mut(3)? |= code;
            Some(answer)
        }
    };
    let knowing = answering(coded(0)).await;
    assert_eq!(at(knowing, &dns, LONG).await.verdict, Verdict::Passed);
    let ignorant = at(answering(coded(3)).await, &dns, LONG).await;
    assert_eq!(
        (ignorant.verdict, &*ignorant.detail),
        (Verdict::Unfit, "it answers with NXDOMAIN")
    );
    // What somebody else was asked is no answer.
    let other = answering(|heard| Some([b"xx", heard.get(2..)?].concat())).await;
    assert_eq!(at(other, &dns, SHORT).await.verdict, Verdict::Unfit);
}
