//! The pages that say what went wrong. They show the status, a sentence and the request id, and
//! nothing that came from the client.

use plimsoll_http::accept::Media;

/// What a person is told about a status.
fn sentence(status: u16) -> &'static str {
    match status {
        400 => "The request could not be understood.",
        401 => "You have to say who you are.",
        403 => "Access is not allowed.",
        404 => "There is nothing at this address.",
        405 => "This method is not offered here.",
        408 => "The request took too long to arrive.",
        413 => "The request is too large.",
        414 => "The address is too long.",
        417 => "The expectation cannot be met.",
        429 => "There have been too many requests; try again later.",
        431 => "The request has too many or too large fields.",
        501 => "This is not implemented.",
        502 => "The server behind this site did not give a valid answer.",
        503 => "This site is not available right now.",
        504 => "The server behind this site did not answer in time.",
        505 => "This version of HTTP is not supported.",
        _ => "Something went wrong.",
    }
}

/// The reason phrase of a status.
pub(crate) fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Appends the page for `status`; `detail` is a text of ours, `id` the request id.
pub(crate) fn page(media: Media, status: u16, detail: &str, id: &[u8], out: &mut Vec<u8>) {
    let (title, text) = (phrase(status), sentence(status));
    let (colon, code) = (
        if detail.is_empty() { "" } else { ": " },
        status.to_string(),
    );
    let id = std::str::from_utf8(id).unwrap_or_default();
    let said = if detail.is_empty() { text } else { detail };
    let parts: &[&str] = match media {
        Media::Html => &[
            HTML_BEGIN,
            &code,
            " ",
            title,
            HTML_STYLE,
            title,
            "</h1>\n<p>",
            text,
            "\n<p><small>",
            &code,
            colon,
            detail,
            " &middot; request ",
            id,
            "</small>\n",
        ],
        Media::Problem => &[
            "{\"type\":\"about:blank\",\"title\":\"",
            title,
            "\",\"status\":",
            &code,
            ",\"detail\":\"",
            said,
            "\",\"request_id\":\"",
            id,
            "\"}\n",
        ],
        Media::Plain => &[&code, " ", title, colon, detail, "\nrequest ", id, "\n"],
    };
    parts
        .iter()
        .for_each(|part| out.extend_from_slice(part.as_bytes()));
}

const HTML_BEGIN: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n<title>";

const HTML_STYLE: &str = "</title>\n<style>body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;\
    padding:0 1rem;color:#222}small{color:#666}</style>\n<h1>";
