//! A real browser (Chromium, headless) that is told what to do over a pipe, in its own protocol (DevTools).
#![expect(
    clippy::indexing_slicing,
    reason = "what is not in an answer of a browser is null"
)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// Commands come in by descriptor 3, and answers go out by 4.
const START: &str = "exec chromium --headless --no-sandbox --disable-gpu --no-first-run --no-proxy-server \
    --remote-debugging-pipe --user-data-dir=\"$0\" about:blank 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// A browser with one page.
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: String,
    sent: u64,
    /// What the page complained of.
    complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Opens `url` in a window of this size.
    ///
    /// # Panics
    /// If there is no browser, or it does not do as it is told.
    #[must_use]
    pub fn open(url: &str, (width, height): (u32, u32)) -> Self {
        let profile = tempfile::tempdir().expect("the temporary directory is writable");
        let mut command = Command::new("sh");
        command.args(["-c", START]).arg(profile.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("there is a shell");
        let (commands, answers) = (child.stdin.take(), child.stdout.take());
        let mut browser = Self {
            child,
            commands: commands.expect("it is piped"),
            answers: BufReader::new(answers.expect("it is piped")),
            session: String::new(),
            sent: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let made = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = made["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        browser.call("Log.enable", json!({}));
        browser.call("Runtime.enable", json!({}));
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
        browser.call("Page.navigate", json!({ "url": url }));
        browser
    }

    /// Returns what an expression of JavaScript is in the page.
    ///
    /// # Panics
    /// If it throws.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", asked);
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        answer["result"]["value"].clone()
    }

    /// Returns all that the page has complained of.
    #[must_use]
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Keeps a picture of the page in the directory that `PLIMSOLL_SCREENSHOTS` names, if it does.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn picture(&mut self, name: &str) {
        let Some(directory) = std::env::var_os("PLIMSOLL_SCREENSHOTS") else {
            return;
        };
        let taken = self.call("Page.captureScreenshot", json!({}));
        let taken = taken["data"].as_str().unwrap_or_default();
        let bytes = STANDARD.decode(taken).expect("a browser writes Base64");
        let path = Path::new(&directory).join(name);
        fs::write(path, bytes).expect("the directory is writable");
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut command = json!({ "id": self.sent, "method": method, "params": params });
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        let text = format!("{command}\0");
        let sent = self.commands.write_all(text.as_bytes());
        sent.expect("install the Debian package chromium");
        loop {
            let said = self.hear();
            if said["id"] == self.sent {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].clone();
            }
            match said["method"].as_str() {
                Some("Log.entryAdded") => self.complaints.push(said["params"]["entry"].to_string()),
                Some("Runtime.exceptionThrown") => self.complaints.push(said["params"].to_string()),
                _ => {}
            }
        }
    }

    fn hear(&mut self) -> Value {
        let mut text = Vec::new();
        let read = self.answers.read_until(0, &mut text);
        read.expect("a browser answers");
        text.pop();
        serde_json::from_slice(&text).expect("install the Debian package chromium")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
