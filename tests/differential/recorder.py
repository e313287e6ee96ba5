"""A backend on a raw socket: it keeps every byte that comes, and reads requests out of them as RFC 9112 says.

It answers each request with the target that it read, so that a client who gets somebody else's answer can be told from one who
gets its own. It forgives what many servers forgive (a bare LF at the end of a line), so that it falls for what they would.
"""

import contextlib
import re
import socket
import threading


class Recorder:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock, self.connections = threading.Lock(), []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection = Connection(self.listener.accept()[0])
            with self.lock:
                self.connections.append(connection)
            threading.Thread(target=connection.serve, daemon=True).start()

    def take(self):
        """All connections since the last time. They are closed: what comes next is about another case."""
        with self.lock:
            taken, self.connections = self.connections, []
        for connection in taken:
            with contextlib.suppress(OSError):
                connection.stream.shutdown(socket.SHUT_RDWR)
        return taken


class Connection:
    def __init__(self, stream):
        self.stream, self.bytes, self.requests, self.rest = stream, b"", [], b""

    def serve(self):
        continued = 0
        with self.stream, contextlib.suppress(OSError):
            while piece := self.stream.recv(1 << 16):
                self.bytes += piece
                self.rest += piece
                while request := read(self.rest):
                    self.requests.append(request)
                    self.rest = self.rest[request.length :]
                    if request.is_broken:
                        return
                    said = f"it asked for {request.target[:60]}\n".encode("latin-1").replace(b"HTTP/", b"H/")
                    body = b"" if request.method == "HEAD" else said
                    self.stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), body))
                head = re.search(rb"(?i)\r?\nexpect: *100-continue\r?\n", self.rest)
                if head and len(self.requests) >= continued and re.search(rb"\r?\n\r?\n", self.rest):
                    continued = len(self.requests) + 1
                    self.stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


class Request:
    """One request as the backend read it."""

    def __init__(self, line, fields, framing, body, trailers, length, is_broken):
        self.method, self.target, self.version = (line.split(" ", 2) + ["", ""])[:3]
        self.line, self.fields, self.framing, self.body = line, fields, framing, body
        self.trailers, self.length, self.is_broken = trailers, length, is_broken

    def values(self, name):
        return [value for key, value in self.fields if key == name]


def read(data):
    """The request that `data` begins with, or `None` where it is not all there."""
    head = re.match(rb"(?s)(.*?)\r?\n\r?\n", data)
    if not head:
        return None
    line, *rest = re.split(r"\r?\n", head[1].decode("latin-1"))
    fields, rest = fields_of(rest), data[head.end() :]
    values = lambda name: [value for key, value in fields if key == name]
    body, trailers, is_broken = b"", [], False
    if any("chunked" in value.lower() for value in values("transfer-encoding")):
        framing = "chunks"
        chunked = read_chunks(rest)
        if chunked is None:
            return None
        body, trailers, used, is_broken = chunked
    elif lengths := values("content-length"):
        framing, is_broken = "length", not all(re.fullmatch(r"\d+", length) for length in lengths)
        used = 0 if is_broken else int(lengths[0])
        if len(rest) < used:
            return None
        body = rest[:used]
    else:
        framing, used = "", 0
    return Request(line, fields, framing, body, trailers, head.end() + used, is_broken)


def read_chunks(data):
    """Body, trailers, bytes used, and whether they are no chunks."""
    body, at = b"", 0
    while True:
        size = re.match(rb"([^\r\n]*)\r?\n", data[at:])
        if not size:
            return None
        digits = size[1].split(b";")[0].strip()
        if not re.fullmatch(rb"[0-9a-fA-F]{1,16}", digits):
            return body, [], len(data), True
        at, count = at + size.end(), int(digits, 16)
        if count == 0:
            break
        if len(data) < at + count + 2:
            return None
        body += data[at : at + count]
        end = re.match(rb"\r?\n", data[at + count :])
        if not end:
            return body, [], len(data), True
        at += count + end.end()
    trailers = re.match(rb"(?s)((?:[^\r\n]+\r?\n)*)\r?\n", data[at:])
    if not trailers:
        return None
    lines = re.split(r"\r?\n", trailers[1].decode("latin-1"))
    return body, fields_of(lines), at + trailers.end(), False


def fields_of(lines):
    pairs = (line.partition(":") for line in lines if line)
    return [(name.lower(), value.strip()) for name, _, value in pairs]
