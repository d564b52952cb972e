"""What several test rooms share: tables, planted truths, reference outputs, stand-ins for R packages."""
