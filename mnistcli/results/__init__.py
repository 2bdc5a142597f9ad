"""What happened: run folders, the goal, statistics and comparisons. Data only, no printing."""
