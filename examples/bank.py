#!/usr/bin/env python3
"""A bank that takes part in transactions:  python3 examples/bank.py PORT FILE.db

Every call is one SQLite transaction, on disk before its answer goes out. The table `branch` remembers what
became of everything, so that a repeat changes nothing and work that comes after its abort is refused.
"""
import json, sqlite3, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

db, lock = sqlite3.connect(sys.argv[2], check_same_thread=False), threading.Lock()
db.executescript("""
    PRAGMA journal_mode = WAL;  PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, balance INT, held INT);
    CREATE TABLE IF NOT EXISTS branch (id TEXT PRIMARY KEY, state TEXT, account TEXT, amount INT);
    INSERT OR IGNORE INTO account VALUES ('alice', 100, 0), ('bob', 100, 0);""")

def work(branch, state, account, amount):
    """Holds what a negative amount takes away. After a yes, commit must be possible whatever happens."""
    if state is None:
        take = max(-amount, 0)
        held = db.execute("UPDATE account SET held = held + ? WHERE name = ? AND balance - held >= ?",
                          (take, account, take)).rowcount
        state = "held" if held else "aborted"
        db.execute("INSERT INTO branch VALUES (?, ?, ?, ?)", (branch, state, account, amount))
    return state != "aborted"

def settle(operation, branch, state, account, amount):
    """True is 200; False is 409: what is asked contradicts what this bank did or was told before."""
    if operation == "prepare":
        return state in ("held", "committed")
    after = {"commit": "committed", "abort": "aborted"}[operation]
    if state == "held":
        db.execute("UPDATE account SET held = held - ?, balance = balance + ? WHERE name = ?",
                   (max(-amount, 0), amount if after == "committed" else 0, account))
        db.execute("UPDATE branch SET state = ? WHERE id = ?", (after, branch))
        return True
    if state is None and after == "aborted":  # the abort was faster than the work: remember it
        db.execute("INSERT INTO branch VALUES (?, 'aborted', NULL, 0)", (branch,))
        return True
    return state == after  # a repeat

class Bank(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        branch = self.headers["Transaction-Id"] + "/" + self.headers["Transaction-Branch"]
        with lock, db:  # commits at the end; rolls back, and answers nothing, where anything fails
            known = db.execute("SELECT state, account, amount FROM branch WHERE id = ?", (branch,)).fetchone()
            if self.path in ("/debit", "/credit"):
                amount = body["amount"] if self.path == "/credit" else -body["amount"]
                yes = work(branch, known and known[0], body["account"], amount)
            else:
                yes = settle(self.path.removeprefix("/tx/"), branch, *(known or (None, None, 0)))
        self.answer(200 if yes else 409, {"status": "success" if yes else "failure"})

    def do_GET(self):
        with lock:
            self.answer(200, dict(db.execute("SELECT name, balance FROM account")))

    def answer(self, status, value):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Bank).serve_forever()
