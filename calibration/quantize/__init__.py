"""INT8 by measurement: calibrate once, find what each layer costs, leave in float only what must be."""
