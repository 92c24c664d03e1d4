"""Runs pending/resend.py against a made-up Genesys and a running idtrail: what stayed PENDING is on record afterwards, once."""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "pending" / "resend.py"
CONVERSATIONS = {
    "5c9e0f1a-0000-4000-8000-000000000001": {"purpose": "customer", "calls": [{}]},
    "5c9e0f1a-0000-4000-8000-000000000002": {"purpose": "external", "emails": [{}]},
    "5c9e0f1a-0000-4000-8000-000000000003": {"purpose": "customer", "attributes": {"customer.phone": "+14155550123"}},
}


class Genesys(http.server.BaseHTTPRequestHandler):
    asked = []

    def do_GET(self):
        one = CONVERSATIONS.get(self.path.rsplit("/", 1)[1])
        if self.headers["authorization"] != "Bearer good" or one is None:
            return self.answer(404, {})
        return self.answer(200, {"startTime": "2026-05-04T08:00:01.000Z", "participants": [one]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/oauth/token":
            return self.answer(200, {"access_token": "good"})
        search = json.loads(body)
        Genesys.asked.append(search)
        ids = list(CONVERSATIONS)
        # Two pages, and one conversation on both.
        if "cursor" not in search:
            return self.answer(200, {"results": [{"conversationId": one} for one in ids[:2]], "cursor": "next"})
        return self.answer(200, {"results": [{"conversationId": one} for one in ids[1:]]})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def pending_holds(base_url, api_key):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Genesys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    genesys = f"http://127.0.0.1:{server.server_port}"
    env = {**os.environ, "GENESYS_LOGIN": genesys, "GENESYS_API": genesys, "GENESYS_CLIENT_ID": "id",
           "GENESYS_CLIENT_SECRET": "secret", "IDTRAIL_URL": base_url, "IDTRAIL_KEY": api_key}
    found = []

    def run(expected, changed=None):
        done = subprocess.run([sys.executable, str(PROGRAM)], env={**env, **(changed or {})}, capture_output=True, text=True)
        if done.stdout.strip() != json.dumps(expected) or done.returncode != (1 if expected["failed"] else 0):
            found.append(f"pending: {expected} wanted, got {done.returncode} {done.stdout} {done.stderr}")
        if "+1415" in done.stdout + done.stderr or "secret" in done.stdout + done.stderr:
            found.append("pending: it shows what it must not")

    run({"new": 3, "known": 0, "failed": 0})
    run({"new": 0, "known": 3, "failed": 0})
    run({"new": 0, "known": 0, "failed": 3}, {"IDTRAIL_KEY": "wrong"})
    if any({"type": "EXACT", "fields": ["idtrail.status"], "value": "PENDING"} not in one["query"] for one in Genesys.asked):
        found.append("pending: it does not ask for the status")
    server.shutdown()
    return found, 4
