"""`python -m calibration`: the same as `edge-calibrate`."""

from calibration.cli import main

main()
