# Reads the folder that this script lies in, fits everything again in R, and compares.

options(digits = 4, warn = 1)

folder <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)[1]))
at <- function(...) file.path(folder, ...)
# A table of texts, as they are: nothing is taken for a number, a truth value or a missing cell.
read <- function(...) {
  table <- utils::read.csv(
    at(...), header = FALSE, colClasses = "character", na.strings = character(), encoding = "UTF-8",
    blank.lines.skip = FALSE
  )
  cells <- lapply(table[-1, , drop = FALSE], plain)
  as.data.frame(stats::setNames(cells, plain(unlist(table[1, ]))), check.names = FALSE, optional = TRUE)
}
# \n, \r and \\ are what they are in C, and \N alone is a missing cell.
plain <- function(texts) {
  pieces <- strsplit(paste0(texts, "."), "\\\\", fixed = TRUE)
  out <- vapply(pieces, function(x) {
    paste(gsub("\\r", "\r", gsub("\\n", "\n", x, fixed = TRUE), fixed = TRUE), collapse = "\\")
  }, "")
  out <- substr(out, 1, nchar(out) - 1)
  out[texts == "\\N"] <- NA
  Encoding(out) <- "UTF-8"
  out
}
numbers <- function(path) {
  table <- read(path)
  matrix(as.numeric(unlist(table)), nrow(table), dimnames = list(NULL, names(table)))
}

read_study <- function() {
  columns <- read("columns.csv")
  data <- read("data.csv")
  levels <- read("levels.csv")
  typed <- lapply(seq_len(nrow(columns)), function(j) {
    cells <- data[[j]]
    switch(columns$type[j],
      number = as.numeric(cells), logical = cells == "TRUE",
      factor(cells, levels = levels$level[levels$column == j], ordered = columns$type[j] == "ordered")
    )
  })
  names(typed) <- columns$in_r
  settings <- read("settings.csv")
  setting <- function(name) settings$value[settings$name == name]
  if (any(columns$role == "score")) return(read_predictions(columns, typed, setting))
  list(
    Y = matrix(unlist(typed[columns$role == "feature"]), nrow(data)), features = columns$name[columns$role == "feature"],
    batch = typed[[which(columns$role == "batch")]],
    data = as.data.frame(typed[columns$role == "covariate"], check.names = FALSE, row.names = seq_len(nrow(data))),
    formula = setting("formula"), fixed = setting("fixed"), bars = setting("bars"), subject = setting("subject"),
    effects = setting("effects"), curved = setting("curved") == "TRUE", smooths = setting("smooths"),
    method = setting("method"), terms = setting("terms"), sizes = as.numeric(setting("sizes")),
    weights = as.numeric(setting("weights")),
    options = list(
      ref = if (length(setting("ref"))) setting("ref"), mean_only = setting("mean_only") == "TRUE",
      prior = setting("prior")
    )
  )
}

read_predictions <- function(columns, typed, setting) {
  of <- function(role) matrix(as.numeric(unlist(typed[columns$role == role])), length(typed$batch))
  list(
    kind = setting("kind"), plain = setting("plain") == "TRUE", features = setting("features"), batch = typed$batch,
    score = of("score"), Y = of("outcome"), state = setting("state"), time = typed$time, event = typed$event,
    at = as.numeric(setting("at")), measures = setting("measures"), terms = setting("measures"),
    scales = setting("scales"), value = numbers("sites/value.csv"), variance = numbers("sites/variance.csv")
  )
}

# Whether R's own score bears out what an explanation says of R's search; asked once for all rows that say the same.
asked <- new.env()
proven <- function(engine, theirs, row) {
  if (!nzchar(row$sp_file)) return(TRUE)
  sp <- numbers(row$sp_file)
  question <- paste(c(engine, row$blamed, sp), collapse = " ")
  if (is.null(asked[[question]])) {
    which <- seq_along(study$features) %in% as.numeric(strsplit(row$blamed, " ")[[1]])
    asked[[question]] <- all(search_failed(engine, study, theirs, sp, which)[which])
  }
  asked[[question]]
}

study <- read_study()
recorded <- read("agreement.csv")
for (name in c("largest", "median", "tolerance")) recorded[[name]] <- as.numeric(recorded[[name]])
recorded$now <- NA_character_
for (engine in unique(recorded$engine)) {
  package <- sub(" .*", "", engine)
  if (!suppressPackageStartupMessages(requireNamespace(package, quietly = TRUE))) {
    cat("R has no package", package, "- install it and run this again\n")
    quit(status = 2)
  }
  theirs <- suppressMessages(run_engine(engine, study))
  for (i in which(recorded$engine == engine)) {
    row <- recorded[i, ]
    unit <- numbers(row$unit_file)
    variant <- if (nzchar(row$variant_file)) numbers(row$variant_file)
    sites <- switch(row$rows, subjects = study$batch, sites = levels(study$batch), tests = , measures = study$terms)
    found <- verdict(
      numbers(row$file), theirs[[row$quantity]], variant, unit, row$tolerance, study$features, sites,
      proven(engine, theirs, row)
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
for (reason in unique(recorded$explanation[recorded$now == "explained"])) cat("\nExplained:", reason, "\n")
wrong <- recorded$now == "differs"
if (any(wrong)) {
  cat("\nVERDICT: differs in", paste(recorded$engine[wrong], recorded$quantity[wrong], collapse = ", "), "\n")
  quit(status = 1)
}
cat("\nVERDICT:", if (any(recorded$now == "explained")) "agrees, or differs as explained" else "agrees", "\n")
