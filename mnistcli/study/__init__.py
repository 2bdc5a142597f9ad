"""The experiment: a question, its arms, a plan registered before the first run, and the answer."""
