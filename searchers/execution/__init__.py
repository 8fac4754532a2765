"""One run of a study: from the command line over the driver to the closing words."""
