"""Errors of this package that a caller may want to tell apart; each message is a sentence for the user."""


class MetricError(ValueError):
    """Images, features, weights or settings that cannot be scored."""


class IdentityMismatchError(MetricError):
    """Two values come from different extractors, weights or resizes: their difference means nothing."""


class WeightsError(MetricError):
    """A file of weights is absent, damaged or of another network."""
