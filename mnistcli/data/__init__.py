"""Pictures and labels: load, verify, split, order, augment. Owns every random draw on them."""
