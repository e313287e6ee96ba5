"""The cases: what a client sends, to the byte, out of `cases.txt`, which says how it is written."""

import pathlib
import re

ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}


class Case:
    def __init__(self, name):
        # Between two pieces the client waits for what comes back.
        self.name, self.pieces = name, [b""]


def cases(path=pathlib.Path(__file__).with_name("cases.txt")):
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("--- "):
            if any(case.name == line[4:] for case in found):
                raise SystemExit(f"{path}:{number}: there is a case of this name already")
            found.append(Case(line[4:]))
        elif line.startswith(">"):
            found[-1].pieces[-1] += bytes_of(line[2:])
        elif line == "(wait)":
            found[-1].pieces.append(b"")
        elif line.strip() and not line.startswith("#"):
            raise SystemExit(f"{path}:{number}: begin it with `#`, `--- ` or `> `: {line}")
    return found


def bytes_of(line):
    """What a line stands for: its text and CRLF, but for the escapes."""
    text, ending = (line[:-1], "") if re.search(r"(?<!\\)(\\\\)*\\$", line) else (line, "\r\n")
    text = re.sub(r"\\x([0-9a-f]{2})|\\([nrt0\\])", lambda m: chr(int(m[1], 16)) if m[1] else ESCAPES[m[2]], text)
    text = re.sub(r"\{(\d+) of ([^}]+)\}", lambda m: m[2] * int(m[1]), text)
    return (text + ending).encode("latin-1")
