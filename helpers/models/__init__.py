"""The models of the series, one a file, each to be read in one sitting."""
