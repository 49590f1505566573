"""VERSION STORE: content-addressed objects, history, refs, merging, and the repository that ties them."""
