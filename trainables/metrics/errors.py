"""The errors of this package that a caller may want to tell apart from a plain ValueError."""


class IdentityMismatchError(ValueError):
    """Two values come from different extractors, weights or resizes: their difference means nothing."""


class WeightsError(ValueError):
    """A file of weights is absent, damaged or of another network."""
