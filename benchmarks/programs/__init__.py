"""Random programs: flows, dtypes, entry points and histories against an oracle."""
