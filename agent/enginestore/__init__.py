"""TensorRT engines built on this device: in a process of their own, kept by what they are tied to, tried before use."""
