"""Every drawing of the project, in one look."""
