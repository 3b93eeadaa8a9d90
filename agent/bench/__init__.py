"""`edge-agent bench`: what the frame path makes of the engine's own rate, what it costs, and how sure that is.

Every rate is a share of what the same machine gave the engine right before and after: runs alternate, and each
tells how much processor time the host of a virtual machine took away meanwhile.
"""
