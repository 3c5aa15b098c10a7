"""A run in the forms in which other tools read it: diffusers, kohya, PEFT, merged into its base."""
