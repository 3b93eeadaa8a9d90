"""Scripts that run in the converters' environments: they import neither agent nor calibration."""
