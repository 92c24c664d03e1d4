variable "base_url" {
  type        = string
  description = "Where idtrail is reached from the internet, without a slash at the end."
  validation {
    condition     = startswith(var.base_url, "https://") && !endswith(var.base_url, "/")
    error_message = "It must begin with https:// and have no slash at its end."
  }
}

variable "api_key" {
  type        = string
  sensitive   = true
  description = "A key of idtrail with the roles resolve and ingest, and no others."
}

variable "division" {
  type        = string
  default     = "Home"
  description = "Name of the division of the flows."
}

variable "queue_name" {
  type        = string
  description = "Where the example flows send interactions."
}

variable "region" {
  type        = string
  default     = "US"
  description = "ISO 3166 code of the numbers that are called, for callers without country code."
}

variable "message_namespace" {
  type        = string
  default     = "genesys-messaging"
  description = "Names the messaging integration; handles of two integrations are never one."
}

variable "example_flows" {
  type        = bool
  default     = false
  description = "Whether the example callers for voice, messages and mails are made as well."
}

variable "example_trigger" {
  type        = bool
  default     = false
  description = "Whether a trigger and a workflow are made that identify the customers of calls that go out."
}
