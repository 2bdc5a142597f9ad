"""A run's life: from a plan to what is left of it on the disk.

plan        what to train, and what all runs of a process share
set_folder  which folder a set of runs has         resume   which folder a run has
single      one run, from start to result          sets     many runs, in one process or more
ledger      the first rank's record of a set       outcome  what a finished run leaves
dry_run     the same, with nothing done            missing  what a comparison lacks
trained     a trained network, opened again
"""
