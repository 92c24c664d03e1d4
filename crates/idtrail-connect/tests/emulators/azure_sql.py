"""A TDS server in front of SQLite: the protocol is pysqlbridge's, the T-SQL is what the sink says, translated by pattern.

    azure_sql.py PORT CERTIFICATE KEY DATABASE

Transactions are SQLite's own, so a connection that breaks off rolls back. Grants are kept and checked. `FAULT number count`
makes the next inserts fail with an error number. What it does not show: locks finer than a database, and how SQL Server
itself reads these statements.
"""

import logging
import re
import sqlite3
import sys
import threading

from pysqlbridge.certificate import load
from pysqlbridge.server import BridgeServer
from pysqlbridge.tds import Column, Integer, NVarChar, QueryError, QueryResult

port, certificate, key, database = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
LOGINS = {"admin": "admin-word", "writer": "writer-word", "eraser": "eraser-word", "nobody": "nobody-word"}
TYPES = {"bigint": "INTEGER", "bit": "INTEGER", "float": "REAL", "datetime2": "TEXT", "nvarchar": "TEXT"}
NAME = r"\[([^\]]+)\]"
faults = []
who = threading.local()


class Logins:
    configured = True
    names = list(LOGINS)

    def __len__(self):
        return len(LOGINS)

    def admits(self, user, password):
        # Each connection has a thread of its own.
        who.user = user
        return LOGINS.get(user) == password


def connect():
    db = sqlite3.connect(database, isolation_level=None, timeout=10)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    db.execute("CREATE TABLE IF NOT EXISTS [#grants] (who TEXT, what TEXT, name TEXT, allowed INTEGER)")
    db.execute("CREATE TABLE IF NOT EXISTS [#columns] (name TEXT, col TEXT, kind TEXT)")
    db.execute("CREATE TABLE IF NOT EXISTS [#ledgers] (name TEXT)")
    return db


def table_name(sql):
    found = re.search(NAME + r"\." + NAME, sql)
    return f"{found[1]}.{found[2]}" if found else None


def allowed(db, user, what, name):
    if user == "admin":
        return True
    rows = db.execute("SELECT allowed FROM [#grants] WHERE who = ? AND what = ? AND name = ?", (user, what, name))
    answers = [row[0] for row in rows]
    return bool(answers) and all(answers)


def create(db, sql):
    name = table_name(sql)
    body = re.search(r"\((.*)\)", sql, re.S)[1]
    body = re.sub(r"\)\s*WITH \(LEDGER = ON \(APPEND_ONLY = ON\)$", "", body.strip())
    if "APPEND_ONLY = ON" in sql:
        db.execute("INSERT INTO [#ledgers] VALUES (?)", (name,))
    lines = []
    for line in body.split("\n"):
        line = line.strip().rstrip(",")
        column = re.match(NAME + r" (\w+)(?:\((\w+)\))?(.*)", line)
        if column:
            kind, size, rest = column[2], column[3], column[4]
            db.execute("INSERT INTO [#columns] VALUES (?, ?, ?)", (name, column[1], kind))
            # Of null, ISJSON says null and the check holds; an older json_valid says 0.
            rest = re.sub(r"CHECK \(ISJSON\((.*)\) = 1\)", r"CHECK (\1 IS NULL OR json_valid(\1))", rest)
            if kind == "nvarchar" and size != "max":
                rest += f" CONSTRAINT too_long CHECK (length([{column[1]}]) <= {size})"
            line = f"[{column[1]}] {TYPES[kind]}{rest}"
        if line:
            lines.append(line)
    db.execute(f"CREATE TABLE [{name}] ({', '.join(lines)}) STRICT")


def translate(sql):
    sql = re.sub(NAME + r"\." + NAME, r"[\1.\2]", sql)
    sql = sql.replace("WITH (UPDLOCK, HOLDLOCK) ", "").replace(" WITH (UPDLOCK, HOLDLOCK)", "")
    if sql.startswith("SELECT TOP (1)"):
        sql = sql.replace("SELECT TOP (1)", "SELECT") + " LIMIT 1"

    def rows(match):
        fields = re.findall(NAME + r" [\w()]+ '(\$\.\w+)'", match[1])
        picked = ", ".join(f"json_extract(value, '{path}') AS [{name}]" for name, path in fields)
        return f"(SELECT {picked} FROM json_each(@P1))"

    sql = re.sub(r"OPENJSON\(@P1\) WITH \(((?:\[[^\]]+\] [\w()]+ '[^']+'(?:, )?)+)\)", rows, sql)
    sql = sql.replace("OPENJSON(@P1)", "json_each(@P1)").replace("COUNT_BIG", "count")
    return re.sub(r"(INSERT|DELETE|UPDATE)(.*)", r"\1\2", sql).replace("N'", "'")


def number_of(error):
    text = str(error)
    for part, number in [
        ("no such table", 208),
        ("no column named", 207),
        ("no such column", 207),
        ("UNIQUE", 2627),
        ("NOT NULL", 515),
        ("too_long", 2628),
        ("CHECK", 547),
        ("cannot store", 245),
        ("malformed JSON", 13609),
        ("locked", 1222),
    ]:
        if part in text:
            return number
    logging.error("no number for: %s", text)
    return 50000


def answer(query):
    if not hasattr(who, "db"):
        who.db = connect()
    db = who.db
    sql = query.sql.strip().rstrip(";")
    try:
        return run(db, who.user, sql, query.parameters)
    except sqlite3.Error as error:
        raise QueryError(f"failed: {error}", number=number_of(error)) from None


def ok(value=0):
    return QueryResult(columns=[Column("touched", Integer(8))], rows=[[value]])


def run(db, user, sql, parameters):
    if sql == "BEGIN TRANSACTION":
        # Immediate: whoever begins second waits, as behind UPDLOCK and HOLDLOCK.
        db.execute("BEGIN IMMEDIATE")
        return ok()
    if sql in ("COMMIT", "ROLLBACK"):
        if not db.in_transaction:
            raise QueryError("no corresponding BEGIN TRANSACTION", number=3903)
        db.execute(sql)
        return ok()
    if sql.startswith("FAULT "):
        _, number, count = sql.split()
        faults.extend([int(number)] * int(count))
        return ok()
    if sql.startswith("CREATE TABLE"):
        for statement in sql.split(";\n"):
            (create(db, statement) if statement.startswith("CREATE") else grant(db, statement))
        return ok()
    if sql.startswith(("GRANT", "DENY")):
        grant(db, sql)
        return ok()
    if "sys.columns" in sql:
        name = table_name(sql)
        rows = db.execute("SELECT col, kind FROM [#columns] WHERE name = ?", (name,)).fetchall()
        return texts(["name", "kind"], rows)
    if "fn_my_permissions" in sql:
        held = [(what,) for what in ("ALTER", "CONTROL", "DELETE", "UPDATE") if allowed(db, user, what, table_name(sql))]
        return texts(["permission_name"], held)
    verb = sql.split()[0]
    name = table_name(sql)
    if verb in ("INSERT", "DELETE", "UPDATE", "SELECT") and name:
        exists = db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        if exists and not allowed(db, user, verb, name):
            raise QueryError(f"the {verb} permission was denied", number=229, severity=14)
        if verb in ("DELETE", "UPDATE") and db.execute("SELECT 1 FROM [#ledgers] WHERE name = ?", (name,)).fetchone():
            raise QueryError("updates are not allowed for the append only ledger table", number=37359)
    if verb == "INSERT" and faults:
        raise QueryError("injected", number=faults.pop(0))
    statements = translate(sql).split("; ")
    named = {name.lstrip("@"): value for name, value in parameters.items()}
    cursor = db.execute(statements[0], named if "@P1" in statements[0] else ())
    if len(statements) > 1:
        return ok(cursor.rowcount)
    if cursor.description is None:
        return ok(max(cursor.rowcount, 0))
    rows = [list(row) for row in cursor.fetchall()]
    names = [column[0] for column in cursor.description]
    whole = [all(isinstance(row[at], (int, type(None))) for row in rows) for at in range(len(names))]
    columns = [Column(name, Integer(8) if kind else NVarChar(4000)) for name, kind in zip(names, whole)]
    shown = [[value if kind or value is None else str(value) for value, kind in zip(row, whole)] for row in rows]
    return QueryResult(columns=columns, rows=shown)


def texts(names, rows):
    return QueryResult(columns=[Column(name, NVarChar(128)) for name in names], rows=[list(row) for row in rows])


def grant(db, sql):
    found = re.match(r"(GRANT|DENY) ([\w, ]+) ON \[([^\]]+)\]\.\[([^\]]+)\] TO \[([^\]]+)\]", sql.strip())
    name = f"{found[3]}.{found[4]}"
    for what in found[2].split(", "):
        row = (found[5], what, name, int(found[1] == "GRANT"))
        db.execute("INSERT INTO [#grants] VALUES (?, ?, ?, ?)", row)


class Server(BridgeServer):
    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            # At once, and with it the transaction: nobody else could begin one.
            if hasattr(who, "db"):
                who.db.close()


connect().close()
logging.basicConfig(level=logging.WARNING)
server = Server("127.0.0.1", port, load(certificate, key), answer, "audit", Logins())
server.serve_forever()
