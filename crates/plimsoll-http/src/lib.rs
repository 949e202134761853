//! HTTP without I/O: heads, framing, the HTTP/1 codec, targets and forwarded fields.
