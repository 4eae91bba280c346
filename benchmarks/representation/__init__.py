"""How much of a label a linear classifier finds in the latents of a flow."""
