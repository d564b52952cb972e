# What R gives for a study, and how far that is from other numbers: used by crosscheck from Python, and by agreement.R.
#
# study: Y (rows x features), features, batch (factor), data (covariates), formula (R code, one-sided), fixed (the same
# without smooths and random effects), subject (what random intercepts are grouped by), smooths (labels), method (of
# mgcv), options (ref, mean_only, prior).

run_engine <- function(engine, study) {
  switch(engine,
    mgcv = engine_mgcv(study),
    sva = of_package(sva_combat, study),
    neuroCombat = of_package(neurocombat, study),
    ComBatFamily = engine_comfam(study),
    longCombat = {
      # longCombat only hands the time through. MSR is the residual variance that ours is, 1/n; its REML divides by less.
      study$data$pcgvisit <- stats::ave(seq_len(nrow(study$Y)), study$data[[study$subject]], FUN = seq_along)
      quantities(longcombat(
        study$Y, study$features, study$batch, study$data, study$fixed, paste0("(1 | ", study$subject, ")"),
        id = study$subject, time = "pcgvisit", niter = 30, method = "MSR"
      ))
    },
    stop("no such engine: ", engine)
  )
}

# mgcv stops at a feature that is constant: it is left out, NaN.
engine_mgcv <- function(study) {
  varies <- apply(study$Y, 2, function(y) any(y != y[!is.na(y)][1], na.rm = TRUE))
  part <- study
  part$Y <- study$Y[, varies, drop = FALSE]
  part$features <- study$features[varies]
  lapply(engine_of_varying(part), function(x) {
    out <- matrix(NaN, nrow(x), length(varies), dimnames = list(rownames(x), study$features))
    out[, varies] <- x
    out
  })
}

engine_of_varying <- function(study) {
  Y <- study$Y
  colnames(Y) <- study$features
  fit <- mgcv_mean(study$data, study$formula, study$batch, Y, study$method)
  own <- setdiff(seq_along(fit$names), seq_len(nlevels(study$batch)))
  parametric <- own[own <= fit$n_parametric]
  part <- function(columns) {
    out <- fit$X[, columns, drop = FALSE] %*% fit$coefficients[columns, , drop = FALSE]
    dimnames(out) <- list(NULL, study$features)
    out
  }
  covariates <- part(own)
  if (length(fit$offset)) covariates <- covariates + fit$offset
  adjusted <- batch_model(Y, covariates, study$batch, study$options)
  row <- function(x) matrix(x, 1, dimnames = list(NULL, study$features))
  found <- list(
    coefficients = fit$coefficients[parametric, , drop = FALSE],
    fitted = covariates + location_of(Y - covariates, study$batch)
  )
  last <- fit$n_parametric
  for (j in seq_along(fit$sizes)) {
    found[[paste("curve", study$smooths[j])]] <- part(last + seq_len(fit$sizes[j]))
    last <- last + fit$sizes[j]
  }
  if (length(fit$sizes)) {
    found <- c(found, list("log smoothing parameters" = log(fit$sp), edf = fit$edf, score = row(fit$score)))
  }
  c(found, quantities(adjusted))
}

engine_comfam <- function(study) {
  if (!length(study$smooths)) return(of_package(comfam, study, which = "combat"))
  found <- of_package(comfam, study, which = "combat_gam", more = list(method = study$method))
  # Its design: the formula's parametric part and a column for each batch, without intercept.
  design <- stats::update(stats::as.formula(study$fixed), ~ . + pcgbatch - 1)
  data <- if (ncol(study$data)) study$data else data.frame(row.names = seq_along(study$batch))
  data$pcgbatch <- stats::model.matrix(~ batch - 1, list(batch = study$batch))
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  X <- stats::model.matrix(design, data)
  c(found, list(superfluous = ncol(X) - qr(X)$rank))
}

location_of <- function(left, batch) {
  out <- apply(left, 2, function(x) tapply(x, batch, mean, na.rm = TRUE))
  matrix(out, nlevels(batch))[batch, , drop = FALSE]
}

of_package <- function(run, study, ...) {
  quantities(run(study$Y, study$features, study$batch, study$data, study$formula, study$options, ...))
}

quantities <- function(found) {
  names <- c("coefficients", "grand_mean", "var_pooled", "gamma_hat", "delta_hat", "gamma_star", "delta_star")
  out <- c(found$estimates[names], list(harmonized = found$harmonized))
  if (!is.null(found$estimates$sp)) out <- c(out, list("log smoothing parameters" = log(found$estimates$sp)))
  out <- out[!vapply(out, function(x) is.null(x) || all(is.nan(x)), NA)]
  names(out) <- sub("_", " ", sub("var_pooled", "pooled variance", names(out)))
  out
}

# Differences in units: the largest, where it is, and the median. Cells that are missing in `ours` are not compared.
compare <- function(ours, theirs, unit, features, sites) {
  ours <- as.matrix(ours)
  theirs <- as.matrix(theirs)
  if (!identical(dim(ours), dim(theirs))) {
    return(list(largest = Inf, median = Inf, feature = "", site = ""))
  }
  unit <- matrix(unit, nrow(ours), ncol(ours), byrow = length(unit) == ncol(ours))
  difference <- abs(ours - theirs) / unit
  difference[ours == theirs] <- 0
  difference[is.na(difference) & !is.na(ours)] <- Inf
  difference[is.na(ours)] <- NA
  if (all(is.na(difference))) return(list(largest = 0, median = 0, feature = "", site = ""))
  at <- arrayInd(which.max(difference), dim(difference))
  list(
    largest = max(difference, na.rm = TRUE), median = stats::median(difference, na.rm = TRUE),
    feature = features[at[2]], site = if (length(sites) == nrow(ours)) as.character(sites[at[1]]) else ""
  )
}

# The verdict on one quantity. `variant`: our numbers under R's rule, where a known difference is at work; or NULL.
verdict <- function(ours, theirs, variant, unit, tolerance, features, sites) {
  found <- compare(ours, theirs, unit, features, sites)
  by_rule <- if (is.null(variant)) Inf else compare(variant, theirs, unit, features, sites)$largest
  found$variant <- by_rule
  found$verdict <- if (found$largest <= tolerance) "agrees" else if (by_rule <= tolerance) "explained" else "differs"
  found
}
