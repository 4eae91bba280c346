"""The laws of change of variables, measured for every bijector of the package."""
