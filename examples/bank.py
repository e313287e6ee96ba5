"""A bank that takes part in transactions:  python3 examples/bank.py PORT FILE.db
Every call is one SQLite transaction, on disk before its answer goes out. The table `branch` remembers what
became of everything, so that a repeat changes nothing and work that comes after its abort is refused."""
import http.server, json, sqlite3, sys, threading

db, lock = sqlite3.connect(sys.argv[2], check_same_thread=False), threading.Lock()
db.executescript("""PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, balance INT, held INT);
    CREATE TABLE IF NOT EXISTS branch (id TEXT PRIMARY KEY, state TEXT, account TEXT, amount INT);
    INSERT OR IGNORE INTO account VALUES ('alice', 100, 0), ('bob', 100, 0);""")
OUTCOME = {"commit": "committed", "abort": "aborted"}

def handle(call, branch, body):
    """True is 200; False is 409: a no, or the call contradicts what this bank did or was told before."""
    known = db.execute("SELECT state, account, amount FROM branch WHERE id = ?", (branch,)).fetchone()
    state, account, amount = known or (None, None, 0)
    if state is None and call in ("debit", "credit"):
        account, amount = body["account"], body["amount"] if call == "credit" else -body["amount"]
        hold = db.execute("UPDATE account SET held = held + ?1 WHERE name = ?2 AND balance - held >= ?1",
                          (max(-amount, 0), account))
        state = "held" if hold.rowcount else "aborted"  # held: commit must be possible whatever happens
    elif state is None and call == "abort":
        state = "aborted"  # the abort was faster than the work: remember it, and refuse that
    elif state == "held" and call in OUTCOME:
        state = OUTCOME[call]
        db.execute("UPDATE account SET held = held - ?, balance = balance + ? WHERE name = ?",
                   (max(-amount, 0), amount if call == "commit" else 0, account))
    if state is not None:
        db.execute("REPLACE INTO branch VALUES (?, ?, ?, ?)", (branch, state, account, amount))
    return state == OUTCOME[call] if call in OUTCOME else state in ("held", "committed")

class Bank(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        branch = self.headers["Transaction-Id"] + "/" + self.headers["Transaction-Branch"]
        with lock, db:  # commits at the end; rolls back, and answers nothing, where anything fails
            yes = handle(self.path.split("/")[-1], branch, body)
        self.answer(200 if yes else 409, {"status": "success" if yes else "failure"})
    def do_GET(self):
        with lock:
            self.answer(200, dict(db.execute("SELECT name, balance FROM account")))
    def answer(self, status, value):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Bank).serve_forever()
