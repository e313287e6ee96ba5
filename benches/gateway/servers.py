"""Servers that are compared on one machine: their configurations with names filled in, their start, and their end."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent


class Servers:
    """Everything that runs in `directory`, with the programs that `tools` takes out of Debian's packages."""

    def __init__(self, tools, directory, running):
        self.tools, self.directory, self.running = tools, directory, running
        libraries = ":".join(sorted({str(path.parent) for path in tools.rglob("*.so*")}))
        self.environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "HOME": str(directory), "NO_COLOR": "1"}

    def start(self, port, *command):
        """Starts a server, waits until it listens, and ends it with the others."""
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            sys.exit(f"somebody listens on 127.0.0.1:{port} already, and would be measured instead")
        log = open(self.directory / f"{port}.log", "wb")
        process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=self.directory)
        self.running.callback(end, process)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return process
            if process.poll() is not None:
                break
            time.sleep(0.02)
        sys.exit(f"{command[0]} does not listen on {port}:\n" + (self.directory / f"{port}.log").read_text())

    def nginx(self, port, config):
        return self.start(port, str(self.tools / "usr/sbin/nginx"), "-p", str(self.directory), "-c", config, "-e", "stderr")

    def haproxy(self, port, config):
        return self.start(port, str(self.tools / "usr/sbin/haproxy"), "-f", config)

    def file(self, path, name=None, **values):
        """A copy of a configuration, with the names in double braces replaced."""
        text = path.read_text()
        for key, value in {"DIRECTORY": self.directory, **values}.items():
            text = text.replace("{{" + key + "}}", str(value))
        copy = self.directory / (name or path.name)
        copy.write_text(text)
        return str(copy)


def tools():
    """Where the programs are that are compared. Raises where Debian's packages cannot be had."""
    return pathlib.Path(subprocess.check_output([HERE / "tools"], text=True).strip())


def program(profile="release"):
    """Our own."""
    return HERE.parent.parent / os.environ.get("CARGO_TARGET_DIR", "target") / profile / "unanimous"


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
