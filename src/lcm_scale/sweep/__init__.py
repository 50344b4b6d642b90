"""Many runs of one recipe: points, plan, workers, measurement."""
