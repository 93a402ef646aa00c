"""Network builders that several models share."""
