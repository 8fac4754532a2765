"""Black-box optimization in the latent space of a generative model, discrete (exact) or continuous."""
