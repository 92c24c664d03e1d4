#!/usr/bin/env python3
"""Finds conversations whose attribute idtrail.status stayed PENDING, and logs each as ANONYMOUS. Run it once an hour.

    resend.py [--hours 26]

Needs nothing but Python 3.9. Takes from the environment:
    GENESYS_LOGIN          https://login.<region domain>
    GENESYS_API            https://api.<region domain>
    GENESYS_CLIENT_ID, GENESYS_CLIENT_SECRET    the OAuth client "idtrail capture"
    IDTRAIL_URL, IDTRAIL_KEY                    a key with the role ingest

What was logged before is not logged again: the Idempotency-Key is made of the conversation's id, and the time is that at which
the conversation began. So runs may overlap, and one that failed is made up for by the next; the window is wider than the pause
between two runs for that reason. Ends with 1 if anything could not be sent, and prints counts only.
"""

import argparse
import base64
import datetime
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

CHANNELS = {"voice": "VOICE", "call": "VOICE", "callback": "VOICE", "chat": "CHAT", "message": "MESSAGE", "email": "EMAIL"}
PAGES_MAX = 1000


def ask(method, url, headers, body=None):
    """Sends a request and returns status and JSON; a refusal is an answer as well."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, {}


def token(env):
    pair = base64.b64encode(f"{env['GENESYS_CLIENT_ID']}:{env['GENESYS_CLIENT_SECRET']}".encode()).decode()
    headers = {"authorization": f"Basic {pair}", "content-type": "application/x-www-form-urlencoded"}
    status, answer = ask("POST", f"{env['GENESYS_LOGIN']}/oauth/token", headers, b"grant_type=client_credentials")
    if status != 200:
        sys.exit(f"the OAuth client is refused. status={status}")
    return answer["access_token"]


def pending(env, bearer, since, until):
    """Yields the ids of conversations whose status stayed PENDING."""
    search = {
        "query": [
            {"type": "EXACT", "fields": ["idtrail.status"], "value": "PENDING"},
            {"type": "DATE_RANGE", "fields": ["startTime"], "startValue": since, "endValue": until},
        ],
        "sortOrder": "ASC",
        "sortBy": "startTime",
    }
    seen = set()
    for _ in range(PAGES_MAX):
        url = f"{env['GENESYS_API']}/api/v2/conversations/participants/attributes/search"
        status, page = ask("POST", url, bearer, search)
        if status != 200:
            sys.exit(f"the search for attributes is refused. status={status}")
        for one in page.get("results") or []:
            if one["conversationId"] not in seen:
                seen.add(one["conversationId"])
                yield one["conversationId"]
        if not page.get("cursor"):
            return
        search["cursor"] = page["cursor"]
    sys.exit("the search does not end")


def event(conversation_id, conversation):
    """Returns the event of a conversation that nobody was asked about: its id, its time, its channel, nothing else."""
    parts = [part for part in conversation.get("participants") or [] if part.get("purpose") in ("customer", "external")]
    kinds = [kind for part in parts for kind in CHANNELS if part.get(f"{kind}s") or part.get("mediaType") == kind]
    return {"auditEvent": {
        "eventType": "ANONYMOUS",
        "timestamp": conversation["startTime"],
        "interactionId": conversation_id,
        "channelType": CHANNELS[kinds[0]] if kinds else None,
        "resolvedCustomerId": None,
        "resolutionSource": "genesys-pending",
        "piiContext": {"phoneHash": None, "emailHash": None, "accountNumberHash": None},
        "complianceFlags": {"gdprConsentRecorded": None, "dataSubjectRequestPending": None},
        "agentId": None,
        "queueId": None,
    }}


def main():
    arguments = argparse.ArgumentParser(description="Logs conversations whose status stayed PENDING.")
    arguments.add_argument("--hours", type=int, default=26, help="how far back to look; more than between two runs")
    hours, env = arguments.parse_args().hours, os.environ
    now = datetime.datetime.now(datetime.timezone.utc)
    text = lambda time: time.strftime("%Y-%m-%dT%H:%M:%S.000Z")  # noqa: E731
    bearer = {"authorization": f"Bearer {token(env)}", "content-type": "application/json"}
    counts = {"new": 0, "known": 0, "failed": 0}
    # A conversation that only began may still be resolved by its flow.
    until = now - datetime.timedelta(minutes=5)
    for one in pending(env, bearer, text(now - datetime.timedelta(hours=hours)), text(until)):
        status, conversation = ask("GET", f"{env['GENESYS_API']}/api/v2/conversations/{urllib.parse.quote(one)}", bearer)
        if status == 200:
            headers = {"x-api-key": env["IDTRAIL_KEY"], "content-type": "application/json",
                       "idempotency-key": f"pending-{one}"}
            status, _ = ask("POST", f"{env['IDTRAIL_URL']}/api/v1/events", headers, event(one, conversation))
        counts[{201: "new", 200: "known"}.get(status, "failed")] += 1
    print(json.dumps(counts))
    sys.exit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()
