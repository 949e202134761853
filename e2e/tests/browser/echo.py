"""A WebSocket server that says what it hears (RFC 6455), for one short message at a time."""

import base64
import hashlib
import socket
import sys
import threading

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def serve(client):
    stream = client.makefile("rb")
    key = b""
    for line in iter(stream.readline, b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-key":
            key = value.strip()
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    while True:
        head = stream.read(2)
        if len(head) < 2:
            return
        mask = stream.read(4)
        data = bytes(b ^ mask[at % 4] for at, b in enumerate(stream.read(head[1] & 127)))
        client.sendall(bytes([head[0], len(data)]) + data)
        if head[0] & 15 == 8:
            client.close()
            return


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)


def accept():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()
sys.stdin.read()
