"""What an evaluation needs beside the scores: diagnostics of training and of latent units. No Ray."""
