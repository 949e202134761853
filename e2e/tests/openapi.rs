//! The description of the API, held to what is answered, by calls that are made up from it.

use plimsoll_e2e::plimsoll::Start;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::NamedTempFile;

/// What makes calls up, of PyPI.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

const TOKEN: &str = "0123456789abcdef0123";

/// What is not called: it starts another process, takes as long as it is told to (a canary), or never ends.
const LEFT_OUT: [&str; 4] = [
    "/v1/upgrade",
    "/v1/reload",
    "/v1/status/watch",
    "/v1/logs/tail",
];

/// Runs a command, which has to work.
fn run(command: &mut Command, missing: &str) -> Output {
    let output = command.output();
    let output = output.unwrap_or_else(|error| unreachable_program(missing, &error));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{missing}:\n{out}\n{err}");
    output
}

#[expect(clippy::panic, reason = "a test that cannot go on fails")]
fn unreachable_program<T>(missing: &str, error: &std::io::Error) -> T {
    panic!("{missing}: {error}")
}

/// Installs it beside what is built, once.
fn schemathesis() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(SCHEMATHESIS);
    let program = place.join("bin/schemathesis");
    if !program.exists() {
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&place);
        run(&mut make, "install the package python3-venv");
        let mut install = Command::new(place.join("bin/pip"));
        install.args(["install", "--quiet", SCHEMATHESIS]);
        run(
            &mut install,
            &format!("PyPI has to be reached for {SCHEMATHESIS}"),
        );
    }
    program
}

#[test]
fn calls_that_are_made_up_from_the_description_are_answered_as_it_says() {
    let token = NamedTempFile::new().unwrap();
    std::fs::write(token.path(), TOKEN).unwrap();
    let text = "workers 1\nadmin unix:{dir}/admin.sock 127.0.0.1:{port:admin} token={token}\n\
        cache media { memory 1MiB }\n\
        site * { listen 127.0.0.1:{port} ; route { cache media ; proxy app } }\n\
        pool app { server 127.0.0.1:1 ; server 127.0.0.1:2 }\n";
    let plimsoll = Start::run(text)
        .set("token", token.path().display())
        .start();
    let mut command = Command::new(schemathesis());
    let at = plimsoll.address_of("admin");
    command.args(["run", &format!("http://{at}/v1/openapi.json"), "--no-color"]);
    command.args(["--header", &format!("Authorization: Bearer {TOKEN}")]);
    // No schema says what there is: which pools, which text of the file, what waits to be confirmed.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    command.args([
        "--max-examples",
        "20",
        "--seed",
        "1",
        "--request-timeout",
        "10",
    ]);
    for path in LEFT_OUT {
        command.args(["--exclude-path", path]);
    }
    command.current_dir(plimsoll.directory());
    let output = run(&mut command, "it finds something");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(" passed, "), "{said}");
    assert_eq!(plimsoll.metric("plimsoll_panics_total"), Some(0.0));
}
