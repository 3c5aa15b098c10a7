"""What the page shows, read from files, as HTML."""
