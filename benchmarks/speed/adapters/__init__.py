"""One file a library: each builds a workload's flow and returns what to time."""
