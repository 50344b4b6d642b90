"""
My 47 scans
===========

Soon.
"""

print(1)
