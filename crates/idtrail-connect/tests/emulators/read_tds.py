"""Reads the places of a table's rows through FreeTDS: read_tds.py PORT SCHEMA.TABLE"""

import sys

import pymssql

port, (schema, table) = sys.argv[1], sys.argv[2].split(".")
connection = pymssql.connect(
    server="127.0.0.1", port=port, user="admin", password="admin-word", database="audit", encryption="require",
    conn_properties="", autocommit=True
)
cursor = connection.cursor()
cursor.execute(f"SELECT seq FROM [{schema}].[{table}] ORDER BY rowid")
for row in cursor.fetchall():
    print(row[0])
