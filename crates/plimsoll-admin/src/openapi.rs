//! The API described for programs (OpenAPI 3.1), made from the table of calls and the types that they take and give.

use plimsoll_control::explain::{self, Question, Stock};
use plimsoll_control::reload::{Reloaded, Wanted};
use plimsoll_control::verdict::Verdict;
use plimsoll_control::{sessions, tail};
use plimsoll_proxy::caching::Order;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::answer::Purged;
use crate::calls::{CALLS, Call, Row};
use crate::change::Change;
use crate::configuration::Terms;
use crate::guard::Kind;
use crate::handover::{Upgrade, Upgraded};
use crate::page;
use crate::sampler::Point;
use crate::sessions::Closed;
use crate::view::{PoolView, View};

/// Where the types are in the description.
const TYPES: &str = "/components/schemas";

/// The whole description.
pub(crate) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = TYPES.into();
    });
    let mut types = settings.into_generator();
    let mut paths = Map::new();
    for row in CALLS {
        let methods = paths.entry(row.path).or_insert_with(|| json!({}));
        let method = row.method.as_str().to_ascii_lowercase();
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(method, operation(row, &mut types));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Plimsoll",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What is asked of the admin listeners. An error is a status of 400 or more and a line of text.",
        },
        "paths": paths,
        "components": {
            "schemas": types.take_definitions(true),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "Not needed over the Unix socket." },
            },
        },
    })
}

fn operation(row: &Row, types: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "summary": row.doc,
        "responses": {
            "200": { "description": "Done.", "content": { media(row.call): { "schema": given(row.call, types) } } },
            "default": { "description": "Why not, in a line of text.", "content": { "text/plain": {} } },
        },
    });
    let more = operation.as_object_mut();
    let Some(more) = more else { return operation };
    let parameters = parameters(row);
    if !parameters.is_empty() {
        more.insert("parameters".to_owned(), json!(parameters));
    }
    if row.method != hyper::Method::GET {
        let media = match row.call {
            Call::CheckConfiguration | Call::PutConfiguration => TEXT,
            _ => "application/json",
        };
        let body = json!({ media: { "schema": asked(row.call, types) } });
        more.insert(
            "requestBody".to_owned(),
            json!({ "required": true, "content": body }),
        );
    }
    if row.kind != Kind::Look {
        more.insert("security".to_owned(), json!([{ "token": [] }]));
    }
    operation
}

const TEXT: &str = "text/plain";

/// What is said in the path, the query and the head.
fn parameters(row: &Row) -> Vec<Value> {
    let one = |name: &str, place: &str, is_required: bool, schema: &Value| json!({ "name": name, "in": place, "required": is_required, "schema": schema });
    let text = json!({ "type": "string" });
    let mut all = Vec::new();
    if let Some((_, name)) = row.path.split_once('{') {
        all.push(one(name.trim_end_matches('}'), "path", true, &text));
    }
    if row.call == Call::PutConfiguration {
        // Without it the answer is 428, which says so.
        all.push(one("If-Match", "header", false, &text));
    }
    let query = match row.call {
        Call::PutConfiguration => schemars::schema_for!(Terms),
        Call::Sessions => schemars::schema_for!(sessions::Query),
        Call::TailLogs => schemars::schema_for!(tail::Query),
        _ => return all,
    };
    let names = query.get("properties").and_then(Value::as_object);
    all.extend(
        names
            .into_iter()
            .flatten()
            .map(|(name, schema)| one(name, "query", false, schema)),
    );
    all
}

fn media(call: Call) -> &'static str {
    match call {
        Call::Page(name) => {
            let part = page::find(name).map_or(TEXT, |part| part.media);
            part.split(';').next().unwrap_or(part)
        }
        Call::Metrics => TEXT,
        Call::Watch | Call::TailLogs => "text/event-stream",
        _ => "application/json",
    }
}

/// What a call takes.
fn asked(call: Call, types: &mut SchemaGenerator) -> Schema {
    match call {
        Call::ChangePool => of::<Change>(types),
        Call::Upgrade => of::<Upgrade>(types),
        Call::CheckConfiguration | Call::PutConfiguration => of::<String>(types),
        Call::Reload => of::<Wanted>(types),
        Call::Trace => of::<Question>(types),
        Call::Stock => of::<explain::Query>(types),
        Call::Purge => of::<Order>(types),
        Call::CloseSessions => of::<sessions::Query>(types),
        _ => of::<Map<String, Value>>(types),
    }
}

/// What a call gives.
fn given(call: Call, types: &mut SchemaGenerator) -> Schema {
    match call {
        Call::Page(_) | Call::Metrics | Call::TailLogs => of::<String>(types),
        Call::Status | Call::Watch => of::<View>(types),
        Call::History => of::<Vec<Point>>(types),
        Call::Pools => of::<Vec<PoolView>>(types),
        Call::Pool | Call::ChangePool => of::<PoolView>(types),
        Call::Upgrade => of::<Upgraded>(types),
        Call::Calls => of::<Vec<Value>>(types),
        Call::Stock => of::<Stock>(types),
        Call::Purge => of::<Purged>(types),
        Call::Sessions => of::<sessions::Listed>(types),
        Call::CloseSessions => of::<Closed>(types),
        Call::CheckConfiguration => of::<Verdict>(types),
        Call::Reload | Call::Confirm | Call::GoBack | Call::PutConfiguration => {
            of::<Reloaded>(types)
        }
        _ => of::<Map<String, Value>>(types),
    }
}

fn of<T: JsonSchema>(types: &mut SchemaGenerator) -> Schema {
    types.subschema_for::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_described_and_every_type_that_is_named_is_there() {
        let document = document();
        for row in CALLS {
            let method = row.method.as_str().to_ascii_lowercase();
            let operation =
                document.pointer(&format!("/paths/{}/{method}", row.path.replace('/', "~1")));
            assert!(operation.is_some(), "{}", row.path);
        }
        let text = document.to_string();
        let named: Vec<&str> = text
            .split("\"#")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(named.len() > 10, "{named:?}");
        for name in named {
            assert!(document.pointer(name).is_some(), "{name}");
        }
    }
}
