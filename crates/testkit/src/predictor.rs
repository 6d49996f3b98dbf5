//! A predictor that speaks the Open Inference Protocol and answers when the test says so.
