"""New engines: on a host of one's own, or in the cloud."""
