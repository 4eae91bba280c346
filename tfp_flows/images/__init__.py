"""What one does with a flow of images: latents, interpolation, restoration."""
