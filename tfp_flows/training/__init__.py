"""Training, sampling and saving of flows with Keras."""
