//! `user`: as whom everything is done.

use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::model::User;
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "user",
    within: &[Context::Root],
    usage: "user NAME [group=NAME]",
    default: "whoever starts the program",
    doc: "As whom everything is done when root starts the program: files are read and written as this user, keys and logs too, from the beginning on. What is left of root's rights is to \
          listen on ports below 1024, and to connect from the addresses of clients where `source transparent` says so; programs of checks get no \
          more rights by being run. Without `group` it is the user's own. Who is not root, and not this user, cannot start such a configuration. It changes with a restart.",
    words: (1, 2),
    variables: false,
    block: None,
    set: user,
}];

fn user(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Root(draft), Some((name, options))) = (scope, stmt.words.split_first()) else {
        return;
    };
    let mut user = User {
        name: name.text.as_str().into(),
        group: None,
    };
    reader.options(options, &["group"], |_, _, value| {
        user.group = Some(value.text.into());
    });
    reader.once(stmt, &mut draft.user, user);
}
