"""``make bench``: what reconciling costs, beside a bare client that makes the same writes."""
