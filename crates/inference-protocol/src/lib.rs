//! Open Inference Protocol: types and codecs for V1, V2 REST, V2 gRPC and binary tensors; no sockets.
