"""Speed on this machine, ours and the user's own pipeline side by side. Returns data."""
