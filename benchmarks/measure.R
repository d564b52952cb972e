# Run one R adapter once, alone in this process: Rscript measure.R ADAPTER FOLDER PRIOR. The twin of measure.py.

arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[2]
source(arguments[1])

report <- function(...) writeLines(sprintf(...), file.path(folder, "out.json"))

if (!requireNamespace(package, quietly = TRUE)) {
  report('{"status": "not installed"}')
  quit(save = "no")
}

peak <- function() {
  status <- if (file.exists("/proc/self/status")) readLines("/proc/self/status") else character()
  line <- grep("^VmHWM:", status, value = TRUE)
  if (length(line)) 1024 * as.numeric(gsub("[^0-9]", "", line)) else NaN
}

covariates <- read.csv(file.path(folder, "covariates.csv"), stringsAsFactors = TRUE)
bytes <- file.size(file.path(folder, "Y.bin"))
connection <- file(file.path(folder, "Y.bin"), "rb")
Y <- matrix(readBin(connection, "double", bytes / 8), ncol = nrow(covariates))  # features x subjects
close(connection)
invisible(loadNamespace(package))
loaded <- peak()

before <- proc.time()
utils::capture.output(out <- suppressWarnings(suppressMessages(harmonize(Y, covariates, arguments[3]))))
spent <- proc.time() - before
highest <- peak()

connection <- file(file.path(folder, "out.bin"), "wb")
writeBin(as.vector(out), connection)
close(connection)
report('{"status": "ok", "cpu": %.17g, "system": %.17g, "wall": %.17g, "peak": %.0f, "loaded": %.0f, "version": "%s", "numpy": ""}',
       spent[["user.self"]] + spent[["sys.self"]], spent[["sys.self"]], spent[["elapsed"]], highest, loaded,
       as.character(utils::packageVersion(package)))
