"""How much memory there is, how much work takes, and what to say when it is not enough."""
