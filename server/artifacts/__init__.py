"""Files and large results that the host owns. Their bytes lie in the blob store, by digest."""
