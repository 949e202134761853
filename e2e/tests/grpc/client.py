"""Calls the methods of server.py through whatever listens on the given port; says what did not work."""

import base64
import http.client
import sys
import threading
from concurrent import futures

import grpc

OPTIONS = [("grpc.max_receive_message_length", 16 << 20)]
channel = grpc.insecure_channel("127.0.0.1:" + sys.argv[1], OPTIONS)


def unary(name):
    return channel.unary_unary("/test.Service/" + name)


def status_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return None, None


def check(what, is_so):
    if not is_so:
        print("failed:", what, flush=True)


def calls():
    answer, call = unary("Echo").with_call(b"hello", metadata=(("x-asks", "me"),))
    trailers = dict(call.trailing_metadata())
    check("unary", answer == b"hello" and trailers.get("x-trailer") == "behind")
    large = b"large" * 800_000
    check("large", unary("Echo")(large) == large)
    check("empty", unary("Echo")(b"") == b"")
    code, details = status_of(lambda: unary("Fail")(b""))
    check("status", (code, details) == (grpc.StatusCode.FAILED_PRECONDITION, "not like this: 100% \u00e9"))
    code, _ = status_of(lambda: unary("Nothing")(b""))
    check("unknown method", code == grpc.StatusCode.UNIMPLEMENTED)


def streams():
    answers = list(channel.unary_stream("/test.Service/Count")(b"500"))
    check("server stream", answers == [b"%d" % number for number in range(500)])
    pieces = [b"x" * 1000] * 1000
    check("client stream", channel.stream_unary("/test.Service/Total")(iter(pieces)) == b"1000000")
    # Each message is sent when the answer to the one before has come.
    turn = threading.Semaphore(1)

    def say():
        for number in range(100):
            turn.acquire()
            yield b"%d" % number

    heard = []
    for answer in channel.stream_stream("/test.Service/Talk")(say()):
        heard.append(answer)
        turn.release()
    check("both ways", heard == [b"heard %d" % number for number in range(100)])


def many():
    with futures.ThreadPoolExecutor(max_workers=50) as pool:
        answers = list(pool.map(lambda n: unary("Echo")(b"%d" % n), range(500)))
    check("many at once", answers == [b"%d" % number for number in range(500)])


def deadline():
    code, _ = status_of(lambda: unary("Slow")(b"", timeout=0.5))
    check("deadline", code == grpc.StatusCode.DEADLINE_EXCEEDED)
    call = channel.unary_stream("/test.Service/Count")(b"100000000")
    next(iter(call))
    call.cancel()
    check("after a cancel", unary("Echo")(b"still") == b"still")


def web_call(name, message, text):
    """What a browser gets: the messages, and the status that follows them."""
    kind = "application/grpc-web" + ("-text" if text else "") + "+proto"
    body = b"\0" + len(message).to_bytes(4, "big") + message
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    body = base64.b64encode(body) if text else body
    connection.request("POST", "/test.Service/" + name, body, {"Content-Type": kind})
    answer = connection.getresponse()
    data = answer.read()
    check("web content type", answer.headers["Content-Type"].startswith(kind.split("+")[0]))
    if text:
        # Pieces end with padding, so each group stands for itself.
        data = b"".join(base64.b64decode(data[at : at + 4]) for at in range(0, len(data), 4))
    messages, status = [], answer.headers.get("grpc-status")
    while data:
        mark, length = data[0], int.from_bytes(data[1:5], "big")
        message, data = data[5 : 5 + length], data[5 + length :]
        if mark & 0x80:
            lines = dict(line.split(": ") for line in message.decode().split("\r\n") if line)
            status = lines["grpc-status"]
        else:
            messages.append(message)
    return messages, status


def web():
    for text in (False, True):
        check("web unary", web_call("Echo", b"hello" * 10000, text) == ([b"hello" * 10000], "0"))
        numbers = [b"%d" % number for number in range(100)]
        check("web stream", web_call("Count", b"100", text) == (numbers, "0"))
        check("web status", web_call("Fail", b"", text) == ([], "9"))


def error():
    code, details = status_of(lambda: unary("Echo")(b"x", timeout=10))
    print(code.name, details)


for step in sys.argv[2:]:
    globals()[step]()
print("done")
