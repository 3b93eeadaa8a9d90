"""A double of pycuda: the calls that the agent makes, on the double of a GPU."""
