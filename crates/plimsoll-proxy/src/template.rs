//! Texts with variables, compiled.

use plimsoll_config::model::{self, Piece, Variable};
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
    let Values {
        seen,
        facts,
        answer,
    } = values;
    let port = |port: u16, out: &mut Vec<u8>| encode::decimal(u64::from(port), out);
    let text: &[u8] = match variable {
        Variable::ClientIp => seen.origin.client_text.as_bytes(),
        Variable::ClientPort => return port(seen.origin.client_port, out),
        Variable::RequestId => facts.id.as_bytes(),
        Variable::Method => seen.head.method_span.of(seen.bytes),
        Variable::Scheme => seen.origin.scheme.as_bytes(),
        Variable::Host => seen.host(),
        Variable::Authority => seen.authority,
        Variable::Port => return port(seen.origin.port, out),
        Variable::Path => seen.path(),
        Variable::Query => seen.query().unwrap_or_default(),
        Variable::Uri => {
            out.extend_from_slice(seen.path());
            let Some(query) = seen.query() else { return };
            out.push(b'?');
            query
        }
        Variable::Header(name) => {
            let field = seen.head.fields.by_text(seen.bytes, name.as_bytes());
            field
                .map(|field| field.value.of(seen.bytes))
                .unwrap_or_default()
        }
        Variable::Cookie(name) => {
            request::cookie(seen.head, seen.bytes, name.as_bytes()).unwrap_or_default()
        }
        Variable::QueryParameter(name) => {
            let query = seen.query().unwrap_or_default();
            request::query_parameter(query, name.as_bytes()).unwrap_or_default()
        }
        Variable::Match(group) => {
            let route = facts.route;
            let found = route.and_then(|route| route.path_group(seen, usize::from(*group)));
            found.unwrap_or_default()
        }
        Variable::SiteName => facts
            .site
            .map(|site| site.name.as_bytes())
            .unwrap_or_default(),
        Variable::RoutePlace => facts
            .route
            .map(|route| route.place.as_bytes())
            .unwrap_or_default(),
        Variable::PoolName => facts.pool.unwrap_or_default().as_bytes(),
        Variable::ServerName => facts.server.unwrap_or_default().as_bytes(),
        Variable::ResponseStatus => {
            return port(answer.map_or(facts.status, |(head, _)| head.status), out);
        }
        Variable::ResponseHeader(name) => {
            let field = answer.and_then(|(head, bytes)| {
                let field = head.fields.by_text(bytes, name.as_bytes())?;
                Some(field.value.of(bytes))
            });
            field.unwrap_or_default()
        }
    };
    out.extend_from_slice(text);
}
