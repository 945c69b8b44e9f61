"""Long-attention transformers to ONNX, ONNX Runtime, TensorRT and TensorRT-RTX, with proof of parity."""

__version__ = "0.1.0"
