//! `admin`: where a running Plimsoll is asked, and changed.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::model::{Admin, AdminAddress, SOCKET};
use crate::read::Reader;
use crate::syntax::{Stmt, Word};

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "admin",
    within: &[Context::Root],
    usage: "admin auto|ADDRESS... [token=FILE] | off",
    default: "auto",
    doc: "Where people and machines ask what is served: the dashboard at `/`, metrics at `/metrics` in Prometheus' text format, an API \
          below `/v1/`. An ADDRESS is one to listen on (`127.0.0.1:9900`), where everybody on this machine may look, or a Unix socket (`unix:/run/plimsoll/admin.sock`), where \
          whoever may open it (its owner and its group) may change things, too: drain a server, purge a cache. FILE holds a token of 16 or more letters: with it (`Authorization: Bearer \
          TOKEN`) changes are possible over addresses as well. Who comes to an address that is not a loopback address has to show the token for everything, if there is one; without \
          one such an address is a warning. `auto` is `127.0.0.1:9900` and, where it can be made, the socket `/run/plimsoll/admin.sock`, or \
          `$XDG_RUNTIME_DIR/plimsoll/admin.sock` for those who may not write there. The verbs `status`, `pool`, `cache`, `top` look in these places, too.",
    words: (1, 9),
    variables: false,
    block: None,
    set: admin,
}];

fn admin(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Root(draft) = scope else { return };
    let is_option = |word: &&Word| word.text.starts_with("token=");
    let (options, places): (Vec<&Word>, Vec<&Word>) = stmt.words.iter().partition(is_option);
    let mut token = None;
    let options: Vec<Word> = options.into_iter().cloned().collect();
    reader.options(&options, &["token"], |reader, _, value| match value.text {
        "" => {
            let problem = Diagnostic::new(&codes::OPTION, value.span, "no file is named");
            reader.problem(problem.help("write it like `token=/etc/plimsoll/admin.token`"));
        }
        file => token = Some(file.into()),
    });
    let listen = match places.as_slice() {
        [] => None, // there is a token, so there are places
        [only] if only.text == "auto" => None,
        [only] if only.text == "off" => Some(Vec::new()),
        several => {
            let several = several.iter();
            Some(
                several
                    .filter_map(|word| place(reader, word, token.is_some()))
                    .collect(),
            )
        }
    };
    reader.once(stmt, &mut draft.admin, Admin { listen, token });
}

fn place(reader: &mut Reader<'_>, word: &Word, has_token: bool) -> Option<AdminAddress> {
    if let Some(path) = word.text.strip_prefix(SOCKET) {
        // A path of a socket has 107 bytes at most: unix(7).
        if path.starts_with('/') && path.len() <= 107 {
            return Some(AdminAddress::Socket(path.into()));
        }
        let message = format!("`{path}` is not a path for a socket");
        let problem = Diagnostic::new(&codes::ADDRESS, word.span, message);
        reader.problem(
            problem
                .help("write a whole path of at most 107 bytes: `unix:/run/plimsoll/admin.sock`"),
        );
        return None;
    }
    let address = reader.listen_address(word.into())?;
    if !address.ip().is_loopback() && !has_token {
        let message = format!("the admin listener on {address} can be reached from other machines");
        let problem = Diagnostic::new(&codes::ADMIN_OPEN, word.span, message);
        reader.problem(problem.help(
            "listen on `127.0.0.1:9900`, or ask for a token: `token=/etc/plimsoll/admin.token`",
        ));
    }
    Some(AdminAddress::Ip(address))
}
