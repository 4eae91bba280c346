"""Flows of text against counts of characters and a recurrent language model."""
