//! The one vocabulary of failure: the word in the log, in the metric label and in `Proxy-Status`.
//!
//! The tokens are RFC 9209's proxy error types; the ones that RFC 9209 does not have, because it
//! speaks only of what a client can be told, are about clients that went away and answers that
//! another server's replaced.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $token:literal, $status:literal;)*) => {
        /// Why an exchange ended other than with the server's own answer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])* $name,)* }

        impl Reason {
            /// Every reason in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The token in logs, metric labels and `Proxy-Status`.
            pub fn token(self) -> &'static str {
                match self { $(Self::$name => $token,)* }
            }

            /// The status to answer with when no answer has begun.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
        }
    };
}

reasons! {
    /// The client broke HTTP, or asked for what is not offered.
    HttpRequestError = "http_request_error", 400;
    /// A rule refused the request.
    HttpRequestDenied = "http_request_denied", 403;
    /// This proxy answered by itself, as configured.
    ProxyInternalResponse = "proxy_internal_response", 200;
    /// No site or route takes the request.
    DestinationNotFound = "destination_not_found", 404;
    /// No server may be picked now.
    DestinationUnavailable = "destination_unavailable", 503;
    /// Every server that may be picked is at its `max-connections`.
    ConnectionLimitReached = "connection_limit_reached", 503;
    /// The server's host or network cannot be reached.
    DestinationIpUnroutable = "destination_ip_unroutable", 502;
    /// Nobody said in time where the server is.
    DnsTimeout = "dns_timeout", 504;
    /// There is no such name, or no good answer to where the server is.
    DnsError = "dns_error", 502;
    /// The server refused the connection.
    ConnectionRefused = "connection_refused", 502;
    /// The server closed or reset the connection before its answer was complete.
    ConnectionTerminated = "connection_terminated", 502;
    /// The connection was not established in time.
    ConnectionTimeout = "connection_timeout", 504;
    /// There is no TLS with the server.
    TlsProtocolError = "tls_protocol_error", 502;
    /// The server did not prove that it is the one that was meant.
    TlsCertificateError = "tls_certificate_error", 502;
    /// The server would not go on with TLS.
    TlsAlertReceived = "tls_alert_received", 502;
    /// The server took too long to begin its answer.
    HttpResponseTimeout = "http_response_timeout", 504;
    /// The server stopped in the middle of its answer for too long.
    ConnectionReadTimeout = "connection_read_timeout", 504;
    /// The server did not take the request in time.
    ConnectionWriteTimeout = "connection_write_timeout", 504;
    /// The server's answer ended early.
    HttpResponseIncomplete = "http_response_incomplete", 502;
    /// The head of the server's answer is over the limit.
    HttpResponseHeaderSectionSize = "http_response_header_section_size", 502;
    /// The server broke HTTP.
    HttpProtocolError = "http_protocol_error", 502;
    /// The server switched protocols, which nobody asked for.
    HttpUpgradeFailed = "http_upgrade_failed", 502;
    /// The request has come through here before.
    ProxyLoopDetected = "proxy_loop_detected", 502;
    /// This proxy ran out of something, or has a fault.
    ProxyInternalError = "proxy_internal_error", 500;
    /// The server answered with a status that is not passed on.
    HttpResponseStatus = "http_response_status", 502;
    /// The client went away before the answer was complete.
    ClientAborted = "client_aborted", 499;
    /// The client did not send its request in time.
    ClientTimeout = "client_timeout", 408;
    /// The client did not take the answer in time.
    ClientStalled = "client_stalled", 499;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_table_and_tokens_are_tokens() {
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(number, *reason as usize);
            assert!(
                reason
                    .token()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_')
            );
        }
    }
}
