//! Answers that are files.

mod coded;
mod find;
mod head;
mod list;
mod send;

use std::io;
use std::rc::Rc;

use plimsoll_http::coding::Liked;
use plimsoll_http::conditional::{self, Verdict};
use plimsoll_http::method::Method;
use plimsoll_http::range::{self, Asked};
use plimsoll_http::reason::Reason;

use crate::files::{Files, Resource};
use crate::http::exchange::{Ending, Exchange};
use crate::http::files::find::Found;
use crate::http::files::head::{Body, Reply};
use crate::http::respond::{Answer, respond};
use crate::http::walk;
use crate::shelf::Shelved;

/// Answers with the file that the path stands for.
pub(crate) async fn serve(exchange: &mut Exchange<'_>, files: &Files) -> Ending {
    if !matches!(exchange.scratch.head.method, Method::Get | Method::Head) {
        let answer = Answer {
            status: 405,
            allow: "GET, HEAD",
            ..Answer::to(Reason::HttpRequestDenied, "files can only be read")
        };
        return respond(exchange, answer).await;
    }
    let mut name = std::mem::take(&mut exchange.scratch.text);
    let found = find::find(exchange, files, &mut name).await;
    let ending = match found {
        Ok(Found::File(shelved)) => answer(exchange, files, &shelved).await,
        Ok(Found::Slash) => add_slash(exchange).await,
        Ok(Found::Listing) => list::list(exchange, files, &name).await,
        Ok(Found::Nothing) => {
            let nothing = Answer::to(Reason::DestinationNotFound, "there is no such file");
            respond(exchange, nothing).await
        }
        Err(error) => respond(exchange, unreadable(&error)).await,
    };
    exchange.scratch.text = name;
    ending
}

fn unreadable(error: &io::Error) -> Answer<'static> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Answer::to(Reason::HttpRequestDenied, "the file may not be read")
        }
        _ => Answer::to(Reason::ProxyInternalError, "the file cannot be read"),
    }
}

/// Sends the client to the path that names the directory itself.
async fn add_slash(exchange: &mut Exchange<'_>) -> Ending {
    let mut to = exchange.seen().path().to_vec();
    to.push(b'/');
    if let Some(query) = exchange.seen().query() {
        to.push(b'?');
        to.extend_from_slice(query);
    }
    walk::send_to(exchange, 301, &to).await
}

/// Answers with a file, or with that the client has it, or with the part that it asks for.
async fn answer(exchange: &mut Exchange<'_>, files: &Files, shelved: &Rc<Shelved>) -> Ending {
    let mut file = chosen(exchange, shelved);
    let coding = coded::coding(exchange, file);
    let made = match coding.flatten() {
        Some(coding) => coded::coded(exchange, shelved, coding).await,
        None => None,
    };
    if let Some(made) = &made {
        file = made;
    }
    let is_immutable = {
        let path = exchange.seen();
        files.immutable.iter().any(|one| one.takes(path.path()))
    };
    let reply = |status, body| Reply {
        status,
        file,
        body,
        varies: files.is_precompressed || coding.is_some(),
        is_immutable,
    };
    let (head, bytes) = (&exchange.scratch.head, exchange.inbound.filled());
    let reply = match conditional::evaluate(&head.fields, bytes, true, file.validators()) {
        Verdict::Failed => {
            let failed = Answer {
                status: 412,
                ..Answer::to(Reason::ProxyInternalResponse, "")
            };
            return respond(exchange, failed).await;
        }
        Verdict::NotModified => reply(304, Body::Nothing),
        Verdict::Proceed => match asked(exchange, file) {
            Asked::Whole => reply(200, Body::Whole),
            Asked::Unsatisfiable => return unsatisfiable(exchange, file.meta.size).await,
            Asked::Parts(parts) => match parts.only() {
                Some(part) => reply(206, Body::Part(part)),
                None => reply(206, Body::Parts(parts)),
            },
        },
    };
    send::send(exchange, &reply).await
}

/// The file, or one beside it in a coding that the client likes better.
fn chosen<'s>(exchange: &Exchange<'_>, shelved: &'s Shelved) -> &'s Resource {
    if shelved.coded.is_empty() {
        return &shelved.plain;
    }
    let in_coding = |coding| {
        let mut coded = shelved.coded.iter();
        coded.find(|file| file.coding == Some(coding))
    };
    let liked = Liked::of(&exchange.scratch.head, exchange.bytes());
    let best = liked.best(|coding| in_coding(coding).is_some());
    best.and_then(in_coding).unwrap_or(&shelved.plain)
}

/// What of the file is asked for.
fn asked(exchange: &Exchange<'_>, file: &Resource) -> Asked {
    let (head, bytes) = (&exchange.scratch.head, exchange.bytes());
    let mut lines = head.fields.all_by_text(bytes, b"range");
    let Some(line) = lines.next().filter(|_| head.method == Method::Get) else {
        return Asked::Whole;
    };
    let now = exchange.facts.at.as_secs();
    let counts = conditional::range_counts(&head.fields, bytes, file.validators(), now);
    if !counts || lines.next().is_some() {
        return Asked::Whole;
    }
    range::read(line.value.of(bytes), file.meta.size)
}

async fn unsatisfiable(exchange: &mut Exchange<'_>, size: u64) -> Ending {
    let fields = &mut exchange.scratch.fields;
    fields.extend_from_slice(b"Content-Range: bytes */");
    plimsoll_http::h1::encode::decimal(size, fields);
    fields.extend_from_slice(b"\r\n");
    let answer = Answer {
        status: 416,
        ..Answer::to(Reason::ProxyInternalResponse, "")
    };
    respond(exchange, answer).await
}
