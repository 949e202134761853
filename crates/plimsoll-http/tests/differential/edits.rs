//! Requests that are nearly sound: a message of the list, changed by a short script.

/// Messages that show every part of the grammar.
pub(crate) const MESSAGES: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET /a/b?c=d HTTP/1.1\r\nHost: a.example:8080\r\nAccept: */*\r\n\r\nGET / HTTP/1.1\r\n",
    "GET /a/./b/../c//%41%2e%2E/%c3%a9;x|\"?%zz|y HTTP/1.1\r\nhost: [::1]:80\r\n\r\n",
    "HEAD http://a.example/x?y HTTP/1.1\r\nHost: b.example\r\nConnection: close, x\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
    "OPTIONS HTTP://a HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "POST /x HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.0\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\nabcdef",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTE: trailers\r\n\r\n",
    "PUT / HTTP/1.1\r\nHost:\t a \t\r\nX-Empty:\r\nX-Text: \t a\tb \u{fc}\r\nContent-Length: 12\r\n\r\n0\r\n\r\nGET /",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nHost: a\r\n\r\nA;b=c;d=\"e\\\"\t\"\r\n0123456789\r\n00;x\r\nX-T: 1 \r\nHost: no\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n\r\n0\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\ntransfer-encoding:\tChunked \r\n\r\n1;x=\"q\\\"\"\r\nh\r\n00\r\nT: v\r\n\r\nnext",
    "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nA:b\r\n c\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
];

/// Pieces that readers have disagreed on.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n ",
    b"\r\n\t",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b"\0",
    b"\x7f",
    b"\x85",
    b"\xa0",
    b"\xff",
    b":",
    b" :",
    b",",
    b";",
    b"=",
    b"\"",
    b"\\",
    b"#",
    b"?",
    b"*",
    b"@",
    b"//",
    b"/..",
    b"/%2e%2e",
    b"/.;",
    b"%2f",
    b"%5c",
    b"%00",
    b"%",
    b"0",
    b"+",
    b"-",
    b"_",
    b"0x",
    b"ffffffffffffffff",
    b"18446744073709551616",
    b"9223372036854775808",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"Content-Length: +3\r\n",
    b"X: y\r\n z\r\n",
    b"1",
    b"f",
    b"chunked",
    b"identity",
    b"Content-Length: 1\r\n",
    b"Content-Length : 1\r\n",
    b"Content_Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: content-length\r\n",
    b"Host: b\r\n",
    b"http://",
    b"0\r\n\r\n",
    b"1\r\na\r\n",
];

/// Reads `script` as a message and what to change in it; four bytes are one change. A script that
/// begins like text is taken as it is.
pub(crate) fn message(script: &[u8]) -> Vec<u8> {
    let (Some(&first), Some(changes)) = (script.first(), script.get(1..)) else {
        return Vec::new();
    };
    if first < 0x80 {
        return script.to_vec();
    }
    let mut bytes = pick(MESSAGES, first).as_bytes().to_vec();
    for change in changes.chunks_exact(4) {
        if let &[kind, high, low, what] = change {
            let at = usize::from(u16::from_be_bytes([high, low])) % (bytes.len() + 1);
            edit(&mut bytes, kind, at, what);
        }
    }
    bytes
}

fn edit(bytes: &mut Vec<u8>, kind: u8, at: usize, what: u8) {
    let to = (at + usize::from(what)).min(bytes.len());
    match kind % 7 {
        0 => bytes.insert(at, what),
        1 => drop(bytes.splice(at..(at + 1).min(bytes.len()), [what])),
        2 => drop(bytes.splice(at..at, pick(PIECES, what).iter().copied())),
        3 => drop(bytes.splice(at..(at + 1).min(bytes.len()), pick(PIECES, what).to_vec())),
        4 => drop(bytes.drain(at..at + (to - at) % 16)),
        5 => {
            let twice = bytes.get(at..to).unwrap_or_default().to_vec();
            drop(bytes.splice(at..at, twice));
        }
        _ => {
            let other = pick(MESSAGES, what).as_bytes();
            let tail = other.get(at.min(other.len())..).unwrap_or_default();
            bytes.truncate(at);
            bytes.extend_from_slice(tail);
        }
    }
}

fn pick<T: Copy>(list: &[T], number: u8) -> T {
    list[usize::from(number) % list.len()]
}
