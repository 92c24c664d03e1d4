locals {
  actions = {
    for name in ["resolve", "log-event"] :
    name => jsondecode(file("${path.module}/../data-actions/idtrail-${name}.json"))
  }
  callers = {
    IdTrailInboundCall    = "idtrail example call"
    IdTrailInboundMessage = "idtrail example message"
    IdTrailInboundEmail   = "idtrail example mail"
  }
}

resource "genesyscloud_integration_credential" "idtrail" {
  name                 = "idtrail"
  credential_type_name = "userDefined"
  fields = {
    baseUrl = var.base_url
    apiKey  = var.api_key
  }
}

resource "genesyscloud_integration" "idtrail" {
  integration_type = "custom-rest-actions"
  intended_state   = "ENABLED"
  config {
    name = "idtrail"
    credentials = {
      basicAuth = genesyscloud_integration_credential.idtrail.id
    }
  }
}

# The files of data-actions/ are what can be imported by hand; both ways give the same actions.
resource "genesyscloud_integration_action" "idtrail" {
  for_each               = local.actions
  name                   = each.value.name
  category               = "idtrail"
  integration_id         = genesyscloud_integration.idtrail.id
  secure                 = each.value.secure
  config_timeout_seconds = each.value.config.timeoutSeconds
  contract_input         = jsonencode(each.value.contract.input.inputSchema)
  contract_output        = jsonencode(each.value.contract.output.successSchema)
  config_request {
    request_type         = each.value.config.request.requestType
    request_url_template = each.value.config.request.requestUrlTemplate
    request_template     = each.value.config.request.requestTemplate
    headers              = each.value.config.request.headers
  }
  config_response {
    translation_map          = each.value.config.response.translationMap
    translation_map_defaults = each.value.config.response.translationMapDefaults
    success_template         = each.value.config.response.successTemplate
  }
}

resource "genesyscloud_flow" "resolve" {
  filepath = "${path.module}/../architect/IdTrailResolve.yaml"
  substitutions = {
    module_name      = "idtrail resolve"
    division         = var.division
    integration_name = genesyscloud_integration_action.idtrail["resolve"].category
  }
  depends_on = [genesyscloud_integration_action.idtrail]
}

# Values of inputs and outputs of actions (raw identifiers among them) stay out of execution traces.
resource "genesyscloud_flow_loglevel" "resolve" {
  flow_id        = genesyscloud_flow.resolve.id
  flow_log_level = "Base"
}

resource "genesyscloud_flow" "caller" {
  for_each = var.example_flows ? local.callers : {}
  filepath = "${path.module}/../architect/${each.key}.yaml"
  substitutions = {
    flow_name         = each.value
    division          = var.division
    module_name       = "idtrail resolve"
    queue_name        = var.queue_name
    region            = var.region
    message_namespace = var.message_namespace
  }
  depends_on = [genesyscloud_flow.resolve]
}

# Finds interactions whose status stayed PENDING, and nothing else: it reads conversations and their attributes.
resource "genesyscloud_auth_role" "capture" {
  name        = "idtrail capture"
  description = "What idtrail reads to find interactions that were not logged."
  permission_policies {
    domain      = "analytics"
    entity_name = "conversationDetail"
    action_set  = ["view"]
  }
  permission_policies {
    domain      = "conversation"
    entity_name = "communication"
    action_set  = ["view"]
  }
  permission_policies {
    domain      = "conversation"
    entity_name = "participant"
    action_set  = ["attributesview"]
  }
}

data "genesyscloud_auth_division" "flows" {
  name = var.division
}

resource "genesyscloud_oauth_client" "capture" {
  name                          = "idtrail capture"
  authorized_grant_type         = "CLIENT-CREDENTIALS"
  access_token_validity_seconds = 3600
  state                         = "active"
  roles {
    role_id     = genesyscloud_auth_role.capture.id
    division_id = data.genesyscloud_auth_division.flows.id
  }
}
