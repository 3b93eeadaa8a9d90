"""From output tensors to Detections: one module a model family, one table of them."""
