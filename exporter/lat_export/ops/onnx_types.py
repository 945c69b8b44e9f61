"""Element types of ONNX (onnx.TensorProto.DataType), for `Cast` nodes, without importing onnx."""

FLOAT32, INT64, BOOL = 1, 7, 9
