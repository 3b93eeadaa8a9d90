"""The stages of `edge-calibrate build`, which `calibration.build` runs one after the other."""
