"""The ground floor: helpers that every room may use; imports nothing of ours."""
