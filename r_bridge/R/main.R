# Reads the folder that this script lies in, fits everything again in R, and compares.

options(digits = 4, warn = 1)

folder <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)[1]))
at <- function(...) file.path(folder, ...)
read <- function(..., na = "NA") {
  utils::read.csv(at(...), check.names = FALSE, stringsAsFactors = FALSE, na.strings = na, encoding = "UTF-8")
}
numbers <- function(path) {
  table <- read(path, na = c("NA", ""))
  as.matrix(as.data.frame(lapply(table, as.numeric), check.names = FALSE))
}

read_study <- function() {
  columns <- read("columns.csv", na = "")
  data <- utils::read.csv(at("data.csv"), check.names = FALSE, colClasses = "character", na.strings = "", encoding = "UTF-8")
  levels <- read("levels.csv", na = "")
  typed <- lapply(seq_len(nrow(columns)), function(j) {
    cells <- data[[j]]
    switch(columns$type[j],
      number = as.numeric(cells), logical = cells == "TRUE",
      factor(cells, levels = levels$level[levels$column == columns$name[j]], ordered = columns$type[j] == "ordered")
    )
  })
  names(typed) <- columns$name
  role <- function(name) columns$name[columns$role == name]
  settings <- read("settings.csv", na = "")
  setting <- function(name) settings$value[settings$name == name]
  list(
    Y = matrix(unlist(typed[columns$role == "feature"]), nrow(data)), features = role("feature"),
    batch = typed[[which(columns$role == "batch")]],
    data = as.data.frame(typed[columns$role == "covariate"], check.names = FALSE, row.names = seq_len(nrow(data))),
    formula = setting("formula"), fixed = setting("fixed"), subject = setting("subject"),
    smooths = setting("smooth"), method = setting("method"),
    options = list(
      ref = if (length(setting("ref"))) setting("ref"), mean_only = setting("mean_only") == "TRUE",
      prior = setting("prior")
    )
  )
}

study <- read_study()
recorded <- read("agreement.csv", na = "")
recorded$now <- NA_character_
for (engine in unique(recorded$engine)) {
  if (!requireNamespace(engine, quietly = TRUE)) {
    cat("R has no package", engine, "- install it and run this again\n")
    quit(status = 2)
  }
  theirs <- suppressMessages(run_engine(engine, study))
  for (i in which(recorded$engine == engine)) {
    row <- recorded[i, ]
    unit <- numbers(row$unit_file)
    variant <- if (!is.na(row$variant_file)) numbers(row$variant_file)
    sites <- if (row$rows == "subjects") study$batch else if (row$rows == "sites") levels(study$batch)
    found <- verdict(
      numbers(row$file), theirs[[row$quantity]], variant, unit, row$tolerance, study$features, sites
    )
    same <- is.infinite(found$largest) == is.infinite(row$largest) &&
      (is.infinite(row$largest) || abs(found$largest - row$largest) <= max(row$tolerance, 1e-3 * row$largest))
    changed <- found$verdict == "explained" && !same
    recorded$now[i] <- if (changed) "differs" else found$verdict
    recorded$largest[i] <- found$largest
    recorded$median[i] <- found$median
    recorded$feature[i] <- found$feature
    recorded$site[i] <- found$site
  }
}
shown <- recorded[, c("engine", "quantity", "largest", "median", "tolerance", "feature", "site", "now")]
names(shown)[8] <- "verdict"
print(shown, row.names = FALSE, right = FALSE)
for (reason in unique(stats::na.omit(recorded$explanation[recorded$now == "explained"]))) cat("\nExplained:", reason, "\n")
wrong <- recorded$now == "differs"
if (any(wrong)) {
  cat("\nVERDICT: differs in", paste(recorded$engine[wrong], recorded$quantity[wrong], collapse = ", "), "\n")
  quit(status = 1)
}
cat("\nVERDICT:", if (any(recorded$now == "explained")) "agrees, or differs as explained" else "agrees", "\n")
