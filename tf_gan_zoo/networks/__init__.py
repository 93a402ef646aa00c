"""Network builders shared by three or more models."""
