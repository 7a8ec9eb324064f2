"""One recipe for each shipped weight file, and what all recipes share."""
