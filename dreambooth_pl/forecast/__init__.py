"""What a run will take and make, told before it starts."""
