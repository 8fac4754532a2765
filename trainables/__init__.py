"""Ray Tune trainables for generative image models, ready for any Tune searcher and scheduler."""
