"""The single checks behind `check_bijector`, and the report they fill."""
