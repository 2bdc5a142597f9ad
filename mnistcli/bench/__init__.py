"""Speed on this machine, ours and the reference project's pipeline side by side. Returns data."""
