"""The resources of the API, one file each: its views, its bodies, the edits of a batch, its handlers."""
