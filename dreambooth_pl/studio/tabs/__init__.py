"""The tabs of the studio, one path from left to right, a file each."""
