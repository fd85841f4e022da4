"""Policies under test beside the learned ones: a reactive avoider, any ONNX file, and all of them by name."""
