"""The studio: photos in, images of the subject out, in a browser; state lies in files alone."""
