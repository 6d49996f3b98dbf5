"""Shows that a running `plumbline-model-server` keeps the Open Inference Protocol and ONNX Runtime's answers."""
