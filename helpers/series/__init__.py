"""What runs the series and nobody copies."""
