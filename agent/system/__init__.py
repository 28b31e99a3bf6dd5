"""The adapters to the operating system: netlink, nftables, WireGuard, network namespaces, resolv.conf."""
