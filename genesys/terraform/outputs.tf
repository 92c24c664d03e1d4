output "common_module_id" {
  description = "The common module that flows call."
  value       = genesyscloud_flow.resolve.id
}

output "capture_client_id" {
  description = "The OAuth client that finds interactions that were not logged."
  value       = genesyscloud_oauth_client.capture.id
}
