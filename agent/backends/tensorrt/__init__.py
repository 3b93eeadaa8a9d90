"""TensorRT on NVIDIA's GPUs: building engines from ONNX, and running them."""

from agent.backends.tensorrt.build import Built, build_engine
from agent.backends.tensorrt.engine import TensorRTEngine
from agent.backends.tensorrt.module import load_tensorrt

__all__ = ["Built", "TensorRTEngine", "build_engine", "load_tensorrt"]
