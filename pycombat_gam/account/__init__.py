"""How a model describes itself to a report: name, sentences, papers, and tables of estimates."""
