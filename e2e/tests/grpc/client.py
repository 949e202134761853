"""Calls the methods of server.py through whatever listens on the given port; says what did not work."""

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


def error():
    code, details = status_of(lambda: unary("Echo")(b"x", timeout=10))
    print(code.name, details)


for step in sys.argv[2:]:
    globals()[step]()
print("done")
