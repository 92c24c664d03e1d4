"""Renders a data action as Genesys Cloud would, with airspeed in the place of Genesys' Velocity engine.

The platform checks the input against the contract first, then fills in URL, headers and body. `$esc.jsonString` and
`$esc.url` are the two macros of the platform that the kit uses; they are written anew here from what they promise.
"""

import json
import urllib.parse

import airspeed
import jsonschema


class Escape:
    @staticmethod
    def jsonString(text):
        return json.dumps(str(text), ensure_ascii=False)[1:-1]

    @staticmethod
    def url(text):
        return urllib.parse.quote(str(text), safe="")


def render(action, given, credentials):
    """Returns (method, url, headers, body)."""
    jsonschema.validate(given, action["contract"]["input"]["inputSchema"])
    names = {"input": given, "credentials": credentials, "esc": Escape()}

    def fill(template):
        return airspeed.Template(template).merge(dict(names))

    request = action["config"]["request"]
    headers = {name: fill(text) for name, text in request["headers"].items()}
    return request["requestType"], fill(request["requestUrlTemplate"]), headers, fill(request["requestTemplate"])


def answer(action, received):
    """Turns a response into the outputs of the action, with the defaults for what is not there."""
    response = action["config"]["response"]
    values = {}
    for name, path in response["translationMap"].items():
        value, found = received, True
        for part in path.removeprefix("$.").split("."):
            if not isinstance(value, dict) or value.get(part) is None:
                found = False
                break
            value = value[part]
        values[name] = json.dumps(value) if found else response["translationMapDefaults"][name]
    outputs = json.loads(airspeed.Template(response["successTemplate"]).merge(values))
    jsonschema.validate(outputs, action["contract"]["output"]["successSchema"])
    return outputs
