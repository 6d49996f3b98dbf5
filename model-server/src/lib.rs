//! Serves ONNX models over the Open Inference Protocol.
