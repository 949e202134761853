//! The configuration under which each proxy is measured.

use super::contender::Contender;
use super::descriptors;
use plimsoll_e2e::issuer::Authority;
use std::net::SocketAddr;
use std::path::Path;

/// Where Debian puts the module for NGINX's TCP mode.
pub(crate) const NGINX_STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(crate) const ACCESS_LOG: &str = "access.log";

/// The directory whose files are served.
pub(crate) const FILES: &str = "www";

/// The level of NGINX whose answers are as long as those of our own level.
const NGINX_GZIP: u8 = 5;

/// A certificate and its key, in one file.
pub(crate) const PAIR: &str = "pair.pem";

/// Where a proxy listens. Relays only know the first.
pub(crate) struct Addresses {
    pub(crate) plain: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) tls: SocketAddr,
    /// For datagrams, where a flow ends with its answer.
    pub(crate) one_shot: SocketAddr,
}

/// Ten changes of fields, for the case that measures them. NGINX and HAProxy make none.
const FIELDS: &str = "request-header set X-Team a ; request-header set X-Client ${client.ip} ; \
    request-header add X-Trace b ; request-header remove X-Debug ; request-header remove Accept-Language ; \
    response-header set X-Frame-Options DENY ; response-header set X-Content-Type-Options nosniff ; \
    response-header add X-Served-By ${server.name} ; response-header remove Server ; response-header remove X-Powered-By ; ";

/// What a configuration says.
pub(crate) struct Setting<'a> {
    pub(crate) listen: &'a Addresses,
    pub(crate) authority: &'a Authority,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) directory: &'a Path,
    pub(crate) servers: [SocketAddr; 2],
    /// The requests that a server may have at the same time, if that is limited. Who finds all
    /// servers full waits, for 5 s at most, where the proxy has a queue.
    pub(crate) slots: Option<u32>,
}

impl Setting<'_> {
    /// Returns the text of the file.
    pub(crate) fn text(&self, contender: Contender) -> String {
        match contender {
            Contender::PlimsollHttp => self.plimsoll_http(),
            Contender::PlimsollTcp => self.plimsoll_tcp(),
            Contender::NginxHttp => nginx(&self.nginx_http()),
            Contender::NginxTcp => nginx(&self.nginx_tcp()),
            Contender::HaproxyHttp => self.haproxy("http", "http-reuse always"),
            Contender::HaproxyTcp => self.haproxy("tcp", ""),
            Contender::PlimsollUdp => self.plimsoll_udp(),
            Contender::NginxUdp => nginx(&self.nginx_udp()),
            Contender::Varnish => self.varnish(),
        }
    }

    /// Returns a line for each server, with what limits it.
    fn servers(&self, line: impl Fn(SocketAddr, &str) -> String, limit: &str) -> String {
        let limit = match self.slots {
            Some(slots) => format!(" {limit}{slots}"),
            None => String::new(),
        };
        self.servers.map(|server| line(server, &limit)).concat()
    }

    fn plimsoll_http(&self) -> String {
        let services = format!(
            "site * {{ listen {} {} ; route /files/* {{ files {} }} ; route /cached/* {{ cache hot ; proxy app }} ; route /text/* {{ compress zstd gzip ; proxy app }} ; route query:fields {{ {FIELDS}proxy app }} ; route {{ proxy app }} }}\n\
             site * {{ listen {} ; tls {} {} ; route {{ proxy app }} }}\n\
             cache hot {{ memory 64MiB ; object-size-max 2MiB ; ttl 200=1h }}\n",
            self.listen.plain,
            self.listen.http2,
            self.directory.join(FILES).display(),
            self.listen.tls,
            self.authority.certificate(),
            self.authority.key(),
        );
        self.plimsoll(&services)
    }

    fn plimsoll_tcp(&self) -> String {
        self.plimsoll(&format!("tcp {} {{ proxy app }}\n", self.listen.plain))
    }

    fn plimsoll_udp(&self) -> String {
        let Addresses {
            plain, one_shot, ..
        } = self.listen;
        self.plimsoll(&format!(
            "udp {plain} {{ proxy app }}\nudp {one_shot} {{ responses 1 ; proxy app }}\n"
        ))
    }

    fn plimsoll(&self, services: &str) -> String {
        let admin = self.admin.map(|admin| format!("admin {admin}\n"));
        let log = self.directory.join(ACCESS_LOG);
        let servers = self.servers(
            |address, limit| format!("server {address}{limit} ; "),
            "max-connections=",
        );
        format!(
            "workers 1\n\
             {}\
             defaults {{ log {} json }}\n\
             {services}\
             pool app {{ balance round-robin ; {servers}{} }}\n",
            admin.unwrap_or_default(),
            log.display(),
            self.slots.map_or("", |_| "queue 1000 timeout=5s"),
        )
    }

    /// Connections live as long as those of the others, and bodies stay in memory: by default NGINX
    /// closes after 1,000 requests and writes a body of 64 KiB to disk.
    fn nginx_http(&self) -> String {
        let servers = self.servers(
            |address, limit| format!("server {address}{limit};\n"),
            "max_conns=",
        );
        let Addresses {
            plain, http2, tls, ..
        } = self.listen;
        format!(
            "http {{\n\
             access_log off;\n\
             client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             keepalive_requests 1000000000;\n\
             client_body_buffer_size 128k;\n\
             proxy_max_temp_file_size 0;\n\
             proxy_cache_path cache keys_zone=hot:10m max_size=100m;\n\
             upstream app {{\n\
             {servers}\
             keepalive 64; keepalive_requests 1000000000;\n\
             }}\n\
             server {{\n\
             listen {plain};\n\
             listen {http2} http2;\n\
             listen {tls} ssl http2;\n\
             ssl_certificate {}; ssl_certificate_key {};\n\
             ssl_session_cache shared:tls:1m; ssl_session_tickets on;\n\
             http2_max_concurrent_streams 128;\n\
             location /files/ {{\n\
             root {FILES}; sendfile on; tcp_nopush on; open_file_cache max=1000;\n\
             }}\n\
             location /cached/ {{\n\
             proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             proxy_cache hot; proxy_cache_valid 200 1h;\n\
             sendfile on; tcp_nopush on; open_file_cache max=1000;\n\
             }}\n\
             location /text/ {{\n\
             proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             gzip on; gzip_comp_level {NGINX_GZIP}; gzip_types text/plain;\n\
             }}\n\
             location / {{\n\
             proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             }}\n\
             }}\n\
             }}\n",
            self.authority.certificate(),
            self.authority.key(),
        )
    }

    fn nginx_tcp(&self) -> String {
        let servers = self.servers(
            |address, limit| format!("server {address}{limit};\n"),
            "max_conns=",
        );
        let listen = self.listen.plain;
        format!(
            "stream {{\n\
             access_log off;\n\
             upstream app {{ {servers} }}\n\
             server {{ listen {listen}; proxy_pass app; }}\n\
             }}\n"
        )
    }

    fn nginx_udp(&self) -> String {
        let servers = self.servers(|address, _| format!("server {address};\n"), "");
        let Addresses {
            plain, one_shot, ..
        } = self.listen;
        format!(
            "stream {{\n\
             access_log off;\n\
             upstream app {{ {servers} }}\n\
             server {{ listen {plain} udp; proxy_pass app; proxy_timeout 30s; }}\n\
             server {{ listen {one_shot} udp; proxy_pass app; proxy_timeout 30s; proxy_responses 1; }}\n\
             }}\n"
        )
    }

    fn varnish(&self) -> String {
        let [server, _] = self.servers;
        format!(
            "vcl 4.1;\n\
             backend app {{ .host = \"{}\"; .port = \"{}\"; }}\n\
             sub vcl_backend_response {{ set beresp.ttl = 1h; }}\n",
            server.ip(),
            server.port(),
        )
    }

    fn haproxy(&self, mode: &str, more: &str) -> String {
        let servers = self.servers(
            |address, limit| format!("    server s{} {address}{limit}\n", address.port()),
            "maxconn ",
        );
        let queue = match self.slots {
            Some(_) => "    timeout queue 5s\n    option abortonclose\n",
            None => "",
        };
        let Addresses {
            plain, http2, tls, ..
        } = self.listen;
        let more_listens = match mode {
            "http" => format!(
                "    bind {http2} proto h2\n\
                 \x20   bind {tls} ssl crt {} alpn h2,http/1.1\n",
                self.directory.join(PAIR).display()
            ),
            _ => String::new(),
        };
        format!(
            "global\n\
             \x20   nbthread 1\n\
             \x20   maxconn 20000\n\
             \x20   no strict-limits\n\
             defaults\n\
             \x20   mode {mode}\n\
             \x20   timeout connect 5s\n\
             \x20   timeout client 60s\n\
             \x20   timeout server 60s\n\
             {queue}\
             frontend in\n\
             \x20   bind {plain}\n\
             {more_listens}\
             \x20   default_backend app\n\
             backend app\n\
             \x20   balance roundrobin\n\
             \x20   {more}\n\
             {servers}"
        )
    }
}

fn nginx(body: &str) -> String {
    let descriptors = descriptors();
    // Only a master that is root can change the user; others ignore the line.
    format!(
        "load_module {NGINX_STREAM_MODULE};\n\
         user root;\n\
         daemon off;\n\
         worker_processes 1;\n\
         worker_rlimit_nofile {descriptors};\n\
         pid nginx.pid;\n\
         error_log stderr crit;\n\
         events {{ worker_connections {descriptors}; }}\n\
         {body}"
    )
}
