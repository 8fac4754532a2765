"""Feature extractors, Fréchet distances, likelihoods. Functions of arrays, never of a model."""
