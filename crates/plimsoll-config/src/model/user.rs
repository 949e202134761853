//! As whom everything is done.

use serde::{Deserialize, Serialize};

/// As whom everything is done, when root starts the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: Box<str>,
    /// The name of its group; nothing means its own.
    pub group: Option<Box<str>>,
}
