"""What a person sees while a sweep runs and at its end."""
