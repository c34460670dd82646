"""Ray: workers that are replaced when they die, and the two ways of using them."""
