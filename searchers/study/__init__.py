"""What is tuned (a study), and how it is run (its configuration)."""
