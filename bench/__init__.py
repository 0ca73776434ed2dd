"""The benchmark program: streamserve beside its peers, on the reader's own machine (see bench/README.md)."""
