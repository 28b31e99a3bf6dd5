"""How it is reached: WireGuard, addresses, routes, nftables, attaching workloads."""
