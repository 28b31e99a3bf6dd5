"""The CNI plugin ``interlock-cni``. Standard library only: a runtime starts it anew for every container."""
