"""One small launcher for each peer whose command line lacks a setting that a fair run needs."""
