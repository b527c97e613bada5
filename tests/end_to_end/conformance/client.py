"""The broadcaster as the Python package `websockets` sees it: a client that is not ours.

Takes the URL, and ends with 0 where every answer was as RFC 6455 has it. The last connection is held until
the server goes away, which the caller arranges once it reads `waiting for the end`.
"""

import json
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_with_proxy

SOON = 20


def connect(url, **options):
    return connect_with_proxy(url, proxy=None, open_timeout=SOON, close_timeout=SOON, **options)


def closed_with(socket):
    """The code that the server closes with. Frames that were on their way come before it."""
    try:
        while True:
            socket.recv(timeout=SOON)
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, f"closed without a close frame: {closed!r}"
        return closed.rcvd.code


def frames_are_messages(url):
    # It offers permessage-deflate, which the server need not take.
    with connect(url) as socket:
        assert socket.response.status_code == 101
        assert socket.response.headers.get("Sec-WebSocket-Extensions") is None
        for _ in range(3):
            frame = socket.recv(timeout=SOON)
            assert isinstance(frame, str), "a text frame"
            assert json.loads(frame)["content"] == "hello", frame


def a_subprotocol_is_not_chosen(url):
    with connect(url, subprotocols=["chat"]) as socket:
        assert socket.subprotocol is None
        socket.recv(timeout=SOON)


def pings_are_answered(url):
    with connect(url) as socket:
        pongs = [socket.ping() for _ in range(500)]
        assert pongs[-1].wait(SOON), "no pong"
        assert pongs[0].wait(SOON), "a pong answers the pings before it"
        assert socket.ping(b"x" * 125).wait(SOON), "no pong to a large ping"


def what_is_sent_is_ignored(url):
    with connect(url) as socket:
        socket.send("text")
        socket.send(b"\xff\x00")
        socket.send(["in ", "three ", "pieces"])
        socket.send("x" * 4096)
        assert socket.ping().wait(SOON), "no pong after messages"
        socket.recv(timeout=SOON)


def violations_have_their_codes(url):
    with connect(url) as socket:
        socket.send("x" * 4097)
        assert closed_with(socket) == 1009
    with connect(url) as socket:
        socket.send(["x" * 3000, "x" * 3000])
        assert closed_with(socket) == 1009
    with connect(url) as socket:
        socket.send(b"\xff\xfe", text=True)
        assert closed_with(socket) == 1007


def a_close_is_answered(url):
    for code in (1000, 1001, 3000, 4321):
        socket = connect(url)
        socket.close(code, "done")
        assert closed_with(socket) == code


def the_server_says_goodbye(url):
    with connect(url) as socket:
        print("waiting for the end", flush=True)
        assert closed_with(socket) == 1001


if __name__ == "__main__":
    for scenario in (
        frames_are_messages,
        a_subprotocol_is_not_chosen,
        pings_are_answered,
        what_is_sent_is_ignored,
        violations_have_their_codes,
        a_close_is_answered,
        the_server_says_goodbye,
    ):
        print(scenario.__name__, flush=True)
        scenario(sys.argv[1])
    print("all done", flush=True)
