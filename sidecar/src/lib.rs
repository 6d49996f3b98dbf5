//! Forwards inside the pod, measures every prediction, scores drift.
