//! Texts with variables, compiled.

use plimsoll_config::model::{self, CertificatePart, Piece, Variable};
use plimsoll_http::h1::encode;
use plimsoll_http::request;

use crate::seen::Values;

/// A text that is filled in for each request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    pub(crate) fn new(template: &model::Template) -> Self {
        Self {
            pieces: template.pieces.clone(),
        }
    }

    /// Appends the text.
    pub(crate) fn write(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable) => write_variable(variable, values, out),
            }
        }
    }
}

fn write_variable(variable: &Variable, values: &Values<'_>, out: &mut Vec<u8>) {
    let origin = values.seen.origin;
    let number = |number: u16, out: &mut Vec<u8>| encode::decimal(u64::from(number), out);
    match variable {
        Variable::ClientPort => number(origin.client_port, out),
        Variable::Port => number(origin.port, out),
        Variable::ResponseStatus => {
            let status = values.answer.map(|(head, _)| head.status);
            number(status.unwrap_or(values.facts.status), out);
        }
        Variable::Uri => {
            out.extend_from_slice(values.seen.path());
            if let Some(query) = values.seen.query() {
                out.push(b'?');
                out.extend_from_slice(query);
            }
        }
        Variable::AuthClaim(name) => {
            let auth = values.facts.auth.as_ref();
            let claim = auth.map(|auth| auth.claims.text(name));
            out.extend_from_slice(claim.unwrap_or_default().as_bytes());
        }
        variable => out.extend_from_slice(text(variable, values).unwrap_or_default()),
    }
}

/// The value of a variable that is a text; nothing where there is none.
fn text<'a>(variable: &Variable, values: &'a Values<'_>) -> Option<&'a [u8]> {
    let Values {
        seen,
        facts,
        answer,
    } = values;
    match variable {
        Variable::Certificate(part) => match seen.certificate {
            Some(certificate) => Some(certificate.text(*part).as_bytes()),
            None => (*part == CertificatePart::Verified).then_some(&b"no"[..]),
        },
        Variable::Fingerprint => Some(seen.fingerprint?.as_bytes()),
        Variable::ClientIp => Some(seen.origin.client_text.as_bytes()),
        Variable::RequestId => Some(facts.id.as_bytes()),
        Variable::Method => Some(seen.head.method_span.of(seen.bytes)),
        Variable::Scheme => Some(seen.origin.scheme.as_bytes()),
        Variable::Host => Some(seen.host()),
        Variable::Authority => Some(seen.authority),
        Variable::Path => Some(seen.path()),
        Variable::Query => seen.query(),
        Variable::Header(name) => {
            let field = seen.head.fields.by_text(seen.bytes, name.as_bytes())?;
            Some(field.value.of(seen.bytes))
        }
        Variable::Cookie(name) => request::cookie(seen.head, seen.bytes, name.as_bytes()),
        Variable::QueryParameter(name) => request::query_parameter(seen.query()?, name.as_bytes()),
        Variable::Match(group) => facts.route?.path_group(seen, usize::from(*group)),
        Variable::SiteName => Some(facts.site?.name.as_bytes()),
        Variable::RoutePlace => Some(facts.route?.place.as_bytes()),
        Variable::PoolName => facts.pool.map(str::as_bytes),
        Variable::ServerName => facts.server.map(str::as_bytes),
        Variable::AuthUser => Some(facts.auth.as_ref()?.user.as_bytes()),
        Variable::ResponseHeader(name) => {
            let (head, bytes) = answer.as_ref()?;
            let field = head.fields.by_text(bytes, name.as_bytes())?;
            Some(field.value.of(bytes))
        }
        Variable::ClientPort
        | Variable::Port
        | Variable::ResponseStatus
        | Variable::Uri
        | Variable::AuthClaim(_) => None,
    }
}
