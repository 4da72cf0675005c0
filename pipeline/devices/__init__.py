"""Device leases of the runs on this machine."""
