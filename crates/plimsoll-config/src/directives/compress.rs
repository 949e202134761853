//! `compress`: answers in a content coding.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::policy::is_off;
use crate::draft::Scope;
use crate::model::{COMPRESSED_TYPES, Compress};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "compress",
    within: &[Context::Defaults, Context::Site, Context::Route],
    usage: "compress [zstd[=LEVEL]] [br[=LEVEL]] [gzip[=LEVEL]] [min=SIZE] [types=TYPE,...] [secrets], or: compress off",
    default: "off; all three codings, br=4, zstd=3, gzip=5, min=1KiB, types that are text",
    doc: "Compresses answers of servers on their way to clients that accept it, in the coding that the client likes best. What a server has compressed itself, parts (206), what is \
          shorter than `min`, what is not of a TYPE (`text/html`, `text/*`) and what `Cache-Control: no-transform` forbids passes as it is. Nothing is held back: what a server has sent reaches the client \
          before the next wait. `ETag` becomes weak and `Vary: Accept-Encoding` is said. The length of what is compressed tells whoever can have something written beside a secret \
          what the secret is (BREACH), so answers with `Set-Cookie` and those to requests with `Authorization` are not compressed unless `secrets` is said. LEVEL is from 1 to 9, of zstd up to 12. \
          Files that `files` sends are compressed once, when they are asked for first, up to 1MiB of them; those that are `precompressed` come before. In a route with a `cache`, servers are asked for plain answers; each coding is made once, kept with the answer in memory, and given to all who like it.",
    words: (0, 6),
    variables: false,
    block: None,
    set: compress,
}];

fn compress(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let compress = match is_off(stmt) {
        true => None,
        false => Some(read(reader, stmt)),
    };
    let place = match scope {
        Scope::Defaults(settings) => &mut settings.compress,
        Scope::Site(site) => &mut site.settings.compress,
        Scope::Route(route) => &mut route.compress,
        Scope::Root(_) | Scope::Tcp(_) | Scope::Udp(_) | Scope::Pool(_) | Scope::Cache(_) => return,
    };
    reader.once(stmt, place, compress);
}

fn read(reader: &mut Reader<'_>, stmt: &Stmt) -> Compress {
    let mut compress = Compress {
        brotli: None,
        zstd: None,
        gzip: None,
        min: 1024,
        types: COMPRESSED_TYPES.iter().map(|&kind| kind.into()).collect(),
        secrets: false,
    };
    let known = ["zstd", "br", "gzip", "min", "types", "secrets"];
    reader.options(&stmt.words, &known, |reader, name, value| {
        let (place, default, most) = match name {
            "br" => (&mut compress.brotli, 4, 9),
            "zstd" => (&mut compress.zstd, 3, 12),
            "gzip" => (&mut compress.gzip, 5, 9),
            "min" => {
                compress.min = reader.size(value).unwrap_or(compress.min);
                return;
            }
            "types" => {
                let types = value.text.split(',');
                compress.types = types.map(|kind| kind.to_ascii_lowercase().into()).collect();
                if compress.types.iter().any(|kind| !kind.contains('/')) {
                    let message = format!("`{}` is no list of media types", value.text);
                    let problem = Diagnostic::new(&codes::VALUE, value.span, message);
                    reader.problem(problem.help("write `types=text/*,application/json`"));
                }
                return;
            }
            _ => {
                compress.secrets = true;
                return;
            }
        };
        *place = match value.text {
            "" => Some(default),
            _ => reader.number(value, 1, most).or(Some(default)),
        };
    });
    if (compress.brotli, compress.zstd, compress.gzip) == (None, None, None) {
        (compress.brotli, compress.zstd, compress.gzip) = (Some(4), Some(3), Some(5));
    }
    compress
}
