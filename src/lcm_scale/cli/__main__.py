"""`python -m lcm_scale.cli`, as sweeps start their workers."""

from lcm_scale.cli.app import main

main()
