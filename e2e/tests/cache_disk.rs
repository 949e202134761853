//! Caches with a disk: what is there after a start, and what is not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::body::digest;
use plimsoll_e2e::cached::{message, purge_at, request, status};
use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::{Recorder, Request};
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wire::Response;
use plimsoll_e2e::{ports, wait};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

/// A server, and a directory that each Plimsoll in front of it has its disk in.
struct Place {
    upstream: Recorder,
    directory: TempDir,
    port: u16,
}

impl Place {
    fn new(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self {
            upstream: Recorder::start(script),
            directory: tempfile::tempdir().unwrap(),
            port: ports::free(),
        }
    }

    fn disk(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn text(&self) -> String {
        let (port, disk) = (self.port, self.disk());
        let (disk, server) = (disk.display(), self.upstream.address());
        format!(
            "workers 2\nadmin unix:{{dir}}/admin.sock 127.0.0.1:{{port:admin}}\n\
             site * {{ listen 127.0.0.1:{port} ; timeout body=30s ; route {{ cache c ; proxy app }} }}\n\
             cache c {{ memory 16MiB ; object-size-max 2MiB ; disk {disk} 64MiB ; wait 30s }}\n\
             pool app {{ server {server} ; retry 0 ; timeout response=30s }}\n"
        )
    }

    /// Starts Plimsoll, and waits until it knows all that is on disk.
    fn start(&self) -> Plimsoll {
        self.ready(Start::run(&self.text()).start())
    }

    fn ready(&self, plimsoll: Plimsoll) -> Plimsoll {
        wait::expect("it to serve", SOON, || ports::is_listening(self.port));
        wait::expect("all to be known", SOON, || disk(&plimsoll, "known") == 1.0);
        plimsoll
    }

    fn address(&self) -> SocketAddr {
        ports::local(self.port)
    }

    fn ask_as(&self, method: &str, target: &str, lines: &str) -> Response {
        let mut client = Raw::connect(self.address());
        let asked = request(method, target, &format!("Host: a.example|{lines}"));
        client.send(asked).unwrap();
        client.response(method)
    }

    fn ask(&self, target: &str) -> Response {
        self.ask_as("GET", target, "")
    }

    /// How often the server was asked for `target`.
    fn count(&self, target: &str) -> usize {
        let requests = self.upstream.requests();
        requests
            .iter()
            .filter(|request| request.head.target == target)
            .count()
    }
}

/// What is counted of the disk.
fn disk(plimsoll: &Plimsoll, name: &str) -> f64 {
    let name = format!("plimsoll_cache_disk_{name}{{cache=\"c\"}}");
    plimsoll.metric(&name).unwrap_or_default()
}

fn wait_written(plimsoll: &Plimsoll, count: f64) {
    wait::expect("all to be written", SOON, || {
        disk(plimsoll, "written_total") >= count
    });
}

fn stop(mut plimsoll: Plimsoll) {
    plimsoll.signal(Signal::TERM);
    assert!(plimsoll.wait_exit(SOON).success());
}

fn kill(mut plimsoll: Plimsoll) {
    plimsoll.signal(Signal::KILL);
    plimsoll.wait_exit(SOON);
}

/// The files of answers.
fn files(disk: &Path) -> Vec<PathBuf> {
    let rooms = fs::read_dir(disk).unwrap().map(|room| room.unwrap().path());
    let rooms = rooms.filter(|room| room.is_dir() && !room.ends_with("new"));
    let files = rooms.flat_map(|room| fs::read_dir(room).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

/// What is at `target`: bytes that are nowhere else.
fn body(target: &str, length: usize) -> Vec<u8> {
    target.bytes().cycle().take(length).collect()
}

const FRESH: &str = "Cache-Control: max-age=1000";

/// A server that has something of this length at each target.
fn bodies(length: usize) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    move |request| Answer::bytes(message(FRESH, &body(&request.head.target, length)))
}

#[test]
fn what_is_on_disk_answers_after_the_next_start_in_every_form() {
    let place = Place::new(|_| {
        Answer::bytes(message(
            "Cache-Control: max-age=1000|ETag: \"e\"|Cache-Tag: t|Content-Type: a/b",
            b"0123456789",
        ))
    });
    let plimsoll = place.start();
    assert_eq!(place.ask("/").text(), "0123456789");
    wait_written(&plimsoll, 1.0);
    stop(plimsoll);
    for (method, lines, code, text) in [
        ("GET", "", 200, "0123456789"),
        ("GET", "Range: bytes=2-4", 206, "234"),
        ("GET", "If-None-Match: \"e\"", 304, ""),
        ("GET", "Cache-Control: only-if-cached", 200, "0123456789"),
        ("HEAD", "", 200, ""),
    ] {
        let plimsoll = place.start();
        let answer = place.ask_as(method, "/", lines);
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (code, text),
            "{lines}"
        );
        assert!(
            status(&answer).starts_with("plimsoll; hit; ttl=")
                && status(&answer).ends_with("; detail=disk"),
            "{}",
            status(&answer)
        );
        assert_eq!(
            (answer.field("cache-tag"), answer.field("etag")),
            (None, Some("\"e\""))
        );
        wait::expect("it to be in memory", SOON, || {
            let again = place.ask("/");
            status(&again).starts_with("plimsoll; hit; ttl=")
                && !status(&again).ends_with("; detail=disk")
        });
        assert_eq!(disk(&plimsoll, "read_total"), 1.0);
        stop(plimsoll);
    }
    assert_eq!(place.count("/"), 1);
}

#[test]
fn the_disk_has_what_memory_has_no_room_for() {
    const LENGTH: usize = 30_000;
    let place = Place::new(bodies(LENGTH));
    let text = place.text().replace(
        "memory 16MiB ; object-size-max 2MiB",
        "memory 1MiB ; object-size-max 64KiB",
    );
    let plimsoll = place.ready(Start::run(&text).start());
    for number in 0..300 {
        let target = format!("/{number}");
        assert_eq!(
            place.ask(&target).body.digest,
            digest(&body(&target, LENGTH))
        );
        // What waits to be written takes its room in memory until it is.
        wait_written(&plimsoll, f64::from(number + 1));
    }
    for number in 0..300 {
        let target = format!("/{number}");
        let answer = place.ask(&target);
        assert_eq!(answer.body.digest, digest(&body(&target, LENGTH)));
        assert_eq!(place.count(&target), 1);
    }
    assert!(disk(&plimsoll, "read_total") > 200.0);
    let bytes = plimsoll.metric("plimsoll_cache_bytes{cache=\"c\"}");
    assert!(bytes.is_some_and(|bytes| bytes <= f64::from(1 << 20)));
}

/// Killed at whatever it is writing: the next start has nothing in part, and nothing that was left half made.
#[test]
fn a_process_that_dies_while_it_writes_leaves_nothing_in_part() {
    const LENGTH: usize = 200_000;
    let place = Place::new(bodies(LENGTH));
    for round in 0..12 {
        let plimsoll = place.start();
        for number in 0..10 + round {
            let target = format!("/{round}/{number}");
            assert_eq!(
                place.ask(&target).body.digest,
                digest(&body(&target, LENGTH))
            );
        }
        kill(plimsoll);
    }
    let plimsoll = place.start();
    let made = fs::read_dir(place.disk().join("new")).unwrap().count();
    assert_eq!((made, disk(&plimsoll, "corrupt_total")), (0, 0.0));
    assert!(
        disk(&plimsoll, "files") > 50.0,
        "{}",
        disk(&plimsoll, "files")
    );
    for round in 0..12 {
        for number in 0..10 + round {
            let target = format!("/{round}/{number}");
            assert_eq!(
                place.ask(&target).body.digest,
                digest(&body(&target, LENGTH))
            );
        }
    }
}

#[test]
fn files_that_are_not_what_was_written_are_not_served() {
    const LENGTH: usize = 3000;
    let place = Place::new(bodies(LENGTH));
    let plimsoll = place.start();
    for number in 0..200 {
        let _ = place.ask(&format!("/{number}"));
    }
    wait_written(&plimsoll, 200.0);
    stop(plimsoll);
    for (number, file) in files(&place.disk()).iter().enumerate() {
        let mut bytes = fs::read(file).unwrap();
        let at = (number * 7919) % bytes.len();
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    let plimsoll = place.start();
    for number in 0..200 {
        let target = format!("/{number}");
        assert_eq!(
            place.ask(&target).body.digest,
            digest(&body(&target, LENGTH))
        );
        assert_eq!(place.count(&target), 2, "{target}");
    }
    assert!(disk(&plimsoll, "corrupt_total") > 190.0);
}

/// Where the fault is behind what has gone out by then, the answer is torn, and the next one whole.
#[test]
fn a_fault_further_behind_tears_the_answer() {
    const LENGTH: usize = 2 << 20;
    let place = Place::new(bodies(LENGTH));
    let plimsoll = place.start();
    let _ = place.ask("/");
    wait_written(&plimsoll, 1.0);
    stop(plimsoll);
    let file = files(&place.disk()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let plimsoll = place.start();
    let mut client = Raw::connect(place.address());
    client.send(request("GET", "/", "Host: a.example")).unwrap();
    assert!(client.try_response("GET").is_err());
    assert_eq!(disk(&plimsoll, "corrupt_total"), 1.0);
    assert_eq!(place.ask("/").body.digest, digest(&body("/", LENGTH)));
    assert_eq!(place.count("/"), 2);
}

#[test]
fn one_reads_for_all_who_ask() {
    const LENGTH: usize = 2 << 20;
    let place = Place::new(bodies(LENGTH));
    let plimsoll = place.start();
    let _ = place.ask("/");
    wait_written(&plimsoll, 1.0);
    stop(plimsoll);
    let plimsoll = place.start();
    let expected = digest(&body("/", LENGTH));
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| assert_eq!(place.ask("/").body.digest, expected));
        }
    });
    assert_eq!((place.count("/"), disk(&plimsoll, "read_total")), (1, 1.0));
}

#[test]
fn forms_of_one_url_are_kept_apart_on_disk() {
    let place = Place::new(|request| {
        let language = request.head.fields.first("accept-language");
        let text = language.unwrap_or_default().to_owned();
        Answer::bytes(message(
            "Cache-Control: max-age=1000|Vary: Accept-Language",
            text.as_bytes(),
        ))
    });
    let languages = ["de", "en", "fr"];
    let ask = |language: &str| {
        let lines = format!("Accept-Language: {language}");
        place.ask_as("GET", "/", &lines).text()
    };
    let plimsoll = place.start();
    for language in languages {
        assert_eq!(ask(language), language);
    }
    wait_written(&plimsoll, 3.0);
    stop(plimsoll);
    let _plimsoll = place.start();
    for language in languages {
        assert_eq!(ask(language), language);
    }
    assert_eq!(place.count("/"), 3);
    assert_eq!(ask("es"), "es");
}

/// Runs `plimsoll cache purge` with these arguments.
fn purge(plimsoll: &Plimsoll, arguments: &[&str]) -> String {
    purge_at(&plimsoll.admin_socket(), arguments).unwrap()
}

/// What was purged does not come back, even if the process dies at once.
#[test]
fn purges_reach_the_disk() {
    let place = Place::new(|request| {
        let tag = request.head.target.trim_matches('/').to_owned();
        let lines = format!("{FRESH}, stale-while-revalidate=1000|ETag: \"e\"|Cache-Tag: {tag}");
        Answer::bytes(message(&lines, b"body"))
    });
    let plimsoll = place.start();
    for target in ["/a", "/b", "/c", "/d"] {
        let _ = place.ask(target);
    }
    wait_written(&plimsoll, 4.0);
    stop(plimsoll);
    let plimsoll = place.start();
    assert_eq!(purge(&plimsoll, &["--tag", "a"]), "1 purged");
    assert_eq!(
        purge(&plimsoll, &["--url", "http://a.example/b"]),
        "1 purged"
    );
    assert_eq!(purge(&plimsoll, &["--tag", "c", "--soft"]), "1 purged");
    kill(plimsoll);
    let plimsoll = place.start();
    for (target, count) in [("/a", 2), ("/b", 2), ("/d", 1)] {
        let _ = place.ask(target);
        assert_eq!(place.count(target), count, "{target}");
    }
    // What was purged softly serves once more, while the server is asked.
    let stale = place.ask("/c");
    assert!(
        status(&stale).starts_with("plimsoll; hit; "),
        "{}",
        status(&stale)
    );
    wait::expect("the server to be asked", SOON, || place.count("/c") == 2);
    assert_eq!(
        purge(&plimsoll, &["--prefix", "http://a.example/"]),
        "4 purged"
    );
    assert_eq!(disk(&plimsoll, "files"), 0.0);
}

#[test]
fn stale_answers_on_disk_serve_while_the_server_is_asked() {
    let gate = Gate::new();
    let held = gate.clone();
    let place = Place::new(
        move |request| match request.head.fields.first("if-none-match") {
            Some(_) => Answer::bytes(message(FRESH, b"new")).after(Step::Await(held.clone())),
            None => Answer::bytes(message(
                "Cache-Control: max-age=11, stale-while-revalidate=1000|ETag: \"e\"",
                b"old",
            )),
        },
    );
    let plimsoll = place.start();
    assert_eq!(place.ask("/").text(), "old");
    wait_written(&plimsoll, 1.0);
    assert_eq!(
        purge(&plimsoll, &["--soft", "--url", "http://a.example/"]),
        "1 purged"
    );
    stop(plimsoll);
    let _plimsoll = place.start();
    assert_eq!(place.ask("/").text(), "old");
    wait::expect("the question", SOON, || place.count("/") == 2);
    assert_eq!(place.ask("/").text(), "old");
    gate.open();
    wait::expect("the new answer", SOON, || place.ask("/").text() == "new");
}

/// A disk that is full slows nothing, and is used again when it has room.
#[test]
fn a_disk_that_is_full_is_done_without() {
    const LENGTH: usize = 50_000;
    let place = Place::new(bodies(LENGTH));
    fs::create_dir(place.disk()).unwrap();
    let script =
        "mount -t tmpfs -o size=2m,mode=700 cache \"$1\" && exec \"$2\" run -c plimsoll.conf";
    let disk_path = place.disk().display().to_string();
    let program = binary().display().to_string();
    let arguments = ["-m", "sh", "-c", script, "sh", &disk_path, &program];
    let start = Start::with(arguments.map(str::to_owned).to_vec())
        .program("unshare")
        .configuration(&place.text());
    let mut plimsoll = place.ready(start.start());
    let root = format!("/proc/{}/root", plimsoll.daemon().id());
    let ballast = PathBuf::from(format!("{root}{disk_path}/ballast"));
    // It ends where there is no block left.
    assert!(fs::write(&ballast, vec![0; 4 << 20]).is_err());
    let ask = |number: usize| {
        let target = format!("/{number}");
        let answer = place.ask(&target);
        assert_eq!(answer.body.digest, digest(&body(&target, LENGTH)));
    };
    (0..20).for_each(ask);
    wait::expect("it to be left alone", SOON, || disk(&plimsoll, "up") == 0.0);
    let said = plimsoll.stderr();
    assert_eq!(said.matches("the disk of a cache fails").count(), 1);
    fs::remove_file(&ballast).unwrap();
    let mut number = 20;
    wait::expect("it to be used again", SOON, || {
        number += 1;
        ask(number);
        disk(&plimsoll, "up") == 1.0
    });
    let written = disk(&plimsoll, "written_total");
    ask(1000);
    wait_written(&plimsoll, written + 1.0);
    // It is smaller than it was said to be: what is oldest makes room, as often as it must.
    (1001..1101).for_each(ask);
    wait_written(&plimsoll, written + 50.0);
    assert!(
        disk(&plimsoll, "evicted_total") > 0.0 && disk(&plimsoll, "bytes") < f64::from(2 << 20)
    );
}

/// Files stay in use over reloads, also where the cache changes in size or name.
#[test]
fn reloads_go_on_with_the_disk() {
    let place = Place::new(bodies(100));
    let mut plimsoll = place.start();
    let _ = place.ask("/");
    wait_written(&plimsoll, 1.0);
    let text = place.text();
    for (round, text) in [
        text.replace("retry 0", "retry 1"),
        text.replace("memory 16MiB", "memory 17MiB"),
        text.replace("64MiB", "65MiB"),
        text.replace("cache c", "cache d"),
        text,
    ]
    .iter()
    .enumerate()
    {
        plimsoll.rewrite(text);
        plimsoll.signal(Signal::HUP);
        wait::expect("the reload", SOON, || {
            let name = "plimsoll_config_reloads_total{result=\"done\"}";
            plimsoll.metric(name) == Some((round + 1) as f64)
        });
        let answer = place.ask("/");
        assert!(status(&answer).starts_with("plimsoll; hit; "));
    }
    assert_eq!(place.count("/"), 1);
}

/// What a process may not share, or others may write to, is refused, and `check` says so.
#[test]
fn directories_that_cannot_be_used_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new(bodies(1));
    let plimsoll = place.start();
    let mut second = Start::run(&place.text().replace(
        &format!("listen 127.0.0.1:{}", place.port),
        "listen 127.0.0.1:{port}",
    ))
    .spawn();
    assert!(!second.wait_exit(SOON).success());
    assert!(
        second.stderr().contains("it is in use"),
        "{}",
        second.stderr()
    );
    let check = || {
        let output = Command::new(binary())
            .args(["check", "-c", "plimsoll.conf"])
            .current_dir(plimsoll.directory())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    assert!(check().0, "{}", check().1);
    fs::set_permissions(place.disk(), fs::Permissions::from_mode(0o777)).unwrap();
    let (is_good, said) = check();
    assert!(!is_good && said.contains("may write to it"), "{said}");
}

/// Links in the directory lead nowhere.
#[test]
fn links_in_the_directory_are_not_followed() {
    let place = Place::new(bodies(100));
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let plimsoll = place.start();
    let _ = place.ask("/");
    wait_written(&plimsoll, 1.0);
    stop(plimsoll);
    let file = files(&place.disk()).remove(0);
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&secret, &file).unwrap();
    let plimsoll = place.start();
    assert_eq!(place.ask("/").body.digest, digest(&body("/", 100)));
    wait_written(&plimsoll, 1.0);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    assert_eq!(disk(&plimsoll, "corrupt_total"), 1.0);
}
