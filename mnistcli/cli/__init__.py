"""The command line: thin commands over one function each; nothing here imports torch early."""
