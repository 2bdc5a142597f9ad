"""The only owner of printing: sees events and results, never a network."""
