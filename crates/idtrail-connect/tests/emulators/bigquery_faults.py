"""A gRPC proxy in front of the BigQuery emulator that answers wrongly as a file says: one fault a line, each used once.

    bigquery_faults.py PORT EMULATOR_PORT FAULTS

A fault is JSON: {"method": "AppendRows", "do": "error" | "status" | "lost", "code": 8}. `error` answers within the call and
applies nothing, `status` ends the call and applies nothing, `lost` applies and then ends the call with the code.
{"refuse": [13, 77]} stays: rows with these seqs are refused by their number, as the service does with row_errors.
{"storage": 7, ...} adds a StorageError with that code to an `error` or `status`.
"""

import json
import os
import sys
from concurrent import futures

import grpc
from google.cloud.bigquery_storage_v1 import types
from google.protobuf import any_pb2
from google.rpc import status_pb2

port, upstream, path = sys.argv[1], sys.argv[2], sys.argv[3]
SERVICE = "/google.cloud.bigquery.storage.v1.BigQueryWrite/"
channel = grpc.insecure_channel("127.0.0.1:" + upstream)
CODES = {code.value[0]: code for code in grpc.StatusCode}


def take(method):
    """Returns the next fault of a method, and takes it out of the file."""
    with open(path, encoding="utf-8") as file:
        faults = [json.loads(line) for line in file if line.strip()]
    for number, fault in enumerate(faults):
        if fault.get("method") == method:
            del faults[number]
            with open(path + ".new", "w", encoding="utf-8") as file:
                file.write("".join(json.dumps(fault) + "\n" for fault in faults))
            os.replace(path + ".new", path)
            return fault
    return None


def refused():
    with open(path, encoding="utf-8") as file:
        return {seq for line in file if line.strip() for seq in json.loads(line).get("refuse", [])}


def status_of(fault):
    status = status_pb2.Status(code=fault["code"], message="a text that may hold values")
    if "storage" in fault:
        error = types.StorageError.pb(types.StorageError(code=fault["storage"]))
        detail = any_pb2.Any()
        detail.Pack(error)
        status.details.append(detail)
    return status


def abort(context, fault):
    status = status_of(fault)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(CODES[fault["code"]], status.message)


def seq_of(row):
    """The varint of field 2, which stands behind that of field 1."""
    def varint(at):
        value, shift = 0, 0
        while True:
            byte = row[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    _, at = varint(1)
    return varint(at + 1)[0]


def unary(method):
    call = channel.unary_unary(SERVICE + method)

    def handle(request, context):
        fault = take(method)
        if fault and fault["do"] != "lost":
            abort(context, fault)
        try:
            answer = call(request)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        if fault:
            abort(context, fault)
        return answer

    return grpc.unary_unary_rpc_method_handler(handle)


def append():
    call = channel.stream_stream(SERVICE + "AppendRows")

    def handle(requests, context):
        for request in requests:
            parsed = types.AppendRowsRequest.deserialize(request)
            wrong = [
                number
                for number, row in enumerate(parsed.proto_rows.rows.serialized_rows)
                if seq_of(row) in refused()
            ]
            if wrong:
                answer = types.AppendRowsResponse(
                    error=status_pb2.Status(code=3, message="Errors found while processing rows."),
                    row_errors=[types.RowError(index=number, code=1, message="value") for number in wrong],
                )
                yield types.AppendRowsResponse.serialize(answer)
                continue
            fault = take("AppendRows")
            if fault and fault["do"] == "status":
                abort(context, fault)
            if fault and fault["do"] == "error":
                yield types.AppendRowsResponse.serialize(types.AppendRowsResponse(error=status_of(fault)))
                continue
            try:
                answer = next(iter(call(iter([request]))))
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            if fault:
                abort(context, fault)
            yield answer

    return grpc.stream_stream_rpc_method_handler(handle)


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        method = details.method.rsplit("/", 1)[1]
        return append() if method == "AppendRows" else unary(method)


server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Handler()])
server.add_insecure_port("127.0.0.1:" + port)
server.start()
server.wait_for_termination()
