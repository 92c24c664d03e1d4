"""Checks the kit's files against each other: data actions, flows and Terraform. Returns the findings as texts.

It knows the constructs that the kit uses and refuses every other, because nothing here can run Architect itself.
"""

import json
import re

import hcl2
import jsonschema
import yaml

ACTIONS = {
    "callData": {"name", "processingPrompt", "category", "outputs"},
    "decision": {"name", "condition", "outputs"},
    "updateData": {"name", "statements"},
    "setParticipantData": {"name", "attributes"},
    "callCommonModule": {"name", "commonModule"},
    "transferToAcd": {"name", "targetQueue", "priority"},
    "disconnect": {"name"},
    "endTask": {"name"},
    "endState": {"name"},
}
FUNCTIONS = {"IsSet", "IsNotSetOrEmpty", "If", "Append", "ToString", "GetCurrentDateTimeUtc"}
BUILT_IN = {
    "inboundCall": {"Call.Ani", "Call.ConversationId"},
    "inboundShortMessage": {"Message.ConversationId", "Message.Message.senderAddress"},
    "inboundEmail": {"Email.ConversationId", "Email.Message.from"},
    "commonModule": set(),
    "workflow": set(),
}
# What a participant's attributes may hold: they are seen by agents and in analytics.
ATTRIBUTES = {"idtrail.cid", "idtrail.status", "idtrail.event"}
HIDDEN = {"Common.identifierValue", "Common.externalContactId"}
RESOURCES = {
    "genesyscloud_integration_credential": {"name", "credential_type_name", "fields"},
    "genesyscloud_integration": {"integration_type", "intended_state", "config"},
    "genesyscloud_integration_action": {
        "name", "category", "integration_id", "secure", "config_timeout_seconds", "contract_input",
        "contract_output", "config_request", "config_response",
    },
    "genesyscloud_flow": {"filepath", "substitutions"},
    "genesyscloud_flow_loglevel": {"flow_id", "flow_log_level"},
    "genesyscloud_processautomation_trigger": {
        "name", "description", "topic_name", "enabled", "target", "match_criteria", "event_ttl_seconds",
    },
    "genesyscloud_auth_role": {"name", "description", "permission_policies"},
    "genesyscloud_oauth_client": {
        "name", "authorized_grant_type", "access_token_validity_seconds", "state", "roles",
    },
}
NESTED = {
    "config": {"name", "credentials"},
    "config_request": {"request_type", "request_url_template", "request_template", "headers"},
    "config_response": {"translation_map", "translation_map_defaults", "success_template"},
    "target": {"id", "type", "workflow_target_settings"},
    "permission_policies": {"domain", "entity_name", "action_set"},
    "roles": {"role_id", "division_id"},
}
META = {"for_each", "depends_on", "count", "__is_block__", "__comments__"}
# Of the platform's permissions the kit may ask for these, and none that writes.
PERMISSIONS = {
    ("analytics", "conversationDetail", "view"),
    ("conversation", "communication", "view"),
    ("conversation", "participant", "attributesview"),
}


def data_action(action, found):
    name = action.get("name", "?")

    def wrong(text):
        found.append(f"data action {name}: {text}")

    for side, key in (("input", "inputSchema"), ("output", "successSchema")):
        schema = action["contract"][side][key]
        jsonschema.Draft4Validator.check_schema(schema)
        if schema["type"] != "object" or schema.get("additionalProperties") is not False:
            wrong(f"the {side} is not a closed object")
        if not set(schema.get("required", [])) <= set(schema["properties"]):
            wrong(f"the {side} requires what it does not have")
    inputs = action["contract"]["input"]["inputSchema"]["properties"]
    config = action["config"]
    if not 1 <= config["timeoutSeconds"] <= 10:
        wrong("the time-out is not 1 to 10 seconds")
    request = config["request"]
    if not request["requestUrlTemplate"].startswith("${credentials.baseUrl}/api/v1/"):
        wrong("the URL is not idtrail's")
    texts = [request["requestUrlTemplate"], request["requestTemplate"], *request["headers"].values()]
    for text in texts:
        for used in re.findall(r"\binput\.(\w+)", text):
            if used not in inputs:
                wrong(f"{used} is not in the contract")
        # An input stands in a macro that escapes it, in a comparison, or is a number.
        for match in re.finditer(r"\$!?\{input\.(\w+)\}", text):
            before = text[: match.start()]
            escaped = before.endswith("$esc.jsonString(") or before.endswith("$esc.url(")
            compared = before.endswith('#if("')
            if not (escaped or compared or inputs.get(match[1], {}).get("type") == "integer"):
                wrong(f"{match[1]} is not escaped")
        if re.search(r"\$!?input\.", text):
            wrong("an input stands there without braces")
    for header in request["headers"].values():
        if "input." in header and "$esc.url(" not in header:
            wrong("a header holds an input that is not escaped for URLs")
    if "apiKey" in request["requestUrlTemplate"] + request["requestTemplate"]:
        wrong("the key is not in a header alone")
    response = config["response"]
    outputs = set(action["contract"]["output"]["successSchema"]["properties"])
    for name_of in (response["translationMap"], response["translationMapDefaults"]):
        if set(name_of) != outputs:
            wrong("the response does not give what the contract says, each with a default")
    for used in re.findall(r"\$\{(\w+)\}", response["successTemplate"]):
        if used not in outputs:
            wrong(f"the response uses {used}, which nothing gives")


class Flow:
    def __init__(self, file, text, actions, module, found):
        self.found, self.file, self.actions, self.module = found, file, actions, module
        # Whatever stands in double braces is put in by Terraform.
        tree = yaml.safe_load(text)
        (self.kind, self.flow), = tree.items()
        if self.kind not in BUILT_IN:
            self.wrong(f"{self.kind} is not a known kind of flow")
            return
        self.variables = {}
        if self.kind == "commonModule":
            self.declare(self.flow["variables"])
            self.steps(self.flow["startUpTaskActions"])
            if next(iter(self.flow["startUpTaskActions"][-1])) != "endTask":
                self.wrong("the module does not end with endTask")
            return
        parts = self.flow.get("tasks") or self.flow.get("states")
        part = next(iter(parts[0].values()))
        group, one = ("tasks", "task") if "tasks" in self.flow else ("states", "state")
        if self.flow["startUpRef"] != f"/{self.kind}/{group}/{one}[{part['refId']}]":
            self.wrong("startUpRef names nothing")
        # A workflow is given the primitives of its trigger's event.
        self.declare(self.flow.get("variables", []))
        self.declare(part["variables"])
        self.steps(part["actions"])
        last = next(iter(part["actions"][-1]))
        if self.kind == "workflow" and last != "endState":
            self.wrong("the workflow does not end")
        if self.kind != "workflow" and not any("transferToAcd" in action for action in part["actions"]):
            self.wrong("the interaction goes nowhere")

    def wrong(self, text):
        self.found.append(f"flow {self.file}: {text}")

    def declare(self, variables):
        for item in variables:
            (kind, body), = item.items()
            if not kind.endswith("Variable"):
                self.wrong(f"{kind} is not a variable")
            self.variables[body["name"]] = {**body, "kind": kind.removesuffix("Variable")}

    def expression(self, value, where, hidden=False):
        if not isinstance(value, dict) or len(value) != 1 or not set(value) <= {"exp", "lit", "var", "noValue"}:
            return self.wrong(f"{where} is not exp, lit, var or noValue")
        text = value.get("exp", value.get("var"))
        if text is None:
            return None
        bare = re.sub(r'"[^"]*"', '""', str(text))
        if bare.count("(") != bare.count(")"):
            self.wrong(f"{where} has brackets that do not match")
        for name in re.findall(r"\b([A-Za-z]\w*)\(", bare):
            if name not in FUNCTIONS:
                self.wrong(f"{where} calls {name}, which is not a known function")
        for name in re.findall(r"\b[A-Z]\w*(?:\.\w+)+", bare):
            if name not in self.variables and name not in BUILT_IN[self.kind]:
                self.wrong(f"{where} uses {name}, which is not there")
            if hidden and name in HIDDEN:
                self.wrong(f"{where} shows {name}")
        return None

    def steps(self, actions):
        for item in actions:
            (kind, body), = item.items()
            if kind not in ACTIONS:
                self.wrong(f"{kind} is not a known action")
                continue
            if extra := set(body) - ACTIONS[kind]:
                self.wrong(f"{kind} has {', '.join(sorted(extra))}")
            where = body.get("name", kind)
            for output, branch in (body.get("outputs") or {}).items():
                if output not in {"success", "failure", "timeout", "yes", "no"}:
                    self.wrong(f"{where} has no way out named {output}")
                self.steps(branch["actions"])
            getattr(self, kind, lambda *_: None)(body, where)

    def decision(self, body, where):
        self.expression(body["condition"], where)

    def updateData(self, body, where):
        for statement in body["statements"]:
            (kind, one), = statement.items()
            if self.variables.get(one["variable"], {}).get("kind") != kind:
                self.wrong(f"{where} sets {one['variable']}, which is no {kind}")
            self.expression(one["value"], where)

    def setParticipantData(self, body, where):
        for item in body["attributes"]:
            if item["attribute"]["name"].get("lit") not in ATTRIBUTES:
                self.wrong(f"{where} sets an attribute that is not idtrail's")
            self.expression(item["attribute"]["value"], where, hidden=True)

    def callData(self, body, where):
        (category, one), = body["category"].items()
        (name, call), = one["dataAction"].items()
        if category != "{{integration_name}}" or name not in self.actions:
            return self.wrong(f"{where} calls {name}, which is not of the kit")
        contract = self.actions[name]["contract"]
        inputs, outputs = contract["input"]["inputSchema"], contract["output"]["successSchema"]
        for side, given, schema in (("inputs", call["inputs"], inputs), ("outputs", call["successOutputs"], outputs)):
            if extra := set(given) - set(schema["properties"]):
                self.wrong(f"{where} has {side} that the action has not: {', '.join(sorted(extra))}")
            for value in given.values():
                self.expression(value, where)
        if missing := set(inputs["required"]) - set(call["inputs"]):
            self.wrong(f"{where} lacks {', '.join(sorted(missing))}")
        return None

    def callCommonModule(self, body, where):
        (name, call), = body["commonModule"].items()
        if name != "{{module_name}}" or set(call) != {"ver_latestPublished"}:
            self.wrong(f"{where} does not call the published module")
        for side, flag in (("inputs", "isInput"), ("outputs", "isOutput")):
            for variable, value in call["ver_latestPublished"][side].items():
                if not self.module.get(variable, {}).get(flag):
                    self.wrong(f"{where}: {variable} is not among the {side} of the module")
                self.expression(value, where)

    def transferToAcd(self, body, where):
        if not body["targetQueue"]:
            self.wrong(f"{where} has no queue")


def clean(value):
    """Undoes the quotes that the parser keeps around names and texts."""
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def terraform(files, flows, found):
    variables, resources, substituted, granted = set(), {}, {}, set()
    text = "\n".join(files.values())
    for file, content in files.items():
        tree = clean(hcl2.loads(content))
        for block in tree.get("variable", []):
            variables |= set(block)
        for block in tree.get("resource", []):
            for kind, named in block.items():
                for name, body in named.items():
                    if kind == "__is_block__" or not isinstance(body, dict):
                        continue
                    resources[f"{kind}.{name}"] = body
                    if kind not in RESOURCES:
                        found.append(f"{file}: {kind} is not a known resource")
                    elif extra := set(body) - RESOURCES[kind] - META:
                        found.append(f"{file}: {kind} has no {', '.join(sorted(extra))}")
                    for block, known in NESTED.items():
                        for one in body.get(block, []):
                            if extra := set(one) - known - META:
                                found.append(f"{file}: {block} has no {', '.join(sorted(extra))}")
                    for policy in body.get("permission_policies", []):
                        for action in policy["action_set"]:
                            granted.add((policy["domain"], policy["entity_name"], action))
                    if kind == "genesyscloud_flow":
                        substituted[name] = set(body["substitutions"]) - META
    for used in set(re.findall(r"\bvar\.(\w+)", text)):
        if used not in variables:
            found.append(f"terraform: var.{used} is not declared")
    for kind, name in set(re.findall(r"\b(genesyscloud_\w+)\.(\w+)", text)):
        if f"{kind}.{name}" not in resources and f"data.{kind}.{name}" not in text:
            found.append(f"terraform: {kind}.{name} is not declared")
    if granted != PERMISSIONS:
        found.append(f"terraform: the role has other permissions than the kit needs: {sorted(granted ^ PERMISSIONS)}")
    for file, content in flows.items():
        wanted = set(re.findall(r"\{\{(\w+)\}\}", content))
        resource = {"IdTrailResolve.yaml": "resolve", "IdTrailTrigger.yaml": "trigger"}.get(file, "caller")
        if missing := wanted - substituted.get(resource, set()):
            found.append(f"terraform: {file} wants {', '.join(sorted(missing))}")


def check(files):
    """Checks a whole kit: texts by path below genesys/. Returns the findings."""
    found = []
    of = lambda folder: {path.split("/")[1]: text for path, text in files.items() if path.startswith(f"{folder}/")}
    actions = [json.loads(text) for text in of("data-actions").values()]
    for action in actions:
        data_action(action, found)
    by_name, flows = {action["name"]: action for action in actions}, of("architect")
    module = Flow("IdTrailResolve.yaml", flows["IdTrailResolve.yaml"], by_name, {}, found)
    for file, text in flows.items():
        if file != "IdTrailResolve.yaml":
            Flow(file, text, by_name, getattr(module, "variables", {}), found)
    terraform(of("terraform"), flows, found)
    return found
