//! A real browser: it loads a page with a hundred objects over HTTP/2, speaks WebSocket, and looks into the
//! middle of a video.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::recorder::{Recorder, Request};
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::wait;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const OBJECTS: usize = 100;

const PATIENCE: Duration = Duration::from_secs(60);

const PAGE: &str = r"<!doctype html><title>page</title><script>
const objects = Array.from({length: 100}, (_, at) =>
  fetch(`/object/${at}`).then(answer => answer.text()).then(text => text === `object ${at}`));
const spoken = new Promise(done => {
  const socket = new WebSocket(`wss://${location.host}/socket`);
  const heard = [];
  socket.onopen = () => ['one', 'two', 'three'].forEach(word => socket.send(word));
  socket.onmessage = event => { if (heard.push(event.data) === 3) socket.close(1000); };
  socket.onclose = event => done(`${heard.join(' ')} ${event.code}`);
});
Promise.all([Promise.all(objects), spoken]).then(([sound, words]) =>
  fetch('/result', {method: 'POST', body: `${sound.filter(Boolean).length} ${words}`}));
</script>";

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// A browser that shows a page.
struct Browser {
    _running: Running,
    _profile: TempDir,
}

impl Browser {
    /// Opens the page of this host, whose site listens on this port.
    fn open(host: &str, port: u16) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ]);
        command.args([
            "--ignore-certificate-errors",
            "--no-proxy-server",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.arg(format!("--host-resolver-rules=MAP {host} 127.0.0.1:{port}"));
        command.arg(format!("https://{host}/"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self {
            _running: Running(
                command
                    .spawn()
                    .expect("install the Debian package chromium"),
            ),
            _profile: profile,
        }
    }
}

/// Waits for what a page says came of it.
fn result(pages: &Recorder) -> String {
    let result = || {
        let requests = pages.requests().into_iter();
        let mut results = requests.filter(|r| r.head.target == "/result" && r.complete);
        results.next()
    };
    let result = wait::until(PATIENCE, result).expect("the page says what came of it");
    String::from_utf8_lossy(&result.body.bytes).into_owned()
}

fn answer(request: &Request) -> Answer {
    let target = &*request.head.target;
    match target.strip_prefix("/object/") {
        Some(number) => Answer::ok(format!("object {number}")),
        None if target == "/" => Answer::ok(PAGE),
        None => Answer::ok(""),
    }
}

fn echo() -> (Running, String) {
    let mut command = Command::new("python3");
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/browser/echo.py"
    ));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut port).unwrap();
    (Running(child), format!("127.0.0.1:{}", port.trim()))
}

#[test]
fn a_browser_loads_a_page_over_http_2_and_speaks_websocket() {
    let authority = Authority::make("DNS:page.example");
    let pages = Recorder::start(answer);
    let (_echo, sockets) = echo();
    let plimsoll = Start::run(&format!(
        "admin off\nsite page.example {{ listen 127.0.0.1:{{port}}; tls {} {}; log {{dir}}/access.log\n\
         route /socket {{ proxy {sockets} }}\nroute {{ proxy {} }} }}\n",
        authority.certificate(),
        authority.key(),
        pages.address(),
    ))
    .start();
    let _browser = Browser::open("page.example", plimsoll.address().port());
    let said = result(&pages);
    assert_eq!(said, "100 one two three 1000");
    let log = plimsoll.wait_log("access.log", OBJECTS + 3, PATIENCE);
    let is_object = |line: &&String| line.contains("\"path\":\"/object/");
    let is_over_2 = |line: &&String| line.contains("\"proto\":\"HTTP/2.0\"");
    let objects = log.iter().filter(is_object).filter(is_over_2);
    assert_eq!(objects.count(), OBJECTS);
    let mut sockets = log.iter().filter(|line| line.contains("/socket"));
    let socket = sockets.next().unwrap();
    assert!(socket.contains("\"status\":101"), "{socket}");
}

const CINEMA: &str = r"<!doctype html><title>cinema</title><video muted preload=metadata src=film.webm></video><script>
const video = document.querySelector('video');
const say = text => fetch('/result', {method: 'POST', body: text});
const shows = () => {
  const canvas = document.createElement('canvas');
  canvas.getContext('2d').drawImage(video, 0, 0);
  return canvas.getContext('2d').getImageData(0, 0, 99, 99).data.some(value => value > 0 && value < 255);
};
video.onloadedmetadata = () => { video.currentTime = 50; };
video.onseeked = () => say(`${Math.round(video.duration)} ${video.currentTime} ${shows()}`);
video.onerror = () => say(video.error.message);
</script>";

/// Makes a video of a minute whose picture changes.
fn film(path: &Path) {
    let picture = "testsrc=duration=60:size=480x270:rate=5,noise=alls=60:allf=t";
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-f", "lavfi", "-i", picture]);
    command.args(["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"]);
    command.args(["-b:v", "2M", "-g", "25"]).arg(path);
    let made = command.status();
    assert!(made.expect("install the Debian package ffmpeg").success());
}

#[test]
fn a_browser_looks_into_the_middle_of_a_video() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("index.html"), CINEMA).unwrap();
    film(&directory.path().join("film.webm"));
    let authority = Authority::make("DNS:page.example");
    let pages = Recorder::start(|_| Answer::ok(""));
    let plimsoll = Start::run(&format!(
        "admin off\nsite page.example {{ listen 127.0.0.1:{{port}}; tls {} {}; log {{dir}}/access.log\n\
         route /result {{ proxy {} }}\nroute {{ files {} }} }}\n",
        authority.certificate(),
        authority.key(),
        pages.address(),
        directory.path().display(),
    ))
    .start();
    let browser = Browser::open("page.example", plimsoll.address().port());
    assert_eq!(result(&pages), "60 50 true");
    drop(browser);
    let parts = |log: Vec<String>| {
        let parts = log.into_iter().filter(|line| line.contains("/film.webm"));
        parts.filter(|line| line.contains("\"status\":206")).count()
    };
    wait::expect(
        "the beginning and the middle were asked for",
        PATIENCE,
        || parts(plimsoll.log("access.log")) >= 2,
    );
}
