"""Proof of parity: cases, golden tensors, comparison, report."""
