"""`edge-calibrate`: from an FP32 model and the user's own clips to an INT8 bundle that is proven."""
