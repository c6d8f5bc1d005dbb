"""Training: the objective, the steps, the loops of host and device that run them, and the events that they yield."""
