//! The JSON Schema of the JSON form, for editors and for programs that write configurations.

use serde_json::Value;

use crate::json::JsonConfig;

/// The schema.
pub fn schema() -> Value {
    schemars::schema_for!(JsonConfig).into()
}
