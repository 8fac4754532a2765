"""Generative models in pure PyTorch: one file, one model."""
