"""A claimed step becomes one call into service and models."""
