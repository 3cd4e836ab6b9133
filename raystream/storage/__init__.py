"""What outlives a job's processes: objects in a store, snapshots and a log made of them."""
