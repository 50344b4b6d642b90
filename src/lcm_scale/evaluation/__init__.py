# What the processes of `--jobs` import, in one from which they are forked (`data.pool.start`):
# names, so that it begins before this process imports any of it.
MAKERS = ("lcm_scale.evaluation.side_by_side", "lcm_scale.training.fit")
