"""The `label-factory` command: a client of the REST API and the supervisor of a local service."""
