#!/usr/bin/env python3
"""The gateway beside nginx, HAProxy and Caddy of Debian, and beside itself, on one machine and in one run.

    cargo build --release && python3 benches/gateway/bench.py [--rounds N] [--seconds N] [--only NAME]

Each round asks all of them in turn, so that what disturbs the machine disturbs all; what is printed is the median over the
rounds, and ratios. The backend, the gateway and the load generator (wrk) share the machine. Configurations: this directory.
"""

import argparse
import contextlib
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile

from servers import Servers, end, program, tools

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = program()
CONNECTIONS = 64
# Where each listens; the files in this directory have the same numbers.
BACKEND, NGINX, HAPROXY, CADDY, OURS, ADMIN = 19100, 19101, 19102, 19103, 19104, 19105


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=5, help="of one measurement")
    options.add_argument("--only", choices=["forwarding", "routes", "merging", "idle"])
    options = options.parse_args()
    if not PROGRAM.exists():
        sys.exit(f"{PROGRAM} is not there: cargo build --release")
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as running:
        # nginx gives up the rights of root, and has to read what it serves.
        os.chmod(directory, 0o755)
        bench = Bench(Servers(tools(), pathlib.Path(directory), running), options)
        bench.backend()
        for name in ["forwarding", "routes", "merging", "idle"]:
            if options.only in (None, name):
                getattr(bench, name)()


class Bench:
    def __init__(self, servers, options):
        self.servers, self.options, self.tools, self.directory = servers, options, servers.tools, servers.directory

    # --- what runs ---

    def file(self, name, **values):
        return self.servers.file(HERE / name, **values)

    def backend(self):
        """nginx, which serves two files and JSON out of memory."""
        pages = self.directory / "pages"
        pages.mkdir()
        for name, size in [("1k", 1 << 10), ("64k", 64 << 10)]:
            (pages / name).write_bytes(b"x" * size)
        for name in ["a.json", "b.json"]:
            (pages / name).write_text('{"items":[' + ",".join(f'{{"id":{n},"price":1.10}}' for n in range(30)) + "]}")
        self.servers.nginx(BACKEND, self.file("backend.conf"))

    def ours(self, config, **values):
        return self.servers.start(OURS, str(PROGRAM), "serve", "--config", self.file(config, **values))

    # --- what is measured ---

    def load(self, port, path):
        """Requests a second, and the 99th percentile in milliseconds."""
        command = [self.tools / "usr/bin/wrk", "-t1", f"-c{CONNECTIONS}", f"-d{self.options.seconds}s", "--latency"]
        said = subprocess.check_output([*command, f"http://127.0.0.1:{port}{path}"], env=self.servers.environment, text=True)
        if "Non-2xx" in said:
            sys.exit(f"port {port}{path} does not answer as it should, so that there is nothing to compare:\n{said}")
        if "Socket errors" in said:
            print(f"  port {port}{path}: " + "; ".join(re.findall(r"Socket errors.*", said)))
        rate = float(re.search(r"Requests/sec:\s*([\d.]+)", said)[1])
        number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()
        return rate, float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]

    def rounds(self, asked):
        """The medians of all that is asked, in turn, round by round: name -> (rate, p99)."""
        for port, path in asked.values():
            self.load(port, path)  # warm
        found = {name: [] for name in asked}
        for _ in range(self.options.rounds):
            for name, (port, path) in asked.items():
                found[name].append(self.load(port, path))
        return {name: tuple(statistics.median(column) for column in zip(*list)) for name, list in found.items()}

    def forwarding(self):
        self.servers.nginx(NGINX, self.file("nginx.conf"))
        self.servers.haproxy(HAPROXY, self.file("haproxy.cfg"))
        caddy = str(self.tools / "usr/bin/caddy")
        self.servers.start(CADDY, caddy, "run", "--config", self.file("Caddyfile"), "--adapter", "caddyfile")
        process = self.ours("forward.toml")
        for path in ["/1k", "/64k"]:
            print(f"\nplain forwarding, {CONNECTIONS} connections, {path}")
            ports = {"unanimous": OURS, "nginx": NGINX, "haproxy": HAPROXY, "caddy": CADDY, "(no gateway)": BACKEND}
            found = self.rounds({name: (port, path) for name, port in ports.items()})
            for name, (rate, p99) in found.items():
                print(f"  {name:13} {rate:9.0f} req/s   p99 {p99:7.2f} ms")
            ours, caddy, nginx = found["unanimous"], found["caddy"], found["nginx"]
            judge("requests/s, to Caddy's", ours[0] / caddy[0], 1.0)
            judge("requests/s, to nginx's", ours[0] / nginx[0], 0.6)
            judge("p99, to Caddy's", ours[1] / caddy[1], 1.0, at_most=True)
        end(process)

    def routes(self):
        print("\n1,000 routes beside 10, /1k by the last of them")
        found = {}
        for _ in range(self.options.rounds):
            for count in [10, 1000]:
                routes = "\n".join(
                    f'[[routes]]\nid = "{n}"\nmatch = {{ path = "/r{n}/{{x}}", methods = ["GET"] }}\n'
                    f'forward = {{ service = "backend", path = "/{{x}}" }}' for n in range(count))
                process = self.ours("routes.toml", ROUTES=routes)
                self.load(OURS, f"/r{count - 1}/1k")
                found.setdefault(count, []).append(self.load(OURS, f"/r{count - 1}/1k")[0])
                end(process)
        few, many = (statistics.median(found[count]) for count in [10, 1000])
        print(f"  10 routes {few:9.0f} req/s\n  1000      {many:9.0f} req/s")
        judge("requests/s", many / few, 0.95)

    def merging(self):
        process = self.ours("merge.toml")
        for where, limit in [("", "the processor is the limit"), ("limited/", "each service gives 2,000 answers/s")]:
            print(f"\nmerging two parts of 1 KiB beside each alone; {limit}")
            names = ["merged", "a.json", "b.json"]
            found = self.rounds({name: (OURS, f"/{where}{name}") for name in names})
            for name, (rate, p99) in found.items():
                print(f"  {name:9} {rate:9.0f} req/s   p99 {p99:7.2f} ms")
            merged, *alone = (found[name][0] for name in names)
            judge("requests/s, to the slower of the two", merged / min(alone), 0.8)
        end(process)

    def idle(self):
        count = 2000
        print(f"\nmemory of an idle connection, over {count} that have asked once")
        process = self.ours("forward.toml")
        ask, before = b"GET /1k HTTP/1.1\r\nHost: x\r\n\r\n", 0
        with contextlib.ExitStack() as connections:
            for number in range(2 * count):
                if number == count:
                    before = resident(process.pid)
                connection = connections.enter_context(socket.create_connection(("127.0.0.1", OURS)))
                connection.settimeout(10)
                connection.sendall(ask)
                got = b""
                while len(got.partition(b"\r\n\r\n")[2]) < 1024:
                    got += connection.recv(65536) or sys.exit("a connection was closed")
            each = (resident(process.pid) - before) / count
        print(f"  {each:.0f} bytes each")
        judge("KiB each", each / 1024, 16, at_most=True)
        end(process)


def judge(what, value, bound, at_most=False):
    met = value <= bound if at_most else value >= bound
    print(f"  {what}: {value:.2f}, {'at most' if at_most else 'at least'} {bound:g} is wanted: {'met' if met else 'MISSED'}")


def resident(pid):
    return int(re.search(r"VmRSS:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) * 1024


if __name__ == "__main__":
    main()
