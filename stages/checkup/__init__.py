"""What is known of every data set, and what is really there: for ``facet doctor`` and ``facet inspect``."""
