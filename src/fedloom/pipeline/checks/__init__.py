"""DATA CHECKS: what a site's table must be. They run at the site; only names and counts leave."""
