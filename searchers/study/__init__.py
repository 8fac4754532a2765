"""What is tuned (a study), and how a run of it is told (its configuration)."""
