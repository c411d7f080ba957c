"""How fast training and attacks are, beside the loops that they are compared with."""
