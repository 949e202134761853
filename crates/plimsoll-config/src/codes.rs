//! The table of problems. A code keeps its number for ever: people search for it.

/// A kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `E0312`: an error; `W0601`: a warning.
    pub id: &'static str,
    /// What `plimsoll explain` says.
    pub explain: &'static str,
}

macro_rules! codes {
    ($($name:ident = $id:literal: $explain:literal;)*) => {
        $(pub(crate) static $name: Code = Code { id: $id, explain: $explain };)*

        /// All codes, in order.
        pub static ALL: &[&Code] = &[$(&$name,)*];
    };
}

codes! {
STRING = "E0101":
"A string was opened with a quote and never closed. A \"string\" ends on the line it begins on; a
`raw string` may go over several lines. Close it:

    respond 200 \"all is well\"
";
ESCAPE = "E0102":
"A backslash in a \"string\" is followed by something that has no meaning. Known are \\\" for a quote,
\\\\ for a backslash, \\n, \\t, and \\u{2013} for a character by its number. Where backslashes are
common, as in a regular expression, use backquotes: nothing is special between them.

    respond 200 `C:\\temp`
";
BRACE = "E0103":
"A brace stands inside a word. A `{` opens a block only as a word of its own, with a blank before it,
so that patterns may hold braces without surprises. If the block was meant, add the blank; if the brace
belongs to the word, put the word in quotes:

    site example.com {
    route \"/a{2}\" { proxy app }
";
UNCLOSED = "E0104":
"A block was opened with `{` and the file ended before its `}`. The mark shows the brace that is still
open, which is often not the one that was forgotten: look for the first statement that stands too deep.
`plimsoll fmt` shows the depth of every line once the braces match.
";
CLOSE = "E0105":
"A `}` closes a block that was never opened. Usually an earlier block was closed too early, or a `{` is
missing at the end of a line. Remove the brace, or open the block:

    pool app {
        server 10.0.0.1:80
    }
";
NAMELESS = "E0106":
"A `{` stands where a statement begins. Every block belongs to a statement, and its brace stands on the
same line as the statement's name. Join the two lines:

    site example.com {
";
DEPTH = "E0107":
"Blocks are nested deeper than any configuration needs. The limit keeps a broken or hostile file from
using up memory. Look for a block that is never closed, or for a snippet that holds itself.
";
SUBSTITUTION = "E0108":
"A `${` is not a substitution. Known are `${NAME}` for a variable of the environment, `${NAME:-text}`
for one with a default, and `${file:PATH}` for the contents of a file. Where a dollar and a brace are just
text, use backquotes:

    respond 200 `costs ${5}`
";
VARIABLE = "E0109":
"A variable of the environment is not set. An empty value would hide the mistake, so it is an error. Set
the variable where Plimsoll is started, or give a default:

    listen ${LISTEN:-127.0.0.1:8080}
";
FILE = "E0110":
"A file named in `${file:PATH}` cannot be read, or is not text. Its contents take the place of the
substitution, without the line end at its end. Check the path, which counts from the folder in which
Plimsoll was started, and that its user may read it.
";
NOT_TEXT = "E0111":
"The file is not a text. A configuration is UTF-8; a NUL byte, another encoding or a control character
shows that this is some other file, or one that was damaged. Check the path, and save it as UTF-8.
";
TOO_LARGE = "E0112":
"The file is larger than 16 MiB, or all that substitutions put in is. The limit keeps a wrong path (a log, a disk
image) from using up memory. A configuration of that size can be split with `include`.
";
QUOTE = "E0113":
"A quote stands in the middle of a word, or a quoted word goes on without a blank. Quotes begin at the
start of a word, or right behind its `=`. Put the whole word in quotes:

    respond 200 \"say \\\"hello\\\"\"
";
UNREADABLE = "E0114":
"The configuration file cannot be read. The message says what the system answered. Check the path given
with `-c` (or `PLIMSOLL_CONFIG`; the default is /etc/plimsoll/plimsoll.conf), and that its user may read it.
";
UNKNOWN = "E0201":
"This word is not a directive. Spelling counts, in lower case. The message names the nearest word that is
known here; the reference lists all of them, each with the blocks it may stand in.
";
MISPLACED = "E0202":
"This directive exists, but not in this block. Each directive says something about one kind of thing: a
`server` belongs to a pool, a `route` to a site. Move it to the block that the message names:

    pool app {
        server 10.0.0.1:80
    }
";
NOT_YET = "E0203":
"This word belongs to the language, and this version cannot do it yet. It is refused because a
configuration that silently does less than it says is worse than one that does not start. Remove it, or
use a version that has it: the change log says which.
";
ARGUMENTS = "E0204":
"The directive has too many or too few words. The message shows how it is written; words in capitals
stand for values, brackets hold what may be left out, dots what may be repeated. A value with blanks needs
quotes:

    respond 200 \"all is well\"
";
BLOCK = "E0205":
"The directive needs a block and has none, or has one and takes none. A block is what stands between `{`
and `}` after it. Add it or remove it:

    pool app {
        server 10.0.0.1:80
    }
";
OPTION = "E0206":
"The directive has no option of this name. An option is written `name=value`, without blanks around the
equals sign. The message lists the options that are known here.
";
REPEATED = "E0207":
"Something that can be said once is said twice. The second saying would silently win or lose, so neither
does. Keep the one that is meant; what all sites share belongs in `defaults`.
";
VALUE = "E0208":
"The value is not one of those that are known here. The message lists them, and the nearest one if there
is one. Values are written in lower case.
";
UNIT = "E0209":
"A duration, a size or a rate is written with its unit, because a bare number means seconds to one reader
and milliseconds to the next. Durations take ms, s, m, h and d; sizes B, KiB, MiB, GiB (or kB, MB, GB);
byte rates a size and `/s`:

    timeout header=10s idle=1.5m
    request-limits body=10MiB min-rate=240B/s
";
RANGE = "E0210":
"The number is outside of what is allowed or is no number. The message gives the range. The limits are
those of the protocol (a port has 16 bits) or keep the memory of a connection bounded (a head has at most
32 KiB).
";
ADDRESS = "E0211":
"This is not an address. Where Plimsoll listens is `:8080` for every address, `127.0.0.1:8080` or
`[::1]:8080`; a server is a host or an address and a port. The port is never left out, as there is no
value that is right for everyone:

    server 10.0.0.1:8080
    server [2001:db8::1]:8080
    server app.internal:8080
";
HOST = "E0212":
"This is not a host that a site can be named by. A site takes names (`example.com`), names below one
(`*.example.com`), addresses, or `*` for all hosts. It takes no scheme, path or port: where it listens is
said with `listen`.

    site example.com www.example.com {
        listen :8080
    }
";
PATH = "E0213":
"This is not a path that a route can take. A path is exact (`/about`) or takes everything below
(`/static/*`), and it is written in the one form in which requests are compared: without `..`, `//`, or
escapes that are not needed. The message gives that form.
";
METHOD = "E0214":
"This is not a method that can be matched. Methods are written in capitals, several with commas:
`method=GET,HEAD`. CONNECT and TRACE are refused before any route is looked at.
";
STATUS = "E0215":
"This is not a status that can be answered with. A response has a status from 200 to 599; what is below
is interim and never ends a request. For example:

    respond 204
";
RUN_TIME_VARIABLE = "E0216":
"A variable with a dot in its name, like `${client.ip}`, is filled in for each request. It stands only in
texts that are made for a request: values of `request-header` and `response-header`, the target of `redirect`,
the text of `respond`. Some are known only when there is a server (`${server.name}`) or an answer
(`${response.status}`). The reference lists them all. A `${` that is text is written `$${`:

    request-header set X-Client ${client.ip}
";
URL = "E0217":
"This is not a URL that can be fetched. It has a scheme, `https` or `http`, a host, a port if that is not the
usual one, and a path. It holds no user and no password, which would stand in logs and metrics, and no
fragment, which is never sent. What is not plain is escaped with `%`:

    jwt https://id.example.com/.well-known/jwks.json algorithms=RS256
";
INCLUDE_CYCLE = "E0301":
"A file includes itself, directly or through others. The message shows the chain. Move what both need into
a third file.
";
INCLUDE_MISSING = "E0302":
"An included file does not exist or cannot be read. A pattern with `*` may match nothing; a plain name must
be there. Paths count from the folder of the file that includes.
";
INCLUDE_LIMIT = "E0303":
"Includes go deeper than 16 files or bring in more than 1,000. The limits keep a folder that was included by
mistake from being read whole. Include a narrower pattern.
";
SNIPPET_UNKNOWN = "E0304":
"`use` names a snippet that does not exist. A snippet is written once at the top level, before or after
its use, in any file:

    snippet short { timeout header=2s idle=10s }
    site a.example { use short }
";
SNIPPET_CYCLE = "E0305":
"A snippet uses itself, directly or through others; or snippets use snippets more than 32 deep, or multiply into
more than 16 MiB. It would never end. Move what they need into a snippet that uses no other.
";
SNIPPET_TWICE = "E0306":
"Two snippets have the same name. Which one is used would depend on the order of files. Rename one.
";
POOL_TWICE = "E0310":
"Two pools have the same name. Their servers are not merged, because a pool that is assembled from several
places is hard to read. Rename one, or move its servers into the other.
";
POOL_UNKNOWN = "E0312":
"A route proxies to a pool that does not exist. Pools are written at the top level, in any order. To proxy
to a single server without a pool, write its host and port:

    pool app { server 10.0.0.1:80 }
    site example.com {
        route /api/* { proxy app }
        route { proxy 10.0.0.9:3000 }
    }
";
NO_SERVER = "E0313":
"A pool has no server, so every request to it would fail. Give it at least one:

    pool app { server 10.0.0.1:80 }
";
SERVER_TWICE = "E0314":
"A pool names the same server twice. Each would be counted, limited and checked as if the other did not
exist. To give a server more requests, give it a weight:

    server 10.0.0.1:80 weight=2
";
HOST_TWICE = "E0315":
"Two sites on the same listener answer for the same host; the second would never be reached. Merge them, or
have one listen elsewhere. Host names do not differ by case or by a dot at the end.
";
NO_ACTION = "E0316":
"A route does not say what to do with a request. It ends in exactly one action, `proxy` or `respond`:

    route /api/* { proxy app }
";
TWO_ACTIONS = "E0317":
"A route has two actions, and a request can have only one. Keep one, or make two routes that take
different paths. The first route that takes a request decides.
";
NOTHING = "E0318":
"The configuration serves nothing: it has no site. The smallest one that does:

    site * {
        listen :8080
        route { proxy 127.0.0.1:3000 }
    }
";
TOO_MANY = "E0319":
"There were so many problems that only the first hundred are shown. They often have one cause: a brace that
is missing near the top makes everything after it stand in the wrong block. Mend the first few and run the
check again.
";
MATCH_UNKNOWN = "E0320":
"A condition `is:NAME` refers to a `match` that is not written. Matches stand at the top level, before or
after what refers to them. Spelling counts; the message names the nearest one:

    match staff client=10.0.0.0/8
    site example.com {
        route /admin/* is:staff { proxy app }
    }
";
MATCH_CYCLE = "E0321":
"A match refers to itself, directly or through others, so that nothing could ever tell whether it holds.
Take the condition `is:NAME` out that closes the circle.
";
NO_GEO = "E0322":
"A rule asks for a country, and there is no file that tells where addresses are. Such files come from MaxMind
(GeoLite2 Country) and others, in the same format; they are renewed every week or so. Say where yours is:

    geo /var/lib/GeoIP/GeoLite2-Country.mmdb
";
NO_SPOOL = "E0323":
"Bodies are to wait on disk (`disk=`), and nothing says where. Name a directory on a disk, not in memory as
`/tmp` often is, and how much of it all of them may take together:

    spool /var/spool/plimsoll max=10GiB
";
KEY_SET_TWICE = "E0324":
"Two rules name the same key set and differ in how it is fetched. A set is fetched once for all rules that
name it, so both must say the same `ca` and `refresh`. What several rules share can stand in a snippet:

    snippet token { jwt https://id.example.com/jwks.json algorithms=RS256 refresh=1m }
    site example.com {
        route /api/* { use token ; proxy app }
    }
";
TLS_MIXED = "E0325":
"An address is either for clients that come with TLS or for clients that come without. Of the sites on one
address, some say `tls` and some do not. Give all of them certificates, or have the plain ones listen elsewhere:

    site example.com { tls cert.pem key.pem ; route { proxy app } }
    site example.com { listen :80 ; route { redirect https://${request.host}${request.uri} permanent } }
";
HALF_IDENTITY = "E0326":
"Servers that ask who we are get a certificate, and its key proves that it is ours: one is of no use without the
other. Name both, each in a file in PEM:

    pool app {
        server app.internal:8443
        tls certificate=/etc/plimsoll/client.pem key=/etc/plimsoll/client.key
    }
";
PROXY_MIXED = "E0327":
"Two sites on one address differ in whether connections come with a header of the PROXY protocol, or from whom. The header
comes before anything that says which site is meant, so the address has one rule. What all say can stand in `defaults`:

    defaults { proxy-protocol accept=10.0.0.0/8 }
";
PROXY_SHARED = "E0328":
"Servers of the pool are to be told in the PROXY protocol whom each connection is from, and speak HTTP/2, with which many
clients have their requests on one connection. What the server was told would be wrong for all but one of them. The same holds of
`source transparent`, with which a connection comes from a client's address. Servers learn
who the client is from `X-Forwarded-For` and `Forwarded`, which each request carries:

    pool app { server app.internal:8080 ; http 2 }
";
CLIENT_CERTIFICATE_PLAIN = "E0336":
"The site asks its clients for certificates, and they come without TLS: nobody could show one, and nothing would be
checked. Give the site a certificate of its own, or take `client-certificate` out:

    site example.com {
        tls cert.pem key.pem
        client-certificate required ca=/etc/plimsoll/clients-ca.pem
        route { proxy app }
    }
";
UNCERTIFIABLE = "E0337":
"A site with `tls internal` takes hosts by an expression, and certificates are for names. Write the names; a wildcard and `*`, which
stands for `localhost`, are names too:

    site shop.localhost *.shop.localhost { tls internal ; route { proxy app } }
";
NOT_CERTIFIABLE = "E0350":
"A site with `tls auto` answers for hosts that no issuer can be asked for: certificates are for names, and `*`, an expression
or an address is none. Write the names, or bring a certificate in files:

    site example.com www.example.com { tls auto ; route { proxy app } }
    site * { tls /etc/ssl/any.pem /etc/ssl/any.key ; route { proxy app } }
";
WILDCARD = "E0351":
"Issuers certify a wildcard only to whom the domain itself belongs, which a record in the domain name system shows. With
the right to write such records Plimsoll does that; without it, write each host:

    acme challenge=dns-01
    dns-update 10.0.0.2 zone=example.com key=/etc/plimsoll/update.key
    site *.example.com { tls auto ; route { proxy app } }
";
NO_DNS_UPDATE = "E0352":
"With `challenge=dns-01` the issuer looks for a record in the domain name system, and nothing says who takes it from us.
Name the server that has the zone, and the key that signs changes:

    dns-update 10.0.0.2 zone=example.com key=/etc/plimsoll/update.key
";
TOO_MANY_NAMES = "E0353":
"The site has more hosts than issuers put into one certificate. Divide it: each part has a certificate of its own, and a snippet
holds what they share:

    snippet shop { tls auto ; route { proxy app } }
    site a1.example.com a2.example.com { use shop }
    site b1.example.com b2.example.com { use shop }
";
LISTEN_SHARED = "E0360":
"Two services listen on one address. Sites can share one, since each request names its host; a relayed connection, and a datagram,
names nothing, so that its service has its addresses for itself; `tcp` and `udp` do not meet. Have one of the two listen
elsewhere.
";
NOWHERE = "E0361":
"A `tcp` or `udp` block does not say where its connections or flows go. It names one pool, or one server:

    tcp :5432 { proxy postgres }
    udp :53 { proxy 10.0.0.1:53 }
";
NO_REQUEST = "E0362":
"The pool asks for something that a relayed connection, or a flow of datagrams, does not have: a header, a cookie, a path or
HTTP/2; with datagrams also TLS, a place in a `queue`, or a header of the PROXY protocol in version 1. Of both the address of
the client is known:

    pool postgres { sticky by=client-ip ; server 10.0.0.1:5432 ; server 10.0.0.2:5432 }
";
TCP_TWO_WAYS = "E0365":
"A `tcp` block says with `proxy` that all connections go to one pool, and with `sni`, `alpn`, `protocol` or `default` that they
are chosen among. Where they are chosen among, `default` has what no rule takes:

    tcp :443 { sni mail.example.com -> mail ; default web }
";
TCP_INSIDE = "E0366":
"A `tcp` block with `tls` of its own chooses by `protocol`. What the client says first is then the beginning of TLS, and what it says inside
is not looked at. The name that it asks for and the protocol that is agreed on are known:

    tcp :993 { tls mail.pem mail.key ; sni mail.example.com -> mail ; default web }
";
SOCKET_MIXED = "E0370":
"Two sites on one address ask the system for different things. It does them for the address, before a client has said which site
it means. What all say can stand in `defaults`:

    defaults { socket keepalive=60s }
";
CACHE_UNKNOWN = "E0380":
"A route names a cache that is not written. Caches have a name space of their own and may be written before or
after the routes that use them. Write it at the top level:

    cache media { memory 256MiB }
";
CACHE_TWICE = "E0381":
"Two caches have the same name, so nobody could tell which one a route means. Rename one of them.
";
CACHE_NOTHING = "E0382":
"A route keeps answers of servers in a cache, and asks none: it answers by itself. Take `cache` out of it, or have
a server answer:

    route /videos/* { cache media ; proxy video }
";
CACHE_DIRECTORY = "E0383":
"Two caches keep their files in one directory, where they would remove each other's. Give each of them one of its own:

    cache media { disk /var/cache/plimsoll/media 20GiB }
    cache pages { disk /var/cache/plimsoll/pages 1GiB }
";
JSON = "E0401":
"The JSON form cannot be read. The message gives line and column. `plimsoll schema` prints the JSON Schema of
the form, which editors can check against; `plimsoll check --format json-model` prints a configuration in it.
";
UNREACHABLE = "W0601":
"A route can never be reached, because an earlier one takes every request that it would. The first route
that matches decides. Write the narrower one first:

    route /api/* { proxy api }
    route { proxy app }
";
POOL_UNUSED = "W0602":
"No route proxies to this pool. It costs nothing at run time, and is often left over or misspelt
elsewhere. Remove it, or add the route that was meant.
";
SNIPPET_UNUSED = "W0603":
"No block uses this snippet. It has no effect. Remove it, or `use` it where it was meant.
";
ADMIN_OPEN = "W0604":
"The admin listener can be reached from other machines, and asks nobody for anything: it tells names of sites,
pools and servers. Listen on a loopback address, let a site in front of it decide who may see it, or have it
ask for a token:

    admin 10.0.0.1:9900 token=/etc/plimsoll/admin.token
";
NO_PRIMARY = "W0605":
"Every server of the pool is a backup or has weight 0. Backups are used only when no other server may be
picked, and weight 0 takes nothing new, so the pool is in its emergency state all the time. Give one server
a weight, or take `backup` away.
";
NO_ROUTE = "W0606":
"The site has no route, so every request to it is answered with 404. Add one:

    route { proxy app }
";
TOO_MANY_WARNINGS = "W0607":
"There were so many warnings that only the first hundred problems are shown. The configuration can be used. A
generated file often repeats one mistake: mend it where the file is made and run the check again.
";
MATCH_UNUSED = "W0608":
"No condition refers to this match. It changes nothing; often the name in `is:NAME` is misspelt, or the route
that used it has gone. Use it or remove it.
";
TRUST_ALL = "W0609":
"The network takes in every address, so that whoever connects can claim to be any client: limits, access
rules and logs by client then mean nothing. Name the networks of the proxies that stand in front. When nobody
else can reach the listener, the network it can be reached from is the one to write:

    trust-proxy 10.0.0.0/8
";
PLAIN_KEYS = "W0610":
"A key set is fetched over plain HTTP from another machine. Whoever sits in between can put a key of their own
in it and then make any token. Fetch it over TLS; an issuer with a certificate of your own is trusted with `ca`:

    jwt https://id.internal/jwks.json algorithms=RS256 ca=/etc/plimsoll/ca.pem
";
NOT_VERIFIED = "W0611":
"The servers of a pool need not prove who they are. TLS then keeps out who only listens, and nobody who sits in between:
he can read what he likes and answer as he likes. Certificates of your own issuer, or one that a server has made for
itself, are trusted with `ca`; `sni` says which name they hold:

    tls ca=/etc/plimsoll/ca.pem sni=app.internal
";
NO_PLAIN_LISTENER = "W0612":
"Issuers check names with `challenge=http-01`, the default, by a request to port 80 of each host, without TLS. No site listens so.
Add one, which can send everybody else on, or have names checked on port 443:

    site example.com { listen :80 ; route { redirect https://${request.host}${request.uri} permanent } }
    acme challenge=tls-alpn-01
";
RULE_UNREACHABLE = "W0615":
"A word of a rule in a `tcp` block never matches, because an earlier rule takes every connection that it would. The first rule
that matches decides. `protocol tls` takes all that `sni` and `alpn` could, and `*.example.com` all names below. Write the
narrower one first:

    tcp :443 { sni mail.example.com -> mail ; sni *.example.com -> web ; protocol tls -> other }
";
CACHE_UNUSED = "W0617":
"No route keeps anything in this cache. It has no effect and takes no memory. Name it in a route, or remove it:

    route /videos/* { cache media ; proxy video }
";
}

/// What `plimsoll explain` says of a code, in any case.
pub fn explain(id: &str) -> Option<&'static str> {
    ALL.iter()
        .find(|code| code.id.eq_ignore_ascii_case(id))
        .map(|code| code.explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_explained() {
        for pair in ALL.windows(2) {
            let key = |code: &Code| (code.id.starts_with('W'), code.id);
            assert!(key(pair[0]) < key(pair[1]), "{} {}", pair[0].id, pair[1].id);
        }
        for code in ALL {
            assert!(
                code.explain.matches(['.', ':']).count() >= 2,
                "{} says too little",
                code.id
            );
        }
        assert!(explain("e0312").is_some() && explain("E9999").is_none());
    }
}
