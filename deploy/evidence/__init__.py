"""Evidence: matches with their pictures and times as a ZIP file that can be checked."""
