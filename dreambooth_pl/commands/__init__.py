"""The commands, one file each; the scripts at the top of the repository call them."""
