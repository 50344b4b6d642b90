"""What each BEI token uses: maps of the connectome, held against label-permuted models."""
