"""What people do with a bijector or a trained flow."""
