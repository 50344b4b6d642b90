"""The old address of `python -m lcm_scale.fetch.ds000140`, which keeps working."""

import runpy

if __name__ == "__main__":
    runpy.run_module("lcm_scale.fetch.ds000140", run_name="__main__")
