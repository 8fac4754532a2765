"""Ray Tune trainables: the only part of this package that imports Ray."""
