"""mnistcli: train, audit, evaluate and compare very small MNIST networks."""

__version__ = "0.2.0"
