"""Deep Compression: weights that share values, and files coded by what is probable."""
