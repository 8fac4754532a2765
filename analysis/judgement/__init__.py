"""Which trial won, whether that can be told, and what is done with the winner."""
