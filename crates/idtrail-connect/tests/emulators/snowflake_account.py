"""Stands in for one Snowflake account: its SQL API (v2) in front of fakesnow, and Snowpipe Streaming's REST API.

    snowflake_account.py PORT KEYS FAULTS

KEYS is a folder with a public key in PEM for each user, named as the user. FAULTS is a file with one fault a line, each used
once: {"on": "insert" | "select" | "open" | "append" | "status" | "hostname", "do": "status" | "lost" | "stale", "code": 503}.
`status` answers with the code and applies nothing, `lost` applies and then answers 503, `stale` refuses the continuation
token. {"drop": [13]} stays: rows with these seqs are committed and not stored, as the service does with rows that do not fit.

Streaming is stateful: opening a channel gives a new sequencer and makes older continuation tokens worthless; a token is
committed only after it was asked for once. What it does not show: latency, limits, how rows are checked on the server.
"""

import hashlib
import base64
import json
import os
import re
import sys
import threading
import uuid
from pathlib import Path

import duckdb
import jwt
import uvicorn
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from fakesnow.instance import FakeSnow
from snowflake.connector.errors import ProgrammingError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

port, keys, path = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
fake = FakeSnow()
connection = fake.connect("DWH", "AUDIT")
lock = threading.Lock()
scoped, channels, grants, waiting = {}, {}, [], {}


class Refused(Exception):
    def __init__(self, status, code="", message="refused"):
        super().__init__(message)
        self.status, self.code = status, code


def answer_of(refused):
    headers = {"retry-after": "0"} if refused.status == 429 else {}
    return JSONResponse({"code": refused.code, "message": str(refused)}, refused.status, headers)


def take(on):
    with open(path, encoding="utf-8") as file:
        faults = [json.loads(line) for line in file if line.strip()]
    for number, fault in enumerate(faults):
        if fault.get("on") == on:
            del faults[number]
            with open(path + ".new", "w", encoding="utf-8") as file:
                file.write("".join(json.dumps(fault) + "\n" for fault in faults))
            os.replace(path + ".new", path)
            if fault["do"] == "status":
                raise Refused(fault["code"], fault.get("sql", ""))
            return fault["do"]
    return None


def dropped():
    with open(path, encoding="utf-8") as file:
        return {seq for line in file if line.strip() for seq in json.loads(line).get("drop", [])}


def user_of(request):
    """Checks a token as the service does: signature, issuer with the key's fingerprint, lifetime of an hour at most."""
    if request.headers.get("x-snowflake-authorization-token-type") != "KEYPAIR_JWT":
        raise Refused(401, "390144")
    token = request.headers["authorization"].removeprefix("Bearer ")
    try:
        subject = jwt.decode(token, options={"verify_signature": False})["sub"]
        account, user = subject.split(".")
        public = load_pem_public_key((keys / user).read_bytes())
        claims = jwt.decode(token, public, algorithms=["RS256"])
    except (jwt.PyJWTError, OSError, ValueError, KeyError):
        raise Refused(401, "390144") from None
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fingerprint = base64.b64encode(hashlib.sha256(der).digest()).decode()
    right = account == "ORG-ACCT" and claims["iss"] == f"{subject}.SHA256:{fingerprint}"
    if not right or claims["exp"] - claims["iat"] > 3600:
        raise Refused(401, "390144")
    return user


def run(sql, bound=()):
    with lock:
        cursor = connection.cursor()
        cursor.execute(sql, binding_params=tuple(bound) or None, server=True)
        table = cursor._arrow_table  # noqa: SLF001
        if table is None:
            return ["status"], [["done"]]
        text = lambda value: value if value is None or isinstance(value, str) else str(value)  # noqa: E731
        return table.column_names, [[text(value) for value in row.values()] for row in table.to_pylist()]


def grant(sql, user):
    words = re.match(r'GRANT ([\w, ]+) ON TABLE (\S+) TO ROLE "?(\w+)"?', sql)
    if words:
        grants.extend((what, words[2].replace('"', ""), words[3]) for what in words[1].split(", "))


def statement(request, body):
    user = user_of(request)
    sql = body["statement"].strip().rstrip(";")
    role = body.get("role", "").upper()
    verb = sql.split()[0]
    if verb == "GRANT":
        grant(sql, user)
        return ["status"], [["done"]]
    if sql.startswith("SHOW GRANTS ON TABLE"):
        name = sql.removeprefix("SHOW GRANTS ON TABLE ").replace('"', "")
        rows = [["2026", what, "TABLE", on, "ROLE", to] for what, on, to in grants if on == name]
        return ["created_on", "privilege", "granted_on", "name", "granted_to", "grantee_name"], rows
    name = re.search(r'(?:FROM|INTO|UPDATE) ("\w+"\."\w+"\."\w+")', sql)
    if name and role != "ADMIN":
        what = "SELECT" if verb == "SELECT" else verb
        if (what, name[1].replace('"', ""), role) not in grants:
            raise Refused(422, "003001")
    fault = take("insert" if verb == "INSERT" else "select") if role != "ADMIN" else None
    bound = [body["bindings"][str(number + 1)]["value"] for number in range(len(body.get("bindings") or {}))]
    try:
        names, rows = run(sql, bound)
    except ProgrammingError as error:
        raise Refused(422, f"{error.errno:06d}", "a text that may hold values") from None
    except duckdb.ConstraintException:
        # The number that the service gives for a null in a NOT NULL column.
        raise Refused(422, "100072") from None
    if fault == "lost":
        raise Refused(503)
    return names, rows


async def statements(request):
    body = await request.json()
    try:
        names, rows = await run_in_threadpool(statement, request, body)
    except Refused as refused:
        return answer_of(refused)
    answer = {"resultSetMetaData": {"rowType": [{"name": name} for name in names]}, "data": rows, "code": "090001"}
    if len(rows) % 2 == 0 and rows:
        # Some statements take longer: asked for again.
        handle = str(uuid.uuid4())
        waiting[handle] = answer
        return JSONResponse({"code": "333334", "statementHandle": handle}, 202)
    return JSONResponse(answer)


async def poll(request):
    user_of(request)
    return JSONResponse(waiting.pop(request.path_params["handle"]))


async def hostname(request):
    try:
        user_of(request)
        take("hostname")
    except Refused as refused:
        return answer_of(refused)
    # As the caller knows it: there may be a proxy in between.
    return PlainTextResponse(request.headers["host"])


async def token(request):
    try:
        user = user_of(request)
    except Refused as refused:
        return answer_of(refused)
    form = dict(part.split("=") for part in (await request.body()).decode().split("&"))
    if form.get("scope") != request.headers["host"]:
        return JSONResponse({}, 400)
    made = uuid.uuid4().hex
    scoped[made] = user
    return PlainTextResponse(made)


def channel_of(request):
    """The channel's key and its table, if the pipe is the one that every table has."""
    if request.headers.get("authorization", "").removeprefix("Bearer ") not in scoped:
        raise Refused(401)
    part = request.path_params
    pipe = part["pipe"]
    if not pipe.endswith("-STREAMING"):
        raise Refused(404, "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED")
    return f'"{part["database"]}"."{part["schema"]}"."{pipe.removesuffix("-STREAMING")}"'


def status_of(channel):
    return {
        "channel_status_code": "SUCCESS",
        "last_committed_offset_token": channel["committed"],
        "rows_inserted": channel["inserted"],
        "rows_parsed": channel["inserted"] + channel["errors"],
        "rows_error_count": channel["errors"],
        "last_error_offset_upper_bound": channel["last_error"],
    }


async def open_channel(request):
    try:
        table = channel_of(request)
        take("open")
    except Refused as refused:
        return answer_of(refused)
    key = (table, request.path_params["channel"].upper())
    fresh = {"committed": None, "pending": None, "inserted": 0, "errors": 0, "last_error": None, "sequencer": 0, "n": 0}
    channel = channels.setdefault(key, fresh)
    # What was not committed is gone with its sequencer.
    channel["pending"] = None
    channel["sequencer"] += 1
    channel["n"] = 0
    answer = {"next_continuation_token": f"{channel['sequencer']}_0", "channel_status": status_of(channel)}
    return JSONResponse(answer)


def commit(table, channel):
    rows, offset = channel["pending"]
    channel["pending"] = None
    bad = dropped()
    kept = [row for row in rows if row["SEQ"] not in bad]
    if kept:
        names, _ = run(f"SELECT * FROM {table} LIMIT 0")
        values = ", ".join(f"f.value:{name}" + cast(table, name) for name in names)
        sql = f"INSERT INTO {table} SELECT {values} FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) f"
        run(sql, [json.dumps(kept)])
    channel["inserted"] += len(kept)
    channel["errors"] += len(rows) - len(kept)
    if len(kept) < len(rows):
        channel["last_error"] = offset
    channel["committed"] = offset


types = {}


def cast(table, name):
    if (table, name) not in types:
        schema, short = table.replace('"', "").split(".")[1:]
        sql = "SELECT COLUMN_NAME, DATA_TYPE FROM DWH.INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?"
        _, rows = run(sql, [schema, short])
        types.update({(table, column): kind for column, kind in rows})
    return "::" + {"TEXT": "VARCHAR", "NUMBER": "NUMBER(38,0)"}.get(types[table, name], types[table, name])


async def append(request):
    body = (await request.body()).decode()
    try:
        table = channel_of(request)
        channel = channels[table, request.path_params["channel"].upper()]
        fault = take("append")
        right = f"{channel['sequencer']}_{channel['n']}"
        if fault == "stale" or request.query_params["continuationToken"] != right:
            raise Refused(400, "STALE_CONTINUATION_TOKEN_SEQUENCER")
        if len(body) > 16 * 1024 * 1024:
            raise Refused(413)
        if channel["pending"]:
            await run_in_threadpool(commit, table, channel)
        rows = [json.loads(line) for line in body.splitlines()]
        channel["pending"] = (rows, request.query_params["offsetToken"])
        channel["n"] += 1
        if fault == "lost":
            # Applied and committed, and nobody hears of it.
            await run_in_threadpool(commit, table, channel)
            raise Refused(503)
    except Refused as refused:
        return answer_of(refused)
    return JSONResponse({"next_continuation_token": f"{channel['sequencer']}_{channel['n']}"})


async def status(request):
    names = (await request.json())["channel_names"]
    try:
        table = channel_of(request)
        fault = take("status")
    except Refused as refused:
        return answer_of(refused)
    found = {}
    for name in names:
        channel = channels.get((table, name.upper()))
        if channel:
            # As it was before; then what is waiting gets committed.
            found[name] = status_of(channel)
            if channel["pending"]:
                await run_in_threadpool(commit, table, channel)
    if fault == "lost":
        return JSONResponse({}, 503)
    return JSONResponse({"channel_statuses": found})


PIPE = "/databases/{database}/schemas/{schema}/pipes/{pipe}"
routes = [
    Route("/api/v2/statements", statements, methods=["POST"]),
    Route("/api/v2/statements/{handle}", poll),
    Route("/v2/streaming/hostname", hostname),
    Route("/oauth/token", token, methods=["POST"]),
    Route("/v2/streaming" + PIPE + ":bulk-channel-status", status, methods=["POST"]),
    Route("/v2/streaming" + PIPE + "/channels/{channel}", open_channel, methods=["PUT"]),
    Route("/v2/streaming/data" + PIPE + "/channels/{channel}/rows", append, methods=["POST"]),
]
uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="warning")
