"""Reading and writing models, without Lightning."""
