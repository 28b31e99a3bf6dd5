"""The CNI plugin ``interlock-cni``. Standard library alone, for a runtime starts it anew for every container."""
