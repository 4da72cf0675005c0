"""Parts of the stage `unpack`: opens training sets of every layout, checks their images, and merges them."""
