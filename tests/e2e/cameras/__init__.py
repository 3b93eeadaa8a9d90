"""Cameras for the tests: RTSP and HTTP servers on loopback, with faults on command."""
