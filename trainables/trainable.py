"""One epoch a step."""
