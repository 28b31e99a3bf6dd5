"""What the agent sees of its host, its peers and its workloads at one moment, for `interlock doctor`: facts alone.

What they mean is judged elsewhere (`interlock.doctor`), so that the host and the control plane judge alike.
"""
