"""One plug-in of each kind for lcm-scale, a file each."""
