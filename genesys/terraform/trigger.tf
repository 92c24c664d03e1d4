# Conversations that begin without a flow: a trigger starts a workflow that calls the module. Only calls that go out, because
# those that come in went through a flow already and would be on record twice.
resource "genesyscloud_flow" "trigger" {
  count    = var.example_trigger ? 1 : 0
  filepath = "${path.module}/../architect/IdTrailTrigger.yaml"
  substitutions = {
    flow_name   = "idtrail trigger"
    division    = var.division
    module_name = "idtrail resolve"
  }
  depends_on = [genesyscloud_flow.resolve]
}

resource "genesyscloud_processautomation_trigger" "outbound" {
  count       = var.example_trigger ? 1 : 0
  name        = "idtrail: calls that go out"
  description = "Whose a call is that no flow answered."
  topic_name  = "v2.detail.events.conversation.{id}.customer.start"
  enabled     = true
  target {
    id   = genesyscloud_flow.trigger[0].id
    type = "Workflow"
    workflow_target_settings {
      data_format = "TopLevelPrimitives"
    }
  }
  match_criteria = jsonencode([
    { jsonPath = "mediaType", operator = "Equal", value = "VOICE" },
    { jsonPath = "direction", operator = "Equal", value = "OUTBOUND" },
  ])
  # An event that waits longer says nothing new any more.
  event_ttl_seconds = 60
}
