"""Published scorers, one a file: by name as scorers, or, where they have weights, by `fit_scorer`."""
