"""Trained networks in other people's programs: ONNX, pt2, C, and C with integers only."""
