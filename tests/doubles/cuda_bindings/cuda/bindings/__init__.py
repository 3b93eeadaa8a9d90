"""A double of cuda-bindings: the calls that the agent makes, on the double of a GPU."""
