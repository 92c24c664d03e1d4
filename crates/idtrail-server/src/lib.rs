//! The binary: HTTP, authentication, configuration, command line
