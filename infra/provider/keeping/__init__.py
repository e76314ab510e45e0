"""What a keeper does for its pool: holds nodes, takes orders, keeps the timer."""
