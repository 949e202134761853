//! Checks as statements.

use super::{Words, words};
use crate::model::{Check, Probe, Role, ScriptStep};
use crate::units::duration_text;

pub(super) fn check(check: &Check) -> Words {
    let mut out = words(["check"]);
    out.extend(probe(&check.probe));
    let times = [
        ("every", check.every),
        ("fast", check.fast),
        ("down", check.down),
        ("timeout", check.timeout),
    ];
    out.extend(times.map(|(name, time)| format!("{name}={}", duration_text(time))));
    out.extend([
        format!("fall={}", check.fall),
        format!("rise={}", check.rise),
    ]);
    out.extend(check.port.map(|port| format!("port={port}")));
    out.extend((!check.tls).then(|| "tls=off".to_owned()));
    out.extend((!check.proxy_protocol).then(|| "proxy-protocol=off".to_owned()));
    out.push(format!(
        "initial={}",
        if check.initially_up { "up" } else { "down" }
    ));
    out
}

/// What is asked.
fn probe(probe: &Probe) -> Words {
    let mut out = Words::new();
    match probe {
        Probe::Tcp => out.push("tcp".into()),
        Probe::Tls => out.push("tls".into()),
        Probe::Postgres {
            user,
            database,
            password,
            role: wanted,
        } => {
            out.extend([
                "postgres".into(),
                format!("user={user}"),
                format!("database={database}"),
            ]);
            let password = password.iter();
            out.extend(password.map(|password| format!("password={password}")));
            out.extend(wanted.map(role));
        }
        Probe::Mysql { user, role: wanted } => {
            out.extend(["mysql".into(), format!("user={user}")]);
            out.extend(wanted.map(role));
        }
        Probe::Redis(wanted) => {
            out.push("redis".into());
            out.extend(wanted.map(role));
        }
        Probe::Smtp => out.push("smtp".into()),
        Probe::Agent => out.push("agent".into()),
        Probe::Grpc(service) => {
            out.push("grpc".into());
            out.extend((!service.is_empty()).then(|| format!("service={service}")));
        }
        Probe::Script(steps) => {
            out.push("script".into());
            out.extend(steps.iter().map(step));
        }
        Probe::Udp { send, expect } => {
            out.extend(["udp".into(), format!("send={send}")]);
            out.extend((!expect.is_empty()).then(|| format!("expect={expect}")));
        }
        Probe::Dns(name) => out.extend(["dns".into(), name.to_string()]),
        Probe::Exec(words) => {
            out.push("exec".into());
            out.extend(words.iter().map(ToString::to_string));
        }
        Probe::Http {
            method,
            path,
            host,
            expect,
            header,
            body,
        } => {
            out.extend([method.to_string(), path.to_string()]);
            out.extend(host.as_ref().map(|host| format!("host={host}")));
            let ranges: Vec<String> = expect
                .iter()
                .map(|(from, to)| format!("{from}-{to}"))
                .collect();
            out.push(format!("expect={}", ranges.join(",")));
            out.extend(
                header
                    .as_ref()
                    .map(|(name, text)| format!("header={name}:{text}")),
            );
            out.extend(body.as_ref().map(|body| format!("body={body}")));
        }
    }
    out
}

fn step(step: &ScriptStep) -> String {
    match step {
        ScriptStep::Send(text) => format!("send={text}"),
        ScriptStep::Expect(text) => format!("expect={text}"),
    }
}

fn role(role: Role) -> String {
    let mut names = Role::NAMES.iter();
    let name = names.find(|(_, known)| *known == role);
    format!("role={}", name.map_or("", |(name, _)| name))
}
