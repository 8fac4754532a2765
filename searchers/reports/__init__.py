"""What the studies end with: their tables beside the papers', and pictures."""
