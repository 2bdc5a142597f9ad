"""The parameter audit: layers, shapes, parameters, mult-adds and receptive field, as data."""

from mnistcli.audit.layers import Audit, Layer, audit

__all__ = ["Audit", "Layer", "audit"]
