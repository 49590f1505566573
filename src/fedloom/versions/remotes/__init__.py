"""Other repositories: sending history there and bringing it here. Says what a remote is; knows files, S3 and hubs."""
