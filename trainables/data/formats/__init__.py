"""What data sets look like on disk: archives, arrays, tables, folders."""
